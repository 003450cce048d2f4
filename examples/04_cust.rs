//! A selective scan on memory and a stream of the crate `cust`, in a context of its own.
//!
//! cust asks for the driver's library when it is built: `CUDA_LIBRARY_PATH=/usr/local/cuda cargo run --release --features
//! cust --example 04_cust`. Without a GPU the emulated driver will do: emulated-cuda/README.md.

#![allow(non_snake_case)]

use cust::context::CurrentContext;
use cust::memory::{CopyDestination, DeviceBuffer};
use cust::stream::{Stream, StreamFlags};
use ssm_kernels::gpu::Driver;
use ssm_kernels::prelude::*;
use ssm_kernels::{Axes, Slice, SliceMut};
use std::error::Error;

const DIM: usize = 64;
const DSTATE: usize = 16;
const SEQLEN: usize = 100;

/// The output of one channel's last steps, as the GPU and as the CPU have it.
pub fn main() -> Result<(), Box<dyn Error>> {
    let _context = cust::quick_init()?;
    let stream = Stream::new(StreamFlags::NON_BLOCKING, None)?;
    let wave = |len: usize, step: f32| (0..len).map(|i| (i as f32 * step).sin()).collect::<Vec<f32>>();
    let (x, dt) = (wave(DIM * SEQLEN, 0.1), wave(DIM * SEQLEN, 0.03));
    let A: Vec<f32> = (0..DIM * DSTATE).map(|i| -1.0 - (i % DSTATE) as f32).collect();
    let (B, C) = (wave(DSTATE * SEQLEN, 0.7), wave(DSTATE * SEQLEN, 0.9));

    // Channel-last tensors, as they lie.
    let sequence = Axes::dense([("batch", 1), ("seqlen", SEQLEN), ("dim", DIM)]);
    let matrix = Axes::dense([("dim", DIM), ("dstate", DSTATE)]);
    let rows = Axes::dense([("batch", 1), ("ngroups", 1), ("dstate", DSTATE), ("seqlen", SEQLEN)]);

    let copy = |host: &[f32]| DeviceBuffer::from_slice(host);
    let (on_x, on_dt, on_A, on_B, on_C) = (copy(&x)?, copy(&dt)?, copy(&A)?, copy(&B)?, copy(&C)?);
    let mut on_out = DeviceBuffer::<f32>::zeroed(DIM * SEQLEN)?;
    // They are filled on the default stream, for which this one does not wait.
    CurrentContext::synchronize()?;
    // SAFETY: nobody touches the buffers until the stream has been waited for, below.
    let view = |memory, axes| Ok::<_, ssm_kernels::Error>(View::from_parts(unsafe { Slice::from_cust(memory) }?, axes));
    let (x_view, dt_view) = (view(&on_x, sequence)?, view(&on_dt, sequence)?);
    let (B_view, C_view) = (view(&on_B, rows)?, view(&on_C, rows)?);
    let scan = SelectiveScan::new(x_view, dt_view, view(&on_A, matrix)?, B_view, C_view)?.dt_softplus(true);
    // SAFETY: as above.
    let mut out_view = ViewMut::from_parts(unsafe { SliceMut::from_cust(&mut on_out) }?, sequence);
    // SAFETY: the stream is one of the primary context, which `quick_init` made current.
    let gpu = unsafe { Driver::open(0)?.on_cust(&stream) };
    gpu.forward(&scan, SelectiveScanOutputs::new(&mut out_view))?;
    stream.synchronize()?;
    let mut out = vec![0.0f32; DIM * SEQLEN];
    on_out.copy_to(&mut out)?;

    let view = |memory, axes| View::from_parts(memory, axes);
    let (x, dt, A, B, C) =
        (view(&x[..], sequence), view(&dt[..], sequence), view(&A[..], matrix), view(&B[..], rows), view(&C[..], rows));
    let mut expected = vec![0.0f32; DIM * SEQLEN];
    let scan = SelectiveScan::new(x, dt, A, B, C)?.dt_softplus(true);
    Cpu::new().forward(&scan, SelectiveScanOutputs::new(&mut ViewMut::from_parts(&mut expected[..], sequence)))?;
    let difference = out.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("largest difference between the two: {difference:.1e}, of outputs such as {:.3}", expected[DIM * 99]);
    assert!(difference < 1e-5);
    Ok(())
}
