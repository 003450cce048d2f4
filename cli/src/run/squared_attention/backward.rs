//! The gradients.

use super::Options;
use super::tensors::{Tensors, Upstream, decay_mut, key_mut, norm_dims, state_dims, value_mut};
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
pub(super) fn run<'f, T: Io>(
    op: &SquaredAttention<'_, T>,
    tensors: &Tensors<'f, T>,
    dims: Dims,
    options: &Options,
    input: &Input<'f>,
    memory: &mut Memory,
) -> Result<(Vec<Tensor>, Vec<Row>, Speed)> {
    let upstream = Upstream::load(input, options.layout, memory)?;
    // The state before the first step has a gradient even where it is not given.
    let outlines = outlines::<T>(dims, |name| tensors.has_states() || input.asks_for(name));
    plan(&outlines, 2 * size_of::<f64>(), input, memory)?;
    let naive_runs = options.cpu.is_none() || outlines.iter().any(|outline| input.asks_for(outline.name));
    if naive_runs {
        // The loops keep a head's state after each step, and gradients of all states.
        let state = dims.features().saturating_mul(dims.vdim.saturating_add(1));
        memory.plan(state.saturating_mul(dims.seqlen.saturating_add(2)), 2 * size_of::<f64>())?;
        memory.plan(state.saturating_mul(dims.nseqs.saturating_mul(dims.nheads)), 2 * size_of::<f64>())?;
    }
    memory.reserve()?;
    let call = Call { op, upstream: &upstream, outlines: &outlines, dims, options };
    let (results, speed) = match &options.cpu {
        Some(cpu) => call.timed(cpu, memory)?,
        None => {
            let (all, speed) = speed::once(|| call.naive::<f64>())?;
            let data = call.picked(all).into_iter().zip(&outlines);
            (data.map(|(data, outline)| outline.tensor(Data::F64(data))).collect(), speed)
        }
    };
    let rows = judge(&outlines, &results, input, &Naive(&call))?;
    Ok((results, rows, speed))
}

/// The gradients of the rows, and those of the states that are `asked` for.
fn outlines<T: Io>(dims: Dims, asked: impl Fn(&str) -> bool) -> Vec<Outline> {
    let Dims { batch, nheads, seqlen, dim, vdim, nseqs, .. } = dims;
    let mut outlines = vec![
        outline::<T>("dq", [batch, nheads, seqlen, dim]),
        outline::<T>("dk", [batch, nheads, seqlen, dim]),
        outline::<T>("dv", [batch, nheads, seqlen, vdim]),
        outline::<f32>("dlog_decay", [batch, nheads, seqlen]),
    ];
    if asked("dinitial_state") {
        outlines.push(outline::<f32>("dinitial_state", [nseqs, nheads, dims.features(), vdim]));
    }
    if asked("dinitial_norm") {
        outlines.push(outline::<f32>("dinitial_norm", [nseqs, nheads, dims.features()]));
    }
    outlines
}

/// The arguments of the call.
struct Call<'r, 'a, 'f, T: Io> {
    op: &'r SquaredAttention<'a, T>,
    upstream: &'r Upstream<'f, T>,
    outlines: &'r [Outline],
    dims: Dims,
    options: &'r Options,
}

impl<T: Io> Call<'_, '_, '_, T> {
    fn outline(&self, name: &str) -> Option<&Outline> {
        self.outlines.iter().find(|outline| outline.name == name)
    }

    fn timed(&self, cpu: &Cpu, memory: &mut Memory) -> Result<(Vec<Tensor>, Speed)> {
        let (Dims { batch, nheads, seqlen, dim, vdim, nseqs, .. }, layout) = (self.dims, self.options.layout);
        let (keys, values, features) =
            ([batch, nheads, seqlen, dim], [batch, nheads, seqlen, vdim], self.dims.features());
        let nan = |i: usize| self.outlines[i].nan::<T>();
        let (mut dq, mut dk, mut dv) = (nan(0)?, nan(1)?, nan(2)?);
        let mut dlog_decay = self.outlines[3].nan::<f32>()?;
        let optional = |name| self.outline(name).map(Outline::nan::<f32>).transpose();
        let (mut dstate, mut dnorm) = (optional("dinitial_state")?, optional("dinitial_norm")?);
        let plan = cpu.backward_plan(self.op)?;
        memory.plan(plan.workspace_bytes, 1)?;
        memory.reserve()?;
        let mut workspace = plan.allocate()?;
        let call = || {
            let (mut dq, mut dk) = (key_mut(&mut dq, keys, layout), key_mut(&mut dk, keys, layout));
            let mut dv = value_mut(&mut dv, values, layout);
            let mut dlog_decay = decay_mut(&mut dlog_decay, [batch, nheads, seqlen], layout);
            let state = state_dims("batch", [nseqs, nheads, features, vdim]);
            let mut dstate = dstate.as_mut().map(|data| ViewMut::new(data, state));
            let mut dnorm =
                dnorm.as_mut().map(|data| ViewMut::new(data, norm_dims("batch", [nseqs, nheads, features])));
            let gradients = SquaredAttentionGradients::new().dq(&mut dq).dk(&mut dk).dv(&mut dv);
            let gradients = gradients.dlog_decay(&mut dlog_decay);
            let gradients = dstate.iter_mut().fold(gradients, SquaredAttentionGradients::dinitial_state);
            let gradients = dnorm.iter_mut().fold(gradients, SquaredAttentionGradients::dinitial_norm);
            Ok(cpu.backward_with(self.op, self.upstream.views(), gradients, &plan, (&mut workspace).into())?)
        };
        let speed = speed::in_pool(self.options.threads, || speed::repeat(self.options.repeat, call))?;
        let mut data = vec![];
        for (tensor, extents) in [(dq, keys), (dk, keys), (dv, values)] {
            data.push(T::into_data(channel_first(tensor, extents, layout)?));
        }
        data.push(Data::F32(channel_first(dlog_decay, [batch, nheads, seqlen], layout)?));
        data.extend(dstate.into_iter().chain(dnorm).map(Data::F32));
        Ok((data.into_iter().zip(self.outlines).map(|(data, outline)| outline.tensor(data)).collect(), speed))
    }

    fn naive<R: Real>(&self) -> Result<naive::Gradients<R>> {
        Ok(naive::backward::<R, T>(self.op, self.upstream.views())?)
    }

    /// Those that are asked for, in the order of the outlines.
    fn picked<R: Real>(&self, all: naive::Gradients<R>) -> Vec<Vec<R>> {
        let states = [("dinitial_state", all.dinitial_state), ("dinitial_norm", all.dinitial_norm)];
        let asked = states.into_iter().filter(|(name, _)| self.outline(name).is_some()).map(|(_, tensor)| tensor);
        [all.dq, all.dk, all.dv, all.dlog_decay].into_iter().chain(asked).collect()
    }
}

/// The loops that the results are judged by.
struct Naive<'r, 'c, 'a, 'f, T: Io>(&'r Call<'c, 'a, 'f, T>);

impl<T: Io> Loop for Naive<'_, '_, '_, '_, T> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let all = self.0.naive::<R>().expect("the backend accepted the same arguments");
        self.0.picked(all).into_iter().map(widened).collect()
    }
}
