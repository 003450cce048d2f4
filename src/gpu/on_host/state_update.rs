//! The state update on host tensors.

use super::{Board, Copied, OnHost, Results};
use crate::error::Result;
use crate::ops::state_update::{CheckedOutputs, Inputs, StateUpdate, StateUpdateOutputs};
use crate::ops::{Forward, Operator, Workspace};
use crate::plan::Plan;
use crate::tensor::{Device, Element, Host};
use bytemuck::Pod;

/// The canonical order is the form of heads.
const SEQUENCE: [&str; 4] = ["batch", "seqlen", "nheads", "headdim"];
const ROWS: [&str; 4] = ["batch", "seqlen", "ngroups", "dstate"];
const MATRIX: [&str; 3] = ["nheads", "headdim", "dstate"];
const CHANNEL: [&str; 2] = ["nheads", "headdim"];

/// The inputs of a state update on the device.
struct CopiedInputs<M: Board, T: Pod> {
    x: Copied<M, T>,
    dt: Copied<M, T>,
    A: Copied<M, f32>,
    B: Copied<M, T>,
    C: Copied<M, T>,
    D: Option<Copied<M, f32>>,
    z: Option<Copied<M, T>>,
    dt_bias: Option<Copied<M, f32>>,
    state_indices: Option<Copied<M, i32>>,
}

impl<M: Board, T: Element> CopiedInputs<M, T> {
    fn new(host: OnHost<M>, inputs: &Inputs<'_, T, Host>) -> Result<Self> {
        Ok(Self {
            x: host.copy("x", &SEQUENCE, &inputs.x)?,
            dt: host.copy("dt", &SEQUENCE, &inputs.dt)?,
            A: host.copy("A", &MATRIX, &inputs.A)?,
            B: host.copy("B", &ROWS, &inputs.B.tensor)?,
            C: host.copy("C", &ROWS, &inputs.C.tensor)?,
            D: host.optional("D", &CHANNEL, &inputs.D)?,
            z: host.optional("z", &SEQUENCE, &inputs.z)?,
            dt_bias: host.optional("dt_bias", &CHANNEL, &inputs.dt_bias)?,
            state_indices: host.optional("state_indices", &["batch"], &inputs.state_indices)?,
        })
    }

    fn op<H: Element>(&self, inputs: &Inputs<'_, T, Host>) -> Result<StateUpdate<'_, T, H, Device>> {
        let (B, C) = (self.B.view(), self.C.view());
        let op = StateUpdate::new(self.x.view(), self.dt.view(), self.A.view(), B, C)?;
        let mut op = op.dt_softplus(inputs.step.softplus);
        op = self.D.iter().fold(op, |op, D| op.D(D.view()));
        op = self.z.iter().fold(op, |op, z| op.z(z.view()));
        op = self.dt_bias.iter().fold(op, |op, bias| op.dt_bias(bias.view()));
        // SAFETY: the indices were checked on the host.
        op = self.state_indices.iter().fold(op, |op, rows| unsafe { op.state_indices_from_device(rows.view()) });
        Ok(inputs.step.limit.into_iter().fold(op, StateUpdate::dt_limit))
    }
}

fn host_plan<T: Element, H: Element>(inputs: &Inputs<'_, T, Host>) -> Plan {
    Plan::new(format!("state_update_fwd_{}_state_{}", T::DTYPE, H::DTYPE), inputs.dims.named(), 0)
}

impl<'a, M: Board, T: Element, H: Element> Forward<StateUpdate<'a, T, H>> for OnHost<M> {
    fn forward_plan(&self, op: &StateUpdate<'a, T, H>) -> Result<Plan> {
        Ok(host_plan::<T, H>(&op.inputs()?))
    }

    fn forward_with(
        &self,
        op: &StateUpdate<'a, T, H>,
        outputs: StateUpdateOutputs<'_, T, H>,
        plan: &Plan,
        workspace: Workspace<'_, Host>,
    ) -> Result<()> {
        let inputs = op.inputs()?;
        let outputs = outputs.check(&inputs)?;
        host_plan::<T, H>(&inputs).check(StateUpdate::<T, H>::NAME, plan, &workspace)?;
        // Without elements there may be groups of nothing.
        if outputs.out.layout.is_empty() {
            return Ok(());
        }
        let CheckedOutputs { out, state, token_states, .. } = outputs;
        let copied = CopiedInputs::new(*self, &inputs)?;
        let rows = if copied.state_indices.is_some() { "slots" } else { "batch" };
        let states = |name| [name, "nheads", "headdim", "dstate"];
        let mut out_copy = self.room("out", &SEQUENCE, &out)?;
        let mut state_copy = self.filled_room("state", &states(rows), &state)?;
        // Rows of padding stay as they are.
        let kept = token_states.as_ref().map(|tensor| self.filled_room("token_states", &states("tokens"), tensor));
        let mut kept = kept.transpose()?;
        {
            let (mut out, mut state) = (out_copy.view_mut(), state_copy.view_mut());
            let mut kept = kept.as_mut().map(Copied::view_mut);
            let wanted = StateUpdateOutputs::new(&mut state, &mut out);
            let wanted = kept.iter_mut().fold(wanted, StateUpdateOutputs::token_states);
            self.0.gpu().forward(&copied.op::<H>(&inputs)?, wanted)?;
        }
        let mut results = Results::default();
        results.fetch(&out_copy, out)?;
        results.fetch(&state_copy, state)?;
        kept.iter().zip(token_states).try_for_each(|(copy, tensor)| results.fetch(copy, tensor))?;
        results.write();
        Ok(())
    }

    fn forward(&self, op: &StateUpdate<'a, T, H>, outputs: StateUpdateOutputs<'_, T, H>) -> Result<()> {
        self.forward_with(op, outputs, &self.forward_plan(op)?, (&mut Vec::new()).into())
    }
}
