//! e^(delta a) as the factor of a state, which is `e^(delta a) h + input` after a step.
//!
//! delta log2(e) is made once per step and serves all states. The power is a polynomial's value times a power of two, and a
//! state is multiplied by one and then the other: e^(delta a) may be subnormal, and then slow, where the state after the
//! step is not. The product with the polynomial's value is rounded, as a plain loop's product is; that of a subnormal
//! state has few bits, which shows if the state then grows.

use super::exp::{ROUNDER, power};
use super::lanes::{Extremes, abs, at_least, at_most, bits_up, fma, polynomial};
use crate::ops::StepOptions;
use pulp::Simd;
use std::f32::consts::LOG2_E;

/// log2(e) less [`LOG2_E`].
const LOG2_E_LOW: f32 = 1.925_963e-8;

/// delta log2(e), and what its rounding loses.
#[derive(Debug, Clone, Copy)]
pub struct Rate<S: Simd> {
    high: S::f32s,
    low: S::f32s,
}

/// The factors of e^(delta a): half of a polynomial's value, so that no finite state's product with it is infinite; and
/// powers of two.
#[derive(Debug, Clone, Copy)]
pub struct Power<S: Simd> {
    value: S::f32s,
    scale: S::f32s,
    /// What `scale` cannot hold.
    rest: S::f32s,
}

/// How e^(delta a) is computed. Which of them depends on what exponents there are in a tile; the result has the same bits in
/// all that are allowed.
pub trait Decay: Copy + Send + Sync + 'static {
    fn rate<S: Simd>(self, simd: S, delta: S::f32s) -> Rate<S>;

    /// What the lower part of a rate is multiplied with, for [`power`](Self::power): a, or 0 where no state grows.
    fn growing<S: Simd>(self, simd: S, a: S::f32s) -> S::f32s;

    fn power<S: Simd>(self, simd: S, rate: Rate<S>, a: S::f32s, growing: S::f32s) -> Power<S>;

    /// e^(delta a) h + input.
    fn advance<S: Simd>(self, simd: S, power: Power<S>, h: S::f32s, input: S::f32s) -> S::f32s;

    /// e^(delta a).
    fn value<S: Simd>(self, simd: S, power: Power<S>) -> S::f32s;
}

/// |delta a| is at most [`SMALL`], and no state can grow: what roundings of log2(e) and of delta log2(e) do stays, a relative
/// error of at most 1.25 |delta a| / 2^24, and is forgotten as fast as the state.
#[derive(Debug, Clone, Copy)]
pub struct Small;

/// |delta a| is at most [`SMALL`]. States may grow, and would by the same error with every step: e^(delta a) is off by no
/// more than 1.1 ulp (drawn pairs, steps above 1e-30).
#[derive(Debug, Clone, Copy)]
pub struct SmallGrowing;

/// Any numbers. `steady`: steps cannot be negative, so that a state with a negative a is computed as [`Small`] does it, and
/// one with a positive a as [`SmallGrowing`]; else all as [`SmallGrowing`].
#[derive(Debug, Clone, Copy)]
pub struct Any {
    pub steady: bool,
}

/// Up to this 2^n is a normal number.
pub const SMALL: f32 = 86.0;

/// The factor of two in the coefficients.
const HALF: [f32; 7] = power(0.5);
/// What 1 is shifted to: [`bits_up`] makes 2 of it.
const BIAS: f32 = ROUNDER + 128.0;
/// What [`bits_up`] makes 1 of.
const ONE: f32 = ROUNDER + 127.0;

/// What is known of the steps of a tile before any power is computed.
#[derive(Debug, Clone, Copy)]
pub struct Exponents {
    steady: bool,
    most: f32,
}

/// The decay of some states.
#[derive(Debug, Clone, Copy)]
pub enum Choice {
    Small(Small),
    SmallGrowing(SmallGrowing),
    Any(Any),
}

impl Exponents {
    /// From the options of the steps, and the least and greatest of them (of none: the other way round). NaN does not count:
    /// it stays NaN anyway.
    #[inline(always)]
    pub(crate) fn new(options: StepOptions, [least, greatest]: [f32; 2]) -> Self {
        Self { steady: options.is_never_negative(), most: greatest.max(-least) }
    }

