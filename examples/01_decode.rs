//! Serves two sequences: their prompts by one scan, then a token per call in a cache of states, then a guess of several
//! tokens in one call, of which only the first is kept. `cargo run --release --example 01_decode`
//!
//! What comes out is held to one scan over everything.

#![allow(non_snake_case)]

use ssm_kernels::prelude::*;

const SEQUENCES: usize = 2;
const DIM: usize = 32;
const DSTATE: usize = 16;
const PROMPT: usize = 20;
const TOKENS: usize = 10;
/// Of a guess.
const GUESSED: usize = 3;
/// Rows of the cache; the sequences have these.
const SLOTS: usize = 5;
const ROWS: [i32; SEQUENCES] = [3, 1];

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What a model would compute from tokens: x, dt, z as (batch, seqlen, dim), B and C as (batch, seqlen, dstate).
struct Inputs {
    x: Vec<f32>,
    dt: Vec<f32>,
    z: Vec<f32>,
    B: Vec<f32>,
    C: Vec<f32>,
    len: usize,
}

impl Inputs {
    fn new(len: usize) -> Self {
        let wave = |per_step: usize, phase: f32| {
            (0..SEQUENCES * len * per_step).map(|i| (i as f32 * 0.7 + phase).sin()).collect::<Vec<f32>>()
        };
        let (x, dt, z) = (wave(DIM, 0.0), wave(DIM, 1.0), wave(DIM, 2.0));
        Self { x, dt, z, B: wave(DSTATE, 3.0), C: wave(DSTATE, 4.0), len }
    }

    /// Tokens `from..from + count` of every sequence: a strided view, no copy.
    fn channels<'v>(&self, data: &'v [f32], from: usize, count: usize) -> View<'v, f32> {
        let (row, step) = ((self.len * DIM) as i64, DIM as i64);
        View::strided(&data[from * DIM..], [("batch", SEQUENCES, row), ("seqlen", count, step), ("dim", DIM, 1)])
    }

    fn states<'v>(&self, data: &'v [f32], from: usize, count: usize) -> View<'v, f32> {
        let (row, step) = ((self.len * DSTATE) as i64, DSTATE as i64);
        let rows = [("batch", SEQUENCES, row), ("seqlen", count, step), ("ngroups", 1, 0), ("dstate", DSTATE, 1)];
        View::strided(&data[from * DSTATE..], rows)
    }

    /// All steps from `from` on, by the scan.
    fn scan<'v>(&'v self, A: View<'v, f32>, count: usize) -> Result<SelectiveScan<'v, f32>> {
        let [x, dt, z] = [&self.x, &self.dt, &self.z].map(|data| self.channels(data, 0, count));
        let [B, C] = [&self.B, &self.C].map(|data| self.states(data, 0, count));
        Ok(SelectiveScan::new(x, dt, A, B, C)?.z(z).dt_softplus(true))
    }

    /// Tokens `from..from + count`, by the update.
    fn update<'v>(&'v self, A: View<'v, f32>, from: usize, count: usize) -> Result<StateUpdate<'v, f32>> {
        let [x, dt, z] = [&self.x, &self.dt, &self.z].map(|data| self.channels(data, from, count));
        let [B, C] = [&self.B, &self.C].map(|data| self.states(data, from, count));
        let update = StateUpdate::new(x, dt, A, B, C)?.z(z).dt_softplus(true);
        Ok(update.state_indices(View::new(&ROWS, [("batch", SEQUENCES)])))
    }
}

/// Largest difference between rows of `out`, which begin at step `from`, and those of the whole.
fn difference(out: &[f32], whole: &[f32], from: usize, count: usize) -> f32 {
    let len = whole.len() / SEQUENCES / DIM;
    let at = |i: usize| (i / (count * DIM) * len + from + i / DIM % count) * DIM + i % DIM;
    let off = out.iter().enumerate().map(|(i, out)| (out - whole[at(i)]).abs());
    off.fold(0.0, |worst, off| if off.is_nan() { f32::INFINITY } else { worst.max(off) })
}

