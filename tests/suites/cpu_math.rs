//! The elementary functions of the CPU backend by themselves, in every instruction set that the machine has.

use crate::common::random::Random;
use crate::common::say;
use pulp::Scalar;
use ssm_kernels::Dtype;
use ssm_kernels::cpu::math::slices::*;
use std::f32::consts::LN_2;
use std::ops::RangeInclusive;
use std::sync::Mutex;

/// A function of one argument: its exact values, where it is specified, and the bound that its documentation states.
struct Claim<F> {
    name: &'static str,
    function: F,
    truth: fn(f64) -> f64,
    domain: RangeInclusive<f32>,
    ulps: f64,
    /// What the error is measured against, if not the result: terms that may cancel.
    size: Option<fn(f64) -> f64>,
}

fn logistic(v: f64) -> f64 {
    1.0 / (1.0 + (-v).exp())
}

/// Calls `$check` with every claim.
macro_rules! for_each_claim {
    ($check:expr) => {
        const ALL: RangeInclusive<f32> = f32::NEG_INFINITY..=f32::INFINITY;
        let upto = |highest| f32::NEG_INFINITY..=highest;
        let check = $check;
        for_each_claim!(check, Exp, f64::exp, ALL, 1.1);
        for_each_claim!(check, ExpUpTo70, f64::exp, upto(70.0), 1.1);
        for_each_claim!(check, Exp2, f64::exp2, ALL, 0.9);
        for_each_claim!(check, Exp2UpTo70, f64::exp2, upto(101.0), 0.9);
        for_each_claim!(check, ExpM1, f64::exp_m1, ALL, 1.6);
        for_each_claim!(check, Ln1pUnit, f64::ln_1p, 0.0..=1.0, 1.2);
        for_each_claim!(
            check,
            Softplus,
            |v| if v > 20.0 { v } else { v.max(0.0) + (-v.abs()).exp().ln_1p() },
            ALL,
            2.0
        );
        for_each_claim!(check, SoftplusDerivative, |v| if v > 20.0 { 1.0 } else { logistic(v) }, ALL, 1.7);
        for_each_claim!(check, Sigmoid, logistic, ALL, 1.7);
        for_each_claim!(check, Silu, |v| v / (1.0 + (-v).exp()), ALL, 2.0);
        let terms = |v: f64| logistic(v) * (1.0 + v.abs() * logistic(-v));
        for_each_claim!(check, SiluDerivative, |v| logistic(v) * (1.0 + v * logistic(-v)), ALL, 3.5, Some(terms));
    };
    ($check:ident, $function:ident, $truth:expr, $domain:expr, $ulps:expr) => {
        for_each_claim!($check, $function, $truth, $domain, $ulps, None)
    };
    ($check:ident, $function:ident, $truth:expr, $domain:expr, $ulps:expr, $size:expr) => {
        $check.call(Claim {
            name: stringify!($function),
            function: $function,
            truth: $truth,
            domain: $domain,
            ulps: $ulps,
            size: $size,
        })
    };
}

/// What is done with every claim: a closure cannot be generic.
trait Check {
    fn call<F: Function<1> + Send + Sync>(&self, claim: Claim<F>);
}

impl<F: Function<1>> Claim<F> {
    fn takes(&self, v: f32) -> bool {
        v.is_nan() || self.domain.contains(&v)
    }

    /// Infinite where one of result and truth is NaN or infinite and the other is something else.
    fn error(&self, v: f32, got: f32) -> f64 {
        let truth = (self.truth)(v.into());
        let agreed = if truth.is_nan() { got.is_nan() } else { got == truth as f32 };
        let beyond = truth.is_nan() || got.is_nan() || got.is_infinite() || (truth as f32).is_infinite();
        match (agreed, beyond) {
            (true, true) => 0.0,
            (false, true) => f64::INFINITY,
            _ => (f64::from(got) - truth).abs() / Dtype::F32.ulp(self.size.map_or(truth, |size| size(v.into()))),
        }
    }

