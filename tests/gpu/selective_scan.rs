//! The selective scan forward.

use super::params::{SsmDiscretiseFwd, SsmSelectiveScanFwd};
use super::{Recorder, WORKSPACE, at, view, view_mut, view_on};
use ssm_kernels::prelude::*;
use ssm_kernels::{Axes, Device, Element, Slice, SliceMut, WorkspaceBlock};

/// Groups of 6 channels in B and of 4 in C: both are constant over runs of 2.
#[test]
fn a_run_shares_both_groups() {
    let recorder = Recorder::default();
    let io = view::<f32, 3>(at(1), [("batch", 1), ("dim", 24), ("seqlen", 5)]);
    let projection = |ngroups| view(at(4), [("batch", 1), ("ngroups", ngroups), ("dstate", 16), ("seqlen", 5)]);
    let A = view(at(3), [("dim", 24), ("dstate", 16)]);
    let op = SelectiveScan::new(io, io, A, projection(4), projection(6)).expect("valid");
    let mut out = view_mut(at(6), [("batch", 1), ("dim", 24), ("seqlen", 5)]);
    recorder.gpu().forward(&op, SelectiveScanOutputs::new(&mut out)).expect("launched");
    let (_, grid, _, p) = recorder.only::<SsmSelectiveScanFwd>();
    assert_eq!((p.B.channels_per_group, p.C.channels_per_group, p.run, grid), (6, 4, 2, [12, 1, 1]));
}

/// A scan of `dim` channels; B in `groups` groups, C in half as many.
fn scan<T: Element>(dim: usize, dstate: usize, seqlen: usize, groups: usize) -> SelectiveScan<'static, T, Device> {
    let channel_last = [("batch", 2), ("seqlen", seqlen), ("dim", dim)];
    let projection = |ngroups| [("batch", 2), ("ngroups", ngroups), ("dstate", dstate), ("seqlen", seqlen)];
    SelectiveScan::new(
        view(at(1), channel_last),
        view(at(2), [("batch", 2), ("dim", dim), ("seqlen", seqlen)]),
        view(at(3), [("dim", dim), ("dstate", dstate)]),
        view(at(4), projection(groups)),
        view(at(5), projection(groups / 2)),
    )
    .expect("valid")
}

fn out<T>(dim: usize, seqlen: usize) -> ViewMut<'static, T, Device> {
    view_mut(at(6), [("batch", 2), ("dim", dim), ("seqlen", seqlen)])
}

