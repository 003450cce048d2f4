//! Cases of the state update: what proptest draws, the tensors made from it, and its naive loop.

use super::buffer::{Buffer, Order};
use super::random::Random;
use super::scan::order;
use proptest::prelude::*;
use ssm_kernels::prelude::*;
use ssm_kernels::reference::accuracy::{Loop, Yardstick};
use ssm_kernels::reference::{Real, state_update as reference};
use ssm_kernels::{Dtype, Element, Result};

/// Shape and options of one case. Its Debug form reproduces the case.
#[derive(Debug, Clone)]
pub struct UpdateSpec {
    pub batch: usize,
    /// Several tokens, or no such dimension.
    pub tokens: Option<usize>,
    /// nheads, if there are heads.
    pub nheads: Option<usize>,
    /// headdim, or dim.
    pub channels: usize,
    /// Of B and C; none is no such dimension.
    pub ngroups: [Option<usize>; 2],
    pub dstate: usize,
    /// Of heads: dt, dt_bias and D have no headdim; A has neither headdim nor dstate.
    pub one_per_head: [bool; 4],
    pub D: bool,
    pub z: bool,
    pub dt_bias: bool,
    pub dt_softplus: bool,
    pub dt_limit: bool,
    /// A larger cache, some rows of the batch being padding.
    pub indices: bool,
    pub token_states: bool,
    /// Dtype of the state.
    pub state: Dtype,
    pub order: Order,
    pub seed: u64,
}

impl UpdateSpec {
    /// Channels with every option but padding.
    pub fn channels(batch: usize, dim: usize, dstate: usize) -> Self {
        Self {
            batch,
            tokens: None,
            nheads: None,
            channels: dim,
            ngroups: [None; 2],
            dstate,
            one_per_head: [false; 4],
            D: true,
            z: true,
            dt_bias: true,
            dt_softplus: true,
            dt_limit: false,
            indices: false,
            token_states: false,
            state: Dtype::F32,
            order: Order::Dense,
            seed: 1,
        }
    }

    /// Heads with one A, dt, D and bias each.
    pub fn heads(batch: usize, nheads: usize, headdim: usize, dstate: usize) -> Self {
        let one_per_head = [true; 4];
        Self { nheads: Some(nheads), one_per_head, ngroups: [Some(1); 2], ..Self::channels(batch, headdim, dstate) }
    }
}

/// Any case that a plain loop runs in a moment. `tokens`: several in a call, too.
pub fn spec(tokens: bool) -> impl Strategy<Value = UpdateSpec> {
    let tokens = prop::option::weighted(if tokens { 0.6 } else { 0.2 }, 1..if tokens { 5usize } else { 2 });
    let dstate =
        prop_oneof![6 => 1usize..20, 3 => prop::sample::select(vec![8usize, 16, 32, 64, 128]), 1 => 20usize..300];
    let channels = prop_oneof![8 => 1usize..20, 1 => prop::sample::select(vec![63usize, 64, 65, 130])];
    let shape = (0usize..5, tokens, prop::option::of(1usize..5), channels, any::<[Option<u8>; 2]>(), dstate);
    let flags = (any::<[bool; 4]>(), any::<[bool; 7]>());
    let dtype = prop::sample::select(vec![Dtype::F32, Dtype::F16, Dtype::BF16]);
    let order = prop_oneof![2 => order(), 1 => Just(Order::Aligned)];
    (shape, flags, dtype, order, any::<u64>()).prop_map(|(shape, (one_per_head, flags), state, order, seed)| {
        let (batch, tokens, nheads, channels, groups, dstate) = shape;
        let [D, z, dt_bias, dt_softplus, dt_limit, indices, token_states] = flags;
        let grouped = nheads.unwrap_or(channels);
        let divisors: Vec<usize> = (1..=grouped).filter(|n| grouped % n == 0).collect();
        let ngroups = groups.map(|choice| choice.map(|choice| divisors[usize::from(choice) % divisors.len()]));
        UpdateSpec {
            batch,
            tokens,
            nheads,
            channels,
            ngroups,
            dstate,
            one_per_head,
            D,
            z,
            dt_bias,
            dt_softplus,
            dt_limit,
            indices,
            token_states,
            state,
            order,
            seed,
        }
    })
}

