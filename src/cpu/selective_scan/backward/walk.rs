//! A task: its windows from the last to the first.

use super::memory::{Kept, STEPS, Scratch, Task, pair};
use super::retreat::{Retreat, Wanted};
use super::stage::{StagedOutput, Sums};
use super::{Call, Carried};
use crate::cpu::math::decay::Exponents;
use crate::cpu::math::lanes::Extremes;
use crate::cpu::selective_scan::advance::Advance;
use crate::cpu::selective_scan::ahead::Ahead;
use crate::cpu::selective_scan::carry::Rows;
use crate::cpu::selective_scan::forward::add_steps;
use crate::cpu::selective_scan::memory::{Lanes, MOST_CHANNELS, by_channel};
use crate::cpu::selective_scan::stage::Tile;
use crate::cpu::writer::Writer;
use crate::tensor::{Element, Host, Strided};
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// What the tasks are run for.
pub(super) enum Job<'j> {
    /// The gradients.
    Gradients(Option<Carried<'j>>),
    /// The gradient by what every part but the first starts from, if nothing comes from later parts, and the part's sum of
    /// delta: a row for each part.
    Adjoints { states: Writer<'j, f32, 3>, sums: Writer<'j, f32, 2> },
}

/// Some tasks, and the memory for one after the other.
pub struct Worker<'w, 't, 'i, 'u, 'o, T: Element> {
    pub(super) call: &'w Call<'i, 'u, 'o, T>,
    pub(super) job: &'w Job<'w>,
    pub(super) tasks: &'w mut [Task<'t>],
    pub(super) scratch: Scratch<'w>,
}

impl<T: Element> WithSimd for Worker<'_, '_, '_, '_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { call, job, tasks, mut scratch } = self;
        for task in tasks {
            let wanted = match job {
                Job::Gradients(_) if task.part == 0 || call.all_parts => call.wanted,
                Job::Adjoints { .. } if task.part > 0 => Wanted::adjoints(call.upstream.dout.is_some()),
                _ => continue,
            };
            let tile = Tile {
                inputs: &call.inputs,
                span: call.inputs.span(task.seq),
                channels: call.division.tiling.channels(task.tile),
                short: call.division.shape.short,
            };
            tile.load_constants(&mut scratch.tile);
            let shape = scratch.tile.shape;
            // What lies behind the rows of the channels is of another tile.
            let rows = if shape.lanes == Lanes::States { tile.channels.len() } else { shape.width };
            let copied = &scratch.tile.A[..rows * shape.pitch()];
            let extremes = Extremes::of(simd, tile.rows_of_A(shape).unwrap_or(copied));
            let walk = Walk { call, tile, extremes, wanted, steps: task.steps.clone(), place: [task.seq, task.part] };
            match job {
                Job::Gradients(carried) => walk.gradients(simd, carried.as_ref(), &mut task.kept, &mut scratch),
                Job::Adjoints { states, sums } => walk.adjoints(simd, states, sums, &mut scratch),
            }
        }
    }
}

struct Walk<'w, 'i, 'u, 'o, T: Element> {
    call: &'w Call<'i, 'u, 'o, T>,
    tile: Tile<'w, 'i, T>,
    /// The least and the greatest A.
    extremes: [f32; 2],
    wanted: Wanted,
    steps: Range<usize>,
    /// Sequence, part.
    place: [usize; 2],
}

impl<T: Element> Walk<'_, '_, '_, '_, T> {
    /// The row of this part among those of all parts.
    fn row(&self) -> usize {
        self.place[0] * self.call.division.cut.split + self.place[1]
    }

    fn windows(&self) -> usize {
        self.steps.len().div_ceil(STEPS)
    }

    /// Positions of a window along the sequence.
    fn times(&self, window: usize) -> Range<usize> {
        let start = self.steps.start + window * STEPS;
        self.tile.span.times(start..(start + STEPS).min(self.steps.end))
    }

    #[inline(always)]
    fn adjoints<S: Simd>(
        &self,
        simd: S,
        states: &Writer<'_, f32, 3>,
        delta_sum: &Writer<'_, f32, 2>,
        scratch: &mut Scratch<'_>,
    ) {
        let mut sums = [0.0; MOST_CHANNELS];
        scratch.adjoint.fill(0.0);
        for window in (0..self.windows()).rev() {
            self.back(simd, window, scratch);
            add_steps(&mut sums, &scratch.tile, self.times(window).len(), !self.tile.span.reverse);
        }
        scratch.tile.state.copy_from_slice(scratch.adjoint);
        // SAFETY: the part's channels are this task's.
        unsafe { self.tile.store_state(states, self.row(), &scratch.tile) };
        for (d, &sum) in self.tile.channels.clone().zip(&sums) {
            // SAFETY: as above.
            unsafe { delta_sum.write([self.row(), d], sum as f32) };
        }
    }