#[test]
fn scan_parameters() {
    let recorder = Recorder::default();
    let bias = view(0x8_0000, [("dim", 24)]);
    let state = view(0x9_0000, [("batch", 2), ("dim", 24), ("dstate", 16)]);
    let op = scan::<half::bf16>(24, 16, 100, 4)
        .dt_bias(bias)
        .dt_softplus(true)
        .dt_limit((0.25, 4.0))
        .initial_state(state)
        .reverse(true);
    let mut chunks = view_mut(0xa_0000, [("nchunks", 6), ("dim", 24), ("dstate", 16)]);
    let mut out = out(24, 100);
    let outputs = SelectiveScanOutputs::new(&mut out).chunk_states(32, &mut chunks);
    recorder.gpu().forward(&op, outputs).expect("launched");
    let (kernel, grid, block, p) = recorder.only::<SsmSelectiveScanFwd>();
    assert_eq!((kernel.as_str(), block), ("selective_scan_fwd_bf16_lanes1", [128, 1, 1]));
    // Runs of 6 channels that share B, within groups of 12 that share C: 4 runs, a block each; two sequences.
    assert_eq!((p.run, p.B.channels_per_group, p.C.channels_per_group, grid), (6, 6, 12, [4, 2, 1]));
    assert_eq!((p.dim, p.dstate), (24, 16));
    let spans = p.spans;
    assert_eq!((spans.seqlen, spans.nseqs, spans.every, spans.reverse), (100, 2, 32, 1));
    assert_eq!((spans.parts, p.final_per_part, p.delta_sum.address), (1, 0, 0));
    assert_eq!((p.x.address, p.x.batch_stride, p.x.dim_stride, p.x.seqlen_stride), (at(1), 2400, 1, 24));
    assert_eq!((p.dt.address, p.dt.batch_stride, p.dt.dim_stride, p.dt.seqlen_stride), (at(2), 2400, 100, 1));
    assert_eq!((p.A.address, p.A.dim_stride, p.A.dstate_stride), (at(3), 16, 1));
    assert_eq!((p.B.batch_stride, p.B.ngroups_stride, p.B.dstate_stride, p.B.seqlen_stride), (6400, 1600, 100, 1));
    assert_eq!((p.B.address, p.B.dim_stride, p.B.constant), (at(4), 0, 0));
    assert_eq!((p.C.address, p.C.batch_stride), (at(5), 3200));
    assert_eq!((p.out.address, p.out.dim_stride), (at(6), 100));
    assert_eq!((p.D.address, p.z.address, p.final_state.address, p.slab_states, spans.cu_seqlens), (0, 0, 0, 0, 0));
    assert_eq!((p.dt_bias.address, p.dt_bias.dim_stride), (0x8_0000, 1));
    assert_eq!((p.initial_state.address, p.initial_state.batch_stride), (0x9_0000, 384));
    assert_eq!((p.chunk_states.address, p.chunk_states.batch_stride), (0xa_0000, 384));
    assert_eq!((p.step.softplus, p.step.limited, p.step.min, p.step.max), (1, 1, 0.25, 4.0));
}

#[test]
fn every_option_of_a_scan_has_its_place() {
    let recorder = Recorder::default();
    let state = [("dstate", 16), ("dim", 24), ("batch", 2)];
    let op = scan::<f32>(24, 16, 100, 4)
        .D(view(0x8_0000, [("dim", 24)]))
        .z(view(0x9_0000, [("seqlen", 100), ("batch", 2), ("dim", 24)]))
        .initial_state(view(0xa_0000, state));
    let mut final_state = view_mut(0xb_0000, state);
    let mut out = out(24, 100);
    recorder.gpu().forward(&op, SelectiveScanOutputs::new(&mut out).final_state(&mut final_state)).expect("launched");
    let (_, _, _, p) = recorder.only::<SsmSelectiveScanFwd>();
    assert_eq!((p.D.address, p.D.dim_stride, p.dt_bias.address), (0x8_0000, 1, 0));
    assert_eq!((p.z.address, p.z.batch_stride, p.z.dim_stride, p.z.seqlen_stride), (0x9_0000, 24, 1, 48));
    for (s, address) in [(p.initial_state, 0xa_0000), (p.final_state, 0xb_0000)] {
        assert_eq!((s.address, s.batch_stride, s.dim_stride, s.dstate_stride), (address, 1, 2, 48));
    }
    assert_eq!((p.chunk_states.address, p.spans.reverse, p.step.softplus, p.step.limited), (0, 0, 0, 0));
}

/// Sequences beyond the grid's 65535 take turns; elements beyond 2^20 blocks of discretise too.
#[test]
fn grids_are_capped() {
    let recorder = Recorder::default();
    let io = view::<f32, 3>(at(1), [("batch", 70_000), ("dim", 1), ("seqlen", 1)]);
    let P = view(at(4), [("batch", 70_000), ("ngroups", 1), ("dstate", 1), ("seqlen", 1)]);
    let op = SelectiveScan::new(io, io, view(at(3), [("dim", 1), ("dstate", 1)]), P, P).expect("valid");
    let mut out = view_mut(at(6), [("batch", 70_000), ("dim", 1), ("seqlen", 1)]);
    recorder.gpu().forward(&op, SelectiveScanOutputs::new(&mut out)).expect("launched");
    let (_, grid, _, p) = recorder.only::<SsmSelectiveScanFwd>();
    assert_eq!((grid, p.spans.nseqs), ([1, 65_535, 1], 70_000));
    let wide = [("a", 1 << 15), ("b", 1 << 15)];
    let tensor = view::<f32, 2>(at(1), wide);
    let op = Discretise::new(Rule::Euler, tensor, view(at(2), wide), view(at(3), wide)).expect("valid");
    recorder.gpu().forward(&op, DiscretiseOutputs::new().A_bar(&mut view_mut(at(4), wide))).expect("launched");
    assert_eq!(recorder.only::<SsmDiscretiseFwd>().1, [1 << 20, 1, 1]);
}

