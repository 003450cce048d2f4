//! Integer arithmetic without products: `add sub sad div rem abs neg min max`.

use super::by_type::by_type;
use super::modifiers::Modifiers;
use super::{Class, Form, Level};
use crate::types::Type;

/// What [`select`] knows, for the table of the documentation; braces hold alternatives.
pub(crate) const KNOWN: &[&str] = &[
    "{add,sub}.{u16,s16,u32,s32,u64,s64}",
    "{add,sub}.sat.s32",
    "{sad,div,rem}.{u16,s16,u32,s32,u64,s64}",
    "{abs,neg}.{s16,s32,s64}",
    "{min,max}.{u16,s16,u32,s32,u64,s64}",
    "{min,max}.relu.s32",
];

/// The form of `opcode.modifiers`; `None` if it is not of this family.
pub(crate) fn select(opcode: &str, modifiers: &[&str], level: Level) -> Option<Form> {
    let mut left = Modifiers::new(modifiers);
    let option = match opcode {
        "add" | "sub" => left.take("sat"),
        "min" | "max" => left.take("relu"),
        _ => false,
    };
    let ty = left.last_type()?;
    if option {
        return (ty == Type::S32).then(|| clamped(opcode, level))?;
    }
    Some(match opcode {
        "add" => by_type!(ty, T in integers, form!(level, Class::Integer, |a: T, b: T| -> T { a.wrapping_add(b) })),
        "sub" => by_type!(ty, T in integers, form!(level, Class::Integer, |a: T, b: T| -> T { a.wrapping_sub(b) })),
        "sad" => by_type!(ty, T in integers, form!(level, Class::Integer, |a: T, b: T, c: T| -> T {
            c.wrapping_add(if a < b { b.wrapping_sub(a) } else { a.wrapping_sub(b) })
        })),
        "div" => by_type!(ty, T in integers, form!(level, Class::Integer, slow |a: T, b: T| -> T {
            // Unspecified by zero, but never a trap; GPUs leave all ones.
            if b == 0 { !0 } else { a.wrapping_div(b) }
        })),
        "rem" => by_type!(ty, T in integers, form!(level, Class::Integer, slow |a: T, b: T| -> T {
            // Unspecified by zero, but never a trap.
            if b == 0 { a } else { a.wrapping_rem(b) }
        })),
        "abs" => by_type!(ty, T in signed, form!(level, Class::Integer, |a: T| -> T { a.wrapping_abs() })),
        "neg" => by_type!(ty, T in signed, form!(level, Class::Integer, |a: T| -> T { a.wrapping_neg() })),
        "min" => by_type!(ty, T in integers, form!(level, Class::Integer, |a: T, b: T| -> T { a.min(b) })),
        "max" => by_type!(ty, T in integers, form!(level, Class::Integer, |a: T, b: T| -> T { a.max(b) })),
        _ => return None,
    })
}

/// The forms with `.sat` or `.relu`, of `.s32` alone.
fn clamped(opcode: &str, level: Level) -> Option<Form> {
    Some(match opcode {
        "add" => form!(level, Class::Integer, |a: i32, b: i32| -> i32 { a.saturating_add(b) }),
        "sub" => form!(level, Class::Integer, |a: i32, b: i32| -> i32 { a.saturating_sub(b) }),
        "min" => form!(level, Class::Integer, |a: i32, b: i32| -> i32 { a.min(b).max(0) }),
        "max" => form!(level, Class::Integer, |a: i32, b: i32| -> i32 { a.max(b).max(0) }),
        _ => return None,
    })
}
