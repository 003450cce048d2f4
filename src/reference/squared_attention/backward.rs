//! The recurrence's gradient, from the last step to the first.

use super::{OP, State, Step, phi, root_of_two};
use crate::error::Result;
use crate::ops::squared_attention::{CheckedUpstream, Dims, Inputs, SquaredAttention, SquaredAttentionUpstream};
use crate::reference::{Real, Tensor, zeros};
use crate::segments::Span;
use crate::tensor::{Element, Host};

/// Gradients, dense and unrounded.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Gradients<R> {
    /// (batch, nheads, seqlen, dim).
    pub dq: Tensor<R>,
    /// (batch, nheads, seqlen, dim).
    pub dk: Tensor<R>,
    /// (batch, nheads, seqlen, vdim).
    pub dv: Tensor<R>,
    /// (batch, nheads, seqlen).
    pub dlog_decay: Tensor<R>,
    /// (nseqs, nheads, features, vdim).
    pub dinitial_state: Tensor<R>,
    /// (nseqs, nheads, features).
    pub dinitial_norm: Tensor<R>,
}

/// The gradients for these upstream gradients.
pub fn backward<R: Real, T: Element>(
    attention: &SquaredAttention<'_, T, Host>,
    upstream: SquaredAttentionUpstream<'_, T, Host>,
) -> Result<Gradients<R>> {
    let inputs = attention.inputs()?;
    let upstream = upstream.check(&inputs)?;
    let dims @ Dims { batch, nheads, seqlen, dim, vdim, nseqs } = inputs.dims;
    let features = dims.features();
    let mut gradients = Gradients {
        dq: zeros(OP, &[batch, nheads, seqlen, dim])?,
        dk: zeros(OP, &[batch, nheads, seqlen, dim])?,
        dv: zeros(OP, &[batch, nheads, seqlen, vdim])?,
        dlog_decay: zeros(OP, &[batch, nheads, seqlen])?,
        dinitial_state: zeros(OP, &[nseqs, nheads, features, vdim])?,
        dinitial_norm: zeros(OP, &[nseqs, nheads, features])?,
    };
    // Without elements there may be sequences beyond counting.
    let empty = gradients.dlog_decay.is_empty() && gradients.dinitial_norm.is_empty();
    for row in 0..if empty { 0 } else { nseqs * nheads } {
        let (seq, head) = (row / nheads, row % nheads);
        let span = inputs.sequences().span(seq);
        let first = dstate_after(&inputs, &upstream, seq, head);
        let dstate = head_backward(&inputs, &upstream, (head, seq, span), first, &mut gradients);
        gradients.dinitial_state[row * features * vdim..][..features * vdim].copy_from_slice(&dstate.state);
        gradients.dinitial_norm[row * features..][..features].copy_from_slice(&dstate.norm);
    }
    Ok(gradients)
}

/// The gradient by the last state.
fn dstate_after<R: Real, T: Element>(
    inputs: &Inputs<'_, T, Host>,
    upstream: &CheckedUpstream<'_, T, Host>,
    seq: usize,
    head: usize,
) -> State<R> {
    let (features, vdim) = (inputs.dims.features(), inputs.dims.vdim);
    let state = |i: usize| upstream.dfinal_state.map_or(0.0, |given| given.at([seq, head, i / vdim, i % vdim]));
    let norm = |f: usize| upstream.dfinal_norm.map_or(0.0, |given| given.at([seq, head, f]));
    State {
        state: (0..features * vdim).map(|i| R::of(state(i))).collect(),
        norm: (0..features).map(|f| R::of(norm(f))).collect(),
    }
}

