//! What a kernel launch is, and who can do it.

use super::ptx::Module;
use crate::error::Result;
use crate::ops::Workspace;
use crate::plan::Plan;
use crate::tensor::Device;

/// One kernel launch, complete.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Launch<'p> {
    /// The PTX that holds the kernel.
    pub module: &'static Module,
    /// Name of the entry, `<op>_<fwd|bwd|update>_<dtype>[_<variant>]`.
    pub kernel: &'static str,
    /// Blocks along x, y, z; none of them 0.
    pub grid: [u32; 3],
    /// Threads of a block along x, y, z.
    pub block: [u32; 3],
    /// Dynamic shared memory of a block in bytes.
    pub shared_bytes: u32,
    /// The one parameter: a struct of `kernels-cu/params.h`, aligned to 8 bytes.
    pub params: &'p [u8],
}

/// Enqueues launches on one stream of one device: the driver's, or an emulator.
///
/// What the backend enqueues can be seen without a GPU:
/// ```
/// use ssm_kernels::gpu::{Gpu, Launch, Launcher};
/// use ssm_kernels::ops::Workspace;
/// use ssm_kernels::{Axes, Device, Plan, Result, Slice, SliceMut, prelude::*};
/// use std::cell::RefCell;
///
/// #[derive(Default)]
/// struct Names(RefCell<Vec<String>>);
///
/// impl Launcher for &Names {
///     fn ordinal(&self) -> u32 {
///         0
///     }
///     unsafe fn launch(&self, launch: &Launch<'_>) -> Result<()> {
///         self.0.borrow_mut().push(format!("{} {:?}", launch.kernel, launch.grid));
///         Ok(())
///     }
///     fn with_workspace(&self, plan: &Plan, run: &mut dyn FnMut(Workspace<'_, Device>) -> Result<()>) -> Result<()> {
///         // SAFETY: nothing is run with it.
///         run(unsafe { SliceMut::from_raw_parts(0x9_0000, plan.workspace_blocks(), 0) })
///     }
/// }
/// let (sequence, taps) = (Axes::dense([("batch", 1), ("seqlen", 100), ("dim", 64)]), Axes::dense([("dim", 64), ("width", 4)]));
/// // SAFETY: nothing is run with them.
/// let (x, weight, out) = unsafe {
///     let x = Slice::<f32, Device>::from_raw_parts(0x1_0000, 6400, 0);
///     (x, Slice::<f32, Device>::from_raw_parts(0x2_0000, 256, 0), SliceMut::<f32, Device>::from_raw_parts(0x8_0000, 6400, 0))
/// };
/// let (names, mut out) = (Names::default(), ViewMut::from_parts(out, sequence));
/// let conv = CausalConv1d::new(View::from_parts(x, sequence), View::from_parts(weight, taps))?;
/// Gpu::new(&names).forward(&conv, CausalConv1dOutputs::new(&mut out))?;
/// assert_eq!(names.0.take(), ["causal_conv1d_fwd_f32_channels4 [2, 1, 1]"]);
/// # Ok::<(), ssm_kernels::Error>(())
/// ```
pub trait Launcher {
    /// The device.
    fn ordinal(&self) -> u32;

    /// Enqueues a launch, loading its module on first use.
    ///
    /// # Safety
    /// The parameters are those of the kernel, and the memory that they name is valid for it until the work is done.
    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<()>;

    /// Calls `run` with a workspace for `plan` that lasts until the work enqueued by `run` is done.
    fn with_workspace(&self, plan: &Plan, run: &mut dyn FnMut(Workspace<'_, Device>) -> Result<()>) -> Result<()>;
}
