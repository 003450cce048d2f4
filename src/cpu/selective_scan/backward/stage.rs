//! What a window reads beside the forward direction's tile, and what it writes: in rows of channels or of steps, as the
//! tensors lie.

use super::memory::{LINES, STEPS, Scratch, split};
use super::{Call, ProjectionWriter};
use crate::cpu::math::lanes::fma;
use crate::cpu::math::logistic::silu_derivative;
use crate::cpu::selective_scan::lines::{Constant, Gate, load, store};
use crate::cpu::selective_scan::memory::{LANES, Lanes, Shape, TURN, by_channel};
use crate::cpu::selective_scan::stage::Tile;
use crate::cpu::transpose::transpose;
use crate::ops::StepOptions;
use crate::tensor::{Element, Host, Strided};
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// Sums over the steps of each channel, from the last to the first. dD without a gate holds no exp whose error would hide
/// that of a long f32 sum, and few channels may have one sum: hence f64.
pub(super) struct Sums<'s> {
    pub dD: &'s mut [f64],
    pub ddt_bias: &'s mut [f64],
}

/// Neighbours in memory: of `count` channels at one step, or steps of one channel.
#[derive(Debug, Clone, Copy)]
struct Line {
    index: [usize; 3],
    axis: usize,
    count: usize,
}

/// The buffers of a line.
struct Buffers<'b> {
    /// Sums over the states, which become dx, ddt and dz.
    by_input: &'b mut [f32],
    by_decay: &'b mut [f32],
    y: &'b mut [f32],
    delta: &'b [f32],
    /// The gradient by the output before the gate.
    g: &'b [f32],
    x: &'b mut [f32],
    raw: &'b mut [f32],
    dout: &'b mut [f32],
    z: &'b mut [f32],
}

