//! The memory of a worker: how large tiles are, and what of them lies there as f32.

use super::tiling::Tiling;
use crate::cpu::along_states::{Halves, MOST_ROWS};
use crate::ops::selective_scan::{AlignedProjection, Inputs};
use crate::tensor::{Element, Host, Layout};

/// Channels of a tile, at the most.
pub(super) const MOST_CHANNELS: usize = 256;
/// States of a tile that has them in the lanes, at the most, if that is more than [`MOST_ROWS`] channels: half of a first cache.
const MOST_STATES: usize = 4096;
/// Of which every length of memory is a multiple: no vector has more lanes.
pub(super) const LANES: usize = 16;
/// Channels whose steps are turned over together.
pub(super) const TURN: usize = 8;

/// The most channels and steps of a tile: long runs of neighbours in memory, so that few pages and rows of DRAM are opened.
fn most<T: Element>(inputs: &Inputs<'_, T, Host>) -> [usize; 2] {
    const SHORT: usize = 32;
    let longest = inputs.longest();
    match by_channel(&inputs.x.layout, longest <= 1) || longest <= SHORT {
        true => [MOST_CHANNELS, SHORT],
        false => [32, 128],
    }
}

/// Whether a tensor is taken channel beside channel; `short`: no sequence has several steps.
pub(super) fn by_channel(layout: &Layout<3>, short: bool) -> bool {
    layout.by_channel() || short
}

/// The tiles of the forward direction, and their extents.
pub(super) fn tiling<T: Element>(inputs: &Inputs<'_, T, Host>) -> (Tiling, Shape) {
    let [channels, steps] = most(inputs);
    let tiling = Tiling::new(inputs, channels);
    let shape = Shape::new(inputs, &tiling, steps);
    // A single step is less than turning states over, there and back.
    let single = shape.short && shape.dstate >= Lanes::LEAST_STATES;
    match Lanes::cheaper(tiling.run.min(channels), shape.dstate, 1) {
        Lanes::Channels if !single => (tiling, shape),
        _ => {
            let tiling = Tiling::new(inputs, channels.min((MOST_STATES / shape.dstate).max(MOST_ROWS)));
            (tiling, Shape { lanes: Lanes::States, ..Shape::new(inputs, &tiling, steps) })
        }
    }
}

/// What the lanes of vectors lie along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lanes {
    Channels,
    States,
}

impl Lanes {
    /// With fewer states most lanes would be empty.
    const LEAST_STATES: usize = LANES / 2;

    /// What is less work for tiles of so many channels, with so many sums over states.
    pub fn cheaper(channels: usize, dstate: usize, sums: usize) -> Self {
        // Half vectors of 16 lanes for a step. A sum over lanes costs about half a vector for each channel.
        let along_states = channels.saturating_mul(2 * dstate.div_ceil(LANES) + sums);
        let along_channels = (2 * channels.div_ceil(LANES)).saturating_mul(dstate);
        match dstate >= Self::LEAST_STATES && along_states < along_channels {
            true => Self::States,
            false => Self::Channels,
        }
    }
}

/// Extents of a tile's memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub dstate: usize,
    /// Channels, rounded up.
    pub width: usize,
    /// Steps, rounded up.
    pub steps: usize,
    /// No sequence has several steps.
    pub short: bool,
    /// B, C.
    pub constant: [bool; 2],
    /// Along states, a channel has a row of states in A, state and constant B and C, and a step has one in variable B and C,
    /// with 0 behind its end; else a state has a row of channels, or of steps.
    pub lanes: Lanes,
}

impl Shape {
    /// Of tiles of at most so many steps.
    pub fn new<T: Element>(inputs: &Inputs<'_, T, Host>, tiling: &Tiling, steps: usize) -> Self {
        let constant =
            |projection: &AlignedProjection<'_, T, Host>| matches!(projection, AlignedProjection::Constant(_));
        Self {
            dstate: inputs.dims.dstate,
            width: tiling.run.min(tiling.most).next_multiple_of(LANES),
            steps: inputs.longest().clamp(1, steps).next_multiple_of(LANES),
            short: inputs.longest() <= 1,
            constant: [constant(&inputs.B), constant(&inputs.C)],
            lanes: Lanes::Channels,
        }
    }

