//! Adversarial results: off, but never by more than the PTX ISA allows, and never where it leaves no choice.

use super::arithmetic::form;
use crate::arith::float::Float;
use crate::forms::Form;
use crate::forms::testing::levels;
use crate::registers::{LANES, Operands, Registers};
use crate::types::Width;
use half::{bf16, f16};

/// Runs a form with noise; returns the destination and the state of the noise after.
fn run(form: &Form, a: &[u64; LANES], b: &[u64; LANES], seed: Option<u64>, mask: u32) -> ([u64; LANES], Option<u64>) {
    let width = form.dst.width().unwrap_or(Width::Word);
    let mut registers = Registers::new(3, 3, 0);
    registers.noise = seed;
    for lane in 0..LANES {
        registers.set_lane(width, 0, lane, a[lane]);
        registers.set_lane(width, 1, lane, b[lane]);
    }
    let operands = Operands { dst: 2, src: [0, 1, 0, 0], ..Default::default() };
    // SAFETY: the forms are of levels that this processor has.
    unsafe { (form.exec)(&mut registers, &operands, mask) };
    (std::array::from_fn(|lane| registers.lane(width, 2, lane)), registers.noise)
}

/// The unit in the last place of an f32 at an exact value.
fn ulp(exact: f64) -> f64 {
    2.0_f64.powi(exact.abs().log2().floor().max(-126.0) as i32 - 23)
}

/// Checks one function of f32 over `operands`: the error, as `measure` has it of `(operand, exact, result)` in parts of
/// what is allowed, is at most 1, comes near to it, and results differ from the nominal ones.
fn check(name: &str, operands: impl Fn(u32) -> f32, exact: fn(f64) -> f64, measure: fn(f64, f64, f64) -> f64) {
    for level in levels() {
        let form = form(name, level);
        let (mut worst, mut moved) = (0.0_f64, 0);
        for block in 0..4000 {
            let a: [f32; LANES] = std::array::from_fn(|lane| operands(block * 32 + lane as u32));
            let bits = a.map(|a| a.to_bits().into());
            let (nominal, none) = run(&form, &bits, &bits, None, u32::MAX);
            assert_eq!(none, None, "{name}");
            let (noisy, _) = run(&form, &bits, &bits, Some(block.into()), u32::MAX);
            for lane in 0..LANES {
                let wide = exact(a[lane].into());
                let error = measure(a[lane].into(), wide, f32::from_bits(noisy[lane] as u32).into());
                assert!(error <= 1.0, "{name} {:e}: {error} of what is allowed", a[lane]);
                worst = worst.max(error);
                moved += u32::from(noisy[lane] != nominal[lane]);
            }
        }
        assert!(worst > 0.9, "{name}: only {worst} of what is allowed");
        assert!(moved > 4000 * 32 / 4, "{name}: {moved} results moved");
    }
}

/// Spread over several binades, both at their ends and within.
fn spread(i: u32) -> f32 {
    let sign = if i.is_multiple_of(2) { 1.0 } else { -1.0 };
    sign * f32::from_bits(0x3E00_0000 + (i.wrapping_mul(2_654_435_761) >> 5) % 0x0380_0000)
}

