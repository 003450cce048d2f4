//! The selective scan, one element at a time.

mod backward;
mod carry;
mod forward;

pub use backward::{Gradients, backward};
pub use carry::carry;
pub use forward::{Forward, forward};

use super::{Real, silu};
use crate::ops::selective_scan::{AlignedProjection, Inputs};
use crate::segments::Span;
use crate::tensor::{Element, Host};

const OP: &str = "selective_scan";

/// Channel `d` of sequence `seq`, in the arithmetic `R`.
struct Channel<'i, 'a, T> {
    inputs: &'i Inputs<'a, T, Host>,
    span: Span,
    seq: usize,
    d: usize,
}

impl<'i, 'a, T: Element> Channel<'i, 'a, T> {
    fn new(inputs: &'i Inputs<'a, T, Host>, seq: usize, d: usize) -> Self {
        Self { inputs, span: inputs.span(seq), seq, d }
    }

    fn initial<R: Real>(&self, n: usize) -> R {
        self.inputs.initial_state.map_or(R::of(0.0), |state| R::of(state.at([self.seq, self.d, n])))
    }

    fn x<R: Real>(&self, t: usize) -> R {
        R::of(self.inputs.x.at([self.span.batch, self.d, t]).to_f32())
    }

    /// delta and its derivative by the raw step.
    fn delta<R: Real>(&self, t: usize) -> (R, R) {
        let bias = self.inputs.dt_bias.map_or(R::of(0.0), |bias| R::of(bias.at([self.d])));
        self.inputs.step.delta(R::of(self.inputs.dt.at([self.span.batch, self.d, t]).to_f32()) + bias)
    }

    fn A<R: Real>(&self, n: usize) -> R {
        R::of(self.inputs.A.at([self.d, n]))
    }

    /// An element of B or C.
    fn at<R: Real>(&self, projection: &AlignedProjection<'_, T, Host>, n: usize, t: usize) -> R {
        R::of(projection.at(self.span.batch, self.d, n, t))
    }

    fn z<R: Real>(&self, t: usize) -> Option<R> {
        self.inputs.z.map(|z| R::of(z.at([self.span.batch, self.d, t]).to_f32()))
    }

    /// The state after the step at `t`.
    fn advance<R: Real>(&self, t: usize, state: &mut [R]) {
        let ((delta, _), x) = (self.delta::<R>(t), self.x::<R>(t));
        for (n, h) in state.iter_mut().enumerate() {
            let decay = (delta * self.A(n)).exp();
            *h = decay * *h + delta * x * self.at(&self.inputs.B, n, t);
        }
    }

    /// The output of the step at `t` before the gate, from the state after it.
    fn ungated<R: Real>(&self, t: usize, state: &[R]) -> R {
        let mut y = R::of(0.0);
        for i in 0..state.len() {
            let n = R::nth(i, state.len());
            y = y + state[n] * self.at(&self.inputs.C, n, t);
        }
        match self.inputs.D {
            Some(D) => y + R::of(D.at([self.d])) * self.x(t),
            None => y,
        }
    }

    fn gate<R: Real>(&self, t: usize) -> R {
        self.z(t).map_or(R::of(1.0), silu)
    }
}
