//! The state update on a GPU: lanes along the states of a channel, a block for some channels of a row of the batch. The
//! kernel: kernels-rs/state_update.rs.

use super::launcher::{Launch, Launcher};
use super::{Gpu, narrow, params, ptx};
use crate::error::Result;
use crate::ops::state_update::{CheckedOutputs, Dims, Inputs, StateUpdate, StateUpdateOutputs};
use crate::ops::{Forward, Operator, Workspace};
use crate::plan::Plan;
use crate::tensor::{Device, Element, Layout};

type Update<'a, T, H> = StateUpdate<'a, T, H, Device>;

const OP: &str = Update::<f32, f32>::NAME;
const THREADS: usize = 128;
/// Neighbouring states of a lane.
const FOUR: usize = 4;
/// A warp has no more.
const MOST_LANES: usize = 32;

impl<'a, T: Element, H: Element, L: Launcher> Forward<Update<'a, T, H>> for Gpu<L> {
    fn forward_plan(&self, op: &Update<'a, T, H>) -> Result<Plan> {
        Ok(plan::<T, H>(&op.inputs()?))
    }

    fn forward_with(
        &self,
        op: &Update<'a, T, H>,
        outputs: StateUpdateOutputs<'_, T, H, Device>,
        given: &Plan,
        workspace: Workspace<'_, Device>,
    ) -> Result<()> {
        let _range = crate::gpu::nvtx::range(c"state_update");
        let inputs = op.inputs()?;
        let outputs = outputs.check(&inputs)?;
        let plan = plan::<T, H>(&inputs);
        plan.check(OP, given, &workspace)?;
        self.check_device(OP, &inputs.memory(), &workspace)?;
        if outputs.out.layout.is_empty() {
            return Ok(());
        }
        let Dims { batch, nheads, headdim, .. } = inputs.dims;
        let channels = nheads.saturating_mul(headdim);
        narrow(OP, "number of channels", channels)?;
        let tiles = channels.div_ceil(THREADS / plan.lanes);
        let blocks = narrow(OP, "number of blocks", batch.saturating_mul(tiles))?;
        let params = fill(&inputs, &outputs, plan.lanes, tiles)?;
        let (module, kernel) = ptx::find(OP, &plan.kernel)?;
        let (grid, block, params) = ([blocks, 1, 1], [THREADS as u32, 1, 1], bytemuck::bytes_of(&params));
        let launch = Launch { module, kernel, grid, block, shared_bytes: 0, params };
        // SAFETY: the parameters are this kernel's, from views that the contract checked; whoever made the device views
        // guarantees their memory until the work is done, and that no two indices name one row of the cache.
        unsafe { self.launcher.launch(&launch) }
    }

    fn forward(&self, op: &Update<'a, T, H>, outputs: StateUpdateOutputs<'_, T, H, Device>) -> Result<()> {
        let plan = self.forward_plan(op)?;
        let mut outputs = Some(outputs);
        self.with_workspace(&plan, |workspace| {
            outputs.take().map_or(Ok(()), |outputs| self.forward_with(op, outputs, &plan, workspace))
        })
    }
}

/// No workspace.
fn plan<T: Element, H: Element>(inputs: &Inputs<'_, T, Device>) -> Plan {
    let kernel = format!("state_update_fwd_{}_state_{}", T::DTYPE, H::DTYPE);
    let mut plan = Plan::new(kernel, inputs.dims.named(), 0);
    plan.lanes = inputs.dims.dstate.div_ceil(FOUR).clamp(1, MOST_LANES).next_power_of_two();
    plan
}

fn fill<T: Element, H: Element>(
    inputs: &Inputs<'_, T, Device>,
    outputs: &CheckedOutputs<'_, T, H, Device>,
    lanes: usize,
    tiles: usize,
) -> Result<params::SsmStateUpdate> {
    let Dims { seqlen, nheads, headdim, dstate, .. } = inputs.dims;
    let (B, C, state) = (&inputs.B.tensor, &inputs.C.tensor, &outputs.state);
    let rows = [(B.memory.address(), &B.layout), (C.memory.address(), &C.layout)];
    let kept = outputs.token_states.as_ref();
    let states = [Some(state), kept].into_iter().flatten();
    Ok(params::SsmStateUpdate {
        x: params::wide(Some(&inputs.x)),
        dt: params::wide(Some(&inputs.dt)),
        z: params::wide(inputs.z.as_ref()),
        out: params::wide_mut(Some(&outputs.out)),
        A: params::last_of_wide(Some(&inputs.A)),
        B: params::wide(Some(B)),
        C: params::wide(Some(C)),
        D: params::last_of_wide(inputs.D.as_ref()),
        dt_bias: params::last_of_wide(inputs.dt_bias.as_ref()),
        state: params::wide_mut(Some(state)),
        token_states: params::wide_mut(kept),
        state_indices: inputs.state_indices.map_or(0, |indices| indices.memory.address()),
        state_indices_stride: inputs.state_indices.map_or(0, |indices| indices.layout.strides[0]),
        index_flag: outputs.index_flag.as_ref().map_or(0, |flag| flag.address()),
        slots: i64::try_from(state.layout.extents[0]).unwrap_or(i64::MAX),
        seqlen: narrow(OP, "seqlen", seqlen)?,
        nheads: narrow(OP, "nheads", nheads)?,
        headdim: narrow(OP, "headdim", headdim)?,
        dstate: narrow(OP, "dstate", dstate)?,
        B_heads: narrow(OP, "heads of a group", inputs.B.heads)?,
        C_heads: narrow(OP, "heads of a group", inputs.C.heads)?,
        tiles: narrow(OP, "number of blocks", tiles)?,
        lanes: narrow(OP, "lanes", lanes)?,
        one_decay: (inputs.one_decay() && dstate > 0).into(),
        A_by_four: by_four::<f32, 3>(inputs.A.memory.address(), &inputs.A.layout).into(),
        rows_by_four: rows.iter().all(|(address, layout)| by_four::<T, 4>(*address, layout)).into(),
        states_by_four: { states }.all(|tensor| by_four::<H, 4>(tensor.memory.address(), &tensor.layout)).into(),
        step: params::step(inputs.step),
    })
}

/// Rows, the last dimension, are whole fours, and each begins where four may be moved at once.
fn by_four<E, const R: usize>(address: u64, layout: &Layout<R>) -> bool {
    let (rows, along) = (&layout.strides[..R - 1], R - 1);
    address.is_multiple_of((FOUR * size_of::<E>()) as u64)
        && layout.strides[along] == 1
        && layout.extents[along].is_multiple_of(FOUR)
        && rows.iter().zip(layout.extents).all(|(stride, extent)| extent <= 1 || stride % FOUR as i64 == 0)
}
