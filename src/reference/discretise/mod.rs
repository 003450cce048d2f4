//! Discretisation by the formulas of the contract's table, one element at a time.

mod backward;

pub use backward::{Gradients, backward};

use super::{Real, Tensor, zeros};
use crate::error::Result;
use crate::ops::discretise::{Discretise, Inputs, Rule};
use crate::tensor::{Element, Host, MAX_RANK};

const OP: &str = "discretise";

/// What the forward direction computes over the domain, dense and unrounded.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Forward<R> {
    /// Effective step.
    pub delta: Tensor<R>,
    /// Factor of the previous state.
    pub A_bar: Tensor<R>,
    /// Factor of the current token.
    pub B_bar: Tensor<R>,
    /// Factor of the previous token; zero but for exp_trapezoidal.
    pub B_prev_bar: Tensor<R>,
}

/// One element's inputs, and the derivative of delta by the raw step.
struct Point<R> {
    rule: Rule,
    delta: R,
    slope: R,
    A: R,
    B: R,
    lambda: R,
}

impl<R: Real> Point<R> {
    fn new<T: Element>(inputs: &Inputs<'_, T, Host>, index: [usize; MAX_RANK]) -> Self {
        let bias = inputs.dt_bias.map_or(R::of(0.0), |bias| R::of(bias.at(index)));
        let (delta, slope) = inputs.step.delta(R::of(inputs.dt.at(index).to_f32()) + bias);
        let (A, B) = (R::of(inputs.A.at(index)), R::of(inputs.B.at(index).to_f32()));
        let lambda = inputs.lambda.map_or(R::of(0.0), |lambda| R::of(lambda.at(index).to_f32()));
        Self { rule: inputs.rule, delta, slope, A, B, lambda }
    }

    /// (A_bar, B_bar, B_prev_bar).
    fn forward(&self) -> (R, R, R) {
        let Self { delta, A, B, lambda, .. } = *self;
        let (zero, one, two) = (R::of(0.0), R::of(1.0), R::of(2.0));
        let w = delta * A;
        match self.rule {
            Rule::Euler => (one + w, delta * B, zero),
            Rule::ExpEuler => (w.exp(), delta * B, zero),
            Rule::Zoh => (w.exp(), delta * phi(w) * B, zero),
            Rule::Bilinear => ((one + w / two) / (one - w / two), delta / (one - w / two) * B, zero),
            Rule::ExpTrapezoidal => (w.exp(), lambda * delta * B, (one - lambda) * w.exp() * delta * B),
        }
    }
}

/// (e^w - 1) / w, and its limit 1 at 0.
fn phi<R: Real>(w: R) -> R {
    if w == R::of(0.0) { R::of(1.0) } else { w.exp_m1() / w }
}

/// Every index of a domain, last dimension fastest.
fn indices(extents: [usize; MAX_RANK]) -> impl Iterator<Item = [usize; MAX_RANK]> {
    let [e0, e1, e2, e3] = extents;
    let count = if extents.contains(&0) { 0 } else { e0 * e1 * e2 * e3 };
    (0..count).map(move |i| [i / (e1 * e2 * e3), i / (e2 * e3) % e1, i / e3 % e2, i % e3])
}

/// The four coefficients.
pub fn forward<R: Real, T: Element>(op: &Discretise<'_, T, Host>) -> Result<Forward<R>> {
    let inputs = op.inputs()?;
    let new = || zeros(OP, &inputs.extents());
    let mut result = Forward { delta: new()?, A_bar: new()?, B_bar: new()?, B_prev_bar: new()? };
    for (i, index) in indices(inputs.extents()).enumerate() {
        let point = Point::<R>::new(&inputs, index);
        result.delta[i] = point.delta;
        (result.A_bar[i], result.B_bar[i], result.B_prev_bar[i]) = point.forward();
    }
    Ok(result)
}
