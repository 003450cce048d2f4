//! The four floating-point formats of registers, and their pairs in one register.

use super::Mode;
use super::exact::{self, Shape};
use crate::registers::Value;
use half::{bf16, f16};

/// A floating-point number in a register.
///
/// NaN results are canonical (sign 0, all other bits 1) for f32, f16 and bf16. The f64 operations of NVIDIA's devices
/// keep payloads instead: see [`super::exact::nan64`].
pub(crate) trait Float: Value {
    const NAN: Self;
    const ONE: Self;
    const ZERO: Self;
    /// The greatest finite number.
    const LARGEST: Self;
    /// Integers that order as the numbers do, with -0 below +0.
    type Key: Ord + Copy;
    fn key(self) -> Self::Key;
    /// From the low bits.
    fn from_raw(bits: u64) -> Self;
    fn is_nan(self) -> bool;
    /// `-self`, a sign bit alone.
    fn negated(self) -> Self;
    fn magnitude(self) -> Self;
    fn is_negative(self) -> bool;
    /// The magnitude of `self` with the sign of `sign`.
    fn signed_as(self, sign: Self) -> Self;
    /// Subnormals become zeros of their sign.
    fn flush(self) -> Self;
    /// The same number in a type that the processor compares.
    type Plain: PartialOrd + Copy;
    fn plain(self) -> Self::Plain;
    /// Exactly.
    fn wide(self) -> f64;
    /// Rounds once; NaNs become canonical.
    fn narrow(value: f64, mode: Mode) -> Self;

    /// [`flush`](Self::flush) if `ftz`.
    #[inline(always)]
    fn flush_if(self, ftz: bool) -> Self {
        if ftz { self.flush() } else { self }
    }

    #[inline(always)]
    fn canonical(self) -> Self {
        if self.is_nan() { Self::NAN } else { self }
    }

    /// `.sat`: within 0 and 1, NaN to +0.
    #[inline(always)]
    fn saturated(self) -> Self {
        let below = if self.plain() < Self::ONE.plain() { self } else { Self::ONE };
        if self.plain() > Self::ZERO.plain() { below } else { Self::ZERO }
    }

    /// `.relu`: negative numbers, -0 among them, to +0; NaN to the canonical one.
    #[inline(always)]
    fn relu(self) -> Self {
        let positive = if self.is_negative() { Self::ZERO } else { self };
        if self.is_nan() { Self::NAN } else { positive }
    }

    /// The lesser or the greater; the other operand beside a NaN, unless NaNs are to win.
    #[inline(always)]
    fn extremum(self, other: Self, greater: bool, nan_wins: bool) -> Self {
        let first = if greater { self.key() > other.key() } else { self.key() < other.key() };
        let number = if first { self } else { other };
        if nan_wins {
            return if self.is_nan() | other.is_nan() { Self::NAN } else { number };
        }
        let left = if other.is_nan() { self } else { number };
        if self.is_nan() { other.canonical() } else { left }
    }
}

macro_rules! float {
    ($($type:ident: $bits:ident as $int:ident, nan $nan:expr, infinity $infinity:expr, min $normal:expr,
        |$value:ident| $plain_type:ident $plain:expr, |$wider:ident, $mode:ident| $narrow:expr;)*) => {$(
        impl Float for $type {
            const NAN: Self = <$type>::from_bits($nan);
            const ONE: Self = <$type>::from_bits(($infinity >> 1) & !($normal - 1));
            const ZERO: Self = <$type>::from_bits(0);
            const LARGEST: Self = <$type>::from_bits($infinity - 1);
            type Key = $int;
            #[inline(always)]
            fn key(self) -> $int {
                let bits = self.to_bits() as $int;
                bits ^ ((bits >> ($int::BITS - 1)) & $int::MAX)
            }
            #[inline(always)]
            fn from_raw(bits: u64) -> Self {
                Self::from_bits(bits as $bits)
            }
            #[inline(always)]
            fn is_nan(self) -> bool {
                (self.to_bits() & ($int::MAX as $bits)) > $infinity
            }
            #[inline(always)]
            fn negated(self) -> Self {
                Self::from_bits(self.to_bits() ^ $int::MIN as $bits)
            }
            #[inline(always)]
            fn magnitude(self) -> Self {
                Self::from_bits(self.to_bits() & $int::MAX as $bits)
            }
            #[inline(always)]
            fn is_negative(self) -> bool {
                self.to_bits() >> ($int::BITS - 1) != 0
            }
            #[inline(always)]
            fn signed_as(self, sign: Self) -> Self {
                let mask = $int::MAX as $bits;
                Self::from_bits((self.to_bits() & mask) | (sign.to_bits() & !mask))
            }
            #[inline(always)]
            fn flush(self) -> Self {
                let bits = self.to_bits();
                let small = (bits & ($int::MAX as $bits)) < $normal;
                Self::from_bits(if small { bits & $int::MIN as $bits } else { bits })
            }
            type Plain = $plain_type;
            #[inline(always)]
            fn plain(self) -> $plain_type {
                let $value = self;
                $plain
            }
            #[inline(always)]
            fn wide(self) -> f64 {
                self.plain().into()
            }
            #[inline(always)]
            fn narrow($wider: f64, $mode: Mode) -> Self {
                $narrow
            }
        }
    )*};
}
float! {
    f32: u32 as i32, nan 0x7FFF_FFFF, infinity 0x7F80_0000, min 0x0080_0000,
        |value| f32 value, |wide, mode| exact::to_f32(wide, mode);
    f64: u64 as i64, nan 0x7FFF_FFFF_E000_0000, infinity 0x7FF0_0000_0000_0000, min 0x0010_0000_0000_0000,
        |value| f64 value, |wide, _mode| wide;
    f16: u16 as i16, nan 0x7FFF, infinity 0x7C00, min 0x0400,
        |value| f32 exact::f16_to_f32(value),
        |wide, mode| f16::from_bits(exact::narrow::<{ Shape::F16 }>(wide, mode) as u16);
    bf16: u16 as i16, nan 0x7FFF, infinity 0x7F80, min 0x0080,
        |value| f32 f32::from_bits(u32::from(value.to_bits()) << 16),
        |wide, mode| bf16::from_bits(exact::narrow::<{ Shape::BF16 }>(wide, mode) as u16);
}

