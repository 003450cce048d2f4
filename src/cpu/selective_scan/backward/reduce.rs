//! Sums over tiles, parts and sequences, in a fixed order.

use super::memory::{Kept, STEPS, Task, pair_sum};
use super::{Call, ProjectionWriter};
use crate::cpu::writer::Writer;
use crate::tensor::Element;

impl<T: Element> Call<'_, '_, '_, T> {
    pub fn reduce(&self, tasks: &[Task<'_>]) {
        let (dims, writers) = (self.inputs.dims, &self.writers);
        self.cpu.for_each_plain(dims.dim, |d| {
            let (tile, k) = self.division.tiling.find(d);
            let channels = self.division.tiling.channels(tile).len();
            // SAFETY: every index is below the extents, and each channel is one task.
            let put = |writer: &Writer<'_, f32, 1>, value| unsafe { writer.write([d], value) };
            writers.dD.iter().for_each(|dD| put(dD, self.total(tasks, tile, |kept| pair_sum(&kept.dD[2 * k..]))));
            writers
                .ddt_bias
                .iter()
                .for_each(|bias| put(bias, self.total(tasks, tile, |kept| pair_sum(&kept.ddt_bias[2 * k..]))));
            for n in 0..dims.dstate {
                let place = n * channels + k;
                // SAFETY: as above.
                let put = |writer: &Writer<'_, f32, 2>, value| unsafe { writer.write([d, n], value) };
                writers.dA.iter().for_each(|dA| put(dA, self.total(tasks, tile, |kept| kept.dA[place].into())));
                for (of, projection) in [&writers.dB, &writers.dC].into_iter().enumerate() {
                    if let Some(ProjectionWriter::Constant(writer)) = projection {
                        put(writer, self.total(tasks, tile, |kept| kept.projections[of][place].into()));
                    }
                }
            }
        });
        for (of, projection) in [&writers.dB, &writers.dC].into_iter().enumerate() {
            if let Some(ProjectionWriter::Variable { writer, channels, ngroups }) = projection {
                self.variable(tasks, of, writer, [*channels, *ngroups]);
            }
        }
    }

    /// A sum over all sequences: of each its parts first, so that a batch is the sum of its rows.
    fn total(&self, tasks: &[Task<'_>], tile: usize, pick: impl Fn(&Kept<'_>) -> f64) -> f32 {
        let split = self.division.cut.split;
        let part =
            |seq: usize, part: usize| pick(&tasks[(seq * split + part) * self.division.tiling.count + tile].kept);
        let own = |seq: usize| (1..split).fold(part(seq, 0), |sum, i| sum + part(seq, i)) as f32;
        (0..self.nseqs).map(own).reduce(|sum, own| sum + own).unwrap_or(0.0)
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
