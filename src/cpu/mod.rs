//! The CPU backend: host memory, threads outside, vectors inside.

mod along_states;
mod causal_conv1d;
mod discretise;
mod kernels;
#[doc(hidden)]
pub mod math;
mod runs;
mod selective_scan;
mod squared_attention;
mod state_update;
mod tasks;
mod transpose;
mod writer;

pub(crate) use kernels::Kernels;
use pulp::{Arch, Simd, WithSimd};

/// State steps of a task at the least, so that waking a thread is worth it: decoding one row of a batch is one task.
const LEAST_STEPS: usize = 1 << 15;

/// Runs operators on the host's cores.
///
/// With feature `rayon` the work runs in the rayon pool of the calling thread: call inside `pool.install(..)` to choose
/// another. Results are the same bits for every number of threads.
///
/// Sequences of 8192 steps or more with at most 128 channels are cut into 2 to 8 parts of 4096 steps or more, unless
/// [`split`](crate::ops::selective_scan::SelectiveScan::split) says otherwise: that is work for several threads, at up
/// to twice the powers for one.
///
/// The workspaces below are those of plans, which know no threads. `forward` and `backward`, which bring their own, have it for
/// no more tasks at a time than there are threads (the convolution: as the plan says).
///
/// # Workspace of the selective scan
/// Forward: for each of at most 128 tasks (one for each begun 32768 state steps of the call, at most), `c` channels
/// that share their rows of B and C, and `s` steps: at most 256 and 32 where the channels of x lie nearer to each other
/// than its steps do, or no sequence has more than 32 steps; else 32 and 128; both rounded up to a multiple of 16. 4
/// bytes times
/// ```text
/// 2 c n + 3 c s + 2 c                 A and states, rows of steps, bias and D
/// + s n  or  c n                      B, variable or constant; the same for C
/// + 8 s                               rows that are turned over
/// ```
/// where `n` is dstate; and, if split, a state and a sum for each part of each channel, `4 nseqs split dim (dstate +
/// 1)` bytes. A single step of 8 states or more, and a few channels with many states, are computed with states instead
/// of channels in the lanes of a vector: c is then at most 64, or 4096 / n if that is more, and n is rounded up to a
/// multiple of 16.
///
/// Backward: one task for each sequence, part and tile, a tile being up to 64 channels that share their rows of B and C. A
/// task of `l` steps and `c` channels keeps 4 bytes times
/// ```text
/// c dstate + 4 c                      dA; dD and ddt_bias
/// + c dstate                          dB, if constant; the same for dC
/// + l dstate                          dB, if variable and its groups have several tiles; the same for dC
/// ```
/// and each of at most 64 workers, where `w` is `c` rounded up to a multiple of 16, `s` = 32 (or the longest sequence, rounded
/// up to a multiple of 16, if that is less), `e` = checkpoint_every and `l` the steps of the longest part, has 4 bytes times
/// ```text
/// 2 w dstate + 3 w s + 2 w            as in the forward direction: A and states, rows of steps, bias and D
/// + 8 s                               rows that are turned over
/// + 2 w dstate + 3 w s                gradients by states, dA; rows of steps
/// + 2 s dstate  or  2 w dstate        B and dB, variable or constant; the same for C
/// + max(128 s, 3 w)                   what two states keep of a window
/// + (ceil(l / e) - 1 + min(ceil(l / 32), e / 32)) w dstate      states before windows
/// ```
/// (a worker is never smaller than forward's, if split) and, if split, twice the states and sums of forward. A few channels with
/// many states have states in the lanes here too: a worker's dstate is then rounded up to a multiple of 16. All is 2.4 to 3.9
/// bytes per element of x at dstate 16 with B and C variable in one group, dim a multiple of 64 and seqlen from 512 on. Where
/// B and C have different ngroups, tiles are as small as the channels that share both, and cost the more.
///
/// # Workspace of the causal convolution
/// Weight and bias in f32, `4 (width + 1) dim` bytes, and for each of at most 128 tasks a row of the tile's channels (or two of
/// its steps) for each tap and one more; backward three such for each tap and four more (or four), and, whatever is asked
/// for, the sums of each tile, `4 (width + 1) dim` bytes for each.
///
/// # Workspace of the state update
/// For each of at most 128 tasks of at least 32768 state steps, 4 bytes times `2 dstate + 3 max(1, min(64, 1024 / dstate))
/// dstate`: B and C, and blocks of A, of states, and of states as they are stored.
///
/// # Squared attention
/// With `s = (vdim + 1) f`, where `f` is dim (dim + 1) / 2 rounded up to a multiple of 16, and `r = s / (dim + vdim + 1)`, a
/// sequence of at most `4 r` steps is one chunk (4192 at dim = vdim = 64), unless
/// [`chunk_size`](crate::ops::squared_attention::SquaredAttention::chunk_size) says otherwise: all pairs of its steps are then
/// less work than the state. A longer one is cut into chunks of `r / 2` steps, rounded up to a multiple of 32 and at least that, forward at most
/// 128, with the state carried between them. Heads of sequences are tasks.
///
/// The workspace of each of at most 64 tasks, where `c` is the steps of a chunk, is 4 bytes times
/// ```text
/// s + c (dim + vdim + 4) + 32 (dim + vdim + 1 + max(dim, vdim + 1)) + 6176      state; rows of steps; tiles
/// ```
/// and backward, where `d`, `v` and `w` are dim, vdim and vdim + 1, rounded up to multiples of 16,
/// ```text
/// s (1 + ceil(seqlen / c)) + 2 seqlen       states before chunks and the gradient by one; norms
/// + c (2 d + v + w + 17) + 32 (dim + vdim + 1) + 2048
/// ```
/// more. The update, of `t` tokens: `t (2 f + 2 vdim + 2) + f + 64 vdim + dim`, f not rounded.
///
/// # Example
/// ```
/// use ssm_kernels::prelude::*;
/// use ssm_kernels::Instructions;
/// # let x: Vec<f32> = (0..600).map(|i| (i as f32).sin()).collect();
/// # let sequence = [("batch", 2), ("dim", 3), ("seqlen", 100)];
/// # let weight = [0.1f32, 0.2, 0.3, 0.1, 0.2, 0.3, 0.1, 0.2, 0.3];
/// # let weight = View::new(&weight, [("dim", 3), ("width", 3)]);
/// let conv = CausalConv1d::new(View::new(&x, sequence), weight)?.silu(true);
/// let run = |cpu: Cpu| {
///     let mut out = vec![0.0; 600];
///     cpu.forward(&conv, CausalConv1dOutputs::new(&mut ViewMut::new(&mut out, sequence))).map(|()| out)
/// };
/// // The same bits on any number of threads, with any instructions.
/// let out = run(Cpu::new())?;
/// assert_eq!(out, run(Cpu::single_thread())?);
/// assert_eq!(out, run(Cpu::new().instructions(Instructions::Scalar))?);
/// # Ok::<(), ssm_kernels::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpu {
    parallel: bool,
    instructions: Instructions,
}

