//! The gradients, in the broadcast shape and unreduced.

use super::tensors::Tensors;
use super::{LOOPS, OP, Options};
use crate::args::{Backend, RunArgs};
use crate::error::{CliError, Result};
use crate::input::{Input, Typed};
use crate::memory::Memory;
use crate::report::Row;
use crate::run::results::{Outline, judge, outline, plan, widened};
use crate::speed::{self, Speed};
use crate::tensor::{Data, Io, Scalar, Tensor};
use ssm_kernels::prelude::*;
use ssm_kernels::reference::accuracy::Loop;
use ssm_kernels::reference::{Real, discretise as naive};

/// One of the results.
#[derive(Debug, Clone, Copy)]
enum Part {
    Step,
    A,
    B,
    Bias,
    Lambda,
}

impl Part {
    fn pick<R: Clone>(self, gradients: &naive::Gradients<R>) -> &[R] {
        match self {
            Part::Step | Part::Bias => &gradients.ddt,
            Part::A => &gradients.dA,
            Part::B => &gradients.dB,
            Part::Lambda => &gradients.dlambda,
        }
    }
}

/// The results that the call has.
fn outlines<T: Io>(tensors: &Tensors<'_, T>, options: &Options) -> Vec<(Part, Outline)> {
    let step = if options.effective { "ddelta" } else { "ddt" };
    let domain = tensors.domain();
    let mut outlines = vec![
        (Part::Step, outline::<T>(step, domain)),
        (Part::A, outline::<f32>("dA", domain)),
        (Part::B, outline::<T>("dB", domain)),
    ];
    if tensors.has_dt_bias() {
        outlines.push((Part::Bias, outline::<f32>("ddt_bias", domain)));
    }
    if options.rule == Rule::ExpTrapezoidal {
        outlines.push((Part::Lambda, outline::<T>("dlambda", domain)));
    }
    outlines
}

/// The upstream gradients that the file has, in f32.
struct Upstream<'f> {
    ddelta: Option<Typed<'f, f32>>,
    dA_bar: Option<Typed<'f, f32>>,
    dB_bar: Option<Typed<'f, f32>>,
    dB_prev_bar: Option<Typed<'f, f32>>,
}

impl<'f> Upstream<'f> {
    fn load<T: Io>(input: &Input<'f>, options: &Options) -> Result<Self> {
        let ddelta = upstream::<T>(input, "ddelta")?;
        if options.effective && ddelta.is_some() {
            return Err(CliError::value(OP, "ddelta", "is in the file", "none because it is a result with `delta`"));
        }
        let upstream = Self {
            ddelta,
            dA_bar: upstream::<T>(input, "dA_bar")?,
            dB_bar: upstream::<T>(input, "dB_bar")?,
            dB_prev_bar: upstream::<T>(input, "dB_prev_bar")?,
        };
        if [&upstream.ddelta, &upstream.dA_bar, &upstream.dB_bar, &upstream.dB_prev_bar].iter().all(|t| t.is_none()) {
            let expected = "at least one of dA_bar, dB_bar, dB_prev_bar, ddelta with --backward";
            return Err(CliError::value(OP, "dA_bar", "is missing", expected));
        }
        Ok(upstream)
    }

    fn views<T: Io>(&self, tensors: &Tensors<'_, T>) -> Result<DiscretiseUpstream<'_>> {
        let mut upstream = DiscretiseUpstream::new();
        if let Some(tensor) = &self.ddelta {
            upstream = upstream.ddelta(tensors.view("ddelta", tensor)?);
        }
        if let Some(tensor) = &self.dA_bar {
            upstream = upstream.dA_bar(tensors.view("dA_bar", tensor)?);
        }
        if let Some(tensor) = &self.dB_bar {
            upstream = upstream.dB_bar(tensors.view("dB_bar", tensor)?);
        }
        if let Some(tensor) = &self.dB_prev_bar {
            upstream = upstream.dB_prev_bar(tensors.view("dB_prev_bar", tensor)?);
        }
        Ok(upstream)
    }
}

/// An upstream gradient in f32, or widened from the case's dtype.
fn upstream<'f, T: Io>(input: &Input<'f>, name: &str) -> Result<Option<Typed<'f, f32>>> {
    match input.get(name).map(|tensor| tensor.dtype) {
        None => Ok(None),
        Some(dtype) if dtype == f32::STORED => input.optional::<f32>(name),
        Some(dtype) if dtype == T::STORED => {
            let Typed { shape, data } = input.typed::<T>(name)?;
            Ok(Some(Typed { shape, data: data.iter().map(|v| v.to_f32()).collect::<Vec<_>>().into() }))
        }
        Some(dtype) => {
            let expected = if T::STORED == f32::STORED { "F32".into() } else { format!("F32 or {}", T::STORED) };
            Err(CliError::value(OP, name, format!("has dtype {dtype}"), expected))
        }
    }
}

