//! The elementary functions of the CPU backend, in f32: on vectors in [`exp`] and [`logistic`], generic over the
//! instruction set, and for recurrences in [`decay`]; and over slices in [`slices`].
//!
//! One text serves all, and every operation in it rounds the same way in every instruction set: an element has the
//! same bits wherever it stands. The errors that the functions state are in ulp of the exact result; they were measured
//! over all 2^32 arguments (decays, which have two or more: on samples), and
//! `tests/suites/cpu_math.rs` holds every instruction set that the machine has to them.

pub mod decay;
pub mod exp;
pub mod lanes;
pub mod logistic;
pub mod slices;

use crate::ops::StepOptions;
use pulp::Simd;

impl StepOptions {
    /// delta from raw steps with their bias.
    #[inline(always)]
    pub(super) fn apply_to<S: Simd>(self, simd: S, raw: S::f32s) -> S::f32s {
        self.apply_with(simd, raw, self.power(simd, raw))
    }

    /// What softplus can do before the rest, if it is there: [`logistic::softplus_power`].
    #[inline(always)]
    pub(super) fn power<S: Simd>(self, simd: S, raw: S::f32s) -> S::f32s {
        if self.softplus { logistic::softplus_power(simd, raw) } else { raw }
    }

    /// [`apply_to`](Self::apply_to), with the power.
    #[inline(always)]
    pub(super) fn apply_with<S: Simd>(self, simd: S, raw: S::f32s, power: S::f32s) -> S::f32s {
        let delta = if self.softplus { logistic::softplus_from(simd, raw, power) } else { raw };
        match self.limit {
            Some((min, max)) => lanes::at_most(simd, max, lanes::at_least(simd, min, delta)),
            None => delta,
        }
    }

    /// The derivative of delta by the raw step: zero outside the clamp.
    #[inline(always)]
    pub(super) fn slope<S: Simd>(self, simd: S, raw: S::f32s) -> S::f32s {
        let slope = if self.softplus { logistic::softplus_derivative(simd, raw) } else { simd.splat_f32s(1.0) };
        let Some((min, max)) = self.limit else { return slope };
        let (step, zero) = (if self.softplus { logistic::softplus(simd, raw) } else { raw }, simd.splat_f32s(0.0));
        let slope = simd.select_f32s(simd.less_than_f32s(step, simd.splat_f32s(min)), zero, slope);
        simd.select_f32s(simd.greater_than_f32s(step, simd.splat_f32s(max)), zero, slope)
    }
}