type Dims = Vec<(&'static str, usize)>;

/// The tensors of one case; `H` is the dtype of the states.
#[derive(Debug, Clone)]
pub struct UpdateCase<T, H> {
    pub x: Buffer<T>,
    pub dt: Buffer<T>,
    pub A: Buffer<f32>,
    pub B: Buffer<T>,
    pub C: Buffer<T>,
    pub D: Option<Buffer<f32>>,
    pub z: Option<Buffer<T>>,
    pub dt_bias: Option<Buffer<f32>>,
    pub dt_softplus: bool,
    pub dt_limit: Option<(f32, f32)>,
    pub state: Buffer<H>,
    pub state_indices: Option<Vec<i32>>,
}

impl<T: Element, H: Element> UpdateCase<T, H> {
    pub fn new(spec: &UpdateSpec) -> Self {
        let (mut random, order) = (Random::new(spec.seed), spec.order);
        let channels: Dims = match spec.nheads {
            Some(nheads) => vec![("nheads", nheads), ("headdim", spec.channels)],
            None => vec![("dim", spec.channels)],
        };
        let lead: Dims = std::iter::once(("batch", spec.batch)).chain(spec.tokens.map(|n| ("seqlen", n))).collect();
        let dstate = [("dstate", spec.dstate)];
        let without = |i: usize| channels.len() - usize::from(spec.nheads.is_some() && spec.one_per_head[i]);
        let rows = |i: usize| {
            let groups: Dims = spec.ngroups[i].map(|n| ("ngroups", n)).into_iter().collect();
            [&lead[..], &groups, &dstate].concat()
        };
        let x = Buffer::filled(&[&lead[..], &channels].concat(), order, || random.normal());
        let dt = Buffer::filled(&[&lead[..], &channels[..without(0)]].concat(), order, || match spec.dt_softplus {
            true => 2.0 * random.normal() - 2.0,
            false => random.log_uniform(1e-3, 1.0),
        });
        let matrix = match without(1) == channels.len() {
            true => [&channels[..], &dstate].concat(),
            false => channels[..1].to_vec(),
        };
        let A = Buffer::filled(&matrix, order, || -random.log_uniform(1e-2, 20.0));
        let B = Buffer::filled(&rows(0), order, || random.normal());
        let C = Buffer::filled(&rows(1), order, || random.normal());
        let mut channel = |wanted: bool, i: usize, scale: f32| {
            wanted.then(|| Buffer::filled(&channels[..without(i)], order, || scale * random.normal()))
        };
        let (D, dt_bias) = (channel(spec.D, 2, 1.0), channel(spec.dt_bias, 3, 0.5));
        let z = spec.z.then(|| Buffer::filled(&x.dims(), order, || 2.0 * random.normal()));
        let slots = if spec.indices { spec.batch + random.below(4) } else { spec.batch };
        let row = [(if spec.indices { "slots" } else { "batch" }, slots)];
        let state = Buffer::filled(&[&row[..], &channels, &dstate].concat(), order, || random.normal());
        let state_indices = spec.indices.then(|| indices(&mut random, spec.batch, slots));
        let (dt_softplus, dt_limit) = (spec.dt_softplus, spec.dt_limit.then_some((0.01, 0.3)));
        Self { x, dt, A, B, C, D, z, dt_bias, dt_softplus, dt_limit, state, state_indices }
    }

    pub fn op(&self) -> Result<StateUpdate<'_, T, H>> {
        let (B, C) = (self.B.view(), self.C.view());
        let mut op =
            StateUpdate::new(self.x.view(), self.dt.view(), self.A.view(), B, C)?.dt_softplus(self.dt_softplus);
        if let Some(D) = &self.D {
            op = op.D(D.view());
        }
        if let Some(z) = &self.z {
            op = op.z(z.view());
        }
        if let Some(dt_bias) = &self.dt_bias {
            op = op.dt_bias(dt_bias.view());
        }
        if let Some(dt_limit) = self.dt_limit {
            op = op.dt_limit(dt_limit);
        }
        if let Some(indices) = &self.state_indices {
            op = op.state_indices(View::new(indices, [("batch", indices.len())]));
        }
        Ok(op)
    }

    /// Rows of x times tokens.
    pub fn tokens(&self) -> usize {
        self.x.dims().iter().filter(|dim| ["batch", "seqlen"].contains(&dim.0)).map(|dim| dim.1).product()
    }

    /// The case of one token, from `state`.
    pub fn token(&self, t: usize, state: Buffer<H>) -> Self {
        let at = |buffer: &Buffer<T>| buffer.slice("seqlen", t..t + 1);
        let (x, dt, B, C, z) = (at(&self.x), at(&self.dt), at(&self.B), at(&self.C), self.z.as_ref().map(at));
        Self { x, dt, B, C, z, state, ..self.clone() }
    }

    /// The case of one row of the batch, with the whole cache or its own row of the state.
    pub fn batch_row(&self, b: usize) -> Self {
        let at = |buffer: &Buffer<T>| buffer.slice("batch", b..b + 1);
        let (x, dt, B, C, z) = (at(&self.x), at(&self.dt), at(&self.B), at(&self.C), self.z.as_ref().map(at));
        let state_indices = self.state_indices.as_ref().map(|indices| vec![indices[b]]);
        let state = if state_indices.is_some() { self.state.clone() } else { self.state.slice("batch", b..b + 1) };
        Self { x, dt, B, C, z, state, state_indices, ..self.clone() }
    }
}

