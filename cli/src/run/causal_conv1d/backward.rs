//! The gradients.

use super::Options;
use super::tensors::{Tensors, state_view};
use crate::args::{Backend, Layout, RunArgs};
use crate::error::{CliError, Result};
use crate::input::Input;
use crate::memory::Memory;
use crate::report::Row;
use crate::run::results::{Outline, judge, outline, plan, widened};
use crate::run::shaped::{Shaped, channel_first, sequence, sequence_view, sequence_view_mut, shaped};
use crate::speed::{self, Speed};
use crate::tensor::{Data, Io, Tensor};
use ssm_kernels::ops::causal_conv1d::Dims;
use ssm_kernels::prelude::*;
use ssm_kernels::reference::accuracy::Loop;
use ssm_kernels::reference::{Real, causal_conv1d as naive};

/// The upstream gradients that the file has.
struct Upstream<'f, T: Clone> {
    dout: Option<Shaped<'f, T, 3>>,
    dfinal_state: Option<Shaped<'f, T, 3>>,
    layout: Layout,
}

impl<'f, T: Io> Upstream<'f, T> {
    fn load(input: &Input<'f>, layout: Layout, memory: &mut Memory) -> Result<Self> {
        let dout = sequence(input, "dout", layout, memory)?;
        let dfinal_state = shaped(input, "dfinal_state", ["batch", "dim", "width - 1"])?;
        if dout.is_none() && dfinal_state.is_none() {
            let expected = "it or `dfinal_state` with --backward";
            return Err(CliError::value(input.op(), "dout", "is missing", expected));
        }
        Ok(Self { dout, dfinal_state, layout })
    }

    fn views(&self) -> CausalConv1dUpstream<'_, T> {
        let mut upstream = CausalConv1dUpstream::new();
        if let Some(dout) = &self.dout {
            upstream = upstream.dout(sequence_view(dout, self.layout));
        }
        if let Some(dfinal_state) = &self.dfinal_state {
            upstream = upstream.dfinal_state(state_view(dfinal_state));
        }
        upstream
    }
}

/// Runs and judges.
pub(super) fn run<'f, T: Io, W: Io>(
    args: &RunArgs,
    op: &CausalConv1d<'_, T, W>,
    tensors: &Tensors<'f, T, W>,
    options: &Options,
    input: &Input<'f>,
    memory: &mut Memory,
) -> Result<(Vec<Tensor>, Vec<Row>, Speed)> {
    let upstream = Upstream::load(input, options.layout, memory)?;
    input.metadata.check_flag("dfinal_state", upstream.dfinal_state.is_some(), "`dfinal_state` is")?;
    let Dims { batch, dim, seqlen, width, nseqs, .. } = op.dims()?;
    // The inputs before the first have a gradient even where they are not given.
    let (has_bias, has_state) = (tensors.has_bias(), tensors.has_state() || input.asks_for("dinitial_state"));
    let mut outlines = vec![outline::<T>("dx", [batch, dim, seqlen]), outline::<W>("dweight", [dim, width])];
    outlines.extend(has_bias.then(|| outline::<W>("dbias", [dim])));
    outlines.extend(has_state.then(|| outline::<T>("dinitial_state", [nseqs, dim, width - 1])));
    plan(&outlines, 2 * size_of::<f64>(), input, memory)?;
    // The terms of the weights' sums for one channel, and gradients that the file does not have.
    memory.plan(batch.saturating_mul(seqlen).saturating_mul(width + 1), 2 * size_of::<f64>())?;
    memory.plan(nseqs.saturating_mul(dim).saturating_mul(width), size_of::<f64>())?;
    memory.reserve()?;
    let call = Call { op, upstream: &upstream, outlines: &outlines, options };
    let (results, speed) = match args.backend {
        Backend::Cpu if options.threads == Some(1) => call.timed(&Cpu::single_thread(), memory)?,
        Backend::Cpu => call.timed(&Cpu::new(), memory)?,
        #[cfg(feature = "emulator")]
        Backend::Emulator => call.timed(&crate::run::emulator::device(args).on_host(), memory)?,
        #[cfg(feature = "cuda")]
        Backend::Cuda => call.timed(&crate::cuda::on_stream(args.device)?.on_host(), memory)?,
        Backend::Reference => {
            let (all, speed) = speed::once(|| call.naive::<f64>())?;
            let data = call.picked(all).into_iter().zip(&outlines);
            (data.map(|(data, outline)| outline.tensor(Data::F64(data))).collect(), speed)
        }
    };
    let rows = judge(&outlines, &results, input, &Naive(&call))?;
    Ok((results, rows, speed))
}

