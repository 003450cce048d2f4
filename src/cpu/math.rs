//! The scalar functions of the CPU backend, in f32. Their errors are bounded by `tests/primitives.rs`.

use crate::ops::StepOptions;

/// e^v.
#[inline(always)]
pub fn exp(v: f32) -> f32 {
    v.exp()
}

/// e^v - 1.
#[inline(always)]
pub fn exp_m1(v: f32) -> f32 {
    v.exp_m1()
}

/// ln(1 + e^v), and v itself above 20. Relative error of a few ulp from the smallest subnormal result up.
#[inline(always)]
pub fn softplus(v: f32) -> f32 {
    if v > 20.0 { v } else { v.max(0.0) + (-v.abs()).exp().ln_1p() }
}

/// The derivative of [`softplus`]: the logistic function, and 1 above 20.
#[inline(always)]
pub fn softplus_derivative(v: f32) -> f32 {
    if v > 20.0 { 1.0 } else { sigmoid(v) }
}

/// 1 / (1 + e^-v), without overflow on either side.
#[inline(always)]
pub fn sigmoid(v: f32) -> f32 {
    let e = (-v.abs()).exp();
    if v < 0.0 { e / (1.0 + e) } else { 1.0 / (1.0 + e) }
}

/// v / (1 + e^-v).
#[inline(always)]
pub fn silu(v: f32) -> f32 {
    if v < -80.0 {
        // e^v may be subnormal here although v e^v is not: e^(v/2) keeps all its bits.
        let e = (0.5 * v).exp();
        (v * e) * e
    } else {
        v / (1.0 + (-v).exp())
    }
}

/// The derivative of [`silu`].
#[inline(always)]
pub fn silu_derivative(v: f32) -> f32 {
    // sigmoid(-v) is 1 - sigmoid(v) without cancellation.
    sigmoid(v) * (1.0 + v * sigmoid(-v))
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
