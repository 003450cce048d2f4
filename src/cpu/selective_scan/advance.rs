//! The recurrence, over the channels of a tile: a vector has one channel in each lane, or states of one channel.

use super::ahead::Ahead;
use super::along_states::AlongStates;
use super::lines::{load, store};
use super::memory::{Lanes, Memory, Rows};
use crate::cpu::along_states::Each;
use crate::cpu::math::exp::{Any, Range, UpTo70, exp};
use crate::cpu::math::lanes::fma;
use pulp::{Simd, WithSimd};

/// States whose steps are interleaved.
const TOGETHER: usize = 4;

/// Runs `steps` staged steps of `channels` channels, in time's order or `back` from the last one. y becomes the output
/// before D and gate, if `output`. `decays`: no exponent is positive. `meanwhile` is called now and then, with what share of
/// the work is done.
#[inline(always)]
pub(super) fn advance<S: Simd>(
    simd: S,
    memory: &mut Memory<'_>,
    channels: usize,
    steps: usize,
    back: bool,
    [decays, output]: [bool; 2],
    mut meanwhile: impl FnMut(f32),
) {
    if memory.shape.dstate == 0 {
        memory.y[..steps * memory.shape.width].fill(0.0);
    }
    if memory.shape.lanes == Lanes::States {
        let along = AlongStates { memory, channels, steps, back, output };
        match decays {
            true => along.run(simd, Each(UpTo70), meanwhile),
            false => along.run(simd, Each(Any), meanwhile),
        }
        return;
    }
    let vectors = channels.div_ceil(S::F32_LANES);
    let share = 1.0 / (vectors * memory.shape.dstate) as f32;
    for vector in 0..vectors {
        let mut walk = Walk { memory, lane: vector * S::F32_LANES, steps, back, output };
        let dstate = walk.memory.shape.dstate;
        let meanwhile = |n: usize| meanwhile((vector * dstate + n) as f32 * share);
        if decays {
            walk.states(simd, UpTo70, meanwhile);
        } else {
            walk.states(simd, Any, meanwhile);
        }
    }
}

/// [`advance`] without output.
pub(super) struct Advance<'w, 'm> {
    pub memory: &'w mut Memory<'m>,
    pub channels: usize,
    pub steps: usize,
    pub back: bool,
    pub decays: bool,
    /// What is read next.
    pub ahead: Ahead,
}

impl WithSimd for Advance<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        const PARTS: usize = 64;
        let mut fetched = 0;
        advance(simd, self.memory, self.channels, self.steps, self.back, [self.decays, false], |done| {
            let next = (done * PARTS as f32) as usize;
            self.ahead.fetch([fetched, next], PARTS);
            fetched = next;
        });
    }
}

struct Walk<'w, 'm> {
    memory: &'w mut Memory<'m>,
    lane: usize,
    steps: usize,
    back: bool,
    output: bool,
}

impl Walk<'_, '_> {
    #[inline(always)]
    fn states<S: Simd>(&mut self, simd: S, range: impl Range, mut meanwhile: impl FnMut(usize)) {
        let dstate = self.memory.shape.dstate;
        let shared = !self.memory.B.constant && !self.memory.C.constant;
        let together = if shared { dstate / TOGETHER * TOGETHER } else { 0 };
        for n in (0..together).step_by(TOGETHER) {
            if self.output {
                self.run::<S, TOGETHER, true, true>(simd, range, n);
            } else {
                self.run::<S, TOGETHER, true, false>(simd, range, n);
            }
            meanwhile(n + TOGETHER);
        }
        for n in together..dstate {
            self.run::<S, 1, false, true>(simd, range, n);
            meanwhile(n + 1);
        }
    }

