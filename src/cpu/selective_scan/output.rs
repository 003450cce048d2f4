//! The output of a tile from the sums over its states: (y + D x) silu(z).

use super::lines::{CHUNK, Constant, load, store};
use super::memory::{LANES, MOST_CHANNELS, Memory, TURN, by_channel};
use super::stage::{Neighbours, Tile};
use crate::cpu::math::lanes::fma;
use crate::cpu::math::logistic::silu;
use crate::cpu::runs::{narrow, widen};
use crate::cpu::transpose::transpose;
use crate::cpu::writer::Writer;
use crate::tensor::{Dtype, Element};
use pulp::{Simd, WithSimd};
use std::ops::Range;

impl<T: Element> Tile<'_, '_, T> {
    /// The output of `times` from y.
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
        let Memory { shape, y, D, turned, .. } = memory;
        let (width, channels, count) = (shape.width, self.channels.len(), times.len());
        let index = [self.span.batch, self.channels.start, times.start];
        if by_channel(&[out.stride(0), out.stride(1), out.stride(2)], self.short) {
            for (y, t) in y.chunks_exact(width).zip(times) {
                let line = Neighbours { index: [index[0], index[1], t], axis: 1, count: channels };
                // SAFETY: the caller's promise.
                unsafe { self.put(simd, out, line, y, Constant::Row(D)) };
            }
            return;
        }
        let (length, whole) = (count.next_multiple_of(LANES), count.next_multiple_of(TURN));
        let lines = &mut turned[..TURN * length];
        for first in (0..channels).step_by(TURN) {
            transpose(&y[first..], width, lines, length, [whole, TURN]);
            for (k, y) in lines.chunks_exact(length).take(channels - first).enumerate() {
                let line = Neighbours { index: [index[0], index[1] + first + k, index[2]], axis: 2, count };
                // SAFETY: the caller's promise.
                unsafe { self.put(simd, out, line, y, Constant::One(D[first + k])) };
            }
        }
    }

    /// A line of the output. `y` has room for whole vectors.
    ///
    /// # Safety
    /// No other thread writes there.
    #[inline(always)]
    unsafe fn put<S: Simd>(&self, simd: S, out: &Writer<'_, T, 3>, line: Neighbours, y: &[f32], D: Constant<'_>) {
        let Neighbours { index, axis, count } = line;
        let x = self.inputs.D.is_some().then_some(&self.inputs.x);
        let inputs = [x, self.inputs.z.as_ref()];
        let slices = inputs.map(|tensor| tensor.map(|tensor| tensor.neighbours(index, axis, count)));
        if let (Some(start), [None | Some(Some(_)), None | Some(Some(_))]) = (out.contiguous(index, axis), slices) {
            let [x, z] = slices.map(Option::flatten);
            // SAFETY: neighbours lie side by side, inside the output, and are this call's alone.
            let out = unsafe { std::slice::from_raw_parts_mut(start, count) };
            return simd.vectorize(Output { y, x, z, D, out });
        }
        let [mut x, mut z, mut own] = [[0.0f32; MOST_CHANNELS]; 3];
        for (to, tensor) in [&mut x, &mut z].into_iter().zip(inputs) {
            if let Some(tensor) = tensor {
                tensor.run(index, axis, &mut to[..count]);
            }
        }
        let [given_x, given_z] = inputs.map(|tensor| tensor.is_some());
        let (x, z) = (given_x.then_some(&x[..count]), given_z.then_some(&z[..count]));
        simd.vectorize(Output { y, x, z, D, out: &mut own[..count] });
        // SAFETY: the caller's promise.
        unsafe { out.run(index, axis, &own[..count]) };
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
        let (full, rest) = out.split_at_mut(whole);
        for (at, out) in (0..whole).step_by(CHUNK).zip(full.chunks_exact_mut(CHUNK)) {
            let [x, z] = [x, z].map(|line| line.map(|line| &line[at..at + CHUNK]));
            chunk(simd, &y[at..], [x, z], D.from(at), out);
        }
        if !rest.is_empty() {
            let [x, z] = [x, z].map(|line| line.map(|line| &line[whole..]));
            chunk(simd, &y[whole..], [x, z], D.from(whole), rest);
        }
    }
}

/// Up to [`CHUNK`] elements of a line.
#[inline(always)]
fn chunk<S: Simd, T: Element>(simd: S, y: &[f32], [x, z]: [Option<&[T]>; 2], D: Constant<'_>, out: &mut [T]) {
    if T::DTYPE == Dtype::F32 && out.len() == CHUNK {
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
    for at in (0..out.len()).step_by(S::F32_LANES) {
        let mut v = load::<S>(&y[at..]);
        if let Some(x) = x {
            v = fma(simd, D.at(simd, at), load::<S>(&x[at..]), v);
        }
        if let Some(z) = z {
            v = simd.mul_f32s(v, silu(simd, load::<S>(&z[at..])));
        }
        store::<S>(out, at, v);
    }
}
