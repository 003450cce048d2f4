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
