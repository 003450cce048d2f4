//! The driver path with the kernels run: the same binary runs each scene once more, as a child whose libcuda is the
//! emulated one of `emulated-cuda`, and the results are the CPU's.

#![cfg(all(feature = "cuda", target_os = "linux"))]
#![allow(non_snake_case)]

#[path = "emulated_driver/cuda.rs"]
mod cuda;
#[path = "emulated_driver/far.rs"]
mod far;
#[path = "emulated_driver/faults.rs"]
mod faults;
#[path = "emulated_driver/library.rs"]
mod library;
#[path = "../examples/05_profile.rs"]
#[allow(dead_code)]
mod profile;
#[path = "emulated_driver/tensors.rs"]
mod tensors;
#[path = "emulated_driver/wide.rs"]
mod wide;

use cuda::Cuda;
use ssm_kernels::gpu::{Driver, Gpu, OnStream, Stream, devices};
use ssm_kernels::prelude::*;
use ssm_kernels::{Axes, Result, Slice, SliceMut, Storage};
use std::path::Path;
use std::process::Command;
use tensors::{Case, OnDevice, OnHost};

const BATCH: usize = 2;
const DIM: usize = 40;
const DSTATE: usize = 16;
const SEQLEN: usize = 37;
const WIDTH: usize = 4;

/// The tensors of a layer.
const LAYER: Case = Case {
    tensors: &[
        ("x", BATCH * DIM * SEQLEN),
        ("weight", DIM * WIDTH),
        ("dt", BATCH * DIM * SEQLEN),
        ("A", DIM * DSTATE),
        ("B", BATCH * DSTATE * SEQLEN),
        ("C", BATCH * DSTATE * SEQLEN),
        ("z", BATCH * DIM * SEQLEN),
        ("next_x", BATCH * DIM),
        ("next_dt", BATCH * DIM),
        ("next_B", BATCH * DSTATE),
        ("next_C", BATCH * DSTATE),
        ("u", BATCH * DIM * SEQLEN),
        ("out", BATCH * DIM * SEQLEN),
        ("state", BATCH * DIM * DSTATE),
        ("next_out", BATCH * DIM),
    ],
    computed: 11,
};

/// Runs `scene` in a child with the emulated driver and these settings, and returns what it printed.
fn act(scene: &str, settings: &[(&str, &str)]) -> Option<String> {
    let folder = library::folder(Path::new(env!("CARGO_MANIFEST_DIR")))?;
    let mut child = Command::new(std::env::current_exe().expect("this binary"));
    child.args(["--exact", scene, "--ignored", "--nocapture", "--test-threads=1"]).env("LD_LIBRARY_PATH", folder);
    for (name, value) in settings {
        child.env(format!("EMULATED_CUDA_{name}"), value);
    }
    let output = child.output().expect("a child");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && printed.contains("1 passed"), "{scene} with {settings:?}:\n{printed}\n{said}");
    Some(printed)
}

/// A convolution, a scan over what it gives, and a step more from its last state, on tensors by number.
fn layer<S, B>(
    backend: &B,
    at: &dyn Fn(usize) -> Slice<'static, f32, S>,
    at_mut: &dyn Fn(usize) -> SliceMut<'static, f32, S>,
) -> Result<()>
where
    S: Storage,
    B: Forward<CausalConv1d<'static, f32, f32, S>>
        + Forward<SelectiveScan<'static, f32, S>>
        + Forward<StateUpdate<'static, f32, f32, S>>,
{
    let whole = Axes::dense([("batch", BATCH), ("dim", DIM), ("seqlen", SEQLEN)]);
    let rows = Axes::dense([("batch", BATCH), ("ngroups", 1), ("dstate", DSTATE), ("seqlen", SEQLEN)]);
    let states = Axes::dense([("batch", BATCH), ("dim", DIM), ("dstate", DSTATE)]);
    let matrix = Axes::dense([("dim", DIM), ("dstate", DSTATE)]);
    let (step, step_rows) = (
        Axes::dense([("batch", BATCH), ("dim", DIM)]),
        Axes::dense([("batch", BATCH), ("ngroups", 1), ("dstate", DSTATE)]),
    );
    let view = |tensor: usize, axes: &Axes| View::from_parts(at(tensor), *axes);
    let view_mut = |tensor: usize, axes: &Axes| ViewMut::from_parts(at_mut(tensor), *axes);

    let weight = view(1, &Axes::dense([("dim", DIM), ("width", WIDTH)]));
    let conv = CausalConv1d::new(view(0, &whole), weight)?.silu(true);
    backend.forward(&conv, CausalConv1dOutputs::new(&mut view_mut(11, &whole)))?;

    let [u, dt, z] = [11, 2, 6].map(|tensor| view(tensor, &whole));
    let scan = SelectiveScan::new(u, dt, view(3, &matrix), view(4, &rows), view(5, &rows))?.z(z).dt_softplus(true);
    let (mut out, mut state) = (view_mut(12, &whole), view_mut(13, &states));
    backend.forward(&scan, SelectiveScanOutputs::new(&mut out).final_state(&mut state))?;

    let (x, dt) = (view(7, &step), view(8, &step));
    let update =
        StateUpdate::new(x, dt, view(3, &matrix), view(9, &step_rows), view(10, &step_rows))?.dt_softplus(true);
    let (mut state, mut out) = (view_mut(13, &states), view_mut(14, &step));
    backend.forward(&update, StateUpdateOutputs::new(&mut state, &mut out))
}

