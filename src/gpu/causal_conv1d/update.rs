//! The form for decoding: one launch, a thread for each channel of a row.

use super::{THREADS, checked_length, taps, taps_of_kernel};
use crate::error::Result;
use crate::gpu::launcher::Launcher;
use crate::gpu::{Gpu, narrow, params};
use crate::ops::causal_conv1d::{CausalConv1dUpdate, CausalConv1dUpdateOutputs, CheckedUpdate, UpdateInputs};
use crate::ops::{Forward, Operator, Workspace};
use crate::plan::Plan;
use crate::tensor::{Device, Element, Layout};

type Update<'a, T, W> = CausalConv1dUpdate<'a, T, W, Device>;

impl<'a, T: Element, W: Element, L: Launcher> Forward<Update<'a, T, W>> for Gpu<L> {
    fn forward_plan(&self, op: &Update<'a, T, W>) -> Result<Plan> {
        Ok(plan(&op.inputs()?))
    }

    fn forward_with(
        &self,
        op: &Update<'a, T, W>,
        outputs: CausalConv1dUpdateOutputs<'_, T, Device>,
        given: &Plan,
        workspace: Workspace<'_, Device>,
    ) -> Result<()> {
        let _range = crate::gpu::nvtx::range(c"causal_conv1d_update");
        let op_name = Update::<T, W>::NAME;
        let inputs = op.inputs()?;
        let CheckedUpdate { out, conv_state, out_of_range } = outputs.check(&inputs)?;
        self.check_device(op_name, &inputs.memory(), &workspace)?;
        let plan = plan(&inputs);
        plan.check(op_name, given, &workspace)?;
        if out.layout.is_empty() {
            return Ok(());
        }
        let Layout { extents: [batch, dim, seqlen], .. } = inputs.x.layout;
        let [slots, _, state_len] = conv_state.layout.extents;
        let params = params::SsmCausalConv1dUpdate {
            x: params::sequence(Some(&inputs.x)),
            out: params::sequence_mut(Some(&out)),
            taps: taps(&inputs.weights),
            conv_state: params::state_at(conv_state.memory.address(), conv_state.layout.strides),
            cache_seqlens: inputs.cache_seqlens.map_or(0, |list| list.address()),
            state_indices: inputs.state_indices.map_or(0, |list| list.address()),
            out_of_range: out_of_range.map_or(0, |flag| flag.memory.address()),
            state_len: checked_length(op_name, state_len)?,
            slots: slots as u64,
            batch: narrow(op_name, "batch", batch)?,
            dim: narrow(op_name, "dim", dim)?,
            seqlen: checked_length(op_name, seqlen)? as u32,
            silu: inputs.weights.silu.into(),
        };
        self.launch_conv(op_name, &plan.kernel, [batch, dim.div_ceil(THREADS)], bytemuck::bytes_of(&params))
    }

    fn forward(&self, op: &Update<'a, T, W>, outputs: CausalConv1dUpdateOutputs<'_, T, Device>) -> Result<()> {
        let plan = self.forward_plan(op)?;
        let mut outputs = Some(outputs);
        self.with_workspace(&plan, |workspace| {
            outputs.take().map_or(Ok(()), |outputs| self.forward_with(op, outputs, &plan, workspace))
        })
    }
}

/// No workspace.
fn plan<T: Element, W: Element>(inputs: &UpdateInputs<'_, T, W, Device>) -> Plan {
    let kernel = format!("causal_conv1d_update_{}_taps{}", T::DTYPE, taps_of_kernel(inputs.weights.width()));
    Plan::new(kernel, inputs.named(), 0)
}
