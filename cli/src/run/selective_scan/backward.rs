//! The gradients.

use super::tensors::{Shaped, Tensors, channel_first, sequence, sequence_view, shaped, state_view};
use super::{OP, Options};
use crate::args::{Backend, Layout, RunArgs};
use crate::error::{CliError, Result};
use crate::input::Input;
use crate::memory::Memory;
use crate::report::Row;
use crate::run::results::{Outline, judge, outline, plan, widened};
use crate::speed::{self, Speed};
use crate::tensor::{Data, Io, Scalar, Tensor};
use ssm_kernels::prelude::*;
use ssm_kernels::reference::accuracy::Loop;
use ssm_kernels::reference::{Real, selective_scan as naive};
use ssm_kernels::{Axes, Axis};
use std::borrow::Cow;

/// One of the results.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Gradient {
    X,
    Dt,
    A,
    B { constant: bool },
    C { constant: bool },
    D,
    Z,
    DtBias,
    InitialState,
}

impl Gradient {
    pub fn name(self) -> &'static str {
        match self {
            Gradient::X => "dx",
            Gradient::Dt => "ddt",
            Gradient::A => "dA",
            Gradient::B { .. } => "dB",
            Gradient::C { .. } => "dC",
            Gradient::D => "dD",
            Gradient::Z => "dz",
            Gradient::DtBias => "ddt_bias",
            Gradient::InitialState => "dinitial_state",
        }
    }

    /// Its dimensions in files.
    fn dims(self) -> &'static [&'static str] {
        match self {
            Gradient::X | Gradient::Dt | Gradient::Z => &["batch", "dim", "seqlen"],
            Gradient::B { constant: false } | Gradient::C { constant: false } => {
                &["batch", "ngroups", "dstate", "seqlen"]
            }
            Gradient::D | Gradient::DtBias => &["dim"],
            Gradient::InitialState => &["batch", "dim", "dstate"],
            _ => &["dim", "dstate"],
        }
    }

    /// Has the layout of x.
    fn is_sequence(self) -> bool {
        matches!(self, Gradient::X | Gradient::Dt | Gradient::Z)
    }

    /// Has the dtype of x.
    pub fn is_io(self) -> bool {
        self.is_sequence() || matches!(self, Gradient::B { constant: false } | Gradient::C { constant: false })
    }

    pub fn pick<R>(self, gradients: &mut naive::Gradients<R>) -> Vec<R> {
        std::mem::take(match self {
            Gradient::X => &mut gradients.dx,
            Gradient::Dt => &mut gradients.ddt,
            Gradient::A => &mut gradients.dA,
            Gradient::B { .. } => &mut gradients.dB,
            Gradient::C { .. } => &mut gradients.dC,
            Gradient::D => &mut gradients.dD,
            Gradient::Z => &mut gradients.dz,
            Gradient::DtBias => &mut gradients.ddt_bias,
            Gradient::InitialState => &mut gradients.dinitial_state,
        })
    }
}

/// The upstream gradients that the file has.
pub(crate) struct Upstream<'f, T: Clone> {
    pub dout: Option<Shaped<'f, T, 3>>,
    pub dfinal_state: Option<Shaped<'f, f32, 3>>,
    pub layout: Layout,
}

impl<'f, T: Io> Upstream<'f, T> {
    pub fn load(input: &Input<'f>, layout: Layout, memory: &mut Memory) -> Result<Self> {
        let dout = sequence(input, "dout", layout, memory)?;
        let dfinal_state = shaped(input, "dfinal_state", ["batch", "dim", "dstate"])?;
        if dout.is_none() && dfinal_state.is_none() {
            let expected = "it or `dfinal_state` with --backward";
            return Err(CliError::value(OP, "dout", "is missing", expected));
        }
        input.metadata.check_flag("dfinal_state", dfinal_state.is_some(), "`dfinal_state` is")?;
        Ok(Self { dout, dfinal_state, layout })
    }

    /// The same with other elements in dout; dfinal_state is lent.
    pub fn mapped<'s, U: Io>(&'s self, elements: &impl Fn(&'s [T]) -> Result<Cow<'s, [U]>>) -> Result<Upstream<'s, U>> {
        Ok(Upstream {
            dout: self.dout.as_ref().map(|dout| dout.mapped(elements)).transpose()?,
            dfinal_state: self.dfinal_state.as_ref().map(Shaped::lent),
            layout: self.layout,
        })
    }

    pub fn views(&self) -> SelectiveScanUpstream<'_, T> {
        let mut upstream = SelectiveScanUpstream::new();
        if let Some(dout) = &self.dout {
            upstream = upstream.dout(sequence_view(dout, self.layout));
        }
        if let Some(dfinal_state) = &self.dfinal_state {
            upstream = upstream.dfinal_state(state_view(dfinal_state));
        }
        upstream
    }
}

