//! Sums, products, quotients and roots of every format, in every rounding.

use super::oracle::{self, BF16, Exact, F16, F32, F64, Layout, Number, Random};
use crate::arith::Mode;
use crate::forms::float_families::select;
use crate::forms::testing::{levels, pairs, run, split, triples};
use crate::forms::{Class, Form, Level};

const MODES: [(&str, Mode); 5] =
    [("", Mode::Nearest), (".rn", Mode::Nearest), (".rz", Mode::Zero), (".rm", Mode::Down), (".rp", Mode::Up)];

pub(super) fn form(name: &str, level: Level) -> Form {
    let (opcode, modifiers) = split(name);
    select(opcode, &modifiers, level).unwrap_or_else(|| panic!("{name} is not known"))
}

fn exact<const N: usize>(opcode: &str, numbers: [Number; N]) -> Exact {
    let (a, b, c) = (numbers[0], numbers[1 % N], numbers[N - 1]);
    match opcode {
        "add" => oracle::fused(a, oracle::one(), b),
        "sub" => oracle::fused(a, oracle::one(), oracle::negated(b)),
        "mul" => oracle::fused(a, b, oracle::zero_of(a, b)),
        "fma" | "mad" => oracle::fused(a, b, c),
        "div" => oracle::quotient(a, b),
        "rcp" => oracle::quotient(oracle::one(), a),
        "sqrt" => oracle::root(a),
        _ => panic!("{opcode}"),
    }
}

/// Every operand of the edges, and random ones.
fn tuples<const N: usize>(layout: Layout, random: usize) -> Vec<[u64; N]> {
    // All triples would take long; the steps are such that every edge comes with every kind of other.
    let edges = layout.edges().into_iter().step_by(if N == 3 { 2 } else { 1 }).collect::<Vec<_>>();
    let others = layout.edges().into_iter().skip(1).step_by(2).collect::<Vec<_>>();
    let mut all: Vec<[u64; N]> = match N {
        1 => edges.iter().map(|&a| [a; N]).collect(),
        2 => pairs(&edges, &edges).iter().map(|pair| std::array::from_fn(|i| pair[i])).collect(),
        _ => {
            triples(&edges, &others, &layout.edges()).iter().map(|triple| std::array::from_fn(|i| triple[i])).collect()
        }
    };
    let mut seed = Random(layout.1.into());
    all.extend((0..random).map(|_| seed.operands(layout)));
    all
}

/// The NaN of an f64 operation.
fn nan64<const N: usize>(operands: [u64; N]) -> u64 {
    let nan = operands.into_iter().find(|&bits| F64.is_nan(bits));
    nan.map_or(0xFFF8_0000_0000_0000, |bits| bits | 0x0008_0000_0000_0000)
}

/// Compares `opcode` with all `suffixes` (rounding is put before) with the oracle.
fn check<const N: usize>(opcode: &str, layout: Layout, suffixes: &[&str], modes: &[(&str, Mode)], random: usize) {
    let tuples = tuples::<N>(layout, random);
    for ftz in [false, true] {
        let flushed = |bits| if ftz { layout.flush(bits) } else { bits };
        let wanted: Vec<_> = tuples
            .iter()
            .map(|operands| exact(opcode, operands.map(|bits| layout.decode(flushed(bits)))).round(layout))
            .collect();
        for &(rounding, mode) in modes {
            for suffix in suffixes.iter().filter(|suffix| suffix.contains("ftz") == ftz) {
                let name = format!("{opcode}{rounding}{suffix}");
                for level in levels() {
                    let results = run(&form(&name, level), &tuples);
                    for ((operands, wanted), result) in tuples.iter().zip(&wanted).zip(results) {
                        let mut wanted = flushed(wanted.get(mode));
                        if layout == F64 && layout.is_nan(wanted) {
                            wanted = nan64(*operands);
                        }
                        if suffix.contains("sat") {
                            wanted = layout.saturate(wanted);
                        } else if suffix.contains("relu") {
                            wanted = layout.relu(wanted);
                        }
                        assert_eq!(result, wanted, "{name} {level:?}: {operands:x?} gave {result:x}, not {wanted:x}");
                    }
                }
            }
        }
    }
}

const SINGLE: [&str; 4] = [".f32", ".ftz.f32", ".sat.f32", ".ftz.sat.f32"];

#[test]
fn sums_of_f32() {
    check::<2>("add", F32, &SINGLE, &MODES, 20_000);
    check::<2>("sub", F32, &SINGLE, &MODES, 20_000);
}

#[test]
fn products_of_f32() {
    check::<2>("mul", F32, &SINGLE, &MODES, 20_000);
}

#[test]
fn fused_products_of_f32() {
    check::<3>("fma", F32, &SINGLE, &MODES[1..], 20_000);
    check::<3>("mad", F32, &SINGLE[..1], &MODES[1..], 100);
}

#[test]
fn quotients_and_roots_of_f32() {
    check::<2>("div", F32, &SINGLE[..2], &MODES[1..], 40_000);
    check::<1>("rcp", F32, &SINGLE[..2], &MODES[1..], 40_000);
    check::<1>("sqrt", F32, &SINGLE[..2], &MODES[1..], 40_000);
}

#[test]
fn sums_and_products_of_f64() {
    check::<2>("add", F64, &[".f64"], &MODES, 10_000);
    check::<2>("sub", F64, &[".f64"], &MODES, 10_000);
    check::<2>("mul", F64, &[".f64"], &MODES, 10_000);
}

