//! Causal convolution: the short depthwise convolution along time that stands before the scan in Mamba.
//!
//! # Equation
//! For each sequence and channel `d`, with `x` before the sequence's start from `initial_state`, or 0:
//! ```text
//! pre[t] = bias[d] + sum_w weight[d,w] x[t - (width - 1 - w)]            w from 0 to width - 1: the last tap is x[t]
//! out[t] = silu(pre[t])  with `silu`,  else  pre[t]                      silu(v) = v / (1 + exp(-v))
//! final_state = the last width - 1 inputs, oldest first; where a sequence is shorter, those of initial_state before them
//! ```
//! The definition is that of `causal_conv1d_ref` in Dao-AILab/causal-conv1d (BSD-3), with states in packed sequences, any
//! width up to 16 and gradients of the states added. A state holds inputs: it has the dtype of x, and is exact.
//!
//! Backward, with y the inputs of a sequence behind its initial_state, `y[width - 1 + t] = x[t]`, and the sums over all steps
//! and sequences:
//! ```text
//! g[t]  = dout[t] silu'(pre[t])  with `silu`,  else  dout[t]             pre is computed again
//! dy[p] = sum_w weight[d,w] g[p - w] + dfinal_state[p - seqlen]          each term where its index is one
//! dx[t] = dy[width - 1 + t]                                              dinitial_state[i] = dy[i]
//! dweight[d,w] = sum_t g[t] y[t + w]                                     dbias[d] = sum_t g[t]
//! ```
//! An absent dout or dfinal_state is left out.
//!
//! [`CausalConv1dUpdate`] is the form for decoding: a few steps, from a state that it keeps up to date.
//!
//! # Shapes
//! | tensor | dimensions, in any memory order | dtype |
//! |---|---|---|
//! | x, out | batch, dim, seqlen | f32, f16 or bf16, one per call |
//! | initial_state, final_state | batch, dim, state_len = width - 1 | as x |
//! | weight | dim, width from 1 to 16 | f32, f16 or bf16, whatever x has |
//! | bias | dim | as weight |
//!
//! A gradient has the shape and dtype of its tensor. Any extent but width may be anything, 0 included. With
//! [`CausalConv1d::segments`] batch is 1, and the states have one row per packed sequence along "batch".
//!
//! # Precision
//! Arithmetic is f32 whatever the dtypes. Every backend keeps the rule of [`crate::reference::accuracy`].
//!
//! # Determinism
//! Bitwise: run equals run, batch n equals n times batch 1, any number of threads. dweight and dbias, which sum over the
//! batch, are the sum of those of batch 1, in order, before they are rounded to their dtype. A gradient has the same bits
//! whichever others are asked for.
//!
//! # Errors
//! All arguments are checked here before any backend starts: [`crate::Error`] names operator, argument, expected, got.

mod checked;
mod tensors;
mod update;

#[cfg(any(feature = "cuda", feature = "emulator"))]
pub(crate) use checked::CheckedGradients;
pub(crate) use checked::{CheckedUpstream, Inputs, Weights};
pub use tensors::{CausalConv1dGradients, CausalConv1dOutputs, CausalConv1dUpstream};
pub use update::{CausalConv1dUpdate, CausalConv1dUpdateOutputs};
pub(crate) use update::{CheckedUpdate, UpdateInputs};

use super::{Differentiable, Operator, Sealed, check_segments};
use crate::error::Result;
use crate::segments::Segments;
use crate::tensor::{Device, Element, Host, Slice, Storage, View};

const OP: &str = "causal_conv1d";
const SEQUENCE: [&str; 3] = ["batch", "dim", "seqlen"];
const WEIGHT: [&str; 2] = ["dim", "width"];
const STATE: [&str; 3] = ["batch", "dim", "state_len"];
/// The most taps.
pub(crate) const MOST_WIDTH: usize = 16;

/// The arguments of one causal convolution. The [module](self) has equation, shapes and errors.
///
/// ```
/// use ssm_kernels::prelude::*;
/// let (x, weight) = ([1.0f32, 2.0, 3.0], [0.5f32, 1.0]);
/// let sequence = [("batch", 1), ("dim", 1), ("seqlen", 3)];
/// let conv = CausalConv1d::new(View::new(&x, sequence), View::new(&weight, [("dim", 1), ("width", 2)]))?;
/// let mut out = [0.0f32; 3];
/// Cpu::new().forward(&conv, CausalConv1dOutputs::new(&mut ViewMut::new(&mut out, sequence)))?;
/// assert_eq!(out, [1.0, 2.5, 4.0]);
/// # Ok::<(), ssm_kernels::Error>(())
/// ```
#[derive(Debug)]
#[doc(alias("conv1d", "causal_conv1d_fn", "short_conv"))]
pub struct CausalConv1d<'a, T: 'a, W: 'a = T, S: Storage = Host> {
    x: View<'a, T, S>,
    weight: View<'a, W, S>,
    bias: Option<View<'a, W, S>>,
    silu: bool,
    initial_state: Option<View<'a, T, S>>,
    segments: Option<&'a Segments>,
    segments_table: Option<Slice<'a, i32, S>>,
}

