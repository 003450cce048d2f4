//! What both directions write, and what the backward one reads beside the inputs.

use super::checked::{CheckedGradients, CheckedOutputs, CheckedUpstream, Inputs};
use super::{Dims, OP, SEQUENCE, STATE, WEIGHT};
use crate::error::{Error, Result};
use crate::ops::expect_given;
use crate::tensor::{Element, Host, Storage, View, ViewMut};

/// What a causal convolution writes.
///
/// ```
/// use ssm_kernels::prelude::*;
/// # let (x, weight) = ([1.0f32, 2.0, 3.0], [0.5f32, 1.0]);
/// # let (sequence, state) = ([("batch", 1), ("dim", 1), ("seqlen", 3)], [("batch", 1), ("dim", 1), ("state_len", 1)]);
/// let conv = CausalConv1d::new(View::new(&x, sequence), View::new(&weight, [("dim", 1), ("width", 2)]))?; // of 1, 2, 3
/// let (mut out, mut last) = ([0.0; 3], [0.0]);
/// let (mut out_view, mut last_view) = (ViewMut::new(&mut out, sequence), ViewMut::new(&mut last, state));
/// Cpu::new().forward(&conv, CausalConv1dOutputs::new(&mut out_view).final_state(&mut last_view))?;
/// assert_eq!((out, last), ([1.0, 2.5, 4.0], [3.0]));
/// // The inputs that the next call needs.
/// let conv = conv.initial_state(View::new(&last, state));
/// Cpu::new().forward(&conv, CausalConv1dOutputs::new(&mut ViewMut::new(&mut out, sequence)))?;
/// assert_eq!(out, [2.5, 2.5, 4.0]);
/// # Ok::<(), ssm_kernels::Error>(())
/// ```
#[derive(Debug)]
pub struct CausalConv1dOutputs<'o, T: 'o, S: Storage = Host> {
    out: ViewMut<'o, T, S>,
    final_state: Option<ViewMut<'o, T, S>>,
}

impl<'o, T: Element, S: Storage> CausalConv1dOutputs<'o, T, S> {
    /// `out`, every element of it.
    pub fn new(out: &'o mut ViewMut<'_, T, S>) -> Self {
        Self { out: out.reborrow(), final_state: None }
    }
    writes!(
        /// Also the last width - 1 inputs of each sequence.
        #[doc(alias("final_states", "return_final_states"))]
        final_state: T
    );

    /// All outputs checked against the inputs and in canonical order.
    pub(crate) fn check<W: Element>(self, inputs: &Inputs<'_, T, W, S>) -> Result<CheckedOutputs<'o, T, S>> {
        let Dims { batch, dim, seqlen, width, nseqs } = inputs.dims;
        let state = |view: ViewMut<'o, T, S>| view.align_to(OP, "final_state", STATE, [nseqs, dim, width - 1]);
        let outputs = CheckedOutputs {
            out: self.out.align_to(OP, "out", SEQUENCE, [batch, dim, seqlen])?,
            final_state: self.final_state.map(state).transpose()?,
        };
        let mut memory = inputs.memory();
        memory.output("out", &outputs.out);
        outputs.final_state.iter().for_each(|tensor| memory.output("final_state", tensor));
        memory.check(OP)?;
        Ok(outputs)
    }
}

/// Gradients of the loss with respect to the outputs, at least one of the two; an absent one is left out.
#[derive(Debug)]
pub struct CausalConv1dUpstream<'u, T: 'u, S: Storage = Host> {
    dout: Option<View<'u, T, S>>,
    dfinal_state: Option<View<'u, T, S>>,
}

upstream!(CausalConv1dUpstream<T>: dout, dfinal_state);

impl<'u, T: Element, S: Storage> CausalConv1dUpstream<'u, T, S> {
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
        dfinal_state: T
    );

