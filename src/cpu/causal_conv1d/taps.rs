//! The sums over taps, and what is made of them, on rows of whole vectors.
//!
//! No arithmetic stands in a closure: one that is not inlined has not the instructions of the function around it, and each of
//! its operations is a call.

use crate::cpu::math::lanes::fma;
use crate::cpu::math::logistic;
use pulp::Simd;
use std::ops::Range;

/// `to[i] = start(i) + sum_w weight(w, i) rows(w)[i]`, from the first tap on. `W`: the number of taps, of which none is left
/// out, or 0 for `taps`, whatever they are.
#[inline(always)]
pub(super) fn convolve<'r, S: Simd, const W: usize>(
    simd: S,
    taps: Range<usize>,
    start: impl Fn(usize) -> S::f32s,
    weight: impl Fn(usize, usize) -> S::f32s,
    rows: impl Fn(usize) -> &'r [f32],
    to: &mut [f32],
) {
    let (to, _) = S::as_mut_simd_f32s(to);
    let vectors = |row: &'r [f32]| S::as_simd_f32s(row).0;
    if W == 0 {
        for (i, to) in to.iter_mut().enumerate() {
            *to = start(i);
        }
        for w in taps {
            let row = &vectors(rows(w))[..to.len()];
            for (i, (to, &x)) in to.iter_mut().zip(row).enumerate() {
                *to = fma(simd, weight(w, i), x, *to);
            }
        }
        return;
    }
    let rows: [&[S::f32s]; W] = std::array::from_fn(|w| &vectors(rows(w))[..to.len()]);
    for (i, to) in to.iter_mut().enumerate() {
        let mut sum = start(i);
        for (w, row) in rows.iter().enumerate() {
            sum = fma(simd, weight(w, i), row[i], sum);
        }
        *to = sum;
    }
}

/// Calls the body with the number of taps as a constant where loops are made for it.
macro_rules! by_width {
    ($width:expr, $W:ident => $body:expr) => {
        match $width {
            2 => {
                const $W: usize = 2;
                $body
            }
            3 => {
                const $W: usize = 3;
                $body
            }
            4 => {
                const $W: usize = 4;
                $body
            }
            _ => {
                const $W: usize = 0;
                $body
            }
        }
    };
}
pub(super) use by_width;

/// silu of each.
#[inline(always)]
pub(super) fn silu<S: Simd>(simd: S, row: &mut [f32]) {
    let (row, _) = S::as_mut_simd_f32s(row);
    for v in row {
        *v = logistic::silu(simd, *v);
    }
}

/// `row = dout silu'(row)`.
#[inline(always)]
pub(super) fn times_silu_derivative<S: Simd>(simd: S, row: &mut [f32], dout: &[f32]) {
    let ((row, _), (dout, _)) = (S::as_mut_simd_f32s(row), S::as_simd_f32s(dout));
    for (v, &dout) in row.iter_mut().zip(dout) {
        *v = simd.mul_f32s(dout, logistic::silu_derivative(simd, *v));
    }
}

/// `sums[i] += a[i] b[i]`, with i taken modulo the length of `sums`.
#[inline(always)]
pub(super) fn add_products<S: Simd>(simd: S, sums: &mut [f32], a: &[f32], b: &[f32]) {
    let (sums, _) = S::as_mut_simd_f32s(sums);
    let ((a, _), (b, _)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
    for (a, b) in a.chunks_exact(sums.len()).zip(b.chunks_exact(sums.len())) {
        for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
            *sum = fma(simd, a, b, *sum);
        }
    }
}

/// `sums[i] += a[i]`, likewise.
#[inline(always)]
pub(super) fn add<S: Simd>(simd: S, sums: &mut [f32], a: &[f32]) {
    let ((sums, _), (a, _)) = (S::as_mut_simd_f32s(sums), S::as_simd_f32s(a));
    for a in a.chunks_exact(sums.len()) {
        for (sum, &a) in sums.iter_mut().zip(a) {
            *sum = simd.add_f32s(*sum, a);
        }
    }
}
