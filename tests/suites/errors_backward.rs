//! What the backward direction, splitting and the carry pass refuse, and in which words.

#![allow(non_snake_case)]

use crate::common::device::{device, device_mut, expect_overlaps};
use half::bf16;
use ssm_kernels::Error;
use ssm_kernels::prelude::*;

const SEQUENCE: [(&str, usize); 3] = [("batch", 2), ("dim", 4), ("seqlen", 5)];
const VARIABLE: [(&str, usize); 4] = [("batch", 2), ("ngroups", 2), ("dstate", 3), ("seqlen", 5)];
const CONSTANT: [(&str, usize); 2] = [("dim", 4), ("dstate", 3)];
const STATE: [(&str, usize); 3] = [("batch", 2), ("dim", 4), ("dstate", 3)];
static ZEROS: [f32; 256] = [0.0; 256];

fn zeros<const N: usize>(dims: [(&'static str, usize); N]) -> View<'static, f32> {
    View::new(&ZEROS[..dims.iter().map(|dim| dim.1).product()], dims)
}

fn valid() -> SelectiveScan<'static, f32> {
    let io = zeros(SEQUENCE);
    SelectiveScan::new(io, io, zeros(CONSTANT), zeros(VARIABLE), zeros(VARIABLE)).expect("valid")
}

fn dout() -> SelectiveScanUpstream<'static, f32> {
    SelectiveScanUpstream::new().dout(zeros(SEQUENCE))
}

/// The message of asking for what `ask` adds, in memory of these dimensions, which must stay as it is.
fn refusal<const N: usize>(
    scan: SelectiveScan<'_, f32>,
    upstream: SelectiveScanUpstream<'_, f32>,
    dims: [(&'static str, usize); N],
    ask: impl for<'o> Fn(SelectiveScanGradients<'o, f32>, ViewMut<'o, f32>) -> SelectiveScanGradients<'o, f32>,
) -> String {
    let mut memory = vec![7.0f32; dims.iter().map(|dim| dim.1).product()];
    let gradients = ask(SelectiveScanGradients::new(), ViewMut::new(&mut memory, dims));
    let refused = Cpu::new().backward(&scan, upstream, gradients).expect_err("refused").to_string();
    assert!(memory.iter().all(|&v| v == 7.0), "written although refused");
    refused
}

#[test]
fn upstream() {
    let run = |upstream| refusal(valid(), upstream, VARIABLE, |gradients, view| gradients.dB(view));
    assert_eq!(
        run(SelectiveScanUpstream::new()),
        "selective_scan: `upstream` is missing, expected because at least one of dout, dfinal_state is given"
    );
    assert_eq!(
        run(SelectiveScanUpstream::new().dout(zeros([("batch", 2), ("dim", 4), ("seqlen", 4)]))),
        "selective_scan: `dout` has shape [2, 4, 4], expected [2, 4, 5] (batch, dim, seqlen)"
    );
    assert_eq!(
        run(SelectiveScanUpstream::new().dfinal_state(zeros([("batch", 1), ("dim", 4), ("dstate", 3)]))),
        "selective_scan: `dfinal_state` has shape [1, 4, 3], expected [2, 4, 3] (batch, dim, dstate)"
    );
    let none = [("nchunks", 0), ("dim", 4), ("dstate", 3)];
    assert_eq!(
        run(dout().checkpoints(64, zeros(none))),
        "selective_scan: `checkpoints` is a state every 64 steps, expected one every 128"
    );
    assert_eq!(
        run(dout().checkpoints(128, zeros([("nchunks", 2), ("dim", 4), ("dstate", 3)]))),
        "selective_scan: `checkpoints` has shape [2, 4, 3], expected [0, 4, 3] (nchunks, dim, dstate)"
    );
    let mut memory = vec![0.0; 60];
    let mut dB = ViewMut::new(&mut memory, VARIABLE);
    let gradients = SelectiveScanGradients::new().dB(&mut dB);
    Cpu::new().backward(&valid(), dout().checkpoints(128, zeros(none)), gradients).expect("valid");
}

#[test]
fn gradients() {
    let refused = Cpu::new().backward(&valid(), dout(), SelectiveScanGradients::new());
    assert_eq!(
        refused.expect_err("refused").to_string(),
        "selective_scan: `gradients` is missing, expected because at least one of dx, ddt, dz, dA, dB, dC, dD, \
         ddt_bias, dinitial_state is written"
    );
    assert_eq!(
        refusal(valid(), dout(), CONSTANT, |gradients, view| gradients.dB(ProjectionMut::Constant(view))),
        "selective_scan: `dB` is constant, expected a variable one like `B`"
    );
    let constant = Projection::Constant(zeros(CONSTANT));
    let scan = SelectiveScan::new(zeros(SEQUENCE), zeros(SEQUENCE), zeros(CONSTANT), zeros(VARIABLE), constant);
    assert_eq!(
        refusal(scan.expect("valid"), dout(), CONSTANT, |gradients, view| gradients.dC(view)),
        "selective_scan: `dC` is variable, expected a constant one like `C`"
    );
    let other = [("batch", 2), ("ngroups", 1), ("dstate", 3), ("seqlen", 5)];
    assert_eq!(
        refusal(valid(), dout(), other, |gradients, view| gradients.dC(view)),
        "selective_scan: `dC` has shape [2, 1, 3, 5], expected [2, 2, 3, 5] (batch, ngroups, dstate, seqlen)"
    );
}

/// A gradient by what the call does not have; one of another shape.
#[test]
fn optional_gradients() {
    type Ask = for<'o> fn(SelectiveScanGradients<'o, f32>, &'o mut ViewMut<'_, f32>) -> SelectiveScanGradients<'o, f32>;
    fn run<const N: usize>(scan: SelectiveScan<'_, f32>, dims: [(&'static str, usize); N], ask: Ask) -> String {
        let mut memory = vec![7.0f32; dims.iter().map(|dim| dim.1).product()];
        let mut view = ViewMut::new(&mut memory, dims);
        let refused = Cpu::new().backward(&scan, dout(), ask(SelectiveScanGradients::new(), &mut view));
        refused.expect_err("refused").to_string()
    }
    let without = |arg: &str, of: &str| {
        format!("selective_scan: `{arg}` is asked for without `{of}`, expected none, or `{of}` too")
    };
    assert_eq!(run(valid(), SEQUENCE, |gradients, view| gradients.dz(view)), without("dz", "z"));
    assert_eq!(run(valid(), [("dim", 4)], |gradients, view| gradients.dD(view)), without("dD", "D"));
    assert_eq!(run(valid(), [("dim", 4)], |gradients, view| gradients.ddt_bias(view)), without("ddt_bias", "dt_bias"));
    let five = [("dim", 5)];
    assert_eq!(
        run(valid().D(zeros([("dim", 4)])), five, |gradients, view| gradients.dD(view)),
        "selective_scan: `dD` has shape [5], expected [4] (dim)"
    );
    let wide = [("batch", 2), ("dim", 4), ("seqlen", 6)];
    assert_eq!(
        run(valid(), wide, |gradients, view| gradients.dx(view)),
        "selective_scan: `dx` has shape [2, 4, 6], expected [2, 4, 5] (batch, dim, seqlen)"
    );
    assert_eq!(
        run(valid(), [("dim", 4), ("dstate", 4)], |gradients, view| gradients.dA(view)),
        "selective_scan: `dA` has shape [4, 4], expected [4, 3] (dim, dstate)"
    );
    assert_eq!(
        run(valid(), [("batch", 3), ("dim", 4), ("dstate", 3)], |gradients, view| gradients.dinitial_state(view)),
        "selective_scan: `dinitial_state` has shape [3, 4, 3], expected [2, 4, 3] (batch, dim, dstate)"
    );
}

