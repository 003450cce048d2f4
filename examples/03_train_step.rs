//! Fits A, B, C and the step of a small system to data by gradient descent: per step one forward call that saves
//! checkpoints, and one backward call. `cargo run --release --example 03_train_step`
//!
//! The data are what the same system does with other parameters, so that the loss can fall to almost nothing.

#![allow(non_snake_case)]

use indicatif::{ProgressBar, ProgressStyle};
use ssm_kernels::prelude::*;
use std::process::ExitCode;

const BATCH: usize = 4;
const DIM: usize = 3;
const DSTATE: usize = 4;
const SEQLEN: usize = 256;
const STEPS: u64 = 300;
const RATE: f32 = 0.02;

const SEQUENCE: [(&str, usize); 3] = [("batch", BATCH), ("dim", DIM), ("seqlen", SEQLEN)];
const STATE: [(&str, usize); 2] = [("dim", DIM), ("dstate", DSTATE)];

/// What is fitted, in one vector: ln(-A), B, C (dim, dstate each), dt_bias (dim).
struct Parameters(Vec<f32>);

impl Parameters {
    fn new(mut draw: impl FnMut() -> f32) -> Self {
        let mut all = vec![0.0; 3 * DIM * DSTATE + DIM];
        // Time constants spread as S4D-real spreads them; the rest is drawn.
        all.iter_mut().for_each(|value| *value = 0.5 * draw());
        (0..DIM * DSTATE).for_each(|i| all[i] += ((i % DSTATE + 1) as f32).ln());
        all[3 * DIM * DSTATE..].iter_mut().for_each(|bias| *bias -= 2.0);
        Self(all)
    }

    fn A(&self) -> Vec<f32> {
        self.0[..DIM * DSTATE].iter().map(|log| -log.exp()).collect()
    }
}

/// The scan of `x` with these parameters; B and C constant, dt_bias the whole step.
fn scan<'a>(x: &'a [f32], A: &'a [f32], parameters: &'a Parameters) -> ssm_kernels::Result<SelectiveScan<'a, f32>> {
    let part = |i: usize| &parameters.0[i * DIM * DSTATE..(i + 1) * DIM * DSTATE];
    let dt = View::strided(&[0.0], [("batch", BATCH, 0), ("dim", DIM, 0), ("seqlen", SEQLEN, 0)]);
    let constant = |i: usize| Projection::Constant(View::new(part(i), STATE));
    let scan = SelectiveScan::new(View::new(x, SEQUENCE), dt, View::new(A, STATE), constant(1), constant(2))?;
    Ok(scan.dt_bias(View::new(&parameters.0[3 * DIM * DSTATE..], [("dim", DIM)])).dt_softplus(true))
}

/// Half the mean square of out - target, and its gradient by the parameters.
fn loss(x: &[f32], target: &[f32], parameters: &Parameters) -> ssm_kernels::Result<(f32, Vec<f32>)> {
    let (A, count) = (parameters.A(), target.len() as f32);
    let scan = scan(x, &A, parameters)?;
    let every = scan.checkpoint_every()?;
    let nchunks = scan.chunk_offsets(every)?[BATCH];

    let (mut out, mut states) = (vec![0.0; target.len()], vec![0.0; nchunks * DIM * DSTATE]);
    let saved = [("nchunks", nchunks), ("dim", DIM), ("dstate", DSTATE)];
    let (mut out_view, mut states_view) = (ViewMut::new(&mut out, SEQUENCE), ViewMut::new(&mut states, saved));
    Cpu::new().forward(&scan, SelectiveScanOutputs::new(&mut out_view).chunk_states(every, &mut states_view))?;

    let dout: Vec<f32> = out.iter().zip(target).map(|(out, target)| (out - target) / count).collect();
    let loss = dout.iter().map(|d| 0.5 * d * d).sum::<f32>() * count;
    let mut gradient = vec![0.0; parameters.0.len()];
    let (dA, rest) = gradient.split_at_mut(DIM * DSTATE);
    let (dB, rest) = rest.split_at_mut(DIM * DSTATE);
    let (dC, dbias) = rest.split_at_mut(DIM * DSTATE);
    let (mut dA_view, mut dbias_view) = (ViewMut::new(&mut *dA, STATE), ViewMut::new(dbias, [("dim", DIM)]));
    let gradients = SelectiveScanGradients::new()
        .dA(&mut dA_view)
        .dB(ProjectionMut::Constant(ViewMut::new(dB, STATE)))
        .dC(ProjectionMut::Constant(ViewMut::new(dC, STATE)))
        .ddt_bias(&mut dbias_view);
    let upstream = SelectiveScanUpstream::new().dout(View::new(&dout, SEQUENCE));
    Cpu::new().backward(&scan, upstream.checkpoints(every, View::new(&states, saved)), gradients)?;
    // A = -exp(parameter).
    dA.iter_mut().zip(&A).for_each(|(dA, A)| *dA *= A);
    Ok((loss, gradient))
}

fn main() -> ssm_kernels::Result<ExitCode> {
    let mut seed = 1u32;
    let mut draw = move || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let x: Vec<f32> = (0..BATCH * DIM * SEQLEN).map(|_| draw()).collect();
    let (truth, mut parameters) = (Parameters::new(&mut draw), Parameters::new(&mut draw));
    let mut target = vec![0.0; x.len()];
    let A = truth.A();
    Cpu::new().forward(&scan(&x, &A, &truth)?, SelectiveScanOutputs::new(&mut ViewMut::new(&mut target, SEQUENCE)))?;

    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} steps, {msg}").expect("a valid template");
    let bar = ProgressBar::new(STEPS).with_style(style);
    let (mut mean, mut square) = (vec![0.0f32; parameters.0.len()], vec![0.0f32; parameters.0.len()]);
    let (first, mut last) = (loss(&x, &target, &parameters)?.0, f32::NAN);
    for step in 1..=STEPS {
        let (now, gradient) = loss(&x, &target, &parameters)?;
        // Adam.
        for (i, g) in gradient.into_iter().enumerate() {
            mean[i] += 0.1 * (g - mean[i]);
            square[i] += 0.01 * (g * g - square[i]);
            let (unbiased, scale) = (mean[i] / (1.0 - 0.9f32.powi(step as i32)), 1.0 - 0.99f32.powi(step as i32));
            parameters.0[i] -= RATE * unbiased / ((square[i] / scale).sqrt() + 1e-8);
        }
        last = now;
        bar.set_message(format!("loss {now:.3e}"));
        bar.inc(1);
    }
    bar.finish();
    println!("loss {first:.3e} -> {last:.3e} in {STEPS} steps");
    // Written so that a NaN fails.
    Ok(if last < 0.1 * first { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
