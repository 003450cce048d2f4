//! Squared attention's form for decoding.

use super::squared_attention::{Extents, Rows, states};
use super::tally::Judge;
use super::tensor::{Order, Tensor};
use crate::operators::Attends;
use crate::random::Random;
use crate::tensor::Io;
use ssm_kernels::prelude::*;
use ssm_kernels::reference::accuracy::{Loop, Yardstick};
use ssm_kernels::reference::{Real, squared_attention as naive};
use ssm_kernels::{Dtype, Result};

/// Shape and options of a case; all its numbers follow from its seed.
#[derive(Debug, Clone)]
pub struct Spec {
    extents: Extents,
    scale: Option<f32>,
    /// A cache larger than the batch, with padding.
    slots: Option<usize>,
    /// Of several tokens f32, since between tokens others round either way.
    state: Dtype,
    order: Order,
    seed: u64,
}

impl Spec {
    /// Anything small.
    pub fn draw(random: &mut Random) -> Self {
        let (batch, tokens) = (1 + random.below(4), if random.chance(0.5) { 1 } else { random.below(7) });
        let state = [Dtype::F32, Dtype::F16, Dtype::BF16][random.below(3)];
        Self {
            extents: Extents::draw(random, batch, tokens),
            scale: random.chance(0.3).then(|| random.log_uniform(0.1, 3.0)),
            slots: random.chance(0.5).then(|| batch + random.below(4)),
            state: if tokens > 1 { Dtype::F32 } else { state },
            order: Order::draw(random),
            seed: random.bits(),
        }
    }
}

struct Case<T, H> {
    rows: Rows<T>,
    tokens: usize,
    scale: Option<f32>,
    state: Tensor<H>,
    norm: Tensor<f32>,
    state_indices: Option<Vec<i32>>,
}

impl<T: Io, H: Io> Case<T, H> {
    fn new(spec: &Spec) -> Result<Self> {
        let (random, batch) = (&mut Random::new(spec.seed), spec.extents.batch);
        let slots = spec.slots.unwrap_or(batch);
        let first = random.below(slots);
        let mut slot = |b: usize| if random.chance(0.2) { -1 } else { ((first + b) % slots) as i32 };
        let state_indices = spec.slots.map(|_| (0..batch).map(&mut slot).collect());
        let (state, norm) = states(&spec.extents, ("slots", slots), spec.order, random)?;
        let rows = Rows::new(&spec.extents, spec.order, random);
        Ok(Self { rows, tokens: spec.extents.seqlen, scale: spec.scale, state, norm, state_indices })
    }

    fn op(&self) -> Result<SquaredAttentionUpdate<'_, T, H>> {
        let all = 0..self.tokens;
        let [q, k, v] = self.rows.steps(&all)?;
        let mut op = SquaredAttentionUpdate::new(q, k, v, self.rows.log_decay(&all)?)?;
        if let Some(scale) = self.scale {
            op = op.scale(scale);
        }
        Ok(match &self.state_indices {
            Some(state_indices) => op.state_indices(state_indices),
            None => op,
        })
    }
}

/// out, and the cache.
struct Naive<'r, T, H>(&'r Case<T, H>);

impl<T: Io, H: Io> Loop for Naive<'_, T, H> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let run = || {
            let (state, norm) = (self.0.state.view()?, self.0.norm.view()?);
            naive::update::<R, T, H>(&self.0.op()?, state, norm)
        };
        let run = run().expect("small, and checked before");
        [run.out, run.final_state, run.final_norm].map(|t| t.into_iter().map(Real::to_f64).collect()).into()
    }
}

/// All outputs.
pub fn forward<T: Io>(backend: &impl Attends<T>, spec: &Spec, judge: &mut Judge<'_>) {
    in_own_dtype!(spec.state, run::<T>(backend, spec, judge));
}

fn run<T: Io, H: Io>(
    backend: &impl for<'a> Forward<SquaredAttentionUpdate<'a, T, H>>,
    spec: &Spec,
    judge: &mut Judge<'_>,
) -> Result<()> {
    let case = Case::<T, H>::new(spec)?;
    let (op, mut state, mut norm) = (case.op()?, case.state.clone(), case.norm.clone());
    let mut out = Tensor::<T>::blank(&spec.extents.values(), spec.order);
    // What the loops would refuse is refused here.
    op.check(SquaredAttentionUpdateOutputs::new(&mut state.view_mut()?, &mut norm.view_mut()?, &mut out.view_mut()?))?;
    let Extents { vdim, .. } = spec.extents;
    let by = Yardstick::measure(&Naive(&case), &[vdim, vdim, spec.extents.features()]);
    {
        let (mut state, mut norm, mut out) = (state.view_mut()?, norm.view_mut()?, out.view_mut()?);
        backend.forward(&op, SquaredAttentionUpdateOutputs::new(&mut state, &mut norm, &mut out))?;
    }
    let how = H::DTYPE.name();
    judge.tensor("out", how, out.dense(), &by[0], T::DTYPE);
    judge.tensor("state", how, state.dense(), &by[1], H::DTYPE);
    judge.tensor("norm", how, norm.dense(), &by[2], Dtype::F32);
    Ok(())
}
