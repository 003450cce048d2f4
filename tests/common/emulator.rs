//! The GPU backend's kernels on the emulator, checks on: every tensor is an allocation of its own, in which all but the
//! elements is forbidden, and outputs and workspace hold nothing that anyone wrote.

use super::backends::Backend;
use super::buffer::{Buffer, Placed};
use super::discretise::{DiscretiseBuffers, DiscretiseCase, GradientBuffers};
use super::scan::{ProjectionBuffer, ScanBuffers, ScanCase};
use ssm_kernels::gpu::{Emulator, Mode, Report};
use ssm_kernels::prelude::*;
use ssm_kernels::{Device, Element, Result};

/// Of so many cases one runs in adversarial mode too.
const ADVERSARIAL: u64 = 4;

/// In one mode; each call has a device of its own.
pub struct EmulatorBackend(pub Mode);

impl EmulatorBackend {
    fn device(&self) -> Emulator {
        // The suites themselves run side by side.
        Emulator::new().mode(self.0).threads(1)
    }
}

impl Backend for EmulatorBackend {
    const NAME: &'static str = "emulator";
    const PRIMITIVE_ULPS: f64 = 3.0;

    fn open() -> std::result::Result<Self, String> {
        Ok(Self(Mode::Nominal))
    }

    fn again(&self, case: u64) -> Option<Self> {
        case.is_multiple_of(ADVERSARIAL).then_some(Self(Mode::Adversarial { seed: case }))
    }

    fn mode(&self) -> String {
        format!("{:?}", self.0)
    }

    fn selective_scan_forward<T: Element>(&self, case: &ScanCase<T>, outputs: &mut ScanBuffers<T>) -> Result<()> {
        scan_forward(&self.device(), case, outputs).map(|_| ())
    }

    fn discretise_forward<T: Element>(&self, case: &DiscretiseCase<T>, outputs: &mut DiscretiseBuffers) -> Result<()> {
        let device = self.device();
        let inputs = DiscretiseInputs::new(&device, case)?;
        let op = inputs.op(case)?;
        let mut delta = outputs.delta.output(&device, "delta")?;
        let mut A_bar = outputs.A_bar.output(&device, "A_bar")?;
        let mut B_bar = outputs.B_bar.output(&device, "B_bar")?;
        let B_prev_bar = outputs.B_prev_bar.as_ref().map(|buffer| buffer.output(&device, "B_prev_bar"));
        let mut B_prev_bar = B_prev_bar.transpose()?;
        let (mut a, mut b, mut c) = (delta.view_mut()?, A_bar.view_mut()?, B_bar.view_mut()?);
        let mut d = B_prev_bar.as_mut().map(Placed::view_mut).transpose()?;
        let mut wanted = DiscretiseOutputs::new().delta(&mut a).A_bar(&mut b).B_bar(&mut c);
        if let Some(view) = &mut d {
            wanted = wanted.B_prev_bar(view);
        }
        let done = device.gpu().forward(&op, wanted);
        outputs.delta.fetch(&delta)?;
        outputs.A_bar.fetch(&A_bar)?;
        outputs.B_bar.fetch(&B_bar)?;
        fetch(&mut outputs.B_prev_bar, &B_prev_bar)?;
        done
    }

    fn discretise_backward<T: Element>(
        &self,
        case: &DiscretiseCase<T>,
        outputs: &mut GradientBuffers<T>,
    ) -> Result<()> {
        let device = self.device();
        let inputs = DiscretiseInputs::new(&device, case)?;
        let op = inputs.op(case)?;
        let mut ddt = outputs.ddt.output(&device, "ddt")?;
        let mut ddt_bias = outputs.ddt_bias.output(&device, "ddt_bias")?;
        let mut dA = outputs.dA.output(&device, "dA")?;
        let mut dB = outputs.dB.output(&device, "dB")?;
        let dlambda = outputs.dlambda.as_ref().map(|buffer| buffer.output(&device, "dlambda"));
        let mut dlambda = dlambda.transpose()?;
        let (mut a, mut b, mut c, mut d) = (ddt.view_mut()?, ddt_bias.view_mut()?, dA.view_mut()?, dB.view_mut()?);
        let mut e = dlambda.as_mut().map(Placed::view_mut).transpose()?;
        let mut wanted = DiscretiseGradients::new().ddt(&mut a).ddt_bias(&mut b).dA(&mut c).dB(&mut d);
        if let Some(view) = &mut e {
            wanted = wanted.dlambda(view);
        }
        let done = device.gpu().backward(&op, inputs.upstream()?, wanted);
        outputs.ddt.fetch(&ddt)?;
        outputs.ddt_bias.fetch(&ddt_bias)?;
        outputs.dA.fetch(&dA)?;
        outputs.dB.fetch(&dB)?;
        fetch(&mut outputs.dlambda, &dlambda)?;
        done
    }
}

