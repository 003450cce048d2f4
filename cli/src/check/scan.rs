//! The selective scan: whole, in parts, and in two calls.

use super::tally::Judge;
use super::tensor::{Dim, Order, Tensor, segments};
use crate::operators::Runs;
use crate::random::Random;
use crate::tensor::Io;
use ssm_kernels::prelude::*;
use ssm_kernels::reference::accuracy::{Loop, Yardstick};
use ssm_kernels::reference::{Real, selective_scan as naive};
use ssm_kernels::{Dtype, Result};
use std::ops::Range;

/// Shape and options of a case; all its numbers follow from its seed.
#[derive(Debug, Clone)]
pub struct Spec {
    pub batch: usize,
    pub ngroups: usize,
    pub dim: usize,
    pub dstate: usize,
    pub seqlen: usize,
    /// Lengths of packed sequences.
    pub packed: Option<Vec<usize>>,
    pub constant_B: bool,
    pub constant_C: bool,
    pub D: bool,
    pub z: bool,
    pub dt_bias: bool,
    pub dt_softplus: bool,
    pub dt_limit: bool,
    pub initial_state: bool,
    pub reverse: bool,
    pub every: usize,
    pub split: usize,
    pub order: Order,
    pub seed: u64,
}

impl Spec {
    /// Anything that the naive loops run in a moment.
    pub fn draw(random: &mut Random) -> Self {
        let ngroups = 1 + random.below(3);
        let packed: Option<Vec<usize>> =
            random.chance(0.3).then(|| (0..1 + random.below(5)).map(|_| random.below(25)).collect());
        let long = [63, 64, 65, 127, 128, 129, 257];
        let length = if random.chance(0.2) { long[random.below(long.len())] } else { random.below(40) };
        Self {
            batch: if packed.is_some() { 1 } else { 1 + random.below(3) },
            ngroups,
            dim: ngroups * (1 + random.below(3)),
            dstate: if random.chance(0.9) { 1 + random.below(20) } else { 20 + random.below(50) },
            seqlen: packed.as_ref().map_or(length, |lengths| lengths.iter().sum()),
            packed,
            constant_B: random.chance(0.3),
            constant_C: random.chance(0.3),
            D: random.chance(0.5),
            z: random.chance(0.5),
            dt_bias: random.chance(0.5),
            dt_softplus: random.chance(0.5),
            dt_limit: random.chance(0.3),
            initial_state: random.chance(0.5),
            reverse: random.chance(0.3),
            every: 1 + random.below(16),
            split: 2 + random.below(2),
            order: Order::draw(random),
            seed: random.bits(),
        }
    }

    /// Where steps are negative gradients grow to the end of the range, and luck decides the yardstick
    /// (docs/testing.md): clamped.
    pub fn without_negative_steps(&self) -> Self {
        Self { dt_limit: self.dt_limit || (self.dt_bias && !self.dt_softplus), ..self.clone() }
    }

    fn nseqs(&self) -> usize {
        self.packed.as_ref().map_or(self.batch, Vec::len)
    }

    pub fn sequence_dims(&self) -> [Dim; 3] {
        [("batch", self.batch), ("dim", self.dim), ("seqlen", self.seqlen)]
    }

    pub fn state_dims(&self) -> [Dim; 3] {
        [("batch", self.nseqs()), ("dim", self.dim), ("dstate", self.dstate)]
    }
}

/// B or C, or a gradient of one.
pub enum Rows<T> {
    Variable(Tensor<T>),
    Constant(Tensor<f32>),
}

impl<T: Io> Rows<T> {
    fn steps(&self, range: &Range<usize>) -> Result<Projection<'_, T>> {
        Ok(match self {
            Rows::Variable(tensor) => Projection::Variable(tensor.steps(range)?),
            Rows::Constant(tensor) => Projection::Constant(tensor.view()?),
        })
    }
}

