//! e^(delta a) as the factor of a state, which is `e^(delta a) h + input` after a step.
//!
//! The power is a polynomial's value times a power of two. A state is multiplied by the power of two first, which is exact
//! unless the result is subnormal, and by the value in the fused addition: one rounding, and e^(delta a) itself, which may be
//! subnormal and then slow, never exists.

use super::exp::{LOG2_E, ROUNDER, power};
use super::lanes::{Extremes, abs, at_least, at_most, bits_up, fma, polynomial};
use pulp::Simd;

/// A number times log2(e), in two parts. Magnitudes above 2.3e38 count as less, and below 1e-30 the second part loses bits.
#[derive(Debug, Clone, Copy)]
pub struct Rate<S: Simd> {
    high: S::f32s,
    low: S::f32s,
}

impl<S: Simd> Rate<S> {
    #[inline(always)]
    pub fn new(simd: S, a: S::f32s) -> Self {
        let one = Self::one(simd);
        // A finite number has a finite rate, so that e^(0 a) is 1. Of an infinite one nothing is lost.
        let high = at_most(simd, f32::MAX, at_least(simd, f32::MIN, simd.mul_f32s(a, one.high)));
        let negated = simd.xor_f32s(high, simd.splat_f32s(-0.0));
        let low = fma(simd, a, one.low, fma(simd, a, one.high, negated));
        let infinite = is_infinite(simd, a);
        Self { high: simd.select_f32s(infinite, a, high), low: simd.select_f32s(infinite, simd.splat_f32s(0.0), low) }
    }

    /// Of 1: for a delta that has been multiplied by a, and rounded as a plain loop does it.
    #[inline(always)]
    pub fn one(simd: S) -> Self {
        Self { high: simd.splat_f32s(LOG2_E[0]), low: simd.splat_f32s(LOG2_E[1]) }
    }
}

/// Exponents of a few states.
#[inline(always)]
pub fn exponents<S: Simd, const K: usize>(
    simd: S,
    decay: impl Decay,
    delta: S::f32s,
    rates: &[Rate<S>; K],
) -> [Exponent<S>; K] {
    let mut exponents = [decay.exponent(simd, delta, rates[0]); K];
    for (exponent, &rate) in exponents.iter_mut().zip(rates).skip(1) {
        *exponent = decay.exponent(simd, delta, rate);
    }
    exponents
}

/// Rates of a few states. (A loop: closures need not be inlined, and then compute without the instructions.)
#[inline(always)]
pub fn rates<S: Simd, const K: usize>(simd: S, a: [S::f32s; K]) -> [Rate<S>; K] {
    let mut rates = [Rate::one(simd); K];
    for (rate, a) in rates.iter_mut().zip(a) {
        *rate = Rate::new(simd, a);
    }
    rates
}

#[inline(always)]
fn within<S: Simd>(simd: S, v: S::f32s, [least, most]: [f32; 2]) -> S::f32s {
    at_most(simd, most, at_least(simd, least, v))
}

#[inline(always)]
fn is_infinite<S: Simd>(simd: S, v: S::f32s) -> S::m32s {
    simd.equal_f32s(abs(simd, v), simd.splat_f32s(f32::INFINITY))
}

/// The factors of e^(delta a): twice the polynomial's value, so that a state times the others is finite where the result is;
/// and powers of two.
#[derive(Debug, Clone, Copy)]
pub struct Power<S: Simd> {
    value: S::f32s,
    scale: S::f32s,
    /// What `scale` cannot hold.
    rest: S::f32s,
}

/// delta a log2(e) as n + r, n being in the factors: what of a power can be known a step ahead.
#[derive(Debug, Clone, Copy)]
pub struct Exponent<S: Simd> {
    r: S::f32s,
    scale: S::f32s,
    rest: S::f32s,
}

impl<S: Simd> Exponent<S> {
    #[inline(always)]
    pub fn power(self, simd: S) -> Power<S> {
        Power { value: polynomial(simd, self.r, TWICE), scale: self.scale, rest: self.rest }
    }
}

