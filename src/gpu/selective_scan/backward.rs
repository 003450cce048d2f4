//! Backward: the checkpoints, unless the caller has them; where sequences are cut into parts, what comes back through the
//! start of each; the main pass; and the sums over blocks, parts and sequences, in fixed order.

use super::forward::Targets;
use super::layout::{Layout, slices};
use super::passes::Sum;
use super::tiles::THREADS;
use super::{Grid, Scan, projection};
use crate::error::Result;
use crate::gpu::launcher::{Launch, Launcher};
use crate::gpu::{Gpu, narrow, params, ptx};
use crate::ops::selective_scan::{
    AlignedProjectionMut, CheckedGradients, CheckedUpstream, Dims, Inputs, SelectiveScanGradients,
    SelectiveScanUpstream,
};
use crate::ops::{Backward, Operator, Workspace};
use crate::plan::Plan;
use crate::tensor::{Device, Element};

impl<'a, T: Element, L: Launcher> Backward<Scan<'a, T>> for Gpu<L> {
    fn backward_plan(&self, op: &Scan<'a, T>) -> Result<Plan> {
        let inputs = op.inputs()?;
        let layout = Layout::new(&inputs, self.lanes)?;
        Ok(layout.grid.plan("bwd", &inputs, layout.bytes))
    }

    fn backward_with(
        &self,
        op: &Scan<'a, T>,
        upstream: SelectiveScanUpstream<'_, T, Device>,
        gradients: SelectiveScanGradients<'_, T, Device>,
        given: &Plan,
        workspace: Workspace<'_, Device>,
    ) -> Result<()> {
        let _range = crate::gpu::nvtx::range(c"selective_scan backward");
        let inputs = op.inputs()?;
        let upstream = upstream.check(&inputs)?;
        let gradients = gradients.check(&inputs, &upstream)?;
        self.check_device(Scan::<T>::NAME, &inputs.memory(), &workspace)?;
        let layout = Layout::new(&inputs, self.lanes)?;
        layout.grid.plan("bwd", &inputs, layout.bytes).check(Scan::<T>::NAME, given, &workspace)?;
        let dims = inputs.dims;
        let (dout, workspace) = (upstream.dout.is_some(), workspace.address());
        let call = Call { inputs: &inputs, gradients: &gradients, layout: &layout, workspace, dout };
        if dims.nseqs > 0 && dims.dim > 0 {
            self.scan_backward(&call, &upstream)?;
        }
        self.sum_all(&call)
    }

    fn backward(
        &self,
        op: &Scan<'a, T>,
        upstream: SelectiveScanUpstream<'_, T, Device>,
        gradients: SelectiveScanGradients<'_, T, Device>,
    ) -> Result<()> {
        let plan = self.backward_plan(op)?;
        let mut arguments = Some((upstream, gradients));
        self.with_workspace(&plan, |workspace| {
            let Some((upstream, gradients)) = arguments.take() else { return Ok(()) };
            self.backward_with(op, upstream, gradients, &plan, workspace)
        })
    }
}

/// One call, checked.
struct Call<'c, 'a, 'o, T: Element> {
    inputs: &'c Inputs<'a, T, Device>,
    gradients: &'c CheckedGradients<'o, T, Device>,
    layout: &'c Layout,
    workspace: u64,
    /// There is a gradient of the output.
    dout: bool,
}

