//! ssm-kernels.

use crate::Result;
use crate::measure::Subject;
use crate::tensors::{Layout, Shape, Tensors};
use ssm_kernels::prelude::*;

type Dims<const N: usize> = [(&'static str, usize); N];

fn sequence_dims(tensors: &Tensors) -> Dims<3> {
    let Shape { batch, dim, seqlen, .. } = tensors.shape;
    match tensors.layout {
        Layout::Dense => [("batch", batch), ("dim", dim), ("seqlen", seqlen)],
        Layout::ChannelLast => [("batch", batch), ("seqlen", seqlen), ("dim", dim)],
    }
}

fn rows_dims(tensors: &Tensors) -> Dims<4> {
    let Shape { batch, seqlen, dstate, .. } = tensors.shape;
    let groups = ("ngroups", 1);
    match tensors.layout {
        Layout::Dense => [("batch", batch), groups, ("dstate", dstate), ("seqlen", seqlen)],
        Layout::ChannelLast => [("batch", batch), ("seqlen", seqlen), groups, ("dstate", dstate)],
    }
}

fn matrix_dims(shape: &Shape) -> Dims<2> {
    [("dim", shape.dim), ("dstate", shape.dstate)]
}

fn channels(data: &[f32]) -> View<'_, f32> {
    View::new(data, [("dim", data.len())])
}

/// x, dt and z.
fn sequences(tensors: &Tensors) -> [View<'_, f32>; 3] {
    [&tensors.x, &tensors.dt, &tensors.z].map(|data| View::new(data, sequence_dims(tensors)))
}

/// A, B and C.
fn projections(tensors: &Tensors) -> [View<'_, f32>; 3] {
    let [B, C] = [&tensors.B, &tensors.C].map(|data| View::new(data, rows_dims(tensors)));
    [View::new(&tensors.A, matrix_dims(&tensors.shape)), B, C]
}

fn scan(tensors: &Tensors) -> Result<SelectiveScan<'_, f32>> {
    let ([x, dt, z], [A, B, C]) = (sequences(tensors), projections(tensors));
    let scan = SelectiveScan::new(x, dt, A, B, C)?.D(channels(&tensors.D)).z(z);
    Ok(scan.dt_bias(channels(&tensors.dt_bias)).dt_softplus(true))
}

fn update(tensors: &Tensors) -> Result<StateUpdate<'_, f32>> {
    let ([x, dt, z], [A, B, C]) = (sequences(tensors), projections(tensors));
    let update = StateUpdate::new(x, dt, A, B, C)?.D(channels(&tensors.D)).z(z);
    Ok(update.dt_bias(channels(&tensors.dt_bias)).dt_softplus(true))
}

fn name(tensors: &Tensors) -> String {
    format!("ssm-kernels, {}", tensors.layout.name())
}

pub fn forward(tensors: &Tensors) -> Result<Subject<'_>> {
    let (scan, cpu) = (scan(tensors)?, Cpu::single_thread());
    let (plan, mut out) = (cpu.forward_plan(&scan)?, vec![0.0; tensors.x.len()]);
    let mut workspace = plan.allocate()?;
    Ok(Subject::new(name(tensors), move || {
        let mut out = ViewMut::new(&mut out, sequence_dims(tensors));
        let outputs = SelectiveScanOutputs::new(&mut out);
        Ok(cpu.forward_with(&scan, outputs, &plan, (&mut workspace).into())?)
    }))
}

/// The scan's only step as a token.
pub fn decode(tensors: &Tensors) -> Result<Subject<'_>> {
    let (update, cpu, shape) = (update(tensors)?, Cpu::single_thread(), tensors.shape);
    let (plan, mut out) = (cpu.forward_plan(&update)?, vec![0.0; tensors.x.len()]);
    let (mut workspace, mut states) = (plan.allocate()?, vec![0.0; shape.batch * shape.states()]);
    Ok(Subject::new(name(tensors), move || {
        let dims = [("batch", shape.batch), ("dim", shape.dim), ("dstate", shape.dstate)];
        let mut out = ViewMut::new(&mut out, sequence_dims(tensors));
        let mut states = ViewMut::new(&mut states, dims);
        let outputs = StateUpdateOutputs::new(&mut states, &mut out);
        Ok(cpu.forward_with(&update, outputs, &plan, (&mut workspace).into())?)
    }))
}

