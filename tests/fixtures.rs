//! The reference against files of the original implementations, and every backend against the same files.

#![allow(non_snake_case)]

mod common;

use common::backends::{self, Backend};
use common::buffer::{Buffer, Order};
use common::compare::expect_accurate_against;
use common::discretise::{DiscretiseBuffers, DiscretiseCase, NaiveDiscretise};
use common::fixtures::{Fixture, all};
use common::say;
use common::scan::{NaiveScan, ScanBuffers, ScanCase, ScanTensor};
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

fn expect_anchored(fixture: &Fixture, tensor: &str, naive: &impl Loop) {
    let truth = fixture.truth(tensor).unwrap_or_else(|| panic!("{} has no {tensor}", fixture.name));
    let error = relative(&naive.run::<f64>(), &truth);
    assert!(error < 1e-12, "{}: {tensor} of the reference is off by {error:e}", fixture.name);
}

#[test]
fn reference_is_the_original_selective_scan() {
    let fixtures = all("selective_scan");
    for fixture in &fixtures {
        // f32 holds every stored input exactly.
        let case = fixture.scan_case::<f32>(Order::Dense);
        for (tensor, which) in [("out", ScanTensor::Out), ("final_state", ScanTensor::FinalState)] {
            expect_anchored(fixture, tensor, &NaiveScan { case: &case, every: None, tensor: which });
        }
    }
    assert!(fixtures.len() >= 50, "{} files", fixtures.len());
    say(format_args!("reference selective_scan: {} files of the original", fixtures.len()));
}

#[test]
fn reference_is_the_closed_forms() {
    let fixtures = all("discretise");
    for fixture in &fixtures {
        let case = fixture.discretise_case::<f32>(Order::Dense);
        for tensor in ["A_bar", "B_bar", "B_prev_bar"].into_iter().filter(|&t| fixture.truth(t).is_some()) {
            let naive = NaiveDiscretise { case: &case, tensor };
            expect_anchored(fixture, tensor, &naive);
            // Steps run from 1e-8 to 100: hold each element to its own size too.
            let truth = fixture.truth(tensor).expect("filtered");
            for (got, truth) in naive.run::<f64>().into_iter().zip(truth) {
                assert!((got - truth).abs() <= 1e-13 * truth.abs().max(1e-300), "{}: {tensor}", fixture.name);
            }
        }
    }
    assert_eq!(fixtures.len(), 5);
}

/// The file's truth where `T` stores its inputs exactly, else the reference's on the rounded inputs.
fn yardstick<T: Element>(fixture: &Fixture, tensor: &str, naive: &impl Loop, row: usize) -> Yardstick {
    let exact = T::DTYPE == Dtype::F32 || fixture.metadata["dtype"] == T::DTYPE.name();
    match fixture.truth(tensor).filter(|_| exact) {
        Some(truth) => Yardstick::against(truth, naive, row),
        None => Yardstick::measure(naive, row),
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
            let final_state = outputs.final_state.as_ref().expect("asked for");
            let naive = |tensor| NaiveScan { case: &case, every: None, tensor };
            let expected = yardstick::<T>(fixture, "out", &naive(ScanTensor::Out), outputs.out.row());
            expect_accurate_against(&format!("{} out", fixture.name), &outputs.out, &expected);
            let expected = yardstick::<T>(fixture, "final_state", &naive(ScanTensor::FinalState), final_state.row());
            expect_accurate_against(&format!("{} final_state", fixture.name), final_state, &expected);
        }
    }
    say(format_args!("selective_scan {} {}: {} files in 3 orders", B::NAME, T::DTYPE, fixtures.len()));
}

fn discretise<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let fixtures = all("discretise");
    for fixture in &fixtures {
        let case: DiscretiseCase<T> = fixture.discretise_case(Order::Strided(1));
        let mut outputs = DiscretiseBuffers::new(&case, Order::Strided(2));
        backend.discretise_forward(&case, &mut outputs).expect("a fixture runs");
        let expect = |tensor: &'static str, got: &Buffer<f32>| {
            let expected = yardstick::<T>(fixture, tensor, &NaiveDiscretise { case: &case, tensor }, got.row());
            expect_accurate_against(&format!("{} {tensor}", fixture.name), got, &expected);
        };
        expect("A_bar", &outputs.A_bar);
        expect("B_bar", &outputs.B_bar);
        outputs.B_prev_bar.iter().for_each(|got| expect("B_prev_bar", got));
    }
    say(format_args!("discretise {} {}: {} files", B::NAME, T::DTYPE, fixtures.len()));
}

suites!(selective_scan, discretise);
