//! Discretise on host tensors.

use super::{Board, Copied, OnHost, Results};
use crate::error::Result;
use crate::ops::discretise::{Discretise, DiscretiseGradients, DiscretiseOutputs, DiscretiseUpstream, Inputs};
use crate::ops::{Backward, Forward, Operator, Workspace};
use crate::plan::Plan;
use crate::tensor::{Device, Element, Host};
use bytemuck::Pod;

/// The inputs of discretise on the device, over the whole domain.
struct CopiedInputs<M: Board, T: Pod> {
    dt: Copied<M, T>,
    A: Copied<M, f32>,
    B: Copied<M, T>,
    dt_bias: Option<Copied<M, f32>>,
    lambda: Option<Copied<M, T>>,
}

impl<M: Board, T: Element> CopiedInputs<M, T> {
    fn new(host: OnHost<M>, names: &[&'static str], inputs: &Inputs<'_, T, Host>) -> Result<Self> {
        Ok(Self {
            dt: host.copy("dt", names, &inputs.dt)?,
            A: host.copy("A", names, &inputs.A)?,
            B: host.copy("B", names, &inputs.B)?,
            dt_bias: host.optional("dt_bias", names, &inputs.dt_bias)?,
            lambda: host.optional("lambda", names, &inputs.lambda)?,
        })
    }

    fn op(&self, inputs: &Inputs<'_, T, Host>) -> Result<Discretise<'_, T, Device>> {
        let mut op = Discretise::new(inputs.rule, self.dt.view(), self.A.view(), self.B.view())?;
        op = op.dt_softplus(inputs.step.softplus);
        op = self.dt_bias.iter().fold(op, |op, bias| op.dt_bias(bias.view()));
        op = self.lambda.iter().fold(op, |op, lambda| op.lambda(lambda.view()));
        Ok(inputs.step.limit.into_iter().fold(op, Discretise::dt_limit))
    }
}

fn names<T>(inputs: &Inputs<'_, T, Host>) -> Vec<&'static str> {
    inputs.domain.as_slice().iter().map(|axis| axis.name).collect()
}

fn discretise_plan<T: Element>(direction: &str, inputs: &Inputs<'_, T, Host>) -> Plan {
    Plan::new(format!("discretise_{direction}_{}", T::DTYPE), inputs.named(), 0)
}

impl<'a, M: Board, T: Element> Forward<Discretise<'a, T>> for OnHost<M> {
    fn forward_plan(&self, op: &Discretise<'a, T>) -> Result<Plan> {
        Ok(discretise_plan("fwd", &op.inputs()?))
    }

    fn forward_with(
        &self,
        op: &Discretise<'a, T>,
        outputs: DiscretiseOutputs<'_>,
        plan: &Plan,
        workspace: Workspace<'_, Host>,
    ) -> Result<()> {
        let inputs = op.inputs()?;
        let outputs = outputs.check(&inputs)?;
        discretise_plan("fwd", &inputs).check(Discretise::<T>::NAME, plan, &workspace)?;
        let names = names(&inputs);
        let copied = CopiedInputs::new(*self, &names, &inputs)?;
        let mut delta = self.optional_room("delta", &names, &outputs.delta)?;
        let mut A_bar = self.optional_room("A_bar", &names, &outputs.A_bar)?;
        let mut B_bar = self.optional_room("B_bar", &names, &outputs.B_bar)?;
        let mut B_prev_bar = self.optional_room("B_prev_bar", &names, &outputs.B_prev_bar)?;
        let mut views =
            [&mut delta, &mut A_bar, &mut B_bar, &mut B_prev_bar].map(|room| room.as_mut().map(Copied::view_mut));
        let [a, b, c, d] = &mut views;
        let mut wanted = DiscretiseOutputs::new();
        wanted = a.iter_mut().fold(wanted, DiscretiseOutputs::delta);
        wanted = b.iter_mut().fold(wanted, DiscretiseOutputs::A_bar);
        wanted = c.iter_mut().fold(wanted, DiscretiseOutputs::B_bar);
        wanted = d.iter_mut().fold(wanted, DiscretiseOutputs::B_prev_bar);
        self.0.gpu().forward(&copied.op(&inputs)?, wanted)?;
        let mut results = Results::default();
        results.optional(&delta, outputs.delta)?;
        results.optional(&A_bar, outputs.A_bar)?;
        results.optional(&B_bar, outputs.B_bar)?;
        results.optional(&B_prev_bar, outputs.B_prev_bar)?;
        results.write();
        Ok(())
    }

    fn forward(&self, op: &Discretise<'a, T>, outputs: DiscretiseOutputs<'_>) -> Result<()> {
        self.forward_with(op, outputs, &self.forward_plan(op)?, (&mut Vec::new()).into())
    }
}

impl<'a, M: Board, T: Element> Backward<Discretise<'a, T>> for OnHost<M> {
    fn backward_plan(&self, op: &Discretise<'a, T>) -> Result<Plan> {
        Ok(discretise_plan("bwd", &op.inputs()?))
    }

    fn backward_with(
        &self,
        op: &Discretise<'a, T>,
        upstream: DiscretiseUpstream<'_>,
        gradients: DiscretiseGradients<'_, T>,
        plan: &Plan,
        workspace: Workspace<'_, Host>,
    ) -> Result<()> {
        let inputs = op.inputs()?;
        let upstream = upstream.check(&inputs)?;
        let gradients = gradients.check(&inputs, &upstream)?;
        discretise_plan("bwd", &inputs).check(Discretise::<T>::NAME, plan, &workspace)?;
        let names = names(&inputs);
        let copied = CopiedInputs::new(*self, &names, &inputs)?;
        let ddelta = self.optional("ddelta", &names, &upstream.ddelta)?;
        let dA_bar = self.optional("dA_bar", &names, &upstream.dA_bar)?;
        let dB_bar = self.optional("dB_bar", &names, &upstream.dB_bar)?;
        let dB_prev_bar = self.optional("dB_prev_bar", &names, &upstream.dB_prev_bar)?;
        let mut by = DiscretiseUpstream::new();
        by = ddelta.iter().fold(by, |by, gradient| by.ddelta(gradient.view()));
        by = dA_bar.iter().fold(by, |by, gradient| by.dA_bar(gradient.view()));
        by = dB_bar.iter().fold(by, |by, gradient| by.dB_bar(gradient.view()));
        by = dB_prev_bar.iter().fold(by, |by, gradient| by.dB_prev_bar(gradient.view()));
        let mut ddt = self.optional_room("ddt", &names, &gradients.ddt)?;
        let mut ddt_bias = self.optional_room("ddt_bias", &names, &gradients.ddt_bias)?;
        let mut dA = self.optional_room("dA", &names, &gradients.dA)?;
        let mut dB = self.optional_room("dB", &names, &gradients.dB)?;
        let mut dlambda = self.optional_room("dlambda", &names, &gradients.dlambda)?;
        let mut io = [&mut ddt, &mut dB, &mut dlambda].map(|room| room.as_mut().map(Copied::view_mut));
        let mut wide = [&mut ddt_bias, &mut dA].map(|room| room.as_mut().map(Copied::view_mut));
        let ([a, b, c], [d, e]) = (&mut io, &mut wide);
        let mut wanted = DiscretiseGradients::new();
        wanted = a.iter_mut().fold(wanted, DiscretiseGradients::ddt);
        wanted = b.iter_mut().fold(wanted, DiscretiseGradients::dB);
        wanted = c.iter_mut().fold(wanted, DiscretiseGradients::dlambda);
        wanted = d.iter_mut().fold(wanted, DiscretiseGradients::ddt_bias);
        wanted = e.iter_mut().fold(wanted, DiscretiseGradients::dA);
        self.0.gpu().backward(&copied.op(&inputs)?, by, wanted)?;
        let mut results = Results::default();
        results.optional(&ddt, gradients.ddt)?;
        results.optional(&ddt_bias, gradients.ddt_bias)?;
        results.optional(&dA, gradients.dA)?;
        results.optional(&dB, gradients.dB)?;
        results.optional(&dlambda, gradients.dlambda)?;
        results.write();
        Ok(())
    }

    fn backward(
        &self,
        op: &Discretise<'a, T>,
        upstream: DiscretiseUpstream<'_>,
        gradients: DiscretiseGradients<'_, T>,
    ) -> Result<()> {
        self.backward_with(op, upstream, gradients, &self.backward_plan(op)?, (&mut Vec::new()).into())
    }
}
