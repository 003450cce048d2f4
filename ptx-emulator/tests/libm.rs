//! The mathematical library within the errors that the CUDA C++ Programming Guide states, against f64. In adversarial
//! mode the approximate instructions below it may take their whole error, for which two more are allowed.

#[macro_use]
mod common;
use common::*;

/// Every function of one argument over one launch each: the results of `kernel` for `x`.
fn run<T: bytemuck::Pod>(module: &Module, kernel: &str, mode: Mode, x: &[T]) -> Vec<T> {
    let device = Device::new();
    let input = device.upload(x).unwrap();
    let out: Buffer<T> = device.alloc(x.len()).unwrap();
    let blocks = x.len().div_ceil(128) as u32;
    clean!(module, kernel, device, mode, [blocks, 1, 1], [128, 1, 1], 0; input, out, x.len() as u32);
    device.read(out).unwrap()
}

/// Random values of a range, and what every function has to know.
fn arguments(seed: u64, low: f64, high: f64) -> Vec<f32> {
    let mut x =
        vec![0.0, -0.0, 1.0, -1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-30, -1e-30, f32::MIN_POSITIVE];
    x.extend(Random(seed).reals(1500, low, high));
    x.extend(Random(seed ^ 1).reals(500, low / 1000.0, high / 1000.0));
    x
}

fn check(kernel: &str, bound: f64, x: &[f32], truth: impl Fn(f64) -> f64) {
    for text in [ptx!("libm"), ptx!("libm_sm100")] {
        let module = module(text);
        for mode in modes() {
            let bound = if is_nominal(mode) { bound } else { bound + 2.0 };
            let got = run(&module, kernel, mode, x);
            for (&x, got) in x.iter().zip(got) {
                let ulps = ulps32(got, truth(x.into()));
                // A result that is exact but for the rounding to f32 is half a unit away.
                let bound = bound.max(0.5 + 1e-9);
                assert!(ulps <= bound, "{kernel}({x:e}) = {got:e}, {ulps} ulp from {:e} ({mode:?})", truth(x.into()));
            }
        }
    }
}

