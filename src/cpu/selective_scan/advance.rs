//! The recurrence, over the channels of a tile: a vector has one channel in each lane, or states of one channel.

use super::ahead::{Ahead, SOME};
use super::along_states::AlongStates;
use super::lines::{load, load_some, store};
use super::memory::{LANES, Lanes, Memory, Rows};
use crate::cpu::along_states::{Each, EachAsSmall};
use crate::cpu::math::decay::{Choice, Decay, Exponents, SMALL, exponents, rates};
use crate::cpu::math::lanes::{Extremes, fma};
use pulp::{Simd, WithSimd};

/// States whose steps are interleaved.
const TOGETHER: usize = 4;

/// Runs `steps` staged steps of `channels` channels, in time's order or `back` from the last one.
///
/// By [`Simd::vectorize`], so that it is compiled once, and not for every dtype and direction.
pub(super) struct Advance<'w, 'm> {
    pub memory: &'w mut Memory<'m>,
    /// A where it lies, or in the memory: [`Tile::rows_of_A`](super::stage::Tile::rows_of_A).
    pub A: Option<&'w [f32]>,
    pub channels: usize,
    pub steps: usize,
    pub back: bool,
    pub exponents: Exponents,
    /// y becomes the output before D and gate.
    pub output: bool,
    /// What is read and written next.
    pub ahead: &'w mut Ahead,
}

impl WithSimd for Advance<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { memory, A, channels, steps, back, exponents, output, ahead } = self;
        if memory.shape.dstate == 0 {
            memory.y[..steps * memory.shape.width].fill(0.0);
        }
        if memory.shape.lanes == Lanes::States {
            let copied = std::mem::take(&mut memory.A);
            // What lies behind the rows of the channels is of another tile.
            let A = A.unwrap_or(&copied[..channels * memory.shape.pitch()]);
            let along = AlongStates { memory: &mut *memory, A, channels, steps, back, output, ahead };
            match exponents.of(Extremes::of(simd, A), SMALL) {
                Choice::Small(decay) => along.run(simd, Each(decay)),
                Choice::Any(_) => along.run(simd, EachAsSmall),
            }
            memory.A = copied;
            return;
        }
        let shared = !memory.B.constant && !memory.C.constant;
        let together = if shared { memory.shape.dstate / TOGETHER * TOGETHER } else { 0 };
        let runs = channels.div_ceil(S::F32_LANES) * (together / TOGETHER + memory.shape.dstate - together);
        let lines = ahead.share(runs * steps.div_ceil(SOME));
        let mut walk = Walk { memory, lane: 0, steps, back, output, ahead: *ahead, lines };
        for lane in (0..channels).step_by(S::F32_LANES) {
            walk.lane = lane;
            walk.states(simd, exponents, together);
        }
    }
}

struct Walk<'w, 'm> {
    memory: &'w mut Memory<'m>,
    lane: usize,
    steps: usize,
    back: bool,
    output: bool,
    /// A copy: what lies elsewhere is read again after every store.
    ahead: Ahead,
    /// To be asked for every [`SOME`] steps.
    lines: usize,
}

impl Walk<'_, '_> {
    #[inline(always)]
    fn states<S: Simd>(&mut self, simd: S, exponents: Exponents, together: usize) {
        for n in (0..together).step_by(TOGETHER) {
            if self.output {
                self.choose::<S, TOGETHER, true, true>(simd, exponents, n);
            } else {
                self.choose::<S, TOGETHER, true, false>(simd, exponents, n);
            }
        }
        for n in together..self.memory.shape.dstate {
            self.choose::<S, 1, false, true>(simd, exponents, n);
        }
    }

    /// [`run`](Self::run), by the exponents of these states.
    #[inline(always)]
    fn choose<S: Simd, const K: usize, const VARIABLE: bool, const OUTPUT: bool>(
        &mut self,
        simd: S,
        exponents: Exponents,
        n: usize,
    ) {
        let width = self.memory.shape.width;
        let A = load_some::<S, K>(self.memory.A, n * width + self.lane, width);
        match exponents.of_vectors(simd, &A, SMALL) {
            Choice::Small(decay) => self.run::<S, K, VARIABLE, OUTPUT>(simd, decay, n),
            Choice::Any(decay) => self.run::<S, K, VARIABLE, OUTPUT>(simd, decay, n),
        }
    }

    /// Panics if either end of what [`run`](Self::run) reads is outside its memory.
    #[inline(always)]
    fn look<S: Simd, const K: usize>(&self, n: usize) {
        let Memory { shape, delta, delta_x, y, B, C, .. } = &*self.memory;
        for row in [0, self.steps - 1] {
            for rows in [&**delta, delta_x, y] {
                load::<S>(&rows[row * shape.width + self.lane..]);
            }
            for k in 0..K {
                B.check::<S>(n + k, row, self.lane);
                C.check::<S>(n + k, row, self.lane);
            }
        }
    }