#[test]
fn lanes_and_slabs() {
    for (dstate, lanes, slabs) in [
        (0, 1, 1),
        (1, 1, 1),
        (16, 1, 1),
        (17, 2, 1),
        (64, 4, 1),
        (128, 8, 1),
        (300, 32, 1),
        (512, 32, 1),
        (513, 32, 2),
    ] {
        let recorder = Recorder::default();
        let op = scan::<f32>(300, dstate, 8, 2);
        let plan = recorder.gpu().forward_plan(&op).expect("valid");
        assert_eq!(plan.lanes, lanes, "dstate {dstate}");
        // At 32 lanes A and the states of each slab wait: for each of 2 sequences and 38 blocks, 2 units of 16 KiB.
        let waiting = if lanes == 32 { 2 * 38 * slabs * 2 * 16384 } else { 0 };
        assert_eq!(plan.workspace_bytes, waiting, "dstate {dstate}");
        recorder.gpu().forward(&op, SelectiveScanOutputs::new(&mut out(300, 8))).expect("launched");
        let (kernel, grid, _, p) = recorder.only::<SsmSelectiveScanFwd>();
        assert_eq!(kernel, format!("selective_scan_fwd_f32_lanes{lanes}"));
        let channels = if lanes == 1 { 128 } else { 256 / lanes };
        assert_eq!(grid, [2 * 150usize.div_ceil(channels) as u32, 2, 1], "dstate {dstate}");
        assert_eq!(p.slab_states, if lanes == 32 { WORKSPACE } else { 0 });
        // SAFETY: nothing is read or written.
        let none = unsafe { SliceMut::<WorkspaceBlock, Device>::from_raw_parts(WORKSPACE, 0, 3) };
        let refused = recorder.gpu().forward_with(&op, SelectiveScanOutputs::new(&mut out(300, 8)), &plan, none);
        assert_eq!(refused.is_err(), lanes == 32, "a workspace too small");
    }
}

#[test]
fn constant_projections_are_one_run() {
    let recorder = Recorder::default();
    let op = scan::<half::f16>(24, 16, 5, 4);
    let constant = || Projection::Constant(view(0xb_0000, [("dstate", 16), ("dim", 24)]));
    let io = view(at(1), [("batch", 2), ("dim", 24), ("seqlen", 5)]);
    let both = SelectiveScan::new(io, io, view(at(3), [("dim", 24), ("dstate", 16)]), constant(), constant());
    for (op, run, fixed) in [(op, 6, 0), (both.expect("valid"), 24, 1)] {
        recorder.gpu().forward(&op, SelectiveScanOutputs::new(&mut out(24, 5))).expect("launched");
        let (_, grid, _, p) = recorder.only::<SsmSelectiveScanFwd>();
        assert_eq!((p.run, p.B.constant, p.C.constant, grid[0]), (run, fixed, fixed, 24 / run));
        if fixed == 1 {
            let B = p.B;
            assert_eq!((B.batch_stride, B.ngroups_stride, B.seqlen_stride), (0, 0, 0));
            assert_eq!((B.address, B.dim_stride, B.dstate_stride), (0xb_0000, 1, 24));
        }
    }
}

