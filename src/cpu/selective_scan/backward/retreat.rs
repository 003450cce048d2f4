//! The recurrence against its order, over the states of a tile: a vector has a channel in each lane, or states of one channel.

use super::memory::{Passes, STEPS, Scratch, TOGETHER};
use super::passes::Window;
use super::vectors::Place;
use crate::cpu::along_states::folded;
use crate::cpu::math::decay::{Choice, Exponents, UNHELD};
use crate::cpu::selective_scan::ahead::{Ahead, SOME};
use crate::cpu::selective_scan::memory::{LANES, Lanes, Memory};
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
    /// A where it lies, or in the memory: [`Tile::rows_of_A`](crate::cpu::selective_scan::stage::Tile::rows_of_A).
    pub A: Option<&'w [f32]>,
    pub channels: usize,
    pub steps: usize,
    pub back: bool,
    pub exponents: Exponents,
    /// The least and the greatest A.
    pub extremes: [f32; 2],
    pub wanted: Wanted,
    /// What is read and written next.
    pub ahead: Ahead,
}

impl WithSimd for Retreat<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { scratch, A, channels, steps, back, exponents, extremes, wanted, ahead } = self;
        let rows = steps * scratch.tile.shape.width;
        if scratch.tile.shape.dstate == 0 {
            for rows_of in [&mut *scratch.tile.y, &mut *scratch.by_input, &mut *scratch.by_decay] {
                rows_of[..rows].fill(0.0);
            }
        }
        // Put back below: they are borrowed meanwhile.
        let (lines, copied) = (std::mem::take(&mut scratch.lines), std::mem::take(&mut scratch.tile.A));
        let passes = Passes::new(&mut *lines, scratch.tile.shape.steps);
        let all = wanted.all() && scratch.tile.shape.constant == [false; 2];
        let along = scratch.tile.shape.lanes;
        let window =
            Window { scratch: &mut *scratch, A: A.unwrap_or(copied), passes, steps, back, wanted, ahead, lines: 0 };
        let choice = Some(exponents.of(extremes, UNHELD)).filter(|choice| matches!(choice, Choice::Small(_)));
        let mut walk = Walk { window, channels, exponents, choice, all };
        match along {
            Lanes::Channels => walk.along_channels(simd),
            Lanes::States => walk.along_states(simd),
        }
        (scratch.lines, scratch.tile.A) = (lines, copied);
    }
}

struct Walk<'w, 'm> {
    window: Window<'w, 'm>,
    channels: usize,
    exponents: Exponents,
    /// That of all vectors, if it is known.
    choice: Option<Choice>,
    /// Everything is wanted, save perhaps y, and neither B nor C is constant.
    all: bool,
}

impl Walk<'_, '_> {
    /// A vector has a channel in each lane.
    #[inline(always)]
    fn along_channels<S: Simd>(&mut self, simd: S) {
        let (shape, steps) = (self.window.scratch.tile.shape, self.window.steps);
        let vectors = self.channels.div_ceil(S::F32_LANES);
        self.share(shape.dstate.div_ceil(TOGETHER) * vectors);
        for n in (0..shape.dstate).step_by(TOGETHER) {
            let here = TOGETHER.min(shape.dstate - n);
            for sums in &mut self.window.passes.sums {
                sums[..here * steps * LANES].fill(0.0);
            }
            for lane in (0..self.channels).step_by(S::F32_LANES) {
                let lanes = self.channels - lane;
                let place = |k: usize| Place::of_channels(&shape, steps, [n, k], [lane, lanes]);
                if self.all && here == TOGETHER && lanes >= S::F32_LANES {
                    self.run::<S, TOGETHER, true, false>(simd, place(0));
                    continue;
                }
                // A closure here would be a function of its own, without the vector instructions of the caller.
                for k in 0..here {
                    self.run::<S, 1, false, false>(simd, place(k));
                }
            }
            for k in 0..here {
                self.add_lanes([n + k, k]);
            }
        }
    }

