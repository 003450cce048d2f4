//! What both directions write, and what the backward one reads beside the inputs.

use super::checked::{CheckedGradients, CheckedOutputs, CheckedUpstream, Inputs};
use super::{DECAY, KEY, NORM, OP, STATE, VALUE};
use crate::error::{Error, Result};
use crate::tensor::{Element, Host, Storage, View, ViewMut};

/// What a squared attention writes.
#[derive(Debug)]
pub struct SquaredAttentionOutputs<'o, T: 'o, S: Storage = Host> {
    out: ViewMut<'o, T, S>,
    final_state: Option<ViewMut<'o, f32, S>>,
    final_norm: Option<ViewMut<'o, f32, S>>,
}

impl<'o, T: Element, S: Storage> SquaredAttentionOutputs<'o, T, S> {
    /// `out`, every element of it.
    pub fn new(out: &'o mut ViewMut<'_, T, S>) -> Self {
        Self { out: out.reborrow(), final_state: None, final_norm: None }
    }
    writes!(
        /// Also the state after the last step of each sequence.
        #[doc(alias = "final_states")]
        final_state: f32
    );
    writes!(
        /// Also the norm after the last step of each sequence: a state goes on only with its norm.
        final_norm: f32
    );

    /// All outputs checked against the inputs and in canonical order.
    pub(crate) fn check(self, inputs: &Inputs<'_, T, S>) -> Result<CheckedOutputs<'o, T, S>> {
        let dims = inputs.dims;
        let state = |view: ViewMut<'o, f32, S>| view.align_to(OP, "final_state", STATE, dims.state());
        let norm = |view: ViewMut<'o, f32, S>| view.align_to(OP, "final_norm", NORM, dims.norm());
        let outputs = CheckedOutputs {
            out: self.out.align_to(OP, "out", VALUE, inputs.v.layout.extents)?,
            final_state: self.final_state.map(state).transpose()?,
            final_norm: self.final_norm.map(norm).transpose()?,
        };
        let mut memory = inputs.memory();
        memory.output("out", &outputs.out);
        outputs.final_state.iter().for_each(|tensor| memory.output("final_state", tensor));
        outputs.final_norm.iter().for_each(|tensor| memory.output("final_norm", tensor));
        memory.check(OP)?;
        Ok(outputs)
    }
}

/// Gradients of the loss with respect to the outputs, at least one of the three; an absent one is left out.
#[derive(Debug)]
pub struct SquaredAttentionUpstream<'u, T: 'u, S: Storage = Host> {
    dout: Option<View<'u, T, S>>,
    dfinal_state: Option<View<'u, f32, S>>,
    dfinal_norm: Option<View<'u, f32, S>>,
}

upstream!(SquaredAttentionUpstream<T>: dout, dfinal_state, dfinal_norm);

impl<'u, T: Element, S: Storage> SquaredAttentionUpstream<'u, T, S> {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }
    reads!(
        /// With respect to out.
        #[doc(alias = "grad_output")]
        dout: T
    );
    reads!(
        /// With respect to final_state.
        #[doc(alias = "dfinal_states")]
        dfinal_state: f32
    );
    reads!(
        /// With respect to final_norm.
        dfinal_norm: f32
    );

