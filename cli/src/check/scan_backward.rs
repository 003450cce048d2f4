//! The selective scan backward: whole, in parts, and from the states that forward saved.

use super::scan::{Case, Rows, Spec};
use super::tally::Judge;
use super::tensor::Tensor;
use crate::operators::Runs;
use crate::random::Random;
use crate::tensor::Io;
use ssm_kernels::prelude::*;
use ssm_kernels::reference::accuracy::{Loop, Yardstick};
use ssm_kernels::reference::{Real, selective_scan as naive};
use ssm_kernels::{Dtype, Result};

/// The naive loops: gradients in the order of [`judge_all`].
struct Naive<'r, 'a, T>(&'r SelectiveScan<'a, T>, SelectiveScanUpstream<'r, T>);

impl<T: Io> Loop for Naive<'_, '_, T> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let run = naive::backward::<R, T>(self.0, self.1).expect("small, and checked before");
        let naive::Gradients { dx, ddt, dz, dA, dB, dC, dD, ddt_bias, dinitial_state, .. } = run;
        let all = [dx, ddt, dz, dA, dB, dC, dD, ddt_bias, dinitial_state];
        all.map(|tensor| tensor.into_iter().map(Real::to_f64).collect()).into()
    }
}

struct Gradients<T> {
    dx: Tensor<T>,
    ddt: Tensor<T>,
    dz: Option<Tensor<T>>,
    dA: Tensor<f32>,
    dB: Rows<T>,
    dC: Rows<T>,
    dD: Option<Tensor<f32>>,
    ddt_bias: Option<Tensor<f32>>,
    dinitial_state: Tensor<f32>,
}

/// Every way.
pub fn backward<T: Io>(backend: &impl Runs<T>, spec: &Spec, judge: &mut Judge<'_>) {
    if let Err(error) = every_way(backend, spec, judge) {
        judge.error("a valid case", &error);
    }
}

fn every_way<T: Io>(backend: &impl Runs<T>, spec: &Spec, judge: &mut Judge<'_>) -> Result<()> {
    let (case, random) = (Case::<T>::new(spec)?, &mut Random::new(spec.seed ^ 1));
    let (with_dout, with_state) = (random.chance(0.8), random.chance(0.5));
    let dout = Tensor::<T>::filled(&spec.sequence_dims(), spec.order, || random.normal());
    let dfinal_state = Tensor::<f32>::filled(&spec.state_dims(), spec.order, || random.normal());
    let mut upstream = SelectiveScanUpstream::new();
    if with_dout || !with_state {
        upstream = upstream.dout(dout.view()?);
    }
    if with_state {
        upstream = upstream.dfinal_state(dfinal_state.view()?);
    }
    let scan = case.scan()?;
    let row = |rows: &Rows<T>| if matches!(rows, Rows::Constant(_)) { spec.dstate } else { spec.seqlen };
    let (t, d, n) = (spec.seqlen, spec.dim, spec.dstate);
    let rows = [t, t, t, n, row(&case.B), row(&case.C), d, d, n];
    let yardsticks = Yardstick::measure(&Naive(&scan, upstream), &rows);
    let mut take = |how: &str, gradients: Result<Gradients<T>>| match gradients {
        Err(error) => judge.error(how, &error),
        Ok(gradients) => judge_all(judge, how, &gradients, &yardsticks),
    };
    take("whole", gradients(backend, &case, &scan, upstream));
    let split = case.scan()?.split(spec.split);
    take(&format!("split {}", spec.split), gradients(backend, &case, &split, upstream));
    let every = scan.checkpoint_every()?;
    let saved = saved(backend, &case, &scan, every)?;
    let upstream = upstream.checkpoints(every, saved.view()?);
    take("from checkpoints", gradients(backend, &case, &scan, upstream));
    Ok(())
}

/// The states that forward saves for backward.
fn saved<T: Io>(
    backend: &impl Runs<T>,
    case: &Case<'_, T>,
    scan: &SelectiveScan<'_, T>,
    every: usize,
) -> Result<Tensor<f32>> {
    let spec = case.spec;
    let nchunks = scan.chunk_offsets(every)?.last().copied().unwrap_or(0);
    let mut states = Tensor::blank(&[("nchunks", nchunks), ("dim", spec.dim), ("dstate", spec.dstate)], spec.order);
    let mut out = Tensor::blank(&spec.sequence_dims(), spec.order);
    let (mut out, mut view) = (out.view_mut()?, states.view_mut()?);
    backend.forward(scan, SelectiveScanOutputs::new(&mut out).chunk_states(every, &mut view))?;
    Ok(states)
}

