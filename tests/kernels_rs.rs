//! The pure maths of the Rust kernels, on the host: errors in ulp over the whole range.

#[path = "../kernels-rs/math.rs"]
#[allow(dead_code)]
mod math;

use ssm_kernels::Dtype;

/// Every 997th float of either sign, and the edges.
fn arguments() -> impl Iterator<Item = f32> {
    let all = (0..u32::MAX / 997).map(|i| f32::from_bits(i * 997)).filter(|v| v.is_finite());
    let edges = [0.0, -0.0, 20.0, 20.000002, -87.33655, -103.97208, -104.0, 88.72283, 88.72284, -17.9, -18.1];
    all.chain(edges).chain([f32::INFINITY, f32::NEG_INFINITY])
}

/// The largest error in ulp of the result; infinite where only one of the two is.
fn worst(got: impl Fn(f32) -> f32, truth: impl Fn(f64) -> f64) -> (f64, f32) {
    let mut worst = (0.0, 0.0);
    for v in arguments() {
        let (got, truth) = (got(v), truth(v.into()));
        let error = match (truth as f32).is_infinite() || got.is_infinite() {
            true if got == truth as f32 => 0.0,
            true => f64::INFINITY,
            false => (f64::from(got) - truth).abs() / Dtype::F32.ulp(truth),
        };
        assert!(!error.is_nan(), "{got} for {v:e}, expected {truth:e}");
        if error > worst.0 {
            worst = (error, v);
        }
    }
    worst
}

#[test]
fn bounds() {
    let logistic = |v: f64| if v > 20.0 { 1.0 } else { 1.0 / (1.0 + (-v).exp()) };
    // Of -infinity it is no number, as the formula has it.
    let silu = |v: f32| if v == f32::NEG_INFINITY { 0.0 } else { math::silu(v) };
    let softplus = |v: f64| if v > 20.0 { v } else { v.max(0.0) + (-v.abs()).exp().ln_1p() };
    for (name, bound, (error, at)) in [
        ("exp", 1.5, worst(math::exp, f64::exp)),
        ("exp_m1", 2.0, worst(math::exp_m1, f64::exp_m1)),
        ("softplus", 3.0, worst(math::softplus, softplus)),
        ("softplus_derivative", 3.0, worst(math::softplus_derivative, logistic)),
        ("silu", 3.0, worst(silu, |v| if v == f64::NEG_INFINITY { 0.0 } else { v / (1.0 + (-v).exp()) })),
    ] {
        println!("{name}: at most {error:.3} ulp, at {at:e}");
        assert!(error <= bound, "{name} is off by {error} ulp at {at:e}, expected at most {bound}");
    }
}

#[test]
fn nan_stays() {
    for function in [math::exp, math::exp_m1, math::softplus, math::softplus_derivative, math::silu] {
        assert!(function(f32::NAN).is_nan());
    }
}

/// The exponent of a carry is a product as large as a sum over thousands of steps: its rounding must not count that often.
#[test]
fn exp_of_a_product() {
    let (mut furthest, mut seed) = (0.0f64, 1u64);
    let mut draw = |from: f32, to: f32| {
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        from + (to - from) * ((seed >> 40) as f32 / (1u64 << 24) as f32)
    };
    for _ in 0..200_000 {
        let (a, sum) = (draw(-20.0, 0.1), draw(0.0, 80.0));
        let truth = (f64::from(a) * f64::from(sum)).exp();
        if truth < f64::from(f32::MIN_POSITIVE) {
            continue;
        }
        furthest = furthest.max((f64::from(math::exp_of_product(a, sum)) - truth).abs() / Dtype::F32.ulp(truth));
    }
    println!("exp_of_product: at most {furthest:.3} ulp");
    assert!(furthest <= 2.0, "{furthest} ulp");
    assert_eq!(math::exp_of_product(-1e4, 1e4), 0.0);
    assert_eq!(math::exp_of_product(1e3, 1e3), f32::INFINITY);
    assert!(math::exp_of_product(f32::NAN, 1.0).is_nan());
}
