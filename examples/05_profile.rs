//! A layer's scan on a GPU again and again, forward and backward, with everything on the device: what a profiler wants to see.
//! docs/profiling.md has the commands for Nsight and how to read them.
//!
//! `cargo run --release --features nvtx --example 05_profile -- [BATCH DIM SEQLEN [REPETITIONS]]`

#![allow(non_snake_case)]

use half::bf16;
use ssm_kernels::Result;
use ssm_kernels::gpu::{Driver, Stream};
use ssm_kernels::prelude::*;

const DSTATE: usize = 16;

/// What the command line says, or a training step of a small model.
pub fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let numbers: Vec<usize> =
        std::env::args().skip(1).map(|number| number.parse()).collect::<std::result::Result<_, _>>()?;
    let (shape, repetitions) = match numbers[..] {
        [] => ([8, 2048, 2048], 5),
        [batch, dim, seqlen] => ([batch, dim, seqlen], 5),
        [batch, dim, seqlen, repetitions] => ([batch, dim, seqlen], repetitions),
        _ => return Err("expected BATCH DIM SEQLEN [REPETITIONS]".into()),
    };
    println!("{}", run(shape, repetitions)?);
    Ok(())
}

/// Runs the scan on device 0 and returns what ran, and where.
pub fn run([batch, dim, seqlen]: [usize; 3], repetitions: usize) -> Result<String> {
    let driver = Driver::open(0)?;
    let gpu = driver.on(Stream::null());
    let wave = |len: usize, step: f32| (0..len).map(|i| bf16::from_f32((i as f32 * step).sin())).collect::<Vec<_>>();
    let elements = batch * dim * seqlen;
    let sequence = [("batch", batch), ("dim", dim), ("seqlen", seqlen)];
    let rows = [("batch", batch), ("ngroups", 1), ("dstate", DSTATE), ("seqlen", seqlen)];

    // x, dt, z, dout; B, C; A, and D and dt_bias.
    let [x, dt, z, dout] = [0.1, 0.03, 0.2, 0.5].map(|step| gpu.upload(&wave(elements, step)));
    let [B, C] = [0.7, 0.9].map(|step| gpu.upload(&wave(batch * DSTATE * seqlen, step)));
    let (x, dt, z, dout, B, C) = (x?, dt?, z?, dout?, B?, C?);
    let A: Vec<f32> = (0..dim * DSTATE).map(|i| -1.0 - (i % DSTATE) as f32).collect();
    let (A, channel) = (gpu.upload(&A)?, gpu.upload(&vec![0.5f32; dim])?);
    let mut out = gpu.alloc::<bf16>(elements)?;
    let [mut dx, mut ddt, mut dz] = [gpu.alloc(elements)?, gpu.alloc(elements)?, gpu.alloc(elements)?];
    let mut dA = gpu.alloc::<f32>(dim * DSTATE)?;

    let scan = SelectiveScan::new(
        x.view(sequence),
        dt.view(sequence),
        A.view([("dim", dim), ("dstate", DSTATE)]),
        B.view(rows),
        C.view(rows),
    )?;
    let scan = scan.D(channel.view([("dim", dim)])).dt_bias(channel.view([("dim", dim)]));
    let scan = scan.z(z.view(sequence)).dt_softplus(true);

    // Kernels are loaded and workspaces allocated before anything is measured.
    let (forward, backward) = (gpu.forward_plan(&scan)?, gpu.backward_plan(&scan)?);
    driver.prepare(&forward)?;
    driver.prepare(&backward)?;
    let mut workspace = gpu.alloc(forward.workspace_blocks().max(backward.workspace_blocks()))?;
    for _ in 0..repetitions {
        let mut view = out.view_mut(sequence);
        gpu.forward_with(&scan, SelectiveScanOutputs::new(&mut view), &forward, workspace.slice_mut())?;
        let (mut dx, mut ddt, mut dz) = (dx.view_mut(sequence), ddt.view_mut(sequence), dz.view_mut(sequence));
        let mut dA = dA.view_mut([("dim", dim), ("dstate", DSTATE)]);
        let gradients = SelectiveScanGradients::new().dx(&mut dx).ddt(&mut ddt).dz(&mut dz).dA(&mut dA);
        let upstream = SelectiveScanUpstream::new().dout(dout.view(sequence));
        gpu.backward_with(&scan, upstream, gradients, &backward, workspace.slice_mut())?;
    }
    gpu.synchronise()?;
    let last = out.download()?.pop().unwrap_or_default();
    let (forward, backward, device) = (&forward.kernel, &backward.kernel, &driver.info().name);
    Ok(format!(
        "{device}: {repetitions} times {forward} and {backward} on {batch}x{dim}x{seqlen}, the last output {last}"
    ))
}
