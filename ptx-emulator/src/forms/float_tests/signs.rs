//! Signs, extremes and properties.

use super::arithmetic::form;
use super::oracle::{BF16, F16, F32, F64, Layout};
use crate::forms::float_signs::select_three;
use crate::forms::testing::{levels, pairs, run, run1, split, triples};

const FORMATS: [(Layout, &str); 4] = [(F32, "f32"), (F64, "f64"), (F16, "f16"), (BF16, "bf16")];

#[test]
fn neg_and_abs_touch_the_sign_alone() {
    for (layout, ty) in FORMATS {
        for level in levels() {
            let edges = layout.edges();
            for ((bits, negated), absolute) in edges
                .iter()
                .zip(run1(&form(&format!("neg.{ty}"), level), &edges))
                .zip(run1(&form(&format!("abs.{ty}"), level), &edges))
            {
                assert_eq!(negated, bits ^ layout.sign(), "{ty} {bits:x}");
                assert_eq!(absolute, bits & !layout.sign(), "{ty} {bits:x}");
            }
            if matches!(ty, "f32" | "f16") {
                let results = run1(&form(&format!("neg.ftz.{ty}"), level), &edges);
                for (bits, negated) in edges.iter().zip(results) {
                    assert_eq!(negated, layout.flush(*bits) ^ layout.sign(), "{ty} {bits:x}");
                }
            }
        }
    }
}

/// By the total order of f64, which has -0 below +0.
fn extremum(layout: Layout, greater: bool, nan_wins: bool, a: u64, b: u64) -> u64 {
    let (x, y) = (layout.to_f64(a), layout.to_f64(b));
    match (layout.is_nan(a), layout.is_nan(b)) {
        (true, true) => layout_nan(layout),
        (true, false) | (false, true) if nan_wins => layout_nan(layout),
        (true, false) => b,
        (false, true) => a,
        _ if (x.total_cmp(&y).is_gt()) == greater => a,
        _ => b,
    }
}

fn layout_nan(layout: Layout) -> u64 {
    if layout == F64 { 0x7FFF_FFFF_E000_0000 } else { layout.nan() }
}

#[test]
fn extremes() {
    for (layout, ty) in FORMATS {
        let pairs = pairs(&layout.edges(), &layout.edges());
        let all = ["", ".ftz", ".NaN", ".xorsign.abs", ".ftz.NaN", ".NaN.xorsign.abs", ".ftz.NaN.xorsign.abs"];
        for modifiers in all {
            if (ty == "f64" && !modifiers.is_empty()) || (ty == "bf16" && modifiers.contains("ftz")) {
                continue;
            }
            for (opcode, greater) in [("min", false), ("max", true)] {
                let name = format!("{opcode}{modifiers}.{ty}");
                for level in levels() {
                    for ([a, b], result) in pairs.iter().zip(run(&form(&name, level), &pairs)) {
                        let flushed = |bits| if modifiers.contains("ftz") { layout.flush(bits) } else { bits };
                        let (a, b) = (flushed(*a), flushed(*b));
                        let nan_wins = modifiers.contains("NaN");
                        let wanted = if modifiers.contains("xorsign") {
                            let magnitude = extremum(layout, greater, nan_wins, a & !layout.sign(), b & !layout.sign());
                            let sign = if layout.is_nan(magnitude) { 0 } else { (a ^ b) & layout.sign() };
                            magnitude | sign
                        } else {
                            extremum(layout, greater, nan_wins, a, b)
                        };
                        assert_eq!(result, wanted, "{name} {a:x} {b:x}");
                    }
                }
            }
        }
    }
}

#[test]
fn extremes_of_three() {
    let edges: Vec<u64> = F32.edges().into_iter().step_by(2).chain([0x8000_0000, 0x7FC0_0001]).collect();
    let triples = triples(&edges, &edges, &edges);
    for (name, greater) in [
        ("min.f32", false),
        ("max.f32", true),
        ("max.ftz.NaN.abs.f32", true),
        ("min.NaN.f32", false),
        ("min.abs.f32", false),
    ] {
        let (opcode, modifiers) = split(name);
        for level in levels() {
            let form = select_three(opcode, &modifiers, level).unwrap();
            for (operands, result) in triples.iter().zip(run(&form, &triples)) {
                let [a, b, c] = operands.map(|bits| {
                    let bits = if name.contains("ftz") { F32.flush(bits) } else { bits };
                    if name.contains("abs") { bits & !F32.sign() } else { bits }
                });
                let nan_wins = name.contains("NaN");
                let wanted = extremum(F32, greater, nan_wins, extremum(F32, greater, nan_wins, a, b), c);
                assert_eq!(result, wanted, "{name} {operands:x?}");
            }
        }
    }
}

#[test]
fn copysign_takes_the_sign_of_its_first_operand() {
    for (layout, ty) in &FORMATS[..2] {
        let pairs = pairs(&layout.edges(), &layout.edges());
        for level in levels() {
            for ([a, b], result) in pairs.iter().zip(run(&form(&format!("copysign.{ty}"), level), &pairs)) {
                assert_eq!(result, a & layout.sign() | b & !layout.sign());
            }
        }
    }
}

#[test]
fn properties() {
    for (layout, ty) in &FORMATS[..2] {
        let edges = layout.edges();
        for level in levels() {
            let of = |property: &str| run1(&form(&format!("testp.{property}.{ty}"), level), &edges);
            let all = ["finite", "infinite", "number", "notanumber", "normal", "subnormal"].map(of);
            for (i, &bits) in edges.iter().enumerate() {
                let magnitude = bits & !layout.sign();
                let (nan, infinite) = (magnitude > layout.infinity(), magnitude == layout.infinity());
                let subnormal = magnitude != 0 && magnitude < 1 << layout.1;
                let wanted =
                    [!nan && !infinite, infinite, !nan, nan, !nan && !infinite && !subnormal, subnormal].map(u64::from);
                assert_eq!(std::array::from_fn(|property| all[property][i]), wanted, "{ty} {bits:x}");
            }
        }
    }
}
