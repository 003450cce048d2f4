//! Rows of steps and states: from the tensors into a worker's memory, and back.

use super::TILE;
use super::decays::times;
use super::features::Shape;
use crate::cpu::writer::Writer;
use crate::tensor::{Element, Host, Strided};
use std::ops::Range;

/// Features that are turned over together.
const TURN: usize = 16;

/// Which head of which sequence: the first two indices of its tensors, and those of its states.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    pub batch: usize,
    pub head: usize,
    pub seq: usize,
    /// Where the sequence begins along seqlen.
    pub start: usize,
}

/// The elements of steps `steps` as rows, `pitch` apart; what lies behind the elements of a row stays as it is.
pub fn load<T: Element>(tensor: &Strided<'_, T, Host, 4>, at: Head, steps: Range<usize>, to: &mut [f32], pitch: usize) {
    let width = tensor.layout.extents[3];
    if width == 0 {
        return;
    }
    for (t, row) in steps.zip(to.chunks_exact_mut(pitch)) {
        tensor.run([at.batch, at.head, at.start + t, 0], 3, &mut row[..width]);
    }
}

/// Writes the rows of steps `steps`.
///
/// # Safety
/// Nobody else writes these elements at the same time.
pub unsafe fn store<T: Element>(writer: &Writer<'_, T, 4>, at: Head, steps: Range<usize>, from: &[f32], pitch: usize) {
    let width = writer.layout().extents[3];
    if width == 0 {
        return;
    }
    for (t, row) in steps.zip(from.chunks_exact(pitch)) {
        // SAFETY: the caller's promise; the steps are the sequence's.
        unsafe { writer.run([at.batch, at.head, at.start + t, 0], 3, &row[..width]) };
    }
}

/// The first `width` elements of `count` rows, `pitch` apart, as rows of steps; 0 for the steps of a tile that there are not.
#[inline(always)]
pub fn turn(from: &[f32], pitch: usize, [count, width]: [usize; 2], to: &mut [f32]) {
    let to = &mut to[..width * TILE];
    if width == 0 {
        return;
    }
    if count < TILE {
        to.fill(0.0);
    }
    for t in 0..count {
        let row = &from[t * pitch..][..width];
        for (to, &value) in to[t..].iter_mut().step_by(TILE).zip(row) {
            *to = value;
        }
    }
}

/// The other way round, times a factor for each step: added to the first elements of the rows.
#[inline(always)]
pub fn add_turned(from: &[f32], factors: &[f32], [count, width]: [usize; 2], to: &mut [f32], pitch: usize) {
    if width == 0 {
        return;
    }
    for t in 0..count {
        let (row, factor) = (&mut to[t * pitch..][..width], factors[t]);
        for (to, &value) in row.iter_mut().zip(from[t..].iter().step_by(TILE)) {
            *to += times(value, factor);
        }
    }
}

/// A state (features, vdim) and its norm as rows of features.
pub fn load_state(
    shape: Shape,
    state: Option<&Strided<'_, f32, Host, 4>>,
    norm: Option<&Strided<'_, f32, Host, 3>>,
    at: Head,
    to: &mut [f32],
    rows: &mut [f32],
) {
    let (vdim, pitch) = (shape.values - 1, shape.pitch());
    to[..shape.state()].fill(0.0);
    if let Some(norm) = norm {
        norm.run([at.seq, at.head, 0], 2, &mut to[vdim * pitch..][..shape.features]);
    }
    let Some(state) = state.filter(|_| vdim > 0) else { return };
    for first in (0..shape.features).step_by(TURN) {
        let count = TURN.min(shape.features - first);
        for (f, row) in (first..first + count).zip(rows.chunks_exact_mut(vdim)) {
            state.run([at.seq, at.head, f, 0], 3, row);
        }
        for p in 0..vdim {
            for (f, to) in to[p * pitch + first..][..count].iter_mut().enumerate() {
                *to = rows[f * vdim + p];
            }
        }
    }
}

/// The other way round.
///
/// # Safety
/// Nobody else writes the state of this head at the same time.
pub unsafe fn store_state(
    shape: Shape,
    from: &[f32],
    at: Head,
    state: Option<&Writer<'_, f32, 4>>,
    norm: Option<&Writer<'_, f32, 3>>,
    rows: &mut [f32],
) {
    let (vdim, pitch) = (shape.values - 1, shape.pitch());
    if let Some(norm) = norm.filter(|_| shape.features > 0) {
        // SAFETY: the caller's promise.
        unsafe { norm.run([at.seq, at.head, 0], 2, &from[vdim * pitch..][..shape.features]) };
    }
    let Some(state) = state.filter(|_| vdim > 0) else { return };
    for first in (0..shape.features).step_by(TURN) {
        let count = TURN.min(shape.features - first);
        for p in 0..vdim {
            for (f, &from) in from[p * pitch + first..][..count].iter().enumerate() {
                rows[f * vdim + p] = from;
            }
        }
        for (f, row) in (first..first + count).zip(rows.chunks_exact(vdim)) {
            // SAFETY: the caller's promise.
            unsafe { state.run([at.seq, at.head, f, 0], 3, row) };
        }
    }
}

/// f32 of `rows` for [`load_state`] and [`store_state`].
pub fn turn_floats(shape: Shape) -> usize {
    shape.values.saturating_mul(TURN)
}
