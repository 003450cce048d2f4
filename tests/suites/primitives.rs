//! exp, softplus, its derivative and silu by relative error over their whole range, through operators that show them
//! alone: an end-to-end test cannot see their errors, since small terms hide behind large ones.

#![allow(non_snake_case)]

use crate::common::backends::{self, Backend};
use crate::common::buffer::{Buffer, Order};
use crate::common::discretise::{DiscretiseBuffers, DiscretiseCase, GradientBuffers};
use crate::common::random::Random;
use crate::common::say;
use crate::common::scan::{ProjectionBuffer, ScanBuffers, ScanCase};
use ssm_kernels::Element;
use ssm_kernels::prelude::*;

/// Every magnitude of either sign, and densely where the functions bend.
fn arguments<T: Element>() -> Vec<f32> {
    let mut random = Random::new(11);
    let mut values =
        vec![0.0, -0.0, 20.0, 20.000002, 19.999998, -87.336, -87.337, 88.72, -103.97, -104.0, -80.0, -80.001];
    for exponent in -40..=7 {
        for _ in 0..60 {
            let magnitude = (exponent as f32 + random.uniform(0.0, 1.0)).exp2();
            values.extend([magnitude, -magnitude]);
        }
    }
    values.extend((0..20_000).map(|_| random.uniform(-110.0, 25.0)));
    values.iter().map(|&value| T::from_f32(value).to_f32()).collect()
}

fn vector<T: Element>(values: &[f32]) -> Buffer<T> {
    let mut values_left = values.iter();
    let next = || *values_left.next().expect("one each");
    Buffer::filled(&[("element", values.len())], Order::Dense, next)
}

/// dt and dA_bar as given, A and B one.
fn discretise<T: Element>(dt: Buffer<T>, A: Buffer<f32>, dt_softplus: bool) -> DiscretiseCase<T> {
    let ones = vec![1.0; A.dense().len()];
    let (rule, upstream) = (Rule::ExpEuler, [Some(vector(&ones)), None, None, None]);
    let (dt_bias, lambda, dt_limit) = (None, None, None);
    DiscretiseCase { rule, dt, A, B: vector(&ones), dt_bias, lambda, dt_softplus, dt_limit, upstream }
}

/// Fails unless every result is within the backend's bound in f32 ulp, or rounded to `T` within one ulp of that.
fn expect_close<B: Backend, T: Element>(name: &str, arguments: &[f32], got: &Buffer<T>, truth: impl Fn(f64) -> f64) {
    let ulps = if size_of::<T>() == 4 { B::PRIMITIVE_ULPS } else { 1.0 };
    let mut worst = (0.0, 0.0);
    for (&argument, got) in arguments.iter().zip(got.dense()) {
        let truth = truth(argument.into());
        let error = match T::from_f32(truth as f32).to_f32().is_infinite() {
            true if got.is_infinite() => 0.0,
            _ => (got - truth).abs() / T::DTYPE.ulp(truth),
        };
        assert!(error <= ulps, "{name}({argument:e}) is {got:e}, expected {truth:e}: {error} ulp");
        if error > worst.0 {
            worst = (error, argument);
        }
    }
    let (error, argument) = worst;
    say(format_args!("{name} {} {}: at most {error:.2} ulp, at {argument:e}", B::NAME, T::DTYPE));
}

fn exp<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let arguments: Vec<f32> = arguments::<f32>().into_iter().chain([-1e30, f32::NEG_INFINITY]).collect();
    let case = discretise::<T>(vector(&vec![1.0; arguments.len()]), vector(&arguments), false);
    let mut outputs = DiscretiseBuffers::new(&case, Order::Dense);
    backend.discretise_forward(&case, &mut outputs).expect("a valid case runs");
    expect_close::<B, f32>("exp", &arguments, &outputs.A_bar, f64::exp);
}

fn softplus<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let arguments = arguments::<T>();
    let case = discretise::<T>(vector(&arguments), vector(&vec![0.0; arguments.len()]), true);
    let mut outputs = DiscretiseBuffers::new(&case, Order::Dense);
    backend.discretise_forward(&case, &mut outputs).expect("a valid case runs");
    let truth = |v: f64| v.max(0.0) + (-v.abs()).exp().ln_1p();
    expect_close::<B, f32>("softplus", &arguments, &outputs.delta, truth);
}

fn softplus_derivative<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let arguments = arguments::<T>();
    let case = discretise::<T>(vector(&arguments), vector(&vec![0.0; arguments.len()]), true);
    let mut gradients = GradientBuffers::new(&case, Order::Dense);
    backend.discretise_backward(&case, &mut gradients).expect("a valid case runs");
    expect_close::<B, f32>("softplus_derivative", &arguments, &gradients.ddt_bias, |v| 1.0 / (1.0 + (-v).exp()));
}

fn silu<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let arguments = arguments::<T>();
    // A channel each: they are independent, and a GPU takes them side by side.
    let (dim, sequence) = (arguments.len(), [("batch", 1), ("dim", arguments.len()), ("seqlen", 1)]);
    let row = |values: &mut dyn Iterator<Item = f32>| {
        Buffer::<T>::filled(&sequence, Order::Dense, || values.next().expect("one each"))
    };
    let zero = || ProjectionBuffer::Constant(Buffer::filled(&[("dim", dim), ("dstate", 1)], Order::Dense, || 0.0));
    let case = ScanCase {
        x: row(&mut std::iter::repeat(1.0)),
        dt: row(&mut std::iter::repeat(0.0)),
        A: Buffer::filled(&[("dim", dim), ("dstate", 1)], Order::Dense, || -1.0),
        B: zero(),
        C: zero(),
        D: Some(Buffer::filled(&[("dim", dim)], Order::Dense, || 1.0)),
        z: Some(row(&mut arguments.iter().copied())),
        dt_bias: None,
        dt_softplus: false,
        dt_limit: None,
        initial_state: None,
        segments: None,
        reverse: false,
        split: None,
        lanes: None,
    };
    let mut outputs = ScanBuffers::new(&case, false, None, Order::Dense);
    backend.selective_scan_forward(&case, &mut outputs).expect("a valid case runs");
    expect_close::<B, T>("silu", &arguments, outputs.out(), |v| v / (1.0 + (-v).exp()));
}

crate::suites!(exp, softplus, softplus_derivative, silu);
