//! The contract's closed form.

use super::{Channel, OP};
use crate::error::Result;
use crate::ops::causal_conv1d::{CausalConv1d, CausalConv1dUpstream, CheckedUpstream, Dims};
use crate::reference::{Real, Tensor, silu_derivative, zeros};
use crate::tensor::{Element, Host, Strided};

/// Gradients, dense and unrounded.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Gradients<R> {
    /// (batch, dim, seqlen).
    pub dx: Tensor<R>,
    /// (dim, width).
    pub dweight: Tensor<R>,
    /// (dim).
    pub dbias: Tensor<R>,
    /// (nseqs, dim, width - 1).
    pub dinitial_state: Tensor<R>,
}

/// The gradients for these upstream gradients.
pub fn backward<R: Real, T: Element, W: Element>(
    conv: &CausalConv1d<'_, T, W, Host>,
    upstream: CausalConv1dUpstream<'_, T, Host>,
) -> Result<Gradients<R>> {
    let inputs = conv.inputs()?;
    let upstream = upstream.check(&inputs)?;
    let Dims { batch, dim, seqlen, width, nseqs } = inputs.dims;
    let before = width - 1;
    let mut gradients = Gradients {
        dx: zeros(OP, &[batch, dim, seqlen])?,
        dweight: zeros(OP, &[dim, width])?,
        dbias: zeros(OP, &[dim])?,
        dinitial_state: zeros(OP, &[nseqs, dim, before])?,
    };
    // Without elements there may be sequences beyond counting.
    let empty = gradients.dx.is_empty() && gradients.dinitial_state.is_empty();
    let nseqs = if empty { 0 } else { nseqs };
    for d in 0..dim {
        let mut terms: Vec<Vec<R>> = vec![vec![]; width + 1];
        for seq in 0..nseqs {
            let channel = Channel::new(&inputs, seq, d);
            let steps = upstream.dout.iter().flat_map(|dout| (0..channel.span.len).map(move |t| (dout, t)));
            let g: Vec<R> = steps.map(|(dout, t)| by_pre(&channel, dout, t)).collect();
            for (t, &g) in g.iter().enumerate() {
                (0..width).for_each(|w| terms[w].push(g * channel.y(t + w)));
                terms[width].push(g);
            }
            for p in 0..before + channel.span.len {
                let dy = by_input(&channel, &upstream, &g, p);
                match p.checked_sub(before) {
                    Some(t) => gradients.dx[(channel.span.batch * dim + d) * seqlen + channel.span.start + t] = dy,
                    None => gradients.dinitial_state[(seq * dim + d) * before + p] = dy,
                }
            }
        }
        (0..width).for_each(|w| gradients.dweight[d * width + w] = R::sum(&terms[w]));
        gradients.dbias[d] = R::sum(&terms[width]);
    }
    Ok(gradients)
}

/// The gradient by the output of step `t` before silu.
fn by_pre<R: Real, T: Element, W: Element>(
    channel: &Channel<'_, '_, T, W>,
    dout: &Strided<'_, T, Host, 3>,
    t: usize,
) -> R {
    let dout = R::of(dout.at([channel.span.batch, channel.d, channel.span.start + t]).to_f32());
    if channel.inputs.weights.silu { dout * silu_derivative(channel.pre(t)) } else { dout }
}

/// The gradient by input `p` of the sequence behind its initial_state.
fn by_input<R: Real, T: Element, W: Element>(
    channel: &Channel<'_, '_, T, W>,
    upstream: &CheckedUpstream<'_, T, Host>,
    g: &[R],
    p: usize,
) -> R {
    let weights = &channel.inputs.weights;
    let step = |w: usize| p.checked_sub(w).and_then(|t| g.get(t));
    let products =
        (0..weights.width()).filter_map(|w| Some(R::of(weights.weight.at([channel.d, w]).to_f32()) * *step(w)?));
    let last = upstream.dfinal_state.filter(|_| p >= channel.span.len);
    let last = last.map(|state| R::of(state.at([channel.seq, channel.d, p - channel.span.len]).to_f32()));
    R::sum(&products.chain(last).collect::<Vec<R>>())
}
