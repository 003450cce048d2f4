//! The workspace of a task.

use crate::cpu::selective_scan::Cut;
use crate::cpu::selective_scan::tiling::Tiling;
use crate::ops::selective_scan::{AlignedProjection, Inputs};
use crate::tensor::{Element, Host};
use std::ops::Range;

/// The most channels of a tile: their sums for dB and dC wait in the workspace, 4 bytes per state, step and tile.
pub(super) const TILE: usize = 64;

impl Tiling {
    /// What a task of so many steps and channels needs.
    pub(super) fn sizes<T: Element>(&self, inputs: &Inputs<'_, T, Host>, steps: usize, channels: usize) -> Sizes {
        let (dstate, every) = (inputs.dims.dstate, inputs.checkpoint_every());
        let (window, states) = (every.min(steps), channels.saturating_mul(dstate));
        let projection = |projection: &AlignedProjection<'_, T, Host>| match projection {
            AlignedProjection::Constant(_) => (false, states, 0),
            AlignedProjection::Variable { channels, .. } => {
                let partial = if self.tiles_of_group(*channels) > 1 { steps.saturating_mul(dstate) } else { 0 };
                (true, window.saturating_mul(dstate), partial)
            }
        };
        Sizes {
            states: (window + 1).saturating_mul(dstate),
            per_channel: states,
            channels,
            coarse: steps.div_ceil(every).saturating_sub(1).saturating_mul(states),
            dB: projection(&inputs.B),
            dC: projection(&inputs.C),
        }
    }

    /// Number of f32 of all tasks.
    pub(super) fn floats<T: Element>(&self, inputs: &Inputs<'_, T, Host>, cut: Cut) -> usize {
        let run = |steps: usize| {
            let tile = |k: usize| self.sizes(inputs, steps, self.channels(k).len()).floats();
            // All tiles of a run but the last are full.
            let full = if self.tiles_per_run > 1 { tile(0).saturating_mul(self.tiles_per_run - 1) } else { 0 };
            full.saturating_add(tile(self.tiles_per_run - 1))
        };
        // Parts are full, then one may not be, then all are empty.
        let sequence = |len: usize| {
            let part = if cut.split == 1 { len.max(1) } else { cut.part };
            let (full, rest) = (len / part, usize::from(!len.is_multiple_of(part)));
            let floats = full.saturating_mul(run(part)).saturating_add(rest.saturating_mul(run(len % part)));
            let empty = (cut.split - full - rest).saturating_mul(run(0));
            floats.saturating_add(empty).saturating_mul(inputs.dims.dim / self.run)
        };
        match inputs.segments {
            Some(segments) => {
                (0..segments.nseqs()).map(|seq| sequence(segments.bounds(seq).1)).fold(0, usize::saturating_add)
            }
            None => sequence(inputs.dims.seqlen).saturating_mul(inputs.dims.nseqs),
        }
    }
}

/// Numbers of f32.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    states: usize,
    per_channel: usize,
    channels: usize,
    coarse: usize,
    /// Whether variable; rows; sums that wait for other tiles.
    dB: (bool, usize, usize),
    dC: (bool, usize, usize),
}

impl Sizes {
    pub fn floats(&self) -> usize {
        let all = [
            self.states,
            self.per_channel.saturating_mul(2),
            self.channels.saturating_mul(4),
            self.coarse,
            self.dB.1,
            self.dB.2,
            self.dC.1,
            self.dC.2,
        ];
        all.into_iter().fold(0, usize::saturating_add)
    }
}

/// One part of one sequence, for the channels of one tile.
pub(super) struct Task<'w> {
    pub seq: usize,
    pub part: usize,
    pub tile: usize,
    pub steps: Range<usize>,
    pub memory: TaskMemory<'w>,
}

pub(super) struct TaskMemory<'w> {
    /// The states of one channel around each step of a window.
    pub states: &'w mut [f32],
    /// The gradient by the state, for each channel.
    pub adjoint: &'w mut [f32],
    pub dA: &'w mut [f32],
    /// Two f32 for each channel, as are those for the step's bias: [`add_to_pair`].
    pub dD: &'w mut [f32],
    pub ddt_bias: &'w mut [f32],
    /// States before each window but the first, for each channel.
    pub coarse: &'w mut [f32],
    pub dB: ProjectionMemory<'w>,
    pub dC: ProjectionMemory<'w>,
}

/// Sums for dB or dC over the channels of a tile.
pub(super) struct ProjectionMemory<'w> {
    variable: bool,
    /// A row for each step of the window, or, constant, for each channel.
    pub rows: &'w mut [f32],
    /// The rows of all steps, if other tiles belong to the group.
    pub partial: &'w mut [f32],
}

impl ProjectionMemory<'_> {
    /// Where step `local` of the window and channel `k` of the tile add up.
    pub fn row(&mut self, local: usize, k: usize, dstate: usize) -> &mut [f32] {
        let row = if self.variable { local } else { k };
        &mut self.rows[row * dstate..][..dstate]
    }

    /// Before a window.
    pub fn clear(&mut self) {
        if self.variable {
            self.rows.fill(0.0);
        }
    }
}

impl<'w> TaskMemory<'w> {
    pub fn new(sizes: &Sizes, mut memory: &'w mut [f32]) -> Self {
        let mut take = |floats: usize| {
            let (own, rest) = std::mem::take(&mut memory).split_at_mut(floats);
            memory = rest;
            own
        };
        let (states, adjoint, dA) = (take(sizes.states), take(sizes.per_channel), take(sizes.per_channel));
        let (dD, ddt_bias, coarse) = (take(2 * sizes.channels), take(2 * sizes.channels), take(sizes.coarse));
        let mut projection =
            |(variable, rows, partial)| ProjectionMemory { variable, rows: take(rows), partial: take(partial) };
        let (dB, dC) = (projection(sizes.dB), projection(sizes.dC));
        Self { states, adjoint, dA, dD, ddt_bias, coarse, dB, dC }
    }

    /// All sums from zero.
    pub fn clear(&mut self) {
        for sums in [&mut self.dA, &mut self.dD, &mut self.ddt_bias, &mut self.dB.rows, &mut self.dC.rows] {
            sums.fill(0.0);
        }
    }
}

/// Adds to a sum of two f32. dD without a gate holds no exp whose error would hide that of a long f32 sum, and few
/// channels may have one sum.
pub(super) fn add_to_pair(pair: &mut [f32], value: f64) {
    let sum = pair_sum(pair) + value;
    pair[0] = sum as f32;
    pair[1] = (sum - f64::from(pair[0])) as f32;
}

pub(super) fn pair_sum(pair: &[f32]) -> f64 {
    f64::from(pair[0]) + f64::from(pair[1])
}
