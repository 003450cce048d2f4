//! Selective scan: the state space recurrence of Mamba-1 (S6), for every channel of every sequence.
//!
//! # Equation
//! For each sequence, channel `d` of group `g = d / (dim / ngroups)`, and each step `t` in scan order:
//! ```text
//! delta_t    = clamp(softplus(dt_t + dt_bias_d), dt_limit)
//! h_t[n]     = exp(delta_t A[d,n]) h_{t-1}[n] + delta_t B_t[g,n] x_t          h_{-1} = initial_state or 0
//! out_t      = (sum_n C_t[g,n] h_t[n] + D_d x_t) silu(z_t)                    silu(z) = z / (1 + exp(-z))
//! final_state = h after the last step
//! ```
//! softplus only with `dt_softplus` (and `softplus(v) = v` above 20, as upstream); clamp only with `dt_limit`;
//! `dt_bias`, `D` and `z` each only if given. `reverse` visits each sequence from its last element to its first.
//! A is real, usually negative. The definition is that of `selective_scan_ref` in state-spaces/mamba
//! (Gu and Dao, arXiv 2312.00752), with initial states, packed sequences, clamp and reverse added.
//!
//! Backward, from the last step to the first, with y the output before the gate, slope the derivative of delta by dt
//! (that of softplus; 0 outside the clamp) and the sums over all steps and sequences:
//! ```text
//! g_t      = dout_t silu(z_t)                                 dz_t = dout_t y_t silu'(z_t)
//! dh_t[n]  = C_t[g,n] g_t + exp(delta_{t+1} A[d,n]) dh_{t+1}[n]     at the last step the last term is dfinal_state
//! w_t[n]   = exp(delta_t A[d,n]) dh_t[n] h_{t-1}[n]
//! dx_t     = D_d g_t + delta_t sum_n dh_t[n] B_t[g,n]
//! ddt_t    = (x_t sum_n dh_t[n] B_t[g,n] + sum_n w_t[n] A[d,n]) slope_t        ddt_bias_d = sum_t ddt_t
//! dA[d,n]  = sum_t w_t[n] delta_t                             dD_d = sum_t g_t x_t
//! dB_t[g,n] = sum_d dh_t[n] delta_t x_t                       dC_t[g,n] = sum_d g_t h_t[n]       (constant: sum over t)
//! dinitial_state[n] = exp(delta_0 A[d,n]) dh_0[n]
//! ```
//! An absent dout or dfinal_state is left out. Backward needs the states: it recomputes them, from the start of each
//! sequence or from the checkpoints that forward saved, a window at a time: those of all steps never exist at once.
//!
//! # Shapes
//! | tensor | dimensions, in any memory order | dtype |
//! |---|---|---|
//! | x, dt, z, out | batch, dim, seqlen | f32, f16 or bf16, one per call |
//! | A | dim, dstate | f32 |
//! | B, C variable | batch, ngroups, dstate, seqlen | as x |
//! | B, C constant | dim, dstate | f32 |
//! | D, dt_bias | dim | f32 |
//! | initial_state, final_state | batch, dim, dstate | f32 |
//! | chunk_states | nchunks, dim, dstate | f32 |
//! | delta_sum | batch, dim | f32 |
//!
//! A gradient has the shape and dtype of its tensor.
//!
//! Any extent may be anything, 0 included; ngroups divides dim, and B and C have one ngroups each.
//! With [`SelectiveScan::segments`] batch is 1, and the states have one row per packed sequence along "batch".
//! `chunk_states` holds the state after each full `every` steps of each sequence, in scan order; sequence `s` owns
//! the rows from `chunk_offsets[s]` to `chunk_offsets[s + 1]` ([`SelectiveScan::chunk_offsets`]). An empty
//! sequence has final = initial.
//!
//! # Memory
//! Forward saves nothing for backward unless asked: chunk_states every [`SelectiveScan::checkpoint_every`] steps are
//! the checkpoints, at most half a byte per element of (batch, dim, seqlen). The workspace of backward is transient.
//!
//! # Splitting a sequence
//! With [`SelectiveScan::split`], or where a plan says so, a sequence of any length is cut into parts that run beside
//! each other; [`SelectiveScanCarry`] has the three passes, which work over several devices too.
//!
//! # Precision
//! Arithmetic and states are f32 whatever the I/O type. Every backend keeps the rule of [`crate::reference::accuracy`].
//!
//! # Determinism
//! Bitwise: run equals run, batch n equals n times batch 1, any number of threads. A gradient that sums over the batch
//! (dA, dD, ddt_bias, constant dB and dC) is the sum of the gradients of batch 1, in order. A gradient has the same
//! bits whichever others are asked for.
//!
//! # Errors
//! All arguments are checked here before any backend starts: [`crate::Error`] names operator, argument, expected, got.

