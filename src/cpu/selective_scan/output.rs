//! The output of a tile from the sums over its states: (y + D x) silu(z).

use super::lines::{CHUNK, Constant, load, store};
use super::memory::{LANES, MOST_CHANNELS, Memory, TURN, by_channel};
use super::stage::{Neighbours, Tile};
use crate::cpu::math::lanes::fma;
use crate::cpu::math::logistic::{silu_from, silu_power};
use crate::cpu::runs::{narrow, widen};
use crate::cpu::transpose::transpose;
use crate::cpu::writer::Writer;
use crate::tensor::{Dtype, Element};
use pulp::{Simd, WithSimd};
use std::ops::Range;

impl<T: Element> Tile<'_, '_, T> {
    /// The output of `times` from y. delta and delta x are lost.
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
        let (channels, count) = (self.channels.len(), times.len());
        let across = by_channel(out.layout(), self.short);
        let (axis, length) = if across { (1, channels) } else { (2, count) };
        let tensors = [self.inputs.D.is_some().then_some(&self.inputs.x), self.inputs.z.as_ref()];
        let side_by_side = tensors.into_iter().flatten().all(|tensor| tensor.layout.strides[axis] == 1);
        // Short lines are not worth a call each.
        let by_rows = length < CHUNK || !side_by_side || out.stride(axis) != 1;
        if by_rows {
            self.finish_rows(simd, times.clone(), memory);
        }
        let Memory { shape, y, D, turned, .. } = memory;
        let mut line = Neighbours { index: [self.span.batch, self.channels.start, times.start], axis, count: length };
        if across {
            for (y, t) in y.chunks_exact(shape.width).zip(times) {
                line.index[2] = t;
                let D = (!by_rows).then_some(Constant::Row(D));
                // SAFETY: the caller's promise.
                unsafe { self.put(simd, out, line, y, D) };
            }
            return;
        }
        let (length, whole) = (count.next_multiple_of(LANES), count.next_multiple_of(TURN));
        let lines = &mut turned[..TURN * length];
        for first in (0..channels).step_by(TURN) {
            transpose(&y[first..], shape.width, lines, length, [whole, TURN]);
            for (y, channel) in lines.chunks_exact(length).zip(first..channels) {
                line.index[1] = self.channels.start + channel;
                let D = (!by_rows).then(|| Constant::One(D[channel]));
                // SAFETY: the caller's promise.
                unsafe { self.put(simd, out, line, y, D) };
            }
        }
    }

    /// As [`finish`](Self::finish), with the output in y: x and z are brought into rows first, in the place of delta x and
    /// delta.
    #[inline(always)]
    fn finish_rows<S: Simd>(&self, simd: S, times: Range<usize>, memory: &mut Memory<'_>) {
        let Memory { shape, delta, delta_x, y, D, turned, .. } = memory;
        let staged = ..times.len() * shape.width;
        if self.inputs.D.is_some() {
            self.rows(&self.inputs.x, times.clone(), delta_x, turned, *shape);
        }
        if let Some(z) = &self.inputs.z {
            self.rows(z, times, delta, turned, *shape);
        }
        let x = self.inputs.D.is_some().then_some(&delta_x[staged]);
        let z = self.inputs.z.is_some().then_some(&delta[staged]);
        simd.vectorize(OutputRows { y: &mut y[staged], x, z, D });
    }

    /// A line of the output, neighbours in `out`. `y` has room for whole vectors; without D it is the output.
    ///
    /// # Safety
    /// No other thread writes there.
    #[inline(always)]
    unsafe fn put<S: Simd>(
        &self,
        simd: S,
        out: &Writer<'_, T, 3>,
        line: Neighbours,
        y: &[f32],
        D: Option<Constant<'_>>,
    ) {
        let Neighbours { index, axis, count } = line;
        let (Some(D), Some(start)) = (D, out.contiguous(index, axis)) else {
            // SAFETY: the caller's promise.
            return unsafe { out.run(index, axis, &y[..count]) };
        };
        let x = self.inputs.D.is_some().then_some(&self.inputs.x);
        let [x, z] = [x, self.inputs.z.as_ref()].map(|tensor| tensor?.neighbours(index, axis, count));
        // SAFETY: neighbours lie side by side, inside the output, and are this call's alone.
        let out = unsafe { std::slice::from_raw_parts_mut(start, count) };
        simd.vectorize(Output { y, x, z, D, out });
    }
}

