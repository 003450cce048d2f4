//! The two passes over a window's steps, of a few vectors of states: forth for decays and states, and back for gradients.

use super::memory::{Passes, Scratch};
use super::retreat::Wanted;
use super::vectors::{Here, Lines, Place, Vector, masked, vector_at};
use crate::cpu::math::decay::{Decay, Held, exponents, rates};
use crate::cpu::selective_scan::ahead::{Ahead, SOME};
use crate::cpu::selective_scan::lines::{load, load_some, store};
use crate::cpu::selective_scan::memory::LANES;
use pulp::Simd;

/// A window of staged steps, and what is made of it.
pub(super) struct Window<'w, 'm> {
    pub scratch: &'w mut Scratch<'m>,
    pub A: &'w [f32],
    pub passes: Passes<'w>,
    pub steps: usize,
    pub back: bool,
    pub wanted: Wanted,
    pub ahead: Ahead,
    /// To be asked for every [`SOME`] steps.
    pub lines: usize,
}

impl Window<'_, '_> {
    /// The row of a step of the scan.
    #[inline(always)]
    fn row(&self, step: usize) -> usize {
        if self.back { self.steps - 1 - step } else { step }
    }

    /// K vectors of states.
    #[inline(always)]
    pub fn states_of<S: Simd, const K: usize>(memory: &[f32], place: &Place) -> [S::f32s; K] {
        load_some::<S, K>(memory, place.states[0], place.states[1])
    }

    /// Panics if anything that the two passes touch is outside its memory.
    #[inline(always)]
    pub fn look<S: Simd, const K: usize, const STATES: bool>(&mut self, place: &Place) {
        let (steps, last) = (self.steps, self.steps - 1);
        let (scratch, passes) = (&mut *self.scratch, &mut self.passes);
        let Scratch { tile, g, by_input, by_decay, projections, .. } = scratch;
        let lanes = if STATES { 1 } else { S::F32_LANES };
        let room = last * tile.shape.width + place.channel + lanes;
        assert!(place.channel + lanes <= tile.shape.width);
        assert!([&*tile.delta, tile.delta_x, g].iter().all(|rows| room <= rows.len()));
        assert!(passes.saved.len() >= K * 2 * steps * LANES);
        for (of, rows) in [&tile.B, &tile.C].into_iter().enumerate() {
            let sums = if STATES { projections[of].len() } else { passes.sums[of].len() };
            let room = place.sums[0] + last * place.sums[1] + (K - 1) * place.sums[2] + S::F32_LANES;
            assert!((STATES && rows.constant) || room <= sums);
            for (row, k) in [0, last].into_iter().flat_map(|row| (0..K).map(move |k| (row, k))) {
                match STATES {
                    true => rows.check_states::<S>(place.n + k * LANES, row, place.channel),
                    false => rows.check::<S>(place.n + k, row, place.channel),
                }
            }
        }
        let sums = if STATES { passes.of_steps() } else { [&mut *tile.y, &mut **by_input, &mut **by_decay] };
        let room = place.steps[0] + last * place.steps[1] + S::F32_LANES;
        assert!(sums.iter().all(|sums| room <= sums.len()));
    }

    #[inline(always)]
    fn lines<const K: usize, const STATES: bool>(&mut self, place: Place) -> Lines<K> {
        let Scratch { tile, g, by_input, by_decay, projections, .. } = &mut *self.scratch;
        let passes = &mut self.passes;
        let (B, C) = match STATES {
            true => (tile.B.along_states(place.n, place.channel), tile.C.along_states(place.n, place.channel)),
            false => (tile.B.of(place.n, place.channel), tile.C.of(place.n, place.channel)),
        };
        let projections = match (STATES, projections, &mut passes.sums) {
            (true, [dB, dC], _) => [dB.as_mut_ptr(), dC.as_mut_ptr()],
            (false, _, [dB, dC]) => [dB.as_mut_ptr(), dC.as_mut_ptr()],
        };
        let [y, by_input, by_decay] = match STATES {
            true => passes.of_steps(),
            false => [&mut *tile.y, &mut **by_input, &mut **by_decay],
        };
        Lines {
            place,
            width: tile.shape.width,
            delta: tile.delta.as_ptr(),
            delta_x: tile.delta_x.as_ptr(),
            g: g.as_ptr(),
            sums: [y.as_mut_ptr(), by_input.as_mut_ptr(), by_decay.as_mut_ptr()],
            projections,
            B,
            C,
            saved: passes.saved.as_mut_ptr(),
        }
    }

