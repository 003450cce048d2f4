//! An update: the outputs, and the cache after it.

use super::Options;
use super::tensors::{UpdateTensors, norm_dims, state_dims, value_mut};
use crate::error::Result;
use crate::input::Input;
use crate::memory::Memory;
use crate::report::Row;
use crate::run::results::{Outline, judge, outline, plan, widened};
use crate::run::shaped::channel_first;
use crate::speed::{self, Speed};
use crate::tensor::{Data, Io, Tensor};
use ssm_kernels::prelude::*;
use ssm_kernels::reference::accuracy::Loop;
use ssm_kernels::reference::{Real, squared_attention as naive};

/// Runs and judges.
pub(super) fn run<T: Io, H: Io>(
    tensors: &UpdateTensors<'_, T, H>,
    options: &Options,
    input: &Input<'_>,
    memory: &mut Memory,
) -> Result<(Vec<Tensor>, Vec<Row>, Speed)> {
    let outlines = vec![
        outline::<T>("out", tensors.rows.values()),
        outline::<H>("final_state", tensors.states.state.extents),
        outline::<f32>("final_norm", tensors.states.norm.extents),
    ];
    // What is timed goes on in a copy of each. The loops also have the state of a head beside that of all.
    plan(&outlines, 2 * size_of::<f64>() + size_of::<f32>(), input, memory)?;
    memory.reserve()?;
    let call = Call { tensors, options, outlines: &outlines };
    let (results, speed) = match &options.cpu {
        Some(cpu) => call.timed(cpu, memory)?,
        None => {
            let (run, speed) = speed::once(|| call.naive::<f64>())?;
            let data = [run.out, run.final_state, run.final_norm];
            (outlines.iter().zip(data).map(|(outline, data)| outline.tensor(Data::F64(data))).collect(), speed)
        }
    };
    let rows = judge(&outlines, &results, input, &Naive(&call))?;
    Ok((results, rows, speed))
}

/// What a call writes.
#[derive(Clone)]
struct Written<T, H> {
    out: Vec<T>,
    state: Vec<H>,
    norm: Vec<f32>,
}

/// The arguments of the call.
struct Call<'r, 'f, T: Io, H: Io> {
    tensors: &'r UpdateTensors<'f, T, H>,
    options: &'r Options,
    outlines: &'r [Outline],
}

impl<T: Io, H: Io> Call<'_, '_, T, H> {
    /// The results are those of the first call; those that are timed go on from there.
    fn timed(&self, cpu: &Cpu, memory: &mut Memory) -> Result<(Vec<Tensor>, Speed)> {
        let (op, states) = (self.tensors.op(self.options)?, &self.tensors.states);
        let (extents, layout) = (self.tensors.rows.values(), self.options.layout);
        let (state, norm) = (states.state.data.to_vec(), states.norm.data.to_vec());
        let mut written = Written { out: self.outlines[0].nan::<T>()?, state, norm };
        let plan = cpu.forward_plan(&op)?;
        memory.plan(plan.workspace_bytes, 1)?;
        memory.reserve()?;
        let mut workspace = plan.allocate()?;
        let mut call = |Written { out, state, norm }: &mut Written<T, H>| -> Result<()> {
            let mut out = value_mut(out, extents, layout);
            let mut state = ViewMut::new(state, state_dims("slots", states.state.extents));
            let mut norm = ViewMut::new(norm, norm_dims("slots", states.norm.extents));
            let outputs = SquaredAttentionUpdateOutputs::new(&mut state, &mut norm, &mut out);
            Ok(cpu.forward_with(&op, outputs, &plan, (&mut workspace).into())?)
        };
        speed::in_pool(self.options.threads, || call(&mut written))?;
        let mut later = written.clone();
        let again = || call(&mut later);
        let speed = speed::in_pool(self.options.threads, || speed::repeat(self.options.repeat, again))?;
        let Written { out, state, norm } = written;
        let data = [T::into_data(channel_first(out, extents, layout)?), H::into_data(state), Data::F32(norm)];
        Ok((self.outlines.iter().zip(data).map(|(outline, data)| outline.tensor(data)).collect(), speed))
    }

    fn naive<R: Real>(&self) -> Result<naive::Updated<R>> {
        let (state, norm) = self.tensors.states.views("slots");
        Ok(naive::update::<R, T, H>(&self.tensors.op(self.options)?, state, norm)?)
    }
}

/// The loops that the results are judged by.
struct Naive<'r, 'c, 'f, T: Io, H: Io>(&'r Call<'c, 'f, T, H>);

impl<T: Io, H: Io> Loop for Naive<'_, '_, '_, T, H> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let run = self.0.naive::<R>().expect("the backend accepted the same arguments");
        [run.out, run.final_state, run.final_norm].map(widened).into()
    }
}
