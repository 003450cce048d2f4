//! The forward direction.

use super::decays::{self, Decays, all_finite, normal, nothing};
use super::features::{self, Shape, Steps};
use super::rows::{Head, load, load_state, store_state, turn, turn_floats};
use super::{Chunks, LANES, MOST_WORKERS, TILE, plan, tile};
use crate::cpu::Cpu;
use crate::cpu::tasks::take;
use crate::cpu::writer::Writer;
use crate::error::Result;
use crate::ops::squared_attention::{CheckedOutputs, Inputs, SquaredAttention, SquaredAttentionOutputs};
use crate::ops::{Forward, Operator, Workspace};
use crate::plan::{Plan, as_f32};
use crate::tensor::{Element, Host};
use pulp::{Simd, WithSimd};
use std::ops::Range;

type Attention<'a, T> = SquaredAttention<'a, T, Host>;

impl<'a, T: Element> Forward<Attention<'a, T>> for Cpu {
    fn forward_plan(&self, op: &Attention<'a, T>) -> Result<Plan> {
        Ok(forward_plan(&op.inputs()?))
    }

    fn forward_with(
        &self,
        op: &Attention<'a, T>,
        outputs: SquaredAttentionOutputs<'_, T, Host>,
        given: &Plan,
        workspace: Workspace<'_, Host>,
    ) -> Result<()> {
        let inputs = op.inputs()?;
        let outputs = outputs.check(&inputs)?;
        forward_plan(&inputs).check(Attention::<T>::NAME, given, &workspace)?;
        let workers = inputs.dims.tasks().min(MOST_WORKERS);
        run(*self, &inputs, outputs, as_f32(workspace, floats(&inputs).saturating_mul(workers)));
        Ok(())
    }

    fn forward(&self, op: &Attention<'a, T>, outputs: SquaredAttentionOutputs<'_, T, Host>) -> Result<()> {
        let inputs = op.inputs()?;
        let outputs = outputs.check(&inputs)?;
        if outputs.are_empty() {
            return Ok(());
        }
        let used = floats(&inputs).saturating_mul(inputs.dims.tasks().min(MOST_WORKERS).min(self.threads()));
        let mut workspace = forward_plan(&inputs).allocate_floats(used)?;
        run(*self, &inputs, outputs, as_f32((&mut workspace).into(), used));
        Ok(())
    }
}

fn chunks<T: Element>(inputs: &Inputs<'_, T, Host>) -> Chunks {
    Chunks::new(inputs.dims.shape(), inputs.chunk_size, false)
}

fn forward_plan<T: Element>(inputs: &Inputs<'_, T, Host>) -> Plan {
    plan("fwd", inputs, chunks(inputs), floats(inputs))
}

/// f32 of a worker.
fn floats<T: Element>(inputs: &Inputs<'_, T, Host>) -> usize {
    let [steps, _] = chunks(inputs).most(inputs);
    Memory::sizes(inputs.dims.shape(), steps).into_iter().fold(0, usize::saturating_add)
}

/// In the memory of one worker or more.
fn run<T: Element>(cpu: Cpu, inputs: &Inputs<'_, T, Host>, outputs: CheckedOutputs<'_, T, Host>, memory: &mut [f32]) {
    // With nothing to write there may be heads beyond counting.
    if outputs.are_empty() {
        return;
    }
    let pass = Pass {
        inputs,
        chunks: chunks(inputs),
        out: Writer::new(outputs.out),
        final_state: outputs.final_state.map(Writer::new),
        final_norm: outputs.final_norm.map(Writer::new),
    };
    let floats = floats(inputs);
    cpu.for_each_with(0..inputs.dims.tasks(), memory, floats, |task, memory| pass.task(cpu, task, memory));
}

/// One call.
struct Pass<'p, 'a, T: 'a> {
    inputs: &'p Inputs<'a, T, Host>,
    chunks: Chunks,
    out: Writer<'p, T, 4>,
    final_state: Option<Writer<'p, f32, 4>>,
    final_norm: Option<Writer<'p, f32, 3>>,
}

/// The memory of a worker. Rows of steps have an element of each step of a tile.
pub(super) struct Memory<'m> {
    pub state: &'m mut [f32],
    /// A row for each step of a chunk; those of v have a 1 at their end, which makes the norm of it.
    pub k: &'m mut [f32],
    pub v: &'m mut [f32],
    pub logs: &'m mut [f32],
    /// Decays between a tile and the steps of a chunk.
    pub decays: &'m mut [f32],
    /// Rows of steps.
    pub q: &'m mut [f32],
    pub sums: &'m mut [f32],
    pub products: &'m mut [f32],
    pub within: &'m mut [f32],
    pub scratch: &'m mut [f32],
    /// Rows of q or out before they are turned.
    pub rows: &'m mut [f32],
}

