//! softplus, the logistic function and silu, by e^-|v|, which never overflows.

use super::exp::{Range, UpTo70, exp, power};
use super::lanes::{at_least, bits_up, fma, neg_abs, polynomial};
use pulp::Simd;

/// Above this softplus is the identity.
const SWITCH: f32 = 20.0;

/// (ln(1 + y) - y) / y^2 for 0 <= y <= 1: degree 9, least error relative to ln(1 + y) (Remez), rounded to f32 lowest first,
/// the others fitted again after each.
const LN_1P: [f32; 10] = [
    -0.499_999_88,
    0.333_327_14,
    -0.249_888_64,
    0.198_996_23,
    -0.161_351_73,
    0.124_795_325,
    -0.083_238_86,
    0.042_114_507,
    -0.013_691_349,
    0.002_084_434_5,
];

/// ln(1 + y) for 0 <= y <= 1. Off by at most 1.152 ulp, at 0.99293864.
#[inline(always)]
pub fn ln_1p_unit<S: Simd>(simd: S, y: S::f32s) -> S::f32s {
    fma(simd, simd.mul_f32s(y, y), polynomial(simd, y, LN_1P), y)
}

/// ln(1 + e^v), and v itself above 20. Off by at most 1.861 ulp, at 0.0133211315.
#[inline(always)]
pub fn softplus<S: Simd>(simd: S, v: S::f32s) -> S::f32s {
    softplus_from(simd, v, softplus_power(simd, v))
}

/// The power that [`softplus`] is made of.
///
/// A core sees some hundred instructions at a time, which are few of these long chains: who has many elements works out the
/// powers of some first, and then what is made of them.
#[inline(always)]
pub fn softplus_power<S: Simd>(simd: S, v: S::f32s) -> S::f32s {
    exp(simd, UpTo70, neg_abs(simd, v))
}

/// [`softplus`], with its power.
#[inline(always)]
pub fn softplus_from<S: Simd>(simd: S, v: S::f32s, power: S::f32s) -> S::f32s {
    let tail = ln_1p_unit(simd, power);
    let sum = simd.add_f32s(at_least(simd, 0.0, v), tail);
    simd.select_f32s(simd.greater_than_f32s(v, simd.splat_f32s(SWITCH)), v, sum)
}

/// The derivative of [`softplus`]: the logistic function, and 1 above 20. Off by no more than [`sigmoid`].
#[inline(always)]
pub fn softplus_derivative<S: Simd>(simd: S, v: S::f32s) -> S::f32s {
    let above = simd.greater_than_f32s(v, simd.splat_f32s(SWITCH));
    simd.select_f32s(above, simd.splat_f32s(1.0), sigmoid(simd, v))
}

/// (a + rest) / (1 + e) for 0 <= e <= 1, with what the roundings of 1 + e and of the quotient lose put back. Finite `a`.
#[inline(always)]
fn over_one_plus<S: Simd>(simd: S, a: S::f32s, rest: S::f32s, e: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    let sum = simd.add_f32s(one, e);
    let lost = simd.sub_f32s(e, simd.sub_f32s(sum, one));
    let inverse = simd.div_f32s(one, sum);
    let quotient = simd.mul_f32s(a, inverse);
    let negated = simd.xor_f32s(quotient, simd.splat_f32s(-0.0));
    let missing = simd.add_f32s(fma(simd, negated, sum, a), fma(simd, negated, lost, rest));
    fma(simd, missing, inverse, quotient)
}

/// 1 / (1 + e^-v). Off by at most 1.491 ulp, at -3.4346118.
#[inline(always)]
pub fn sigmoid<S: Simd>(simd: S, v: S::f32s) -> S::f32s {
    let (e, zero) = (exp(simd, UpTo70, neg_abs(simd, v)), simd.splat_f32s(0.0));
    let numerator = simd.select_f32s(simd.less_than_f32s(v, zero), e, simd.splat_f32s(1.0));
    over_one_plus(simd, numerator, zero, e)
}

/// e^v 2^64 for v <= 0: e^v may be subnormal where v e^v is not.
#[derive(Debug, Clone, Copy)]
struct Lifted;

const LIFT: f32 = (1u128 << 64) as f32;

