//! The GPU backend: arguments and plan become a [`Launch`], and a [`Launcher`] enqueues it.
//!
//! ```no_run
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
//! a workspace (which it allocates and frees in stream order). Kernels that the emulator or a device has not run yet are
//! named in the README.

mod discretise;
mod driver;
mod launcher;
mod params;
mod ptx;
mod selective_scan;

pub use driver::{DeviceInfo, Driver, OnStream, Stream, devices};
pub use launcher::{Launch, Launcher};
pub use ptx::{COMPILERS, MODULES, Module, ORIGIN};

use crate::error::{Error, Result};
use crate::ops::Workspace;
use crate::plan::Plan;
use crate::tensor::Device;

/// The GPU backend on one launcher: a stream of a device.
#[derive(Debug, Clone, Copy)]
pub struct Gpu<L> {
    launcher: L,
}

impl<L: Launcher> Gpu<L> {
    /// Over any launcher.
    pub fn new(launcher: L) -> Self {
        Self { launcher }
    }

    /// The tensors lie on the launcher's device.
    fn check_device(&self, op: &'static str, ordinal: Option<u32>) -> Result<()> {
        let expected = self.launcher.ordinal();
        match ordinal {
            Some(ordinal) if ordinal != expected => {
                let (got, expected) = (format!("device {ordinal}"), format!("device {expected}, the stream's,"));
                Err(Error::WrongDevice { op, arg: "x", got, expected })
            }
            _ => Ok(()),
        }
    }

    /// Runs `call` in a workspace of its own, in stream order.
    fn with_workspace(&self, plan: &Plan, mut call: impl FnMut(Workspace<'_, Device>) -> Result<()>) -> Result<()> {
        self.launcher.with_workspace(plan, &mut call)
    }
}

/// An extent as kernels take it.
fn narrow(op: &'static str, name: &str, extent: usize) -> Result<u32> {
    u32::try_from(extent).map_err(|_| Error::Unsupported {
        op,
        what: format!("{name} {extent}"),
        expected: format!("at most {} on a GPU", u32::MAX),
    })
}