#[test]
fn split_and_states_only() {
    let mut out = vec![7.0f32; 40];
    let mut view = ViewMut::new(&mut out, SEQUENCE);
    for (parts, got) in [(0, "0"), (65_536, "65536")] {
        let refused = Cpu::new().forward(&valid().split(parts), SelectiveScanOutputs::new(&mut view));
        let expected = format!("selective_scan: `split` is {got}, expected 1 to 65535 parts");
        assert_eq!(refused.expect_err("refused").to_string(), expected);
    }
    let refused = Cpu::new().forward(&valid(), SelectiveScanOutputs::states_only());
    assert_eq!(
        refused.expect_err("refused").to_string(),
        "selective_scan: `outputs` is missing, expected because at least one of final_state, chunk_states, delta_sum is \
         written without out"
    );
    let mut sums = vec![7.0f32; 6];
    let mut sums = ViewMut::new(&mut sums, [("batch", 2), ("dim", 3)]);
    let refused = Cpu::new().forward(&valid(), SelectiveScanOutputs::states_only().delta_sum(&mut sums));
    assert_eq!(
        refused.expect_err("refused").to_string(),
        "selective_scan: `delta_sum` has shape [2, 3], expected [2, 4] (batch, dim)"
    );
    let (whole, cut) = (Cpu::new().forward_plan(&valid()).expect("valid"), Cpu::new().forward_plan(&valid().split(2)));
    assert_eq!((whole.split, whole.part, whole.checkpoint_every), (1, 0, 128));
    let cut = cut.expect("valid");
    assert_eq!((cut.split, cut.part, cut.checkpoint_every), (2, 128, 128));
    let mut blocks = cut.allocate().expect("small");
    let refused = Cpu::new().forward_with(&valid(), SelectiveScanOutputs::new(&mut view), &cut, (&mut blocks).into());
    let refused = refused.expect_err("another plan").to_string();
    assert!(refused.contains("split 2, expected selective_scan_fwd_f32"), "{refused}");
    assert!(out.iter().all(|&v| v == 7.0), "written although refused");
}

