//! The errors that the PTX ISA allows its approximate instructions. `docs/precision.md` is the same table for readers.
//!
//! "PTX ISA" is <https://docs.nvidia.com/cuda/parallel-thread-execution/>, version 9.1, sections 9.7.3 and 9.7.4, at
//! the notes of the instruction named.

/// An allowed error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    /// So many units in the last place of the exact result.
    Ulps(f64),
    /// So many units in the last place away from the correctly rounded result.
    UlpsFromRounded(f64),
    Relative(f64),
    Absolute(f64),
    /// Nothing is promised: any value in [-1, 1].
    AnythingInUnit,
    /// The result is exact.
    None,
}

const fn two_to(exponent: i64) -> f64 {
    f64::from_bits(((1023 + exponent) as u64) << 52)
}

/// `ex2.approx{.ftz}.f32`: at most 2 ulp from the correctly rounded result, over the full range (PTX ISA, `ex2`).
pub(crate) const EX2_F32: Bound = Bound::UlpsFromRounded(2.0);
/// `ex2.approx.f16`, `.f16x2`: relative 2^-9.9 (PTX ISA, half-precision `ex2`). 2^-9.9 = 2^-10 * 2^0.1.
pub(crate) const EX2_F16: Bound = Bound::Relative(two_to(-10) * 1.071_773_462_5);
/// `ex2.approx.ftz.bf16`, `.bf16x2`: relative 2^-7 (PTX ISA, half-precision `ex2`).
pub(crate) const EX2_BF16: Bound = Bound::Relative(two_to(-7));
/// `lg2.approx{.ftz}.f32` of operands in (0.5, 2): absolute 2^-22 (PTX ISA, `lg2`).
pub(crate) const LG2_NEAR_ONE: Bound = Bound::Absolute(two_to(-22));
/// `lg2.approx{.ftz}.f32` of other positive finite operands: relative 2^-22 (PTX ISA, `lg2`).
pub(crate) const LG2_ELSEWHERE: Bound = Bound::Relative(two_to(-22));
/// `rcp.approx{.ftz}.f32`: 1 ulp over the full range (PTX ISA, `rcp`).
pub(crate) const RCP_F32: Bound = Bound::Ulps(1.0);
/// `div.approx{.ftz}.f32` with |b| in [2^-126, 2^126]: 2 ulp (PTX ISA, `div`).
pub(crate) const DIV_APPROX: Bound = Bound::Ulps(2.0);
/// `div.full{.ftz}.f32`: 2 ulp over the full range (PTX ISA, `div`).
pub(crate) const DIV_FULL: Bound = Bound::Ulps(2.0);
/// `sqrt.approx{.ftz}.f32`: relative 2^-23 (PTX ISA, `sqrt`).
pub(crate) const SQRT_F32: Bound = Bound::Relative(two_to(-23));
/// `rsqrt.approx{.ftz}.f32`: relative 2^-22.9 (PTX ISA, `rsqrt`). 2^-22.9 = 2^-23 * 2^0.1.
pub(crate) const RSQRT_F32: Bound = Bound::Relative(two_to(-23) * 1.071_773_462_5);
/// `sin`, `cos` of operands in [-2 pi, 2 pi]: absolute 2^-20.5 (PTX ISA, `sin`, `cos`). 2^-20.5 = 2^-21 * 2^0.5.
pub(crate) const SIN_COS_NEAR: Bound = Bound::Absolute(two_to(-21) * std::f64::consts::SQRT_2);
/// `sin`, `cos` of operands in [-100 pi, 100 pi]: absolute 2^-14.7 (PTX ISA, `sin`, `cos`). 2^-14.7 = 2^-15 * 2^0.3.
pub(crate) const SIN_COS_FAR: Bound = Bound::Absolute(two_to(-15) * 1.231_144_413_3);
/// `sin`, `cos` of greater operands: best effort without a promise (PTX ISA, `sin`, `cos`).
pub(crate) const SIN_COS_BEYOND: Bound = Bound::AnythingInUnit;
/// `tanh.approx.f32`: relative 2^-11 (PTX ISA, `tanh`).
pub(crate) const TANH_F32: Bound = Bound::Relative(two_to(-11));
/// `tanh.approx.f16`, `.f16x2`: absolute 2^-10.987 (PTX ISA, half-precision `tanh`). 2^-10.987 = 2^-11 * 2^0.013.
pub(crate) const TANH_F16: Bound = Bound::Absolute(two_to(-11) * 1.009_051_5);
/// `tanh.approx.bf16`, `.bf16x2`: absolute 2^-8 (PTX ISA, half-precision `tanh`).
pub(crate) const TANH_BF16: Bound = Bound::Absolute(two_to(-8));
/// `rsqrt.approx.f64`: the PTX ISA gives no bound; assumed to be that of CUDA's `rsqrt`, which compiles to it and has
/// 1 ulp (CUDA C++ Programming Guide, mathematical functions), around our own result.
pub(crate) const RSQRT_F64_ULPS: f64 = 1.0;
/// `rcp.approx.ftz.f64`, `rsqrt.approx.ftz.f64`: "gross", without a number in the PTX ISA. Assumed: 1 unit in the last
/// of the 20 fraction bits of the result.
pub(crate) const GROSS_F64_UNITS: f64 = 1.0;

impl Bound {
    /// The absolute error that the bound allows at an exact result.
    ///
    /// A unit in the last place is that of f32, and the smaller one where the exact result is so close above a power of
    /// two that a result may fall below it.
    pub fn allowance(self, exact: f64) -> f64 {
        match self {
            Self::Ulps(ulps) | Self::UlpsFromRounded(ulps) => {
                let lower = exact.abs() * (1.0 - two_to(-21));
                let power = f64::from_bits(lower.to_bits() & 2047 << 52);
                ulps * (power * two_to(-23)).max(two_to(-149))
            }
            Self::Relative(relative) => relative * exact.abs(),
            Self::Absolute(absolute) => absolute,
            Self::AnythingInUnit => 2.0,
            Self::None => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_constants_are_the_powers_that_their_comments_name() {
        let power = |bound| match bound {
            Bound::Relative(value) | Bound::Absolute(value) => f64::log2(value),
            _ => f64::NAN,
        };
        let expected = [
            (EX2_F16, -9.9),
            (EX2_BF16, -7.0),
            (LG2_NEAR_ONE, -22.0),
            (LG2_ELSEWHERE, -22.0),
            (SQRT_F32, -23.0),
            (RSQRT_F32, -22.9),
            (SIN_COS_NEAR, -20.5),
            (SIN_COS_FAR, -14.7),
            (TANH_F32, -11.0),
            (TANH_F16, -10.987),
            (TANH_BF16, -8.0),
        ];
        for (bound, exponent) in expected {
            assert!((power(bound) - exponent).abs() < 1e-6, "{bound:?}");
            // Never above what is promised.
            assert!(power(bound) <= exponent + 1e-12, "{bound:?}");
        }
    }
}
