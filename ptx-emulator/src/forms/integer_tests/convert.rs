use super::super::convert_integers::{self, select_into};
use super::super::testing::{EDGES, bits_of, levels, number, run1, triples, truncate};
use super::{Checker, named, some_edges};
use crate::types::Type;

const TYPES: [&str; 8] = ["u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64"];

/// The least and greatest number of a type.
fn range(bits: u32, signed: bool) -> (i128, i128) {
    if signed { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) }
}

/// What a conversion leaves in a register of `bits` bits: the number in the type, then the bits of that number.
fn expected(from: Type, to: Type, saturate: bool, bits: u32, a: u64) -> u64 {
    let (low, high) = range(bits_of(to), to.is_signed());
    let value = number(from, a);
    let value = if saturate { value.clamp(low, high) } else { number(to, truncate(to, value)) };
    value as u64 & (u64::MAX >> (64 - bits))
}

#[test]
fn conversions() {
    let mut checker = Checker::default();
    let one = EDGES.map(|a| [a]);
    for (from, to, sat) in cases() {
        let (source, target) = (named(from), named(to));
        let bits = bits_of(target).max(32);
        let name = format!("cvt{sat}.{to}.{from}");
        checker.check(&name, &one, |[a]| expected(source, target, !sat.is_empty(), bits, a));
    }
    let three = triples(&EDGES, &EDGES, &some_edges());
    let two: Vec<[u64; 2]> = three.iter().map(|[a, b, _]| [*a, *b]).collect();
    for (name, signed) in [("u", false), ("s", true)] {
        for size in [2, 4, 8, 16] {
            let (low, high) = range(size, signed);
            let clamp = |a| number(Type::S32, a).clamp(low, high) as u64 & ((1 << size) - 1);
            let packed = |a, b| clamp(a) << size | clamp(b);
            if size == 16 {
                checker.check(&format!("cvt.pack.sat.{name}16.s32"), &two, |[a, b]| packed(a, b));
            } else {
                let name = format!("cvt.pack.sat.{name}{size}.s32.b32");
                checker.check(&name, &three, |[a, b, c]| (c << (2 * size) | packed(a, b)) & 0xFFFF_FFFF);
            }
        }
    }
    checker.finish(&[convert_integers::KNOWN]);
}

fn cases() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    TYPES.iter().flat_map(|from| TYPES.iter().flat_map(move |to| ["", ".sat"].map(|sat| (*from, *to, sat))))
}

#[test]
fn conversions_extend_to_the_register() {
    for (from, to, sat) in cases() {
        let (source, target) = (named(from), named(to));
        let modifiers: Vec<&str> = sat.split('.').skip(1).chain([to, from]).collect();
        for bits in [8, 16, 32, 64] {
            for level in levels() {
                let form = select_into(&modifiers, bits, level);
                assert_eq!(form.is_some(), bits >= bits_of(target), "{to} in {bits} bits");
                let Some(form) = form else { continue };
                assert_eq!((bits_of(form.dst), &form.src), (bits, &vec![source]));
                let all = EDGES.map(|a| expected(source, target, !sat.is_empty(), bits, a));
                assert_eq!(run1(&form, &EDGES), all, "cvt{sat}.{to}.{from} in {bits} bits");
            }
        }
    }
    assert!(select_into(&["u32", "u32"], 128, levels()[0]).is_none());
}
