//! The causal convolution, forward and backward, and in two calls.

use super::tally::Judge;
use super::tensor::{Dim, Order, Tensor, segments};
use crate::operators::{Convolves, Runs};
use crate::random::Random;
use crate::tensor::Io;
use ssm_kernels::prelude::*;
use ssm_kernels::reference::accuracy::{Loop, Yardstick};
use ssm_kernels::reference::{Real, causal_conv1d as naive};
use ssm_kernels::{Dtype, Result};
use std::ops::Range;

/// Shape and options of a case; all its numbers follow from its seed.
#[derive(Debug, Clone)]
pub struct Spec {
    batch: usize,
    dim: usize,
    seqlen: usize,
    width: usize,
    /// Lengths of packed sequences.
    packed: Option<Vec<usize>>,
    weight: Dtype,
    bias: bool,
    silu: bool,
    initial_state: bool,
    /// Which of dout and dfinal_state come from above; dout if none.
    upstream: [bool; 2],
    order: Order,
    seed: u64,
}

impl Spec {
    /// Anything that the naive loops run in a moment.
    pub fn draw(random: &mut Random) -> Self {
        let packed: Option<Vec<usize>> =
            random.chance(0.3).then(|| (0..1 + random.below(5)).map(|_| random.below(25)).collect());
        let long = [63, 64, 65, 127, 128, 129, 257];
        let most = if random.chance(0.8) { 20 } else { 140 };
        let length = if random.chance(0.2) { long[random.below(long.len())] } else { random.below(40) };
        Self {
            batch: if packed.is_some() { 1 } else { 1 + random.below(3) },
            dim: 1 + random.below(most),
            seqlen: packed.as_ref().map_or(length, |lengths| lengths.iter().sum()),
            width: width(random),
            packed,
            weight: weight(random),
            bias: random.chance(0.5),
            silu: random.chance(0.5),
            initial_state: random.chance(0.5),
            upstream: [random.chance(0.8), random.chance(0.5)],
            order: Order::draw(random),
            seed: random.bits(),
        }
    }

    fn sequence(&self) -> [Dim; 3] {
        [("batch", self.batch), ("dim", self.dim), ("seqlen", self.seqlen)]
    }

    fn state(&self) -> [Dim; 3] {
        let nseqs = self.packed.as_ref().map_or(self.batch, Vec::len);
        [("batch", nseqs), ("dim", self.dim), ("state_len", self.width - 1)]
    }
}

/// Those that models have, or any.
pub fn width(random: &mut Random) -> usize {
    if random.chance(0.5) { 2 + random.below(3) } else { 1 + random.below(16) }
}

/// The dtype of weight and bias.
pub fn weight(random: &mut Random) -> Dtype {
    [Dtype::F32, Dtype::F16, Dtype::BF16][random.below(3)]
}

/// The tensors of a case.
struct Case<'s, T, W> {
    spec: &'s Spec,
    x: Tensor<T>,
    weight: Tensor<W>,
    bias: Option<Tensor<W>>,
    initial_state: Option<Tensor<T>>,
    segments: Option<Segments>,
}

impl<'s, T: Io, W: Io> Case<'s, T, W> {
    fn new(spec: &'s Spec) -> Result<Self> {
        let (random, order) = (&mut Random::new(spec.seed), spec.order);
        let weight = [("dim", spec.dim), ("width", spec.width)];
        let mut state = || Tensor::filled(&spec.state(), order, || random.normal());
        let initial_state = spec.initial_state.then(&mut state);
        Ok(Self {
            spec,
            initial_state,
            x: Tensor::filled(&spec.sequence(), order, || random.normal()),
            weight: Tensor::filled(&weight, order, || random.normal()),
            bias: spec.bias.then(|| Tensor::filled(&weight[..1], order, || random.normal())),
            segments: spec.packed.as_deref().map(segments).transpose()?,
        })
    }

    fn conv(&self) -> Result<CausalConv1d<'_, T, W>> {
        self.part(&(0..self.spec.seqlen), self.initial_state.as_ref())
    }

    /// The steps in `range`, from `initial`.
    fn part<'c>(&'c self, range: &Range<usize>, initial: Option<&'c Tensor<T>>) -> Result<CausalConv1d<'c, T, W>> {
        let mut conv = CausalConv1d::new(self.x.steps(range)?, self.weight.view()?)?.silu(self.spec.silu);
        if let Some(bias) = &self.bias {
            conv = conv.bias(bias.view()?);
        }
        if let Some(initial) = initial {
            conv = conv.initial_state(initial.view()?);
        }
        Ok(match &self.segments {
            Some(segments) => conv.segments(segments),
            None => conv,
        })
    }
}

/// out, final_state.
struct NaiveForward<'r, 'a, T, W>(&'r CausalConv1d<'a, T, W>);
/// dx, dweight, dbias, dinitial_state.
struct NaiveBackward<'r, 'a, T, W>(&'r CausalConv1d<'a, T, W>, CausalConv1dUpstream<'r, T>);

impl<T: Io, W: Io> Loop for NaiveForward<'_, '_, T, W> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let run = naive::forward::<R, T, W>(self.0).expect("small, and checked before");
        [run.out, run.final_state].map(|t| t.into_iter().map(Real::to_f64).collect()).into()
    }
}

