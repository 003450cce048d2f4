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
const LEN: usize = PROMPT + TOKENS;
/// Of a guess.
const GUESSED: usize = 3;
/// Rows of the cache; the sequences have these.
const SLOTS: usize = 5;
const ROWS: [i32; SEQUENCES] = [3, 1];

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What a model would compute from tokens: x, dt, z as (batch, seqlen, dim), B and C as (batch, seqlen, dstate).
struct Inputs([Vec<f32>; 3], [Vec<f32>; 2]);

impl Inputs {
    fn new() -> Self {
        let wave = |per_step: usize, phase: usize| {
            (0..SEQUENCES * LEN * per_step).map(|i| (i as f32 * 0.7 + phase as f32).sin()).collect()
        };
        Self([0, 1, 2].map(|phase| wave(DIM, phase)), [3, 4].map(|phase| wave(DSTATE, phase)))
    }

    /// x, dt, z, B and C of tokens `from..from + count` of every sequence: strided views, no copies.
    fn tokens(&self, from: usize, count: usize) -> [View<'_, f32>; 5] {
        let batch_and_time = |step: usize| [("batch", SEQUENCES, (LEN * step) as i64), ("seqlen", count, step as i64)];
        let [x, dt, z] = self.0.each_ref().map(|data| {
            let [batch, time] = batch_and_time(DIM);
            View::strided(&data[from * DIM..], [batch, time, ("dim", DIM, 1)])
        });
        let [B, C] = self.1.each_ref().map(|data| {
            let [batch, time] = batch_and_time(DSTATE);
            View::strided(&data[from * DSTATE..], [batch, time, ("ngroups", 1, 0), ("dstate", DSTATE, 1)])
        });
        [x, dt, z, B, C]
    }

    /// The first tokens, by the scan.
    fn scan<'v>(&'v self, A: View<'v, f32>, count: usize) -> Result<SelectiveScan<'v, f32>> {
        let [x, dt, z, B, C] = self.tokens(0, count);
        Ok(SelectiveScan::new(x, dt, A, B, C)?.z(z).dt_softplus(true))
    }

    /// Tokens `from..from + count`, by the update.
    fn update<'v>(&'v self, A: View<'v, f32>, from: usize, count: usize) -> Result<StateUpdate<'v, f32>> {
        let [x, dt, z, B, C] = self.tokens(from, count);
        let update = StateUpdate::new(x, dt, A, B, C)?.z(z).dt_softplus(true);
        Ok(update.state_indices(View::new(&ROWS, [("batch", SEQUENCES)])))
    }
}

/// Whether `out`, which begins at step `from`, is what the whole has there.
fn agrees(out: &[f32], whole: &[f32], from: usize, count: usize) -> bool {
    let at = |i: usize| (i / (count * DIM) * LEN + from + i / DIM % count) * DIM + i % DIM;
    out.iter().enumerate().all(|(i, out)| (out - whole[at(i)]).abs() <= 1e-5)
}

/// Decodes, and fails if what comes out is not the scan's.
pub fn main() -> Result<()> {
    let (cpu, inputs) = (Cpu::new(), Inputs::new());
    let matrix: Vec<f32> = (0..DIM * DSTATE).map(|i| -((i % DSTATE + 1) as f32)).collect();
    let A = View::new(&matrix, [("dim", DIM), ("dstate", DSTATE)]);
    let sequence = |count| [("batch", SEQUENCES), ("seqlen", count), ("dim", DIM)];

    let mut whole = vec![0.0; SEQUENCES * LEN * DIM];
    let mut view = ViewMut::new(&mut whole, sequence(LEN));
    cpu.forward(&inputs.scan(A, LEN)?, SelectiveScanOutputs::new(&mut view))?;

    // The prompts, and their last states into the cache.
    let row = DIM * DSTATE;
    let (mut out, mut last) = (vec![0.0; SEQUENCES * PROMPT * DIM], vec![0.0; SEQUENCES * row]);
    let mut out_view = ViewMut::new(&mut out, sequence(PROMPT));
    let mut last_view = ViewMut::new(&mut last, [("batch", SEQUENCES), ("dim", DIM), ("dstate", DSTATE)]);
    let outputs = SelectiveScanOutputs::new(&mut out_view).final_state(&mut last_view);
    cpu.forward(&inputs.scan(A, PROMPT)?, outputs)?;
    let mut same = agrees(&out, &whole, 0, PROMPT);
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
    same &= agrees(&out, &whole, PROMPT, GUESSED);
    for (b, slot) in ROWS.into_iter().enumerate() {
        cache[slot as usize * row..][..row].copy_from_slice(&kept[b * GUESSED * row..][..row]);
    }

    // A token per call.
    for t in PROMPT + 1..LEN {
        let mut out = vec![0.0; SEQUENCES * DIM];
        let (mut state, mut out_view) = (ViewMut::new(&mut cache, slots), ViewMut::new(&mut out, sequence(1)));
        cpu.forward(&inputs.update(A, t, 1)?, StateUpdateOutputs::new(&mut state, &mut out_view))?;
        same &= agrees(&out, &whole, t, 1);
    }
    // Rows of the cache that are no sequence's were not written.
    let mut others = (0..SLOTS).filter(|&slot| !ROWS.contains(&(slot as i32)));
    same &= others.all(|slot| cache[slot * row..][..row].iter().all(|state| state.is_nan()));
    println!("{PROMPT} + {TOKENS} tokens of {SEQUENCES} sequences: {}", if same { "those of one scan" } else { "off" });
    if same { Ok(()) } else { Err("decoding is not what one scan gives".into()) }
}
