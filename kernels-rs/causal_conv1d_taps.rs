//! The taps of one channel, and sums over them.

use super::{fma, push, push_front};
use crate::load_store::{BF16, F16, F32, Io};
use crate::params::{SSM_DTYPE_F16, SSM_DTYPE_F32, SsmTaps};

/// An element whose dtype is known at run time.
///
/// # Safety
/// As for [`Io::load`].
#[inline(always)]
unsafe fn load_as(dtype: u32, address: u64, offset: i64) -> f32 {
    if dtype == SSM_DTYPE_F32 {
        // SAFETY: the caller's.
        return unsafe { F32::load(address, offset) };
    }
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

/// Taps that a kernel has room for at most; one with room for fewer has just as many.
const MOST_TAPS: usize = 16;

/// Number of taps, of at most `W`: known to the compiler where there are just as many.
#[inline(always)]
fn width<const W: usize>(taps: &SsmTaps) -> u32 {
    if W < MOST_TAPS { W as u32 } else { taps.width }
}

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
        // SAFETY: the contract checked the tensors.
        unsafe {
            let weight = weights(taps, d, |i| i, push);
            let offset = d as i64 * taps.bias_dim_stride;
            let bias = if taps.bias == 0 { 0.0 } else { load_as(taps.dtype, taps.bias, offset) };
            Self { weight, bias, skipped: W as u32 - width::<W>(taps) }
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
        let width = width::<W>(taps);
        // SAFETY: the contract checked the tensor.
        let weight = unsafe { weights(taps, d, |i| width - 1 - i, push_front) };
        Self { weight, width }
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

/// The weights of a channel, moved in one by one by `push`, tap `tap(i)` as the `i`-th. A loop, for the text's sake.
///
/// # Safety
/// `d` is a channel, and the taps are.
#[inline(always)]
unsafe fn weights<const W: usize>(
    taps: &SsmTaps,
    d: u32,
    tap: impl Fn(u32) -> u32,
    push: impl Fn(&mut [f32; W], f32),
) -> [f32; W] {
    let (mut weight, base) = ([0.0; W], d as i64 * taps.weight_dim_stride);
    let mut i = 0;
    while i < width::<W>(taps) {
        let offset = base + tap(i) as i64 * taps.weight_width_stride;
        // SAFETY: the caller's.
        push(&mut weight, unsafe { load_as(taps.dtype, taps.weight, offset) });
        i += 1;
    }
    weight
}
