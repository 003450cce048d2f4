//! The selective scan on the CPU: one task per (sequence, channel), its states in the workspace.

use super::Cpu;
use super::math::silu;
use super::writer::Writer;
use crate::error::Result;
use crate::ops::selective_scan::{CheckedOutputs, ChunkStates, Inputs, SelectiveScan, SelectiveScanOutputs};
use crate::ops::{Forward, Operator, Workspace};
use crate::plan::{Plan, as_f32};
use crate::tensor::{Element, Host};

type Scan<'a, T> = SelectiveScan<'a, T, Host>;

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
        let dims = inputs.dims;
        // Without elements there may be rows beyond counting.
        if dims.seqlen == 0 && dims.dstate == 0 {
            return Ok(());
        }
        let rows = dims.nseqs * dims.dim;
        let states = as_f32(workspace, rows * dims.dstate);
        let outputs = Writers::new(outputs);
        self.for_each(rows, states, dims.dstate, |row, state| {
            scan_row(&inputs, &outputs, row / dims.dim, row % dims.dim, state);
        });
        Ok(())
    }

    fn forward(&self, op: &Scan<'a, T>, outputs: SelectiveScanOutputs<'_, T, Host>) -> Result<()> {
        let plan = self.forward_plan(op)?;
        self.forward_with(op, outputs, &plan, (&mut plan.allocate()?).into())
    }
}

/// One state per row.
fn plan<T: Element>(inputs: &Inputs<'_, T, Host>) -> Plan {
    let dims = inputs.dims;
    let states = dims.nseqs.saturating_mul(dims.dim).saturating_mul(dims.dstate);
    Plan::new(format!("selective_scan_fwd_{}", T::DTYPE), dims.named(), states.saturating_mul(size_of::<f32>()))
}

/// The outputs as threads share them.
struct Writers<'o, T> {
    out: Option<Writer<'o, T, 3>>,
    final_state: Option<Writer<'o, f32, 3>>,
    chunks: Option<(usize, Vec<usize>, Writer<'o, f32, 3>)>,
}

impl<'o, T> Writers<'o, T> {
    fn new(outputs: CheckedOutputs<'o, T, Host>) -> Self {
        let chunks = |ChunkStates { every, offsets, states }| (every, offsets, Writer::new(states));
        Self {
            out: outputs.out.map(Writer::new),
            final_state: outputs.final_state.map(Writer::new),
            chunks: outputs.chunk_states.map(chunks),
        }
    }
}

/// Channel `d` of sequence `seq`, from its first step to its last.
fn scan_row<T: Element>(
    inputs: &Inputs<'_, T, Host>,
    outputs: &Writers<'_, T>,
    seq: usize,
    d: usize,
    state: &mut [f32],
) {
    let span = inputs.span(seq);
    let b = span.batch;
    for (n, h) in state.iter_mut().enumerate() {
        *h = inputs.initial_state.map_or(0.0, |initial| initial.at([seq, d, n]));
    }
    let bias = inputs.dt_bias.map_or(0.0, |bias| bias.at([d]));
    for step in 0..span.len {
        let t = span.time(step);
        let x = inputs.x.at([b, d, t]).to_f32();
        let delta = inputs.step.apply(inputs.dt.at([b, d, t]).to_f32() + bias);
        let mut y = 0.0;
        for (n, h) in state.iter_mut().enumerate() {
            *h = (delta * inputs.A.at([d, n])).exp() * *h + delta * x * inputs.B.at(b, d, n, t);
            y += *h * inputs.C.at(b, d, n, t);
        }
        if let Some(D) = inputs.D {
            y += D.at([d]) * x;
        }
        if let Some(z) = inputs.z {
            y *= silu(z.at([b, d, t]).to_f32());
        }
        // SAFETY: (b, d, t) is below the extents, and only this row's task writes channel d of this sequence.
        outputs.out.iter().for_each(|out| unsafe { out.write([b, d, t], T::from_f32(y)) });
        if let Some((every, offsets, states)) = &outputs.chunks
            && (step + 1) % every == 0
        {
            write_state(states, offsets[seq] + (step + 1) / every - 1, d, state);
        }
    }
    if let Some(final_state) = &outputs.final_state {
        write_state(final_state, seq, d, state);
    }
}

/// The states of channel `d` into row `row`, a row of this sequence alone.
fn write_state(target: &Writer<'_, f32, 3>, row: usize, d: usize, state: &[f32]) {
    for (n, &h) in state.iter().enumerate() {
        // SAFETY: `row` is a sequence or one of a sequence's full chunks, so the index is below the extents, and
        // only the task of (sequence, d) writes it.
        unsafe { target.write([row, d, n], h) };
    }
}
