//! Discretise: every backend against the formulas, forward and backward; the backward formulas against differences.
// A and B are the field's names.
#![allow(non_snake_case)]

use crate::common::backends::{self, Backend};
use crate::common::buffer::{Buffer, Order};
use crate::common::compare::expect_accurate;
use crate::common::differences::{STEP, coarse, derivative, mapped};
use crate::common::discretise::{
    DiscretiseBuffers, DiscretiseCase, DiscretiseSpec, GradientBuffers, NaiveBackward, NaiveForward, spec, yardsticks,
};
use crate::common::{property, say, shared_property};
use proptest::strategy::Strategy;
use ssm_kernels::prelude::*;
use ssm_kernels::reference::accuracy::Loop;
use ssm_kernels::{Element, Instructions};

/// One case under the accuracy rule, both directions, all outputs. `what` names it.
fn check<B: Backend, T: Element>(backend: &B, case: &DiscretiseCase<T>, order: Order, what: &impl std::fmt::Debug) {
    let [delta, A_bar, B_bar, B_prev_bar] = yardsticks(case, &NaiveForward(case));
    let [ddt, dA, dB, dlambda] = yardsticks(case, &NaiveBackward(case));
    backends::in_modes(backend, what, |backend, text| {
        let label = |tensor: &str| format!("{tensor}, {text}");
        let mut outputs = DiscretiseBuffers::new(case, order);
        let done = backend.discretise_forward(case, &mut outputs);
        done.unwrap_or_else(|error| panic!("a valid case runs: {error}\n{text}"));
        expect_accurate(&label("delta"), &outputs.delta, &delta);
        expect_accurate(&label("A_bar"), &outputs.A_bar, &A_bar);
        expect_accurate(&label("B_bar"), &outputs.B_bar, &B_bar);
        outputs.B_prev_bar.iter().for_each(|got| expect_accurate(&label("B_prev_bar"), got, &B_prev_bar));
        let mut gradients = GradientBuffers::new(case, order);
        let done = backend.discretise_backward(case, &mut gradients);
        done.unwrap_or_else(|error| panic!("a valid case runs: {error}\n{text}"));
        expect_accurate(&label("ddt"), &gradients.ddt, &ddt);
        expect_accurate(&label("ddt_bias"), &gradients.ddt_bias, &ddt);
        expect_accurate(&label("dA"), &gradients.dA, &dA);
        expect_accurate(&label("dB"), &gradients.dB, &dB);
        gradients.dlambda.iter().for_each(|got| expect_accurate(&label("dlambda"), got, &dlambda));
    });
}

fn drawn<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let label = format!("discretise forward and backward {} {}", B::NAME, T::DTYPE);
    shared_property(file!(), &label, 512, backend.share(), spec(), |spec| {
        check::<B, T>(&backend, &DiscretiseCase::new(&spec), spec.order, &spec);
    });
}

/// Every pair of these steps and these A.
fn grid<T: Element>(rule: Rule, steps: &[f32], A: &[f32]) -> DiscretiseCase<T> {
    let domain = [("step", steps.len()), ("a", A.len())];
    let (mut steps, mut As) = (steps.iter(), A.iter());
    let dt = Buffer::filled(&domain[..1], Order::Dense, || *steps.next().expect("one each"));
    let A = Buffer::filled(&domain[1..], Order::Dense, || *As.next().expect("one each"));
    let B = Buffer::filled(&domain, Order::Dense, || 0.75);
    let trapezoidal = rule == Rule::ExpTrapezoidal;
    let lambda = trapezoidal.then(|| Buffer::filled(&domain, Order::Dense, || 0.25));
    let constant = |value: f32| Some(Buffer::filled(&domain, Order::Dense, || value));
    let upstream = [constant(0.5), constant(-1.25), constant(0.875), constant(2.0).filter(|_| trapezoidal)];
    DiscretiseCase { rule, dt, A, B, dt_bias: None, lambda, dt_softplus: false, dt_limit: None, upstream }
}

