//! Work on lines: neighbours in memory, which are channels at one step or steps of one channel.

use crate::cpu::math::lanes::{fma, greatest};
use crate::cpu::math::logistic::silu;
use crate::ops::StepOptions;
use pulp::{Simd, WithSimd};

/// Steps of rows of channels from raw ones, with their bias; and x times them. Whether none is negative.
///
/// Run by [`Simd::vectorize`], as [`Gate`] and [`Skip`] are, so that they are compiled once for an instruction set and not for
/// every dtype and place.
pub(super) struct Steps<'l> {
    pub options: StepOptions,
    pub delta: &'l mut [f32],
    pub x: &'l mut [f32],
    /// A row.
    pub bias: &'l [f32],
}

impl WithSimd for Steps<'_> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> bool {
        let Self { options, delta, x, bias } = self;
        let mut lowest = simd.splat_f32s(0.0);
        for (delta, x) in delta.chunks_exact_mut(bias.len()).zip(x.chunks_exact_mut(bias.len())) {
            for at in (0..bias.len()).step_by(S::F32_LANES) {
                let raw = simd.add_f32s(load::<S>(&delta[at..]), load::<S>(&bias[at..]));
                let step = options.apply_to(simd, raw);
                lowest = simd.min_f32s(step, lowest);
                store::<S>(delta, at, step);
                store::<S>(x, at, simd.mul_f32s(load::<S>(&x[at..]), step));
            }
        }
        simd.reduce_min_f32s(lowest) >= 0.0
    }
}

/// A number for each channel, and how the channels lie in a block of lines.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lines<'l> {
    /// Each line is a row of these channels.
    Rows(&'l [f32]),
    /// Each line is of one channel, and so long.
    Of(&'l [f32], usize),
}

/// Lines y plus D x.
pub(super) struct Skip<'l> {
    pub y: &'l mut [f32],
    pub x: &'l [f32],
    pub D: Lines<'l>,
}

impl WithSimd for Skip<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let length = match self.D {
            Lines::Rows(D) => D.len(),
            Lines::Of(_, length) => length,
        };
        for (k, (y, x)) in self.y.chunks_exact_mut(length).zip(self.x.chunks_exact(length)).enumerate() {
            let D = match self.D {
                Lines::Rows(D) => Constant::Row(D),
                Lines::Of(D, _) => Constant::One(D[k]),
            };
            for at in (0..length).step_by(S::F32_LANES) {
                let sum = fma(simd, D.at(simd, at), load::<S>(&x[at..]), load::<S>(&y[at..]));
                store::<S>(y, at, sum);
            }
        }
    }
}

/// Lines y times silu(z).
pub(super) struct Gate<'l> {
    pub y: &'l mut [f32],
    pub z: &'l [f32],
    pub count: usize,
}

impl WithSimd for Gate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for at in (0..self.count).step_by(S::F32_LANES) {
            let (y, z) = (load::<S>(&self.y[at..]), load::<S>(&self.z[at..]));
            store::<S>(self.y, at, simd.mul_f32s(y, silu(simd, z)));
        }
    }
}

/// The greatest of some numbers.
pub(super) struct Greatest<'l>(pub &'l [f32]);

impl WithSimd for Greatest<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        greatest(simd, self.0)
    }
}

/// What belongs to a channel, for a vector of neighbours.
///
/// Not a closure: one that is not inlined has no vector instructions.
#[derive(Debug, Clone, Copy)]
pub(super) enum Constant<'r> {
    /// Of these channels.
    Row(&'r [f32]),
    /// Of one channel.
    One(f32),
}

impl Constant<'_> {
    #[inline(always)]
    pub fn at<S: Simd>(self, simd: S, at: usize) -> S::f32s {
        match self {
            Self::Row(row) => load::<S>(&row[at..]),
            Self::One(value) => simd.splat_f32s(value),
        }
    }
}

/// The first vector of a slice.
#[inline(always)]
pub(super) fn load<S: Simd>(slice: &[f32]) -> S::f32s {
    S::as_simd_f32s(slice).0[0]
}

/// The vector at place `at` of a slice.
#[inline(always)]
pub(super) fn store<S: Simd>(to: &mut [f32], at: usize, v: S::f32s) {
    S::as_mut_simd_f32s(&mut to[at..]).0[0] = v;
}
