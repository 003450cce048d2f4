//! The causal convolution and its update.

use super::params::{
    self, SsmCausalConv1dBwd, SsmCausalConv1dFwd, SsmCausalConv1dSum, SsmCausalConv1dUpdate, SsmSequence, SsmState,
    SsmTiles,
};
use super::{Recorder, WORKSPACE, at, view, view_mut};
use ssm_kernels::prelude::*;
use ssm_kernels::{Axes, Device, Slice, SliceMut};

const DENSE: [(&str, usize); 3] = [("batch", 2), ("dim", 10), ("seqlen", 1100)];
const CHANNEL_LAST: [(&str, usize); 3] = [("batch", 2), ("seqlen", 1100), ("dim", 10)];

fn sequence(s: SsmSequence) -> (u64, [i64; 3]) {
    (s.address, [s.batch_stride, s.dim_stride, s.seqlen_stride])
}

fn state(s: SsmState) -> (u64, [i64; 3]) {
    (s.address, [s.batch_stride, s.dim_stride, s.dstate_stride])
}

fn tiles(t: SsmTiles) -> (i64, [u32; 4]) {
    (t.seqlen, [t.steps, t.tiles_per_seq, t.nseqs, t.dim])
}

#[test]
fn forward_parameters() {
    let recorder = Recorder::default();
    let states = [("state_len", 2), ("dim", 10), ("batch", 2)];
    let x = view::<half::bf16, 3>(at(1), DENSE);
    let op = CausalConv1d::<'_, _, f32, Device>::new(x, view(at(2), [("width", 3), ("dim", 10)])).expect("valid");
    let op = op.bias(view(at(3), [("dim", 10)])).silu(true).initial_state(view(at(4), states));
    let (mut out, mut last) = (view_mut(at(5), CHANNEL_LAST), view_mut(at(6), states));
    recorder.gpu().forward(&op, CausalConv1dOutputs::new(&mut out).final_state(&mut last)).expect("launched");
    let (kernel, grid, block, p) = recorder.only::<SsmCausalConv1dFwd>();
    // x lies along the steps: tiles of 512 of them, three a sequence, and four channels to a block.
    assert_eq!((kernel.as_str(), grid, block), ("causal_conv1d_fwd_bf16_steps3", [18, 1, 1], [128, 1, 1]));
    assert_eq!((p.tiles.cu_seqlens, tiles(p.tiles), p.silu), (0, (1100, [512, 3, 2, 10]), 1));
    assert_eq!((sequence(p.x), sequence(p.out)), ((at(1), [11000, 1100, 1]), (at(5), [11000, 1, 10])));
    assert_eq!((state(p.initial_state), state(p.final_state)), ((at(4), [1, 2, 20]), (at(6), [1, 2, 20])));
    let t = p.taps;
    assert_eq!((t.weight, t.weight_dim_stride, t.weight_width_stride), (at(2), 1, 10));
    assert_eq!((t.bias, t.bias_dim_stride, t.dtype, t.width), (at(3), 1, params::SSM_DTYPE_F32, 3));
}

/// What is not there has address 0; x whose channels are neighbours has tiles of 64 steps, a block 128 channels.
#[test]
fn forward_without_options() {
    let recorder = Recorder::default();
    let weight = view::<half::f16, 2>(at(2), [("dim", 10), ("width", 5)]);
    let op = CausalConv1d::<'_, f32, half::f16, Device>::new(view(at(1), CHANNEL_LAST), weight).expect("valid");
    recorder.gpu().forward(&op, CausalConv1dOutputs::new(&mut view_mut(at(5), DENSE))).expect("launched");
    let (kernel, grid, _, p) = recorder.only::<SsmCausalConv1dFwd>();
    assert_eq!((kernel.as_str(), grid), ("causal_conv1d_fwd_f32_channels16", [36, 1, 1]));
    assert_eq!((tiles(p.tiles), p.silu, p.taps.dtype), ((1100, [64, 18, 2, 10]), 0, params::SSM_DTYPE_F16));
    assert_eq!((p.taps.bias, p.initial_state.address, p.final_state.address), (0, 0, 0));
}