    fn judge(&self, (error, at): (f64, f32), where_: &str) {
        let (name, bits, truth) = (self.name, at.to_bits(), (self.truth)(at.into()));
        say(format_args!("{name}, {where_}: at most {error:.4} ulp, at {at:e}"));
        let bound = self.ulps;
        assert!(error <= bound, "{name}({at:e}), {bits:#x}, is off by {error} ulp, bound {bound}, expected {truth:e}");
    }
}

fn worse(a: (f64, f32), b: (f64, f32)) -> (f64, f32) {
    if b.0 > a.0 { b } else { a }
}

/// Results in every instruction set, by name.
fn everywhere<const N: usize>(function: impl Function<N>, arguments: [&[f32]; N]) -> Vec<(&'static str, Vec<f32>)> {
    let mut results = Vec::new();
    let mut run = |name, task: &dyn Fn(&mut [f32])| {
        let mut result = vec![f32::NAN; arguments[0].len()];
        task(&mut result);
        results.push((name, result));
    };
    run("scalar", &|result| map_with(Scalar::new(), function, arguments, result));
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(simd) = pulp::x86::V3::try_new() {
            run("AVX2", &|result| map_with(simd, function, arguments, result));
        }
        if let Some(simd) = pulp::x86::V4::try_new() {
            run("AVX-512", &|result| map_with(simd, function, arguments, result));
        }
    }
    run("best", &|result| map(function, arguments, result));
    results
}

/// Fails unless all instruction sets give the same bits (any NaN for NaN).
fn same_everywhere<const N: usize>(function: impl Function<N>, arguments: [&[f32]; N]) -> Vec<f32> {
    let mut results = everywhere(function, arguments).into_iter();
    let (first, expected) = results.next().expect("the scalar one");
    for (name, got) in results {
        for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
            let same = got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan();
            assert!(same, "{:?}: {got:e} with {name}, {expected:e} with {first}", arguments.map(|a| a[i]));
        }
    }
    expected
}

/// Every 1999th pattern, and all around the places where something switches.
fn sample() -> Vec<f32> {
    let switches = [
        0.0, 20.0, -20.0, 70.0, 88.37627, 88.72284, 89.0, -87.33655, -103.27893, -103.97208, -104.5, -130.0, 101.0,
        128.0, 129.0, -126.0, -149.0, -150.0, -151.0, 0.5, -0.5, 1.0, -1.0,
    ];
    let named = [
        LN_2 / 2.0,
        -LN_2 / 2.0,
        f32::EPSILON / 4.0,
        -f32::EPSILON / 4.0,
        f32::MIN_POSITIVE,
        -f32::MIN_POSITIVE,
        f32::MAX,
        f32::MIN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        -f32::NAN,
    ];
    let around = switches
        .into_iter()
        .chain(named)
        .flat_map(|v: f32| (-99..=99).map(move |d| f32::from_bits(v.to_bits().wrapping_add_signed(d))));
    let halves = (-302..=258).map(|i| i as f32 * 0.5).flat_map(|n| [n, n * LN_2]);
    (0..u32::MAX / 1999).map(|i| f32::from_bits(i * 1999)).chain(around).chain(halves).collect()
}

#[test]
fn bounds() {
    struct Sampled(Vec<f32>);
    impl Check for Sampled {
        fn call<F: Function<1>>(&self, claim: Claim<F>) {
            let arguments: Vec<f32> = self.0.iter().copied().filter(|&v| claim.takes(v)).collect();
            let results = same_everywhere(claim.function, [&arguments]);
            let errors = arguments.iter().zip(results).map(|(&v, got)| (claim.error(v, got), v));
            claim.judge(errors.fold((0.0, 0.0), worse), "sampled");
        }
    }
    for_each_claim!(Sampled(sample()));
}

