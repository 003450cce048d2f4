//! What the causal convolution refuses, and in which words; nothing is written when a call is refused.

use crate::common::device::{device, device_mut, expect_overlaps};
use ssm_kernels::prelude::*;
use ssm_kernels::{Device, Error, Result, Slice};

static ZEROS: [f32; 4096] = [0.0; 4096];
const SEQUENCE: [(&str, usize); 3] = [("batch", 2), ("dim", 3), ("seqlen", 5)];
const WEIGHT: [(&str, usize); 2] = [("dim", 3), ("width", 4)];
const STATE: [(&str, usize); 3] = [("batch", 2), ("dim", 3), ("state_len", 3)];
const CACHE: [(&str, usize); 3] = [("slots", 2), ("dim", 3), ("state_len", 3)];

fn zeros<const N: usize>(dims: [(&'static str, usize); N]) -> View<'static, f32> {
    View::new(&ZEROS[..dims.iter().map(|dim| dim.1).product()], dims)
}

fn text<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.expect_err("refused").to_string()
}

/// Of a call whose out is 7 before and after.
fn run(conv: &CausalConv1d<'_, f32>) -> String {
    let mut out = [7.0f32; 30];
    let refused = text(Cpu::new().forward(conv, CausalConv1dOutputs::new(&mut ViewMut::new(&mut out, SEQUENCE))));
    assert_eq!(out, [7.0; 30]);
    refused
}

#[test]
fn arguments() {
    let (x, weight) = (zeros(SEQUENCE), zeros(WEIGHT));
    let new = |x, weight| text(CausalConv1d::<f32, f32>::new(x, weight));
    assert_eq!(
        new(zeros([("batch", 2), ("dim", 3), ("time", 5)]), weight),
        "causal_conv1d: `x` has dimensions (batch, dim, time), expected (batch, dim, seqlen) in any memory order"
    );
    assert_eq!(
        new(x, zeros([("dim", 2), ("width", 4)])),
        "causal_conv1d: `weight` has shape [2, 4], expected [3, 4] (dim, width)"
    );
    for width in [0, 17] {
        let expected = format!("causal_conv1d: `weight` is of width {width}, expected a width from 1 to 16");
        assert_eq!(new(x, zeros([("dim", 3), ("width", width)])), expected);
    }
    let conv = || CausalConv1d::new(x, weight).expect("valid");
    assert_eq!(run(&conv().bias(zeros([("dim", 4)]))), "causal_conv1d: `bias` has shape [4], expected [3] (dim)");
    assert_eq!(
        run(&conv().initial_state(zeros([("batch", 2), ("dim", 3), ("state_len", 4)]))),
        "causal_conv1d: `initial_state` has shape [2, 3, 4], expected [2, 3, 3] (batch, dim, state_len)"
    );
    let segments = Segments::new(&[0, 5]).expect("valid");
    assert_eq!(
        run(&conv().segments(&segments)),
        "causal_conv1d: `x` is of batch 2, expected batch 1 with packed sequences"
    );
    let one = CausalConv1d::new(zeros([("batch", 1), ("dim", 3), ("seqlen", 6)]), weight).expect("valid");
    assert_eq!(
        run(&one.segments(&segments)),
        "causal_conv1d: `cu_seqlens` is ending at 5, expected an end at seqlen 6"
    );
}

#[test]
fn gradients() {
    let conv = CausalConv1d::new(zeros(SEQUENCE), zeros(WEIGHT)).expect("valid");
    let back = |upstream: CausalConv1dUpstream<'_, f32>, gradients: CausalConv1dGradients<'_, f32>| {
        text(Cpu::new().backward(&conv, upstream, gradients))
    };
    let dout = CausalConv1dUpstream::new().dout(zeros(SEQUENCE));
    assert_eq!(
        back(dout, CausalConv1dGradients::new()),
        "causal_conv1d: `gradients` is missing, expected because at least one of dx, dweight, dbias, dinitial_state is \
         written"
    );
    let mut memory = [7.0f32; 3];
    let mut dbias = ViewMut::new(&mut memory, [("dim", 3)]);
    assert_eq!(
        back(dout, CausalConv1dGradients::new().dbias(&mut dbias)),
        "causal_conv1d: `dbias` is asked for without `bias`, expected none, or `bias` too"
    );
    assert_eq!(
        back(CausalConv1dUpstream::new(), CausalConv1dGradients::new().dbias(&mut dbias)),
        "causal_conv1d: `upstream` is missing, expected because at least one of dout, dfinal_state is given"
    );
    assert_eq!(memory, [7.0; 3]);
}

#[test]
fn plans_and_workspaces() {
    let conv = CausalConv1d::new(zeros(SEQUENCE), zeros(WEIGHT)).expect("valid");
    let other = CausalConv1d::new(zeros([("batch", 2), ("dim", 3), ("seqlen", 6)]), zeros(WEIGHT)).expect("valid");
    let mut memory = [7.0f32; 30];
    let mut out = ViewMut::new(&mut memory, SEQUENCE);
    let (cpu, plan) = (Cpu::new(), Cpu::new().forward_plan(&conv).expect("valid"));
    let refused = cpu.forward_with(&conv, CausalConv1dOutputs::new(&mut out), &plan, (&mut Vec::new()).into());
    assert!(matches!(refused, Err(Error::Workspace { op: "causal_conv1d", got: 0, .. })), "{refused:?}");
    let plan = cpu.forward_plan(&other).expect("valid");
    let mut workspace = plan.allocate().expect("room");
    let refused = cpu.forward_with(&conv, CausalConv1dOutputs::new(&mut out), &plan, (&mut workspace).into());
    assert!(matches!(refused, Err(Error::Plan { op: "causal_conv1d", .. })), "{refused:?}");
    assert_eq!(memory, [7.0; 30]);
}

#[test]
fn the_plan_of_another_update() {
    let update = |dims| CausalConv1dUpdate::<f32>::new(zeros(dims), zeros(WEIGHT)).expect("valid");
    let plan = Cpu::new().forward_plan(&update([("batch", 2), ("dim", 3), ("seqlen", 6)])).expect("valid");
    let (mut out, mut state) = ([7.0f32; 30], [7.0f32; 18]);
    let (mut view, mut state_view) =
        (ViewMut::new(&mut out, SEQUENCE), ViewMut::new(&mut state, [("slots", 2), ("dim", 3), ("state_len", 3)]));
    let outputs = CausalConv1dUpdateOutputs::new(&mut view, &mut state_view);
    let mut workspace = plan.allocate().expect("room");
    let refused = Cpu::new().forward_with(&update(SEQUENCE), outputs, &plan, (&mut workspace).into());
    assert!(matches!(refused, Err(Error::Plan { op: "causal_conv1d_update", .. })), "{refused:?}");
    assert!(out == [7.0; 30] && state == [7.0; 18]);
}

#[test]
fn updates() {
    let update = || CausalConv1dUpdate::new(zeros(SEQUENCE), zeros(WEIGHT)).expect("valid");
    let run = |update: &CausalConv1dUpdate<'_, f32>, cache: [(&'static str, usize); 3]| {
        let (mut out, mut state) = ([7.0f32; 30], vec![7.0f32; cache.iter().map(|dim| dim.1).product()]);
        let (mut view, mut state_view) = (ViewMut::new(&mut out, SEQUENCE), ViewMut::new(&mut state, cache));
        let done = Cpu::new().forward(update, CausalConv1dUpdateOutputs::new(&mut view, &mut state_view));
        assert!(out == [7.0; 30] && state.iter().all(|&value| value == 7.0));
        text(done)
    };
    assert_eq!(
        run(&update(), [("slots", 3), ("dim", 3), ("state_len", 3)]),
        "causal_conv1d_update: `conv_state` has shape [3, 3, 3], expected [2, 3, 3] (slots, dim, state_len)"
    );
    assert_eq!(
        run(&update(), [("slots", 2), ("dim", 3), ("state_len", 2)]),
        "causal_conv1d_update: `conv_state` is of state_len 2, expected a state_len of 3 or more"
    );
    assert_eq!(
        run(&update().state_indices(&[0, 2]), CACHE),
        "causal_conv1d_update: `state_indices` is 2 at index 1, expected less than 2 slots, or negative for padding"
    );
    assert_eq!(
        run(&update().state_indices(&[1, 1]), CACHE),
        "causal_conv1d_update: `state_indices` is 1 at the indices 0 and 1, expected each slot once"
    );
    assert_eq!(
        run(&update().state_indices(&[1]), CACHE),
        "causal_conv1d_update: `state_indices` is of 1 i32, expected 2 for the batch"
    );
    assert_eq!(
        run(&update().cache_seqlens(&[0, -3]), CACHE),
        "causal_conv1d_update: `cache_seqlens` is -3 at index 1, expected 0 or more"
    );
}

