//! Logic and shifts: `and or xor not cnot lop3 shl shr shf`.

use super::by_type::by_type;
use super::modifiers::Modifiers;
use super::shift::Shift;
use super::{Class, Form, Level};
use crate::types::Type;

/// What [`select`] knows, for the table of the documentation; braces hold alternatives.
pub(crate) const KNOWN: &[&str] = &[
    "{and,or,xor,not}.{pred,b16,b32,b64}",
    "cnot.{b16,b32,b64}",
    "lop3.b32",
    "shl.{b16,b32,b64}",
    "shr.{b16,b32,b64,u16,u32,u64,s16,s32,s64}",
    "shf.{l,r}.{clamp,wrap}.b32",
];

/// The form of `opcode.modifiers`; `None` if it is not of this family.
pub(crate) fn select(opcode: &str, modifiers: &[&str], level: Level) -> Option<Form> {
    let left = Modifiers::new(modifiers);
    if opcode == "shf" {
        return funnel(left, level);
    }
    let ty = left.last_type()?;
    if ty == Type::Pred {
        return of_predicates(opcode);
    }
    Some(match opcode {
        "and" => by_type!(ty, T in bits, form!(level, Class::Integer, |a: T, b: T| -> T { a & b })),
        "or" => by_type!(ty, T in bits, form!(level, Class::Integer, |a: T, b: T| -> T { a | b })),
        "xor" => by_type!(ty, T in bits, form!(level, Class::Integer, |a: T, b: T| -> T { a ^ b })),
        "not" => by_type!(ty, T in bits, form!(level, Class::Integer, |a: T| -> T { !a })),
        "cnot" => by_type!(ty, T in bits, form!(level, Class::Integer, |a: T| -> T { T::from(a == 0) })),
        "lop3" if ty == Type::B32 => lookup(level),
        "shl" => by_type!(ty, T in bits, form!(level, Class::Integer, |a: T, n: u32| -> T { a.left(n) })),
        "shr" => by_type!(ty, T in [
            B16: u16, U16: u16, S16: i16, B32: u32, U32: u32, S32: i32, B64: u64, U64: u64, S64: i64
        ], form!(level, Class::Integer, |a: T, n: u32| -> T { a.right(n) })),
        _ => return None,
    })
}

/// Any function of three bits: the table has the value for `a`, `b`, `c` in bit `4a + 2b + c`.
fn lookup(level: Level) -> Form {
    form!(level, Class::Integer, |a: u32, b: u32, c: u32, table: u32| -> u32 {
        let value = |bit: u32| 0u32.wrapping_sub(table >> bit & 1);
        let choose = |select: u32, one: u32, zero: u32| (select & one) | (!select & zero);
        let without_a = choose(b, choose(c, value(3), value(2)), choose(c, value(1), value(0)));
        let with_a = choose(b, choose(c, value(7), value(6)), choose(c, value(5), value(4)));
        choose(a, with_a, without_a)
    })
}

/// Shifts of the 64 bits that `b` above `a` are.
fn funnel(mut left: Modifiers<'_>, level: Level) -> Option<Form> {
    let direction = left.take_any(&["l", "r"])?;
    let mode = left.take_any(&["clamp", "wrap"])?;
    if left.last_type()? != Type::B32 {
        return None;
    }
    Some(match (direction, mode) {
        ("l", "clamp") => form!(level, Class::Integer, |a: u32, b: u32, n: u32| -> u32 {
            ((u64::from(b) << 32 | u64::from(a)) << n.min(32) >> 32) as u32
        }),
        ("l", _) => form!(level, Class::Integer, |a: u32, b: u32, n: u32| -> u32 {
            ((u64::from(b) << 32 | u64::from(a)) << (n & 31) >> 32) as u32
        }),
        (_, "clamp") => form!(level, Class::Integer, |a: u32, b: u32, n: u32| -> u32 {
            ((u64::from(b) << 32 | u64::from(a)) >> n.min(32)) as u32
        }),
        _ => form!(level, Class::Integer, |a: u32, b: u32, n: u32| -> u32 {
            ((u64::from(b) << 32 | u64::from(a)) >> (n & 31)) as u32
        }),
    })
}

/// A form on predicates: all lanes are one word, whatever the processor.
macro_rules! mask_form {
    (|$($name:ident),+| $body:expr) => {{
        fn run(registers: &mut $crate::registers::Registers, operands: &$crate::registers::Operands, mask: u32) {
            let mut sources = operands.src.iter().map(|&row| registers.predicates[row as usize]);
            $(let $name = sources.next().unwrap_or_default();)+
            let value: u32 = $body;
            <bool as $crate::registers::Value>::commit(registers, operands.dst, &value, mask);
        }
        $crate::forms::Form {
            exec: run,
            dst: $crate::types::Type::Pred,
            dst2: None,
            src: vec![$crate::types::Type::Pred; [$(stringify!($name)),+].len()],
            class: $crate::forms::Class::Integer,
            flops: 0,
            exponential: false,
            contractable: false,
            allows: None,
        }
    }};
}
pub(crate) use mask_form;

fn of_predicates(opcode: &str) -> Option<Form> {
    Some(match opcode {
        "and" => mask_form!(|a, b| a & b),
        "or" => mask_form!(|a, b| a | b),
        "xor" => mask_form!(|a, b| a ^ b),
        "not" => mask_form!(|a| !a),
        _ => return None,
    })
}