fn gradients<T: Io>(
    backend: &impl Runs<T>,
    case: &Case<'_, T>,
    scan: &SelectiveScan<'_, T>,
    upstream: SelectiveScanUpstream<'_, T>,
) -> Result<Gradients<T>> {
    let spec = case.spec;
    let sequence = || Tensor::blank(&spec.sequence_dims(), spec.order);
    let channel = || Tensor::<f32>::blank(&[("dim", spec.dim)], spec.order);
    let like = |rows: &Rows<T>| match rows {
        Rows::Variable(tensor) => Rows::Variable(Tensor::blank(&tensor.dims(), spec.order)),
        Rows::Constant(tensor) => Rows::Constant(Tensor::blank(&tensor.dims(), spec.order)),
    };
    let mut all = Gradients {
        dx: sequence(),
        ddt: sequence(),
        dz: spec.z.then(sequence),
        dA: Tensor::blank(&[("dim", spec.dim), ("dstate", spec.dstate)], spec.order),
        dB: like(&case.B),
        dC: like(&case.C),
        dD: spec.D.then(channel),
        ddt_bias: spec.dt_bias.then(channel),
        dinitial_state: Tensor::blank(&spec.state_dims(), spec.order),
    };
    let (mut dx, mut ddt, mut dA) = (all.dx.view_mut()?, all.ddt.view_mut()?, all.dA.view_mut()?);
    let mut dz = all.dz.as_mut().map(Tensor::view_mut).transpose()?;
    let mut dD = all.dD.as_mut().map(Tensor::view_mut).transpose()?;
    let mut ddt_bias = all.ddt_bias.as_mut().map(Tensor::view_mut).transpose()?;
    let mut dinitial_state = all.dinitial_state.view_mut()?;
    let wanted = SelectiveScanGradients::new().dx(&mut dx).ddt(&mut ddt).dA(&mut dA);
    let wanted = wanted.dB(written(&mut all.dB)?).dC(written(&mut all.dC)?).dinitial_state(&mut dinitial_state);
    let wanted = dz.iter_mut().fold(wanted, SelectiveScanGradients::dz);
    let wanted = dD.iter_mut().fold(wanted, SelectiveScanGradients::dD);
    let wanted = ddt_bias.iter_mut().fold(wanted, SelectiveScanGradients::ddt_bias);
    backend.backward(scan, upstream, wanted)?;
    Ok(all)
}

fn written<T: Io>(rows: &mut Rows<T>) -> Result<ProjectionMut<'_, T>> {
    Ok(match rows {
        Rows::Variable(tensor) => ProjectionMut::Variable(tensor.view_mut()?),
        Rows::Constant(tensor) => ProjectionMut::Constant(tensor.view_mut()?),
    })
}

fn judge_all<T: Io>(judge: &mut Judge<'_>, how: &str, got: &Gradients<T>, by: &[Yardstick]) {
    fn rows<T: Io>(rows: &Rows<T>) -> (Option<Vec<f64>>, Dtype) {
        match rows {
            Rows::Variable(tensor) => (tensor.dense(), T::DTYPE),
            Rows::Constant(tensor) => (tensor.dense(), Dtype::F32),
        }
    }
    judge.tensor("dx", how, got.dx.dense(), &by[0], T::DTYPE);
    judge.tensor("ddt", how, got.ddt.dense(), &by[1], T::DTYPE);
    got.dz.iter().for_each(|dz| judge.tensor("dz", how, dz.dense(), &by[2], T::DTYPE));
    judge.tensor("dA", how, got.dA.dense(), &by[3], Dtype::F32);
    let ((dB, of_B), (dC, of_C)) = (rows(&got.dB), rows(&got.dC));
    judge.tensor("dB", how, dB, &by[4], of_B);
    judge.tensor("dC", how, dC, &by[5], of_C);
    got.dD.iter().for_each(|dD| judge.tensor("dD", how, dD.dense(), &by[6], Dtype::F32));
    got.ddt_bias.iter().for_each(|bias| judge.tensor("ddt_bias", how, bias.dense(), &by[7], Dtype::F32));
    judge.tensor("dinitial_state", how, got.dinitial_state.dense(), &by[8], Dtype::F32);
}
