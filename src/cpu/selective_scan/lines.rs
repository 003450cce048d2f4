//! Work on lines: neighbours in memory, which are channels at one step or steps of one channel.

use super::memory::MOST_CHANNELS;
use crate::cpu::math::lanes::Extremes;
use crate::cpu::math::logistic::silu;
use crate::cpu::runs::widen;
use crate::ops::StepOptions;
use crate::tensor::Element;
use pulp::{Simd, WithSimd};

/// Steps of rows of channels from raw ones, with their bias; and x times them. The least and the greatest step, NaN aside.
///
/// Run by [`Simd::vectorize`], as [`Gate`] is, so that they are compiled once for an instruction set and not for every dtype
/// and place.
pub(super) struct Steps<'l> {
    pub options: StepOptions,
    pub delta: &'l mut [f32],
    pub x: &'l mut [f32],
    /// A row.
    pub bias: &'l [f32],
}

impl WithSimd for Steps<'_> {
    type Output = [f32; 2];

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> [f32; 2] {
        let Self { options, delta, x, bias } = self;
        let (mut extremes, mut powers) = (Extremes::none(simd), [0.0f32; MOST_CHANNELS]);
        // Whole rows of channels.
        let some = MOST_CHANNELS / bias.len() * bias.len();
        for (delta, x) in delta.chunks_mut(some).zip(x.chunks_mut(some)) {
            for (delta, powers) in delta.chunks_exact_mut(bias.len()).zip(powers.chunks_exact_mut(bias.len())) {
                for at in (0..bias.len()).step_by(S::F32_LANES) {
                    let raw = simd.add_f32s(load::<S>(&delta[at..]), load::<S>(&bias[at..]));
                    store::<S>(powers, at, options.power(simd, raw));
                    store::<S>(delta, at, raw);
                }
            }
            for at in (0..delta.len()).step_by(S::F32_LANES) {
                let step = options.apply_with(simd, load::<S>(&delta[at..]), load::<S>(&powers[at..]));
                extremes.take(simd, step);
                store::<S>(delta, at, step);
                store::<S>(x, at, simd.mul_f32s(load::<S>(&x[at..]), step));
            }
        }
        extremes.of_lanes(simd)
    }
}

/// Elements that are converted together.
pub(super) const CHUNK: usize = 64;

/// A row of steps and of x, from where the channels' raw ones lie side by side, as [`Steps`] makes them. Rows have room for
/// whole vectors.
pub(super) struct StepRow<'l, T> {
    pub options: StepOptions,
    pub raw: &'l [T],
    pub x: &'l [T],
    pub bias: &'l [f32],
    pub delta: &'l mut [f32],
    pub delta_x: &'l mut [f32],
}

impl<T: Element> WithSimd for StepRow<'_, T> {
    type Output = [f32; 2];

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> [f32; 2] {
        let Self { options, raw, x, bias, delta, delta_x } = self;
        let mut extremes = Extremes::none(simd);
        let [mut own_raw, mut own_x, mut powers] = [[0.0f32; CHUNK]; 3];
        for at in (0..raw.len()).step_by(CHUNK) {
            let count = CHUNK.min(raw.len() - at);
            if count == CHUNK {
                widen(&raw[at..at + CHUNK], &mut own_raw);
                widen(&x[at..at + CHUNK], &mut own_x);
            } else {
                widen(&raw[at..], &mut own_raw[..count]);
                widen(&x[at..], &mut own_x[..count]);
            }
            for i in (0..count).step_by(S::F32_LANES) {
                let raw = simd.add_f32s(load::<S>(&own_raw[i..]), load::<S>(&bias[at + i..]));
                store::<S>(&mut powers, i, options.power(simd, raw));
                store::<S>(&mut own_raw, i, raw);
            }
            for i in (0..count).step_by(S::F32_LANES) {
                let step = options.apply_with(simd, load::<S>(&own_raw[i..]), load::<S>(&powers[i..]));
                extremes.take(simd, step);
                store::<S>(delta, at + i, step);
                store::<S>(delta_x, at + i, simd.mul_f32s(load::<S>(&own_x[i..]), step));
            }
        }
        extremes.of_lanes(simd)
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
    /// Without the first `at` channels.
    #[inline(always)]
    pub fn from(self, at: usize) -> Self {
        match self {
            Self::Row(row) => Self::Row(&row[at..]),
            Self::One(_) => self,
        }
    }

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

/// K vectors of a slice, from place `at` on, `next` from each other. (A loop: a closure need not be inlined, and then has not got the
/// instructions.)
#[inline(always)]
pub(super) fn load_some<S: Simd, const K: usize>(slice: &[f32], at: usize, next: usize) -> [S::f32s; K] {
    let mut vectors = [load::<S>(&slice[at..]); K];
    for (k, vector) in vectors.iter_mut().enumerate().skip(1) {
        *vector = load::<S>(&slice[at + k * next..]);
    }
    vectors
}

/// The vector at place `at` of a slice.
#[inline(always)]
pub(super) fn store<S: Simd>(to: &mut [f32], at: usize, v: S::f32s) {
    S::as_mut_simd_f32s(&mut to[at..]).0[0] = v;
}
