//! Forward: tiles of channels of one part of one sequence, a few steps at a time. Where sequences are cut, what each part
//! makes of nothing first, then each part in full from what was carried.

use super::advance::Advance;
use super::ahead::Ahead;
use super::carry::{Order, Rows, between_parts};
use super::memory::{MOST_CHANNELS, Memory, Shape, tiling};
use super::stage::Tile;
use super::tiling::Tiling;
use super::{Cut, Scan};
use crate::cpu::math::decay::Exponents;
use crate::cpu::writer::Writer;
use crate::cpu::{Cpu, LEAST_STEPS};
use crate::error::Result;
use crate::ops::selective_scan::{CheckedOutputs, ChunkStates, Dims, Inputs, SelectiveScanOutputs};
use crate::ops::{Forward, Operator, Workspace};
use crate::plan::{Plan, as_f32};
use crate::tensor::{Element, Host, Layout, Strided, StridedMut};
use pulp::{Simd, WithSimd};
use std::iter::StepBy;
use std::ops::Range;

impl<'a, T: Element> Forward<Scan<'a, T>> for Cpu {
    fn forward_plan(&self, op: &Scan<'a, T>) -> Result<Plan> {
        Ok(plan(&op.inputs()?))
    }

    fn forward_with(
        &self,
        op: &Scan<'a, T>,
        outputs: SelectiveScanOutputs<'_, T, Host>,
        given: &Plan,
        workspace: Workspace<'_, Host>,
    ) -> Result<()> {
        let inputs = op.inputs()?;
        let outputs = outputs.check(&inputs)?;
        plan(&inputs).check(Scan::<T>::NAME, given, &workspace)?;
        // With nothing to write there may be rows beyond counting.
        if outputs.are_empty() {
            return Ok(());
        }
        let floats = Floats::new(&inputs, Cut::new(&inputs), usize::MAX);
        run(*self, &inputs, outputs, floats, workspace);
        Ok(())
    }

    fn forward(&self, op: &Scan<'a, T>, outputs: SelectiveScanOutputs<'_, T, Host>) -> Result<()> {
        let inputs = op.inputs()?;
        let outputs = outputs.check(&inputs)?;
        if outputs.are_empty() {
            return Ok(());
        }
        let floats = Floats::new(&inputs, Cut::new(&inputs), self.threads());
        let mut memory = plan(&inputs).allocate_floats(floats.rows.saturating_add(floats.workers))?;
        run(*self, &inputs, outputs, floats, (&mut memory).into());
        Ok(())
    }
}

fn run<T: Element>(
    cpu: Cpu,
    inputs: &Inputs<'_, T, Host>,
    outputs: CheckedOutputs<'_, T, Host>,
    floats: Floats,
    workspace: Workspace<'_, Host>,
) {
    let ((tiling, shape), cut) = (tiling(inputs), Cut::new(inputs));
    let (rows, memory) = as_f32(workspace, floats.rows + floats.workers).split_at_mut(floats.rows);
    let CheckedOutputs { out, final_state, chunk_states, delta_sum, .. } = outputs;
    let delta_sum = delta_sum.map(Writer::new);
    let mut pass = Pass {
        inputs,
        tiling,
        shape,
        cut,
        start: inputs.initial_state,
        out: out.map(Writer::new),
        final_state: final_state.map(Writer::new),
        per_part: false,
        chunks: chunk_states.map(|ChunkStates { every, offsets, states }| (every, offsets, Writer::new(states))),
        delta_sum: None,
    };
    if cut.split == 1 {
        pass.delta_sum = delta_sum;
        return pass.run(cpu, memory, true);
    }
    local_states(cpu, inputs, cut, rows, memory, delta_sum.is_some());
    if let Some(delta_sum) = &delta_sum {
        sum_parts(cpu, inputs, cut, rows, delta_sum);
    }
    between_parts(cpu, inputs, cut, Order::Scan, inputs.initial_state, rows);
    pass.start = Some(Strided { memory: (&*rows).into(), layout: Rows::layout(cut, inputs) });
    pass.run(cpu, memory, true);
}

/// What every part makes of the state 0, and its sum of delta: the last parts only if `all`.
pub(super) fn local_states<T: Element>(
    cpu: Cpu,
    inputs: &Inputs<'_, T, Host>,
    cut: Cut,
    rows: &mut [f32],
    memory: &mut [f32],
    all: bool,
) {
    let layout = Rows::layout(cut, inputs);
    let [parts, dim, dstate] = layout.extents;
    let states = Writer::new(StridedMut { memory: rows.into(), layout });
    let sums = Layout { extents: [parts, dim], strides: [layout.strides[0], layout.strides[1]] };
    let delta_sum = Some(states.beside(dstate, sums));
    let (tiling, shape) = tiling(inputs);
    let nothing = Pass {
        inputs,
        tiling,
        shape,
        cut,
        start: None,
        out: None,
        final_state: Some(states),
        per_part: true,
        chunks: None,
        delta_sum,
    };
    nothing.run(cpu, memory, all);
}

