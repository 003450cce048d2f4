//! Integer products: `mul mad mul24 mad24`.

use super::by_type::by_type;
use super::modifiers::Modifiers;
use super::{Class, Form, Level};
use crate::types::Type;

/// What [`select`] knows, for the table of the documentation; braces hold alternatives.
pub(crate) const KNOWN: &[&str] = &[
    "{mul,mad}.{lo,hi}.{u16,s16,u32,s32,u64,s64}",
    "{mul,mad}.wide.{u16,s16,u32,s32}",
    "mad.hi.sat.s32",
    "{mul24,mad24}.{lo,hi}.{u32,s32}",
    "mad24.hi.sat.s32",
];

/// The form of `opcode.modifiers`; `None` if it is not of this family.
pub(crate) fn select(opcode: &str, modifiers: &[&str], level: Level) -> Option<Form> {
    let mut left = Modifiers::new(modifiers);
    let half = left.take_any(&["lo", "hi", "wide"])?;
    if half == "hi" && left.take("sat") {
        return (left.last_type()? == Type::S32).then(|| saturated(opcode, level))?;
    }
    let ty = left.last_type()?;
    match (opcode, half) {
        ("mul", "lo") => low(ty, level),
        ("mul", "hi") => high(ty, level),
        ("mul", _) => wide(ty, level),
        ("mad", "lo") => low_add(ty, level),
        ("mad", "hi") => high_add(ty, level),
        ("mad", _) => wide_add(ty, level),
        ("mul24", "lo") => low24(ty, level),
        ("mul24", "hi") => high24(ty, level),
        ("mad24", "lo") => low24_add(ty, level),
        ("mad24", "hi") => high24_add(ty, level),
        _ => None,
    }
}

/// The same body for every type with the type of twice its width.
macro_rules! doubled {
    ($ty:expr, $narrow:ident < $wide:ident, $form:expr) => {
        by_type!($ty, $narrow < $wide in [
            S16: i16, i32;
            U16: u16, u32;
            S32: i32, i64;
            U32: u32, u64;
            S64: i64, i128;
            U64: u64, u128;
        ], $form)
    };
}

/// The same body for the types whose products a register holds.
macro_rules! widened {
    ($ty:expr, $narrow:ident < $wide:ident, $form:expr) => {
        by_type!($ty, $narrow < $wide in [S16: i16, i32; U16: u16, u32; S32: i32, i64; U32: u32, u64;], $form)
    };
}

/// The low 24 bits as a number, signed as the type; the high bits of the operands are ignored, as hardware does.
macro_rules! number24 {
    ($value:expr) => {
        ($value << 8 >> 8)
    };
}

fn low(ty: Type, level: Level) -> Option<Form> {
    Some(by_type!(ty, T in integers, form!(level, Class::Integer, |a: T, b: T| -> T { a.wrapping_mul(b) })))
}

fn high(ty: Type, level: Level) -> Option<Form> {
    Some(doubled!(
        ty,
        T < W,
        form!(level, Class::Integer, |a: T, b: T| -> T { ((a as W).wrapping_mul(b as W) >> T::BITS) as T })
    ))
}

fn wide(ty: Type, level: Level) -> Option<Form> {
    Some(widened!(ty, T < W, form!(level, Class::Integer, |a: T, b: T| -> W { (a as W).wrapping_mul(b as W) })))
}

fn low_add(ty: Type, level: Level) -> Option<Form> {
    Some(by_type!(ty, T in integers, form!(level, Class::Integer, |a: T, b: T, c: T| -> T {
        a.wrapping_mul(b).wrapping_add(c)
    })))
}

fn high_add(ty: Type, level: Level) -> Option<Form> {
    Some(doubled!(
        ty,
        T < W,
        form!(level, Class::Integer, |a: T, b: T, c: T| -> T {
            (((a as W).wrapping_mul(b as W) >> T::BITS) as T).wrapping_add(c)
        })
    ))
}

fn wide_add(ty: Type, level: Level) -> Option<Form> {
    Some(widened!(
        ty,
        T < W,
        form!(level, Class::Integer, |a: T, b: T, c: W| -> W { (a as W).wrapping_mul(b as W).wrapping_add(c) })
    ))
}

fn low24(ty: Type, level: Level) -> Option<Form> {
    Some(by_type!(ty, T in [S32: i32, U32: u32], form!(level, Class::Integer, |a: T, b: T| -> T {
        number24!(a).wrapping_mul(number24!(b))
    })))
}

fn high24(ty: Type, level: Level) -> Option<Form> {
    Some(by_type!(ty, T < W in [S32: i32, i64; U32: u32, u64;], form!(level, Class::Integer, |a: T, b: T| -> T {
        (W::from(number24!(a)).wrapping_mul(W::from(number24!(b))) >> 16) as T
    })))
}

fn low24_add(ty: Type, level: Level) -> Option<Form> {
    Some(by_type!(ty, T in [S32: i32, U32: u32], form!(level, Class::Integer, |a: T, b: T, c: T| -> T {
        number24!(a).wrapping_mul(number24!(b)).wrapping_add(c)
    })))
}

fn high24_add(ty: Type, level: Level) -> Option<Form> {
    Some(by_type!(ty, T < W in [S32: i32, i64; U32: u32, u64;], form!(level, Class::Integer, |a: T, b: T, c: T| -> T {
        ((W::from(number24!(a)).wrapping_mul(W::from(number24!(b))) >> 16) as T).wrapping_add(c)
    })))
}

/// The `.hi.sat.s32` forms: the sum with the high half saturates.
fn saturated(opcode: &str, level: Level) -> Option<Form> {
    Some(match opcode {
        "mad" => form!(level, Class::Integer, |a: i32, b: i32, c: i32| -> i32 {
            ((i64::from(a).wrapping_mul(i64::from(b)) >> 32) as i32).saturating_add(c)
        }),
        "mad24" => form!(level, Class::Integer, |a: i32, b: i32, c: i32| -> i32 {
            ((i64::from(number24!(a)).wrapping_mul(i64::from(number24!(b))) >> 16) as i32).saturating_add(c)
        }),
        _ => return None,
    })
}
