//! Calls that take more of the driver: a workspace in stream order, and shared memory that must be asked for.

use crate::cuda::Cuda;
use crate::tensors::{Case, OnDevice, OnHost};
use crate::{act, stream};
use ssm_kernels::gpu::Driver;
use ssm_kernels::prelude::*;
use ssm_kernels::{Axes, Result, Slice, SliceMut, Storage};

const DIM: usize = 24;
const SEQLEN: usize = 5;
/// More than the lanes of a warp hold.
const DSTATE: usize = 600;

pub const WIDE: Case = Case {
    tensors: &[
        ("x", DIM * SEQLEN),
        ("dt", DIM * SEQLEN),
        ("A", DIM * DSTATE),
        ("B", DSTATE * SEQLEN),
        ("C", DSTATE * SEQLEN),
        ("out", DIM * SEQLEN),
    ],
    computed: 5,
};

const NARROW: usize = 16;

pub const BACKWARD: Case = Case {
    tensors: &[
        ("x", DIM * SEQLEN),
        ("dt", DIM * SEQLEN),
        ("A", DIM * NARROW),
        ("B", NARROW * SEQLEN),
        ("C", NARROW * SEQLEN),
        ("dout", DIM * SEQLEN),
        ("dx", DIM * SEQLEN),
        ("dA", DIM * NARROW),
    ],
    computed: 6,
};

pub type At<'a, S> = &'a dyn Fn(usize) -> Slice<'static, f32, S>;
pub type AtMut<'a, S> = &'a dyn Fn(usize) -> SliceMut<'static, f32, S>;

fn sequence() -> Axes {
    Axes::dense([("batch", 1), ("dim", DIM), ("seqlen", SEQLEN)])
}

/// The scan over x, dt, A, B and C, the first five of either case.
fn scan<S: Storage>(at: At<'_, S>, dstate: usize) -> Result<SelectiveScan<'static, f32, S>> {
    let rows = Axes::dense([("batch", 1), ("ngroups", 1), ("dstate", dstate), ("seqlen", SEQLEN)]);
    let [x, dt] = [0, 1].map(|tensor| View::from_parts(at(tensor), sequence()));
    let A = View::from_parts(at(2), Axes::dense([("dim", DIM), ("dstate", dstate)]));
    let [B, C] = [3, 4].map(|tensor| View::from_parts(at(tensor), rows));
    Ok(SelectiveScan::new(x, dt, A, B, C)?.dt_softplus(true))
}

pub fn forward<S: Storage, B: Forward<SelectiveScan<'static, f32, S>>>(
    backend: &B,
    at: At<'_, S>,
    at_mut: AtMut<'_, S>,
) -> Result<()> {
    let mut out = ViewMut::from_parts(at_mut(5), sequence());
    backend.forward(&scan(at, DSTATE)?, SelectiveScanOutputs::new(&mut out))
}

pub fn backward<S: Storage, B: Backward<SelectiveScan<'static, f32, S>>>(
    backend: &B,
    at: At<'_, S>,
    at_mut: AtMut<'_, S>,
) -> Result<()> {
    let dout = View::from_parts(at(5), sequence());
    let mut dx = ViewMut::from_parts(at_mut(6), sequence());
    let mut dA = ViewMut::from_parts(at_mut(7), Axes::dense([("dim", DIM), ("dstate", NARROW)]));
    let gradients = SelectiveScanGradients::new().dx(&mut dx).dA(&mut dA);
    backend.backward(&scan(at, NARROW)?, SelectiveScanUpstream::new().dout(dout), gradients)
}

#[test]
fn a_workspace_is_given_back() {
    let Some(printed) = act("wide::scene_wide", &[]) else { return };
    assert!(printed.contains("waits 0 workspaces 1 in use 0"), "{printed}");
    let Some(printed) = act("wide::scene_wide", &[("FAIL", "cuMemAllocAsync:2")]) else { return };
    let refused = printed.lines().find(|line| line.starts_with("refused")).expect("refused");
    assert!(refused.contains("workspace of selective_scan_fwd_f32_lanes32: out of memory"), "{refused}");
}

#[test]
#[ignore = "a scene of the other tests"]
fn scene_wide() {
    let cuda = Cuda::load(0);
    let driver = Driver::open(0).expect("a device");
    let (raw, stream) = stream(&cuda);
    let tensors = OnDevice::new(&cuda, 0, WIDE, 0.0);
    let names = ["synchronisations", "cuMemAllocAsync", "bytes_in_use"];
    let before = names.map(|name| cuda.counter(name));
    if let Err(why) = forward(&driver.on(stream), &|tensor| tensors.at(tensor), &|tensor| tensors.at_mut(tensor)) {
        println!("\nrefused: {why}");
        return;
    }
    let waits = cuda.counter(names[0]) - before[0];
    cuda.synchronise(raw);
    let [workspaces, in_use] = [1, 2].map(|at: usize| cuda.counter(names[at]) - before[at]);
    println!("\nwaits {waits} workspaces {workspaces} in use {in_use}");
    let expected = OnHost::new(WIDE, 0.0);
    forward(&Cpu::new(), &|tensor| expected.at(tensor), &|tensor| expected.at_mut(tensor)).expect("computed");
    tensors.check(&expected);
}

#[test]
fn gradients_with_shared_memory_that_is_asked_for() {
    let Some(printed) = act("wide::scene_backward", &[]) else { return };
    assert!(printed.contains("waits 0 asked 1"), "{printed}");
}

#[test]
#[ignore = "a scene of the other tests"]
fn scene_backward() {
    let cuda = Cuda::load(0);
    let driver = Driver::open(0).expect("a device");
    let (raw, stream) = stream(&cuda);
    let tensors = OnDevice::new(&cuda, 0, BACKWARD, 0.0);
    let before = cuda.counter("synchronisations");
    backward(&driver.on(stream), &|tensor| tensors.at(tensor), &|tensor| tensors.at_mut(tensor)).expect("enqueued");
    let waits = cuda.counter("synchronisations") - before;
    println!("\nwaits {waits} asked {}", cuda.counter("cuFuncSetAttribute"));
    cuda.synchronise(raw);
    let expected = OnHost::new(BACKWARD, 0.0);
    backward(&Cpu::new(), &|tensor| expected.at(tensor), &|tensor| expected.at_mut(tensor)).expect("computed");
    tensors.check(&expected);
}
