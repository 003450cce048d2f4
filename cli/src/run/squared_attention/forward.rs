//! The outputs.

use super::Options;
use super::tensors::{norm_dims, state_dims, value_mut};
use crate::error::Result;
use crate::input::Input;
use crate::memory::Memory;
use crate::report::Row;
use crate::run::results::{Outline, judge, outline, plan, widened};
use crate::run::shaped::channel_first;
use crate::speed::{self, Speed};
use crate::tensor::{Data, Io, Tensor};
use ssm_kernels::ops::squared_attention::Dims;
use ssm_kernels::prelude::*;
use ssm_kernels::reference::accuracy::Loop;
use ssm_kernels::reference::{Real, squared_attention as naive};

/// Runs and judges.
pub(super) fn run<T: Io>(
    op: &SquaredAttention<'_, T>,
    dims: Dims,
    options: &Options,
    input: &Input<'_>,
    memory: &mut Memory,
) -> Result<(Vec<Tensor>, Vec<Row>, Speed)> {
    let Dims { batch, nheads, seqlen, vdim, nseqs, .. } = dims;
    let features = dims.features();
    let outlines = vec![
        outline::<T>("out", [batch, nheads, seqlen, vdim]),
        outline::<f32>("final_state", [nseqs, nheads, features, vdim]),
        outline::<f32>("final_norm", [nseqs, nheads, features]),
    ];
    // The loops also have the state of a head beside that of all.
    plan(&outlines, 2 * size_of::<f64>(), input, memory)?;
    memory.reserve()?;
    let (results, speed) = match &options.cpu {
        Some(cpu) => timed(cpu, op, dims, options, &outlines, memory)?,
        None => {
            let (forward, speed) = speed::once(|| Ok(naive::forward::<f64, T>(op)?))?;
            let data = [forward.out, forward.final_state, forward.final_norm];
            (outlines.iter().zip(data).map(|(outline, data)| outline.tensor(Data::F64(data))).collect(), speed)
        }
    };
    let rows = judge(&outlines, &results, input, &Naive(op))?;
    Ok((results, rows, speed))
}

fn timed<T: Io>(
    cpu: &Cpu,
    op: &SquaredAttention<'_, T>,
    dims: Dims,
    options: &Options,
    outlines: &[Outline],
    memory: &mut Memory,
) -> Result<(Vec<Tensor>, Speed)> {
    let Dims { batch, nheads, seqlen, vdim, nseqs, .. } = dims;
    let (features, extents) = (dims.features(), [batch, nheads, seqlen, vdim]);
    let (mut out, mut state) = (outlines[0].nan::<T>()?, outlines[1].nan::<f32>()?);
    let mut norm = outlines[2].nan::<f32>()?;
    let plan = cpu.forward_plan(op)?;
    memory.plan(plan.workspace_bytes, 1)?;
    memory.reserve()?;
    let mut workspace = plan.allocate()?;
    let call = || {
        let mut out = value_mut(&mut out, extents, options.layout);
        let mut state = ViewMut::new(&mut state, state_dims("batch", [nseqs, nheads, features, vdim]));
        let mut norm = ViewMut::new(&mut norm, norm_dims("batch", [nseqs, nheads, features]));
        let outputs = SquaredAttentionOutputs::new(&mut out).final_state(&mut state).final_norm(&mut norm);
        Ok(cpu.forward_with(op, outputs, &plan, (&mut workspace).into())?)
    };
    let speed = speed::in_pool(options.threads, || speed::repeat(options.repeat, call))?;
    let out = T::into_data(channel_first(out, extents, options.layout)?);
    let data = [out, Data::F32(state), Data::F32(norm)];
    Ok((outlines.iter().zip(data).map(|(outline, data)| outline.tensor(data)).collect(), speed))
}

/// The loops that the results are judged by.
struct Naive<'r, 'a, T>(&'r SquaredAttention<'a, T>);

impl<T: Io> Loop for Naive<'_, '_, T> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let forward = naive::forward::<R, T>(self.0).expect("the backend accepted the same arguments");
        [forward.out, forward.final_state, forward.final_norm].map(widened).into()
    }
}
