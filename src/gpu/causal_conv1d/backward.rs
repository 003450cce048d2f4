//! Backward: one launch, and another that adds up what tiles give to the weights.

use super::{Conv, Grid, SUM, THREADS, dtype, taps};
use crate::error::Result;
use crate::gpu::launcher::Launcher;
use crate::gpu::{Gpu, narrow, params};
use crate::ops::causal_conv1d::{CausalConv1dGradients, CausalConv1dUpstream, CheckedGradients, Inputs};
use crate::ops::{Backward, Operator, Workspace};
use crate::plan::Plan;
use crate::tensor::{Device, Element};

impl<'a, T: Element, W: Element, L: Launcher> Backward<Conv<'a, T, W>> for Gpu<L> {
    fn backward_plan(&self, op: &Conv<'a, T, W>) -> Result<Plan> {
        Ok(plan(&op.inputs()?))
    }

    fn backward_with(
        &self,
        op: &Conv<'a, T, W>,
        upstream: CausalConv1dUpstream<'_, T, Device>,
        gradients: CausalConv1dGradients<'_, T, W, Device>,
        given: &Plan,
        workspace: Workspace<'_, Device>,
    ) -> Result<()> {
        let _range = crate::gpu::nvtx::range(c"causal_conv1d backward");
        let inputs = op.inputs()?;
        let upstream = upstream.check(&inputs)?;
        let gradients = gradients.check(&inputs, &upstream)?;
        self.check_device(Conv::<T, W>::NAME, &inputs.memory(), &workspace)?;
        let plan = plan(&inputs);
        plan.check(Conv::<T, W>::NAME, given, &workspace)?;
        let (grid, sums) = (Grid::new(&inputs), gradients.dweight.is_some() || gradients.dbias.is_some());
        // Without elements there may be sequences beyond counting; sums over them are 0.
        let idle = gradients.no_elements() && inputs.x.layout.is_empty();
        let tiles = match idle {
            true => {
                let dim = narrow(Conv::<T, W>::NAME, "dim", inputs.dims.dim)?;
                params::SsmTiles { dim, steps: 1, ..Default::default() }
            }
            false => grid.params(&inputs)?,
        };
        let partials = if sums { workspace.address() } else { 0 };
        if !idle {
            let params = params::SsmCausalConv1dBwd {
                x: params::sequence(Some(&inputs.x)),
                dout: params::sequence(upstream.dout.as_ref()),
                dx: params::sequence_mut(gradients.dx.as_ref()),
                taps: taps(&inputs.weights),
                initial_state: params::state(inputs.initial_state.as_ref()),
                dfinal_state: params::state(upstream.dfinal_state.as_ref()),
                dinitial_state: params::state_mut(gradients.dinitial_state.as_ref()),
                partials,
                tiles,
                silu: inputs.weights.silu.into(),
                reserved: 0,
            };
            let params = bytemuck::bytes_of(&params);
            self.launch_conv(Conv::<T, W>::NAME, &plan.kernel, [grid.tiles, grid.chunks], params)?;
        }
        if !sums {
            return Ok(());
        }
        let params = params::SsmCausalConv1dSum { gradients: targets(&gradients, inputs.dims.width), partials, tiles };
        let rows = [inputs.dims.width + 1, inputs.dims.dim.div_ceil(THREADS)];
        self.launch_conv(Conv::<T, W>::NAME, SUM, rows, bytemuck::bytes_of(&params))
    }

    fn backward(
        &self,
        op: &Conv<'a, T, W>,
        upstream: CausalConv1dUpstream<'_, T, Device>,
        gradients: CausalConv1dGradients<'_, T, W, Device>,
    ) -> Result<()> {
        let plan = self.backward_plan(op)?;
        let mut arguments = Some((upstream, gradients));
        self.with_workspace(&plan, |workspace| {
            let Some((upstream, gradients)) = arguments.take() else { return Ok(()) };
            self.backward_with(op, upstream, gradients, &plan, workspace)
        })
    }
}

/// The workspace holds the sums of each tile, for each channel its taps and the bias, in f32.
fn plan<T: Element, W: Element>(inputs: &Inputs<'_, T, W, Device>) -> Plan {
    let grid = Grid::new(inputs);
    let extents = [grid.tiles, inputs.dims.width + 1, inputs.dims.dim];
    grid.plan("bwd", inputs, extents.into_iter().fold(size_of::<f32>(), usize::saturating_mul))
}

/// dweight and dbias.
fn targets<T, W: Element>(gradients: &CheckedGradients<'_, T, W, Device>, width: usize) -> params::SsmTaps {
    let (dweight, dbias) = (gradients.dweight.as_ref(), gradients.dbias.as_ref());
    params::SsmTaps {
        weight: dweight.map_or(0, |dweight| dweight.memory.address()),
        weight_dim_stride: dweight.map_or(0, |dweight| dweight.layout.strides[0]),
        weight_width_stride: dweight.map_or(0, |dweight| dweight.layout.strides[1]),
        bias: dbias.map_or(0, |dbias| dbias.memory.address()),
        bias_dim_stride: dbias.map_or(0, |dbias| dbias.layout.strides[0]),
        dtype: dtype::<W>(),
        width: width as u32,
    }
}
