//! Discretisation on the CPU, in rows of elements. The formulas are those of the GPU kernels.

mod lines;
mod rows;

use super::Cpu;
use super::writer::Writer;
use crate::error::Result;
use crate::ops::discretise::{Discretise, DiscretiseGradients, DiscretiseOutputs, DiscretiseUpstream, Inputs, Rule};
use crate::ops::{Backward, Forward, Operator, Workspace};
use crate::plan::Plan;
use crate::tensor::{Element, Host, MAX_RANK, Strided};

#[path = "../../../kernels-rs/discretise_formulas.rs"]
mod formulas;

use lines::{Lines, Piece};
use rows::Rows;

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
        let results = [delta, A_bar, B_bar, B_prev_bar];
        let lines = Lines::new(&inputs, results.iter().flatten().map(Writer::strides));
        lines.for_each(*self, |rows, pieces| {
            load(&inputs, rows, pieces, lines.axis);
            rows.forward(*self, inputs.rule, inputs.step);
            for (writer, row) in results.iter().zip(&rows.results) {
                // SAFETY: `for_each` gives each piece once, and they lie in the domain, whose extents outputs have.
                unsafe { store(writer, row, pieces, lines.axis) };
            }
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
        let strides = [&ddt, &dB, &dlambda].into_iter().flatten().map(Writer::strides);
        let strides = strides.chain([&ddt_bias, &dA].into_iter().flatten().map(Writer::strides));
        let lines = Lines::new(&inputs, strides);
        let upstream = [upstream.ddelta, upstream.dA_bar, upstream.dB_bar, upstream.dB_prev_bar];
        lines.for_each(*self, |rows, pieces| {
            load(&inputs, rows, pieces, lines.axis);
            for (row, gradient) in rows.upstream.iter_mut().zip(&upstream) {
                read(gradient.as_ref(), row, pieces, lines.axis);
            }
            rows.backward(*self, inputs.rule, inputs.step, upstream.map(|gradient| gradient.is_some()));
            let [raw, by_A, by_B, by_lambda] = &rows.results;
            // SAFETY: as forward.
            unsafe {
                store(&ddt, raw, pieces, lines.axis);
                store(&ddt_bias, raw, pieces, lines.axis);
                store(&dA, by_A, pieces, lines.axis);
                store(&dB, by_B, pieces, lines.axis);
                store(&dlambda, by_lambda, pieces, lines.axis);
            }
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

/// The inputs of some elements.
fn load<T: Element>(inputs: &Inputs<'_, T, Host>, rows: &mut Rows, pieces: &[Piece], axis: usize) {
    read(Some(&inputs.dt), &mut rows.delta, pieces, axis);
    read(inputs.dt_bias.as_ref(), &mut rows.slope, pieces, axis);
    read(Some(&inputs.A), &mut rows.A, pieces, axis);
    read(Some(&inputs.B), &mut rows.B, pieces, axis);
    read(inputs.lambda.as_ref(), &mut rows.lambda, pieces, axis);
}

/// Elements of a tensor, one piece after the other; 0 where it is absent.
fn read<T: Element>(tensor: Option<&Strided<'_, T, Host, MAX_RANK>>, to: &mut [f32], pieces: &[Piece], axis: usize) {
    let Some(tensor) = tensor else { return to.fill(0.0) };
    let mut rest = to;
    for piece in pieces {
        let (own, behind) = rest.split_at_mut(piece.count);
        tensor.run(piece.index, axis, own);
        rest = behind;
    }
}

/// # Safety
/// The pieces lie in the tensor, and no other thread writes them.
unsafe fn store<T: Element>(writer: &Option<Writer<'_, T, MAX_RANK>>, from: &[f32], pieces: &[Piece], axis: usize) {
    let Some(writer) = writer else { return };
    let mut rest = from;
    for piece in pieces {
        let (own, behind) = rest.split_at(piece.count);
        // SAFETY: the caller's promise.
        unsafe { writer.run(piece.index, axis, own) };
        rest = behind;
    }
}