/// The output of rows of channels, as long as `D`, in the place of y. x: only with D.
struct OutputRows<'l> {
    y: &'l mut [f32],
    x: Option<&'l [f32]>,
    z: Option<&'l [f32]>,
    D: &'l [f32],
}

impl WithSimd for OutputRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { y, x, z, D } = self;
        let mut own = [0.0f32; MOST_CHANNELS];
        let own = &mut own[..D.len()];
        for (i, y) in y.chunks_exact_mut(D.len()).enumerate() {
            let [x, z] = [x, z].map(|rows| rows.map(|rows| &rows[i * D.len()..(i + 1) * D.len()]));
            gated(simd, y, [x, z], Constant::Row(D), own);
            y.copy_from_slice(own);
        }
    }
}

/// A line of the output: neighbours in memory. x: only with D.
///
/// Run by [`Simd::vectorize`], so that it is compiled once for a dtype.
struct Output<'l, T> {
    /// With room for whole vectors.
    y: &'l [f32],
    x: Option<&'l [T]>,
    z: Option<&'l [T]>,
    D: Constant<'l>,
    out: &'l mut [T],
}

impl<T: Element> WithSimd for Output<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { y, x, z, D, out } = self;
        let whole = out.len() / CHUNK * CHUNK;
        // What need not be converted is one chunk: the longer, the less a core waits for its end.
        let length = if T::DTYPE == Dtype::F32 { whole.max(CHUNK) } else { CHUNK };
        let (full, rest) = out.split_at_mut(whole);
        for (at, out) in (0..whole).step_by(length).zip(full.chunks_exact_mut(length)) {
            let [x, z] = [x, z].map(|line| line.map(|line| &line[at..at + length]));
            chunk(simd, &y[at..], [x, z], D.from(at), out);
        }
        if !rest.is_empty() {
            let [x, z] = [x, z].map(|line| line.map(|line| &line[whole..]));
            chunk(simd, &y[whole..], [x, z], D.from(whole), rest);
        }
    }
}

/// Some elements of a line: up to [`CHUNK`], or of f32 a multiple of it.
#[inline(always)]
fn chunk<S: Simd, T: Element>(simd: S, y: &[f32], [x, z]: [Option<&[T]>; 2], D: Constant<'_>, out: &mut [T]) {
    if T::DTYPE == Dtype::F32 && out.len().is_multiple_of(CHUNK) {
        let [x, z] = [x, z].map(|line| line.map(bytemuck::cast_slice));
        return gated(simd, y, [x, z], D, bytemuck::cast_slice_mut(out));
    }
    let [mut own_x, mut own_z, mut own] = [[0.0f32; CHUNK]; 3];
    for (own, line) in [&mut own_x, &mut own_z].into_iter().zip([x, z]) {
        if let Some(line) = line {
            widen(line, &mut own[..line.len()]);
        }
    }
    let whole = out.len().next_multiple_of(S::F32_LANES);
    let (x, z) = (x.map(|_| &own_x[..whole]), z.map(|_| &own_z[..whole]));
    gated(simd, y, [x, z], D, &mut own[..whole]);
    narrow(&own[..out.len()], out);
}

/// Whole vectors.
#[inline(always)]
fn gated<S: Simd>(simd: S, y: &[f32], [x, z]: [Option<&[f32]>; 2], D: Constant<'_>, out: &mut [f32]) {
    if let Some(z) = z {
        for at in (0..out.len()).step_by(S::F32_LANES) {
            store::<S>(out, at, silu_power(simd, load::<S>(&z[at..])));
        }
    }
    for at in (0..out.len()).step_by(S::F32_LANES) {
        let mut v = load::<S>(&y[at..]);
        if let Some(x) = x {
            v = fma(simd, D.at(simd, at), load::<S>(&x[at..]), v);
        }
        if let Some(z) = z {
            v = simd.mul_f32s(v, silu_from(simd, load::<S>(&z[at..]), load::<S>(&out[at..])));
        }
        store::<S>(out, at, v);
    }
}
