//! The state and what is done with it: rows of features, one for each value and last the norm's. Features are made where they
//! are needed, a block at a time.

use super::decays::{normal, nothing, times};
use super::products::{Extents, Left, Right, Sums, add};
use super::{LANES, TILE};
use crate::cpu::math::lanes::fma;
use pulp::{Simd, WithSimd};
use std::f32::consts::SQRT_2;

/// Features of a block.
const BLOCK: usize = 128;
/// f32 that the functions here need beside their arguments.
pub const FLOATS: usize = BLOCK * TILE;

/// The extents of a head.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub dim: usize,
    /// vdim, and one for the norm.
    pub values: usize,
    pub features: usize,
}

impl Shape {
    /// Distance of rows of the state.
    pub fn pitch(self) -> usize {
        self.features.next_multiple_of(LANES)
    }

    /// f32 of the state.
    pub fn state(self) -> usize {
        self.values.saturating_mul(self.features.checked_next_multiple_of(LANES).unwrap_or(usize::MAX))
    }
}

/// The pair of elements that makes a feature; the next, in order.
#[derive(Debug, Clone, Copy)]
struct Pair {
    i: usize,
    j: usize,
    dim: usize,
}

impl Pair {
    fn first(dim: usize) -> Self {
        Self { i: 0, j: 0, dim }
    }

    #[inline(always)]
    fn next(&mut self) {
        self.j += 1;
        if self.j == self.dim {
            self.i += 1;
            self.j = self.i;
        }
    }

    #[inline(always)]
    fn coefficient(self) -> f32 {
        if self.i == self.j { 1.0 } else { SQRT_2 }
    }
}

/// One row of a tile: an element of each of its steps.
#[inline(always)]
fn row(tile: &[f32], i: usize) -> &[f32; TILE] {
    tile[i * TILE..][..TILE].try_into().expect("a whole row")
}

/// A row of steps for each of `count` features, from `pair` on; `x` has a row of steps for each element.
#[inline(always)]
fn along_steps(pair: &mut Pair, count: usize, x: &[f32], to: &mut [f32]) {
    for to in to[..count * TILE].chunks_exact_mut(TILE) {
        let (a, b, c) = (row(x, pair.i), row(x, pair.j), pair.coefficient());
        for t in 0..TILE {
            to[t] = c * a[t] * b[t];
        }
        pair.next();
    }
}

/// `count` features from `pair` on of one step, times `factor`, which is finite.
#[inline(always)]
fn along_features(pair: &mut Pair, count: usize, x: &[f32], factor: f32, to: &mut [f32]) {
    let mut at = 0;
    while at < count {
        let run = (pair.dim - pair.j).min(count - at);
        let to = &mut to[at..][..run];
        let scaled = SQRT_2 * x[pair.i] * factor;
        for (to, &x) in to.iter_mut().zip(&x[pair.j..]) {
            *to = scaled * x;
        }
        if pair.i == pair.j {
            to[0] = x[pair.i] * factor * x[pair.i];
        }
        at += run;
        pair.j += run - 1;
        pair.next();
    }
}

/// All features of one step, times `factor`.
pub fn of_step(x: &[f32], factor: f32, to: &mut [f32]) {
    along_features(&mut Pair::first(x.len()), to.len(), x, factor, to);
}

/// Adds to `sums`, a row of steps for each value, what each step's phi(x) reads of the state.
pub struct Read<'m> {
    pub shape: Shape,
    pub state: &'m [f32],
    pub x: &'m [f32],
    pub sums: &'m mut [f32],
    pub block: &'m mut [f32],
}

impl WithSimd for Read<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { shape, state, x, sums, block } = self;
        let mut pair = Pair::first(shape.dim);
        for first in (0..shape.features).step_by(BLOCK) {
            let count = BLOCK.min(shape.features - first);
            along_steps(&mut pair, count, x, block);
            let extents = Extents { rows: shape.values, depth: count, columns: TILE };
            let left = Left { memory: &state[first..], by_row: shape.pitch(), by_depth: 1 };
            add(simd, extents, left, Right { memory: block, pitch: TILE }, Sums { memory: sums, pitch: TILE });
        }
    }
}

/// Rows of steps: `x` (`x_pitch` apart), `values` (`values_pitch` apart), and a factor for each.
#[derive(Clone, Copy)]
pub struct Steps<'m> {
    pub x: &'m [f32],
    pub x_pitch: usize,
    pub values: &'m [f32],
    pub values_pitch: usize,
    pub factors: &'m [f32],
    pub count: usize,
    /// All of x and values are.
    pub finite: bool,
}