/// Views whose extents leave every integer are refused like any other, and calls without elements are done.
#[test]
fn views_beyond_counting() {
    let m = usize::MAX;
    let weight = View::strided(&ZEROS, [("dim", m, 0), ("width", 4, 1)]);
    let none = View::strided(&ZEROS, [("batch", 1 << 40, 0), ("dim", m, 0), ("seqlen", 0, 1)]);
    let conv = CausalConv1d::<f32, f32>::new(none, weight).expect("valid, and without elements");
    let plan = Cpu::new().forward_plan(&conv).expect("a plan");
    assert!(matches!(plan.allocate(), Err(Error::OutOfMemory { .. })));
    assert!(matches!(Cpu::new().backward_plan(&conv).expect("a plan").allocate(), Err(Error::OutOfMemory { .. })));
    // So many sequences of nothing that nobody visits them.
    let many = View::strided(&ZEROS, [("batch", 1 << 60, 0), ("dim", 3, 0), ("seqlen", 0, 1)]);
    let conv = CausalConv1d::<f32, f32>::new(many, zeros([("dim", 3), ("width", 1)])).expect("valid");
    let mut out = ViewMut::strided(&mut [], [("batch", 1 << 60, 0), ("dim", 3, 0), ("seqlen", 0, 1)]);
    Cpu::new().forward(&conv, CausalConv1dOutputs::new(&mut out)).expect("nothing to do");
    let mut memory = [7.0f32; 3];
    let mut dweight = ViewMut::new(&mut memory, [("dim", 3), ("width", 1)]);
    let gradients = CausalConv1dGradients::new().dweight(&mut dweight);
    let upstream = CausalConv1dUpstream::new().dout(many);
    // The sums of each tile are planned for: more than memory holds.
    assert!(matches!(Cpu::new().backward(&conv, upstream, gradients), Err(Error::OutOfMemory { .. })));
}

