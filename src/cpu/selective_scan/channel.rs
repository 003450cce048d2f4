//! One channel of one sequence: its step forward and its step back.

use crate::cpu::math::silu;
use crate::ops::selective_scan::{CheckedUpstream, Inputs};
use crate::segments::Span;
use crate::tensor::{Element, Host};
use std::ops::Range;

pub(super) struct Channel<'i, 'a, T> {
    pub inputs: &'i Inputs<'a, T, Host>,
    pub span: Span,
    pub seq: usize,
    pub d: usize,
    bias: f32,
}

impl<'i, 'a, T: Element> Channel<'i, 'a, T> {
    pub fn new(inputs: &'i Inputs<'a, T, Host>, seq: usize, d: usize) -> Self {
        let bias = inputs.dt_bias.map_or(0.0, |bias| bias.at([d]));
        Self { inputs, span: inputs.span(seq), seq, d, bias }
    }

    pub fn initial(&self, state: &mut [f32]) {
        for (n, h) in state.iter_mut().enumerate() {
            *h = self.inputs.initial_state.map_or(0.0, |initial| initial.at([self.seq, self.d, n]));
        }
    }

    #[inline(always)]
    pub fn x(&self, t: usize) -> f32 {
        self.inputs.x.at([self.span.batch, self.d, t]).to_f32()
    }

    #[inline(always)]
    pub fn z(&self, t: usize) -> Option<f32> {
        self.inputs.z.map(|z| z.at([self.span.batch, self.d, t]).to_f32())
    }

    /// The step before softplus and clamp.
    #[inline(always)]
    pub fn raw(&self, t: usize) -> f32 {
        self.inputs.dt.at([self.span.batch, self.d, t]).to_f32() + self.bias
    }

    #[inline(always)]
    pub fn delta(&self, t: usize) -> f32 {
        self.inputs.step.apply(self.raw(t))
    }

    #[inline(always)]
    pub fn A(&self, n: usize) -> f32 {
        self.inputs.A.at([self.d, n])
    }

    #[inline(always)]
    pub fn B(&self, n: usize, t: usize) -> f32 {
        self.inputs.B.at(self.span.batch, self.d, n, t)
    }

    #[inline(always)]
    fn C(&self, n: usize, t: usize) -> f32 {
        self.inputs.C.at(self.span.batch, self.d, n, t)
    }

    /// The state after the step at `t`.
    #[inline(always)]
    pub fn advance(&self, t: usize, delta: f32, state: &mut [f32]) {
        let x = self.x(t);
        for (n, h) in state.iter_mut().enumerate() {
            *h = (delta * self.A(n)).exp() * *h + delta * x * self.B(n, t);
        }
    }

    /// The output of the step at `t` before the gate, from the state after it.
    #[inline(always)]
    pub fn ungated(&self, t: usize, state: &[f32]) -> f32 {
        let mut y = 0.0;
        for (n, h) in state.iter().enumerate() {
            y += h * self.C(n, t);
        }
        match self.inputs.D {
            Some(D) => y + D.at([self.d]) * self.x(t),
            None => y,
        }
    }

    /// The state after `steps` from the one before them. Returns their sum of delta.
    pub fn run(&self, steps: Range<usize>, state: &mut [f32]) -> f32 {
        let mut sum = DeltaSum::default();
        for step in steps {
            let t = self.span.time(step);
            let delta = self.delta(t);
            sum.add(delta);
            self.advance(t, delta, state);
        }
        sum.get()
    }

    pub fn dout(&self, upstream: &CheckedUpstream<'_, T, Host>, t: usize) -> Option<f32> {
        upstream.dout.map(|dout| dout.at([self.span.batch, self.d, t]).to_f32())
    }

    /// The gradient by the output before the gate.
    pub fn gated(&self, dout: f32, t: usize) -> f32 {
        self.z(t).map_or(dout, |z| dout * silu(z))
    }

    /// Adds what the output of the step at `t` gives to the gradient by the state after it.
    #[inline(always)]
    pub fn receive(&self, t: usize, g: f32, adjoint: &mut [f32]) {
        for (n, dh) in adjoint.iter_mut().enumerate() {
            *dh += g * self.C(n, t);
        }
    }

    /// From the gradient by the state after a step to that by the state before it.
    #[inline(always)]
    pub fn fade(&self, delta: f32, adjoint: &mut [f32]) {
        for (n, dh) in adjoint.iter_mut().enumerate() {
            *dh *= (delta * self.A(n)).exp();
        }
    }

    /// The gradient by the state before `steps` from that by the state after them. Returns their sum of delta.
    pub fn run_back(&self, upstream: &CheckedUpstream<'_, T, Host>, steps: Range<usize>, adjoint: &mut [f32]) -> f32 {
        let mut sum = DeltaSum::default();
        for step in steps.rev() {
            let t = self.span.time(step);
            let delta = self.delta(t);
            sum.add(delta);
            if let Some(dout) = self.dout(upstream, t) {
                self.receive(t, self.gated(dout, t), adjoint);
            }
            self.fade(delta, adjoint);
        }
        sum.get()
    }
}

/// A sum of delta: `exp(A sum)` repeats the sum's error A sum times, so that it is added up in f64.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct DeltaSum(f64);

impl DeltaSum {
    pub fn add(&mut self, delta: f32) {
        self.0 += f64::from(delta);
    }

    pub fn get(self) -> f32 {
        self.0 as f32
    }
}