#[test]
fn packed_sequences_need_their_table() {
    let recorder = Recorder::default();
    let segments = Segments::new(&[0, 3, 3, 8]).expect("valid");
    let sequence = [("batch", 1), ("dim", 4), ("seqlen", 8)];
    let P = view(0x4_0000, [("batch", 1), ("ngroups", 1), ("dstate", 2), ("seqlen", 8)]);
    let io = view::<f32, 3>(0x1_0000, sequence);
    let op = || SelectiveScan::new(io, io, view(0x3_0000, [("dim", 4), ("dstate", 2)]), P, P).expect("valid");
    let run = |op: SelectiveScan<'_, f32, Device>| {
        recorder.gpu().forward(&op, SelectiveScanOutputs::new(&mut view_mut(0x6_0000, sequence)))
    };
    assert_eq!(
        run(op().segments(&segments)).expect_err("refused").to_string(),
        "selective_scan: `segments_table` is missing, expected because packed sequences need their boundaries on the \
         device: use segments_on"
    );
    // SAFETY: nothing is read or written.
    let table = |elements| unsafe { Slice::<i32, Device>::from_raw_parts(0xc_0000, elements, 3) };
    assert_eq!(
        // SAFETY: nothing is read or written.
        run(unsafe { op().segments_on(&segments, table(3)) }).expect_err("refused").to_string(),
        "selective_scan: `segments_table` is of 3 i32, expected 4 i32 for 3 sequences"
    );
    // SAFETY: nothing is read or written.
    run(unsafe { op().segments_on(&segments, table(4)) }).expect("launched");
    let (_, grid, _, p) = recorder.only::<SsmSelectiveScanFwd>();
    assert_eq!((p.spans.cu_seqlens, p.spans.nseqs, grid), (0xc_0000, 3, [1, 3, 1]));
    // SAFETY: nothing is read or written.
    let replaced = unsafe { op().segments_on(&segments, table(4)) }.segments(&segments);
    assert!(run(replaced).is_err(), "a table belongs to the segments that came with it");
}

#[test]
fn refusals_and_nothing_to_do() {
    let recorder = Recorder::default();
    let io = |device| view_on::<f32, 3>(device, at(1), [("batch", 2), ("dim", 4), ("seqlen", 5)]);
    let A = |device| view_on(device, at(3), [("dim", 4), ("dstate", 2)]);
    let P = |device| view_on(device, at(4), [("batch", 2), ("ngroups", 1), ("dstate", 2), ("seqlen", 5)]);
    let other = SelectiveScan::new(io(0), io(0), A(0), P(0), P(0)).expect("valid");
    // SAFETY: nothing is read or written.
    let memory = unsafe { SliceMut::<f32, Device>::from_raw_parts(at(6), 40, 0) };
    let mut there = ViewMut::from_parts(memory, Axes::dense([("batch", 2), ("dim", 4), ("seqlen", 5)]));
    assert_eq!(
        recorder.gpu().forward(&other, SelectiveScanOutputs::new(&mut there)).expect_err("refused").to_string(),
        "selective_scan: `x` lies on device 0, expected device 3 of the stream"
    );
    let huge = 1usize << 31;
    let wide = scan::<f32>(huge, 1, 1, 2);
    let refused = recorder.gpu().forward(&wide, SelectiveScanOutputs::new(&mut out(huge, 1)));
    assert_eq!(
        refused.expect_err("refused").to_string(),
        "selective_scan: dim 2147483648 is not supported, expected at most 2147483647 on a GPU"
    );
    recorder.gpu().forward(&scan::<f32>(0, 4, 5, 2), SelectiveScanOutputs::new(&mut out(0, 5))).expect("nothing to do");
    assert!(recorder.0.borrow().is_empty());
}

