//! What the backward direction reads beside the inputs, and what it writes.

use super::checked::{AlignedProjectionMut, CheckedGradients, CheckedUpstream, Inputs};
use super::{CHUNKS, CONSTANT, Dims, OP, SEQUENCE, STATE};
use crate::error::{Error, Result};
use crate::ops::expect_given;
use crate::tensor::{Element, Host, Storage, StridedMut, View, ViewMut};

/// Gradients of the loss with respect to the outputs, at least one of the two (an absent one counts as zero), and the
/// states that forward saved.
///
/// ```
/// use ssm_kernels::prelude::*;
/// # let (ones, a) = ([1.0f32; 4], [-0.5f32]);
/// # let sequence = [("batch", 1), ("dim", 1), ("seqlen", 4)];
/// # let state = [("batch", 1), ("dim", 1), ("dstate", 1)];
/// # let rows = View::new(&ones, [("batch", 1), ("ngroups", 1), ("dstate", 1), ("seqlen", 4)]);
/// # let (x, A) = (View::new(&ones, sequence), View::new(&a, [("dim", 1), ("dstate", 1)]));
/// let scan = SelectiveScan::new(x, x, A, rows, rows)?; // four steps of 1, A = -0.5
/// // The loss is the final state: its gradient by the initial state is the decay over all steps.
/// let (mut gradient, one) = ([0.0], [1.0]);
/// let upstream = SelectiveScanUpstream::new().dfinal_state(View::new(&one, state));
/// let mut view = ViewMut::new(&mut gradient, state);
/// Cpu::new().backward(&scan, upstream, SelectiveScanGradients::new().dinitial_state(&mut view))?;
/// assert!((gradient[0] - (-2.0f32).exp()).abs() < 1e-6);
/// # Ok::<(), ssm_kernels::Error>(())
/// ```
#[derive(Debug)]
pub struct SelectiveScanUpstream<'u, T: 'u, S: Storage = Host> {
    dout: Option<View<'u, T, S>>,
    dfinal_state: Option<View<'u, f32, S>>,
    checkpoints: Option<(usize, View<'u, f32, S>)>,
}

upstream!(SelectiveScanUpstream<T>: dout, dfinal_state, checkpoints);

impl<'u, T: Element, S: Storage> SelectiveScanUpstream<'u, T, S> {
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
        dfinal_state: f32
    );

    /// The chunk_states that forward wrote every `every` steps, which must be
    /// [`SelectiveScan::checkpoint_every`](super::SelectiveScan::checkpoint_every). Without them backward recomputes
    /// all states from the start of each sequence.
    pub fn checkpoints(mut self, every: usize, checkpoints: View<'u, f32, S>) -> Self {
        self.checkpoints = Some((every, checkpoints));
        self
    }

