//! The emulated device: what the kernels move, and what its errors say.

#![allow(non_snake_case)]

use crate::common::emulator_scan::{ScanTraffic, scan_forward};
use crate::common::say;
use crate::common::scan::{ScanBuffers, ScanCase, ScanSpec};
use ssm_kernels::gpu::{Emulator, FindingKind};
use ssm_kernels::prelude::*;
use ssm_kernels::{Element, Error};

fn traffic<T: Element>(spec: &ScanSpec) -> ScanTraffic {
    let case = ScanCase::<T>::new(spec);
    let mut outputs = ScanBuffers::new(&case, spec.final_state, spec.every, spec.order);
    scan_forward(&Emulator::new(), &case, &mut outputs).expect("a valid case runs")
}

/// Blocks that are all full: x, dt, z and out are moved once, whatever lanes a channel has; A is loaded once; B and C once per
/// block that shares them. That the state loops have no bank conflicts is held by `limits.toml`.
fn every_byte_once<T: Element>() {
    for (dim, dstate, lanes) in [(256, 16, 1), (128, 24, 2), (64, 64, 4), (32, 128, 8), (8, 512, 32)] {
        let (batch, seqlen, size) = (2, 70, size_of::<T>() as u64);
        let spec = ScanSpec { every: None, final_state: true, ..ScanSpec::all(batch, dim, dstate, seqlen) };
        let moved = traffic::<T>(&spec);
        let sequence = (batch * dim * seqlen) as u64 * size;
        let states = (batch * dim * dstate * 4) as u64;
        let blocks = (dim * lanes / if lanes == 1 { 128 } else { 256 }) as u64;
        let shared = (batch * dstate * seqlen) as u64 * size * blocks;
        assert_eq!((moved.z, moved.out), (sequence, [0, sequence]), "dstate {dstate}");
        assert_eq!((moved.x, moved.dt), (sequence, sequence), "dstate {dstate}");
        assert_eq!((moved.A, moved.B, moved.C), (states, shared, shared), "dstate {dstate}");
    }
    say(format_args!("every byte once {}", T::DTYPE));
}

#[test]
fn every_byte_once_f32() {
    every_byte_once::<f32>();
}

#[test]
fn every_byte_once_bf16() {
    every_byte_once::<half::bf16>();
}

/// A read of forbidden memory is an error that names kernel and tensor, and the report tells it too.
#[test]
fn findings_are_errors() {
    let emulator = Emulator::new();
    let values = vec![0.5f32; 12];
    let (dt, A, B) = (emulator.upload(&values), emulator.upload(&values), emulator.upload(&values));
    let (dt, A, B) = (dt.expect("room").named("dt"), A.expect("room").named("A"), B.expect("room"));
    let mut A_bar = emulator.alloc::<f32>(12).expect("room");
    A.forbid(7..8, true).expect("inside");
    let axes = [("element", 12)];
    let op = Discretise::new(Rule::Euler, dt.view(axes), A.view(axes), B.view(axes)).expect("valid");
    let mut view = A_bar.view_mut(axes);
    let error = emulator.gpu().forward(&op, DiscretiseOutputs::new().A_bar(&mut view)).expect_err("a finding");
    let Error::Findings { kernel, mode, report } = &error else { panic!("{error}") };
    assert_eq!((*kernel, mode.as_str()), ("discretise_fwd_f32", "nominal mode"));
    assert!(report.contains("OutOfBounds") && report.contains("`A`"), "{report}");
    let reports = emulator.take_reports();
    assert!(reports.len() == 1 && reports[0].has(FindingKind::OutOfBounds), "{reports:?}");
    assert!(emulator.take_reports().is_empty());
    A.forbid(7..8, false).expect("inside");
    let mut view = A_bar.view_mut(axes);
    emulator.gpu().forward(&op, DiscretiseOutputs::new().A_bar(&mut view)).expect("clean");
    assert_eq!(A_bar.download().expect("its memory"), [1.25; 12]);
}

#[test]
fn an_input_that_nobody_wrote_is_a_finding() {
    let emulator = Emulator::new();
    let (dt, mut out) = (emulator.alloc::<f32>(5).expect("room"), emulator.alloc::<f32>(5).expect("room"));
    let (axes, ones) = ([("element", 5)], emulator.upload(&[1.0f32; 5]).expect("room"));
    let op = Discretise::new(Rule::Zoh, dt.view(axes), ones.view(axes), ones.view(axes)).expect("valid");
    let mut view = out.view_mut(axes);
    let error = emulator.gpu().forward(&op, DiscretiseOutputs::new().delta(&mut view)).expect_err("a finding");
    assert!(error.to_string().contains("UninitialisedGlobal"), "{error}");
}

#[test]
fn refusals() {
    let (one, other) = (Emulator::new(), Emulator::new());
    let (dt, A) = (one.upload(&[1.0f32; 4]).expect("room"), other.upload(&[1.0f32; 4]).expect("room"));
    let axes = [("element", 4)];
    let op = Discretise::new(Rule::Euler, dt.view(axes), A.view(axes), dt.view(axes)).expect("valid");
    let mut out = one.alloc::<f32>(4).expect("room");
    let mut view = out.view_mut(axes);
    let mixed = one.gpu().forward(&op, DiscretiseOutputs::new().A_bar(&mut view)).expect_err("refused").to_string();
    assert!(mixed.contains("`A` lies on device") && mixed.contains("expected device"), "{mixed}");
    let huge = one.alloc::<f32>(usize::MAX).expect_err("refused").to_string();
    assert!(huge.starts_with("emulator: a buffer of 18446744073709551615 elements"), "{huge}");
    let beyond = dt.forbid(3..5, true).expect_err("refused").to_string();
    assert!(beyond.contains("of a buffer of 4"), "{beyond}");
}