/// What a [`Cpu`] computes with; the bits are the same with all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Instructions {
    /// The best that the machine has.
    #[default]
    Best,
    /// At most AVX2 with FMA.
    Avx2,
    /// No vectors.
    Scalar,
}

impl Cpu {
    /// In the current rayon pool (on the calling thread without feature `rayon`).
    pub fn new() -> Self {
        Self { parallel: cfg!(feature = "rayon"), instructions: Instructions::Best }
    }

    /// On the calling thread alone.
    pub fn single_thread() -> Self {
        Self { parallel: false, instructions: Instructions::Best }
    }

    /// With these instructions: for tests and measurements.
    pub fn instructions(self, instructions: Instructions) -> Self {
        Self { instructions, ..self }
    }

    /// Threads that a call of now may run on.
    fn threads(self) -> usize {
        #[cfg(feature = "rayon")]
        if self.parallel {
            return rayon::current_num_threads();
        }
        1
    }

    fn dispatch<W: WithSimd>(self, work: W) -> W::Output {
        match self.instructions {
            Instructions::Best => return Arch::new().dispatch(work),
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Instructions::Avx2 => {
                if let Some(simd) = pulp::x86::V3::try_new() {
                    return Simd::vectorize(simd, work);
                }
            }
            _ => {}
        }
        Simd::vectorize(pulp::Scalar::new(), work)
    }

    /// Calls `task` for every item, in any order, each with `len` elements of `scratch` that no other call has meanwhile: as
    /// few of them as there are threads, since what was used last is in the cache.
    fn for_each_with<I: Send>(
        self,
        mut items: impl Iterator<Item = I> + Send,
        scratch: &mut [f32],
        len: usize,
        task: impl Fn(I, &mut [f32]) + Sync + Send,
    ) {
        #[cfg(feature = "rayon")]
        if self.threads() > 1 && (len == 0 || scratch.len() / len > 1) {
            let (items, task, mut rest) = (std::sync::Mutex::new(items), &task, scratch);
            // No lock is held while a task runs, so that none is poisoned.
            let next = &|| items.lock().expect("not poisoned").next();
            return rayon::scope(|scope| {
                for _ in 0..self.threads() {
                    if rest.len() < len {
                        break;
                    }
                    let (own, others) = std::mem::take(&mut rest).split_at_mut(len);
                    rest = others;
                    scope.spawn(move |_| {
                        while let Some(item) = next() {
                            task(item, own);
                        }
                    });
                }
            });
        }
        items.by_ref().for_each(|item| task(item, &mut scratch[..len]));
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
