//! The recurrence in a cache, one token at a time.

use super::{OP, State, Step, Tensor, zeros};
use crate::error::Result;
use crate::ops::squared_attention::SquaredAttentionUpdate;
use crate::reference::{Real, stored};
use crate::tensor::{Element, Host, View};

/// What an update computes, dense and unrounded.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Updated<R> {
    /// (batch, nheads, seqlen, vdim).
    pub out: Tensor<R>,
    /// (slots, nheads, features, vdim): the whole cache.
    pub final_state: Tensor<R>,
    /// (slots, nheads, features).
    pub final_norm: Tensor<R>,
}

/// The naive recurrence from `state` and `norm`.
pub fn update<R: Real, T: Element, H: Element>(
    op: &SquaredAttentionUpdate<'_, T, H, Host>,
    state: View<'_, H>,
    norm: View<'_, f32>,
) -> Result<Updated<R>> {
    let inputs = op.inputs()?;
    let (state, norm) = inputs.initial(state, norm)?;
    let [batch, nheads, seqlen, vdim] = inputs.v.layout.extents;
    let [slots, _, features, _] = state.layout.extents;
    let mut run = Updated {
        out: zeros(OP, &[batch, nheads, seqlen, vdim])?,
        final_state: zeros(OP, &state.layout.extents)?,
        final_norm: zeros(OP, &norm.layout.extents)?,
    };
    // Without elements there may be slots beyond counting.
    for row in 0..if run.final_norm.is_empty() { 0 } else { slots * nheads } {
        let (slot, head) = (row / nheads, row % nheads);
        for f in 0..features {
            run.final_norm[row * features + f] = R::of(norm.at([slot, head, f]));
            for p in 0..vdim {
                run.final_state[(row * features + f) * vdim + p] = R::of(state.at([slot, head, f, p]).to_f32());
            }
        }
    }
    for row in 0..if run.out.is_empty() && run.final_norm.is_empty() { 0 } else { batch * nheads } {
        let (b, head) = (row / nheads, row % nheads);
        let Some(slot) = inputs.slot(b) else { continue };
        let [own, own_norm] =
            [features * vdim, features].map(|len| (slot * nheads + head) * len..(slot * nheads + head + 1) * len);
        let mut state =
            State { state: run.final_state[own.clone()].to_vec(), norm: run.final_norm[own_norm.clone()].to_vec() };
        for t in 0..seqlen {
            if t > 0 {
                state.state.iter_mut().for_each(|h| *h = stored::<R, H>(*h));
            }
            let step =
                Step::new([&inputs.q, &inputs.k, &inputs.v], &inputs.log_decay, inputs.scale_squared, [b, head, t]);
            state.advance(&step);
            run.out[(row * seqlen + t) * vdim..][..vdim].copy_from_slice(&state.out(&step.q, vdim));
        }
        run.final_state[own].copy_from_slice(&state.state);
        run.final_norm[own_norm].copy_from_slice(&state.norm);
    }
    Ok(run)
}
