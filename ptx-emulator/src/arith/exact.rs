//! Single roundings by way of f64: a sum or product of narrower numbers is computed in f64 with rounding to odd (exact,
//! or with a last bit of 1), which loses nothing that the rounding to at most 50 bits that follows could see.
//!
//! Everything here is free of branches, so that loops over lanes vectorise.

use super::Mode;
use super::float::Float;
use half::f16;

const SIGN: u64 = 1 << 63;

/// `a + b` rounded to odd; a zero that two opposite numbers make is +0, or -0 if `down`.
///
/// Exact below overflow and far from it; f64 never overflows on sums of products of narrower formats.
#[inline(always)]
pub(crate) fn sum_odd(a: f64, b: f64, down: bool) -> f64 {
    let sum = a + b;
    let from_b = sum - a;
    // The part that the sum lost (Knuth); NaN, which is not above 0, beside infinities.
    let lost = (a - (sum - from_b)) + (b - from_b);
    let signs = (a.to_bits() | b.to_bits()) & SIGN;
    let sum = if down && sum == 0.0 { f64::from_bits(signs) } else { sum };
    odd(sum, lost)
}

/// `value`, which lost `lost` in rounding to nearest, rounded to odd instead.
#[inline(always)]
pub(crate) fn odd(value: f64, lost: f64) -> f64 {
    let bits = value.to_bits();
    let outward = (lost > 0.0) == (value > 0.0);
    let neighbour = if outward { bits.wrapping_add(1) } else { bits.wrapping_sub(1) };
    let inexact_even = (lost.abs() > 0.0) & (bits & 1 == 0);
    f64::from_bits(if inexact_even { neighbour } else { bits })
}

/// `a * b + c` rounded to odd, of numbers whose product is exact in f64.
#[inline(always)]
pub(crate) fn fused_odd(a: f64, b: f64, c: f64, down: bool) -> f64 {
    sum_odd(a * b, c, down)
}

/// Rounds to f32; a NaN becomes the canonical one.
///
/// For values that are exact, rounded to odd, or quotients or square roots of f32 numbers rounded to nearest: those
/// are never so near to where f32's rounding changes that f64's would matter.
#[inline(always)]
pub(crate) fn to_f32(value: f64, mode: Mode) -> f32 {
    let near = value as f32;
    let back = f64::from(near);
    let bits = near.to_bits();
    let (outer, inner) = (bits.wrapping_add(1), bits.wrapping_sub(1));
    let negative = bits >> 31 != 0;
    let fixed = match mode {
        Mode::Nearest => bits,
        Mode::Zero => {
            if back.abs() > value.abs() {
                inner
            } else {
                bits
            }
        }
        Mode::Down => {
            let below = if negative { outer } else { inner };
            if back > value { below } else { bits }
        }
        Mode::Up => {
            let above = if negative { inner } else { outer };
            if back < value { above } else { bits }
        }
        Mode::Away => return f32::from_bits(narrow::<{ Shape::F32 }>(value, mode)),
    };
    f32::from_bits(if is_nan(near) { 0x7FFF_FFFF } else { fixed })
}

/// By the bits alone. Beside a comparison of numbers, compilers take one NaN to be as good as another and drop the
/// choice of the canonical one (LLVM does, of square roots).
#[inline(always)]
fn is_nan<T: Float>(value: T) -> bool {
    value.is_nan()
}

/// Widths of a binary format, packed in an integer so that it can be a parameter.
pub(crate) struct Shape;

impl Shape {
    pub const F32: u32 = Self::of(8, 23);
    pub const F16: u32 = Self::of(5, 10);
    pub const BF16: u32 = Self::of(8, 7);
    /// The upper 19 bits of an f32.
    pub const TF32: u32 = Self::of(8, 10);

    const fn of(exponent: u32, fraction: u32) -> u32 {
        exponent << 8 | fraction
    }
}

/// Rounds to the format `SHAPE` and returns its bits; a NaN becomes the canonical one.
#[inline(always)]
pub(crate) fn narrow<const SHAPE: u32>(value: f64, mode: Mode) -> u32 {
    let fraction = u64::from(SHAPE & 0xFF);
    let infinity = ((1_u64 << (SHAPE >> 8)) - 1) << fraction;
    // Biased exponent, in f64, of the format's smallest normal number.
    let least = 1023 + 2 - (1_u64 << ((SHAPE >> 8) - 1));
    let bits = value.to_bits();
    let negative = bits >> 63;
    let magnitude = bits & !SIGN;
    let field = magnitude >> 52;
    let implicit = if field == 0 { 0 } else { 1 << 52 };
    let significand = (magnitude & ((1 << 52) - 1)) | implicit;
    let exponent = if field == 0 { 1 } else { field };
    let under = least.saturating_sub(exponent);
    // 54 drops every bit and leaves them below half of the last place.
    let shift = (52 - fraction + under).min(54);
    let kept = significand >> shift;
    let rest = significand & ((1 << shift) - 1);
    let half = 1_u64 << (shift - 1);
    let carry = match mode {
        Mode::Nearest => u64::from(rest + (kept & 1) > half),
        Mode::Away => u64::from(rest >= half),
        Mode::Zero => 0,
        Mode::Down => u64::from(rest != 0) & negative,
        Mode::Up => u64::from(rest != 0) & (negative ^ 1),
    };
    // The significand's leading bit adds 1 to the exponent field.
    let finite = (exponent.saturating_sub(least) << fraction) + kept + carry;
    let inward = match mode {
        Mode::Nearest | Mode::Away => false,
        Mode::Zero => true,
        Mode::Down => negative == 0,
        Mode::Up => negative != 0,
    };
    let limit = if inward & (field != 2047) { infinity - 1 } else { infinity };
    let number = if finite < limit { finite } else { limit };
    let sign = negative << (SHAPE >> 8) << fraction;
    let nan = (1_u64 << (SHAPE >> 8) << fraction) - 1;
    (if magnitude > 2047 << 52 { nan } else { number | sign }) as u32
}

/// Exactly; NaNs to a NaN.
#[inline(always)]
pub(crate) fn f16_to_f32(value: f16) -> f32 {
    let bits = u32::from(value.to_bits());
    let magnitude = (bits & 0x7FFF) << 13;
    // The fields of f16 in the places of f32's: a number that is too small by the difference of their biases.
    let scaled = f32::from_bits(magnitude) * f32::from_bits((127 + 112) << 23);
    let finite = scaled.to_bits();
    let special = magnitude | 0x7F80_0000;
    f32::from_bits((if bits & 0x7C00 == 0x7C00 { special } else { finite }) | (bits & 0x8000) << 16)
}

/// The f64 result of an operation on `operands` that computed `value`, with its NaN made the same on every machine: the
/// first NaN among the operands, quiet, or the default one, which has its sign set as CUDA's `CUDART_NAN` has.
#[inline(always)]
pub(crate) fn nan64<const N: usize>(value: f64, operands: [f64; N]) -> f64 {
    let mut nan = 0xFFF8_0000_0000_0000;
    for &operand in operands.iter().rev() {
        nan = if is_nan(operand) { operand.to_bits() | 1 << 51 } else { nan };
    }
    if is_nan(value) { f64::from_bits(nan) } else { value }
}