/// All that can be asked for.
pub struct Gradients {
    pub dx: Vec<f32>,
    pub ddt: Vec<f32>,
    pub dz: Vec<f32>,
    pub dB: Vec<f32>,
    pub dC: Vec<f32>,
    pub dA: Vec<f32>,
    pub dD: Vec<f32>,
    pub ddt_bias: Vec<f32>,
}

impl Gradients {
    fn new(shape: &Shape) -> Self {
        let [dx, ddt, dz] = std::array::from_fn(|_| vec![0.0; shape.sequence()]);
        let [dB, dC] = std::array::from_fn(|_| vec![0.0; shape.rows()]);
        let [dD, ddt_bias] = std::array::from_fn(|_| vec![0.0; shape.dim]);
        Self { dx, ddt, dz, dB, dC, dA: vec![0.0; shape.states()], dD, ddt_bias }
    }

    fn with_views(
        &mut self,
        tensors: &Tensors,
        run: impl FnOnce(SelectiveScanGradients<'_, f32>) -> ssm_kernels::Result<()>,
    ) -> Result<()> {
        let sequences = [&mut self.dx, &mut self.ddt, &mut self.dz];
        let [mut dx, mut ddt, mut dz] = sequences.map(|data| ViewMut::new(data, sequence_dims(tensors)));
        let [dB, dC] = [&mut self.dB, &mut self.dC].map(|data| ViewMut::new(data, rows_dims(tensors)));
        let dim = [("dim", tensors.shape.dim)];
        let [mut dD, mut ddt_bias] = [&mut self.dD, &mut self.ddt_bias].map(|data| ViewMut::new(data, dim));
        let mut dA = ViewMut::new(&mut self.dA, matrix_dims(&tensors.shape));
        let gradients = SelectiveScanGradients::new().dx(&mut dx).ddt(&mut ddt).dz(&mut dz).dA(&mut dA);
        Ok(run(gradients.dB(dB).dC(dC).dD(&mut dD).ddt_bias(&mut ddt_bias))?)
    }
}

fn upstream(tensors: &Tensors) -> SelectiveScanUpstream<'_, f32> {
    SelectiveScanUpstream::new().dout(View::new(&tensors.dout, sequence_dims(tensors)))
}

/// From inputs and dout alone: the states are computed again.
pub fn backward(tensors: &Tensors) -> Result<Subject<'_>> {
    let (scan, cpu) = (scan(tensors)?, Cpu::single_thread());
    let (plan, mut gradients) = (cpu.backward_plan(&scan)?, Gradients::new(&tensors.shape));
    let mut workspace = plan.allocate()?;
    Ok(Subject::new(name(tensors), move || {
        gradients.with_views(tensors, |gradients| {
            cpu.backward_with(&scan, upstream(tensors), gradients, &plan, (&mut workspace).into())
        })
    }))
}

/// For comparison.
pub fn token(tensors: &Tensors) -> Result<Vec<f32>> {
    let (shape, mut out) = (tensors.shape, vec![0.0; tensors.x.len()]);
    let mut states = vec![0.0; shape.batch * shape.states()];
    let dims = [("batch", shape.batch), ("dim", shape.dim), ("dstate", shape.dstate)];
    let (mut states, mut view) = (ViewMut::new(&mut states, dims), ViewMut::new(&mut out, sequence_dims(tensors)));
    Cpu::single_thread().forward(&update(tensors)?, StateUpdateOutputs::new(&mut states, &mut view))?;
    Ok(out)
}

/// For comparison.
pub fn results(tensors: &Tensors) -> Result<(Vec<f32>, Gradients)> {
    let (scan, cpu) = (scan(tensors)?, Cpu::single_thread());
    let (mut out, mut gradients) = (vec![0.0; tensors.x.len()], Gradients::new(&tensors.shape));
    let mut view = ViewMut::new(&mut out, sequence_dims(tensors));
    cpu.forward(&scan, SelectiveScanOutputs::new(&mut view))?;
    gradients.with_views(tensors, |gradients| cpu.backward(&scan, upstream(tensors), gradients))?;
    Ok((out, gradients))
}
