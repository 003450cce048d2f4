//! The discretisation.

use super::tally::Judge;
use super::tensor::{Dim, Order, Tensor};
use crate::operators::Runs;
use crate::random::Random;
use crate::tensor::Io;
use ssm_kernels::prelude::*;
use ssm_kernels::reference::accuracy::{Loop, Yardstick};
use ssm_kernels::reference::{Real, discretise as naive};
use ssm_kernels::{Dtype, Result};

const NAMES: [&str; 4] = ["batch", "dim", "dstate", "seqlen"];

/// Shape and options of a case; all its numbers follow from its seed.
#[derive(Debug, Clone)]
pub struct Spec {
    rule: Rule,
    extents: Vec<usize>,
    /// Which dimensions dt, A, B, dt_bias and lambda have; along the others they are broadcast.
    has: [[bool; 4]; 5],
    dt_bias: bool,
    dt_softplus: bool,
    dt_limit: bool,
    /// Which of ddelta, dA_bar, dB_bar, dB_prev_bar come from above.
    upstream: [bool; 4],
    order: Order,
    seed: u64,
}

impl Spec {
    /// Anything small.
    pub fn draw(random: &mut Random) -> Self {
        let rule = Rule::ALL[random.below(Rule::ALL.len())];
        let extents: Vec<usize> = (0..1 + random.below(4)).map(|_| 1 + random.below(6)).collect();
        let upstream = std::array::from_fn(|_| random.chance(0.5));
        // On a handful of elements the yardstick of a sum that cancels is luck (docs/testing.md): one gradient at a time.
        let one = random.below(3);
        let few = extents.iter().product::<usize>() < 64 || upstream == [false; 4];
        Self {
            rule,
            extents,
            has: std::array::from_fn(|_| std::array::from_fn(|_| random.chance(0.7))),
            dt_bias: random.chance(0.5),
            dt_softplus: random.chance(0.5),
            dt_limit: random.chance(0.5),
            upstream: if few { std::array::from_fn(|i| i == one) } else { upstream },
            order: Order::draw(random),
            seed: random.bits(),
        }
    }

    fn dims(&self, input: usize) -> Vec<Dim> {
        let all = NAMES.into_iter().zip(self.extents.iter().copied()).zip(self.has[input]);
        all.filter(|(_, has)| *has).map(|(dim, _)| dim).collect()
    }
}

struct Case<T> {
    rule: Rule,
    dt: Tensor<T>,
    A: Tensor<f32>,
    B: Tensor<T>,
    dt_bias: Option<Tensor<f32>>,
    lambda: Option<Tensor<T>>,
    dt_softplus: bool,
    dt_limit: bool,
}

impl<T: Io> Case<T> {
    fn new(spec: &Spec) -> Self {
        let (random, order) = (&mut Random::new(spec.seed), spec.order);
        let dt = Tensor::filled(&spec.dims(0), order, || match spec.dt_softplus {
            true => 3.0 * random.normal() - 2.0,
            false => random.log_uniform(1e-6, 10.0),
        });
        let A = Tensor::filled(&spec.dims(1), order, || match random.below(8) {
            0 => 0.0,
            1 => -random.log_uniform(1e-8, 1e-4),
            _ => -random.log_uniform(1e-2, 100.0),
        });
        let B = Tensor::filled(&spec.dims(2), order, || random.normal());
        let dt_bias = spec.dt_bias.then(|| Tensor::filled(&spec.dims(3), order, || random.uniform(0.0, 0.5)));
        let lambda = (spec.rule == Rule::ExpTrapezoidal)
            .then(|| Tensor::filled(&spec.dims(4), order, || random.uniform(0.0, 1.0)));
        let (rule, dt_softplus, dt_limit) = (spec.rule, spec.dt_softplus, spec.dt_limit);
        Self { rule, dt, A, B, dt_bias, lambda, dt_softplus, dt_limit }
    }

    fn op(&self) -> Result<Discretise<'_, T>> {
        let op = Discretise::new(self.rule, self.dt.view()?, self.A.view()?, self.B.view()?)?;
        let mut op = op.dt_softplus(self.dt_softplus);
        if let Some(dt_bias) = &self.dt_bias {
            op = op.dt_bias(dt_bias.view()?);
        }
        if let Some(lambda) = &self.lambda {
            op = op.lambda(lambda.view()?);
        }
        Ok(if self.dt_limit { op.dt_limit((0.01, 1.0)) } else { op })
    }

    fn domain(&self) -> Result<Vec<Dim>> {
        Ok(self.op()?.domain()?.as_slice().iter().map(|axis| (axis.name, axis.extent)).collect())
    }

    fn trapezoidal(&self) -> bool {
        self.lambda.is_some()
    }
}

/// delta, A_bar, B_bar, B_prev_bar.
struct NaiveForward<'r, 'a, T>(&'r Discretise<'a, T>);
/// ddt, dA, dB, dlambda.
struct NaiveBackward<'r, 'a, T>(&'r Discretise<'a, T>, &'r [Option<Tensor<f32>>; 4]);

impl<T: Io> Loop for NaiveForward<'_, '_, T> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let run = naive::forward::<R, T>(self.0).expect("small, and checked before");
        [run.delta, run.A_bar, run.B_bar, run.B_prev_bar].map(|t| t.into_iter().map(Real::to_f64).collect()).into()
    }
}