/// Each in the dtype of the input that it belongs to.
pub(crate) fn outlines<T: Io>(gradients: &[(Gradient, Vec<usize>)]) -> Vec<Outline> {
    let outline = |(gradient, shape): &(Gradient, Vec<usize>)| match gradient.is_io() {
        true => outline::<T>(gradient.name(), shape.clone()),
        false => outline::<f32>(gradient.name(), shape.clone()),
    };
    gradients.iter().map(outline).collect()
}

/// Runs and judges.
pub(super) fn run<'f, T: Io>(
    args: &RunArgs,
    scan: &SelectiveScan<'_, T>,
    tensors: &Tensors<'f, T>,
    options: &Options,
    input: &Input<'f>,
    memory: &mut Memory,
) -> Result<(Vec<Tensor>, Vec<Row>, Speed)> {
    let upstream = Upstream::load(input, options.layout, memory)?;
    let dims = scan.dims()?;
    let gradients = tensors.gradients(&dims, input.asks_for("dinitial_state"));
    let outlines = outlines::<T>(&gradients);
    let gradients: Vec<Gradient> = gradients.into_iter().map(|(gradient, _)| gradient).collect();
    plan(&outlines, 2 * size_of::<f64>(), input, memory)?;
    // All states of one row in the naive loops, and their gradients of what the file does not have.
    memory.plan(dims.seqlen.saturating_add(1).saturating_mul(dims.dstate), size_of::<f64>())?;
    memory.plan(dims.nseqs.saturating_mul(dims.dim).saturating_mul(dims.dstate), size_of::<f64>())?;
    // dD and ddt_bias, which they compute whatever there is.
    memory.plan(dims.dim, 2 * size_of::<f64>())?;
    memory.reserve()?;
    let call = Call { scan, upstream: &upstream, gradients: &gradients, outlines: &outlines, options };
    let (results, speed) = match args.backend {
        Backend::Cpu if options.threads == Some(1) => call.timed(&Cpu::single_thread(), memory)?,
        Backend::Cpu => call.timed(&Cpu::new(), memory)?,
        #[cfg(feature = "emulator")]
        Backend::Emulator => call.timed(&crate::run::emulator::device(args).on_host(), memory)?,
        #[cfg(feature = "cuda")]
        Backend::Cuda => call.timed(&crate::cuda::on_stream(args.device)?.on_host(), memory)?,
        Backend::Reference => call.reference()?,
    };
    let rows = judge(&outlines, &results, input, &Naive(&call))?;
    Ok((results, rows, speed))
}

/// The arguments of the call.
pub(crate) struct Call<'r, 'a, 'f, T: Io> {
    pub scan: &'r SelectiveScan<'a, T>,
    pub upstream: &'r Upstream<'f, T>,
    pub gradients: &'r [Gradient],
    pub outlines: &'r [Outline],
    pub options: &'r Options,
}

/// A gradient in the dtype of the input that it belongs to.
enum Buffer<T> {
    Io(Vec<T>),
    F32(Vec<f32>),
}

/// A view of one.
enum BufferView<'v, T> {
    Io(ViewMut<'v, T>),
    F32(ViewMut<'v, f32>),
}

impl<T: Io> Buffer<T> {
    fn nan(gradient: Gradient, outline: &Outline) -> Result<Self> {
        match gradient.is_io() {
            true => Ok(Buffer::Io(outline.nan()?)),
            false => Ok(Buffer::F32(outline.nan()?)),
        }
    }

    fn view(&mut self, gradient: Gradient, outline: &Outline, layout: Layout) -> Result<BufferView<'_, T>> {
        let mut dims: Vec<_> = gradient.dims().iter().zip(&outline.shape).collect();
        if gradient.is_sequence() && layout == Layout::ChannelLast {
            dims.swap(1, 2);
        }
        let (mut axes, mut stride) = (vec![], 1);
        for (&name, &extent) in dims.into_iter().rev() {
            axes.push(Axis { name, extent, stride });
            stride *= extent.max(1) as i64;
        }
        let axes = Axes::from_slice(&axes)?;
        Ok(match self {
            Buffer::Io(data) => BufferView::Io(ViewMut::from_parts(data, axes)),
            Buffer::F32(data) => BufferView::F32(ViewMut::from_parts(data, axes)),
        })
    }

    fn into_data(self, gradient: Gradient, outline: &Outline, layout: Layout) -> Result<Data> {
        Ok(match self {
            Buffer::Io(data) if gradient.is_sequence() => {
                let extents = [outline.shape[0], outline.shape[1], outline.shape[2]];
                T::into_data(channel_first(data, extents, layout)?)
            }
            Buffer::Io(data) => T::into_data(data),
            Buffer::F32(data) => f32::into_data(data),
        })
    }
}