impl<T: Element> Call<'_, '_, '_, T> {
    /// Whether a line is a row of channels; else it is steps of one channel, as where channels do not fill a vector.
    fn by_rows(&self, shape: Shape, channels: usize) -> bool {
        by_channel(&self.inputs.x.layout, shape.short) && (channels >= LANES || shape.short)
    }

    /// The gradient by the output before the gate, for the channels and `times` of a window.
    #[inline(always)]
    fn stage_output<S: Simd>(&self, simd: S, tile: &Tile<'_, '_, T>, times: Range<usize>, scratch: &mut Scratch<'_>) {
        let Some(dout) = &self.upstream.dout else { return };
        let (shape, channels) = (scratch.tile.shape, tile.channels.len());
        let (start, count) = (tile.channels.start, times.len());
        if self.by_rows(shape, channels) {
            let line = |t| Line { index: [tile.span.batch, start, t], axis: 1, count: channels };
            for (row, t) in times.enumerate() {
                let z = &mut scratch.lines[..shape.width];
                self.gated(simd, dout, line(t), &mut scratch.g[row * shape.width..][..shape.width], z);
            }
            return;
        }
        let (lines, z) = scratch.lines.split_at_mut(TURN * shape.steps);
        for first in (0..channels).step_by(TURN) {
            for (k, g) in lines.chunks_exact_mut(shape.steps).enumerate() {
                if first + k >= channels {
                    g.fill(0.0);
                    continue;
                }
                let index = [tile.span.batch, start + first + k, times.start];
                self.gated(simd, dout, Line { index, axis: 2, count }, g, &mut z[..shape.steps]);
            }
            transpose(lines, shape.steps, &mut scratch.g[first..], shape.width, [TURN, count]);
        }
    }

    /// dout of a line, times the gate; 0 behind its end.
    #[inline(always)]
    fn gated<S: Simd>(&self, simd: S, dout: &Strided<'_, T, Host, 3>, line: Line, g: &mut [f32], z: &mut [f32]) {
        dout.run(line.index, line.axis, &mut g[..line.count]);
        g[line.count..].fill(0.0);
        if let Some(tensor) = &self.inputs.z {
            tensor.run(line.index, line.axis, &mut z[..line.count]);
            simd.vectorize(Gate { y: g, z, count: line.count });
            g[line.count..].fill(0.0);
        }
    }

    /// dx, ddt and dz of a window, and what it adds to dD and ddt_bias.
    ///
    /// # Safety
    /// No other thread writes these steps of these channels.
    #[inline(always)]
    pub unsafe fn finish<S: Simd>(
        &self,
        simd: S,
        tile: &Tile<'_, '_, T>,
        times: Range<usize>,
        scratch: &mut Scratch<'_>,
        sums: &mut Sums<'_>,
    ) {
        if !self.by_rows(scratch.tile.shape, tile.channels.len()) {
            // SAFETY: the caller's promise.
            return unsafe { self.finish_turned(simd, tile, times, scratch, sums) };
        }
        let (width, channels, count) = (scratch.tile.shape.width, tile.channels.len(), times.len());
        let memory = &mut scratch.tile;
        let constants = [&*memory.bias, &*memory.D].map(Constant::Row);
        let [raw, dout, z] = split(&mut scratch.lines[..3 * width], [width; 3]);
        for row in 0..count {
            let at = row * width..(row + 1) * width;
            let [by_input, by_decay, y, x] =
                [&mut *scratch.by_input, scratch.by_decay, memory.y, memory.delta_x].map(|rows| &mut rows[at.clone()]);
            let (delta, g) = (&memory.delta[at.clone()], &scratch.g[at]);
            let index = [tile.span.batch, tile.channels.start, times.start + row];
            let mut buffers = Buffers { by_input, by_decay, y, delta, g, x, raw, dout, z };
            // SAFETY: the caller's promise.
            unsafe { self.finish_line(simd, Line { index, axis: 1, count: channels }, &mut buffers, constants) };
        }
        // delta_x has become x.
        let (rows, back) = ([count, width], tile.span.reverse);
        if self.upstream.dout.is_some() {
            add_up(sums.dD, scratch.g, Some(memory.delta_x), rows, back);
        }
        add_up(sums.ddt_bias, scratch.by_decay, None, rows, back);
    }

    /// [`Self::finish`] where steps are nearer to each other than channels.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn finish_turned<S: Simd>(
        &self,
        simd: S,
        tile: &Tile<'_, '_, T>,
        times: Range<usize>,
        scratch: &mut Scratch<'_>,
        sums: &mut Sums<'_>,
    ) {
        let (shape, channels, count) = (scratch.tile.shape, tile.channels.len(), times.len());
        let (length, memory) = (shape.steps, &mut scratch.tile);
        let (lines, rest) = scratch.lines.split_at_mut(LINES * TURN * length);
        let [inputs, decays, ys, deltas, gs, xs] = split(lines, [TURN * length; LINES]);
        let [raw, dout, z] = split(rest, [length; 3]);
        for first in (0..channels).step_by(TURN) {
            let rows = [&*scratch.by_input, scratch.by_decay, memory.y, memory.delta, scratch.g];
            for (rows, lines) in rows.into_iter().zip([&mut *inputs, decays, ys, deltas, gs]) {
                transpose(&rows[first..], shape.width, lines, length, [count, TURN]);
            }
            for k in 0..TURN.min(channels - first) {
                let at = k * length..(k + 1) * length;
                let [by_input, by_decay, y, x] = [&mut *inputs, decays, ys, xs].map(|lines| &mut lines[at.clone()]);
                let (delta, g) = (&deltas[at.clone()], &gs[at]);
                let index = [tile.span.batch, tile.channels.start + first + k, times.start];
                let constants = [memory.bias[first + k], memory.D[first + k]].map(Constant::One);
                let mut buffers = Buffers { by_input, by_decay, y, delta, g, x, raw, dout, z };
                // SAFETY: the caller's promise.
                unsafe { self.finish_line(simd, Line { index, axis: 2, count }, &mut buffers, constants) };
            }
            // To rows of channels, for the sums.
            transpose(xs, length, &mut memory.delta_x[first..], shape.width, [TURN, count]);
            transpose(decays, length, &mut scratch.by_decay[first..], shape.width, [TURN, count]);
        }
        let (rows, back) = ([count, shape.width], tile.span.reverse);
        if self.upstream.dout.is_some() {
            add_up(sums.dD, scratch.g, Some(memory.delta_x), rows, back);
        }
        add_up(sums.ddt_bias, scratch.by_decay, None, rows, back);
    }

    /// dx, ddt and dz of a line, in place of the sums over the states.
    ///
    /// # Safety
    /// No other thread writes there.
    #[inline(always)]
    unsafe fn finish_line<S: Simd>(
        &self,
        simd: S,
        line: Line,
        buffers: &mut Buffers<'_>,
        constants: [Constant<'_>; 2],
    ) {
        let Line { index, axis, count } = line;
        let (inputs, output) = (&self.inputs, self.upstream.dout.is_some());
        inputs.x.run(index, axis, &mut buffers.x[..count]);
        inputs.dt.run(index, axis, &mut buffers.raw[..count]);
        if let (true, Some(dout), Some(z)) = (self.wanted.y, &self.upstream.dout, &inputs.z) {
            dout.run(index, axis, &mut buffers.dout[..count]);
            z.run(index, axis, &mut buffers.z[..count]);
        }
        let [bias, D] = constants;
        let (D, gate) = (inputs.D.map(|_| D), self.wanted.y);
        simd.vectorize(Pointwise { buffers: &mut *buffers, count, options: inputs.step, bias, D, output, gate });
        if !output {
            buffers.y.fill(0.0);
        }
        let writers = [(&self.writers.dx, &*buffers.by_input), (&self.writers.ddt, &*buffers.by_decay)];
        for (writer, from) in writers.into_iter().chain([(&self.writers.dz, &*buffers.y)]) {
            if let Some(writer) = writer {
                // SAFETY: the caller's promise.
                unsafe { writer.run(index, axis, &from[..count]) };
            }
        }
    }

    /// dB and dC of `window`: into the results, or, for groups of several tiles, to what the task keeps.
    ///
    /// # Safety
    /// No other thread writes these steps of these channels' groups.
    #[inline(always)]
    pub unsafe fn hand_over(
        &self,
        tile: &Tile<'_, '_, T>,
        times: Range<usize>,
        window: usize,
        scratch: &mut Scratch<'_>,
        kept: &mut [&mut [f32]; 2],
    ) {
        let (shape, count) = (scratch.tile.shape, times.len());
        for (of, writer) in [&self.writers.dB, &self.writers.dC].into_iter().enumerate() {
            let Some(ProjectionWriter::Variable { writer, channels, .. }) = writer else { continue };
            let mut kept = (!kept[of].is_empty()).then(|| &mut kept[of][window * STEPS * shape.dstate..]);
            for first in (0..shape.dstate).step_by(TURN) {
                let (states, memory) = (first..shape.dstate.min(first + TURN), &*scratch.projections[of]);
                let lines = match shape.lanes {
                    Lanes::Channels => &memory[first * shape.steps..],
                    Lanes::States => {
                        let (lines, pitch) = (&mut *scratch.lines, shape.pitch());
                        transpose(&memory[first..], pitch, lines, shape.steps, [count, states.len()]);
                        &*lines
                    }
                };
                for (n, from) in states.zip(lines.chunks(shape.steps)) {
                    match &mut kept {
                        Some(kept) => kept[n * count..][..count].copy_from_slice(&from[..count]),
                        // SAFETY: the caller's promise.
                        None => unsafe {
                            let index = [tile.span.batch, tile.channels.start / channels, n, times.start];
                            writer.run(index, 3, &from[..count]);
                        },
                    }
                }
            }
        }
    }
}

