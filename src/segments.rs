//! Packed sequences: several sequences of different lengths laid end to end along `seqlen`, batch 1.

use crate::error::{Error, Result};

/// The boundaries of packed sequences, checked once and reused by every call on the same packing.
///
/// Built from `cu_seqlens`: the start of each sequence and, last, the total length. It starts at 0 and never
/// decreases; two equal neighbours are an empty sequence.
///
/// ```
/// let segments = ssm_kernels::Segments::new(&[0, 17, 17, 58])?;
/// assert_eq!(segments.nseqs(), 3);
/// assert_eq!(segments.total(), 58);
/// assert_eq!(segments.chunk_offsets(8)?, [0, 2, 2, 7]);
/// # Ok::<(), ssm_kernels::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segments {
    cu_seqlens: Vec<i32>,
}

impl Segments {
    /// From the field's `cu_seqlens`.
    #[doc(alias = "query_start_loc")]
    pub fn new(cu_seqlens: &[i32]) -> Result<Self> {
        let refuse = |got: String, expected: &str| Error::Value {
            op: "segments",
            arg: "cu_seqlens",
            got,
            expected: expected.into(),
        };
        match cu_seqlens.first() {
            Some(0) => {}
            Some(first) => return Err(refuse(format!("starting at {first}"), "a start at 0")),
            None => return Err(refuse("empty".into(), "a start at 0 and an end")),
        }
        if let Some(i) = cu_seqlens.windows(2).position(|pair| pair[1] < pair[0]) {
            let got = format!("falling from {} to {} at index {}", cu_seqlens[i], cu_seqlens[i + 1], i + 1);
            return Err(refuse(got, "values that never decrease"));
        }
        Ok(Self { cu_seqlens: cu_seqlens.to_vec() })
    }

    /// The boundaries as given.
    pub fn cu_seqlens(&self) -> &[i32] {
        &self.cu_seqlens
    }

    /// Number of sequences, empty ones included.
    pub fn nseqs(&self) -> usize {
        self.cu_seqlens.len() - 1
    }

    /// Sum of the lengths.
    pub fn total(&self) -> usize {
        self.cu_seqlens[self.nseqs()] as usize
    }

    /// Sequence `seq` as (start, length).
    pub fn bounds(&self, seq: usize) -> (usize, usize) {
        let (start, end) = (self.cu_seqlens[seq] as usize, self.cu_seqlens[seq + 1] as usize);
        (start, end - start)
    }

    /// First chunk state of each sequence when one is kept every `every` steps, and, last, their total.
    ///
    /// Chunks count from each sequence's start in scan order; a last partial chunk has no state of its own.
    pub fn chunk_offsets(&self, every: usize) -> Result<Vec<usize>> {
        chunk_offsets("segments", every, (0..self.nseqs()).map(|seq| self.bounds(seq).1))
    }
}

/// Running count of full chunks over sequences of these lengths.
pub(crate) fn chunk_offsets(
    op: &'static str,
    every: usize,
    lengths: impl ExactSizeIterator<Item = usize>,
) -> Result<Vec<usize>> {
    if every == 0 {
        return Err(Error::Value { op, arg: "every", got: "0".into(), expected: "at least 1 step".into() });
    }
    let mut offsets = Vec::new();
    let count = lengths.len().saturating_add(1);
    let refused = |_| Error::OutOfMemory {
        what: format!("chunk offsets of {op}"),
        bytes: Some(count.saturating_mul(size_of::<usize>())),
    };
    offsets.try_reserve_exact(count).map_err(refused)?;
    offsets.push(0);
    let mut total = 0usize;
    for len in lengths {
        total = total.checked_add(len / every).ok_or_else(|| Error::Value {
            op,
            arg: "every",
            got: every.to_string(),
            expected: format!("so many steps that the chunks of all sequences are at most {}", usize::MAX),
        })?;
        offsets.push(total);
    }
    Ok(offsets)
}

/// One sequence of a call: where its elements lie, and in which order the scan visits them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub batch: usize,
    pub start: usize,
    pub len: usize,
    pub reverse: bool,
}

impl Span {
    /// Position along `seqlen` of the scan's step `step`.
    #[inline(always)]
    pub fn time(&self, step: usize) -> usize {
        if self.reverse { self.start + self.len - 1 - step } else { self.start + step }
    }

    /// Positions along `seqlen` of some steps.
    #[inline(always)]
    pub fn times(&self, steps: std::ops::Range<usize>) -> std::ops::Range<usize> {
        match self.reverse {
            true => self.start + self.len - steps.end..self.start + self.len - steps.start,
            false => self.start + steps.start..self.start + steps.end,
        }
    }
}
