//! The reference against files of the original implementations, and every backend against the same files.

#![allow(non_snake_case)]

use crate::common::backends::{self, Backend, SquaredAttentionBackend};
use crate::common::buffer::{Buffer, Order};
use crate::common::compare::{expect_accurate, expect_exact};
use crate::common::conv::{CONV_GRADIENTS, ConvBuffers, ConvCase, ConvGradients, NaiveConv, NaiveConvBackward};
use crate::common::conv_update::ConvUpdateCase;
use crate::common::discretise::{DiscretiseBuffers, DiscretiseCase, NaiveForward, yardsticks};
use crate::common::fixtures::{Fixture, all};
use crate::common::say;
use crate::common::scan::{NaiveScan, ScanBuffers, ScanCase};
use crate::common::scan_backward::{GRADIENTS, NaiveScanBackward, ScanGradients};
use crate::common::squared_attention::{AttentionBuffers, AttentionCase, NaiveAttention};
use crate::common::squared_attention_backward::{ATTENTION_GRADIENTS, AttentionGradients, NaiveAttentionBackward};
use crate::common::squared_attention_update::AttentionUpdateBuffers;
use crate::common::state_update::{NaiveUpdate, UpdateBuffers, UpdateCase};
use ssm_kernels::reference::accuracy::{Loop, Yardstick};
use ssm_kernels::{Dtype, Element};

const ORDERS: [Order; 3] = [Order::Dense, Order::ChannelLast, Order::Strided(3)];

/// Largest difference, relative to the largest entry.
fn relative(got: &[f64], truth: &[f64]) -> f64 {
    assert_eq!(got.len(), truth.len());
    let largest = truth.iter().fold(0.0f64, |largest, t| largest.max(t.abs()));
    got.iter().zip(truth).fold(0.0, |worst, (g, t)| {
        let error = (g - t).abs() / largest.max(f64::MIN_POSITIVE);
        assert!(error.is_finite(), "{g} against {t}");
        f64::max(worst, error)
    })
}

fn expect_anchored(fixture: &Fixture, tensor: &str, got: &[f64]) {
    let truth = fixture.truth(tensor).unwrap_or_else(|| panic!("{} has no {tensor}", fixture.name));
    let error = relative(got, &truth);
    assert!(error < 1e-12, "{}: {tensor} of the reference is off by {error:e}", fixture.name);
}

#[test]
fn reference_is_the_original_selective_scan() {
    let fixtures = all("selective_scan");
    for fixture in &fixtures {
        // f32 holds every stored input exactly.
        let case = fixture.scan_case::<f32>(Order::Dense);
        let run = NaiveScan { case: &case, every: None }.run::<f64>();
        expect_anchored(fixture, "out", &run[0]);
        expect_anchored(fixture, "final_state", &run[1]);
    }
    assert!(fixtures.len() >= 50, "{} files", fixtures.len());
    say(format_args!("reference selective_scan: {} files of the original", fixtures.len()));
}

#[test]
fn reference_is_the_originals_autograd() {
    let (fixtures, mut tensors) = (all("selective_scan"), 0);
    for fixture in &fixtures {
        let (case, upstream) = (fixture.scan_case::<f32>(Order::Dense), fixture.scan_upstream(Order::Dense));
        let run = NaiveScanBackward { case: &case, upstream: &upstream }.run::<f64>();
        for (tensor, got) in GRADIENTS.into_iter().zip(run) {
            if fixture.truth(tensor).is_some() {
                expect_anchored(fixture, tensor, &got);
                tensors += 1;
            }
        }
    }
    assert!(tensors >= 6 * fixtures.len(), "{tensors} gradients in {} files", fixtures.len());
    say(format_args!("reference selective_scan backward: {tensors} gradients in {} files", fixtures.len()));
}

#[test]
fn reference_is_the_original_causal_conv1d() {
    let (fixtures, mut tensors) = (all("causal_conv1d"), 0);
    for fixture in &fixtures {
        let case = fixture.conv_case::<f32, f32>(Order::Dense);
        let upstream = fixture.conv_upstream(Order::Dense);
        let run = [NaiveConv(&case).run::<f64>(), NaiveConvBackward(&case, &upstream).run::<f64>()].concat();
        for (tensor, got) in ["out", "final_state"].into_iter().chain(CONV_GRADIENTS).zip(run) {
            if fixture.truth(tensor).is_some() {
                expect_anchored(fixture, tensor, &got);
                tensors += 1;
            }
        }
    }
    let updates = all("causal_conv1d_update");
    for fixture in &updates {
        let run = fixture.conv_update_case::<f32, f32>(Order::Dense).run::<f64>();
        expect_anchored(fixture, "out", &run[0]);
        expect_anchored(fixture, "final_state", &run[1]);
    }
    assert!((fixtures.len(), updates.len()) == (14, 5) && tensors >= 4 * fixtures.len(), "{tensors} tensors");
    say(format_args!("reference causal_conv1d: {tensors} tensors in 14 files, and 5 of updates"));
}