#[test]
fn no_output_may_lie_on_another_argument() {
    let sequence = [("batch", 1), ("dim", 3), ("seqlen", 5)];
    let segments = Segments::new(&[0, 2, 5]).expect("valid");
    let op = |at: &[u64]| {
        // SAFETY: no backend of this test reads or writes device memory.
        let table = unsafe { Slice::<i32, Device>::from_raw_parts(at[4] << 20, 3, 0) };
        let conv = CausalConv1d::<f32, f32, Device>::new(device(at[0], sequence), device(at[1], WEIGHT))?
            .bias(device(at[2], [("dim", 3)]))
            .initial_state(device(at[3], STATE));
        // SAFETY: as above.
        Ok(unsafe { conv.segments_on(&segments, table) })
    };
    let inputs = ["x", "weight", "bias", "initial_state", "segments_table"];
    expect_overlaps(&inputs, &["out", "final_state"], |at| {
        let (mut out, mut state) = (device_mut(at[5], sequence), device_mut(at[6], STATE));
        op(at)?.check(CausalConv1dOutputs::new(&mut out).final_state(&mut state))
    });
    let inputs = [&inputs[..], &["dout", "dfinal_state"]].concat();
    expect_overlaps(&inputs, &["dx", "dweight", "dbias", "dinitial_state"], |at| {
        let upstream = CausalConv1dUpstream::new().dout(device(at[5], sequence)).dfinal_state(device(at[6], STATE));
        let (mut dx, mut dweight) = (device_mut(at[7], sequence), device_mut(at[8], WEIGHT));
        let (mut dbias, mut dstate) = (device_mut(at[9], [("dim", 3)]), device_mut(at[10], STATE));
        let gradients = CausalConv1dGradients::new().dx(&mut dx).dweight(&mut dweight).dbias(&mut dbias);
        op(at)?.check_backward(upstream, gradients.dinitial_state(&mut dstate))
    });
    let inputs = ["x", "weight", "bias", "cache_seqlens", "state_indices"];
    expect_overlaps(&inputs, &["out", "conv_state", "out_of_range"], |at| {
        // SAFETY: no backend of this test reads or writes device memory.
        let list = |at: u64| unsafe { Slice::<i32, Device>::from_raw_parts(at << 20, 2, 0) };
        let update = CausalConv1dUpdate::<f32, f32, Device>::new(device(at[0], SEQUENCE), device(at[1], WEIGHT))?
            .bias(device(at[2], [("dim", 3)]))
            .cache_seqlens_on(list(at[3]));
        // SAFETY: as above.
        let update = unsafe { update.state_indices_on(list(at[4])) };
        let (mut out, mut state) = (device_mut(at[5], SEQUENCE), device_mut(at[6], CACHE));
        let mut flag = device_mut(at[7], [("flag", 1)]);
        update.check(CausalConv1dUpdateOutputs::new(&mut out, &mut state).out_of_range(&mut flag))
    });
}
