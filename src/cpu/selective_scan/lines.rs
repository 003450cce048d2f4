//! Work on lines: neighbours in memory, which are channels at one step or steps of one channel.

use crate::cpu::math::logistic::silu;
use crate::ops::StepOptions;
use pulp::{Simd, WithSimd};

/// Steps of a line from raw ones, with their bias; and x times them. Whether none is negative.
///
/// Run by [`Simd::vectorize`], as [`Gate`] is, so that they are compiled once for an instruction set and not for every dtype
/// and place.
pub(super) struct Steps<'l> {
    pub options: StepOptions,
    pub delta: &'l mut [f32],
    pub x: &'l mut [f32],
    pub count: usize,
    pub bias: Constant<'l>,
}

impl WithSimd for Steps<'_> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> bool {
        let Self { options, delta, x, count, bias } = self;
        let mut lowest = simd.splat_f32s(0.0);
        for at in (0..count).step_by(S::F32_LANES) {
            let raw = simd.add_f32s(load::<S>(&delta[at..]), bias.at(simd, at));
            let step = options.apply_to(simd, raw);
            lowest = simd.min_f32s(step, lowest);
            store::<S>(delta, at, step);
            store::<S>(x, at, simd.mul_f32s(load::<S>(&x[at..]), step));
        }
        simd.reduce_min_f32s(lowest) >= 0.0
    }
}

/// A line y times silu(z).
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
