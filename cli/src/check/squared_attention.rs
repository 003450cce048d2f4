//! Squared attention, forward and backward, in chunks, and in two calls.

use super::tally::Judge;
use super::tensor::{Dim, Order, Tensor, segments};
use crate::operators::Attends;
use crate::random::Random;
use crate::tensor::Io;
use ssm_kernels::prelude::*;
use ssm_kernels::reference::accuracy::{Loop, Yardstick};
use ssm_kernels::reference::{Real, squared_attention as naive};
use ssm_kernels::{Dtype, Result};
use std::ops::Range;

/// Extents of a case, and how its rows are drawn; common to the operator and its form for decoding.
#[derive(Debug, Clone, Copy)]
pub struct Extents {
    /// Rows of the batch.
    pub batch: usize,
    /// Heads.
    pub nheads: usize,
    /// Steps.
    pub seqlen: usize,
    /// Of q and k.
    pub dim: usize,
    /// Of v and out.
    pub vdim: usize,
    /// The most that a step's log_decay is below 0; none is no decay.
    pub decay: Option<f32>,
}

impl Extents {
    /// Anything that the naive loops run in a moment.
    pub fn draw(random: &mut Random, batch: usize, seqlen: usize) -> Self {
        let most = if random.chance(0.8) { 8 } else { 20 };
        Self {
            batch,
            nheads: 1 + random.below(3),
            seqlen,
            dim: 1 + random.below(most),
            vdim: 1 + random.below(most + 10),
            decay: random.chance(0.8).then(|| random.log_uniform(1e-3, 10.0)),
        }
    }

    /// Of q and k.
    pub fn keys(&self) -> [Dim; 4] {
        [("batch", self.batch), ("nheads", self.nheads), ("seqlen", self.seqlen), ("dim", self.dim)]
    }

    /// Of v and out.
    pub fn values(&self) -> [Dim; 4] {
        let [batch, nheads, seqlen, _] = self.keys();
        [batch, nheads, seqlen, ("vdim", self.vdim)]
    }

    /// Of log_decay.
    pub fn decays(&self) -> [Dim; 3] {
        let [batch, nheads, seqlen, _] = self.keys();
        [batch, nheads, seqlen]
    }

    /// Products of two elements of a key.
    pub fn features(&self) -> usize {
        self.dim * (self.dim + 1) / 2
    }

    /// Of so many states, whose rows are called `rows`.
    pub fn states(&self, rows: &'static str, count: usize) -> [Dim; 4] {
        [(rows, count), ("nheads", self.nheads), ("features", self.features()), ("vdim", self.vdim)]
    }
}

/// q, k, v and log_decay.
pub struct Rows<T> {
    q: Tensor<T>,
    k: Tensor<T>,
    v: Tensor<T>,
    log_decay: Tensor<f32>,
}

impl<T: Io> Rows<T> {
    /// Drawn.
    pub fn new(extents: &Extents, order: Order, random: &mut Random) -> Self {
        let mut row = |dims: &[Dim]| Tensor::filled(dims, order, || random.normal());
        let (q, k, v) = (row(&extents.keys()), row(&extents.keys()), row(&extents.values()));
        let log_decay = Tensor::filled(&extents.decays(), order, || match extents.decay {
            None => 0.0,
            Some(_) if random.chance(0.02) => f32::NEG_INFINITY,
            Some(most) => random.uniform(-most, 0.0),
        });
        Self { q, k, v, log_decay }
    }

    /// The steps in `range` of q, k, v.
    pub fn steps(&self, range: &Range<usize>) -> Result<[View<'_, T>; 3]> {
        Ok([self.q.steps(range)?, self.k.steps(range)?, self.v.steps(range)?])
    }

    /// The steps in `range` of log_decay.
    pub fn log_decay(&self, range: &Range<usize>) -> Result<View<'_, f32>> {
        self.log_decay.steps(range)
    }
}

