//! Several integers in a register: `.u16x2` and `.s16x2`, `dp4a`, `dp2a`.

use super::by_type::by_type;
use super::modifiers::Modifiers;
use super::{Class, Form, Level};

/// What [`select`] knows, for the table of the documentation; braces hold alternatives.
pub(crate) const KNOWN: &[&str] = &[
    "{add,min,max}.{u16x2,s16x2}",
    "{min,max}.relu.s16x2",
    "dp4a.{u32,s32}.{u32,s32}",
    "dp2a.{lo,hi}.{u32,s32}.{u32,s32}",
    "vabsdiff4.u32.{u32.u32,s32.s32}{,.add}",
];

/// The form of `opcode.modifiers`; `None` if it is not of this family.
pub(crate) fn select(opcode: &str, modifiers: &[&str], level: Level) -> Option<Form> {
    let mut left = Modifiers::new(modifiers);
    match opcode {
        "dp4a" => four_bytes(left, level),
        "dp2a" => two_halves(left, level),
        "vabsdiff4" => absolute_differences(left, level),
        "add" | "min" | "max" => {
            let relu = opcode != "add" && left.take("relu");
            let ty = left.take_any(&["u16x2", "s16x2"])?;
            left.done()?;
            halves(opcode, relu, ty, level)
        }
        _ => None,
    }
}

/// A form on both halves of 32 bits.
macro_rules! halves {
    ($level:expr, $half:ty, |$a:ident, $b:ident| $body:expr) => {
        form!($level, Class::Integer, |a: u32, b: u32| -> u32 {
            let half = |$a: $half, $b: $half| -> $half { $body };
            let low = half(a as $half, b as $half) as u16;
            let high = half((a >> 16) as $half, (b >> 16) as $half) as u16;
            u32::from(low) | u32::from(high) << 16
        })
    };
}

fn halves(opcode: &str, relu: bool, ty: &str, level: Level) -> Option<Form> {
    Some(match (opcode, relu, ty) {
        ("add", false, _) => halves!(level, u16, |a, b| a.wrapping_add(b)),
        ("min", false, "u16x2") => halves!(level, u16, |a, b| a.min(b)),
        ("max", false, "u16x2") => halves!(level, u16, |a, b| a.max(b)),
        ("min", false, "s16x2") => halves!(level, i16, |a, b| a.min(b)),
        ("max", false, "s16x2") => halves!(level, i16, |a, b| a.max(b)),
        ("min", true, "s16x2") => halves!(level, i16, |a, b| a.min(b).max(0)),
        ("max", true, "s16x2") => halves!(level, i16, |a, b| a.max(b).max(0)),
        _ => return None,
    })
}

/// The product of element `index` of `a`, whose elements are of type `A`, and element `other` of `b`, of type `B`.
macro_rules! product {
    ($a:expr, $index:expr => $left:ty, $b:expr, $other:expr => $right:ty) => {
        i32::from(($a >> ($index * <$left>::BITS)) as $left)
            .wrapping_mul(i32::from(($b >> ($other * <$right>::BITS)) as $right))
    };
}

fn four_bytes(mut left: Modifiers<'_>, level: Level) -> Option<Form> {
    let (a_type, b_type) = (left.take_type()?, left.last_type()?);
    Some(by_type!(a_type, A in [U32: u8, S32: i8], by_type!(b_type, B in [U32: u8, S32: i8],
        form!(level, Class::Integer, |a: u32, b: u32, c: i32| -> i32 {
            c.wrapping_add(product!(a, 0 => A, b, 0 => B))
                .wrapping_add(product!(a, 1 => A, b, 1 => B))
                .wrapping_add(product!(a, 2 => A, b, 2 => B))
                .wrapping_add(product!(a, 3 => A, b, 3 => B))
        })
    )))
}

fn two_halves(mut left: Modifiers<'_>, level: Level) -> Option<Form> {
    let mode = left.take_any(&["lo", "hi"])?;
    let (a_type, b_type) = (left.take_type()?, left.last_type()?);
    Some(by_type!(a_type, A in [U32: u16, S32: i16], by_type!(b_type, B in [U32: u8, S32: i8],
        if mode == "lo" {
            form!(level, Class::Integer, |a: u32, b: u32, c: i32| -> i32 {
                c.wrapping_add(product!(a, 0 => A, b, 0 => B)).wrapping_add(product!(a, 1 => A, b, 1 => B))
            })
        } else {
            form!(level, Class::Integer, |a: u32, b: u32, c: i32| -> i32 {
                c.wrapping_add(product!(a, 0 => A, b, 2 => B)).wrapping_add(product!(a, 1 => A, b, 3 => B))
            })
        }
    )))
}

/// `.add`: their sum with `c`; otherwise a byte each, and `c`, whose bytes a mask would keep, is not looked at.
fn absolute_differences(mut left: Modifiers<'_>, level: Level) -> Option<Form> {
    if !left.take("u32") {
        return None;
    }
    let (a_type, b_type) = (left.take_type()?, left.take_type()?);
    let sum = left.take("add");
    left.done()?;
    if a_type != b_type {
        return None;
    }
    Some(by_type!(a_type, A in [U32: u8, S32: i8], {
        if sum {
            form!(level, Class::Integer, |a: u32, b: u32, c: u32| -> u32 {
                (0..4u32).fold(c, |sum, i| {
                    sum.wrapping_add(((a >> (8 * i)) as A).abs_diff((b >> (8 * i)) as A).into())
                })
            })
        } else {
            form!(level, Class::Integer, |a: u32, b: u32, c: u32| -> u32 {
                let _ = c;
                (0..4u32).fold(0, |bytes, i| {
                    bytes | u32::from(((a >> (8 * i)) as A).abs_diff((b >> (8 * i)) as A)) << (8 * i)
                })
            })
        }
    }))
}
