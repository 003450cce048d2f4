use super::super::compare;
use super::super::testing::{EDGES, levels, number, outcomes, pairs, triples};
use super::{Checker, named};
use crate::types::Type;
use std::cmp::Ordering;

const TYPES: [&str; 9] = ["b16", "b32", "b64", "u16", "s16", "u32", "s32", "u64", "s64"];
/// The comparisons, what they hold for, and the types that have them by their first letter.
const COMPARISONS: [(&str, &[Ordering], &str); 10] = [
    ("eq", &[Ordering::Equal], "bus"),
    ("ne", &[Ordering::Less, Ordering::Greater], "bus"),
    ("lt", &[Ordering::Less], "us"),
    ("le", &[Ordering::Less, Ordering::Equal], "us"),
    ("gt", &[Ordering::Greater], "us"),
    ("ge", &[Ordering::Greater, Ordering::Equal], "us"),
    ("lo", &[Ordering::Less], "u"),
    ("ls", &[Ordering::Less, Ordering::Equal], "u"),
    ("hi", &[Ordering::Greater], "u"),
    ("hs", &[Ordering::Greater, Ordering::Equal], "u"),
];
type Combine = fn(bool, bool) -> bool;
const COMBINATIONS: [(&str, Combine); 3] = [("and", |a, b| a && b), ("or", |a, b| a || b), ("xor", |a, b| a != b)];

/// Calls `each` with comparison, type and truth for every comparison that exists.
fn comparisons(mut each: impl FnMut(&str, &str, &dyn Fn(u64, u64) -> bool)) {
    for (comparison, orders, kinds) in COMPARISONS {
        for name in TYPES.iter().filter(|name| kinds.contains(&name[..1])) {
            let ty = named(name);
            each(comparison, name, &|a, b| orders.contains(&number(ty, a).cmp(&number(ty, b))));
        }
    }
}

#[test]
fn comparisons_give_predicates_and_numbers() {
    let mut checker = Checker::default();
    let two = pairs(&EDGES, &EDGES);
    let three = triples(&EDGES, &EDGES, &[0, 1]);
    let results = [("u32", 0xFFFF_FFFF), ("s32", 0xFFFF_FFFF), ("f32", 0x3F80_0000), ("f16", 0x3C00), ("bf16", 0x3F80)];
    comparisons(|comparison, ty, holds| {
        checker.check(&format!("setp.{comparison}.{ty}"), &two, |[a, b]| holds(a, b).into());
        for (result, one) in results {
            let name = format!("set.{comparison}.{result}.{ty}");
            checker.check(&name, &two, |[a, b]| if holds(a, b) { one } else { 0 });
        }
        for (combination, combine) in COMBINATIONS {
            let truth = |[a, b, c]: [u64; 3]| combine(holds(a, b), c == 1);
            checker.check(&format!("setp.{comparison}.{combination}.{ty}"), &three, |tuple| truth(tuple).into());
            for (result, one) in results {
                let name = format!("set.{comparison}.{combination}.{result}.{ty}");
                checker.check(&name, &three, |tuple| if truth(tuple) { one } else { 0 });
            }
        }
    });
    checker.finish(&[compare::KNOWN]);
}

#[test]
fn the_second_predicate_is_that_of_the_contrary() {
    let two = pairs(&EDGES, &EDGES);
    let three = triples(&EDGES, &EDGES, &[0, 1]);
    comparisons(|comparison, ty, holds| {
        for level in levels() {
            let form = compare::select_pair(&[comparison, ty], level).expect("known");
            assert_eq!((form.dst, form.dst2), (Type::Pred, Some(Type::Pred)));
            for (outcome, [a, b]) in outcomes(&form, &two, &[]).into_iter().zip(&two) {
                let truth = holds(*a, *b);
                assert_eq!((outcome.dst, outcome.dst2), (truth.into(), (!truth).into()), "{comparison} {ty} {a} {b}");
            }
            for (combination, combine) in COMBINATIONS {
                let form = compare::select_pair(&[comparison, combination, ty], level).expect("known");
                for (outcome, [a, b, c]) in outcomes(&form, &three, &[]).into_iter().zip(&three) {
                    let (truth, c) = (holds(*a, *b), *c == 1);
                    let expected = (combine(truth, c).into(), combine(!truth, c).into());
                    assert_eq!((outcome.dst, outcome.dst2), expected, "{comparison} {combination} {ty} {a} {b} {c}");
                }
            }
        }
    });
}
