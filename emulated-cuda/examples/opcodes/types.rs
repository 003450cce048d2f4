//! Types of operands, as far as operands are drawn and results compared by them.

/// A type as PTX names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Type {
    pub name: &'static str,
    pub bits: u32,
    pub kind: Kind,
}

/// What the bits are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Predicate,
    Integer,
    Float(Format),
    /// Two numbers, the first in the low bits.
    Pair(Format),
}

/// A floating-point format: a sign, so many bits of exponent, so many of fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Format {
    pub exponent: u32,
    pub fraction: u32,
}

const F16: Format = Format { exponent: 5, fraction: 10 };
const BF16: Format = Format { exponent: 8, fraction: 7 };
const F32: Format = Format { exponent: 8, fraction: 23 };
const F64: Format = Format { exponent: 11, fraction: 52 };

const TYPES: &[Type] = &[
    Type { name: "pred", bits: 1, kind: Kind::Predicate },
    Type { name: "b8", bits: 8, kind: Kind::Integer },
    Type { name: "u8", bits: 8, kind: Kind::Integer },
    Type { name: "s8", bits: 8, kind: Kind::Integer },
    Type { name: "b16", bits: 16, kind: Kind::Integer },
    Type { name: "u16", bits: 16, kind: Kind::Integer },
    Type { name: "s16", bits: 16, kind: Kind::Integer },
    Type { name: "b32", bits: 32, kind: Kind::Integer },
    Type { name: "u32", bits: 32, kind: Kind::Integer },
    Type { name: "s32", bits: 32, kind: Kind::Integer },
    Type { name: "b64", bits: 64, kind: Kind::Integer },
    Type { name: "u64", bits: 64, kind: Kind::Integer },
    Type { name: "s64", bits: 64, kind: Kind::Integer },
    Type { name: "f16", bits: 16, kind: Kind::Float(F16) },
    Type { name: "bf16", bits: 16, kind: Kind::Float(BF16) },
    Type { name: "tf32", bits: 32, kind: Kind::Float(F32) },
    Type { name: "f32", bits: 32, kind: Kind::Float(F32) },
    Type { name: "f64", bits: 64, kind: Kind::Float(F64) },
    Type { name: "f16x2", bits: 32, kind: Kind::Pair(F16) },
    Type { name: "bf16x2", bits: 32, kind: Kind::Pair(BF16) },
];

impl Type {
    /// From its name without the dot.
    pub fn find(name: &str) -> Option<Self> {
        TYPES.iter().find(|ty| ty.name == name).copied()
    }

    /// From its name, which a table of this program has.
    pub fn named(name: &str) -> Self {
        Self::find(name).unwrap_or_else(|| panic!("{name} is no type"))
    }

    /// The register that holds it. Conversions alone read integers of 8 bits, from wider registers.
    pub fn register(self) -> &'static str {
        match (self.name, self.bits) {
            (_, 1) => ".pred",
            ("u8" | "s8", _) | (_, 32) => ".b32",
            (_, 8) => ".b8",
            (_, 16) => ".b16",
            _ => ".b64",
        }
    }

    /// The bits that its register takes from memory.
    pub fn loaded(self) -> u32 {
        if self.register() == ".b32" { 32 } else { self.bits.max(8) }
    }

    /// The bits of one number of it.
    pub fn number_bits(self) -> u32 {
        if matches!(self.kind, Kind::Pair(_)) { self.bits / 2 } else { self.bits }
    }

    /// The numbers in `bits`.
    pub fn numbers(self, bits: u64) -> impl Iterator<Item = u64> {
        let width = self.number_bits();
        (0..self.bits / width).map(move |index| bits >> (index * width) & ones(width))
    }

    /// Of floating-point numbers.
    pub fn format(self) -> Option<Format> {
        match self.kind {
            Kind::Float(format) | Kind::Pair(format) => Some(format),
            Kind::Integer | Kind::Predicate => None,
        }
    }
}

impl Format {
    pub fn sign(self) -> u64 {
        1 << (self.exponent + self.fraction)
    }

    pub fn infinity(self) -> u64 {
        ones(self.exponent) << self.fraction
    }

    /// 1.0.
    pub fn one(self) -> u64 {
        ones(self.exponent - 1) << self.fraction
    }

    pub fn is_nan(self, bits: u64) -> bool {
        bits & (self.sign() - 1) > self.infinity()
    }

    /// Units in the last place between two numbers: the numbers from one to the other, with -0 and +0 one apart.
    pub fn distance(self, a: u64, b: u64) -> u64 {
        let key = |bits: u64| {
            let magnitude = (bits & (self.sign() - 1)) as i128;
            if bits & self.sign() == 0 { magnitude } else { -1 - magnitude }
        };
        key(a).abs_diff(key(b)).try_into().unwrap_or(u64::MAX)
    }
}

/// So many ones.
pub fn ones(bits: u32) -> u64 {
    if bits == 0 { 0 } else { u64::MAX >> (64 - bits) }
}