    #[inline(always)]
    fn gradients<S: Simd>(
        &self,
        simd: S,
        carried: Option<&Carried<'_>>,
        kept: &mut Kept<'_>,
        scratch: &mut Scratch<'_>,
    ) {
        let per_group = self.call.division.windows_of_group();
        self.clear(carried, scratch);
        let [mut dD, mut ddt_bias] = [[0.0; MOST_CHANNELS]; 2];
        let mut sums = Sums { dD: &mut dD, ddt_bias: &mut ddt_bias };
        let groups = self.windows().div_ceil(per_group);
        if self.wanted.states && self.call.upstream.checkpoints.is_none() {
            self.save_group_starts(simd, carried, groups, scratch);
        }
        for group in (0..groups).rev() {
            let windows = group * per_group..((group + 1) * per_group).min(self.windows());
            if self.wanted.states {
                self.load_start(carried, group, scratch);
                self.save_starts(simd, windows.clone(), scratch);
            }
            for window in windows.clone().rev() {
                if self.wanted.states && windows.len() > 1 {
                    self.load_saved(self.fine(window - windows.start), scratch);
                }
                self.back(simd, window, scratch);
                let times = self.times(window);
                // SAFETY: each step of each channel is of one task, and so is that of a group which has one tile.
                unsafe {
                    self.call.finish(simd, &self.tile, times.clone(), scratch, &mut sums);
                    self.call.hand_over(&self.tile, times, window, scratch, &mut kept.projections);
                }
            }
        }
        if let ([seq, 0], Some(dinitial_state)) = (self.place, &self.call.writers.dinitial_state) {
            scratch.tile.state.copy_from_slice(scratch.adjoint);
            // SAFETY: only the first part of this tile writes it.
            unsafe { self.tile.store_state(dinitial_state, seq, &scratch.tile) };
        }
        self.keep(&sums, kept, scratch);
    }

    /// All sums to zero, and the gradient by the state to what comes from later steps.
    fn clear(&self, carried: Option<&Carried<'_>>, scratch: &mut Scratch<'_>) {
        let upstream = &self.call.upstream;
        match carried.filter(|_| self.wanted.adjoints) {
            Some(carried) => {
                self.tile.load_state(Some(&self.parts(carried.adjoints)), self.row(), &mut scratch.tile);
            }
            None => self.tile.load_state(upstream.dfinal_state.as_ref(), self.place[0], &mut scratch.tile),
        }
        scratch.adjoint.copy_from_slice(scratch.tile.state);
        scratch.dA.fill(0.0);
        for (projection, constant) in scratch.projections.iter_mut().zip(scratch.tile.shape.constant) {
            if constant {
                projection.fill(0.0);
            }
        }
    }

