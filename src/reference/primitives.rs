//! The scalar functions that operators share.

use super::Real;
use crate::ops::StepOptions;

/// ln(1 + e^v), and v itself above 20, as upstream.
pub fn softplus<R: Real>(v: R) -> R {
    let zero = R::of(0.0);
    if v > R::of(20.0) {
        v
    } else if v > zero {
        v + (-v).exp().ln_1p()
    } else {
        v.exp().ln_1p()
    }
}

/// The derivative of [`softplus`]: the logistic function, and 1 above 20.
pub fn softplus_derivative<R: Real>(v: R) -> R {
    if v > R::of(20.0) { R::of(1.0) } else { sigmoid(v) }
}

/// v / (1 + e^-v).
pub fn silu<R: Real>(v: R) -> R {
    v / (R::of(1.0) + (-v).exp())
}

/// The derivative of [`silu`].
pub fn silu_derivative<R: Real>(v: R) -> R {
    let one = R::of(1.0);
    sigmoid(v) * (one + v * sigmoid(-v))
}

/// 1 / (1 + e^-v), without overflow on either side.
fn sigmoid<R: Real>(v: R) -> R {
    let one = R::of(1.0);
    if v > R::of(0.0) { one / (one + (-v).exp()) } else { v.exp() / (one + v.exp()) }
}

impl StepOptions {
    /// delta and its derivative by the raw step.
    pub(super) fn delta<R: Real>(self, raw: R) -> (R, R) {
        let (delta, slope) = if self.softplus { (softplus(raw), softplus_derivative(raw)) } else { (raw, R::of(1.0)) };
        match self.limit {
            Some((min, _)) if delta < R::of(min) => (R::of(min), R::of(0.0)),
            Some((_, max)) if delta > R::of(max) => (R::of(max), R::of(0.0)),
            _ => (delta, slope),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hand_known_values() {
        assert_eq!(softplus(0.0f64), std::f64::consts::LN_2);
        assert_eq!(softplus(21.0f64), 21.0);
        assert_eq!(softplus(-100.0f64), (-100.0f64).exp());
        assert_eq!(silu(0.0f64), 0.0);
        assert_eq!(silu_derivative(0.0f64), 0.5);
        assert_eq!(silu_derivative(50.0f64), 1.0);
        assert_eq!(softplus_derivative(0.0f64), 0.5);
        assert_eq!(softplus_derivative(20.5f64), 1.0);
        assert_eq!(softplus_derivative(-800.0f64), 0.0);
    }
}
