//! Exact arithmetic on unpacked binary numbers, for the roundings that no processor instruction gives: f64 with a
//! direction, and 64-bit integers to any format.

use super::Mode;

/// A number that is not packed into a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Soft {
    Nan,
    Infinite {
        negative: bool,
    },
    /// `significand * 2^exponent`. The lowest bit of a significand that is wider than any format by more than 2 bits
    /// may stand for all lower bits that were not zero ("sticky").
    Finite {
        negative: bool,
        exponent: i32,
        significand: u128,
    },
}

/// A binary interchange format.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    pub exponent_bits: u32,
    pub fraction_bits: u32,
}

impl Format {
    pub const F16: Self = Self { exponent_bits: 5, fraction_bits: 10 };
    pub const BF16: Self = Self { exponent_bits: 8, fraction_bits: 7 };
    pub const F32: Self = Self { exponent_bits: 8, fraction_bits: 23 };
    pub const F64: Self = Self { exponent_bits: 11, fraction_bits: 52 };
}

/// Where the leading bit of a significand is put, with a bit for the carry of a sum above it.
const TOP: u32 = 125;

impl Soft {
    pub fn from_f64(value: f64) -> Self {
        let bits = value.to_bits();
        let negative = bits >> 63 != 0;
        let field = (bits >> 52 & 2047) as i32;
        let fraction = u128::from(bits & ((1 << 52) - 1));
        match (field, fraction) {
            (2047, 0) => Self::Infinite { negative },
            (2047, _) => Self::Nan,
            (0, _) => Self::Finite { negative, exponent: -1074, significand: fraction },
            _ => Self::Finite { negative, exponent: field - 1075, significand: fraction | 1 << 52 },
        }
    }

    pub fn from_integer(value: i128) -> Self {
        Self::Finite { negative: value < 0, exponent: 0, significand: value.unsigned_abs() }
    }

    /// The sum; `down` makes the zero of opposite numbers -0.
    pub fn plus(self, other: Self, down: bool) -> Self {
        use Soft::{Finite, Infinite, Nan};
        match (self, other) {
            (Nan, _) | (_, Nan) => Nan,
            (Infinite { negative: a }, Infinite { negative: b }) if a != b => Nan,
            (Infinite { .. }, _) => self,
            (_, Infinite { .. }) => other,
            (
                Finite { negative: a, exponent: a_exponent, significand: a_significand },
                Finite { negative: b, exponent: b_exponent, significand: b_significand },
            ) => {
                if a_significand == 0 && b_significand == 0 {
                    return Finite { negative: if a == b { a } else { down }, exponent: 0, significand: 0 };
                }
                let (mut greater, mut lesser) = ((a, a_exponent, a_significand), (b, b_exponent, b_significand));
                for part in [&mut greater, &mut lesser] {
                    *part = normal(*part);
                }
                if greater.2 == 0 || (lesser.2 != 0 && (lesser.1, lesser.2) > (greater.1, greater.2)) {
                    std::mem::swap(&mut greater, &mut lesser);
                }
                let distance = if lesser.2 == 0 { 0 } else { greater.1.wrapping_sub(lesser.1) as u32 };
                let shifted = shift_sticky(lesser.2, distance);
                let significand = if greater.0 == lesser.0 { greater.2 + shifted } else { greater.2 - shifted };
                let negative = if significand == 0 { down } else { greater.0 };
                Finite { negative, exponent: greater.1, significand }
            }
        }
    }

    /// The product, exact, of unpacked f64 numbers.
    pub fn times(self, other: Self) -> Self {
        use Soft::{Finite, Infinite, Nan};
        let negative = self.is_negative() != other.is_negative();
        match (self, other) {
            (Nan, _) | (_, Nan) => Nan,
            (Infinite { .. }, Finite { significand: 0, .. }) | (Finite { significand: 0, .. }, Infinite { .. }) => Nan,
            (Infinite { .. }, _) | (_, Infinite { .. }) => Infinite { negative },
            (Finite { exponent: a, significand: x, .. }, Finite { exponent: b, significand: y, .. }) => {
                Finite { negative, exponent: a + b, significand: x.wrapping_mul(y) }
            }
        }
    }

