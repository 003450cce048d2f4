//! The derivatives of the contract's formulas.

use super::{OP, Point, indices, phi};
use crate::error::Result;
use crate::ops::discretise::{Discretise, DiscretiseUpstream, Rule};
use crate::reference::{Real, Tensor, zeros};
use crate::tensor::{Element, Host};

/// Gradients over the domain, dense, unreduced and unrounded.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Gradients<R> {
    /// With respect to dt, and to dt_bias.
    pub ddt: Tensor<R>,
    /// With respect to A.
    pub dA: Tensor<R>,
    /// With respect to B.
    pub dB: Tensor<R>,
    /// With respect to lambda; zero but for exp_trapezoidal.
    pub dlambda: Tensor<R>,
}

/// An upstream gradient times a derivative; an absent gradient leaves even an infinite derivative out.
fn times<R: Real>(gradient: Option<R>, derivative: R) -> R {
    gradient.map_or(R::of(0.0), |gradient| gradient * derivative)
}

impl<R: Real> Point<R> {
    /// (ddt, dA, dB, dlambda) from the gradients by delta, A_bar, B_bar, B_prev_bar.
    fn backward(&self, [by_delta, by_A_bar, by_B_bar, by_B_prev_bar]: [Option<R>; 4]) -> (R, R, R, R) {
        let Self { delta, slope, A, B, lambda, .. } = *self;
        let (zero, one, two) = (R::of(0.0), R::of(1.0), R::of(2.0));
        let w = delta * A;
        let q = one / (one - w / two);
        // The derivative of A_bar by w, and those of B_bar by delta, A and B.
        let (decay, by_input) = match self.rule {
            Rule::Euler => (one, (B, zero, delta)),
            Rule::ExpEuler => (w.exp(), (B, zero, delta)),
            Rule::Zoh => (w.exp(), (w.exp() * B, delta * delta * phi_derivative(w) * B, delta * phi(w))),
            Rule::Bilinear => (q * q, (q * q * B, delta * delta * q * q * B / two, delta * q)),
            Rule::ExpTrapezoidal => (w.exp(), (lambda * B, zero, lambda * delta)),
        };
        let previous = (one - lambda) * w.exp();
        let ddelta = by_delta.unwrap_or(zero)
            + times(by_A_bar, decay * A)
            + times(by_B_bar, by_input.0)
            + times(by_B_prev_bar, previous * (one + w) * B);
        let dA = times(by_A_bar, decay * delta)
            + times(by_B_bar, by_input.1)
            + times(by_B_prev_bar, previous * delta * delta * B);
        let dB = times(by_B_bar, by_input.2) + times(by_B_prev_bar, previous * delta);
        let dlambda = times(by_B_bar, delta * B) + times(by_B_prev_bar, -(delta * w.exp() * B));
        (ddelta * slope, dA, dB, if self.rule == Rule::ExpTrapezoidal { dlambda } else { zero })
    }
}

/// The derivative of phi: (e^w - phi(w)) / w; near 0 its series, sum of w^k / (k! (k + 2)).
fn phi_derivative<R: Real>(w: R) -> R {
    if !(w < R::of(1.0) && w > R::of(-1.0)) {
        return (w.exp() - phi(w)) / w;
    }
    let (mut power, mut sum) = (R::of(1.0), R::of(0.0));
    for k in 0..20 {
        sum = sum + power / R::of(k as f32 + 2.0);
        power = power * w / R::of(k as f32 + 1.0);
    }
    sum
}

/// The gradients for these upstream gradients.
pub fn backward<R: Real, T: Element>(
    op: &Discretise<'_, T, Host>,
    upstream: DiscretiseUpstream<'_, Host>,
) -> Result<Gradients<R>> {
    let inputs = op.inputs()?;
    let upstream = upstream.check(&inputs)?;
    let new = || zeros(OP, &inputs.extents());
    let mut result = Gradients { ddt: new()?, dA: new()?, dB: new()?, dlambda: new()? };
    for (i, index) in indices(inputs.extents()).enumerate() {
        let by = [upstream.ddelta, upstream.dA_bar, upstream.dB_bar, upstream.dB_prev_bar]
            .map(|gradient| gradient.map(|gradient| R::of(gradient.at(index))));
        let gradients = Point::<R>::new(&inputs, index).backward(by);
        (result.ddt[i], result.dA[i], result.dB[i], result.dlambda[i]) = gradients;
    }
    Ok(result)
}
