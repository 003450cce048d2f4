//! The inside of a Mamba layer: a prompt through the short convolution and the scan, then a token at a time with both states
//! carried over. `cargo run --release --example 02_prefill`
//!
//! What comes out is held to one run over everything.

#![allow(non_snake_case)]

use ssm_kernels::prelude::*;

const DIM: usize = 24;
const DSTATE: usize = 16;
const WIDTH: usize = 4;
const PROMPT: usize = 30;
const TOKENS: usize = 12;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What the layer's matrix products would give, (seqlen, ..); and its parameters.
struct Layer {
    x: Vec<f32>,
    z: Vec<f32>,
    dt: Vec<f32>,
    B: Vec<f32>,
    C: Vec<f32>,
    A: Vec<f32>,
    D: Vec<f32>,
    weight: Vec<f32>,
}

/// The states between calls: the last inputs of the convolution, and that of the scan.
struct States {
    conv: Vec<f32>,
    scan: Vec<f32>,
}

fn wave(count: usize, phase: f32) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * 0.37 + phase).sin()).collect()
}

fn sequence(count: usize) -> [(&'static str, usize); 3] {
    [("batch", 1), ("seqlen", count), ("dim", DIM)]
}

impl Layer {
    fn new(len: usize) -> Self {
        Self {
            x: wave(len * DIM, 0.0),
            z: wave(len * DIM, 1.0),
            dt: wave(len * DIM, 2.0),
            B: wave(len * DSTATE, 3.0),
            C: wave(len * DSTATE, 4.0),
            A: (0..DIM * DSTATE).map(|i| -((i % DSTATE + 1) as f32)).collect(),
            D: wave(DIM, 5.0),
            weight: wave(DIM * WIDTH, 6.0),
        }
    }

    fn weight(&self) -> View<'_, f32> {
        View::new(&self.weight, [("dim", DIM), ("width", WIDTH)])
    }

    fn parameters(&self) -> [View<'_, f32>; 2] {
        [View::new(&self.A, [("dim", DIM), ("dstate", DSTATE)]), View::new(&self.D, [("dim", DIM)])]
    }

    /// Steps `from..from + count` of a tensor with `per_step` numbers a step.
    fn steps(data: &[f32], per_step: usize, from: usize, count: usize) -> &[f32] {
        &data[from * per_step..][..count * per_step]
    }

    /// The first `count` steps, and the states behind them.
    fn prefill(&self, count: usize) -> Result<(Vec<f32>, States)> {
        let (mut u, mut out) = (vec![0.0; count * DIM], vec![0.0; count * DIM]);
        let mut states = States { conv: vec![0.0; DIM * (WIDTH - 1)], scan: vec![0.0; DIM * DSTATE] };
        let channels = |data| View::new(Self::steps(data, DIM, 0, count), sequence(count));
        let conv = CausalConv1d::new(channels(&self.x), self.weight())?.silu(true);
        let mut u_view = ViewMut::new(&mut u, sequence(count));
        let mut last = ViewMut::new(&mut states.conv, [("batch", 1), ("dim", DIM), ("state_len", WIDTH - 1)]);
        Cpu::new().forward(&conv, CausalConv1dOutputs::new(&mut u_view).final_state(&mut last))?;

        let [A, D] = self.parameters();
        let rows = [("batch", 1), ("seqlen", count), ("ngroups", 1), ("dstate", DSTATE)];
        let [B, C] = [&self.B, &self.C].map(|data| View::new(Self::steps(data, DSTATE, 0, count), rows));
        let scan = SelectiveScan::new(channels(&u), channels(&self.dt), A, B, C)?;
        let scan = scan.D(D).z(channels(&self.z)).dt_softplus(true);
        let mut out_view = ViewMut::new(&mut out, sequence(count));
        let mut last = ViewMut::new(&mut states.scan, [("batch", 1), ("dim", DIM), ("dstate", DSTATE)]);
        Cpu::new().forward(&scan, SelectiveScanOutputs::new(&mut out_view).final_state(&mut last))?;
        Ok((out, states))
    }

    /// The step at `t`, in place of the states.
    fn decode(&self, t: usize, states: &mut States) -> Result<Vec<f32>> {
        let (mut u, mut out) = (vec![0.0; DIM], vec![0.0; DIM]);
        let channels = |data| View::new(Self::steps(data, DIM, t, 1), sequence(1));
        let conv = CausalConv1dUpdate::new(channels(&self.x), self.weight())?.silu(true);
        let mut u_view = ViewMut::new(&mut u, sequence(1));
        let mut conv_state = ViewMut::new(&mut states.conv, [("slots", 1), ("dim", DIM), ("state_len", WIDTH - 1)]);
        Cpu::new().forward(&conv, CausalConv1dUpdateOutputs::new(&mut u_view, &mut conv_state))?;

        let [A, D] = self.parameters();
        let rows = [("batch", 1), ("seqlen", 1), ("ngroups", 1), ("dstate", DSTATE)];
        let [B, C] = [&self.B, &self.C].map(|data| View::new(Self::steps(data, DSTATE, t, 1), rows));
        let update = StateUpdate::new(View::new(&u, sequence(1)), channels(&self.dt), A, B, C)?;
        let update = update.D(D).z(channels(&self.z)).dt_softplus(true);
        let mut out_view = ViewMut::new(&mut out, sequence(1));
        let mut state = ViewMut::new(&mut states.scan, [("batch", 1), ("dim", DIM), ("dstate", DSTATE)]);
        Cpu::new().forward(&update, StateUpdateOutputs::new(&mut state, &mut out_view))?;
        Ok(out)
    }
}

/// Prefills and decodes, and fails if what comes out is not that of one run.
pub fn main() -> Result<()> {
    let layer = Layer::new(PROMPT + TOKENS);
    let (whole, last) = layer.prefill(PROMPT + TOKENS)?;
    let (mut out, mut states) = layer.prefill(PROMPT)?;
    for t in PROMPT..PROMPT + TOKENS {
        out.extend(layer.decode(t, &mut states)?);
    }
    let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-5);
    // The convolution's inputs are the same bits, whoever remembers them.
    let same =
        out.len() == whole.len() && near(&out, &whole) && near(&states.scan, &last.scan) && states.conv == last.conv;
    println!("{PROMPT} + {TOKENS} steps: {}", if same { "those of one run over all of them" } else { "off" });
    if same { Ok(()) } else { Err("decoding is not what one run gives".into()) }
}