    /// All steps of K states from `n` on. `VARIABLE`: neither B nor C is constant. `OUTPUT`: there may be one.
    #[inline(always)]
    fn run<S: Simd, const K: usize, const VARIABLE: bool, const OUTPUT: bool>(
        &mut self,
        simd: S,
        range: impl Range,
        n: usize,
    ) {
        let (width, lane) = (self.memory.shape.width, self.lane);
        let vector = |slice: &[f32], row: usize| load::<S>(&slice[row * width + lane..]);
        let A: [S::f32s; K] = std::array::from_fn(|k| vector(self.memory.A, n + k));
        let mut h: [S::f32s; K] = std::array::from_fn(|k| vector(self.memory.state, n + k));
        let (B, C) = (&self.memory.B, &self.memory.C);
        // Both ends of what is read below.
        let (last, zero) = (self.steps - 1, simd.splat_f32s(0.0));
        for row in [0, last] {
            vector(self.memory.delta, row);
            vector(self.memory.delta_x, row);
            vector(self.memory.y, row);
            for k in 0..K {
                B.check::<S>(n + k, row, lane);
                C.check::<S>(n + k, row, lane);
            }
        }
        let (B, C) = (B.of::<K>(n, lane), C.of::<K>(n, lane));
        let output = OUTPUT && (VARIABLE || self.output);
        let (delta, delta_x, y) =
            (self.memory.delta.as_ptr(), self.memory.delta_x.as_ptr(), self.memory.y.as_mut_ptr());
        for i in 0..self.steps {
            let row = if self.back { last - i } else { i };
            let at = row * width + lane;
            // SAFETY: the rows of the first and the last step have been looked at, and this one is between them.
            unsafe {
                let step = delta.add(at).cast::<S::f32s>().read_unaligned();
                let input = delta_x.add(at).cast::<S::f32s>().read_unaligned();
                let y = y.add(at).cast::<S::f32s>();
                let mut sum = if n == 0 || !output { zero } else { y.read_unaligned() };
                for (k, h) in h.iter_mut().enumerate() {
                    let decay = exp(simd, range, simd.mul_f32s(step, A[k]));
                    let input = simd.mul_f32s(input, B.at::<S, VARIABLE>(simd, k, row));
                    *h = fma(simd, decay, *h, input);
                    if output {
                        sum = fma(simd, *h, C.at::<S, VARIABLE>(simd, k, row), sum);
                    }
                }
                if output {
                    y.write_unaligned(sum);
                }
            }
        }
        for (k, h) in h.into_iter().enumerate() {
            store::<S>(self.memory.state, (n + k) * width + lane, h);
        }
    }
}

impl Rows<'_> {
    /// Panics if state `n` of step `row` is outside the memory.
    #[inline(always)]
    pub fn check<S: Simd>(&self, n: usize, row: usize, lane: usize) {
        if self.constant {
            load::<S>(&self.memory[n * self.by_state + lane..]);
        } else {
            assert!(n * self.by_state + row * self.by_step < self.memory.len());
        }
    }

    /// K states from `n` on, for the vector of channels from `lane` on.
    #[inline(always)]
    pub fn of<const K: usize>(&self, n: usize, lane: usize) -> Projected<K> {
        let lane = if self.constant { lane } else { 0 };
        let starts = std::array::from_fn(|k| self.memory.as_ptr().wrapping_add((n + k) * self.by_state + lane));
        Projected { starts, by_step: self.by_step, constant: self.constant }
    }
}

/// B or C of some states: copied out of [`Rows`], so that no store can be thought to change where it lies.
#[derive(Debug, Clone, Copy)]
pub struct Projected<const K: usize> {
    starts: [*const f32; K],
    by_step: usize,
    pub constant: bool,
}

impl<const K: usize> Projected<K> {
    /// The `k`th state of step `row` for each lane. `VARIABLE`: it is not constant.
    ///
    /// # Safety
    /// It lies inside the memory.
    #[inline(always)]
    pub unsafe fn at<S: Simd, const VARIABLE: bool>(&self, simd: S, k: usize, row: usize) -> S::f32s {
        // SAFETY: the caller's promise.
        unsafe {
            if VARIABLE || !self.constant {
                simd.splat_f32s(*self.starts[k].add(row * self.by_step))
            } else {
                self.starts[k].cast::<S::f32s>().read_unaligned()
            }
        }
    }
}
