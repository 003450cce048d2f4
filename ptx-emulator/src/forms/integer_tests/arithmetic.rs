use super::super::testing::{EDGES, number, pairs, triples, truncate};
use super::super::{integers, multiply, packed};
use super::{Checker, named, some_edges};
use crate::types::Type;

const INTEGERS: [&str; 6] = ["u16", "s16", "u32", "s32", "u64", "s64"];

fn clamp32(value: i128) -> u64 {
    truncate(Type::S32, value.clamp(i32::MIN.into(), i32::MAX.into()))
}

#[test]
fn sums_quotients_and_extremes() {
    let mut checker = Checker::default();
    let two = pairs(&EDGES, &EDGES);
    let three = triples(&EDGES, &EDGES, &some_edges());
    for name in INTEGERS {
        let ty = named(name);
        let mut check = |opcode: &str, expected: fn(i128, i128) -> i128| {
            checker.check(&format!("{opcode}.{name}"), &two, |[a, b]| {
                truncate(ty, expected(number(ty, a), number(ty, b)))
            });
        };
        check("add", |a, b| a + b);
        check("sub", |a, b| a - b);
        check("div", |a, b| a.checked_div(b).unwrap_or(-1));
        check("rem", |a, b| a.checked_rem(b).unwrap_or(a));
        check("min", |a, b| if b < a { b } else { a });
        check("max", |a, b| if b > a { b } else { a });
        checker.check(&format!("sad.{name}"), &three, |[a, b, c]| {
            truncate(ty, number(ty, c) + (number(ty, a) - number(ty, b)).abs())
        });
        if ty.is_signed() {
            let one = EDGES.map(|a| [a]);
            checker.check(&format!("abs.{name}"), &one, |[a]| truncate(ty, number(ty, a).abs()));
            checker.check(&format!("neg.{name}"), &one, |[a]| truncate(ty, -number(ty, a)));
        }
    }
    let s32 = |value| number(Type::S32, value);
    checker.check("add.sat.s32", &two, |[a, b]| clamp32(s32(a) + s32(b)));
    checker.check("sub.sat.s32", &two, |[a, b]| clamp32(s32(a) - s32(b)));
    checker.check("min.relu.s32", &two, |[a, b]| truncate(Type::S32, s32(a).min(s32(b)).max(0)));
    checker.check("max.relu.s32", &two, |[a, b]| truncate(Type::S32, s32(a).max(s32(b)).max(0)));
    checker.finish(&[integers::KNOWN]);
}

/// Long multiplication in 128 bits, two's complement.
pub(super) fn product(a: i128, b: i128) -> u128 {
    (0..128).filter(|i| b >> i & 1 != 0).fold(0u128, |sum, i| sum.wrapping_add((a as u128) << i))
}

/// Half of a product of numbers of `bits` bits, or all of it.
fn part(half: &str, bits: u32, product: u128) -> i128 {
    (if half == "hi" { product >> bits } else { product }) as i128
}

#[test]
fn products() {
    let mut checker = Checker::default();
    let two = pairs(&EDGES, &EDGES);
    let three = triples(&EDGES, &EDGES, &some_edges());
    for name in INTEGERS {
        let ty = named(name);
        let bits = 8 * ty.bytes();
        for half in ["lo", "hi", "wide"] {
            let result = match (half, name) {
                ("wide", "u16") => Type::U32,
                ("wide", "s16") => Type::S32,
                ("wide", "u32") => Type::U64,
                ("wide", "s32") => Type::S64,
                ("wide", _) => continue,
                _ => ty,
            };
            let exact = |a, b| part(half, bits, product(number(ty, a), number(ty, b)));
            checker.check(&format!("mul.{half}.{name}"), &two, |[a, b]| truncate(result, exact(a, b)));
            checker.check(&format!("mad.{half}.{name}"), &three, |[a, b, c]| {
                truncate(result, exact(a, b).wrapping_add(number(result, c)))
            });
        }
    }
    for (name, ty) in [("u32", Type::U32), ("s32", Type::S32)] {
        for half in ["lo", "hi"] {
            let exact = |a, b| part(half, 16, product(number24(ty, a), number24(ty, b)));
            checker.check(&format!("mul24.{half}.{name}"), &two, |[a, b]| truncate(ty, exact(a, b)));
            checker.check(&format!("mad24.{half}.{name}"), &three, |[a, b, c]| {
                truncate(ty, exact(a, b).wrapping_add(number(ty, c)))
            });
        }
    }
    let s32 = |value| number(Type::S32, value);
    checker.check("mad.hi.sat.s32", &three, |[a, b, c]| clamp32(((s32(a) * s32(b)) >> 32) + s32(c)));
    checker.check("mad24.hi.sat.s32", &three, |[a, b, c]| {
        clamp32(((number24(Type::S32, a) * number24(Type::S32, b)) >> 16) + s32(c))
    });
    checker.finish(&[multiply::KNOWN]);
}

