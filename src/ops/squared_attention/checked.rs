//! The arguments of one squared attention after all checks, in canonical order: what backends see.

use super::{Dims, NORM, OP, STATE};
use crate::error::Result;
use crate::ops::Sequences;
use crate::segments::Segments;
use crate::tensor::{Memory, Storage, Strided, StridedMut, View};

/// State and norm of each sequence.
pub(crate) struct States<'a, S: Storage> {
    /// (nseqs, nheads, features, vdim).
    pub state: Strided<'a, f32, S, 4>,
    /// (nseqs, nheads, features).
    pub norm: Strided<'a, f32, S, 3>,
}

impl<'a, S: Storage> States<'a, S> {
    pub fn check(
        [state_name, norm_name]: [&'static str; 2],
        (state, norm): (View<'a, f32, S>, View<'a, f32, S>),
        dims: Dims,
    ) -> Result<Self> {
        Ok(Self {
            state: state.align_to(OP, state_name, STATE, dims.state())?,
            norm: norm.align_to(OP, norm_name, NORM, dims.norm())?,
        })
    }
}

impl Dims {
    /// The extents of a state.
    pub(super) fn state(&self) -> [usize; 4] {
        [self.nseqs, self.nheads, self.features(), self.vdim]
    }

    /// The extents of a norm.
    pub(super) fn norm(&self) -> [usize; 3] {
        [self.nseqs, self.nheads, self.features()]
    }
}

/// Everything that a backend reads, checked.
pub(crate) struct Inputs<'a, T: 'a, S: Storage> {
    pub dims: Dims,
    /// (batch, nheads, seqlen, dim).
    pub q: Strided<'a, T, S, 4>,
    pub k: Strided<'a, T, S, 4>,
    /// (batch, nheads, seqlen, vdim).
    pub v: Strided<'a, T, S, 4>,
    /// (batch, nheads, seqlen).
    pub log_decay: Strided<'a, f32, S, 3>,
    pub scale_squared: f32,
    pub initial: Option<States<'a, S>>,
    pub segments: Option<&'a Segments>,
    /// If the caller says.
    pub chunk_size: Option<usize>,
}

impl<'a, T, S: Storage> Inputs<'a, T, S> {
    pub fn sequences(&self) -> Sequences<'a> {
        Sequences { segments: self.segments, nseqs: self.dims.nseqs, seqlen: self.dims.seqlen }
    }

    pub fn memory(&self) -> Memory {
        let mut memory = Memory::default();
        memory.input("q", &self.q);
        memory.input("k", &self.k);
        memory.input("v", &self.v);
        memory.input("log_decay", &self.log_decay);
        if let Some(initial) = &self.initial {
            memory.input("initial_state", &initial.state);
            memory.input("initial_norm", &initial.norm);
        }
        memory
    }
}

/// Everything that the forward direction writes, checked.
pub(crate) struct CheckedOutputs<'o, T: 'o, S: Storage> {
    pub out: StridedMut<'o, T, S, 4>,
    pub final_state: Option<StridedMut<'o, f32, S, 4>>,
    pub final_norm: Option<StridedMut<'o, f32, S, 3>>,
}

impl<T, S: Storage> CheckedOutputs<'_, T, S> {
    /// Nothing is written.
    pub fn are_empty(&self) -> bool {
        self.out.layout.is_empty()
            && self.final_state.as_ref().is_none_or(|state| state.layout.is_empty())
            && self.final_norm.as_ref().is_none_or(|norm| norm.layout.is_empty())
    }
}

/// What the backward direction reads beside the inputs, checked.
pub(crate) struct CheckedUpstream<'u, T: 'u, S: Storage> {
    pub dout: Option<Strided<'u, T, S, 4>>,
    pub dfinal_state: Option<Strided<'u, f32, S, 4>>,
    pub dfinal_norm: Option<Strided<'u, f32, S, 3>>,
}

/// What the backward direction writes, checked.
pub(crate) struct CheckedGradients<'o, T: 'o, S: Storage> {
    pub dq: Option<StridedMut<'o, T, S, 4>>,
    pub dk: Option<StridedMut<'o, T, S, 4>>,
    pub dv: Option<StridedMut<'o, T, S, 4>>,
    pub dlog_decay: Option<StridedMut<'o, f32, S, 3>>,
    pub dinitial_state: Option<StridedMut<'o, f32, S, 4>>,
    pub dinitial_norm: Option<StridedMut<'o, f32, S, 3>>,
}

impl<T, S: Storage> CheckedGradients<'_, T, S> {
    /// Nothing is written.
    pub fn are_empty(&self) -> bool {
        let empty = |tensor: &Option<StridedMut<'_, T, S, 4>>| tensor.as_ref().is_none_or(|t| t.layout.is_empty());
        let narrow = |tensor: &Option<StridedMut<'_, f32, S, 3>>| tensor.as_ref().is_none_or(|t| t.layout.is_empty());
        empty(&self.dq)
            && empty(&self.dk)
            && empty(&self.dv)
            && narrow(&self.dlog_decay)
            && self.dinitial_state.as_ref().is_none_or(|state| state.layout.is_empty())
            && narrow(&self.dinitial_norm)
    }
}
