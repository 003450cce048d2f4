//! Forward: one launch; or, where sequences are cut into parts, what each part makes of the state 0, the carries between
//! them, and each part from its own state.

use super::passes::{Rows, Sum};
use super::tiles::{Direction, MOST_LANES, STATES_PER_LANE, unit};
use super::{Grid, Places, Scan, projection};
use crate::error::Result;
use crate::gpu::launcher::{Launch, Launcher};
use crate::gpu::{Gpu, narrow, params, ptx};
use crate::ops::selective_scan::{CheckedOutputs, Inputs, SelectiveScanOutputs};
use crate::ops::{Forward, Operator, Workspace};
use crate::plan::Plan;
use crate::tensor::{Device, Element};

impl<'a, T: Element, L: Launcher> Forward<Scan<'a, T>> for Gpu<L> {
    fn forward_plan(&self, op: &Scan<'a, T>) -> Result<Plan> {
        let inputs = op.inputs()?;
        let layout = Layout::new(&inputs, self.lanes);
        Ok(layout.grid.plan("fwd", &inputs, layout.bytes))
    }

    fn forward_with(
        &self,
        op: &Scan<'a, T>,
        outputs: SelectiveScanOutputs<'_, T, Device>,
        given: &Plan,
        workspace: Workspace<'_, Device>,
    ) -> Result<()> {
        let _range = crate::gpu::nvtx::range(c"selective_scan forward");
        let inputs = op.inputs()?;
        let outputs = outputs.check(&inputs)?;
        self.check_device(Scan::<T>::NAME, &inputs.memory(), &workspace)?;
        let layout = Layout::new(&inputs, self.lanes);
        layout.grid.plan("fwd", &inputs, layout.bytes).check(Scan::<T>::NAME, given, &workspace)?;
        self.scan_forward(&inputs, &Targets::new(&outputs), &layout, workspace.address())
    }

    fn forward(&self, op: &Scan<'a, T>, outputs: SelectiveScanOutputs<'_, T, Device>) -> Result<()> {
        let plan = self.forward_plan(op)?;
        let mut outputs = Some(outputs);
        self.with_workspace(&plan, |workspace| {
            outputs.take().map_or(Ok(()), |outputs| self.forward_with(op, outputs, &plan, workspace))
        })
    }
}

/// Of a block, as `Tile` in the kernel counts it. `constants`: whether B and C are.
fn shared_bytes<T>(grid: &Grid, constants: [u32; 2]) -> usize {
    let (channels, slab) = (grid.threads / grid.lanes, grid.lanes * STATES_PER_LANE);
    let vectors = if grid.lanes <= 8 { 2 } else { 1 };
    let steps = vectors * 16 / size_of::<T>();
    let pairs = (channels * (2 * steps + 4) * size_of::<f32>()).max(unit(grid.threads));
    let staged = (5 * channels + 2 * slab) * steps * size_of::<T>();
    let projections = 2 * steps * slab * size_of::<f32>();
    let earlier = if grid.lanes == MOST_LANES { channels * steps * size_of::<f32>() } else { 0 };
    let constant = constants.iter().filter(|&&constant| constant != 0).count() * unit(grid.threads);
    // Three values of each channel; the first chunk; where six tensors lie, and where the lanes of a warp begin in five of
    // them; two tiles.
    let values = 3 * channels * size_of::<f32>() + 16 + 6 * 32 + 5 * 32 * 8 + 2 * 16;
    pairs + staged + projections + earlier + values + constant
}

/// Where what lies in the workspace.
pub(super) struct Layout {
    grid: Grid,
    slab_states: usize,
    rows: Option<Rows>,
    pub bytes: usize,
}

impl Layout {
    pub fn new<T: Element>(inputs: &Inputs<'_, T, Device>, lanes: Option<usize>) -> Self {
        let mut grid = Grid::new(inputs, lanes, Direction::Forward);
        let mut places = Places::default();
        // A and the states of each slab.
        let slab_states = places.take(grid.keep(if grid.waits() { 2 } else { 0 }, inputs.dims.elements()));
        let rows = (grid.split > 1).then(|| Rows::new(&mut places, grid.rows, inputs.dims));
        Self { grid, slab_states, rows, bytes: places.end }
    }
}

/// What is written, as kernels are told.
#[derive(Clone, Copy, Default)]
pub(super) struct Targets {
    pub out: params::SsmSequence,
    pub final_state: params::SsmState,
    pub chunk_states: params::SsmState,
    pub every: usize,
    pub delta_sum: params::SsmRows,
}