/// 2, 3 and 4 taps have kernels of their own.
#[test]
fn kernels_by_width() {
    let recorder = Recorder::default();
    for (width, made_for) in [(1, 16), (2, 2), (3, 3), (4, 4), (5, 16), (16, 16)] {
        let weight = || view(at(2), [("dim", 10), ("width", width)]);
        let x = || view(at(1), CHANNEL_LAST);
        let op = CausalConv1d::<'_, f32, f32, Device>::new(x(), weight()).expect("valid");
        let plans = [recorder.gpu().forward_plan(&op), recorder.gpu().backward_plan(&op)];
        let update = CausalConv1dUpdate::<'_, f32, f32, Device>::new(x(), weight()).expect("valid");
        let kernels = plans.map(|plan| plan.expect("valid").kernel);
        assert_eq!(kernels, ["fwd", "bwd"].map(|way| format!("causal_conv1d_{way}_f32_channels{made_for}")));
        let plan = recorder.gpu().forward_plan(&update).expect("valid");
        assert_eq!(plan.kernel, format!("causal_conv1d_update_f32_taps{made_for}"));
    }
}

#[test]
fn packed_sequences_have_a_tile_more() {
    let recorder = Recorder::default();
    let segments = Segments::new(&[0, 600, 600, 1100]).expect("valid");
    let dims = [("batch", 1), ("dim", 9), ("seqlen", 1100)];
    let weight = || view(at(2), [("dim", 9), ("width", 4)]);
    let op = || CausalConv1d::<'_, f32, f32, Device>::new(view(at(1), dims), weight()).expect("valid");
    let run = |op: CausalConv1d<'_, f32, f32, Device>| {
        recorder.gpu().forward(&op, CausalConv1dOutputs::new(&mut view_mut(at(5), dims)))
    };
    assert_eq!(
        run(op().segments(&segments)).expect_err("refused").to_string(),
        "causal_conv1d: `segments_table` is missing, expected because packed sequences need their boundaries on the \
         device: use segments_on"
    );
    // SAFETY: nothing is read or written.
    run(unsafe { op().segments_on(&segments, Slice::from_raw_parts(at(4), 4, 3)) }).expect("launched");
    let (_, grid, _, p) = recorder.only::<SsmCausalConv1dFwd>();
    // 1100 / 512 whole tiles and one for each of three sequences, three blocks each.
    assert_eq!((p.tiles.cu_seqlens, p.tiles.nseqs, grid), (at(4), 3, [15, 1, 1]));
}

#[test]
fn backward_parameters() {
    let recorder = Recorder::default();
    let (states, weights) = ([("batch", 2), ("dim", 10), ("state_len", 3)], [("dim", 10), ("width", 4)]);
    let x = view::<half::f16, 3>(at(1), CHANNEL_LAST);
    let op = CausalConv1d::<'_, _, half::bf16, Device>::new(x, view(at(2), weights)).expect("valid");
    let op = op.bias(view(at(3), [("dim", 10)])).initial_state(view(at(4), states));
    let upstream = CausalConv1dUpstream::new().dout(view(at(5), DENSE)).dfinal_state(view(at(6), states));
    let (mut dx, mut dinitial) = (view_mut(at(8), DENSE), view_mut(at(9), states));
    let (mut dweight, mut dbias) = (view_mut(at(10), weights), view_mut(at(11), [("dim", 10)]));
    let gradients = CausalConv1dGradients::new().dx(&mut dx).dinitial_state(&mut dinitial);
    recorder.gpu().backward(&op, upstream, gradients.dweight(&mut dweight).dbias(&mut dbias)).expect("launched");
    let plan = recorder.gpu().backward_plan(&op).expect("valid");
    // For each of 36 tiles and 10 channels four taps and a bias.
    assert_eq!(plan.workspace_bytes, (36 * 10 * 5 * 4usize).next_multiple_of(256));
    let (kernel, grid, _, p) = recorder.first::<SsmCausalConv1dBwd>();
    assert_eq!((kernel.as_str(), grid), ("causal_conv1d_bwd_f16_channels4", [36, 1, 1]));
    assert_eq!((p.partials, p.silu, p.taps.dtype), (WORKSPACE, 0, params::SSM_DTYPE_BF16));
    assert_eq!((sequence(p.dout), sequence(p.dx)), ((at(5), [11000, 1100, 1]), (at(8), [11000, 1100, 1])));
    assert_eq!((sequence(p.x), state(p.initial_state)), ((at(1), [11000, 1, 10]), (at(4), [30, 3, 1])));
    assert_eq!((state(p.dfinal_state), state(p.dinitial_state)), ((at(6), [30, 3, 1]), (at(9), [30, 3, 1])));
    let (kernel, grid, _, p) = recorder.only::<SsmCausalConv1dSum>();
    // A block of 128 channels for each tap, and for the bias.
    assert_eq!((kernel.as_str(), grid, p.partials), ("causal_conv1d_sum_f32", [5, 1, 1], WORKSPACE));
    let g = p.gradients;
    assert_eq!((g.weight, g.weight_dim_stride, g.weight_width_stride), (at(10), 4, 1));
    assert_eq!(
        (g.bias, g.dtype, g.width, tiles(p.tiles)),
        (at(11), params::SSM_DTYPE_BF16, 4, (1100, [64, 18, 2, 10]))
    );
}

