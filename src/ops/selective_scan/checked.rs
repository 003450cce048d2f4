//! The arguments of one selective scan after all checks, in canonical order: what backends see.

use super::{CONSTANT, Dims, OP, Projection, ProjectionMut, VARIABLE, checkpoint_every};
use crate::error::{Error, Result};
use crate::ops::{Sequences, StepOptions};
use crate::segments::{Segments, Span, chunk_offsets};
use crate::tensor::{Element, Host, Memory, Slice, Storage, Strided, StridedMut};

/// B or C in canonical order. `channels` is the number of channels that share a row of a variable one.
pub(crate) enum AlignedProjection<'a, T: 'a, S: Storage> {
    Variable { tensor: Strided<'a, T, S, 4>, channels: usize },
    Constant(Strided<'a, f32, S, 2>),
}

impl<'a, T, S: Storage> AlignedProjection<'a, T, S> {
    pub(super) fn align(arg: &'static str, projection: Projection<'a, T, S>, dims: [usize; 4]) -> Result<Self> {
        let [batch, dim, seqlen, dstate] = dims;
        let view = match projection {
            Projection::Constant(view) => {
                return Ok(Self::Constant(view.align_to(OP, arg, CONSTANT, [dim, dstate])?));
            }
            Projection::Variable(view) => view,
        };
        let tensor = view.align(OP, arg, VARIABLE)?;
        let ngroups = tensor.layout.extents[1];
        tensor.layout.expect_shape(OP, arg, VARIABLE, [batch, ngroups, dstate, seqlen])?;
        if dim > 0 && (ngroups == 0 || dim % ngroups != 0) {
            let (got, expected) =
                (format!("in {ngroups} groups"), format!("a number of groups that divides dim {dim}"));
            return Err(Error::Value { op: OP, arg, got, expected });
        }
        Ok(Self::Variable { tensor, channels: dim / ngroups.max(1) })
    }

    fn record(&self, name: &'static str, memory: &mut Memory) {
        match self {
            Self::Variable { tensor, .. } => memory.input(name, tensor),
            Self::Constant(tensor) => memory.input(name, tensor),
        }
    }
}

impl<T: Element> AlignedProjection<'_, T, Host> {
    /// B[b, g(d), n, t] or B[d, n], as f32.
    #[inline(always)]
    pub fn at(&self, b: usize, d: usize, n: usize, t: usize) -> f32 {
        match self {
            Self::Variable { tensor, channels } => tensor.at([b, d / channels, n, t]).to_f32(),
            Self::Constant(tensor) => tensor.at([d, n]),
        }
    }
}

/// Everything that a backend reads, checked.
pub(crate) struct Inputs<'a, T: 'a, S: Storage> {
    pub dims: Dims,
    pub x: Strided<'a, T, S, 3>,
    pub dt: Strided<'a, T, S, 3>,
    pub A: Strided<'a, f32, S, 2>,
    pub B: AlignedProjection<'a, T, S>,
    pub C: AlignedProjection<'a, T, S>,
    pub D: Option<Strided<'a, f32, S, 1>>,
    pub z: Option<Strided<'a, T, S, 3>>,
    pub dt_bias: Option<Strided<'a, f32, S, 1>>,
    pub step: StepOptions,
    pub initial_state: Option<Strided<'a, f32, S, 3>>,
    pub segments: Option<&'a Segments>,
    pub segments_table: Option<Slice<'a, i32, S>>,
    pub reverse: bool,
    /// Parts that each sequence is to be cut into, if the caller says.
    pub split: Option<usize>,
}

impl<T, S: Storage> Inputs<'_, T, S> {
    fn sequences(&self) -> Sequences<'_> {
        Sequences { segments: self.segments, nseqs: self.dims.nseqs, seqlen: self.dims.seqlen }
    }

    /// Sequence `seq` of the call.
    pub fn span(&self, seq: usize) -> Span {
        Span { reverse: self.reverse, ..self.sequences().span(seq) }
    }

    /// First row of `chunk_states` of each sequence, and, last, the number of rows.
    pub fn chunk_offsets(&self, every: usize) -> Result<Vec<usize>> {
        chunk_offsets(OP, every, (0..self.dims.nseqs).map(|seq| self.span(seq).len))
    }

    /// Steps between checkpoints.
    pub fn checkpoint_every(&self) -> usize {
        checkpoint_every(self.dims.dstate)
    }

    /// Length of the longest sequence.
    pub fn longest(&self) -> usize {
        self.sequences().longest()
    }

    pub fn memory(&self) -> Memory {
        let mut memory = Memory::default();
        memory.input("x", &self.x);
        memory.input("dt", &self.dt);
        memory.input("A", &self.A);
        self.B.record("B", &mut memory);
        self.C.record("C", &mut memory);
        self.D.iter().for_each(|tensor| memory.input("D", tensor));
        self.z.iter().for_each(|tensor| memory.input("z", tensor));
        self.dt_bias.iter().for_each(|tensor| memory.input("dt_bias", tensor));
        self.initial_state.iter().for_each(|tensor| memory.input("initial_state", tensor));
        self.segments_table.iter().for_each(|table| memory.input("segments_table", &Strided::flat(*table)));
        memory
    }
}

