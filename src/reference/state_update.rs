//! The state update, one element at a time.

use super::{Real, Tensor, silu, stored, zeros};
use crate::error::Result;
use crate::ops::state_update::{Dims, Inputs, StateUpdate};
use crate::tensor::{Element, Host, View};

const OP: &str = "state_update";

/// What a state update computes, dense and unrounded.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Forward<R> {
    /// (batch, seqlen, dim), or (batch, seqlen, nheads, headdim).
    pub out: Tensor<R>,
    /// (slots, dim, dstate), or (slots, nheads, headdim, dstate): the whole cache.
    pub final_state: Tensor<R>,
    /// (batch seqlen, dim, dstate), or (batch seqlen, nheads, headdim, dstate). NaN in the rows of padding.
    pub token_states: Tensor<R>,
}

/// The naive recurrence from `state`.
pub fn forward<R: Real, T: Element, H: Element>(
    op: &StateUpdate<'_, T, H, Host>,
    state: View<'_, H>,
) -> Result<Forward<R>> {
    let inputs = op.inputs()?;
    let initial = inputs.initial_state(state)?;
    let Dims { batch, seqlen, nheads, headdim, dstate } = inputs.dims;
    let mut out = zeros(OP, &[batch, seqlen, nheads, headdim])?;
    let mut final_state = zeros(OP, &initial.layout.extents)?;
    let mut token_states = zeros(OP, &[batch, seqlen, nheads, headdim, dstate])?;
    let width = nheads * headdim * dstate;
    for (i, value) in final_state.iter_mut().enumerate() {
        let (slot, h, p, n) = (i / width, i / (headdim * dstate) % nheads, i / dstate % headdim, i % dstate);
        *value = R::of(initial.at([slot, h, p, n]).to_f32());
    }
    // With nothing to write there may be rows beyond counting.
    let rows = if out.is_empty() { 0 } else { batch * seqlen };
    for token in 0..rows {
        let (b, t) = (token / seqlen, token % seqlen);
        let kept = token * width..(token + 1) * width;
        let Some(slot) = inputs.row(b) else {
            token_states[kept].fill(R::of(f32::NAN));
            continue;
        };
        for (row, out) in out[token * nheads * headdim..][..nheads * headdim].iter_mut().enumerate() {
            let state = &mut final_state[slot * width + row * dstate..][..dstate];
            if t > 0 {
                state.iter_mut().for_each(|h| *h = stored::<R, H>(*h));
            }
            *out = step(&inputs, [b, t, row / headdim, row % headdim], state);
        }
        token_states[kept].copy_from_slice(&final_state[slot * width..][..width]);
    }
    Ok(Forward { out, final_state, token_states })
}

/// One token of one channel.
fn step<R: Real, T: Element>(inputs: &Inputs<'_, T, Host>, index: [usize; 4], state: &mut [R]) -> R {
    let [b, t, h, p] = index;
    let x = R::of(inputs.x.at(index).to_f32());
    let bias = inputs.dt_bias.map_or(R::of(0.0), |bias| R::of(bias.at([h, p])));
    let (delta, _) = inputs.step.delta(R::of(inputs.dt.at(index).to_f32()) + bias);
    let mut y = R::of(0.0);
    for i in 0..state.len() {
        let n = R::nth(i, state.len());
        let state = &mut state[n];
        let B = R::of(inputs.B.tensor.at([b, t, h / inputs.B.heads, n]).to_f32());
        let C = R::of(inputs.C.tensor.at([b, t, h / inputs.C.heads, n]).to_f32());
        let decay = (delta * R::of(inputs.A.at([h, p, n]))).exp();
        *state = decay * *state + delta * x * B;
        y = y + *state * C;
    }
    if let Some(D) = inputs.D {
        y = y + R::of(D.at([h, p])) * x;
    }
    match inputs.z {
        Some(z) => y * silu(R::of(z.at(index).to_f32())),
        None => y,
    }
}
