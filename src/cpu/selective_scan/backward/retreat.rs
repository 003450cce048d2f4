//! The recurrence against its order, over the channels of a tile: a vector has one channel in each lane.

use super::memory::{Passes, Scratch, TOGETHER};
use crate::cpu::math::decay::{Choice, Decay, Exponents, exponents, rates};
use crate::cpu::math::lanes::fma;
use crate::cpu::selective_scan::ahead::{Ahead, SOME};
use crate::cpu::selective_scan::lines::{load, store};
use crate::cpu::selective_scan::memory::LANES;
use pulp::{Simd, WithSimd};

/// What has to be computed for the gradients that are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The output has a gradient.
    pub output: bool,
    /// Recomputed states.
    pub states: bool,
    /// Gradients by states.
    pub adjoints: bool,
    /// The output before D and the gate.
    pub y: bool,
    /// The sum of dh B over the states.
    pub by_input: bool,
    /// ddt or ddt_bias.
    pub ddt: bool,
    pub dA: bool,
    /// dB, dC.
    pub projections: [bool; 2],
}

impl Wanted {
    fn all(self) -> bool {
        self == Self { y: self.y, ..Self::ALL }
    }

    const ALL: Self = Self {
        output: true,
        states: true,
        adjoints: true,
        y: true,
        by_input: true,
        ddt: true,
        dA: true,
        projections: [true; 2],
    };

    /// dh, and nothing of it.
    pub const fn adjoints(output: bool) -> Self {
        Self { output, adjoints: true, ..Self::NOTHING }
    }

    const NOTHING: Self = Self {
        output: false,
        states: false,
        adjoints: false,
        y: false,
        by_input: false,
        ddt: false,
        dA: false,
        projections: [false; 2],
    };
}

/// Takes the gradient by the state, of `channels` channels, from behind `steps` staged steps to before them: in time's order
/// from the last one, or `back` from the first. The state in the tile is that before the first step of the scan, and stays.
pub(super) struct Retreat<'w, 'm> {
    pub scratch: &'w mut Scratch<'m>,
    pub channels: usize,
    pub steps: usize,
    pub back: bool,
    pub exponents: Exponents,
    pub wanted: Wanted,
    /// What is read and written next.
    pub ahead: Ahead,
}

impl WithSimd for Retreat<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { scratch, channels, steps, back, exponents, wanted, ahead } = self;
        // Put back below: both are borrowed meanwhile.
        let lines = std::mem::take(&mut scratch.lines);
        let passes = Passes::new(&mut *lines, scratch.tile.shape.steps);
        let mut walk = Walk { scratch: &mut *scratch, passes, channels, steps, back, wanted, ahead, lines: 0, lane: 0 };
        walk.states(simd, exponents);
        scratch.lines = lines;
    }
}

struct Walk<'w, 'm> {
    scratch: &'w mut Scratch<'m>,
    passes: Passes<'w>,
    channels: usize,
    steps: usize,
    back: bool,
    wanted: Wanted,
    ahead: Ahead,
    /// To be asked for every [`SOME`] steps.
    lines: usize,
    /// The first channel of the vector.
    lane: usize,
}

impl Walk<'_, '_> {
    #[inline(always)]
    fn states<S: Simd>(&mut self, simd: S, exponents: Exponents) {
        let tile = &mut self.scratch.tile;
        let (dstate, rows) = (tile.shape.dstate, self.steps * tile.shape.width);
        if dstate == 0 {
            for rows_of in [&mut *tile.y, &mut *self.scratch.by_input, &mut *self.scratch.by_decay] {
                rows_of[..rows].fill(0.0);
            }
        }
        let all = self.wanted.all() && !tile.B.constant && !tile.C.constant;
        let vectors = self.channels.div_ceil(S::F32_LANES);
        self.lines = self.ahead.share(dstate.div_ceil(TOGETHER) * vectors * self.steps.div_ceil(SOME));
        for n in (0..dstate).step_by(TOGETHER) {
            let here = TOGETHER.min(dstate - n);
            for sums in &mut self.passes.sums {
                sums[..here * self.steps * LANES].fill(0.0);
            }
            for lane in (0..self.channels).step_by(S::F32_LANES) {
                self.lane = lane;
                if all && here == TOGETHER && lane + S::F32_LANES <= self.channels {
                    self.run::<S, TOGETHER, true>(simd, exponents, [n, 0]);
                    continue;
                }
                // A closure here would be a function of its own, without the vector instructions of the caller.
                for k in 0..here {
                    self.run::<S, 1, false>(simd, exponents, [n + k, k]);
                }
            }
            for k in 0..here {
                self.add_lanes([n + k, k]);
            }
        }
    }

