//! Conversions between integers: `cvt` and `cvt.pack`.

use super::by_type::by_type;
use super::execute::{Operation, form};
use super::modifiers::Modifiers;
use super::{Class, Form, Level};
use crate::registers::{Operands, Registers, Value};
use crate::types::Type;
use std::marker::PhantomData;

/// What [`select`] knows, for the table of the documentation; braces hold alternatives.
pub(crate) const KNOWN: &[&str] = &[
    "cvt{,.sat}.{u8,s8,u16,s16,u32,s32,u64,s64}.{u8,s8,u16,s16,u32,s32,u64,s64}",
    "cvt.pack.sat.{u16,s16}.s32",
    "cvt.pack.sat.{u2,s2,u4,s4,u8,s8}.s32.b32",
];

/// The form of `opcode.modifiers`; `None` if it is not of this family.
///
/// A result narrower than 32 bits is extended to 32, as for a register of 32 bits; [`select_into`] knows the register.
pub(crate) fn select(opcode: &str, modifiers: &[&str], level: Level) -> Option<Form> {
    if opcode != "cvt" {
        return None;
    }
    let mut left = Modifiers::new(modifiers);
    if left.take("pack") {
        return pack(left, level);
    }
    left.take("sat");
    let register = 8 * left.take_type()?.bytes();
    select_into(modifiers, register.max(32), level)
}

/// The form of `cvt.modifiers` for a destination register of `bits` bits: PTX extends the result to the whole register,
/// with its sign if its type has one. A register narrower than the result is not known.
pub(crate) fn select_into(modifiers: &[&str], bits: u32, level: Level) -> Option<Form> {
    let mut left = Modifiers::new(modifiers);
    let saturate = left.take("sat");
    let (to, from) = (left.take_type()?, left.last_type()?);
    if bits < 8 * to.bytes() {
        return None;
    }
    by_type!(from, S in [
        U8: u8, S8: i8, U16: u16, S16: i16, U32: u32, S32: i32, U64: u64, S64: i64
    ], to_type::<S>(to, bits, saturate, level))
}

fn to_type<S: Integer>(to: Type, bits: u32, saturate: bool, level: Level) -> Option<Form> {
    by_type!(to, D in [
        U8: u8, S8: i8, U16: u16, S16: i16, U32: u32, S32: i32, U64: u64, S64: i64
    ], match (bits, D::SIGNED) {
        (8 | 16, _) if bits == 8 * to.bytes() => Some(converted::<S, D, D>(saturate, level)),
        (16, true) => Some(converted::<S, D, i16>(saturate, level)),
        (16, false) => Some(converted::<S, D, u16>(saturate, level)),
        (32, true) => Some(converted::<S, D, i32>(saturate, level)),
        (32, false) => Some(converted::<S, D, u32>(saturate, level)),
        (64, true) => Some(converted::<S, D, i64>(saturate, level)),
        (64, false) => Some(converted::<S, D, u64>(saturate, level)),
        _ => None,
    })
}

fn converted<S: Integer, D: Integer, R: Integer>(saturate: bool, level: Level) -> Form {
    if saturate {
        form::<Convert<S, D, R, true>>(level, Class::Convert)
    } else {
        form::<Convert<S, D, R, false>>(level, Class::Convert)
    }
}

/// An integer as the low bits of 64.
trait Integer: Value {
    const SIGNED: bool;
    const LEAST: i64;
    const GREATEST: u64;
    /// Extended by the sign if there is one.
    fn extended(self) -> u64;
    fn cut(bits: u64) -> Self;
}

macro_rules! integer {
    ($($type:ty),+) => {$(
        impl Integer for $type {
            const SIGNED: bool = Self::MIN != 0;
            const LEAST: i64 = Self::MIN as i64;
            const GREATEST: u64 = Self::MAX as u64;
            #[inline(always)]
            fn extended(self) -> u64 {
                self as u64
            }
            #[inline(always)]
            fn cut(bits: u64) -> Self {
                bits as Self
            }
        }
    )+};
}
integer!(u8, i8, u16, i16, u32, i32, u64, i64);

/// From `S` to `D` in a register as wide as `R`.
struct Convert<S, D, R, const SATURATE: bool>(PhantomData<(S, D, R)>);

impl<S: Integer, D: Integer, R: Integer, const SATURATE: bool> Operation for Convert<S, D, R, SATURATE> {
    type Result = R;
    const SLOW: bool = false;

    fn sources() -> Vec<Type> {
        vec![S::TYPE]
    }

    #[inline(always)]
    fn lane(registers: &Registers, operands: &Operands, lane: usize) -> R {
        let bits = S::get(S::row(registers, operands.src[0]), lane).extended();
        let bits = if !SATURATE {
            bits
        } else if S::SIGNED {
            (bits as i64).max(D::LEAST).min(D::GREATEST.min(i64::MAX as u64) as i64) as u64
        } else {
            bits.min(D::GREATEST)
        };
        R::cut(D::cut(bits).extended())
    }
}

/// `cvt.pack.sat`: `a` above `b`, each clamped; below 16 bits, with the low bits of `c` above both.
fn pack(mut left: Modifiers<'_>, level: Level) -> Option<Form> {
    if !left.take("sat") {
        return None;
    }
    let name = left.take_any(&["u2", "s2", "u4", "s4", "u8", "s8", "u16", "s16"])?;
    let third = !name.ends_with("16");
    if !left.take("s32") || (third && !left.take("b32")) {
        return None;
    }
    left.done()?;
    macro_rules! packed {
        ($bits:literal, $low:expr, $high:expr) => {
            form!(level, Class::Convert, |a: i32, b: i32, c: u32| -> u32 {
                const ONES: u32 = (1 << $bits) - 1;
                let (a, b) = (a.clamp($low, $high) as u32 & ONES, b.clamp($low, $high) as u32 & ONES);
                c << (2 * $bits) | a << $bits | b
            })
        };
    }
    Some(match name {
        "u16" => form!(level, Class::Convert, |a: i32, b: i32| -> u32 {
            (a.clamp(0, 0xFFFF) as u32) << 16 | b.clamp(0, 0xFFFF) as u32
        }),
        "s16" => form!(level, Class::Convert, |a: i32, b: i32| -> u32 {
            (a.clamp(-0x8000, 0x7FFF) as u32) << 16 | (b.clamp(-0x8000, 0x7FFF) as u32 & 0xFFFF)
        }),
        "u8" => packed!(8, 0, 255),
        "s8" => packed!(8, -128, 127),
        "u4" => packed!(4, 0, 15),
        "s4" => packed!(4, -8, 7),
        "u2" => packed!(2, 0, 3),
        _ => packed!(2, -2, 1),
    })
}