impl<T: Io, W: Io> Loop for NaiveBackward<'_, '_, T, W> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let run = naive::backward::<R, T, W>(self.0, self.1).expect("small, and checked before");
        let all = [run.dx, run.dweight, run.dbias, run.dinitial_state];
        all.map(|t| t.into_iter().map(Real::to_f64).collect()).into()
    }
}

/// Whole, and where it is not packed in two calls.
pub fn forward<T: Io>(backend: &impl Runs<T>, spec: &Spec, judge: &mut Judge<'_>) {
    in_own_dtype!(spec.weight, run_forward::<T>(backend, spec, judge));
}

fn run_forward<T: Io, W: Io>(backend: &impl Convolves<T, W>, spec: &Spec, judge: &mut Judge<'_>) -> Result<()> {
    let case = Case::<T, W>::new(spec)?;
    let by = Yardstick::measure(&NaiveForward(&case.conv()?), &[spec.seqlen, spec.width - 1]);
    let cut = spec.seed as usize % (spec.seqlen + 1);
    let cuts = if spec.packed.is_some() { vec![None] } else { vec![None, Some(cut)] };
    for cut in cuts {
        let how = cut.map_or("whole".into(), |cut| format!("two calls, cut at {cut}"));
        let mut out = Tensor::<T>::blank(&spec.sequence(), spec.order);
        let mut final_state = Tensor::<T>::blank(&spec.state(), spec.order);
        // The second call begins where the first one ended.
        let mut carried = final_state.clone();
        let mut call = |range: Range<usize>, from: Option<&Tensor<T>>, to: &mut Tensor<T>| {
            let (mut out, mut to) = (out.steps_mut(&range)?, to.view_mut()?);
            backend.forward(&case.part(&range, from)?, CausalConv1dOutputs::new(&mut out).final_state(&mut to))
        };
        let initial = case.initial_state.as_ref();
        let done = match cut {
            Some(cut) => call(0..cut, initial, &mut carried)
                .and_then(|()| call(cut..spec.seqlen, Some(&carried), &mut final_state)),
            None => call(0..spec.seqlen, initial, &mut final_state),
        };
        if let Err(error) = done {
            judge.error(&how, &error);
            continue;
        }
        judge.tensor("out", &how, out.dense(), &by[0], T::DTYPE);
        judge.tensor("final_state", &how, final_state.dense(), &by[1], T::DTYPE);
    }
    Ok(())
}

/// All gradients.
pub fn backward<T: Io>(backend: &impl Runs<T>, spec: &Spec, judge: &mut Judge<'_>) {
    in_own_dtype!(spec.weight, run_backward::<T>(backend, spec, judge));
}

fn run_backward<T: Io, W: Io>(backend: &impl Convolves<T, W>, spec: &Spec, judge: &mut Judge<'_>) -> Result<()> {
    let (case, random) = (Case::<T, W>::new(spec)?, &mut Random::new(spec.seed ^ 1));
    let dout = Tensor::<T>::filled(&spec.sequence(), spec.order, || random.normal());
    let dfinal_state = Tensor::<T>::filled(&spec.state(), spec.order, || random.normal());
    let (conv, mut upstream) = (case.conv()?, CausalConv1dUpstream::new());
    let [with_dout, with_state] = spec.upstream;
    if with_dout || !with_state {
        upstream = upstream.dout(dout.view()?);
    }
    if with_state {
        upstream = upstream.dfinal_state(dfinal_state.view()?);
    }
    let rows = [spec.seqlen, spec.width, spec.dim, spec.width - 1];
    let by = Yardstick::measure(&NaiveBackward(&conv, upstream), &rows);
    let (mut dx, mut dweight) =
        (Tensor::<T>::blank(&spec.sequence(), spec.order), Tensor::<W>::blank(&case.weight.dims(), spec.order));
    let mut dbias = case.bias.as_ref().map(|bias| Tensor::<W>::blank(&bias.dims(), spec.order));
    let mut dinitial_state = Tensor::<T>::blank(&spec.state(), spec.order);
    {
        let (mut dx, mut dweight, mut state) = (dx.view_mut()?, dweight.view_mut()?, dinitial_state.view_mut()?);
        let mut dbias = dbias.as_mut().map(Tensor::view_mut).transpose()?;
        let gradients = CausalConv1dGradients::new().dx(&mut dx).dweight(&mut dweight).dinitial_state(&mut state);
        let gradients = dbias.iter_mut().fold(gradients, CausalConv1dGradients::dbias);
        backend.backward(&conv, upstream, gradients)?;
    }
    let how = "whole";
    judge.tensor("dx", how, dx.dense(), &by[0], T::DTYPE);
    judge.tensor("dweight", how, dweight.dense(), &by[1], W::DTYPE);
    dbias.iter().for_each(|dbias| judge.tensor("dbias", how, dbias.dense(), &by[2], W::DTYPE));
    judge.tensor("dinitial_state", how, dinitial_state.dense(), &by[3], T::DTYPE);
    Ok(())
}