/// The arguments of the call.
struct Call<'r, 'a, 'f, T: Io, W: Io> {
    op: &'r CausalConv1d<'a, T, W>,
    upstream: &'r Upstream<'f, T>,
    outlines: &'r [Outline],
    options: &'r Options,
}

impl<'a, T: Io, W: Io> Call<'_, 'a, '_, T, W> {
    fn outline(&self, name: &str) -> Option<&Outline> {
        self.outlines.iter().find(|outline| outline.name == name)
    }

    fn timed(
        &self,
        backend: &(impl Backward<CausalConv1d<'a, T, W>> + Sync),
        memory: &mut Memory,
    ) -> Result<(Vec<Tensor>, Speed)> {
        let Dims { batch, dim, seqlen, width, nseqs, .. } = self.op.dims()?;
        let (mut dx, mut dweight) = (self.outlines[0].nan::<T>()?, self.outlines[1].nan::<W>()?);
        let mut dbias = self.outline("dbias").map(Outline::nan::<W>).transpose()?;
        let mut dstate = self.outline("dinitial_state").map(Outline::nan::<T>).transpose()?;
        let plan = backend.backward_plan(self.op)?;
        memory.plan(plan.workspace_bytes, 1)?;
        memory.reserve()?;
        let mut workspace = plan.allocate()?;
        let call = || {
            let mut dx = sequence_view_mut(&mut dx, [batch, dim, seqlen], self.options.layout);
            let mut dweight = ViewMut::new(&mut dweight, [("dim", dim), ("width", width)]);
            let mut dbias = dbias.as_mut().map(|data| ViewMut::new(data, [("dim", dim)]));
            let state = [("batch", nseqs), ("dim", dim), ("state_len", width - 1)];
            let mut dstate = dstate.as_mut().map(|data| ViewMut::new(data, state));
            let gradients = CausalConv1dGradients::new().dx(&mut dx).dweight(&mut dweight);
            let gradients = dbias.iter_mut().fold(gradients, CausalConv1dGradients::dbias);
            let gradients = dstate.iter_mut().fold(gradients, CausalConv1dGradients::dinitial_state);
            Ok(backend.backward_with(self.op, self.upstream.views(), gradients, &plan, (&mut workspace).into())?)
        };
        let speed = speed::in_pool(self.options.threads, || speed::repeat(self.options.repeat, call))?;
        let dx = T::into_data(channel_first(dx, [batch, dim, seqlen], self.options.layout)?);
        let data = [Some(dx), Some(W::into_data(dweight)), dbias.map(W::into_data), dstate.map(T::into_data)];
        let data = data.into_iter().flatten().zip(self.outlines);
        Ok((data.map(|(data, outline)| outline.tensor(data)).collect(), speed))
    }

    fn naive<R: Real>(&self) -> Result<naive::Gradients<R>> {
        Ok(naive::backward::<R, T, W>(self.op, self.upstream.views())?)
    }

    /// Those that are asked for, in the order of the outlines.
    fn picked<R: Real>(&self, all: naive::Gradients<R>) -> Vec<Vec<R>> {
        let optional = |name, tensor| self.outline(name).map(|_| tensor);
        let dbias = optional("dbias", all.dbias);
        [Some(all.dx), Some(all.dweight), dbias, optional("dinitial_state", all.dinitial_state)]
            .into_iter()
            .flatten()
            .collect()
    }
}

/// The loops that the results are judged by.
struct Naive<'r, 'c, 'a, 'f, T: Io, W: Io>(&'r Call<'c, 'a, 'f, T, W>);

impl<T: Io, W: Io> Loop for Naive<'_, '_, '_, '_, T, W> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let all = self.0.naive::<R>().expect("the backend accepted the same arguments");
        self.0.picked(all).into_iter().map(widened).collect()
    }
}
