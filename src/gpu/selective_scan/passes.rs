//! The passes between scans: carries from part to part, and sums of partial sums. Kernels: kernels-rs/selective_scan.rs.

use super::Places;
use crate::error::Result;
use crate::gpu::launcher::{Launch, Launcher};
use crate::gpu::{Gpu, params, ptx};
use crate::ops::selective_scan::{CarryInputs, Dims, SelectiveScanCarry, SelectiveScanCarryOutputs};
use crate::ops::{Forward, Operator, Workspace};
use crate::plan::Plan;
use crate::tensor::{Device, Element};

type Carry<'a> = SelectiveScanCarry<'a, Device>;

/// Threads of a block; further elements take turns beyond so many blocks.
const THREADS: u64 = 128;
const MOST_BLOCKS: u64 = 1 << 16;
/// Elements of a sum that a thread adds up, as in the kernel.
const SUMS_OF_THREAD: u64 = 8;

impl<'a, L: Launcher> Forward<Carry<'a>> for Gpu<L> {
    fn forward_plan(&self, op: &Carry<'a>) -> Result<Plan> {
        Ok(plan(&op.inputs()?))
    }

    fn forward_with(
        &self,
        op: &Carry<'a>,
        outputs: SelectiveScanCarryOutputs<'_, Device>,
        given: &Plan,
        workspace: Workspace<'_, Device>,
    ) -> Result<()> {
        let _range = crate::gpu::nvtx::range(c"selective_scan_carry");
        let inputs = op.inputs()?;
        let carried = outputs.check(&inputs)?;
        self.check_device(Carry::NAME, &inputs.memory(), &workspace)?;
        plan(&inputs).check(Carry::NAME, given, &workspace)?;
        let [batch, nchunks, dim, dstate] = inputs.states.layout.extents.map(|extent| extent as u64);
        let over = |address, [batch, nchunks, dim]: [i64; 3], dstate| params::SsmWide {
            address,
            strides: [batch, nchunks, dim, dstate],
        };
        let sums = inputs.delta_sum.layout.strides;
        self.carry(&params::SsmSelectiveScanCarry {
            A: params::matrix(&inputs.A),
            delta_sum: over(inputs.delta_sum.memory.address(), sums, 0),
            states: params::wide(Some(&inputs.states)),
            initial: inputs.initial.as_ref().map_or_else(Default::default, |initial| {
                let [batch, dim, dstate] = initial.layout.strides;
                over(initial.memory.address(), [batch, 0, dim], dstate)
            }),
            carried: params::wide_mut(Some(&carried)),
            batch,
            nchunks,
            dim,
            dstate,
            reverse: inputs.reverse.into(),
            reserved: 0,
        })
    }

    fn forward(&self, op: &Carry<'a>, outputs: SelectiveScanCarryOutputs<'_, Device>) -> Result<()> {
        let plan = self.forward_plan(op)?;
        let mut outputs = Some(outputs);
        self.with_workspace(&plan, |workspace| {
            outputs.take().map_or(Ok(()), |outputs| self.forward_with(op, outputs, &plan, workspace))
        })
    }
}

/// No workspace.
fn plan(inputs: &CarryInputs<'_, Device>) -> Plan {
    Plan::new("selective_scan_carry_f32".into(), inputs.named(), 0)
}

/// A state and a sum of delta for each part, in the workspace: what parts make of the state 0, and what they start from.
pub(super) struct Rows {
    local: usize,
    carried: usize,
    delta_sum: usize,
    nseqs: usize,
    parts: usize,
    dim: usize,
    dstate: usize,
}

impl Rows {
    pub fn new(places: &mut Places, rows: usize, dims: Dims) -> Self {
        let Dims { dim, dstate, nseqs, .. } = dims;
        Self {
            local: places.floats(&[rows, dim, dstate]),
            carried: places.floats(&[rows, dim, dstate]),
            delta_sum: places.floats(&[rows, dim]),
            nseqs,
            parts: rows.checked_div(nseqs).unwrap_or(1),
            dim,
            dstate,
        }
    }

    /// Where rows of states lie that nobody needs once they are carried.
    pub fn until_carried(&self) -> usize {
        self.local
    }

