//! Vectors of channels: the last few rows of a sequence in a ring.

use super::Rows;
use super::taps::{by_width, convolve};
use pulp::Simd;
use std::ops::Range;

/// As many rows as there are taps; row `p` lies where row `p - width` lay.
pub(super) struct Ring<'m> {
    memory: &'m mut [f32],
    width: usize,
    len: usize,
}

impl<'m> Ring<'m> {
    /// Rows of zeros.
    #[inline(always)]
    pub fn new(width: usize, len: usize, memory: &'m mut [f32]) -> Self {
        let memory = &mut memory[..width * len];
        memory.fill(0.0);
        Self { memory, width, len }
    }

    #[inline(always)]
    pub fn row(&self, p: usize) -> &[f32] {
        &self.memory[p % self.width * self.len..][..self.len]
    }

    #[inline(always)]
    pub fn row_mut(&mut self, p: usize) -> &mut [f32] {
        &mut self.memory[p % self.width * self.len..][..self.len]
    }

    /// `to = bias + sum_w weight[w] row(first + w)`, for the channels from `d` on.
    #[inline(always)]
    pub fn convolve<S: Simd>(&self, simd: S, rows: Rows<'_>, d: usize, first: usize, to: &mut [f32]) {
        let vectors = |w| S::as_simd_f32s(rows.row(w, d, self.len)).0;
        let bias = vectors(self.width);
        by_width!(self.width, W => {
            let weights: [&[S::f32s]; 16] = std::array::from_fn(|w| if w < self.width { vectors(w) } else { bias });
            convolve::<S, W>(simd, 0..self.width, |i| bias[i], |w, i| weights[w][i], |w| self.row(first + w), to);
        });
    }

    /// `to = sum_w weight[w] row(last - w)` over those taps.
    #[inline(always)]
    pub fn convolve_back<S: Simd>(
        &self,
        simd: S,
        rows: Rows<'_>,
        [d, last]: [usize; 2],
        taps: Range<usize>,
        to: &mut [f32],
    ) {
        let vectors = |w| S::as_simd_f32s(rows.row(w, d, self.len)).0;
        let zero = simd.splat_f32s(0.0);
        let all = if taps == (0..self.width) { self.width } else { 0 };
        by_width!(all, W => {
            let weights: [&[S::f32s]; 16] = std::array::from_fn(|w| vectors(w.min(self.width - 1)));
            // Rows are taken modulo their number, and never is `last - w` negative then.
            let row = |w| self.row(last + self.width - w);
            convolve::<S, W>(simd, taps, |_| zero, |w, i| weights[w][i], row, to);
        });
    }
}
