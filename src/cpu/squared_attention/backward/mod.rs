//! The backward direction: forward once more, keeping the state before each chunk and what the norms are, then chunk by chunk
//! from the last to the first, with the gradient by the state behind each.

mod chunk;
mod memory;
mod steps;

use super::features::Shape;
use super::forward::Chunk as ForwardChunk;
use super::rows::{Head, load, load_state, store_state, turn};
use super::{Chunks, MOST_WORKERS, TILE, plan};
use crate::cpu::Cpu;
use crate::cpu::writer::Writer;
use crate::error::Result;
use crate::ops::squared_attention::{
    CheckedGradients, CheckedUpstream, Inputs, SquaredAttention, SquaredAttentionGradients, SquaredAttentionUpstream,
};
use crate::ops::{Backward, Operator, Workspace};
use crate::plan::{Plan, as_f32};
use crate::tensor::{Element, Host};
use chunk::Work;
use memory::{Memory, Pitches};

type Attention<'a, T> = SquaredAttention<'a, T, Host>;

impl<'a, T: Element> Backward<Attention<'a, T>> for Cpu {
    fn backward_plan(&self, op: &Attention<'a, T>) -> Result<Plan> {
        Ok(backward_plan(&op.inputs()?))
    }

    fn backward_with(
        &self,
        op: &Attention<'a, T>,
        upstream: SquaredAttentionUpstream<'_, T, Host>,
        gradients: SquaredAttentionGradients<'_, T, Host>,
        given: &Plan,
        workspace: Workspace<'_, Host>,
    ) -> Result<()> {
        let inputs = op.inputs()?;
        let upstream = upstream.check(&inputs)?;
        let gradients = gradients.check(&inputs, &upstream)?;
        backward_plan(&inputs).check(Attention::<T>::NAME, given, &workspace)?;
        let workers = inputs.dims.tasks().min(MOST_WORKERS);
        let memory = as_f32(workspace, floats(&inputs).saturating_mul(workers));
        run(*self, &inputs, upstream, gradients, memory);
        Ok(())
    }

    fn backward(
        &self,
        op: &Attention<'a, T>,
        upstream: SquaredAttentionUpstream<'_, T, Host>,
        gradients: SquaredAttentionGradients<'_, T, Host>,
    ) -> Result<()> {
        let inputs = op.inputs()?;
        let upstream = upstream.check(&inputs)?;
        let gradients = gradients.check(&inputs, &upstream)?;
        if gradients.are_empty() {
            return Ok(());
        }
        let used = floats(&inputs).saturating_mul(inputs.dims.tasks().min(MOST_WORKERS).min(self.threads()));
        let mut workspace = backward_plan(&inputs).allocate_floats(used)?;
        run(*self, &inputs, upstream, gradients, as_f32((&mut workspace).into(), used));
        Ok(())
    }
}

fn chunks<T: Element>(inputs: &Inputs<'_, T, Host>) -> Chunks {
    Chunks::new(inputs.dims.shape(), inputs.chunk_size, true)
}

fn backward_plan<T: Element>(inputs: &Inputs<'_, T, Host>) -> Plan {
    plan("bwd", inputs, chunks(inputs), floats(inputs))
}

/// f32 of a worker.
fn floats<T: Element>(inputs: &Inputs<'_, T, Host>) -> usize {
    let [steps, count] = chunks(inputs).most(inputs);
    Memory::floats(inputs.dims.shape(), [steps, count, inputs.sequences().longest()])
}

/// In the memory of one worker or more.
fn run<T: Element>(
    cpu: Cpu,
    inputs: &Inputs<'_, T, Host>,
    upstream: CheckedUpstream<'_, T, Host>,
    gradients: CheckedGradients<'_, T, Host>,
    memory: &mut [f32],
) {
    // With nothing to write there may be heads beyond counting.
    if gradients.are_empty() {
        return;
    }
    let pass = Pass {
        inputs,
        upstream,
        chunks: chunks(inputs),
        dq: gradients.dq.map(Writer::new),
        dk: gradients.dk.map(Writer::new),
        dv: gradients.dv.map(Writer::new),
        dlog_decay: gradients.dlog_decay.map(Writer::new),
        dinitial_state: gradients.dinitial_state.map(Writer::new),
        dinitial_norm: gradients.dinitial_norm.map(Writer::new),
    };
    let floats = floats(inputs);
    cpu.for_each_with(0..inputs.dims.tasks(), memory, floats, |task, memory| pass.task(cpu, task, memory));
}

