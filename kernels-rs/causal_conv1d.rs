//! The causal convolution: what its kernels share, the sums of its weights' gradients, and the form for decoding. Equations:
//! src/ops/causal_conv1d; which kernel runs where: src/gpu/causal_conv1d.
//!
//! `_channels`: one thread per channel, which walks over the steps of a tile; `_steps`: one warp per channel, a lane per
//! step, which pass inputs to each other. A kernel is made for 2, 3 or 4 taps, or for up to 16: there the first may be left out.

#[cfg(ssm_unit = "causal_conv1d_bwd")]
#[path = "causal_conv1d_bwd.rs"]
mod bwd;
#[cfg(ssm_unit = "causal_conv1d_fwd")]
#[path = "causal_conv1d_fwd.rs"]
mod fwd;
#[cfg(ssm_unit = "causal_conv1d_sum")]
#[path = "causal_conv1d_sum.rs"]
mod sum;
#[path = "causal_conv1d_taps.rs"]
mod taps;
#[cfg(ssm_unit = "causal_conv1d_update")]
#[path = "causal_conv1d_update.rs"]
mod update;

use crate::load_store::{BF16, F16, F32, Io};
use crate::params::{SSM_DTYPE_BF16, SSM_DTYPE_F16, SSM_DTYPE_F32, SsmSequence, SsmState, SsmTiles};
use core::arch::asm;
use core::arch::nvptx::{_block_idx_x, _thread_idx_x};
use core::num::NonZeroU32;
pub(crate) use taps::each;
pub use taps::{Counted, Taps};

/// Threads of a block, and the warps that they are.
pub const N_THREADS: u32 = 128;
pub const N_WARPS: u32 = N_THREADS / 32;

/// Division without a panic in the kernel; the host sees to it that the divisor is not 0.
#[inline(always)]
pub fn divide(a: u32, b: u32) -> (u32, u32) {
    let b = NonZeroU32::new(b).unwrap_or(NonZeroU32::MIN);
    (a / b, a % b)
}

/// This block's place among `tiles * chunks`, the chunks faster; and the thread.
#[inline(always)]
pub fn place(chunks: u32) -> (u32, u32, u32) {
    // SAFETY: these read special registers.
    let (block, thread) = unsafe { (_block_idx_x() as u32, _thread_idx_x() as u32) };
    let (tile, chunk) = divide(block, chunks);
    (tile, chunk, thread)
}

unsafe extern "C" {
    /// LLVM knows that all lanes have to meet here; of an `asm!` it does not, and would give each arm of a branch its own.
    #[link_name = "llvm.nvvm.shfl.sync.idx.f32"]
    fn shuffle(lanes: u32, value: f32, lane: u32, clamp: u32) -> f32;
}

/// `value` of lane `lane`, which is below 32. All lanes of the warp take part.
#[inline(always)]
pub fn of_lane(value: f32, lane: u32) -> f32 {
    // SAFETY: an exchange between registers, by all lanes.
    unsafe { shuffle(u32::MAX, value, lane, 31) }
}

/// The sum over the lanes of a warp, the same in all of them.
#[inline(always)]
pub fn over_lanes(mut value: f32, lane: u32) -> f32 {
    let mut distance = 16;
    while distance > 0 {
        value += of_lane(value, lane ^ distance);
        distance /= 2;
    }
    value
}

#[inline(always)]
pub fn fma(a: f32, b: f32, c: f32) -> f32 {
    let result: f32;
    // SAFETY: arithmetic between registers.
    unsafe {
        asm!("fma.rn.f32 {}, {}, {}, {};", out(reg32) result, in(reg32) a, in(reg32) b, in(reg32) c,
            options(pure, nomem, nostack))
    };
    result
}

/// 2^64, by which e^-|v| is lifted: it may be subnormal where v e^-|v| is not.
const LIFT: f32 = (1u128 << 64) as f32;

