//! Types of operands. Registers are untyped bits: the type comes from the opcode alone.

/// A scalar type as instructions name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Type {
    Pred,
    B8,
    U8,
    S8,
    B16,
    U16,
    S16,
    F16,
    BF16,
    B32,
    U32,
    S32,
    F32,
    F16x2,
    BF16x2,
    B64,
    U64,
    S64,
    F64,
    B128,
}

/// Where a value of a type lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    /// A mask, one bit a lane.
    Predicate,
    /// A row of 32-bit words; narrower values are zero-extended.
    Word,
    /// A row of 64-bit words.
    Long,
}

impl Type {
    const ALL: [Self; 20] = [
        Self::Pred,
        Self::B8,
        Self::U8,
        Self::S8,
        Self::B16,
        Self::U16,
        Self::S16,
        Self::F16,
        Self::BF16,
        Self::B32,
        Self::U32,
        Self::S32,
        Self::F32,
        Self::F16x2,
        Self::BF16x2,
        Self::B64,
        Self::U64,
        Self::S64,
        Self::F64,
        Self::B128,
    ];

    /// From its name without the dot.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ty| ty.name() == name)
    }

    /// Its name without the dot.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pred => "pred",
            Self::B8 => "b8",
            Self::U8 => "u8",
            Self::S8 => "s8",
            Self::B16 => "b16",
            Self::U16 => "u16",
            Self::S16 => "s16",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::B32 => "b32",
            Self::U32 => "u32",
            Self::S32 => "s32",
            Self::F32 => "f32",
            Self::F16x2 => "f16x2",
            Self::BF16x2 => "bf16x2",
            Self::B64 => "b64",
            Self::U64 => "u64",
            Self::S64 => "s64",
            Self::F64 => "f64",
            Self::B128 => "b128",
        }
    }

    /// Bytes in memory; 0 for predicates, which have none.
    pub fn bytes(self) -> u32 {
        match self {
            Self::Pred => 0,
            Self::B8 | Self::U8 | Self::S8 => 1,
            Self::B16 | Self::U16 | Self::S16 | Self::F16 | Self::BF16 => 2,
            Self::B32 | Self::U32 | Self::S32 | Self::F32 | Self::F16x2 | Self::BF16x2 => 4,
            Self::B64 | Self::U64 | Self::S64 | Self::F64 => 8,
            Self::B128 => 16,
        }
    }

    /// The row kind; `None` for 128 bits, which registers hold in pairs.
    pub fn width(self) -> Option<Width> {
        match self.bytes() {
            0 => Some(Width::Predicate),
            1..=4 => Some(Width::Word),
            8 => Some(Width::Long),
            _ => None,
        }
    }

    /// Sign extension when widened.
    pub fn is_signed(self) -> bool {
        matches!(self, Self::S8 | Self::S16 | Self::S32 | Self::S64)
    }
}