/// All 2^32 arguments of the function of this name.
fn exhaustive(name: &str) {
    struct All<'a>(&'a str);
    const BLOCK: usize = 1 << 14;
    impl Check for All<'_> {
        fn call<F: Function<1> + Send + Sync>(&self, claim: Claim<F>) {
            if claim.name != self.0 {
                return;
            }
            let (next, worst) = (Mutex::new(0..(1u64 << 32) / BLOCK as u64), Mutex::new((0.0, 0.0)));
            let block = |i: u64| {
                let patterns = (i * BLOCK as u64..).take(BLOCK).map(|bits| f32::from_bits(bits as u32));
                let arguments: Vec<f32> = patterns.filter(|&v| claim.takes(v)).collect();
                let mut results = vec![0.0; arguments.len()];
                map(claim.function, [&arguments], &mut results);
                let errors = arguments.iter().zip(results).map(|(&v, got)| (claim.error(v, got), v));
                errors.fold((0.0, 0.0), worse)
            };
            let work = || {
                while let Some(i) = { next.lock().expect("no panic").next() } {
                    let found = block(i);
                    let mut worst = worst.lock().expect("no panic");
                    *worst = worse(*worst, found);
                }
            };
            std::thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(work))));
            claim.judge(worst.into_inner().expect("no panic"), "all arguments");
        }
    }
    for_each_claim!(All(name));
}

macro_rules! exhaustive {
    ($($test:ident $function:ident),+) => {
        mod all_arguments {
            $(
                #[test]
                #[ignore = "takes a minute with --release"]
                fn $test() {
                    super::exhaustive(stringify!($function));
                }
            )+
        }
    };
}

exhaustive!(
    exp Exp,
    exp_up_to_70 ExpUpTo70,
    exp2 Exp2,
    exp2_up_to_70 Exp2UpTo70,
    exp_m1 ExpM1,
    ln_1p_unit Ln1pUnit,
    softplus Softplus,
    softplus_derivative SoftplusDerivative,
    sigmoid Sigmoid,
    silu Silu,
    silu_derivative SiluDerivative
);

/// What is asked for where results end, by value.
#[test]
fn extremes() {
    let of = |function: &dyn Fn(&[f32], &mut [f32]), v: f32| {
        let mut result = [f32::NAN];
        function(&[v], &mut result);
        result[0]
    };
    let exp = |v| of(&|a, r| map(Exp, [a], r), v);
    assert_eq!(exp(0.0), 1.0);
    assert_eq!((exp(f32::INFINITY), exp(f32::NEG_INFINITY)), (f32::INFINITY, 0.0));
    assert!(exp(88.72283).is_finite());
    assert_eq!(exp(88.72284), f32::INFINITY);
    assert_eq!((exp(-103.97207), exp(-103.97209)), (f32::from_bits(1), 0.0));
    let exp_m1 = |v| of(&|a, r| map(ExpM1, [a], r), v);
    assert_eq!(exp_m1(-0.0).to_bits(), (-0.0f32).to_bits());
    assert_eq!((exp_m1(f32::from_bits(1)), exp_m1(f32::NEG_INFINITY)), (f32::from_bits(1), -1.0));
    let softplus = |v| of(&|a, r| map(Softplus, [a], r), v);
    assert_eq!(
        (softplus(20.000002), softplus(f32::INFINITY), softplus(f32::NEG_INFINITY)),
        (20.000002, f32::INFINITY, 0.0)
    );
}

/// The same bits in vectors and their tails, whatever the length.
#[test]
fn tails() {
    let mut random = Random::new(3);
    for len in 0..70 {
        let arguments: Vec<f32> = (0..len).map(|_| random.uniform(-110.0, 25.0)).collect();
        let whole = same_everywhere(Softplus, [&arguments]);
        for (v, expected) in arguments.iter().zip(whole) {
            assert_eq!(same_everywhere(Softplus, [&[*v]])[0].to_bits(), expected.to_bits());
        }
    }
}

/// Pairs with products all over the range of results and beyond, from `least` on.
fn pairs(least: f32) -> [Vec<f32>; 2] {
    let mut random = Random::new(5);
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..300_000 {
        let factor = random.uniform(-12.0, 12.0).exp2();
        a.push(factor);
        b.push(random.uniform(least, 92.0) / factor);
    }
    let edges =
        [0.0, -0.0, 1.0, -1.0, 1e-30, -1e-30, 2.3e38, -2.3e38, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e5, -1e5];
    for left in edges.into_iter().chain([1e-45, -1e-45, f32::MAX, f32::MIN]) {
        for right in edges {
            a.push(left);
            b.push(right);
        }
    }
    [a, b]
}

