//! The derivatives of the contract's formulas.

use super::{Point, indices, phi};
use crate::error::Result;
use crate::ops::discretise::{Discretise, DiscretiseUpstream, Rule};
use crate::reference::{Real, Tensor};
use crate::tensor::{Element, Host};

/// Gradients over the domain, dense, unreduced and unrounded.
#[derive(Debug, Clone, Default)]
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

impl<R: Real> Point<R> {
    /// (ddt, dA, dB, dlambda) from the gradients by delta, A_bar, B_bar, B_prev_bar.
    fn backward(&self, [by_delta, by_A_bar, by_B_bar, by_B_prev_bar]: [R; 4]) -> (R, R, R, R) {
        let Self { delta, slope, A, B, lambda, .. } = *self;
        let (zero, one, two) = (R::of(0.0), R::of(1.0), R::of(2.0));
        let w = delta * A;
        let euler_input = (by_B_bar * B, zero, by_B_bar * delta, zero);
        // dA_bar / dw, and the gradients through B_bar and B_prev_bar.
        let (decay_slope, (ddelta, dA, dB, dlambda)) = match self.rule {
            Rule::Euler => (one, euler_input),
            Rule::ExpEuler => (w.exp(), euler_input),
            Rule::Zoh => {
                let dA = by_B_bar * delta * delta * phi_derivative(w) * B;
                (w.exp(), (by_B_bar * w.exp() * B, dA, by_B_bar * delta * phi(w), zero))
            }
            Rule::Bilinear => {
                let q = one / (one - w / two);
                let dA = by_B_bar * delta * delta * q * q * B / two;
                (q * q, (by_B_bar * q * q * B, dA, by_B_bar * delta * q, zero))
            }
            Rule::ExpTrapezoidal => {
                let previous = by_B_prev_bar * w.exp();
                let ddelta = (by_B_bar * lambda + previous * (one - lambda) * (one + w)) * B;
                let dA = previous * (one - lambda) * delta * delta * B;
                let dB = (by_B_bar * lambda + previous * (one - lambda)) * delta;
                (w.exp(), (ddelta, dA, dB, (by_B_bar - previous) * delta * B))
            }
        };
        let ddelta = by_delta + by_A_bar * decay_slope * A + ddelta;
        (ddelta * slope, by_A_bar * decay_slope * delta + dA, dB, dlambda)
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
    let mut result = Gradients { ddt: vec![], dA: vec![], dB: vec![], dlambda: vec![] };
    for index in indices(inputs.extents()) {
        let by = [upstream.ddelta, upstream.dA_bar, upstream.dB_bar, upstream.dB_prev_bar]
            .map(|gradient| gradient.map_or(R::of(0.0), |gradient| R::of(gradient.at(index))));
        let (ddt, dA, dB, dlambda) = Point::<R>::new(&inputs, index).backward(by);
        result.ddt.push(ddt);
        result.dA.push(dA);
        result.dB.push(dB);
        result.dlambda.push(dlambda);
    }
    Ok(result)
}
