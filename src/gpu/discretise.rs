//! Discretise on a GPU: one thread per element. The kernels: kernels-rs/discretise.rs.

use super::launcher::{Launch, Launcher};
use super::{Gpu, params, ptx};
use crate::error::Result;
use crate::ops::discretise::{Discretise, DiscretiseGradients, DiscretiseOutputs, DiscretiseUpstream, Inputs, Rule};
use crate::ops::{Backward, Forward, Operator, Workspace};
use crate::plan::Plan;
use crate::tensor::{Device, Element};

type Op<'a, T> = Discretise<'a, T, Device>;

const THREADS: u32 = 256;
/// Blocks of a launch at most; threads take further elements in turn.
const MOST_BLOCKS: u64 = 1 << 20;

impl<'a, T: Element, L: Launcher> Forward<Op<'a, T>> for Gpu<L> {
    fn forward_plan(&self, op: &Op<'a, T>) -> Result<Plan> {
        Ok(plan(&op.inputs()?, "fwd"))
    }

    fn forward_with(
        &self,
        op: &Op<'a, T>,
        outputs: DiscretiseOutputs<'_, Device>,
        given: &Plan,
        workspace: Workspace<'_, Device>,
    ) -> Result<()> {
        let _range = crate::gpu::nvtx::range(c"discretise forward");
        let inputs = op.inputs()?;
        let outputs = outputs.check(&inputs)?;
        let plan = plan(&inputs, "fwd");
        plan.check(Op::<T>::NAME, given, &workspace)?;
        let params = params::SsmDiscretiseFwd {
            inputs: fill(&inputs),
            delta: params::wide_mut(outputs.delta.as_ref()),
            A_bar: params::wide_mut(outputs.A_bar.as_ref()),
            B_bar: params::wide_mut(outputs.B_bar.as_ref()),
            B_prev_bar: params::wide_mut(outputs.B_prev_bar.as_ref()),
        };
        self.check_device(Op::<T>::NAME, &inputs.memory(), &workspace)?;
        self.launch_elements(&inputs, &plan, bytemuck::bytes_of(&params))
    }

    fn forward(&self, op: &Op<'a, T>, outputs: DiscretiseOutputs<'_, Device>) -> Result<()> {
        let plan = self.forward_plan(op)?;
        let mut outputs = Some(outputs);
        self.with_workspace(&plan, |workspace| {
            outputs.take().map_or(Ok(()), |outputs| self.forward_with(op, outputs, &plan, workspace))
        })
    }
}

impl<'a, T: Element, L: Launcher> Backward<Op<'a, T>> for Gpu<L> {
    fn backward_plan(&self, op: &Op<'a, T>) -> Result<Plan> {
        Ok(plan(&op.inputs()?, "bwd"))
    }

    fn backward_with(
        &self,
        op: &Op<'a, T>,
        upstream: DiscretiseUpstream<'_, Device>,
        gradients: DiscretiseGradients<'_, T, Device>,
        given: &Plan,
        workspace: Workspace<'_, Device>,
    ) -> Result<()> {
        let _range = crate::gpu::nvtx::range(c"discretise backward");
        let inputs = op.inputs()?;
        let upstream = upstream.check(&inputs)?;
        let gradients = gradients.check(&inputs, &upstream)?;
        let plan = plan(&inputs, "bwd");
        plan.check(Op::<T>::NAME, given, &workspace)?;
        let params = params::SsmDiscretiseBwd {
            inputs: fill(&inputs),
            ddelta: params::wide(upstream.ddelta.as_ref()),
            dA_bar: params::wide(upstream.dA_bar.as_ref()),
            dB_bar: params::wide(upstream.dB_bar.as_ref()),
            dB_prev_bar: params::wide(upstream.dB_prev_bar.as_ref()),
            ddt: params::wide_mut(gradients.ddt.as_ref()),
            ddt_bias: params::wide_mut(gradients.ddt_bias.as_ref()),
            dA: params::wide_mut(gradients.dA.as_ref()),
            dB: params::wide_mut(gradients.dB.as_ref()),
            dlambda: params::wide_mut(gradients.dlambda.as_ref()),
        };
        self.check_device(Op::<T>::NAME, &inputs.memory(), &workspace)?;
        self.launch_elements(&inputs, &plan, bytemuck::bytes_of(&params))
    }

    fn backward(
        &self,
        op: &Op<'a, T>,
        upstream: DiscretiseUpstream<'_, Device>,
        gradients: DiscretiseGradients<'_, T, Device>,
    ) -> Result<()> {
        let plan = self.backward_plan(op)?;
        let mut arguments = Some((upstream, gradients));
        self.with_workspace(&plan, |workspace| {
            let Some((upstream, gradients)) = arguments.take() else { return Ok(()) };
            self.backward_with(op, upstream, gradients, &plan, workspace)
        })
    }
}

impl<L: Launcher> Gpu<L> {
    /// One thread per element of the domain.
    fn launch_elements<T: Element>(&self, inputs: &Inputs<'_, T, Device>, plan: &Plan, params: &[u8]) -> Result<()> {
        let extents = inputs.extents();
        if extents.contains(&0) {
            return Ok(());
        }
        let elements = extents.iter().fold(1u64, |product, &extent| product.saturating_mul(extent as u64));
        let (module, kernel) = ptx::find(Op::<T>::NAME, &plan.kernel)?;
        let blocks = elements.div_ceil(THREADS.into()).min(MOST_BLOCKS) as u32;
        let launch = Launch { module, kernel, grid: [blocks, 1, 1], block: [THREADS, 1, 1], shared_bytes: 0, params };
        // SAFETY: the callers made the parameters of this kernel from views that the contract checked; whoever made
        // the device views guarantees their memory until the work is done.
        unsafe { self.launcher.launch(&launch) }
    }
}

/// No workspace.
fn plan<T: Element>(inputs: &Inputs<'_, T, Device>, direction: &str) -> Plan {
    Plan::new(format!("discretise_{direction}_{}", T::DTYPE), inputs.named(), 0)
}

/// The parameters of both directions.
fn fill<T: Element>(inputs: &Inputs<'_, T, Device>) -> params::SsmDiscretise {
    params::SsmDiscretise {
        dt: params::wide(Some(&inputs.dt)),
        A: params::wide(Some(&inputs.A)),
        B: params::wide(Some(&inputs.B)),
        dt_bias: params::wide(inputs.dt_bias.as_ref()),
        lambda: params::wide(inputs.lambda.as_ref()),
        extents: inputs.extents().map(|extent| extent as u64),
        rule: match inputs.rule {
            Rule::Euler => params::SSM_RULE_EULER,
            Rule::ExpEuler => params::SSM_RULE_EXP_EULER,
            Rule::Zoh => params::SSM_RULE_ZOH,
            Rule::Bilinear => params::SSM_RULE_BILINEAR,
            Rule::ExpTrapezoidal => params::SSM_RULE_EXP_TRAPEZOIDAL,
        },
        reserved: 0,
        step: params::step(inputs.step),
    }
}