    /// All steps of K states from `n` on, for one vector of channels. `ALL`: everything is wanted, save perhaps y, and neither
    /// B nor C is constant.
    ///
    /// Otherwise lanes may have no channel. All is 0 there, and masks see to it that nothing infinite makes NaN of that: they
    /// would add it to the sums over the lanes. `place` is that of the first state's sums.
    #[inline(always)]
    fn run<S: Simd, const K: usize, const ALL: bool>(&mut self, simd: S, exponents: Exponents, [n, place]: [usize; 2]) {
        self.look::<S, K>([n, place]);
        let tile = &self.scratch.tile;
        let A: [S::f32s; K] = std::array::from_fn(|k| load::<S>(&tile.A[(n + k) * tile.shape.width + self.lane..]));
        let after = match exponents.of_vectors(simd, &A) {
            Choice::Small(decay) => self.save::<S, K, ALL>(simd, decay, n),
            Choice::Any(decay) => self.save::<S, K, ALL>(simd, decay, n),
        };
        self.back::<S, K, ALL>(simd, [n, place], after);
    }

    /// Panics if anything that the two passes touch is outside its memory.
    #[inline(always)]
    fn look<S: Simd, const K: usize>(&self, [n, place]: [usize; 2]) {
        let (scratch, lane, last) = (&*self.scratch, self.lane, self.steps - 1);
        let (tile, width) = (&scratch.tile, scratch.tile.shape.width);
        let rows = [&*tile.delta, tile.delta_x, tile.y, scratch.g, scratch.by_input, scratch.by_decay];
        let room = last * width + lane + S::F32_LANES;
        assert!(lane + S::F32_LANES <= width && rows.iter().all(|rows| room <= rows.len()));
        assert!(self.passes.saved.len() >= K * 2 * self.steps * LANES);
        for (of, rows) in [&tile.B, &tile.C].into_iter().enumerate() {
            assert!(self.passes.sums[of].len() >= (place + K) * self.steps * LANES);
            for row in [0, last] {
                (0..K).for_each(|k| rows.check::<S>(n + k, row, lane));
            }
        }
    }

    /// The decay of each step and the state before it, in scan order. Returns the states after the last step.
    #[inline(always)]
    fn save<S: Simd, const K: usize, const ALL: bool>(&mut self, simd: S, decay: impl Decay, n: usize) -> [S::f32s; K] {
        let tile = &self.scratch.tile;
        let (width, lane, last) = (tile.shape.width, self.lane, self.steps - 1);
        let vector = |slice: &[f32], row: usize| load::<S>(&slice[row * width + lane..]);
        let rates = rates(simd, std::array::from_fn::<_, K, _>(|k| vector(tile.A, n + k)));
        let mut h: [S::f32s; K] = std::array::from_fn(|k| vector(tile.state, n + k));
        let (delta, delta_x) = (tile.delta.as_ptr(), tile.delta_x.as_ptr());
        let mask = load::<S>(&self.scratch.lanes[lane..]);
        let (B, saved) = (tile.B.of::<K>(n, lane), self.passes.saved.as_mut_ptr());
        let states = ALL || self.wanted.states;
        let row = |i: usize| if self.back { last - i } else { i };
        // A step ahead, as forward.
        let mut exponents = exponents(simd, decay, vector(tile.delta, row(0)), &rates);
        for i in 0..self.steps {
            let (row, next) = (row(i), row((i + 1).min(last)));
            let at = row * width + lane;
            // SAFETY: `look` has looked at the first and the last step, and this one is between them.
            unsafe {
                let step = vector_at::<S>(delta, next * width + lane);
                let input = masked::<S, ALL>(simd, mask, vector_at::<S>(delta_x, at));
                for (k, h) in h.iter_mut().enumerate() {
                    let power = exponents[k].power(simd);
                    exponents[k] = decay.exponent(simd, step, rates[k]);
                    let decay = masked::<S, ALL>(simd, mask, decay.value(simd, power));
                    let to = saved.add((i * K + k) * 2 * LANES);
                    to.cast::<S::f32s>().write_unaligned(decay);
                    to.add(LANES).cast::<S::f32s>().write_unaligned(*h);
                    if states {
                        let B = masked::<S, ALL>(simd, mask, B.at::<S, ALL>(simd, k, row * B.by_step));
                        *h = fma(simd, decay, *h, simd.mul_f32s(input, B));
                    }
                }
            }
        }
        h
    }