/// e^(delta a) errs by no more than exp does, however large the product, and has the same bits in both ranges.
#[test]
fn decays() {
    let [delta, a] = pairs(-112.0);
    let (any, small) = (same_everywhere(DecayValueAny, [&delta, &a]), same_everywhere(DecayValueSmall, [&delta, &a]));
    let rounded: Vec<f32> = delta.iter().zip(&a).map(|(delta, a)| delta * a).collect();
    let of_rounded = same_everywhere(DecayValueOfProduct, [&rounded]);
    let [mut worst, mut worst_of_rounded] = [(0.0, 0.0); 2];
    for i in 0..delta.len() {
        let product = f64::from(delta[i]) * f64::from(a[i]);
        let error = |got: f32, truth: f64| match truth as f32 {
            rounded if rounded.is_nan() || rounded.is_infinite() => {
                let agreed = rounded == got || rounded.is_nan() && got.is_nan();
                if agreed { 0.0 } else { f64::INFINITY }
            }
            _ => (f64::from(got) - truth).abs() / Dtype::F32.ulp(truth),
        };
        let case = format!("e^({:e} {:e}), which is {:e}: {:e}", delta[i], a[i], product.exp(), any[i]);
        // Of a smaller rate the second part has lost bits, and a larger one is not told from 2.3e38.
        if (1e-30..2.3e38).contains(&a[i].abs()) || a[i] == 0.0 || !a[i].is_finite() {
            worst = worse(worst, (error(any[i], product.exp()), product as f32));
        }
        worst_of_rounded = worse(worst_of_rounded, (error(of_rounded[i], f64::from(rounded[i]).exp()), rounded[i]));
        assert!(worst.0 <= 1.1 && worst_of_rounded.0 <= 1.1, "{case}");
        if rounded[i].abs() <= 86.0 {
            assert_eq!(any[i].to_bits(), small[i].to_bits(), "{case}");
        }
    }
    say(format_args!("e^(delta a): at most {:.4} ulp, of rounded products {:.4}", worst.0, worst_of_rounded.0));
}

/// States, inputs and other numbers of all sizes.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let edges = [0.0, -0.0, 3.4e38, -3.4e38, 1e-38, 1e-44];
    let mut random = Random::new(seed);
    let number = |i| match i % 8 {
        0 => edges[i / 8 % edges.len()],
        1 => random.uniform(-120.0, 120.0).exp2(),
        _ => random.uniform(-2.0, 2.0),
    };
    (0..count).map(number).collect()
}