/// What the CPU computes.
fn on_cpu(seed: f32) -> OnHost {
    let tensors = OnHost::new(LAYER, seed);
    layer(&Cpu::new(), &|tensor| tensors.at(tensor), &|tensor| tensors.at_mut(tensor)).expect("computed");
    tensors
}

/// Enqueues a layer.
fn run(tensors: &OnDevice<'_>, backend: &Gpu<OnStream>) -> Result<()> {
    layer(backend, &|tensor| tensors.at(tensor), &|tensor| tensors.at_mut(tensor))
}

/// A stream that does not wait for the default one, as the crate's type.
fn stream(cuda: &Cuda) -> (usize, Stream) {
    let raw = cuda.stream();
    // SAFETY: a stream of the device's primary context, which is never destroyed.
    (raw, unsafe { Stream::from_raw(std::ptr::with_exposed_provenance_mut(raw)) })
}

#[test]
fn a_layer_is_the_cpus() {
    for settings in [&[][..], &[("DEFER", "0")], &[("MODE", "adversarial:5")]] {
        let Some(printed) = act("scene_layer", settings) else { return };
        assert!(printed.contains("launches 3 waits 0 in use 0"), "{settings:?}: {printed}");
    }
}

#[test]
#[ignore = "a scene of the other tests"]
fn scene_layer() {
    let cuda = Cuda::load(0);
    let driver = Driver::open(0).expect("a device");
    let (raw, stream) = stream(&cuda);
    let tensors = OnDevice::new(&cuda, 0, LAYER, 0.0);
    let before = ["synchronisations", "bytes_in_use", "launches"].map(|name| cuda.counter(name));
    run(&tensors, &driver.on(stream)).expect("enqueued");
    let waits = cuda.counter("synchronisations") - before[0];
    cuda.synchronise(raw);
    // A workspace that a call took is given back in stream order.
    let in_use = cuda.counter("bytes_in_use") - before[1];
    println!("\nlaunches {} waits {waits} in use {in_use}", cuda.counter("launches") - before[2]);
    tensors.check(&on_cpu(0.0));
}

#[test]
fn host_tensors_are_carried_there_and_back() {
    let Some(printed) = act("scene_on_host", &[]) else { return };
    assert!(printed.contains("launches 3 in use 0"), "{printed}");
}

#[test]
#[ignore = "a scene of the other tests"]
fn scene_on_host() {
    let cuda = Cuda::load(0);
    let driver = Driver::open(0).expect("a device");
    let (raw, stream) = stream(&cuda);
    let backend = driver.on(stream).on_host();
    let (tensors, expected) = (OnHost::new(LAYER, 0.0), on_cpu(0.0));
    layer(&backend, &|tensor| tensors.at(tensor), &|tensor| tensors.at_mut(tensor)).expect("computed");
    cuda.synchronise(raw);
    println!("\nlaunches {} in use {}", cuda.counter("launches"), cuda.counter("bytes_in_use"));
    tensors.check(&expected);
}

#[test]
fn threads_streams_and_devices() {
    let Some(printed) = act("scene_threads", &[("DEVICES", "2")]) else { return };
    assert!(printed.contains("on 2 devices"), "{printed}");
}

#[test]
#[ignore = "a scene of the other tests"]
fn scene_threads() {
    let count = devices().expect("devices").len() as u32;
    println!("\non {count} devices");
    std::thread::scope(|scope| {
        for number in 0..4u32 {
            scope.spawn(move || {
                let cuda = Cuda::load(number % count);
                let driver = Driver::open(number % count).expect("a device");
                let (raw, stream) = stream(&cuda);
                let tensors = OnDevice::new(&cuda, number % count, LAYER, number as f32);
                run(&tensors, &driver.on(stream)).expect("enqueued");
                cuda.synchronise(raw);
                tensors.check(&on_cpu(number as f32));
            });
        }
    });
}

