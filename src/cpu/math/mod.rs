//! The elementary functions of the CPU backend, in f32: on vectors in [`exp`](mod@exp) and [`logistic`], generic over
//! the instruction set; over slices in [`slices`]; and on single numbers here.
//!
//! One text serves all, and every operation in it rounds the same way in every instruction set: an element has the
//! same bits wherever it stands. The errors that the functions state are in ulp of the exact result; they were measured
//! over all 2^32 arguments (softplus_derivative, which is sigmoid below its switch, and products: on samples), and
//! `tests/cpu_math.rs` holds every instruction set that the machine has to them.

pub mod exp;
pub mod lanes;
pub mod logistic;
pub mod slices;

use crate::ops::StepOptions;
use pulp::Simd;
use slices::one;

/// [`exp::exp`] of a number.
#[inline(always)]
pub fn exp(v: f32) -> f32 {
    one(slices::Exp, v)
}

/// [`exp::exp_m1`] of a number.
#[inline(always)]
pub fn exp_m1(v: f32) -> f32 {
    one(slices::ExpM1, v)
}

/// [`logistic::softplus`] of a number.
#[inline(always)]
pub fn softplus(v: f32) -> f32 {
    one(slices::Softplus, v)
}

/// [`logistic::softplus_derivative`] of a number.
#[inline(always)]
pub fn softplus_derivative(v: f32) -> f32 {
    one(slices::SoftplusDerivative, v)
}

/// [`logistic::sigmoid`] of a number.
#[inline(always)]
pub fn sigmoid(v: f32) -> f32 {
    one(slices::Sigmoid, v)
}

/// [`logistic::silu`] of a number.
#[inline(always)]
pub fn silu(v: f32) -> f32 {
    one(slices::Silu, v)
}

/// [`logistic::silu_derivative`] of a number.
#[inline(always)]
pub fn silu_derivative(v: f32) -> f32 {
    one(slices::SiluDerivative, v)
}

impl StepOptions {
    /// delta from the raw step with its bias.
    #[inline(always)]
    pub(super) fn apply(self, raw: f32) -> f32 {
        let delta = if self.softplus { softplus(raw) } else { raw };
        match self.limit {
            Some((min, max)) => delta.clamp(min, max),
            None => delta,
        }
    }

    /// delta from raw steps with their bias.
    #[inline(always)]
    pub(super) fn apply_to<S: Simd>(self, simd: S, raw: S::f32s) -> S::f32s {
        let delta = if self.softplus { logistic::softplus(simd, raw) } else { raw };
        match self.limit {
            Some((min, max)) => lanes::at_most(simd, max, lanes::at_least(simd, min, delta)),
            None => delta,
        }
    }

    /// The derivative of delta by the raw step: zero outside the clamp.
    #[inline(always)]
    pub(super) fn slope(self, raw: f32) -> f32 {
        let delta = if self.softplus { softplus(raw) } else { raw };
        match self.limit {
            Some((min, max)) if delta < min || delta > max => 0.0,
            _ if self.softplus => softplus_derivative(raw),
            _ => 1.0,
        }
    }
}
