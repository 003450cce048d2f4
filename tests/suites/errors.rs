//! What is refused, and in which words: operator, argument, expected, got. Nothing is written when a call is refused.

#![allow(non_snake_case)]

use crate::common::device::{device, device_mut, expect_overlaps};
use half::bf16;
use ssm_kernels::prelude::*;
use ssm_kernels::{Axes, Device, Error, Slice, SliceMut, WorkspaceBlock};

const SEQUENCE: [(&str, usize); 3] = [("batch", 2), ("dim", 4), ("seqlen", 5)];
const VARIABLE: [(&str, usize); 4] = [("batch", 2), ("ngroups", 2), ("dstate", 3), ("seqlen", 5)];
const CONSTANT: [(&str, usize); 2] = [("dim", 4), ("dstate", 3)];
static ZEROS: [f32; 256] = [0.0; 256];

/// Zeros of these dimensions.
fn zeros<const N: usize>(dims: [(&'static str, usize); N]) -> View<'static, f32> {
    View::new(&ZEROS[..dims.iter().map(|dim| dim.1).product()], dims)
}

fn valid() -> SelectiveScan<'static, f32> {
    let io = zeros(SEQUENCE);
    SelectiveScan::new(io, io, zeros(CONSTANT), zeros(VARIABLE), zeros(VARIABLE)).expect("valid")
}

/// The message of running `scan` into outputs of the right shapes, which must stay as they are.
fn refusal(scan: SelectiveScan<'_, f32>) -> String {
    let mut out = vec![7.0f32; 40];
    let error = Cpu::new().forward(&scan, SelectiveScanOutputs::new(&mut ViewMut::new(&mut out, SEQUENCE)));
    assert!(out.iter().all(|&v| v == 7.0), "written although refused");
    error.expect_err("refused").to_string()
}

/// The message of constructing with one view replaced.
fn construction(
    x: View<'_, f32>,
    dt: View<'_, f32>,
    A: View<'_, f32>,
    B: View<'_, f32>,
    C: Projection<'_, f32>,
) -> String {
    SelectiveScan::new(x, dt, A, B, C).expect_err("refused").to_string()
}

#[test]
fn shapes_of_required_arguments() {
    let (io, A, P) = (zeros(SEQUENCE), zeros(CONSTANT), zeros(VARIABLE));
    let longer = zeros([("batch", 2), ("dim", 4), ("seqlen", 6)]);
    assert_eq!(
        construction(io, longer, A, P, P.into()),
        "selective_scan: `dt` has shape [2, 4, 6], expected [2, 4, 5] (batch, dim, seqlen)"
    );
    let misnamed = zeros([("batch", 2), ("channels", 4), ("seqlen", 5)]);
    assert_eq!(
        construction(misnamed, io, A, P, P.into()),
        "selective_scan: `x` has dimensions (batch, channels, seqlen), expected (batch, dim, seqlen) in any memory order"
    );
    assert_eq!(
        construction(io, io, zeros([("dim", 5), ("dstate", 3)]), P, P.into()),
        "selective_scan: `A` has shape [5, 3], expected [4, 3] (dim, dstate)"
    );
    let groups = zeros([("batch", 2), ("ngroups", 3), ("dstate", 3), ("seqlen", 5)]);
    assert_eq!(
        construction(io, io, A, groups, P.into()),
        "selective_scan: `B` is in 3 groups, expected a number of groups that divides dim 4"
    );
    let states = zeros([("batch", 2), ("ngroups", 2), ("dstate", 2), ("seqlen", 5)]);
    assert_eq!(
        construction(io, io, A, P, states.into()),
        "selective_scan: `C` has shape [2, 2, 2, 5], expected [2, 2, 3, 5] (batch, ngroups, dstate, seqlen)"
    );
    assert_eq!(
        construction(io, io, A, P, Projection::Constant(zeros([("dim", 4), ("dstate", 4)]))),
        "selective_scan: `C` has shape [4, 4], expected [4, 3] (dim, dstate)"
    );
    assert_eq!(
        construction(io, io, A, A, P.into()),
        "selective_scan: `B` has dimensions (dim, dstate), expected (batch, ngroups, dstate, seqlen) in any memory order"
    );
}

#[test]
fn memory_and_strides() {
    let (io, A, P) = (zeros(SEQUENCE), zeros(CONSTANT), zeros(VARIABLE));
    let short = View::new(&ZEROS[..39], SEQUENCE);
    assert_eq!(
        construction(short, io, A, P, P.into()),
        "selective_scan: `x` holds 39 elements of memory, expected exactly 40 for shape \
         (batch 2 stride 20, dim 4 stride 5, seqlen 5 stride 1)"
    );
    let reaching = View::strided(&ZEROS[..100], [("batch", 2, 80), ("dim", 4, 7), ("seqlen", 5, 1)]);
    assert_eq!(
        construction(io, reaching, A, P, P.into()),
        "selective_scan: `dt` holds 100 elements of memory, expected at least 106 for shape \
         (batch 2 stride 80, dim 4 stride 7, seqlen 5 stride 1)"
    );
    let backwards = View::strided(&ZEROS, [("batch", 2, 20), ("dim", 4, 5), ("seqlen", 5, -1)]);
    assert_eq!(
        construction(backwards, io, A, P, P.into()),
        "selective_scan: `x` has stride -1 along seqlen, expected at least 0 (run backwards with the operator's `reverse`)"
    );
    let huge = View::strided(&ZEROS, [("batch", 2, i64::MAX), ("dim", 4, i64::MAX), ("seqlen", 5, 1)]);
    let message = construction(huge, io, A, P, P.into());
    assert!(message.contains("`x` holds 256 elements of memory, expected at least 3689"), "{message}");
}

#[test]
fn options() {
    assert_eq!(refusal(valid().D(zeros([("dim", 3)]))), "selective_scan: `D` has shape [3], expected [4] (dim)");
    assert_eq!(
        refusal(valid().z(zeros([("batch", 2), ("dim", 4), ("seqlen", 4)]))),
        "selective_scan: `z` has shape [2, 4, 4], expected [2, 4, 5] (batch, dim, seqlen)"
    );
    assert_eq!(
        refusal(valid().dt_bias(zeros([("dim", 5)]))),
        "selective_scan: `dt_bias` has shape [5], expected [4] (dim)"
    );
    assert_eq!(
        refusal(valid().initial_state(zeros([("batch", 3), ("dim", 4), ("dstate", 3)]))),
        "selective_scan: `initial_state` has shape [3, 4, 3], expected [2, 4, 3] (batch, dim, dstate)"
    );
    assert_eq!(
        refusal(valid().dt_limit((0.5, 0.1))),
        "selective_scan: `dt_limit` is (0.5, 0.1), expected (min, max) with min <= max"
    );
    assert_eq!(
        refusal(valid().dt_limit((f32::NAN, 0.1))),
        "selective_scan: `dt_limit` is (NaN, 0.1), expected (min, max) with min <= max"
    );
}

#[test]
fn packed_sequences() {
    let refused = |ends: &[i32]| Segments::new(ends).expect_err("refused").to_string();
    assert_eq!(refused(&[]), "segments: `cu_seqlens` is empty, expected a start at 0 and an end");
    assert_eq!(refused(&[1, 4]), "segments: `cu_seqlens` is starting at 1, expected a start at 0");
    assert_eq!(
        refused(&[0, 4, 3]),
        "segments: `cu_seqlens` is falling from 4 to 3 at index 2, expected values that never decrease"
    );
    let segments = Segments::new(&[0, 2, 5]).expect("valid");
    assert_eq!(
        segments.chunk_offsets(0).expect_err("refused").to_string(),
        "segments: `every` is 0, expected at least 1 step"
    );
    assert_eq!(
        refusal(valid().segments(&segments)),
        "selective_scan: `x` is of batch 2, expected batch 1 with packed sequences"
    );
    let dims = [("batch", 1), ("dim", 4), ("seqlen", 6)];
    let P = zeros([("batch", 1), ("ngroups", 2), ("dstate", 3), ("seqlen", 6)]);
    let scan = SelectiveScan::new(zeros(dims), zeros(dims), zeros(CONSTANT), P, P).expect("valid").segments(&segments);
    assert_eq!(
        scan.dims().expect_err("refused").to_string(),
        "selective_scan: `cu_seqlens` is ending at 5, expected an end at seqlen 6"
    );
}

#[test]
fn outputs() {
    let scan = valid();
    let mut memory = vec![7.0f32; 400];
    let mut state = vec![7.0f32; 24];
    let run = |view: ViewMut<'_, f32>| {
        let mut view = view;
        Cpu::new().forward(&scan, SelectiveScanOutputs::new(&mut view)).expect_err("refused").to_string()
    };
    assert_eq!(
        run(ViewMut::new(&mut memory[..48], [("batch", 2), ("dim", 4), ("seqlen", 6)])),
        "selective_scan: `out` has shape [2, 4, 6], expected [2, 4, 5] (batch, dim, seqlen)"
    );
    assert_eq!(
        run(ViewMut::strided(&mut memory, [("batch", 2, 20), ("dim", 4, 0), ("seqlen", 5, 1)])),
        "selective_scan: `out` has stride 0 along dim, expected more than the reach of the faster dimensions \
         (an output must not overlap itself)"
    );
    assert_eq!(
        run(ViewMut::strided(&mut memory, [("batch", 2, 20), ("dim", 4, 4), ("seqlen", 5, 1)])),
        "selective_scan: `out` has stride 4 along dim, expected more than the reach of the faster dimensions \
         (an output must not overlap itself)"
    );
    let mut out = ViewMut::new(&mut memory[..40], SEQUENCE);
    let mut short = ViewMut::new(&mut state[..16], [("batch", 2), ("dim", 4), ("dstate", 2)]);
    let refused = Cpu::new().forward(&scan, SelectiveScanOutputs::new(&mut out).final_state(&mut short));
    assert_eq!(
        refused.expect_err("refused").to_string(),
        "selective_scan: `final_state` has shape [2, 4, 2], expected [2, 4, 3] (batch, dim, dstate)"
    );
    let mut chunks = ViewMut::new(&mut state, [("nchunks", 2), ("dim", 4), ("dstate", 3)]);
    let refused = Cpu::new().forward(&scan, SelectiveScanOutputs::new(&mut out).chunk_states(2, &mut chunks));
    assert_eq!(
        refused.expect_err("refused").to_string(),
        "selective_scan: `chunk_states` has shape [2, 4, 3], expected [4, 4, 3] (nchunks, dim, dstate)"
    );
    let refused = Cpu::new().forward(&scan, SelectiveScanOutputs::new(&mut out).chunk_states(0, &mut chunks));
    assert_eq!(refused.expect_err("refused").to_string(), "selective_scan: `every` is 0, expected at least 1 step");
    assert!(memory.iter().chain(&state).all(|&v| v == 7.0), "written although refused");
}

#[test]
fn plan_and_workspace() {
    let scan = valid();
    let cpu = Cpu::new();
    let plan = cpu.forward_plan(&scan).expect("valid");
    assert_eq!((plan.kernel.as_str(), plan.workspace_bytes), ("selective_scan_fwd_f32", 4_608));
    let mut out = vec![7.0f32; 40];
    let mut view = ViewMut::new(&mut out, SEQUENCE);
    let refused = cpu.forward_with(&scan, SelectiveScanOutputs::new(&mut view), &plan, (&mut Vec::new()).into());
    assert_eq!(
        refused.expect_err("refused").to_string(),
        "selective_scan: workspace has 0 bytes, expected at least 4608"
    );
    let bf: Vec<bf16> = vec![bf16::ZERO; 60];
    let io = View::new(&bf[..40], SEQUENCE);
    let P = View::new(&bf, VARIABLE);
    let other = SelectiveScan::new(io, io, zeros(CONSTANT), P, P).expect("valid");
    let foreign = cpu.forward_plan(&other).expect("valid");
    let mut blocks = vec![WorkspaceBlock::filled(0); 4];
    let refused = cpu.forward_with(&scan, SelectiveScanOutputs::new(&mut view), &foreign, (&mut blocks).into());
    let dims = "batch 2, dim 4, seqlen 5, dstate 3, nseqs 2";
    assert_eq!(
        refused.expect_err("refused").to_string(),
        format!(
            "selective_scan: `plan` was made for selective_scan_fwd_bf16 with {dims}, \
             expected selective_scan_fwd_f32 with {dims}"
        )
    );
    assert!(out.iter().all(|&v| v == 7.0), "written although refused");
    // A state and a sum for 2^24 channels of 2^23 empty sequences in two parts, beyond any address space: an error, not an abort.
    let segments = Segments::new(&vec![0; 1 << 23]).expect("valid");
    let (none, A): ([f32; 0], _) = ([], vec![0.0f32; 1 << 24]);
    let io = View::new(&none, [("batch", 1), ("dim", 1 << 24), ("seqlen", 0)]);
    let P = View::new(&none, [("batch", 1), ("ngroups", 1), ("dstate", 1), ("seqlen", 0)]);
    let A = View::new(&A, [("dim", 1 << 24), ("dstate", 1)]);
    let scan = SelectiveScan::new(io, io, A, P, P).expect("valid").segments(&segments).split(2);
    let plan = cpu.forward_plan(&scan).expect("valid");
    let Err(refused) = plan.allocate() else { panic!("2 PiB") };
    let rows = ((1 << 23) - 1) << 28;
    assert!(matches!(refused, Error::OutOfMemory { bytes: Some(bytes), .. } if bytes > rows), "{refused}");
}

/// A device view that no backend here reads: contracts check it all the same.
fn on_device(address: u64, ordinal: u32) -> View<'static, f32, Device> {
    // SAFETY: no backend of this test reads or writes device memory.
    let memory = unsafe { Slice::<f32, Device>::from_raw_parts(address, 40, ordinal) };
    View::from_parts(memory, Axes::dense(SEQUENCE))
}

