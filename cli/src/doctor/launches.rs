//! What the GPU backend would launch: it runs as far as its launches, which are written down instead of made.

use super::case::Case;
use super::plans::Launched;
use crate::run::selective_scan::{Projected, Shaped, Tensors};
use crate::tensor::Io;
use bytemuck::Pod;
use ssm_kernels::gpu::{Gpu, Launch, Launcher};
use ssm_kernels::ops::Workspace;
use ssm_kernels::ops::selective_scan::Dims;
use ssm_kernels::prelude::*;
use ssm_kernels::{Axes, Device, Result, Slice, SliceMut, WorkspaceBlock};
use std::cell::{Cell, RefCell};

/// Bytes from one tensor to the next: more than the largest has.
const APART: u64 = 1 << 44;
/// Beyond all tensors, of which there are some twenty.
const WORKSPACE: u64 = 1 << 62;

/// Writes launches down instead of making them.
#[derive(Default)]
struct Recorder {
    launches: RefCell<Vec<Launched>>,
    tensors: Cell<u64>,
}

impl Launcher for &Recorder {
    fn ordinal(&self) -> u32 {
        0
    }

    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<()> {
        self.launches.borrow_mut().push(Launched {
            kernel: launch.kernel.into(),
            grid: launch.grid,
            threads: launch.block.iter().product(),
            shared_bytes: launch.shared_bytes,
        });
        Ok(())
    }

    fn with_workspace(&self, plan: &Plan, run: &mut dyn FnMut(Workspace<'_, Device>) -> Result<()>) -> Result<()> {
        // SAFETY: nothing is launched, so that nothing reads or writes there.
        run(unsafe { SliceMut::<WorkspaceBlock, Device>::from_raw_parts(WORKSPACE, plan.workspace_blocks(), 0) })
    }
}

impl Recorder {
    /// An address where no other tensor is.
    fn address(&self) -> u64 {
        self.tensors.set(self.tensors.get() + 1);
        self.tensors.get() * APART
    }

    fn view<T: Pod, const R: usize>(
        &self,
        names: [&'static str; R],
        tensor: &Shaped<'_, T, R>,
    ) -> View<'static, T, Device> {
        let axes = Axes::dense(std::array::from_fn::<_, R, _>(|i| (names[i], tensor.extents[i])));
        // SAFETY: nothing is launched, so that nothing reads there.
        let slice = unsafe { Slice::<T, Device>::from_raw_parts(self.address(), tensor.data.len(), 0) };
        View::from_parts(slice, axes)
    }