/// The tensors of a case.
pub struct Case<'s, T> {
    pub spec: &'s Spec,
    x: Tensor<T>,
    dt: Tensor<T>,
    A: Tensor<f32>,
    pub B: Rows<T>,
    pub C: Rows<T>,
    D: Option<Tensor<f32>>,
    z: Option<Tensor<T>>,
    dt_bias: Option<Tensor<f32>>,
    pub initial_state: Option<Tensor<f32>>,
    segments: Option<Segments>,
}

impl<'s, T: Io> Case<'s, T> {
    pub fn new(spec: &'s Spec) -> Result<Self> {
        let (random, order) = (&mut Random::new(spec.seed), spec.order);
        let (sequence, constant) = (spec.sequence_dims(), [("dim", spec.dim), ("dstate", spec.dstate)]);
        let variable = [sequence[0], ("ngroups", spec.ngroups), constant[1], sequence[2]];
        let x = Tensor::filled(&sequence, order, || random.normal());
        let dt = Tensor::filled(&sequence, order, || match spec.dt_softplus {
            true => 2.0 * random.normal() - 2.0,
            false => random.log_uniform(1e-3, 1.0),
        });
        let A = Tensor::filled(&constant, order, || -random.log_uniform(1e-2, 20.0));
        let mut rows = |fixed| match fixed {
            true => Rows::Constant(Tensor::filled(&constant, order, || random.normal())),
            false => Rows::Variable(Tensor::filled(&variable, order, || random.normal())),
        };
        let (B, C) = (rows(spec.constant_B), rows(spec.constant_C));
        let mut channel =
            |has: bool, scale: f32| has.then(|| Tensor::filled(&constant[..1], order, || scale * random.normal()));
        let (D, dt_bias) = (channel(spec.D, 1.0), channel(spec.dt_bias, 0.5));
        let z = spec.z.then(|| Tensor::filled(&sequence, order, || 2.0 * random.normal()));
        let initial_state = spec.initial_state.then(|| Tensor::filled(&spec.state_dims(), order, || random.normal()));
        let segments = spec.packed.as_deref().map(segments).transpose()?;
        Ok(Self { spec, x, dt, A, B, C, D, z, dt_bias, initial_state, segments })
    }

    /// The whole case.
    pub fn scan(&self) -> Result<SelectiveScan<'_, T>> {
        self.part(&(0..self.spec.seqlen), self.initial_state.as_ref())
    }

    /// The steps in `range`, from `initial`.
    fn part<'c>(&'c self, range: &Range<usize>, initial: Option<&'c Tensor<f32>>) -> Result<SelectiveScan<'c, T>> {
        let (B, C) = (self.B.steps(range)?, self.C.steps(range)?);
        let mut scan = SelectiveScan::new(self.x.steps(range)?, self.dt.steps(range)?, self.A.view()?, B, C)?
            .dt_softplus(self.spec.dt_softplus)
            .reverse(self.spec.reverse);
        if let Some(D) = &self.D {
            scan = scan.D(D.view()?);
        }
        if let Some(z) = &self.z {
            scan = scan.z(z.steps(range)?);
        }
        if let Some(dt_bias) = &self.dt_bias {
            scan = scan.dt_bias(dt_bias.view()?);
        }
        if self.spec.dt_limit {
            scan = scan.dt_limit((0.01, 0.3));
        }
        if let Some(initial) = initial {
            scan = scan.initial_state(initial.view()?);
        }
        Ok(match &self.segments {
            Some(segments) => scan.segments(segments),
            None => scan,
        })
    }
}

/// The naive loops: out, final_state, chunk_states.
struct Naive<'r, 'a, T>(&'r SelectiveScan<'a, T>, usize);

impl<T: Io> Loop for Naive<'_, '_, T> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let run = naive::forward::<R, T>(self.0, Some(self.1)).expect("small, and checked before");
        let tensors = [run.out, run.final_state, run.chunk_states.unwrap_or_default()];
        tensors.map(|tensor| tensor.into_iter().map(Real::to_f64).collect()).into()
    }
}