const COEFFICIENTS: [&str; 4] = ["delta", "A_bar", "B_bar", "B_prev_bar"];

#[test]
fn reference_is_the_closed_forms() {
    let fixtures = all("discretise");
    for fixture in &fixtures {
        let case = fixture.discretise_case::<f32>(Order::Dense);
        for (tensor, got) in COEFFICIENTS.into_iter().zip(NaiveForward(&case).run::<f64>()).skip(1) {
            let Some(truth) = fixture.truth(tensor) else { continue };
            expect_anchored(fixture, tensor, &got);
            // Steps run from 1e-8 to 100: hold each element to its own size too.
            for (got, truth) in got.into_iter().zip(truth) {
                assert!((got - truth).abs() <= 1e-13 * truth.abs().max(1e-300), "{}: {tensor}", fixture.name);
            }
        }
    }
    assert_eq!(fixtures.len(), 5);
}

#[test]
fn reference_is_the_original_state_update() {
    let fixtures = all("state_update");
    for fixture in &fixtures {
        let case = fixture.update_case::<f32, f32>(Order::Dense);
        let run = NaiveUpdate(&case).run::<f64>();
        expect_anchored(fixture, "out", &run[0]);
        expect_anchored(fixture, "final_state", &run[1]);
    }
    assert_eq!(fixtures.len(), 9);
}

#[test]
fn reference_is_the_original_squared_attention() {
    const OUTPUTS: [&str; 3] = ["out", "final_state", "final_norm"];
    let (fixtures, mut tensors) = (all("squared_attention"), 0);
    for fixture in &fixtures {
        let case = fixture.attention_case::<f32>(Order::Dense);
        let mut run = NaiveAttention(&case).run::<f64>();
        let upstream = fixture.attention_upstream(Order::Dense);
        if upstream.dout.is_some() {
            run.extend(NaiveAttentionBackward(&case, &upstream).run::<f64>());
        }
        for (tensor, got) in OUTPUTS.into_iter().chain(ATTENTION_GRADIENTS).zip(run) {
            if fixture.truth(tensor).is_some() {
                expect_anchored(fixture, tensor, &got);
                tensors += 1;
            }
        }
    }
    let updates = all("squared_attention_update");
    for fixture in &updates {
        let run = fixture.attention_update_case::<f32>(Order::Dense).run::<f64>();
        OUTPUTS.into_iter().zip(run).for_each(|(tensor, got)| expect_anchored(fixture, tensor, &got));
    }
    // One file has no gradients.
    assert_eq!((fixtures.len(), tensors, updates.len()), (7, 7 * 7 - 4, 3));
    say(format_args!("reference squared_attention: {tensors} tensors in 7 files, and 3 of updates"));
}

/// With the file's truth where `T` stores its inputs exactly; else with the reference's, on the rounded inputs.
fn with_truth<T: Element>(yardstick: Yardstick, fixture: &Fixture, tensor: &str) -> Yardstick {
    let exact = T::DTYPE == Dtype::F32 || fixture.metadata["dtype"] == T::DTYPE.name();
    match fixture.truth(tensor).filter(|_| exact) {
        Some(truth) => yardstick.against(truth),
        None => yardstick,
    }
}

fn selective_scan<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let fixtures = all("selective_scan");
    for fixture in &fixtures {
        for order in ORDERS {
            let case: ScanCase<T> = fixture.scan_case(order);
            let mut outputs = ScanBuffers::new(&case, true, None, order);
            backend.selective_scan_forward(&case, &mut outputs).expect("a fixture runs");
            let mut expected = NaiveScan { case: &case, every: None }.yardsticks().into_iter();
            let mut next = |tensor| with_truth::<T>(expected.next().expect("two tensors"), fixture, tensor);
            expect_accurate(&format!("{} out", fixture.name), outputs.out(), &next("out"));
            let final_state = outputs.final_state.as_ref().expect("asked for");
            expect_accurate(&format!("{} final_state", fixture.name), final_state, &next("final_state"));
        }
    }
    say(format_args!("selective_scan {} {}: {} files in 3 orders", B::NAME, T::DTYPE, fixtures.len()));
}

