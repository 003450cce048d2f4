//! Exact arithmetic by long fixed-point numbers, and rounding by a search among all numbers of a format: slow, and with
//! nothing in common with the code under test.

use crate::arith::Mode;
use std::cmp::Ordering;

/// A binary format: bits of the exponent and of the fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout(pub u32, pub u32);

pub(super) const F16: Layout = Layout(5, 10);
pub(super) const BF16: Layout = Layout(8, 7);
pub(super) const F32: Layout = Layout(8, 23);
pub(super) const F64: Layout = Layout(11, 52);
pub(super) const TF32: Layout = Layout(8, 10);

/// `significand * 2^exponent`.
type Dyadic = (u128, i32);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Nan,
    Infinite(bool),
    Finite(bool, Dyadic),
}
use Number::{Finite, Infinite, Nan};

impl Layout {
    pub fn sign(self) -> u64 {
        1 << (self.0 + self.1)
    }

    pub fn infinity(self) -> u64 {
        ((1 << self.0) - 1) << self.1
    }

    /// All bits but the sign.
    pub fn nan(self) -> u64 {
        self.sign() - 1
    }

    pub fn one(self) -> u64 {
        ((1 << (self.0 - 1)) - 1) << self.1
    }

    pub fn is_nan(self, bits: u64) -> bool {
        bits & self.nan() > self.infinity()
    }

    pub fn flush(self, bits: u64) -> u64 {
        if bits & self.nan() < 1 << self.1 { bits & self.sign() } else { bits }
    }

    /// The value of magnitude bits, those of infinity counting as the next number after the greatest.
    fn value(self, magnitude: u64) -> Dyadic {
        let least = 2 - (1 << (self.0 - 1)) - self.1 as i32;
        let (field, fraction) = (magnitude >> self.1, u128::from(magnitude & ((1 << self.1) - 1)));
        if field == 0 { (fraction, least) } else { (fraction + (1 << self.1), least + field as i32 - 1) }
    }

    pub fn decode(self, bits: u64) -> Number {
        let negative = bits & self.sign() != 0;
        let magnitude = bits & self.nan();
        match magnitude.cmp(&self.infinity()) {
            Ordering::Greater => Nan,
            Ordering::Equal => Infinite(negative),
            Ordering::Less => Finite(negative, self.value(magnitude)),
        }
    }

    /// `.sat` of a result.
    pub fn saturate(self, bits: u64) -> u64 {
        if self.is_nan(bits) || bits & self.sign() != 0 { 0 } else { bits.min(self.one()) }
    }

    /// `.relu` of a result.
    pub fn relu(self, bits: u64) -> u64 {
        if self.is_nan(bits) {
            self.nan()
        } else if bits & self.sign() != 0 {
            0
        } else {
            bits
        }
    }

    /// The number as an f64, where it has the NaN of the same bits.
    pub fn to_f64(self, bits: u64) -> f64 {
        match self {
            F16 => half::f16::from_bits(bits as u16).to_f64_const(),
            BF16 => half::bf16::from_bits(bits as u16).to_f64_const(),
            F32 => f32::from_bits(bits as u32).into(),
            _ => f64::from_bits(bits),
        }
    }

    /// Numbers around every boundary of the format, with both signs, infinities and NaNs among them.
    pub fn edges(self) -> Vec<u64> {
        let normal = 1_u64 << self.1;
        let one = self.one();
        let third = one - normal - normal + normal / 3;
        let mut edges = vec![0, 1, 2, normal / 2 + 1, normal - 1, normal, normal + 1, normal * 2 + normal / 2];
        edges.extend([third, one - 1, one, one + 1, one + normal / 2, one + normal, one + normal + normal / 2]);
        edges.extend([one + normal / 2 + 1, self.infinity() - normal, self.infinity() - 1, self.infinity()]);
        edges.extend([one + normal * u64::from(self.1), one - normal * u64::from(self.1 + 1)]);
        edges.extend(edges.clone().iter().map(|bits| bits | self.sign()));
        edges.extend([self.nan(), self.infinity() + 1, self.sign() | self.infinity() | (normal / 2)]);
        edges
    }
}