mod carry;
mod checked;
mod gradients;
mod outputs;
mod parts;

pub use carry::{SelectiveScanCarry, SelectiveScanCarryOutputs};
pub use gradients::{ProjectionMut, SelectiveScanGradients, SelectiveScanUpstream};
pub use outputs::SelectiveScanOutputs;

pub(crate) use carry::CarryInputs;
pub(crate) use checked::{
    AlignedProjection, AlignedProjectionMut, CheckedGradients, CheckedOutputs, CheckedUpstream, ChunkStates, Inputs,
};
pub(crate) use parts::{checkpoint_every, part_steps};

use super::{Differentiable, Operator, Sealed, StepOptions, check_segments};
use crate::error::{Error, Result};
use crate::segments::Segments;
use crate::tensor::{Device, Element, Host, Slice, Storage, View};

const OP: &str = "selective_scan";
const SEQUENCE: [&str; 3] = ["batch", "dim", "seqlen"];
const VARIABLE: [&str; 4] = ["batch", "ngroups", "dstate", "seqlen"];
const CONSTANT: [&str; 2] = ["dim", "dstate"];
const STATE: [&str; 3] = ["batch", "dim", "dstate"];
const CHUNKS: [&str; 3] = ["nchunks", "dim", "dstate"];
/// The most parts that a sequence may be cut into: what a grid takes along one dimension.
const MOST_PARTS: usize = 65_535;

/// B or C: changing with time (input-dependent, "selective"), or constant.
#[derive(Debug)]
pub enum Projection<'a, T: 'a, S: Storage = Host> {
    /// (batch, ngroups, dstate, seqlen) in the I/O dtype.
    Variable(View<'a, T, S>),
    /// (dim, dstate) in f32.
    Constant(View<'a, f32, S>),
}

impl<T, S: Storage> Clone for Projection<'_, T, S> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T, S: Storage> Copy for Projection<'_, T, S> {}

impl<'a, T, S: Storage> From<View<'a, T, S>> for Projection<'a, T, S> {
    fn from(view: View<'a, T, S>) -> Self {
        Projection::Variable(view)
    }
}

/// The arguments of one selective scan. The [module](self) has equation, shapes and errors.
///
/// ```
/// use ssm_kernels::prelude::*;
/// let (x, dt) = ([1.0f32, 2.0, 3.0], [0.5f32; 3]);
/// let (a, b, c) = ([-1.0f32], [1.0f32; 3], [1.0f32; 3]);
/// let sequence = [("batch", 1), ("dim", 1), ("seqlen", 3)];
/// let projection = [("batch", 1), ("ngroups", 1), ("dstate", 1), ("seqlen", 3)];
/// let scan = SelectiveScan::new(
///     View::new(&x, sequence),
///     View::new(&dt, sequence),
///     View::new(&a, [("dim", 1), ("dstate", 1)]),
///     View::new(&b, projection),
///     View::new(&c, projection),
/// )?;
/// let mut out = [0.0f32; 3];
/// Cpu::new().forward(&scan, SelectiveScanOutputs::new(&mut ViewMut::new(&mut out, sequence)))?;
/// let decay = (-0.5f32).exp();
/// assert!((out[2] - (0.5 * decay * decay + 1.0 * decay + 1.5)).abs() < 1e-6);
/// # Ok::<(), ssm_kernels::Error>(())
/// ```
#[derive(Debug)]
pub struct SelectiveScan<'a, T: 'a, S: Storage = Host> {
    x: View<'a, T, S>,
    dt: View<'a, T, S>,
    A: View<'a, f32, S>,
    B: Projection<'a, T, S>,
    C: Projection<'a, T, S>,
    D: Option<View<'a, f32, S>>,
    z: Option<View<'a, T, S>>,
    dt_bias: Option<View<'a, f32, S>>,
    step: StepOptions,
    initial_state: Option<View<'a, f32, S>>,
    segments: Option<&'a Segments>,
    segments_table: Option<Slice<'a, i32, S>>,
    reverse: bool,
    split: Option<usize>,
}

impl<'a, T: Element, S: Storage> SelectiveScan<'a, T, S> {
    /// The required arguments. B and C are views (variable) or [`Projection::Constant`].
    #[doc(alias("u", "delta", "selective_scan_fn"))]
    pub fn new(
        x: View<'a, T, S>,
        dt: View<'a, T, S>,
        A: View<'a, f32, S>,
        B: impl Into<Projection<'a, T, S>>,
        C: impl Into<Projection<'a, T, S>>,
    ) -> Result<Self> {
        let (B, C) = (B.into(), C.into());
        let (D, z, dt_bias, initial_state, segments, segments_table) = (None, None, None, None, None, None);
        let scan = Self {
            x,
            dt,
            A,
            B,
            C,
            D,
            z,
            dt_bias,
            step: StepOptions::default(),
            initial_state,
            segments,
            segments_table,
            reverse: false,
            split: None,
        };
        scan.inputs()?;
        Ok(scan)
    }