impl<'a, T: Element, W: Element, S: Storage> CausalConv1d<'a, T, W, S> {
    /// The required arguments.
    pub fn new(x: View<'a, T, S>, weight: View<'a, W, S>) -> Result<Self> {
        let (bias, initial_state, segments, segments_table) = (None, None, None, None);
        let conv = Self { x, weight, bias, silu: false, initial_state, segments, segments_table };
        conv.inputs()?;
        Ok(conv)
    }

    /// Added to every output, before silu.
    pub fn bias(mut self, bias: View<'a, W, S>) -> Self {
        self.bias = Some(bias);
        self
    }

    /// Whether the output goes through silu. Default: no.
    #[doc(alias("activation", "swish"))]
    pub fn silu(mut self, silu: bool) -> Self {
        self.silu = silu;
        self
    }

    /// The width - 1 inputs before each sequence, oldest first. Default: zero.
    #[doc(alias("initial_states", "conv_state"))]
    pub fn initial_state(mut self, initial_state: View<'a, T, S>) -> Self {
        self.initial_state = Some(initial_state);
        self
    }

    /// Several sequences packed along seqlen, each with its own initial and final state; no tap reaches over a boundary.
    /// batch must be 1.
    #[doc(alias("cu_seqlens", "seq_idx", "varlen"))]
    pub fn segments(mut self, segments: &'a Segments) -> Self {
        self.segments = Some(segments);
        self.segments_table = None;
        self
    }

    /// The dimensions of the call, once all arguments are checked.
    pub fn dims(&self) -> Result<Dims> {
        Ok(self.inputs()?.dims)
    }

    /// Everything that a backend checks before it runs forward, without running.
    pub fn check(&self, outputs: CausalConv1dOutputs<'_, T, S>) -> Result<()> {
        outputs.check(&self.inputs()?).map(|_| ())
    }

    /// Everything that a backend checks before it runs backward, without running.
    pub fn check_backward(
        &self,
        upstream: CausalConv1dUpstream<'_, T, S>,
        gradients: CausalConv1dGradients<'_, T, W, S>,
    ) -> Result<()> {
        let inputs = self.inputs()?;
        let upstream = upstream.check(&inputs)?;
        gradients.check(&inputs, &upstream).map(|_| ())
    }

    /// All inputs checked and in canonical order.
    pub(crate) fn inputs(&self) -> Result<Inputs<'a, T, W, S>> {
        let x = self.x.align(OP, "x", SEQUENCE)?;
        let [batch, dim, seqlen] = x.layout.extents;
        let weights = Weights::check(OP, self.weight, self.bias, self.silu, dim)?;
        let width = weights.width();
        let nseqs = match self.segments {
            Some(segments) => check_segments((OP, "x"), segments, self.segments_table.as_ref(), batch, seqlen)?,
            None => batch,
        };
        let state = |view: View<'a, T, S>| view.align_to(OP, "initial_state", STATE, [nseqs, dim, width - 1]);
        Ok(Inputs {
            dims: Dims { batch, dim, seqlen, width, nseqs },
            x,
            weights,
            initial_state: self.initial_state.map(state).transpose()?,
            segments: self.segments,
            segments_table: self.segments_table,
        })
    }
}

impl<'a, T: Element, W: Element> CausalConv1d<'a, T, W, Device> {
    /// As [`CausalConv1d::segments`], on a device: `table` holds a copy of [`Segments::cu_seqlens`] there. Upload it
    /// once for a packing; calls read it.
    ///
    /// # Safety
    /// When kernels read `table`, it holds exactly `segments.cu_seqlens()`: they take it for their bounds.
    pub unsafe fn segments_on(mut self, segments: &'a Segments, table: Slice<'a, i32, Device>) -> Self {
        self.segments = Some(segments);
        self.segments_table = Some(table);
        self
    }
}

impl<T: Element, W: Element, S: Storage> Sealed for CausalConv1d<'_, T, W, S> {}

impl<T: Element, W: Element, S: Storage> Operator for CausalConv1d<'_, T, W, S> {
    type Storage = S;
    type Outputs<'o> = CausalConv1dOutputs<'o, T, S>;
    const NAME: &'static str = OP;
}

impl<T: Element, W: Element, S: Storage> Differentiable for CausalConv1d<'_, T, W, S> {
    type Upstream<'u> = CausalConv1dUpstream<'u, T, S>;
    type Gradients<'o> = CausalConv1dGradients<'o, T, W, S>;
}

/// The dimensions of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dims {
    /// Rows of the batch; 1 with packed sequences.
    pub batch: usize,
    /// Channels.
    pub dim: usize,
    /// Length; with packed sequences the sum of lengths.
    pub seqlen: usize,
    /// Taps.
    pub width: usize,
    /// Sequences: batch, or the number of packed ones.
    pub nseqs: usize,
}

impl Dims {
    /// By name, for plans.
    pub(crate) fn named(&self) -> Vec<(&'static str, usize)> {
        let Dims { batch, dim, seqlen, width, nseqs } = *self;
        vec![("batch", batch), ("dim", dim), ("seqlen", seqlen), ("width", width), ("nseqs", nseqs)]
    }
}
