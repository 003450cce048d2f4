//! The workspace: what tasks keep until it is added up, and what workers work in.

use crate::cpu::selective_scan::Cut;
use crate::cpu::selective_scan::memory::{LANES, Lanes, Memory, Shape, TURN};
use crate::cpu::selective_scan::tiling::Tiling;
use crate::ops::selective_scan::{AlignedProjection, Inputs};
use crate::tensor::{Element, Host};
use std::ops::Range;

/// The most channels of a tile: their sums for dB and dC wait in the workspace, 4 bytes per state, step and tile.
const CHANNELS: usize = 64;
/// The most steps of a window.
pub(super) const STEPS: usize = 32;
/// States whose steps are interleaved.
pub(super) const TOGETHER: usize = 2;
/// Rows of steps that are turned over at a time, for each of a few channels.
pub(super) const LINES: usize = 6;
/// Sums over states, if lanes lie along them.
const SUMS: usize = 3;
/// Workers with memory of their own, at the most: the same number on every machine.
const WORKERS: usize = 64;

/// How a call is divided: a pure function of its shapes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Division {
    pub cut: Cut,
    pub tiling: Tiling,
    pub shape: Shape,
    /// Steps between checkpoints.
    pub every: usize,
    /// Windows of the longest part.
    windows: usize,
}

impl Division {
    pub fn new<T: Element>(inputs: &Inputs<'_, T, Host>) -> Self {
        let (cut, tiling) = (Cut::new(inputs), Tiling::new(inputs, CHANNELS));
        let shape = Shape::new(inputs, &tiling, STEPS);
        let longest = if cut.split == 1 { inputs.longest() } else { cut.part.min(inputs.longest()) };
        Self {
            cut,
            tiling,
            shape: Shape { lanes: Lanes::cheaper(tiling.run.min(CHANNELS), shape.dstate, SUMS), ..shape },
            every: inputs.checkpoint_every(),
            windows: longest.div_ceil(STEPS),
        }
    }

    /// Windows between two checkpoints.
    pub fn windows_of_group(&self) -> usize {
        // Both are multiples of 128.
        self.every / STEPS
    }

    /// Groups of windows between checkpoints, of the longest part.
    pub fn groups(&self) -> usize {
        self.windows.div_ceil(self.windows_of_group())
    }

    /// Tasks of each worker, for so many tasks.
    pub fn share(tasks: usize) -> usize {
        tasks.div_ceil(WORKERS).max(1)
    }

    /// f32 of what a task keeps: of each channel dA, dD, ddt_bias and, constant, dB and dC; and dB and dC of `steps` steps
    /// where other tiles share them.
    pub fn kept<T: Element>(&self, inputs: &Inputs<'_, T, Host>, steps: usize, channels: usize) -> [usize; 5] {
        let dstate = inputs.dims.dstate;
        let states = channels.saturating_mul(dstate);
        let projection = |projection: &AlignedProjection<'_, T, Host>| match projection {
            AlignedProjection::Constant(_) => states,
            AlignedProjection::Variable { channels, .. } if self.tiling.tiles_of_group(*channels) > 1 => {
                steps.saturating_mul(dstate)
            }
            AlignedProjection::Variable { .. } => 0,
        };
        [states, 2 * channels, 2 * channels, projection(&inputs.B), projection(&inputs.C)]
    }

    /// f32 of all tasks.
    pub fn floats_of_tasks<T: Element>(&self, inputs: &Inputs<'_, T, Host>) -> usize {
        let (cut, tiling) = (self.cut, self.tiling);
        let run = |steps: usize| {
            let tile = |k: usize| sum(self.kept(inputs, steps, tiling.channels(k).len()));
            // All tiles of a run but the last are full.
            let full = if tiling.tiles_per_run > 1 { tile(0).saturating_mul(tiling.tiles_per_run - 1) } else { 0 };
            full.saturating_add(tile(tiling.tiles_per_run - 1))
        };
        // Parts are full, then one may not be, then all are empty.
        let sequence = |len: usize| {
            let part = if cut.split == 1 { len.max(1) } else { cut.part };
            let (full, rest) = (len / part, usize::from(!len.is_multiple_of(part)));
            let floats = full.saturating_mul(run(part)).saturating_add(rest.saturating_mul(run(len % part)));
            let empty = (cut.split - full - rest).saturating_mul(run(0));
            floats.saturating_add(empty).saturating_mul(inputs.dims.dim / tiling.run)
        };
        match inputs.segments {
            Some(segments) => sum((0..segments.nseqs()).map(|seq| sequence(segments.bounds(seq).1))),
            None => sequence(inputs.dims.seqlen).saturating_mul(inputs.dims.nseqs),
        }
    }

    /// f32 of the workers that have a thread.
    pub fn floats_of_workers<T: Element>(&self, inputs: &Inputs<'_, T, Host>, threads: usize) -> usize {
        let tasks = inputs.dims.nseqs.saturating_mul(self.cut.split).saturating_mul(self.tiling.count);
        tasks.min(tasks.div_ceil(Self::share(tasks))).min(threads).saturating_mul(self.scratch())
    }

    /// f32 of a worker.
    pub fn scratch(&self) -> usize {
        sum(self.sizes())
    }

    fn sizes(&self) -> [usize; 10] {
        let Shape { steps, width, .. } = self.shape;
        let (states, rows) = (self.shape.states(), self.shape.rows());
        let starts = self.groups().saturating_sub(1) + self.windows.min(self.windows_of_group());
        let lines = ((LINES * TURN + 3) * steps).max(3 * width);
        let passes = 4 * TOGETHER * steps * LANES;
        [
            self.shape.floats(),
            states,
            states,
            rows,
            rows,
            rows,
            self.shape.projection(0),
            self.shape.projection(1),
            lines.max(passes),
            starts.saturating_mul(states),
        ]
    }
}

