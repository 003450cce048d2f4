//! The selective scan, one element at a time.

use super::{Real, Tensor, silu, zeros};
use crate::error::Result;
use crate::ops::selective_scan::{Dims, SelectiveScan};
use crate::tensor::{Element, Host};

const OP: &str = "selective_scan";

/// What the forward direction computes, dense and unrounded.
#[derive(Debug, Clone)]
pub struct Forward<R> {
    /// (batch, dim, seqlen).
    pub out: Tensor<R>,
    /// (nseqs, dim, dstate).
    pub final_state: Tensor<R>,
    /// (nchunks, dim, dstate), if a state every so many steps was asked for.
    pub chunk_states: Option<Tensor<R>>,
}

/// The naive recurrence. `chunk_every`: also keep the state after each full so many steps.
pub fn forward<R: Real, T: Element>(
    scan: &SelectiveScan<'_, T, Host>,
    chunk_every: Option<usize>,
) -> Result<Forward<R>> {
    let inputs = scan.inputs()?;
    let Dims { batch, dim, seqlen, dstate, nseqs } = inputs.dims;
    let zero = R::of(0.0);
    let chunks = chunk_every.map(|every| Ok((every, inputs.chunk_offsets(every)?))).transpose()?;
    let nchunks = chunks.as_ref().map_or(0, |(_, offsets)| offsets[nseqs]);
    let mut out = zeros(OP, &[batch, dim, seqlen])?;
    let mut final_state = zeros(OP, &[nseqs, dim, dstate])?;
    let mut chunk_states = zeros(OP, &[nchunks, dim, dstate])?;

    // Without elements there may be sequences beyond counting.
    for seq in 0..if out.is_empty() && final_state.is_empty() { 0 } else { nseqs } {
        let span = inputs.span(seq);
        let b = span.batch;
        for d in 0..dim {
            let initial = |n| inputs.initial_state.map_or(zero, |state| R::of(state.at([seq, d, n])));
            let mut state: Vec<R> = (0..dstate).map(initial).collect();
            for step in 0..span.len {
                let t = span.time(step);
                let bias = inputs.dt_bias.map_or(zero, |bias| R::of(bias.at([d])));
                let (delta, _) = inputs.step.delta(R::of(inputs.dt.at([b, d, t]).to_f32()) + bias);
                let x = R::of(inputs.x.at([b, d, t]).to_f32());
                let mut y = zero;
                for (n, h) in state.iter_mut().enumerate() {
                    let decay = (delta * R::of(inputs.A.at([d, n]))).exp();
                    *h = decay * *h + delta * x * R::of(inputs.B.at(b, d, n, t));
                    y = y + *h * R::of(inputs.C.at(b, d, n, t));
                }
                if let Some(D) = inputs.D {
                    y = y + R::of(D.at([d])) * x;
                }
                if let Some(z) = inputs.z {
                    y = y * silu(R::of(z.at([b, d, t]).to_f32()));
                }
                out[(b * dim + d) * seqlen + t] = y;
                if let Some((every, offsets)) = &chunks
                    && (step + 1) % every == 0
                {
                    let chunk = offsets[seq] + (step + 1) / every - 1;
                    chunk_states[(chunk * dim + d) * dstate..][..dstate].copy_from_slice(&state);
                }
            }
            final_state[(seq * dim + d) * dstate..][..dstate].copy_from_slice(&state);
        }
    }
    Ok(Forward { out, final_state, chunk_states: chunk_every.map(|_| chunk_states) })
}
