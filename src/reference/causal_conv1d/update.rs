//! The form for decoding, on a state that is given beside the arguments and comes back as it is after them.

use super::{Forward, activated, taps};
use crate::error::Result;
use crate::ops::causal_conv1d::{CausalConv1dUpdate, CausalConv1dUpdateOutputs};
use crate::reference::{Real, zeros};
use crate::tensor::{Element, Host, ViewMut};

const OP: &str = "causal_conv1d_update";

/// `out`, and as `final_state` the whole state (slots, dim, state_len) after the call. `conv_state` itself stays as it is.
pub fn update<R: Real, T: Element, W: Element>(
    update: &CausalConv1dUpdate<'_, T, W, Host>,
    conv_state: &mut ViewMut<'_, T>,
) -> Result<Forward<R>> {
    let inputs = update.inputs()?;
    let [batch, dim, seqlen] = inputs.x.layout.extents;
    let mut out = zeros(OP, &[batch, dim, seqlen])?;
    // Only checked against: nothing is written to it.
    let mut unused = vec![T::from_f32(0.0); out.len()];
    let mut view = ViewMut::new(&mut unused, [("batch", batch), ("dim", dim), ("seqlen", seqlen)]);
    let checked = CausalConv1dUpdateOutputs::new(&mut view, conv_state).check(&inputs)?.conv_state;
    let given = checked.as_input();
    let [slots, _, state_len] = given.layout.extents;
    let mut state = zeros(OP, &[slots, dim, state_len])?;
    for (place, value) in state.iter_mut().enumerate() {
        let index = [place / state_len / dim, place / state_len % dim, place % state_len];
        *value = R::of(given.at(index).to_f32());
    }
    for row in 0..if out.is_empty() { 0 } else { batch * dim } {
        let (b, d) = (row / dim, row % dim);
        let slot = inputs.state_indices.map_or(Some(b), |list| usize::try_from(list.as_slice()[b]).ok());
        let Some(slot) = slot else { continue };
        let seen = inputs.cache_seqlens.map(|list| list.as_slice()[b] as usize);
        let state = &mut state[(slot * dim + d) * state_len..][..state_len];
        let old = state.to_vec();
        // What came `back` steps before the first of x, at least 1.
        let before = |back: usize| match seen {
            Some(seen) => old[(seen % state_len + state_len - back) % state_len],
            None => old[state_len - back],
        };
        let x = |t: usize| R::of(inputs.x.at([b, d, t]).to_f32());
        let width = inputs.weights.width();
        for t in 0..seqlen {
            let input = |w: usize| if t + w + 1 >= width { x(t + w + 1 - width) } else { before(width - 1 - w - t) };
            out[row * seqlen + t] = activated(&inputs.weights, taps(&inputs.weights, d, input));
        }
        match seen {
            Some(seen) if state_len > 0 => (0..seqlen).for_each(|t| state[(seen + t) % state_len] = x(t)),
            Some(_) => {}
            None => (0..state_len).for_each(|i| {
                state[i] = (i + seqlen).checked_sub(state_len).map_or_else(|| old[i + seqlen], x);
            }),
        }
    }
    Ok(Forward { out, final_state: state })
}
