//! The operators on memory and a stream of cust: the same bits as with memory of the library's own, on the same device.
//!
//! Needs feature `cust`, which links libcuda: `.ci/run` builds and runs it with the emulated driver.

#![allow(non_snake_case)]

use cust::context::CurrentContext;
use cust::memory::{CopyDestination, DeviceBuffer, DeviceCopy};
use cust::stream::{Stream as CustStream, StreamFlags};
use half::bf16;
use ssm_kernels::gpu::{Driver, HeldAs, Stream};
use ssm_kernels::prelude::*;
use ssm_kernels::{Axes, Device, Slice, SliceMut};
use std::io::Write;

#[path = "../examples/04_cust.rs"]
#[allow(dead_code)]
mod example;

const SEQUENCE: [(&str, usize); 3] = [("batch", 2), ("dim", 20), ("seqlen", 37)];
const MATRIX: [(&str, usize); 2] = [("dim", 20), ("dstate", 16)];
const ROWS: [(&str, usize); 4] = [("batch", 2), ("ngroups", 1), ("dstate", 16), ("seqlen", 37)];
const STATE: [(&str, usize); 3] = [("batch", 2), ("dim", 20), ("dstate", 16)];

fn wave(len: usize, step: f32) -> Vec<f32> {
    (0..len).map(|i| (i as f32 * step).sin()).collect()
}

fn on_device<C: DeviceCopy>(host: &[C]) -> DeviceBuffer<C> {
    let memory = DeviceBuffer::from_slice(host).expect("memory");
    // It is copied on the default stream, for which others need not wait.
    CurrentContext::synchronize().expect("copied");
    memory
}

fn on_host<C: DeviceCopy + Default>(buffer: &DeviceBuffer<C>) -> Vec<C> {
    let mut host = vec![C::default(); buffer.len()];
    buffer.copy_to(&mut host[..]).expect("a copy");
    host
}

/// What is read on the device.
fn lent<'a, T: HeldAs<C>, C: DeviceCopy>(memory: &'a DeviceBuffer<C>, axes: Axes) -> View<'a, T, Device> {
    // SAFETY: the tests wait for their stream before they touch a buffer again.
    View::from_parts(unsafe { Slice::from_cust(memory) }.expect("known"), axes)
}

/// What is written there.
fn lent_mut<'a, T: HeldAs<C>, C: DeviceCopy>(memory: &'a mut DeviceBuffer<C>, axes: Axes) -> ViewMut<'a, T, Device> {
    // SAFETY: as above.
    ViewMut::from_parts(unsafe { SliceMut::from_cust(memory) }.expect("known"), axes)
}

fn bits(values: &[bf16]) -> Vec<u16> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn the_example() {
    example::main().expect("runs");
}

