//! What the state update refuses, and in which words. Nothing is written when a call is refused.

#![allow(non_snake_case)]

use crate::common::device::{device, device_mut, expect_overlaps};
use half::bf16;
use ssm_kernels::prelude::*;
use ssm_kernels::{Device, Error, SliceMut, WorkspaceBlock};

static ZEROS: [f32; 256] = [0.0; 256];
const CHANNELS: [(&str, usize); 2] = [("batch", 3), ("dim", 4)];
const ROWS: [(&str, usize); 2] = [("batch", 3), ("dstate", 2)];
const HEADS: [(&str, usize); 3] = [("batch", 3), ("nheads", 4), ("headdim", 2)];

fn zeros<const N: usize>(dims: [(&'static str, usize); N]) -> View<'static, f32> {
    View::new(&ZEROS[..dims.iter().map(|dim| dim.1).product()], dims)
}

type Update = StateUpdate<'static, f32>;

fn valid() -> Update {
    let io = zeros(CHANNELS);
    StateUpdate::new(io, io, zeros([("dim", 4), ("dstate", 2)]), zeros(ROWS), zeros(ROWS)).expect("valid")
}

fn construction(x: View<'static, f32>, dt: View<'static, f32>, A: View<'static, f32>, B: View<'static, f32>) -> String {
    Update::new(x, dt, A, B, B).expect_err("refused").to_string()
}

/// The message of running `update` into a cache of so many rows, which must stay as it is.
fn refusal<const N: usize>(update: Update, dims: [(&'static str, usize); N]) -> String {
    let mut cache = vec![7.0f32; dims.iter().map(|dim| dim.1).product()];
    let mut out = [7.0f32; 12];
    let (mut state, mut out_view) = (ViewMut::new(&mut cache, dims), ViewMut::new(&mut out, CHANNELS));
    let error = Cpu::new().forward(&update, StateUpdateOutputs::new(&mut state, &mut out_view));
    assert!(cache.iter().chain(&out).all(|&v| v == 7.0), "written although refused");
    error.expect_err("refused").to_string()
}

#[test]
fn forms_and_shapes() {
    let (io, A, B) = (zeros(CHANNELS), zeros([("dim", 4), ("dstate", 2)]), zeros(ROWS));
    assert_eq!(
        construction(zeros([("batch", 3), ("channels", 4)]), io, A, B),
        "state_update: `x` has dimensions (batch, channels), expected (batch, dim) in any memory order"
    );
    assert_eq!(
        construction(zeros([("batch", 3), ("seqlen", 2), ("nheads", 4)]), io, A, B),
        "state_update: `x` has dimensions (batch, seqlen, nheads), expected (batch, seqlen, nheads, headdim) in any \
         memory order"
    );
    assert_eq!(
        construction(io, zeros([("batch", 3), ("dim", 5)]), A, B),
        "state_update: `dt` has shape [5], expected [4] (dim)"
    );
    // One number for all of it is for heads.
    assert_eq!(
        construction(io, zeros([("batch", 3)]), A, B),
        "state_update: `dt` has dimensions (batch), expected (batch, dim) in any memory order"
    );
    assert_eq!(
        construction(io, io, zeros([("dim", 4)]), B),
        "state_update: `A` has dimensions (dim), expected (dim, dstate) in any memory order"
    );
    assert_eq!(
        construction(io, io, A, zeros([("dstate", 2)])),
        "state_update: `B` has dimensions (dstate), expected (batch, dstate) in any memory order"
    );
    assert_eq!(
        construction(io, io, A, zeros([("batch", 3), ("ngroups", 3), ("dstate", 2)])),
        "state_update: `B` is in 3 groups, expected a number of groups that divides dim 4"
    );
    let heads = zeros(HEADS);
    assert_eq!(
        construction(heads, heads, zeros([("nheads", 4)]), zeros([("batch", 3), ("ngroups", 3), ("dstate", 2)])),
        "state_update: `B` is in 3 groups, expected a number of groups that divides nheads 4"
    );
    // Tokens are in all or in none.
    let tokens = zeros([("batch", 3), ("seqlen", 1), ("dim", 4)]);
    assert_eq!(
        construction(tokens, io, A, B),
        "state_update: `B` has dimensions (batch, dstate), expected (batch, seqlen, dstate) in any memory order"
    );
    assert_eq!(
        construction(io, tokens, A, B),
        "state_update: `dt` has dimensions (seqlen), expected (batch, dim) in any memory order"
    );
}

#[test]
fn states() {
    let state = [("batch", 3), ("dim", 4), ("dstate", 2)];
    assert_eq!(
        refusal(valid(), [("batch", 4), ("dim", 4), ("dstate", 2)]),
        "state_update: `state` has shape [4], expected [3] (batch)"
    );
    assert_eq!(
        refusal(valid(), [("batch", 3), ("dim", 4), ("dstate", 3)]),
        "state_update: `state` has shape [3], expected [2] (dstate)"
    );
    // A cache has indices, and indices have a cache.
    assert_eq!(
        refusal(valid(), [("slots", 3), ("dim", 4), ("dstate", 2)]),
        "state_update: `state` has dimensions (slots), expected (batch, dim, dstate) in any memory order"
    );
    let indices = valid().state_indices(View::new(&[0, 1, 2], [("batch", 3)]));
    assert_eq!(
        refusal(indices, state),
        "state_update: `state` has dimensions (batch, dim, dstate), expected (slots, dim, dstate) in any memory order"
    );
    assert_eq!(
        refusal(valid().dt_limit((1.0, 0.5)), state),
        "state_update: `dt_limit` is (1, 0.5), expected (min, max) with min <= max"
    );
    let mut tokens = [7.0f32; 16];
    let (mut cache, mut out) = ([7.0f32; 24], [7.0f32; 12]);
    let (mut cache_view, mut out_view) = (ViewMut::new(&mut cache, state), ViewMut::new(&mut out, CHANNELS));
    let mut kept = ViewMut::new(&mut tokens, [("tokens", 2), ("dim", 4), ("dstate", 2)]);
    let outputs = StateUpdateOutputs::new(&mut cache_view, &mut out_view).token_states(&mut kept);
    assert_eq!(
        valid().check(outputs).expect_err("refused").to_string(),
        "state_update: `token_states` has shape [2], expected [3] (tokens)"
    );
}

#[test]
fn indices() {
    let cache = [("slots", 5), ("dim", 4), ("dstate", 2)];
    let with = |indices: &'static [i32]| valid().state_indices(View::new(indices, [("batch", indices.len())]));
    assert_eq!(
        refusal(with(&[0, 5, 1]), cache),
        "state_update: `state_indices` is 5 in row 1, expected below 5, the rows of the state (negative: padding)"
    );
    assert_eq!(
        refusal(with(&[4, -1, 4]), cache),
        "state_update: `state_indices` is 4 in rows 0 and 2, expected no row of the state twice (negative: padding)"
    );
    assert_eq!(refusal(with(&[0, 1]), cache), "state_update: `state_indices` has shape [2], expected [3] (batch)");
    assert_eq!(
        refusal(with(&[0, 1, i32::MAX]), cache),
        "state_update: `state_indices` is 2147483647 in row 2, expected below 5, the rows of the state (negative: padding)"
    );
    // A row twice is padding twice.
    let (mut data, mut out) = ([7.0f32; 40], [7.0f32; 12]);
    let mut state = ViewMut::new(&mut data, cache);
    let all = with(&[-1, i32::MIN, -1]);
    Cpu::new()
        .forward(&all, StateUpdateOutputs::new(&mut state, &mut ViewMut::new(&mut out, CHANNELS)))
        .expect("padding may repeat");
    assert!(data.iter().all(|&v| v == 7.0) && out.iter().all(|&v| v == 0.0));
}

#[test]
fn a_plan_of_another_call() {
    let (mut data, mut out) = ([7.0f32; 24], [7.0f32; 12]);
    let mut state = ViewMut::new(&mut data, [("batch", 3), ("dim", 4), ("dstate", 2)]);
    let mut out = ViewMut::new(&mut out, CHANNELS);
    let update = valid();
    let mut plan = Cpu::new().forward_plan(&update).expect("valid");
    plan.kernel = "state_update_fwd_f32_state_bf16".into();
    let mut workspace = vec![WorkspaceBlock::filled(0); plan.workspace_blocks()];
    let outputs = StateUpdateOutputs::new(&mut state, &mut out);
    let error = Cpu::new().forward_with(&update, outputs, &plan, (&mut workspace).into()).expect_err("refused");
    assert!(
        error.to_string().starts_with("state_update: `plan` was made for state_update_fwd_f32_state_bf16"),
        "{error}"
    );
}

#[test]
fn overlaps() {
    let channel = [("dim", 4)];
    let state = [("slots", 5), ("dim", 4), ("dstate", 2)];
    expect_overlaps(
        &["x", "dt", "A", "B", "C", "D", "z", "dt_bias", "state_indices"],
        &["out", "state", "token_states", "index_flag"],
        |places| {
            let at = |i: usize| places[i];
            let update = StateUpdate::<'_, bf16, f32, Device>::new(
                device(at(0), CHANNELS),
                device(at(1), CHANNELS),
                device(at(2), [("dim", 4), ("dstate", 2)]),
                device(at(3), ROWS),
                device(at(4), ROWS),
            )?;
            let update = update.D(device(at(5), channel)).z(device(at(6), CHANNELS)).dt_bias(device(at(7), channel));
            // SAFETY: no backend of this test reads device memory.
            let update = unsafe { update.state_indices_from_device(device(at(8), [("batch", 3)])) };
            let (mut out, mut cache) = (device_mut(at(9), CHANNELS), device_mut(at(10), state));
            let mut kept = device_mut(at(11), [("tokens", 3), ("dim", 4), ("dstate", 2)]);
            // SAFETY: as above.
            let mut flag = unsafe { SliceMut::<u32, Device>::from_raw_parts(at(12) << 20, 1, 0) };
            let outputs = StateUpdateOutputs::new(&mut cache, &mut out).token_states(&mut kept);
            update.check(outputs.index_flag(&mut flag))
        },
    );
    // SAFETY: as above.
    let mut flag = unsafe { SliceMut::<u32, Device>::from_raw_parts(99 << 20, 2, 0) };
    let io = device::<f32, 2>(1, CHANNELS);
    let rows = device(2, ROWS);
    let update = StateUpdate::<'_, f32, f32, Device>::new(io, io, device(3, [("dim", 4), ("dstate", 2)]), rows, rows);
    let mut cache = device_mut(5, [("batch", 3), ("dim", 4), ("dstate", 2)]);
    let mut out = device_mut(4, CHANNELS);
    let outputs = StateUpdateOutputs::new(&mut cache, &mut out).index_flag(&mut flag);
    let refused: Result<(), Error> = update.expect("valid").check(outputs);
    assert_eq!(
        refused.expect_err("refused").to_string(),
        "state_update: `index_flag` has shape [2], expected [1] (words)"
    );
}

/// Without elements anything goes, as far as nothing would be read.
#[test]
fn nothing_to_do() {
    let io = zeros([("batch", 0), ("dim", 4)]);
    let rows = zeros([("batch", 0), ("dstate", 2)]);
    let update = Update::new(io, io, zeros([("dim", 4), ("dstate", 2)]), rows, rows).expect("valid");
    let (mut data, mut out) = ([0.0f32; 0], [0.0f32; 0]);
    let mut state = ViewMut::new(&mut data, [("batch", 0), ("dim", 4), ("dstate", 2)]);
    let mut out = ViewMut::new(&mut out, [("batch", 0), ("dim", 4)]);
    Cpu::new().forward(&update, StateUpdateOutputs::new(&mut state, &mut out)).expect("nothing to do");
    let huge = View::new(&ZEROS[..0], [("batch", usize::MAX), ("dim", 0)]);
    let rows = View::strided(&ZEROS[..1], [("batch", usize::MAX, 0), ("dstate", 1, 1)]);
    let A = View::new(&ZEROS[..0], [("dim", 0), ("dstate", 1)]);
    let update = Update::new(huge, huge, A, rows, rows).expect("valid");
    let (mut data, mut out) = ([0.0f32; 0], [0.0f32; 0]);
    let mut state = ViewMut::new(&mut data, [("batch", usize::MAX), ("dim", 0), ("dstate", 1)]);
    let mut out = ViewMut::new(&mut out, [("batch", usize::MAX), ("dim", 0)]);
    Cpu::new().forward(&update, StateUpdateOutputs::new(&mut state, &mut out)).expect("nothing to do");
    // One index for all of them: padding is fine, one row is not.
    for (index, fine) in [(-1, true), (0, false)] {
        let index = [index];
        let update = Update::new(huge, huge, A, rows, rows).expect("valid");
        let update = update.state_indices(View::strided(&index, [("batch", usize::MAX, 0)]));
        let (mut data, mut out) = ([0.0f32; 0], [0.0f32; 0]);
        let mut state = ViewMut::new(&mut data, [("slots", 1), ("dim", 0), ("dstate", 1)]);
        let mut out = ViewMut::new(&mut out, [("batch", usize::MAX), ("dim", 0)]);
        let run = Cpu::new().forward(&update, StateUpdateOutputs::new(&mut state, &mut out));
        assert_eq!(run.is_ok(), fine, "{run:?}");
    }
}