#[test]
fn errors_stay_within_their_bounds() {
    let bits_apart = |_, exact: f64, result: f64| {
        // Steps from the correctly rounded result.
        f64::from((exact as f32).to_bits().abs_diff((result as f32).to_bits())) / 2.0
    };
    check("ex2.approx.f32", |i| spread(i) * 8.0, f64::exp2, bits_apart);
    check("ex2.approx.ftz.f32", spread, f64::exp2, bits_apart);
    check("rcp.approx.f32", spread, |x| 1.0 / x, |_, exact, result| (result - exact).abs() / ulp(exact));
    check(
        "sqrt.approx.f32",
        |i| spread(i).abs(),
        f64::sqrt,
        |_, exact, result| (result / exact - 1.0).abs() / 2.0_f64.powi(-23),
    );
    check(
        "rsqrt.approx.ftz.f32",
        |i| spread(i).abs(),
        |x| 1.0 / x.sqrt(),
        |_, exact, result| (result / exact - 1.0).abs() / 2.0_f64.powf(-22.9),
    );
    check(
        "lg2.approx.f32",
        |i| spread(i).abs(),
        f64::log2,
        |x, exact, result| {
            let near = x > 0.5 && x < 2.0;
            (result - exact).abs() / if near { 1.0 } else { exact.abs() } / 2.0_f64.powi(-22)
        },
    );
    for (name, function) in [("sin.approx.f32", f64::sin as fn(f64) -> f64), ("cos.approx.ftz.f32", f64::cos)] {
        check(name, spread, function, |x, exact, result| {
            let exponent = if x.abs() <= 2.0 * std::f64::consts::PI { -20.5 } else { -14.7 };
            (result - exact).abs() / 2.0_f64.powf(exponent)
        });
        // Nothing is promised beyond 100 pi.
        check(name, |i| 400.0 + i as f32, |_| 0.0, |_, _, result| result.abs());
    }
    check(
        "tanh.approx.f32",
        |i| spread(i) * 0.1,
        f64::tanh,
        |_, exact, result| (result / exact - 1.0).abs() / 2.0_f64.powi(-11),
    );
}

#[test]
fn quotients_stay_within_two_units() {
    for name in ["div.approx.f32", "div.full.ftz.f32"] {
        let form = form(name, levels()[1]);
        let mut worst = 0.0_f64;
        for block in 0..2000 {
            let a: [f32; LANES] = std::array::from_fn(|lane| spread(block * 32 + lane as u32));
            let b: [f32; LANES] = std::array::from_fn(|lane| spread(block * 37 + 5 * lane as u32 + 1));
            let (noisy, _) = run(
                &form,
                &a.map(|a| a.to_bits().into()),
                &b.map(|b| b.to_bits().into()),
                Some(block.into()),
                u32::MAX,
            );
            for lane in 0..LANES {
                let exact = f64::from(a[lane]) / f64::from(b[lane]);
                let error = (f64::from(f32::from_bits(noisy[lane] as u32)) - exact).abs() / ulp(exact);
                assert!(error <= 2.0, "{name}: {error} ulp");
                worst = worst.max(error);
            }
        }
        assert!(worst > 1.8, "{name}: {worst}");
    }
}

#[test]
fn halves_stay_within_their_bounds() {
    fn check<T: Float>(name: &str, exact: fn(f64) -> f64, relative: bool, bound: f64) {
        let mut moved = 0;
        for block in 0..2048_u64 {
            let bits: [u64; LANES] = std::array::from_fn(|lane| block * 32 + lane as u64);
            let form = form(name, levels()[1]);
            let (nominal, _) = run(&form, &bits, &bits, None, u32::MAX);
            let (noisy, _) = run(&form, &bits, &bits, Some(block), u32::MAX);
            for lane in 0..LANES {
                let x = T::from_raw(bits[lane]).flush_if(name.contains("ftz")).wide();
                let (exact, result) = (exact(x), T::from_raw(noisy[lane]).wide());
                let allowed = if relative { bound * exact.abs() } else { bound };
                let near = (result - exact).abs() <= allowed || noisy[lane] == nominal[lane];
                assert!(near, "{name} {x:e}: {result:e}, not {exact:e}");
                moved += usize::from(noisy[lane] != nominal[lane]);
            }
        }
        assert!(moved > 1000, "{name}: {moved}");
    }
    check::<f16>("ex2.approx.f16", f64::exp2, true, 2.0_f64.powf(-9.9));
    check::<bf16>("ex2.approx.ftz.bf16", f64::exp2, true, 2.0_f64.powi(-7));
    check::<f16>("tanh.approx.f16", f64::tanh, false, 2.0_f64.powf(-10.987));
    check::<bf16>("tanh.approx.bf16", f64::tanh, false, 2.0_f64.powi(-8));
}

