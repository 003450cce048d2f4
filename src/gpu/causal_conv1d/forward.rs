//! Forward: one launch.

use super::{Conv, Grid, taps};
use crate::error::Result;
use crate::gpu::launcher::Launcher;
use crate::gpu::{Gpu, params};
use crate::ops::causal_conv1d::CausalConv1dOutputs;
use crate::ops::{Forward, Operator, Workspace};
use crate::plan::Plan;
use crate::tensor::{Device, Element};

impl<'a, T: Element, W: Element, L: Launcher> Forward<Conv<'a, T, W>> for Gpu<L> {
    fn forward_plan(&self, op: &Conv<'a, T, W>) -> Result<Plan> {
        let inputs = op.inputs()?;
        Ok(Grid::new(&inputs).plan("fwd", &inputs, 0))
    }

    fn forward_with(
        &self,
        op: &Conv<'a, T, W>,
        outputs: CausalConv1dOutputs<'_, T, Device>,
        given: &Plan,
        workspace: Workspace<'_, Device>,
    ) -> Result<()> {
        let _range = crate::gpu::nvtx::range(c"causal_conv1d forward");
        let inputs = op.inputs()?;
        let outputs = outputs.check(&inputs)?;
        self.check_device(Conv::<T, W>::NAME, &inputs.memory(), &workspace)?;
        let grid = Grid::new(&inputs);
        let plan = grid.plan("fwd", &inputs, 0);
        plan.check(Conv::<T, W>::NAME, given, &workspace)?;
        // With nothing to write there may be sequences beyond counting.
        if outputs.are_empty() {
            return Ok(());
        }
        let params = params::SsmCausalConv1dFwd {
            x: params::sequence(Some(&inputs.x)),
            out: params::sequence_mut(Some(&outputs.out)),
            taps: taps(&inputs.weights),
            initial_state: params::state(inputs.initial_state.as_ref()),
            final_state: params::state_mut(outputs.final_state.as_ref()),
            tiles: grid.params(&inputs)?,
            silu: inputs.weights.silu.into(),
            reserved: 0,
        };
        let params = bytemuck::bytes_of(&params);
        self.launch_conv(Conv::<T, W>::NAME, &plan.kernel, [grid.tiles, grid.chunks], params)
    }

    fn forward(&self, op: &Conv<'a, T, W>, outputs: CausalConv1dOutputs<'_, T, Device>) -> Result<()> {
        let plan = self.forward_plan(op)?;
        let mut outputs = Some(outputs);
        self.with_workspace(&plan, |workspace| {
            outputs.take().map_or(Ok(()), |outputs| self.forward_with(op, outputs, &plan, workspace))
        })
    }
}
