//! The GPU backend: arguments and plan become a [`Launch`], and a [`Launcher`] enqueues it: on a stream of the CUDA driver
//! (feature `cuda`), or on an emulated device (`Emulator`, feature `emulator`) that checks the kernels while they run.
//!
#![cfg_attr(feature = "cuda", doc = "```no_run")]
#![cfg_attr(not(feature = "cuda"), doc = "```ignore")]
//! use ssm_kernels::gpu::{Driver, Stream};
//! # use ssm_kernels::{Device, Result, prelude::*};
//! # fn call(scan: SelectiveScan<'_, f32, Device>, out: &mut ViewMut<'_, f32, Device>, stream: Stream) -> Result<()> {
//! let gpu = Driver::open(0)?;
//! gpu.on(stream).forward(&scan, SelectiveScanOutputs::new(out))?; // enqueued; the views lie on device 0
//! # Ok(())
//! # }
//! ```
//!
//! Calls enqueue on the stream and return: no synchronisation, and no allocation unless the convenience `forward` needs
//! a workspace (which it allocates and frees in stream order). The first call of a kernel loads it, which compiles and
//! may synchronise; `Driver::prepare` does that ahead, before a graph capture for example. Errors that a running
//! kernel makes are the driver's, and reach whoever synchronises.

mod causal_conv1d;
#[cfg(feature = "cust")]
mod cust;
mod discretise;
#[cfg(feature = "cuda")]
mod driver;
#[cfg(feature = "emulator")]
mod emulated;
mod launcher;
mod nvtx;
mod on_host;
mod params;
mod ptx;
mod selective_scan;
mod state_update;
#[cfg(feature = "cuda")]
mod sys;

#[cfg(feature = "cust")]
pub use cust::{CustBuffer, HeldAs, OnCust};
#[cfg(feature = "cuda")]
pub use driver::{DeviceInfo, Driver, DriverBuffer, OnStream, Stream, devices};
#[cfg(feature = "emulator")]
pub use emulated::{Checks, EmulatedBuffer, Emulator, Finding, FindingKind, Mode, Report};
pub use launcher::{Launch, Launcher};
pub use on_host::{Board, BoardBuffer, OnHost};
pub use ptx::{COMPILERS, MODULES, Module, ORIGIN};

use crate::error::{Error, Result};
use crate::ops::Workspace;
use crate::plan::Plan;
use crate::tensor::{Device, Memory};

/// The GPU backend on one launcher: a stream of a device.
#[derive(Debug, Clone, Copy)]
pub struct Gpu<L> {
    launcher: L,
    /// Of a channel of a scan, if not as its plan would have it.
    lanes: Option<usize>,
}

impl<L: Launcher> Gpu<L> {
    /// Over any launcher.
    pub fn new(launcher: L) -> Self {
        Self { launcher, lanes: None }
    }

    /// Gives each channel of a selective scan so many lanes at the least, instead of as many as its plan would: for tests,
    /// which run all of them, and for counting what they cost.
    #[doc(hidden)]
    pub fn lanes(mut self, lanes: usize) -> Self {
        self.lanes = Some(lanes);
        self
    }

    /// The tensors, which lie on one device as one of the inputs does, and the workspace lie on the launcher's.
    fn check_device(&self, op: &'static str, inputs: &Memory, workspace: &Workspace<'_, Device>) -> Result<()> {
        let expected = self.launcher.ordinal();
        let workspace = (workspace.elements() > 0).then_some(("workspace", workspace.ordinal()));
        for (arg, ordinal) in inputs.place().into_iter().chain(workspace) {
            if let Some(ordinal) = ordinal.filter(|&ordinal| ordinal != expected) {
                let (got, expected) = (format!("device {ordinal}"), format!("device {expected} of the stream"));
                return Err(Error::WrongDevice { op, arg, got, expected });
            }
        }
        Ok(())
    }

    /// Runs `call` in a workspace of its own, in stream order.
    fn with_workspace(&self, plan: &Plan, mut call: impl FnMut(Workspace<'_, Device>) -> Result<()>) -> Result<()> {
        self.launcher.with_workspace(plan, &mut call)
    }
}

/// An extent, or a number of blocks, as kernels and grids take it: below 2^31, so that sums of two stay in 32 bits.
fn narrow(op: &'static str, name: &str, extent: usize) -> Result<u32> {
    i32::try_from(extent).map(i32::unsigned_abs).map_err(|_| Error::Unsupported {
        op,
        what: format!("{name} {extent}"),
        expected: format!("at most {} on a GPU", i32::MAX),
    })
}