fn number24(ty: Type, value: u64) -> i128 {
    let low = i128::from(value & 0xFF_FFFF);
    if ty.is_signed() && low >= 0x80_0000 { low - 0x100_0000 } else { low }
}

/// Element `index` of the elements of type `ty` in a register.
fn element(ty: Type, register: u64, index: u32) -> i128 {
    number(ty, register >> (index * 8 * ty.bytes()))
}

#[test]
fn packed_integers() {
    let mut checker = Checker::default();
    let two = pairs(&EDGES, &EDGES);
    for (name, ty) in [("u16x2", Type::U16), ("s16x2", Type::S16)] {
        let mut check = |opcode: &str, expected: fn(i128, i128) -> i128| {
            checker.check(&format!("{opcode}.{name}"), &two, |[a, b]| {
                let half = |i| truncate(ty, expected(element(ty, a, i), element(ty, b, i)));
                half(0) + (half(1) << 16)
            });
        };
        check("add", |a, b| a + b);
        check("min", |a, b| if b < a { b } else { a });
        check("max", |a, b| if b > a { b } else { a });
        if ty == Type::S16 {
            check("min.relu", |a, b| if a < 0 || b < 0 { 0 } else { a.min(b) });
            check("max.relu", |a, b| if a < 0 && b < 0 { 0 } else { a.max(b) });
        }
    }
    let three = triples(&EDGES, &EDGES, &some_edges());
    let narrow = [("u32", Type::U8, Type::U16), ("s32", Type::S8, Type::S16)];
    for (a_name, a_byte, a_half) in narrow {
        for (b_name, b_byte, _) in narrow {
            checker.check(&format!("dp4a.{a_name}.{b_name}"), &three, |[a, b, c]| {
                let sum: i128 = (0..4).map(|i| element(a_byte, a, i) * element(b_byte, b, i)).sum();
                truncate(Type::U32, sum + number(Type::S32, c))
            });
            for (mode, first) in [("lo", 0), ("hi", 2)] {
                checker.check(&format!("dp2a.{mode}.{a_name}.{b_name}"), &three, |[a, b, c]| {
                    let sum: i128 = (0..2).map(|i| element(a_half, a, i) * element(b_byte, b, first + i)).sum();
                    truncate(Type::U32, sum + number(Type::S32, c))
                });
            }
        }
    }
    for (name, byte, _) in narrow {
        let difference = |a, b, i| (element(byte, a, i) - element(byte, b, i)).abs();
        let form = &format!("vabsdiff4.u32.{name}.{name}");
        checker
            .check(form, &three, |[a, b, _]| truncate(Type::U32, (0..4).map(|i| difference(a, b, i) << (8 * i)).sum()));
        checker.check(&format!("{form}.add"), &three, |[a, b, c]| {
            truncate(Type::U32, (0..4).map(|i| difference(a, b, i)).sum::<i128>() + number(Type::U32, c))
        });
    }
    checker.finish(&[packed::KNOWN]);
}
