//! Bits and bit fields: `popc clz bfind brev bfe bfi bmsk fns szext prmt`.

use super::by_type::by_type;
use super::modifiers::Modifiers;
use super::shift::Shift;
use super::{Class, Form, Level};
use crate::types::Type;

/// What [`select`] knows, for the table of the documentation; braces hold alternatives.
pub(crate) const KNOWN: &[&str] = &[
    "{popc,clz,brev,bfi}.{b32,b64}",
    "bfind{,.shiftamt}.{u32,s32,u64,s64}",
    "bfe.{u32,s32,u64,s64}",
    "bmsk.{clamp,wrap}.b32",
    "szext.{clamp,wrap}.{u32,s32}",
    "fns.b32",
    "prmt.b32{,.f4e,.b4e,.rc8,.ecl,.ecr,.rc16}",
];

/// The form of `opcode.modifiers`; `None` if it is not of this family.
pub(crate) fn select(opcode: &str, modifiers: &[&str], level: Level) -> Option<Form> {
    let left = Modifiers::new(modifiers);
    match opcode {
        "bfind" => find(left, level),
        "bfe" => extract(left.last_type()?, level),
        "bfi" => insert(left.last_type()?, level),
        "bmsk" => field_mask(left, level),
        "szext" => extend(left, level),
        "fns" => (left.last_type()? == Type::B32).then(|| nth_set(level)),
        "prmt" => permute(left, level),
        _ => whole(opcode, left.last_type()?, level),
    }
}

fn whole(opcode: &str, ty: Type, level: Level) -> Option<Form> {
    Some(match opcode {
        "popc" => by_type!(ty, T in [B32: u32, B64: u64], form!(level, Class::Integer, |a: T| -> u32 {
            a.count_ones()
        })),
        "clz" => by_type!(ty, T in [B32: u32, B64: u64], form!(level, Class::Integer, |a: T| -> u32 {
            a.leading_zeros()
        })),
        "brev" => by_type!(ty, T in [B32: u32, B64: u64], form!(level, Class::Integer, |a: T| -> T {
            a.reverse_bits()
        })),
        _ => return None,
    })
}

/// The highest bit that differs from the sign: its position, or its distance from the top. All ones without one.
fn find(mut left: Modifiers<'_>, level: Level) -> Option<Form> {
    let distance = left.take("shiftamt");
    let ty = left.last_type()?;
    // Shifted by the whole width but one, signed values are all sign; unsigned ones must not turn.
    macro_rules! turned {
        ($value:expr, $type:ty) => {
            if <$type>::MIN != 0 { $value ^ ($value >> (<$type>::BITS - 1)) } else { $value }
        };
    }
    Some(if distance {
        by_type!(ty, T in [U32: u32, S32: i32, U64: u64, S64: i64], form!(level, Class::Integer, |a: T| -> u32 {
            let zeros = turned!(a, T).leading_zeros();
            if zeros == T::BITS { u32::MAX } else { zeros }
        }))
    } else {
        by_type!(ty, T in [U32: u32, S32: i32, U64: u64, S64: i64], form!(level, Class::Integer, |a: T| -> u32 {
            (T::BITS - 1).wrapping_sub(turned!(a, T).leading_zeros())
        }))
    })
}

fn extract(ty: Type, level: Level) -> Option<Form> {
    Some(by_type!(ty, T in [U32: u32, S32: i32, U64: u64, S64: i64],
        form!(level, Class::Integer, |a: T, position: u32, length: u32| -> T {
            let length = length & 0xFF;
            // The field goes to the top and back, which extends it as the type asks.
            let drop = T::BITS.saturating_sub(length);
            let field = a.right(position & 0xFF).left(drop).right(drop);
            if length == 0 { 0 } else { field }
        })
    ))
}

fn insert(ty: Type, level: Level) -> Option<Form> {
    Some(by_type!(ty, T in [B32: u32, B64: u64],
        form!(level, Class::Integer, |a: T, b: T, position: u32, length: u32| -> T {
            let position = position & 0xFF;
            let field = (!T::MAX.left(length & 0xFF)).left(position);
            (b & !field) | (a.left(position) & field)
        })
    ))
}

