//! Squared attention: its calls, its memory and its work. It has no GPU kernels, and so its own bounds on backends.

use super::backends::{Runner, Setting};
use super::case::Direction;
use super::inputs::Inputs;
use super::place::{Buffer, Place};
use super::roofline::Work;
use crate::args::Op;
use crate::error::Result;
use crate::memory::{Memory, elements};
use crate::operators::Attends;
use crate::tensor::Io;
use ssm_baseline::Shape;
use ssm_kernels::prelude::*;

/// The call of a case on a backend.
pub fn runner<'c, T: Io, P>(
    place: P,
    op: Op,
    direction: Direction,
    inputs: Inputs<'c, T, P::Storage>,
) -> Result<Runner<'c>>
where
    P: Place + Attends<T, P::Storage> + Send + 'c,
{
    let setting = Setting { place, inputs };
    match (op, direction) {
        (Op::SquaredAttentionUpdate, _) => setting.attention_update(),
        (_, Direction::Forward) => setting.attention_forward(),
        (_, Direction::Backward) => setting.attention_backward(),
    }
}

impl<'c, T: Io, P: Place + Attends<T, P::Storage> + Send + 'c> Setting<'c, P, T> {
    fn attention_forward(self) -> Result<Runner<'c>> {
        let (op, elements) = (self.inputs.attention()?, self.inputs.shape.sequence() * self.inputs.shape.dstate);
        let plan = self.place.forward_plan(&op)?;
        let (mut workspace, mut out) = (self.place.workspace(&plan)?, self.zeros(elements)?);
        Ok(Box::new(move || {
            let mut out = out.tensor(self.inputs.head_dims("vdim"));
            let outputs = SquaredAttentionOutputs::new(&mut out);
            Ok(self.place.forward_with(&op, outputs, &plan, workspace.exclusive())?)
        }))
    }

    fn attention_backward(self) -> Result<Runner<'c>> {
        let (op, shape) = (self.inputs.attention()?, self.inputs.shape);
        let plan = self.place.backward_plan(&op)?;
        let gradient = || self.zeros(shape.sequence() * shape.dstate);
        let (mut dq, mut dk, mut dv) = (gradient()?, gradient()?, gradient()?);
        let (mut workspace, mut dlog_decay) = (self.place.workspace(&plan)?, self.floats(shape.sequence(), 0.0)?);
        Ok(Box::new(move || {
            let (keys, values) = (self.inputs.head_dims("dim"), self.inputs.head_dims("vdim"));
            let (mut dq, mut dk, mut dv) = (dq.tensor(keys), dk.tensor(keys), dv.tensor(values));
            let mut dlog_decay = dlog_decay.tensor(self.inputs.decay_dims());
            let upstream = SquaredAttentionUpstream::new().dout(self.inputs.attention_dout());
            let gradients = SquaredAttentionGradients::new().dq(&mut dq).dk(&mut dk).dv(&mut dv);
            let gradients = gradients.dlog_decay(&mut dlog_decay);
            Ok(self.place.backward_with(&op, upstream, gradients, &plan, workspace.exclusive())?)
        }))
    }

    fn attention_update(self) -> Result<Runner<'c>> {
        let (op, shape) = (self.inputs.attention_update()?, self.inputs.shape);
        let plan = self.place.forward_plan(&op)?;
        let (mut workspace, mut out) = (self.place.workspace(&plan)?, self.zeros(shape.sequence() * shape.dstate)?);
        let dims @ [rows, nheads, features, vdim] = self.inputs.attention_state_dims("slots");
        let norms = rows.1 * nheads.1 * features.1;
        let (mut state, mut norm) = (self.floats(norms * vdim.1, 0.0)?, self.floats(norms, 0.0)?);
        Ok(Box::new(move || {
            let (mut state, mut norm) = (state.tensor(dims), norm.tensor([rows, nheads, features]));
            let mut out = out.tensor(self.inputs.head_dims("vdim"));
            let outputs = SquaredAttentionUpdateOutputs::new(&mut state, &mut norm, &mut out);
            Ok(self.place.forward_with(&op, outputs, &plan, workspace.exclusive())?)
        }))
    }
}

/// Plans what a measurement allocates.
pub fn plan<T: Io>(op: Op, direction: Direction, shape: &Shape, memory: &mut Memory) -> Result<()> {
    let Shape { batch, dim: nheads, seqlen, dstate: dim, .. } = *shape;
    let (io, plain) = (size_of::<T>(), size_of::<f32>());
    let rows = elements("q", &[batch, nheads, seqlen, dim])?;
    let features = elements("the products of two elements of a key", &[dim, dim + 1])? / 2;
    let state = elements("the states", &[batch, nheads, features, dim + 1])?;
    // q, k, v, dout; log_decay; what is written.
    memory.plan(rows, 4 * (io + plain))?;
    memory.plan(elements("log_decay", &[batch, nheads, seqlen])?, 2 * plain)?;
    memory.plan(rows, if direction == Direction::Backward { 3 * io } else { io + plain })?;
    // The loops' state, or both caches.
    memory.plan(if op == Op::SquaredAttentionUpdate { state } else { features * (dim + 1) }, 2 * plain)?;
    memory.plan(workspace::<T>(op, direction, shape)?, 1)?;
    memory.reserve()
}

