//! Element types of tensors.

use half::{bf16, f16};

/// Name of an element type.
///
/// ```
/// use ssm_kernels::{Dtype, Element};
/// assert_eq!((f32::DTYPE.name(), half::bf16::DTYPE), ("f32", Dtype::BF16));
/// // bf16 has 8 bits: 1 + 2^-7 is the next number.
/// assert_eq!(Dtype::BF16.ulp(1.0), 0.0078125);
/// assert_eq!(half::bf16::from_f32(1.003), half::bf16::ONE);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dtype {
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// bfloat16: the upper half of a binary32.
    BF16,
}

impl Dtype {
    /// The name used in kernel entries, fixtures and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::F16 => "f16",
            Dtype::BF16 => "bf16",
        }
    }

    /// Distance between the neighbouring values of this type at magnitude `|value|`, as an f64.
    ///
    /// Below the smallest normal number it is the smallest subnormal; at and above the largest finite
    /// value it is the spacing there.
    pub fn ulp(self, value: f64) -> f64 {
        let (mantissa_bits, min_exponent, max_exponent) = match self {
            Dtype::F32 => (23, -126, 127),
            Dtype::F16 => (10, -14, 15),
            Dtype::BF16 => (7, -126, 127),
        };
        let biased = (value.to_bits() >> 52) & 0x7ff;
        let exponent = (biased as i32 - 1023).clamp(min_exponent, max_exponent);
        f64::from_bits(((exponent - mantissa_bits + 1023) as u64) << 52)
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// An element of a tensor that operators read and write: f32, f16 or bf16. Sealed.
pub trait Element: super::storage::Sealed + crate::cpu::Kernels + bytemuck::Pod + Send + Sync {
    /// Its name.
    const DTYPE: Dtype;
    /// Exact widening.
    fn to_f32(self) -> f32;
    /// Rounding to nearest even; beyond the range it is an infinity.
    fn from_f32(value: f32) -> Self;
}

impl Element for f32 {
    const DTYPE: Dtype = Dtype::F32;
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        value
    }
}

impl Element for f16 {
    const DTYPE: Dtype = Dtype::F16;
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f16::to_f32(self)
    }
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        f16::from_f32(value)
    }
}

impl Element for bf16 {
    const DTYPE: Dtype = Dtype::BF16;
    #[inline(always)]
    fn to_f32(self) -> f32 {
        bf16::to_f32(self)
    }
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        bf16::from_f32(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulp_is_the_distance_to_the_next_value() {
        for value in [1.0f32, 1.5, 0.1, 3.0e38, 1.2e-38, 1.0e-45, 65504.0] {
            let next = f32::from_bits(value.to_bits() + 1);
            if next.is_finite() {
                assert_eq!(Dtype::F32.ulp(f64::from(value)), f64::from(next) - f64::from(value));
            }
        }
        for bits in [0x0001u16, 0x0400, 0x3c00, 0x7bfe] {
            let (here, next) = (f16::from_bits(bits), f16::from_bits(bits + 1));
            assert_eq!(Dtype::F16.ulp(here.to_f64()), next.to_f64() - here.to_f64());
            let (here, next) = (bf16::from_bits(bits), bf16::from_bits(bits + 1));
            assert_eq!(Dtype::BF16.ulp(-here.to_f64()), next.to_f64() - here.to_f64());
        }
        assert_eq!(Dtype::F32.ulp(0.0), f64::from(f32::from_bits(1)));
        assert_eq!(Dtype::F16.ulp(f64::INFINITY), 32.0);
    }
}