    pub(crate) fn check<W: Element>(self, inputs: &Inputs<'_, T, W, S>) -> Result<CheckedUpstream<'u, T, S>> {
        let Dims { batch, dim, seqlen, width, nseqs } = inputs.dims;
        if self.dout.is_none() && self.dfinal_state.is_none() {
            let reason = "at least one of dout, dfinal_state is given";
            return Err(Error::Missing { op: OP, arg: "upstream", reason });
        }
        let state = |view: View<'u, T, S>| view.align_to(OP, "dfinal_state", STATE, [nseqs, dim, width - 1]);
        Ok(CheckedUpstream {
            dout: self.dout.map(|view| view.align_to(OP, "dout", SEQUENCE, [batch, dim, seqlen])).transpose()?,
            dfinal_state: self.dfinal_state.map(state).transpose()?,
        })
    }
}

/// What the backward direction writes: any of the four, at least one. Each is computed only if asked for.
///
/// ```
/// use ssm_kernels::prelude::*;
/// # let (x, weight) = ([1.0f32, 2.0, 3.0], [0.5f32, 1.0]);
/// # let (sequence, state) = ([("batch", 1), ("dim", 1), ("seqlen", 3)], [("batch", 1), ("dim", 1), ("state_len", 1)]);
/// let conv = CausalConv1d::new(View::new(&x, sequence), View::new(&weight, [("dim", 1), ("width", 2)]))?; // of 1, 2, 3
/// let dout = [1.0f32; 3];
/// let (mut dx, mut dweight) = ([0.0; 3], [0.0; 2]);
/// let mut dx_view = ViewMut::new(&mut dx, sequence);
/// let mut dweight_view = ViewMut::new(&mut dweight, [("dim", 1), ("width", 2)]);
/// let gradients = CausalConv1dGradients::new().dx(&mut dx_view).dweight(&mut dweight_view);
/// Cpu::new().backward(&conv, CausalConv1dUpstream::new().dout(View::new(&dout, sequence)), gradients)?;
/// assert_eq!((dx, dweight), ([1.5, 1.5, 1.0], [3.0, 6.0]));
/// # Ok::<(), ssm_kernels::Error>(())
/// ```
#[derive(Debug)]
pub struct CausalConv1dGradients<'o, T: 'o, W: 'o = T, S: Storage = Host> {
    dx: Option<ViewMut<'o, T, S>>,
    dweight: Option<ViewMut<'o, W, S>>,
    dbias: Option<ViewMut<'o, W, S>>,
    dinitial_state: Option<ViewMut<'o, T, S>>,
}

none_yet!(CausalConv1dGradients<T, W>: dx, dweight, dbias, dinitial_state);

impl<'o, T: Element, W: Element, S: Storage> CausalConv1dGradients<'o, T, W, S> {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }
    writes!(
        /// With respect to x.
        dx: T
    );
    writes!(
        /// With respect to the weight.
        dweight: W
    );
    writes!(
        /// With respect to the bias; only with bias.
        dbias: W
    );
    writes!(
        /// With respect to the inputs before each sequence, given or not.
        #[doc(alias = "dinitial_states")]
        dinitial_state: T
    );

    /// All gradients checked against inputs and upstream, and in canonical order.
    pub(crate) fn check(
        self,
        inputs: &Inputs<'_, T, W, S>,
        upstream: &CheckedUpstream<'_, T, S>,
    ) -> Result<CheckedGradients<'o, T, W, S>> {
        let Dims { batch, dim, seqlen, width, nseqs } = inputs.dims;
        expect_given(OP, "dbias", self.dbias.is_some(), "`bias`", inputs.weights.bias.is_some())?;
        let state = |view: ViewMut<'o, T, S>| view.align_to(OP, "dinitial_state", STATE, [nseqs, dim, width - 1]);
        let gradients = CheckedGradients {
            dx: self.dx.map(|view| view.align_to(OP, "dx", SEQUENCE, [batch, dim, seqlen])).transpose()?,
            dweight: self.dweight.map(|view| view.align_to(OP, "dweight", WEIGHT, [dim, width])).transpose()?,
            dbias: self.dbias.map(|view| view.align_to(OP, "dbias", ["dim"], [dim])).transpose()?,
            dinitial_state: self.dinitial_state.map(state).transpose()?,
        };
        let mut memory = inputs.memory();
        upstream.dout.iter().for_each(|tensor| memory.input("dout", tensor));
        upstream.dfinal_state.iter().for_each(|tensor| memory.input("dfinal_state", tensor));
        gradients.dx.iter().for_each(|tensor| memory.output("dx", tensor));
        gradients.dweight.iter().for_each(|tensor| memory.output("dweight", tensor));
        gradients.dbias.iter().for_each(|tensor| memory.output("dbias", tensor));
        gradients.dinitial_state.iter().for_each(|tensor| memory.output("dinitial_state", tensor));
        if !memory.has_outputs() {
            let reason = "at least one of dx, dweight, dbias, dinitial_state is written";
            return Err(Error::Missing { op: OP, arg: "gradients", reason });
        }
        memory.check(OP)?;
        Ok(gradients)
    }
}