    pub(crate) fn check(self, inputs: &Inputs<'_, T, S>) -> Result<CheckedUpstream<'u, T, S>> {
        let Dims { batch, dim, seqlen, dstate, nseqs } = inputs.dims;
        if self.dout.is_none() && self.dfinal_state.is_none() {
            let reason = "at least one of dout, dfinal_state is given";
            return Err(Error::Missing { op: OP, arg: "upstream", reason });
        }
        let checkpoints = match self.checkpoints {
            None => None,
            Some((every, view)) => {
                let expected = inputs.checkpoint_every();
                if every != expected {
                    let (got, expected) = (format!("a state every {every} steps"), format!("one every {expected}"));
                    return Err(Error::Value { op: OP, arg: "checkpoints", got, expected });
                }
                let offsets = inputs.chunk_offsets(every)?;
                Some((every, view.align_to(OP, "checkpoints", CHUNKS, [offsets[nseqs], dim, dstate])?, offsets))
            }
        };
        let state = |view: View<'u, f32, S>| view.align_to(OP, "dfinal_state", STATE, [nseqs, dim, dstate]);
        Ok(CheckedUpstream {
            dout: self.dout.map(|view| view.align_to(OP, "dout", SEQUENCE, [batch, dim, seqlen])).transpose()?,
            dfinal_state: self.dfinal_state.map(state).transpose()?,
            checkpoints,
        })
    }
}

/// dB or dC: of the same kind, and dtype, as B or C.
#[derive(Debug)]
pub enum ProjectionMut<'o, T: 'o, S: Storage = Host> {
    /// (batch, ngroups, dstate, seqlen) in the I/O dtype.
    Variable(ViewMut<'o, T, S>),
    /// (dim, dstate) in f32.
    Constant(ViewMut<'o, f32, S>),
}

impl<'o, T, S: Storage> From<ViewMut<'o, T, S>> for ProjectionMut<'o, T, S> {
    fn from(view: ViewMut<'o, T, S>) -> Self {
        ProjectionMut::Variable(view)
    }
}

impl<'o, T, S: Storage> From<&'o mut ViewMut<'_, T, S>> for ProjectionMut<'o, T, S> {
    fn from(view: &'o mut ViewMut<'_, T, S>) -> Self {
        ProjectionMut::Variable(view.reborrow())
    }
}

/// What the backward direction writes: any of these, at least one. Each is computed only if asked for.
///
/// ```
/// use ssm_kernels::prelude::*;
/// # let (ones, a) = ([1.0f32; 4], [-0.5f32]);
/// # let sequence = [("batch", 1), ("dim", 1), ("seqlen", 4)];
/// # let state = [("batch", 1), ("dim", 1), ("dstate", 1)];
/// # let rows = View::new(&ones, [("batch", 1), ("ngroups", 1), ("dstate", 1), ("seqlen", 4)]);
/// # let (x, A) = (View::new(&ones, sequence), View::new(&a, [("dim", 1), ("dstate", 1)]));
/// let scan = SelectiveScan::new(x, x, A, rows, rows)?; // four steps of 1, A = -0.5
/// // The loss is the second output, e^A + 1.
/// let dout = [0.0, 1.0, 0.0, 0.0];
/// let (mut dA, mut dx) = ([0.0], [0.0; 4]);
/// let (mut dA_view, mut dx_view) = (ViewMut::new(&mut dA, [("dim", 1), ("dstate", 1)]), ViewMut::new(&mut dx, sequence));
/// let gradients = SelectiveScanGradients::new().dA(&mut dA_view).dx(&mut dx_view);
/// Cpu::new().backward(&scan, SelectiveScanUpstream::new().dout(View::new(&dout, sequence)), gradients)?;
/// let decay = (-0.5f32).exp();
/// assert!((dA[0] - decay).abs() < 1e-6 && (dx[0] - decay).abs() < 1e-6 && dx[1..] == [1.0, 0.0, 0.0]);
/// # Ok::<(), ssm_kernels::Error>(())
/// ```
#[derive(Debug)]
pub struct SelectiveScanGradients<'o, T: 'o, S: Storage = Host> {
    dx: Option<ViewMut<'o, T, S>>,
    ddt: Option<ViewMut<'o, T, S>>,
    dz: Option<ViewMut<'o, T, S>>,
    dA: Option<ViewMut<'o, f32, S>>,
    dB: Option<ProjectionMut<'o, T, S>>,
    dC: Option<ProjectionMut<'o, T, S>>,
    dD: Option<ViewMut<'o, f32, S>>,
    ddt_bias: Option<ViewMut<'o, f32, S>>,
    dinitial_state: Option<ViewMut<'o, f32, S>>,
}

none_yet!(SelectiveScanGradients<T>: dx, ddt, dz, dA, dB, dC, dD, ddt_bias, dinitial_state);

impl<'o, T: Element, S: Storage> SelectiveScanGradients<'o, T, S> {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }
    writes!(
        /// With respect to x.
        #[doc(alias = "du")]
        dx: T
    );
    writes!(
        /// With respect to the raw step.
        #[doc(alias = "ddelta")]
        ddt: T
    );
    writes!(
        /// With respect to the gate; only with z.
        dz: T
    );
    writes!(
        /// With respect to A.
        dA: f32
    );
    writes!(
        /// With respect to D; only with D.
        dD: f32
    );
    writes!(
        /// With respect to the step's bias; only with dt_bias.
        #[doc(alias = "ddelta_bias")]
        ddt_bias: f32
    );
    writes!(
        /// With respect to the state before the first step of each sequence, given or not.
        dinitial_state: f32
    );

    /// With respect to B: a view (variable) or [`ProjectionMut::Constant`].
    pub fn dB(mut self, dB: impl Into<ProjectionMut<'o, T, S>>) -> Self {
        self.dB = Some(dB.into());
        self
    }