    /// The decay of each step and the state before it, in scan order. Returns the states after the last step. `HELD`: decays
    /// may be tiny.
    #[inline(always)]
    pub fn save<S: Simd, const K: usize, const ALL: bool, const STATES: bool, const HELD: bool>(
        &mut self,
        simd: S,
        decay: impl Decay,
        place: &Place,
    ) -> [S::f32s; K] {
        let lines = self.lines::<K, STATES>(*place);
        let rates = rates(simd, Self::states_of::<S, K>(self.A, place));
        let mut h = Self::states_of::<S, K>(self.scratch.tile.state, place);
        let (mask, states, last) = (place.mask::<S>(), ALL || self.wanted.states, self.steps - 1);
        // A window before this one may have made NaN of nothing.
        for h in &mut h {
            *h = masked::<S, ALL>(simd, mask, *h);
        }
        // SAFETY: `look` has looked at the first and the last step, and this one is between them.
        let mut exponents =
            unsafe { exponents(simd, decay, lines.of::<S, STATES>(simd, lines.delta, self.row(0)), &rates) };
        for i in 0..self.steps {
            let (row, next) = (self.row(i), self.row((i + 1).min(last)));
            // SAFETY: as above.
            unsafe {
                // A step ahead, as forward.
                let step = lines.of::<S, STATES>(simd, lines.delta, next);
                let input = masked::<S, ALL>(simd, mask, lines.of::<S, STATES>(simd, lines.delta_x, row));
                for (k, h) in h.iter_mut().enumerate() {
                    let power = exponents[k].power(simd);
                    exponents[k] = decay.exponent(simd, step, rates[k]);
                    let decay = masked::<S, ALL>(simd, mask, decay.held(simd, power));
                    let to = lines.saved.add((i * K + k) * 2 * LANES);
                    to.cast::<S::f32s>().write_unaligned(decay);
                    to.add(LANES).cast::<S::f32s>().write_unaligned(*h);
                    if states {
                        let B = masked::<S, ALL>(simd, mask, lines.B.lanes_at::<S, ALL, STATES>(simd, k, row));
                        *h = Held::<S, HELD>::advance(simd, decay, *h, simd.mul_f32s(input, B));
                    }
                }
            }
        }
        h
    }

    /// From the last step to the first; `after` are the states after the last.
    #[inline(always)]
    pub fn back<S: Simd, const K: usize, const ALL: bool, const STATES: bool, const HELD: bool>(
        &mut self,
        simd: S,
        place: &Place,
        after: [S::f32s; K],
    ) {
        let lines = self.lines::<K, STATES>(*place);
        let (mask, wanted) = (place.mask::<S>(), self.wanted);
        let constant = [!ALL && lines.B.constant, !ALL && lines.C.constant];
        let mut vectors = self.vectors::<S, K, HELD>(simd, place, after, constant);
        for i in (0..self.steps).rev() {
            let row = self.row(i);
            // SAFETY: `look` has looked at the first and the last step, and this one is between them.
            unsafe {
                let mut step = lines.step::<S, ALL, STATES>(simd, mask, row, wanted);
                for (k, vector) in vectors.iter_mut().enumerate() {
                    let from = lines.saved.add((i * K + k) * 2 * LANES);
                    let sum = place.sums[0] + row * place.sums[1] + k * place.sums[2];
                    let here = Here {
                        B: masked::<S, ALL>(simd, mask, lines.B.lanes_at::<S, ALL, STATES>(simd, k, row)),
                        C: masked::<S, ALL>(simd, mask, lines.C.lanes_at::<S, ALL, STATES>(simd, k, row)),
                        decay: vector_at::<S>(from, 0),
                        before: vector_at::<S>(from, LANES),
                        sums: [lines.sum(0, constant, sum), lines.sum(1, constant, sum)],
                    };
                    vector.back::<ALL>(simd, wanted, &mut step, here);
                }
                lines.put(row, step, wanted);
            }
            if i % SOME == 0 {
                self.ahead.ask(self.lines);
            }
        }
        self.store(simd, place, vectors, constant);
    }

    #[inline(always)]
    fn vectors<S: Simd, const K: usize, const HELD: bool>(
        &self,
        simd: S,
        place: &Place,
        after: [S::f32s; K],
        constant: [bool; 2],
    ) -> [Vector<S, HELD>; K] {
        let scratch = &*self.scratch;
        let A = Self::states_of::<S, K>(self.A, place);
        let dh = Self::states_of::<S, K>(scratch.adjoint, place);
        let dA = Self::states_of::<S, K>(scratch.dA, place);
        let zero = simd.splat_f32s(0.0);
        // Not closures: those need not be inlined, and then compute without the instructions.
        let one = Vector { A: zero, h: zero, dh: Held::plain(simd, zero), dA: zero, projections: [zero; 2] };
        let mut vectors = [one; K];
        for (k, vector) in vectors.iter_mut().enumerate() {
            (vector.A, vector.h, vector.dA) = (A[k], after[k], dA[k]);
            vector.dh = Held::plain(simd, dh[k]);
            let at = place.states[0] + k * place.states[1];
            for ((own, from), is) in vector.projections.iter_mut().zip(&scratch.projections).zip(constant) {
                if is {
                    *own = load::<S>(&from[at..]);
                }
            }
        }
        vectors
    }

    #[inline(always)]
    fn store<S: Simd, const K: usize, const HELD: bool>(
        &mut self,
        simd: S,
        place: &Place,
        vectors: [Vector<S, HELD>; K],
        constant: [bool; 2],
    ) {
        for (k, vector) in vectors.into_iter().enumerate() {
            let at = place.states[0] + k * place.states[1];
            store::<S>(self.scratch.adjoint, at, vector.dh.whole(simd));
            store::<S>(self.scratch.dA, at, vector.dA);
            for ((own, to), is) in vector.projections.into_iter().zip(&mut self.scratch.projections).zip(constant) {
                if is {
                    store::<S>(to, at, own);
                }
            }
        }
    }
}
