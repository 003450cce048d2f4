//! How the backends would run the call: asked of their plans, without a device.

use super::case::Case;
use crate::error::Result;
use crate::run::selective_scan::Tensors;
use crate::tensor::Io;
use ssm_kernels::Dtype;
use ssm_kernels::ops::selective_scan::Dims;
use ssm_kernels::prelude::*;

/// A kernel that a call launches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Launched {
    pub kernel: String,
    pub grid: [u32; 3],
    pub threads: u32,
    pub shared_bytes: u32,
}

/// A call as it would run.
#[derive(Debug)]
pub(super) struct Planned {
    pub backend: &'static str,
    pub direction: &'static str,
    pub dtype: Dtype,
    pub plan: Plan,
    /// The states that forward saves for backward.
    pub checkpoint_bytes: usize,
    /// Of a GPU.
    pub launches: Vec<Launched>,
}

/// The plans of one dtype, of each backend of this build.
#[derive(Debug, Default)]
pub(super) struct Plans {
    pub planned: Vec<Planned>,
    /// Why a backend refuses the call.
    pub refused: Vec<String>,
}

/// Asks all of them.
pub(super) fn of<T: Io>(case: &Case<'_>, tensors: &Tensors<'_, T>) -> Result<Plans> {
    let scan = tensors.scan(case.options)?;
    let (dtype, checkpoint_bytes) = (T::DTYPE, checkpoint_bytes(case, &scan)?);
    let planned =
        |backend, direction, plan, launches| Planned { backend, direction, dtype, plan, checkpoint_bytes, launches };
    let mut plans = Plans::default();
    plans.planned.push(planned("cpu", "forward", Cpu::new().forward_plan(&scan)?, vec![]));
    plans.planned.push(planned("cpu", "backward", Cpu::new().backward_plan(&scan)?, vec![]));
    #[cfg(any(feature = "cuda", feature = "emulator"))]
    for direction in ["forward", "backward"] {
        match super::launches::plan(case, tensors, direction == "backward") {
            Ok((plan, launches)) => plans.planned.push(planned("gpu", direction, plan, launches)),
            Err(error) => plans.refused.push(format!("gpu {direction}, {dtype}: {error}")),
        }
    }
    Ok(plans)
}

fn checkpoint_bytes<T: Io>(case: &Case<'_>, scan: &SelectiveScan<'_, T>) -> Result<usize> {
    let Dims { dim, dstate, nseqs, .. } = case.dims;
    let chunks = scan.chunk_offsets(scan.checkpoint_every()?)?[nseqs];
    Ok(chunks * dim * dstate * size_of::<f32>())
}
