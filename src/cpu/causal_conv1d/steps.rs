//! Vectors of steps: one channel after the other, each tap a row that begins one step later.

use super::taps::{self, by_width};
use super::{Rows, SPREAD};
use crate::ops::causal_conv1d::MOST_WIDTH;
use pulp::Simd;

/// `to[t] = bias + sum_w weight[w] inputs[t + w]`. There are inputs for all whole vectors.
#[inline(always)]
pub(super) fn convolve<S: Simd>(simd: S, rows: Rows<'_>, d: usize, width: usize, inputs: &[f32], to: &mut [f32]) {
    let (len, bias) = (to.len(), simd.splat_f32s(rows.at(width, d)));
    by_width!(width, W => {
        let weights = weights(simd, rows, d, width);
        taps::convolve::<S, W>(simd, 0..width, |_| bias, |w, _| weights[w], |w| &inputs[w..][..len], to);
    });
}

/// `to[t] = sum_w weight[w] g[t + width - 1 - w]`, likewise.
#[inline(always)]
pub(super) fn convolve_back<S: Simd>(simd: S, rows: Rows<'_>, d: usize, width: usize, g: &[f32], to: &mut [f32]) {
    let (len, zero) = (to.len(), simd.splat_f32s(0.0));
    by_width!(width, W => {
        let weights = weights(simd, rows, d, width);
        taps::convolve::<S, W>(simd, 0..width, |_| zero, |w, _| weights[w], |w| &g[width - 1 - w..][..len], to);
    });
}

/// The weights of a channel, in all lanes.
#[inline(always)]
fn weights<S: Simd>(simd: S, rows: Rows<'_>, d: usize, width: usize) -> [S::f32s; MOST_WIDTH] {
    let mut weights = [simd.splat_f32s(0.0); MOST_WIDTH];
    for (w, weight) in weights.iter_mut().enumerate().take(width) {
        *weight = simd.splat_f32s(rows.at(w, d));
    }
    weights
}

/// The sum of `a[i] b[i]`, in an order that does not look at how many lanes a vector has.
#[inline(always)]
pub(super) fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let (mut sums, whole) = ([0.0; SPREAD], a.len() / SPREAD * SPREAD);
    taps::add_products(simd, &mut sums, &a[..whole], &b[..whole]);
    // What lies beyond the end must not be multiplied, not even by 0.
    let [mut last_a, mut last_b] = [[0.0; SPREAD]; 2];
    last_a[..a.len() - whole].copy_from_slice(&a[whole..]);
    last_b[..a.len() - whole].copy_from_slice(&b[whole..a.len()]);
    taps::add_products(simd, &mut sums, &last_a, &last_b);
    total(&sums)
}

/// The sum of `a[i]`, likewise.
#[inline(always)]
pub(super) fn sum<S: Simd>(simd: S, a: &[f32]) -> f32 {
    let (mut sums, whole) = ([0.0; SPREAD], a.len() / SPREAD * SPREAD);
    taps::add(simd, &mut sums, &a[..whole]);
    sums.iter_mut().zip(&a[whole..]).for_each(|(sum, a)| *sum += a);
    total(&sums)
}

#[inline(always)]
fn total(sums: &[f32; SPREAD]) -> f32 {
    sums.iter().map(|&sum| f64::from(sum)).sum::<f64>() as f32
}