#[test]
fn fused_products_of_f64() {
    check::<3>("fma", F64, &[".f64"], &MODES[1..], 10_000);
    check::<3>("mad", F64, &[".f64"], &MODES[1..2], 100);
}

#[test]
fn quotients_and_roots_of_f64() {
    check::<2>("div", F64, &[".f64"], &MODES[1..], 10_000);
    check::<1>("rcp", F64, &[".f64"], &MODES[1..], 10_000);
    check::<1>("sqrt", F64, &[".f64"], &MODES[1..], 10_000);
}

#[test]
fn halves() {
    let f16 = [".f16", ".ftz.f16", ".sat.f16", ".ftz.sat.f16"];
    for opcode in ["add", "sub", "mul"] {
        check::<2>(opcode, F16, &f16, &MODES[..2], 50_000);
        check::<2>(opcode, BF16, &[".bf16"], &MODES[..2], 50_000);
    }
}

#[test]
fn fused_products_of_halves() {
    let f16 = [".f16", ".ftz.f16", ".sat.f16", ".ftz.sat.f16", ".relu.f16", ".ftz.relu.f16"];
    check::<3>("fma", F16, &f16, &MODES[1..2], 50_000);
    check::<3>("fma", BF16, &[".bf16", ".relu.bf16"], &MODES[1..2], 50_000);
}

/// Each half of a packed result is what the form of single numbers gives.
#[test]
fn packed_halves_are_two_halves() {
    for (layout, ty) in [(F16, "f16"), (BF16, "bf16")] {
        for level in levels() {
            let lines: &[&str] = if layout == F16 {
                &[
                    "add",
                    "sub.rn.ftz",
                    "mul.sat",
                    "fma.rn",
                    "fma.rn.ftz.relu",
                    "min.NaN",
                    "max.ftz.xorsign.abs",
                    "neg.ftz",
                ]
            } else {
                &["add.rn", "sub", "mul", "fma.rn", "fma.rn.relu", "min.NaN", "max.xorsign.abs", "abs"]
            };
            for line in lines {
                let (single, packed) = (form(&format!("{line}.{ty}"), level), form(&format!("{line}.{ty}x2"), level));
                assert_eq!(packed.flops, 2 * single.flops, "{line}.{ty}");
                match single.src.len() {
                    1 => check_packed::<1>(&single, &packed, layout, line),
                    2 => check_packed::<2>(&single, &packed, layout, line),
                    _ => check_packed::<3>(&single, &packed, layout, line),
                }
            }
        }
    }
}

fn check_packed<const N: usize>(single: &Form, packed: &Form, layout: Layout, line: &str) {
    let lower: Vec<[u64; N]> = tuples(layout, 0);
    let upper: Vec<[u64; N]> = lower.iter().rev().copied().collect();
    let both: Vec<[u64; N]> =
        lower.iter().zip(&upper).map(|(low, high)| std::array::from_fn(|i| low[i] | high[i] << 16)).collect();
    let results = run(packed, &both);
    for ((result, low), high) in results.iter().zip(run(single, &lower)).zip(run(single, &upper)) {
        assert_eq!(*result, low | high << 16, "{line}");
    }
}

#[test]
fn mixed_sums_and_products() {
    for (layout, ty) in [(F16, "f16"), (BF16, "bf16")] {
        for (rounding, mode) in MODES {
            for level in levels() {
                let halves = layout.edges();
                let name = format!("add{rounding}.f32.{ty}");
                let two = pairs(&halves, &F32.edges());
                for ([a, c], result) in two.iter().zip(run(&form(&name, level), &two)) {
                    let sum = oracle::fused(layout.decode(*a), oracle::one(), F32.decode(*c));
                    assert_eq!(result, sum.round(F32).get(mode), "{name} {a:x} {c:x}");
                }
                if rounding.is_empty() {
                    continue;
                }
                let name = format!("fma{rounding}.sat.f32.{ty}");
                let three = triples(&halves[8..20], &halves, &F32.edges());
                for ([a, b, c], result) in three.iter().zip(run(&form(&name, level), &three)) {
                    let sum = oracle::fused(layout.decode(*a), layout.decode(*b), F32.decode(*c));
                    assert_eq!(result, F32.saturate(sum.round(F32).get(mode)), "{name} {a:x} {b:x} {c:x}");
                }
            }
        }
    }
}

#[test]
fn counters_know_the_forms() {
    let level = Level::detect();
    let facts = |name: &str| {
        let form = form(name, level);
        (form.class, form.flops, form.contractable)
    };
    assert_eq!(facts("add.f32"), (Class::Float, 1, true));
    assert_eq!(facts("mul.ftz.f32"), (Class::Float, 1, true));
    assert_eq!(facts("sub.f64"), (Class::Double, 1, true));
    assert_eq!(facts("add.rn.f32"), (Class::Float, 1, false));
    assert_eq!(facts("fma.rn.f32"), (Class::Float, 2, false));
    assert_eq!(facts("fma.rm.f64"), (Class::Double, 2, false));
    assert_eq!(facts("mul.f16"), (Class::Float, 1, false));
    assert_eq!(facts("fma.rn.bf16x2"), (Class::Float, 4, false));
    assert!(form("ex2.approx.f32", level).exponential);
    assert!(!form("lg2.approx.f32", level).exponential);
}