/// A long fixed-point number, not negative; its last place is 2^-2200.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fixed([u64; 72]);

impl Fixed {
    fn new((significand, exponent): Dyadic) -> Self {
        let mut limbs = [0; 72];
        let place = (exponent + 2200) as usize;
        for half in 0..2 {
            let part = u128::from((significand >> (64 * half)) as u64) << (place % 64);
            limbs[place / 64 + half] |= part as u64;
            limbs[place / 64 + half + 1] |= (part >> 64) as u64;
        }
        Self(limbs)
    }

    fn plus(mut self, other: &Self) -> Self {
        let mut carry = 0;
        for (limb, other) in self.0.iter_mut().zip(other.0) {
            let sum = u128::from(*limb) + u128::from(other) + carry;
            (*limb, carry) = (sum as u64, sum >> 64);
        }
        self
    }

    /// `self` must not be less.
    fn minus(mut self, other: &Self) -> Self {
        let mut borrow = false;
        for (limb, other) in self.0.iter_mut().zip(other.0) {
            let (first, a) = limb.overflowing_sub(other);
            let (second, b) = first.overflowing_sub(borrow.into());
            (*limb, borrow) = (second, a || b);
        }
        self
    }

    fn compare(&self, other: &Self) -> Ordering {
        self.0.iter().rev().cmp(other.0.iter().rev())
    }
}

/// The result of an operation before it is rounded.
pub(super) enum Exact {
    Nan,
    Infinite(bool),
    /// With the signs of the two that were added.
    Zero(bool, bool),
    /// A magnitude, as what tells how it compares with others.
    Magnitude(bool, Box<dyn Fn(Dyadic) -> Ordering>),
}

/// `a * b + c`. Products are `a * b` and a zero of their sign, sums are `a * 1 + c`.
pub(super) fn fused(a: Number, b: Number, c: Number) -> Exact {
    let product = match (a, b) {
        (Nan, _) | (_, Nan) => Nan,
        (Infinite(a), Infinite(b)) => Infinite(a != b),
        (Infinite(_), Finite(_, (0, _))) | (Finite(_, (0, _)), Infinite(_)) => Nan,
        (Infinite(a), Finite(b, _)) | (Finite(a, _), Infinite(b)) => Infinite(a != b),
        (Finite(a, (x, i)), Finite(b, (y, j))) => Finite(a != b, (x * y, i + j)),
    };
    match (product, c) {
        (Nan, _) | (_, Nan) => Exact::Nan,
        (Infinite(a), Infinite(b)) if a != b => Exact::Nan,
        (Infinite(a), _) | (_, Infinite(a)) => Exact::Infinite(a),
        (Finite(a, x), Finite(b, y)) => {
            let (x, y) = (Fixed::new(x), Fixed::new(y));
            let (negative, sum) = match (a == b, x.compare(&y)) {
                (true, _) => (a, x.plus(&y)),
                (false, Ordering::Less) => (b, y.minus(&x)),
                (false, _) => (a, x.minus(&y)),
            };
            if sum == Fixed::new((0, 0)) {
                return Exact::Zero(a, b);
            }
            Exact::Magnitude(negative, Box::new(move |other| sum.compare(&Fixed::new(other))))
        }
    }
}

pub(super) fn one() -> Number {
    Finite(false, (1, 0))
}

/// A zero with the sign of `a * b`, so that it changes nothing.
pub(super) fn zero_of(a: Number, b: Number) -> Number {
    let negative = |number| matches!(number, Infinite(true) | Finite(true, _));
    Finite(negative(a) != negative(b), (0, 0))
}

pub(super) fn convert(a: Number) -> Exact {
    fused(a, one(), zero_of(a, one()))
}

pub(super) fn negated(a: Number) -> Number {
    match a {
        Nan => Nan,
        Infinite(negative) => Infinite(!negative),
        Finite(negative, value) => Finite(!negative, value),
    }
}