impl<T: Element> Call<'_, '_, '_, T> {
    fn at(&self, place: usize) -> u64 {
        self.workspace + place as u64
    }

    /// dA, constant dB and constant dC as the caller gave them.
    fn state_sums(&self) -> [params::SsmState; 3] {
        let state = |matrix: params::SsmMatrix| params::SsmState {
            address: matrix.address,
            batch_stride: 0,
            dim_stride: matrix.dim_stride,
            dstate_stride: matrix.dstate_stride,
        };
        let constant = |gradient: Option<&AlignedProjectionMut<'_, T, Device>>| match gradient {
            Some(AlignedProjectionMut::Constant(tensor)) => state(params::matrix_mut(Some(tensor))),
            _ => Default::default(),
        };
        let gradients = self.gradients;
        [
            state(params::matrix_mut(gradients.dA.as_ref())),
            constant(gradients.dB.as_ref()),
            constant(gradients.dC.as_ref()),
        ]
    }

    /// dD and ddt_bias as the caller gave them.
    fn channel_sums(&self) -> [params::SsmRows; 2] {
        [&self.gradients.dD, &self.gradients.ddt_bias].map(|gradient| {
            let vector = params::vector_mut(gradient.as_ref());
            params::SsmRows { address: vector.address, batch_stride: 0, dim_stride: vector.dim_stride }
        })
    }

    /// A row per part of what is asked for, if there are several rows.
    fn rows(&self) -> ([params::SsmState; 3], [params::SsmRows; 2]) {
        let (mut states, mut channels) = (self.state_sums(), self.channel_sums());
        if let Some(rows) = self.layout.rows {
            let Dims { dim, dstate, .. } = self.inputs.dims;
            let (dim, dstate) = (dim as i64, dstate as i64);
            for (state, place) in states.iter_mut().zip(rows).filter(|(state, _)| state.address != 0) {
                *state = params::state_at(self.at(place), [dim * dstate, dstate, 1]);
            }
            for (sum, place) in channels.iter_mut().zip(&rows[3..]).filter(|(sum, _)| sum.address != 0) {
                *sum = params::SsmRows { address: self.at(*place), batch_stride: dim, dim_stride: 1 };
            }
        }
        (states, channels)
    }

    /// dB or dC of a variable projection: where blocks put their sums.
    fn projection_sum(&self, which: usize) -> params::SsmProjectionSum {
        let gradient = [&self.gradients.dB, &self.gradients.dC][which].as_ref();
        let Some(AlignedProjectionMut::Variable { tensor, .. }) = gradient else { return Default::default() };
        let partial = self.layout.sums[which];
        let dense = dense(tensor.layout.extents);
        let [batch_stride, ngroups_stride, dstate_stride, seqlen_stride] = match partial {
            Some(_) => [dense[1], dense[2], dense[3], 1],
            None => tensor.layout.strides,
        };
        params::SsmProjectionSum {
            address: partial.map_or_else(|| tensor.memory.address(), |place| self.at(place)),
            partial_stride: dense[0],
            batch_stride,
            ngroups_stride,
            dstate_stride,
            seqlen_stride,
            partial: partial.is_some().into(),
            reserved: 0,
        }
    }
}

/// Elements of the whole, and dense strides of all dimensions but the last.
fn dense(extents: [usize; 4]) -> [i64; 4] {
    let [_, e1, e2, e3] = extents.map(|extent| extent as i64);
    [extents[0] as i64 * e1 * e2 * e3, e1 * e2 * e3, e2 * e3, e3]
}

impl<L: Launcher> Gpu<L> {
    fn scan_backward<T: Element>(
        &self,
        call: &Call<'_, '_, '_, T>,
        upstream: &CheckedUpstream<'_, T, Device>,
    ) -> Result<()> {
        let mut params = fill(call, upstream)?;
        let gradients = call.gradients;
        params.no_states = (!gradients.need_states(upstream.dout.is_some())).into();
        params.carry_only = gradients.only_initial_state().into();
        if upstream.dout.is_none() {
            // Not 0 times what may be infinite: `sum_all` sets them to 0.
            (params.dC, params.dC_constant, params.dD, params.dz) = Default::default();
        }
        if params.no_states == 0 {
            params.chunk_states = self.checkpoints(call, upstream)?;
        }
        if let Some(parts) = &call.layout.parts {
            let local = params::SsmSelectiveScanBwd {
                dlast: params::SsmState::default(),
                dfirst: parts.local(call.workspace),
                delta_sum: parts.delta_sum(call.workspace),
                carry_only: 1,
                no_states: 1,
                first_per_part: 1,
                dD: params::SsmRows::default(),
                ddt_bias: params::SsmRows::default(),
                ..params
            };
            self.launch_backward(call, &local)?;
            // Against the scan.
            self.carry_rows(parts, call.workspace, &params.A, &params.dlast, true)?;
            params.dlast = parts.carried(call.workspace);
        }
        self.launch_backward(call, &params)
    }