    /// For states with an a between these.
    #[inline(always)]
    pub fn of(self, [least, greatest]: [f32; 2]) -> Choice {
        /// delta log2(e) must be finite.
        const MOST: f32 = f32::MAX / 2.0;
        let Self { steady, most } = self;
        // Not if a product is NaN.
        match most * greatest.max(-least) <= SMALL && most <= MOST {
            true if steady && greatest <= 0.0 => Choice::Small(Small),
            true if !steady => Choice::SmallGrowing(SmallGrowing),
            _ => Choice::Any(Any { steady }),
        }
    }

    /// For the states of these vectors.
    #[inline(always)]
    pub fn of_vectors<S: Simd>(self, simd: S, a: &[S::f32s]) -> Choice {
        let mut extremes = Extremes::none(simd);
        a.iter().for_each(|&a| extremes.take(simd, a));
        self.of(extremes.of_lanes(simd))
    }
}

impl StepOptions {
    /// Whatever the raw steps are. States with a negative A then cannot grow.
    fn is_never_negative(self) -> bool {
        match self.limit {
            Some((min, max)) => max >= 0.0 && (self.softplus || min >= 0.0),
            None => self.softplus,
        }
    }
}

/// n, moved by [`BIAS`], and r for an exponent n + r of 2 that is small.
#[inline(always)]
fn rounded<S: Simd>(simd: S, rate: Rate<S>, a: S::f32s) -> [S::f32s; 2] {
    let bias = simd.splat_f32s(BIAS);
    let shifted = fma(simd, rate.high, a, bias);
    [shifted, fma(simd, rate.high, a, simd.sub_f32s(bias, shifted))]
}

#[inline(always)]
fn high<S: Simd>(simd: S, delta: S::f32s) -> S::f32s {
    simd.mul_f32s(delta, simd.splat_f32s(LOG2_E))
}

#[inline(always)]
fn low<S: Simd>(simd: S, delta: S::f32s, high: S::f32s) -> S::f32s {
    let negated = simd.xor_f32s(high, simd.splat_f32s(-0.0));
    let [log2_e, log2_e_low] = [LOG2_E, LOG2_E_LOW].map(|c| simd.splat_f32s(c));
    fma(simd, delta, log2_e_low, fma(simd, delta, log2_e, negated))
}

/// 2^r 2^n for small n.
#[inline(always)]
fn small<S: Simd>(simd: S, shifted: S::f32s, r: S::f32s) -> Power<S> {
    let scale = simd.transmute_f32s_u32s(bits_up(simd, shifted, 23));
    Power { value: polynomial(simd, r, HALF), scale, rest: scale }
}

impl Decay for Small {
    #[inline(always)]
    fn rate<S: Simd>(self, simd: S, delta: S::f32s) -> Rate<S> {
        let high = high(simd, delta);
        Rate { high, low: high }
    }

    #[inline(always)]
    fn growing<S: Simd>(self, _: S, a: S::f32s) -> S::f32s {
        a
    }

    #[inline(always)]
    fn power<S: Simd>(self, simd: S, rate: Rate<S>, a: S::f32s, _: S::f32s) -> Power<S> {
        let [shifted, r] = rounded(simd, rate, a);
        small(simd, shifted, r)
    }

    #[inline(always)]
    fn advance<S: Simd>(self, simd: S, power: Power<S>, h: S::f32s, input: S::f32s) -> S::f32s {
        fma(simd, simd.mul_f32s(power.value, h), power.scale, input)
    }

    #[inline(always)]
    fn value<S: Simd>(self, simd: S, power: Power<S>) -> S::f32s {
        simd.mul_f32s(power.value, power.scale)
    }
}

impl Decay for SmallGrowing {
    #[inline(always)]
    fn rate<S: Simd>(self, simd: S, delta: S::f32s) -> Rate<S> {
        let high = high(simd, delta);
        Rate { high, low: low(simd, delta, high) }
    }

    #[inline(always)]
    fn growing<S: Simd>(self, _: S, a: S::f32s) -> S::f32s {
        a
    }

    #[inline(always)]
    fn power<S: Simd>(self, simd: S, rate: Rate<S>, a: S::f32s, _: S::f32s) -> Power<S> {
        let [shifted, r] = rounded(simd, rate, a);
        small(simd, shifted, fma(simd, rate.low, a, r))
    }

