//! A tile of channels and steps as f32 in the memory of a worker: rows of channels, one for each step or state.

use super::ahead::Ahead;
use super::lines::{CHUNK, StepRow, Steps};
use super::memory::{Lanes, Memory, Shape, TURN, by_channel};
use crate::cpu::transpose::{transpose, transpose_from};
use crate::cpu::writer::Writer;
use crate::ops::selective_scan::{AlignedProjection, Inputs};
use crate::segments::Span;
use crate::tensor::{Dtype, Element, Host, Strided};
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// Neighbours in memory: of `count` channels at one step, or steps of one channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Neighbours {
    pub index: [usize; 3],
    pub axis: usize,
    pub count: usize,
}

/// The channels of a task, and where their sequence lies.
pub(super) struct Tile<'i, 'a, T> {
    pub inputs: &'i Inputs<'a, T, Host>,
    pub span: Span,
    pub channels: Range<usize>,
    pub short: bool,
}

impl<T: Element> Tile<'_, '_, T> {
    /// What does not change from step to step. Lanes beyond the last channel or state are 0 (their delta is then that of a raw
    /// step of 0, or of another channel).
    #[inline(never)]
    pub fn load_constants(&self, memory: &mut Memory<'_>) {
        let (width, channels) = (memory.shape.width, self.channels.clone());
        for row in [&mut *memory.bias, &mut *memory.D] {
            row.fill(0.0);
        }
        if channels.len() < width {
            for rows in [&mut *memory.delta, &mut *memory.delta_x] {
                rows.chunks_exact_mut(width).for_each(|row| row[channels.len()..].fill(0.0));
            }
        }
        if let Some(bias) = &self.inputs.dt_bias {
            bias.run([channels.start], 0, &mut memory.bias[..channels.len()]);
        }
        if let Some(D) = &self.inputs.D {
            D.run([channels.start], 0, &mut memory.D[..channels.len()]);
        }
        if self.rows_of_A(memory.shape).is_none() {
            self.matrix(&self.inputs.A, [0; 2], memory.A, memory.shape);
        }
        for (rows, projection) in [(&mut memory.B, &self.inputs.B), (&mut memory.C, &self.inputs.C)] {
            if let AlignedProjection::Constant(tensor) = projection {
                self.matrix(tensor, [0; 2], rows.memory, memory.shape);
                (rows.by_state, rows.by_step) = match memory.shape.lanes {
                    Lanes::Channels => (width, 0),
                    Lanes::States => (1, memory.shape.pitch()),
                };
            }
        }
    }

    /// A where it lies, if that is as the tile wants it.
    pub fn rows_of_A(&self, shape: Shape) -> Option<&[f32]> {
        self.rows_of_states(&self.inputs.A, [self.channels.start, 0], shape)
    }