/// Decodes, and fails if what comes out is not the scan's.
pub fn main() -> Result<()> {
    let (cpu, inputs) = (Cpu::new(), Inputs::new(PROMPT + TOKENS));
    let matrix: Vec<f32> = (0..DIM * DSTATE).map(|i| -((i % DSTATE + 1) as f32)).collect();
    let A = View::new(&matrix, [("dim", DIM), ("dstate", DSTATE)]);
    let sequence = |count| [("batch", SEQUENCES), ("seqlen", count), ("dim", DIM)];

    let mut whole = vec![0.0; inputs.x.len()];
    let mut view = ViewMut::new(&mut whole, sequence(inputs.len));
    cpu.forward(&inputs.scan(A, inputs.len)?, SelectiveScanOutputs::new(&mut view))?;

    // The prompts, and their last states into the cache.
    let row = DIM * DSTATE;
    let (mut out, mut last) = (vec![0.0; SEQUENCES * PROMPT * DIM], vec![0.0; SEQUENCES * row]);
    let mut out_view = ViewMut::new(&mut out, sequence(PROMPT));
    let mut last_view = ViewMut::new(&mut last, [("batch", SEQUENCES), ("dim", DIM), ("dstate", DSTATE)]);
    let outputs = SelectiveScanOutputs::new(&mut out_view).final_state(&mut last_view);
    cpu.forward(&inputs.scan(A, PROMPT)?, outputs)?;
    let mut worst = difference(&out, &whole, 0, PROMPT);
    let mut cache = vec![f32::NAN; SLOTS * row];
    for (state, slot) in last.chunks_exact(row).zip(ROWS) {
        cache[slot as usize * row..][..row].copy_from_slice(state);
    }

    // A guess, all of it in one call; then back behind all but its first token.
    let mut kept = vec![0.0; SEQUENCES * GUESSED * row];
    let mut out = vec![0.0; SEQUENCES * GUESSED * DIM];
    let slots = [("slots", SLOTS), ("dim", DIM), ("dstate", DSTATE)];
    let (mut state, mut out_view) = (ViewMut::new(&mut cache, slots), ViewMut::new(&mut out, sequence(GUESSED)));
    let mut kept_view = ViewMut::new(&mut kept, [("tokens", SEQUENCES * GUESSED), ("dim", DIM), ("dstate", DSTATE)]);
    let outputs = StateUpdateOutputs::new(&mut state, &mut out_view).token_states(&mut kept_view);
    cpu.forward(&inputs.update(A, PROMPT, GUESSED)?, outputs)?;
    worst = worst.max(difference(&out, &whole, PROMPT, GUESSED));
    for (b, slot) in ROWS.into_iter().enumerate() {
        cache[slot as usize * row..][..row].copy_from_slice(&kept[b * GUESSED * row..][..row]);
    }

    // A token per call.
    for t in PROMPT + 1..PROMPT + TOKENS {
        let mut out = vec![0.0; SEQUENCES * DIM];
        let (mut state, mut out_view) = (ViewMut::new(&mut cache, slots), ViewMut::new(&mut out, sequence(1)));
        cpu.forward(&inputs.update(A, t, 1)?, StateUpdateOutputs::new(&mut state, &mut out_view))?;
        worst = worst.max(difference(&out, &whole, t, 1));
    }
    println!("{PROMPT} + {TOKENS} tokens of {SEQUENCES} sequences: at most {worst:e} from one scan over all of them");
    if !worst.is_finite() || worst > 1e-5 {
        return Err(format!("off by {worst:e}").into());
    }
    if cache.chunks_exact(row).enumerate().any(|(slot, state)| !ROWS.contains(&(slot as i32)) && !state[0].is_nan()) {
        return Err("a row of the cache that is no sequence's was written".into());
    }
    Ok(())
}