/// `state = decay state + the sum over steps of factor phi(x) value`. A `decay` of `None`: the state is none yet, whatever its
/// memory holds.
pub struct Write<'m> {
    pub shape: Shape,
    pub decay: Option<f32>,
    pub steps: Steps<'m>,
    pub state: &'m mut [f32],
    pub block: &'m mut [f32],
}

impl WithSimd for Write<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { shape, decay, steps, state, block } = self;
        decayed(decay, state);
        let mut pair = Pair::first(shape.dim);
        for first in (0..shape.features).step_by(BLOCK) {
            let count = BLOCK.min(shape.features - first);
            let columns = count.next_multiple_of(LANES);
            let start = pair;
            (0..count).for_each(|_| pair.next());
            for t in (0..steps.count).step_by(TILE) {
                let depth = TILE.min(steps.count - t);
                if steps.finite && nothing(&steps.factors[t..t + depth]) {
                    continue;
                }
                for (row, to) in (t..t + depth).zip(block.chunks_exact_mut(columns)) {
                    let x = &steps.x[row * steps.x_pitch..][..shape.dim];
                    let (factor, finite) = (steps.factors[row], steps.factors[row].is_finite());
                    along_features(&mut start.clone(), count, x, if finite { factor } else { 1.0 }, to);
                    // Nothing stays nothing, whatever it is multiplied by.
                    let factor = if finite { 1.0 } else { factor };
                    to[..count].iter_mut().for_each(|phi| *phi = normal(times(*phi, factor)));
                    to[count..].fill(0.0);
                }
                let values = &steps.values[t * steps.values_pitch..];
                let left = Left { memory: values, by_row: 1, by_depth: steps.values_pitch };
                let sums = Sums { memory: &mut state[first..], pitch: shape.pitch() };
                let extents = Extents { rows: shape.values, depth, columns };
                add(simd, extents, left, Right { memory: block, pitch: columns }, sums);
            }
        }
    }
}

#[inline(always)]
fn decayed(decay: Option<f32>, state: &mut [f32]) {
    match decay {
        None => state.fill(0.0),
        Some(decay) if decay.is_finite() => state.iter_mut().for_each(|h| *h *= decay),
        // Nothing stays nothing, even where the decay over all steps is beyond the range.
        Some(decay) => state.iter_mut().filter(|h| **h != 0.0).for_each(|h| *h *= decay),
    }
}

/// Adds to `dx`, a row of steps for each element, the gradient of `sum over values of dvalue (phi(x) state)`.
pub struct ReadBackward<'m> {
    pub shape: Shape,
    pub state: &'m [f32],
    pub x: &'m [f32],
    pub dvalues: &'m [f32],
    pub dx: &'m mut [f32],
    pub block: &'m mut [f32],
}

impl WithSimd for ReadBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { shape, state, x, dvalues, dx, block } = self;
        let mut pair = Pair::first(shape.dim);
        for first in (0..shape.features).step_by(BLOCK) {
            let count = BLOCK.min(shape.features - first);
            let dphi = &mut block[..count * TILE];
            dphi.fill(0.0);
            let extents = Extents { rows: count, depth: shape.values, columns: TILE };
            let left = Left { memory: &state[first..], by_row: 1, by_depth: shape.pitch() };
            let sums = Sums { memory: dphi, pitch: TILE };
            add(simd, extents, left, Right { memory: dvalues, pitch: TILE }, sums);
            for dphi in dphi.chunks_exact(TILE) {
                // Twice where both are one element: it is either factor.
                for (to, other) in [(pair.i, pair.j), (pair.j, pair.i)] {
                    contract(simd, pair.coefficient(), dphi, row(x, other), &mut dx[to * TILE..][..TILE]);
                }
                pair.next();
            }
        }
    }
}

/// `to += c a b`.
#[inline(always)]
fn contract<S: Simd>(simd: S, c: f32, a: &[f32], b: &[f32], to: &mut [f32]) {
    let ((a, _), (b, _), (to, _)) = (S::as_simd_f32s(a), S::as_simd_f32s(b), S::as_mut_simd_f32s(to));
    let c = simd.splat_f32s(c);
    for ((to, &a), &b) in to.iter_mut().zip(a).zip(b) {
        *to = fma(simd, simd.mul_f32s(c, a), b, *to);
    }
}