/// Factors that are put by larger than they are: results err by no more than without that, where nothing is lost or something is,
/// and have the same bits as without where no factor is so small.
#[test]
fn held_factors() {
    let [delta, a] = pairs(-200.0);
    let [h, dh, factor, sum, other, mut input] = [11, 12, 13, 14, 15, 16].map(|seed| numbers(delta.len(), seed));
    input.iter_mut().step_by(3).for_each(|input| *input = 0.0);
    let advanced = [&delta[..], &a, &h, &input];
    let times = [&delta[..], &a, &dh, &h, &factor, &sum, &other];
    let [advance, unheld] = [same_everywhere(HeldAdvance, advanced), same_everywhere(UnheldAdvance, advanced)];
    let plus = same_everywhere(HeldPlus, [&delta[..], &a, &h, &input, &factor]);
    let product = same_everywhere(HeldTimes, times);
    let unheld_product = same_everywhere(UnheldTimes, std::array::from_fn::<_, 6, _>(|i| times[i]));
    let ulp = |v: f64| Dtype::F32.ulp(v);
    let mut worst = [0.0f64; 3];
    for i in 0..delta.len() {
        let case = format!("e^({:e} {:e}), {:e} {:e} {:e}", delta[i], a[i], h[i], dh[i], input[i]);
        if (delta[i] * a[i]).abs() <= 66.0 {
            assert_eq!(advance[i].to_bits(), unheld[i].to_bits(), "{case}");
            assert_eq!(product[i].to_bits(), unheld_product[i].to_bits(), "{case}");
        }
        let decay = (f64::from(delta[i]) * f64::from(a[i])).exp();
        if decay > f64::from(f32::MAX) || !(1e-30..2.3e38).contains(&a[i].abs()) {
            continue;
        }
        let [h, dh, factor, sum, input] = [&h, &dh, &factor, &sum, &input].map(|values| f64::from(values[i]));
        // Each of the products rounds, the last bit of a subnormal one being multiplied by what comes after.
        let rounded = ulp(decay * dh * h) * factor.abs() + ulp(decay * dh) * (h * factor).abs();
        let truths = [
            (advance[i], decay * h, input, 0.0),
            (plus[i], decay * h, input * factor, 0.0),
            (product[i], decay * dh * h * factor, sum, rounded),
        ];
        // 0 below.
        let least = 0.5f64.powi(188);
        for (of, (got, term, sum, rounded)) in truths.into_iter().enumerate() {
            let truth = term + sum;
            if [truth, term, decay * dh, decay * dh * h].iter().all(|v| v.abs() < f64::from(f32::MAX)) {
                let left_out = if decay < least { term.abs() } else { 0.0 };
                let error = (f64::from(got) - truth).abs() / (ulp(term).max(ulp(truth)) + rounded + left_out);
                assert!(error <= 2.6, "{of}: {case} is {got:e}, expected {truth:e}: {error} ulp");
                worst[of] = worst[of].max(error);
            }
        }
    }
    say(format_args!("held factors: at most {worst:.3?} ulp"));
}

/// A step of a state: near e^(delta a) h + input, the same bits in both ranges, and right at the ends of the range of f32,
/// where the power alone has left it.
#[test]
fn steps_of_states() {
    let [delta, a] = pairs(-112.0);
    let (mut random, states) = (Random::new(11), numbers(delta.len(), 11));
    let inputs: Vec<f32> = (0..delta.len()).map(|i| if i % 3 == 0 { 0.0 } else { random.uniform(-1.0, 1.0) }).collect();
    let all = [&delta[..], &a, &states, &inputs];
    let (any, small) = (same_everywhere(DecayAny, all), same_everywhere(DecaySmall, all));
    let mut worst = 0.0f64;
    for i in 0..delta.len() {
        let [delta, a, h, input] = all.map(|values| values[i]);
        let case = format!("e^({delta:e} {a:e}) {h:e} + {input:e}");
        let product = f64::from(delta) * f64::from(a);
        if (delta * a).abs() <= 86.0 {
            assert_eq!(any[i].to_bits(), small[i].to_bits(), "{case}");
        }
        let term = product.exp() * f64::from(h);
        let truth = term + f64::from(input);
        // 0 times infinity and the like, results beyond f32, and rates that have lost bits.
        let beyond = !truth.is_finite() || truth.abs() > f64::from(f32::MAX);
        if beyond || !(1e-30..2.3e38).contains(&a.abs()) {
            continue;
        }
        let ulp = Dtype::F32.ulp(term).max(Dtype::F32.ulp(truth));
        let error = (f64::from(any[i]) - truth).abs() / ulp;
        assert!(error <= 2.0, "{case} is {:e}, expected {truth:e}: {error} ulp", any[i]);
        worst = worst.max(error);
    }
    say(format_args!("e^(delta a) h + input: at most {worst:.3} ulp"));
}

/// One result for one exponent, whatever the range that was asked for.
#[test]
fn ranges_agree() {
    let arguments: Vec<f32> = sample().into_iter().filter(|&v| v.is_nan() || v <= 70.0).collect();
    let (any, below) = (same_everywhere(Exp, [&arguments]), same_everywhere(ExpUpTo70, [&arguments]));
    assert!(any.iter().zip(&below).all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()));
    let (any, below) = (same_everywhere(Exp2, [&arguments]), same_everywhere(Exp2UpTo70, [&arguments]));
    assert!(any.iter().zip(&below).all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()));
}
