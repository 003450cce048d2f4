//! The arguments of one selective scan after all checks, in canonical order: what backends see.

use super::{CONSTANT, Dims, OP, Projection, VARIABLE};
use crate::error::{Error, Result};
use crate::ops::StepOptions;
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
}

impl<T, S: Storage> Inputs<'_, T, S> {
    /// Sequence `seq` of the call.
    pub fn span(&self, seq: usize) -> Span {
        let reverse = self.reverse;
        match self.segments {
            Some(segments) => {
                let (start, len) = segments.bounds(seq);
                Span { batch: 0, start, len, reverse }
            }
            None => Span { batch: seq, start: 0, len: self.dims.seqlen, reverse },
        }
    }

    /// First row of `chunk_states` of each sequence, and, last, the number of rows.
    pub fn chunk_offsets(&self, every: usize) -> Result<Vec<usize>> {
        chunk_offsets(OP, every, (0..self.dims.nseqs).map(|seq| self.span(seq).len))
    }

    pub(super) fn record(&self, memory: &mut Memory) {
        memory.input("x", &self.x);
        memory.input("dt", &self.dt);
        memory.input("A", &self.A);
        self.B.record("B", memory);
        self.C.record("C", memory);
        self.D.iter().for_each(|tensor| memory.input("D", tensor));
        self.z.iter().for_each(|tensor| memory.input("z", tensor));
        self.dt_bias.iter().for_each(|tensor| memory.input("dt_bias", tensor));
        self.initial_state.iter().for_each(|tensor| memory.input("initial_state", tensor));
        self.segments_table.iter().for_each(|table| memory.input("segments_table", &Strided::flat(*table)));
    }
}

/// Everything that a backend writes, checked.
pub(crate) struct CheckedOutputs<'o, T: 'o, S: Storage> {
    pub out: StridedMut<'o, T, S, 3>,
    pub final_state: Option<StridedMut<'o, f32, S, 3>>,
    pub chunk_states: Option<ChunkStates<'o, S>>,
}

/// Where the state after each full `every` steps goes.
pub(crate) struct ChunkStates<'o, S: Storage> {
    pub every: usize,
    pub offsets: Vec<usize>,
    pub states: StridedMut<'o, f32, S, 3>,
}
