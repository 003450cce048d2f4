//! The coefficients.

use super::tensors::Tensors;
use super::{LOOPS, Options};
use crate::args::{Backend, RunArgs};
use crate::error::Result;
use crate::input::Input;
use crate::memory::Memory;
use crate::report::Row;
use crate::run::results::{Outline, judge, outline, plan, widened};
use crate::speed::{self, Speed};
use crate::tensor::{Data, Io, Tensor};
use ssm_kernels::prelude::*;
use ssm_kernels::reference::accuracy::Loop;
use ssm_kernels::reference::{Real, discretise as naive};

/// One of the results.
#[derive(Debug, Clone, Copy)]
enum Part {
    Delta,
    ABar,
    BBar,
    BPrevBar,
}

impl Part {
    /// Those that the call has.
    fn of(options: &Options) -> Vec<Part> {
        let mut parts = vec![];
        if !options.effective {
            parts.push(Part::Delta);
        }
        parts.extend([Part::ABar, Part::BBar]);
        if options.rule == Rule::ExpTrapezoidal {
            parts.push(Part::BPrevBar);
        }
        parts
    }

    fn name(self) -> &'static str {
        match self {
            Part::Delta => "delta",
            Part::ABar => "A_bar",
            Part::BBar => "B_bar",
            Part::BPrevBar => "B_prev_bar",
        }
    }

    fn pick<R>(self, forward: &mut naive::Forward<R>) -> Vec<R> {
        std::mem::take(match self {
            Part::Delta => &mut forward.delta,
            Part::ABar => &mut forward.A_bar,
            Part::BBar => &mut forward.B_bar,
            Part::BPrevBar => &mut forward.B_prev_bar,
        })
    }

    fn give<'o>(self, outputs: DiscretiseOutputs<'o>, view: &'o mut ViewMut<'_, f32>) -> DiscretiseOutputs<'o> {
        match self {
            Part::Delta => outputs.delta(view),
            Part::ABar => outputs.A_bar(view),
            Part::BBar => outputs.B_bar(view),
            Part::BPrevBar => outputs.B_prev_bar(view),
        }
    }
}

/// Runs and judges.
pub(super) fn run<T: Io>(
    args: &RunArgs,
    op: &Discretise<'_, T>,
    tensors: &Tensors<'_, T>,
    options: &Options,
    input: &Input<'_>,
    memory: &mut Memory,
) -> Result<(Vec<Tensor>, Vec<Row>, Speed)> {
    let parts = Part::of(options);
    let outlines: Vec<Outline> = parts.iter().map(|part| outline::<f32>(part.name(), tensors.domain())).collect();
    plan(&outlines, LOOPS, input, memory)?;
    memory.reserve()?;
    let (results, speed) = match args.backend {
        Backend::Cpu if options.threads == Some(1) => {
            timed(&Cpu::single_thread(), op, tensors, options, &parts, &outlines)?
        }
        Backend::Cpu => timed(&Cpu::new(), op, tensors, options, &parts, &outlines)?,
        #[cfg(feature = "emulator")]
        Backend::Emulator => {
            timed(&crate::run::emulator::device(args).on_host(), op, tensors, options, &parts, &outlines)?
        }
        #[cfg(feature = "cuda")]
        Backend::Cuda => {
            timed(&crate::cuda::on_stream(args.device)?.on_host(), op, tensors, options, &parts, &outlines)?
        }
        Backend::Reference => reference(op, &parts, &outlines)?,
    };
    let rows = judge(&outlines, &results, input, &Naive { op, parts: &parts })?;
    Ok((results, rows, speed))
}

fn timed<'a, T: Io>(
    backend: &(impl Forward<Discretise<'a, T>> + Sync),
    op: &Discretise<'a, T>,
    tensors: &Tensors<'_, T>,
    options: &Options,
    parts: &[Part],
    outlines: &[Outline],
) -> Result<(Vec<Tensor>, Speed)> {
    let mut buffers = outlines.iter().map(Outline::nan::<f32>).collect::<Result<Vec<_>>>()?;
    let plan = backend.forward_plan(op)?;
    let mut workspace = plan.allocate()?;
    let call = || {
        let views = buffers.iter_mut().map(|buffer| tensors.view_mut(buffer));
        let mut views = views.collect::<Result<Vec<_>>>()?;
        let given = parts.iter().zip(&mut views);
        let outputs = given.fold(DiscretiseOutputs::new(), |outputs, (part, view)| part.give(outputs, view));
        Ok(backend.forward_with(op, outputs, &plan, (&mut workspace).into())?)
    };
    let speed = speed::in_pool(options.threads, || speed::repeat(options.repeat, call))?;
    let results = outlines.iter().zip(buffers).map(|(outline, buffer)| outline.tensor(Data::F32(buffer)));
    Ok((results.collect(), speed))
}

fn reference<T: Io>(op: &Discretise<'_, T>, parts: &[Part], outlines: &[Outline]) -> Result<(Vec<Tensor>, Speed)> {
    let (mut forward, speed) = speed::once(|| Ok(naive::forward::<f64, T>(op)?))?;
    let results = parts.iter().zip(outlines).map(|(part, outline)| outline.tensor(Data::F64(part.pick(&mut forward))));
    Ok((results.collect(), speed))
}

/// The loops that the results are judged by.
struct Naive<'r, 'a, T> {
    op: &'r Discretise<'a, T>,
    parts: &'r [Part],
}

impl<T: Io> Loop for Naive<'_, '_, T> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let mut forward = naive::forward::<R, T>(self.op).expect("the backend accepted the same arguments");
        self.parts.iter().map(|part| widened(part.pick(&mut forward))).collect()
    }
}