#[test]
fn a_captured_layer_is_replayed() {
    let Some(printed) = act("scene_graph", &[]) else { return };
    assert!(printed.contains("nodes 3"), "{printed}");
}

#[test]
#[ignore = "a scene of the other tests"]
fn scene_graph() {
    let cuda = Cuda::load(0);
    let driver = Driver::open(0).expect("a device");
    let (raw, stream) = stream(&cuda);
    let tensors = OnDevice::new(&cuda, 0, LAYER, 0.0);
    // Loads the kernels: a capture does not allow it.
    run(&tensors, &driver.on(stream)).expect("enqueued");
    cuda.synchronise(raw);
    tensors.refill(9.0);
    let (graph, nodes) = cuda.capture(raw, || run(&tensors, &driver.on(stream)).expect("captured"));
    println!("\nnodes {nodes}");
    // Nothing has run yet.
    tensors.check(&on_cpu(0.0));
    cuda.launch(graph, raw);
    cuda.synchronise(raw);
    tensors.check(&on_cpu(9.0));
}

#[test]
fn buffers_dropped_before_anyone_waits() {
    let Some(printed) = act("scene_dropped", &[]) else { return };
    assert!(printed.contains("in use 0"), "{printed}");
}

#[test]
#[ignore = "a scene of the other tests"]
fn scene_dropped() {
    let cuda = Cuda::load(0);
    let gpu = Driver::open(0).expect("a device").on(stream(&cuda).1);
    let from = gpu.upload(&[3.0f32; 100]).expect("memory");
    let mut to = gpu.alloc(100).expect("memory");
    to.copy_from(&from).expect("enqueued");
    drop(from);
    let mut last = gpu.alloc(100).expect("memory");
    last.copy_from(&to).expect("enqueued");
    assert_eq!(last.download().expect("copied"), [3.0; 100]);
    to.copy_from(&last).expect("enqueued");
    drop(to);
    drop(last);
    gpu.synchronise().expect("nothing was used after it was freed");
    println!("\nin use {}", cuda.counter("bytes_in_use"));
}

#[test]
fn the_example_for_profilers() {
    let Some(printed) = act("scene_profile", &[]) else { return };
    let kernels = "2 times selective_scan_fwd_bf16_lanes1 and selective_scan_bwd_bf16";
    assert!(printed.contains(kernels) && printed.contains("on 1x40x37"), "{printed}");
}

#[test]
#[ignore = "a scene of the other tests"]
fn scene_profile() {
    println!("\n{}", profile::run([1, 40, 37], 2).expect("runs"));
}

#[test]
fn refusals() {
    let text = |code: &str, call: &str, says: &str| format!("CUDA driver: {call} failed with {code} ({says})");
    for (setting, expected) in [
        (("FAIL", "cuInit:100"), "no CUDA device 0: the driver knows 0".into()),
        (("DEVICES", "0"), "no CUDA device 0: the driver knows 0".into()),
        (("DRIVER_VERSION", "11080"), "the CUDA driver is too old: it is for CUDA 11.8, expected 12.0 or later".into()),
        (("FAIL", "cuDevicePrimaryCtxRetain:2@1"), "cuDevicePrimaryCtxRetain: out of memory".into()),
        (
            ("FAIL", "cuModuleLoadData:218"),
            text("CUDA_ERROR_INVALID_PTX", "cuModuleLoadData", "a PTX JIT compilation failed"),
        ),
        (
            ("FAIL", "cuLaunchKernel:700@2"),
            text("CUDA_ERROR_ILLEGAL_ADDRESS", "cuLaunchKernel", "an illegal memory access was encountered"),
        ),
    ] {
        let Some(printed) = act("scene_refused", &[setting]) else { return };
        assert!(printed.contains(&format!("\nrefused: {expected}\n")), "{setting:?}: {printed}");
    }
}

#[test]
#[ignore = "a scene of the other tests"]
fn scene_refused() {
    let try_all = || -> Result<()> {
        let driver = Driver::open(0)?;
        let cuda = Cuda::load(0);
        let tensors = std::mem::ManuallyDrop::new(OnDevice::new(&cuda, 0, LAYER, 0.0));
        run(&tensors, &driver.on(stream(&cuda).1))
    };
    match try_all() {
        Ok(()) => println!("\nfine"),
        Err(why) => println!("\nrefused: {why}"),
    }
}