fn selective_scan_backward<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let fixtures = all("selective_scan");
    for fixture in &fixtures {
        for (order, split) in ORDERS.into_iter().zip([None, Some(2), Some(3)]) {
            let case = ScanCase::<T> { split, ..fixture.scan_case(order) };
            let upstream = fixture.scan_upstream(order);
            let mut gradients = ScanGradients::new(&case, &GRADIENTS, order);
            backend.selective_scan_backward(&case, &upstream, &mut gradients).expect("a fixture runs");
            let expected = NaiveScanBackward { case: &case, upstream: &upstream }.yardsticks();
            for ((name, got), expected) in GRADIENTS.into_iter().zip(gradients.each()).zip(expected) {
                let Some(got) = got else { continue };
                got.expect_accurate(&format!("{} {name}", fixture.name), &with_truth::<T>(expected, fixture, name));
            }
        }
    }
    say(format_args!("selective_scan backward {} {}: {} files in 3 orders", B::NAME, T::DTYPE, fixtures.len()));
}

fn causal_conv1d<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let fixtures = all("causal_conv1d");
    for fixture in &fixtures {
        for order in ORDERS {
            // f32 holds the weights of every file exactly.
            let case: ConvCase<T, f32> = fixture.conv_case(order);
            let mut outputs = ConvBuffers::new(&case, true, order);
            backend.causal_conv1d_forward(&case, &mut outputs).expect("a fixture runs");
            let mut expected = NaiveConv(&case).yardsticks().into_iter();
            let mut next = |tensor| with_truth::<T>(expected.next().expect("two tensors"), fixture, tensor);
            expect_accurate(&format!("{} out", fixture.name), &outputs.out, &next("out"));
            let final_state = outputs.final_state.as_ref().expect("asked for");
            expect_exact(&format!("{} final_state", fixture.name), final_state, &next("final_state"));
            let upstream = fixture.conv_upstream(order);
            let mut gradients = ConvGradients::new(&case, &CONV_GRADIENTS, order);
            backend.causal_conv1d_backward(&case, &upstream, &mut gradients).expect("a fixture runs");
            let expected = NaiveConvBackward(&case, &upstream).yardsticks().into_iter().zip(CONV_GRADIENTS);
            let expected: Vec<_> = expected.map(|(by, name)| with_truth::<T>(by, fixture, name)).collect();
            gradients.expect_accurate(&fixture.name, &expected);
        }
    }
    say(format_args!("causal_conv1d {} {}: {} files in 3 orders", B::NAME, T::DTYPE, fixtures.len()));
}

fn causal_conv1d_update<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let fixtures = all("causal_conv1d_update");
    for fixture in &fixtures {
        for order in ORDERS {
            let case: ConvUpdateCase<T, f32> = fixture.conv_update_case(order);
            let (mut out, mut state) = (Buffer::poisoned(&case.x.dims(), order), case.state.clone());
            backend.causal_conv1d_update(&case, &mut out, &mut state).expect("a fixture runs");
            let mut expected = case.yardsticks().into_iter();
            let mut next = |tensor| with_truth::<T>(expected.next().expect("two tensors"), fixture, tensor);
            expect_accurate(&format!("{} out", fixture.name), &out, &next("out"));
            expect_exact(&format!("{} final_state", fixture.name), &state, &next("final_state"));
        }
    }
    say(format_args!("causal_conv1d_update {} {}: {} files in 3 orders", B::NAME, T::DTYPE, fixtures.len()));
}

fn discretise<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let fixtures = all("discretise");
    for fixture in &fixtures {
        let case: DiscretiseCase<T> = fixture.discretise_case(Order::Strided(1));
        let mut outputs = DiscretiseBuffers::new(&case, Order::Strided(2));
        backend.discretise_forward(&case, &mut outputs).expect("a fixture runs");
        let got = [Some(&outputs.delta), Some(&outputs.A_bar), Some(&outputs.B_bar), outputs.B_prev_bar.as_ref()];
        let expected = yardsticks(&case, &NaiveForward(&case));
        for ((tensor, got), expected) in COEFFICIENTS.into_iter().zip(got).zip(expected) {
            let Some(got) = got else { continue };
            expect_accurate(&format!("{} {tensor}", fixture.name), got, &with_truth::<T>(expected, fixture, tensor));
        }
    }
    say(format_args!("discretise {} {}: {} files", B::NAME, T::DTYPE, fixtures.len()));
}

