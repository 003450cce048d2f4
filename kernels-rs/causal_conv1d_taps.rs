//! The taps of one channel, and sums over them.

use super::fma;
use crate::load_store::{BF16, F16, F32, Io};
use crate::params::{SSM_DTYPE_F16, SSM_DTYPE_F32, SsmTaps};

/// An element of 16 bits whose dtype is known at run time.
///
/// # Safety
/// As for [`Io::load`].
#[inline(always)]
unsafe fn load_half(dtype: u32, address: u64, offset: i64) -> f32 {
    // SAFETY: the caller's. One load serves both.
    let (half, upper) = unsafe { (F16::load(address, offset), BF16::load(address, offset)) };
    if dtype == SSM_DTYPE_F16 { half } else { upper }
}

/// The body for each place of an array of `W`, at most 16: written out, since an array that a loop goes through lies in
/// memory.
macro_rules! each {
    ($w:ident < $W:ident => $body:block) => {
        each!(@ $w, $W, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    (@ $w:ident, $W:ident, $body:block, $($n:literal)+) => {$({
        let $w: usize = $n;
        if $w < $W $body
    })+};
}
pub(crate) use each;

/// Taps and bias of one channel; of `W` taps the first `skipped` are not there.
#[derive(Clone, Copy)]
pub struct Taps<const W: usize> {
    pub weight: [f32; W],
    pub bias: f32,
    pub skipped: u32,
}

impl<const W: usize> Taps<W> {
    /// # Safety
    /// `d` is a channel.
    #[inline(always)]
    pub unsafe fn load(taps: &SsmTaps, d: u32) -> Self {
        let (skipped, d64) = (W as u32 - taps.width, d as i64);
        // SAFETY: the contract checked the tensors. Where a tap is not there, another is read, and not used.
        unsafe {
            let weight = weights(taps, d, |w| if Self::has(skipped, w) { w as u32 - skipped } else { 0 });
            let offset = d64 * taps.bias_dim_stride;
            let bias = match (taps.bias, taps.dtype) {
                (0, _) => 0.0,
                (bias, SSM_DTYPE_F32) => F32::load(bias, offset),
                (bias, dtype) => load_half(dtype, bias, offset),
            };
            Self { weight, bias, skipped }
        }
    }

    /// Number of taps.
    #[inline(always)]
    pub fn width(&self) -> u32 {
        W as u32 - self.skipped
    }

    /// Whether tap `w` is there.
    #[inline(always)]
    fn has(skipped: u32, w: usize) -> bool {
        w as u32 >= skipped
    }

    /// Whether tap `w` is there.
    #[inline(always)]
    pub fn is(&self, w: usize) -> bool {
        Self::has(self.skipped, w)
    }

    /// Steps before the first that taps reach.
    #[inline(always)]
    pub fn before(&self) -> i32 {
        W as i32 - 1 - self.skipped as i32
    }

    /// bias + the sum over the taps of what each meets.
    #[inline(always)]
    pub fn sum(&self, met: impl Fn(usize) -> f32) -> f32 {
        self.sum_of(self.bias, |_| true, met)
    }

    /// `start` + the sum over those taps that meet something: a weight times 0 may be NaN. `met` is asked for all taps, as
    /// all lanes have to be there when they pass values on.
    #[inline(always)]
    pub fn sum_of(&self, start: f32, meets: impl Fn(usize) -> bool, met: impl Fn(usize) -> f32) -> f32 {
        let mut sum = start;
        each!(w < W => {
            if self.is(w) {
                let more = fma(self.weight[w], met(w), sum);
                if meets(w) {
                    sum = more;
                }
            }
        });
        sum
    }
}

/// Taps as they are counted: those that are not there come last.
#[derive(Clone, Copy)]
pub struct Counted<const W: usize> {
    weight: [f32; W],
    width: u32,
}

impl<const W: usize> Counted<W> {
    /// # Safety
    /// `d` is a channel.
    #[inline(always)]
    pub unsafe fn load(taps: &SsmTaps, d: u32) -> Self {
        // SAFETY: the contract checked the tensor.
        let weight = unsafe { weights(taps, d, |w| if (w as u32) < taps.width { w as u32 } else { 0 }) };
        Self { weight, width: taps.width }
    }

    /// The sum over those taps that are given something of what they give back, as in [`Taps::sum_of`].
    #[inline(always)]
    pub fn sum_of(&self, is: impl Fn(usize) -> bool, given: impl Fn(usize) -> f32) -> f32 {
        let mut sum = 0.0;
        each!(w < W => {
            if (w as u32) < self.width {
                let more = fma(self.weight[w], given(w), sum);
                if is(w) {
                    sum = more;
                }
            }
        });
        sum
    }
}

/// The weights of a channel, each from the tap that `tap` names.
///
/// # Safety
/// `d` is a channel, and the taps are.
#[inline(always)]
unsafe fn weights<const W: usize>(taps: &SsmTaps, d: u32, tap: impl Fn(usize) -> u32) -> [f32; W] {
    let (mut weight, base) = ([0.0; W], d as i64 * taps.weight_dim_stride);
    let offset = |w: usize| base + tap(w) as i64 * taps.weight_width_stride;
    // SAFETY: the caller's.
    unsafe {
        if taps.dtype == SSM_DTYPE_F32 {
            each!(w < W => { weight[w] = F32::load(taps.weight, offset(w)) });
        } else {
            each!(w < W => { weight[w] = load_half(taps.dtype, taps.weight, offset(w)) });
        }
    }
    weight
}
