//! Moves and selections: `mov selp slct`, and the packing and unpacking that `mov` does with vectors.

use super::logic::mask_form;
use super::modifiers::Modifiers;
use super::{Class, Form, Level};
use crate::types::{Type, Width};

/// What [`select`] knows, for the table of the documentation; braces hold alternatives.
pub(crate) const KNOWN: &[&str] = &[
    "mov.{pred,b16,b32,b64,u16,u32,u64,s16,s32,s64,f32,f64}",
    "selp.{b16,b32,b64,u16,u32,u64,s16,s32,s64,f32,f64}",
    "slct{,.ftz}.{b16,b32,b64,u16,u32,u64,s16,s32,s64,f32,f64}.f32",
    "slct.{b16,b32,b64,u16,u32,u64,s16,s32,s64,f32,f64}.s32",
];

/// The form of `opcode.modifiers`; `None` if it is not of this family.
pub(crate) fn select(opcode: &str, modifiers: &[&str], level: Level) -> Option<Form> {
    let left = Modifiers::new(modifiers);
    match opcode {
        "mov" => copy(left.last_type()?, level),
        "selp" => by_predicate(left.last_type()?, level),
        "slct" => by_sign(left, level),
        _ => None,
    }
}

/// The row that values of a type have, for the types that `mov` and the selections take, which have bits alone to them.
fn row(ty: Type) -> Option<Width> {
    match ty {
        Type::B8 | Type::U8 | Type::S8 | Type::F16 | Type::BF16 | Type::F16x2 | Type::BF16x2 => None,
        _ => ty.width(),
    }
}

fn copy(ty: Type, level: Level) -> Option<Form> {
    let form = match row(ty)? {
        Width::Predicate => mask_form!(|a| a),
        // 16-bit rows have zeros above, but a register may be wider than the type.
        Width::Word if ty.bytes() == 2 => form!(level, Class::Integer, |a: u16| -> u16 { a }),
        Width::Word => form!(level, Class::Integer, |a: u32| -> u32 { a }),
        Width::Long => form!(level, Class::Integer, |a: u64| -> u64 { a }),
    };
    Some(Form { dst: ty, src: vec![ty], ..form })
}

fn by_predicate(ty: Type, level: Level) -> Option<Form> {
    macro_rules! choose {
        ($type:ty) => {
            form!(level, Class::Integer, |a: $type, b: $type, first: bool| -> $type { if first { a } else { b } })
        };
    }
    let form = match row(ty)? {
        Width::Predicate => return None,
        Width::Word if ty.bytes() == 2 => choose!(u16),
        Width::Word => choose!(u32),
        Width::Long => choose!(u64),
    };
    Some(Form { dst: ty, src: vec![ty, ty, Type::Pred], ..form })
}

/// The first value if the selector is not negative. Negative zero is not, NaN counts as negative.
fn by_sign(mut left: Modifiers<'_>, level: Level) -> Option<Form> {
    let flush = left.take("ftz");
    let (ty, selector) = (left.take_type()?, left.last_type()?);
    macro_rules! choose {
        ($type:ty) => {
            match (selector, flush) {
                (Type::S32, false) => {
                    form!(level, Class::Integer, |a: $type, b: $type, c: i32| -> $type { if c >= 0 { a } else { b } })
                }
                (Type::F32, false) => {
                    form!(level, Class::Integer, |a: $type, b: $type, c: f32| -> $type { if c >= 0.0 { a } else { b } })
                }
                // Subnormal numbers are zeros.
                (Type::F32, true) => form!(level, Class::Integer, |a: $type, b: $type, c: f32| -> $type {
                    if c > -f32::MIN_POSITIVE { a } else { b }
                }),
                _ => return None,
            }
        };
    }
    let form = match row(ty)? {
        Width::Predicate => return None,
        Width::Word if ty.bytes() == 2 => choose!(u16),
        Width::Word => choose!(u32),
        Width::Long => choose!(u64),
    };
    Some(Form { dst: ty, src: vec![ty, ty, selector], ..form })
}

/// `mov.whole d, {a, b, ..}`: as many registers of type `part` as fill `whole`, the first in the low bits. `None` if no
/// row holds `whole` (128 bits are two rows) or the parts do not fill it.
pub(crate) fn pack(part: Type, whole: Type, level: Level) -> Option<Form> {
    let form = match (part.bytes(), whole.bytes()) {
        (1, 2) => form!(level, Class::Integer, |a: u8, b: u8| -> u16 { u16::from(a) | u16::from(b) << 8 }),
        (1, 4) => form!(level, Class::Integer, |a: u8, b: u8, c: u8, d: u8| -> u32 {
            u32::from(a) | u32::from(b) << 8 | u32::from(c) << 16 | u32::from(d) << 24
        }),
        (2, 4) => form!(level, Class::Integer, |a: u16, b: u16| -> u32 { u32::from(a) | u32::from(b) << 16 }),
        (2, 8) => form!(level, Class::Integer, |a: u16, b: u16, c: u16, d: u16| -> u64 {
            u64::from(a) | u64::from(b) << 16 | u64::from(c) << 32 | u64::from(d) << 48
        }),
        (4, 8) => form!(level, Class::Integer, |a: u32, b: u32| -> u64 { u64::from(a) | u64::from(b) << 32 }),
        _ => return None,
    };
    Some(Form { dst: whole, src: vec![part; form.src.len()], ..form })
}

/// `mov.whole {.., d, ..}, a`: register number `index` of the vector, of type `part`; the first has the low bits. One
/// form for each element: a source that is also an element must be written last.
pub(crate) fn unpack(part: Type, index: u32, whole: Type, level: Level) -> Option<Form> {
    macro_rules! element {
        ($whole:ty => $part:ty: $($index:literal),+) => {
            match index {
                $($index => form!(level, Class::Integer, |a: $whole| -> $part {
                    (a >> (<$part>::BITS * $index)) as $part
                }),)+
                _ => return None,
            }
        };
    }
    let form = match (part.bytes(), whole.bytes()) {
        (1, 2) => element!(u16 => u8: 0, 1),
        (1, 4) => element!(u32 => u8: 0, 1, 2, 3),
        (2, 4) => element!(u32 => u16: 0, 1),
        (2, 8) => element!(u64 => u16: 0, 1, 2, 3),
        (4, 8) => element!(u64 => u32: 0, 1),
        _ => return None,
    };
    Some(Form { dst: part, src: vec![whole], ..form })
}