    /// All steps of K states from `n` on. `VARIABLE`: neither B nor C is constant. `OUTPUT`: there may be one.
    #[inline(always)]
    fn run<S: Simd, const K: usize, const VARIABLE: bool, const OUTPUT: bool>(
        &mut self,
        simd: S,
        decay: impl Decay,
        n: usize,
    ) {
        let (width, lane) = (self.memory.shape.width, self.lane);
        let vector = |slice: &[f32], row: usize| load::<S>(&slice[row * width + lane..]);
        let rates = rates(simd, load_some::<S, K>(self.memory.A, n * width + lane, width));
        let mut h = load_some::<S, K>(self.memory.state, n * width + lane, width);
        let (B, C) = (&self.memory.B, &self.memory.C);
        let (last, zero) = (self.steps - 1, simd.splat_f32s(0.0));
        self.look::<S, K>(n);
        let (B, C) = (B.of::<K>(n, lane), C.of::<K>(n, lane));
        let output = OUTPUT && (VARIABLE || self.output);
        let (delta, delta_x, y) =
            (self.memory.delta.as_ptr(), self.memory.delta_x.as_ptr(), self.memory.y.as_mut_ptr());
        let first = if self.back { last } else { 0 };
        let forth = |distance: usize| if self.back { distance.wrapping_neg() } else { distance };
        let (rows, of_B, of_C) = (forth(width), forth(B.by_step), forth(C.by_step));
        let (mut at, mut in_B, mut in_C) = (first * width + lane, first * B.by_step, first * C.by_step);
        // The window of instructions that a core sees holds few polynomials: it is kept busy by exponents of the next step.
        let mut exponents = exponents(simd, decay, vector(self.memory.delta, first), &rates);
        for i in 0..self.steps {
            let next = if i == last { at } else { at.wrapping_add(rows) };
            // SAFETY: `look` has looked at the rows of the first and the last step, and this one is between them.
            unsafe {
                let step = delta.add(next).cast::<S::f32s>().read_unaligned();
                let input = delta_x.add(at).cast::<S::f32s>().read_unaligned();
                let y = y.add(at).cast::<S::f32s>();
                let mut sum = if n == 0 || !output { zero } else { y.read_unaligned() };
                for (k, h) in h.iter_mut().enumerate() {
                    let power = exponents[k].power(simd);
                    exponents[k] = decay.exponent(simd, step, rates[k]);
                    let input = simd.mul_f32s(input, B.at::<S, VARIABLE>(simd, k, in_B));
                    *h = decay.advance(simd, power, *h, input);
                    if output {
                        sum = fma(simd, *h, C.at::<S, VARIABLE>(simd, k, in_C), sum);
                    }
                }
                if output {
                    y.write_unaligned(sum);
                }
            }
            (at, in_B, in_C) = (next, in_B.wrapping_add(of_B), in_C.wrapping_add(of_C));
            if i % SOME == 0 {
                self.ahead.ask(self.lines);
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
        let start = self.memory.as_ptr().wrapping_add(n * self.by_state + lane);
        Projected { starts: starts(start, self.by_state), by_step: self.by_step, constant: self.constant }
    }

    /// Where a row of states of `channel` begins: [`Lanes::States`](super::memory::Lanes).
    #[inline(always)]
    fn start(&self, channel: usize) -> usize {
        if self.constant { channel * self.by_step } else { 0 }
    }

    /// [`check`](Self::check), where rows are of states.
    #[inline(always)]
    pub fn check_states<S: Simd>(&self, n: usize, row: usize, channel: usize) {
        let row = if self.constant { 0 } else { row };
        load::<S>(&self.memory[self.start(channel) + row * self.by_step + n..]);
    }

    /// K vectors of states of `channel` from `n` on.
    #[inline(always)]
    pub fn along_states<const K: usize>(&self, n: usize, channel: usize) -> Projected<K> {
        let start = self.memory.as_ptr().wrapping_add(self.start(channel) + n);
        Projected {
            starts: starts(start, LANES),
            by_step: if self.constant { 0 } else { self.by_step },
            constant: self.constant,
        }
    }
}

/// K places from `start` on, `next` from each other.
#[inline(always)]
fn starts<const K: usize>(start: *const f32, next: usize) -> [*const f32; K] {
    let mut starts = [start; K];
    for (k, start) in starts.iter_mut().enumerate() {
        *start = start.wrapping_add(k * next);
    }
    starts
}

/// B or C of some states: copied out of [`Rows`], so that no store can be thought to change where it lies.
#[derive(Debug, Clone, Copy)]
pub struct Projected<const K: usize> {
    starts: [*const f32; K],
    pub by_step: usize,
    pub constant: bool,
}

impl<const K: usize> Projected<K> {
    /// The `k`th state for each lane, `at` being [`by_step`](Self::by_step) times the step. `VARIABLE`: it is not constant.
    ///
    /// # Safety
    /// It lies inside the memory.
    #[inline(always)]
    pub unsafe fn at<S: Simd, const VARIABLE: bool>(&self, simd: S, k: usize, at: usize) -> S::f32s {
        // SAFETY: the caller's promise.
        unsafe {
            if VARIABLE || !self.constant {
                simd.splat_f32s(*self.starts[k].add(at))
            } else {
                self.starts[k].cast::<S::f32s>().read_unaligned()
            }
        }
    }

    /// The `k`th state, or vector of states, at step `row` for each lane. `VARIABLE`: it is not constant. `STATES`: lanes lie
    /// along states.
    ///
    /// # Safety
    /// It lies inside the memory.
    #[inline(always)]
    pub unsafe fn lanes_at<S: Simd, const VARIABLE: bool, const STATES: bool>(
        &self,
        simd: S,
        k: usize,
        row: usize,
    ) -> S::f32s {
        let at = row * self.by_step;
        // SAFETY: the caller's promise.
        unsafe {
            match STATES {
                true => self.starts[k].add(at).cast::<S::f32s>().read_unaligned(),
                false => self.at::<S, VARIABLE>(simd, k, at),
            }
        }
    }
}
