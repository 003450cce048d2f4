//! An update: the outputs, and the state after it.

use super::Options;
use super::tensors::UpdateTensors;
use crate::args::{Backend, RunArgs};
use crate::error::Result;
use crate::input::Input;
use crate::memory::Memory;
use crate::report::Row;
use crate::run::results::{Outline, judge, outline, plan, widened};
use crate::run::shaped::{channel_first, sequence_view_mut};
use crate::speed::{self, Speed};
use crate::tensor::{Data, Io, Tensor};
use ssm_kernels::prelude::*;
use ssm_kernels::reference::accuracy::Loop;
use ssm_kernels::reference::{Real, causal_conv1d as naive};

/// Runs and judges.
pub(super) fn run<T: Io, W: Io>(
    args: &RunArgs,
    tensors: &UpdateTensors<'_, T, W>,
    options: &Options,
    input: &Input<'_>,
    memory: &mut Memory,
) -> Result<(Vec<Tensor>, Vec<Row>, Speed)> {
    let [(_, batch), (_, dim), (_, seqlen), ..] = tensors.dims();
    let outlines = vec![outline::<T>("out", [batch, dim, seqlen]), outline::<T>("final_state", tensors.state.extents)];
    // The loops also keep a copy of the state in the dtype of x, and an output that they check against.
    plan(&outlines, 2 * size_of::<f64>(), input, memory)?;
    memory.reserve()?;
    let call = Call { tensors, options, outlines: &outlines };
    let (results, speed) = match args.backend {
        Backend::Cpu if options.threads == Some(1) => call.timed(&Cpu::single_thread(), memory)?,
        Backend::Cpu => call.timed(&Cpu::new(), memory)?,
        #[cfg(feature = "emulator")]
        Backend::Emulator => call.timed(&crate::run::emulator::device(args).on_host(), memory)?,
        #[cfg(feature = "cuda")]
        Backend::Cuda => call.timed(&crate::cuda::on_stream(args.device)?.on_host(), memory)?,
        Backend::Reference => {
            let (forward, speed) = speed::once(|| call.naive::<f64>())?;
            let data = [forward.out, forward.final_state];
            (outlines.iter().zip(data).map(|(outline, data)| outline.tensor(Data::F64(data))).collect(), speed)
        }
    };
    let rows = judge(&outlines, &results, input, &Naive(&call))?;
    Ok((results, rows, speed))
}

/// The arguments of the call.
struct Call<'r, 'f, T: Io, W: Io> {
    tensors: &'r UpdateTensors<'f, T, W>,
    options: &'r Options,
    outlines: &'r [Outline],
}

impl<'r, T: Io, W: Io> Call<'r, '_, T, W> {
    fn state<'s>(&self, data: &'s mut [T]) -> ViewMut<'s, T> {
        let [slots, dim, state_len] = self.tensors.state.extents;
        ViewMut::new(data, [("slots", slots), ("dim", dim), ("state_len", state_len)])
    }

    fn timed(
        &self,
        backend: &(impl Forward<CausalConv1dUpdate<'r, T, W>> + Sync),
        memory: &mut Memory,
    ) -> Result<(Vec<Tensor>, Speed)> {
        let op = self.tensors.op(self.options)?;
        let [(_, batch), (_, dim), (_, seqlen), ..] = self.tensors.dims();
        let (mut out, mut state) = (self.outlines[0].nan::<T>()?, self.outlines[1].nan::<T>()?);
        let plan = backend.forward_plan(&op)?;
        memory.plan(plan.workspace_bytes, 1)?;
        memory.reserve()?;
        let mut workspace = plan.allocate()?;
        let call = || {
            // A call changes the state: each starts from the file's, which is a part of its time.
            state.copy_from_slice(&self.tensors.state.data);
            let mut out = sequence_view_mut(&mut out, [batch, dim, seqlen], self.options.layout);
            let mut view = self.state(&mut state);
            let outputs = CausalConv1dUpdateOutputs::new(&mut out, &mut view);
            Ok(backend.forward_with(&op, outputs, &plan, (&mut workspace).into())?)
        };
        let speed = speed::in_pool(self.options.threads, || speed::repeat(self.options.repeat, call))?;
        let out = channel_first(out, [batch, dim, seqlen], self.options.layout)?;
        let data = [T::into_data(out), T::into_data(state)];
        Ok((self.outlines.iter().zip(data).map(|(outline, data)| outline.tensor(data)).collect(), speed))
    }

    fn naive<R: Real>(&self) -> Result<naive::Forward<R>> {
        let mut state = self.tensors.state.data.to_vec();
        Ok(naive::update::<R, T, W>(&self.tensors.op(self.options)?, &mut self.state(&mut state))?)
    }
}

/// The loops that the results are judged by.
struct Naive<'r, 'c, 'f, T: Io, W: Io>(&'r Call<'c, 'f, T, W>);

impl<T: Io, W: Io> Loop for Naive<'_, '_, '_, T, W> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let forward = self.0.naive::<R>().expect("the backend accepted the same arguments");
        [forward.out, forward.final_state].map(widened).into()
    }
}