/// delta A from 0 over subnormal products to beyond the range of f32: each element by its own relative error.
fn extremes<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    // f16 stores the largest steps as infinity: leave those out.
    let steps = [0.0, 1e-30, 1e-12, 1e-8, 1e-4, 0.01, 0.3, 1.0, 2.5, 30.0, 1e3, 1e6, 1e12, 1e25];
    let steps: Vec<f32> = steps.into_iter().filter(|&step| T::from_f32(step).to_f32().is_finite()).collect();
    let A = [0.0, -1e-30, -1e-15, -1e-8, -1e-4, -0.01, -0.3, -0.9, -1.0, -1.1, -2.0, -16.0, -1e4, -1e9, -1e25, 0.01];
    let mut count = 0;
    for rule in Rule::ALL {
        let case = grid::<T>(rule, &steps, &A);
        check(&backend, &case, Order::Dense, &rule);
        let mut outputs = DiscretiseBuffers::new(&case, Order::Dense);
        backend.discretise_forward(&case, &mut outputs).expect("a valid case runs");
        let truth = NaiveForward(&case).run::<f64>();
        count += expect_relative(&case, "A_bar", &outputs.A_bar, &truth[1], &A);
        count += expect_relative(&case, "B_bar", &outputs.B_bar, &truth[2], &A);
        // One upstream gradient at a time: a sum may cancel, its terms may not.
        for only in [1, 2] {
            let mut case = case.clone();
            case.upstream
                .iter_mut()
                .enumerate()
                .for_each(|(i, gradient)| *gradient = gradient.take().filter(|_| i == only));
            let mut gradients = GradientBuffers::new(&case, Order::Dense);
            backend.discretise_backward(&case, &mut gradients).expect("a valid case runs");
            let truth = NaiveBackward(&case).run::<f64>();
            count += expect_relative(&case, "ddt", &gradients.ddt_bias, &truth[0], &A);
            count += expect_relative(&case, "dA", &gradients.dA, &truth[1], &A);
        }
    }
    say(format_args!("discretise extremes {} {}: {count} points", B::NAME, T::DTYPE));
}

/// Each element's error, relative to its truth, is within what rounding w = delta A to f32 and a few further roundings
/// explain; beyond the range it is infinite, near the end of the normal range the error is absolute. Returns the number of points.
fn expect_relative<T: Element>(
    case: &DiscretiseCase<T>,
    tensor: &str,
    got: &Buffer<f32>,
    truth: &[f64],
    A: &[f32],
) -> usize {
    let (steps, got) = (case.dt.dense(), got.dense());
    for (i, (&got, &truth)) in got.iter().zip(truth).enumerate() {
        let w = steps[i / A.len()] * f64::from(A[i % A.len()]);
        let label = format!("{:?} {tensor} at delta {:e}, A {:e}", case.rule, steps[i / A.len()], A[i % A.len()]);
        let overflow = truth.is_nan() || truth.abs() >= f64::from(f32::MAX);
        assert_eq!(got.is_finite(), !overflow, "{label}: {got:e}, expected {truth:e}");
        if overflow {
            continue;
        }
        // 1 + w and 1 + w/2 cancel near their zeros; nothing else does.
        let scale = match (case.rule, tensor) {
            (Rule::Euler, "A_bar") => 1.0 + w.abs(),
            (Rule::Bilinear, "A_bar") => truth.abs().max(1.0),
            _ => truth.abs(),
        };
        let ulps = 8.0 + w.abs().min(110.0);
        // A subnormal e^w, times A up to 1e4, carries its absolute error with it.
        let error = (got - truth).abs() / scale.max(1e4 * f64::from(f32::MIN_POSITIVE));
        assert!(error <= ulps * f64::from(f32::EPSILON), "{label}: {got:e}, expected {truth:e}, off by {error:e}");
    }
    got.len()
}

/// Worked by hand: softplus(0) = ln 2 = 0.693..., then the clamp. At the clamp's limits, 0.125 and 5, the gradient passes;
/// outside it does not.
fn dt_limit_by_hand<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let ln_2 = std::f64::consts::LN_2;
    let steps = [0.0, -9.0, 5.0, 0.125];
    for (dt_softplus, delta, ddt) in [
        (true, [ln_2, 0.125, 5.0, 0.757_599], [0.5, 0.0, 0.0, 0.531_209]),
        (false, [0.125, 0.125, 5.0, 0.125], [0.0, 0.0, 1.0, 1.0]),
    ] {
        let mut case = grid::<T>(Rule::Euler, &steps, &[-1.0]);
        (case.dt_softplus, case.dt_limit) = (dt_softplus, Some((0.125, 5.0)));
        case.upstream = [Some(Buffer::filled(&case.domain(), Order::Dense, || 1.0)), None, None, None];
        let mut outputs = DiscretiseBuffers::new(&case, Order::Dense);
        backend.discretise_forward(&case, &mut outputs).expect("a valid case runs");
        let mut gradients = GradientBuffers::new(&case, Order::Dense);
        backend.discretise_backward(&case, &mut gradients).expect("a valid case runs");
        let reference = (NaiveForward(&case).run::<f64>().remove(0), NaiveBackward(&case).run::<f64>().remove(0));
        for (got, expected) in [
            (outputs.delta.dense(), delta),
            (gradients.ddt_bias.dense(), ddt),
            (reference.0, delta),
            (reference.1, ddt),
        ] {
            assert!(got.iter().zip(expected).all(|(got, wanted)| (got - wanted).abs() < 1e-5), "{got:?}, {expected:?}");
        }
    }
}