fn sum(floats: impl IntoIterator<Item = usize>) -> usize {
    floats.into_iter().fold(0, usize::saturating_add)
}

/// One part of one sequence, for the channels of one tile.
pub struct Task<'w> {
    pub seq: usize,
    pub part: usize,
    pub tile: usize,
    pub steps: Range<usize>,
    pub kept: Kept<'w>,
}

/// What is added up when all tasks are done. Rows have a place for each channel of the tile, or each state, as lanes lie.
pub struct Kept<'w> {
    /// A row for each state, or channel; not written where one task has a channel alone.
    pub dA: &'w mut [f32],
    /// Two f32 for each channel, as are those for the step's bias.
    pub dD: &'w mut [f32],
    pub ddt_bias: &'w mut [f32],
    /// dB and dC. Constant: as dA. Variable, and other tiles belong to the group: window after window, of
    /// each state its steps in the order of time.
    pub projections: [&'w mut [f32]; 2],
}

impl<'w> Kept<'w> {
    pub fn new(sizes: [usize; 5], memory: &'w mut [f32]) -> Self {
        let [dA, dD, ddt_bias, dB, dC] = split(memory, sizes);
        Self { dA, dD, ddt_bias, projections: [dB, dC] }
    }

    /// What has the form of A.
    pub fn matrices(&self) -> [&[f32]; 3] {
        let [dB, dC] = &self.projections;
        [self.dA, dB, dC]
    }
}

/// The memory of a worker.
pub struct Scratch<'m> {
    /// As in the forward direction.
    pub tile: Memory<'m>,
    /// The gradient by the state, and dA: as [`Shape::lanes`] says.
    pub adjoint: &'m mut [f32],
    pub dA: &'m mut [f32],
    /// A row for each step: the gradient by the output before the gate; the sums over the states of dh B, and of what
    /// comes by the decay.
    pub g: &'m mut [f32],
    pub by_input: &'m mut [f32],
    pub by_decay: &'m mut [f32],
    /// dB and dC of a window: of each state its steps, or, constant, a row of channels; along states a row of states of each
    /// step, or channel.
    pub projections: [&'m mut [f32]; 2],
    /// Rows of steps, or of channels, while a window is read and written; [`Passes`] between.
    pub lines: &'m mut [f32],
    /// States before groups of windows but the first; then those before the windows of one group.
    pub starts: &'m mut [f32],
}

impl<'m> Scratch<'m> {
    pub fn new(division: &Division, memory: &'m mut [f32]) -> Self {
        let [tile, adjoint, dA, g, by_input, by_decay, dB, dC, lines, starts] = split(memory, division.sizes());
        Self {
            tile: Memory::new(division.shape, tile),
            adjoint,
            dA,
            g,
            by_input,
            by_decay,
            projections: [dB, dC],
            lines,
            starts,
        }
    }
}

/// What the two passes over a window's steps keep, of a few states.
pub(super) struct Passes<'m> {
    /// For each step and vector: the decay, and the state before it.
    pub saved: &'m mut [f32],
    /// For each step what dB and dC have summed up in each lane.
    pub sums: [&'m mut [f32]; 2],
}

impl<'m> Passes<'m> {
    pub fn new(lines: &'m mut [f32], steps: usize) -> Self {
        let one = TOGETHER * steps * LANES;
        let [saved, dB, dC] = split(lines, [2 * one, one, one]);
        Self { saved, sums: [dB, dC] }
    }

    /// For each step what y and both sums over states have summed up in each lane. Along states, dB and dC do not need this memory.
    pub fn of_steps(&mut self) -> [&mut [f32]; 3] {
        let [one, other] = &mut self.sums;
        let (y, by_input) = one.split_at_mut(one.len() / TOGETHER);
        let (by_decay, _) = other.split_at_mut(other.len() / TOGETHER);
        [y, by_input, by_decay]
    }
}

/// `memory` in parts.
pub(super) fn split<const N: usize>(mut memory: &mut [f32], sizes: [usize; N]) -> [&mut [f32]; N] {
    sizes.map(|floats| {
        let (own, rest) = std::mem::take(&mut memory).split_at_mut(floats);
        memory = rest;
        own
    })
}

/// A sum as two f32, which keep what one would lose: dD without a gate holds no exp whose error would hide that of a long
/// f32 sum, and few channels may have one sum.
pub(super) fn pair(sum: f64) -> [f32; 2] {
    let high = sum as f32;
    [high, (sum - f64::from(high)) as f32]
}

pub(super) fn pair_sum(pair: &[f32]) -> f64 {
    f64::from(pair[0]) + f64::from(pair[1])
}