    fn projection<T: Io>(&self, projection: &Projected<'_, T>) -> Projection<'static, T, Device> {
        match projection {
            Projected::Variable(tensor) => {
                Projection::Variable(self.view(["batch", "ngroups", "dstate", "seqlen"], tensor))
            }
            Projected::Constant(tensor) => Projection::Constant(self.view(["dim", "dstate"], tensor)),
        }
    }

    /// Memory for a result, and its dimensions.
    fn view_mut<T: Pod, const R: usize>(&self, dims: [(&'static str, usize); R]) -> ViewMut<'static, T, Device> {
        let elements = dims.iter().map(|(_, extent)| extent).product();
        // SAFETY: nothing is launched, so that nothing writes there.
        let slice = unsafe { SliceMut::<T, Device>::from_raw_parts(self.address(), elements, 0) };
        ViewMut::from_parts(slice, Axes::dense(dims))
    }

    fn projection_mut<T: Io>(&self, projection: &Projected<'_, T>) -> ProjectionMut<'static, T, Device> {
        match projection {
            Projected::Variable(Shaped { extents: [batch, ngroups, dstate, seqlen], .. }) => {
                let dims = [("batch", *batch), ("ngroups", *ngroups), ("dstate", *dstate), ("seqlen", *seqlen)];
                ProjectionMut::Variable(self.view_mut(dims))
            }
            Projected::Constant(Shaped { extents: [dim, dstate], .. }) => {
                ProjectionMut::Constant(self.view_mut([("dim", *dim), ("dstate", *dstate)]))
            }
        }
    }

    fn scan<'s, T: Io>(&self, case: &Case<'_>, tensors: &'s Tensors<'_, T>) -> Result<SelectiveScan<'s, T, Device>> {
        let sequence = |tensor| self.view(["batch", "dim", "seqlen"], tensor);
        let channel = |tensor| self.view(["dim"], tensor);
        let A = self.view(["dim", "dstate"], &tensors.A);
        let (B, C) = (self.projection(&tensors.B), self.projection(&tensors.C));
        let mut scan = SelectiveScan::new(sequence(&tensors.x), sequence(&tensors.dt), A, B, C)?
            .dt_softplus(case.options.dt_softplus)
            .reverse(case.options.reverse);
        scan = tensors.D.iter().fold(scan, |scan, D| scan.D(channel(D)));
        scan = tensors.z.iter().fold(scan, |scan, z| scan.z(sequence(z)));
        scan = tensors.dt_bias.iter().fold(scan, |scan, bias| scan.dt_bias(channel(bias)));
        scan = case.options.dt_limit.into_iter().fold(scan, SelectiveScan::dt_limit);
        let state = tensors.initial_state.as_ref().map(|state| self.view(["batch", "dim", "dstate"], state));
        scan = state.into_iter().fold(scan, SelectiveScan::initial_state);
        Ok(match &tensors.segments {
            Some(segments) => {
                let elements = segments.cu_seqlens().len();
                // SAFETY: nothing is launched, so that nothing reads the table.
                unsafe { scan.segments_on(segments, Slice::from_raw_parts(self.address(), elements, 0)) }
            }
            None => scan,
        })
    }
}

/// The plan, and what a call with out and final_state, or with all gradients of out, launches.
pub(super) fn plan<T: Io>(case: &Case<'_>, tensors: &Tensors<'_, T>, backward: bool) -> Result<(Plan, Vec<Launched>)> {
    let Dims { batch, dim, seqlen, dstate, nseqs, .. } = case.dims;
    let recorder = Recorder::default();
    let (gpu, scan) = (Gpu::new(&recorder), recorder.scan(case, tensors)?);
    let sequence = || recorder.view_mut::<T, 3>([("batch", batch), ("dim", dim), ("seqlen", seqlen)]);
    let state = || recorder.view_mut::<f32, 3>([("batch", nseqs), ("dim", dim), ("dstate", dstate)]);
    let channel = || recorder.view_mut::<f32, 1>([("dim", dim)]);
    let plan = if backward {
        let upstream = SelectiveScanUpstream::new().dout(recorder.view(["batch", "dim", "seqlen"], &tensors.x));
        let (mut dx, mut ddt, mut dz) = (sequence(), sequence(), sequence());
        let (mut dD, mut ddt_bias, mut dinitial) = (channel(), channel(), state());
        let mut dA = recorder.view_mut([("dim", dim), ("dstate", dstate)]);
        let (dB, dC) = (recorder.projection_mut(&tensors.B), recorder.projection_mut(&tensors.C));
        let mut wanted = SelectiveScanGradients::new().dx(&mut dx).ddt(&mut ddt).dA(&mut dA).dB(dB).dC(dC);
        if tensors.z.is_some() {
            wanted = wanted.dz(&mut dz);
        }
        if tensors.D.is_some() {
            wanted = wanted.dD(&mut dD);
        }
        if tensors.dt_bias.is_some() {
            wanted = wanted.ddt_bias(&mut ddt_bias);
        }
        if tensors.initial_state.is_some() {
            wanted = wanted.dinitial_state(&mut dinitial);
        }
        gpu.backward(&scan, upstream, wanted)?;
        gpu.backward_plan(&scan)?
    } else {
        let (mut out, mut final_state) = (sequence(), state());
        gpu.forward(&scan, SelectiveScanOutputs::new(&mut out).final_state(&mut final_state))?;
        gpu.forward_plan(&scan)?
    };
    Ok((plan, recorder.launches.into_inner()))
}