/// The sums of a sequence's parts.
fn sum_parts<T: Element>(
    cpu: Cpu,
    inputs: &Inputs<'_, T, Host>,
    cut: Cut,
    rows: &[f32],
    delta_sum: &Writer<'_, f32, 2>,
) {
    let Dims { nseqs, dim, dstate, .. } = inputs.dims;
    cpu.for_each_plain(nseqs * dim, |i| {
        let (seq, d) = (i / dim, i % dim);
        let width = Rows::width(dstate);
        let sum = (0..cut.split).map(|part| f64::from(rows[((seq * cut.split + part) * dim + d + 1) * width - 1]));
        // SAFETY: (seq, d) is below the extents, and each is one task.
        unsafe { delta_sum.write([seq, d], sum.sum::<f64>() as f32) };
    });
}

/// f32 of the rows between parts, and of the workers that have a thread.
#[derive(Debug, Clone, Copy)]
pub(super) struct Floats {
    pub rows: usize,
    pub workers: usize,
}

impl Floats {
    pub fn new<T: Element>(inputs: &Inputs<'_, T, Host>, cut: Cut, threads: usize) -> Self {
        let (tiling, shape) = tiling(inputs);
        let workers = workers(inputs, cut, &tiling).min(threads).saturating_mul(shape.floats());
        Self { rows: if cut.split > 1 { Rows::floats(cut, inputs) } else { 0 }, workers }
    }
}

/// Tasks with memory of their own: more than a machine has cores, as a rule, and the same number on every machine. Of a
/// short call so few that waking a thread is worth it, and that their memory stays in the nearest cache.
fn workers<T: Element>(inputs: &Inputs<'_, T, Host>, cut: Cut, tiling: &Tiling) -> usize {
    const MOST: usize = 128;
    let Dims { batch, dim, seqlen, dstate, nseqs } = inputs.dims;
    let tasks = nseqs.saturating_mul(cut.split).saturating_mul(tiling.count);
    // A step without states, and a sequence without steps, have work too.
    let state_steps = [batch, dim, seqlen.max(1), dstate.max(1)].into_iter().fold(1, usize::saturating_mul);
    tasks.min(MOST).min(state_steps.div_ceil(LEAST_STEPS).max(1))
}

fn plan<T: Element>(inputs: &Inputs<'_, T, Host>) -> Plan {
    let cut = Cut::new(inputs);
    let Floats { rows, workers } = Floats::new(inputs, cut, usize::MAX);
    cut.plan("fwd", inputs, rows.saturating_add(workers))
}

/// One run over all parts of all sequences.
pub struct Pass<'p, 'a, T: Element> {
    inputs: &'p Inputs<'a, T, Host>,
    tiling: Tiling,
    shape: Shape,
    cut: Cut,
    /// What a part or, in one part, a sequence starts from.
    start: Option<Strided<'p, f32, Host, 3>>,
    out: Option<Writer<'p, T, 3>>,
    /// A row for each sequence, or for each part.
    final_state: Option<Writer<'p, f32, 3>>,
    per_part: bool,
    chunks: Option<(usize, Vec<usize>, Writer<'p, f32, 3>)>,
    /// A row for each part.
    delta_sum: Option<Writer<'p, f32, 2>>,
}

impl<'a, T: Element> Pass<'_, 'a, T> {
    /// Without the last part of each sequence, unless `all`.
    fn run(&self, cpu: Cpu, memory: &mut [f32], all: bool) {
        let (inputs, cut) = (self.inputs, self.cut);
        let threads = cpu.threads();
        let workers = workers(inputs, cut, &self.tiling);
        let shape = self.shape;
        let count = inputs.dims.nseqs * cut.split * self.tiling.count;
        cpu.for_each_with(0..workers, memory, shape.floats(), |worker, memory| {
            let tasks = (worker..count).step_by(workers);
            let memory = Memory::new(shape, memory);
            let then = Some(worker + threads).filter(|&then| then < workers);
            let asked = threads == 1 && worker > 0;
            T::selective_scan_forward(cpu, Worker { pass: self, tasks, then, asked, all, memory });
        });
    }

    /// Sequence, part and tile of a task.
    fn place(&self, task: usize) -> [usize; 3] {
        let (split, tiles) = (self.cut.split, self.tiling.count);
        [task / (split * tiles), task / tiles % split, task % tiles]
    }