/// Forward and backward in bf16, whose bits cust holds.
#[test]
fn a_scan_of_halves_both_ways() {
    let _context = cust::quick_init().expect("a device");
    let stream = CustStream::new(StreamFlags::NON_BLOCKING, None).expect("a stream");
    let halves = |len, step| wave(len, step).into_iter().map(bf16::from_f32).collect::<Vec<_>>();
    let (x, dt, dout) = (halves(2 * 20 * 37, 0.1), halves(2 * 20 * 37, 0.03), halves(2 * 20 * 37, 0.2));
    let A: Vec<f32> = wave(20 * 16, 0.5).into_iter().map(|v| v - 1.5).collect();
    let (B, C) = (halves(2 * 16 * 37, 0.7), halves(2 * 16 * 37, 0.9));

    let driver = Driver::open(0).expect("device 0");
    let host = driver.on(Stream::null()).on_host();
    let scan = SelectiveScan::new(
        View::new(&x, SEQUENCE),
        View::new(&dt, SEQUENCE),
        View::new(&A, MATRIX),
        View::new(&B, ROWS),
        View::new(&C, ROWS),
    );
    let scan = scan.expect("valid").dt_softplus(true);
    let (mut out, mut last) = (vec![bf16::ZERO; x.len()], vec![0.0f32; 2 * 20 * 16]);
    let (mut dx, mut dA) = (vec![bf16::ZERO; x.len()], vec![0.0f32; A.len()]);
    let (mut out_view, mut last_view) = (ViewMut::new(&mut out, SEQUENCE), ViewMut::new(&mut last, STATE));
    host.forward(&scan, SelectiveScanOutputs::new(&mut out_view).final_state(&mut last_view)).expect("runs");
    let (mut dx_view, mut dA_view) = (ViewMut::new(&mut dx, SEQUENCE), ViewMut::new(&mut dA, MATRIX));
    let wanted = SelectiveScanGradients::new().dx(&mut dx_view).dA(&mut dA_view);
    host.backward(&scan, SelectiveScanUpstream::new().dout(View::new(&dout, SEQUENCE)), wanted).expect("runs");

    let [on_x, on_dt, on_B, on_C, on_dout] = [&x, &dt, &B, &C, &dout].map(|halves| on_device(&bits(halves)));
    let (on_A, mut on_last) = (on_device(&A), on_device(&[7.0f32; 2 * 20 * 16]));
    let (mut on_out, mut on_dx, mut on_dA) = (on_device(&bits(&out)), on_device(&bits(&dx)), on_device(&A));
    for buffer in [&mut on_out, &mut on_dx] {
        buffer.copy_from(&vec![7u16; 2 * 20 * 37][..]).expect("a copy");
    }
    fn view<'a, const N: usize>(
        memory: &'a DeviceBuffer<u16>,
        dims: [(&'static str, usize); N],
    ) -> View<'a, bf16, Device> {
        lent(memory, Axes::dense(dims))
    }
    let A_view = lent(&on_A, Axes::dense(MATRIX));
    let (B_view, C_view) = (view(&on_B, ROWS), view(&on_C, ROWS));
    let scan = SelectiveScan::new(view(&on_x, SEQUENCE), view(&on_dt, SEQUENCE), A_view, B_view, C_view);
    let scan = scan.expect("valid").dt_softplus(true);
    {
        // SAFETY: `quick_init` made the primary context current.
        let gpu = unsafe { driver.on_cust(&stream) };
        let mut out: ViewMut<'_, bf16, Device> = lent_mut(&mut on_out, Axes::dense(SEQUENCE));
        let mut last = lent_mut(&mut on_last, Axes::dense(STATE));
        gpu.forward(&scan, SelectiveScanOutputs::new(&mut out).final_state(&mut last)).expect("enqueued");
        let mut dx: ViewMut<'_, bf16, Device> = lent_mut(&mut on_dx, Axes::dense(SEQUENCE));
        let mut dA = lent_mut(&mut on_dA, Axes::dense(MATRIX));
        let wanted = SelectiveScanGradients::new().dx(&mut dx).dA(&mut dA);
        gpu.backward(&scan, SelectiveScanUpstream::new().dout(view(&on_dout, SEQUENCE)), wanted).expect("enqueued");
    }
    stream.synchronize().expect("clean");
    assert!(on_host(&on_out) == bits(&out) && on_host(&on_last) == last);
    assert!(on_host(&on_dx) == bits(&dx) && on_host(&on_dA) == dA);
    assert!(dx.iter().any(|v| v.to_f32() != 0.0));
}