/// Those of the tables of the PTX ISA.
#[test]
fn special_values_stay_right() {
    const ZERO: f32 = 0.0;
    const INFINITY: f32 = f32::INFINITY;
    let nan = f32::from_bits(0x7FFF_FFFF);
    let inputs = [-INFINITY, -ZERO, ZERO, INFINITY, f32::NAN];
    let tables = [
        ("ex2.approx.f32", [ZERO, 1.0, 1.0, INFINITY, nan]),
        ("lg2.approx.f32", [nan, -INFINITY, -INFINITY, INFINITY, nan]),
        ("sin.approx.f32", [nan, -ZERO, ZERO, nan, nan]),
        ("cos.approx.ftz.f32", [nan, 1.0, 1.0, nan, nan]),
        ("rcp.approx.f32", [-ZERO, -INFINITY, INFINITY, ZERO, nan]),
        ("sqrt.approx.ftz.f32", [nan, -ZERO, ZERO, INFINITY, nan]),
        ("rsqrt.approx.f32", [nan, -INFINITY, INFINITY, ZERO, nan]),
        ("tanh.approx.f32", [-1.0, -ZERO, ZERO, 1.0, nan]),
    ];
    for (name, results) in tables {
        for level in levels() {
            for seed in [None, Some(1), Some(2), Some(99)] {
                let bits: [u64; LANES] = std::array::from_fn(|lane| inputs[lane % 5].to_bits().into());
                let (got, _) = run(&form(name, level), &bits, &bits, seed, u32::MAX);
                for lane in 0..LANES {
                    let wanted = results[lane % 5];
                    assert_eq!(got[lane], wanted.to_bits().into(), "{name} of {}", inputs[lane % 5]);
                }
            }
        }
    }
    // Subnormal numbers pass through tanh, and are zeros with .ftz.
    let tiny = [u64::from(f32::from_bits(77).to_bits()); LANES];
    assert_eq!(run(&form("tanh.approx.f32", levels()[1]), &tiny, &tiny, Some(3), u32::MAX).0, tiny);
    let one = [u64::from(1.0_f32.to_bits()); LANES];
    assert_eq!(run(&form("ex2.approx.ftz.f32", levels()[1]), &tiny, &tiny, Some(3), u32::MAX).0, one);
}

#[test]
fn noise_is_deterministic_and_advances_once() {
    let bits: [u64; LANES] = std::array::from_fn(|lane| (lane as f32 + 1.5).to_bits().into());
    for name in ["rcp.approx.f32", "tanh.approx.bf16x2", "rsqrt.approx.f64", "rcp.approx.ftz.f64"] {
        let [portable, best] = levels().map(|level| form(name, level));
        let full = run(&portable, &bits, &bits, Some(5), u32::MAX);
        assert_eq!(full, run(&best, &bits, &bits, Some(5), u32::MAX), "{name}: levels differ");
        let part = run(&best, &bits, &bits, Some(5), 0x00FF_00F0);
        assert_eq!(full.1, part.1, "{name}: the state depends on the mask");
        assert_ne!(full.1, Some(5), "{name}: the state stays");
        for lane in 0..LANES {
            let wanted = if 0x00FF_00F0_u32 >> lane & 1 != 0 { full.0[lane] } else { 0 };
            assert_eq!(part.0[lane], wanted, "{name}: lane {lane}");
        }
    }
}

#[test]
fn f64_functions_are_off_by_a_unit_at_most() {
    for (name, unit) in [("rsqrt.approx.f64", 1), ("rsqrt.approx.ftz.f64", 1 << 32), ("rcp.approx.ftz.f64", 1 << 32)] {
        let form = form(name, levels()[1]);
        let mut seen = [0; 3];
        for seed in 0..200 {
            let bits: [u64; LANES] = std::array::from_fn(|lane| (lane as f64 + 0.7).to_bits());
            let (nominal, _) = run(&form, &bits, &bits, None, u32::MAX);
            let (noisy, _) = run(&form, &bits, &bits, Some(seed), u32::MAX);
            for (nominal, noisy) in nominal.iter().zip(noisy) {
                let steps = (noisy as i64 - *nominal as i64) / unit;
                assert!(steps.abs() <= 1 && (noisy as i64 - *nominal as i64) % unit == 0, "{name}");
                seen[(steps + 1) as usize] += 1;
            }
        }
        assert!(seen.iter().all(|&count| count > 500), "{name}: {seen:?}");
    }
}
