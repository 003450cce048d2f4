//! Discretisation on the CPU, in blocks of elements. The formulas are those of the GPU kernels.

mod blocks;
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

use blocks::{Block, Blocks};
use rows::{Held, Rows};

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
        let blocks = Blocks::new(&inputs, results.iter().flatten().map(Writer::strides));
        blocks.for_each(*self, |rows, block| {
            results.iter().flatten().for_each(|writer| block.fetch(writer));
            load(*self, &inputs, rows, block, blocks.steps(block), false);
            rows.forward(*self, inputs.rule);
            let rows = [&rows.delta, &rows.results[0], &rows.results[1], &rows.results[2]];
            for (writer, row) in results.iter().zip(rows).filter_map(|(writer, row)| Some((writer.as_ref()?, row))) {
                // SAFETY: `for_each` gives each block once, and they lie in the domain, whose extents outputs have.
                unsafe { block.write(writer, row) };
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
        let blocks = Blocks::new(&inputs, strides);
        let upstream = [upstream.ddelta, upstream.dA_bar, upstream.dB_bar, upstream.dB_prev_bar];
        blocks.for_each(*self, |rows, block| {
            let own = [&ddt, &dB, &dlambda].into_iter().flatten();
            own.for_each(|writer| block.fetch(writer));
            [&ddt_bias, &dA].into_iter().flatten().for_each(|writer| block.fetch(writer));
            load(*self, &inputs, rows, block, blocks.steps(block), true);
            for (row, gradient) in rows.upstream.iter_mut().zip(&upstream) {
                read(gradient.as_ref(), row, block);
            }
            rows.backward(*self, inputs.rule, upstream.map(|gradient| gradient.is_some()));
            let [raw, by_A, by_B, by_lambda] = &rows.results;
            for (writer, row) in [(&ddt, raw), (&dB, by_B), (&dlambda, by_lambda)] {
                // SAFETY: as forward.
                writer.iter().for_each(|writer| unsafe { block.write(writer, row) });
            }
            for (writer, row) in [(&ddt_bias, raw), (&dA, by_A)] {
                // SAFETY: as forward.
                writer.iter().for_each(|writer| unsafe { block.write(writer, row) });
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

/// The inputs of a block that are not those of the block before; with delta its derivative, if it is asked for.
fn load<T: Element>(
    cpu: Cpu,
    inputs: &Inputs<'_, T, Host>,
    rows: &mut Rows,
    block: &Block,
    steps: Block,
    derivative: bool,
) {
    rows.count = block.elements();
    let [of_steps, of_A, of_B, of_lambda] = &mut rows.held;
    hold(Some(&inputs.A), &mut rows.A, of_A, block);
    hold(Some(&inputs.B), &mut rows.B, of_B, block);
    hold(inputs.lambda.as_ref(), &mut rows.lambda, of_lambda, block);
    let wanted = Some((steps, block.counts));
    if *of_steps != wanted {
        *of_steps = wanted;
        read(Some(&inputs.dt), &mut rows.delta, &steps);
        read(inputs.dt_bias.as_ref(), &mut rows.slope, &steps);
        rows.step(cpu, inputs.step, steps.elements(), derivative);
        block.expand(&steps, &mut rows.delta);
        block.expand(&steps, &mut rows.slope);
    }
}

/// As [`read`], if the row does not hold these elements.
fn hold<T: Element>(tensor: Option<&Strided<'_, T, Host, MAX_RANK>>, row: &mut [f32], held: &mut Held, block: &Block) {
    let varies = tensor.map_or([false; MAX_RANK], |tensor| tensor.layout.strides.map(|stride| stride != 0));
    let wanted = Some((block.part(varies), block.counts));
    if *held != wanted {
        *held = wanted;
        read(tensor, row, block);
    }
}

/// A tensor's elements of a block; 0 where it is absent.
fn read<T: Element>(tensor: Option<&Strided<'_, T, Host, MAX_RANK>>, row: &mut [f32], block: &Block) {
    match tensor {
        Some(tensor) => block.read(tensor, row),
        None => row[..block.elements()].fill(0.0),
    }
}
