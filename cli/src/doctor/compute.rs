//! What the cpu backend makes of the inputs.

use super::case::{Case, Part};
use super::plans::{self, Plans};
use crate::error::Result;
use crate::memory::{Memory, filled};
use crate::run::selective_scan::{Call, Options, Tensors, Upstream, outlines};
use crate::run::shaped::converted;
use crate::tensor::Io;
use half::{bf16, f16};
use ssm_kernels::Dtype;
use ssm_kernels::ops::selective_scan::Dims;
use ssm_kernels::prelude::*;

/// Results of the cpu backend, widened, and how backends would have run.
pub(super) struct Computed {
    pub dtype: Dtype,
    /// In the order of the case's.
    pub results: Vec<Vec<f32>>,
    pub plans: Plans,
}

/// Runs the cpu backend on the inputs rounded to a dtype.
pub(super) fn compute(case: &Case<'_>, dtype: Dtype, threads: Option<u16>, memory: &mut Memory) -> Result<Computed> {
    let all: Vec<usize> = (0..case.dims.dim).collect();
    let results = results(case, &case.part(&all)?, dtype, threads, memory)?;
    let plans = match dtype {
        Dtype::F16 => plans::of(case, &case.tensors.converted::<f16>()?),
        Dtype::BF16 => plans::of(case, &case.tensors.converted::<bf16>()?),
        _ => plans::of(case, &case.tensors.converted::<f32>()?),
    };
    Ok(Computed { dtype, results, plans: plans? })
}

/// What the cpu backend makes of a part of the case.
pub(super) fn results(
    case: &Case<'_>,
    part: &Part<'_>,
    dtype: Dtype,
    threads: Option<u16>,
    memory: &mut Memory,
) -> Result<Vec<Vec<f32>>> {
    match dtype {
        Dtype::F16 => in_dtype::<f16>(case, part, threads, memory),
        Dtype::BF16 => in_dtype::<bf16>(case, part, threads, memory),
        _ => in_dtype::<f32>(case, part, threads, memory),
    }
}

fn in_dtype<T: Io>(
    case: &Case<'_>,
    part: &Part<'_>,
    threads: Option<u16>,
    memory: &mut Memory,
) -> Result<Vec<Vec<f32>>> {
    let tensors = part.tensors.converted::<T>()?;
    let backend = if threads == Some(1) { Cpu::single_thread() } else { Cpu::new() };
    let Some(upstream) = &part.upstream else {
        let (out, final_state) = forward(&backend, &tensors, case.options, memory)?;
        return Ok(vec![out.into_iter().map(T::to_f32).collect(), final_state]);
    };
    backward(&backend, &tensors, &upstream.mapped(&converted)?, case, memory)
}

fn forward<T: Io>(
    backend: &Cpu,
    tensors: &Tensors<'_, T>,
    options: &Options,
    memory: &mut Memory,
) -> Result<(Vec<T>, Vec<f32>)> {
    let scan = tensors.scan(options)?;
    let Dims { batch, dim, seqlen, dstate, nseqs, .. } = scan.dims()?;
    let plan = backend.forward_plan(&scan)?;
    memory.plan(plan.workspace_bytes, 1)?;
    memory.reserve()?;
    let mut out = filled(batch * dim * seqlen, T::from_f32(f32::NAN))?;
    let mut final_state = filled(nseqs * dim * dstate, f32::NAN)?;
    let mut out_view = ViewMut::new(&mut out, [("batch", batch), ("dim", dim), ("seqlen", seqlen)]);
    let mut state_view = ViewMut::new(&mut final_state, [("batch", nseqs), ("dim", dim), ("dstate", dstate)]);
    let outputs = SelectiveScanOutputs::new(&mut out_view).final_state(&mut state_view);
    backend.forward_with(&scan, outputs, &plan, (&mut plan.allocate()?).into())?;
    Ok((out, final_state))
}

fn backward<T: Io>(
    backend: &Cpu,
    tensors: &Tensors<'_, T>,
    upstream: &Upstream<'_, T>,
    case: &Case<'_>,
    memory: &mut Memory,
) -> Result<Vec<Vec<f32>>> {
    let scan = tensors.scan(case.options)?;
    let of_state = case.results.iter().any(|kind| kind.name == "dinitial_state");
    let outlines = outlines::<T>(&tensors.gradients(&scan.dims()?, of_state));
    let call = Call { scan: &scan, upstream, gradients: &case.gradients, outlines: &outlines, options: case.options };
    let (gradients, _) = call.timed(backend, memory)?;
    Ok(gradients.into_iter().map(|gradient| gradient.data.into_f32()).collect())
}