    /// A vector has states of one channel.
    #[inline(always)]
    fn along_states<S: Simd>(&mut self, simd: S) {
        let shape = self.window.scratch.tile.shape;
        let blocks = shape.pitch() / LANES;
        self.share(self.channels * blocks.div_ceil(TOGETHER) * (LANES / S::F32_LANES));
        let rows = self.window.steps * shape.pitch();
        for (projection, _) in self.window.scratch.projections.iter_mut().zip(shape.constant).filter(|(_, is)| !is) {
            projection[..rows].fill(0.0);
        }
        for channel in 0..self.channels {
            for first in (0..blocks).step_by(TOGETHER) {
                let together = self.all && (first + TOGETHER) * LANES <= shape.dstate;
                for lane in (0..LANES).step_by(S::F32_LANES) {
                    if together {
                        let place = Place::of_states(&shape, channel, [first * LANES, lane]);
                        self.run::<S, TOGETHER, true, true>(simd, place);
                        continue;
                    }
                    for block in first..blocks.min(first + TOGETHER) {
                        let place = Place::of_states(&shape, channel, [block * LANES, lane]);
                        self.run::<S, 1, false, true>(simd, place);
                    }
                }
            }
            self.add_states(simd, channel);
        }
    }

    /// What is to be asked for in each turn, if so many vectors are run.
    #[inline(always)]
    fn share(&mut self, runs: usize) {
        self.window.lines = self.window.ahead.share(runs * self.window.steps.div_ceil(SOME));
    }

    /// All steps of K vectors. `ALL`: as [`Self::all`], and every lane has a state. `STATES`: lanes lie along states.
    #[inline(always)]
    fn run<S: Simd, const K: usize, const ALL: bool, const STATES: bool>(&mut self, simd: S, place: Place) {
        let window = &mut self.window;
        window.look::<S, K, STATES>(&place);
        let choice = match self.choice {
            Some(choice) => choice,
            None => self.exponents.of_vectors(simd, &Window::states_of::<S, K>(window.A, &place), UNHELD),
        };
        match choice {
            Choice::Small(decay) => {
                let after = window.save::<S, K, ALL, STATES, false>(simd, decay, &place);
                window.back::<S, K, ALL, STATES, false>(simd, &place, after);
            }
            Choice::Any(decay) => {
                let after = window.save::<S, K, ALL, STATES, true>(simd, decay, &place);
                window.back::<S, K, ALL, STATES, true>(simd, &place, after);
            }
        }
    }

    /// The sums at `place` over the lanes, which are dB and dC of state `n`.
    #[inline(always)]
    fn add_lanes(&mut self, [n, place]: [usize; 2]) {
        let Window { scratch, passes, steps, wanted, .. } = &mut self.window;
        let shape = scratch.tile.shape;
        for (of, constant) in shape.constant.into_iter().enumerate() {
            if constant || !wanted.projections[of] {
                continue;
            }
            let to = &mut scratch.projections[of][n * shape.steps..][..*steps];
            let (sums, _) = passes.sums[of][place * *steps * LANES..].as_chunks::<LANES>();
            for (to, lanes) in to.iter_mut().zip(sums) {
                let halves = folded(lanes);
                let mut quarters = [0.0; 4];
                for (i, quarter) in quarters.iter_mut().enumerate() {
                    *quarter = halves[i] + halves[i + 4];
                }
                *to = (quarters[0] + quarters[2]) + (quarters[1] + quarters[3]);
            }
        }
    }

    /// The sums of a channel over its states: y, and the gradients by its inputs and decays.
    #[inline(always)]
    fn add_states<S: Simd>(&mut self, simd: S, channel: usize) {
        let Window { scratch, passes, steps, wanted, .. } = &mut self.window;
        let Memory { shape, y, halves, .. } = &mut scratch.tile;
        let rows = [&mut **y, &mut *scratch.by_input, &mut *scratch.by_decay];
        for (of, (rows, sums)) in rows.into_iter().zip(passes.of_steps()).enumerate() {
            if of == 0 && !wanted.y {
                continue;
            }
            for (half, sums) in halves.rows.iter_mut().zip(sums.as_chunks::<LANES>().0) {
                *half = folded(sums);
            }
            let mut line = [0.0; STEPS];
            halves.add(simd, *steps, &mut line);
            let channel = rows[channel..].iter_mut().step_by(shape.width);
            channel.zip(&line[..*steps]).for_each(|(to, &sum)| *to = sum);
        }
    }
}