impl<'a, T: Io> Call<'_, 'a, '_, T> {
    /// All gradients, of the last of the calls that the options ask for.
    pub fn timed(
        &self,
        backend: &(impl Backward<SelectiveScan<'a, T>> + Sync),
        memory: &mut Memory,
    ) -> Result<(Vec<Tensor>, Speed)> {
        let (layout, all) = (self.options.layout, || self.gradients.iter().copied().zip(self.outlines));
        let buffers = all().map(|(gradient, outline)| Buffer::nan(gradient, outline));
        let mut buffers = buffers.collect::<Result<Vec<Buffer<T>>>>()?;
        let plan = backend.backward_plan(self.scan)?;
        memory.plan(plan.workspace_bytes, 1)?;
        memory.reserve()?;
        let mut workspace = plan.allocate()?;
        let call = || {
            let views = all().zip(&mut buffers);
            let views = views.map(|((gradient, outline), buffer)| buffer.view(gradient, outline, layout));
            let mut views = views.collect::<Result<Vec<_>>>()?;
            let given = self.gradients.iter().zip(&mut views);
            let gradients = given.fold(SelectiveScanGradients::new(), give);
            Ok(backend.backward_with(self.scan, self.upstream.views(), gradients, &plan, (&mut workspace).into())?)
        };
        let speed = speed::in_pool(self.options.threads, || speed::repeat(self.options.repeat, call))?;
        let results = all()
            .zip(buffers)
            .map(|((gradient, outline), buffer)| Ok(outline.tensor(buffer.into_data(gradient, outline, layout)?)));
        Ok((results.collect::<Result<_>>()?, speed))
    }

    fn reference(&self) -> Result<(Vec<Tensor>, Speed)> {
        let (mut all, speed) = speed::once(|| self.naive::<f64>())?;
        let given = self.gradients.iter().zip(self.outlines);
        let results = given.map(|(gradient, outline)| outline.tensor(Data::F64(gradient.pick(&mut all))));
        Ok((results.collect(), speed))
    }

    fn naive<R: Real>(&self) -> Result<naive::Gradients<R>> {
        Ok(naive::backward::<R, T>(self.scan, self.upstream.views())?)
    }
}

fn give<'o, T: Io>(
    gradients: SelectiveScanGradients<'o, T>,
    (gradient, view): (&Gradient, &'o mut BufferView<'_, T>),
) -> SelectiveScanGradients<'o, T> {
    match (gradient, view) {
        (Gradient::X, BufferView::Io(view)) => gradients.dx(view),
        (Gradient::Dt, BufferView::Io(view)) => gradients.ddt(view),
        (Gradient::Z, BufferView::Io(view)) => gradients.dz(view),
        (Gradient::B { .. }, BufferView::Io(view)) => gradients.dB(view),
        (Gradient::C { .. }, BufferView::Io(view)) => gradients.dC(view),
        (Gradient::B { .. }, BufferView::F32(view)) => gradients.dB(ProjectionMut::Constant(view.reborrow())),
        (Gradient::C { .. }, BufferView::F32(view)) => gradients.dC(ProjectionMut::Constant(view.reborrow())),
        (Gradient::A, BufferView::F32(view)) => gradients.dA(view),
        (Gradient::D, BufferView::F32(view)) => gradients.dD(view),
        (Gradient::DtBias, BufferView::F32(view)) => gradients.ddt_bias(view),
        (Gradient::InitialState, BufferView::F32(view)) => gradients.dinitial_state(view),
        _ => gradients,
    }
}

/// The loops that the results are judged by.
struct Naive<'r, 'c, 'a, 'f, T: Io>(&'r Call<'c, 'a, 'f, T>);

impl<T: Io> Loop for Naive<'_, '_, '_, '_, T> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let mut all = self.0.naive::<R>().expect("the backend accepted the same arguments");
        self.0.gradients.iter().map(|gradient| widened(gradient.pick(&mut all))).collect()
    }
}
