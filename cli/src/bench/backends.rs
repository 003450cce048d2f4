//! The backends that can be measured. Another one is a variant of `Measured` and a line in [`runner`].

use super::case::{Case, Direction};
use crate::args::{Measured, Op};
use crate::error::Result;
use crate::memory::filled;
use crate::operators::Runs;
use crate::tensor::Io;
use ssm_kernels::prelude::*;

/// One call, ready to run again and again: all memory is there, its plan is made.
pub type Runner<'c> = Box<dyn FnMut() -> Result<()> + Send + 'c>;

/// The call of a case on a backend, and the name of the variant that runs it.
pub fn runner<'c, T: Io>(
    backend: Measured,
    threads: u16,
    op: Op,
    direction: Direction,
    case: &'c Case<T>,
) -> Result<(Runner<'c>, &'static str)> {
    match backend {
        Measured::Cpu if threads == 1 => Ok((prepare(Cpu::single_thread(), op, direction, case)?, "single_thread")),
        Measured::Cpu => Ok((prepare(Cpu::new(), op, direction, case)?, "rayon")),
    }
}

fn prepare<'c, T: Io>(
    backend: impl Runs<T> + Send + 'c,
    op: Op,
    direction: Direction,
    case: &'c Case<T>,
) -> Result<Runner<'c>> {
    match (op, direction) {
        (Op::SelectiveScan, Direction::Forward) => scan_forward(backend, case),
        (Op::SelectiveScan, Direction::Backward) => scan_backward(backend, case),
        (Op::Discretise, Direction::Forward) => discretise_forward(backend, case),
        (Op::Discretise, Direction::Backward) => discretise_backward(backend, case),
        (Op::StateUpdate, _) => state_update(backend, case),
        (Op::CausalConv1d, Direction::Forward) => conv_forward(backend, case),
        (Op::CausalConv1d, Direction::Backward) => conv_backward(backend, case),
        (Op::CausalConv1dUpdate, _) => conv_update(backend, case),
    }
}

fn scan_forward<'c, T: Io>(backend: impl Runs<T> + Send + 'c, case: &'c Case<T>) -> Result<Runner<'c>> {
    let scan = case.scan()?;
    let plan = backend.forward_plan(&scan)?;
    let (mut workspace, mut out) = (plan.allocate()?, filled(case.shape.sequence(), T::from_f32(0.0))?);
    Ok(Box::new(move || {
        let mut out = case.sequence_mut(&mut out);
        let outputs = SelectiveScanOutputs::new(&mut out);
        Ok(backend.forward_with(&scan, outputs, &plan, (&mut workspace).into())?)
    }))
}

fn state_update<'c, T: Io>(backend: impl Runs<T> + Send + 'c, case: &'c Case<T>) -> Result<Runner<'c>> {
    let (op, shape) = (case.update()?, case.shape);
    let plan = backend.forward_plan(&op)?;
    let (mut workspace, mut out) = (plan.allocate()?, filled(shape.sequence(), T::from_f32(0.0))?);
    let mut state = filled(shape.batch * shape.states(), 0.0f32)?;
    Ok(Box::new(move || {
        let dims = [("batch", shape.batch), ("dim", shape.dim), ("dstate", shape.dstate)];
        let (mut state, mut out) = (ViewMut::new(&mut state, dims), case.sequence_mut(&mut out));
        let outputs = StateUpdateOutputs::new(&mut state, &mut out);
        Ok(backend.forward_with(&op, outputs, &plan, (&mut workspace).into())?)
    }))
}

fn scan_backward<'c, T: Io>(backend: impl Runs<T> + Send + 'c, case: &'c Case<T>) -> Result<Runner<'c>> {
    let (scan, shape) = (case.scan()?, case.shape);
    let upstream = SelectiveScanUpstream::new().dout(case.sequence(&case.io.sequences[3]));
    let plan = backend.backward_plan(&scan)?;
    let (mut workspace, zero) = (plan.allocate()?, T::from_f32(0.0));
    let sequence = || filled(shape.sequence(), zero);
    let (mut dx, mut ddt, mut dz) = (sequence()?, sequence()?, sequence()?);
    let (mut dB, mut dC) = (filled(shape.rows(), zero)?, filled(shape.rows(), zero)?);
    let mut dA = filled(shape.states(), 0.0f32)?;
    let (mut dD, mut ddt_bias) = (filled(shape.dim, 0.0f32)?, filled(shape.dim, 0.0f32)?);
    Ok(Box::new(move || {
        let dim = [("dim", shape.dim)];
        let (mut dx, mut ddt, mut dz) =
            (case.sequence_mut(&mut dx), case.sequence_mut(&mut ddt), case.sequence_mut(&mut dz));
        let mut dA = ViewMut::new(&mut dA, [("dim", shape.dim), ("dstate", shape.dstate)]);
        let (mut dD, mut ddt_bias) = (ViewMut::new(&mut dD, dim), ViewMut::new(&mut ddt_bias, dim));
        let gradients = SelectiveScanGradients::new().dx(&mut dx).ddt(&mut ddt).dz(&mut dz).dA(&mut dA);
        let gradients = gradients.dB(case.rows_mut(&mut dB)).dC(case.rows_mut(&mut dC));
        let gradients = gradients.dD(&mut dD).ddt_bias(&mut ddt_bias);
        Ok(backend.backward_with(&scan, upstream, gradients, &plan, (&mut workspace).into())?)
    }))
}

