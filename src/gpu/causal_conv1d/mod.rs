//! The causal convolution on a GPU: which kernel, which blocks, which parameters. The kernels: kernels-rs/causal_conv1d*.rs.

mod backward;
mod forward;
mod update;

use super::launcher::{Launch, Launcher};
use super::{Gpu, narrow, params, ptx};
use crate::error::{Error, Result};
use crate::ops::Operator;
use crate::ops::causal_conv1d::{CausalConv1d, Inputs, Weights};
use crate::plan::Plan;
use crate::tensor::{Device, Dtype, Element};

type Conv<'a, T, W> = CausalConv1d<'a, T, W, Device>;

/// Threads of a block, and the warps that they are, as in the kernels.
const THREADS: usize = 128;
const WARPS: usize = THREADS / 32;
/// Taps that kernels are made for; and those that the kernel of all other widths has room for.
const TAPS: [usize; 3] = [2, 3, 4];
const MOST_TAPS: usize = 16;
/// Kernels count steps in 32 bits, a few chunks beyond the last included.
const MOST_STEPS: usize = i32::MAX as usize - 1023;

/// How a call lies over blocks.
#[derive(Debug, Clone, Copy)]
struct Grid {
    /// One thread per channel, else one warp.
    by_channel: bool,
    /// Steps of a tile: so many that the inputs before it, which are read again, hardly count.
    steps: usize,
    /// Tiles of all sequences, and blocks that share one.
    tiles: usize,
    chunks: usize,
}

impl Grid {
    /// By the order of x in memory: threads of a warp read neighbours.
    fn new<T: Element, W: Element>(inputs: &Inputs<'_, T, W, Device>) -> Self {
        let sequences = inputs.sequences();
        let by_channel = inputs.x.layout.by_channel() || sequences.longest() <= 1;
        let (steps, channels) = if by_channel { (64, THREADS) } else { (512, WARPS) };
        Self { by_channel, steps, tiles: sequences.tiles(steps), chunks: inputs.dims.dim.div_ceil(channels) }
    }

    /// Of the plan.
    fn plan<T: Element, W: Element>(&self, direction: &str, inputs: &Inputs<'_, T, W, Device>, bytes: usize) -> Plan {
        let (order, taps) = (if self.by_channel { "channels" } else { "steps" }, taps_of_kernel(inputs.dims.width));
        let kernel = format!("causal_conv1d_{direction}_{}_{order}{taps}", T::DTYPE);
        Plan::new(kernel, inputs.dims.named(), bytes)
    }

    fn params<T: Element, W: Element>(&self, inputs: &Inputs<'_, T, W, Device>) -> Result<params::SsmTiles> {
        let (op, dims) = (Conv::<T, W>::NAME, inputs.dims);
        Ok(params::SsmTiles {
            cu_seqlens: match (inputs.segments, inputs.segments_table) {
                (None, _) => 0,
                (Some(_), Some(table)) => table.address(),
                (Some(_), None) => {
                    let reason = "packed sequences need their boundaries on the device: use segments_on";
                    return Err(Error::Missing { op, arg: "segments_table", reason });
                }
            },
            seqlen: checked_length(op, dims.seqlen)?,
            steps: self.steps as u32,
            tiles_per_seq: narrow(op, "seqlen", dims.seqlen.div_ceil(self.steps).max(1))?,
            nseqs: narrow(op, "nseqs", dims.nseqs)?,
            dim: narrow(op, "dim", dims.dim)?,
        })
    }
}

fn checked_length(op: &'static str, seqlen: usize) -> Result<i64> {
    let length = i64::try_from(seqlen).ok().filter(|_| seqlen <= MOST_STEPS);
    length.ok_or_else(|| Error::Unsupported {
        op,
        what: format!("seqlen {seqlen}"),
        expected: format!("at most {MOST_STEPS} on a GPU"),
    })
}

/// Those of the kernel for `width` taps.
fn taps_of_kernel(width: usize) -> usize {
    if TAPS.contains(&width) { width } else { MOST_TAPS }
}

fn taps<W: Element>(weights: &Weights<'_, W, Device>) -> params::SsmTaps {
    let [weight_dim_stride, weight_width_stride] = weights.weight.layout.strides;
    params::SsmTaps {
        weight: weights.weight.memory.address(),
        weight_dim_stride,
        weight_width_stride,
        bias: weights.bias.map_or(0, |bias| bias.memory.address()),
        bias_dim_stride: weights.bias.map_or(0, |bias| bias.layout.strides[0]),
        dtype: dtype::<W>(),
        // From 1 to 16.
        width: weights.width() as u32,
    }
}

fn dtype<W: Element>() -> u32 {
    match W::DTYPE {
        Dtype::F32 => params::SSM_DTYPE_F32,
        Dtype::F16 => params::SSM_DTYPE_F16,
        Dtype::BF16 => params::SSM_DTYPE_BF16,
    }
}

impl<L: Launcher> Gpu<L> {
    /// `chunks` blocks for each of `rows`: tiles, rows of a batch, or taps.
    fn launch_conv(&self, op: &'static str, kernel: &str, [rows, chunks]: [usize; 2], params: &[u8]) -> Result<()> {
        let blocks = narrow(op, "blocks", rows.saturating_mul(chunks))?;
        if blocks == 0 {
            return Ok(());
        }
        let (module, kernel) = ptx::find(op, kernel)?;
        let (grid, block) = ([blocks, 1, 1], [THREADS as u32, 1, 1]);
        // SAFETY: the callers made the parameters of this kernel from views that the contract checked and from places in
        // the workspace; whoever made the device views guarantees their memory until the work is done.
        unsafe { self.launcher.launch(&Launch { module, kernel, grid, block, shared_bytes: 0, params }) }
    }
}

/// What a plan of this operator launches beside its own kernel.
#[cfg(feature = "cuda")]
pub(super) fn other_kernels(plan: &Plan) -> Option<String> {
    plan.kernel.starts_with("causal_conv1d_bwd_").then(|| SUM.into())
}

/// The sums of tiles to the gradients of weights.
const SUM: &str = "causal_conv1d_sum_f32";