/// How e^(delta a) is computed. Which of them depends on what exponents there are in a tile; the result has the same bits in
/// both, and is off by no more than 1.1 ulp (drawn pairs).
pub trait Decay: Copy + Send + Sync + 'static {
    /// Of e^(delta a), a being that of the rate.
    fn exponent<S: Simd>(self, simd: S, delta: S::f32s, rate: Rate<S>) -> Exponent<S>;

    /// Of e^(delta a).
    #[inline(always)]
    fn power<S: Simd>(self, simd: S, delta: S::f32s, rate: Rate<S>) -> Power<S> {
        self.exponent(simd, delta, rate).power(simd)
    }

    /// e^(delta a) h + input.
    fn advance<S: Simd>(self, simd: S, power: Power<S>, h: S::f32s, input: S::f32s) -> S::f32s;

    /// e^(delta a).
    fn value<S: Simd>(self, simd: S, power: Power<S>) -> S::f32s;

    /// e^(delta a), to be put by for [`Held`].
    fn held<S: Simd>(self, simd: S, power: Power<S>) -> S::f32s;
}

/// 2^64: a factor below some 2^-95 is put by so many times as large, and negative. A product with a subnormal number takes the
/// processor some fifty times as long as another, and most of them are lost in what they are added to.
const HOLD: f32 = (1u128 << 64) as f32;

/// A number times a factor that [`Decay::held`] has made. `HELD`: some factors may be put by larger than they are.
#[derive(Debug, Clone, Copy)]
pub struct Held<S: Simd, const HELD: bool> {
    number: S::f32s,
    /// 1, or 2^-64 where the number is so many times too large.
    unit: S::f32s,
}

impl<S: Simd, const HELD: bool> Held<S, HELD> {
    /// The number itself.
    #[inline(always)]
    pub fn plain(simd: S, number: S::f32s) -> Self {
        Self { number, unit: simd.splat_f32s(1.0) }
    }

    /// `number` times the factor.
    #[inline(always)]
    pub fn new(simd: S, factor: S::f32s, number: S::f32s) -> Self {
        let one = simd.splat_f32s(1.0);
        if !HELD {
            return Self { number: simd.mul_f32s(number, factor), unit: one };
        }
        let held = simd.less_than_f32s(factor, simd.splat_f32s(0.0));
        let unit = simd.select_f32s(held, simd.splat_f32s(1.0 / HOLD), one);
        Self { number: simd.mul_f32s(number, abs(simd, factor)), unit }
    }

    /// The factor times `h`, plus `input`: rounded once where the factor is a normal number.
    #[inline(always)]
    pub fn advance(simd: S, factor: S::f32s, h: S::f32s, input: S::f32s) -> S::f32s {
        if !HELD {
            return fma(simd, factor, h, input);
        }
        let product = Self::new(simd, factor, h);
        let h = product.unless(simd, product.lost_in(simd, input), h);
        fma(simd, abs(simd, factor), h, input)
    }

    /// Where it is held, and so small beside `sum` that adding it would change nothing; beside a product that is not rounded it
    /// might decide a tie.
    #[inline(always)]
    fn lost_in(self, simd: S, sum: S::f32s) -> S::m32s {
        /// A quarter of the last bit of 1/2.
        const NOTHING: f32 = 1.0 / (1 << 26) as f32;
        // Infinite only beside sums that lose every number which is finite when held; nothing is lost in 0.
        let bound = simd.mul_f32s(abs(simd, sum), simd.splat_f32s(HOLD * NOTHING));
        let held = simd.less_than_f32s(self.unit, simd.splat_f32s(1.0));
        simd.and_m32s(held, simd.less_than_f32s(abs(simd, self.number), bound))
    }

    /// `number` in its true size, or 0 where it is lost.
    #[inline(always)]
    fn unless(self, simd: S, lost: S::m32s, number: S::f32s) -> S::f32s {
        // A subnormal product would be slow even if it is then not chosen.
        simd.mul_f32s(simd.select_f32s(lost, simd.splat_f32s(0.0), number), self.unit)
    }

    /// What it is.
    #[inline(always)]
    pub fn whole(self, simd: S) -> S::f32s {
        if HELD { simd.mul_f32s(self.number, self.unit) } else { self.number }
    }