    /// Adds `D x` to the output before the gate.
    pub fn D(mut self, D: View<'a, f32, S>) -> Self {
        self.D = Some(D);
        self
    }

    /// Multiplies the output by `silu(z)`.
    #[doc(alias = "gate")]
    pub fn z(mut self, z: View<'a, T, S>) -> Self {
        self.z = Some(z);
        self
    }

    /// Added to dt before softplus.
    #[doc(alias = "delta_bias")]
    pub fn dt_bias(mut self, dt_bias: View<'a, f32, S>) -> Self {
        self.dt_bias = Some(dt_bias);
        self
    }

    /// Whether delta goes through softplus. Default: no.
    #[doc(alias = "delta_softplus")]
    pub fn dt_softplus(mut self, dt_softplus: bool) -> Self {
        self.step.softplus = dt_softplus;
        self
    }

    /// Clamps delta to (min, max), after softplus. Default: no clamp.
    #[doc(alias("dt_min", "dt_max"))]
    pub fn dt_limit(mut self, dt_limit: (f32, f32)) -> Self {
        self.step.limit = Some(dt_limit);
        self
    }

    /// The state before the first step of each sequence. Default: zero.
    #[doc(alias("initial_states", "h0", "prev_state"))]
    pub fn initial_state(mut self, initial_state: View<'a, f32, S>) -> Self {
        self.initial_state = Some(initial_state);
        self
    }

    /// Several sequences packed along seqlen, each with its own initial and final state. batch must be 1.
    #[doc(alias("cu_seqlens", "seq_idx", "varlen"))]
    pub fn segments(mut self, segments: &'a Segments) -> Self {
        self.segments = Some(segments);
        self.segments_table = None;
        self
    }

    /// Runs each sequence from its last element to its first. Default: no.
    #[doc(alias("flip", "bidirectional"))]
    pub fn reverse(mut self, reverse: bool) -> Self {
        self.reverse = reverse;
        self
    }

    /// Cuts each sequence into `parts` along seqlen, which run beside each other; 1 leaves it whole. Default: the
    /// backend's plan decides, which may not look at the batch. A GPU runs a single prompt of some thousand steps faster in
    /// parts of 128 steps, for example, than whole, a batch of them slower. Another split changes bits, within the accuracy rule.
    pub fn split(mut self, parts: usize) -> Self {
        self.split = Some(parts);
        self
    }

    /// Steps between the states that forward saves for backward
    /// (`SelectiveScanOutputs::chunk_states(every, ..)`, then `SelectiveScanUpstream::checkpoints(every, ..)`):
    /// 128, or 8 dstate rounded up to a multiple of 128 where that is more.
    pub fn checkpoint_every(&self) -> Result<usize> {
        Ok(self.inputs()?.checkpoint_every())
    }

    /// The dimensions of the call, once all arguments are checked.
    pub fn dims(&self) -> Result<Dims> {
        Ok(self.inputs()?.dims)
    }

    /// First row of `chunk_states` of each sequence for a state every `every` steps, and, last, the number of rows.
    pub fn chunk_offsets(&self, every: usize) -> Result<Vec<usize>> {
        self.inputs()?.chunk_offsets(every)
    }

    /// Everything that a backend checks before it runs forward, without running.
    pub fn check(&self, outputs: SelectiveScanOutputs<'_, T, S>) -> Result<()> {
        outputs.check(&self.inputs()?).map(|_| ())
    }

    /// Everything that a backend checks before it runs backward, without running.
    pub fn check_backward(
        &self,
        upstream: SelectiveScanUpstream<'_, T, S>,
        gradients: SelectiveScanGradients<'_, T, S>,
    ) -> Result<()> {
        let inputs = self.inputs()?;
        let upstream = upstream.check(&inputs)?;
        gradients.check(&inputs, &upstream).map(|_| ())
    }

