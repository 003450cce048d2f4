//! The selective scan on a GPU: which lanes, which blocks, which parts, which parameters. The kernels:
//! kernels-cu/selective_scan*.cu, and the passes between them in kernels-rs/selective_scan.rs.

mod backward;
mod forward;
mod layout;
mod passes;
mod tiles;

use super::{narrow, params};
use crate::error::{Error, Result};
use crate::ops::Operator;
use crate::ops::selective_scan::{AlignedProjection, Dims, Inputs, SelectiveScan, part_steps};
use crate::plan::Plan;
use crate::tensor::{Device, Element};
use tiles::{
    Direction, Forced, MANY_BLOCKS, MOST_GRID_Y, MOST_LANES, STATES_PER_LANE, Shape, Tiles, kept_at_most, unit,
};

type Scan<'a, T> = SelectiveScan<'a, T, Device>;

/// How the channels, states and steps of a call lie over blocks.
#[derive(Debug, Clone, Copy)]
struct Grid {
    lanes: usize,
    threads: usize,
    slabs: usize,
    /// Channels that share their rows of B and C.
    run: usize,
    blocks_per_run: usize,
    tiles_per_block: usize,
    /// Blocks along x.
    blocks: usize,
    /// Parts of each sequence, and steps of a part.
    split: usize,
    part: usize,
    /// Sequences, and parts of sequences: rows of states and sums.
    nseqs: usize,
    rows: usize,
    /// Blocks along y, among which the sequences take turns.
    seq_blocks: usize,
}

impl Grid {
    fn new<T: Element>(inputs: &Inputs<'_, T, Device>, lanes: Option<usize>, direction: Direction) -> Self {
        let Dims { batch, dim, seqlen, dstate, nseqs } = inputs.dims;
        let run = greatest_common_divisor(inputs.B.channels(dim), inputs.C.channels(dim)).max(1);
        let (longest, every) = (inputs.longest(), inputs.checkpoint_every());
        let spread = nseqs.saturating_mul(longest).div_ceil(batch.saturating_mul(seqlen).max(1)).max(1);
        let shape = Shape { dim, dstate, run, longest, every, spread };
        let tiles = Tiles::new(direction, &shape, Forced { lanes, split: inputs.split });
        let Tiles { lanes, threads, blocks_per_run, tiles_per_block, blocks, split } = tiles;
        Self {
            lanes,
            threads,
            slabs: dstate.div_ceil(lanes * STATES_PER_LANE).max(1),
            run,
            blocks_per_run,
            tiles_per_block,
            blocks,
            split,
            part: if split > 1 { part_steps(longest, split, every) } else { 0 },
            nseqs,
            rows: nseqs.saturating_mul(split),
            seq_blocks: nseqs.min(MOST_GRID_Y as usize),
        }
    }

    /// What blocks keep in the workspace, in units of each slab: sequences take turns where there is more of it than the
    /// elements of x justify (many short sequences, or a long one among them). Returns its bytes.
    fn keep(&mut self, units: usize, elements: usize) -> usize {
        let a_turn =
            [self.split, self.blocks, self.slabs, units].into_iter().fold(unit(self.threads), usize::saturating_mul);
        if let Some(affordable) = kept_at_most(elements, self.split).checked_div(a_turn) {
            let busy = (MANY_BLOCKS / self.blocks.saturating_mul(self.split)).max(1);
            // All blocks as many turns as the others, but for one.
            let turns = self.nseqs.div_ceil(self.seq_blocks.min(affordable.max(busy)).max(1));
            self.seq_blocks = self.nseqs.div_ceil(turns.max(1));
        }
        a_turn.saturating_mul(self.seq_blocks)
    }

    /// There may be several slabs, one of which is worked on while the others wait in the workspace.
    fn waits(&self) -> bool {
        self.lanes == MOST_LANES
    }

    /// Of the plan: what it is called, and how it is cut.
    fn plan<T: Element>(&self, direction: &str, inputs: &Inputs<'_, T, Device>, bytes: usize) -> Plan {
        let kernel = format!("selective_scan_{direction}_{}_lanes{}", T::DTYPE, self.lanes);
        let mut plan = Plan::new(kernel, inputs.dims.named(), bytes);
        (plan.lanes, plan.split, plan.part) = (self.lanes, self.split, self.part);
        plan.checkpoint_every = inputs.checkpoint_every();
        plan
    }

    fn launch(&self, op: &'static str) -> Result<[u32; 3]> {
        let parts = u32::try_from(self.split).ok().filter(|&parts| parts <= MOST_GRID_Y).ok_or_else(|| {
            let what = format!("split {}", self.split);
            Error::Unsupported { op, what, expected: format!("at most {MOST_GRID_Y} on a GPU") }
        })?;
        Ok([narrow(op, "blocks", self.blocks)?, narrow(op, "nseqs", self.seq_blocks)?, parts])
    }

