//! Nominal results of approximate functions.

use super::arithmetic::form;
use super::oracle::{self, BF16, Exact, F16, F32, Layout, Number, Random};
use crate::arith::Mode;
use crate::forms::testing::{levels, pairs, run, run1};

fn operands(layout: Layout) -> Vec<u64> {
    if layout != F32 {
        return (0..1 << 16).collect();
    }
    let mut random = Random(11);
    let mut all = F32.edges();
    all.extend((0..40_000).map(|i| {
        let bits = random.bits() as u32;
        u64::from(if i % 2 == 0 { bits } else { ((bits as i32 as f32) * 1e-7).to_bits() })
    }));
    all
}

fn flushed(name: &str, layout: Layout, bits: u64) -> u64 {
    if name.contains("ftz") { layout.flush(bits) } else { bits }
}

/// Rounded exactly: by comparison with candidates, in integers.
#[test]
fn reciprocals_and_roots_are_correctly_rounded() {
    let operands = operands(F32);
    for opcode in ["rcp", "sqrt", "rsqrt"] {
        for ftz in ["", ".ftz"] {
            let name = format!("{opcode}.approx{ftz}.f32");
            for level in levels() {
                for (bits, result) in operands.iter().zip(run1(&form(&name, level), &operands)) {
                    let number = F32.decode(flushed(&name, F32, *bits));
                    let exact = match (opcode, number) {
                        ("rcp", _) => oracle::quotient(oracle::one(), number),
                        ("sqrt", _) => oracle::root(number),
                        (_, Number::Finite(negative, (0, _))) => Exact::Infinite(negative),
                        (_, Number::Infinite(false)) => Exact::Zero(false, false),
                        (_, Number::Finite(false, (x, i))) => {
                            // m^2 x against 1.
                            Exact::Magnitude(
                                false,
                                Box::new(move |(m, j)| {
                                    match oracle::fused(
                                        Number::Finite(false, (m * m, 2 * j)),
                                        Number::Finite(false, (x, i)),
                                        Number::Finite(true, (1, 0)),
                                    ) {
                                        Exact::Magnitude(true, _) => std::cmp::Ordering::Greater,
                                        Exact::Magnitude(false, _) => std::cmp::Ordering::Less,
                                        _ => std::cmp::Ordering::Equal,
                                    }
                                }),
                            )
                        }
                        _ => Exact::Nan,
                    };
                    let wanted = flushed(&name, F32, exact.round(F32).get(Mode::Nearest));
                    assert_eq!(result, wanted, "{name} {bits:x}");
                }
            }
        }
    }
}

#[test]
fn quotients() {
    let mut random = Random(17);
    let mut all = pairs(&F32.edges(), &F32.edges());
    all.extend((0..20_000).map(|_| random.operands::<2>(F32)));
    for name in ["div.full.f32", "div.full.ftz.f32", "div.approx.f32", "div.approx.ftz.f32"] {
        for level in levels() {
            for ([a, b], result) in all.iter().zip(run(&form(name, level), &all)) {
                let (a, b) = (flushed(name, F32, *a), flushed(name, F32, *b));
                let exact = oracle::quotient(F32.decode(a), F32.decode(b)).round(F32).get(Mode::Nearest);
                // Above 2^126 the reciprocal that div.approx multiplies by is 0.
                let size = f32::from_bits(b as u32 & 0x7FFF_FFFF);
                let wanted = match f32::from_bits(a as u32 & 0x7FFF_FFFF) {
                    _ if name.contains("full") || size <= 2.0_f32.powi(126) || size.is_infinite() || size.is_nan() => {
                        exact
                    }
                    f32::INFINITY => F32.nan(),
                    a if a.is_nan() => F32.nan(),
                    _ => (a ^ b) & F32.sign(),
                };
                assert_eq!(result, flushed(name, F32, wanted), "{name} {a:x} {b:x}");
            }
        }
    }
}

/// By identities in f64, which other functions of the standard library evaluate.
fn reference(opcode: &str, x: f64) -> f64 {
    match opcode {
        "ex2" => x.exp2(),
        "lg2" => x.ln() * std::f64::consts::LOG2_E,
        "sin" => 2.0 * (x / 2.0).sin() * (x / 2.0).cos(),
        "cos" => 1.0 - 2.0 * (x / 2.0).sin().powi(2),
        _ => {
            let grown = (2.0 * x.abs()).exp_m1();
            let size = if grown.is_infinite() { 1.0 } else { grown / (grown + 2.0) };
            size.copysign(x)
        }
    }
}