    fn rows_of_states<'t, const R: usize>(
        &self,
        tensor: &'t Strided<'_, f32, Host, R>,
        index: [usize; R],
        shape: Shape,
    ) -> Option<&'t [f32]> {
        let dense = shape.dstate == shape.pitch() && tensor.layout.strides[R - 2..] == [shape.dstate as i64, 1];
        let (channels, floats) = (self.channels.len(), self.channels.len() * shape.pitch());
        (shape.lanes == Lanes::States && dense).then(|| match floats {
            0 => &[][..],
            // SAFETY: the channels' states lie one after the other.
            _ => unsafe { std::slice::from_raw_parts(tensor.line(index, R - 2, channels), floats) },
        })
    }

    /// Row `row` of states, or nothing.
    #[inline(never)]
    pub fn load_state(&self, states: Option<&Strided<'_, f32, Host, 3>>, row: usize, memory: &mut Memory<'_>) {
        match states {
            Some(states) => self.matrix(states, [row, 0, 0], memory.state, memory.shape),
            None => memory.state.fill(0.0),
        }
    }

    /// The channels' rows of a tensor (.., dim, dstate), turned over where lanes lie along channels. Lanes beyond the last
    /// channel or state are 0.
    #[inline(never)]
    fn matrix<const R: usize>(
        &self,
        tensor: &Strided<'_, f32, Host, R>,
        mut index: [usize; R],
        to: &mut [f32],
        shape: Shape,
    ) {
        let (width, channels) = (shape.width, self.channels.len());
        if shape.lanes == Lanes::States {
            index[R - 2] = self.channels.start;
            if let Some(rows) = self.rows_of_states(tensor, index, shape) {
                return to[..rows.len()].copy_from_slice(rows);
            }
            for (row, to) in to.chunks_exact_mut(shape.pitch()).take(channels).enumerate() {
                index[R - 2] = self.channels.start + row;
                tensor.run(index, R - 1, &mut to[..shape.dstate]);
                to[shape.dstate..].fill(0.0);
            }
            return;
        }
        if channels < width {
            to.chunks_exact_mut(width).for_each(|row| row[channels..].fill(0.0));
        }
        index[R - 2] = self.channels.start;
        let [by_channel, by_state] = [tensor.layout.strides[R - 2], tensor.layout.strides[R - 1]];
        if by_state == 1 && shape.dstate > 0 && by_channel > 0 {
            let from = tensor.line(index, R - 2, channels);
            // SAFETY: the states of these channels, side by side for each.
            return unsafe { transpose_from(from, by_channel as usize, to, width, [channels, shape.dstate]) };
        }
        for n in 0..shape.dstate {
            index[R - 1] = n;
            tensor.run(index, R - 2, &mut to[n * width..][..channels]);
        }
    }

    /// The states into row `row` of an output.
    ///
    /// # Safety
    /// The row is below the extents, and no other thread writes these channels of it.
    #[inline(always)]
    pub unsafe fn store_state(&self, states: &Writer<'_, f32, 3>, row: usize, memory: &Memory<'_>) {
        // SAFETY: the caller's promise.
        unsafe { self.store_matrix(states, [row, 0, 0], memory.state, memory.shape) };
    }

    /// What has the form of the states, into the channels' rows of a tensor (.., dim, dstate).
    ///
    /// # Safety
    /// The index is below the extents, and no other thread writes these channels there.
    #[inline(never)]
    pub unsafe fn store_matrix<const R: usize>(
        &self,
        to: &Writer<'_, f32, R>,
        mut index: [usize; R],
        from: &[f32],
        shape: Shape,
    ) {
        let (width, channels, dstate) = (shape.width, self.channels.len(), shape.dstate);
        index[R - 2] = self.channels.start;
        let dense = to.stride(R - 2) == dstate as i64;
        let start = if dense && dstate > 0 { to.contiguous(index, R - 1) } else { None };
        // SAFETY: the channels' states lie one after the other, and are this call's alone.
        let together = start.map(|start| unsafe { std::slice::from_raw_parts_mut(start, channels * dstate) });
        if shape.lanes == Lanes::States {
            if let (Some(to), true) = (together, shape.pitch() == dstate) {
                return to.copy_from_slice(&from[..channels * dstate]);
            }
            for (channel, from) in from.chunks_exact(shape.pitch()).take(channels).enumerate() {
                index[R - 2] = self.channels.start + channel;
                // SAFETY: the caller's promise.
                unsafe { to.run(index, R - 1, &from[..dstate]) };
            }
            return;
        }
        if let Some(to) = together {
            return transpose(from, width, to, dstate, [dstate, channels]);
        }
        for n in 0..dstate {
            index[R - 1] = n;
            // SAFETY: the caller's promise.
            unsafe { to.run(index, R - 2, &from[n * width..][..channels]) };
        }
    }

    /// delta and delta x, B and C of `times`. Returns the least and the greatest delta.
    ///
    /// One text for the directions and passes, by [`Simd::vectorize`].
    #[inline(always)]
    pub fn stage<S: Simd>(&self, simd: S, times: Range<usize>, memory: &mut Memory<'_>) -> [f32; 2] {
        simd.vectorize(Staging { tile: self, times, memory })
    }

    /// delta and delta x of `times`. Returns the least and the greatest delta.
    #[inline(always)]
    fn stage_steps<S: Simd>(&self, simd: S, times: Range<usize>, memory: &mut Memory<'_>) -> [f32; 2] {
        let Memory { shape, delta, delta_x, bias, turned, .. } = memory;
        let (width, options) = (shape.width, self.inputs.step);
        let tensors = [&self.inputs.dt, &self.inputs.x];
        let side_by_side =
            |tensor: &Strided<'_, T, Host, 3>| by_channel(&tensor.layout, self.short) && tensor.layout.strides[1] == 1;
        // Shorter rows are not worth a call each.
        if self.channels.len() >= CHUNK && tensors.into_iter().all(side_by_side) {
            let mut extremes = [f32::INFINITY, f32::NEG_INFINITY];
            let rows = delta.chunks_exact_mut(width).zip(delta_x.chunks_exact_mut(width));
            for ((delta, delta_x), t) in rows.zip(times) {
                let index = [self.span.batch, self.channels.start, t];
                let [raw, x] = tensors.map(|tensor| tensor.neighbours(index, 1, self.channels.len()));
                let (Some(raw), Some(x)) = (raw, x) else { unreachable!("as looked at above") };
                let row = simd.vectorize(StepRow { options, raw, x, bias, delta, delta_x });
                extremes = [extremes[0].min(row[0]), extremes[1].max(row[1])];
            }
            return extremes;
        }
        let staged = ..times.len() * width;
        self.rows(tensors[0], times.clone(), delta, turned, *shape);
        self.rows(tensors[1], times, delta_x, turned, *shape);
        // The last tile's steps are no raw ones.
        let channels = self.channels.len();
        if channels < width {
            for rows in [&mut delta[staged], &mut delta_x[staged]] {
                rows.chunks_exact_mut(width).for_each(|row| row[channels..].fill(0.0));
            }
        }
        simd.vectorize(Steps { options, delta: &mut delta[staged], x: &mut delta_x[staged], bias })
    }

    /// A row of channels for each of `times`.
    #[inline(always)]
    pub fn rows(
        &self,
        tensor: &Strided<'_, T, Host, 3>,
        times: Range<usize>,
        to: &mut [f32],
        turned: &mut [f32],
        shape: Shape,
    ) {
        let (channels, count) = (self.channels.len(), times.len());
        if by_channel(&tensor.layout, self.short) {
            for (row, t) in to.chunks_exact_mut(shape.width).zip(times) {
                tensor.run([self.span.batch, self.channels.start, t], 1, &mut row[..channels]);
            }
            return;
        }
        let direct = T::DTYPE == Dtype::F32 && tensor.layout.strides[2] == 1;
        // Whole blocks are turned over in a moment: there is room behind the steps.
        let whole = count.next_multiple_of(TURN);
        for first in (0..channels).step_by(TURN) {
            if direct && channels - first >= TURN {
                let index = [self.span.batch, self.channels.start + first, times.start];
                let (from, by_channel) = (tensor.line(index, 1, TURN), tensor.layout.strides[1] as usize);
                // SAFETY: the steps of these channels, side by side for each, and f32.
                unsafe { transpose_from(from.cast(), by_channel, &mut to[first..], shape.width, [TURN, count]) };
            } else {
                self.lines(tensor, first, times.clone(), &mut turned[..TURN * whole], whole);
                transpose(turned, whole, &mut to[first..], shape.width, [TURN, whole]);
            }
        }
    }

    /// A line of `length` for each of the channels from `first` on: its steps of `times`, and 0 behind them.
    #[inline(always)]
    fn lines(
        &self,
        tensor: &Strided<'_, T, Host, 3>,
        first: usize,
        times: Range<usize>,
        to: &mut [f32],
        length: usize,
    ) {
        for (k, line) in to.chunks_exact_mut(length).enumerate() {
            let steps = if first + k < self.channels.len() { times.len() } else { 0 };
            tensor.run([self.span.batch, self.channels.start + first + k, times.start], 2, &mut line[..steps]);
            line[steps..].fill(0.0);
        }
    }

    /// B and C of `times`.
    #[inline(always)]
    fn stage_projections(&self, times: Range<usize>, memory: &mut Memory<'_>) {
        let (dstate, pitch, steps) = (memory.shape.dstate, memory.shape.pitch(), memory.shape.steps);
        for (rows, projection) in [(&mut memory.B, &self.inputs.B), (&mut memory.C, &self.inputs.C)] {
            let AlignedProjection::Variable { tensor, channels } = projection else { continue };
            let index = |n, t| [self.span.batch, self.channels.start / channels, n, t];
            let along_states = memory.shape.lanes == Lanes::States;
            if tensor.layout.strides[2] == 1 || along_states && times.len() == 1 {
                (rows.by_state, rows.by_step) = (1, pitch);
                for (row, t) in times.clone().enumerate() {
                    let to = &mut rows.memory[row * pitch..][..pitch];
                    tensor.run(index(0, t), 2, &mut to[..dstate]);
                    to[dstate..].fill(0.0);
                }
                continue;
            }
            if along_states {
                (rows.by_state, rows.by_step) = (1, pitch);
                let turned = &mut *memory.turned;
                for first in (0..pitch).step_by(TURN) {
                    for (n, to) in (first..).zip(turned.chunks_exact_mut(steps).take(TURN)) {
                        match n < dstate {
                            true => tensor.run(index(n, times.start), 3, &mut to[..times.len()]),
                            false => to[..times.len()].fill(0.0),
                        }
                    }
                    transpose(turned, steps, &mut rows.memory[first..], pitch, [TURN, times.len()]);
                }
                continue;
            }
            (rows.by_state, rows.by_step) = (steps, 1);
            for n in 0..dstate {
                tensor.run(index(n, times.start), 3, &mut rows.memory[n * steps..][..times.len()]);
            }
        }
    }

    /// What is read and written for `times`: rows of a few elements each, too short and too far apart for the hardware to
    /// foresee.
    #[inline(always)]
    pub fn ahead(&self, times: &Range<usize>, out: Option<&Writer<'_, T, 3>>) -> Ahead {
        let mut ahead = Ahead::default();
        if times.is_empty() {
            return ahead;
        }
        let (axis, extents) = match by_channel(&self.inputs.x.layout, self.short) {
            true => (2, [times.len(), self.channels.len()]),
            false => (1, [self.channels.len(), times.len()]),
        };
        let index = [self.span.batch, self.channels.start, times.start];
        for tensor in [Some(&self.inputs.dt), Some(&self.inputs.x), self.inputs.z.as_ref()] {
            ahead.read(tensor, index, axis, extents);
        }
        ahead.write(out, index, axis, extents);
        ahead
    }
}

/// [`Tile::stage`].
struct Staging<'s, 'i, 'a, 'm, T> {
    tile: &'s Tile<'i, 'a, T>,
    times: Range<usize>,
    memory: &'s mut Memory<'m>,
}

impl<T: Element> WithSimd for Staging<'_, '_, '_, '_, T> {
    type Output = [f32; 2];

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> [f32; 2] {
        self.tile.stage_projections(self.times.clone(), self.memory);
        self.tile.stage_steps(simd, self.times, self.memory)
    }
}
