//! Squared attention as the recurrence of its second-order state, one step at a time.

mod backward;
mod update;

pub use backward::{Gradients, backward};
pub use update::{Updated, update};

use super::{Real, Tensor, zeros};
use crate::error::Result;
use crate::ops::squared_attention::{Dims, Inputs, SquaredAttention};
use crate::segments::Span;
use crate::tensor::{Element, Host, Strided};

const OP: &str = "squared_attention";

/// What the forward direction computes, dense and unrounded.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Forward<R> {
    /// (batch, nheads, seqlen, vdim).
    pub out: Tensor<R>,
    /// (nseqs, nheads, features, vdim).
    pub final_state: Tensor<R>,
    /// (nseqs, nheads, features).
    pub final_norm: Tensor<R>,
}

/// The products of two elements, `i <= j`, those of unlike ones with the square root of 2.
fn phi<R: Real>(x: &[R]) -> Vec<R> {
    let pairs = (0..x.len()).flat_map(|i| (i..x.len()).map(move |j| (i, j)));
    pairs.map(|(i, j)| if i == j { x[i] * x[i] } else { root_of_two::<R>() * x[i] * x[j] }).collect()
}

/// In two parts, so that f64 has it to the last place.
fn root_of_two<R: Real>() -> R {
    R::of(std::f32::consts::SQRT_2) + R::of((std::f64::consts::SQRT_2 - f64::from(std::f32::consts::SQRT_2)) as f32)
}

/// The elements along the last axis.
fn row<R: Real, T: Element>(tensor: &Strided<'_, T, Host, 4>, [b, h, t]: [usize; 3]) -> Vec<R> {
    (0..tensor.layout.extents[3]).map(|i| R::of(tensor.at([b, h, t, i]).to_f32())).collect()
}

/// What a step reads.
struct Step<R> {
    q: Vec<R>,
    k: Vec<R>,
    v: Vec<R>,
    decay: R,
    scale_squared: R,
}

impl<R: Real> Step<R> {
    fn new<T: Element>(
        [q, k, v]: [&Strided<'_, T, Host, 4>; 3],
        log_decay: &Strided<'_, f32, Host, 3>,
        scale_squared: f32,
        index: [usize; 3],
    ) -> Self {
        let ([q, k, v], decay) = ([row(q, index), row(k, index), row(v, index)], R::of(log_decay.at(index)).exp());
        Self { q, k, v, decay, scale_squared: R::of(scale_squared) }
    }

    /// phi(scale k).
    fn phi_k(&self) -> Vec<R> {
        phi(&self.k).into_iter().map(|phi| self.scale_squared * phi).collect()
    }

    fn of<T: Element>(inputs: &Inputs<'_, T, Host>, head: usize, span: Span, t: usize) -> Self {
        let index = [span.batch, head, span.time(t)];
        Self::new([&inputs.q, &inputs.k, &inputs.v], &inputs.log_decay, inputs.scale_squared, index)
    }
}

/// State (features, vdim) and norm (features) of one head.
#[derive(Clone)]
struct State<R> {
    state: Vec<R>,
    norm: Vec<R>,
}

impl<R: Real> State<R> {
    fn initial<T: Element>(inputs: &Inputs<'_, T, Host>, seq: usize, head: usize) -> Self {
        let (features, vdim) = (inputs.dims.features(), inputs.dims.vdim);
        let state =
            |i: usize| inputs.initial.as_ref().map_or(0.0, |given| given.state.at([seq, head, i / vdim, i % vdim]));
        let norm = |f: usize| inputs.initial.as_ref().map_or(0.0, |given| given.norm.at([seq, head, f]));
        Self {
            state: (0..features * vdim).map(|i| R::of(state(i))).collect(),
            norm: (0..features).map(|f| R::of(norm(f))).collect(),
        }
    }

    fn advance(&mut self, step: &Step<R>) {
        let vdim = step.v.len();
        for (f, phi) in step.phi_k().into_iter().enumerate() {
            self.norm[f] = step.decay * self.norm[f] + phi;
            for (p, &v) in step.v.iter().enumerate() {
                self.state[f * vdim + p] = step.decay * self.state[f * vdim + p] + phi * v;
            }
        }
    }

    /// The sums over features of their products with phi(q): one for each of v, and that of the norm.
    fn read(&self, q: &[R], vdim: usize) -> (Vec<R>, R) {
        let phi = phi(q);
        let sum = |term: &dyn Fn(usize) -> R| R::sum(&(0..phi.len()).map(|f| phi[f] * term(f)).collect::<Vec<R>>());
        let values = (0..vdim).map(|p| sum(&|f| self.state[f * vdim + p])).collect();
        (values, sum(&|f| self.norm[f]))
    }

    fn out(&self, q: &[R], vdim: usize) -> Vec<R> {
        let (values, norm) = self.read(q, vdim);
        let zero = R::of(0.0);
        values.into_iter().map(|value| if norm == zero { zero } else { value / norm }).collect()
    }
}

/// The naive recurrence.
pub fn forward<R: Real, T: Element>(attention: &SquaredAttention<'_, T, Host>) -> Result<Forward<R>> {
    let inputs = attention.inputs()?;
    let dims @ Dims { batch, nheads, seqlen, vdim, nseqs, .. } = inputs.dims;
    let features = dims.features();
    let mut out = zeros(OP, &[batch, nheads, seqlen, vdim])?;
    let mut final_state = zeros(OP, &[nseqs, nheads, features, vdim])?;
    let mut final_norm = zeros(OP, &[nseqs, nheads, features])?;
    // Without elements there may be sequences beyond counting.
    let empty = out.is_empty() && final_norm.is_empty();
    for row in 0..if empty { 0 } else { nseqs * nheads } {
        let (seq, head) = (row / nheads, row % nheads);
        let span = inputs.sequences().span(seq);
        let mut state = State::initial(&inputs, seq, head);
        for t in 0..span.len {
            let step = Step::of(&inputs, head, span, t);
            state.advance(&step);
            let place = ((span.batch * nheads + head) * seqlen + span.time(t)) * vdim;
            out[place..place + vdim].copy_from_slice(&state.out(&step.q, vdim));
        }
        final_state[row * features * vdim..][..features * vdim].copy_from_slice(&state.state);
        final_norm[row * features..][..features].copy_from_slice(&state.norm);
    }
    Ok(Forward { out, final_state, final_norm })
}