/// Bytes of the backend's plan, which only looks at extents: every element is the same one.
fn workspace<T: Io>(op: Op, direction: Direction, shape: &Shape) -> Result<usize> {
    let Shape { batch, dim: nheads, seqlen, dstate: dim, .. } = *shape;
    let (one, decay) = ([T::from_f32(0.0)], [0.0f32]);
    let steps = [("batch", batch, 0), ("nheads", nheads, 0), ("seqlen", seqlen, 0)];
    let row = |inner| View::strided(&one, [steps[0], steps[1], steps[2], (inner, dim, 0)]);
    let (q, v, log_decay) = (row("dim"), row("vdim"), View::strided(&decay, steps));
    let cpu = Cpu::new();
    let plan = match (op, direction) {
        (Op::SquaredAttentionUpdate, _) => {
            cpu.forward_plan(&SquaredAttentionUpdate::<T, f32>::new(q, q, v, log_decay)?)?
        }
        (_, Direction::Forward) => cpu.forward_plan(&SquaredAttention::new(q, q, v, log_decay)?)?,
        (_, Direction::Backward) => cpu.backward_plan(&SquaredAttention::new(q, q, v, log_decay)?)?,
    };
    Ok(plan.workspace_bytes)
}

/// Multiply-adds of a step of a head, by pairs and by states: what the step before it and half of all steps cost, and what a
/// product of a feature and a value costs. The norm is one value more.
fn operations(shape: &Shape, [by_key, by_value]: [f64; 2], by_state: f64) -> (f64, f64) {
    let (dim, steps) = (shape.dstate as f64, (shape.seqlen as f64 + 1.0) / 2.0);
    let features = dim * (dim + 1.0) / 2.0;
    (steps * (by_key * dim + by_value * (dim + 1.0)), by_state * features * (dim + 1.0))
}

/// Operations of a step of a head in the C loops, by pairs and by states: of those a feature's value decays, grows, is read.
pub fn loop_operations(shape: &Shape) -> (f64, f64) {
    operations(shape, [1.0, 1.0], 3.0)
}

/// What a call needs at least. `io`: bytes of an element. docs/benchmarks.md has the counts.
pub fn work(op: Op, direction: Direction, shape: &Shape, io: f64) -> Work {
    let steps = shape.sequence() as f64;
    let rows = steps * shape.dstate as f64;
    let (bytes, (pairs, states)) = match (op, direction) {
        // q, k, v, out; log_decay; state and norm read and written.
        (Op::SquaredAttentionUpdate, _) => {
            let by_states = operations(shape, [1.0, 1.0], 3.0).1;
            let state = (shape.batch * shape.dim) as f64 * by_states / 3.0;
            (io * 4.0 * rows + 4.0 * steps + 8.0 * state, (by_states, by_states))
        }
        (_, Direction::Forward) => (io * 4.0 * rows + 4.0 * steps, operations(shape, [1.0, 1.0], 2.0)),
        // q, k, v, dout, dq, dk, dv; log_decay, dlog_decay.
        (_, Direction::Backward) => (io * 7.0 * rows + 8.0 * steps, operations(shape, [3.0, 2.0], 5.0)),
    };
    Work { state_steps: rows, bytes, operations: steps * pairs.min(states) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ssm_baseline::Layout;

    #[test]
    fn work_of_attention() {
        let mut shape = Shape { batch: 2, dim: 3, seqlen: 5, dstate: 4, layout: Layout::Dense };
        let forward = work(Op::SquaredAttention, Direction::Forward, &shape, 2.0);
        assert_eq!(forward.state_steps, 120.0);
        assert_eq!(forward.bytes, 2.0 * 4.0 * 120.0 + 4.0 * 30.0);
        // Three steps on average, a product for each of four elements and five values.
        assert_eq!(forward.operations, 30.0 * 3.0 * 9.0);
        let backward = work(Op::SquaredAttention, Direction::Backward, &shape, 4.0);
        assert_eq!(backward.operations, 30.0 * 3.0 * (12.0 + 10.0));
        let update = work(Op::SquaredAttentionUpdate, Direction::Forward, &shape, 4.0);
        assert_eq!(update.bytes, 4.0 * 4.0 * 120.0 + 4.0 * 30.0 + 8.0 * 6.0 * 50.0);
        assert_eq!(update.operations, 30.0 * 3.0 * 50.0);
        shape.seqlen = 1001;
        let long = work(Op::SquaredAttention, Direction::Forward, &shape, 4.0);
        assert_eq!(long.operations, 6006.0 * 2.0 * 50.0, "by states");
    }
}