/// What one way of running gives.
struct Results<T> {
    out: Tensor<T>,
    final_state: Tensor<f32>,
    chunk_states: Option<Tensor<f32>>,
}

/// Whole, in parts, and where it is not packed in two calls.
pub fn forward<T: Io>(backend: &impl Runs<T>, spec: &Spec, judge: &mut Judge<'_>) {
    if let Err(error) = every_way(backend, spec, judge) {
        judge.error("a valid case", &error);
    }
}

fn every_way<T: Io>(backend: &impl Runs<T>, spec: &Spec, judge: &mut Judge<'_>) -> Result<()> {
    let case = Case::<T>::new(spec)?;
    let scan = case.scan()?;
    // What the loops would refuse is refused here.
    scan.chunk_offsets(spec.every)?;
    let yardsticks = Yardstick::measure(&Naive(&scan, spec.every), &[spec.seqlen, spec.dstate, spec.dstate]);
    let mut take = |how: &str, results: Result<Results<T>>| match results {
        Err(error) => judge.error(how, &error),
        Ok(results) => {
            judge.tensor("out", how, results.out.dense(), &yardsticks[0], T::DTYPE);
            judge.tensor("final_state", how, results.final_state.dense(), &yardsticks[1], Dtype::F32);
            if let Some(states) = results.chunk_states {
                judge.tensor("chunk_states", how, states.dense(), &yardsticks[2], Dtype::F32);
            }
        }
    };
    take("whole", whole(backend, &case, &scan));
    take(&format!("split {}", spec.split), whole(backend, &case, &case.scan()?.split(spec.split)));
    if spec.packed.is_none() {
        let cut = spec.seed as usize % (spec.seqlen + 1);
        take(&format!("two calls, cut at {cut}"), two_calls(backend, &case, cut));
    }
    Ok(())
}

fn whole<'c, T: Io>(backend: &impl Runs<T>, case: &Case<'_, T>, scan: &SelectiveScan<'c, T>) -> Result<Results<T>> {
    let spec = case.spec;
    let nchunks = scan.chunk_offsets(spec.every)?.last().copied().unwrap_or(0);
    let mut out = Tensor::blank(&spec.sequence_dims(), spec.order);
    let mut final_state = Tensor::blank(&spec.state_dims(), spec.order);
    let chunks = [("nchunks", nchunks), ("dim", spec.dim), ("dstate", spec.dstate)];
    let mut chunk_states = Tensor::blank(&chunks, spec.order);
    backend.forward(
        scan,
        SelectiveScanOutputs::new(&mut out.view_mut()?)
            .final_state(&mut final_state.view_mut()?)
            .chunk_states(spec.every, &mut chunk_states.view_mut()?),
    )?;
    Ok(Results { out, final_state, chunk_states: Some(chunk_states) })
}

/// The second call begins where the first one ended.
fn two_calls<T: Io>(backend: &impl Runs<T>, case: &Case<'_, T>, cut: usize) -> Result<Results<T>> {
    let spec = case.spec;
    let (low, high) = (0..cut, cut..spec.seqlen);
    let (first, second) = if spec.reverse { (high, low) } else { (low, high) };
    let mut out = Tensor::blank(&spec.sequence_dims(), spec.order);
    let state = || Tensor::blank(&spec.state_dims(), spec.order);
    let (mut carried, mut final_state) = (state(), state());
    let initial = case.initial_state.as_ref();
    let mut call = |range: &Range<usize>, from: Option<&Tensor<f32>>, to: &mut Tensor<f32>| {
        let (mut out, mut to) = (out.steps_mut(range)?, to.view_mut()?);
        backend.forward(&case.part(range, from)?, SelectiveScanOutputs::new(&mut out).final_state(&mut to))
    };
    call(&first, initial, &mut carried)?;
    call(&second, Some(&carried), &mut final_state)?;
    Ok(Results { out, final_state, chunk_states: None })
}