    /// From the last step to the first; `h` are the states after the last.
    #[inline(always)]
    fn back<S: Simd, const K: usize, const ALL: bool>(&mut self, simd: S, [n, place]: [usize; 2], mut h: [S::f32s; K]) {
        let (lane, steps, wanted, is_back) = (self.lane, self.steps, self.wanted, self.back);
        let scratch = &mut *self.scratch;
        let width = scratch.tile.shape.width;
        let tile = &mut scratch.tile;
        let vector = |slice: &[f32], row: usize| load::<S>(&slice[row * width + lane..]);
        let A: [S::f32s; K] = std::array::from_fn(|k| vector(tile.A, n + k));
        let mut dh: [S::f32s; K] = std::array::from_fn(|k| vector(scratch.adjoint, n + k));
        let mut dA: [S::f32s; K] = std::array::from_fn(|k| vector(scratch.dA, n + k));
        let (B, C) = (tile.B.of::<K>(n, lane), tile.C.of::<K>(n, lane));
        let [of_B, of_C] = [!ALL && B.constant, !ALL && C.constant];
        let constant =
            |of: usize, is: bool, k| if is { vector(scratch.projections[of], n + k) } else { simd.splat_f32s(0.0) };
        let mut dB: [S::f32s; K] = std::array::from_fn(|k| constant(0, of_B, k));
        let mut dC: [S::f32s; K] = std::array::from_fn(|k| constant(1, of_C, k));
        let (delta, delta_x, y) = (tile.delta.as_ptr(), tile.delta_x.as_ptr(), tile.y.as_mut_ptr());
        let [by_input, by_decay] = [&mut scratch.by_input, &mut scratch.by_decay].map(|rows| rows.as_mut_ptr());
        let (g, saved) = (scratch.g.as_ptr(), self.passes.saved.as_ptr());
        let mask = load::<S>(&scratch.lanes[lane..]);
        let [sums_B, sums_C] = self.passes.sums.each_mut().map(|sums| sums.as_mut_ptr());
        for i in (0..steps).rev() {
            let row = if is_back { steps - 1 - i } else { i };
            let at = row * width + lane;
            // SAFETY: `look` has looked at the first and the last step, and this one is between them.
            unsafe {
                let so_far = |rows: *mut f32| if n == 0 { simd.splat_f32s(0.0) } else { vector_at::<S>(rows, at) };
                let (step, input) = (vector_at::<S>(delta, at), vector_at::<S>(delta_x, at));
                let input = masked::<S, ALL>(simd, mask, input);
                let output = if ALL || wanted.output { vector_at::<S>(g, at) } else { simd.splat_f32s(0.0) };
                let (mut sum_y, mut sum_input, mut sum_decay) = (so_far(y), so_far(by_input), so_far(by_decay));
                for k in 0..K {
                    let from = saved.add((i * K + k) * 2 * LANES);
                    let (decay, before) = (vector_at::<S>(from, 0), vector_at::<S>(from, LANES));
                    let sum = ((place + k) * steps + row) * LANES + lane % LANES;
                    if ALL || wanted.output {
                        let C = masked::<S, ALL>(simd, mask, C.at::<S, ALL>(simd, k, row * C.by_step));
                        if ALL || wanted.projections[1] {
                            match of_C {
                                true => dC[k] = fma(simd, output, h[k], dC[k]),
                                false => add::<S>(simd, output, h[k], sums_C.add(sum)),
                            }
                        }
                        if wanted.y {
                            sum_y = fma(simd, h[k], C, sum_y);
                        }
                        dh[k] = fma(simd, output, C, dh[k]);
                    }
                    if ALL || wanted.projections[0] {
                        match of_B {
                            true => dB[k] = fma(simd, dh[k], input, dB[k]),
                            false => add::<S>(simd, dh[k], input, sums_B.add(sum)),
                        }
                    }
                    if ALL || wanted.by_input {
                        let B = masked::<S, ALL>(simd, mask, B.at::<S, ALL>(simd, k, row * B.by_step));
                        sum_input = fma(simd, dh[k], B, sum_input);
                    }
                    dh[k] = simd.mul_f32s(dh[k], decay);
                    if ALL || wanted.dA || wanted.ddt {
                        let both = simd.mul_f32s(dh[k], before);
                        dA[k] = fma(simd, both, step, dA[k]);
                        sum_decay = fma(simd, both, A[k], sum_decay);
                    }
                    h[k] = before;
                }
                if wanted.y {
                    y.add(at).cast::<S::f32s>().write_unaligned(sum_y);
                }
                by_input.add(at).cast::<S::f32s>().write_unaligned(sum_input);
                by_decay.add(at).cast::<S::f32s>().write_unaligned(sum_decay);
            }
            if i % SOME == 0 {
                self.ahead.ask(self.lines);
            }
        }
        for k in 0..K {
            let at = (n + k) * width + lane;
            store::<S>(scratch.adjoint, at, dh[k]);
            store::<S>(scratch.dA, at, dA[k]);
            if of_B {
                store::<S>(scratch.projections[0], at, dB[k]);
            }
            if of_C {
                store::<S>(scratch.projections[1], at, dC[k]);
            }
        }
    }

