//! The state update.

use super::tally::Judge;
use super::tensor::{Dim, Order, Tensor};
use crate::operators::Runs;
use crate::random::Random;
use crate::tensor::Io;
use ssm_kernels::prelude::*;
use ssm_kernels::reference::accuracy::{Loop, Yardstick};
use ssm_kernels::reference::{Real, state_update as naive};
use ssm_kernels::{Dtype, Result};

/// Shape and options of a case; all its numbers follow from its seed.
#[derive(Debug, Clone)]
pub struct Spec {
    batch: usize,
    /// Several tokens: with states of f32 alone, since between tokens others round either way.
    tokens: Option<usize>,
    nheads: Option<usize>,
    channels: usize,
    ngroups: Option<usize>,
    dstate: usize,
    /// Of heads: one number of dt, A, D and dt_bias for each.
    one_per_head: bool,
    D: bool,
    z: bool,
    dt_bias: bool,
    dt_softplus: bool,
    dt_limit: bool,
    /// A cache larger than the batch, with padding.
    slots: Option<usize>,
    state: Dtype,
    order: Order,
    seed: u64,
}

impl Spec {
    /// Anything small.
    pub fn draw(random: &mut Random) -> Self {
        let nheads = random.chance(0.5).then(|| 1 + random.below(4));
        let channels = 1 + random.below(20);
        let grouped = nheads.unwrap_or(channels);
        let divisors: Vec<usize> = (1..=grouped).filter(|n| grouped % n == 0).collect();
        let batch = 1 + random.below(4);
        let tokens = random.chance(0.4).then(|| 1 + random.below(4));
        let state = [Dtype::F32, Dtype::F16, Dtype::BF16][random.below(3)];
        Self {
            batch,
            tokens,
            nheads,
            channels,
            ngroups: random.chance(0.5).then(|| divisors[random.below(divisors.len())]),
            dstate: if random.chance(0.5) { 1 + random.below(20) } else { 16 << random.below(4) },
            one_per_head: nheads.is_some() && random.chance(0.5),
            D: random.chance(0.5),
            z: random.chance(0.5),
            dt_bias: random.chance(0.5),
            dt_softplus: random.chance(0.5),
            dt_limit: random.chance(0.3),
            slots: random.chance(0.5).then(|| batch + random.below(4)),
            state: if tokens.is_some_and(|tokens| tokens > 1) { Dtype::F32 } else { state },
            order: Order::draw(random),
            seed: random.bits(),
        }
    }
}

struct Case<T, H> {
    x: Tensor<T>,
    dt: Tensor<T>,
    A: Tensor<f32>,
    B: Tensor<T>,
    C: Tensor<T>,
    D: Option<Tensor<f32>>,
    z: Option<Tensor<T>>,
    dt_bias: Option<Tensor<f32>>,
    state: Tensor<H>,
    state_indices: Option<Vec<i32>>,
    dt_softplus: bool,
    dt_limit: bool,
    /// Extents of x and of the state.
    dims: [Vec<Dim>; 2],
}

impl<T: Io, H: Io> Case<T, H> {
    fn new(spec: &Spec) -> Self {
        let (random, order) = (&mut Random::new(spec.seed), spec.order);
        let channels: Vec<Dim> = match spec.nheads {
            Some(nheads) => vec![("nheads", nheads), ("headdim", spec.channels)],
            None => vec![("dim", spec.channels)],
        };
        let lead: Vec<Dim> = std::iter::once(("batch", spec.batch)).chain(spec.tokens.map(|n| ("seqlen", n))).collect();
        let dstate = [("dstate", spec.dstate)];
        let own = if spec.one_per_head { &channels[..1] } else { &channels[..] };
        let groups: Vec<Dim> = spec.ngroups.map(|n| ("ngroups", n)).into_iter().collect();
        let (sequence, rows) = ([&lead[..], &channels].concat(), [&lead[..], &groups, &dstate].concat());
        let x = Tensor::filled(&sequence, order, || random.normal());
        let dt = Tensor::filled(&[&lead[..], own].concat(), order, || match spec.dt_softplus {
            true => 2.0 * random.normal() - 2.0,
            false => random.log_uniform(1e-3, 1.0),
        });
        let matrix = if spec.one_per_head { own.to_vec() } else { [own, &dstate].concat() };
        let A = Tensor::filled(&matrix, order, || -random.log_uniform(1e-2, 20.0));
        let (B, C) =
            (Tensor::filled(&rows, order, || random.normal()), Tensor::filled(&rows, order, || random.normal()));
        let D = spec.D.then(|| Tensor::filled(own, order, || random.normal()));
        let z = spec.z.then(|| Tensor::filled(&sequence, order, || 2.0 * random.normal()));
        let dt_bias = spec.dt_bias.then(|| Tensor::filled(own, order, || 0.5 * random.normal()));
        let row = spec.slots.map_or(("batch", spec.batch), |slots| ("slots", slots));
        let states = [&[row], &channels[..], &dstate].concat();
        let state = Tensor::filled(&states, order, || random.normal());
        let state_indices = spec.slots.map(|slots| {
            let first = random.below(slots);
            let row = |b: usize| ((first + b) % slots) as i32;
            (0..spec.batch).map(|b| if random.chance(0.2) { -1 } else { row(b) }).collect()
        });
        let (dt_softplus, dt_limit, dims) = (spec.dt_softplus, spec.dt_limit, [sequence, states]);
        Self { x, dt, A, B, C, D, z, dt_bias, state, state_indices, dt_softplus, dt_limit, dims }
    }

