//! The recurrence with states of one channel in the lanes of a vector: for few channels, and for a single step.

use super::ahead::{Ahead, SOME};
use super::memory::Memory;
use crate::cpu::along_states::{Factors, MOST_ROWS, SUMS, halved, sixteen};
use pulp::Simd;
use std::ops::Range;

/// [`Advance`](super::advance::Advance), where lanes lie along states.
pub(super) struct AlongStates<'w, 'm> {
    pub memory: &'w mut Memory<'m>,
    pub A: &'w [f32],
    pub channels: usize,
    pub steps: usize,
    pub back: bool,
    pub output: bool,
    pub ahead: &'w mut Ahead,
}

impl AlongStates<'_, '_> {
    #[inline(always)]
    pub fn run<S: Simd>(mut self, simd: S, factors: impl Factors<S>) {
        let blocks = (0..self.channels).step_by(MOST_ROWS);
        // A copy: what lies elsewhere is read again after every store.
        let mut ahead = *self.ahead;
        let lines = ahead.share(blocks.len() * self.steps.div_ceil(SOME));
        for first in blocks {
            let channels = first..(first + MOST_ROWS).min(self.channels);
            for i in 0..self.steps {
                let row = if self.back { self.steps - 1 - i } else { i };
                self.step(simd, factors, row, channels.clone());
                if i % SOME == 0 {
                    ahead.ask(lines);
                }
            }
        }
    }

    /// The staged step `row` of some channels.
    #[inline(always)]
    fn step<S: Simd>(&mut self, simd: S, factors: impl Factors<S>, row: usize, channels: Range<usize>) {
        let Memory { shape, state, delta, delta_x, y, B, C, halves, .. } = &mut *self.memory;
        let (place, pitch) = (row * shape.width + channels.start, shape.pitch());
        let steps = [delta, delta_x].map(|rows| &rows[place..][..channels.len()]);
        let states = channels.start * pitch..channels.end * pitch;
        let (A, h) = (&self.A[states.clone()], &mut state[states]);
        if pitch == SUMS && !B.constant && !C.constant {
            let [B, C] = [B, C].map(|rows| &rows.memory[row * pitch..]);
            halves.sixteens(simd, factors, steps, [A, B, C], h);
        } else {
            // Where the rows of the first channel begin, and how far it is to the next channel's.
            let [B, C] = [B, C].map(|rows| match rows.constant {
                true => (&rows.memory[channels.start * pitch..], pitch),
                false => (&rows.memory[row * pitch..], 0),
            });
            let states = h.chunks_exact_mut(pitch).zip(A.chunks_exact(pitch));
            for (c, ((h, A), (&delta, &delta_x))) in states.zip(steps[0].iter().zip(steps[1])).enumerate() {
                let [B, C] = [B, C].map(|(rows, by_channel)| rows[c * by_channel..][..pitch].as_chunks::<SUMS>().0);
                let steps = [simd.splat_f32s(delta), simd.splat_f32s(delta_x)];
                let mut sums = [simd.splat_f32s(0.0); SUMS];
                for (((h, A), B), C) in h.as_chunks_mut().0.iter_mut().zip(A.as_chunks().0).zip(B).zip(C) {
                    sixteen(simd, factors, steps, [A, B, C], h, &mut sums);
                }
                halves.rows[c] = halved::<S>(&sums);
            }
        }
        if self.output {
            halves.add(simd, channels.len(), &mut y[place..]);
        }
    }
}