/// Runs and judges.
pub(super) fn run<'f, T: Io>(
    args: &RunArgs,
    op: &Discretise<'_, T>,
    tensors: &Tensors<'f, T>,
    options: &Options,
    input: &Input<'f>,
    memory: &mut Memory,
) -> Result<(Vec<Tensor>, Vec<Row>, Speed)> {
    let upstream = Upstream::load::<T>(input, options)?;
    let (parts, outlines): (Vec<Part>, Vec<Outline>) = outlines(tensors, options).into_iter().unzip();
    plan(&outlines, LOOPS, input, memory)?;
    memory.reserve()?;
    let call = Call { op, tensors, upstream: &upstream };
    let (results, speed) = match args.backend {
        Backend::Cpu if options.threads == Some(1) => call.timed(&Cpu::single_thread(), options, &parts, &outlines)?,
        Backend::Cpu => call.timed(&Cpu::new(), options, &parts, &outlines)?,
        #[cfg(feature = "emulator")]
        Backend::Emulator => call.timed(&crate::run::emulator::device(args).on_host(), options, &parts, &outlines)?,
        #[cfg(feature = "cuda")]
        Backend::Cuda => call.timed(&crate::cuda::on_stream(args.device)?.on_host(), options, &parts, &outlines)?,
        Backend::Reference => call.reference(&parts, &outlines)?,
    };
    let rows = judge(&outlines, &results, input, &Naive { call: &call, parts: &parts })?;
    Ok((results, rows, speed))
}

/// The arguments of the call.
struct Call<'r, 'a, 'f, T: Io> {
    op: &'r Discretise<'a, T>,
    tensors: &'r Tensors<'f, T>,
    upstream: &'r Upstream<'f>,
}

/// A gradient in the dtype of the input that it belongs to.
enum Buffer<T> {
    Io(Vec<T>),
    F32(Vec<f32>),
}

impl<T: Io> Buffer<T> {
    fn nan(part: Part, outline: &Outline) -> Result<Self> {
        match part {
            Part::A | Part::Bias => Ok(Buffer::F32(outline.nan()?)),
            Part::Step | Part::B | Part::Lambda => Ok(Buffer::Io(outline.nan()?)),
        }
    }

    fn into_data(self) -> Data {
        match self {
            Buffer::Io(vec) => T::into_data(vec),
            Buffer::F32(vec) => f32::into_data(vec),
        }
    }
}

/// A buffer over the domain.
enum BufferView<'v, T> {
    Io(ViewMut<'v, T>),
    F32(ViewMut<'v, f32>),
}

impl<'a, T: Io> Call<'_, 'a, '_, T> {
    fn timed(
        &self,
        backend: &(impl Backward<Discretise<'a, T>> + Sync),
        options: &Options,
        parts: &[Part],
        outlines: &[Outline],
    ) -> Result<(Vec<Tensor>, Speed)> {
        let buffers = parts.iter().zip(outlines).map(|(&part, outline)| Buffer::nan(part, outline));
        let mut buffers = buffers.collect::<Result<Vec<Buffer<T>>>>()?;
        let plan = backend.backward_plan(self.op)?;
        let mut workspace = plan.allocate()?;
        let call = || {
            let views = buffers.iter_mut().map(|buffer| match buffer {
                Buffer::Io(vec) => self.tensors.view_mut(vec).map(BufferView::Io),
                Buffer::F32(vec) => self.tensors.view_mut(vec).map(BufferView::F32),
            });
            let mut views = views.collect::<Result<Vec<_>>>()?;
            let gradients = parts.iter().zip(&mut views).fold(DiscretiseGradients::new(), give);
            let upstream = self.upstream.views(self.tensors)?;
            Ok(backend.backward_with(self.op, upstream, gradients, &plan, (&mut workspace).into())?)
        };
        let speed = speed::in_pool(options.threads, || speed::repeat(options.repeat, call))?;
        let results = outlines.iter().zip(buffers).map(|(outline, buffer)| outline.tensor(buffer.into_data()));
        Ok((results.collect(), speed))
    }

    fn reference(&self, parts: &[Part], outlines: &[Outline]) -> Result<(Vec<Tensor>, Speed)> {
        let (gradients, speed) = speed::once(|| self.naive::<f64>())?;
        let data = parts.iter().map(|part| part.pick(&gradients).to_vec());
        Ok((outlines.iter().zip(data).map(|(outline, data)| outline.tensor(Data::F64(data))).collect(), speed))
    }

    fn naive<R: Real>(&self) -> Result<naive::Gradients<R>> {
        Ok(naive::backward::<R, T>(self.op, self.upstream.views(self.tensors)?)?)
    }
}

fn give<'o, T: Io>(
    gradients: DiscretiseGradients<'o, T>,
    (part, view): (&Part, &'o mut BufferView<'_, T>),
) -> DiscretiseGradients<'o, T> {
    match (part, view) {
        (Part::Step, BufferView::Io(view)) => gradients.ddt(view),
        (Part::B, BufferView::Io(view)) => gradients.dB(view),
        (Part::Lambda, BufferView::Io(view)) => gradients.dlambda(view),
        (Part::A, BufferView::F32(view)) => gradients.dA(view),
        (Part::Bias, BufferView::F32(view)) => gradients.ddt_bias(view),
        _ => gradients,
    }
}

/// The loops that the results are judged by.
struct Naive<'r, 'a, 'f, T: Io> {
    call: &'r Call<'r, 'a, 'f, T>,
    parts: &'r [Part],
}

impl<T: Io> Loop for Naive<'_, '_, '_, T> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let gradients = self.call.naive::<R>().expect("the backend accepted the same arguments");
        self.parts.iter().map(|part| widened(part.pick(&gradients).iter().copied())).collect()
    }
}