/// Extents around the length of a row that is computed at a time, along either dimension, and many short ones.
fn blocks<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let mut count = 0;
    for (extents, order) in [
        (vec![3, 255], Order::Dense),
        (vec![257, 3], Order::Strided(4)),
        (vec![2, 3, 256], Order::ChannelLast),
        (vec![1, 700], Order::Dense),
        (vec![300, 5], Order::Dense),
        (vec![2, 40, 16, 3], Order::ChannelLast),
    ] {
        for i in 0..Rule::ALL.len() {
            let mut has = [[true; 4]; 5];
            has[i][extents.len() - 1] = false;
            check_blocks::<B, T>(&backend, i, &extents, has, order);
            count += 1;
        }
    }
    // Of three blocks a sequence the third is short; the 129th is the first of a thread's, and what follows has the same A, B and
    // lambda, or step.
    for i in (0..Rule::ALL.len()).take_while(|_| !backend.slow()) {
        for own in [0, 1] {
            let mut has = [[false, false, true, false]; 5];
            has[own] = [true; 4];
            check_blocks::<B, T>(&backend, i, &[44, 40, 16], has, Order::Dense);
            count += 1;
        }
    }
    say(format_args!("discretise blocks {} {}: {count} cases", B::NAME, T::DTYPE));
}

fn check_blocks<B: Backend, T: Element>(backend: &B, i: usize, extents: &[usize], has: [[bool; 4]; 5], order: Order) {
    let spec = DiscretiseSpec {
        rule: Rule::ALL[i],
        extents: extents.to_vec(),
        has,
        dt_bias: true,
        dt_softplus: i.is_multiple_of(2),
        dt_limit: i.is_multiple_of(3),
        upstream: std::array::from_fn(|k| k != i),
        order,
        seed: i as u64,
    };
    check::<B, T>(backend, &DiscretiseCase::new(&spec), order, &spec);
}

/// What a scan has: dt and its bias are those of all states, A of all sequences and steps, B of all channels.
fn scans<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    // batch, dim, dstate, seqlen.
    let [dt, A, B, dt_bias] =
        [[true, true, false, true], [false, true, true, false], [true, false, true, true], [false, true, false, false]];
    let mut count = 0;
    for extents in [[2, 5, 16, 40], [1, 3, 16, 530], [2, 20, 7, 9], [1, 300, 2, 3], [3, 2, 3, 300]] {
        for order in [Order::Dense, Order::ChannelLast, Order::Strided(count as u64)] {
            count += 1;
            for i in 0..Rule::ALL.len() {
                if !backend.slow() || i == count % Rule::ALL.len() {
                    check_blocks::<B, T>(&backend, i, &extents, [dt, A, B, dt_bias, [true; 4]], order);
                }
            }
        }
    }
    say(format_args!(
        "discretise scans {} {}: {count} cases, each by all rules or, on slow backends, by one",
        B::NAME,
        T::DTYPE
    ));
}

crate::suites!(drawn, extremes, dt_limit_by_hand, blocks, scans);

