//! A few vectors of states: where they lie, and a step of theirs on the way back.

use super::retreat::Wanted;
use crate::cpu::math::decay::Held;
use crate::cpu::math::lanes::fma;
use crate::cpu::selective_scan::advance::Projected;
use crate::cpu::selective_scan::lines::load;
use crate::cpu::selective_scan::memory::{LANES, Shape};
use pulp::Simd;

/// Where some vectors of states find what they need, in elements.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The first state of the first vector, and the channel of its first lane.
    pub n: usize,
    pub channel: usize,
    /// In A, the states and all that has their form: the first vector, and how far it is to the next.
    pub states: [usize; 2],
    /// In y and the other sums over states: the first step, and how far it is to the next.
    pub steps: [usize; 2],
    /// In the sums for dB and dC: the first step of the first vector, how far it is to the next, and to the next vector.
    pub sums: [usize; 3],
    /// Lanes, from the first on, that have a state.
    pub lanes: usize,
    /// Nothing has been summed up over states before.
    pub fresh: bool,
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
    pub fn mask<S: Simd>(&self) -> S::f32s {
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

/// What has a place for each step, as pointers: bounds are looked at once, by [`Window::look`].
pub(super) struct Lines<const K: usize> {
    pub place: Place,
    pub width: usize,
    pub delta: *const f32,
    pub delta_x: *const f32,
    pub g: *const f32,
    /// y, and the sums over states of dh B and of what comes by the decay.
    pub sums: [*mut f32; 3],
    /// What dB and dC have summed up.
    pub projections: [*mut f32; 2],
    pub B: Projected<K>,
    pub C: Projected<K>,
    /// Of each step and vector: the decay, and the state before it.
    pub saved: *mut f32,
}

/// A vector of states on its way back.
#[derive(Clone, Copy)]
pub(super) struct Vector<S: Simd, const HELD: bool> {
    pub A: S::f32s,
    /// The state after the next step.
    pub h: S::f32s,
    /// The gradient by the state before the step that was worked on last.
    pub dh: Held<S, HELD>,
    pub dA: S::f32s,
    /// dB and dC, if constant.
    pub projections: [S::f32s; 2],
}

/// A step of some channels, and what is summed up over their states.
pub(super) struct Step<S: Simd> {
    pub delta: S::f32s,
    pub delta_x: S::f32s,
    /// The gradient by the output before the gate.
    pub g: S::f32s,
    pub y: S::f32s,
    pub by_input: S::f32s,
    pub by_decay: S::f32s,
}

/// What a vector has at one step.
pub(super) struct Here<S: Simd> {
    pub B: S::f32s,
    pub C: S::f32s,
    pub decay: S::f32s,
    pub before: S::f32s,
    /// Where dB and dC are summed up, if variable.
    pub sums: [Option<*mut f32>; 2],
}

impl<S: Simd, const HELD: bool> Vector<S, HELD> {
    /// # Safety
    /// The sums are memory of this call's own.
    #[inline(always)]
    pub unsafe fn back<const ALL: bool>(&mut self, simd: S, wanted: Wanted, step: &mut Step<S>, here: Here<S>) {
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
    pub unsafe fn sum(&self, of: usize, constant: [bool; 2], at: usize) -> Option<*mut f32> {
        // SAFETY: the caller's promise.
        if constant[of] { None } else { Some(unsafe { self.projections[of].add(at) }) }
    }

    /// Of a row of channels: those in the lanes, or one for all lanes.
    ///
    /// # Safety
    /// The row lies inside the memory.
    #[inline(always)]
    pub unsafe fn of<S: Simd, const STATES: bool>(&self, simd: S, rows: *const f32, row: usize) -> S::f32s {
        let at = row * self.width + self.place.channel;
        // SAFETY: the caller's promise.
        unsafe { if STATES { simd.splat_f32s(*rows.add(at)) } else { vector_at::<S>(rows, at) } }
    }

    /// # Safety
    /// The row lies inside the memory.
    #[inline(always)]
    pub unsafe fn step<S: Simd, const ALL: bool, const STATES: bool>(
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
    pub unsafe fn put<S: Simd>(&self, row: usize, step: Step<S>, wanted: Wanted) {
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
pub(super) fn masked<S: Simd, const ALL: bool>(simd: S, mask: S::f32s, v: S::f32s) -> S::f32s {
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
pub(super) unsafe fn vector_at<S: Simd>(memory: *const f32, at: usize) -> S::f32s {
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
