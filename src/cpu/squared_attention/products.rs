//! Products of small matrices, added to a third. An element is one chain of fused multiply-adds over the depth, in order, so
//! that its bits depend neither on the width of vectors nor on the blocks.

use super::LANES;
use crate::cpu::math::lanes::fma;
use pulp::{Simd, WithSimd};

/// The left factor: its element (row, k) lies at `row by_row + k by_depth`.
#[derive(Clone, Copy)]
pub struct Left<'m> {
    pub memory: &'m [f32],
    pub by_row: usize,
    pub by_depth: usize,
}

/// A row of vectors for each step of the depth, `pitch` apart.
#[derive(Clone, Copy)]
pub struct Right<'m> {
    pub memory: &'m [f32],
    pub pitch: usize,
}

/// Rows of a result, `pitch` apart.
pub struct Sums<'m> {
    pub memory: &'m mut [f32],
    pub pitch: usize,
}

/// How many elements of each are touched.
#[derive(Clone, Copy)]
pub struct Extents {
    pub rows: usize,
    pub depth: usize,
    /// A multiple of [`LANES`].
    pub columns: usize,
}

/// `to += left right`. A function of its own with the instructions of `simd`: once for all that call it.
#[inline(always)]
pub fn add<S: Simd>(simd: S, extents: Extents, left: Left<'_>, right: Right<'_>, to: Sums<'_>) {
    simd.vectorize(Add { extents, left, right, to });
}

struct Add<'m> {
    extents: Extents,
    left: Left<'m>,
    right: Right<'m>,
    to: Sums<'m>,
}

impl WithSimd for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { extents: Extents { rows, depth, columns }, left, right, to } = self;
        if rows == 0 || depth == 0 || columns == 0 {
            return;
        }
        // Beyond counting is beyond any memory.
        let reach = |terms: [(usize, usize); 2], last: usize| {
            let sum = |reach: usize, (steps, by): (usize, usize)| reach.saturating_add(steps.saturating_mul(by));
            terms.into_iter().fold(last, sum)
        };
        assert!(columns.is_multiple_of(LANES) && LANES.is_multiple_of(S::F32_LANES), "whole vectors");
        let terms = [(rows - 1, left.by_row), (depth - 1, left.by_depth)];
        assert!(reach(terms, 1) <= left.memory.len(), "left factor");
        assert!(reach([(depth - 1, right.pitch), (0, 0)], columns) <= right.memory.len(), "right factor");
        assert!(reach([(rows - 1, to.pitch), (0, 0)], columns) <= to.memory.len(), "sums");
        let pointers = Pointers {
            left: left.memory.as_ptr(),
            by_row: left.by_row,
            by_depth: left.by_depth,
            right: right.memory.as_ptr(),
            right_pitch: right.pitch,
            to: to.memory.as_mut_ptr(),
            to_pitch: to.pitch,
            depth,
        };
        let lanes = S::F32_LANES;
        let mut column = 0;
        while column < columns {
            // SAFETY: rows, depth and columns lie inside the memories, as just seen; two vectors only where both are inside.
            column += unsafe {
                if column + 2 * lanes <= columns {
                    pointers.all_rows::<S, 2>(simd, rows, column);
                    2 * lanes
                } else {
                    pointers.all_rows::<S, 1>(simd, rows, column);
                    lanes
                }
            };
        }
    }
}

#[derive(Clone, Copy)]
struct Pointers {
    left: *const f32,
    by_row: usize,
    by_depth: usize,
    right: *const f32,
    right_pitch: usize,
    to: *mut f32,
    to_pitch: usize,
    depth: usize,
}

impl Pointers {
    /// `V` vectors of columns from `column` on.
    ///
    /// # Safety
    /// All that the extents name lies inside the memories.
    #[inline(always)]
    unsafe fn all_rows<S: Simd, const V: usize>(self, simd: S, rows: usize, column: usize) {
        let mut row = 0;
        // SAFETY: the caller's promise.
        unsafe {
            // As many sums as registers hold beside the factors.
            if S::REGISTER_COUNT >= 32 {
                while row + 8 <= rows {
                    self.block::<S, 8, V>(simd, row, column);
                    row += 8;
                }
            }
            while row + 4 <= rows {
                self.block::<S, 4, V>(simd, row, column);
                row += 4;
            }
            while row < rows {
                self.block::<S, 1, V>(simd, row, column);
                row += 1;
            }
        }
    }

    /// # Safety
    /// As for [`all_rows`](Self::all_rows).
    #[inline(always)]
    unsafe fn block<S: Simd, const R: usize, const V: usize>(self, simd: S, row: usize, column: usize) {
        let lanes = S::F32_LANES;
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        // SAFETY: the caller's promise; vectors may lie anywhere.
        unsafe {
            let to = self.to.add(row * self.to_pitch + column);
            for (r, sums) in sums.iter_mut().enumerate() {
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = to.add(r * self.to_pitch + v * lanes).cast::<S::f32s>().read_unaligned();
                }
            }
            let mut left = self.left.add(row * self.by_row);
            let mut right = self.right.add(column);
            for k in 0..self.depth {
                let mut factors = [simd.splat_f32s(0.0); V];
                for (v, factor) in factors.iter_mut().enumerate() {
                    *factor = right.add(v * lanes).cast::<S::f32s>().read_unaligned();
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let scalar = simd.splat_f32s(*left.add(r * self.by_row));
                    for (sum, &factor) in sums.iter_mut().zip(&factors) {
                        *sum = fma(simd, scalar, factor, *sum);
                    }
                }
                if k + 1 < self.depth {
                    left = left.add(self.by_depth);
                    right = right.add(self.right_pitch);
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                for (v, &sum) in sums.iter().enumerate() {
                    to.add(r * self.to_pitch + v * lanes).cast::<S::f32s>().write_unaligned(sum);
                }
            }
        }
    }
}