fn optional<'e, T: Element>(
    device: &'e Emulator,
    name: &str,
    buffer: &Option<Buffer<T>>,
) -> Result<Option<Placed<'e, T>>> {
    buffer.as_ref().map(|buffer| buffer.input(device, name)).transpose()
}

fn fetch<T: Element>(buffer: &mut Option<Buffer<T>>, placed: &Option<Placed<'_, T>>) -> Result<()> {
    buffer.iter_mut().zip(placed).try_for_each(|(buffer, placed)| buffer.fetch(placed))
}

/// B or C on the device.
enum PlacedProjection<'e, T: Element> {
    Variable(Placed<'e, T>),
    Constant(Placed<'e, f32>),
}

impl<'e, T: Element> PlacedProjection<'e, T> {
    fn new(device: &'e Emulator, name: &str, buffer: &ProjectionBuffer<T>) -> Result<Self> {
        Ok(match buffer {
            ProjectionBuffer::Variable(buffer) => Self::Variable(buffer.input(device, name)?),
            ProjectionBuffer::Constant(buffer) => Self::Constant(buffer.input(device, name)?),
        })
    }

    fn projection(&self) -> Result<Projection<'_, T, Device>> {
        Ok(match self {
            Self::Variable(placed) => Projection::Variable(placed.view()?),
            Self::Constant(placed) => Projection::Constant(placed.view()?),
        })
    }

    fn loaded(&self, report: &Report) -> u64 {
        match self {
            Self::Variable(placed) => report.bytes_loaded(placed.raw()),
            Self::Constant(placed) => report.bytes_loaded(placed.raw()),
        }
    }
}

/// Bytes that a scan moved, tensor by tensor.
#[derive(Debug, Default)]
pub struct ScanTraffic {
    pub x: u64,
    pub dt: u64,
    pub z: u64,
    pub A: u64,
    pub B: u64,
    pub C: u64,
    /// Loaded, stored.
    pub out: [u64; 2],
    pub bank_conflicts: u64,
}

/// One scan; its traffic, if it launched anything.
pub fn scan_forward<T: Element>(
    device: &Emulator,
    case: &ScanCase<T>,
    outputs: &mut ScanBuffers<T>,
) -> Result<ScanTraffic> {
    let (x, dt, A) = (case.x.input(device, "x")?, case.dt.input(device, "dt")?, case.A.input(device, "A")?);
    let (B, C) = (PlacedProjection::new(device, "B", &case.B)?, PlacedProjection::new(device, "C", &case.C)?);
    let (D, z) = (optional(device, "D", &case.D)?, optional(device, "z", &case.z)?);
    let dt_bias = optional(device, "dt_bias", &case.dt_bias)?;
    let initial_state = optional(device, "initial_state", &case.initial_state)?;
    let table = case.segments.as_ref().map(|segments| device.upload(segments.cu_seqlens())).transpose()?;
    let table = table.map(|table| table.named("cu_seqlens"));
    let mut scan = SelectiveScan::new(x.view()?, dt.view()?, A.view()?, B.projection()?, C.projection()?)?
        .dt_softplus(case.dt_softplus)
        .reverse(case.reverse);
    if let Some(D) = &D {
        scan = scan.D(D.view()?);
    }
    if let Some(z) = &z {
        scan = scan.z(z.view()?);
    }
    if let Some(dt_bias) = &dt_bias {
        scan = scan.dt_bias(dt_bias.view()?);
    }
    if let Some(dt_limit) = case.dt_limit {
        scan = scan.dt_limit(dt_limit);
    }
    if let Some(initial_state) = &initial_state {
        scan = scan.initial_state(initial_state.view()?);
    }
    if let Some(split) = case.split {
        scan = scan.split(split);
    }
    if let (Some(segments), Some(table)) = (&case.segments, &table) {
        // SAFETY: the table was made from these segments above.
        scan = unsafe { scan.segments_on(segments, table.slice()) };
    }
    let mut out = outputs.out.as_ref().map(|buffer| buffer.output(device, "out")).transpose()?;
    let delta_sum = outputs.delta_sum.as_ref().map(|buffer| buffer.output(device, "delta_sum"));
    let mut delta_sum = delta_sum.transpose()?;
    let final_state = outputs.final_state.as_ref().map(|buffer| buffer.output(device, "final_state"));
    let mut final_state = final_state.transpose()?;
    let chunk_states = outputs.chunk_states.as_ref().map(|(_, buffer)| buffer.output(device, "chunk_states"));
    let mut chunk_states = chunk_states.transpose()?;
    let mut out_view = out.as_mut().map(Placed::view_mut).transpose()?;
    let mut sum_view = delta_sum.as_mut().map(Placed::view_mut).transpose()?;
    let mut final_view = final_state.as_mut().map(Placed::view_mut).transpose()?;
    let mut chunk_view = chunk_states.as_mut().map(Placed::view_mut).transpose()?;
    let mut wanted = match &mut out_view {
        Some(view) => SelectiveScanOutputs::new(view),
        None => SelectiveScanOutputs::states_only(),
    };
    if let Some(view) = &mut sum_view {
        wanted = wanted.delta_sum(view);
    }
    if let Some(view) = &mut final_view {
        wanted = wanted.final_state(view);
    }
    if let (Some((every, _)), Some(view)) = (&outputs.chunk_states, &mut chunk_view) {
        wanted = wanted.chunk_states(*every, view);
    }
    let done = device.gpu().forward(&scan, wanted);
    fetch(&mut outputs.out, &out)?;
    fetch(&mut outputs.delta_sum, &delta_sum)?;
    fetch(&mut outputs.final_state, &final_state)?;
    if let (Some((_, buffer)), Some(placed)) = (&mut outputs.chunk_states, &chunk_states) {
        buffer.fetch(placed)?;
    }
    done?;
    let Some(report) = device.take_reports().pop() else { return Ok(ScanTraffic::default()) };
    Ok(ScanTraffic {
        x: report.bytes_loaded(x.raw()),
        dt: report.bytes_loaded(dt.raw()),
        z: z.map_or(0, |z| report.bytes_loaded(z.raw())),
        A: report.bytes_loaded(A.raw()),
        B: B.loaded(&report),
        C: C.loaded(&report),
        out: out.map_or([0; 2], |out| [report.bytes_loaded(out.raw()), report.bytes_stored(out.raw())]),
        bank_conflicts: report.bank_conflicts(),
    })
}

