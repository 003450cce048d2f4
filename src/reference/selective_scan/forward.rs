//! The recurrence.

use super::{Channel, OP};
use crate::error::Result;
use crate::ops::selective_scan::{Dims, SelectiveScan};
use crate::reference::{Real, Tensor, zeros};
use crate::tensor::{Element, Host};

/// What the forward direction computes, dense and unrounded.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Forward<R> {
    /// (batch, dim, seqlen).
    pub out: Tensor<R>,
    /// (nseqs, dim, dstate).
    pub final_state: Tensor<R>,
    /// (nchunks, dim, dstate), if a state every so many steps was asked for.
    pub chunk_states: Option<Tensor<R>>,
    /// (nseqs, dim).
    pub delta_sum: Tensor<R>,
}

/// The naive recurrence. `chunk_every`: also keep the state after each full so many steps.
pub fn forward<R: Real, T: Element>(
    scan: &SelectiveScan<'_, T, Host>,
    chunk_every: Option<usize>,
) -> Result<Forward<R>> {
    let inputs = scan.inputs()?;
    let Dims { batch, dim, seqlen, dstate, nseqs } = inputs.dims;
    let chunks = chunk_every.map(|every| Ok((every, inputs.chunk_offsets(every)?))).transpose()?;
    let nchunks = chunks.as_ref().map_or(0, |(_, offsets)| offsets[nseqs]);
    let mut out = zeros(OP, &[batch, dim, seqlen])?;
    let mut final_state = zeros(OP, &[nseqs, dim, dstate])?;
    let mut chunk_states = zeros(OP, &[nchunks, dim, dstate])?;
    // Without elements there may be sequences beyond counting.
    let empty = out.is_empty() && final_state.is_empty();
    let mut delta_sum = zeros(OP, &[if empty { 0 } else { nseqs }, dim])?;

    for row in 0..delta_sum.len() {
        let (seq, d) = (row / dim, row % dim);
        let channel = Channel::new(&inputs, seq, d);
        let mut state: Vec<R> = (0..dstate).map(|n| channel.initial(n)).collect();
        for step in 0..channel.span.len {
            let t = channel.span.time(step);
            delta_sum[row] = delta_sum[row] + channel.delta(t).0;
            channel.advance(t, &mut state);
            let y: R = channel.ungated(t, &state);
            let place = (channel.span.batch * dim + d) * seqlen + t;
            out[place] = if inputs.z.is_some() { y * channel.gate(t) } else { y };
            if let Some((every, offsets)) = &chunks
                && (step + 1) % every == 0
            {
                let chunk = offsets[seq] + (step + 1) / every - 1;
                chunk_states[(chunk * dim + d) * dstate..][..dstate].copy_from_slice(&state);
            }
        }
        final_state[row * dstate..][..dstate].copy_from_slice(&state);
    }
    Ok(Forward { out, final_state, chunk_states: chunk_every.map(|_| chunk_states), delta_sum })
}
