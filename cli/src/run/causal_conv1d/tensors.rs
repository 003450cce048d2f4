//! The inputs of a causal convolution, and of an update: loaded, laid out.

use super::Options;
use crate::args::Layout;
use crate::error::Result;
use crate::input::Input;
use crate::memory::Memory;
use crate::run::shaped::{Shaped, list, needed, segments, sequence, sequence_view, shaped};
use crate::tensor::Io;
use ssm_kernels::prelude::*;
use std::borrow::Cow;

/// Weight and bias.
struct Weights<'f, W: Clone> {
    weight: Shaped<'f, W, 2>,
    bias: Option<Shaped<'f, W, 1>>,
}

impl<'f, W: Io> Weights<'f, W> {
    fn load(input: &Input<'f>) -> Result<Self> {
        let weight = needed(input, "weight", shaped(input, "weight", ["dim", "width"])?)?;
        Ok(Self { weight, bias: shaped(input, "bias", ["dim"])? })
    }

    fn weight(&self) -> View<'_, W> {
        View::new(&self.weight.data, [("dim", self.weight.extents[0]), ("width", self.weight.extents[1])])
    }

    fn bias(&self) -> Option<View<'_, W>> {
        self.bias.as_ref().map(|bias| View::new(&bias.data, [("dim", bias.extents[0])]))
    }
}

/// A state of a sequence.
pub(super) fn state_view<'v, T>(tensor: &'v Shaped<'_, T, 3>) -> View<'v, T>
where
    T: Clone,
{
    let [nseqs, dim, state_len] = tensor.extents;
    View::new(&tensor.data, [("batch", nseqs), ("dim", dim), ("state_len", state_len)])
}

/// Every input that the file has.
pub(super) struct Tensors<'f, T: Clone, W: Clone> {
    layout: Layout,
    x: Shaped<'f, T, 3>,
    weights: Weights<'f, W>,
    initial_state: Option<Shaped<'f, T, 3>>,
    segments: Option<Segments>,
}

impl<'f, T: Io, W: Io> Tensors<'f, T, W> {
    /// From a file, x copied into the memory order of `layout`.
    pub fn load(input: &Input<'f>, layout: Layout, memory: &mut Memory) -> Result<Self> {
        Ok(Self {
            layout,
            x: needed(input, "x", sequence(input, "x", layout, memory)?)?,
            weights: Weights::load(input)?,
            initial_state: shaped(input, "initial_state", ["batch", "dim", "width - 1"])?,
            segments: segments(input)?,
        })
    }

    /// The arguments of the call; extents are for the library to check.
    pub fn op(&self, options: &Options) -> Result<CausalConv1d<'_, T, W>> {
        let mut op = CausalConv1d::new(sequence_view(&self.x, self.layout), self.weights.weight())?.silu(options.silu);
        if let Some(bias) = self.weights.bias() {
            op = op.bias(bias);
        }
        if let Some(state) = &self.initial_state {
            op = op.initial_state(state_view(state));
        }
        Ok(match &self.segments {
            Some(segments) => op.segments(segments),
            None => op,
        })
    }

    /// Whether the file has a bias.
    pub fn has_bias(&self) -> bool {
        self.weights.bias.is_some()
    }

    /// Whether the file has inputs before the first.
    pub fn has_state(&self) -> bool {
        self.initial_state.is_some()
    }
}

/// Every input that the file of an update has.
pub(super) struct UpdateTensors<'f, T: Clone, W: Clone> {
    layout: Layout,
    x: Shaped<'f, T, 3>,
    weights: Weights<'f, W>,
    /// The state before the call.
    pub state: Shaped<'f, T, 3>,
    cache_seqlens: Option<Cow<'f, [i32]>>,
    state_indices: Option<Cow<'f, [i32]>>,
}

impl<'f, T: Io, W: Io> UpdateTensors<'f, T, W> {
    /// From a file, x copied into the memory order of `layout`.
    pub fn load(input: &Input<'f>, layout: Layout, memory: &mut Memory) -> Result<Self> {
        let state = shaped(input, "initial_state", ["slots", "dim", "state_len"])?;
        Ok(Self {
            layout,
            x: needed(input, "x", sequence(input, "x", layout, memory)?)?,
            weights: Weights::load(input)?,
            state: needed(input, "initial_state", state)?,
            cache_seqlens: list(input, "cache_seqlens", &["cache_seqlens"])?,
            state_indices: list(input, "state_indices", &["state_indices", "indices"])?,
        })
    }

    /// By name, as the metadata have them.
    pub fn dims(&self) -> [(&'static str, usize); 6] {
        let ([batch, dim, seqlen], [slots, _, state_len]) = (self.x.extents, self.state.extents);
        let width = self.weights.weight.extents[1];
        let first = [("batch", batch), ("dim", dim), ("seqlen", seqlen)];
        [first[0], first[1], first[2], ("width", width), ("state_len", state_len), ("slots", slots)]
    }

    /// The arguments of the call; extents are for the library to check.
    pub fn op(&self, options: &Options) -> Result<CausalConv1dUpdate<'_, T, W>> {
        let x = sequence_view(&self.x, self.layout);
        let mut op = CausalConv1dUpdate::new(x, self.weights.weight())?.silu(options.silu);
        if let Some(bias) = self.weights.bias() {
            op = op.bias(bias);
        }
        if let Some(cache_seqlens) = &self.cache_seqlens {
            op = op.cache_seqlens(cache_seqlens);
        }
        Ok(match &self.state_indices {
            Some(state_indices) => op.state_indices(state_indices),
            None => op,
        })
    }
}
