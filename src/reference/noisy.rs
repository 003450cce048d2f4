//! f32 with the errors that a GPU's approximate units may make.

use super::Real;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// f32 whose exp and log are wrong by a relative error of up to 2^-22, as the approximate units of a GPU may be; whose
/// sums begin at another term and go either way ([`Real::nth`]), since no order of a sum is plainer than another; and which
/// rounds a sum of two to either neighbour, the likelier the nearer (stochastic rounding). How a sum is rounded hangs on
/// orders and on fused products, which a backend chooses, so that rounding to the nearest is one draw among many.
///
/// The error is a pure function of `SEED` and the arguments, so that runs repeat.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Noisy<const SEED: u64>(f32);

impl<const SEED: u64> Noisy<SEED> {
    /// 53 bits that look drawn, and are a function of the seed and of `key`.
    fn draw(key: u64) -> f64 {
        // The mixing steps of SplitMix64.
        let hash = key ^ SEED.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((hash ^ (hash >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn disturb(argument: f32, exact: f32) -> Self {
        let uniform = 2.0 * Self::draw(argument.to_bits().into()) - 1.0;
        let noisy = f64::from(exact) * (1.0 + uniform * (-22.0f64).exp2());
        Self(noisy as f32)
    }

    /// a + b, rounded up or down; exact where f32 holds it.
    fn add_either_way(a: f32, b: f32) -> Self {
        let (exact, nearest) = (f64::from(a) + f64::from(b), a + b);
        let lost = exact - f64::from(nearest);
        if lost == 0.0 || !nearest.is_finite() {
            return Self(nearest);
        }
        let other = if lost > 0.0 { nearest.next_up() } else { nearest.next_down() };
        let share = lost / (f64::from(other) - f64::from(nearest));
        let key = u64::from(a.to_bits()) << 32 | u64::from(b.to_bits());
        Self(if Self::draw(key) < share { other } else { nearest })
    }
}

impl<const SEED: u64> Add for Noisy<SEED> {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self::add_either_way(self.0, other.0)
    }
}

impl<const SEED: u64> Sub for Noisy<SEED> {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self::add_either_way(self.0, -other.0)
    }
}

macro_rules! noisy_operator {
    ($trait:ident, $method:ident) => {
        impl<const SEED: u64> $trait for Noisy<SEED> {
            type Output = Self;
            fn $method(self, other: Self) -> Self {
                Self(self.0.$method(other.0))
            }
        }
    };
}
noisy_operator!(Mul, mul);
noisy_operator!(Div, div);

impl<const SEED: u64> Neg for Noisy<SEED> {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl<const SEED: u64> Real for Noisy<SEED> {
    fn of(value: f32) -> Self {
        Self(value)
    }
    fn to_f64(self) -> f64 {
        self.0.into()
    }
    fn exp(self) -> Self {
        Self::disturb(self.0, self.0.exp())
    }
    fn exp_m1(self) -> Self {
        Self::disturb(self.0, self.0.exp_m1())
    }
    fn ln_1p(self) -> Self {
        Self::disturb(self.0, self.0.ln_1p())
    }
    fn nth(i: usize, len: usize) -> usize {
        let first = SEED as usize % 9 * len / 9;
        (first + if SEED % 2 == 1 { len - 1 - i } else { i }) % len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_bounded_repeats_and_differs_by_seed() {
        let (mut largest, mut differ) = (0.0f64, 0);
        for i in 0..20_000 {
            let v = i as f32 * 0.001 - 10.0;
            let (a, b) = (Noisy::<1>(v).exp().to_f64(), Noisy::<2>(v).exp().to_f64());
            assert_eq!(a, Noisy::<1>(v).exp().to_f64());
            differ += usize::from(a != b);
            largest = largest.max((a / f64::from(v).exp() - 1.0).abs());
        }
        assert!(differ > 10_000);
        let bound = (-22.0f64).exp2();
        assert!(largest < 1.6 * bound && largest > 0.8 * bound, "{largest:e}");
    }

    /// Sums go to either neighbour, the likelier the nearer, and stay what they are if exact, zero or infinite.
    #[test]
    fn sums_round_either_way() {
        let ulp = f64::from(f32::EPSILON);
        let (mut up, mut error) = (0, 0.0);
        for i in 0..20_000 {
            // 1 + a quarter of an ulp, at arguments that differ.
            let a = 1.0 + i as f32 * f32::EPSILON;
            let b = 0.25 * f32::EPSILON;
            let lost = (Noisy::<1>(a) + Noisy::<1>(b)).to_f64() - (f64::from(a) + f64::from(b));
            assert!(lost == 0.75 * ulp || lost == -0.25 * ulp, "{lost:e}");
            up += usize::from(lost > 0.0);
            error += lost / ulp;
        }
        assert!((4_700..5_300).contains(&up), "{up}");
        assert!((error / 20_000.0).abs() < 0.02, "{error}");
        for [a, b] in [[0.0, 0.1], [0.1, -0.1], [1.5, 2.25], [f32::INFINITY, 0.1], [f32::MAX, f32::MAX], [1e-45, 1e-45]]
        {
            assert_eq!((Noisy::<7>(a) + Noisy::<7>(b)).to_f64(), f64::from(a + b));
            assert_eq!((Noisy::<7>(a) - Noisy::<7>(-b)).to_f64(), f64::from(a + b));
        }
    }

    /// A sum without any exp, which the plain loop has right by luck, is not right in every order.
    #[test]
    fn sums_differ_by_seed() {
        let terms = [1.0, -1.0, 1e-8, 0.25, -0.25, 3e-8, 0.5, -0.5];
        fn sum<R: Real>(terms: &[f32]) -> f64 {
            let terms: Vec<R> = terms.iter().map(|&term| R::of(term)).collect();
            R::sum(&terms).to_f64()
        }
        let truth = sum::<f64>(&terms);
        assert!((truth - 4e-8).abs() < 1e-14);
        let sums = [sum::<Noisy<1>>(&terms), sum::<Noisy<2>>(&terms), sum::<Noisy<3>>(&terms), sum::<Noisy<8>>(&terms)];
        assert!(sums.iter().any(|sum| (sum - truth).abs() > 1e-9), "{sums:?}");
        assert!(sums.iter().any(|sum| *sum != sums[0]), "{sums:?}");
    }
}
