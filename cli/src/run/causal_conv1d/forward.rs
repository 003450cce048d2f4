//! The outputs.

use super::Options;
use crate::args::{Backend, RunArgs};
use crate::error::Result;
use crate::input::Input;
use crate::memory::Memory;
use crate::report::Row;
use crate::run::results::{Outline, judge, outline, plan, widened};
use crate::run::shaped::{channel_first, sequence_view_mut};
use crate::speed::{self, Speed};
use crate::tensor::{Data, Io, Tensor};
use ssm_kernels::ops::causal_conv1d::Dims;
use ssm_kernels::prelude::*;
use ssm_kernels::reference::accuracy::Loop;
use ssm_kernels::reference::{Real, causal_conv1d as naive};

/// Runs and judges.
pub(super) fn run<T: Io, W: Io>(
    args: &RunArgs,
    op: &CausalConv1d<'_, T, W>,
    options: &Options,
    input: &Input<'_>,
    memory: &mut Memory,
) -> Result<(Vec<Tensor>, Vec<Row>, Speed)> {
    let Dims { batch, dim, seqlen, width, nseqs, .. } = op.dims()?;
    let outlines =
        vec![outline::<T>("out", [batch, dim, seqlen]), outline::<T>("final_state", [nseqs, dim, width - 1])];
    plan(&outlines, size_of::<f64>(), input, memory)?;
    memory.reserve()?;
    let (results, speed) = match args.backend {
        Backend::Cpu if options.threads == Some(1) => timed(&Cpu::single_thread(), op, options, &outlines, memory)?,
        Backend::Cpu => timed(&Cpu::new(), op, options, &outlines, memory)?,
        #[cfg(feature = "emulator")]
        Backend::Emulator => timed(&crate::run::emulator::device(args).on_host(), op, options, &outlines, memory)?,
        #[cfg(feature = "cuda")]
        Backend::Cuda => timed(&crate::cuda::on_stream(args.device)?.on_host(), op, options, &outlines, memory)?,
        Backend::Reference => {
            let (forward, speed) = speed::once(|| Ok(naive::forward::<f64, T, W>(op)?))?;
            let data = [forward.out, forward.final_state];
            (outlines.iter().zip(data).map(|(outline, data)| outline.tensor(Data::F64(data))).collect(), speed)
        }
    };
    let rows = judge(&outlines, &results, input, &Naive(op))?;
    Ok((results, rows, speed))
}

fn timed<'a, T: Io, W: Io>(
    backend: &(impl Forward<CausalConv1d<'a, T, W>> + Sync),
    op: &CausalConv1d<'a, T, W>,
    options: &Options,
    outlines: &[Outline],
    memory: &mut Memory,
) -> Result<(Vec<Tensor>, Speed)> {
    let Dims { batch, dim, seqlen, width, nseqs, .. } = op.dims()?;
    let (mut out, mut final_state) = (outlines[0].nan::<T>()?, outlines[1].nan::<T>()?);
    let plan = backend.forward_plan(op)?;
    memory.plan(plan.workspace_bytes, 1)?;
    memory.reserve()?;
    let mut workspace = plan.allocate()?;
    let call = || {
        let mut out = sequence_view_mut(&mut out, [batch, dim, seqlen], options.layout);
        let mut state = ViewMut::new(&mut final_state, [("batch", nseqs), ("dim", dim), ("state_len", width - 1)]);
        let outputs = CausalConv1dOutputs::new(&mut out).final_state(&mut state);
        Ok(backend.forward_with(op, outputs, &plan, (&mut workspace).into())?)
    };
    let speed = speed::in_pool(options.threads, || speed::repeat(options.repeat, call))?;
    let data = [T::into_data(channel_first(out, [batch, dim, seqlen], options.layout)?), T::into_data(final_state)];
    Ok((outlines.iter().zip(data).map(|(outline, data)| outline.tensor(data)).collect(), speed))
}

/// The loops that the results are judged by.
struct Naive<'r, 'a, T, W>(&'r CausalConv1d<'a, T, W>);

impl<T: Io, W: Io> Loop for Naive<'_, '_, T, W> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let forward = naive::forward::<R, T, W>(self.0).expect("the backend accepted the same arguments");
        [forward.out, forward.final_state].map(widened).into()
    }
}