pub(super) fn quotient(a: Number, b: Number) -> Exact {
    match (a, b) {
        (Nan, _) | (_, Nan) | (Infinite(_), Infinite(_)) => Exact::Nan,
        (Finite(_, (0, _)), Finite(_, (0, _))) => Exact::Nan,
        (Infinite(a), Finite(b, _)) => Exact::Infinite(a != b),
        (Finite(a, _), Finite(b, (0, _))) => Exact::Infinite(a != b),
        (Finite(a, (0, _)), Finite(b, _)) | (Finite(a, _), Infinite(b)) => Exact::Zero(a != b, a != b),
        (Finite(a, x), Finite(b, (y, j))) => {
            let x = Fixed::new(x);
            Exact::Magnitude(a != b, Box::new(move |(m, i)| x.compare(&Fixed::new((m * y, i + j)))))
        }
    }
}

pub(super) fn root(a: Number) -> Exact {
    match a {
        Nan | Infinite(true) => Exact::Nan,
        Infinite(false) => Exact::Infinite(false),
        Finite(negative, (0, _)) => Exact::Zero(negative, negative),
        Finite(true, _) => Exact::Nan,
        Finite(false, x) => {
            let x = Fixed::new(x);
            Exact::Magnitude(false, Box::new(move |(m, i)| x.compare(&Fixed::new((m * m, 2 * i)))))
        }
    }
}

/// All roundings of a result: `[Nearest, Zero, Down, Up, Away]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rounded([u64; 5]);

impl Rounded {
    pub fn get(&self, mode: Mode) -> u64 {
        self.0[match mode {
            Mode::Nearest => 0,
            Mode::Zero => 1,
            Mode::Down => 2,
            Mode::Up => 3,
            Mode::Away => 4,
        }]
    }
}

impl Exact {
    pub fn round(&self, layout: Layout) -> Rounded {
        let sign = |negative: bool| if negative { layout.sign() } else { 0 };
        let (negative, compare) = match self {
            Self::Nan => return Rounded([layout.nan(); 5]),
            Self::Infinite(negative) => return Rounded([sign(*negative) | layout.infinity(); 5]),
            Self::Zero(a, b) => {
                let usual = sign(*a && *b);
                return Rounded([usual, usual, sign(*a || *b), usual, usual]);
            }
            Self::Magnitude(negative, compare) => (*negative, compare),
        };
        // The greatest number that is not above the exact one.
        let (mut below, mut above) = (0, layout.infinity() + 1);
        while above - below > 1 {
            let middle = below + (above - below) / 2;
            if compare(layout.value(middle)) == Ordering::Less { above = middle } else { below = middle }
        }
        if below == layout.infinity() {
            let (most, infinity) = (layout.infinity() - 1, layout.infinity());
            let directed = if negative { [infinity, most] } else { [most, infinity] };
            return Rounded([infinity, most, directed[0], directed[1], infinity].map(|bits| bits | sign(negative)));
        }
        let (significand, exponent) = layout.value(below);
        let exact = compare((significand, exponent)) == Ordering::Equal;
        let next = if exact { below } else { below + 1 };
        let (nearest, away) = match compare((2 * significand + 1, exponent - 1)) {
            Ordering::Less => (below, below),
            Ordering::Equal => (below + (below & 1), next),
            Ordering::Greater => (next, next),
        };
        let directed = if negative { [next, below] } else { [below, next] };
        Rounded([nearest, below, directed[0], directed[1], away].map(|bits| bits | sign(negative)))
    }
}

/// Pseudo-random bits.
pub(super) struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ bits >> 31
    }

    /// Operands of one operation: any bits, or exponents so near to each other that sums and products interact, or few
    /// significant bits, so that ties come up.
    pub fn operands<const N: usize>(&mut self, layout: Layout) -> [u64; N] {
        let kind = self.bits() % 4;
        let fraction = (1_u64 << layout.1) - 1;
        std::array::from_fn(|_| {
            let bits = self.bits() & (layout.sign() | layout.nan());
            let near = (layout.one() >> layout.1) + self.bits() % 8 - 4;
            let low = if kind == 3 { fraction & !(fraction >> 4) } else { fraction };
            match kind {
                0 => bits,
                1 => bits & (layout.sign() | fraction) | ((self.bits() % 4) << layout.1),
                _ => bits & (layout.sign() | low) | near << layout.1,
            }
        })
    }
}