/// A backend that checks and does nothing, to reach a contract's checks of device memory.
fn device_check(x: View<'_, f32, Device>, z: View<'_, f32, Device>, out: u64) -> Result<(), Error> {
    // SAFETY: as above.
    let small = |address, len| unsafe { Slice::<f32, Device>::from_raw_parts(address, len, 0) };
    let A = View::from_parts(small(0x1000, 12), Axes::dense(CONSTANT));
    let B = View::from_parts(small(0x2000, 60), Axes::dense(VARIABLE));
    // SAFETY: as above.
    let out = unsafe { SliceMut::<f32, Device>::from_raw_parts(out, 40, 0) };
    let mut out = ViewMut::<f32, Device>::from_parts(out, Axes::dense(SEQUENCE));
    let scan = SelectiveScan::new(x, x, A, B, B)?.z(z);
    scan.check(SelectiveScanOutputs::new(&mut out))
}

#[test]
fn devices_and_overlap() {
    assert_eq!(device_check(on_device(0x8000, 0), on_device(0x9000, 0), 0xa000), Ok(()));
    assert_eq!(
        device_check(on_device(0x8000, 0), on_device(0x9000, 1), 0xa000).expect_err("refused").to_string(),
        "selective_scan: `z` lies on device 1, expected device 0 like `x`"
    );
    assert_eq!(
        device_check(on_device(0x8000, 0), on_device(0x9000, 0), 0x9000).expect_err("refused").to_string(),
        "selective_scan: output `out` overlaps `z`, expected memory of its own"
    );
    assert_eq!(device_check(on_device(0x8000, 0), on_device(0x9000, 0), 0x90a0), Ok(()));
    assert!(device_check(on_device(0x8000, 0), on_device(0x9000, 0), 0x909c).is_err());
}