/// One call.
struct Pass<'p, 'a, T: 'a> {
    inputs: &'p Inputs<'a, T, Host>,
    upstream: CheckedUpstream<'p, T, Host>,
    chunks: Chunks,
    dq: Option<Writer<'p, T, 4>>,
    dk: Option<Writer<'p, T, 4>>,
    dv: Option<Writer<'p, T, 4>>,
    dlog_decay: Option<Writer<'p, f32, 3>>,
    dinitial_state: Option<Writer<'p, f32, 4>>,
    dinitial_norm: Option<Writer<'p, f32, 3>>,
}

impl<T: Element> Pass<'_, '_, T> {
    /// One head of one sequence.
    fn task(&self, cpu: Cpu, task: usize, mut memory: &mut [f32]) {
        let (inputs, dims) = (self.inputs, self.inputs.dims);
        let span = inputs.sequences().span(task / dims.nheads);
        let at = Head { batch: span.batch, head: task % dims.nheads, seq: task / dims.nheads, start: span.start };
        let (shape, size) = (dims.shape(), self.chunks.steps(span.len));
        let count = span.len.div_ceil(size);
        let mut memory = Memory::new(shape, [size.min(span.len), count, span.len], &mut memory);
        self.forward(cpu, at, (span.len, size), &mut memory);
        let (dstate, dnorm) = (self.upstream.dfinal_state.as_ref(), self.upstream.dfinal_norm.as_ref());
        load_state(shape, dstate, dnorm, at, memory.dstate, memory.forward.rows);
        let mut lives = dstate.is_some() || dnorm.is_some();
        let asked = self.dinitial_state.is_some() || self.dinitial_norm.is_some();
        for chunk in (0..count).rev() {
            let steps = chunk * size..((chunk + 1) * size).min(span.len);
            let work = Work {
                shape,
                pitches: Pitches::new(shape),
                number: chunk,
                count: steps.len(),
                lives: [chunk > 0 || inputs.initial.is_some(), lives],
                goes_on: chunk > 0 || asked,
                dout: self.upstream.dout.is_some(),
                scale: inputs.scale_squared,
                finite: false,
                finite_state: false,
            };
            self.chunk(cpu, at, steps, work, &mut memory);
            lives = true;
        }
        let (state, norm) = (self.dinitial_state.as_ref(), self.dinitial_norm.as_ref());
        // SAFETY: a head's state is of one task.
        unsafe { store_state(shape, memory.dstate, at, state, norm, memory.forward.rows) };
    }

    /// The states before all chunks but those that begin from nothing, and all norms.
    fn forward(&self, cpu: Cpu, at: Head, (len, size): (usize, usize), memory: &mut Memory<'_>) {
        let (inputs, shape) = (self.inputs, self.inputs.dims.shape());
        let mut lives = inputs.initial.is_some();
        if let Some(initial) = &inputs.initial {
            let own = &mut memory.forward;
            load_state(shape, Some(&initial.state), Some(&initial.norm), at, own.state, own.rows);
        }
        for (chunk, first) in (0..len).step_by(size).enumerate() {
            let last = (first + size).min(len);
            if lives {
                memory.states[chunk * shape.state()..][..shape.state()].copy_from_slice(memory.forward.state);
            }
            let mut rows = ForwardChunk::load(inputs, at, first..last, lives, &mut memory.forward);
            for t in (0..last - first).step_by(TILE) {
                if self.upstream.dout.is_none() {
                    break;
                }
                rows.attend(cpu, inputs, t);
                let (steps, count) = (first + t, (last - first - t).min(TILE));
                let [norms, dnorms] = [&mut *memory.norms, &mut *memory.dnorms].map(|all| &mut all[steps..][..count]);
                self.norms(at, steps, shape, rows.memory, memory.dsums_turned, [norms, dnorms]);
            }
            if last < len {
                rows.remember(cpu, inputs.scale_squared);
                lives = true;
            }
        }
    }

    /// The norms of a tile whose sums are in memory, and the gradients by them.
    fn norms(
        &self,
        at: Head,
        first: usize,
        shape: Shape,
        memory: &mut super::forward::Memory<'_>,
        turned: &mut [f32],
        [norms, dnorms]: [&mut [f32]; 2],
    ) {
        let (Some(dout), vdim, count) = (&self.upstream.dout, shape.values - 1, norms.len()) else { return };
        norms.copy_from_slice(&memory.sums[vdim * TILE..][..count]);
        load(dout, at, first..first + count, memory.rows, vdim);
        turn(memory.rows, vdim, [count, vdim], turned);
        let mut inner = [0.0; TILE];
        for (dout, sums) in turned[..vdim * TILE].chunks_exact(TILE).zip(memory.sums.chunks_exact(TILE)) {
            for t in 0..count {
                inner[t] += dout[t] / norms[t] * sums[t];
            }
        }
        for t in 0..count {
            dnorms[t] = -inner[t] / norms[t];
        }
    }
}