/// An output whose neighbours lie along another dimension than those of most tensors: bits do not depend on it.
#[test]
fn an_output_across() {
    let [batch, dim, dstate, seqlen] = [2, 40, 5, 16];
    let spec = DiscretiseSpec {
        rule: Rule::Zoh,
        extents: vec![batch, dim, dstate, seqlen],
        has: [[true; 4]; 5],
        dt_bias: true,
        dt_softplus: true,
        dt_limit: false,
        upstream: [true; 4],
        order: Order::Dense,
        seed: 5,
    };
    let case = DiscretiseCase::<f32>::new(&spec);
    let op = case.op().expect("a valid case");
    let [b, d, n, t] = [("batch", batch), ("dim", dim), ("dstate", dstate), ("seqlen", seqlen)];
    let A_bar = |dims: [(&'static str, usize); 4]| {
        let mut memory = vec![f32::NAN; batch * dim * dstate * seqlen];
        let mut view = ViewMut::new(&mut memory, dims);
        Cpu::new().forward(&op, DiscretiseOutputs::new().A_bar(&mut view)).expect("a valid case runs");
        memory
    };
    let (along, across) = (A_bar([b, d, n, t]), A_bar([b, n, t, d]));
    for (i, value) in along.iter().enumerate() {
        let (b, d, rest) = (i / (dim * dstate * seqlen), i / (dstate * seqlen) % dim, i % (dstate * seqlen));
        assert_eq!(value.to_bits(), across[(b * dstate * seqlen + rest) * dim + d].to_bits(), "at {i}");
    }
}

/// The CPU backend's bits do not depend on the instruction set.
#[test]
fn instructions_do_not_change_bits() {
    property(file!(), "discretise: instructions do not change bits", 128, spec(), |spec| {
        let case = DiscretiseCase::<f32>::new(&spec);
        let op = case.op().expect("a valid case");
        let bits = |cpu: Cpu| {
            let mut outputs = DiscretiseBuffers::new(&case, Order::Dense);
            let (mut delta, mut A_bar, mut B_bar) =
                (outputs.delta.view_mut(), outputs.A_bar.view_mut(), outputs.B_bar.view_mut());
            let wanted = DiscretiseOutputs::new().delta(&mut delta).A_bar(&mut A_bar).B_bar(&mut B_bar);
            cpu.forward(&op, wanted).expect("a valid case runs");
            let mut gradients = GradientBuffers::new(&case, Order::Dense);
            let (mut ddt, mut dA, mut dB) =
                (gradients.ddt.view_mut(), gradients.dA.view_mut(), gradients.dB.view_mut());
            let wanted = DiscretiseGradients::new().ddt(&mut ddt).dA(&mut dA).dB(&mut dB);
            cpu.backward(&op, case.upstream(), wanted).expect("a valid case runs");
            let all = [&outputs.delta, &outputs.A_bar, &outputs.B_bar, &gradients.ddt, &gradients.dA, &gradients.dB];
            all.map(|buffer| buffer.dense().into_iter().map(f64::to_bits).collect::<Vec<_>>())
        };
        let best = bits(Cpu::new());
        for instructions in [Instructions::Avx2, Instructions::Scalar] {
            assert_eq!(bits(Cpu::new().instructions(instructions)), best, "{instructions:?}");
        }
    });
}

/// The reference's gradients against central differences of its own forward direction, in f64.
#[test]
fn reference_backward_is_the_derivative() {
    let smooth = spec().prop_map(|spec| DiscretiseSpec { dt_limit: false, ..spec });
    property(file!(), "discretise reference against differences", 300, smooth, |spec| {
        differences(&spec);
    });
}

/// One case: all elements of one input moved together (they do not depend on each other), five-point stencil.
fn differences(spec: &DiscretiseSpec) {
    // Every input over the whole domain, so that an element of an input is an element of the domain.
    let spec = DiscretiseSpec { has: [[true; 4]; 5], order: Order::Dense, ..spec.clone() };
    let mut case = DiscretiseCase::<f32>::new(&spec);
    [&mut case.dt, &mut case.A].into_iter().for_each(coarse);
    let upstream: Vec<Vec<f64>> = case.upstream.iter().map(|g| g.as_ref().map_or(vec![], Buffer::dense)).collect();
    let loss = |case: &DiscretiseCase<f32>| -> Vec<f64> {
        let tensors = NaiveForward(case).run::<f64>();
        let term = |i: usize, k: usize| upstream[k].get(i).map_or(0.0, |g| g * tensors[k][i]);
        (0..tensors[0].len()).map(|i| (0..4).map(|k| term(i, k)).sum()).collect()
    };
    let moved = |name: &str, steps: f32| -> Option<Vec<f64>> {
        let mut changed = case.clone();
        let input = match name {
            "ddt" => &mut changed.dt,
            "dA" => &mut changed.A,
            "dB" => &mut changed.B,
            _ => changed.lambda.as_mut()?,
        };
        *input = mapped(input, |value| value + steps * STEP);
        Some(loss(&changed))
    };
    let gradients = NaiveBackward(&case).run::<f64>();
    for (name, gradient) in ["ddt", "dA", "dB", "dlambda"].into_iter().zip(gradients) {
        let Some(up) = moved(name, 1.0) else { continue };
        let at = |steps| moved(name, steps).expect("as above");
        let (down, up2, down2) = (at(-1.0), at(2.0), at(-2.0));
        for (i, gradient) in gradient.into_iter().enumerate() {
            let difference = derivative([up[i], down[i], up2[i], down2[i]]);
            let error = (difference - gradient).abs() / gradient.abs().max(1.0);
            assert!(error < 1e-3, "{name}[{i}]: {gradient} by formula, {difference} by differences");
        }
    }
}
