//! The causal convolution on the CPU, in vectors of channels where these lie side by side, else in vectors of steps.
//!
//! A task is a tile of steps of one sequence for a tile of channels. out, dx and dinitial_state are made in the same
//! order of operations whichever way; the sums for dweight and dbias depend on it.

mod backward;
mod channels;
mod forward;
mod steps;
mod taps;
mod update;

pub use backward::Pass as BackwardPass;
pub use forward::Pass as ForwardPass;
pub use update::Pass as UpdatePass;

use crate::cpu::tasks::{Pass, spread, take, workers};
use crate::ops::Sequences;
use crate::ops::causal_conv1d::Weights;
use crate::tensor::{Element, Host, Layout, Strided};
use std::ops::Range;

/// Of which every row in memory is a multiple: no vector has more lanes.
const LANES: usize = 16;
/// Sums over steps are kept for each of so many neighbouring steps: enough vectors to hide the latency of an addition.
const SPREAD: usize = 64;

/// Which channels and steps are worked on together.
#[derive(Debug, Clone, Copy)]
struct Tiling<'a> {
    sequences: Sequences<'a>,
    dim: usize,
    width: usize,
    /// Vectors of channels, else of steps.
    by_channel: bool,
    /// Of a tile, at the most.
    channels: usize,
    steps: usize,
}

impl<'a> Tiling<'a> {
    /// `layout` of x. A tile of neighbours along the faster dimension is long, so that few pages of memory are open at once.
    fn new(sequences: Sequences<'a>, [dim, width]: [usize; 2], layout: &Layout<3>) -> Self {
        let by_channel = layout.by_channel() || sequences.longest() <= 1;
        let (channels, steps) = if by_channel { (512, 128) } else { (16, 1024) };
        Self { sequences, dim, width, by_channel, channels, steps }
    }

    fn tiles_of_channels(&self) -> usize {
        self.dim.div_ceil(self.channels)
    }

    /// Number of tasks.
    fn count(&self) -> usize {
        self.sequences.tiles(self.steps).saturating_mul(self.tiles_of_channels())
    }

    /// What a task works on, unless it is idle.
    fn tile(&self, task: usize) -> Option<Tile> {
        let tiles = self.tiles_of_channels();
        let (tile, first) = (task / tiles, task % tiles * self.channels);
        let (seq, steps) = self.sequences.tile(self.steps, tile)?;
        let span = self.sequences.span(seq);
        let channels = first..(first + self.channels).min(self.dim);
        Some(Tile { tile, seq, batch: span.batch, start: span.start, len: span.len, steps, channels })
    }

    /// Channels of a tile, rounded up to whole vectors.
    fn row(&self) -> usize {
        self.dim.min(self.channels).next_multiple_of(LANES)
    }

    /// Steps of a tile, rounded up likewise, and those that taps reach beyond it on both sides.
    fn window(&self) -> usize {
        self.sequences.longest().min(self.steps).next_multiple_of(SPREAD) + 2 * self.width + SPREAD
    }
}

/// Steps of one sequence, and channels.
#[derive(Debug, Clone)]
struct Tile {
    /// Its number among those of all sequences.
    tile: usize,
    seq: usize,
    batch: usize,
    /// The sequence, and the steps of the tile, counted from its start.
    start: usize,
    len: usize,
    steps: Range<usize>,
    channels: Range<usize>,
}

impl Tile {
    /// Where the row lies that is worked on some steps after `t`, of a sequence that has one.
    #[inline(always)]
    fn later(&self, t: usize) -> usize {
        /// Few rows lie in a cache between being asked for and being read.
        const AHEAD: usize = 2;
        self.start + (t + AHEAD).min(self.len.saturating_sub(1))
    }
}

/// Weight and bias as f32: for each tap a row of channels, and last the bias, 0 if there is none.
#[derive(Clone, Copy)]
struct Rows<'r> {
    memory: &'r [f32],
    stride: usize,
}

impl<'r> Rows<'r> {
    /// f32 that they take.
    fn floats(dim: usize, width: usize) -> usize {
        dim.div_ceil(LANES).saturating_mul(LANES * (width + 1))
    }

    fn new<W: Element>(weights: &Weights<'_, W, Host>, memory: &'r mut [f32]) -> Self {
        let [dim, width] = weights.weight.layout.extents;
        let stride = dim.next_multiple_of(LANES);
        let memory = &mut memory[..Self::floats(dim, width)];
        memory.fill(0.0);
        for (w, row) in memory.chunks_exact_mut(stride.max(1)).enumerate() {
            match weights.bias.filter(|_| w == width) {
                Some(bias) => bias.run([0], 0, &mut row[..dim]),
                None if w < width => weights.weight.run([0, w], 0, &mut row[..dim]),
                None => {}
            }
        }
        Self { memory, stride }
    }

    /// A row from channel `d` on, `len` floats of it.
    #[inline(always)]
    fn row(self, w: usize, d: usize, len: usize) -> &'r [f32] {
        &self.memory[w * self.stride + d..][..len]
    }

    #[inline(always)]
    fn at(self, w: usize, d: usize) -> f32 {
        self.memory[w * self.stride + d]
    }
}

/// The inputs of a call behind their states.
#[derive(Clone, Copy)]
struct Source<'p, T> {
    x: &'p Strided<'p, T, Host, 3>,
    initial_state: Option<&'p Strided<'p, T, Host, 3>>,
    /// width - 1.
    before: usize,
}

impl<T: Element> Source<'_, T> {
    /// Input `p` of a sequence, those of the state first, for the channels of the tile.
    #[inline(always)]
    fn channels(&self, tile: &Tile, p: usize, to: &mut [f32]) {
        let d = tile.channels.start;
        match (p.checked_sub(self.before), self.initial_state) {
            (Some(t), _) => self.x.run([tile.batch, d, tile.start + t], 1, to),
            (None, Some(state)) => state.run([tile.seq, d, p], 1, to),
            (None, None) => to.fill(0.0),
        }
    }

    /// Asks for the row of x that is worked on some steps after `t`.
    #[inline(always)]
    fn fetch(&self, tile: &Tile, t: usize) {
        self.x.fetch([tile.batch, tile.channels.start, tile.later(t)], 1, tile.channels.len());
    }

    /// The inputs from `p` on of channel `d`.
    #[inline(always)]
    fn steps(&self, tile: &Tile, d: usize, p: usize, to: &mut [f32]) {
        let (early, late) = to.split_at_mut(self.before.saturating_sub(p).min(to.len()));
        match self.initial_state {
            Some(state) => state.run([tile.seq, d, p], 2, early),
            None => early.fill(0.0),
        }
        self.x.run([tile.batch, d, tile.start + (p + early.len()).saturating_sub(self.before)], 2, late);
    }
}
