//! The workspace and the shared memory of the backward direction.

use super::forward::Layout as ForwardLayout;
use super::passes::Rows;
use super::tiles::{
    Direction, KEPT_PER_ELEMENT, MOST_LANES, NUMBERS, STATES_PER_LANE, THREADS, tile_and_stretch, unit,
};
use super::{Grid, Places, Scan};
use crate::error::Result;
use crate::gpu::narrow;
use crate::ops::Operator;
use crate::ops::selective_scan::{AlignedProjection, Dims, Inputs};
use crate::tensor::{Device, Element};

/// Where what lies in the workspace.
pub(super) struct Layout {
    pub grid: Grid,
    pub window_tiles: usize,
    pub sparse: bool,
    /// Of the scan that makes the checkpoints, which ends before what shares its place begins.
    pub forward: ForwardLayout,
    pub checkpoints: usize,
    pub tile_states: usize,
    pub slab_states: usize,
    pub parts: Option<Rows>,
    /// A row per part of dA, constant dB, constant dC, dD and ddt_bias, if there are several rows. Those of dA lie where
    /// something was until it was carried.
    pub rows: Option<[usize; 5]>,
    /// Partial sums of dB and dC.
    pub sums: [Option<usize>; 2],
    pub bytes: usize,
}

impl Layout {
    pub fn new<T: Element>(inputs: &Inputs<'_, T, Device>, lanes: Option<usize>) -> Result<Self> {
        let dims = inputs.dims;
        let Dims { dim, dstate, nseqs, .. } = dims;
        let mut grid = Grid::new(inputs, lanes, Direction::Backward);
        let longest = inputs.longest();
        let constant =
            |projection: &AlignedProjection<'_, T, Device>| matches!(projection, AlignedProjection::Constant(_));
        let [tile, stretch] = tile_and_stretch(grid.lanes);
        let window = longest.min(inputs.checkpoint_every());
        let dense = window.div_ceil(tile).max(1);
        // Where one window is not all and what blocks keep of it is much, half of it is computed again.
        let mut tried = grid;
        let kept = tried.keep(dense - 1, dims.elements());
        let sparse = longest > window && kept > dims.elements().saturating_mul(KEPT_PER_ELEMENT);
        let window_tiles = if sparse { window.div_ceil(stretch) } else { dense };
        let forward = ForwardLayout::new(inputs, lanes);
        let mut places = Places::default();
        let mut after = places;
        after.take(forward.bytes);
        let waiting = if grid.waits() { 5 } else { 0 };
        let kept = grid.keep(window_tiles - 1 + waiting, dims.elements());
        let tile_states = places.take(kept);
        // Of every block first those, then these.
        let slab_states = tile_states + kept / (window_tiles - 1 + waiting).max(1) * (window_tiles - 1);
        let parts = (grid.split > 1).then(|| Rows::new(&mut places, grid.rows, dims));
        let rows = (grid.rows > 1).then(|| {
            let states = |wanted| if wanted { [grid.rows, dim, dstate] } else { [0; 3] };
            let channels = |wanted| if wanted { [grid.rows, dim] } else { [0; 2] };
            [
                parts.as_ref().map_or_else(|| places.floats(&states(true)), Rows::until_carried),
                places.floats(&states(constant(&inputs.B))),
                places.floats(&states(constant(&inputs.C))),
                places.floats(&channels(inputs.D.is_some())),
                places.floats(&channels(inputs.dt_bias.is_some())),
            ]
        });
        let sums = [&inputs.B, &inputs.C].map(|projection| {
            let slices = slices(projection, &grid).filter(|_| tiles_of_group(projection, &grid) > 1)?;
            let AlignedProjection::Variable { tensor, .. } = projection else { return None };
            let extents = tensor.layout.extents;
            Some(places.floats(&[slices, extents[0], extents[1], extents[2], extents[3]]))
        });
        places.end = places.end.max(after.end);
        // Without elements there may be sequences beyond counting.
        let nothing = dim == 0 || dstate == 0 || longest <= inputs.checkpoint_every();
        let chunks = if nothing { 0 } else { inputs.chunk_offsets(inputs.checkpoint_every())?[nseqs] };
        narrow(Scan::<T>::NAME, "number of checkpoints", chunks)?;
        let checkpoints = places.floats(&[chunks, dim, dstate]);
        let bytes = places.end;
        Ok(Self {
            grid,
            window_tiles,
            sparse,
            forward,
            checkpoints,
            tile_states,
            slab_states,
            parts,
            rows,
            sums,
            bytes,
        })
    }

    /// Of a block, as `Places` in the kernel counts it. `constant_sums`: of constant dB and dC that are asked for.
    pub fn shared_bytes<T: Element>(&self, inputs: &Inputs<'_, T, Device>, constant_sums: usize) -> usize {
        let lanes = self.grid.lanes;
        let [tile, stretch] = tile_and_stretch(lanes);
        let (channels, slab) = (THREADS / lanes, lanes * STATES_PER_LANE);
        let variants = match lanes {
            1 => 4,
            4 => 2,
            _ => 1,
        };
        let constant = |projection: &AlignedProjection<'_, T, Device>| match projection {
            AlignedProjection::Variable { .. } => 0,
            AlignedProjection::Constant(_) => channels * slab,
        };
        let (earlier, sums, quads) = match lanes {
            MOST_LANES => (3 * stretch * channels, stretch * 32 * THREADS, 0),
            _ => (0, 0, 4 * THREADS),
        };
        let floats = 6 * (stretch + 1) * channels
            + NUMBERS
            + quads
            + 2 * stretch * variants * slab
            + earlier
            + sums
            + constant(&inputs.B)
            + constant(&inputs.C);
        let shared_A = usize::from(lanes >= 8);
        // States before each step of a tile, A, and sums over time.
        (tile + shared_A + constant_sums) * unit(THREADS) + floats * size_of::<f32>()
    }
}

/// Blocks that share a group of a variable projection.
pub(super) fn slices<T, S: crate::tensor::Storage>(
    projection: &AlignedProjection<'_, T, S>,
    grid: &Grid,
) -> Option<usize> {
    match projection {
        AlignedProjection::Variable { channels, .. } => Some((channels / grid.run).max(1) * grid.blocks_per_run),
        AlignedProjection::Constant(_) => None,
    }
}

/// Tiles of channels, each of which adds its own sums to a group's.
fn tiles_of_group<T, S: crate::tensor::Storage>(projection: &AlignedProjection<'_, T, S>, grid: &Grid) -> usize {
    slices(projection, grid).map_or(0, |slices| slices * grid.tiles_per_block)
}