    fn op(&self) -> Result<StateUpdate<'_, T, H>> {
        let (B, C) = (self.B.view()?, self.C.view()?);
        let mut op = StateUpdate::new(self.x.view()?, self.dt.view()?, self.A.view()?, B, C)?;
        op = op.dt_softplus(self.dt_softplus);
        if let Some(D) = &self.D {
            op = op.D(D.view()?);
        }
        if let Some(z) = &self.z {
            op = op.z(z.view()?);
        }
        if let Some(dt_bias) = &self.dt_bias {
            op = op.dt_bias(dt_bias.view()?);
        }
        if let Some(rows) = &self.state_indices {
            op = op.state_indices(View::new(rows, [("batch", rows.len())]));
        }
        Ok(if self.dt_limit { op.dt_limit((0.01, 0.3)) } else { op })
    }
}

/// out, the state, and the states after tokens.
struct Naive<'r, T, H>(&'r Case<T, H>);

impl<T: Io, H: Io> Loop for Naive<'_, T, H> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let (op, state) = (self.0.op().expect("checked before"), self.0.state.view().expect("checked before"));
        let run = naive::forward::<R, T, H>(&op, state).expect("small, and checked before");
        [run.out, run.final_state, run.token_states].map(|t| t.into_iter().map(Real::to_f64).collect()).into()
    }
}

/// All outputs.
pub fn forward<T: Io>(backend: &impl Runs<T>, spec: &Spec, judge: &mut Judge<'_>) {
    in_own_dtype!(spec.state, run::<T>(backend, spec, judge));
}

fn run<T: Io, H: Io>(
    backend: &impl for<'a> Forward<StateUpdate<'a, T, H>>,
    spec: &Spec,
    judge: &mut Judge<'_>,
) -> Result<()> {
    let case = Case::<T, H>::new(spec);
    let [sequence, states] = &case.dims;
    let mut tokens = states.clone();
    tokens[0] = ("tokens", spec.batch * spec.tokens.unwrap_or(1));
    let op = case.op()?;
    op.check(StateUpdateOutputs::new(
        &mut case.state.clone().view_mut()?,
        &mut Tensor::blank(sequence, spec.order).view_mut()?,
    ))?;
    let by = Yardstick::measure(&Naive(&case), &[spec.channels, spec.dstate, spec.dstate]);
    let (mut out, mut kept) = (Tensor::<T>::blank(sequence, spec.order), Tensor::<H>::blank(&tokens, spec.order));
    let mut state = case.state.clone();
    {
        let (mut out, mut state, mut kept) = (out.view_mut()?, state.view_mut()?, kept.view_mut()?);
        backend.forward(&op, StateUpdateOutputs::new(&mut state, &mut out).token_states(&mut kept))?;
    }
    let how = H::DTYPE.name();
    judge.tensor("out", how, out.dense(), &by[0], T::DTYPE);
    judge.tensor("state", how, state.dense(), &by[1], H::DTYPE);
    judge.tensor("token_states", how, kept.dense(), &by[2], H::DTYPE);
    Ok(())
}