    /// The rows of all parts.
    fn parts<'c>(&self, rows: &'c [f32]) -> Strided<'c, f32, Host, 3> {
        Strided { memory: rows.into(), layout: Rows::layout(self.call.division.cut, &self.call.inputs) }
    }

    /// The state before a group of windows.
    fn load_start(&self, carried: Option<&Carried<'_>>, group: usize, scratch: &mut Scratch<'_>) {
        let (tile, seq) = (&self.tile, self.place[0]);
        let first = self.steps.start / self.call.division.every + group;
        match (&self.call.upstream.checkpoints, carried) {
            _ if first == 0 => tile.load_state(self.call.inputs.initial_state.as_ref(), seq, &mut scratch.tile),
            (Some((_, states, offsets)), _) => {
                tile.load_state(Some(states), offsets[seq] + first - 1, &mut scratch.tile);
            }
            (None, Some(carried)) if group == 0 => {
                tile.load_state(Some(&self.parts(carried.states)), self.row(), &mut scratch.tile);
            }
            (None, _) => self.load_saved(group - 1, scratch),
        }
    }

    /// Where the states before window `k` of a group are saved: behind those before groups.
    fn fine(&self, k: usize) -> usize {
        self.call.division.groups().saturating_sub(1) + k
    }

    fn load_saved(&self, place: usize, scratch: &mut Scratch<'_>) {
        let states = scratch.tile.state.len();
        scratch.tile.state.copy_from_slice(&scratch.starts[place * states..][..states]);
    }

    fn save(&self, place: usize, scratch: &mut Scratch<'_>) {
        let states = scratch.tile.state.len();
        scratch.starts[place * states..][..states].copy_from_slice(scratch.tile.state);
    }

    /// The states before each group of windows but the first.
    #[inline(always)]
    fn save_group_starts<S: Simd>(
        &self,
        simd: S,
        carried: Option<&Carried<'_>>,
        groups: usize,
        scratch: &mut Scratch<'_>,
    ) {
        let per_group = self.call.division.windows_of_group();
        if groups < 2 {
            return;
        }
        self.load_start(carried, 0, scratch);
        for window in 0..(groups - 1) * per_group {
            self.forth(simd, window, scratch);
            if (window + 1) % per_group == 0 {
                self.save(window / per_group, scratch);
            }
        }
    }

    /// The states before each of a group's windows, from that before the first.
    #[inline(always)]
    fn save_starts<S: Simd>(&self, simd: S, windows: Range<usize>, scratch: &mut Scratch<'_>) {
        if windows.len() < 2 {
            return;
        }
        self.save(self.fine(0), scratch);
        for (k, window) in (windows.start..windows.end - 1).enumerate() {
            self.forth(simd, window, scratch);
            self.save(self.fine(k + 1), scratch);
        }
    }

    /// The state from before a window to behind it.
    #[inline(always)]
    fn forth<S: Simd>(&self, simd: S, window: usize, scratch: &mut Scratch<'_>) {
        let (times, memory) = (self.times(window), &mut scratch.tile);
        let delta = self.tile.stage(simd, times.clone(), memory);
        self.call.cpu.dispatch(Advance {
            A: self.tile.rows_of_A(memory.shape),
            memory,
            channels: self.tile.channels.len(),
            steps: times.len(),
            back: self.tile.span.reverse,
            exponents: Exponents::new(delta),
            output: false,
            ahead: &mut self.ahead(Some(window + 1).filter(|&next| next < self.windows()), true),
        });
    }

    /// The gradient by the state from behind a window to before it, from the state before it.
    #[inline(always)]
    fn back<S: Simd>(&self, simd: S, window: usize, scratch: &mut Scratch<'_>) {
        let times = self.times(window);
        let delta = self.tile.stage(simd, times.clone(), &mut scratch.tile);
        simd.vectorize(StagedOutput {
            call: self.call,
            tile: &self.tile,
            times: times.clone(),
            scratch: &mut *scratch,
        });
        let mut ahead = self.ahead(window.checked_sub(1), false);
        let (index, extents, axis) = self.rows(window);
        for writer in [&self.call.writers.dx, &self.call.writers.ddt, &self.call.writers.dz] {
            ahead.write(writer.as_ref(), index, axis, extents);
        }
        self.call.cpu.dispatch(Retreat {
            A: self.tile.rows_of_A(scratch.tile.shape),
            scratch,
            channels: self.tile.channels.len(),
            steps: times.len(),
            back: self.tile.span.reverse,
            exponents: Exponents::new(delta),
            extremes: self.extremes,
            wanted: self.wanted,
            ahead,
        });
    }

    /// What is read for a window: x and dt alone for the state.
    #[inline(always)]
    fn ahead(&self, window: Option<usize>, state: bool) -> Ahead {
        let (inputs, mut ahead) = (&self.call.inputs, Ahead::default());
        let Some(window) = window else { return ahead };
        let (index, extents, axis) = self.rows(window);
        ahead.read(Some(&inputs.x), index, axis, extents);
        ahead.read(Some(&inputs.dt), index, axis, extents);
        for tensor in [&inputs.z, &self.call.upstream.dout].into_iter().filter(|_| !state) {
            ahead.read(tensor.as_ref(), index, axis, extents);
        }
        ahead
    }

    /// Where a window lies in tensors, how many rows of how many neighbours, and the dimension of the rows.
    #[inline(always)]
    fn rows(&self, window: usize) -> ([usize; 3], [usize; 2], usize) {
        let (times, channels) = (self.times(window), &self.tile.channels);
        let index = [self.tile.span.batch, channels.start, times.start];
        match by_channel(&self.call.inputs.x.layout, self.tile.short) {
            true => (index, [times.len(), channels.len()], 2),
            false => (index, [channels.len(), times.len()], 1),
        }
    }

    /// What is added up when all tasks are done.
    #[inline(always)]
    fn keep(&self, sums: &Sums<'_>, kept: &mut Kept<'_>, scratch: &Scratch<'_>) {
        let shape = scratch.tile.shape;
        let [dA, dB, dC] = self.call.writers.matrices();
        let [kept_dB, kept_dC] = &mut kept.projections;
        let [own_dB, own_dC] = &scratch.projections;
        for (writer, from, to) in [(dA, &scratch.dA, &mut kept.dA), (dB, own_dB, kept_dB), (dC, own_dC, kept_dC)] {
            match writer {
                // SAFETY: one task has these channels.
                Some(writer) if self.call.alone() => unsafe { self.tile.store_matrix(writer, [0; 2], from, shape) },
                Some(_) => shape.pack(self.tile.channels.len(), from, to),
                None => {}
            }
        }
        for (pairs, sums) in [(&mut *kept.dD, &*sums.dD), (kept.ddt_bias, sums.ddt_bias)] {
            pairs.chunks_exact_mut(2).zip(sums).for_each(|(to, &sum)| to.copy_from_slice(&pair(sum)));
        }
    }
}
