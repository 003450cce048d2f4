//! The arguments of one causal convolution after all checks, in canonical order: what backends see.

use super::{Dims, MOST_WIDTH, WEIGHT};
use crate::error::{Error, Result};
use crate::ops::Sequences;
use crate::segments::Segments;
use crate::tensor::{Element, Memory, Slice, Storage, Strided, StridedMut, View};

/// What each channel is convolved with.
pub(crate) struct Weights<'a, W: 'a, S: Storage> {
    pub weight: Strided<'a, W, S, 2>,
    pub bias: Option<Strided<'a, W, S, 1>>,
    pub silu: bool,
}

impl<'a, W: Element, S: Storage> Weights<'a, W, S> {
    /// For an x of `dim` channels.
    pub(super) fn check(
        op: &'static str,
        weight: View<'a, W, S>,
        bias: Option<View<'a, W, S>>,
        silu: bool,
        dim: usize,
    ) -> Result<Self> {
        let weight = weight.align(op, "weight", WEIGHT)?;
        let width = weight.layout.extents[1];
        if !(1..=MOST_WIDTH).contains(&width) {
            let (got, expected) = (format!("of width {width}"), format!("a width from 1 to {MOST_WIDTH}"));
            return Err(Error::Value { op, arg: "weight", got, expected });
        }
        weight.layout.expect_shape(op, "weight", WEIGHT, [dim, width])?;
        let bias = bias.map(|view| view.align_to(op, "bias", ["dim"], [dim])).transpose()?;
        Ok(Self { weight, bias, silu })
    }

    /// Number of taps.
    pub fn width(&self) -> usize {
        self.weight.layout.extents[1]
    }

    pub(super) fn record(&self, memory: &mut Memory) {
        memory.input("weight", &self.weight);
        self.bias.iter().for_each(|tensor| memory.input("bias", tensor));
    }
}

/// Everything that a backend reads, checked.
pub(crate) struct Inputs<'a, T: 'a, W: 'a, S: Storage> {
    pub dims: Dims,
    pub x: Strided<'a, T, S, 3>,
    pub weights: Weights<'a, W, S>,
    pub initial_state: Option<Strided<'a, T, S, 3>>,
    pub segments: Option<&'a Segments>,
    pub segments_table: Option<Slice<'a, i32, S>>,
}

impl<'a, T, W: Element, S: Storage> Inputs<'a, T, W, S> {
    pub fn sequences(&self) -> Sequences<'a> {
        Sequences { segments: self.segments, nseqs: self.dims.nseqs, seqlen: self.dims.seqlen }
    }

    pub fn memory(&self) -> Memory {
        let mut memory = Memory::default();
        memory.input("x", &self.x);
        self.weights.record(&mut memory);
        self.initial_state.iter().for_each(|tensor| memory.input("initial_state", tensor));
        self.segments_table.iter().for_each(|table| memory.input("segments_table", &Strided::flat(*table)));
        memory
    }
}

/// Everything that the forward direction writes, checked.
pub(crate) struct CheckedOutputs<'o, T: 'o, S: Storage> {
    pub out: StridedMut<'o, T, S, 3>,
    pub final_state: Option<StridedMut<'o, T, S, 3>>,
}

impl<T, S: Storage> CheckedOutputs<'_, T, S> {
    /// Nothing is written.
    pub fn are_empty(&self) -> bool {
        self.out.layout.is_empty() && self.final_state.as_ref().is_none_or(|state| state.layout.is_empty())
    }
}

/// What the backward direction reads beside the inputs, checked.
pub(crate) struct CheckedUpstream<'u, T: 'u, S: Storage> {
    pub dout: Option<Strided<'u, T, S, 3>>,
    pub dfinal_state: Option<Strided<'u, T, S, 3>>,
}

/// What the backward direction writes, checked.
pub(crate) struct CheckedGradients<'o, T: 'o, W: 'o, S: Storage> {
    pub dx: Option<StridedMut<'o, T, S, 3>>,
    pub dweight: Option<StridedMut<'o, W, S, 2>>,
    pub dbias: Option<StridedMut<'o, W, S, 1>>,
    pub dinitial_state: Option<StridedMut<'o, T, S, 3>>,
}

impl<T, W, S: Storage> CheckedGradients<'_, T, W, S> {
    /// Neither dx nor dinitial_state has an element.
    pub fn no_elements(&self) -> bool {
        let empty = |tensor: &Option<StridedMut<'_, T, S, 3>>| tensor.as_ref().is_none_or(|t| t.layout.is_empty());
        empty(&self.dx) && empty(&self.dinitial_state)
    }
}
