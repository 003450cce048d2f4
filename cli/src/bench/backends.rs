//! The calls of a case, ready to run again and again, on any backend.

use super::case::Direction;
use super::inputs::{Inputs, view};
use super::place::{Buffer, Place};
use crate::args::Op;
use crate::error::{CliError, Result};
use crate::memory::filled;
use crate::operators::Runs;
use crate::tensor::Io;
use ssm_kernels::prelude::*;

/// One call, ready to run again and again: all memory is there, its plan is made.
pub type Runner<'c> = Box<dyn FnMut() -> Result<()> + Send + 'c>;

/// One of `runners` with each call, the least recent one.
pub fn in_turn(mut runners: Vec<Runner<'_>>) -> Runner<'_> {
    let mut next = 0;
    Box::new(move || {
        let now = next;
        next = (now + 1) % runners.len();
        runners[now]()
    })
}

/// A backend, the memory that it works in, and what it reads.
pub struct Setting<'c, P: Place, T> {
    pub place: P,
    pub inputs: Inputs<'c, T, P::Storage>,
}

/// The call of a case on a backend.
pub fn runner<'c, T: Io, P>(
    place: P,
    op: Op,
    direction: Direction,
    inputs: Inputs<'c, T, P::Storage>,
) -> Result<Runner<'c>>
where
    P: Place + Runs<T, P::Storage> + Send + 'c,
{
    let setting = Setting { place, inputs };
    match (op, direction) {
        (Op::SelectiveScan, Direction::Forward) => setting.scan_forward(),
        (Op::SelectiveScan, Direction::Backward) => setting.scan_backward(),
        (Op::Discretise, Direction::Forward) => setting.discretise_forward(),
        (Op::Discretise, Direction::Backward) => setting.discretise_backward(),
        (Op::StateUpdate, _) => setting.state_update(),
        (Op::CausalConv1d, Direction::Forward) => setting.conv_forward(),
        (Op::CausalConv1d, Direction::Backward) => setting.conv_backward(),
        (Op::CausalConv1dUpdate, _) => setting.conv_update(),
        (Op::SquaredAttention | Op::SquaredAttentionUpdate, _) => {
            Err(CliError::new(format!("{op} has no GPU kernels, expected --backend cpu")))
        }
    }
}

impl<T: Io, P: Place> Setting<'_, P, T> {
    /// A tensor of the I/O dtype, all 0.
    pub fn zeros(&self, elements: usize) -> Result<P::Buffer<T>> {
        self.place.store(filled(elements, T::from_f32(0.0))?)
    }

    /// A tensor of f32, all `value`.
    pub fn floats(&self, elements: usize, value: f32) -> Result<P::Buffer<f32>> {
        self.place.store(filled(elements, value)?)
    }
}