/// Everything that a backend writes, checked.
pub(crate) struct CheckedOutputs<'o, T: 'o, S: Storage> {
    pub out: Option<StridedMut<'o, T, S, 3>>,
    pub final_state: Option<StridedMut<'o, f32, S, 3>>,
    pub chunk_states: Option<ChunkStates<'o, S>>,
    pub delta_sum: Option<StridedMut<'o, f32, S, 2>>,
}

impl<T, S: Storage> CheckedOutputs<'_, T, S> {
    /// Nothing is written.
    pub fn are_empty(&self) -> bool {
        let chunks = self.chunk_states.as_ref().map(|chunks| &chunks.states);
        let states = [self.final_state.as_ref(), chunks].into_iter().flatten();
        self.out.as_ref().is_none_or(|out| out.layout.is_empty())
            && states.into_iter().all(|states| states.layout.is_empty())
            && self.delta_sum.as_ref().is_none_or(|sum| sum.layout.is_empty())
    }
}

/// Where the state after each full `every` steps goes.
pub(crate) struct ChunkStates<'o, S: Storage> {
    pub every: usize,
    pub offsets: Vec<usize>,
    pub states: StridedMut<'o, f32, S, 3>,
}

/// What the backward direction reads beside the inputs, checked.
pub(crate) struct CheckedUpstream<'u, T: 'u, S: Storage> {
    pub dout: Option<Strided<'u, T, S, 3>>,
    pub dfinal_state: Option<Strided<'u, f32, S, 3>>,
    /// Steps between them, the states, and the first row of each sequence.
    pub checkpoints: Option<(usize, Strided<'u, f32, S, 3>, Vec<usize>)>,
}

/// What the backward direction writes, checked.
pub(crate) struct CheckedGradients<'o, T: 'o, S: Storage> {
    pub dx: Option<StridedMut<'o, T, S, 3>>,
    pub ddt: Option<StridedMut<'o, T, S, 3>>,
    pub dz: Option<StridedMut<'o, T, S, 3>>,
    pub dA: Option<StridedMut<'o, f32, S, 2>>,
    pub dB: Option<AlignedProjectionMut<'o, T, S>>,
    pub dC: Option<AlignedProjectionMut<'o, T, S>>,
    pub dD: Option<StridedMut<'o, f32, S, 1>>,
    pub ddt_bias: Option<StridedMut<'o, f32, S, 1>>,
    pub dinitial_state: Option<StridedMut<'o, f32, S, 3>>,
}

#[cfg(any(feature = "cuda", feature = "emulator"))]
impl<T, S: Storage> CheckedGradients<'_, T, S> {
    /// Whether any of them needs the states; without a gradient of the output, dC and dz do not.
    pub fn need_states(&self, dout: bool) -> bool {
        let of_output = dout && (self.dC.is_some() || self.dz.is_some());
        self.ddt.is_some() || self.ddt_bias.is_some() || self.dA.is_some() || of_output
    }

    /// No other is asked for.
    pub fn only_initial_state(&self) -> bool {
        let of_inputs = self.dx.is_some() || self.dB.is_some() || self.dD.is_some();
        !of_inputs && self.dC.is_none() && self.dz.is_none() && !self.need_states(true)
    }
}

/// dB or dC in canonical order, of the same kind as B or C.
pub(crate) enum AlignedProjectionMut<'o, T: 'o, S: Storage> {
    Variable { tensor: StridedMut<'o, T, S, 4>, channels: usize },
    Constant(StridedMut<'o, f32, S, 2>),
}

impl<'o, T, S: Storage> AlignedProjectionMut<'o, T, S> {
    /// `arg` is the gradient of `of`, the input `source`.
    pub(super) fn align(
        arg: &'static str,
        gradient: ProjectionMut<'o, T, S>,
        of: &'static str,
        source: &AlignedProjection<'_, T, S>,
    ) -> Result<Self> {
        let (got, wanted) = match (gradient, source) {
            (ProjectionMut::Variable(view), AlignedProjection::Variable { tensor, channels }) => {
                let tensor = view.align_to(OP, arg, VARIABLE, tensor.layout.extents)?;
                return Ok(Self::Variable { tensor, channels: *channels });
            }
            (ProjectionMut::Constant(view), AlignedProjection::Constant(tensor)) => {
                return Ok(Self::Constant(view.align_to(OP, arg, CONSTANT, tensor.layout.extents)?));
            }
            (ProjectionMut::Variable(_), AlignedProjection::Constant(_)) => ("variable", "constant"),
            (ProjectionMut::Constant(_), AlignedProjection::Variable { .. }) => ("constant", "variable"),
        };
        Err(Error::Value { op: OP, arg, got: got.into(), expected: format!("a {wanted} one like `{of}`") })
    }

    pub(super) fn record(&self, name: &'static str, memory: &mut Memory) {
        match self {
            Self::Variable { tensor, .. } => memory.output(name, tensor),
            Self::Constant(tensor) => memory.output(name, tensor),
        }
    }
}
