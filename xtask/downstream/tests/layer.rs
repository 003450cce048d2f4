//! The layer against the recurrence, written down in f64, and its adjoint.

#![allow(non_snake_case)]

use downstream::{Gradients, Inputs, Layer, Place};
use ssm_kernels::{Cpu, Error};

const DIM: usize = 5;
const DSTATE: usize = 3;
const SEQLEN: usize = 37;

/// Numbers without a pattern, from -0.5 to 0.5.
fn drawn(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..count).map(|_| next()).collect()
}

fn example() -> (Layer, Inputs, Vec<f32>) {
    let A = drawn(DIM * DSTATE, 1).iter().map(|a| a - 1.0).collect();
    let layer = Layer { dim: DIM, dstate: DSTATE, A, D: drawn(DIM, 2) };
    let dt = drawn(DIM * SEQLEN, 4).iter().map(|dt| dt + 0.6).collect();
    let (x, B, C) = (drawn(DIM * SEQLEN, 3), drawn(DSTATE * SEQLEN, 5), drawn(DSTATE * SEQLEN, 6));
    (layer, Inputs { x, dt, B, C }, drawn(DIM * SEQLEN, 7))
}

/// h = exp(dt A) h + dt B x; out = C h + D x. And back: dh is what a state is worth to all that follows.
fn recurrence(layer: &Layer, inputs: &Inputs, dout: &[f32]) -> (Vec<f64>, [Vec<f64>; 6]) {
    let of = |values: &[f32], i: usize| f64::from(values[i]);
    let mut out = vec![0.0; DIM * SEQLEN];
    let [mut dx, mut ddt, mut dA] = [DIM * SEQLEN, DIM * SEQLEN, DIM * DSTATE].map(|count| vec![0.0; count]);
    let [mut dB, mut dC, mut dD] = [DSTATE * SEQLEN, DSTATE * SEQLEN, DIM].map(|count| vec![0.0; count]);
    for d in 0..DIM {
        let D = of(&layer.D, d);
        for t in 0..SEQLEN {
            let i = d * SEQLEN + t;
            out[i] += D * of(&inputs.x, i);
            dx[i] += D * of(dout, i);
            dD[d] += of(&inputs.x, i) * of(dout, i);
        }
        for n in 0..DSTATE {
            let A = of(&layer.A, d * DSTATE + n);
            let mut h = vec![0.0; SEQLEN + 1];
            for t in 0..SEQLEN {
                let (i, j) = (d * SEQLEN + t, n * SEQLEN + t);
                let dt = of(&inputs.dt, i);
                h[t + 1] = (dt * A).exp() * h[t] + dt * of(&inputs.B, j) * of(&inputs.x, i);
                out[i] += of(&inputs.C, j) * h[t + 1];
            }
            let mut dh = 0.0;
            for t in (0..SEQLEN).rev() {
                let (i, j) = (d * SEQLEN + t, n * SEQLEN + t);
                let (x, dt, B) = (of(&inputs.x, i), of(&inputs.dt, i), of(&inputs.B, j));
                let decay = (dt * A).exp();
                dh += of(&inputs.C, j) * of(dout, i);
                dC[j] += of(dout, i) * h[t + 1];
                dx[i] += dh * dt * B;
                dB[j] += dh * dt * x;
                ddt[i] += dh * (A * decay * h[t] + B * x);
                dA[d * DSTATE + n] += dh * dt * decay * h[t];
                dh *= decay;
            }
        }
    }
    (out, [dx, ddt, dA, dB, dC, dD])
}

fn assert_close(name: &str, got: &[f32], truth: &[f64]) {
    assert_eq!(got.len(), truth.len(), "{name}");
    let largest = truth.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    assert!(largest > 0.0, "{name}");
    for (i, (&got, truth)) in got.iter().zip(truth).enumerate() {
        let error = (f64::from(got) - truth).abs();
        assert!(error <= 1e-5 * largest, "{name}[{i}] is {got}, expected {truth}");
    }
}

fn check(place: &Place) {
    let (layer, inputs, dout) = example();
    let (out, gradients) = recurrence(&layer, &inputs, &dout);
    assert_close("out", &layer.forward(&inputs, place).unwrap(), &out);
    let Gradients { dx, ddt, dA, dB, dC, dD } = layer.backward(&inputs, &dout, place).unwrap();
    let got = [("dx", dx), ("ddt", ddt), ("dA", dA), ("dB", dB), ("dC", dC), ("dD", dD)];
    got.iter().zip(&gradients).for_each(|((name, got), truth)| assert_close(name, got, truth));
}

#[test]
fn the_cpu_computes_the_recurrence() {
    check(&Place::Cpu(Cpu::new()));
}

#[test]
fn the_best_place_computes_the_recurrence() {
    check(&Place::best().unwrap());
}

#[test]
fn a_gpu_is_there_or_its_absence_is_an_error() {
    match Place::gpu() {
        Ok(gpu) => {
            println!("a GPU");
            check(&gpu);
        }
        Err(error @ (Error::NoDriver | Error::NoDevice { .. })) => {
            println!("{error}");
            assert!(error.to_string().starts_with("no CUDA d"), "{error}");
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_wrong_shape_is_an_error_that_names_it() {
    let (layer, mut inputs, _) = example();
    inputs.dt.pop();
    let error = layer.forward(&inputs, &Place::Cpu(Cpu::new())).unwrap_err();
    assert!(matches!(error, Error::Length { op: "selective_scan", arg: "dt", .. }), "{error}");
}
