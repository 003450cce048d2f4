//! The form for decoding: a head's state goes by once, a row of values for each feature, whatever the number of tokens.

mod block;

use super::MOST_WORKERS;
use crate::cpu::Cpu;
use crate::cpu::tasks::take;
use crate::cpu::writer::Writer;
use crate::error::Result;
use crate::ops::squared_attention::{
    CheckedUpdate, SquaredAttentionUpdate, SquaredAttentionUpdateOutputs, UpdateInputs,
};
use crate::ops::{Forward, Operator, Workspace};
use crate::plan::{Plan, as_f32};
use crate::tensor::{Dtype, Element, Host, Strided};
use block::{Block, Tokens};

type Update<'a, T, H> = SquaredAttentionUpdate<'a, T, H, Host>;

/// Features whose rows are worked on together.
const FEATURES: usize = 64;

impl<'a, T: Element, H: Element> Forward<Update<'a, T, H>> for Cpu {
    fn forward_plan(&self, op: &Update<'a, T, H>) -> Result<Plan> {
        Ok(plan::<T, H>(&op.inputs()?))
    }

    fn forward_with(
        &self,
        op: &Update<'a, T, H>,
        outputs: SquaredAttentionUpdateOutputs<'_, T, H, Host>,
        given: &Plan,
        workspace: Workspace<'_, Host>,
    ) -> Result<()> {
        let inputs = op.inputs()?;
        let outputs = outputs.check(&inputs)?;
        plan::<T, H>(&inputs).check(Update::<T, H>::NAME, given, &workspace)?;
        run(*self, &inputs, outputs, as_f32(workspace, workers(&inputs).saturating_mul(floats(&inputs))));
        Ok(())
    }

    fn forward(&self, op: &Update<'a, T, H>, outputs: SquaredAttentionUpdateOutputs<'_, T, H, Host>) -> Result<()> {
        let inputs = op.inputs()?;
        let outputs = outputs.check(&inputs)?;
        if nothing(&inputs, &outputs) {
            return Ok(());
        }
        let used = floats(&inputs).saturating_mul(workers(&inputs).min(self.threads()));
        let mut workspace = plan::<T, H>(&inputs).allocate_floats(used)?;
        run(*self, &inputs, outputs, as_f32((&mut workspace).into(), used));
        Ok(())
    }
}

/// A task for each head of each row.
fn count<T>(inputs: &UpdateInputs<'_, T, Host>) -> usize {
    let [batch, nheads, ..] = inputs.q.layout.extents;
    batch.saturating_mul(nheads)
}

fn workers<T>(inputs: &UpdateInputs<'_, T, Host>) -> usize {
    count(inputs).min(MOST_WORKERS)
}

fn plan<T: Element, H: Element>(inputs: &UpdateInputs<'_, T, Host>) -> Plan {
    let bytes = floats(inputs).saturating_mul(workers(inputs)).saturating_mul(size_of::<f32>());
    Plan::new(format!("squared_attention_update_{}_state_{}", T::DTYPE, H::DTYPE), inputs.named(), bytes)
}

fn sizes<T>(inputs: &UpdateInputs<'_, T, Host>) -> [usize; 8] {
    let ([.., tokens, dim], vdim) = (inputs.q.layout.extents, inputs.v.layout.extents[3]);
    let (features, rows) = (inputs.features(), |width: usize| tokens.saturating_mul(width));
    let block = FEATURES.saturating_mul(vdim);
    [dim, rows(features), rows(features), rows(vdim), rows(vdim), rows(2), features, block]
}

/// f32 of a worker.
fn floats<T>(inputs: &UpdateInputs<'_, T, Host>) -> usize {
    sizes(inputs).into_iter().fold(0, usize::saturating_add)
}

/// Nothing changes.
fn nothing<T, H>(inputs: &UpdateInputs<'_, T, Host>, outputs: &CheckedUpdate<'_, T, H, Host>) -> bool {
    inputs.log_decay.layout.is_empty() || outputs.out.layout.is_empty() && outputs.norm.layout.is_empty()
}

/// In the memory of one worker or more.
fn run<T: Element, H: Element>(
    cpu: Cpu,
    inputs: &UpdateInputs<'_, T, Host>,
    outputs: CheckedUpdate<'_, T, H, Host>,
    memory: &mut [f32],
) {
    // With nothing to write there may be heads beyond counting.
    if nothing(inputs, &outputs) {
        return;
    }
    let CheckedUpdate { out, state, norm } = outputs;
    let call = Call { cpu, inputs, out: Writer::new(out), state: Writer::new(state), norm: Writer::new(norm) };
    let nheads = inputs.q.layout.extents[1];
    cpu.for_each_with(0..count(inputs), memory, floats(inputs), |task, memory| {
        let (b, head) = (task / nheads, task % nheads);
        match inputs.slot(b) {
            Some(slot) => call.head([b, slot, head], memory),
            None => call.padding([b, head], memory),
        }
    });
}