/// The gradient by the output before the gate, staged: to be run by [`Simd::vectorize`].
pub(super) struct StagedOutput<'s, 'i, 'u, 'o, 'm, T: Element> {
    pub call: &'s Call<'i, 'u, 'o, T>,
    pub tile: &'s Tile<'s, 'i, T>,
    pub times: Range<usize>,
    pub scratch: &'s mut Scratch<'m>,
}

impl<T: Element> WithSimd for StagedOutput<'_, '_, '_, '_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.call.stage_output(simd, self.tile, self.times, self.scratch);
    }
}

/// dx, ddt and dz of a line, in place of the sums over the states.
struct Pointwise<'l, 'b> {
    buffers: &'l mut Buffers<'b>,
    count: usize,
    options: StepOptions,
    bias: Constant<'l>,
    D: Option<Constant<'l>>,
    output: bool,
    /// dz is wanted.
    gate: bool,
}

impl WithSimd for Pointwise<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { buffers, count, options, bias, D, output, gate } = self;
        for at in (0..count).step_by(S::F32_LANES) {
            let vector = |line: &[f32]| load::<S>(&line[at..]);
            let (x, by_input, by_decay) = (vector(buffers.x), vector(buffers.by_input), vector(buffers.by_decay));
            let slope = options.slope(simd, simd.add_f32s(vector(buffers.raw), bias.at(simd, at)));
            let ddt = simd.mul_f32s(fma(simd, x, by_input, by_decay), slope);
            let mut dx = simd.mul_f32s(vector(buffers.delta), by_input);
            if let (true, Some(D)) = (output, D) {
                dx = fma(simd, D.at(simd, at), vector(buffers.g), dx);
            }
            if gate {
                let y = vector(buffers.y);
                let ungated = D.map_or(y, |D| fma(simd, D.at(simd, at), x, y));
                let by_z = silu_derivative(simd, vector(buffers.z));
                store::<S>(buffers.y, at, simd.mul_f32s(simd.mul_f32s(vector(buffers.dout), ungated), by_z));
            }
            store::<S>(buffers.by_input, at, dx);
            store::<S>(buffers.by_decay, at, ddt);
        }
    }
}

/// Adds rows of channels, or their products with others, to the sums of the channels, from the last step to the first.
#[inline(always)]
fn add_up(sums: &mut [f64], rows: &[f32], others: Option<&[f32]>, [count, width]: [usize; 2], back: bool) {
    /// Channels whose sums stay in registers.
    const TOGETHER: usize = 16;
    for (first, sums) in (0..width).step_by(TOGETHER).zip(sums.as_chunks_mut::<TOGETHER>().0) {
        let mut own = *sums;
        for i in 0..count {
            let at = (if back { i } else { count - 1 - i }) * width + first;
            let row: &[f32; TOGETHER] = rows[at..].first_chunk().expect("whole rows");
            let other = others.map(|others| others[at..].first_chunk::<TOGETHER>().expect("whole rows"));
            for (k, sum) in own.iter_mut().enumerate() {
                *sum += f64::from(row[k]) * other.map_or(1.0, |other| f64::from(other[k]));
            }
        }
        *sums = own;
    }
}
