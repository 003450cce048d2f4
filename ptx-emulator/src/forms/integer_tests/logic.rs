use super::super::logic;
use super::super::testing::{AMOUNTS, EDGES, bits_of, pairs, run, split, triples, truncate};
use super::{Checker, bit, from_bits, named};
use crate::types::Type;

#[test]
fn logic_of_bits() {
    let mut checker = Checker::default();
    let two = pairs(&EDGES, &EDGES);
    let one = EDGES.map(|a| [a]);
    for name in ["pred", "b16", "b32", "b64"] {
        let ty = named(name);
        let count = bits_of(ty).into();
        let mut check = |opcode: &str, expected: fn(u64, u64) -> bool| {
            checker.check(&format!("{opcode}.{name}"), &two, |[a, b]| {
                from_bits(count, |i| expected(bit(a, i), bit(b, i)).into())
            });
        };
        check("and", |a, b| a == 1 && b == 1);
        check("or", |a, b| a == 1 || b == 1);
        check("xor", |a, b| a != b);
        checker.check(&format!("not.{name}"), &one, |[a]| from_bits(count, |i| 1 - bit(a, i)));
        if ty != Type::Pred {
            let zero = |a| (0..count).all(|i| bit(a, i) == 0);
            checker.check(&format!("cnot.{name}"), &one, |[a]| zero(a).into());
        }
    }
    let tables: Vec<u64> = (0..256).collect();
    let three = [0xF0F0_1234, 0x5555_AAAA, 0xFFFF_0000, 0x0F3C_55AA];
    let four: Vec<[u64; 4]> = triples(&three, &three, &three)
        .into_iter()
        .flat_map(|[a, b, c]| tables.iter().map(move |&table| [a, b, c, table]))
        .collect();
    checker.check("lop3.b32", &four, |[a, b, c, table]| {
        from_bits(32, |i| bit(table, 4 * bit(a, i) + 2 * bit(b, i) + bit(c, i)))
    });
    shifts(&mut checker);
    checker.finish(&[logic::KNOWN]);
}

fn shifts(checker: &mut Checker) {
    let two = pairs(&EDGES, &AMOUNTS);
    for name in ["b16", "b32", "b64", "u16", "u32", "u64", "s16", "s32", "s64"] {
        let ty = named(name);
        let count: u64 = bits_of(ty).into();
        if name.starts_with('b') {
            checker.check(&format!("shl.{name}"), &two, |[a, n]| {
                from_bits(count, |i| if i >= n { bit(a, i - n) } else { 0 })
            });
        }
        checker.check(&format!("shr.{name}"), &two, |[a, n]| {
            let fill = if ty.is_signed() { bit(a, count - 1) } else { 0 };
            from_bits(count, |i| if i + n < count { bit(a, i + n) } else { fill })
        });
    }
    let three = triples(&EDGES, &EDGES, &AMOUNTS);
    for (mode, amount) in [("clamp", (|n| if n > 32 { 32 } else { n }) as fn(u64) -> u64), ("wrap", |n| n % 32)] {
        let joined = |a, b, i| if i < 32 { bit(a, i) } else { bit(b, i - 32) };
        checker.check(&format!("shf.l.{mode}.b32"), &three, |[a, b, n]| {
            from_bits(32, |i| joined(a, b, 32 + i - amount(n)))
        });
        checker.check(&format!("shf.r.{mode}.b32"), &three, |[a, b, n]| from_bits(32, |i| joined(a, b, i + amount(n))));
    }
}

#[test]
fn the_table_of_lop3_is_that_of_the_isa() {
    let (opcode, modifiers) = split("lop3.b32");
    let form = logic::select(opcode, &modifiers, super::super::Level::detect()).expect("known");
    let (a, b, c) = (0x1234_5678u64, 0x9ABC_DEF0, 0x0F1E_2D3C);
    // The table of a function is the function of these three.
    let (ta, tb, tc) = (0xF0u64, 0xCC, 0xAA);
    let functions: [fn(u64, u64, u64) -> u64; 4] =
        [|a, b, c| a & b & c, |a, b, c| (a & b) | (!a & c), |a, b, c| a ^ b ^ c, |a, b, _| a & !b];
    for f in functions {
        let table = truncate(Type::U8, f(ta, tb, tc).into());
        assert_eq!(run(&form, &[[a, b, c, table]]), [truncate(Type::B32, f(a, b, c).into())]);
    }
}
