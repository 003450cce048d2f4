//! Decays over several steps. The logarithms are summed in f64, and from the place where the decay begins, so that a sum which
//! is long, or which holds an infinity, spoils no other.
//!
//! The decay of a pair, or a weight made with one, that is subnormal counts as 0: an instruction that meets one takes as long as a
//! hundred others, and pairs that far apart meet many. That of a whole state does not.

use super::LANES;
use crate::cpu::math::exp::{Any, exp};
use crate::cpu::math::lanes::fma;
use pulp::Simd;

/// Logarithms of decays, in two parts; [`powers`](Self::powers) turns them into the decays.
pub struct Decays<'m> {
    high: &'m mut [f32],
    low: &'m mut [f32],
}

impl<'m> Decays<'m> {
    /// f32 of so many decays.
    pub fn floats(count: usize) -> usize {
        2 * count.next_multiple_of(LANES)
    }

    /// In memory of at least [`floats`](Self::floats).
    pub fn new(count: usize, memory: &'m mut [f32]) -> Self {
        let padded = count.next_multiple_of(LANES);
        let (high, rest) = memory.split_at_mut(padded);
        let low = &mut rest[..padded];
        high.fill(0.0);
        low.fill(0.0);
        Self { high, low }
    }

    #[inline(always)]
    pub fn set(&mut self, i: usize, sum: f64) {
        let high = sum as f32;
        self.high[i] = high;
        self.low[i] = if high.is_finite() { (sum - f64::from(high)) as f32 } else { 0.0 };
    }

    /// e to the power of each.
    #[inline(always)]
    pub fn powers<S: Simd>(self, simd: S) -> &'m mut [f32] {
        let (vectors, _) = S::as_mut_simd_f32s(self.high);
        let (low, _) = S::as_simd_f32s(self.low);
        for (high, &low) in vectors.iter_mut().zip(low) {
            let power = exp(simd, Any, *high);
            let (zero, whole) = (simd.splat_f32s(0.0), simd.equal_f32s(low, simd.splat_f32s(0.0)));
            // No product of an infinite power with nothing.
            *high = fma(simd, simd.select_f32s(whole, zero, power), low, power);
        }
        self.high
    }
}

/// 0 instead of a subnormal number.
#[inline(always)]
pub fn normal(value: f32) -> f32 {
    if value.abs() < f32::MIN_POSITIVE { 0.0 } else { value }
}

/// a b, and 0 where a is: what is nothing stays that under any decay that is a number.
#[inline(always)]
pub fn times(a: f32, b: f32) -> f32 {
    if a == 0.0 && !b.is_nan() { 0.0 } else { a * b }
}

/// Whether all are 0.
#[inline(always)]
pub fn nothing(decays: &[f32]) -> bool {
    // Bits, so that the loop is one of vectors.
    decays.iter().fold(0, |bits, decay| bits | decay.to_bits()) == 0
}

/// Whether all are finite.
#[inline(always)]
pub fn all_finite(values: &[f32]) -> bool {
    // An infinity times 0 is NaN; in as many sums as a vector has lanes.
    let mut sums = [0.0f32; LANES];
    for values in values.chunks(LANES) {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += 0.0 * value;
        }
    }
    sums.iter().all(|&sum| sum == 0.0)
}

/// e^sum.
#[inline(always)]
pub fn power<S: Simd>(simd: S, sum: f64) -> f32 {
    let mut memory = [0.0; 2 * LANES];
    let mut one = Decays::new(1, &mut memory);
    one.set(0, sum);
    one.powers(simd)[0]
}

/// The decays from each step to the last of them, times `scale`, of which `logs` are the logarithms; and that of all.
#[inline(always)]
pub fn behind<S: Simd>(simd: S, logs: &[f32], scale: f32, memory: &mut [f32]) -> f32 {
    let mut decays = Decays::new(logs.len(), memory);
    let mut sum = 0.0;
    for (m, &log) in logs.iter().enumerate().rev() {
        decays.set(m, sum);
        sum += f64::from(log);
    }
    for decay in decays.powers(simd) {
        *decay = normal(*decay * scale);
    }
    power(simd, sum)
}
