//! The CPU backend: host memory, threads outside, one row per task.

mod discretise;
mod math;
mod selective_scan;
mod writer;

/// Runs operators on the host's cores.
///
/// With feature `rayon` the work runs in the rayon pool of the calling thread: call inside `pool.install(..)` to choose
/// another. Results are the same bits for every number of threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpu {
    parallel: bool,
}

impl Cpu {
    /// In the current rayon pool (on the calling thread without feature `rayon`).
    pub fn new() -> Self {
        Self { parallel: cfg!(feature = "rayon") }
    }

    /// On the calling thread alone.
    pub fn single_thread() -> Self {
        Self { parallel: false }
    }

    /// Calls `task` for every number below `count`, in any order, each with its own `len` elements of `scratch`.
    fn for_each(self, count: usize, scratch: &mut [f32], len: usize, task: impl Fn(usize, &mut [f32]) + Sync + Send) {
        let one = |i: usize, scratch: &mut [f32]| task(i, scratch);
        if len == 0 {
            return self.for_each_plain(count, |i| one(i, &mut []));
        }
        let chunks = &mut scratch[..count * len];
        #[cfg(feature = "rayon")]
        if self.parallel {
            use rayon::prelude::*;
            return chunks.par_chunks_exact_mut(len).enumerate().for_each(|(i, scratch)| one(i, scratch));
        }
        chunks.chunks_exact_mut(len).enumerate().for_each(|(i, scratch)| one(i, scratch));
    }

    /// Calls `task` for every item, in any order.
    fn for_each_of<I: Send>(self, items: &mut [I], task: impl Fn(&mut I) + Sync + Send) {
        #[cfg(feature = "rayon")]
        if self.parallel {
            use rayon::prelude::*;
            return items.par_iter_mut().for_each(task);
        }
        items.iter_mut().for_each(task);
    }

    /// Calls `task` for every number below `count`, in any order.
    fn for_each_plain(self, count: usize, task: impl Fn(usize) + Sync + Send) {
        #[cfg(feature = "rayon")]
        if self.parallel {
            use rayon::prelude::*;
            return (0..count).into_par_iter().for_each(task);
        }
        (0..count).for_each(task);
    }
}

impl Default for Cpu {
    fn default() -> Self {
        Self::new()
    }
}
