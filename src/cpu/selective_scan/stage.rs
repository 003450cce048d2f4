//! A tile of channels and steps as f32 in the memory of a worker: rows of channels, one for each step or state.

use super::lines::{Constant, Gate, Steps, load, store};
use super::memory::{Memory, Shape, TURN, by_channel};
use crate::cpu::math::lanes::fma;
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
    /// What does not change from step to step. Lanes beyond the last channel are 0. Returns whether no element of A is
    /// positive.
    #[inline(never)]
    pub fn load_constants(&self, memory: &mut Memory<'_>) -> bool {
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
                rows.by_state = width;
            }
        }
        memory.A.iter().all(|&a| a <= 0.0)
    }

    /// Row `row` of states, or nothing.
    #[inline(never)]
    pub fn load_state(&self, states: Option<&Strided<'_, f32, Host, 3>>, row: usize, memory: &mut Memory<'_>) {
        match states {
            Some(states) => self.matrix(states, [row, 0, 0], memory.state, memory.shape),
            None => memory.state.fill(0.0),
        }
    }

    /// The channels' rows of a tensor (.., dim, dstate), turned over. Lanes beyond the last channel are 0.
    #[inline(never)]
    fn matrix<const R: usize>(
        &self,
        tensor: &Strided<'_, f32, Host, R>,
        mut index: [usize; R],
        to: &mut [f32],
        shape: Shape,
    ) {
        let (width, channels) = (shape.width, self.channels.len());
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
        if let Some(start) = start {
            // SAFETY: the channels' states lie one after the other, and are this call's alone.
            let to = unsafe { std::slice::from_raw_parts_mut(start, channels * dstate) };
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
        let (width, channels, count) = (memory.shape.width, self.channels.len(), times.len());
        let mut forward = true;
        if by_channel(&self.inputs.x.layout.strides, self.short) {
            for (row, t) in times.enumerate() {
                let (delta, x) = (&mut memory.delta[row * width..], &mut memory.delta_x[row * width..]);
                let (delta, x) = (&mut delta[..width], &mut x[..width]);
                let index = [self.span.batch, self.channels.start, t];
                self.inputs.dt.run(index, 1, &mut delta[..channels]);
                self.inputs.x.run(index, 1, &mut x[..channels]);
                let bias = Constant::Row(memory.bias);
                forward &= simd.vectorize(Steps { options: self.inputs.step, delta, x, count: channels, bias });
            }
            return forward;
        }
        let length = memory.shape.steps;
        for first in (0..channels).step_by(TURN) {
            let [delta, x] = &mut memory.turned;
            for k in 0..TURN {
                let (delta, x) = (&mut delta[k * length..][..length], &mut x[k * length..][..length]);
                if first + k >= channels {
                    delta.fill(0.0);
                    x.fill(0.0);
                    continue;
                }
                let index = [self.span.batch, self.channels.start + first + k, times.start];
                self.inputs.dt.run(index, 2, &mut delta[..count]);
                self.inputs.x.run(index, 2, &mut x[..count]);
                // What another tile left there would be no step.
                delta[count..].fill(0.0);
                x[count..].fill(0.0);
                let bias = Constant::One(memory.bias[first + k]);
                forward &= simd.vectorize(Steps { options: self.inputs.step, delta, x, count, bias });
            }
            transpose(delta, length, &mut memory.delta[first..], width, [TURN, count]);
            transpose(x, length, &mut memory.delta_x[first..], width, [TURN, count]);
        }
        forward
    }

    /// B and C of `times`.
    #[inline(always)]
    fn stage_projections(&self, times: Range<usize>, memory: &mut Memory<'_>) {
        let (dstate, steps) = (memory.shape.dstate, memory.shape.steps);
        for (rows, projection) in [(&mut memory.B, &self.inputs.B), (&mut memory.C, &self.inputs.C)] {
            let AlignedProjection::Variable { tensor, channels } = projection else { continue };
            let index = |n, t| [self.span.batch, self.channels.start / channels, n, t];
            if tensor.layout.strides[2] == 1 {
                (rows.by_state, rows.by_step) = (1, dstate);
                for (row, t) in times.clone().enumerate() {
                    tensor.run(index(0, t), 2, &mut rows.memory[row * dstate..][..dstate]);
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
        let (width, channels, count, length) =
            (memory.shape.width, self.channels.len(), times.len(), memory.shape.steps);
        let [y, other] = &mut memory.turned;
        if by_channel(&[out.stride(0), out.stride(1), out.stride(2)], self.short) {
            for (row, t) in times.enumerate() {
                let y = &mut memory.y[row * width..][..width];
                let index = [self.span.batch, self.channels.start, t];
                let D = Constant::Row(memory.D);
                self.gate(simd, index, 1, [&mut y[..width], &mut other[..width]], channels, D);
                // SAFETY: the caller's promise.
                unsafe { out.run(index, 1, &y[..channels]) };
            }
            return;
        }
        for first in (0..channels).step_by(TURN) {
            transpose(&memory.y[first..], width, y, length, [count, TURN]);
            for k in 0..TURN.min(channels - first) {
                let y = &mut y[k * length..][..length];
                let index = [self.span.batch, self.channels.start + first + k, times.start];
                let D = Constant::One(memory.D[first + k]);
                self.gate(simd, index, 2, [&mut *y, &mut other[..length]], count, D);
                // SAFETY: the caller's promise.
                unsafe { out.run(index, 2, &y[..count]) };
            }
        }
    }

    /// y + D x, gated, for `count` neighbours along dimension `axis`.
    #[inline(always)]
    fn gate<S: Simd>(
        &self,
        simd: S,
        index: [usize; 3],
        axis: usize,
        [y, other]: [&mut [f32]; 2],
        count: usize,
        D: Constant<'_>,
    ) {
        if self.inputs.D.is_some() {
            self.inputs.x.run(index, axis, &mut other[..count]);
            for at in (0..count).step_by(S::F32_LANES) {
                let (sum, x) = (load::<S>(&y[at..]), load::<S>(&other[at..]));
                store::<S>(y, at, fma(simd, D.at(simd, at), x, sum));
            }
        }
        if let Some(z) = &self.inputs.z {
            z.run(index, axis, &mut other[..count]);
            simd.vectorize(Gate { y, z: other, count });
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
