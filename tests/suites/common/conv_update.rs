//! Cases of the causal convolution's update: what proptest draws, the tensors made from it, and its naive loop.

use super::buffer::{Buffer, Order};
use super::conv::{dtype, width};
use super::random::Random;
use super::scan::order;
use proptest::prelude::*;
use ssm_kernels::prelude::*;
use ssm_kernels::reference::accuracy::{Loop, Yardstick};
use ssm_kernels::reference::{Real, causal_conv1d as reference};
use ssm_kernels::{Dtype, Element, Result};

/// Shape and options of one update.
#[derive(Debug, Clone)]
pub struct UpdateSpec {
    pub batch: usize,
    pub dim: usize,
    pub width: usize,
    pub tokens: usize,
    /// Of the state, beyond width - 1.
    pub spare: usize,
    pub weight: Dtype,
    pub bias: bool,
    pub silu: bool,
    /// The state is a ring.
    pub circular: bool,
    /// Slots that no row has, and which rows are padding; without it, slot b is row b's.
    pub indices: Option<(usize, Vec<bool>)>,
    pub order: Order,
    pub seed: u64,
}

/// Any update.
pub fn update_spec() -> impl Strategy<Value = UpdateSpec> {
    let dim = prop_oneof![6 => 1usize..20, 1 => prop::sample::select(vec![31usize, 33, 64, 130, 257])];
    let tokens = prop_oneof![4 => Just(1usize), 4 => 0usize..8, 1 => 8usize..30];
    let shape = (1usize..5, dim, width(), tokens, 0usize..6);
    let indices = prop::option::of((0usize..4, prop::collection::vec(any::<bool>(), 5)));
    (shape, any::<[bool; 3]>(), indices, dtype(), order(), any::<u64>()).prop_map(
        |(shape, [bias, silu, circular], indices, weight, order, seed)| {
            let (batch, dim, width, tokens, spare) = shape;
            UpdateSpec { batch, dim, width, tokens, spare, weight, bias, silu, circular, indices, order, seed }
        },
    )
}

/// The tensors of one update.
#[derive(Debug, Clone)]
pub struct ConvUpdateCase<T, W> {
    pub x: Buffer<T>,
    pub weight: Buffer<W>,
    pub bias: Option<Buffer<W>>,
    pub silu: bool,
    pub cache_seqlens: Option<Vec<i32>>,
    pub state_indices: Option<Vec<i32>>,
    /// Before the call.
    pub state: Buffer<T>,
}

impl<T: Element, W: Element> ConvUpdateCase<T, W> {
    pub fn new(spec: &UpdateSpec) -> Self {
        let UpdateSpec { batch, dim, width, tokens, order, .. } = *spec;
        let mut random = Random::new(spec.seed);
        let slots = batch + spec.indices.as_ref().map_or(0, |indices| indices.0);
        let mut free: Vec<i32> = (0..slots as i32).collect();
        let indices = |(_, padding): &(usize, Vec<bool>)| {
            let mut random = Random::new(spec.seed ^ 1);
            let mut own = |b: usize| if padding[b] { -1 - b as i32 } else { free.remove(random.below(free.len())) };
            (0..batch).map(&mut own).collect()
        };
        let state = [("slots", slots), ("dim", dim), ("state_len", width - 1 + spec.spare)];
        Self {
            state_indices: spec.indices.as_ref().map(indices),
            cache_seqlens: spec.circular.then(|| (0..batch).map(|_| random.below(50) as i32).collect()),
            x: Buffer::filled(&[("batch", batch), ("dim", dim), ("seqlen", tokens)], order, || random.normal()),
            weight: Buffer::filled(&[("dim", dim), ("width", width)], order, || random.normal()),
            bias: spec.bias.then(|| Buffer::filled(&[("dim", dim)], order, || random.normal())),
            silu: spec.silu,
            state: Buffer::filled(&state, order, || random.normal()),
        }
    }

    pub fn op(&self) -> Result<CausalConv1dUpdate<'_, T, W>> {
        let mut update = CausalConv1dUpdate::new(self.x.view(), self.weight.view())?.silu(self.silu);
        if let Some(bias) = &self.bias {
            update = update.bias(bias.view());
        }
        if let Some(cache_seqlens) = &self.cache_seqlens {
            update = update.cache_seqlens(cache_seqlens);
        }
        if let Some(state_indices) = &self.state_indices {
            update = update.state_indices(state_indices);
        }
        Ok(update)
    }

    pub fn yardsticks(&self) -> Vec<Yardstick> {
        Yardstick::measure(self, &[self.x.row(), self.state.row()])
    }
}

/// The naive update: out, and the whole state after it.
impl<T: Element, W: Element> Loop for ConvUpdateCase<T, W> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let mut state = self.state.clone();
        let op = self.op().expect("a valid case");
        let run = reference::update::<R, T, W>(&op, &mut state.view_mut()).expect("a valid case");
        [run.out, run.final_state].map(|tensor| tensor.into_iter().map(R::to_f64).collect()).into()
    }
}