impl Range for Lifted {
    const BIAS: f32 = 127.0 + 64.0;
    const POWER: [f32; 7] = power(1.0);

    #[inline(always)]
    fn within<S: Simd>(simd: S, y: S::f32s, _: [f32; 2]) -> S::f32s {
        at_least(simd, LOWEST, y)
    }

    #[inline(always)]
    fn raise<S: Simd>(simd: S, power: S::f32s, shifted: S::f32s) -> S::f32s {
        simd.mul_f32s(power, simd.transmute_f32s_u32s(bits_up(simd, shifted, 23)))
    }
}

/// Below this v e^v is 0, and for no v down to here is it when multiplied by 2^64.
const LOWEST: f32 = -130.0;

/// What silu and its derivative are made of.
struct Parts<S: Simd> {
    /// v, but no lower than [`LOWEST`].
    v: S::f32s,
    /// e^-|v| times [`LIFT`].
    lifted: S::f32s,
    e: S::f32s,
    negative: S::m32s,
}

impl<S: Simd> Parts<S> {
    #[inline(always)]
    fn new(simd: S, v: S::f32s, lifted: S::f32s) -> Self {
        let e = simd.mul_f32s(lifted, simd.splat_f32s(1.0 / LIFT));
        let negative = simd.less_than_f32s(v, simd.splat_f32s(0.0));
        Self { v: at_least(simd, LOWEST, v), lifted, e, negative }
    }
}

/// v / (1 + e^-v). Off by at most 1.834 ulp, at -22.535858. NaN for -inf.
#[inline(always)]
pub fn silu<S: Simd>(simd: S, v: S::f32s) -> S::f32s {
    silu_from(simd, v, silu_power(simd, v))
}

/// The power that [`silu`] is made of, as of [`softplus_power`].
#[inline(always)]
pub fn silu_power<S: Simd>(simd: S, v: S::f32s) -> S::f32s {
    exp(simd, Lifted, neg_abs(simd, v))
}

/// [`silu`], with its power.
#[inline(always)]
pub fn silu_from<S: Simd>(simd: S, v: S::f32s, power: S::f32s) -> S::f32s {
    let (parts, zero) = (Parts::new(simd, v, power), simd.splat_f32s(0.0));
    let factor = simd.select_f32s(parts.negative, parts.lifted, simd.splat_f32s(1.0));
    let product = simd.mul_f32s(parts.v, factor);
    let rest = fma(simd, parts.v, factor, simd.xor_f32s(product, simd.splat_f32s(-0.0)));
    let result = over_one_plus(simd, product, rest, parts.e);
    // NaN for -inf, as the formula has it.
    let small = fma(simd, v, zero, simd.mul_f32s(result, simd.splat_f32s(1.0 / LIFT)));
    let result = simd.select_f32s(parts.negative, small, result);
    // Above, 1 + e^-v is 1, and v may be infinite.
    simd.select_f32s(simd.greater_than_f32s(v, simd.splat_f32s(SWITCH)), v, result)
}

/// The derivative of [`silu`]: s(v) (1 + v s(-v)) for the logistic function s. Off by at most 3.431 ulp of
/// s(v) (1 + |v| s(-v)), at -10.045917; the two terms cancel at -1.278. NaN for both infinities.
#[inline(always)]
pub fn silu_derivative<S: Simd>(simd: S, v: S::f32s) -> S::f32s {
    let (parts, one) = (Parts::new(simd, v, silu_power(simd, v)), simd.splat_f32s(1.0));
    let large = over_one_plus(simd, one, simd.splat_f32s(0.0), parts.e);
    // s(-v) is 1 - s(v) without cancellation.
    let other = simd.select_f32s(parts.negative, large, simd.mul_f32s(parts.e, large));
    let sum = fma(simd, parts.v, other, one);
    let logistic = simd.select_f32s(parts.negative, simd.mul_f32s(parts.lifted, large), large);
    let down = simd.select_f32s(parts.negative, simd.splat_f32s(1.0 / LIFT), one);
    // NaN for either infinity, as the formula has it.
    fma(simd, v, simd.splat_f32s(0.0), simd.mul_f32s(simd.mul_f32s(logistic, sum), down))
}