    /// a b more.
    #[inline(always)]
    pub fn plus(self, simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
        let number = match HELD {
            true => self.unless(simd, self.lost_in(simd, simd.mul_f32s(a, b)), self.number),
            false => self.number,
        };
        fma(simd, a, b, number)
    }

    /// Times `other`, to be multiplied by each factor and added to its sum: 0 where it is lost in both.
    #[inline(always)]
    pub fn times_beside(self, simd: S, other: S::f32s, [one, two]: [[S::f32s; 2]; 2]) -> S::f32s {
        let number = simd.mul_f32s(self.number, other);
        if !HELD {
            return number;
        }
        let lost_in_one = Self { number: simd.mul_f32s(number, one[0]), ..self }.lost_in(simd, one[1]);
        let lost_in_two = Self { number: simd.mul_f32s(number, two[0]), ..self }.lost_in(simd, two[1]);
        // In its true size first: beside large numbers what is held would overflow.
        simd.mul_f32s(self.unless(simd, simd.and_m32s(lost_in_one, lost_in_two), self.number), other)
    }
}

/// |delta a| is at most [`SMALL`].
#[derive(Debug, Clone, Copy)]
pub struct Small;

/// Any numbers.
#[derive(Debug, Clone, Copy)]
pub struct Any;

/// Up to this 2^n is a normal number.
pub const SMALL: f32 = 86.0;

/// Up to this no factor is [held](Decay::held).
pub const UNHELD: f32 = 66.0;

/// Half of the power of two in the least factor that is not held.
const LEAST_UNHELD: f32 = 1.0 / (1u128 << 96) as f32;

/// Half an ulp of a number so large is more than the product of a value and a subnormal number: 2^-96.
const LARGE: f32 = 1.0 / (1u128 << 96) as f32;

/// The factor of two in the coefficients.
const TWICE: [f32; 7] = power(2.0);
/// What 1 is shifted to: [`bits_up`] makes 1/2 of it.
const BIAS: f32 = ROUNDER + 126.0;
/// What [`bits_up`] makes 1 of.
const ONE: f32 = ROUNDER + 127.0;

/// What is known of the steps of a tile before any power is computed.
#[derive(Debug, Clone, Copy)]
pub struct Exponents {
    /// The greatest |delta|.
    most: f32,
}

/// The decay of some states.
#[derive(Debug, Clone, Copy)]
pub enum Choice {
    Small(Small),
    Any(Any),
}

impl Exponents {
    /// From the least and the greatest step (of none: the other way round). NaN does not count: it stays NaN anyway.
    #[inline(always)]
    pub fn new([least, greatest]: [f32; 2]) -> Self {
        Self { most: greatest.max(-least) }
    }

    /// For states with an a between these: small if no |delta a| is beyond `bound`, which is [`SMALL`] at most.
    #[inline(always)]
    pub fn of(self, [least, greatest]: [f32; 2], bound: f32) -> Choice {
        // Not if the product is NaN.
        if self.most * greatest.max(-least) <= bound { Choice::Small(Small) } else { Choice::Any(Any) }
    }

    /// For the states of these vectors.
    #[inline(always)]
    pub fn of_vectors<S: Simd>(self, simd: S, a: &[S::f32s], bound: f32) -> Choice {
        let mut extremes = Extremes::none(simd);
        for &a in a {
            extremes.take(simd, a);
        }
        self.of(extremes.of_lanes(simd), bound)
    }
}

impl Small {
    /// Whether all of these exponents are small enough.
    #[inline(always)]
    pub fn fits<S: Simd>(simd: S, exponents: S::f32s) -> bool {
        let fits = simd.less_than_or_equal_f32s(abs(simd, exponents), simd.splat_f32s(SMALL));
        simd.first_true_m32s(simd.not_m32s(fits)) == S::F32_LANES
    }
}

impl Decay for Small {
    #[inline(always)]
    fn exponent<S: Simd>(self, simd: S, delta: S::f32s, rate: Rate<S>) -> Exponent<S> {
        let bias = simd.splat_f32s(BIAS);
        let shifted = fma(simd, delta, rate.high, bias);
        let n_negated = simd.sub_f32s(bias, shifted);
        let r = fma(simd, delta, rate.low, fma(simd, delta, rate.high, n_negated));
        let scale = simd.transmute_f32s_u32s(bits_up(simd, shifted, 23));
        Exponent { r, scale, rest: scale }
    }

