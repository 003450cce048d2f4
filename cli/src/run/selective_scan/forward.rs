//! The outputs.

use super::tensors::{channel_first, sequence_view_mut};
use super::{OP, Options};
use crate::args::{Backend, RunArgs};
use crate::error::{CliError, Result};
use crate::input::Input;
use crate::memory::{Memory, filled};
use crate::report::Row;
use crate::run::results::{Outline, judge, outline, plan, widened};
use crate::speed::{self, Speed};
use crate::tensor::{Data, Io, Scalar, Tensor};
use ssm_kernels::ops::selective_scan::Dims;
use ssm_kernels::prelude::*;
use ssm_kernels::reference::accuracy::Loop;
use ssm_kernels::reference::{Real, selective_scan as naive};

/// Runs and judges.
pub(super) fn run<T: Io>(
    args: &RunArgs,
    scan: &SelectiveScan<'_, T>,
    options: &Options,
    input: &Input<'_>,
    memory: &mut Memory,
) -> Result<(Vec<Tensor>, Vec<Row>, Speed)> {
    let dims = scan.dims()?;
    // A chunk offset per sequence, in the library and here, before the scan can be asked for them.
    memory.plan(dims.nseqs.saturating_add(1), 3 * size_of::<usize>())?;
    memory.reserve()?;
    let offsets = options.every.map(|every| scan.chunk_offsets(every)).transpose()?;
    let outlines = outlines::<T>(&dims, offsets.as_deref());
    plan(&outlines, 2 * size_of::<f64>(), input, memory)?;
    // The naive loops' sums of delta, which there are if there are steps.
    let has_steps = [dims.batch, dims.dim, dims.seqlen].iter().all(|&extent| extent > 0);
    memory.plan(if has_steps { dims.nseqs.saturating_mul(dims.dim) } else { 0 }, size_of::<f64>())?;
    memory.reserve()?;
    let offsets = offsets.map(|offsets| chunk_offsets(&offsets, input)).transpose()?;
    let (mut results, speed) = match args.backend {
        Backend::Cpu if options.threads == Some(1) => timed(&Cpu::single_thread(), scan, &dims, options, &outlines)?,
        Backend::Cpu => timed(&Cpu::new(), scan, &dims, options, &outlines)?,
        #[cfg(feature = "emulator")]
        Backend::Emulator => timed(&crate::run::emulator::device(args).on_host(), scan, &dims, options, &outlines)?,
        #[cfg(feature = "cuda")]
        Backend::Cuda => timed(&crate::cuda::on_stream(args.device)?.on_host(), scan, &dims, options, &outlines)?,
        Backend::Reference => reference(scan, options, &outlines)?,
    };
    let rows = judge(&outlines, &results, input, &Naive { scan, every: options.every })?;
    results.extend(offsets);
    Ok((results, rows, speed))
}

/// In the order of the results.
fn outlines<T: Io>(dims: &Dims, offsets: Option<&[usize]>) -> Vec<Outline> {
    let Dims { batch, dim, seqlen, dstate, nseqs, .. } = *dims;
    let mut outlines =
        vec![outline::<T>("out", [batch, dim, seqlen]), outline::<f32>("final_state", [nseqs, dim, dstate])];
    let chunks = offsets.and_then(<[usize]>::last);
    outlines.extend(chunks.map(|&nchunks| outline::<f32>("chunk_states", [nchunks, dim, dstate])));
    outlines
}

/// As a tensor, equal to that of the file if it has one.
fn chunk_offsets(offsets: &[usize], input: &Input<'_>) -> Result<Tensor> {
    let narrow = |&offset: &usize| {
        i32::try_from(offset).map_err(|_| CliError::value(OP, "chunk_offsets", format!("holds {offset}"), "an i32"))
    };
    let data = offsets.iter().map(narrow).collect::<Result<Vec<i32>>>()?;
    if let Some(given) = input.optional::<i32>("chunk_offsets")?
        && *given.data != *data
    {
        let expected = format!("{data:?} with this --states-every");
        return Err(CliError::value(OP, "chunk_offsets", format!("is {:?}", given.data), expected));
    }
    Ok(Tensor { name: "chunk_offsets", shape: vec![data.len()], data: Data::I32(data) })
}

fn timed<'a, T: Io>(
    backend: &(impl Forward<SelectiveScan<'a, T>> + Sync),
    scan: &SelectiveScan<'a, T>,
    dims: &Dims,
    options: &Options,
    outlines: &[Outline],
) -> Result<(Vec<Tensor>, Speed)> {
    let Dims { batch, dim, seqlen, dstate, nseqs, .. } = *dims;
    let nchunks = outlines.get(2).map_or(0, |chunks| chunks.shape[0]);
    let (mut out, mut final_state) = (outlines[0].nan::<T>()?, outlines[1].nan::<f32>()?);
    let mut chunk_states = filled(nchunks * dim * dstate, f32::NAN)?;
    let plan = backend.forward_plan(scan)?;
    let mut workspace = plan.allocate()?;
    let call = || {
        let mut out = sequence_view_mut(&mut out, [batch, dim, seqlen], options.layout);
        let mut final_state = ViewMut::new(&mut final_state, [("batch", nseqs), ("dim", dim), ("dstate", dstate)]);
        let mut states = ViewMut::new(&mut chunk_states, [("nchunks", nchunks), ("dim", dim), ("dstate", dstate)]);
        let mut outputs = SelectiveScanOutputs::new(&mut out).final_state(&mut final_state);
        if let Some(every) = options.every {
            outputs = outputs.chunk_states(every, &mut states);
        }
        Ok(backend.forward_with(scan, outputs, &plan, (&mut workspace).into())?)
    };
    let speed = speed::in_pool(options.threads, || speed::repeat(options.repeat, call))?;
    let out = channel_first(out, [batch, dim, seqlen], options.layout)?;
    let data = [T::into_data(out), f32::into_data(final_state), f32::into_data(chunk_states)];
    Ok((outlines.iter().zip(data).map(|(outline, data)| outline.tensor(data)).collect(), speed))
}

fn reference<T: Io>(
    scan: &SelectiveScan<'_, T>,
    options: &Options,
    outlines: &[Outline],
) -> Result<(Vec<Tensor>, Speed)> {
    let (forward, speed) = speed::once(|| Ok(naive::forward::<f64, T>(scan, options.every)?))?;
    let data = [forward.out, forward.final_state, forward.chunk_states.unwrap_or_default()];
    Ok((outlines.iter().zip(data).map(|(outline, data)| outline.tensor(Data::F64(data))).collect(), speed))
}

/// The loops that the results are judged by.
struct Naive<'r, 'a, T> {
    scan: &'r SelectiveScan<'a, T>,
    every: Option<usize>,
}

impl<T: Io> Loop for Naive<'_, '_, T> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let forward = naive::forward::<R, T>(self.scan, self.every).expect("the backend accepted the same arguments");
        let tensors = [Some(forward.out), Some(forward.final_state), forward.chunk_states];
        tensors.into_iter().flatten().map(widened).collect()
    }
}