impl<'m> Memory<'m> {
    pub fn sizes(shape: Shape, steps: usize) -> [usize; 11] {
        let rows = |width: usize| steps.saturating_mul(width);
        let tile = |width: usize| TILE.saturating_mul(width);
        let widest = shape.dim.max(shape.values);
        [
            shape.state(),
            rows(shape.dim),
            rows(shape.values),
            rows(1),
            rows(2).saturating_add(2 * LANES),
            tile(shape.dim),
            tile(shape.values),
            tile::FLOATS,
            tile::FLOATS,
            features::FLOATS.max(Decays::floats(tile::FLOATS)),
            tile(widest).max(turn_floats(shape)),
        ]
    }

    pub fn new(shape: Shape, steps: usize, memory: &mut &'m mut [f32]) -> Self {
        let [state, k, v, logs, decays, q, sums, products, within, scratch, rows] =
            Self::sizes(shape, steps).map(|floats| take(memory, floats));
        Self { state, k, v, logs, decays, q, sums, products, within, scratch, rows }
    }
}

impl<T: Element> Pass<'_, '_, T> {
    /// One head of one sequence.
    fn task(&self, cpu: Cpu, task: usize, mut memory: &mut [f32]) {
        let (inputs, dims) = (self.inputs, self.inputs.dims);
        let span = inputs.sequences().span(task / dims.nheads);
        let at = Head { batch: span.batch, head: task % dims.nheads, seq: task / dims.nheads, start: span.start };
        let (shape, size) = (dims.shape(), self.chunks.steps(span.len));
        let mut memory = Memory::new(shape, size.min(span.len), &mut memory);
        let (state, norm) = (inputs.initial.as_ref().map(|i| &i.state), inputs.initial.as_ref().map(|i| &i.norm));
        let kept = self.final_state.is_some() || self.final_norm.is_some();
        let mut lives = inputs.initial.is_some();
        if lives || kept {
            load_state(shape, state, norm, at, memory.state, memory.rows);
        }
        for first in (0..span.len).step_by(size) {
            let last = (first + size).min(span.len);
            let mut chunk = Chunk::load(inputs, at, first..last, lives, &mut memory);
            for t in (0..last - first).step_by(TILE) {
                chunk.attend(cpu, inputs, t);
                self.store(at, first + t, (last - first - t).min(TILE), chunk.memory);
            }
            if kept || last < span.len {
                chunk.remember(cpu, inputs.scale_squared);
                lives = true;
            }
        }
        // SAFETY: a head's state is of one task.
        unsafe {
            store_state(shape, memory.state, at, self.final_state.as_ref(), self.final_norm.as_ref(), memory.rows)
        };
    }

    /// Divides the sums of a tile by their norm and writes them, as `count` steps from `first` on.
    fn store(&self, at: Head, first: usize, count: usize, memory: &mut Memory<'_>) {
        let vdim = self.inputs.dims.vdim;
        if vdim == 0 {
            return;
        }
        normalise(memory.sums, vdim);
        for (t, row) in memory.rows.chunks_exact_mut(vdim).take(count).enumerate() {
            for (to, &value) in row.iter_mut().zip(memory.sums[t..].iter().step_by(TILE)) {
                *to = value;
            }
            // SAFETY: a head's steps are of one task.
            unsafe { self.out.run([at.batch, at.head, at.start + first + t, 0], 3, row) };
        }
    }
}

/// Each row of steps but the last divided by the last, which is the norm; 0 where that is 0.
fn normalise(sums: &mut [f32], vdim: usize) {
    let (values, norm) = sums.split_at_mut(vdim * TILE);
    for row in values.chunks_exact_mut(TILE) {
        for (value, &norm) in row.iter_mut().zip(norm.iter()) {
            *value = if norm == 0.0 { 0.0 } else { *value / norm };
        }
    }
}

/// Some steps of a head whose rows lie in memory.
pub(super) struct Chunk<'c, 'm> {
    pub at: Head,
    shape: Shape,
    /// Counted from the sequence's start.
    pub steps: Range<usize>,
    /// Whether there is a state before it.
    pub lives: bool,
    /// All elements of the state are finite, and of k and v.
    finite: [bool; 2],
    pub memory: &'c mut Memory<'m>,
}

impl<'c, 'm> Chunk<'c, 'm> {
    pub fn load<T: Element>(
        inputs: &Inputs<'_, T, Host>,
        at: Head,
        steps: Range<usize>,
        lives: bool,
        memory: &'c mut Memory<'m>,
    ) -> Self {
        let shape = inputs.dims.shape();
        let (vdim, count) = (shape.values - 1, steps.len());
        load(&inputs.k, at, steps.clone(), memory.k, shape.dim);
        load(&inputs.v, at, steps.clone(), memory.v, shape.values);
        memory.v.iter_mut().skip(vdim).step_by(shape.values).take(count).for_each(|one| *one = 1.0);
        inputs.log_decay.run([at.batch, at.head, at.start + steps.start], 2, &mut memory.logs[..count]);
        let rows = [(&*memory.k, shape.dim), (&*memory.v, shape.values)];
        let finite = [
            lives && all_finite(&memory.state[..shape.state()]),
            rows.into_iter().all(|(rows, width)| all_finite(&rows[..count * width])),
        ];
        Self { at, shape, steps, lives, finite, memory }
    }

