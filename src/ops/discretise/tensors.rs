//! The optional tensors of a discretisation: outputs, upstream gradients, gradients.

use super::checked::{CheckedGradients, CheckedOutputs, CheckedUpstream, Inputs};
use super::{OP, Rule};
use crate::error::{Error, Result};
use crate::tensor::{Element, Host, Storage, View, ViewMut};

/// What the forward direction writes: any of the four, at least one.
#[derive(Debug)]
pub struct DiscretiseOutputs<'o, S: Storage = Host> {
    delta: Option<ViewMut<'o, f32, S>>,
    A_bar: Option<ViewMut<'o, f32, S>>,
    B_bar: Option<ViewMut<'o, f32, S>>,
    B_prev_bar: Option<ViewMut<'o, f32, S>>,
}

none_yet!(DiscretiseOutputs<>: delta, A_bar, B_bar, B_prev_bar);

impl<'o, S: Storage> DiscretiseOutputs<'o, S> {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }
    writes!(
        /// The effective step.
        delta: f32
    );
    writes!(
        /// The factor of the previous state.
        A_bar: f32
    );
    writes!(
        /// The factor of the current token.
        B_bar: f32
    );
    writes!(
        /// The factor of the previous token; exp_trapezoidal only.
        B_prev_bar: f32
    );

    pub(crate) fn check<T: Element>(self, inputs: &Inputs<'_, T, S>) -> Result<CheckedOutputs<'o, S>> {
        let domain = &inputs.domain;
        if self.B_prev_bar.is_some() {
            only_exp_trapezoidal("B_prev_bar", inputs.rule)?;
        }
        let over = |arg, view: ViewMut<'o, f32, S>| view.over(OP, arg, domain);
        let outputs = CheckedOutputs {
            delta: self.delta.map(|view| over("delta", view)).transpose()?,
            A_bar: self.A_bar.map(|view| over("A_bar", view)).transpose()?,
            B_bar: self.B_bar.map(|view| over("B_bar", view)).transpose()?,
            B_prev_bar: self.B_prev_bar.map(|view| over("B_prev_bar", view)).transpose()?,
        };
        let mut memory = inputs.memory();
        outputs.delta.iter().for_each(|tensor| memory.output("delta", tensor));
        outputs.A_bar.iter().for_each(|tensor| memory.output("A_bar", tensor));
        outputs.B_bar.iter().for_each(|tensor| memory.output("B_bar", tensor));
        outputs.B_prev_bar.iter().for_each(|tensor| memory.output("B_prev_bar", tensor));
        if !memory.has_outputs() {
            let reason = "at least one of delta, A_bar, B_bar, B_prev_bar is written";
            return Err(Error::Missing { op: OP, arg: "outputs", reason });
        }
        memory.check(OP)?;
        Ok(outputs)
    }
}

/// Gradients of the loss with respect to the outputs, over the domain or broadcast; an absent one counts as zero.
#[derive(Debug)]
pub struct DiscretiseUpstream<'u, S: Storage = Host> {
    ddelta: Option<View<'u, f32, S>>,
    dA_bar: Option<View<'u, f32, S>>,
    dB_bar: Option<View<'u, f32, S>>,
    dB_prev_bar: Option<View<'u, f32, S>>,
}

upstream!(DiscretiseUpstream<>: ddelta, dA_bar, dB_bar, dB_prev_bar);

impl<'u, S: Storage> DiscretiseUpstream<'u, S> {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }
    reads!(
        /// With respect to delta as an output of its own.
        ddelta: f32
    );
    reads!(
        /// With respect to A_bar.
        dA_bar: f32
    );
    reads!(
        /// With respect to B_bar.
        dB_bar: f32
    );
    reads!(
        /// With respect to B_prev_bar; exp_trapezoidal only.
        dB_prev_bar: f32
    );

    pub(crate) fn check<T: Element>(self, inputs: &Inputs<'_, T, S>) -> Result<CheckedUpstream<'u, S>> {
        let domain = &inputs.domain;
        if self.dB_prev_bar.is_some() {
            only_exp_trapezoidal("dB_prev_bar", inputs.rule)?;
        }
        let broadcast =
            |arg, view: Option<View<'u, f32, S>>| view.map(|view| view.broadcast(OP, arg, domain)).transpose();
        Ok(CheckedUpstream {
            ddelta: broadcast("ddelta", self.ddelta)?,
            dA_bar: broadcast("dA_bar", self.dA_bar)?,
            dB_bar: broadcast("dB_bar", self.dB_bar)?,
            dB_prev_bar: broadcast("dB_prev_bar", self.dB_prev_bar)?,
        })
    }
}