impl<'c, T: Io, P: Place + Runs<T, P::Storage> + Send + 'c> Setting<'c, P, T> {
    fn scan_forward(self) -> Result<Runner<'c>> {
        let scan = self.inputs.scan()?;
        let plan = self.place.forward_plan(&scan)?;
        let (mut workspace, mut out) = (self.place.workspace(&plan)?, self.zeros(self.inputs.shape.sequence())?);
        Ok(Box::new(move || {
            let mut out = out.tensor(self.inputs.sequence_dims());
            let outputs = SelectiveScanOutputs::new(&mut out);
            Ok(self.place.forward_with(&scan, outputs, &plan, workspace.exclusive())?)
        }))
    }

    fn state_update(self) -> Result<Runner<'c>> {
        let (op, shape) = (self.inputs.update()?, self.inputs.shape);
        let plan = self.place.forward_plan(&op)?;
        let (mut workspace, mut out) = (self.place.workspace(&plan)?, self.zeros(shape.sequence())?);
        let mut state = self.floats(shape.batch * shape.states(), 0.0)?;
        Ok(Box::new(move || {
            let dims = [("batch", shape.batch), ("dim", shape.dim), ("dstate", shape.dstate)];
            let (mut state, mut out) = (state.tensor(dims), out.tensor(self.inputs.sequence_dims()));
            let outputs = StateUpdateOutputs::new(&mut state, &mut out);
            Ok(self.place.forward_with(&op, outputs, &plan, workspace.exclusive())?)
        }))
    }

    fn scan_backward(self) -> Result<Runner<'c>> {
        let (scan, shape) = (self.inputs.scan()?, self.inputs.shape);
        let plan = self.place.backward_plan(&scan)?;
        let mut workspace = self.place.workspace(&plan)?;
        let sequence = || self.zeros(shape.sequence());
        let (mut dx, mut ddt, mut dz) = (sequence()?, sequence()?, sequence()?);
        let (mut dB, mut dC) = (self.zeros(shape.rows())?, self.zeros(shape.rows())?);
        let mut dA = self.floats(shape.states(), 0.0)?;
        let (mut dD, mut ddt_bias) = (self.floats(shape.dim, 0.0)?, self.floats(shape.dim, 0.0)?);
        Ok(Box::new(move || {
            let (sequence, rows, dim) = (self.inputs.sequence_dims(), self.inputs.rows_dims(), [("dim", shape.dim)]);
            let upstream = SelectiveScanUpstream::new().dout(self.inputs.dout());
            let (mut dx, mut ddt, mut dz) = (dx.tensor(sequence), ddt.tensor(sequence), dz.tensor(sequence));
            let mut dA = dA.tensor([("dim", shape.dim), ("dstate", shape.dstate)]);
            let (mut dD, mut ddt_bias) = (dD.tensor(dim), ddt_bias.tensor(dim));
            let gradients = SelectiveScanGradients::new().dx(&mut dx).ddt(&mut ddt).dz(&mut dz).dA(&mut dA);
            let gradients = gradients.dB(dB.tensor(rows)).dC(dC.tensor(rows)).dD(&mut dD).ddt_bias(&mut ddt_bias);
            Ok(self.place.backward_with(&scan, upstream, gradients, &plan, workspace.exclusive())?)
        }))
    }

    fn conv_forward(self) -> Result<Runner<'c>> {
        let conv = self.inputs.conv()?;
        let plan = self.place.forward_plan(&conv)?;
        let (mut workspace, mut out) = (self.place.workspace(&plan)?, self.zeros(self.inputs.shape.sequence())?);
        Ok(Box::new(move || {
            let mut out = out.tensor(self.inputs.sequence_dims());
            let outputs = CausalConv1dOutputs::new(&mut out);
            Ok(self.place.forward_with(&conv, outputs, &plan, workspace.exclusive())?)
        }))
    }

    fn conv_backward(self) -> Result<Runner<'c>> {
        let (conv, shape) = (self.inputs.conv()?, self.inputs.shape);
        let plan = self.place.backward_plan(&conv)?;
        let (mut workspace, mut dx) = (self.place.workspace(&plan)?, self.zeros(shape.sequence())?);
        let (mut dweight, mut dbias) = (self.floats(shape.states(), 0.0)?, self.floats(shape.dim, 0.0)?);
        Ok(Box::new(move || {
            let (mut dx, dim) = (dx.tensor(self.inputs.sequence_dims()), ("dim", shape.dim));
            let (mut dweight, mut dbias) = (dweight.tensor([dim, ("width", shape.dstate)]), dbias.tensor([dim]));
            let upstream = CausalConv1dUpstream::new().dout(self.inputs.dout());
            let gradients = CausalConv1dGradients::new().dx(&mut dx).dweight(&mut dweight).dbias(&mut dbias);
            Ok(self.place.backward_with(&conv, upstream, gradients, &plan, workspace.exclusive())?)
        }))
    }

    fn conv_update(self) -> Result<Runner<'c>> {
        let (op, shape) = (self.inputs.conv_update()?, self.inputs.shape);
        let plan = self.place.forward_plan(&op)?;
        let (mut workspace, mut out) = (self.place.workspace(&plan)?, self.zeros(shape.sequence())?);
        let mut state = self.zeros(shape.batch * shape.dim * (shape.dstate - 1))?;
        Ok(Box::new(move || {
            let mut state = state.tensor(self.inputs.conv_state_dims());
            let mut out = out.tensor(self.inputs.sequence_dims());
            let outputs = CausalConv1dUpdateOutputs::new(&mut out, &mut state);
            Ok(self.place.forward_with(&op, outputs, &plan, workspace.exclusive())?)
        }))
    }

    fn discretise_forward(self) -> Result<Runner<'c>> {
        let (op, domain) = (self.inputs.discretise()?, self.inputs.domain());
        let plan = self.place.forward_plan(&op)?;
        let elements = self.inputs.shape.sequence() * self.inputs.shape.dstate;
        let (mut A_bar, mut B_bar) = (self.floats(elements, 0.0)?, self.floats(elements, 0.0)?);
        let mut workspace = self.place.workspace(&plan)?;
        Ok(Box::new(move || {
            let (mut A_bar, mut B_bar) = (A_bar.tensor(domain), B_bar.tensor(domain));
            let outputs = DiscretiseOutputs::new().A_bar(&mut A_bar).B_bar(&mut B_bar);
            Ok(self.place.forward_with(&op, outputs, &plan, workspace.exclusive())?)
        }))
    }

    fn discretise_backward(self) -> Result<Runner<'c>> {
        let (op, domain) = (self.inputs.discretise()?, self.inputs.domain());
        let plan = self.place.backward_plan(&op)?;
        let elements = self.inputs.shape.sequence() * self.inputs.shape.dstate;
        let (by_A_bar, by_B_bar) = (self.floats(elements, 0.5)?, self.floats(elements, -0.5)?);
        let (mut workspace, mut dA) = (self.place.workspace(&plan)?, self.floats(elements, 0.0)?);
        let (mut ddt, mut dB) = (self.zeros(elements)?, self.zeros(elements)?);
        Ok(Box::new(move || {
            let upstream = DiscretiseUpstream::new().dA_bar(view(by_A_bar.shared(), domain));
            let upstream = upstream.dB_bar(view(by_B_bar.shared(), domain));
            let (mut ddt, mut dA, mut dB) = (ddt.tensor(domain), dA.tensor(domain), dB.tensor(domain));
            let gradients = DiscretiseGradients::new().ddt(&mut ddt).dA(&mut dA).dB(&mut dB);
            Ok(self.place.backward_with(&op, upstream, gradients, &plan, workspace.exclusive())?)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn runners_take_turns() {
        let order = Mutex::new(vec![]);
        let runner = |i| {
            let order = &order;
            Box::new(move || {
                order.lock().unwrap().push(i);
                Ok(())
            }) as Runner<'_>
        };
        let mut run = in_turn((0..3).map(runner).collect());
        (0..7).for_each(|_| run().unwrap());
        drop(run);
        assert_eq!(order.into_inner().unwrap(), [0, 1, 2, 0, 1, 2, 0]);
    }
}
