//! The selective scan backward: what it launches, and how much memory it asks for.

use super::{Recorder, at, view, view_mut};
use ssm_kernels::prelude::*;
use ssm_kernels::{Device, Slice};

/// What forward saves for backward, and backward's workspace, per element of x: at most 4 bytes beyond what 512 blocks keep.
#[test]
fn bytes_per_element_of_the_backward_direction() {
    for (batch, dim, seqlen) in [
        (8, 2048, 2048),
        (64, 2048, 2048),
        (64, 1536, 512),
        (8, 2048, 512),
        (1, 768, 1024),
        (2, 1536, 4096),
        (1, 2048, 2048),
        (1, 8192, 8192),
        (1, 256, 1 << 20),
    ] {
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
        // Where they would keep more than 2 bytes, they keep the states before every other tile of a window but the first.
        let blocks = (512 * 15 * 8192) as f64 / elements;
        assert!(saved <= 0.5 && workspace <= 4.0 + blocks, "seqlen {seqlen}: {saved} and {workspace}");
        assert!(elements < 1e8 || workspace <= 4.0, "seqlen {seqlen}: {workspace}");
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