    /// The caller's, or those that a scan makes now.
    fn checkpoints<T: Element>(
        &self,
        call: &Call<'_, '_, '_, T>,
        upstream: &CheckedUpstream<'_, T, Device>,
    ) -> Result<params::SsmState> {
        if let Some((_, checkpoints, _)) = &upstream.checkpoints {
            return Ok(params::state(Some(checkpoints)));
        }
        let Dims { dim, dstate, .. } = call.inputs.dims;
        let chunk_states =
            params::state_at(call.at(call.layout.checkpoints), [(dim * dstate) as i64, dstate as i64, 1]);
        let every = call.inputs.checkpoint_every();
        if call.inputs.longest() > every {
            let targets = Targets { chunk_states, every, ..Default::default() };
            self.scan_forward(call.inputs, &targets, &call.layout.forward, call.workspace)?;
        }
        Ok(chunk_states)
    }

    fn launch_backward<T: Element>(
        &self,
        call: &Call<'_, '_, '_, T>,
        params: &params::SsmSelectiveScanBwd,
    ) -> Result<()> {
        let op = Scan::<T>::NAME;
        let grid = &call.layout.grid;
        let constant_sums = [params.dB_constant, params.dC_constant].iter().filter(|sum| sum.address != 0).count();
        let (module, kernel) = ptx::find(op, &format!("selective_scan_bwd_{}_lanes{}", T::DTYPE, grid.lanes))?;
        let launch = Launch {
            module,
            kernel,
            grid: grid.launch(op)?,
            block: [THREADS as u32, 1, 1],
            // Below 99 KiB for every plan.
            shared_bytes: call.layout.shared_bytes(call.inputs, constant_sums) as u32,
            params: bytemuck::bytes_of(params),
        };
        // SAFETY: `fill` made the parameters of this kernel from views that the contract checked, and from places in a
        // workspace of the plan's size; whoever made the device views guarantees their memory until the work is done.
        unsafe { self.launcher.launch(&launch) }
    }

    /// What blocks, parts and sequences left, summed in order. Of none the sum is 0.
    fn sum_all<T: Element>(&self, call: &Call<'_, '_, '_, T>) -> Result<()> {
        let Dims { dim, dstate, nseqs, .. } = call.inputs.dims;
        if let (false, Some(dz)) = (call.dout, &call.gradients.dz) {
            let [batch, dim, seqlen] = dz.layout.extents;
            let [batch_stride, dim_stride, seqlen_stride] = dz.layout.strides;
            let target =
                params::SsmWide { address: dz.memory.address(), strides: [0, batch_stride, dim_stride, seqlen_stride] };
            let extents = [1, batch, dim, seqlen];
            self.sum::<T>(&Sum { source: target, target, extents, slices: 0, group: 1, slice_stride: 0 })?;
        }
        if call.layout.grid.rows != 1 || !call.dout {
            let (states, channels) = call.rows();
            for (which, (source, target)) in states.iter().zip(call.state_sums()).enumerate() {
                let wide = |state: &params::SsmState| params::SsmWide {
                    address: state.address,
                    strides: [0, 0, state.dim_stride, state.dstate_stride],
                };
                let there = call.dout || which != 2;
                self.sum_rows(call, wide(source), wide(&target), [1, 1, dim, dstate], source.batch_stride, there)?;
            }
            for (which, (source, target)) in channels.iter().zip(call.channel_sums()).enumerate() {
                let wide = |rows: &params::SsmRows| params::SsmWide {
                    address: rows.address,
                    strides: [0, 0, 0, rows.dim_stride],
                };
                let there = call.dout || which != 0;
                self.sum_rows(call, wide(source), wide(&target), [1, 1, 1, dim], source.batch_stride, there)?;
            }
        }
        for (which, gradient) in [&call.gradients.dB, &call.gradients.dC].into_iter().enumerate() {
            let Some(AlignedProjectionMut::Variable { tensor, .. }) = gradient else { continue };
            let of = [&call.inputs.B, &call.inputs.C][which];
            let nothing = dim == 0 || nseqs == 0 || (which == 1 && !call.dout);
            if call.layout.sums[which].is_none() && !nothing {
                continue;
            }
            let source = call.projection_sum(which);
            self.sum::<T>(&Sum {
                source: params::SsmWide {
                    address: source.address,
                    strides: [source.batch_stride, source.ngroups_stride, source.dstate_stride, source.seqlen_stride],
                },
                target: params::wide_mut(Some(tensor)),
                extents: tensor.layout.extents,
                slices: if nothing { 0 } else { slices(of, &call.layout.grid).unwrap_or(0) },
                group: 1,
                slice_stride: source.partial_stride,
            })?;
        }
        Ok(())
    }

