//! The recurrence, over the channels of a tile: a vector has one channel in each lane.

use super::stage::{Memory, Rows};
use crate::cpu::math::exp::{Any, Range, UpTo70, exp};
use crate::cpu::math::lanes::fma;
use pulp::Simd;

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
        let together = if shared && self.output { dstate / TOGETHER * TOGETHER } else { 0 };
        for n in (0..together).step_by(TOGETHER) {
            self.run::<S, TOGETHER, true>(simd, range, n);
            meanwhile(n + TOGETHER);
        }
        for n in together..dstate {
            self.run::<S, 1, false>(simd, range, n);
            meanwhile(n + 1);
        }
    }

    /// All steps of K states from `n` on. `FAST`: neither B nor C is constant, and there is an output.
    #[inline(always)]
    fn run<S: Simd, const K: usize, const FAST: bool>(&mut self, simd: S, range: impl Range, n: usize) {
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
                let mut sum = if n == 0 { zero } else { y.read_unaligned() };
                for (k, h) in h.iter_mut().enumerate() {
                    let decay = exp(simd, range, simd.mul_f32s(step, A[k]));
                    let input = simd.mul_f32s(input, B.at::<S, FAST>(simd, n + k, row, lane));
                    *h = fma(simd, decay, *h, input);
                    if FAST || self.output {
                        sum = fma(simd, *h, C.at::<S, FAST>(simd, n + k, row, lane), sum);
                    }
                }
                if FAST || self.output {
                    y.write_unaligned(sum);
                }
            }
        }
        for (k, h) in h.into_iter().enumerate() {
            S::as_mut_simd_f32s(&mut self.memory.state[(n + k) * width + lane..]).0[0] = h;
        }
    }
}

impl Rows<'_> {
    /// Panics if state `n` of step `row` is outside the memory.
    #[inline(always)]
    fn check<S: Simd>(&self, n: usize, row: usize, lane: usize) {
        if self.constant {
            load::<S>(&self.memory[n * self.by_state + lane..]);
        } else {
            assert!(n * self.by_state + row * self.by_step < self.memory.len());
        }
    }

    /// State `n` of step `row` for each lane. `VARIABLE`: it is not constant.
    ///
    /// # Safety
    /// It lies inside the memory.
    #[inline(always)]
    unsafe fn at<S: Simd, const VARIABLE: bool>(&self, simd: S, n: usize, row: usize, lane: usize) -> S::f32s {
        let start = self.memory.as_ptr();
        // SAFETY: the caller's promise.
        unsafe {
            if VARIABLE || !self.constant {
                simd.splat_f32s(*start.add(n * self.by_state + row * self.by_step))
            } else {
                start.add(n * self.by_state + lane).cast::<S::f32s>().read_unaligned()
            }
        }
    }
}

/// The first vector of a slice.
#[inline(always)]
fn load<S: Simd>(slice: &[f32]) -> S::f32s {
    S::as_simd_f32s(slice).0[0]
}