/// Rows in any order, a quarter of them padding.
fn indices(random: &mut Random, batch: usize, slots: usize) -> Vec<i32> {
    let mut rows: Vec<i32> = (0..slots as i32).collect();
    (1..slots).for_each(|i| rows.swap(i, random.below(i + 1)));
    rows[..batch].iter().map(|&row| if random.below(4) == 0 { -1 - random.below(3) as i32 } else { row }).collect()
}

/// The outputs of one case: the state as it is before, the others NaN until a backend writes them.
#[derive(Debug, Clone)]
pub struct UpdateBuffers<T, H> {
    pub state: Buffer<H>,
    pub out: Buffer<T>,
    pub token_states: Option<Buffer<H>>,
}

impl<T: Element, H: Element> UpdateBuffers<T, H> {
    pub fn new(case: &UpdateCase<T, H>, token_states: bool, order: Order) -> Self {
        let mut dims = case.state.dims();
        dims[0] = ("tokens", case.tokens());
        Self {
            state: case.state.clone(),
            out: Buffer::poisoned(&case.x.dims(), order),
            token_states: token_states.then(|| Buffer::poisoned(&dims, order)),
        }
    }
}

/// The naive update: out, the whole cache, token_states (NaN in the rows of padding).
pub struct NaiveUpdate<'c, T, H>(pub &'c UpdateCase<T, H>);

impl<T: Element, H: Element> NaiveUpdate<'_, T, H> {
    /// What the tensors are judged by, in that order.
    pub fn yardsticks(&self) -> Vec<Yardstick> {
        Yardstick::measure(self, &[self.0.x.row(), self.0.state.row(), self.0.state.row()])
    }
}

impl<T: Element, H: Element> Loop for NaiveUpdate<'_, T, H> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let op = self.0.op().expect("a valid case");
        let run = reference::forward::<R, T, H>(&op, self.0.state.view()).expect("a valid case");
        [run.out, run.final_state, run.token_states].map(|t| t.into_iter().map(R::to_f64).collect()).into()
    }
}