#[test]
fn carry() {
    let states = [("batch", 2), ("nchunks", 3), ("dim", 4), ("dstate", 3)];
    let sums = [("batch", 2), ("nchunks", 3), ("dim", 4)];
    let new = |A, delta_sum, states| SelectiveScanCarry::new(A, delta_sum, states).map_err(|error| error.to_string());
    assert_eq!(
        new(zeros([("dim", 3), ("dstate", 3)]), zeros(sums), zeros(states)).expect_err("refused"),
        "selective_scan_carry: `A` has shape [3, 3], expected [4, 3] (dim, dstate)"
    );
    assert_eq!(
        new(zeros(CONSTANT), zeros([("batch", 2), ("nchunks", 2), ("dim", 4)]), zeros(states)).expect_err("refused"),
        "selective_scan_carry: `delta_sum` has shape [2, 2, 4], expected [2, 3, 4] (batch, nchunks, dim)"
    );
    let pass = new(zeros(CONSTANT), zeros(sums), zeros(states)).expect("valid");
    let mut carried = vec![7.0f32; 72];
    let mut view = ViewMut::new(&mut carried, states);
    let pass = pass.initial(zeros([("batch", 3), ("dim", 4), ("dstate", 3)]));
    assert_eq!(
        Cpu::new().forward(&pass, SelectiveScanCarryOutputs::new(&mut view)).expect_err("refused").to_string(),
        "selective_scan_carry: `initial` has shape [3, 4, 3], expected [2, 4, 3] (batch, dim, dstate)"
    );
    let pass = pass.initial(zeros(STATE));
    let mut short = ViewMut::new(&mut carried[..24], [("batch", 2), ("nchunks", 1), ("dim", 4), ("dstate", 3)]);
    assert_eq!(
        Cpu::new().forward(&pass, SelectiveScanCarryOutputs::new(&mut short)).expect_err("refused").to_string(),
        "selective_scan_carry: `carried` has shape [2, 1, 4, 3], expected [2, 3, 4, 3] (batch, nchunks, dim, dstate)"
    );
    assert!(carried.iter().all(|&v| v == 7.0), "written although refused");
    expect_overlaps(&["A", "delta_sum", "states", "initial"], &["carried"], |at| {
        let pass = SelectiveScanCarry::new(device(at[0], CONSTANT), device(at[1], sums), device(at[2], states))?;
        let mut carried = device_mut(at[4], states);
        pass.initial(device(at[3], STATE)).check(SelectiveScanCarryOutputs::new(&mut carried))
    });
}

#[test]
fn no_gradient_may_lie_on_another_argument() {
    let checkpoints = [("nchunks", 2), ("dim", 4), ("dstate", 3)];
    let (sequence, projection) =
        ([("batch", 2), ("dim", 4), ("seqlen", 129)], [("batch", 2), ("ngroups", 2), ("dstate", 3), ("seqlen", 129)]);
    let inputs =
        ["x", "dt", "A", "B", "C", "D", "z", "dt_bias", "initial_state", "dout", "dfinal_state", "checkpoints"];
    let outputs = ["dx", "ddt", "dz", "dA", "dB", "dC", "dD", "ddt_bias", "dinitial_state"];
    expect_overlaps(&inputs, &outputs, |at| -> Result<(), Error> {
        let (x, dt, z) = (device::<bf16, 3>(at[0], sequence), device(at[1], sequence), device(at[6], sequence));
        let (B, C) = (device::<bf16, 4>(at[3], projection), device::<bf16, 4>(at[4], projection));
        let op = SelectiveScan::new(x, dt, device(at[2], CONSTANT), B, C)?
            .D(device(at[5], [("dim", 4)]))
            .z(z)
            .dt_bias(device(at[7], [("dim", 4)]))
            .initial_state(device(at[8], STATE));
        let upstream = SelectiveScanUpstream::new()
            .dout(device(at[9], sequence))
            .dfinal_state(device(at[10], STATE))
            .checkpoints(128, device(at[11], checkpoints));
        let [mut dx, mut ddt, mut dz] = [12, 13, 14].map(|i| device_mut(at[i], sequence));
        let (mut dA, mut dinitial_state) = (device_mut(at[15], CONSTANT), device_mut(at[20], STATE));
        let [mut dB, mut dC] = [16, 17].map(|i| device_mut(at[i], projection));
        let [mut dD, mut ddt_bias] = [18, 19].map(|i| device_mut(at[i], [("dim", 4)]));
        let gradients = SelectiveScanGradients::new().dx(&mut dx).ddt(&mut ddt).dz(&mut dz).dA(&mut dA);
        let gradients = gradients.dB(&mut dB).dC(&mut dC).dD(&mut dD).ddt_bias(&mut ddt_bias);
        op.check_backward(upstream, gradients.dinitial_state(&mut dinitial_state))
    });
}

