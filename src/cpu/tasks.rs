//! Tasks that are dealt out to workers, each with memory of its own.

use super::Cpu;
use pulp::{Simd, WithSimd};
use std::iter::StepBy;
use std::ops::Range;

/// One direction.
pub trait Pass {
    /// One task, in memory of its own.
    fn task<S: Simd>(&self, simd: S, task: usize, memory: &mut [f32]);
}

/// The tasks that share a memory.
pub struct Tasks<'w, P> {
    pass: &'w P,
    tasks: StepBy<Range<usize>>,
    memory: &'w mut [f32],
}

impl<P: Pass> WithSimd for Tasks<'_, P> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for task in self.tasks {
            self.pass.task(simd, task, self.memory);
        }
    }
}

/// Tasks with memory of their own: more than a machine has cores, as a rule, and the same number on every machine.
pub fn workers(count: usize) -> usize {
    const MOST: usize = 128;
    count.min(MOST)
}

/// Calls `run` with the tasks of each worker, which has `floats` of memory.
pub fn spread<'w, P: Sync>(
    cpu: Cpu,
    pass: &P,
    count: usize,
    memory: &mut [f32],
    floats: usize,
    run: impl for<'t> Fn(Cpu, Tasks<'t, P>) + Sync + Send,
) {
    let workers = workers(count);
    cpu.for_each_with(0..workers, memory, floats, |worker, memory| {
        run(cpu, Tasks { pass, tasks: (worker..count).step_by(workers), memory });
    });
}

/// The next `floats` of a worker's memory.
#[inline(always)]
pub fn take<'m>(memory: &mut &'m mut [f32], floats: usize) -> &'m mut [f32] {
    let (own, rest) = std::mem::take(memory).split_at_mut(floats);
    *memory = rest;
    own
}
