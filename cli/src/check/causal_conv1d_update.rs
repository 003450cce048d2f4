//! The causal convolution's form for decoding.

use super::causal_conv1d::{weight, width};
use super::tally::Judge;
use super::tensor::{Order, Tensor};
use crate::operators::{Convolves, Runs};
use crate::random::Random;
use crate::tensor::Io;
use ssm_kernels::prelude::*;
use ssm_kernels::reference::accuracy::{Loop, Yardstick};
use ssm_kernels::reference::{Real, causal_conv1d as naive};
use ssm_kernels::{Dtype, Result};

/// Shape and options of a case; all its numbers follow from its seed.
#[derive(Debug, Clone)]
pub struct Spec {
    batch: usize,
    dim: usize,
    tokens: usize,
    width: usize,
    /// Of the state, beyond width - 1.
    spare: usize,
    weight: Dtype,
    bias: bool,
    silu: bool,
    /// The state is a ring.
    ring: bool,
    /// A state with slots of its own, and padding.
    slots: Option<usize>,
    order: Order,
    seed: u64,
}

impl Spec {
    /// Anything small.
    pub fn draw(random: &mut Random) -> Self {
        let most = if random.chance(0.8) { 20 } else { 300 };
        let batch = 1 + random.below(4);
        Self {
            batch,
            dim: 1 + random.below(most),
            tokens: if random.chance(0.5) { 1 } else { random.below(10) },
            width: width(random),
            spare: random.below(4),
            weight: weight(random),
            bias: random.chance(0.5),
            silu: random.chance(0.5),
            ring: random.chance(0.5),
            slots: random.chance(0.5).then(|| batch + random.below(4)),
            order: Order::draw(random),
            seed: random.bits(),
        }
    }
}

struct Case<T, W> {
    x: Tensor<T>,
    weight: Tensor<W>,
    bias: Option<Tensor<W>>,
    silu: bool,
    state: Tensor<T>,
    cache_seqlens: Option<Vec<i32>>,
    state_indices: Option<Vec<i32>>,
}

impl<T: Io, W: Io> Case<T, W> {
    fn new(spec: &Spec) -> Self {
        let (random, order) = (&mut Random::new(spec.seed), spec.order);
        let weight = [("dim", spec.dim), ("width", spec.width)];
        let slots = spec.slots.unwrap_or(spec.batch);
        let state = [("slots", slots), ("dim", spec.dim), ("state_len", spec.width - 1 + spec.spare)];
        let x = [("batch", spec.batch), ("dim", spec.dim), ("seqlen", spec.tokens)];
        let first = random.below(slots);
        let mut slot = |b: usize| if random.chance(0.2) { -1 } else { ((first + b) % slots) as i32 };
        Self {
            state_indices: spec.slots.map(|_| (0..spec.batch).map(&mut slot).collect()),
            cache_seqlens: spec.ring.then(|| (0..spec.batch).map(|_| random.below(50) as i32).collect()),
            x: Tensor::filled(&x, order, || random.normal()),
            weight: Tensor::filled(&weight, order, || random.normal()),
            bias: spec.bias.then(|| Tensor::filled(&weight[..1], order, || random.normal())),
            silu: spec.silu,
            state: Tensor::filled(&state, order, || random.normal()),
        }
    }

    fn op(&self) -> Result<CausalConv1dUpdate<'_, T, W>> {
        let mut op = CausalConv1dUpdate::new(self.x.view()?, self.weight.view()?)?.silu(self.silu);
        if let Some(bias) = &self.bias {
            op = op.bias(bias.view()?);
        }
        if let Some(cache_seqlens) = &self.cache_seqlens {
            op = op.cache_seqlens(cache_seqlens);
        }
        if let Some(state_indices) = &self.state_indices {
            op = op.state_indices(state_indices);
        }
        Ok(op)
    }
}

/// out, and the state.
struct Naive<'r, T, W>(&'r Case<T, W>);

impl<T: Io, W: Io> Loop for Naive<'_, T, W> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let (op, mut state) = (self.0.op().expect("checked before"), self.0.state.clone());
        let mut state = state.view_mut().expect("checked before");
        let run = naive::update::<R, T, W>(&op, &mut state).expect("small, and checked before");
        [run.out, run.final_state].map(|t| t.into_iter().map(Real::to_f64).collect()).into()
    }
}

/// All outputs.
pub fn forward<T: Io>(backend: &impl Runs<T>, spec: &Spec, judge: &mut Judge<'_>) {
    in_own_dtype!(spec.weight, run::<T>(backend, spec, judge));
}

fn run<T: Io, W: Io>(backend: &impl Convolves<T, W>, spec: &Spec, judge: &mut Judge<'_>) -> Result<()> {
    let case = Case::<T, W>::new(spec);
    let (op, mut state) = (case.op()?, case.state.clone());
    let mut out = Tensor::<T>::blank(&case.x.dims(), spec.order);
    // What the loops would refuse is refused here.
    op.check(CausalConv1dUpdateOutputs::new(&mut out.view_mut()?, &mut state.view_mut()?))?;
    let by = Yardstick::measure(&Naive(&case), &[spec.tokens, spec.width - 1 + spec.spare]);
    {
        let (mut out, mut state) = (out.view_mut()?, state.view_mut()?);
        backend.forward(&op, CausalConv1dUpdateOutputs::new(&mut out, &mut state))?;
    }
    let how = if spec.ring { "ring" } else { "shifted" };
    judge.tensor("out", how, out.dense(), &by[0], T::DTYPE);
    judge.tensor("conv_state", how, state.dense(), &by[1], T::DTYPE);
    Ok(())
}
