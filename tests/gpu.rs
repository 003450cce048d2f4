//! The launch glue: which kernel, which blocks, which parameters. A launcher that only writes down stands for the device.

#![cfg(feature = "cuda")]
#![allow(non_snake_case)]

#[allow(dead_code, non_camel_case_types, unused_imports)]
#[rustfmt::skip]
#[path = "../kernels-rs/params.rs"]
mod params;

use params::{SsmDiscretiseBwd, SsmDiscretiseFwd, SsmSelectiveScanFwd, SsmStateUpdate};
use ssm_kernels::gpu::{Driver, Gpu, Launch, Launcher, MODULES, devices};
use ssm_kernels::ops::Workspace;
use ssm_kernels::prelude::*;
use ssm_kernels::{Axes, Device, Element, Error, Result, Slice, SliceMut, WorkspaceBlock};
use std::cell::RefCell;

/// What was launched: kernel, grid, block, parameters.
type Call = (String, [u32; 3], [u32; 3], Vec<u8>);

/// Writes launches down. Device 3.
#[derive(Default)]
struct Recorder(RefCell<Vec<Call>>);

impl Launcher for &Recorder {
    fn ordinal(&self) -> u32 {
        3
    }
    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<()> {
        assert!(launch.module.entries.contains(&launch.kernel), "{} in {}", launch.kernel, launch.module.unit);
        assert!(launch.shared_bytes <= 99 << 10, "{} of {}", launch.shared_bytes, launch.kernel);
        self.0.borrow_mut().push((launch.kernel.into(), launch.grid, launch.block, launch.params.to_vec()));
        Ok(())
    }
    fn with_workspace(&self, plan: &Plan, run: &mut dyn FnMut(Workspace<'_, Device>) -> Result<()>) -> Result<()> {
        // SAFETY: nothing is read or written.
        run(unsafe { SliceMut::from_raw_parts(WORKSPACE, plan.workspace_blocks(), 3) })
    }
}

/// Addresses that are far apart.
const fn at(n: u64) -> u64 {
    n << 40
}

const WORKSPACE: u64 = at(7);

impl Recorder {
    fn gpu(&self) -> Gpu<&Self> {
        Gpu::new(self)
    }