impl<T: Io> Loop for NaiveBackward<'_, '_, T> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let upstream = upstream(self.1).expect("checked before");
        let run = naive::backward::<R, T>(self.0, upstream).expect("small, and checked before");
        [run.ddt, run.dA, run.dB, run.dlambda].map(|t| t.into_iter().map(Real::to_f64).collect()).into()
    }
}

fn upstream(given: &[Option<Tensor<f32>>; 4]) -> Result<DiscretiseUpstream<'_>> {
    let [ddelta, dA_bar, dB_bar, dB_prev_bar] = given;
    let mut upstream = DiscretiseUpstream::new();
    if let Some(ddelta) = ddelta {
        upstream = upstream.ddelta(ddelta.view()?);
    }
    if let Some(dA_bar) = dA_bar {
        upstream = upstream.dA_bar(dA_bar.view()?);
    }
    if let Some(dB_bar) = dB_bar {
        upstream = upstream.dB_bar(dB_bar.view()?);
    }
    if let Some(dB_prev_bar) = dB_prev_bar {
        upstream = upstream.dB_prev_bar(dB_prev_bar.view()?);
    }
    Ok(upstream)
}

/// All outputs.
pub fn forward<T: Io>(backend: &impl Runs<T>, spec: &Spec, judge: &mut Judge<'_>) {
    if let Err(error) = run_forward(backend, spec, judge) {
        judge.error("a valid case", &error);
    }
}

fn run_forward<T: Io>(backend: &impl Runs<T>, spec: &Spec, judge: &mut Judge<'_>) -> Result<()> {
    let case = Case::<T>::new(spec);
    let (op, domain) = (case.op()?, case.domain()?);
    let row = domain.last().map_or(1, |dim| dim.1);
    let yardsticks = Yardstick::measure(&NaiveForward(&op), &[row; 4]);
    let new = || Tensor::<f32>::blank(&domain, spec.order);
    let (mut delta, mut A_bar, mut B_bar) = (new(), new(), new());
    let mut B_prev_bar = case.trapezoidal().then(new);
    {
        let (mut delta, mut A_bar, mut B_bar) = (delta.view_mut()?, A_bar.view_mut()?, B_bar.view_mut()?);
        let mut B_prev_bar = B_prev_bar.as_mut().map(Tensor::view_mut).transpose()?;
        let outputs = DiscretiseOutputs::new().delta(&mut delta).A_bar(&mut A_bar).B_bar(&mut B_bar);
        let outputs = B_prev_bar.iter_mut().fold(outputs, DiscretiseOutputs::B_prev_bar);
        backend.forward(&op, outputs)?;
    }
    let results = [("delta", Some(delta)), ("A_bar", Some(A_bar)), ("B_bar", Some(B_bar)), ("B_prev_bar", B_prev_bar)];
    for ((name, tensor), by) in results.iter().zip(&yardsticks) {
        tensor.iter().for_each(|tensor| judge.tensor(name, spec.rule.name(), tensor.dense(), by, Dtype::F32));
    }
    Ok(())
}

/// All gradients.
pub fn backward<T: Io>(backend: &impl Runs<T>, spec: &Spec, judge: &mut Judge<'_>) {
    if let Err(error) = run_backward(backend, spec, judge) {
        judge.error("a valid case", &error);
    }
}

fn run_backward<T: Io>(backend: &impl Runs<T>, spec: &Spec, judge: &mut Judge<'_>) -> Result<()> {
    let case = Case::<T>::new(spec);
    let (op, domain) = (case.op()?, case.domain()?);
    let random = &mut Random::new(spec.seed ^ 1);
    let mut given = |i: usize| {
        let has = spec.upstream[i] && (i < 3 || case.trapezoidal());
        has.then(|| Tensor::<f32>::filled(&domain, spec.order, || random.normal()))
    };
    let given = [given(0), given(1), given(2), given(3)];
    let row = domain.last().map_or(1, |dim| dim.1);
    let by = Yardstick::measure(&NaiveBackward(&op, &given), &[row; 4]);
    let io = || Tensor::<T>::blank(&domain, spec.order);
    let wide = || Tensor::<f32>::blank(&domain, spec.order);
    let (mut ddt, mut dB, mut dlambda) = (io(), io(), case.trapezoidal().then(io));
    let (mut ddt_bias, mut dA) = (wide(), wide());
    {
        let (mut ddt, mut dB, mut dA) = (ddt.view_mut()?, dB.view_mut()?, dA.view_mut()?);
        let (mut ddt_bias, mut dlambda) = (ddt_bias.view_mut()?, dlambda.as_mut().map(Tensor::view_mut).transpose()?);
        let gradients = DiscretiseGradients::new().ddt(&mut ddt).ddt_bias(&mut ddt_bias).dA(&mut dA).dB(&mut dB);
        let gradients = dlambda.iter_mut().fold(gradients, DiscretiseGradients::dlambda);
        backend.backward(&op, upstream(&given)?, gradients)?;
    }
    let how = spec.rule.name();
    judge.tensor("ddt", how, ddt.dense(), &by[0], T::DTYPE);
    judge.tensor("ddt_bias", how, ddt_bias.dense(), &by[0], Dtype::F32);
    judge.tensor("dA", how, dA.dense(), &by[1], Dtype::F32);
    judge.tensor("dB", how, dB.dense(), &by[2], T::DTYPE);
    dlambda.iter().for_each(|dlambda| judge.tensor("dlambda", how, dlambda.dense(), &by[3], T::DTYPE));
    Ok(())
}