    #[inline(always)]
    fn advance<S: Simd>(self, simd: S, power: Power<S>, h: S::f32s, input: S::f32s) -> S::f32s {
        Small.advance(simd, power, h, input)
    }

    #[inline(always)]
    fn value<S: Simd>(self, simd: S, power: Power<S>) -> S::f32s {
        Small.value(simd, power)
    }
}

impl Any {
    /// Whether what is cheaper, [`Small`] of steady steps and [`SmallGrowing`] of others, is allowed in all lanes.
    #[inline(always)]
    pub fn is_small<S: Simd>(self, simd: S, rate: Rate<S>, a: S::f32s) -> bool {
        const MOST: f32 = SMALL * LOG2_E;
        let product = simd.mul_f32s(rate.high, a);
        let most = simd.splat_f32s(if self.steady { 0.0 } else { MOST });
        let [low, high] = [
            simd.less_than_or_equal_f32s(simd.splat_f32s(-MOST), product),
            simd.less_than_or_equal_f32s(product, most),
        ];
        let finite = simd.less_than_f32s(abs(simd, rate.high), simd.splat_f32s(f32::MAX));
        let not_all = simd.not_m32s(simd.and_m32s(simd.and_m32s(low, high), finite));
        simd.first_true_m32s(not_all) == S::F32_LANES
    }
}

impl Decay for Any {
    #[inline(always)]
    fn rate<S: Simd>(self, simd: S, delta: S::f32s) -> Rate<S> {
        // Finite if delta is, so that e^(delta 0) is 1. Of an infinite one nothing is lost.
        let high = at_most(simd, f32::MAX, at_least(simd, f32::MIN, high(simd, delta)));
        let low = low(simd, delta, high);
        let infinite = simd.equal_f32s(abs(simd, delta), simd.splat_f32s(f32::INFINITY));
        Rate {
            high: simd.select_f32s(infinite, delta, high),
            low: simd.select_f32s(infinite, simd.splat_f32s(0.0), low),
        }
    }

    #[inline(always)]
    fn growing<S: Simd>(self, simd: S, a: S::f32s) -> S::f32s {
        let zero = simd.splat_f32s(0.0);
        let infinite = simd.equal_f32s(abs(simd, a), simd.splat_f32s(f32::INFINITY));
        let a = simd.select_f32s(infinite, zero, a);
        match self.steady {
            true => simd.select_f32s(simd.greater_than_f32s(a, zero), a, zero),
            false => a,
        }
    }

    #[inline(always)]
    fn power<S: Simd>(self, simd: S, rate: Rate<S>, a: S::f32s, growing: S::f32s) -> Power<S> {
        let within = |v, [least, most]: [f32; 2]| at_most(simd, most, at_least(simd, least, v));
        let bias = simd.splat_f32s(BIAS);
        // At its ends the second factor is 0 or infinite.
        let shifted = within(fma(simd, rate.high, a, bias), [ONE - 253.0, ONE + 255.0]);
        let n_negated = simd.sub_f32s(bias, shifted);
        let r = fma(simd, rate.low, growing, fma(simd, rate.high, a, n_negated));
        // Where n is bounded r is not; these leave it on its side.
        let value = polynomial(simd, within(r, [-1.0, 1.0]), HALF);
        let first = within(shifted, [ONE - 126.0, ONE + 127.0]);
        let [all, own] = [shifted, first].map(|n| simd.transmute_u32s_f32s(n));
        let rest = simd.add_u32s(simd.sub_u32s(all, own), simd.splat_u32s(127));
        let rest = simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(rest, simd.splat_u32s(23)));
        Power { value, scale: simd.transmute_f32s_u32s(bits_up(simd, first, 23)), rest }
    }

    #[inline(always)]
    fn advance<S: Simd>(self, simd: S, power: Power<S>, h: S::f32s, input: S::f32s) -> S::f32s {
        fma(simd, simd.mul_f32s(simd.mul_f32s(power.value, h), power.rest), power.scale, input)
    }

    #[inline(always)]
    fn value<S: Simd>(self, simd: S, power: Power<S>) -> S::f32s {
        simd.mul_f32s(simd.mul_f32s(power.value, power.rest), power.scale)
    }
}
