use super::super::moves;
use super::super::testing::{EDGES, levels, pairs, run, run1, triples, truncate};
use super::{Checker, named};
use crate::types::Type;

const TYPES: [&str; 11] = ["b16", "b32", "b64", "u16", "u32", "u64", "s16", "s32", "s64", "f32", "f64"];

#[test]
fn moves_and_selections() {
    let mut checker = Checker::default();
    let one = EDGES.map(|a| [a]);
    checker.check("mov.pred", &one, |[a]| a % 2);
    let selectors = [0, 1, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF];
    // Numbers and what they are with subnormals: zeros, ones, the least normal, subnormals, infinities, NaNs.
    let floats = [
        (0, true, true),
        (0x8000_0000, true, true),
        (0x3F80_0000, true, true),
        (0xBF80_0000, false, false),
        (0x0000_0001, true, true),
        (0x8000_0001, false, true),
        (0x807F_FFFF, false, true),
        (0x8080_0000, false, false),
        (0x7F80_0000, true, true),
        (0xFF80_0000, false, false),
        (0x7FC0_0000, false, false),
        (0xFFC0_0000, false, false),
    ];
    let float_bits = floats.map(|(bits, ..)| bits);
    for name in TYPES {
        let ty = named(name);
        let pick = |first, a: u64, b: u64| truncate(ty, if first { a } else { b }.into());
        checker.check(&format!("mov.{name}"), &one, |[a]| pick(true, a, a));
        let three = triples(&EDGES, &EDGES, &[0, 1]);
        checker.check(&format!("selp.{name}"), &three, |[a, b, c]| pick(c == 1, a, b));
        let three = triples(&EDGES, &EDGES, &selectors);
        checker.check(&format!("slct.{name}.s32"), &three, |[a, b, c]| pick(c < 0x8000_0000, a, b));
        let three = triples(&EDGES, &EDGES[..4], &float_bits);
        let sign = |c| floats.iter().find(|(bits, ..)| *bits == c).expect("a float of the table");
        checker.check(&format!("slct.{name}.f32"), &three, |[a, b, c]| pick(sign(c).1, a, b));
        checker.check(&format!("slct.ftz.{name}.f32"), &three, |[a, b, c]| pick(sign(c).2, a, b));
    }
    checker.finish(&[moves::KNOWN]);
}

#[test]
fn forms_keep_the_types_that_immediates_need() {
    for level in levels() {
        let form = moves::select("selp", &["f32"], level).expect("known");
        assert_eq!((form.dst, form.src), (Type::F32, vec![Type::F32, Type::F32, Type::Pred]));
        let form = moves::select("mov", &["f64"], level).expect("known");
        assert_eq!((form.dst, form.src), (Type::F64, vec![Type::F64]));
    }
}

#[test]
fn packing_and_unpacking() {
    let four: Vec<[u64; 4]> =
        pairs(&EDGES, &EDGES).into_iter().map(|[a, b]| [a, b, !a, a ^ b.rotate_left(9)]).collect();
    let two = pairs(&EDGES, &EDGES);
    let kinds = [
        (Type::B8, Type::B16),
        (Type::B8, Type::B32),
        (Type::B16, Type::B32),
        (Type::F16, Type::U32),
        (Type::B16, Type::B64),
        (Type::B32, Type::B64),
        (Type::F32, Type::F64),
    ];
    for (part, whole) in kinds {
        let count = whole.bytes() / part.bytes();
        let joined = |parts: &[u64]| {
            parts
                .iter()
                .rev()
                .fold(0, |all: u128, &value| all << (8 * part.bytes()) | u128::from(truncate(part, value.into())))
        };
        for level in levels() {
            let form = moves::pack(part, whole, level).expect("known");
            assert_eq!((form.dst, &form.src), (whole, &vec![part; count as usize]));
            let (got, expected): (_, Vec<u64>) = if count == 2 {
                (run(&form, &two), two.iter().map(|parts| joined(parts) as u64).collect())
            } else {
                (run(&form, &four), four.iter().map(|parts| joined(parts) as u64).collect())
            };
            assert_eq!(got, expected, "{part:?} to {whole:?}");
            for index in 0..count {
                let form = moves::unpack(part, index, whole, level).expect("known");
                assert_eq!((form.dst, &form.src), (part, &vec![whole]));
                let expected = EDGES.map(|a| truncate(part, i128::from(a >> (8 * part.bytes() * index))));
                assert_eq!(run1(&form, &EDGES), expected, "{part:?} {index} of {whole:?}");
            }
            assert!(moves::unpack(part, count, whole, level).is_none());
        }
    }
    assert!(moves::pack(Type::B64, Type::B128, levels()[0]).is_none());
    assert!(moves::pack(Type::B32, Type::B32, levels()[0]).is_none());
    assert!(moves::pack(Type::Pred, Type::B32, levels()[0]).is_none());
}
