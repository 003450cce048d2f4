//! The two passes over a window's steps, of a few vectors of states: forth for decays and states, and back for gradients.

use super::memory::{Passes, Scratch};
use super::retreat::Wanted;
use crate::cpu::math::decay::{Decay, Held, exponents, rates};
use crate::cpu::math::lanes::fma;
use crate::cpu::selective_scan::advance::Projected;
use crate::cpu::selective_scan::ahead::{Ahead, SOME};
use crate::cpu::selective_scan::lines::{load, load_some, store};
use crate::cpu::selective_scan::memory::{LANES, Shape};
use pulp::Simd;

/// Where some vectors of states find what they need, in elements.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The first state of the first vector, and the channel of its first lane.
    n: usize,
    channel: usize,
    /// In A, the states and all that has their form: the first vector, and how far it is to the next.
    states: [usize; 2],
    /// In y and the other sums over states: the first step, and how far it is to the next.
    steps: [usize; 2],
    /// In the sums for dB and dC: the first step of the first vector, how far it is to the next, and to the next vector.
    sums: [usize; 3],
    /// Lanes, from the first on, that have a state.
    lanes: usize,
    /// Nothing has been summed up over states before.
    fresh: bool,
}

impl Place {
    /// State `n`, whose sums are at `place`, of `lanes` channels from `lane` on.
    #[inline(always)]
    pub fn of_channels(shape: &Shape, steps: usize, [n, place]: [usize; 2], [lane, lanes]: [usize; 2]) -> Self {
        Self {
            n: n + place,
            channel: lane,
            states: [(n + place) * shape.width + lane, shape.width],
            steps: [lane, shape.width],
            sums: [place * steps * LANES + lane % LANES, LANES, steps * LANES],
            lanes,
            fresh: n + place == 0,
        }
    }

    /// States of `channel` from `n` on, `lane` being the vector's place among the [`LANES`] of each block.
    #[inline(always)]
    pub fn of_states(shape: &Shape, channel: usize, [n, lane]: [usize; 2]) -> Self {
        let first = n + lane;
        Self {
            n: first,
            channel,
            states: [channel * shape.pitch() + first, LANES],
            steps: [lane, LANES],
            sums: [first, shape.pitch(), LANES],
            lanes: shape.dstate.saturating_sub(first),
            fresh: n == 0,
        }
    }

    /// All bits of the lanes that have a state, none of others.
    #[inline(always)]
    fn mask<S: Simd>(&self) -> S::f32s {
        const MASKS: [f32; 2 * LANES] = {
            let mut masks = [0.0; 2 * LANES];
            let mut i = 0;
            while i < LANES {
                masks[i] = f32::from_bits(u32::MAX);
                i += 1;
            }
            masks
        };
        load::<S>(&MASKS[LANES - self.lanes.min(LANES)..])
    }
}

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

/// What has a place for each step, as pointers: bounds are looked at once, by [`Window::look`].
struct Lines<const K: usize> {
    place: Place,
    width: usize,
    delta: *const f32,
    delta_x: *const f32,
    g: *const f32,
    /// y, and the sums over states of dh B and of what comes by the decay.
    sums: [*mut f32; 3],
    /// What dB and dC have summed up.
    projections: [*mut f32; 2],
    B: Projected<K>,
    C: Projected<K>,
    /// Of each step and vector: the decay, and the state before it.
    saved: *mut f32,
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

/// A vector of states on its way back.
#[derive(Clone, Copy)]
struct Vector<S: Simd, const HELD: bool> {
    A: S::f32s,
    /// The state after the next step.
    h: S::f32s,
    /// The gradient by the state before the step that was worked on last.
    dh: Held<S, HELD>,
    dA: S::f32s,
    /// dB and dC, if constant.
    projections: [S::f32s; 2],
}

/// A step of some channels, and what is summed up over their states.
struct Step<S: Simd> {
    delta: S::f32s,
    delta_x: S::f32s,
    /// The gradient by the output before the gate.
    g: S::f32s,
    y: S::f32s,
    by_input: S::f32s,
    by_decay: S::f32s,
}

/// What a vector has at one step.
struct Here<S: Simd> {
    B: S::f32s,
    C: S::f32s,
    decay: S::f32s,
    before: S::f32s,
    /// Where dB and dC are summed up, if variable.
    sums: [Option<*mut f32>; 2],
}

impl<S: Simd, const HELD: bool> Vector<S, HELD> {
    /// # Safety
    /// The sums are memory of this call's own.
    #[inline(always)]
    unsafe fn back<const ALL: bool>(&mut self, simd: S, wanted: Wanted, step: &mut Step<S>, here: Here<S>) {
        let Here { B, C, decay, before, sums } = here;
        let dh = if ALL || wanted.output {
            if ALL || wanted.projections[1] {
                // SAFETY: the caller's promise.
                unsafe { add::<S>(simd, step.g, self.h, sums[1], &mut self.projections[1]) };
            }
            if wanted.y {
                step.y = fma(simd, self.h, C, step.y);
            }
            self.dh.plus(simd, step.g, C)
        } else {
            self.dh.whole(simd)
        };
        if ALL || wanted.projections[0] {
            // SAFETY: the caller's promise.
            unsafe { add::<S>(simd, dh, step.delta_x, sums[0], &mut self.projections[0]) };
        }
        if ALL || wanted.by_input {
            step.by_input = fma(simd, dh, B, step.by_input);
        }
        self.dh = Held::new(simd, decay, dh);
        if ALL || wanted.dA || wanted.ddt {
            let both = self.dh.times_beside(simd, before, [[step.delta, self.dA], [self.A, step.by_decay]]);
            self.dA = fma(simd, both, step.delta, self.dA);
            step.by_decay = fma(simd, both, self.A, step.by_decay);
        }
        self.h = before;
    }
}

impl<const K: usize> Lines<K> {
    /// Where dB (0) or dC (1) are summed up, if variable.
    ///
    /// # Safety
    /// The place lies inside the memory.
    #[inline(always)]
    unsafe fn sum(&self, of: usize, constant: [bool; 2], at: usize) -> Option<*mut f32> {
        // SAFETY: the caller's promise.
        if constant[of] { None } else { Some(unsafe { self.projections[of].add(at) }) }
    }