    /// The quotient of unpacked f64 numbers.
    pub fn over(self, other: Self) -> Self {
        use Soft::{Finite, Infinite, Nan};
        let negative = self.is_negative() != other.is_negative();
        let zero = Finite { negative, exponent: 0, significand: 0 };
        match (self, other) {
            (Nan, _) | (_, Nan) | (Infinite { .. }, Infinite { .. }) => Nan,
            (Infinite { .. }, _) => Infinite { negative },
            (_, Infinite { .. }) => zero,
            (Finite { significand: 0, .. }, Finite { significand: 0, .. }) => Nan,
            (Finite { significand: 0, .. }, _) => zero,
            (_, Finite { significand: 0, .. }) => Infinite { negative },
            (Finite { exponent: a, significand: x, .. }, Finite { exponent: b, significand: y, .. }) => {
                let (_, a, x) = normal((false, a, x));
                let y_shift = y.leading_zeros() - (127 - 53);
                let (b, y) = (b - y_shift as i32, y << y_shift);
                let significand = (x / y) | u128::from(x % y != 0);
                Finite { negative, exponent: a - b, significand }
            }
        }
    }

    /// The square root.
    pub fn root(self) -> Self {
        use Soft::{Finite, Infinite, Nan};
        match self {
            Nan | Infinite { negative: true } => Nan,
            Infinite { .. } | Finite { significand: 0, .. } => self,
            Finite { negative: true, .. } => Nan,
            Finite { exponent, significand, .. } => {
                let (_, exponent, significand) = normal((false, exponent, significand));
                // An even exponent, by a shift of 1 more if need be; TOP leaves room for it.
                let odd = exponent & 1;
                let square = significand << odd;
                let root = square.isqrt();
                let significand = root << 1 | u128::from(root * root != square);
                Finite { negative: false, exponent: (exponent - odd) / 2 - 1, significand }
            }
        }
    }

    pub fn negated(self) -> Self {
        match self {
            Self::Nan => Self::Nan,
            Self::Infinite { negative } => Self::Infinite { negative: !negative },
            Self::Finite { negative, exponent, significand } => {
                Self::Finite { negative: !negative, exponent, significand }
            }
        }
    }

    /// Of infinities and finite numbers; false for NaN.
    pub fn is_negative(self) -> bool {
        matches!(self, Self::Infinite { negative: true } | Self::Finite { negative: true, .. })
    }

    /// Rounds once and packs; NaN has all bits but the sign set.
    pub fn pack(self, format: Format, mode: Mode) -> u64 {
        let Format { exponent_bits, fraction_bits } = format;
        let sign = u64::from(self.is_negative()) << (exponent_bits + fraction_bits);
        let infinity = ((1_u64 << exponent_bits) - 1) << fraction_bits;
        let Self::Finite { negative, exponent, significand } = self else {
            return if self == Self::Nan { infinity | ((1 << fraction_bits) - 1) } else { sign | infinity };
        };
        if significand == 0 {
            return sign;
        }
        let (_, exponent, significand) = normal((negative, exponent, significand));
        let bias = (1_i32 << (exponent_bits - 1)) - 1;
        // Exponent of the leading bit, and of the last place kept.
        let leading = exponent + TOP as i32;
        let last = leading.max(1 - bias) - fraction_bits as i32;
        let shift = last - exponent;
        let (kept, rest, half) = if shift > TOP as i32 + 1 {
            (0, 1, 2)
        } else {
            (significand >> shift, significand & ((1 << shift) - 1), 1_u128 << (shift - 1))
        };
        let carry = match mode {
            Mode::Nearest => rest > half || (rest == half && kept & 1 == 1),
            Mode::Away => rest >= half,
            Mode::Zero => false,
            Mode::Down => negative && rest != 0,
            Mode::Up => !negative && rest != 0,
        };
        let field = (leading - (1 - bias)).max(0) as u64;
        let finite = (field << fraction_bits) + kept as u64 + u64::from(carry);
        let inward = match mode {
            Mode::Nearest | Mode::Away => false,
            Mode::Zero => true,
            Mode::Down => !negative,
            Mode::Up => negative,
        };
        sign | finite.min(if inward { infinity - 1 } else { infinity })
    }

    pub fn to_f64(self, mode: Mode) -> f64 {
        f64::from_bits(self.pack(Format::F64, mode))
    }
}

/// The same number with its leading bit at [`TOP`]; zeros as they are.
fn normal((negative, exponent, significand): (bool, i32, u128)) -> (bool, i32, u128) {
    if significand == 0 {
        return (negative, exponent, 0);
    }
    let top = 127 - significand.leading_zeros();
    if top > TOP {
        return (negative, exponent + (top - TOP) as i32, shift_sticky(significand, top - TOP));
    }
    (negative, exponent - (TOP - top) as i32, significand << (TOP - top))
}

/// Shifts right; bits that fall out leave a 1 in the lowest place.
fn shift_sticky(significand: u128, distance: u32) -> u128 {
    match distance {
        0 => significand,
        1..=127 => significand >> distance | u128::from(significand << (128 - distance) != 0),
        _ => u128::from(significand != 0),
    }
}
