//! The selective scan on a GPU: which lanes, which blocks, which parameters. The kernel: kernels-cu/selective_scan.cu.

use super::launcher::{Launch, Launcher};
use super::{Gpu, narrow, params, ptx};
use crate::error::{Error, Result};
use crate::ops::selective_scan::{AlignedProjection, CheckedOutputs, Inputs, SelectiveScan, SelectiveScanOutputs};
use crate::ops::{Forward, Operator, Workspace};
use crate::plan::Plan;
use crate::tensor::{Device, Element};

type Scan<'a, T> = SelectiveScan<'a, T, Device>;

/// Threads of a block, as in the kernel.
const THREADS: usize = 128;
/// States that a lane holds in registers, as in the kernel.
const STATES_PER_LANE: usize = 16;
const MOST_LANES: usize = 32;
/// Blocks along y; sequences beyond take turns.
const MOST_GRID_Y: u32 = 65_535;

impl<'a, T: Element, L: Launcher> Forward<Scan<'a, T>> for Gpu<L> {
    fn forward_plan(&self, op: &Scan<'a, T>) -> Result<Plan> {
        Ok(plan(&op.inputs()?))
    }

    fn forward_with(
        &self,
        op: &Scan<'a, T>,
        outputs: SelectiveScanOutputs<'_, T, Device>,
        given: &Plan,
        workspace: Workspace<'_, Device>,
    ) -> Result<()> {
        let inputs = op.inputs()?;
        let outputs = outputs.check(&inputs)?;
        self.check_device(Scan::<T>::NAME, "x", inputs.x.memory.ordinal(), &workspace)?;
        let plan = plan(&inputs);
        plan.check(Scan::<T>::NAME, given, &workspace)?;
        if outputs.out.is_none() || outputs.delta_sum.is_some() || inputs.split.is_some_and(|parts| parts > 1) {
            return Err(Error::Unsupported {
                op: Scan::<T>::NAME,
                what: "states_only, delta_sum or split".into(),
                expected: "none of them on a GPU".into(),
            });
        }
        let dims = inputs.dims;
        if dims.nseqs == 0 || dims.dim == 0 || (dims.seqlen == 0 && dims.dstate == 0) {
            return Ok(());
        }
        let params = fill(&inputs, &outputs, workspace.address(), &plan)?;
        let (module, kernel) = ptx::find(Scan::<T>::NAME, &plan.kernel)?;
        let channels = (THREADS / plan.lanes) as u32;
        let blocks = u64::from(params.dim / params.run) * u64::from(params.run.div_ceil(channels));
        let launch = Launch {
            module,
            kernel,
            grid: [narrow(Scan::<T>::NAME, "blocks", blocks as usize)?, params.nseqs.min(MOST_GRID_Y), 1],
            block: [THREADS as u32, 1, 1],
            shared_bytes: 0,
            params: bytemuck::bytes_of(&params),
        };
        // SAFETY: `fill` made the parameters of this kernel from views that the contract checked; whoever made the
        // device views guarantees their memory until the work is done.
        unsafe { self.launcher.launch(&launch) }
    }

    fn forward(&self, op: &Scan<'a, T>, outputs: SelectiveScanOutputs<'_, T, Device>) -> Result<()> {
        let plan = self.forward_plan(op)?;
        let mut outputs = Some(outputs);
        self.with_workspace(&plan, |workspace| {
            outputs.take().map_or(Ok(()), |outputs| self.forward_with(op, outputs, &plan, workspace))
        })
    }
}

/// As few lanes as hold all states; beyond 32 lanes the states wait in the workspace, slab by slab.
fn plan<T: Element>(inputs: &Inputs<'_, T, Device>) -> Plan {
    let dims = inputs.dims;
    let lanes = dims.dstate.div_ceil(STATES_PER_LANE).clamp(1, MOST_LANES).next_power_of_two();
    let states = dims.nseqs.saturating_mul(dims.dim).saturating_mul(dims.dstate);
    let waiting = if dims.dstate > lanes * STATES_PER_LANE { states.saturating_mul(size_of::<f32>()) } else { 0 };
    let mut plan = Plan::new(format!("selective_scan_fwd_{}_lanes{lanes}", T::DTYPE), dims.named(), waiting);
    plan.lanes = lanes;
    plan.checkpoint_every = inputs.checkpoint_every();
    plan
}

/// The kernel's parameters.
fn fill<T: Element>(
    inputs: &Inputs<'_, T, Device>,
    outputs: &CheckedOutputs<'_, T, Device>,
    workspace: u64,
    plan: &Plan,
) -> Result<params::SsmSelectiveScanFwd> {
    let op = Scan::<T>::NAME;
    let dims = inputs.dims;
    let (dim, dstate, nseqs) =
        (narrow(op, "dim", dims.dim)?, narrow(op, "dstate", dims.dstate)?, narrow(op, "nseqs", dims.nseqs)?);
    let (B, C) = (projection(&inputs.B, dim), projection(&inputs.C, dim));
    let waiting = [dims.dim as i64 * dims.dstate as i64, dims.dstate as i64, 1];
    let every = outputs.chunk_states.as_ref().map_or(1, |chunks| chunks.every);
    Ok(params::SsmSelectiveScanFwd {
        x: params::sequence(Some(&inputs.x)),
        dt: params::sequence(Some(&inputs.dt)),
        z: params::sequence(inputs.z.as_ref()),
        out: outputs.out.as_ref().map_or_else(Default::default, params::sequence_mut),
        A: params::matrix(&inputs.A),
        run: greatest_common_divisor(B.channels_per_group, C.channels_per_group),
        B,
        C,
        D: params::vector(inputs.D.as_ref()),
        dt_bias: params::vector(inputs.dt_bias.as_ref()),
        initial_state: params::state(inputs.initial_state.as_ref()),
        final_state: params::state_mut(outputs.final_state.as_ref()),
        chunk_states: params::state_mut(outputs.chunk_states.as_ref().map(|chunks| &chunks.states)),
        slab_states: match plan.workspace_bytes {
            0 => params::SsmState::default(),
            _ => params::state_at(workspace, waiting),
        },
        cu_seqlens: match (inputs.segments, inputs.segments_table) {
            (None, _) => 0,
            (Some(_), Some(table)) => table.address(),
            (Some(_), None) => {
                let reason = "packed sequences need their boundaries on the device: use segments_on";
                return Err(Error::Missing { op, arg: "segments_table", reason });
            }
        },
        seqlen: dims.seqlen as i64,
        every: i64::try_from(every).unwrap_or(i64::MAX),
        nseqs,
        dim,
        dstate,
        reverse: inputs.reverse.into(),
        reserved: 0,
        step: params::step(inputs.step),
    })
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
fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