    /// Parts without parts: whole sequences.
    fn spans<T: Element>(&self, inputs: &Inputs<'_, T, Device>, every: usize) -> Result<params::SsmSpans> {
        let op = Scan::<T>::NAME;
        narrow(op, "nseqs times split", self.rows)?;
        Ok(params::SsmSpans {
            cu_seqlens: match (inputs.segments, inputs.segments_table) {
                (None, _) => 0,
                (Some(_), Some(table)) => table.address(),
                (Some(_), None) => {
                    let reason = "packed sequences need their boundaries on the device: use segments_on";
                    return Err(Error::Missing { op, arg: "segments_table", reason });
                }
            },
            seqlen: checked_length(inputs.dims.seqlen)?,
            every: i64::try_from(every).unwrap_or(i64::MAX),
            part: i64::try_from(self.part).unwrap_or(i64::MAX),
            parts: narrow(op, "split", self.split)?,
            nseqs: narrow(op, "nseqs", self.nseqs)?,
            reverse: inputs.reverse.into(),
            reserved: 0,
        })
    }
}

/// Kernels count steps in 32 bits, a tile beyond the last included.
fn checked_length(seqlen: usize) -> Result<i64> {
    const MOST: usize = i32::MAX as usize - 1023;
    let length = i64::try_from(seqlen).ok().filter(|_| seqlen <= MOST);
    length.ok_or_else(|| Error::Unsupported {
        op: "selective_scan",
        what: format!("seqlen {seqlen}"),
        expected: format!("at most {MOST} on a GPU"),
    })
}

/// What a plan of this operator launches beside its own kernel.
#[cfg(feature = "cuda")]
pub(super) fn other_kernels(plan: &Plan) -> Vec<String> {
    let mut kernels = Vec::new();
    let Some((direction, rest)) = plan.kernel.strip_prefix("selective_scan_").and_then(|rest| rest.split_once('_'))
    else {
        return kernels;
    };
    let dtype = rest.split('_').next().unwrap_or_default();
    if plan.split > 1 {
        kernels.extend(["selective_scan_carry_f32", "selective_scan_sum_f32"].map(String::from));
    }
    if direction == "bwd" {
        // Which one it is depends on more than the plan tells.
        let holding = Direction::Forward.all_lanes().iter();
        kernels.extend(holding.map(|lanes| format!("selective_scan_fwd_{dtype}_lanes{lanes}")));
        kernels.extend(["f32", dtype].map(|dtype| format!("selective_scan_sum_{dtype}")));
    }
    kernels
}

/// Places in a workspace, one after another.
#[derive(Debug, Clone, Copy, Default)]
struct Places {
    end: usize,
}

impl Places {
    /// The offset of `bytes` bytes, a multiple of 256.
    fn take(&mut self, bytes: usize) -> usize {
        let here = self.end;
        self.end = here.saturating_add(bytes).checked_next_multiple_of(256).unwrap_or(usize::MAX);
        here
    }

    fn floats(&mut self, extents: &[usize]) -> usize {
        self.take(extents.iter().copied().fold(size_of::<f32>(), usize::saturating_mul))
    }
}

impl<T, S: crate::tensor::Storage> AlignedProjection<'_, T, S> {
    /// Channels that share a row.
    fn channels(&self, dim: usize) -> usize {
        match self {
            Self::Variable { channels, .. } => *channels,
            Self::Constant(_) => dim,
        }
    }
}

fn projection<T: Element>(projection: &AlignedProjection<'_, T, Device>, dim: u32) -> params::SsmProjection {
    match projection {
        AlignedProjection::Variable { tensor, channels } => {
            let [batch_stride, ngroups_stride, dstate_stride, seqlen_stride] = tensor.layout.strides;
            params::SsmProjection {
                address: tensor.memory.address(),
                batch_stride,
                ngroups_stride,
                dim_stride: 0,
                dstate_stride,
                seqlen_stride,
                // At most dim, which is narrow.
                channels_per_group: *channels as u32,
                constant: 0,
            }
        }
        AlignedProjection::Constant(tensor) => {
            let [dim_stride, dstate_stride] = tensor.layout.strides;
            params::SsmProjection {
                address: tensor.memory.address(),
                dim_stride,
                dstate_stride,
                channels_per_group: dim,
                constant: 1,
                ..Default::default()
            }
        }
    }
}

/// The longest run of channels that share their rows of B and of C.
fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
