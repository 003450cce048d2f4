//! Discretisation on the CPU. The formulas are those of the GPU kernels.

use super::Cpu;
use super::math;
use super::writer::Writer;
use crate::error::Result;
use crate::ops::discretise::{Discretise, DiscretiseGradients, DiscretiseOutputs, DiscretiseUpstream, Inputs, Rule};
use crate::ops::{Backward, Forward, Operator, Workspace};
use crate::plan::Plan;
use crate::tensor::{Element, Host, MAX_RANK};

#[path = "../../kernels-rs/discretise_formulas.rs"]
mod formulas;

use formulas::{By, Gradient, Point};

type Op<'a, T> = Discretise<'a, T, Host>;

impl<'a, T: Element> Forward<Op<'a, T>> for Cpu {
    fn forward_plan(&self, op: &Op<'a, T>) -> Result<Plan> {
        Ok(plan(&op.inputs()?, "fwd"))
    }

    fn forward_with(
        &self,
        op: &Op<'a, T>,
        outputs: DiscretiseOutputs<'_, Host>,
        given: &Plan,
        workspace: Workspace<'_, Host>,
    ) -> Result<()> {
        let inputs = op.inputs()?;
        let outputs = outputs.check(&inputs)?;
        plan(&inputs, "fwd").check(Op::<T>::NAME, given, &workspace)?;
        let [delta, A_bar, B_bar, B_prev_bar] =
            [outputs.delta, outputs.A_bar, outputs.B_bar, outputs.B_prev_bar].map(|tensor| tensor.map(Writer::new));
        self.for_each_element(inputs.extents(), |index| {
            let point = point(&inputs, index);
            put(&delta, index, || point.delta);
            put(&A_bar, index, || point.A_bar());
            put(&B_bar, index, || point.B_bar());
            put(&B_prev_bar, index, || point.B_prev_bar());
        });
        Ok(())
    }

    fn forward(&self, op: &Op<'a, T>, outputs: DiscretiseOutputs<'_, Host>) -> Result<()> {
        let plan = self.forward_plan(op)?;
        self.forward_with(op, outputs, &plan, (&mut plan.allocate()?).into())
    }
}

impl<'a, T: Element> Backward<Op<'a, T>> for Cpu {
    fn backward_plan(&self, op: &Op<'a, T>) -> Result<Plan> {
        Ok(plan(&op.inputs()?, "bwd"))
    }

    fn backward_with(
        &self,
        op: &Op<'a, T>,
        upstream: DiscretiseUpstream<'_, Host>,
        gradients: DiscretiseGradients<'_, T, Host>,
        given: &Plan,
        workspace: Workspace<'_, Host>,
    ) -> Result<()> {
        let inputs = op.inputs()?;
        let upstream = upstream.check(&inputs)?;
        let gradients = gradients.check(&inputs, &upstream)?;
        plan(&inputs, "bwd").check(Op::<T>::NAME, given, &workspace)?;
        let [ddt, dB, dlambda] = [gradients.ddt, gradients.dB, gradients.dlambda].map(|tensor| tensor.map(Writer::new));
        let [ddt_bias, dA] = [gradients.ddt_bias, gradients.dA].map(|tensor| tensor.map(Writer::new));
        self.for_each_element(inputs.extents(), |index| {
            let point = point(&inputs, index);
            let [ddelta, dA_bar, dB_bar, dB_prev_bar] =
                [upstream.ddelta, upstream.dA_bar, upstream.dB_bar, upstream.dB_prev_bar].map(|gradient| Gradient {
                    given: gradient.is_some(),
                    value: gradient.map_or(0.0, |gradient| gradient.at(index)),
                });
            let by = By { ddelta, dA_bar, dB_bar, dB_prev_bar };
            let raw = || point.slope * point.ddelta(by);
            put(&ddt, index, || T::from_f32(raw()));
            put(&ddt_bias, index, raw);
            put(&dA, index, || point.dA(by));
            put(&dB, index, || T::from_f32(point.dB(by)));
            put(&dlambda, index, || T::from_f32(point.dlambda(by)));
        });
        Ok(())
    }

    fn backward(
        &self,
        op: &Op<'a, T>,
        upstream: DiscretiseUpstream<'_, Host>,
        gradients: DiscretiseGradients<'_, T, Host>,
    ) -> Result<()> {
        let plan = self.backward_plan(op)?;
        self.backward_with(op, upstream, gradients, &plan, (&mut plan.allocate()?).into())
    }
}

/// No workspace.
fn plan<T: Element>(inputs: &Inputs<'_, T, Host>, direction: &str) -> Plan {
    Plan::new(format!("discretise_{direction}_{}", T::DTYPE), inputs.named(), 0)
}

impl Cpu {
    /// Calls `task` once for every index of the domain; a task is a row of the last two dimensions.
    fn for_each_element(self, extents: [usize; MAX_RANK], task: impl Fn([usize; MAX_RANK]) + Sync + Send) {
        if extents.contains(&0) {
            return;
        }
        let [e0, e1, e2, e3] = extents;
        self.for_each_plain(e0 * e1 * e2, |i| {
            for i3 in 0..e3 {
                task([i / (e1 * e2), i / e2 % e1, i % e2, i3]);
            }
        });
    }
}

fn put<T>(writer: &Option<Writer<'_, T, MAX_RANK>>, index: [usize; MAX_RANK], value: impl FnOnce() -> T) {
    if let Some(writer) = writer {
        // SAFETY: `for_each_element` visits each index of the domain once, and outputs have the domain's extents.
        unsafe { writer.write(index, value()) }
    }
}

#[inline(always)]
fn point<T: Element>(inputs: &Inputs<'_, T, Host>, index: [usize; MAX_RANK]) -> Point {
    let raw = inputs.dt.at(index).to_f32() + inputs.dt_bias.map_or(0.0, |bias| bias.at(index));
    let (delta, slope) = (inputs.step.apply(raw), inputs.step.slope(raw));
    let (A, B) = (inputs.A.at(index), inputs.B.at(index).to_f32());
    let lambda = inputs.lambda.map_or(0.0, |lambda| lambda.at(index).to_f32());
    Point::new(inputs.rule, delta, slope, A, B, lambda)
}
