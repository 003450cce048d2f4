//! Comparisons.

use super::arithmetic::form;
use super::oracle::{BF16, F16, F32, F64, Layout};
use crate::forms::float_compare::select_pair;
use crate::forms::testing::{levels, outcomes, pairs, run, triples};
use crate::types::Type;
use std::cmp::Ordering;

const FORMATS: [(Layout, &str); 4] = [(F32, "f32"), (F64, "f64"), (F16, "f16"), (BF16, "bf16")];
const RELATIONS: [&str; 14] =
    ["eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"];

/// By the order of f64: ordered comparisons are false beside a NaN, those that end in `u` true.
fn holds(relation: &str, layout: Layout, ftz: bool, a: u64, b: u64) -> bool {
    let value = |bits| layout.to_f64(if ftz { layout.flush(bits) } else { bits });
    let Some(order) = value(a).partial_cmp(&value(b)) else {
        return relation == "nan" || relation.ends_with('u');
    };
    match relation {
        "num" => true,
        "nan" => false,
        _ => match &relation[..2] {
            "eq" => order == Ordering::Equal,
            "ne" => order != Ordering::Equal,
            "lt" => order == Ordering::Less,
            "le" => order != Ordering::Greater,
            "gt" => order == Ordering::Greater,
            _ => order != Ordering::Less,
        },
    }
}

fn combine(combination: &str, truth: bool, predicate: bool) -> bool {
    match combination {
        ".and" => truth && predicate,
        ".or" => truth || predicate,
        ".xor" => truth != predicate,
        _ => truth,
    }
}

#[test]
fn setp_compares() {
    for (layout, ty) in FORMATS {
        let pairs = pairs(&layout.edges(), &layout.edges());
        for relation in RELATIONS {
            for ftz in ["", ".ftz"] {
                if !ftz.is_empty() && !matches!(ty, "f32" | "f16") {
                    continue;
                }
                for level in levels() {
                    let name = format!("setp.{relation}{ftz}.{ty}");
                    for ([a, b], result) in pairs.iter().zip(run(&form(&name, level), &pairs)) {
                        let wanted = holds(relation, layout, !ftz.is_empty(), *a, *b);
                        assert_eq!(result, wanted.into(), "{name} {a:x} {b:x}");
                    }
                }
            }
        }
    }
}

#[test]
fn setp_combines_and_writes_the_contrary() {
    for (layout, ty) in FORMATS {
        let edges: Vec<u64> = layout.edges().into_iter().step_by(3).collect();
        let triples = triples(&edges, &edges, &[0, 1]);
        for combination in [".and", ".or", ".xor"] {
            for level in levels() {
                let name = format!("setp.ltu{combination}.{ty}");
                let modifiers = name.split('.').skip(1).collect::<Vec<_>>();
                let pair = select_pair(&modifiers, level).unwrap();
                assert_eq!((pair.dst, pair.dst2), (Type::Pred, Some(Type::Pred)));
                let single = run(&form(&name, level), &triples);
                for (([a, b, c], outcome), single) in triples.iter().zip(outcomes(&pair, &triples, &[])).zip(single) {
                    let truth = holds("ltu", layout, false, *a, *b);
                    let wanted = combine(combination, truth, *c != 0);
                    let contrary = combine(combination, !truth, *c != 0);
                    assert_eq!((outcome.dst, outcome.dst2), (wanted.into(), contrary.into()), "{name}");
                    assert_eq!(single, outcome.dst);
                }
            }
        }
    }
}

#[test]
fn setp_of_pairs_writes_a_predicate_for_each_half() {
    for (layout, ty) in [(F16, "f16x2"), (BF16, "bf16x2")] {
        let lower = pairs(&layout.edges(), &layout.edges());
        for combination in ["", ".or"] {
            for relation in RELATIONS {
                let name = format!("{relation}{combination}.{ty}");
                let form = select_pair(&name.split('.').collect::<Vec<_>>(), levels()[1]).unwrap();
                let both: Vec<[u64; 3]> = lower
                    .iter()
                    .zip(lower.iter().rev())
                    .enumerate()
                    .map(|(i, (low, high))| [low[0] | high[0] << 16, low[1] | high[1] << 16, i as u64 % 2])
                    .collect();
                let results = if combination.is_empty() {
                    outcomes(&form, &both.iter().map(|&[a, b, _]| [a, b]).collect::<Vec<_>>(), &[])
                } else {
                    outcomes(&form, &both, &[])
                };
                for ([a, b, c], result) in both.iter().zip(results) {
                    let half = |shift: u32| {
                        let truth = holds(relation, layout, false, a >> shift & 0xFFFF, b >> shift & 0xFFFF);
                        u64::from(combine(combination, truth, *c != 0))
                    };
                    assert_eq!((result.dst, result.dst2), (half(0), half(16)), "{name} {a:x} {b:x}");
                }
            }
        }
    }
}

#[test]
fn set_writes_its_truth_in_the_destination_type() {
    let truths = [
        ("u32", u32::MAX),
        ("s32", u32::MAX),
        ("u16", 0xFFFF),
        ("s16", 0xFFFF),
        ("f32", 1.0_f32.to_bits()),
        ("f16", 0x3C00),
        ("bf16", 0x3F80),
    ];
    for (layout, ty) in FORMATS {
        let known = match ty {
            "f32" | "f64" => ["u32", "s32", "f32", "f16", "bf16", ""],
            "f16" => ["u32", "s32", "u16", "s16", "f16", "bf16"],
            _ => ["u32", "s32", "u16", "s16", "bf16", ""],
        };
        let triples = triples(&layout.edges(), &layout.edges(), &[0, 1]);
        let pairs = pairs(&layout.edges(), &layout.edges());
        for (result, truth) in truths.iter().filter(|(result, _)| known.contains(result)) {
            let value = |truth_of: bool| if truth_of { u64::from(*truth) } else { 0 };
            let name = format!("set.geu.{result}.{ty}");
            for ([a, b], got) in pairs.iter().zip(run(&form(&name, levels()[1]), &pairs)) {
                assert_eq!(got, value(holds("geu", layout, false, *a, *b)), "{name} {a:x} {b:x}");
            }
            let name = format!("set.lt.xor.{result}.{ty}");
            for ([a, b, c], got) in triples.iter().zip(run(&form(&name, levels()[1]), &triples)) {
                assert_eq!(
                    got,
                    value(combine(".xor", holds("lt", layout, false, *a, *b), *c != 0)),
                    "{name} {a:x} {b:x}"
                );
            }
        }
    }
}

#[test]
fn set_of_pairs_writes_each_half() {
    for (layout, ty, truths) in
        [(F16, "f16x2", [("f16x2", 0x3C00), ("u32", 0xFFFF)]), (BF16, "bf16x2", [("bf16x2", 0x3F80), ("s32", 0xFFFF)])]
    {
        for (result, truth) in truths {
            let lower = pairs(&layout.edges(), &layout.edges());
            let both: Vec<[u64; 2]> = lower
                .iter()
                .zip(lower.iter().rev())
                .map(|(low, high)| [low[0] | high[0] << 16, low[1] | high[1] << 16])
                .collect();
            let name = format!("set.neu.{result}.{ty}");
            let form = form(&name, levels()[1]);
            for ([a, b], got) in both.iter().zip(run(&form, &both)) {
                let half = |shift: u32| {
                    let holds = holds("neu", layout, false, a >> shift & 0xFFFF, b >> shift & 0xFFFF);
                    if holds { truth << shift } else { 0 }
                };
                assert_eq!(got, half(0) | half(16), "{name} {a:x} {b:x}");
            }
        }
    }
}