    /// With respect to C: a view (variable) or [`ProjectionMut::Constant`].
    pub fn dC(mut self, dC: impl Into<ProjectionMut<'o, T, S>>) -> Self {
        self.dC = Some(dC.into());
        self
    }

    /// All gradients checked against inputs and upstream, and in canonical order.
    pub(crate) fn check(
        self,
        inputs: &Inputs<'_, T, S>,
        upstream: &CheckedUpstream<'_, T, S>,
    ) -> Result<CheckedGradients<'o, T, S>> {
        let Dims { batch, dim, seqlen, dstate, nseqs } = inputs.dims;
        expect_given(OP, "dz", self.dz.is_some(), "`z`", inputs.z.is_some())?;
        expect_given(OP, "dD", self.dD.is_some(), "`D`", inputs.D.is_some())?;
        expect_given(OP, "ddt_bias", self.ddt_bias.is_some(), "`dt_bias`", inputs.dt_bias.is_some())?;
        let sequence = |arg, view: Option<ViewMut<'o, T, S>>| -> Result<Option<StridedMut<'o, T, S, 3>>> {
            view.map(|view| view.align_to(OP, arg, SEQUENCE, [batch, dim, seqlen])).transpose()
        };
        let channel = |arg, view: Option<ViewMut<'o, f32, S>>| -> Result<Option<StridedMut<'o, f32, S, 1>>> {
            view.map(|view| view.align_to(OP, arg, ["dim"], [dim])).transpose()
        };
        let gradients = CheckedGradients {
            dx: sequence("dx", self.dx)?,
            ddt: sequence("ddt", self.ddt)?,
            dz: sequence("dz", self.dz)?,
            dA: self.dA.map(|view| view.align_to(OP, "dA", CONSTANT, [dim, dstate])).transpose()?,
            dB: self.dB.map(|dB| AlignedProjectionMut::align("dB", dB, "B", &inputs.B)).transpose()?,
            dC: self.dC.map(|dC| AlignedProjectionMut::align("dC", dC, "C", &inputs.C)).transpose()?,
            dD: channel("dD", self.dD)?,
            ddt_bias: channel("ddt_bias", self.ddt_bias)?,
            dinitial_state: self
                .dinitial_state
                .map(|view| view.align_to(OP, "dinitial_state", STATE, [nseqs, dim, dstate]))
                .transpose()?,
        };
        check_memory(inputs, upstream, &gradients)?;
        Ok(gradients)
    }
}

/// At least one gradient, none on other memory.
fn check_memory<T: Element, S: Storage>(
    inputs: &Inputs<'_, T, S>,
    upstream: &CheckedUpstream<'_, T, S>,
    gradients: &CheckedGradients<'_, T, S>,
) -> Result<()> {
    let mut memory = inputs.memory();
    upstream.dout.iter().for_each(|tensor| memory.input("dout", tensor));
    upstream.dfinal_state.iter().for_each(|tensor| memory.input("dfinal_state", tensor));
    upstream.checkpoints.iter().for_each(|(_, tensor, _)| memory.input("checkpoints", tensor));
    gradients.dx.iter().for_each(|tensor| memory.output("dx", tensor));
    gradients.ddt.iter().for_each(|tensor| memory.output("ddt", tensor));
    gradients.dz.iter().for_each(|tensor| memory.output("dz", tensor));
    gradients.dA.iter().for_each(|tensor| memory.output("dA", tensor));
    gradients.dB.iter().for_each(|gradient| gradient.record("dB", &mut memory));
    gradients.dC.iter().for_each(|gradient| gradient.record("dC", &mut memory));
    gradients.dD.iter().for_each(|tensor| memory.output("dD", tensor));
    gradients.ddt_bias.iter().for_each(|tensor| memory.output("ddt_bias", tensor));
    gradients.dinitial_state.iter().for_each(|tensor| memory.output("dinitial_state", tensor));
    if !memory.has_outputs() {
        let reason = "at least one of dx, ddt, dz, dA, dB, dC, dD, ddt_bias, dinitial_state is written";
        return Err(Error::Missing { op: OP, arg: "gradients", reason });
    }
    memory.check(OP)
}
