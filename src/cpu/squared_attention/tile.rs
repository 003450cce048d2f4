//! Tiles of pairs: a row of later steps for each earlier step.

use super::TILE;
use super::decays::{Decays, normal, nothing, times};
use super::products::{Extents, Left, Right, Sums, add};
use pulp::Simd;

/// f32 of a tile.
pub const FLOATS: usize = TILE * TILE;

/// What `earlier` rows (their elements side by side, `pitch` apart) and the rows of steps in `later` have in common: the
/// product of each pair, over `width` elements.
#[inline(always)]
pub fn dot<S: Simd>(simd: S, earlier: &[f32], pitch: usize, [count, width]: [usize; 2], later: &[f32], to: &mut [f32]) {
    to[..count * TILE].fill(0.0);
    let extents = Extents { rows: count, depth: width, columns: TILE };
    let left = Left { memory: earlier, by_row: pitch, by_depth: 1 };
    add(simd, extents, left, Right { memory: later, pitch: TILE }, Sums { memory: to, pitch: TILE });
}

/// Adds, for each of `width` elements of the earlier rows, the sum over these rows of element times pair, to rows of steps.
///
/// `mixed`: the later steps of a pair may be the earlier ones too, and infinities among the elements. Then the pairs that are
/// none, of which the tile has 0, are left out.
#[inline(always)]
pub fn gather<S: Simd>(
    simd: S,
    tile: &[f32],
    earlier: &[f32],
    pitch: usize,
    [count, width]: [usize; 2],
    to: &mut [f32],
    mixed: bool,
) {
    if width == 0 {
        return;
    }
    if mixed {
        for t in 0..TILE {
            for m in 0..count.min(t + 1) {
                let (pair, row) = (tile[m * TILE + t], &earlier[m * pitch..][..width]);
                for (to, &element) in to[t..].iter_mut().step_by(TILE).zip(row) {
                    *to = element.mul_add(pair, *to);
                }
            }
        }
        return;
    }
    let extents = Extents { rows: width, depth: count, columns: TILE };
    let left = Left { memory: earlier, by_row: 1, by_depth: pitch };
    add(simd, extents, left, Right { memory: tile, pitch: TILE }, Sums { memory: to, pitch: TILE });
}

/// Adds to the earlier rows the sum over the later ones, of `width` elements each, a multiple of [`LANES`](super::LANES), of
/// element times pair. `mixed`: as for [`gather`].
#[inline(always)]
pub fn scatter<S: Simd>(
    simd: S,
    tile: &[f32],
    later: Right<'_>,
    [earlier_count, later_count, width]: [usize; 3],
    to: Sums<'_>,
    mixed: bool,
) {
    if mixed {
        for m in 0..earlier_count {
            for t in m..later_count {
                let (pair, row) = (tile[m * TILE + t], &later.memory[t * later.pitch..][..width]);
                for (to, &element) in to.memory[m * to.pitch..].iter_mut().zip(row) {
                    *to = pair.mul_add(element, *to);
                }
            }
        }
        return;
    }
    let extents = Extents { rows: earlier_count, depth: later_count, columns: width };
    add(simd, extents, Left { memory: tile, by_row: TILE, by_depth: 1 }, later, to);
}

/// The decays between the steps of one tile, of which `logs` are the logarithms, times `scale`.
#[inline(always)]
pub fn decays_within<S: Simd>(simd: S, logs: &[f32], scale: f32, memory: &mut [f32], to: &mut [f32]) {
    let mut pairs = Decays::new(FLOATS, memory);
    for m in 0..logs.len() {
        let mut sum = 0.0;
        for (t, &log) in logs.iter().enumerate().skip(m + 1) {
            sum += f64::from(log);
            pairs.set(m * TILE + t, sum);
        }
    }
    let powers = pairs.powers(simd);
    for (to, &power) in to[..FLOATS].iter_mut().zip(powers.iter()) {
        *to = normal(scale * power);
    }
}

/// The decays from the earlier steps to the tile, times those from there to the later steps. Whether there is one.
#[inline(always)]
pub fn decays_between(earlier: &[f32], later: &[f32], to: &mut [f32]) -> bool {
    let later = &later[..TILE];
    for (row, &earlier) in to.chunks_exact_mut(TILE).zip(earlier) {
        for (to, &later) in row.iter_mut().zip(later) {
            *to = normal(earlier * later);
        }
    }
    !nothing(to)
}

/// Makes nothing of the pairs of one tile whose earlier step is the later.
#[inline(always)]
pub fn mask(tile: &mut [f32]) {
    for (m, row) in tile.chunks_exact_mut(TILE).enumerate() {
        row[..m].fill(0.0);
    }
}

/// `to = to b`, element by element; 0 stays 0.
#[inline(always)]
pub fn multiply(to: &mut [f32], b: &[f32]) {
    for (to, &b) in to.iter_mut().zip(b) {
        *to = times(*to, b);
    }
}

/// The weights of pairs, from their products: the square times the decay.
#[inline(always)]
pub fn weights(products: &mut [f32], decays: &[f32]) {
    for (product, &decay) in products.iter_mut().zip(decays) {
        *product = normal(*product * times(*product, decay));
    }
}

/// `to *= factors`, for each row of steps.
#[inline(always)]
pub fn scale_steps(to: &mut [f32], factors: &[f32]) {
    to.chunks_exact_mut(TILE).for_each(|row| multiply(row, &factors[..TILE]));
}