#[test]
fn no_output_may_lie_on_another_argument() {
    let sequence = [("batch", 1), ("dim", 4), ("seqlen", 5)];
    let projection = [("batch", 1), ("ngroups", 2), ("dstate", 3), ("seqlen", 5)];
    let state = [("batch", 2), ("dim", 4), ("dstate", 3)];
    let segments = Segments::new(&[0, 2, 5]).expect("valid");
    let inputs = ["x", "dt", "A", "B", "C", "D", "z", "dt_bias", "initial_state", "segments_table"];
    expect_overlaps(&inputs, &["out", "final_state", "chunk_states"], |at| {
        // SAFETY: no backend of this test reads or writes device memory.
        let table = unsafe { Slice::<i32, Device>::from_raw_parts(at[9] << 20, 3, 0) };
        let (x, dt, z) = (device::<bf16, 3>(at[0], sequence), device(at[1], sequence), device(at[6], sequence));
        let (B, C) = (device(at[3], projection), device(at[4], projection));
        let op = SelectiveScan::new(x, dt, device(at[2], CONSTANT), B, C)?
            .D(device(at[5], [("dim", 4)]))
            .z(z)
            .dt_bias(device(at[7], [("dim", 4)]))
            .initial_state(device(at[8], state));
        // SAFETY: as above.
        let op = unsafe { op.segments_on(&segments, table) };
        let (mut out, mut final_state) = (device_mut(at[10], sequence), device_mut(at[11], state));
        let mut chunks = device_mut(at[12], [("nchunks", 2), ("dim", 4), ("dstate", 3)]);
        op.check(SelectiveScanOutputs::new(&mut out).final_state(&mut final_state).chunk_states(2, &mut chunks))
    });

    let domain = [("a", 2), ("b", 3)];
    let op = |at: &[u64]| {
        let (dt, A, B) = (device::<bf16, 2>(at[0], domain), device(at[1], domain), device(at[2], domain));
        let op = Discretise::new(Rule::ExpTrapezoidal, dt, A, B)?;
        Ok(op.dt_bias(device(at[3], domain)).lambda(device(at[4], domain)))
    };
    let inputs = ["dt", "A", "B", "dt_bias", "lambda"];
    expect_overlaps(&inputs, &["delta", "A_bar", "B_bar", "B_prev_bar"], |at| {
        let mut outputs = [5, 6, 7, 8].map(|i| device_mut(at[i], domain));
        let [delta, A_bar, B_bar, B_prev_bar] = &mut outputs;
        op(at)?.check(DiscretiseOutputs::new().delta(delta).A_bar(A_bar).B_bar(B_bar).B_prev_bar(B_prev_bar))
    });
    let inputs = [&inputs[..], &["ddelta", "dA_bar", "dB_bar", "dB_prev_bar"]].concat();
    expect_overlaps(&inputs, &["ddt", "ddt_bias", "dA", "dB", "dlambda"], |at| {
        let [ddelta, dA_bar, dB_bar, dB_prev_bar] = [5, 6, 7, 8].map(|i| device(at[i], domain));
        let upstream = DiscretiseUpstream::new().ddelta(ddelta).dA_bar(dA_bar).dB_bar(dB_bar).dB_prev_bar(dB_prev_bar);
        let (mut ddt, mut dB, mut dlambda) =
            (device_mut(at[9], domain), device_mut(at[12], domain), device_mut(at[13], domain));
        let (mut ddt_bias, mut dA) = (device_mut(at[10], domain), device_mut(at[11], domain));
        let gradients = DiscretiseGradients::new().ddt(&mut ddt).ddt_bias(&mut ddt_bias).dA(&mut dA).dB(&mut dB);
        op(at)?.check_backward(upstream, gradients.dlambda(&mut dlambda))
    });
}