/// More sequences than can be counted, of no channel: nothing is to be done, and nothing overflows.
#[test]
fn sequences_beyond_counting() {
    let none = View::strided(&ZEROS, [("batch", 1 << 62, 0), ("dim", 0, 0), ("seqlen", 5, 0)]);
    let A = View::new(&ZEROS[..0], [("dim", 0), ("dstate", 0)]);
    let P = View::strided(&ZEROS, [("batch", 1 << 62, 0), ("ngroups", 1, 1), ("dstate", 0, 1), ("seqlen", 5, 0)]);
    let scan = SelectiveScan::new(none, none, A, P, P).expect("valid").split(3);
    let (mut memory, mut dA) = ([0.0f32; 0], [0.0f32; 0]);
    let mut view = ViewMut::new(&mut dA, [("dim", 0), ("dstate", 0)]);
    let gradients = SelectiveScanGradients::new().dA(&mut view);
    Cpu::new().backward(&scan, SelectiveScanUpstream::new().dout(none), gradients).expect("nothing to do");
    let dims = [("batch", 1 << 62), ("dim", 0), ("dstate", 0)];
    let mut state = ViewMut::new(&mut memory, dims);
    Cpu::new().forward(&scan, SelectiveScanOutputs::states_only().final_state(&mut state)).expect("nothing to do");
}

/// A batch beyond counting, of which nothing is written.
#[test]
fn nothing_to_write() {
    let (memory, batch) = ([0.0f32], 1 << 60);
    let io = View::strided(&memory, [("batch", batch, 0), ("dim", 1, 0), ("seqlen", 1, 0)]);
    let A = View::strided(&memory, [("dim", 1, 0), ("dstate", 0, 1)]);
    let P = View::strided(&memory, [("batch", batch, 0), ("ngroups", 1, 0), ("dstate", 0, 1), ("seqlen", 1, 0)]);
    let scan = SelectiveScan::new(io, io, A, P, P).expect("valid");
    let mut none = [0.0f32; 0];
    let mut state = ViewMut::new(&mut none, [("batch", batch), ("dim", 1), ("dstate", 0)]);
    Cpu::new().forward(&scan, SelectiveScanOutputs::states_only().final_state(&mut state)).expect("nothing to do");
}

/// A plan is for one order of memory; the message tells plans of the same dimensions apart.
#[test]
fn a_plan_of_another_order() {
    let memory = vec![0.0f32; 64 * 256];
    let scan = |dims: [(&'static str, usize); 3]| {
        let io = View::new(&memory, dims);
        let A = View::new(&memory[..64], [("dim", 64), ("dstate", 1)]);
        let P = View::new(&memory[..256], [("batch", 1), ("ngroups", 1), ("dstate", 1), ("seqlen", 256)]);
        SelectiveScan::new(io, io, A, P, P).expect("valid")
    };
    let dense = [("batch", 1), ("dim", 64), ("seqlen", 256)];
    let channel_last = [("batch", 1), ("seqlen", 256), ("dim", 64)];
    let plan = Cpu::new().forward_plan(&scan(dense)).expect("valid");
    let mut out = vec![7.0f32; memory.len()];
    let mut view = ViewMut::new(&mut out, channel_last);
    let mut blocks = plan.allocate().expect("memory");
    let outputs = SelectiveScanOutputs::new(&mut view);
    let refused = Cpu::new().forward_with(&scan(channel_last), outputs, &plan, (&mut blocks).into());
    let message = refused.expect_err("refused").to_string();
    assert_eq!(message.matches("bytes of workspace").count(), 2, "{message}");
    assert!(out.iter().all(|&v| v == 7.0), "written although refused");
}
