use super::super::carry;
use super::super::testing::{EDGES, bits_of, number, pairs, triples, truncate};
use super::arithmetic::product;
use super::{Checker, named, some_edges};
use crate::types::Type;

/// The unsigned type as wide as `ty`: the carry is that of unsigned sums.
fn unsigned(ty: Type) -> Type {
    if ty.bytes() == 8 { Type::U64 } else { Type::U32 }
}

fn flags(count: usize) -> Vec<bool> {
    (0..count).map(|i| i * i % 7 < 3).collect()
}

/// Checks that a form without `.cc` leaves the flag, and one without the letter c in its opcode does not read it. The
/// flag of a difference is set where nothing was borrowed.
fn check<const N: usize>(
    checker: &mut Checker,
    (name, takes, gives): (&str, bool, bool),
    ty: Type,
    tuples: &[[u64; N]],
    exact: impl Fn([u64; N], i128) -> i128,
) {
    for carries in [flags(tuples.len()), flags(tuples.len()).into_iter().map(|flag| !flag).collect()] {
        checker.check_with_carry(name, tuples, &carries, |tuple, carry| {
            let value = exact(tuple, i128::from(takes && carry));
            let beyond = value < 0 || value >> bits_of(ty) != 0;
            let carried = beyond != name.starts_with("sub");
            (truncate(ty, value), if gives { carried } else { carry })
        });
    }
}

#[test]
fn sums_and_differences_carry() {
    let mut checker = Checker::default();
    let two = pairs(&EDGES, &EDGES);
    let three = triples(&EDGES, &EDGES, &some_edges());
    for name in ["u32", "s32", "u64", "s64"] {
        let ty = named(name);
        let plain = unsigned(ty);
        let value = |bits| number(plain, bits);
        for (flag, takes, gives) in [(".cc", false, true), ("c", true, false), ("c.cc", true, true)] {
            let form = &format!("add{flag}.{name}");
            check(&mut checker, (form, takes, gives), ty, &two, |[a, b], carry| value(a) + value(b) + carry);
            let form = &format!("sub{flag}.{name}");
            check(&mut checker, (form, takes, gives), ty, &two, |[a, b], carry| {
                value(a) - value(b) - if takes { 1 - carry } else { 0 }
            });
            let (c, cc) = flag.split_once('.').map_or((flag, ""), |(c, _)| (c, ".cc"));
            for (half, shift) in [("lo", 0), ("hi", bits_of(ty))] {
                let form = &format!("mad{c}.{half}{cc}.{name}");
                check(&mut checker, (form, takes, gives), ty, &three, |[a, b, c], carry| {
                    let product = product(number(ty, a), number(ty, b)) >> shift;
                    i128::from(truncate(plain, product as i128)) + value(c) + carry
                });
            }
        }
    }
    checker.finish(&[carry::KNOWN]);
}

/// A sum of two numbers of 128 bits in four steps, each lane with carries of its own.
#[test]
fn carries_chain() {
    use super::super::{Level, carry::select};
    use crate::registers::{LANES, Operands, Registers};
    let numbers: Vec<(u128, u128)> =
        (0..LANES as u128).map(|i| (u128::MAX - i * i * i, (i << 96) | (i << 40) | (i % 3))).collect();
    let mut registers = Registers::new(12, 0, 0);
    for (lane, (a, b)) in numbers.iter().enumerate() {
        for word in 0..4 {
            registers.words[word].0[lane] = (a >> (32 * word)) as u32;
            registers.words[4 + word].0[lane] = (b >> (32 * word)) as u32;
        }
    }
    for (word, (opcode, modifiers)) in
        [("add", &["cc", "u32"][..]), ("addc", &["cc", "u32"]), ("addc", &["cc", "u32"]), ("addc", &["u32"])]
            .into_iter()
            .enumerate()
    {
        let form = select(opcode, modifiers, Level::detect()).expect("known");
        let word = word as u32;
        let operands = Operands { dst: 8 + word, src: [word, 4 + word, 0, 0], ..Default::default() };
        // SAFETY: the level is one that this processor has.
        unsafe { (form.exec)(&mut registers, &operands, u32::MAX) };
    }
    for (lane, (a, b)) in numbers.iter().enumerate() {
        let sum = (0..4).rev().fold(0u128, |sum, word| sum << 32 | u128::from(registers.words[8 + word].0[lane]));
        assert_eq!(sum, a.wrapping_add(*b), "lane {lane}");
    }
}
