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
//!
//! Any extent may be anything, 0 included; ngroups divides dim, and B and C have one ngroups each.
//! With [`SelectiveScan::segments`] batch is 1, and the states have one row per packed sequence along "batch".
//! `chunk_states` holds the state after each full `every` steps of each sequence, in scan order; sequence `s` owns
//! the rows from `chunk_offsets[s]` to `chunk_offsets[s + 1]` ([`SelectiveScan::chunk_offsets`]). An empty
//! sequence has final = initial.
//!
//! # Precision
//! Arithmetic and states are f32 whatever the I/O type. Every backend keeps the rule of [`crate::reference::accuracy`].
//!
//! # Determinism
//! Bitwise: run equals run, batch n equals n times batch 1, any number of threads.
//!
//! # Errors
//! All arguments are checked here before any backend starts: [`crate::Error`] names operator, argument, expected, got.

mod checked;

pub(crate) use checked::{AlignedProjection, CheckedOutputs, ChunkStates, Inputs};

use super::{Operator, StepOptions};
use crate::error::{Error, Result};
use crate::segments::Segments;
use crate::tensor::{Device, Element, Host, Memory, Slice, Storage, View, ViewMut};

const OP: &str = "selective_scan";
const SEQUENCE: [&str; 3] = ["batch", "dim", "seqlen"];
const VARIABLE: [&str; 4] = ["batch", "ngroups", "dstate", "seqlen"];
const CONSTANT: [&str; 2] = ["dim", "dstate"];
const STATE: [&str; 3] = ["batch", "dim", "dstate"];
const CHUNKS: [&str; 3] = ["nchunks", "dim", "dstate"];

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

    /// The dimensions of the call, once all arguments are checked.
    pub fn dims(&self) -> Result<Dims> {
        Ok(self.inputs()?.dims)
    }

    /// First row of `chunk_states` of each sequence for a state every `every` steps, and, last, the number of rows.
    pub fn chunk_offsets(&self, every: usize) -> Result<Vec<usize>> {
        self.inputs()?.chunk_offsets(every)
    }

    /// Everything that a backend checks before it starts, without running.
    pub fn check(&self, outputs: SelectiveScanOutputs<'_, T, S>) -> Result<()> {
        outputs.check(&self.inputs()?).map(|_| ())
    }

    /// All inputs checked and in canonical order.
    pub(crate) fn inputs(&self) -> Result<Inputs<'a, T, S>> {
        let x = self.x.align(OP, "x", SEQUENCE)?;
        let [batch, dim, seqlen] = x.layout.extents;
        let A = self.A.align(OP, "A", CONSTANT)?;
        let dstate = A.layout.extents[1];
        A.layout.expect_shape(OP, "A", CONSTANT, [dim, dstate])?;
        let nseqs = match self.segments {
            Some(segments) => check_segments(segments, self.segments_table.as_ref(), batch, seqlen)?,
            None => batch,
        };
        let B = AlignedProjection::align("B", self.B, [batch, dim, seqlen, dstate])?;
        let C = AlignedProjection::align("C", self.C, [batch, dim, seqlen, dstate])?;
        let dims = Dims { batch, dim, seqlen, dstate, nseqs };
        self.step.check(OP)?;
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

impl<T: Element, S: Storage> Operator for SelectiveScan<'_, T, S> {
    type Storage = S;
    type Outputs<'o> = SelectiveScanOutputs<'o, T, S>;
    const NAME: &'static str = OP;
}

fn check_segments<S: Storage>(
    segments: &Segments,
    table: Option<&Slice<'_, i32, S>>,
    batch: usize,
    seqlen: usize,
) -> Result<usize> {
    let refuse = |arg, got: String, expected: String| Error::Value { op: OP, arg, got, expected };
    if batch != 1 {
        return Err(refuse("x", format!("of batch {batch}"), "batch 1 with packed sequences".into()));
    }
    if segments.total() != seqlen {
        let expected = format!("an end at seqlen {seqlen}");
        return Err(refuse("cu_seqlens", format!("ending at {}", segments.total()), expected));
    }
    if let Some(table) = table.filter(|table| table.elements() != segments.cu_seqlens().len()) {
        let expected = format!("{} i32 for {} sequences", segments.cu_seqlens().len(), segments.nseqs());
        return Err(refuse("segments_table", format!("of {} i32", table.elements()), expected));
    }
    Ok(segments.nseqs())
}

impl Dims {
    /// By name, for plans.
    pub(crate) fn named(&self) -> Vec<(&'static str, usize)> {
        let Dims { batch, dim, seqlen, dstate, nseqs } = *self;
        vec![("batch", batch), ("dim", dim), ("seqlen", seqlen), ("dstate", dstate), ("nseqs", nseqs)]
    }
}

/// The dimensions of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// What a selective scan writes.
#[derive(Debug)]
pub struct SelectiveScanOutputs<'o, T: 'o, S: Storage = Host> {
    out: ViewMut<'o, T, S>,
    final_state: Option<ViewMut<'o, f32, S>>,
    chunk_states: Option<(usize, ViewMut<'o, f32, S>)>,
}

impl<'o, T: Element, S: Storage> SelectiveScanOutputs<'o, T, S> {
    /// `out` is always written, every element of it.
    pub fn new(out: &'o mut ViewMut<'_, T, S>) -> Self {
        Self { out: out.reborrow(), final_state: None, chunk_states: None }
    }

    /// Also the state after the last step of each sequence.
    #[doc(alias("last_state", "return_last_state"))]
    pub fn final_state(mut self, final_state: &'o mut ViewMut<'_, f32, S>) -> Self {
        self.final_state = Some(final_state.reborrow());
        self
    }

    /// Also the state after each full `every` steps (for prefix caches and checkpoints).
    #[doc(alias = "checkpoints")]
    pub fn chunk_states(mut self, every: usize, chunk_states: &'o mut ViewMut<'_, f32, S>) -> Self {
        self.chunk_states = Some((every, chunk_states.reborrow()));
        self
    }

    /// All outputs checked against the inputs and in canonical order.
    pub(crate) fn check<'i>(self, inputs: &Inputs<'i, T, S>) -> Result<CheckedOutputs<'o, T, S>> {
        let Dims { batch, dim, seqlen, dstate, nseqs } = inputs.dims;
        let out = self.out.align_to(OP, "out", SEQUENCE, [batch, dim, seqlen])?;
        let state = |view: ViewMut<'o, f32, S>| view.align_to(OP, "final_state", STATE, [nseqs, dim, dstate]);
        let final_state = self.final_state.map(state).transpose()?;
        let chunk_states = match self.chunk_states {
            None => None,
            Some((every, view)) => {
                let offsets = inputs.chunk_offsets(every)?;
                let states = view.align_to(OP, "chunk_states", CHUNKS, [offsets[nseqs], dim, dstate])?;
                Some(ChunkStates { every, offsets, states })
            }
        };
        let mut memory = Memory::default();
        inputs.record(&mut memory);
        memory.output("out", &out);
        final_state.iter().for_each(|tensor| memory.output("final_state", tensor));
        chunk_states.iter().for_each(|chunks| memory.output("chunk_states", &chunks.states));
        memory.check(OP)?;
        Ok(CheckedOutputs { out, final_state, chunk_states })
    }
}