fn state_update<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    fn check<B: Backend, T: Element, H: Element>(backend: &B, fixture: &Fixture, order: Order) {
        let case: UpdateCase<T, H> = fixture.update_case(order);
        let mut outputs = UpdateBuffers::new(&case, false, order);
        backend.state_update(&case, &mut outputs).expect("a fixture runs");
        let mut expected = NaiveUpdate(&case).yardsticks().into_iter();
        let mut next = |tensor| with_truth::<T>(expected.next().expect("two tensors"), fixture, tensor);
        expect_accurate(&format!("{} out", fixture.name), &outputs.out, &next("out"));
        expect_accurate(&format!("{} final_state", fixture.name), &outputs.state, &next("final_state"));
    }
    let fixtures = all("state_update");
    for fixture in &fixtures {
        for order in ORDERS {
            match fixture.metadata["state_dtype"].as_str() {
                "f32" => check::<B, T, f32>(&backend, fixture, order),
                "bf16" => check::<B, T, half::bf16>(&backend, fixture, order),
                other => panic!("no file has a state of {other}"),
            }
        }
    }
    say(format_args!("state_update {} {}: {} files in 3 orders", B::NAME, T::DTYPE, fixtures.len()));
}

crate::suites!(selective_scan, selective_scan_backward, discretise, causal_conv1d, causal_conv1d_update, state_update);

fn squared_attention<B: SquaredAttentionBackend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let fixtures = all("squared_attention");
    for fixture in &fixtures {
        let by = |yardsticks: Vec<Yardstick>, names: &[&str]| -> Vec<Yardstick> {
            yardsticks.into_iter().zip(names).map(|(by, name)| with_truth::<T>(by, fixture, name)).collect()
        };
        let (case, upstream) =
            (fixture.attention_case::<T>(Order::Dense), fixture.attention_upstream::<T>(Order::Dense));
        let expected = by(NaiveAttention(&case).yardsticks(), &["out", "final_state", "final_norm"]);
        let backward = upstream.dout.as_ref().map(|_| NaiveAttentionBackward(&case, &upstream).yardsticks());
        let backward = backward.map(|expected| by(expected, &ATTENTION_GRADIENTS));
        // By pairs, and in chunks with a state between them.
        for (order, chunk_size) in ORDERS.into_iter().zip([None, Some(16), Some(5)]) {
            let case = AttentionCase::<T> { chunk_size, ..fixture.attention_case(order) };
            let mut outputs = AttentionBuffers::new(&case, [true; 2], order);
            backend.squared_attention_forward(&case, &mut outputs).expect("a fixture runs");
            outputs.expect_accurate(&fixture.name, &expected);
            let Some(expected) = &backward else { continue };
            let mut gradients = AttentionGradients::new(&case, &ATTENTION_GRADIENTS, order);
            let upstream = fixture.attention_upstream(order);
            backend.squared_attention_backward(&case, &upstream, &mut gradients).expect("a fixture runs");
            gradients.expect_accurate(&fixture.name, expected);
        }
    }
    say(format_args!("squared_attention {} {}: {} files in 3 orders", B::NAME, T::DTYPE, fixtures.len()));
}

fn squared_attention_update<B: SquaredAttentionBackend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let fixtures = all("squared_attention_update");
    for fixture in &fixtures {
        for order in ORDERS {
            let case = fixture.attention_update_case::<T>(order);
            let mut outputs = AttentionUpdateBuffers::new(&case);
            backend.squared_attention_update(&case, &mut outputs).expect("a fixture runs");
            let mut expected = case.yardsticks().into_iter();
            let mut next = |tensor| with_truth::<T>(expected.next().expect("three tensors"), fixture, tensor);
            expect_accurate(&format!("{} out", fixture.name), &outputs.out, &next("out"));
            expect_accurate(&format!("{} final_state", fixture.name), &outputs.state, &next("final_state"));
            expect_accurate(&format!("{} final_norm", fixture.name), &outputs.norm, &next("final_norm"));
        }
    }
    say(format_args!("squared_attention_update {} {}: {} files in 3 orders", B::NAME, T::DTYPE, fixtures.len()));
}

mod attention {
    use super::{squared_attention, squared_attention_update};

    crate::suites!(only cpu: squared_attention, squared_attention_update);
}