    fn state(&self, address: u64) -> params::SsmState {
        let (dim, dstate) = (self.dim as i64, self.dstate as i64);
        params::state_at(address, [dim * dstate, dstate, 1])
    }
    pub fn local(&self, workspace: u64) -> params::SsmState {
        self.state(workspace + self.local as u64)
    }
    pub fn carried(&self, workspace: u64) -> params::SsmState {
        self.state(workspace + self.carried as u64)
    }
    pub fn delta_sum(&self, workspace: u64) -> params::SsmRows {
        let (address, dim) = (workspace + self.delta_sum as u64, self.dim as i64);
        params::SsmRows { address, batch_stride: dim, dim_stride: 1 }
    }
}

/// One launch of the summing kernel: over `slices` slices that lie `slice_stride` apart, each `group` of them first.
pub(super) struct Sum {
    pub source: params::SsmWide,
    pub target: params::SsmWide,
    pub extents: [usize; 4],
    pub slices: usize,
    pub group: usize,
    pub slice_stride: i64,
}

impl Sum {
    /// delta_sum of sequences from that of their parts.
    pub fn of_parts(rows: &Rows, workspace: u64, target: &params::SsmRows) -> Self {
        let (source, dim) = (rows.delta_sum(workspace), rows.dim as i64);
        let wide = |address, batch, dim| params::SsmWide { address, strides: [0, batch, dim, 0] };
        Self {
            source: wide(source.address, rows.parts as i64 * dim, 1),
            target: wide(target.address, target.batch_stride, target.dim_stride),
            extents: [1, rows.nseqs, rows.dim, 1],
            slices: rows.parts,
            group: rows.parts,
            slice_stride: dim,
        }
    }
}

impl<L: Launcher> Gpu<L> {
    /// From `local` to `carried`. `reverse`: from the last part to the first.
    pub(super) fn carry_rows(
        &self,
        rows: &Rows,
        workspace: u64,
        A: &params::SsmMatrix,
        initial: &params::SsmState,
        reverse: bool,
    ) -> Result<()> {
        let (parts, dim, dstate) = (rows.parts as i64, rows.dim as i64, rows.dstate as i64);
        let states = |address| params::SsmWide { address, strides: [parts * dim * dstate, dim * dstate, dstate, 1] };
        self.carry(&params::SsmSelectiveScanCarry {
            A: *A,
            delta_sum: params::SsmWide {
                address: rows.delta_sum(workspace).address,
                strides: [parts * dim, dim, 1, 0],
            },
            states: states(rows.local(workspace).address),
            initial: params::SsmWide {
                address: initial.address,
                strides: [initial.batch_stride, 0, initial.dim_stride, initial.dstate_stride],
            },
            carried: states(rows.carried(workspace).address),
            batch: rows.nseqs as u64,
            nchunks: parts as u64,
            dim: dim as u64,
            dstate: dstate as u64,
            reverse: reverse.into(),
            reserved: 0,
        })
    }

    fn carry(&self, params: &params::SsmSelectiveScanCarry) -> Result<()> {
        let elements = if params.nchunks == 0 { 0 } else { params.batch * params.dim * params.dstate };
        self.launch_pass(Carry::NAME, "selective_scan_carry_f32", elements, bytemuck::bytes_of(params))
    }

    /// Sums into a tensor of dtype T.
    pub(super) fn sum<T: Element>(&self, sum: &Sum) -> Result<()> {
        let kernel = format!("selective_scan_sum_{}", T::DTYPE);
        let params = params::SsmSelectiveScanSum {
            source: sum.source,
            target: sum.target,
            extents: sum.extents.map(|extent| extent as u64),
            slices: sum.slices as u64,
            group: sum.group.max(1) as u64,
            slice_stride: sum.slice_stride,
        };
        let [e0, e1, e2, e3] = params.extents;
        let threads = e0 * e1 * e2 * e3.div_ceil(SUMS_OF_THREAD);
        self.launch_pass("selective_scan", &kernel, threads, bytemuck::bytes_of(&params))
    }

    fn launch_pass(&self, op: &'static str, kernel: &str, threads: u64, params: &[u8]) -> Result<()> {
        if threads == 0 {
            return Ok(());
        }
        let (module, kernel) = ptx::find(op, kernel)?;
        let blocks = threads.div_ceil(THREADS).min(MOST_BLOCKS) as u32;
        let (grid, block) = ([blocks, 1, 1], [THREADS as u32, 1, 1]);
        // SAFETY: the callers made the parameters of this kernel from views that the contract checked and from places in
        // the workspace; whoever made the device views guarantees their memory until the work is done.
        unsafe { self.launcher.launch(&Launch { module, kernel, grid, block, shared_bytes: 0, params }) }
    }
}
