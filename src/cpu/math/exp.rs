//! exp and its relatives: 2^y is 2^n 2^r with n the nearest integer, and a polynomial for 2^r.

use super::lanes::{abs, at_least, at_most, bits_up, fma, polynomial};
use pulp::Simd;

/// log2(e) in two parts.
pub(super) const LOG2_E: [f32; 2] = [std::f32::consts::LOG2_E, 1.925_963e-8];

/// ln 2 in two parts: the first has 9 trailing zero bits, so that its product with a small integer is exact.
const LN_2: [f32; 2] = [0.693_145_75, 1.428_606_8e-6];

/// 1.5 * 2^23: adding it rounds to an integer, which then stands in the low bits.
pub(super) const ROUNDER: f32 = 12_582_912.0;

/// 2^r for |r| <= 1/2, times a power of two: degree 6, least relative error with the constant 1 (Remez), rounded to f32
/// lowest first, the others fitted again after each, then neighbours tried for the least error of the evaluation in f32
/// on 40,000 points. An array computed outside a constant would be loaded again in every call.
pub(super) const fn power(scale: f32) -> [f32; 7] {
    let mut c = [1.0, 0.693_147_24, 0.240_226_55, 0.055_502_76, 0.009_617_038, 0.001_341_254_8, 0.000_157_422_52];
    let mut i = 0;
    while i < c.len() {
        c[i] *= scale;
        i += 1;
    }
    c
}

/// (e^r - 1 - r) / r^2 for |r| <= ln(2) / 2: degree 4, found as [`power`] for the least error relative to e^r - 1.
const EXP_M1: [f32; 5] = [0.499_999_97, 0.166_665_4, 0.041_667_756, 0.008_367_118, 0.001_383_583_6];

/// The exponents y that 2^y is asked for. Results for the same exponent have the same bits in both.
pub trait Range: Copy + Send + Sync + 'static {
    /// Added to n, so that [`raise`](Range::raise) finds biased exponents in the low bits.
    const BIAS: f32;
    /// The coefficients of 2^r, times a power of two.
    const POWER: [f32; 7];

    /// y no further outside the range of results than the arithmetic bears.
    fn within<S: Simd>(simd: S, y: S::f32s, bounds: [f32; 2]) -> S::f32s;

    /// 2^r 2^n, rounded once, from the polynomial's value and n + BIAS in the low bits of `shifted`.
    fn raise<S: Simd>(simd: S, power: S::f32s, shifted: S::f32s) -> S::f32s;
}

/// All exponents.
#[derive(Debug, Clone, Copy)]
pub struct Any;

/// Exponents of e up to 70 (of 2 up to 101): the results for others are not specified.
#[derive(Debug, Clone, Copy)]
pub struct UpTo70;

impl Range for Any {
    const BIAS: f32 = 254.0;
    const POWER: [f32; 7] = power(1.0);

    #[inline(always)]
    fn within<S: Simd>(simd: S, y: S::f32s, [lowest, highest]: [f32; 2]) -> S::f32s {
        at_most(simd, highest, at_least(simd, lowest, y))
    }

    #[inline(always)]
    fn raise<S: Simd>(simd: S, power: S::f32s, shifted: S::f32s) -> S::f32s {
        // Two factors of about half the exponent each: 2^n itself may be infinite or subnormal where the result is not.
        let lower = simd.and_u32s(bits_up(simd, shifted, 22), simd.splat_u32s(0x7f80_0000));
        let upper = simd.sub_u32s(bits_up(simd, shifted, 23), lower);
        let [lower, upper] = [simd.transmute_f32s_u32s(lower), simd.transmute_f32s_u32s(upper)];
        simd.mul_f32s(simd.mul_f32s(power, lower), upper)
    }
}

impl Range for UpTo70 {
    const BIAS: f32 = 127.0 + 25.0;
    const POWER: [f32; 7] = power(1.0 / (1 << 25) as f32);

    #[inline(always)]
    fn within<S: Simd>(simd: S, y: S::f32s, [lowest, _]: [f32; 2]) -> S::f32s {
        at_least(simd, lowest, y)
    }

    #[inline(always)]
    fn raise<S: Simd>(simd: S, power: S::f32s, shifted: S::f32s) -> S::f32s {
        // 2^-25 of the factor stands in the coefficients, so that this one is normal down to the last subnormal result.
        simd.mul_f32s(power, simd.transmute_f32s_u32s(bits_up(simd, shifted, 23)))
    }
}

/// 2^(n + r), n + BIAS being in the low bits of `shifted`.
#[inline(always)]
fn power_of_two<S: Simd, R: Range>(simd: S, _: R, shifted: S::f32s, r: S::f32s) -> S::f32s {
    R::raise(simd, polynomial(simd, r, R::POWER), shifted)
}

/// e^v. Off by at most 1.031 ulp, at 3.8072293. Infinity above the range, subnormal results rounded once (at the cost that
/// subnormal results have: on Intel 20 times that of others), e^0 is 1, NaN stays.
#[inline(always)]
pub fn exp<S: Simd, R: Range>(simd: S, range: R, v: S::f32s) -> S::f32s {
    let v = R::within(simd, v, [-104.5, 89.0]);
    let [high, low, rounder] = [LOG2_E[0], LOG2_E[1], ROUNDER + R::BIAS].map(|c| simd.splat_f32s(c));
    let shifted = fma(simd, v, high, rounder);
    let n_negated = simd.sub_f32s(rounder, shifted);
    let r = fma(simd, v, low, fma(simd, v, high, n_negated));
    power_of_two(simd, range, shifted, r)
}

/// 2^v, otherwise as [`exp`]. Off by at most 0.884 ulp, at -126.4325.
#[inline(always)]
pub fn exp2<S: Simd, R: Range>(simd: S, range: R, v: S::f32s) -> S::f32s {
    let v = R::within(simd, v, [-151.0, 129.0]);
    let rounder = simd.splat_f32s(ROUNDER + R::BIAS);
    let shifted = simd.add_f32s(v, rounder);
    let r = simd.sub_f32s(v, simd.sub_f32s(shifted, rounder));
    power_of_two(simd, range, shifted, r)
}

/// e^v - 1. Off by at most 1.581 ulp, at 0.37827387; -0 stays.
#[inline(always)]
pub fn exp_m1<S: Simd>(simd: S, v: S::f32s) -> S::f32s {
    // Half of 2^n, which is finite where 2^n is not.
    const BIAS: f32 = 126.0;
    let inside = Any::within(simd, v, [-20.0, 89.0]);
    let rounder = simd.splat_f32s(ROUNDER + BIAS);
    let shifted = fma(simd, inside, simd.splat_f32s(LOG2_E[0]), rounder);
    let n_negated = simd.sub_f32s(rounder, shifted);
    let [high, low] = LN_2.map(|c| simd.splat_f32s(c));
    let r = fma(simd, n_negated, low, fma(simd, n_negated, high, inside));
    let less_one = fma(simd, simd.mul_f32s(r, r), polynomial(simd, r, EXP_M1), r);
    let scale = simd.transmute_f32s_u32s(bits_up(simd, shifted, 23));
    // 2^n (e^r - 1) + (2^n - 1): nothing cancels where n = 0, and the second term is exact up to n = 24.
    let half = fma(simd, scale, less_one, simd.sub_f32s(scale, simd.splat_f32s(0.5)));
    // Half of a subnormal loses a bit, and -0 its sign.
    let tiny = simd.less_than_f32s(abs(simd, v), simd.splat_f32s(1.0 / (1 << 25) as f32));
    simd.select_f32s(tiny, v, simd.add_f32s(half, half))
}
