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
    let softplus = |v: f64| if v > 20.0 { v } else { v.max(0.0) + (-v.abs()).exp().ln_1p() };
    for (name, bound, (error, at)) in [
        ("exp", 1.5, worst(math::exp, f64::exp)),
        ("exp_m1", 2.0, worst(math::exp_m1, f64::exp_m1)),
        ("softplus", 3.0, worst(math::softplus, softplus)),
        ("softplus_derivative", 3.0, worst(math::softplus_derivative, logistic)),
    ] {
        println!("{name}: at most {error:.3} ulp, at {at:e}");
        assert!(error <= bound, "{name} is off by {error} ulp at {at:e}, expected at most {bound}");
    }
}

#[test]
fn nan_stays() {
    for function in [math::exp, math::exp_m1, math::softplus, math::softplus_derivative] {
        assert!(function(f32::NAN).is_nan());
    }
}