/// One head of one sequence; returns the gradient by what it starts from.
fn head_backward<R: Real, T: Element>(
    inputs: &Inputs<'_, T, Host>,
    upstream: &CheckedUpstream<'_, T, Host>,
    (head, seq, span): (usize, usize, Span),
    mut dstate: State<R>,
    gradients: &mut Gradients<R>,
) -> State<R> {
    let Dims { nheads, seqlen, dim, vdim, .. } = inputs.dims;
    let mut states = vec![State::<R>::initial(inputs, seq, head)];
    for t in 0..span.len {
        let mut next = states[t].clone();
        next.advance(&Step::of(inputs, head, span, t));
        states.push(next);
    }
    for t in (0..span.len).rev() {
        let step = Step::of(inputs, head, span, t);
        let place = (span.batch * nheads + head) * seqlen + span.time(t);
        let dout = upstream.dout.map(|dout| super::row::<R, T>(&dout, [span.batch, head, span.time(t)]));
        if let Some(dout) = dout {
            let dq = read_backward(&states[t + 1], &step.q, &dout, &mut dstate);
            gradients.dq[place * dim..][..dim].copy_from_slice(&dq);
        }
        let phi_k = step.phi_k();
        let along = |f: usize| &dstate.state[f * vdim..][..vdim];
        let terms = |f: usize| along(f).iter().zip(&step.v).map(|(&dh, &v)| dh * v).chain([dstate.norm[f]]);
        let dphi: Vec<R> = (0..phi_k.len()).map(|f| R::sum(&terms(f).collect::<Vec<R>>())).collect();
        let dk = phi_backward(&step.k, &dphi).into_iter().map(|dk| step.scale_squared * dk);
        dk.enumerate().for_each(|(i, dk)| gradients.dk[place * dim + i] = dk);
        for p in 0..vdim {
            let terms: Vec<R> = (0..phi_k.len()).map(|f| phi_k[f] * along(f)[p]).collect();
            gradients.dv[place * vdim + p] = R::sum(&terms);
        }
        let before = &states[t];
        let products = dstate.state.iter().zip(&before.state).chain(dstate.norm.iter().zip(&before.norm));
        gradients.dlog_decay[place] = step.decay * R::sum(&products.map(|(&dh, &h)| dh * h).collect::<Vec<R>>());
        dstate.state.iter_mut().chain(&mut dstate.norm).for_each(|dh| *dh = step.decay * *dh);
    }
    dstate
}

/// The gradient by q of a step; adds that by the state it reads.
fn read_backward<R: Real>(state: &State<R>, q: &[R], dout: &[R], dstate: &mut State<R>) -> Vec<R> {
    let vdim = dout.len();
    let (values, norm) = state.read(q, vdim);
    let zero = R::of(0.0);
    if norm == zero {
        return vec![zero; q.len()];
    }
    let by_value: Vec<R> = dout.iter().map(|&dout| dout / norm).collect();
    let by_norm = -(R::sum(&by_value.iter().zip(&values).map(|(&by, &value)| by * value).collect::<Vec<R>>()) / norm);
    let terms = |f: usize| {
        let values = state.state[f * vdim..][..vdim].iter().zip(&by_value).map(|(&h, &by)| h * by);
        values.chain([state.norm[f] * by_norm]).collect::<Vec<R>>()
    };
    let phi = phi(q);
    let dphi: Vec<R> = (0..phi.len()).map(|f| R::sum(&terms(f))).collect();
    for (f, &phi) in phi.iter().enumerate() {
        dstate.norm[f] = dstate.norm[f] + phi * by_norm;
        for (p, &by) in by_value.iter().enumerate() {
            dstate.state[f * vdim + p] = dstate.state[f * vdim + p] + phi * by;
        }
    }
    phi_backward(q, &dphi)
}

/// From the gradient by phi(x) to that by x.
fn phi_backward<R: Real>(x: &[R], dphi: &[R]) -> Vec<R> {
    let mut dx = vec![R::of(0.0); x.len()];
    let pairs = (0..x.len()).flat_map(|i| (i..x.len()).map(move |j| (i, j)));
    for ((i, j), &dphi) in pairs.zip(dphi) {
        // Twice where i = j: x[i] is either factor.
        let scaled = if i == j { dphi } else { root_of_two::<R>() * dphi };
        dx[i] = dx[i] + scaled * x[j];
        dx[j] = dx[j] + scaled * x[i];
    }
    dx
}