/// States and norms that sequences leave: `count` of them, after a few steps of their own.
pub fn states<H: Io>(
    extents: &Extents,
    (rows, count): (&'static str, usize),
    order: Order,
    random: &mut Random,
) -> Result<(Tensor<H>, Tensor<f32>)> {
    let before = Extents { batch: count, seqlen: 1 + random.below(6), ..*extents };
    let steps = Rows::<f32>::new(&before, Order::Dense, random);
    let all = 0..before.seqlen;
    let [q, k, v] = steps.steps(&all)?;
    let run = naive::forward::<f64, f32>(&SquaredAttention::new(q, k, v, steps.log_decay(&all)?)?)?;
    let dims = extents.states(rows, count);
    let (mut state, mut norm) = (run.final_state.iter(), run.final_norm.iter());
    let next = |values: &mut std::slice::Iter<'_, f64>| values.next().map_or(0.0, |&value| value as f32);
    let state = Tensor::filled(&dims, order, || next(&mut state));
    Ok((state, Tensor::filled(&dims[..3], order, || next(&mut norm))))
}

/// Shape and options of a case; all its numbers follow from its seed.
#[derive(Debug, Clone)]
pub struct Spec {
    extents: Extents,
    /// Lengths of packed sequences.
    packed: Option<Vec<usize>>,
    scale: Option<f32>,
    chunk_size: Option<usize>,
    initial_state: bool,
    /// Which of dout, dfinal_state and dfinal_norm come from above; dout if none.
    upstream: [bool; 3],
    order: Order,
    seed: u64,
}

impl Spec {
    /// Anything that the naive loops run in a moment.
    pub fn draw(random: &mut Random) -> Self {
        let packed: Option<Vec<usize>> =
            random.chance(0.3).then(|| (0..1 + random.below(4)).map(|_| random.below(20)).collect());
        let long = [31, 32, 33, 63, 64, 65, 97];
        let length = if random.chance(0.2) { long[random.below(long.len())] } else { random.below(30) };
        let batch = if packed.is_some() { 1 } else { 1 + random.below(2) };
        Self {
            extents: Extents::draw(random, batch, packed.as_ref().map_or(length, |lengths| lengths.iter().sum())),
            packed,
            scale: random.chance(0.3).then(|| random.log_uniform(0.1, 3.0)),
            chunk_size: random.chance(0.5).then(|| 1 + random.below(40)),
            initial_state: random.chance(0.5),
            upstream: [random.chance(0.8), random.chance(0.5), random.chance(0.5)],
            order: Order::draw(random),
            seed: random.bits(),
        }
    }

    fn states(&self) -> [Dim; 4] {
        self.extents.states("batch", self.packed.as_ref().map_or(self.extents.batch, Vec::len))
    }
}

/// The tensors of a case.
struct Case<'s, T> {
    spec: &'s Spec,
    rows: Rows<T>,
    initial: Option<(Tensor<f32>, Tensor<f32>)>,
    segments: Option<Segments>,
}

impl<'s, T: Io> Case<'s, T> {
    fn new(spec: &'s Spec) -> Result<Self> {
        let random = &mut Random::new(spec.seed);
        let mut initial = || states(&spec.extents, spec.states()[0], spec.order, random);
        let initial = spec.initial_state.then(&mut initial).transpose()?;
        let rows = Rows::new(&spec.extents, spec.order, random);
        Ok(Self { spec, rows, initial, segments: spec.packed.as_deref().map(segments).transpose()? })
    }

    fn op(&self) -> Result<SquaredAttention<'_, T>> {
        self.part(&(0..self.spec.extents.seqlen), self.initial.as_ref())
    }

    /// The steps in `range`, from `initial`.
    fn part<'c>(
        &'c self,
        range: &Range<usize>,
        initial: Option<&'c (Tensor<f32>, Tensor<f32>)>,
    ) -> Result<SquaredAttention<'c, T>> {
        let [q, k, v] = self.rows.steps(range)?;
        let mut op = SquaredAttention::new(q, k, v, self.rows.log_decay(range)?)?;
        if let Some(scale) = self.spec.scale {
            op = op.scale(scale);
        }
        if let Some(chunk_size) = self.spec.chunk_size {
            op = op.chunk_size(chunk_size);
        }
        if let Some((state, norm)) = initial {
            op = op.initial_state(state.view()?, norm.view()?);
        }
        Ok(match &self.segments {
            Some(segments) => op.segments(segments),
            None => op,
        })
    }
}

/// out, final_state, final_norm.
struct NaiveForward<'r, 'a, T>(&'r SquaredAttention<'a, T>);
/// dq, dk, dv, dlog_decay, dinitial_state, dinitial_norm.
struct NaiveBackward<'r, 'a, T>(&'r SquaredAttention<'a, T>, SquaredAttentionUpstream<'r, T>);

impl<T: Io> Loop for NaiveForward<'_, '_, T> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let run = naive::forward::<R, T>(self.0).expect("small, and checked before");
        [run.out, run.final_state, run.final_norm].map(|t| t.into_iter().map(Real::to_f64).collect()).into()
    }
}

impl<T: Io> Loop for NaiveBackward<'_, '_, T> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let run = naive::backward::<R, T>(self.0, self.1).expect("small, and checked before");
        let all = [run.dq, run.dk, run.dv, run.dlog_decay, run.dinitial_state, run.dinitial_norm];
        all.map(|t| t.into_iter().map(Real::to_f64).collect()).into()
    }
}

/// Whole, and where it is not packed in two calls.
pub fn forward<T: Io>(backend: &impl Attends<T>, spec: &Spec, judge: &mut Judge<'_>) {
    if let Err(error) = run_forward(backend, spec, judge) {
        judge.error("a valid case", &error);
    }
}