fn conv_forward<'c, T: Io>(backend: impl Runs<T> + Send + 'c, case: &'c Case<T>) -> Result<Runner<'c>> {
    let conv = case.conv()?;
    let plan = backend.forward_plan(&conv)?;
    let (mut workspace, mut out) = (plan.allocate()?, filled(case.shape.sequence(), T::from_f32(0.0))?);
    Ok(Box::new(move || {
        let mut out = case.sequence_mut(&mut out);
        let outputs = CausalConv1dOutputs::new(&mut out);
        Ok(backend.forward_with(&conv, outputs, &plan, (&mut workspace).into())?)
    }))
}

fn conv_backward<'c, T: Io>(backend: impl Runs<T> + Send + 'c, case: &'c Case<T>) -> Result<Runner<'c>> {
    let (conv, shape) = (case.conv()?, case.shape);
    let upstream = CausalConv1dUpstream::new().dout(case.sequence(&case.io.sequences[3]));
    let plan = backend.backward_plan(&conv)?;
    let (mut workspace, mut dx) = (plan.allocate()?, filled(shape.sequence(), T::from_f32(0.0))?);
    let (mut dweight, mut dbias) = (filled(shape.states(), 0.0f32)?, filled(shape.dim, 0.0f32)?);
    Ok(Box::new(move || {
        let (mut dx, dim) = (case.sequence_mut(&mut dx), ("dim", shape.dim));
        let mut dweight = ViewMut::new(&mut dweight, [dim, ("width", shape.dstate)]);
        let mut dbias = ViewMut::new(&mut dbias, [dim]);
        let gradients = CausalConv1dGradients::new().dx(&mut dx).dweight(&mut dweight).dbias(&mut dbias);
        Ok(backend.backward_with(&conv, upstream, gradients, &plan, (&mut workspace).into())?)
    }))
}

fn conv_update<'c, T: Io>(backend: impl Runs<T> + Send + 'c, case: &'c Case<T>) -> Result<Runner<'c>> {
    let (op, shape, zero) = (case.conv_update()?, case.shape, T::from_f32(0.0));
    let plan = backend.forward_plan(&op)?;
    let (mut workspace, mut out) = (plan.allocate()?, filled(shape.sequence(), zero)?);
    let mut state = filled(shape.batch * shape.dim * (shape.dstate - 1), zero)?;
    Ok(Box::new(move || {
        let (mut state, mut out) = (case.conv_state(&mut state), case.sequence_mut(&mut out));
        let outputs = CausalConv1dUpdateOutputs::new(&mut out, &mut state);
        Ok(backend.forward_with(&op, outputs, &plan, (&mut workspace).into())?)
    }))
}

fn discretise_forward<'c, T: Io>(backend: impl Runs<T> + Send + 'c, case: &'c Case<T>) -> Result<Runner<'c>> {
    let (op, domain) = (case.discretise()?, case.domain());
    let plan = backend.forward_plan(&op)?;
    let elements = case.shape.sequence() * case.shape.dstate;
    let (mut workspace, mut A_bar, mut B_bar) = (plan.allocate()?, filled(elements, 0.0)?, filled(elements, 0.0)?);
    Ok(Box::new(move || {
        let (mut A_bar, mut B_bar) = (ViewMut::new(&mut A_bar, domain), ViewMut::new(&mut B_bar, domain));
        let outputs = DiscretiseOutputs::new().A_bar(&mut A_bar).B_bar(&mut B_bar);
        Ok(backend.forward_with(&op, outputs, &plan, (&mut workspace).into())?)
    }))
}

fn discretise_backward<'c, T: Io>(backend: impl Runs<T> + Send + 'c, case: &'c Case<T>) -> Result<Runner<'c>> {
    let (op, domain) = (case.discretise()?, case.domain());
    let plan = backend.backward_plan(&op)?;
    let elements = case.shape.sequence() * case.shape.dstate;
    let (by_A_bar, by_B_bar) = (filled(elements, 0.5f32)?, filled(elements, -0.5f32)?);
    let (mut workspace, mut dA) = (plan.allocate()?, filled(elements, 0.0f32)?);
    let (mut ddt, mut dB) = (filled(elements, T::from_f32(0.0))?, filled(elements, T::from_f32(0.0))?);
    Ok(Box::new(move || {
        let upstream = DiscretiseUpstream::new().dA_bar(View::new(&by_A_bar, domain));
        let upstream = upstream.dB_bar(View::new(&by_B_bar, domain));
        let (mut ddt, mut dB) = (ViewMut::new(&mut ddt, domain), ViewMut::new(&mut dB, domain));
        let mut dA = ViewMut::new(&mut dA, domain);
        let gradients = DiscretiseGradients::new().ddt(&mut ddt).dA(&mut dA).dB(&mut dB);
        Ok(backend.backward_with(&op, upstream, gradients, &plan, (&mut workspace).into())?)
    }))
}