    fn tile(&self, task: usize) -> Tile<'_, 'a, T> {
        let [seq, _, tile] = self.place(task);
        Tile {
            inputs: self.inputs,
            span: self.inputs.span(seq),
            channels: self.tiling.channels(tile),
            short: self.shape.short,
        }
    }

    /// The first steps of a task.
    fn ahead_of(&self, task: usize, out: Option<&Writer<'_, T, 3>>) -> Ahead {
        let ([_, part, _], tile) = (self.place(task), self.tile(task));
        let steps = self.cut.steps(tile.span.len, part);
        tile.ahead(&tile.span.times(steps.start..(steps.start + self.shape.steps).min(steps.end)), out)
    }

    #[inline(always)]
    fn part<S: Simd>(&self, simd: S, task: usize, then: Option<usize>, memory: &mut Memory<'_>) {
        let [seq, part, _] = self.place(task);
        let tile = self.tile(task);
        let (span, row) = (tile.span, seq * self.cut.split + part);
        let (steps, mut sums) = (self.cut.steps(span.len, part), [0.0f64; MOST_CHANNELS]);
        tile.load_constants(memory);
        tile.load_state(self.start.as_ref(), row, memory);
        let mut from = steps.start;
        while from < steps.end {
            let chunk_end =
                self.chunks.as_ref().map_or(usize::MAX, |(every, ..)| (from / every + 1).saturating_mul(*every));
            let to = (from + memory.shape.steps).min(steps.end).min(chunk_end);
            let times = span.times(from..to);
            let delta = tile.stage(simd, times.clone(), memory);
            let mut ahead = match then {
                Some(then) if to == steps.end && !tile.short => self.ahead_of(then, self.out.as_ref()),
                _ => tile.ahead(&span.times(to..(to + memory.shape.steps).min(steps.end)), self.out.as_ref()),
            };
            simd.vectorize(Advance {
                A: tile.rows_of_A(memory.shape),
                memory: &mut *memory,
                channels: tile.channels.len(),
                steps: times.len(),
                back: span.reverse,
                exponents: Exponents::new(delta),
                output: self.out.is_some(),
                ahead: &mut ahead,
            });
            if self.delta_sum.is_some() {
                add_steps(&mut sums, memory, times.len(), span.reverse);
            }
            if let Some(out) = &self.out {
                // SAFETY: each step of each channel is of one task.
                unsafe { tile.finish(simd, out, times.clone(), memory) };
            }
            if let (Some((every, offsets, states)), true) = (&self.chunks, to == chunk_end) {
                // SAFETY: a sequence's full chunk, which only this task ends.
                unsafe { tile.store_state(states, offsets[seq] + to / every - 1, memory) };
            }
            from = to;
        }
        if let Some(delta_sum) = &self.delta_sum {
            for (d, &sum) in tile.channels.clone().zip(&sums) {
                // SAFETY: the part's channels are this task's.
                unsafe { delta_sum.write([row, d], sum as f32) };
            }
        }
        // The last part that has steps, or the first.
        let last = self.per_part || (steps.end == span.len && (part == 0 || !steps.is_empty()));
        if let (Some(final_state), true) = (&self.final_state, last) {
            // SAFETY: as above; only one part of a sequence is the last.
            unsafe { tile.store_state(final_state, if self.per_part { row } else { seq }, memory) };
        }
    }
}

/// Adds the staged steps of each channel, in f64 and in their order.
#[inline(always)]
pub(super) fn add_steps(sums: &mut [f64], memory: &Memory<'_>, steps: usize, back: bool) {
    for i in 0..steps {
        let row = if back { steps - 1 - i } else { i };
        let deltas = &memory.delta[row * memory.shape.width..][..memory.shape.width];
        sums.iter_mut().zip(deltas).for_each(|(sum, &delta)| *sum += f64::from(delta));
    }
}

/// The tasks that share a memory.
pub struct Worker<'w, 'p, 'a, T: Element> {
    pass: &'w Pass<'p, 'a, T>,
    tasks: StepBy<Range<usize>>,
    /// What the thread takes next: a guess, if there are several threads.
    then: Option<usize>,
    /// The thread has asked for the first task already.
    asked: bool,
    all: bool,
    memory: Memory<'w>,
}

impl<T: Element> WithSimd for Worker<'_, '_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let (pass, split) = (self.pass, self.pass.cut.split);
        let mut tasks = self.tasks.filter(|&task| self.all || pass.place(task)[1] + 1 < split).peekable();
        if let (Some(&first), false) = (tasks.peek(), self.asked || pass.shape.short) {
            pass.ahead_of(first, None).ask_all();
        }
        while let Some(task) = tasks.next() {
            pass.part(simd, task, tasks.peek().copied().or(self.then), &mut self.memory);
        }
    }
}