    #[inline(always)]
    fn advance<S: Simd>(self, simd: S, power: Power<S>, h: S::f32s, input: S::f32s) -> S::f32s {
        fma(simd, power.value, simd.mul_f32s(h, power.scale), input)
    }

    #[inline(always)]
    fn value<S: Simd>(self, simd: S, power: Power<S>) -> S::f32s {
        simd.mul_f32s(power.value, power.scale)
    }

    #[inline(always)]
    fn held<S: Simd>(self, simd: S, power: Power<S>) -> S::f32s {
        self.value(simd, power)
    }
}

/// The biased exponent.
#[inline(always)]
fn biased<S: Simd>(simd: S, v: S::f32s) -> S::u32s {
    simd.wrapping_dyn_shr_u32s(simd.transmute_u32s_f32s(abs(simd, v)), simd.splat_u32s(23))
}

impl Decay for Any {
    #[inline(always)]
    fn exponent<S: Simd>(self, simd: S, delta: S::f32s, rate: Rate<S>) -> Exponent<S> {
        let bias = simd.splat_f32s(BIAS);
        // At its ends the second factor is 0 or infinite.
        let shifted = within(simd, fma(simd, delta, rate.high, bias), [ONE - 253.0, ONE + 255.0]);
        let n_negated = simd.sub_f32s(bias, shifted);
        // Infinity times the second part could be the other infinity.
        let finite = simd.select_f32s(is_infinite(simd, delta), simd.splat_f32s(0.0), delta);
        let r = fma(simd, finite, rate.low, fma(simd, delta, rate.high, n_negated));
        // Where n is bounded r is not; these leave it on its side.
        let r = within(simd, r, [-1.0, 1.0]);
        let first = within(simd, shifted, [ONE - 126.0, ONE + 127.0]);
        let beyond = simd.sub_u32s(simd.transmute_u32s_f32s(shifted), simd.transmute_u32s_f32s(first));
        let rest = simd.add_u32s(beyond, simd.splat_u32s(127));
        let rest = simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(rest, simd.splat_u32s(23)));
        Exponent { r, scale: simd.transmute_f32s_u32s(bits_up(simd, first, 23)), rest }
    }

    #[inline(always)]
    fn advance<S: Simd>(self, simd: S, power: Power<S>, h: S::f32s, input: S::f32s) -> S::f32s {
        // A subnormal product is slow, and nothing beside an input of some size. The exponent of h and of the factors say so
        // before there is one: biased ones of h, scale and rest, less the biases of two.
        let factors = simd.add_u32s(biased(simd, power.scale), biased(simd, power.rest));
        let least = simd.splat_u32s(2 * 127 + 1);
        let subnormal = simd.less_than_u32s(simd.add_u32s(biased(simd, h), factors), least);
        let sized = simd.less_than_or_equal_f32s(simd.splat_f32s(LARGE), abs(simd, input));
        let h = simd.select_f32s(simd.and_m32s(subnormal, sized), simd.splat_f32s(0.0), h);
        fma(simd, power.value, simd.mul_f32s(simd.mul_f32s(h, power.rest), power.scale), input)
    }

    #[inline(always)]
    fn value<S: Simd>(self, simd: S, power: Power<S>) -> S::f32s {
        simd.mul_f32s(simd.mul_f32s(power.value, power.rest), power.scale)
    }

    #[inline(always)]
    fn held<S: Simd>(self, simd: S, power: Power<S>) -> S::f32s {
        // Below 2^-188 it is 0: f32 ends at 2^-149.
        let nothing = simd.less_than_or_equal_f32s(power.rest, simd.splat_f32s(1.0 / HOLD));
        let held = simd.less_than_f32s(power.scale, simd.splat_f32s(LEAST_UNHELD));
        let unit = simd.select_f32s(held, simd.splat_f32s(-HOLD), simd.splat_f32s(1.0));
        let rest = simd.select_f32s(nothing, simd.splat_f32s(0.0), simd.mul_f32s(power.rest, unit));
        simd.mul_f32s(simd.mul_f32s(power.value, rest), power.scale)
    }
}