/// A convolution's step and a state update, in place.
#[test]
fn a_decode_step() {
    let _context = cust::quick_init().expect("a device");
    let stream = CustStream::new(StreamFlags::NON_BLOCKING, None).expect("a stream");
    let driver = Driver::open(0).expect("device 0");
    let (row, rows) = ([("batch", 2), ("dim", 20)], [("batch", 2), ("dstate", 16)]);
    let (x, dt, A) =
        (wave(40, 0.1), wave(40, 0.3), wave(20 * 16, 0.5).into_iter().map(|v| v - 1.5).collect::<Vec<_>>());
    let (B, C, mut state, mut out) = (wave(32, 0.7), wave(32, 0.9), wave(2 * 20 * 16, 0.2), vec![0.0f32; 40]);
    let (on_x, on_dt, on_A, on_B, on_C) = (on_device(&x), on_device(&dt), on_device(&A), on_device(&B), on_device(&C));
    let (mut on_state, mut on_out) = (on_device(&state), on_device(&out));

    let update = StateUpdate::new(
        View::new(&x, row),
        View::new(&dt, row),
        View::new(&A, MATRIX),
        View::new(&B, rows),
        View::new(&C, rows),
    );
    let (mut state_view, mut out_view) = (ViewMut::new(&mut state, STATE), ViewMut::new(&mut out, row));
    let host = driver.on(Stream::null()).on_host();
    let outputs = StateUpdateOutputs::new(&mut state_view, &mut out_view);
    host.forward(&update.expect("valid").dt_softplus(true), outputs).expect("runs");

    let view = |memory, axes| lent::<f32, f32>(memory, axes);
    let (row, rows) = (Axes::dense(row), Axes::dense(rows));
    let update = StateUpdate::new(
        view(&on_x, row),
        view(&on_dt, row),
        view(&on_A, Axes::dense(MATRIX)),
        view(&on_B, rows),
        view(&on_C, rows),
    );
    {
        let mut state: ViewMut<'_, f32, Device> = lent_mut(&mut on_state, Axes::dense(STATE));
        let mut out: ViewMut<'_, f32, Device> = lent_mut(&mut on_out, row);
        let outputs = StateUpdateOutputs::new(&mut state, &mut out);
        // SAFETY: `quick_init` made the primary context current.
        let gpu = unsafe { driver.on_cust(&stream) };
        gpu.forward(&update.expect("valid").dt_softplus(true), outputs).expect("enqueued");
    }
    stream.synchronize().expect("clean");
    assert!(on_host(&on_state) == state && on_host(&on_out) == out);
    assert!(out.iter().any(|&v| v != 0.0));
}

/// No steps: what has no elements has no address, and lies on device 1 as the others do.
#[test]
fn no_steps_on_another_device() {
    if ssm_kernels::gpu::devices().expect("a driver").len() < 2 {
        let _ = writeln!(std::io::stderr(), "SKIPPED: one device");
        return;
    }
    cust::init(cust::CudaFlags::empty()).expect("a driver");
    let device = cust::device::Device::get_device(1).expect("device 1");
    let _context = cust::context::Context::new(device).expect("its primary context");
    let stream = CustStream::new(StreamFlags::NON_BLOCKING, None).expect("a stream");
    let none: DeviceBuffer<f32> = on_device(&[]);
    let (weight, initial) = (on_device(&wave(20 * 3, 0.1)), on_device(&wave(2 * 20 * 2, 0.2)));
    let (mut on_out, mut on_last): (DeviceBuffer<f32>, _) = (on_device(&[]), on_device(&[7.0f32; 2 * 20 * 2]));
    let state = Axes::dense([("batch", 2), ("dim", 20), ("state_len", 2)]);
    let sequence = Axes::dense([("batch", 2), ("dim", 20), ("seqlen", 0)]);
    {
        let weight = lent::<f32, f32>(&weight, Axes::dense([("dim", 20), ("width", 3)]));
        let conv = CausalConv1d::new(lent::<f32, f32>(&none, sequence), weight).expect("valid");
        let conv = conv.initial_state(lent(&initial, state));
        let (mut out, mut last) = (lent_mut(&mut on_out, sequence), lent_mut(&mut on_last, state));
        let outputs = CausalConv1dOutputs::new(&mut out).final_state(&mut last);
        // SAFETY: the stream is one of the primary context of device 1.
        let gpu = unsafe { Driver::open(1).expect("device 1").on_cust(&stream) };
        gpu.forward(&conv, outputs).expect("enqueued");
        // SAFETY: as above, but for the device: refused before anything is enqueued.
        let gpu = unsafe { Driver::open(0).expect("device 0").on_cust(&stream) };
        let mut out: ViewMut<'_, f32, Device> = lent_mut(&mut on_out, sequence);
        let refused = gpu.forward(&conv, CausalConv1dOutputs::new(&mut out)).expect_err("another device");
        assert_eq!(refused.to_string(), "causal_conv1d: `weight` lies on device 1, expected device 0 of the stream");
    }
    stream.synchronize().expect("clean");
    assert_eq!(on_host(&on_last), on_host(&initial));
}
