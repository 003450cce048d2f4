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
    /// x, dt and z.
    channels: [Vec<f32>; 3],
    /// B and C.
    rows: [Vec<f32>; 2],
    A: Vec<f32>,
    D: Vec<f32>,
    weight: Vec<f32>,
}

/// The states between calls: the last inputs of the convolution, and that of the scan.
struct States {
    conv: Vec<f32>,
    scan: Vec<f32>,
}

fn sequence(count: usize) -> [(&'static str, usize); 3] {
    [("batch", 1), ("seqlen", count), ("dim", DIM)]
}

/// Steps `from..from + count` of a tensor of channels.
fn steps(data: &[f32], from: usize, count: usize) -> View<'_, f32> {
    View::new(&data[from * DIM..][..count * DIM], sequence(count))
}

impl Layer {
    fn new(len: usize) -> Self {
        let wave = |count: usize, phase: f32| (0..count).map(|i| (i as f32 * 0.37 + phase).sin()).collect();
        Self {
            channels: [0.0, 1.0, 2.0].map(|phase| wave(len * DIM, phase)),
            rows: [3.0, 4.0].map(|phase| wave(len * DSTATE, phase)),
            A: (0..DIM * DSTATE).map(|i| -((i % DSTATE + 1) as f32)).collect(),
            D: wave(DIM, 5.0),
            weight: wave(DIM * WIDTH, 6.0),
        }
    }

    fn weight(&self) -> View<'_, f32> {
        View::new(&self.weight, [("dim", DIM), ("width", WIDTH)])
    }

    /// dt, z, B, C of steps `from..from + count`, A and D.
    fn scan_inputs(&self, from: usize, count: usize) -> [View<'_, f32>; 6] {
        let [_, dt, z] = self.channels.each_ref().map(|data| steps(data, from, count));
        let rows = [("batch", 1), ("seqlen", count), ("ngroups", 1), ("dstate", DSTATE)];
        let [B, C] = self.rows.each_ref().map(|data| View::new(&data[from * DSTATE..][..count * DSTATE], rows));
        let A = View::new(&self.A, [("dim", DIM), ("dstate", DSTATE)]);
        [dt, z, B, C, A, View::new(&self.D, [("dim", DIM)])]
    }

    /// The first `count` steps, and the states behind them.
    fn prefill(&self, count: usize) -> Result<(Vec<f32>, States)> {
        let (mut u, mut out) = (vec![0.0; count * DIM], vec![0.0; count * DIM]);
        let mut states = States { conv: vec![0.0; DIM * (WIDTH - 1)], scan: vec![0.0; DIM * DSTATE] };
        let conv = CausalConv1d::new(steps(&self.channels[0], 0, count), self.weight())?.silu(true);
        let mut u_view = ViewMut::new(&mut u, sequence(count));
        let mut last = ViewMut::new(&mut states.conv, [("batch", 1), ("dim", DIM), ("state_len", WIDTH - 1)]);
        Cpu::new().forward(&conv, CausalConv1dOutputs::new(&mut u_view).final_state(&mut last))?;

        let [dt, z, B, C, A, D] = self.scan_inputs(0, count);
        let scan = SelectiveScan::new(View::new(&u, sequence(count)), dt, A, B, C)?.D(D).z(z).dt_softplus(true);
        let mut out_view = ViewMut::new(&mut out, sequence(count));
        let mut last = ViewMut::new(&mut states.scan, [("batch", 1), ("dim", DIM), ("dstate", DSTATE)]);
        Cpu::new().forward(&scan, SelectiveScanOutputs::new(&mut out_view).final_state(&mut last))?;
        Ok((out, states))
    }

    /// The step at `t`, in place of the states.
    fn decode(&self, t: usize, states: &mut States) -> Result<Vec<f32>> {
        let (mut u, mut out) = (vec![0.0; DIM], vec![0.0; DIM]);
        let conv = CausalConv1dUpdate::new(steps(&self.channels[0], t, 1), self.weight())?.silu(true);
        let mut u_view = ViewMut::new(&mut u, sequence(1));
        let mut conv_state = ViewMut::new(&mut states.conv, [("slots", 1), ("dim", DIM), ("state_len", WIDTH - 1)]);
        Cpu::new().forward(&conv, CausalConv1dUpdateOutputs::new(&mut u_view, &mut conv_state))?;

        let [dt, z, B, C, A, D] = self.scan_inputs(t, 1);
        let update = StateUpdate::new(View::new(&u, sequence(1)), dt, A, B, C)?.D(D).z(z).dt_softplus(true);
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
