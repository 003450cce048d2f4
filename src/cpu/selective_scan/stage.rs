//! A tile of channels and steps as f32 in the memory of a worker: rows of channels, one for each step or state.

use super::lines::{Gate, Greatest, Lines, Skip, Steps};
use super::memory::{LANES, Lanes, Memory, Shape, TURN, by_channel};
use crate::cpu::transpose::transpose;
use crate::cpu::writer::Writer;
use crate::ops::selective_scan::{AlignedProjection, Inputs};
use crate::segments::Span;
use crate::tensor::{Element, Host, Strided};
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// The channels of a task, and where their sequence lies.
pub(super) struct Tile<'i, 'a, T> {
    pub inputs: &'i Inputs<'a, T, Host>,
    pub span: Span,
    pub channels: Range<usize>,
    pub short: bool,
}

impl<T: Element> Tile<'_, '_, T> {
    /// What does not change from step to step. Lanes beyond the last channel or state are 0. Returns whether no element of A is
    /// positive.
    #[inline(never)]
    pub fn load_constants<S: Simd>(&self, simd: S, memory: &mut Memory<'_>) -> bool {
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
        self.matrix(&self.inputs.A, [0; 2], memory.A, memory.shape);
        for (rows, projection) in [(&mut memory.B, &self.inputs.B), (&mut memory.C, &self.inputs.C)] {
            if let AlignedProjection::Constant(tensor) = projection {
                self.matrix(tensor, [0; 2], rows.memory, memory.shape);
                (rows.by_state, rows.by_step) = match memory.shape.lanes {
                    Lanes::Channels => (width, 0),
                    Lanes::States => (1, memory.shape.pitch()),
                };
            }
        }
        // What lies behind the rows of the channels is of another tile.
        let own = match memory.shape.lanes {
            Lanes::Channels => memory.A.len(),
            Lanes::States => channels.len() * memory.shape.pitch(),
        };
        simd.vectorize(Greatest(&memory.A[..own])) <= 0.0
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
            if shape.dstate == shape.pitch() && tensor.layout.strides[R - 2..] == [shape.dstate as i64, 1] {
                let from = &tensor.memory.as_slice()[tensor.layout.offset(index)..];
                return to[..channels * shape.pitch()].copy_from_slice(&from[..channels * shape.pitch()]);
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
            let from = &tensor.memory.as_slice()[tensor.layout.offset(index)..];
            return transpose(from, by_channel as usize, to, width, [channels, shape.dstate]);
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
    #[inline(never)]
    pub unsafe fn store_state(&self, states: &Writer<'_, f32, 3>, row: usize, memory: &Memory<'_>) {
        let (width, channels, dstate) = (memory.shape.width, self.channels.len(), memory.shape.dstate);
        let dense = states.stride(1) == dstate as i64;
        let start = if dense && dstate > 0 { states.contiguous([row, self.channels.start, 0], 2) } else { None };
        // SAFETY: the channels' states lie one after the other, and are this call's alone.
        let together = start.map(|start| unsafe { std::slice::from_raw_parts_mut(start, channels * dstate) });
        if memory.shape.lanes == Lanes::States {
            if let (Some(to), true) = (together, memory.shape.pitch() == dstate) {
                return to.copy_from_slice(&memory.state[..channels * dstate]);
            }
            for (channel, from) in memory.state.chunks_exact(memory.shape.pitch()).take(channels).enumerate() {
                // SAFETY: the caller's promise.
                unsafe { states.run([row, self.channels.start + channel, 0], 2, &from[..dstate]) };
            }
            return;
        }
        if let Some(to) = together {
            return transpose(memory.state, width, to, dstate, [dstate, channels]);
        }
        for n in 0..dstate {
            let from = &memory.state[n * width..][..channels];
            // SAFETY: the caller's promise.
            unsafe { states.run([row, self.channels.start, n], 1, from) };
        }
    }

    /// delta and delta x, B and C of `times`. Returns whether no delta is negative.
    ///
    /// One text for the directions and passes, by [`Simd::vectorize`].
    #[inline(always)]
    pub fn stage<S: Simd>(&self, simd: S, times: Range<usize>, memory: &mut Memory<'_>) -> bool {
        simd.vectorize(Staging { tile: self, times, memory })
    }

    /// delta and delta x of `times`. Returns whether no delta is negative.
    #[inline(always)]
    fn stage_steps<S: Simd>(&self, simd: S, times: Range<usize>, memory: &mut Memory<'_>) -> bool {
        let Memory { shape, delta, delta_x, bias, turned, .. } = memory;
        let staged = ..times.len() * shape.width;
        self.rows(&self.inputs.dt, times.clone(), delta, turned[0], *shape);
        self.rows(&self.inputs.x, times, delta_x, turned[0], *shape);
        simd.vectorize(Steps { options: self.inputs.step, delta: &mut delta[staged], x: &mut delta_x[staged], bias })
    }

    /// A row of channels for each of `times`.
    #[inline(always)]
    fn rows(
        &self,
        tensor: &Strided<'_, T, Host, 3>,
        times: Range<usize>,
        to: &mut [f32],
        turned: &mut [f32],
        shape: Shape,
    ) {
        let (channels, count) = (self.channels.len(), times.len());
        if by_channel(&tensor.layout.strides, self.short) {
            for (row, t) in to.chunks_exact_mut(shape.width).zip(times) {
                tensor.run([self.span.batch, self.channels.start, t], 1, &mut row[..channels]);
            }
            return;
        }
        // Whole blocks are turned over in a moment: there is room behind the steps.
        let whole = count.next_multiple_of(TURN);
        for first in (0..channels).step_by(TURN) {
            self.lines(tensor, first, times.clone(), &mut turned[..TURN * whole], whole);
            transpose(turned, whole, &mut to[first..], shape.width, [TURN, whole]);
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
                let turned = &mut *memory.turned[0];
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

    /// The gated output of `times` from y.
    ///
    /// # Safety
    /// No other thread writes these steps of these channels.
    #[inline(always)]
    pub unsafe fn finish<S: Simd>(
        &self,
        simd: S,
        out: &Writer<'_, T, 3>,
        times: Range<usize>,
        memory: &mut Memory<'_>,
    ) {
        let Memory { shape, delta_x, y, D, turned, .. } = memory;
        let (width, channels, count) = (shape.width, self.channels.len(), times.len());
        if by_channel(&[out.stride(0), out.stride(1), out.stride(2)], self.short) {
            // What x and z are read to: delta x has done its work.
            let (y, other) = (&mut y[..count * width], delta_x);
            if self.inputs.D.is_some() {
                self.rows(&self.inputs.x, times.clone(), other, turned[0], *shape);
                simd.vectorize(Skip { y, x: other, D: Lines::Rows(D) });
            }
            if let Some(z) = &self.inputs.z {
                self.rows(z, times.clone(), other, turned[0], *shape);
                simd.vectorize(Gate { count: y.len(), y, z: other });
            }
            for (y, t) in y.chunks_exact(width).zip(times) {
                // SAFETY: the caller's promise.
                unsafe { out.run([self.span.batch, self.channels.start, t], 1, &y[..channels]) };
            }
            return;
        }
        let (length, whole) = (count.next_multiple_of(LANES), count.next_multiple_of(TURN));
        for first in (0..channels).step_by(TURN) {
            let [lines, other] = turned.each_mut().map(|turned| &mut turned[..TURN * length]);
            transpose(&y[first..], width, lines, length, [whole, TURN]);
            let floats = TURN.min(channels - first) * length;
            let (lines, other) = (&mut lines[..floats], &mut other[..floats]);
            if self.inputs.D.is_some() {
                self.lines(&self.inputs.x, first, times.clone(), other, length);
                simd.vectorize(Skip { y: lines, x: other, D: Lines::Of(&D[first..], length) });
            }
            if let Some(z) = &self.inputs.z {
                self.lines(z, first, times.clone(), other, length);
                simd.vectorize(Gate { count: lines.len(), y: lines, z: other });
            }
            for (k, line) in lines.chunks_exact(length).enumerate() {
                // SAFETY: the caller's promise.
                unsafe { out.run([self.span.batch, self.channels.start + first + k, times.start], 2, &line[..count]) };
            }
        }
    }

    /// The part `share` of x, dt and z of `times`, on its way to the cache: rows of a few elements each, too short and too
    /// far apart for the hardware to foresee.
    #[inline(always)]
    pub fn fetch(&self, times: &Range<usize>, share: Range<f32>, out: Option<&Writer<'_, T, 3>>) {
        if times.is_empty() {
            return;
        }
        let by_channel = by_channel(&self.inputs.x.layout.strides, self.short);
        let (rows, length, axis) = match by_channel {
            true => (times.len(), self.channels.len(), 2),
            false => (self.channels.len(), times.len(), 1),
        };
        let ends = [share.start, share.end].map(|end| ((rows as f32 * end) as usize).min(rows));
        for row in ends[0]..ends[1] {
            let mut index = [self.span.batch, self.channels.start, times.start];
            index[axis] += row;
            for tensor in [Some(&self.inputs.dt), Some(&self.inputs.x), self.inputs.z.as_ref()].into_iter().flatten() {
                tensor.fetch(index, 3 - axis, length);
            }
            if let Some(out) = out {
                out.fetch(index, 3 - axis, length);
            }
        }
    }
}

/// [`Tile::stage`].
struct Staging<'s, 'i, 'a, 'm, T> {
    tile: &'s Tile<'i, 'a, T>,
    times: Range<usize>,
    memory: &'s mut Memory<'m>,
}

impl<T: Element> WithSimd for Staging<'_, '_, '_, '_, T> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> bool {
        self.tile.stage_projections(self.times.clone(), self.memory);
        self.tile.stage_steps(simd, self.times, self.memory)
    }
}