    /// Over all rows: a sequence's parts first, so that a batch is the sum of its rows. 0 if they are not `there`.
    fn sum_rows<T: Element>(
        &self,
        call: &Call<'_, '_, '_, T>,
        source: params::SsmWide,
        target: params::SsmWide,
        extents: [usize; 4],
        slice_stride: i64,
        there: bool,
    ) -> Result<()> {
        // One row is the sum itself.
        if target.address == 0 || (there && call.layout.grid.rows == 1) {
            return Ok(());
        }
        let Grid { rows, split, .. } = call.layout.grid;
        self.sum::<f32>(&Sum {
            source,
            target,
            extents,
            slices: if there { rows } else { 0 },
            group: split,
            slice_stride,
        })
    }
}

/// The kernel's parameters for the main pass over sequences in one part.
fn fill<T: Element>(
    call: &Call<'_, '_, '_, T>,
    upstream: &CheckedUpstream<'_, T, Device>,
) -> Result<params::SsmSelectiveScanBwd> {
    let op = Scan::<T>::NAME;
    let Call { inputs, gradients, layout, .. } = call;
    let grid = &layout.grid;
    let dim = narrow(op, "dim", inputs.dims.dim)?;
    let ([dA, dB_constant, dC_constant], [dD, ddt_bias]) = call.rows();
    Ok(params::SsmSelectiveScanBwd {
        x: params::sequence(Some(&inputs.x)),
        dt: params::sequence(Some(&inputs.dt)),
        z: params::sequence(inputs.z.as_ref()),
        dout: params::sequence(upstream.dout.as_ref()),
        A: params::matrix(&inputs.A),
        B: projection(&inputs.B, dim),
        C: projection(&inputs.C, dim),
        D: params::vector(inputs.D.as_ref()),
        dt_bias: params::vector(inputs.dt_bias.as_ref()),
        initial_state: params::state(inputs.initial_state.as_ref()),
        chunk_states: params::SsmState::default(),
        dlast: params::state(upstream.dfinal_state.as_ref()),
        dfirst: params::state_mut(gradients.dinitial_state.as_ref()),
        dx: params::sequence_mut(gradients.dx.as_ref()),
        ddt: params::sequence_mut(gradients.ddt.as_ref()),
        dz: params::sequence_mut(gradients.dz.as_ref()),
        dB: call.projection_sum(0),
        dC: call.projection_sum(1),
        dA,
        dB_constant,
        dC_constant,
        dD,
        ddt_bias,
        delta_sum: params::SsmRows::default(),
        tile_states: call.at(layout.tile_states),
        slab_states: if grid.waits() { call.at(layout.slab_states) } else { 0 },
        spans: grid.spans(inputs, inputs.checkpoint_every())?,
        dim,
        dstate: narrow(op, "dstate", inputs.dims.dstate)?,
        run: narrow(op, "dim", grid.run)?,
        blocks_per_run: narrow(op, "blocks", grid.blocks_per_run)?,
        tiles_per_block: narrow(op, "blocks", grid.tiles_per_block)?,
        window_tiles: narrow(op, "tiles", layout.window_tiles)?,
        sparse: layout.sparse.into(),
        carry_only: 0,
        first_per_part: 0,
        no_states: 0,
        step: params::step(inputs.step),
    })
}
