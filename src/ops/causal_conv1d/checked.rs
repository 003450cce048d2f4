//! The arguments of one causal convolution after all checks, in canonical order: what backends see.

use super::{Dims, MOST_WIDTH, WEIGHT};
use crate::error::{Error, Result};
use crate::segments::{Segments, Span};
use crate::tensor::{Element, Memory, Slice, Storage, Strided, StridedMut, View};
use std::ops::Range;

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

/// How the sequences of a call lie along seqlen, and tiles of them.
///
/// Every sequence has a tile at least, so that an empty one has somebody to write its state. Packed, sequence `s` owns the
/// tiles from `cu_seqlens[s] / steps + s` on, of which the last may be empty: a kernel finds the sequence of a tile from
/// cu_seqlens alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sequences<'a> {
    segments: Option<&'a Segments>,
    pub nseqs: usize,
    seqlen: usize,
}

impl Sequences<'_> {
    /// Where a sequence lies.
    pub fn span(&self, seq: usize) -> Span {
        match self.segments {
            Some(segments) => {
                let (start, len) = segments.bounds(seq);
                Span { batch: 0, start, len, reverse: false }
            }
            None => Span { batch: seq, start: 0, len: self.seqlen, reverse: false },
        }
    }

    /// Length of the longest.
    pub fn longest(&self) -> usize {
        match self.segments {
            Some(segments) => (0..segments.nseqs()).map(|seq| segments.bounds(seq).1).max().unwrap_or(0),
            None => self.seqlen,
        }
    }

    /// The first tile of a sequence; of the sequence after the last, the number of tiles.
    pub fn first_tile(&self, steps: usize, seq: usize) -> usize {
        match self.segments {
            Some(segments) => segments.cu_seqlens()[seq] as usize / steps + seq,
            None => seq.saturating_mul(self.seqlen.div_ceil(steps).max(1)),
        }
    }

    /// Number of tiles.
    pub fn tiles(&self, steps: usize) -> usize {
        self.first_tile(steps, self.nseqs)
    }

    /// The sequence of a tile and its steps there, if it is in use.
    pub fn tile(&self, steps: usize, tile: usize) -> Option<(usize, Range<usize>)> {
        let seq = match self.segments {
            Some(_) => {
                let (mut low, mut high) = (0, self.nseqs);
                while high - low > 1 {
                    let middle = low + (high - low) / 2;
                    if self.first_tile(steps, middle) <= tile { low = middle } else { high = middle }
                }
                low
            }
            None => tile / self.seqlen.div_ceil(steps).max(1),
        };
        let (len, from) = (self.span(seq).len, (tile - self.first_tile(steps, seq)) * steps);
        (from < len || from == 0).then(|| (seq, from..(from + steps).min(len)))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn expect_covered(sequences: &Sequences<'_>, steps: usize) {
        let mut next = vec![0; sequences.nseqs];
        let mut met = vec![0; sequences.nseqs];
        for tile in 0..sequences.tiles(steps) {
            let Some((seq, range)) = sequences.tile(steps, tile) else { continue };
            assert!(range.start == next[seq] && range.len() <= steps, "{sequences:?}");
            assert!((sequences.first_tile(steps, seq)..sequences.first_tile(steps, seq + 1)).contains(&tile));
            next[seq] = range.end;
            met[seq] += 1;
        }
        for seq in 0..sequences.nseqs {
            let len = sequences.span(seq).len;
            assert_eq!((next[seq], met[seq]), (len, len.div_ceil(steps).max(1)), "{sequences:?}");
        }
    }

    #[test]
    fn tiles_cover_every_sequence_once() {
        for lengths in [vec![], vec![0], vec![5, 0, 0, 1, 17], vec![8, 8, 16], vec![7, 9, 1], vec![1; 30]] {
            let ends = lengths.iter().scan(0, |end, len| {
                *end += len;
                Some(*end)
            });
            let boundaries: Vec<i32> = std::iter::once(0).chain(ends).collect();
            let segments = Segments::new(&boundaries).expect("valid");
            for steps in [1, 3, 8, 100] {
                let packed = Sequences { segments: Some(&segments), nseqs: segments.nseqs(), seqlen: segments.total() };
                expect_covered(&packed, steps);
                expect_covered(&Sequences { segments: None, nseqs: lengths.len(), seqlen: 17 }, steps);
                expect_covered(&Sequences { segments: None, nseqs: 2, seqlen: 0 }, steps);
            }
        }
    }
}