/// One number, or two in a register.
pub(crate) trait Pack: Value {
    type Item: Float;
    /// Numbers in it.
    const COUNT: u32;
    fn map(self, f: impl Fn(Self::Item) -> Self::Item) -> Self;
    fn map2(self, b: Self, f: impl Fn(Self::Item, Self::Item) -> Self::Item) -> Self;
    fn map3(self, b: Self, c: Self, f: impl Fn(Self::Item, Self::Item, Self::Item) -> Self::Item) -> Self;
}

macro_rules! single {
    ($($type:ty)*) => {$(
        impl Pack for $type {
            type Item = Self;
            const COUNT: u32 = 1;
            #[inline(always)]
            fn map(self, f: impl Fn(Self) -> Self) -> Self {
                f(self)
            }
            #[inline(always)]
            fn map2(self, b: Self, f: impl Fn(Self, Self) -> Self) -> Self {
                f(self, b)
            }
            #[inline(always)]
            fn map3(self, b: Self, c: Self, f: impl Fn(Self, Self, Self) -> Self) -> Self {
                f(self, b, c)
            }
        }
    )*};
}
single!(f32 f64 f16 bf16);

impl<T: Float> Pack for [T; 2]
where
    Self: Value,
{
    type Item = T;
    const COUNT: u32 = 2;
    #[inline(always)]
    fn map(self, f: impl Fn(T) -> T) -> Self {
        [f(self[0]), f(self[1])]
    }
    #[inline(always)]
    fn map2(self, b: Self, f: impl Fn(T, T) -> T) -> Self {
        [f(self[0], b[0]), f(self[1], b[1])]
    }
    #[inline(always)]
    fn map3(self, b: Self, c: Self, f: impl Fn(T, T, T) -> T) -> Self {
        [f(self[0], b[0], c[0]), f(self[1], b[1], c[1])]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_one() {
        assert_eq!(<f32 as Float>::ONE, 1.0);
        assert_eq!(<f64 as Float>::ONE, 1.0);
        assert_eq!(<f16 as Float>::ONE, f16::ONE);
        assert_eq!(<bf16 as Float>::ONE, bf16::ONE);
    }

    #[test]
    fn halves_widen_exactly() {
        for bits in 0..=u16::MAX {
            let (a, b) = (f16::from_bits(bits), bf16::from_bits(bits));
            assert!(a.wide() == a.to_f64_const() || a.is_nan() && a.wide().is_nan(), "{bits:x}");
            assert!(b.wide() == b.to_f64_const() || b.is_nan() && b.wide().is_nan(), "{bits:x}");
            assert_eq!(a.wide().is_sign_negative(), a.is_sign_negative(), "{bits:x}");
            assert_eq!(b.wide().is_sign_negative(), b.is_sign_negative(), "{bits:x}");
        }
    }

    #[test]
    fn halves_narrow_as_the_half_crate_rounds() {
        let mut seed = 1_u64;
        for i in 0..400_000_u64 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Half of them within the range of f16, where the ties are.
            let bits = if i % 2 == 0 { seed >> 32 } else { (seed >> 36) % 0x1000_0000 + 0x3300_0000 } as u32;
            let value = f32::from_bits(if i % 3 == 0 { bits & 0xFFFF_F000 } else { bits });
            let (a, b) = (f16::narrow(value.into(), Mode::Nearest), bf16::narrow(value.into(), Mode::Nearest));
            if value.is_nan() {
                assert_eq!((a.to_bits(), b.to_bits()), (0x7FFF, 0x7FFF));
            } else {
                assert_eq!(a.to_bits(), f16::from_f32_const(value).to_bits(), "{value:e}");
                assert_eq!(b.to_bits(), bf16::from_f32_const(value).to_bits(), "{value:e}");
            }
        }
    }
}