/// Ones from bit `a` on, `b` of them.
fn field_mask(mut left: Modifiers<'_>, level: Level) -> Option<Form> {
    let mode = left.take_any(&["clamp", "wrap"])?;
    if left.last_type()? != Type::B32 {
        return None;
    }
    Some(if mode == "clamp" {
        form!(level, Class::Integer, |a: u32, b: u32| -> u32 { (!u32::MAX.left(b)).left(a) })
    } else {
        form!(level, Class::Integer, |a: u32, b: u32| -> u32 { (!u32::MAX.left(b & 31)).left(a & 31) })
    })
}

/// The low `b` bits of `a`, extended.
fn extend(mut left: Modifiers<'_>, level: Level) -> Option<Form> {
    let mode = left.take_any(&["clamp", "wrap"])?;
    let ty = left.last_type()?;
    Some(by_type!(ty, T in [U32: u32, S32: i32],
        if mode == "clamp" {
            form!(level, Class::Integer, |a: T, b: u32| -> T {
                let drop = 32u32.saturating_sub(b);
                a.left(drop).right(drop)
            })
        } else {
            form!(level, Class::Integer, |a: T, b: u32| -> T {
                let drop = 32 - (b & 31);
                a.left(drop).right(drop)
            })
        }
    ))
}

/// The place of the set bit number `offset` of `mask`, counted from bit `base` on (1 is the first), upwards or
/// downwards; all ones without one, and where `base` is beyond the mask, which PTX leaves undefined.
fn nth_set(level: Level) -> Form {
    form!(level, Class::Integer, slow |mask: u32, base: u32, offset: i32| -> u32 {
        let candidates = match (base, offset) {
            (32.., _) => 0,
            (_, 0) => mask & 1 << base,
            (_, 1..) => mask & u32::MAX << base,
            _ => mask & u32::MAX >> (31 - base),
        };
        let skip = offset.unsigned_abs().saturating_sub(1);
        if skip >= candidates.count_ones() {
            u32::MAX
        } else if offset >= 0 {
            (0..skip).fold(candidates, |left, _| left & left.wrapping_sub(1)).trailing_zeros()
        } else {
            31 - (0..skip).fold(candidates, |left, _| left & !(1 << left.ilog2())).leading_zeros()
        }
    })
}

/// The bytes that nibbles of the selector name, from the eight of `b` above `a`; bit 3 asks for copies of the sign.
#[inline(always)]
fn bytes(a: u32, b: u32, selector: u32) -> u32 {
    let all = u64::from(b) << 32 | u64::from(a);
    let mut result = 0;
    for i in 0..4 {
        let nibble = selector >> (4 * i) & 15;
        let byte = (all >> (8 * (nibble & 7))) as u8;
        let sign = ((byte as i8) >> 7) as u8;
        result |= u32::from(if nibble & 8 != 0 { sign } else { byte }) << (8 * i);
    }
    result
}

/// The selectors of the modes, for the low two bits of `c` from 0 on: four nibbles each.
macro_rules! mode {
    ($level:expr, $table:literal) => {
        form!($level, Class::Integer, |a: u32, b: u32, c: u32| -> u32 {
            const TABLE: u64 = $table;
            bytes(a, b, (TABLE >> (16 * (c & 3))) as u32 & 0xFFFF)
        })
    };
}

fn permute(mut left: Modifiers<'_>, level: Level) -> Option<Form> {
    if left.take_type()? != Type::B32 {
        return None;
    }
    let mode = left.take_any(&["f4e", "b4e", "rc8", "ecl", "ecr", "rc16"]);
    left.done()?;
    Some(match mode {
        None => form!(level, Class::Integer, |a: u32, b: u32, c: u32| -> u32 { bytes(a, b, c) }),
        Some("f4e") => mode!(level, 0x6543_5432_4321_3210),
        Some("b4e") => mode!(level, 0x0123_7012_6701_5670),
        Some("rc8") => mode!(level, 0x3333_2222_1111_0000),
        Some("ecl") => mode!(level, 0x3333_3222_3211_3210),
        Some("ecr") => mode!(level, 0x3210_2210_1110_0000),
        Some(_) => mode!(level, 0x3232_1010_3232_1010),
    })
}