fn run_forward<T: Io>(backend: &impl Attends<T>, spec: &Spec, judge: &mut Judge<'_>) -> Result<()> {
    let (case, Extents { seqlen, vdim, .. }) = (Case::<T>::new(spec)?, spec.extents);
    let by = Yardstick::measure(&NaiveForward(&case.op()?), &[vdim, vdim, spec.extents.features()]);
    let cut = spec.seed as usize % (seqlen + 1);
    let cuts = if spec.packed.is_some() { vec![None] } else { vec![None, Some(cut)] };
    for cut in cuts {
        let how = cut.map_or("whole".into(), |cut| format!("two calls, cut at {cut}"));
        let mut out = Tensor::<T>::blank(&spec.extents.values(), spec.order);
        let blank = |dims: &[Dim]| Tensor::<f32>::blank(dims, spec.order);
        let mut last = (blank(&spec.states()), blank(&spec.states()[..3]));
        // The second call begins where the first one ended.
        let mut carried = last.clone();
        let mut call = |range: Range<usize>, from: Option<&_>, (state, norm): &mut (Tensor<f32>, Tensor<f32>)| {
            let (mut out, mut state, mut norm) = (out.steps_mut(&range)?, state.view_mut()?, norm.view_mut()?);
            let outputs = SquaredAttentionOutputs::new(&mut out).final_state(&mut state).final_norm(&mut norm);
            backend.forward(&case.part(&range, from)?, outputs)
        };
        let initial = case.initial.as_ref();
        let done = match cut {
            Some(cut) => {
                call(0..cut, initial, &mut carried).and_then(|()| call(cut..seqlen, Some(&carried), &mut last))
            }
            None => call(0..seqlen, initial, &mut last),
        };
        if let Err(error) = done {
            judge.error(&how, &error);
            continue;
        }
        judge.tensor("out", &how, out.dense(), &by[0], T::DTYPE);
        judge.tensor("final_state", &how, last.0.dense(), &by[1], Dtype::F32);
        judge.tensor("final_norm", &how, last.1.dense(), &by[2], Dtype::F32);
    }
    Ok(())
}

/// All gradients.
pub fn backward<T: Io>(backend: &impl Attends<T>, spec: &Spec, judge: &mut Judge<'_>) {
    if let Err(error) = run_backward(backend, spec, judge) {
        judge.error("a valid case", &error);
    }
}

fn run_backward<T: Io>(backend: &impl Attends<T>, spec: &Spec, judge: &mut Judge<'_>) -> Result<()> {
    let (case, random, extents) = (Case::<T>::new(spec)?, &mut Random::new(spec.seed ^ 1), &spec.extents);
    let (order, states) = (spec.order, spec.states());
    let dout = Tensor::<T>::filled(&extents.values(), order, || random.normal());
    let mut state = |dims: &[Dim]| Tensor::<f32>::filled(dims, order, || random.normal());
    let (dfinal_state, dfinal_norm) = (state(&states), state(&states[..3]));
    let (op, mut upstream) = (case.op()?, SquaredAttentionUpstream::new());
    let [with_dout, with_state, with_norm] = spec.upstream;
    if with_dout || !(with_state || with_norm) {
        upstream = upstream.dout(dout.view()?);
    }
    if with_state {
        upstream = upstream.dfinal_state(dfinal_state.view()?);
    }
    if with_norm {
        upstream = upstream.dfinal_norm(dfinal_norm.view()?);
    }
    let rows = [extents.dim, extents.dim, extents.vdim, extents.seqlen, extents.vdim, extents.features()];
    let by = Yardstick::measure(&NaiveBackward(&op, upstream), &rows);
    let blank = |dims: &[Dim]| Tensor::<T>::blank(dims, order);
    let (mut dq, mut dk, mut dv) = (blank(&extents.keys()), blank(&extents.keys()), blank(&extents.values()));
    let blank = |dims: &[Dim]| Tensor::<f32>::blank(dims, order);
    let (mut dlog_decay, mut dstate, mut dnorm) = (blank(&extents.decays()), blank(&states), blank(&states[..3]));
    {
        let (mut dq, mut dk, mut dv) = (dq.view_mut()?, dk.view_mut()?, dv.view_mut()?);
        let (mut dlog_decay, mut dstate, mut dnorm) = (dlog_decay.view_mut()?, dstate.view_mut()?, dnorm.view_mut()?);
        let gradients = SquaredAttentionGradients::new().dq(&mut dq).dk(&mut dk).dv(&mut dv);
        let gradients = gradients.dlog_decay(&mut dlog_decay).dinitial_state(&mut dstate).dinitial_norm(&mut dnorm);
        backend.backward(&op, upstream, gradients)?;
    }
    let how = "whole";
    for ((name, tensor), by) in [("dq", &dq), ("dk", &dk), ("dv", &dv)].into_iter().zip(&by) {
        judge.tensor(name, how, tensor.dense(), by, T::DTYPE);
    }
    let narrow = [("dlog_decay", &dlog_decay), ("dinitial_state", &dstate), ("dinitial_norm", &dnorm)];
    for ((name, tensor), by) in narrow.into_iter().zip(&by[3..]) {
        judge.tensor(name, how, tensor.dense(), by, Dtype::F32);
    }
    Ok(())
}