#[test]
fn transcendental_functions_round_to_nearest() {
    let names = [
        "ex2.approx.f32",
        "ex2.approx.ftz.f32",
        "lg2.approx.f32",
        "lg2.approx.ftz.f32",
        "sin.approx.f32",
        "cos.approx.ftz.f32",
        "tanh.approx.f32",
        "ex2.approx.f16",
        "ex2.approx.ftz.bf16",
        "tanh.approx.f16",
        "tanh.approx.bf16",
    ];
    for name in names {
        let layout = match name.rsplit('.').next().unwrap() {
            "f16" => F16,
            "bf16" => BF16,
            _ => F32,
        };
        let operands = operands(layout);
        let opcode = &name[..name.find('.').unwrap()];
        for level in levels() {
            for (bits, result) in operands.iter().zip(run1(&form(name, level), &operands)) {
                let x = layout.to_f64(flushed(name, layout, *bits));
                let exact = reference(opcode, x);
                if exact.is_nan() {
                    assert_eq!(result, layout.nan(), "{name} {bits:x}");
                    continue;
                }
                // The reference errs in its last bits: both of its roundings beside a tie are right.
                let slack = if matches!(opcode, "cos" | "sin") { 1e-15 } else { exact.abs() * 1e-14 };
                let candidates = [exact - slack, exact, exact + slack].map(|value| {
                    let number = crate::forms::float_tests::oracle::F64.decode(value.to_bits());
                    flushed(name, layout, oracle::convert(number).round(layout).get(Mode::Nearest))
                });
                let near = (layout.to_f64(result) - exact).abs() <= slack;
                assert!(candidates.contains(&result) || near, "{name} {bits:x} gave {result:x}, not {candidates:x?}");
            }
        }
    }
}

#[test]
fn packed_functions_are_two_functions() {
    for name in ["ex2.approx.f16", "ex2.approx.ftz.bf16", "tanh.approx.f16", "tanh.approx.bf16"] {
        for level in levels() {
            let lower: Vec<u64> = (0..1 << 16).collect();
            let both: Vec<u64> = lower.iter().map(|bits| bits | (bits ^ 0x1234) << 16).collect();
            let single = run1(&form(name, level), &lower);
            for (bits, result) in lower.iter().zip(run1(&form(&format!("{name}x2"), level), &both)) {
                assert_eq!(result, single[*bits as usize] | single[(*bits ^ 0x1234) as usize] << 16, "{name} {bits:x}");
            }
        }
    }
}

#[test]
fn gross_functions_of_f64_see_and_give_upper_words_alone() {
    let mut random = Random(23);
    let mut all = super::oracle::F64.edges();
    all.extend((0..20_000).map(|_| random.bits()));
    for name in ["rcp.approx.ftz.f64", "rsqrt.approx.ftz.f64"] {
        for level in levels() {
            for (bits, result) in all.iter().zip(run1(&form(name, level), &all)) {
                assert_eq!(result as u32, 0, "{name}");
                let seen = f64::from_bits(bits & !0xFFFF_FFFF);
                let seen = if seen.is_subnormal() { 0.0_f64.copysign(seen) } else { seen };
                let exact = if name.starts_with("rcp") { 1.0 / seen } else { 1.0 / seen.sqrt() };
                let result = f64::from_bits(result);
                if exact.is_nan() {
                    assert_eq!(result.to_bits(), 0x7FFF_FFFF_0000_0000, "{name} {bits:x}");
                } else if exact.is_infinite() || exact == 0.0 || exact.is_subnormal() {
                    let wanted = if exact.is_subnormal() { 0.0_f64.copysign(exact) } else { exact };
                    assert_eq!(result.to_bits(), wanted.to_bits(), "{name} {bits:x}");
                } else {
                    assert!((result / exact - 1.0).abs() <= 2.0_f64.powi(-21) * 1.01, "{name} {bits:x}");
                }
            }
        }
    }
    for level in levels() {
        for (bits, result) in all.iter().zip(run1(&form("rsqrt.approx.f64", level), &all)) {
            let x = f64::from_bits(*bits);
            let result = f64::from_bits(result);
            let residue = (result * result).mul_add(x, -1.0);
            let wanted = 1.0 / x.sqrt();
            assert!(
                residue.abs() < 1e-15 || result == wanted || (result.is_nan() && wanted.is_nan()),
                "{bits:x} gave {result:e}"
            );
        }
    }
}
