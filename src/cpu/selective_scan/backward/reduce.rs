//! Sums over tiles, parts and sequences, in a fixed order.

use super::memory::{ProjectionMemory, Task, TaskMemory, pair_sum};
use super::{Call, ProjectionWriter};
use crate::cpu::Cpu;
use crate::cpu::writer::Writer;
use crate::tensor::Element;

impl<T: Element> Call<'_, '_, '_, T> {
    pub fn reduce(&self, cpu: Cpu, tasks: &[Task<'_>]) {
        let (dims, writers) = (self.inputs.dims, &self.writers);
        cpu.for_each_plain(dims.dim, |d| {
            let (tile, k) = self.tiling.find(d);
            let row = |n: usize| k * dims.dstate + n;
            // SAFETY: every index is below the extents, and each channel is one task.
            let put = |writer: &Writer<'_, f32, 1>, value| unsafe { writer.write([d], value) };
            writers.dD.iter().for_each(|dD| put(dD, self.total(tasks, tile, |memory| pair_sum(&memory.dD[2 * k..]))));
            writers
                .ddt_bias
                .iter()
                .for_each(|bias| put(bias, self.total(tasks, tile, |memory| pair_sum(&memory.ddt_bias[2 * k..]))));
            for n in 0..dims.dstate {
                // SAFETY: as above.
                let put = |writer: &Writer<'_, f32, 2>, value| unsafe { writer.write([d, n], value) };
                writers.dA.iter().for_each(|dA| put(dA, self.total(tasks, tile, |memory| memory.dA[row(n)].into())));
                if let Some(ProjectionWriter::Constant(dB)) = &writers.dB {
                    put(dB, self.total(tasks, tile, |memory| memory.dB.rows[row(n)].into()));
                }
                if let Some(ProjectionWriter::Constant(dC)) = &writers.dC {
                    put(dC, self.total(tasks, tile, |memory| memory.dC.rows[row(n)].into()));
                }
            }
        });
        self.variable(cpu, tasks, &writers.dB, |memory| &memory.dB);
        self.variable(cpu, tasks, &writers.dC, |memory| &memory.dC);
    }

    /// A sum over all sequences: of each its parts first, so that a batch is the sum of its rows.
    fn total(&self, tasks: &[Task<'_>], tile: usize, pick: impl Fn(&TaskMemory<'_>) -> f64) -> f32 {
        let part =
            |seq: usize, part: usize| pick(&tasks[(seq * self.cut.split + part) * self.tiling.count + tile].memory);
        let own = |seq: usize| (1..self.cut.split).fold(part(seq, 0), |sum, i| sum + part(seq, i)) as f32;
        (0..self.nseqs).map(own).reduce(|sum, own| sum + own).unwrap_or(0.0)
    }

    /// The sums of groups that have several tiles, or none.
    fn variable(
        &self,
        cpu: Cpu,
        tasks: &[Task<'_>],
        writer: &Option<ProjectionWriter<'_, T>>,
        pick: impl for<'m, 'w> Fn(&'m TaskMemory<'w>) -> &'m ProjectionMemory<'w> + Sync + Send,
    ) {
        let Some(ProjectionWriter::Variable { writer, channels, ngroups }) = writer else { return };
        let (dstate, tiles) = (self.inputs.dims.dstate, self.tiling.tiles_of_group(*channels));
        if tiles == 1 {
            return;
        }
        cpu.for_each_plain(self.nseqs * self.cut.split * ngroups, |i| {
            let (row, group) = (i / ngroups, i % ngroups);
            let (span, part) = (self.inputs.span(row / self.cut.split), row % self.cut.split);
            let first = row * self.tiling.count + group * tiles;
            for (local, step) in self.cut.steps(span.len, part).enumerate() {
                for n in 0..dstate {
                    let partials = tasks[first..][..tiles].iter();
                    let partials = partials.map(|task| pick(&task.memory).partial[local * dstate + n]);
                    let sum = partials.reduce(|sum, partial| sum + partial).unwrap_or(0.0);
                    // SAFETY: the index is below the extents, and each step of a group is of one task.
                    unsafe { writer.write([span.batch, group, n, span.time(step)], T::from_f32(sum)) };
                }
            }
        });
    }
}