    /// Sums over all steps before or at those of the tile at `t`: rows of steps, one for each value and one for the norm.
    pub fn attend<T: Element>(&mut self, cpu: Cpu, inputs: &Inputs<'_, T, Host>, t: usize) {
        let count = (self.steps.len() - t).min(TILE);
        let first = self.steps.start + t;
        load(&inputs.q, self.at, first..first + count, self.memory.rows, self.shape.dim);
        let (shape, lives, finite, scale) = (self.shape, self.lives, self.finite, inputs.scale_squared);
        Attend { shape, lives, finite, scale, t, count, memory: self.memory }.run(cpu);
    }

    /// Takes the chunk's steps into the state.
    pub fn remember(&mut self, cpu: Cpu, scale: f32) {
        let (shape, lives, finite, count) = (self.shape, self.lives, self.finite[1], self.steps.len());
        Remember { shape, lives, finite, scale, count, memory: self.memory }.run(cpu);
    }
}

/// [`Chunk::attend`], the rows of q being in memory.
struct Attend<'c, 'm> {
    shape: Shape,
    lives: bool,
    finite: [bool; 2],
    scale: f32,
    t: usize,
    count: usize,
    memory: &'c mut Memory<'m>,
}

impl Attend<'_, '_> {
    fn run(self, cpu: Cpu) {
        cpu.dispatch(self);
    }
}

impl WithSimd for Attend<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { shape, scale, t, count, .. } = self;
        let Memory { state, k, v, logs, decays, q, sums, products, within, scratch, rows } = self.memory;
        turn(rows, shape.dim, [count, shape.dim], q);
        let from_chunk = decays::behind(simd, &logs[..t], scale, decays);
        let later = decays_of_tile(simd, &logs[t..t + count]);
        sums[..shape.values * TILE].fill(0.0);
        let mut factors = later;
        factors.iter_mut().for_each(|factor| *factor = normal(*factor * from_chunk));
        if self.lives && !(self.finite[0] && nothing(&factors)) {
            simd.vectorize(features::Read { shape, state, x: q, sums, block: scratch });
            tile::scale_steps(&mut sums[..shape.values * TILE], &factors);
        }
        for m in (0..t).step_by(TILE) {
            let (k, v) = (&k[m * shape.dim..], &v[m * shape.values..]);
            // Where all is finite, nothing of it is nothing.
            if !tile::decays_between(&decays[m..m + TILE], &later, within) && self.finite[1] {
                continue;
            }
            tile::dot(simd, k, shape.dim, [TILE, shape.dim], q, products);
            tile::weights(products, within);
            tile::gather(simd, products, v, shape.values, [TILE, shape.values], sums, false);
        }
        let (k, v, products) = (&k[t * shape.dim..], &v[t * shape.values..], &mut products[..count * TILE]);
        tile::dot(simd, k, shape.dim, [count, shape.dim], q, products);
        tile::decays_within(simd, &logs[t..t + count], scale, scratch, within);
        tile::weights(products, within);
        tile::mask(products);
        tile::gather(simd, products, v, shape.values, [count, shape.values], sums, !self.finite[1]);
    }
}

/// [`Chunk::remember`].
struct Remember<'c, 'm> {
    shape: Shape,
    lives: bool,
    finite: bool,
    scale: f32,
    count: usize,
    memory: &'c mut Memory<'m>,
}

impl Remember<'_, '_> {
    fn run(self, cpu: Cpu) {
        cpu.dispatch(self);
    }
}

impl WithSimd for Remember<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { shape, lives, finite, scale, count, memory } = self;
        let whole = decays::behind(simd, &memory.logs[..count], scale, memory.decays);
        let Memory { state, k, v, decays, scratch, .. } = memory;
        let (x_pitch, values_pitch) = (shape.dim, shape.values);
        let steps = Steps { x: k, x_pitch, values: v, values_pitch, factors: decays, count, finite };
        let decay = lives.then_some(whole);
        simd.vectorize(features::Write { shape, decay, steps, state, block: scratch });
    }
}

/// The decays from before a tile to each of its steps, of which `logs` are the logarithms; 1 for the steps that there are not.
#[inline(always)]
pub(super) fn decays_of_tile<S: Simd>(simd: S, logs: &[f32]) -> [f32; TILE] {
    let mut memory = [0.0; 2 * TILE];
    let mut decays = Decays::new(TILE, &mut memory);
    let mut sum = 0.0;
    for (t, &log) in logs.iter().enumerate() {
        sum += f64::from(log);
        decays.set(t, sum);
    }
    decays.powers(simd);
    *memory.first_chunk().expect("as many as a tile")
}