/// Plans of a bf16 scan by shape (batch, dim, dstate, seqlen).
fn plans([batch, dim, dstate, seqlen]: [usize; 4], lanes: Option<usize>) -> [ssm_kernels::Plan; 2] {
    let io = view::<half::bf16, 3>(at(1), [("batch", batch), ("dim", dim), ("seqlen", seqlen)]);
    let P = view(at(4), [("batch", batch), ("ngroups", 1), ("dstate", dstate), ("seqlen", seqlen)]);
    let op = SelectiveScan::new(io, io, view(at(3), [("dim", dim), ("dstate", dstate)]), P, P).expect("valid");
    let recorder = Recorder::default();
    let gpu = lanes.map_or(recorder.gpu(), |lanes| recorder.gpu().lanes(lanes));
    [gpu.forward_plan(&op).expect("valid"), gpu.backward_plan(&op).expect("valid")]
}

/// Lanes forward, and parts either way: the same for every batch.
#[test]
fn lanes_and_parts_by_shape() {
    for (dim, dstate, seqlen, lanes, parts) in [
        (2048, 16, 64, 1, [1, 1]),
        (5120, 16, 1024, 1, [1, 1]),
        (2048, 16, 2048, 2, [1, 16]),
        (2048, 8, 4096, 2, [1, 16]),
        (4096, 16, 3000, 4, [1, 12]),
        (2048, 16, 65536, 1, [32, 32]),
        (8192, 16, 8192, 1, [8, 8]),
        (3072, 16, 8192, 1, [11, 11]),
        (16384, 16, 8192, 2, [1, 4]),
        (40000, 16, 8192, 1, [1, 1]),
        (2048, 64, 2048, 4, [1, 1]),
        (2048, 512, 8192, 32, [1, 2]),
        (3, 0, 0, 1, [1, 1]),
    ] {
        for batch in [1, 2, 64] {
            let [forward, backward] = plans([batch, dim, dstate, seqlen], None);
            let shape = [batch, dim, dstate, seqlen];
            assert_eq!((forward.lanes, [forward.split, backward.split]), (lanes, parts), "{shape:?}");
        }
    }
}

/// So many lanes as are forced, or the next that hold the states.
#[test]
fn forced_lanes() {
    for (forced, dstate, forward, backward) in
        [(1, 16, 1, 1), (2, 16, 2, 4), (4, 16, 4, 4), (5, 3, 8, 8), (32, 1, 32, 32), (1, 40, 4, 4), (99, 700, 32, 32)]
    {
        let plans = plans([1, 300, dstate, 100], Some(forced));
        assert_eq!(plans.map(|plan| plan.lanes), [forward, backward], "{forced} lanes of {dstate} states");
    }
}

/// Rows of states are there for each part of each sequence: a long one among many short ones is not cut.
#[test]
fn short_sequences_bound_the_parts() {
    for (short, longest, parts) in [(0, 65536, 32), (3, 65536, 32), (1000, 65536, 1), (40, 65536, 13)] {
        let boundaries: Vec<i32> = (0..=short).map(|i| i * 10).chain([short * 10 + longest]).collect();
        let segments = Segments::new(&boundaries).expect("valid");
        // SAFETY: nothing is read or written.
        let table = unsafe { Slice::<i32, Device>::from_raw_parts(0xc_0000, boundaries.len(), 0) };
        let seqlen = segments.total();
        let io = view::<half::bf16, 3>(at(1), [("batch", 1), ("dim", 2048), ("seqlen", seqlen)]);
        let P = view(at(4), [("batch", 1), ("ngroups", 1), ("dstate", 16), ("seqlen", seqlen)]);
        let op = SelectiveScan::new(io, io, view(at(3), [("dim", 2048), ("dstate", 16)]), P, P).expect("valid");
        // SAFETY: nothing is launched.
        let op = unsafe { op.segments_on(&segments, table) };
        let recorder = Recorder::default();
        assert_eq!(recorder.gpu().forward_plan(&op).expect("valid").split, parts, "{short} beside {longest}");
        assert_eq!(recorder.gpu().backward_plan(&op).expect("valid").split, parts, "{short} beside {longest}");
    }
}