/// So many states that nothing holds them: nothing to do without outputs, and else no memory.
#[test]
fn states_beyond_counting() {
    for dstate in [1 << 60, usize::MAX] {
        for batch in [0, 1] {
            let sequence = [("batch", batch, 0), ("dim", 256, 0), ("seqlen", 1, 0)];
            let x = View::strided(&ZEROS, sequence);
            let A = View::strided(&ZEROS, [("dim", 256, 0), ("dstate", dstate, 0)]);
            let B = View::strided(
                &ZEROS,
                [("batch", batch, 0), ("ngroups", 1, 0), ("dstate", dstate, 0), ("seqlen", 1, 0)],
            );
            let scan = SelectiveScan::new(x, x, A, B, B).expect("valid");
            let mut memory = vec![7.0f32; batch * 256];
            let mut out = ViewMut::new(&mut memory, [("batch", batch), ("dim", 256), ("seqlen", 1)]);
            let done = Cpu::new().forward(&scan, SelectiveScanOutputs::new(&mut out));
            let expected = if batch == 0 { done.is_ok() } else { matches!(done, Err(Error::OutOfMemory { .. })) };
            assert!(expected, "batch {batch}, dstate {dstate}: {done:?}");
        }
    }
}

/// Views whose extents or strides leave every integer: refused like any other, whatever they are.
#[test]
fn views_beyond_counting() {
    let m = usize::MAX;
    let wide = View::strided(&ZEROS, [("batch", m, i64::MAX), ("dim", m, i64::MAX), ("seqlen", 1, 1)]);
    let A = View::strided(&ZEROS, [("dim", m, 0), ("dstate", 1, 1)]);
    let P = View::strided(&ZEROS, [("batch", m, 0), ("ngroups", 1, 1), ("dstate", 1, 1), ("seqlen", 1, 1)]);
    let message = construction(wide, wide, A, P, P.into());
    assert!(message.contains("`x` holds 256 elements of memory, expected at least 17014118346046923173"), "{message}");
    let none = View::strided(&ZEROS, [("batch", 1 << 22, 0), ("dim", 0, 0), ("seqlen", m / 4, 0)]);
    let A = View::new(&ZEROS[..0], [("dim", 0), ("dstate", 1)]);
    let P = View::strided(&ZEROS, [("batch", 1 << 22, 0), ("ngroups", 1, 1), ("dstate", 1, 1), ("seqlen", m / 4, 0)]);
    let scan = SelectiveScan::new(none, none, A, P, P).expect("valid, and without elements");
    let refused = scan.chunk_offsets(1).expect_err("more chunks than can be counted").to_string();
    assert!(refused.starts_with("selective_scan: `every` is 1, expected so many steps"), "{refused}");
}
