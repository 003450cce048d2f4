//! Sums over tiles, parts and sequences, in a fixed order.

use super::memory::{Kept, STEPS, Task, pair_sum};
use super::{Call, ProjectionWriter};
use crate::cpu::selective_scan::memory::Lanes;
use crate::cpu::writer::Writer;
use crate::tensor::Element;
use std::ops::Range;

/// Channels whose sums are made together: neighbours in memory.
const RUN: usize = 16;

impl<T: Element> Call<'_, '_, '_, T> {
    pub fn reduce(&self, tasks: &[Task<'_>]) {
        let (writers, tiling) = (&self.writers, self.division.tiling);
        let runs = tiling.most.div_ceil(RUN);
        self.cpu.for_each_plain(tiling.count * runs, |i| {
            let (tile, first) = (i / runs, i % runs * RUN);
            let channels = tiling.channels(tile);
            if first < channels.len() {
                self.channels(tasks, tile, first..channels.len().min(first + RUN));
            }
        });
        for (of, projection) in [&writers.dB, &writers.dC].into_iter().enumerate() {
            if let Some(ProjectionWriter::Variable { writer, channels, ngroups }) = projection {
                self.variable(tasks, of, writer, [*channels, *ngroups]);
            }
        }
    }

    /// The sums of a `run` of the channels of a tile.
    fn channels(&self, tasks: &[Task<'_>], tile: usize, run: Range<usize>) {
        let (writers, channels) = (&self.writers, self.division.tiling.channels(tile));
        let (pairs, d) = (2 * run.start..2 * run.end, channels.start + run.start);
        let sums = &mut [0.0; RUN][..run.len()];
        // SAFETY: every index is below the extents, and each run is one task.
        let put = |writer: &Writer<'_, f32, 1>, sums: &[f32]| unsafe { writer.run([d], 0, sums) };
        if let Some(writer) = &writers.dD {
            self.pairs(tasks, tile, sums, |kept| &kept.dD[pairs.clone()]);
            put(writer, sums);
        }
        if let Some(writer) = &writers.ddt_bias {
            self.pairs(tasks, tile, sums, |kept| &kept.ddt_bias[pairs.clone()]);
            put(writer, sums);
        }
        let dstate = self.inputs.dims.dstate;
        match self.division.shape.lanes {
            _ if self.alone() => {}
            Lanes::Channels => {
                for n in 0..dstate {
                    self.states(tasks, tile, n * channels.len() + run.start, [d, n], 0, run.len());
                }
            }
            Lanes::States => {
                for (c, first) in run.flat_map(|c| (0..dstate).step_by(RUN).map(move |first| (c, first))) {
                    let count = RUN.min(dstate - first);
                    self.states(tasks, tile, c * dstate + first, [channels.start + c, first], 1, count);
                }
            }
        }
    }

    /// dA and what is constant: `count` sums along `axis` from `index` on, which the tasks keep from place `at` on.
    fn states(&self, tasks: &[Task<'_>], tile: usize, at: usize, index: [usize; 2], axis: usize, count: usize) {
        let (sums, at) = (&mut [0.0; RUN][..count], at..at + count);
        for (i, writer) in self.writers.matrices().into_iter().enumerate() {
            let Some(writer) = writer else { continue };
            self.totals(tasks, tile, sums, |kept| &kept.matrices()[i][at.clone()]);
            // SAFETY: every index is below the extents, and each run is one task.
            unsafe { writer.run(index, axis, sums) };
        }
    }

    /// Sums over all sequences: of each its parts first, so that a batch is the sum of its rows.
    fn totals<'k>(
        &self,
        tasks: &'k [Task<'_>],
        tile: usize,
        sums: &mut [f32],
        pick: impl Fn(&'k Kept<'_>) -> &'k [f32],
    ) {
        for seq in 0..self.nseqs {
            let parts = || self.parts(tasks, tile, seq).map(|task| pick(&task.kept));
            if self.division.cut.split == 1 {
                parts().for_each(|own| add_sequence(sums, own, seq));
                continue;
            }
            let mut own = [0.0f64; RUN];
            for part in parts() {
                own.iter_mut().zip(part).for_each(|(own, &sum)| *own += f64::from(sum));
            }
            add_sequence(sums, &own.map(|own| own as f32), seq);
        }
    }

    /// The same of sums that are kept as two f32 each.
    fn pairs<'k>(
        &self,
        tasks: &'k [Task<'_>],
        tile: usize,
        sums: &mut [f32],
        pick: impl Fn(&'k Kept<'_>) -> &'k [f32],
    ) {
        for seq in 0..self.nseqs {
            let mut own = [0.0f64; RUN];
            for part in self.parts(tasks, tile, seq) {
                let pairs = pick(&part.kept).chunks_exact(2);
                own.iter_mut().zip(pairs).for_each(|(own, pair)| *own += pair_sum(pair));
            }
            add_sequence(sums, &own.map(|own| own as f32), seq);
        }
    }

    /// The tasks of a tile and sequence.
    fn parts<'k, 'w>(&self, tasks: &'k [Task<'w>], tile: usize, seq: usize) -> impl Iterator<Item = &'k Task<'w>> {
        let (split, count) = (self.division.cut.split, self.division.tiling.count);
        tasks[seq * split * count..][..split * count].iter().skip(tile).step_by(count)
    }

    /// The sums of groups that have several tiles, or none.
    fn variable(&self, tasks: &[Task<'_>], of: usize, writer: &Writer<'_, T, 4>, [channels, ngroups]: [usize; 2]) {
        let (cut, tiling, dstate) = (self.division.cut, self.division.tiling, self.inputs.dims.dstate);
        let tiles = tiling.tiles_of_group(channels);
        if tiles == 1 {
            return;
        }
        let longest = if cut.split == 1 { self.inputs.longest() } else { cut.part };
        let windows = longest.div_ceil(STEPS);
        self.cpu.for_each_plain(self.nseqs * cut.split * ngroups * windows, |i| {
            let (row, group, window) = (i / windows / ngroups, i / windows % ngroups, i % windows);
            let span = self.inputs.span(row / cut.split);
            let steps = cut.steps(span.len, row % cut.split);
            let start = steps.start + window * STEPS;
            let times = span.times(start.min(steps.end)..(start + STEPS).min(steps.end));
            let tasks = &tasks[row * tiling.count + group * tiles..][..tiles];
            let mut sums = [0.0; STEPS];
            let sums = &mut sums[..times.len()];
            for n in 0..dstate {
                let at = window * STEPS * dstate + n * times.len();
                sums.fill(0.0);
                for (i, task) in tasks.iter().enumerate().filter(|_| !times.is_empty()) {
                    let partials = &task.kept.projections[of][at..][..times.len()];
                    let sums = sums.iter_mut().zip(partials);
                    sums.for_each(|(sum, &partial)| *sum = if i == 0 { partial } else { *sum + partial });
                }
                // SAFETY: the index is below the extents, and each window of a group is of one task.
                unsafe { writer.run([span.batch, group, n, times.start], 3, sums) };
            }
        });
    }
}

/// Adds what is of the next sequence; the sums start with the first.
fn add_sequence(sums: &mut [f32], own: &[f32], seq: usize) {
    sums.iter_mut().zip(own).for_each(|(sum, &own)| *sum = if seq == 0 { own } else { *sum + own });
}
