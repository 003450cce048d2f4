//! The causal convolution, one element at a time.

mod backward;
mod update;

pub use backward::{Gradients, backward};
pub use update::update;

use super::{Real, Tensor, silu, zeros};
use crate::error::Result;
use crate::ops::causal_conv1d::{CausalConv1d, Dims, Inputs, Weights};
use crate::segments::Span;
use crate::tensor::{Element, Host};

const OP: &str = "causal_conv1d";

/// What the forward direction computes, dense and unrounded.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Forward<R> {
    /// (batch, dim, seqlen).
    pub out: Tensor<R>,
    /// (nseqs, dim, width - 1).
    pub final_state: Tensor<R>,
}

/// bias + the sum over the taps; `input(w)` is what tap w meets. No order of the sum is plainer than another.
fn taps<R: Real, W: Element>(weights: &Weights<'_, W, Host>, d: usize, input: impl Fn(usize) -> R) -> R {
    let bias = weights.bias.iter().map(|bias| R::of(bias.at([d]).to_f32()));
    let products = (0..weights.width()).map(|w| R::of(weights.weight.at([d, w]).to_f32()) * input(w));
    R::sum(&bias.chain(products).collect::<Vec<R>>())
}

fn activated<R: Real, W: Element>(weights: &Weights<'_, W, Host>, pre: R) -> R {
    if weights.silu { silu(pre) } else { pre }
}

/// Channel `d` of sequence `seq`.
struct Channel<'i, 'a, T, W> {
    inputs: &'i Inputs<'a, T, W, Host>,
    span: Span,
    seq: usize,
    d: usize,
}

impl<'i, 'a, T: Element, W: Element> Channel<'i, 'a, T, W> {
    fn new(inputs: &'i Inputs<'a, T, W, Host>, seq: usize, d: usize) -> Self {
        Self { inputs, span: inputs.sequences().span(seq), seq, d }
    }

    /// Input `p` of the sequence behind its initial_state.
    fn y<R: Real>(&self, p: usize) -> R {
        let before = self.inputs.dims.width - 1;
        if p >= before {
            let t = self.span.start + p - before;
            return R::of(self.inputs.x.at([self.span.batch, self.d, t]).to_f32());
        }
        self.inputs.initial_state.map_or(R::of(0.0), |state| R::of(state.at([self.seq, self.d, p]).to_f32()))
    }

    /// The output of step `t` before silu.
    fn pre<R: Real>(&self, t: usize) -> R {
        taps(&self.inputs.weights, self.d, |w| self.y(t + w))
    }
}

/// The naive convolution.
pub fn forward<R: Real, T: Element, W: Element>(conv: &CausalConv1d<'_, T, W, Host>) -> Result<Forward<R>> {
    let inputs = conv.inputs()?;
    let Dims { batch, dim, seqlen, width, nseqs } = inputs.dims;
    let mut out = zeros(OP, &[batch, dim, seqlen])?;
    let mut final_state = zeros(OP, &[nseqs, dim, width - 1])?;
    // Without elements there may be sequences beyond counting.
    let empty = out.is_empty() && final_state.is_empty();
    for row in 0..if empty { 0 } else { nseqs * dim } {
        let channel = Channel::new(&inputs, row / dim, row % dim);
        for t in 0..channel.span.len {
            let place = (channel.span.batch * dim + channel.d) * seqlen + channel.span.start + t;
            out[place] = activated(&inputs.weights, channel.pre(t));
        }
        for i in 0..width - 1 {
            final_state[row * (width - 1) + i] = channel.y(channel.span.len + i);
        }
    }
    Ok(Forward { out, final_state })
}