    /// All inputs checked and in canonical order.
    pub(crate) fn inputs(&self) -> Result<Inputs<'a, T, S>> {
        let x = self.x.align(OP, "x", SEQUENCE)?;
        let [batch, dim, seqlen] = x.layout.extents;
        let A = self.A.align(OP, "A", CONSTANT)?;
        let dstate = A.layout.extents[1];
        A.layout.expect_shape(OP, "A", CONSTANT, [dim, dstate])?;
        let nseqs = match self.segments {
            Some(segments) => check_segments((OP, "x"), segments, self.segments_table.as_ref(), batch, seqlen)?,
            None => batch,
        };
        let B = AlignedProjection::align("B", self.B, [batch, dim, seqlen, dstate])?;
        let C = AlignedProjection::align("C", self.C, [batch, dim, seqlen, dstate])?;
        let dims = Dims { batch, dim, seqlen, dstate, nseqs };
        self.step.check(OP)?;
        if let Some(parts) = self.split.filter(|parts| !(1..=MOST_PARTS).contains(parts)) {
            let (got, expected) = (parts.to_string(), format!("1 to {MOST_PARTS} parts"));
            return Err(Error::Value { op: OP, arg: "split", got, expected });
        }
        let sequence = |arg, view: View<'a, T, S>| view.align_to(OP, arg, SEQUENCE, [batch, dim, seqlen]);
        let channel = |arg, view: View<'a, f32, S>| view.align_to(OP, arg, ["dim"], [dim]);
        Ok(Inputs {
            dims,
            x,
            dt: sequence("dt", self.dt)?,
            A,
            B,
            C,
            D: self.D.map(|view| channel("D", view)).transpose()?,
            z: self.z.map(|view| sequence("z", view)).transpose()?,
            dt_bias: self.dt_bias.map(|view| channel("dt_bias", view)).transpose()?,
            step: self.step,
            initial_state: self
                .initial_state
                .map(|view| view.align_to(OP, "initial_state", STATE, [nseqs, dim, dstate]))
                .transpose()?,
            segments: self.segments,
            segments_table: self.segments_table,
            reverse: self.reverse,
            split: self.split,
        })
    }
}

impl<'a, T: Element> SelectiveScan<'a, T, Device> {
    /// As [`SelectiveScan::segments`], on a device: `table` holds a copy of [`Segments::cu_seqlens`] there. Upload it
    /// once for a packing; calls read it.
    ///
    /// # Safety
    /// When kernels read `table`, it holds exactly `segments.cu_seqlens()`: they take it for their bounds.
    pub unsafe fn segments_on(mut self, segments: &'a Segments, table: Slice<'a, i32, Device>) -> Self {
        self.segments = Some(segments);
        self.segments_table = Some(table);
        self
    }
}

impl<T: Element, S: Storage> Sealed for SelectiveScan<'_, T, S> {}

impl<T: Element, S: Storage> Operator for SelectiveScan<'_, T, S> {
    type Storage = S;
    type Outputs<'o> = SelectiveScanOutputs<'o, T, S>;
    const NAME: &'static str = OP;
}

impl<T: Element, S: Storage> Differentiable for SelectiveScan<'_, T, S> {
    type Upstream<'u> = SelectiveScanUpstream<'u, T, S>;
    type Gradients<'o> = SelectiveScanGradients<'o, T, S>;
}

impl Dims {
    /// By name, for plans.
    pub(crate) fn named(&self) -> Vec<(&'static str, usize)> {
        let Dims { batch, dim, seqlen, dstate, nseqs } = *self;
        vec![("batch", batch), ("dim", dim), ("seqlen", seqlen), ("dstate", dstate), ("nseqs", nseqs)]
    }

    /// Of x.
    #[cfg(any(feature = "cuda", feature = "emulator"))]
    pub(crate) fn elements(&self) -> usize {
        self.batch.saturating_mul(self.dim).saturating_mul(self.seqlen)
    }
}

/// The dimensions of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dims {
    /// Rows of the batch; 1 with packed sequences.
    pub batch: usize,
    /// Channels.
    pub dim: usize,
    /// Length; with packed sequences the sum of lengths.
    pub seqlen: usize,
    /// States per channel.
    pub dstate: usize,
    /// Sequences: batch, or the number of packed ones.
    pub nseqs: usize,
}
