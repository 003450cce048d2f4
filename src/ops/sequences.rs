//! How the sequences of a call lie, packed or in rows of a batch.

use crate::segments::{Segments, Span};
use std::ops::Range;

/// How the sequences of a call lie along seqlen, and tiles of them.
///
/// Every sequence has a tile at least, so that an empty one has somebody to write its state. Packed, sequence `s` owns the
/// tiles from `cu_seqlens[s] / steps + s` on, of which the last may be empty: a kernel finds the sequence of a tile from
/// cu_seqlens alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sequences<'a> {
    pub segments: Option<&'a Segments>,
    pub nseqs: usize,
    pub seqlen: usize,
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
