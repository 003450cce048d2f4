//! What is done with tiles of pairs and rows of steps, element by element.

use crate::cpu::squared_attention::decays::{normal, times};
use crate::cpu::squared_attention::features::Shape;
use crate::cpu::squared_attention::{LANES, TILE};

/// From products of pairs, their decays and the gradients by weights: the weights, in place of the products; weight times
/// gradient, in place of the gradients; and the gradients by the products.
#[inline(always)]
pub fn gradients(products: &mut [f32], decays: &[f32], dweights: &mut [f32], dproducts: &mut [f32]) {
    let tiles = products.iter_mut().zip(decays).zip(dweights.iter_mut()).zip(dproducts);
    for (((product, &decay), dweight), dproduct) in tiles {
        let decayed = times(*product, decay);
        *product = normal(*product * decayed);
        *dproduct = normal(2.0 * *dweight * decayed);
        *dweight *= *product;
    }
}

/// Half of the sum over rows of the products of two, for each step.
#[inline(always)]
pub fn half_inner(a: &[f32], b: &[f32]) -> [f32; TILE] {
    let mut sums = [0.0; TILE];
    for (a, b) in a.chunks_exact(TILE).zip(b.chunks_exact(TILE)) {
        for t in 0..TILE {
            sums[t] += a[t] * b[t];
        }
    }
    sums.map(|sum| 0.5 * sum)
}

/// Takes from dq what lies along q: out does not change with the size of q, so that this is what roundings have left.
#[inline(always)]
pub fn project(q: &[f32], dq: &mut [f32]) {
    let (along, size) = (half_inner(q, dq), half_inner(q, q));
    let mut shares = [0.0; TILE];
    for t in 0..TILE {
        shares[t] = if size[t] == 0.0 { 0.0 } else { along[t] / size[t] };
    }
    for (q, dq) in q.chunks_exact(TILE).zip(dq.chunks_exact_mut(TILE)) {
        for t in 0..TILE {
            dq[t] -= shares[t] * q[t];
        }
    }
}

/// The sum of the products of two states.
#[inline(always)]
pub fn inner(shape: Shape, a: &[f32], b: &[f32]) -> f32 {
    let rows = |state| <[f32]>::chunks_exact(state, shape.pitch().max(1));
    let mut total = 0.0f64;
    for (a, b) in rows(a).zip(rows(b)) {
        let mut sums = [0.0; LANES];
        for (a, b) in a[..shape.features].chunks(LANES).zip(b[..shape.features].chunks(LANES)) {
            for (sum, (&a, &b)) in sums.iter_mut().zip(a.iter().zip(b)) {
                *sum += a * b;
            }
        }
        total += sums.iter().map(|&sum| f64::from(sum)).sum::<f64>();
    }
    total as f32
}

/// The sum of all parts.
#[inline(always)]
pub fn total(parts: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    for parts in parts.chunks_exact(LANES) {
        for i in 0..LANES {
            sums[i] += parts[i];
        }
    }
    sums.iter().sum()
}

/// Adds a tile to the parts of its earlier steps, and to the sums of its later ones.
#[inline(always)]
pub fn take(tile: &[f32], parts: &mut [f32], columns: &mut [f32; TILE]) {
    for (row, parts) in tile.chunks_exact(TILE).zip(parts.chunks_exact_mut(LANES)) {
        let (low, high) = row.split_at(LANES);
        for i in 0..LANES {
            parts[i] += low[i] + high[i];
        }
        for t in 0..TILE {
            columns[t] += row[t];
        }
    }
}

/// The gradients by the logarithms of a tile's decays: for each step the sum of all pairs that reach over it, weight times
/// gradient, from the last to the first. Nothing is subtracted, so that nothing cancels but what does in the exact sum.
///
/// `pairs`: the parts of the tile's steps; `tile`: its own pairs. `with_state` and `columns`: for each step its pairs with what
/// came before the chunk, and with the chunk's earlier steps. `later` and `earlier`: the same of all later steps.
#[inline(always)]
pub fn dlogs(
    pairs: &[f32],
    tile: &[f32],
    [with_state, columns]: [&[f32; TILE]; 2],
    [later, earlier]: [&mut f32; 2],
    dlogs: &mut [f32],
) {
    let mut own = [0.0; TILE];
    for (own, parts) in own.iter_mut().zip(pairs.chunks_exact(LANES)) {
        *own = parts.iter().sum();
    }
    for t in (0..dlogs.len()).rev() {
        *later += with_state[t];
        *earlier += columns[t];
        let mut within = 0.0;
        for m in 0..t {
            own[m] += tile[m * TILE + t];
            within += own[m];
        }
        dlogs[t] = *later + *earlier + within;
    }
}