    pub(crate) fn check(self, inputs: &Inputs<'_, T, S>) -> Result<CheckedUpstream<'u, T, S>> {
        let dims = inputs.dims;
        if self.dout.is_none() && self.dfinal_state.is_none() && self.dfinal_norm.is_none() {
            let reason = "at least one of dout, dfinal_state, dfinal_norm is given";
            return Err(Error::Missing { op: OP, arg: "upstream", reason });
        }
        let state = |view: View<'u, f32, S>| view.align_to(OP, "dfinal_state", STATE, dims.state());
        let norm = |view: View<'u, f32, S>| view.align_to(OP, "dfinal_norm", NORM, dims.norm());
        Ok(CheckedUpstream {
            dout: self.dout.map(|view| view.align_to(OP, "dout", VALUE, inputs.v.layout.extents)).transpose()?,
            dfinal_state: self.dfinal_state.map(state).transpose()?,
            dfinal_norm: self.dfinal_norm.map(norm).transpose()?,
        })
    }
}

/// What the backward direction writes: any of the six, at least one. Each is computed only if asked for.
///
/// ```
/// # use ssm_kernels::prelude::*;
/// # let (ones, logs) = ([1.0f32; 2], [0.0f32, 0.5f32.ln()]);
/// # let rows = [("batch", 1), ("nheads", 1), ("seqlen", 2), ("dim", 1)];
/// # let values = [("batch", 1), ("nheads", 1), ("seqlen", 2), ("vdim", 1)];
/// # let (key, value) = (View::new(&ones, rows), View::new(&ones, values));
/// # let log_decay = View::new(&logs, [("batch", 1), ("nheads", 1), ("seqlen", 2)]);
/// let attention = SquaredAttention::new(key, key, value, log_decay)?; // two equal steps, the second forgets half
/// // The loss is the second output, where the weights are 0.5 and 1.
/// let loss = [0.0f32, 1.0];
/// let (mut dv, upstream) = ([0.0f32; 2], SquaredAttentionUpstream::new().dout(View::new(&loss, values)));
/// let mut view = ViewMut::new(&mut dv, values);
/// Cpu::new().backward(&attention, upstream, SquaredAttentionGradients::new().dv(&mut view))?;
/// assert!((dv[0] - 0.5 / 1.5).abs() < 1e-6 && (dv[1] - 1.0 / 1.5).abs() < 1e-6);
/// # Ok::<(), ssm_kernels::Error>(())
/// ```
#[derive(Debug)]
pub struct SquaredAttentionGradients<'o, T: 'o, S: Storage = Host> {
    dq: Option<ViewMut<'o, T, S>>,
    dk: Option<ViewMut<'o, T, S>>,
    dv: Option<ViewMut<'o, T, S>>,
    dlog_decay: Option<ViewMut<'o, f32, S>>,
    dinitial_state: Option<ViewMut<'o, f32, S>>,
    dinitial_norm: Option<ViewMut<'o, f32, S>>,
}

none_yet!(SquaredAttentionGradients<T>: dq, dk, dv, dlog_decay, dinitial_state, dinitial_norm);

impl<'o, T: Element, S: Storage> SquaredAttentionGradients<'o, T, S> {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }
    writes!(
        /// With respect to q.
        dq: T
    );
    writes!(
        /// With respect to k.
        dk: T
    );
    writes!(
        /// With respect to v.
        dv: T
    );
    writes!(
        /// With respect to log_decay.
        dlog_decay: f32
    );
    writes!(
        /// With respect to the state before each sequence, given or not.
        #[doc(alias = "dinitial_states")]
        dinitial_state: f32
    );
    writes!(
        /// With respect to the norm before each sequence, given or not.
        dinitial_norm: f32
    );

    /// All gradients checked against inputs and upstream, and in canonical order.
    pub(crate) fn check(
        self,
        inputs: &Inputs<'_, T, S>,
        upstream: &CheckedUpstream<'_, T, S>,
    ) -> Result<CheckedGradients<'o, T, S>> {
        let dims = inputs.dims;
        let (keys, values) = (inputs.q.layout.extents, inputs.v.layout.extents);
        let decay = |view: ViewMut<'o, f32, S>| view.align_to(OP, "dlog_decay", DECAY, inputs.log_decay.layout.extents);
        let state = |view: ViewMut<'o, f32, S>| view.align_to(OP, "dinitial_state", STATE, dims.state());
        let norm = |view: ViewMut<'o, f32, S>| view.align_to(OP, "dinitial_norm", NORM, dims.norm());
        let gradients = CheckedGradients {
            dq: self.dq.map(|view| view.align_to(OP, "dq", KEY, keys)).transpose()?,
            dk: self.dk.map(|view| view.align_to(OP, "dk", KEY, keys)).transpose()?,
            dv: self.dv.map(|view| view.align_to(OP, "dv", VALUE, values)).transpose()?,
            dlog_decay: self.dlog_decay.map(decay).transpose()?,
            dinitial_state: self.dinitial_state.map(state).transpose()?,
            dinitial_norm: self.dinitial_norm.map(norm).transpose()?,
        };
        let mut memory = inputs.memory();
        upstream.dout.iter().for_each(|tensor| memory.input("dout", tensor));
        upstream.dfinal_state.iter().for_each(|tensor| memory.input("dfinal_state", tensor));
        upstream.dfinal_norm.iter().for_each(|tensor| memory.input("dfinal_norm", tensor));
        gradients.dq.iter().for_each(|tensor| memory.output("dq", tensor));
        gradients.dk.iter().for_each(|tensor| memory.output("dk", tensor));
        gradients.dv.iter().for_each(|tensor| memory.output("dv", tensor));
        gradients.dlog_decay.iter().for_each(|tensor| memory.output("dlog_decay", tensor));
        gradients.dinitial_state.iter().for_each(|tensor| memory.output("dinitial_state", tensor));
        gradients.dinitial_norm.iter().for_each(|tensor| memory.output("dinitial_norm", tensor));
        if !memory.has_outputs() {
            let reason = "at least one of dq, dk, dv, dlog_decay, dinitial_state, dinitial_norm is written";
            return Err(Error::Missing { op: OP, arg: "gradients", reason });
        }
        memory.check(OP)?;
        Ok(gradients)
    }
}
