//! The registers of a warp, one row of 32 lanes each, and the Rust types that rows hold.

use crate::types::{Type, Width};
use half::{bf16, f16};

/// Threads of a warp.
pub(crate) const LANES: usize = 32;

/// A register of at most 32 bits; narrower values are zero-extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(64))]
pub(crate) struct WordRow(pub [u32; LANES]);

/// A register of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(64))]
pub(crate) struct LongRow(pub [u64; LANES]);

/// All registers of one warp: declared ones, then special ones and immediates, which are rows like any other.
#[derive(Clone, Debug)]
pub(crate) struct Registers {
    pub words: Vec<WordRow>,
    pub longs: Vec<LongRow>,
    /// A mask each.
    pub predicates: Vec<u32>,
    /// The carry flag of `add.cc` and the like, a bit a lane.
    pub carry: u32,
    /// Adversarial mode: the state of the noise that approximate operations take; `None` in nominal mode.
    pub noise: Option<u64>,
}

/// The rows of an instruction that only computes. What a form does not use is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Operands {
    pub dst: u32,
    /// `q` of `p|q`.
    pub dst2: u32,
    pub src: [u32; 4],
}

/// Computes one instruction for the lanes of `mask`.
///
/// # Safety
/// The processor has the features of the [`Level`](crate::forms::Level) that the function was chosen for.
pub(crate) type Exec = unsafe fn(&mut Registers, &Operands, mask: u32);

/// A Rust type that a row holds.
pub(crate) trait Value: Copy {
    const TYPE: Type;
    type Row<'r>: Copy;
    /// A result in the making.
    type Out;
    fn row(registers: &Registers, index: u32) -> Self::Row<'_>;
    fn get(row: Self::Row<'_>, lane: usize) -> Self;
    /// From the low bits of a register.
    fn from_register(bits: u64) -> Self;
    fn blank() -> Self::Out;
    fn set(out: &mut Self::Out, lane: usize, value: Self);
    /// Writes the lanes of `mask`.
    fn commit(registers: &mut Registers, index: u32, out: &Self::Out, mask: u32);
}

/// Types of rows in `$rows`, of lanes of `$lane`.
macro_rules! value {
    ($rows:ident of $lane:ident; $($type:ty, $name:ident, |$bits:ident| $from:expr, |$value:ident| $to:expr;)*) => {$(
        impl Value for $type {
            const TYPE: Type = Type::$name;
            type Row<'r> = &'r [$lane; LANES];
            type Out = [$lane; LANES];
            #[inline(always)]
            fn row(registers: &Registers, index: u32) -> Self::Row<'_> {
                &registers.$rows[index as usize].0
            }
            #[inline(always)]
            fn get(row: Self::Row<'_>, lane: usize) -> Self {
                let $bits = row[lane];
                $from
            }
            #[inline(always)]
            fn from_register(bits: u64) -> Self {
                let $bits = bits as $lane;
                $from
            }
            #[inline(always)]
            fn blank() -> Self::Out {
                [0; LANES]
            }
            #[inline(always)]
            fn set(out: &mut Self::Out, lane: usize, $value: Self) {
                out[lane] = $to;
            }
            #[inline(always)]
            fn commit(registers: &mut Registers, index: u32, out: &Self::Out, mask: u32) {
                let row = &mut registers.$rows[index as usize].0;
                if mask == u32::MAX {
                    *row = *out;
                } else {
                    for lane in 0..LANES {
                        let keep = $lane::from(mask >> lane & 1).wrapping_sub(1);
                        row[lane] = (row[lane] & keep) | (out[lane] & !keep);
                    }
                }
            }
        }
    )*};
}
value! {
    words of u32;
    u8, U8, |bits| bits as Self, |value| value.into();
    i8, S8, |bits| bits as Self, |value| (value as u8).into();
    u16, U16, |bits| bits as Self, |value| value.into();
    i16, S16, |bits| bits as Self, |value| (value as u16).into();
    f16, F16, |bits| Self::from_bits(bits as u16), |value| value.to_bits().into();
    bf16, BF16, |bits| Self::from_bits(bits as u16), |value| value.to_bits().into();
    u32, U32, |bits| bits, |value| value;
    i32, S32, |bits| bits as Self, |value| value as u32;
    f32, F32, |bits| Self::from_bits(bits), |value| value.to_bits();
    [f16; 2], F16x2, |bits| [f16::from_bits(bits as u16), f16::from_bits((bits >> 16) as u16)],
        |value| u32::from(value[0].to_bits()) | u32::from(value[1].to_bits()) << 16;
    [bf16; 2], BF16x2, |bits| [bf16::from_bits(bits as u16), bf16::from_bits((bits >> 16) as u16)],
        |value| u32::from(value[0].to_bits()) | u32::from(value[1].to_bits()) << 16;
}

value! {
    longs of u64;
    u64, U64, |bits| bits, |value| value;
    i64, S64, |bits| bits as Self, |value| value as u64;
    f64, F64, |bits| Self::from_bits(bits), |value| value.to_bits();
}

impl Value for bool {
    const TYPE: Type = Type::Pred;
    type Row<'r> = u32;
    type Out = u32;
    #[inline(always)]
    fn row(registers: &Registers, index: u32) -> u32 {
        registers.predicates[index as usize]
    }
    #[inline(always)]
    fn get(row: u32, lane: usize) -> Self {
        row >> lane & 1 != 0
    }
    #[inline(always)]
    fn from_register(bits: u64) -> Self {
        bits & 1 != 0
    }
    #[inline(always)]
    fn blank() -> u32 {
        0
    }
    #[inline(always)]
    fn set(out: &mut u32, lane: usize, value: Self) {
        *out |= u32::from(value) << lane;
    }
    #[inline(always)]
    fn commit(registers: &mut Registers, index: u32, out: &u32, mask: u32) {
        let row = &mut registers.predicates[index as usize];
        *row = (*row & !mask) | (out & mask);
    }
}

impl Registers {
    /// Rows of zeros.
    pub fn new(words: usize, longs: usize, predicates: usize) -> Self {
        Self {
            words: vec![WordRow([0; LANES]); words],
            longs: vec![LongRow([0; LANES]); longs],
            predicates: vec![0; predicates],
            carry: 0,
            noise: None,
        }
    }

    /// The bits of one lane, zero-extended.
    pub fn lane(&self, width: Width, index: u32, lane: usize) -> u64 {
        match width {
            Width::Predicate => u64::from(self.predicates[index as usize] >> lane & 1),
            Width::Word => self.words[index as usize].0[lane].into(),
            Width::Long => self.longs[index as usize].0[lane],
        }
    }

    /// Writes the low bits of one lane.
    pub fn set_lane(&mut self, width: Width, index: u32, lane: usize, bits: u64) {
        match width {
            Width::Predicate => {
                let row = &mut self.predicates[index as usize];
                *row = (*row & !(1 << lane)) | ((bits as u32 & 1) << lane);
            }
            Width::Word => self.words[index as usize].0[lane] = bits as u32,
            Width::Long => self.longs[index as usize].0[lane] = bits,
        }
    }
}