/// e^-|v| times [`LIFT`] by the special-function unit; what rounding the exponent loses is put back. 0 below e^-131.
#[inline(always)]
fn lifted_exp(v: f32) -> f32 {
    let (below, power): (f32, f32);
    // SAFETY: arithmetic between registers. The limit keeps -infinity out, which has no remainder, and lets NaN pass.
    unsafe {
        asm!("max.NaN.f32 {}, {}, {};", out(reg32) below, in(reg32) -v.abs(), in(reg32) -200.0f32,
            options(pure, nomem, nostack));
    }
    let exponent = fma(below, core::f32::consts::LOG2_E, 64.0);
    let lost = fma(exponent - 64.0, -core::f32::consts::LN_2, below);
    // SAFETY: as above.
    unsafe {
        asm!("ex2.approx.ftz.f32 {}, {};", out(reg32) power, in(reg32) exponent, options(pure, nomem, nostack));
    }
    fma(power, lost, power)
}

/// 1 / v for 1 <= v <= 2, and NaN.
#[inline(always)]
fn reciprocal(v: f32) -> f32 {
    let result: f32;
    // SAFETY: arithmetic between registers.
    unsafe { asm!("rcp.approx.ftz.f32 {}, {};", out(reg32) result, in(reg32) v, options(pure, nomem, nostack)) };
    result
}

/// v / (1 + e^-v).
#[inline(always)]
pub fn silu(v: f32) -> f32 {
    let lifted = lifted_exp(v);
    let share = reciprocal(fma(lifted, 1.0 / LIFT, 1.0));
    if v < 0.0 { v * lifted * share * (1.0 / LIFT) } else { v * share }
}

/// The derivative of [`silu`]: s(v) (1 + v s(-v)) for the logistic function s.
#[inline(always)]
pub fn silu_derivative(v: f32) -> f32 {
    let lifted = lifted_exp(v);
    let large = reciprocal(fma(lifted, 1.0 / LIFT, 1.0));
    let small = lifted * large;
    if v < 0.0 { small * fma(v, large, 1.0) * (1.0 / LIFT) } else { large * fma(v, small * (1.0 / LIFT), 1.0) }
}

/// A tile of one sequence.
#[derive(Clone, Copy)]
pub struct Tile {
    pub seq: u32,
    pub batch: i64,
    /// Where the sequence begins, and its length.
    pub start: i64,
    pub len: i32,
    /// The tile's number in its sequence, and whether it is the last.
    pub number: i32,
    pub last: bool,
}

impl SsmTiles {
    /// Where sequence `seq` begins; beyond the last, the total.
    ///
    /// # Safety
    /// `seq <= nseqs`.
    #[inline(always)]
    unsafe fn bound(&self, seq: u32) -> i64 {
        // SAFETY: cu_seqlens has nseqs + 1 elements.
        unsafe { *(self.cu_seqlens as *const i32).add(seq as usize) as i64 }
    }

    /// The first tile of a sequence.
    ///
    /// # Safety
    /// As for `bound`.
    #[inline(always)]
    pub unsafe fn first(&self, seq: u32) -> u32 {
        match self.cu_seqlens {
            0 => seq * self.tiles_per_seq,
            // SAFETY: the caller's.
            _ => divide(unsafe { self.bound(seq) } as u32, self.steps).0 + seq,
        }
    }

    /// Length of a sequence, and its number of tiles.
    ///
    /// # Safety
    /// `seq < nseqs`.
    #[inline(always)]
    pub unsafe fn length(&self, seq: u32) -> (i32, i32) {
        let len = match self.cu_seqlens {
            0 => self.seqlen,
            // SAFETY: the caller's.
            _ => unsafe { self.bound(seq + 1) - self.bound(seq) },
        };
        let tiles = divide(len as u32 + self.steps - 1, self.steps).0;
        (len as i32, if tiles == 0 { 1 } else { tiles as i32 })
    }

    /// Tile `tile` of all, if it is in use.
    #[inline(always)]
    pub fn tile(&self, tile: u32) -> Option<Tile> {
        // SAFETY: there are tiles, so there is a sequence; the search stays below nseqs.
        unsafe {
            let mut seq = 0;
            if self.cu_seqlens == 0 {
                seq = divide(tile, self.tiles_per_seq).0;
            } else {
                let mut high = self.nseqs;
                while high - seq > 1 {
                    let middle = seq + (high - seq) / 2;
                    if self.first(middle) <= tile { seq = middle } else { high = middle }
                }
            }
            let ((len, tiles), number) = (self.length(seq), (tile - self.first(seq)) as i32);
            let (batch, start) = match self.cu_seqlens {
                0 => (seq as i64, 0),
                _ => (0, self.bound(seq)),
            };
            (number < tiles).then_some(Tile { seq, batch, start, len, number, last: number + 1 == tiles })
        }
    }
}