/// The error function: its series, and beyond 3 the continued fraction of the complement.
fn erf(x: f64) -> f64 {
    let square = x * x;
    if x.abs() < 3.0 {
        let (mut term, mut sum) = (x, x);
        for n in 1..80 {
            term *= -square / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return sum * std::f64::consts::FRAC_2_SQRT_PI;
    }
    let fraction = (1..60).rev().fold(x.abs(), |tail, k| x.abs() + f64::from(k) / 2.0 / tail);
    x.signum() * (1.0 - (-square).exp() / (fraction * std::f64::consts::PI.sqrt()))
}

#[test]
fn exponentials() {
    check("k_expf", 2.0, &arguments(80, -87.0, 88.5), f64::exp);
    check("k_exp2f", 2.0, &arguments(81, -125.0, 127.9), f64::exp2);
    check("k_expm1f", 1.0, &arguments(82, -20.0, 88.5), f64::exp_m1);
}

#[test]
fn logarithms() {
    for (seed, low, high) in [(83, 1e-3, 2.0), (84, 1e-30, 1e30), (85, 0.99, 1.01)] {
        let mut x = arguments(seed, low, high);
        x.push(f32::from_bits(5));
        check("k_logf", 1.0, &x, f64::ln);
        check("k_log2f", 1.0, &x, f64::log2);
        x.retain(|&v| v > -1.0);
        check("k_log1pf", 1.0, &x, f64::ln_1p);
    }
    check("k_log1pf", 1.0, &Random(86).reals(1000, -0.999, 0.5), f64::ln_1p);
}

#[test]
fn sine_and_cosine_of_small_and_of_huge_arguments() {
    let mut x = arguments(87, -10.0, 10.0);
    x.extend(Random(88).reals(500, -1e5, 1e5));
    // Beyond 105615 the reduction multiplies by many bits of 2 / pi.
    x.extend(Random(89).reals(300, -1e9, 1e9));
    x.extend(Random(90).reals(300, -3e38, 3e38));
    x.extend([105_615.0, 105_616.0, 3.4e38, 16_367_173.0 * 2f32.powi(72)]);
    check("k_sinf", 2.0, &x, f64::sin);
    check("k_cosf", 2.0, &x, f64::cos);
    let module = module(ptx!("libm"));
    for mode in modes() {
        let device = Device::new();
        let input = device.upload(&x).unwrap();
        let (sine, cosine): (Buffer<f32>, Buffer<f32>) =
            (device.alloc(x.len()).unwrap(), device.alloc(x.len()).unwrap());
        let n = x.len() as u32;
        clean!(module, "k_sincosf", device, mode, [n.div_ceil(64), 1, 1], [64, 1, 1], 0; input, sine, cosine, n);
        let (sine, cosine) = (device.read(sine).unwrap(), device.read(cosine).unwrap());
        for (i, &x) in x.iter().enumerate() {
            let (s, c) = f64::from(x).sin_cos();
            assert!(
                ulps32(sine[i], s) <= 2.0 && ulps32(cosine[i], c) <= 2.0,
                "sincosf({x:e}): {} {}",
                sine[i],
                cosine[i]
            );
        }
    }
}

#[test]
fn hyperbolic_and_error_functions() {
    check("k_tanhf", 2.0, &arguments(91, -10.0, 10.0), f64::tanh);
    check("k_sinhf", 3.0, &arguments(92, -88.0, 88.0), f64::sinh);
    check("k_erff", 2.0, &arguments(93, -4.5, 4.5), erf);
    check("k_atanf", 2.0, &arguments(94, -30.0, 30.0), f64::atan);
}

#[test]
fn roots_remainders_and_reciprocals() {
    check("k_rsqrtf", 2.0, &arguments(95, 1e-3, 1e5), |v| 1.0 / v.sqrt());
    check("k_sqrtf", 0.5, &arguments(96, 0.0, 1e5), f64::sqrt);
    check("k_cbrtf", 1.0, &arguments(97, -1e5, 1e5), f64::cbrt);
    check("k_reciprocal", 0.5, &arguments(98, -1e3, 1e3), |v| 1.0 / v);
    check("k_fmodf", 0.0, &arguments(99, -1e6, 1e6), |v| v % f64::from(0.7f32));
}

#[test]
fn powers() {
    let mut random = Random(100);
    let mut pairs: Vec<(f32, f32)> = (0..1000)
        .map(|_| {
            let x = 2f64.powf(random.real(-8.0, 8.0));
            (x as f32, random.real(-12.0, 12.0) as f32)
        })
        .collect();
    pairs.extend((0..200).map(|_| (random.real(-20.0, 20.0) as f32, random.int(-9, 9) as f32)));
    let edges = [0.0f32, -0.0, 1.0, -1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 3.0, -2.0, 0.5];
    pairs.extend(edges.iter().flat_map(|&x| edges.map(|y| (x, y))));
    let (x, y): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
    for text in [ptx!("libm"), ptx!("libm_sm100")] {
        let module = module(text);
        for mode in modes() {
            let device = Device::new();
            let (a, b) = (device.upload(&x).unwrap(), device.upload(&y).unwrap());
            let out: Buffer<f32> = device.alloc(x.len()).unwrap();
            let n = x.len() as u32;
            clean!(module, "k_powf", device, mode, [n.div_ceil(128), 1, 1], [128, 1, 1], 0; a, b, out, n);
            for (i, got) in device.read(out).unwrap().into_iter().enumerate() {
                let truth = f64::from(x[i]).powf(y[i].into());
                let ulps = ulps32(got, truth);
                let bound = if is_nominal(mode) { 4.0 } else { 8.0 };
                assert!(ulps <= bound, "powf({:e}, {:e}) = {got:e}, {ulps} ulp from {truth:e}", x[i], y[i]);
            }
        }
    }
}

#[test]
fn double_precision() {
    let check = |kernel: &str, bound: u64, x: &[f64], truth: fn(f64) -> f64| {
        for text in [ptx!("libm"), ptx!("libm_sm100")] {
            let module = module(text);
            for mode in modes() {
                for (&x, got) in x.iter().zip(run(&module, kernel, mode, x)) {
                    let ulps = ulps64(got, truth(x));
                    assert!(ulps <= bound, "{kernel}({x:e}) = {got:e}, {ulps} ulp from {:e} ({mode:?})", truth(x));
                }
            }
        }
    };
    let arguments = |seed: u64, low: f64, high: f64| -> Vec<f64> {
        let mut random = Random(seed);
        let mut x = vec![0.0, 1.0, -1.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e-300, 1e-8];
        x.extend((0..1000).map(|_| random.real(low, high)));
        x
    };
    // What the guide states, and one more for the reference.
    check("k_exp", 2, &arguments(101, -700.0, 700.0), f64::exp);
    check("k_log", 2, &arguments(102, 1e-5, 1e5), f64::ln);
    check("k_tanh", 3, &arguments(103, -20.0, 20.0), f64::tanh);
    check("k_sqrt", 0, &arguments(104, 0.0, 1e300), f64::sqrt);
    let mut x = arguments(105, -100.0, 100.0);
    x.extend(arguments(106, -1e300, 1e300));
    check("k_sin", 3, &x, f64::sin);
}

#[test]
fn approximate_functions() {
    let module = module(ptx!("fast_math"));
    let relative = |v: f32, truth: f64, bound: f64| (f64::from(v) - truth).abs() <= truth.abs() * bound;
    for mode in modes() {
        // Twice, where the instructions take their whole error.
        let slack = if is_nominal(mode) { 1.0 } else { 2.0 };
        let each = |kernel: &str, x: &[f32], holds: &dyn Fn(f32, f32) -> bool| {
            for (&x, got) in x.iter().zip(run(&module, kernel, mode, x)) {
                assert!(holds(x, got), "{kernel}({x:e}) = {got:e} ({mode:?})");
            }
        };
        let x = Random(107).reals(1000, -80.0, 80.0);
        each("k_expf", &x, &|x, v| ulps32(v, f64::from(x).exp()) <= slack * (2.0 + f64::from(1.173 * x).abs().floor()));
        let x: Vec<f32> = Random(108).reals(1000, -60.0, 60.0).into_iter().map(f32::exp2).collect();
        let logarithm = |v: f32, truth: f64, x: f32, absolute: f64, ulps: f64| {
            if (0.5..=2.0).contains(&x) {
                (f64::from(v) - truth).abs() <= slack * absolute
            } else {
                ulps32(v, truth) <= slack * ulps
            }
        };
        each("k_logf", &x, &|x, v| logarithm(v, f64::from(x).ln(), x, 2f64.powf(-21.41), 3.0));
        each("k_log2f", &x, &|x, v| logarithm(v, f64::from(x).log2(), x, 2f64.powi(-22), 2.0));
        each("k_divide", &x, &|x, v| ulps32(v, 3.0 / f64::from(x)) <= 2.0 * slack);
        each("k_sqrtf", &x, &|x, v| relative(v, f64::from(x).sqrt(), 2f64.powi(-22)));
        let x = Random(109).reals(1000, -3.1, 3.1);
        each("k_sinf", &x, &|x, v| (f64::from(v) - f64::from(x).sin()).abs() <= slack * 2f64.powf(-21.41));
        each("k_cosf", &x, &|x, v| (f64::from(v) - f64::from(x).cos()).abs() <= slack * 2f64.powf(-21.19));
        each("k_tanh", &x, &|x, v| relative(v, f64::from(x).tanh(), 2f64.powi(-10)));
        each("k_sigmoid", &x, &|x, v| relative(v, 1.0 / (1.0 + (-f64::from(x)).exp()), 2e-6));
    }
}
