//! Forward: one task per (sequence, part, channel), its state in the workspace.

use super::carry::{Order, Rows, between_parts};
use super::channel::{Channel, DeltaSum};
use super::{Cut, Scan};
use crate::cpu::Cpu;
use crate::cpu::math::silu;
use crate::cpu::writer::Writer;
use crate::error::Result;
use crate::ops::selective_scan::{CheckedOutputs, ChunkStates, Inputs, SelectiveScanOutputs};
use crate::ops::{Forward, Operator, Workspace};
use crate::plan::{Plan, as_f32};
use crate::tensor::{Element, Host};

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
        let (dims, cut) = (inputs.dims, Cut::new(&inputs));
        // Without elements there may be rows beyond counting.
        if dims.dim == 0 || (dims.seqlen == 0 && dims.dstate == 0 && outputs.delta_sum.is_none()) {
            return Ok(());
        }
        let (width, count) = (Rows::width(dims.dstate), dims.nseqs * cut.split * dims.dim);
        let rows = as_f32(workspace, count * width);
        if cut.split > 1 {
            local_states(*self, &inputs, cut, rows);
            between_parts(*self, &inputs, cut, Order::Scan, inputs.initial_state, rows);
        }
        let outputs = Writers::new(outputs);
        self.for_each(count, rows, width, |i, row| {
            let (seq, part, d) = (i / (cut.split * dims.dim), i / dims.dim % cut.split, i % dims.dim);
            scan_part(&Channel::new(&inputs, seq, d), &outputs, cut, part, row);
        });
        if let Some(delta_sum) = &outputs.delta_sum {
            self.for_each_plain(dims.nseqs * dims.dim, |row| {
                let (seq, d) = (row / dims.dim, row % dims.dim);
                let mut sum = DeltaSum::default();
                (0..cut.split)
                    .for_each(|part| sum.add(rows[((seq * cut.split + part) * dims.dim + d + 1) * width - 1]));
                // SAFETY: (seq, d) is below the extents, and each is one task.
                unsafe { delta_sum.write([seq, d], sum.get()) };
            });
        }
        Ok(())
    }

    fn forward(&self, op: &Scan<'a, T>, outputs: SelectiveScanOutputs<'_, T, Host>) -> Result<()> {
        let plan = self.forward_plan(op)?;
        self.forward_with(op, outputs, &plan, (&mut plan.allocate()?).into())
    }
}

/// A state and a sum for each part of each channel.
fn plan<T: Element>(inputs: &Inputs<'_, T, Host>) -> Plan {
    let cut = Cut::new(inputs);
    cut.plan("fwd", inputs, Rows::floats(cut, inputs))
}

/// What every part but the last makes of the state 0.
pub(super) fn local_states<T: Element>(cpu: Cpu, inputs: &Inputs<'_, T, Host>, cut: Cut, rows: &mut [f32]) {
    let dims = inputs.dims;
    cpu.for_each(dims.nseqs * cut.split * dims.dim, rows, Rows::width(dims.dstate), |i, row| {
        let (seq, part, d) = (i / (cut.split * dims.dim), i / dims.dim % cut.split, i % dims.dim);
        row.fill(0.0);
        if part + 1 < cut.split {
            let channel = Channel::new(inputs, seq, d);
            let (state, sum) = row.split_at_mut(dims.dstate);
            sum[0] = channel.run(cut.steps(channel.span.len, part), state);
        }
    });
}

/// The outputs as threads share them.
struct Writers<'o, T> {
    out: Option<Writer<'o, T, 3>>,
    final_state: Option<Writer<'o, f32, 3>>,
    chunks: Option<(usize, Vec<usize>, Writer<'o, f32, 3>)>,
    delta_sum: Option<Writer<'o, f32, 2>>,
}

impl<'o, T> Writers<'o, T> {
    fn new(outputs: CheckedOutputs<'o, T, Host>) -> Self {
        let chunks = |ChunkStates { every, offsets, states }| (every, offsets, Writer::new(states));
        Self {
            out: outputs.out.map(Writer::new),
            final_state: outputs.final_state.map(Writer::new),
            chunks: outputs.chunk_states.map(chunks),
            delta_sum: outputs.delta_sum.map(Writer::new),
        }
    }
}

/// One part of a channel, from its first step to its last; `row` is its state, and its sum of delta.
fn scan_part<T: Element>(
    channel: &Channel<'_, '_, T>,
    outputs: &Writers<'_, T>,
    cut: Cut,
    part: usize,
    row: &mut [f32],
) {
    let Channel { span, seq, d, .. } = *channel;
    let (state, delta_sum) = row.split_at_mut(row.len() - 1);
    if cut.split == 1 {
        channel.initial(state);
    }
    let (steps, mut sum) = (cut.steps(span.len, part), DeltaSum::default());
    for step in steps.clone() {
        let t = span.time(step);
        let delta = channel.delta(t);
        sum.add(delta);
        channel.advance(t, delta, state);
        if let Some(out) = &outputs.out {
            let y = channel.ungated(t, state);
            let y = channel.z(t).map_or(y, |z| y * silu(z));
            // SAFETY: (b, d, t) is below the extents, and only this part's task writes these steps of channel d.
            unsafe { out.write([span.batch, d, t], T::from_f32(y)) };
        }
        if let Some((every, offsets, states)) = &outputs.chunks
            && (step + 1) % every == 0
        {
            write_state(states, offsets[seq] + (step + 1) / every - 1, d, state);
        }
    }
    delta_sum[0] = sum.get();
    // The last part that has steps, or the first.
    if let Some(final_state) = &outputs.final_state
        && steps.end == span.len
        && (part == 0 || !steps.is_empty())
    {
        write_state(final_state, seq, d, state);
    }
}

/// The states of channel `d` into row `row`, a row of this sequence alone.
fn write_state(target: &Writer<'_, f32, 3>, row: usize, d: usize, state: &[f32]) {
    for (n, &h) in state.iter().enumerate() {
        // SAFETY: `row` is a sequence or one of a sequence's full chunks, so the index is below the extents, and
        // only the task of the part that ends there writes it.
        unsafe { target.write([row, d, n], h) };
    }
}