/// One channel of one sequence of a tensor.
#[derive(Clone, Copy)]
pub struct Row {
    pub address: u64,
    pub base: i64,
    pub stride: i64,
}

impl Row {
    #[inline(always)]
    pub fn new(tensor: &SsmSequence, tile: &Tile, d: u32) -> Self {
        let base = tile.batch * tensor.batch_stride + d as i64 * tensor.dim_stride + tile.start * tensor.seqlen_stride;
        Self { address: tensor.address, base, stride: tensor.seqlen_stride }
    }

    #[inline(always)]
    pub fn state(tensor: &SsmState, seq: u32, d: u32) -> Self {
        let base = seq as i64 * tensor.batch_stride + d as i64 * tensor.dim_stride;
        Self { address: tensor.address, base, stride: tensor.dstate_stride }
    }

    /// Whether the tensor is there.
    #[inline(always)]
    pub fn given(&self) -> bool {
        self.address != 0
    }

    /// # Safety
    /// Element `i` is the row's.
    #[inline(always)]
    pub unsafe fn load<T: Io>(&self, i: i32) -> f32 {
        // SAFETY: the caller's; the contract checked the tensor.
        unsafe { T::load(self.address, self.base + i as i64 * self.stride) }
    }

    /// # Safety
    /// Element `i` is the row's, and no other thread touches it.
    #[inline(always)]
    pub unsafe fn store<T: Io>(&self, i: i32, value: f32) {
        // SAFETY: as above.
        unsafe { T::store(self.address, self.base + i as i64 * self.stride, value) }
    }
}

/// The inputs of one channel of a sequence, and those before them.
#[derive(Clone, Copy)]
pub struct Inputs {
    pub x: Row,
    pub initial: Row,
    pub len: i32,
    pub before: i32,
}

impl Inputs {
    /// The input of step `t`, from the state if it is negative; 0 where there is none.
    #[inline(always)]
    pub fn at<T: Io>(&self, t: i32) -> f32 {
        // SAFETY: the step, or the element of the state, is the row's.
        unsafe {
            if t >= 0 {
                if t < self.len { self.x.load::<T>(t) } else { 0.0 }
            } else if self.initial.given() && t + self.before >= 0 {
                self.initial.load::<T>(t + self.before)
            } else {
                0.0
            }
        }
    }
}

/// A window of inputs that moves on one lane's chunk at a time.
#[derive(Clone, Copy)]
pub struct Chunks {
    pub previous: f32,
    pub current: f32,
}

impl Chunks {
    /// What lies `back` steps before this lane's.
    #[inline(always)]
    pub fn back(&self, lane: u32, back: u32) -> f32 {
        if back == 0 {
            return self.current;
        }
        let given = if lane >= 32 - back { self.previous } else { self.current };
        of_lane(given, lane.wrapping_sub(back) & 31)
    }

    /// What lies `ahead` steps behind that which `previous` is of this lane.
    #[inline(always)]
    pub fn ahead(&self, lane: u32, ahead: u32) -> f32 {
        if ahead == 0 {
            return self.previous;
        }
        let given = if lane < ahead { self.current } else { self.previous };
        of_lane(given, (lane + ahead) & 31)
    }
}

/// Moves a window on by one step.
#[inline(always)]
pub fn push<const W: usize>(window: &mut [f32; W], next: f32) {
    each!(w < W => { window[w] = if w + 1 < W { window[w + 1] } else { next } });
}

/// Moves a window back by one step.
#[inline(always)]
pub fn push_front<const W: usize>(window: &mut [f32; W], mut next: f32) {
    each!(w < W => { core::mem::swap(&mut window[w], &mut next) });
}

/// The inputs that taps of step `t` reach before it.
#[inline(always)]
pub fn window_before<T: Io, const W: usize>(inputs: &Inputs, t: i32) -> [f32; W] {
    let (mut window, mut back) = ([0.0; W], inputs.before);
    while back > 0 {
        push(&mut window, inputs.at::<T>(t - back));
        back -= 1;
    }
    window
}