/// The tensors that discretise reads, on the device.
struct DiscretiseInputs<'e, T: Element> {
    dt: Placed<'e, T>,
    A: Placed<'e, f32>,
    B: Placed<'e, T>,
    dt_bias: Option<Placed<'e, f32>>,
    lambda: Option<Placed<'e, T>>,
    upstream: [Option<Placed<'e, f32>>; 4],
}

impl<'e, T: Element> DiscretiseInputs<'e, T> {
    fn new(device: &'e Emulator, case: &DiscretiseCase<T>) -> Result<Self> {
        let [ddelta, dA_bar, dB_bar, dB_prev_bar] = &case.upstream;
        Ok(Self {
            dt: case.dt.input(device, "dt")?,
            A: case.A.input(device, "A")?,
            B: case.B.input(device, "B")?,
            dt_bias: optional(device, "dt_bias", &case.dt_bias)?,
            lambda: optional(device, "lambda", &case.lambda)?,
            upstream: [
                optional(device, "ddelta", ddelta)?,
                optional(device, "dA_bar", dA_bar)?,
                optional(device, "dB_bar", dB_bar)?,
                optional(device, "dB_prev_bar", dB_prev_bar)?,
            ],
        })
    }

    fn op(&self, case: &DiscretiseCase<T>) -> Result<Discretise<'_, T, Device>> {
        let op = Discretise::new(case.rule, self.dt.view()?, self.A.view()?, self.B.view()?)?;
        let mut op = op.dt_softplus(case.dt_softplus);
        if let Some(dt_bias) = &self.dt_bias {
            op = op.dt_bias(dt_bias.view()?);
        }
        if let Some(lambda) = &self.lambda {
            op = op.lambda(lambda.view()?);
        }
        if let Some(dt_limit) = case.dt_limit {
            op = op.dt_limit(dt_limit);
        }
        Ok(op)
    }

    fn upstream(&self) -> Result<DiscretiseUpstream<'_, Device>> {
        let mut upstream = DiscretiseUpstream::new();
        let [ddelta, dA_bar, dB_bar, dB_prev_bar] = &self.upstream;
        if let Some(gradient) = ddelta {
            upstream = upstream.ddelta(gradient.view()?);
        }
        if let Some(gradient) = dA_bar {
            upstream = upstream.dA_bar(gradient.view()?);
        }
        if let Some(gradient) = dB_bar {
            upstream = upstream.dB_bar(gradient.view()?);
        }
        if let Some(gradient) = dB_prev_bar {
            upstream = upstream.dB_prev_bar(gradient.view()?);
        }
        Ok(upstream)
    }
}
