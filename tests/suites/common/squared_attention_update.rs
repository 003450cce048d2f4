//! Cases of squared attention's update: what proptest draws, the tensors made from it, and its naive loop.

use super::buffer::{Buffer, Order};
use super::conv::dtype;
use super::random::Random;
use super::scan::order;
use super::squared_attention::{AttentionCase, AttentionSpec, decay, scale, states, widths};
use proptest::prelude::*;
use ssm_kernels::prelude::*;
use ssm_kernels::reference::accuracy::{Loop, Yardstick};
use ssm_kernels::reference::{Real, squared_attention as reference};
use ssm_kernels::{Dtype, Element, Result};

/// Shape and options of one update.
#[derive(Debug, Clone)]
pub struct AttentionUpdateSpec {
    /// Shape and options of the tokens.
    pub tokens: AttentionSpec,
    /// Dtype of the state.
    pub state: Dtype,
    /// Slots that no row has, and which rows are padding; without it, slot b is row b's.
    pub indices: Option<(usize, Vec<bool>)>,
}

/// Any update, of at most so many tokens.
pub fn update_spec(most: usize) -> impl Strategy<Value = AttentionUpdateSpec> {
    let tokens = prop_oneof![3 => Just(1usize), 3 => 0..=most];
    let indices = prop::option::of((0usize..4, prop::collection::vec(any::<bool>(), 5)));
    let shape = (1usize..5, 1usize..4, tokens, widths());
    let options = (decay(), prop::bool::weighted(0.7), scale());
    (shape, options, indices, dtype(), order(), any::<u64>()).prop_map(
        |((batch, nheads, seqlen, widths), (decay, near, scale), indices, state, order, seed)| {
            let all = AttentionSpec::all(batch, nheads, seqlen, widths);
            let tokens = AttentionSpec { decay, near, scale, order, seed, ..all }.resolve();
            AttentionUpdateSpec { tokens, state, indices }
        },
    )
}

/// The tensors of one update; `H` is the dtype of the state.
#[derive(Debug, Clone)]
pub struct AttentionUpdateCase<T, H> {
    pub q: Buffer<T>,
    pub k: Buffer<T>,
    pub v: Buffer<T>,
    pub log_decay: Buffer<f32>,
    pub scale: Option<f32>,
    pub state_indices: Option<Vec<i32>>,
    /// Before the call.
    pub state: Buffer<H>,
    pub norm: Buffer<f32>,
}

impl<T: Element, H: Element> AttentionUpdateCase<T, H> {
    pub fn new(spec: &AttentionUpdateSpec) -> Self {
        let AttentionSpec { batch, nheads, dim, vdim, order, seed, .. } = spec.tokens;
        let tokens = AttentionCase::new(&AttentionSpec { initial_state: false, ..spec.tokens.clone() });
        let mut random = Random::new(seed ^ 1);
        let slots = batch + spec.indices.as_ref().map_or(0, |indices| indices.0);
        let (state, norm) = states(&mut random, ("slots", slots), nheads, [dim, vdim], order);
        let mut free: Vec<i32> = (0..slots as i32).collect();
        let indices = |(_, padding): &(usize, Vec<bool>)| {
            let mut own = |b: usize| if padding[b] { -1 - b as i32 } else { free.remove(random.below(free.len())) };
            (0..batch).map(&mut own).collect()
        };
        let state_indices = spec.indices.as_ref().map(indices);
        Self::of(tokens, state_indices, (state, norm))
    }

    /// The steps of a case as tokens, from this state.
    pub fn of(
        tokens: AttentionCase<T>,
        state_indices: Option<Vec<i32>>,
        (state, norm): (Buffer<H>, Buffer<f32>),
    ) -> Self {
        let AttentionCase { q, k, v, log_decay, scale, .. } = tokens;
        Self { q, k, v, log_decay, scale, state_indices, state, norm }
    }

    pub fn op(&self) -> Result<SquaredAttentionUpdate<'_, T, H>> {
        let mut op = SquaredAttentionUpdate::new(self.q.view(), self.k.view(), self.v.view(), self.log_decay.view())?;
        if let Some(scale) = self.scale {
            op = op.scale(scale);
        }
        if let Some(state_indices) = &self.state_indices {
            op = op.state_indices(state_indices);
        }
        Ok(op)
    }

    /// The part in `range` of `name` ("batch" or "seqlen"), from this state.
    pub fn part(&self, name: &str, range: std::ops::Range<usize>, (state, norm): (Buffer<H>, Buffer<f32>)) -> Self {
        let io = |buffer: &Buffer<T>| buffer.slice(name, range.clone());
        let (q, k, v) = (io(&self.q), io(&self.k), io(&self.v));
        Self { q, k, v, log_decay: self.log_decay.slice(name, range), state, norm, ..self.clone() }
    }

    /// out, state and norm.
    pub fn yardsticks(&self) -> Vec<Yardstick> {
        Yardstick::measure(self, &[self.v.row(), self.state.row(), self.norm.row()])
    }
}

/// The naive update: out, and the whole cache after it.
impl<T: Element, H: Element> Loop for AttentionUpdateCase<T, H> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let op = self.op().expect("a valid case");
        let run = reference::update::<R, T, H>(&op, self.state.view(), self.norm.view()).expect("a valid case");
        [run.out, run.final_state, run.final_norm].map(|tensor| tensor.into_iter().map(R::to_f64).collect()).into()
    }
}

/// What an update writes: the cache as it is before, out NaN until a backend writes it.
#[derive(Debug, Clone)]
pub struct AttentionUpdateBuffers<T, H> {
    pub out: Buffer<T>,
    pub state: Buffer<H>,
    pub norm: Buffer<f32>,
}

impl<T: Element, H: Element> AttentionUpdateBuffers<T, H> {
    pub fn new(case: &AttentionUpdateCase<T, H>) -> Self {
        let out = Buffer::poisoned(&case.v.dims(), Order::Dense);
        Self { out, state: case.state.clone(), norm: case.norm.clone() }
    }

    /// Calls `run` with a view of each.
    pub fn with_views<R>(&mut self, run: impl FnOnce(SquaredAttentionUpdateOutputs<'_, T, H>) -> R) -> R {
        let (mut state, mut norm, mut out) = (self.state.view_mut(), self.norm.view_mut(), self.out.view_mut());
        run(SquaredAttentionUpdateOutputs::new(&mut state, &mut norm, &mut out))
    }
}