impl Targets {
    fn new<T>(outputs: &CheckedOutputs<'_, T, Device>) -> Self {
        let chunks = outputs.chunk_states.as_ref();
        Self {
            out: params::sequence_mut(outputs.out.as_ref()),
            final_state: params::state_mut(outputs.final_state.as_ref()),
            chunk_states: params::state_mut(chunks.map(|chunks| &chunks.states)),
            every: chunks.map_or(1, |chunks| chunks.every),
            delta_sum: params::rows_mut(outputs.delta_sum.as_ref()),
        }
    }
}

impl<L: Launcher> Gpu<L> {
    pub(super) fn scan_forward<T: Element>(
        &self,
        inputs: &Inputs<'_, T, Device>,
        targets: &Targets,
        layout: &Layout,
        workspace: u64,
    ) -> Result<()> {
        let dims = inputs.dims;
        // Without elements there may be rows beyond counting.
        let nothing = dims.seqlen == 0 && dims.dstate == 0 && targets.delta_sum.address == 0;
        if dims.nseqs == 0 || dims.dim == 0 || nothing {
            return Ok(());
        }
        let params = fill(inputs, targets, layout, workspace)?;
        let Some(rows) = &layout.rows else { return self.launch_forward::<T>(&params, &layout.grid) };
        let local = params::SsmSelectiveScanFwd {
            out: params::SsmSequence::default(),
            initial_state: params::SsmState::default(),
            final_state: rows.local(workspace),
            chunk_states: params::SsmState::default(),
            delta_sum: rows.delta_sum(workspace),
            final_per_part: 1,
            ..params
        };
        self.launch_forward::<T>(&local, &layout.grid)?;
        self.carry_rows(rows, workspace, &params.A, &params.initial_state, false)?;
        if targets.delta_sum.address != 0 {
            self.sum::<f32>(&Sum::of_parts(rows, workspace, &targets.delta_sum))?;
        }
        let whole = params::SsmSelectiveScanFwd {
            initial_state: rows.carried(workspace),
            delta_sum: params::SsmRows::default(),
            ..params
        };
        self.launch_forward::<T>(&whole, &layout.grid)
    }

    fn launch_forward<T: Element>(&self, params: &params::SsmSelectiveScanFwd, grid: &Grid) -> Result<()> {
        let op = Scan::<T>::NAME;
        let (module, kernel) = ptx::find(op, &format!("selective_scan_fwd_{}_lanes{}", T::DTYPE, grid.lanes))?;
        let launch = Launch {
            module,
            kernel,
            grid: grid.launch(op)?,
            block: [grid.threads as u32, 1, 1],
            shared_bytes: shared_bytes::<T>(grid, [params.B.constant, params.C.constant]) as u32,
            params: bytemuck::bytes_of(params),
        };
        // SAFETY: `fill` made the parameters of this kernel from views that the contract checked, and from places in a
        // workspace of the plan's size; whoever made the device views guarantees their memory until the work is done.
        unsafe { self.launcher.launch(&launch) }
    }
}

/// The kernel's parameters for sequences in one part.
fn fill<T: Element>(
    inputs: &Inputs<'_, T, Device>,
    targets: &Targets,
    layout: &Layout,
    workspace: u64,
) -> Result<params::SsmSelectiveScanFwd> {
    let op = Scan::<T>::NAME;
    let dim = narrow(op, "dim", inputs.dims.dim)?;
    Ok(params::SsmSelectiveScanFwd {
        x: params::sequence(Some(&inputs.x)),
        dt: params::sequence(Some(&inputs.dt)),
        z: params::sequence(inputs.z.as_ref()),
        out: targets.out,
        A: params::matrix(&inputs.A),
        B: projection(&inputs.B, dim),
        C: projection(&inputs.C, dim),
        D: params::vector(inputs.D.as_ref()),
        dt_bias: params::vector(inputs.dt_bias.as_ref()),
        initial_state: params::state(inputs.initial_state.as_ref()),
        final_state: targets.final_state,
        chunk_states: targets.chunk_states,
        slab_states: if layout.grid.waits() { workspace + layout.slab_states as u64 } else { 0 },
        delta_sum: targets.delta_sum,
        spans: layout.grid.spans(inputs, targets.every)?,
        dim,
        dstate: narrow(op, "dstate", inputs.dims.dstate)?,
        run: narrow(op, "dim", layout.grid.run)?,
        final_per_part: 0,
        step: params::step(inputs.step),
    })
}