    /// The only launch, its parameters as `P`.
    fn only<P: Copy>(&self) -> (String, [u32; 3], [u32; 3], P) {
        let calls = self.0.take();
        assert_eq!(calls.len(), 1);
        let (kernel, grid, block, bytes) = calls.into_iter().next().expect("one");
        assert_eq!(bytes.len(), size_of::<P>());
        // SAFETY: the bytes are those of a `P`, a plain struct.
        (kernel, grid, block, unsafe { bytes.as_ptr().cast::<P>().read_unaligned() })
    }
}

fn view_on<T, const N: usize>(device: u32, address: u64, dims: [(&'static str, usize); N]) -> View<'static, T, Device> {
    let elements = dims.iter().map(|dim| dim.1).product();
    // SAFETY: nothing is read or written.
    View::from_parts(unsafe { Slice::<T, Device>::from_raw_parts(address, elements, device) }, Axes::dense(dims))
}

fn view<T, const N: usize>(address: u64, dims: [(&'static str, usize); N]) -> View<'static, T, Device> {
    view_on(3, address, dims)
}

fn view_mut<T, const N: usize>(address: u64, dims: [(&'static str, usize); N]) -> ViewMut<'static, T, Device> {
    let elements = dims.iter().map(|dim| dim.1).product();
    // SAFETY: nothing is read or written.
    ViewMut::from_parts(unsafe { SliceMut::<T, Device>::from_raw_parts(address, elements, 3) }, Axes::dense(dims))
}

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
fn every_entry_is_named_after_its_unit() {
    assert_eq!(MODULES.len(), 29);
    for module in MODULES {
        assert!(!module.entries.is_empty(), "{}", module.unit);
        for entry in module.entries {
            assert!(entry.starts_with(module.unit), "{entry} in {}", module.unit);
            assert!(module.ptx.contains(&format!(".entry {entry}(")), "{entry} in {}", module.unit);
        }
    }
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
fn every_option_of_discretise_has_its_place() {
    let recorder = Recorder::default();
    let domain = [("a", 3), ("b", 5)];
    let input = |place: u64| view::<f32, 2>(place << 20, domain);
    for (rule, value) in [
        (Rule::Euler, params::SSM_RULE_EULER),
        (Rule::ExpEuler, params::SSM_RULE_EXP_EULER),
        (Rule::Zoh, params::SSM_RULE_ZOH),
        (Rule::Bilinear, params::SSM_RULE_BILINEAR),
        (Rule::ExpTrapezoidal, params::SSM_RULE_EXP_TRAPEZOIDAL),
    ] {
        let trapezoidal = rule == Rule::ExpTrapezoidal;
        let op = Discretise::new(rule, input(1), view(2 << 20, domain), input(3)).expect("valid");
        let op = op.dt_bias(view(4 << 20, domain)).dt_limit((0.5, 2.0));
        let op: Discretise<'_, f32, Device> = if trapezoidal { op.lambda(input(5)) } else { op };
        let [mut delta, mut A_bar, mut B_bar, mut B_prev_bar] =
            [6, 7, 8, 9].map(|place: u64| view_mut(place << 20, domain));
        let outputs = DiscretiseOutputs::new().delta(&mut delta).A_bar(&mut A_bar).B_bar(&mut B_bar);
        let outputs = if trapezoidal { outputs.B_prev_bar(&mut B_prev_bar) } else { outputs };
        recorder.gpu().forward(&op, outputs).expect("launched");
        let p = recorder.only::<SsmDiscretiseFwd>().3;
        let lambda = if trapezoidal { 5 } else { 0 };
        let i = p.inputs;
        assert_eq!((i.rule, i.step.limited, i.step.min, i.step.max), (value, 1, 0.5, 2.0));
        assert_eq!([i.dt, i.A, i.B, i.dt_bias, i.lambda].map(|wide| wide.address >> 20), [1, 2, 3, 4, lambda]);
        let prev = if trapezoidal { 9 } else { 0 };
        assert_eq!([p.delta, p.A_bar, p.B_bar, p.B_prev_bar].map(|wide| wide.address >> 20), [6, 7, 8, prev]);
        let [ddelta, dA_bar, dB_bar, dB_prev_bar] = [6, 7, 8, 9].map(input);
        let upstream = DiscretiseUpstream::new().ddelta(ddelta).dA_bar(dA_bar).dB_bar(dB_bar);
        let upstream = if trapezoidal { upstream.dB_prev_bar(dB_prev_bar) } else { upstream };
        let [mut ddt, mut ddt_bias, mut dA, mut dB, mut dlambda] =
            [10, 11, 12, 13, 14].map(|place: u64| view_mut(place << 20, domain));
        let gradients = DiscretiseGradients::new().ddt(&mut ddt).ddt_bias(&mut ddt_bias).dA(&mut dA).dB(&mut dB);
        let gradients = if trapezoidal { gradients.dlambda(&mut dlambda) } else { gradients };
        recorder.gpu().backward(&op, upstream, gradients).expect("launched");
        let p = recorder.only::<SsmDiscretiseBwd>().3;
        assert_eq!([p.ddelta, p.dA_bar, p.dB_bar, p.dB_prev_bar].map(|w| w.address >> 20), [6, 7, 8, prev]);
        let last = if trapezoidal { 14 } else { 0 };
        let written = [p.ddt, p.ddt_bias, p.dA, p.dB, p.dlambda].map(|wide| wide.address >> 20);
        assert_eq!(written, [10, 11, 12, 13, last]);
    }
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
        // At 32 lanes A and the states of each slab wait: for each of 2 sequences and 76 blocks, 2 units of 8 KiB.
        let waiting = if lanes == 32 { 2 * 76 * slabs * 2 * 8192 } else { 0 };
        assert_eq!(plan.workspace_bytes, waiting, "dstate {dstate}");
        recorder.gpu().forward(&op, SelectiveScanOutputs::new(&mut out(300, 8))).expect("launched");
        let (kernel, grid, _, p) = recorder.only::<SsmSelectiveScanFwd>();
        assert_eq!(kernel, format!("selective_scan_fwd_f32_lanes{lanes}"));
        let channels = 128 / lanes;
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

#[test]
fn discretise_parameters() {
    let recorder = Recorder::default();
    let dt = view::<half::bf16, 2>(0x1_0000, [("seqlen", 300), ("dim", 7)]);
    let A = view(0x2_0000, [("dim", 7), ("dstate", 4)]);
    let op = Discretise::new(Rule::Bilinear, dt, A, view(0x3_0000, [("dstate", 4)])).expect("valid").dt_softplus(true);
    let domain = [("dstate", 4), ("dim", 7), ("seqlen", 300)];
    let mut B_bar = view_mut(0x4_0000, domain);
    recorder.gpu().forward(&op, DiscretiseOutputs::new().B_bar(&mut B_bar)).expect("launched");
    let (kernel, grid, block, p) = recorder.only::<SsmDiscretiseFwd>();
    assert_eq!((kernel.as_str(), grid, block), ("discretise_fwd_bf16", [33, 1, 1], [256, 1, 1]));
    // The domain: seqlen, dim, dstate.
    let i = p.inputs;
    assert_eq!((i.extents, i.rule, i.step.softplus, i.step.limited), ([300, 7, 4, 1], params::SSM_RULE_BILINEAR, 1, 0));
    assert_eq!((i.dt.strides, i.A.strides, i.B.strides), ([7, 1, 0, 0], [0, 4, 1, 0], [0, 0, 1, 0]));
    assert_eq!((i.dt.address, i.dt_bias.address, i.lambda.address), (0x1_0000, 0, 0));
    assert_eq!((p.B_bar.address, p.B_bar.strides, p.delta.address), (0x4_0000, [1, 300, 2100, 0], 0));
    let (mut ddt, mut dA) = (view_mut(0x5_0000, domain), view_mut(0x9_0000, domain));
    let upstream = DiscretiseUpstream::new().dA_bar(view(0x6_0000, domain));
    let gradients = DiscretiseGradients::new().ddt(&mut ddt).dA(&mut dA);
    recorder.gpu().backward(&op, upstream, gradients).expect("launched");
    let (kernel, _, _, p) = recorder.only::<SsmDiscretiseBwd>();
    assert_eq!((kernel.as_str(), p.dA_bar.address, p.ddelta.address), ("discretise_bwd_bf16", 0x6_0000, 0));
    assert_eq!((p.ddt.address, p.dA.address, p.dB.address, p.ddt_bias.address), (0x5_0000, 0x9_0000, 0, 0));
}

/// On any machine: devices, or an error that says what is missing; never a panic.
#[test]
fn the_driver_or_its_absence() {
    match devices() {
        Ok(list) => {
            let count = list.len() as u32;
            let beyond = Driver::open(count).expect_err("no such device");
            assert_eq!(beyond, Error::NoDevice { ordinal: count, count });
        }
        Err(why) => {
            assert_eq!(Driver::open(0).expect_err("no driver"), why);
            println!("no GPU here: {why}");
        }
    }
}

/// What forward saves for backward, and backward's workspace, per element of x.
#[test]
fn bytes_per_element_of_the_backward_direction() {
    for (batch, dim, seqlen) in [(8, 2048, 2048), (8, 2048, 512), (1, 768, 1024), (2, 1536, 4096), (1, 256, 1 << 20)] {
        let sequence = [("batch", batch), ("dim", dim), ("seqlen", seqlen)];
        let io = view::<half::bf16, 3>(at(1), sequence);
        let P = view(at(4), [("batch", batch), ("ngroups", 1), ("dstate", 16), ("seqlen", seqlen)]);
        let op = SelectiveScan::new(io, io, view(at(3), [("dim", dim), ("dstate", 16)]), P, P).expect("valid");
        let recorder = Recorder::default();
        let plan = recorder.gpu().backward_plan(&op).expect("valid");
        let elements = (batch * dim * seqlen) as f64;
        let rows = *op.chunk_offsets(plan.checkpoint_every).expect("valid").last().expect("an end");
        let (saved, workspace) = ((rows * dim * 16 * 4) as f64 / elements, plan.workspace_bytes as f64 / elements);
        println!(
            "gpu backward, batch {batch}, dim {dim}, seqlen {seqlen}: {saved:.3} saved, {workspace:.3} of workspace"
        );
        assert!(saved <= 0.5 && workspace <= 4.0, "seqlen {seqlen}: {saved} and {workspace}");
        assert_eq!(recorder.gpu().forward_plan(&op).expect("valid").checkpoint_every, plan.checkpoint_every);
    }
}

/// Short sequences, and a long one among them, take turns: what blocks keep between tiles stays small.
#[test]
fn sequences_take_turns() {
    let dim = 2048;
    for lengths in [vec![64usize; 2048], [vec![10; 1000], vec![4000]].concat(), vec![128; 400]] {
        let total: usize = lengths.iter().sum();
        let ends = lengths.iter().scan(0, |end, &length| {
            *end += length as i32;
            Some(*end)
        });
        let boundaries: Vec<i32> = std::iter::once(0).chain(ends).collect();
        let segments = Segments::new(&boundaries).expect("valid");
        // SAFETY: nothing is read or written.
        let table = unsafe { Slice::<i32, Device>::from_raw_parts(0xc_0000, boundaries.len(), 0) };
        let sequence = [("batch", 1), ("dim", dim), ("seqlen", total)];
        let io = view::<half::bf16, 3>(at(1), sequence);
        let P = view(at(4), [("batch", 1), ("ngroups", 1), ("dstate", 16), ("seqlen", total)]);
        let op = SelectiveScan::new(io, io, view(at(3), [("dim", dim), ("dstate", 16)]), P, P).expect("valid");
        // SAFETY: nothing is launched.
        let op = unsafe { op.segments_on(&segments, table) };
        let plan = Recorder::default().gpu().backward_plan(&op).expect("valid");
        let elements = total * dim;
        // 512 blocks may keep 31 units of 8 KiB each in any case; dA has a row per sequence.
        let rows = lengths.len() * dim * 17 * 4;
        let workspace = plan.workspace_bytes - rows;
        assert!(workspace <= 4 * elements + 512 * 31 * 8192, "{} sequences: {workspace}", lengths.len());
        println!("gpu backward, {} sequences: {:.3}", lengths.len(), workspace as f64 / elements as f64);
    }
}

/// Gradients that need no states recompute none.
#[test]
fn no_states_unless_needed() {
    let sequence = [("batch", 2), ("dim", 300), ("seqlen", 700)];
    let io = view::<half::f16, 3>(at(1), sequence);
    let A = [("dim", 300), ("dstate", 16)];
    let P = view(at(4), [("batch", 2), ("ngroups", 1), ("dstate", 16), ("seqlen", 700)]);
    let op = SelectiveScan::new(io, io, view(at(3), A), P, P).expect("valid");
    let launched = |gradients: SelectiveScanGradients<'_, half::f16, Device>| {
        let recorder = Recorder::default();
        recorder.gpu().backward(&op, SelectiveScanUpstream::new().dout(io), gradients).expect("launched");
        let kernels: Vec<String> = recorder.0.take().into_iter().map(|call| call.0).collect();
        kernels.iter().any(|kernel| kernel.starts_with("selective_scan_fwd"))
    };
    let (mut dx, mut ddt, mut dA) = (view_mut(at(6), sequence), view_mut(at(7), sequence), view_mut(at(8), A));
    assert!(!launched(SelectiveScanGradients::new().dx(&mut dx)));
    assert!(launched(SelectiveScanGradients::new().ddt(&mut ddt)));
    assert!(launched(SelectiveScanGradients::new().dx(&mut dx).dA(&mut dA)));
}

/// Dynamic shared memory that a block of the smallest parts (99 KiB) does not have is never asked for, and every pass that
/// a plan may launch is there.
#[test]
fn launches_of_the_backward_direction() {
    for (dstate, split, constant) in [(16, 1, false), (16, 3, true), (64, 1, true), (128, 2, false), (600, 2, true)] {
        let recorder = Recorder::default();
        let sequence = [("batch", 2), ("dim", 300), ("seqlen", 700)];
        let io = view::<half::f16, 3>(at(1), sequence);
        let states = [("dim", 300), ("dstate", dstate)];
        let variable = [("batch", 2), ("ngroups", 1), ("dstate", dstate), ("seqlen", 700)];
        let P = || match constant {
            true => Projection::Constant(view(at(4), states)),
            false => Projection::Variable(view(at(4), variable)),
        };
        let op = SelectiveScan::new(io, io, view(at(3), states), P(), P()).expect("valid").split(split);
        let (mut dx, mut dA) = (view_mut(at(6), sequence), view_mut(at(8), states));
        let (mut variable_dB, mut constant_dB) = (view_mut(at(9), variable), view_mut(at(9), states));
        let gradients = SelectiveScanGradients::new().dx(&mut dx).dA(&mut dA);
        let gradients = match constant {
            true => gradients.dB(ProjectionMut::Constant(constant_dB.reborrow())),
            false => gradients.dB(variable_dB.reborrow()),
        };
        recorder.gpu().backward(&op, SelectiveScanUpstream::new().dout(io), gradients).expect("launched");
        let kernels: Vec<String> = recorder.0.take().into_iter().map(|call| call.0).collect();
        let bwd = kernels.iter().filter(|kernel| kernel.starts_with("selective_scan_bwd_f16")).count();
        let fwd = kernels.iter().filter(|kernel| kernel.starts_with("selective_scan_fwd_f16")).count();
        let carries = kernels.iter().filter(|kernel| *kernel == "selective_scan_carry_f32").count();
        // 700 steps are more than a window, unless windows grow with dstate; parts are multiples of a window.
        let windows = 700 > 128.max(8 * dstate);
        let cut = split > 1;
        assert_eq!(
            (bwd, carries),
            (1 + usize::from(cut), usize::from(cut) * (1 + usize::from(windows))),
            "{kernels:?}"
        );
        assert_eq!(fwd, usize::from(windows) * (1 + usize::from(cut)), "{kernels:?}");
        assert!(kernels.iter().any(|kernel| kernel == "selective_scan_sum_f32"), "{kernels:?}");
    }
}

/// Heads of a cache, with indices and a flag: three rows of the batch, two tokens.
#[test]
fn update_parameters() {
    let recorder = Recorder::default();
    let (x, rows) =
        ([("batch", 3), ("seqlen", 2), ("nheads", 8), ("headdim", 10)], ["batch", "seqlen", "ngroups", "dstate"]);
    let rows = |address, ngroups| view(address, [(rows[0], 3), (rows[1], 2), (rows[2], ngroups), (rows[3], 64)]);
    let dt = view(at(2), [("batch", 3), ("nheads", 8), ("seqlen", 2)]);
    let op = StateUpdate::<'_, f32, half::bf16, Device>::new(
        view(at(1), x),
        dt,
        view(at(3), [("nheads", 8)]),
        rows(at(4), 4),
        rows(at(5), 2),
    );
    let op = op.expect("valid").D(view(0x6_0000, [("nheads", 8), ("headdim", 10)]));
    // SAFETY: nothing is read.
    let op = unsafe { op.state_indices_from_device(view(0x7_0000, [("batch", 3)])) };
    let states = |name, rows| [(name, rows), ("nheads", 8), ("headdim", 10), ("dstate", 64)];
    let (mut out, mut state) = (view_mut(at(8), x), view_mut(at(9), states("slots", 7)));
    let mut kept = view_mut(at(10), states("tokens", 6));
    // SAFETY: as above.
    let mut flag = unsafe { SliceMut::<u32, Device>::from_raw_parts(0xb_0000, 1, 3) };
    let outputs = StateUpdateOutputs::new(&mut state, &mut out).token_states(&mut kept).index_flag(&mut flag);
    recorder.gpu().forward(&op, outputs).expect("launched");
    let (kernel, grid, block, p) = recorder.only::<SsmStateUpdate>();
    // 16 lanes of four states: 8 channels in a block.
    assert_eq!((kernel.as_str(), grid, block), ("state_update_fwd_f32_state_bf16", [30, 1, 1], [128, 1, 1]));
    assert_eq!((p.lanes, p.tiles, p.one_decay, p.slots), (16, 10, 1, 7));
    assert_eq!((p.seqlen, p.nheads, p.headdim, p.dstate, p.B_heads, p.C_heads), (2, 8, 10, 64, 2, 4));
    assert_eq!((p.x.strides, p.dt.strides, p.z.address), ([160, 80, 10, 1], [16, 1, 2, 0], 0));
    assert_eq!((p.A.strides, p.D.strides, p.dt_bias.address), ([0, 1, 0, 0], [0, 0, 10, 1], 0));
    assert_eq!((p.B.strides, p.C.strides), ([512, 256, 64, 1], [256, 128, 64, 1]));
    assert_eq!((p.state.address, p.state.strides, p.token_states.address), (at(9), [5120, 640, 64, 1], at(10)));
    assert_eq!((p.state_indices, p.state_indices_stride, p.index_flag), (0x7_0000, 1, 0xb_0000));
    assert_eq!((p.rows_by_four, p.states_by_four), (1, 1));
}

/// Four neighbours are moved at once where rows are whole fours and begin at multiples of four.
#[test]
fn update_moves_fours_where_it_may() {
    let fours = |dstate: usize, [B, state]: [u64; 2], stride: usize| {
        let recorder = Recorder::default();
        let (x, dims) = ([("batch", 2), ("dim", 6)], [("batch", 2), ("dstate", dstate)]);
        let op = StateUpdate::<'_, half::f16, f32, Device>::new(
            view(at(1), x),
            view(at(2), x),
            view(at(3), [("dim", 6), ("dstate", dstate)]),
            view(B, dims),
            view(at(5), dims),
        );
        let mut out = view_mut(at(6), x);
        let axes = Axes::strided([("batch", 2, 6 * stride as i64), ("dim", 6, stride as i64), ("dstate", dstate, 1)]);
        // SAFETY: nothing is read or written.
        let memory = unsafe { SliceMut::<f32, Device>::from_raw_parts(state, 12 * stride, 3) };
        let mut state = ViewMut::from_parts(memory, axes);
        recorder.gpu().forward(&op.expect("valid"), StateUpdateOutputs::new(&mut state, &mut out)).expect("launched");
        let (.., p) = recorder.only::<SsmStateUpdate>();
        [p.A_by_four, p.rows_by_four, p.states_by_four]
    };
    assert_eq!(fours(16, [at(4), at(7)], 16), [1, 1, 1]);
    assert_eq!(fours(18, [at(4), at(7)], 20), [0, 0, 0]);
    assert_eq!(fours(16, [at(4) + 4, at(7)], 16), [1, 0, 1]);
    assert_eq!(fours(16, [at(4) + 8, at(7) + 8], 16), [1, 1, 0]);
    assert_eq!(fours(16, [at(4), at(7)], 18), [1, 1, 0]);
    assert_eq!(fours(16, [at(4), at(7)], 20), [1, 1, 1]);
}

#[test]
fn update_refusals() {
    let recorder = Recorder::default();
    let x = |batch| View::from_parts(shared(1 << 40), Axes::strided([("batch", batch, 0), ("dim", 1 << 20, 0)]));
    fn shared(address: u64) -> Slice<'static, f32, Device> {
        // SAFETY: nothing is read or written.
        unsafe { Slice::from_raw_parts(address, 1, 3) }
    }
    let rows = |batch| View::from_parts(shared(2 << 40), Axes::strided([("batch", batch, 0), ("dstate", 1, 1)]));
    let A = View::from_parts(shared(3 << 40), Axes::strided([("dim", 1 << 20, 0), ("dstate", 1, 1)]));
    let batch = 1usize << 20;
    let op = StateUpdate::<'_, f32, f32, Device>::new(x(batch), x(batch), A, rows(batch), rows(batch)).expect("valid");
    let mut out = view_mut(4 << 50, [("batch", batch), ("dim", 1 << 20)]);
    let mut state = view_mut(4 << 51, [("batch", batch), ("dim", 1 << 20), ("dstate", 1)]);
    let error = recorder.gpu().forward(&op, StateUpdateOutputs::new(&mut state, &mut out)).expect_err("too large");
    assert!(error.to_string().starts_with("state_update: number of blocks 8589934592"), "{error}");
}