/// What the backward direction writes, unreduced over the domain: any of the five, at least one.
///
/// ```
/// use ssm_kernels::prelude::*;
/// let (dt, a, b, upstream) = ([0.5f32], [-1.0f32, -2.0], [1.0f32; 2], [1.0f32; 2]);
/// let (step, states) = ([("seqlen", 1)], [("dstate", 2)]);
/// let op = Discretise::new(Rule::ExpEuler, View::new(&dt, step), View::new(&a, states), View::new(&b, states))?;
/// // Each element of the domain by itself, so that ddt has one for each state: the caller sums.
/// let domain = [("seqlen", 1), ("dstate", 2)];
/// let (mut dA, mut ddt) = ([0.0; 2], [0.0f32; 2]);
/// let (mut dA_view, mut ddt_view) = (ViewMut::new(&mut dA, domain), ViewMut::new(&mut ddt, domain));
/// let upstream = DiscretiseUpstream::new().dA_bar(View::new(&upstream, domain));
/// Cpu::new().backward(&op, upstream, DiscretiseGradients::new().dA(&mut dA_view).ddt(&mut ddt_view))?;
/// let A_bar = a.map(|a| (0.5 * a).exp());
/// assert!((0..2).all(|n| (dA[n] - 0.5 * A_bar[n]).abs() < 1e-6 && (ddt[n] - a[n] * A_bar[n]).abs() < 1e-6));
/// # Ok::<(), ssm_kernels::Error>(())
/// ```
#[derive(Debug)]
pub struct DiscretiseGradients<'o, T: 'o, S: Storage = Host> {
    ddt: Option<ViewMut<'o, T, S>>,
    ddt_bias: Option<ViewMut<'o, f32, S>>,
    dA: Option<ViewMut<'o, f32, S>>,
    dB: Option<ViewMut<'o, T, S>>,
    dlambda: Option<ViewMut<'o, T, S>>,
}

none_yet!(DiscretiseGradients<T>: ddt, ddt_bias, dA, dB, dlambda);

impl<'o, T: Element, S: Storage> DiscretiseGradients<'o, T, S> {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }
    writes!(
        /// With respect to the raw step.
        ddt: T
    );
    writes!(
        /// With respect to the step's bias: the values of ddt, in f32.
        ddt_bias: f32
    );
    writes!(
        /// With respect to A.
        dA: f32
    );
    writes!(
        /// With respect to B.
        dB: T
    );
    writes!(
        /// With respect to lambda; exp_trapezoidal only.
        dlambda: T
    );

    pub(crate) fn check(
        self,
        inputs: &Inputs<'_, T, S>,
        upstream: &CheckedUpstream<'_, S>,
    ) -> Result<CheckedGradients<'o, T, S>> {
        let domain = &inputs.domain;
        if self.dlambda.is_some() {
            only_exp_trapezoidal("dlambda", inputs.rule)?;
        }
        let gradients = CheckedGradients {
            ddt: self.ddt.map(|view| view.over(OP, "ddt", domain)).transpose()?,
            ddt_bias: self.ddt_bias.map(|view| view.over(OP, "ddt_bias", domain)).transpose()?,
            dA: self.dA.map(|view| view.over(OP, "dA", domain)).transpose()?,
            dB: self.dB.map(|view| view.over(OP, "dB", domain)).transpose()?,
            dlambda: self.dlambda.map(|view| view.over(OP, "dlambda", domain)).transpose()?,
        };
        let mut memory = inputs.memory();
        upstream.ddelta.iter().for_each(|tensor| memory.input("ddelta", tensor));
        upstream.dA_bar.iter().for_each(|tensor| memory.input("dA_bar", tensor));
        upstream.dB_bar.iter().for_each(|tensor| memory.input("dB_bar", tensor));
        upstream.dB_prev_bar.iter().for_each(|tensor| memory.input("dB_prev_bar", tensor));
        gradients.ddt.iter().for_each(|tensor| memory.output("ddt", tensor));
        gradients.ddt_bias.iter().for_each(|tensor| memory.output("ddt_bias", tensor));
        gradients.dA.iter().for_each(|tensor| memory.output("dA", tensor));
        gradients.dB.iter().for_each(|tensor| memory.output("dB", tensor));
        gradients.dlambda.iter().for_each(|tensor| memory.output("dlambda", tensor));
        if !memory.has_outputs() {
            let reason = "at least one of ddt, ddt_bias, dA, dB, dlambda is written";
            return Err(Error::Missing { op: OP, arg: "gradients", reason });
        }
        memory.check(OP)?;
        Ok(gradients)
    }
}

fn only_exp_trapezoidal(arg: &'static str, rule: Rule) -> Result<()> {
    if rule == Rule::ExpTrapezoidal {
        return Ok(());
    }
    let got = format!("given with rule {}", rule.name());
    Err(Error::Value { op: OP, arg, got, expected: "none but with exp_trapezoidal".into() })
}
