//! Squared attention on the CPU: a head of a sequence is a task, worked on in chunks of steps. Inside a chunk steps meet pair
//! by pair, in tiles; what comes before it is in the state. Vectors lie along the steps of a tile, or along features.
//!
//! What knows the dtype of the call loads rows as f32 and stores them; what is done with them is compiled once.

mod backward;
mod decays;
mod features;
mod forward;
mod products;
mod rows;
mod tile;
mod update;

use crate::ops::squared_attention::{Dims, Inputs};
use crate::plan::Plan;
use crate::tensor::{Element, Host};
use features::Shape;

/// Of which every row of steps or features is a multiple: no vector has more lanes.
const LANES: usize = 16;
/// Steps of a tile.
const TILE: usize = 32;
/// Tasks with memory of their own.
const MOST_WORKERS: usize = 64;

impl Dims {
    fn shape(&self) -> Shape {
        Shape { dim: self.dim, values: self.vdim.saturating_add(1), features: self.features() }
    }

    /// Heads of all sequences.
    fn tasks(&self) -> usize {
        self.nseqs.saturating_mul(self.nheads)
    }
}

/// How long sequences are cut.
#[derive(Debug, Clone, Copy)]
struct Chunks {
    /// Sequences up to here are one chunk: pairs of steps are less work than the state.
    whole: usize,
    /// Steps of a chunk of a longer one.
    size: usize,
}

impl Chunks {
    /// A chunk of `steps` costs each of its steps `steps / 2` pairs on average, of dim + values products; reading the state
    /// and writing it cost features values products each, and memory where it is kept for the way back: there a chunk has so
    /// many steps that its state is about as much as their rows.
    fn new(shape: Shape, forced: Option<usize>, kept: bool) -> Self {
        if let Some(size) = forced {
            return Self { whole: size, size };
        }
        let (state, pair) = (shape.state(), shape.dim.saturating_add(shape.values));
        let ratio = state / pair;
        let size = if kept { ratio / 2 } else { (ratio / 2).min(4 * TILE) };
        Self {
            whole: ratio.saturating_mul(4),
            size: size.max(TILE).checked_next_multiple_of(TILE).unwrap_or(usize::MAX),
        }
    }

    /// Steps of a chunk of a sequence of `len` steps.
    fn steps(self, len: usize) -> usize {
        if len <= self.whole { len.max(1) } else { self.size }
    }

    /// The most steps of a chunk, and the most chunks.
    fn most<T: Element>(self, inputs: &Inputs<'_, T, Host>) -> [usize; 2] {
        let of = |len: usize| [self.steps(len).min(len), len.div_ceil(self.steps(len))];
        match inputs.segments {
            Some(segments) => (0..segments.nseqs()).fold([0; 2], |[steps, chunks], seq| {
                let [more_steps, more_chunks] = of(segments.bounds(seq).1);
                [steps.max(more_steps), chunks.max(more_chunks)]
            }),
            None => of(inputs.dims.seqlen),
        }
    }
}

fn plan<T: Element>(direction: &str, inputs: &Inputs<'_, T, Host>, chunks: Chunks, floats: usize) -> Plan {
    let workers = inputs.dims.tasks().min(MOST_WORKERS);
    let bytes = floats.saturating_mul(workers).saturating_mul(size_of::<f32>());
    let mut dims = inputs.dims.named();
    dims.push(("chunk_size", chunks.most(inputs)[0]));
    Plan::new(format!("squared_attention_{direction}_{}", T::DTYPE), dims, bytes)
}
