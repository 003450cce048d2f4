//! f32 with the errors that a GPU's approximate units may make.

use super::Real;
use std::cell::Cell;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// f32 whose exp and log are wrong by a relative error of up to 2^-22, as the approximate units of a GPU may be; whose
/// sums begin at another term and go either way ([`Real::nth`]), since no order of a sum is plainer than another; and which
/// rounds a sum of two to either neighbour, the likelier the nearer (stochastic rounding). How a sum is rounded hangs on
/// orders and on fused products, which a backend chooses, so that rounding to the nearest is one draw among many.
///
/// The error is a pure function of the seed of [`with_seed`](Self::with_seed) and the arguments, so that runs repeat. (The
/// seed is the thread's and not a parameter of the type: every loop would be compiled once for each seed.)
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Noisy(f32);

thread_local! {
    static SEED: Cell<u64> = const { Cell::new(0) };
}

impl Noisy {
    /// What `run` returns, computed on this thread with the noise of `seed`. Without it the seed is 0.
    pub fn with_seed<R>(seed: u64, run: impl FnOnce() -> R) -> R {
        /// Puts the seed back, even where `run` panics.
        struct Before(u64);
        impl Drop for Before {
            fn drop(&mut self) {
                SEED.set(self.0);
            }
        }
        let _before = Before(SEED.replace(seed));
        run()
    }

    /// 53 bits that look drawn, and are a function of the seed and of `key`.
    fn draw(key: u64) -> f64 {
        // The mixing steps of SplitMix64.
        let hash = key ^ SEED.get().wrapping_mul(0x9e37_79b9_7f4a_7c15);
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

impl Add for Noisy {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self::add_either_way(self.0, other.0)
    }
}

impl Sub for Noisy {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self::add_either_way(self.0, -other.0)
    }
}

macro_rules! noisy_operator {
    ($trait:ident, $method:ident) => {
        impl $trait for Noisy {
            type Output = Self;
            fn $method(self, other: Self) -> Self {
                Self(self.0.$method(other.0))
            }
        }
    };
}
noisy_operator!(Mul, mul);
noisy_operator!(Div, div);

impl Neg for Noisy {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl Real for Noisy {
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
        let seed = SEED.get();
        let first = (seed % 9) as usize * len / 9;
        (first + if seed % 2 == 1 { len - 1 - i } else { i }) % len
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
            let exp = |seed| Noisy::with_seed(seed, || Noisy(v).exp().to_f64());
            let (a, b) = (exp(1), exp(2));
            assert_eq!(a, exp(1));
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
            let lost = (Noisy(a) + Noisy(b)).to_f64() - (f64::from(a) + f64::from(b));
            assert!(lost == 0.75 * ulp || lost == -0.25 * ulp, "{lost:e}");
            up += usize::from(lost > 0.0);
            error += lost / ulp;
        }
        assert!((4_700..5_300).contains(&up), "{up}");
        assert!((error / 20_000.0).abs() < 0.02, "{error}");
        for [a, b] in [[0.0, 0.1], [0.1, -0.1], [1.5, 2.25], [f32::INFINITY, 0.1], [f32::MAX, f32::MAX], [1e-45, 1e-45]]
        {
            assert_eq!((Noisy(a) + Noisy(b)).to_f64(), f64::from(a + b));
            assert_eq!((Noisy(a) - Noisy(-b)).to_f64(), f64::from(a + b));
        }
    }

    #[test]
    fn seeds_are_put_back() {
        let outer = Noisy::with_seed(3, || {
            let panics = std::panic::catch_unwind(|| Noisy::with_seed(4, || panic!("in between")));
            assert!(panics.is_err());
            SEED.get()
        });
        assert_eq!((outer, SEED.get()), (3, 0));
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
        let sums = [1, 2, 3, 8].map(|seed| Noisy::with_seed(seed, || sum::<Noisy>(&terms)));
        assert!(sums.iter().any(|sum| (sum - truth).abs() > 1e-9), "{sums:?}");
        assert!(sums.iter().any(|sum| *sum != sums[0]), "{sums:?}");
    }
}