    /// Of a row of channels: those in the lanes, or one for all lanes.
    ///
    /// # Safety
    /// The row lies inside the memory.
    #[inline(always)]
    unsafe fn of<S: Simd, const STATES: bool>(&self, simd: S, rows: *const f32, row: usize) -> S::f32s {
        let at = row * self.width + self.place.channel;
        // SAFETY: the caller's promise.
        unsafe { if STATES { simd.splat_f32s(*rows.add(at)) } else { vector_at::<S>(rows, at) } }
    }

    /// # Safety
    /// The row lies inside the memory.
    #[inline(always)]
    unsafe fn step<S: Simd, const ALL: bool, const STATES: bool>(
        &self,
        simd: S,
        mask: S::f32s,
        row: usize,
        wanted: Wanted,
    ) -> Step<S> {
        let (zero, at) = (simd.splat_f32s(0.0), self.place.steps[0] + row * self.place.steps[1]);
        // SAFETY: the caller's promise.
        unsafe {
            let mut step = Step {
                delta: self.of::<S, STATES>(simd, self.delta, row),
                delta_x: masked::<S, ALL>(simd, mask, self.of::<S, STATES>(simd, self.delta_x, row)),
                g: zero,
                y: zero,
                by_input: zero,
                by_decay: zero,
            };
            if ALL || wanted.output {
                step.g = masked::<S, ALL>(simd, mask, self.of::<S, STATES>(simd, self.g, row));
            }
            if !self.place.fresh {
                step.y = vector_at::<S>(self.sums[0], at);
                step.by_input = vector_at::<S>(self.sums[1], at);
                step.by_decay = vector_at::<S>(self.sums[2], at);
            }
            step
        }
    }

    /// # Safety
    /// The row lies inside the memory.
    #[inline(always)]
    unsafe fn put<S: Simd>(&self, row: usize, step: Step<S>, wanted: Wanted) {
        let at = self.place.steps[0] + row * self.place.steps[1];
        // SAFETY: the caller's promise.
        unsafe {
            if wanted.y {
                self.sums[0].add(at).cast::<S::f32s>().write_unaligned(step.y);
            }
            self.sums[1].add(at).cast::<S::f32s>().write_unaligned(step.by_input);
            self.sums[2].add(at).cast::<S::f32s>().write_unaligned(step.by_decay);
        }
    }
}

/// `v`, and 0 in lanes without a state: nothing infinite makes NaN of that, which sums over the lanes would take in. `ALL`: every
/// lane has one.
#[inline(always)]
fn masked<S: Simd, const ALL: bool>(simd: S, mask: S::f32s, v: S::f32s) -> S::f32s {
    if ALL {
        return v;
    }
    simd.transmute_f32s_u32s(simd.and_u32s(simd.transmute_u32s_f32s(v), simd.transmute_u32s_f32s(mask)))
}

/// The vector at place `at`.
///
/// # Safety
/// It lies inside the memory.
#[inline(always)]
unsafe fn vector_at<S: Simd>(memory: *const f32, at: usize) -> S::f32s {
    // SAFETY: the caller's promise.
    unsafe { memory.add(at).cast::<S::f32s>().read_unaligned() }
}

/// Adds a b to the vector at `sum`, or, without one, to `own`.
///
/// # Safety
/// It is memory of this call's own.
#[inline(always)]
unsafe fn add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, sum: Option<*mut f32>, own: &mut S::f32s) {
    let Some(sum) = sum else {
        *own = fma(simd, a, b, *own);
        return;
    };
    let sum = sum.cast::<S::f32s>();
    // SAFETY: the caller's promise.
    unsafe { sum.write_unaligned(fma(simd, a, b, sum.read_unaligned())) }
}