/// Without the weights' gradients there is nothing to add up.
#[test]
fn backward_of_the_inputs_alone() {
    let recorder = Recorder::default();
    let weight = view(at(2), [("dim", 10), ("width", 4)]);
    let op = CausalConv1d::<'_, f32, f32, Device>::new(view(at(1), DENSE), weight).expect("valid").silu(true);
    let mut dx = view_mut(at(8), DENSE);
    let upstream = CausalConv1dUpstream::new().dout(view(at(5), DENSE));
    recorder.gpu().backward(&op, upstream, CausalConv1dGradients::new().dx(&mut dx)).expect("launched");
    let (kernel, _, _, p) = recorder.only::<SsmCausalConv1dBwd>();
    assert_eq!((kernel.as_str(), p.partials, p.silu), ("causal_conv1d_bwd_f32_steps4", 0, 1));
    assert_eq!((p.dfinal_state.address, p.dinitial_state.address), (0, 0));
}

#[test]
fn update_parameters() {
    let recorder = Recorder::default();
    let dims = [("batch", 3), ("seqlen", 2), ("dim", 200)];
    let weight = view(at(2), [("dim", 200), ("width", 4)]);
    let op = CausalConv1dUpdate::<'_, f32, f32, Device>::new(view(at(1), dims), weight).expect("valid").silu(true);
    // SAFETY: nothing is read or written.
    let op = unsafe { op.state_indices_on(Slice::from_raw_parts(at(3), 3, 3)) };
    let mut out = view_mut(at(4), dims);
    let mut cache = view_mut(at(5), [("slots", 7), ("dim", 200), ("state_len", 6)]);
    // SAFETY: as above.
    let flag = unsafe { SliceMut::<u32, Device>::from_raw_parts(at(6), 1, 3) };
    let mut flag = ViewMut::from_parts(flag, Axes::dense([("flag", 1)]));
    let outputs = CausalConv1dUpdateOutputs::new(&mut out, &mut cache).out_of_range(&mut flag);
    recorder.gpu().forward(&op, outputs).expect("launched");
    let (kernel, grid, block, p) = recorder.only::<SsmCausalConv1dUpdate>();
    // A thread for each channel of a row: two blocks a row.
    assert_eq!((kernel.as_str(), grid, block), ("causal_conv1d_update_f32_taps4", [6, 1, 1], [128, 1, 1]));
    assert_eq!((p.batch, p.dim, p.seqlen, p.silu, p.slots, p.state_len), (3, 200, 2, 1, 7, 6));
    assert_eq!((p.cache_seqlens, p.state_indices, p.out_of_range), (0, at(3), at(6)));
    assert_eq!((sequence(p.x), sequence(p.out)), ((at(1), [400, 1, 200]), (at(4), [400, 1, 200])));
    assert_eq!(state(p.conv_state), (at(5), [1200, 6, 1]));
}

#[test]
fn refusals_and_nothing_to_do() {
    let recorder = Recorder::default();
    let run = |seqlen: usize, dim: usize| {
        let dims = [("batch", 1), ("dim", dim), ("seqlen", seqlen)];
        let weight = view(at(2), [("dim", dim), ("width", 4)]);
        let op = CausalConv1d::<'_, f32, f32, Device>::new(view(at(1), dims), weight).expect("valid");
        recorder.gpu().forward(&op, CausalConv1dOutputs::new(&mut view_mut(at(5), dims)))
    };
    assert_eq!(
        run((1 << 31) - 1, 1).expect_err("refused").to_string(),
        "causal_conv1d: seqlen 2147483647 is not supported, expected at most 2147482624 on a GPU"
    );
    run(0, 3).expect("nothing to do");
    run(3, 0).expect("nothing to do");
    assert!(recorder.0.borrow().is_empty());
}
