//! The memory of a worker on the way back.

use crate::cpu::squared_attention::features::Shape;
use crate::cpu::squared_attention::forward::Memory as Forward;
use crate::cpu::squared_attention::{LANES, TILE, tile};
use crate::cpu::tasks::take;

/// Beside what the forward direction has.
pub(super) struct Memory<'m> {
    pub forward: Forward<'m>,
    /// The state before each chunk.
    pub states: &'m mut [f32],
    /// The gradient by the state behind the chunk.
    pub dstate: &'m mut [f32],
    /// For each step of the sequence the norm, and the gradient by it.
    pub norms: &'m mut [f32],
    pub dnorms: &'m mut [f32],
    /// A row for each step of a chunk: q, and the gradient by the sums that are divided.
    pub q: &'m mut [f32],
    pub dsums: &'m mut [f32],
    pub dk: &'m mut [f32],
    pub dv: &'m mut [f32],
    /// For each step of a chunk, in as many parts as [`LANES`], the sum over all later pairs of weight times its gradient.
    pub pairs: &'m mut [f32],
    pub dlogs: &'m mut [f32],
    /// Rows of steps.
    pub dsums_turned: &'m mut [f32],
    pub dx_turned: &'m mut [f32],
    /// Tiles of pairs.
    pub dweights: &'m mut [f32],
    pub dproducts: &'m mut [f32],
}

/// Distances of rows that vectors run along.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pitches {
    pub dim: usize,
    /// vdim, and one for the norm.
    pub values: usize,
    /// vdim.
    pub value: usize,
}

impl Pitches {
    pub fn new(shape: Shape) -> Self {
        let padded = |width: usize| width.checked_next_multiple_of(LANES).unwrap_or(usize::MAX);
        Self { dim: padded(shape.dim), values: padded(shape.values), value: padded(shape.values - 1) }
    }
}

impl<'m> Memory<'m> {
    fn sizes(shape: Shape, [steps, chunks, longest]: [usize; 3]) -> [usize; 14] {
        let (pitches, rows) = (Pitches::new(shape), |width: usize| steps.saturating_mul(width));
        [
            chunks.saturating_mul(shape.state()),
            shape.state(),
            longest,
            longest,
            rows(pitches.dim),
            rows(pitches.values),
            rows(pitches.dim),
            rows(pitches.value),
            rows(LANES),
            rows(1),
            TILE.saturating_mul(shape.values),
            TILE.saturating_mul(shape.dim),
            tile::FLOATS,
            tile::FLOATS,
        ]
    }

    pub fn floats(shape: Shape, extents: [usize; 3]) -> usize {
        let forward = Forward::sizes(shape, extents[0]);
        forward.into_iter().chain(Self::sizes(shape, extents)).fold(0, usize::saturating_add)
    }

    /// For chunks of so many steps, so many of them, in a sequence of that length.
    pub fn new(shape: Shape, extents: [usize; 3], memory: &mut &'m mut [f32]) -> Self {
        let forward = Forward::new(shape, extents[0], memory);
        let parts = Self::sizes(shape, extents).map(|floats| take(memory, floats));
        let [
            states,
            dstate,
            norms,
            dnorms,
            q,
            dsums,
            dk,
            dv,
            pairs,
            dlogs,
            dsums_turned,
            dx_turned,
            dweights,
            dproducts,
        ] = parts;
        Self {
            forward,
            states,
            dstate,
            norms,
            dnorms,
            q,
            dsums,
            dk,
            dv,
            pairs,
            dlogs,
            dsums_turned,
            dx_turned,
            dweights,
            dproducts,
        }
    }
}