    /// The sums at `place` over the lanes, which are dB and dC of state `n`.
    #[inline(always)]
    fn add_lanes(&mut self, [n, place]: [usize; 2]) {
        let tile = &self.scratch.tile;
        for (of, constant) in [tile.B.constant, tile.C.constant].into_iter().enumerate() {
            if constant || !self.wanted.projections[of] {
                continue;
            }
            let to = &mut self.scratch.projections[of][n * tile.shape.steps..][..self.steps];
            let (sums, _) = self.passes.sums[of][place * self.steps * LANES..].as_chunks::<LANES>();
            for (to, lanes) in to.iter_mut().zip(sums) {
                let halves: [f32; 8] = std::array::from_fn(|i| lanes[i] + lanes[i + 8]);
                let quarters: [f32; 4] = std::array::from_fn(|i| halves[i] + halves[i + 4]);
                *to = (quarters[0] + quarters[2]) + (quarters[1] + quarters[3]);
            }
        }
    }
}

/// `v`, and 0 in lanes without a channel. `ALL`: every lane has one.
#[inline(always)]
fn masked<S: Simd, const ALL: bool>(simd: S, mask: S::f32s, v: S::f32s) -> S::f32s {
    if ALL {
        return v;
    }
    let [v, mask] = [v, mask].map(|v| simd.transmute_u32s_f32s(v));
    simd.transmute_f32s_u32s(simd.and_u32s(v, mask))
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

/// Adds a b to the vector at `sum`.
///
/// # Safety
/// It is memory of this call's own.
#[inline(always)]
unsafe fn add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, sum: *mut f32) {
    let sum = sum.cast::<S::f32s>();
    // SAFETY: the caller's promise.
    unsafe { sum.write_unaligned(fma(simd, a, b, sum.read_unaligned())) }
}