/// One call.
struct Call<'c, 'a, T: 'a, H> {
    cpu: Cpu,
    inputs: &'c UpdateInputs<'a, T, Host>,
    out: Writer<'c, T, 4>,
    state: Writer<'c, H, 4>,
    norm: Writer<'c, f32, 3>,
}

impl<T: Element, H: Element> Call<'_, '_, T, H> {
    fn padding(&self, [b, head]: [usize; 2], memory: &mut [f32]) {
        let [.., seqlen, vdim] = self.inputs.v.layout.extents;
        let zeros = &mut memory[..vdim];
        zeros.fill(0.0);
        for t in 0..seqlen {
            // SAFETY: a head's outputs are of one task.
            unsafe { self.out.run([b, head, t, 0], 3, zeros) };
        }
    }

    fn head(&self, [b, slot, head]: [usize; 3], mut memory: &mut [f32]) {
        let (inputs, [.., count, vdim]) = (self.inputs, self.inputs.v.layout.extents);
        let [row, phi_q, phi_k, v, sums, rest, norm, room] = sizes(inputs).map(|floats| take(&mut memory, floats));
        let (decays, norms) = rest.split_at_mut(count);
        let features = inputs.features();
        phi(&inputs.q, [b, head], 1.0, row, phi_q, features);
        phi(&inputs.k, [b, head], inputs.scale_squared, row, phi_k, features);
        for t in 0..count {
            inputs.v.run([b, head, t, 0], 3, &mut v[t * vdim..][..vdim]);
        }
        inputs.log_decay.run([b, head, 0], 2, decays);
        sums.fill(0.0);
        // SAFETY: the contract checked that the slot exists and is of one row, whose head is of one task.
        unsafe { self.norm.read_run([slot, head, 0], 2, norm) };
        let mut tokens = Tokens { count, features, vdim, phi_q, phi_k, v, decays, norms, sums, stored: H::DTYPE };
        tokens.norms(self.cpu, norm);
        // SAFETY: as above.
        unsafe { self.norm.run([slot, head, 0], 2, norm) };
        for first in (0..features).step_by(FEATURES) {
            let rows = FEATURES.min(features - first);
            self.block([slot, head], first, rows, &mut tokens, room);
        }
        tokens.divide();
        for t in 0..count {
            // SAFETY: a head's outputs are of one task.
            unsafe { self.out.run([b, head, t, 0], 3, &tokens.sums[t * vdim..][..vdim]) };
        }
    }

    /// All tokens of the rows of a few features, in place if they lie there as f32.
    fn block(&self, [slot, head]: [usize; 2], first: usize, rows: usize, tokens: &mut Tokens<'_>, room: &mut [f32]) {
        let vdim = tokens.vdim;
        if vdim == 0 {
            return;
        }
        let index = |row: usize| [slot, head, first + row, 0];
        let dense = self.state.stride(3) == 1 && (rows == 1 || self.state.stride(2) == vdim as i64);
        if dense && H::DTYPE == Dtype::F32 {
            let (start, _) = self.state.along(index(0), 3);
            // SAFETY: the rows lie one after the other, are f32, and are this task's alone.
            let state = unsafe { std::slice::from_raw_parts_mut(start.cast(), rows * vdim) };
            return Block { tokens, first, state }.run(self.cpu);
        }
        let room = &mut room[..rows * vdim];
        for (row, to) in room.chunks_exact_mut(vdim).enumerate() {
            // SAFETY: as for the norm.
            unsafe { self.state.read_run(index(row), 3, to) };
        }
        Block { tokens, first, state: room }.run(self.cpu);
        for (row, from) in room.chunks_exact(vdim).enumerate() {
            // SAFETY: as for the norm.
            unsafe { self.state.run(index(row), 3, from) };
        }
    }
}

/// The features of all tokens of a head, times `factor`.
fn phi<T: Element>(
    x: &Strided<'_, T, Host, 4>,
    [b, head]: [usize; 2],
    factor: f32,
    row: &mut [f32],
    to: &mut [f32],
    features: usize,
) {
    for (t, to) in to.chunks_exact_mut(features.max(1)).enumerate() {
        x.run([b, head, t, 0], 3, row);
        super::features::of_step(row, factor, to);
    }
}
