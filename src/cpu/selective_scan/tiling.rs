//! Which channels are worked on together.

use crate::ops::selective_scan::{AlignedProjection, Inputs};
use crate::tensor::{Element, Host};
use std::ops::Range;

/// The channels in tiles, each inside a run of channels that share their rows of B and of C.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tiling {
    pub run: usize,
    /// Channels of a tile, at the most.
    pub most: usize,
    pub tiles_per_run: usize,
    /// Number of tiles.
    pub count: usize,
}

impl Tiling {
    /// Of at most so many channels.
    pub fn new<T: Element>(inputs: &Inputs<'_, T, Host>, most: usize) -> Self {
        let dim = inputs.dims.dim;
        let channels = |projection: &AlignedProjection<'_, T, Host>| match projection {
            AlignedProjection::Variable { channels, .. } => *channels,
            AlignedProjection::Constant(_) => dim,
        };
        let run = greatest_common_divisor(channels(&inputs.B), channels(&inputs.C)).max(1);
        let tiles_per_run = run.div_ceil(most);
        Self { run, most, tiles_per_run, count: dim / run * tiles_per_run }
    }

    pub fn channels(&self, tile: usize) -> Range<usize> {
        let (run, place) = (tile / self.tiles_per_run * self.run, tile % self.tiles_per_run * self.most);
        run + place..run + (place + self.most).min(self.run)
    }

    /// Tiles of a group of so many channels.
    pub fn tiles_of_group(&self, channels: usize) -> usize {
        channels / self.run * self.tiles_per_run
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