    /// States, rounded up where lanes lie along them.
    pub fn pitch(&self) -> usize {
        match self.lanes {
            Lanes::Channels => self.dstate,
            Lanes::States => self.dstate.checked_next_multiple_of(LANES).unwrap_or(usize::MAX),
        }
    }

    fn sizes(&self) -> [usize; 10] {
        let (states, rows, turned) = (self.states(), self.rows(), self.turned());
        let [B, C] = [0, 1].map(|of| self.projection(of));
        [states, states, self.width, self.width, rows, rows, rows, B, C, turned]
    }

    /// f32 of all channels' states.
    pub fn states(&self) -> usize {
        self.pitch().saturating_mul(self.width)
    }

    /// Rows of channels or states as [`lanes`](Self::lanes) says, without what rounds them up.
    pub fn pack(&self, channels: usize, from: &[f32], to: &mut [f32]) {
        let (pitch, length) = match self.lanes {
            Lanes::Channels => (self.width, channels),
            Lanes::States => (self.pitch(), self.dstate),
        };
        let rows = to.chunks_exact_mut(length.max(1)).zip(from.chunks_exact(pitch.max(1)));
        rows.for_each(|(to, from)| to.copy_from_slice(&from[..length]));
    }

    /// f32 of a row of channels for each step.
    pub fn rows(&self) -> usize {
        self.steps * self.width
    }

    /// f32 of B (0) or C (1).
    pub fn projection(&self, of: usize) -> usize {
        match self.constant[of] {
            true => self.states(),
            false => self.pitch().saturating_mul(self.steps),
        }
    }

    /// Steps of a few channels.
    fn turned(&self) -> usize {
        TURN * self.steps
    }

    /// f32 of a worker.
    pub fn floats(&self) -> usize {
        self.sizes().into_iter().fold(0, usize::saturating_add)
    }
}

/// B or C of a tile.
pub(super) struct Rows<'m> {
    pub memory: &'m mut [f32],
    /// Distance of neighbouring states and steps; a constant one has channels instead of steps.
    pub by_state: usize,
    pub by_step: usize,
    pub constant: bool,
}

/// The memory of a worker.
pub(super) struct Memory<'m> {
    pub shape: Shape,
    /// As [`Shape::lanes`] says.
    pub A: &'m mut [f32],
    pub state: &'m mut [f32],
    pub bias: &'m mut [f32],
    pub D: &'m mut [f32],
    /// A row for each step, in the order of time.
    pub delta: &'m mut [f32],
    pub delta_x: &'m mut [f32],
    pub y: &'m mut [f32],
    pub B: Rows<'m>,
    pub C: Rows<'m>,
    /// Rows of steps, one for each of a few channels.
    pub turned: &'m mut [f32],
    pub halves: Halves,
}

impl<'m> Memory<'m> {
    pub fn new(shape: Shape, mut memory: &'m mut [f32]) -> Self {
        let mut parts = shape.sizes().map(|floats| {
            let (own, rest) = std::mem::take(&mut memory).split_at_mut(floats);
            memory = rest;
            own
        });
        let mut take = |i: usize| std::mem::take(&mut parts[i]);
        let (A, state, bias, D) = (take(0), take(1), take(2), take(3));
        let (delta, delta_x, y) = (take(4), take(5), take(6));
        let rows = |memory, constant| Rows { memory, by_state: 0, by_step: 0, constant };
        let (B, C) = (rows(take(7), shape.constant[0]), rows(take(8), shape.constant[1]));
        Self { shape, A, state, bias, D, delta, delta_x, y, B, C, turned: take(9), halves: Halves::new() }
    }
}
