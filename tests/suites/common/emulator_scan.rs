//! The selective scan on the emulator: every tensor placed on the device, run, and fetched.

use super::buffer::{Buffer, Placed};
use super::emulator::{fetch, optional};
use super::scan::{ProjectionBuffer, ScanBuffers, ScanCase};
use super::scan_backward::{CarryCase, ScanGradients, ScanUpstream};
use ssm_kernels::gpu::{EmulatedBuffer, Emulator, Gpu, Report};
use ssm_kernels::prelude::*;
use ssm_kernels::{Device, Element, Result};

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
}

/// What a scan reads, on the device.
struct ScanInputs<'e, T: Element> {
    x: Placed<'e, T>,
    dt: Placed<'e, T>,
    A: Placed<'e, f32>,
    B: PlacedProjection<'e, T>,
    C: PlacedProjection<'e, T>,
    D: Option<Placed<'e, f32>>,
    z: Option<Placed<'e, T>>,
    dt_bias: Option<Placed<'e, f32>>,
    initial_state: Option<Placed<'e, f32>>,
    table: Option<EmulatedBuffer<'e, i32>>,
}

impl<'e, T: Element> ScanInputs<'e, T> {
    fn new(device: &'e Emulator, case: &ScanCase<T>) -> Result<Self> {
        let table = case.segments.as_ref().map(|segments| device.upload(segments.cu_seqlens())).transpose()?;
        Ok(Self {
            x: case.x.input(device, "x")?,
            dt: case.dt.input(device, "dt")?,
            A: case.A.input(device, "A")?,
            B: PlacedProjection::new(device, "B", &case.B)?,
            C: PlacedProjection::new(device, "C", &case.C)?,
            D: optional(device, "D", &case.D)?,
            z: optional(device, "z", &case.z)?,
            dt_bias: optional(device, "dt_bias", &case.dt_bias)?,
            initial_state: optional(device, "initial_state", &case.initial_state)?,
            table: table.map(|table| table.named("cu_seqlens")),
        })
    }

    fn scan<'v>(&'v self, case: &'v ScanCase<T>) -> Result<SelectiveScan<'v, T, Device>> {
        let (B, C) = (self.B.projection()?, self.C.projection()?);
        let mut scan = SelectiveScan::new(self.x.view()?, self.dt.view()?, self.A.view()?, B, C)?
            .dt_softplus(case.dt_softplus)
            .reverse(case.reverse);
        if let Some(D) = &self.D {
            scan = scan.D(D.view()?);
        }
        if let Some(z) = &self.z {
            scan = scan.z(z.view()?);
        }
        if let Some(dt_bias) = &self.dt_bias {
            scan = scan.dt_bias(dt_bias.view()?);
        }
        if let Some(dt_limit) = case.dt_limit {
            scan = scan.dt_limit(dt_limit);
        }
        if let Some(initial_state) = &self.initial_state {
            scan = scan.initial_state(initial_state.view()?);
        }
        if let Some(split) = case.split {
            scan = scan.split(split);
        }
        if let (Some(segments), Some(table)) = (&case.segments, &self.table) {
            // SAFETY: the table was made from these segments.
            scan = unsafe { scan.segments_on(segments, table.slice()) };
        }
        Ok(scan)
    }
}

fn gpu<'e, T>(device: &'e Emulator, case: &ScanCase<T>) -> Gpu<&'e Emulator> {
    case.lanes.map_or(device.gpu(), |lanes| device.gpu().lanes(lanes))
}

/// One scan; its traffic, if it launched anything.
pub fn scan_forward<T: Element>(
    device: &Emulator,
    case: &ScanCase<T>,
    outputs: &mut ScanBuffers<T>,
) -> Result<ScanTraffic> {
    let inputs = ScanInputs::new(device, case)?;
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
    let done = gpu(device, case).forward(&inputs.scan(case)?, wanted);
    fetch(&mut outputs.out, &out)?;
    fetch(&mut outputs.delta_sum, &delta_sum)?;
    fetch(&mut outputs.final_state, &final_state)?;
    if let (Some((_, buffer)), Some(placed)) = (&mut outputs.chunk_states, &chunk_states) {
        buffer.fetch(placed)?;
    }
    done?;
    let Some(report) = device.take_reports().pop() else { return Ok(ScanTraffic::default()) };
    Ok(ScanTraffic {
        x: report.bytes_loaded(inputs.x.raw()),
        dt: report.bytes_loaded(inputs.dt.raw()),
        z: inputs.z.map_or(0, |z| report.bytes_loaded(z.raw())),
        A: report.bytes_loaded(inputs.A.raw()),
        B: inputs.B.loaded(&report),
        C: inputs.C.loaded(&report),
        out: out.map_or([0; 2], |out| [report.bytes_loaded(out.raw()), report.bytes_stored(out.raw())]),
    })
}

/// A gradient's place on the device.
fn room<'e, T: Element>(device: &'e Emulator, name: &str, buffer: &Option<Buffer<T>>) -> Result<Option<Placed<'e, T>>> {
    buffer.as_ref().map(|buffer| buffer.output(device, name)).transpose()
}

impl<'e, T: Element> PlacedProjection<'e, T> {
    fn room(device: &'e Emulator, name: &str, buffer: &Option<ProjectionBuffer<T>>) -> Result<Option<Self>> {
        Ok(match buffer {
            None => None,
            Some(ProjectionBuffer::Variable(buffer)) => Some(Self::Variable(buffer.output(device, name)?)),
            Some(ProjectionBuffer::Constant(buffer)) => Some(Self::Constant(buffer.output(device, name)?)),
        })
    }

    fn projection_mut(&mut self) -> Result<ProjectionMut<'_, T, Device>> {
        Ok(match self {
            Self::Variable(placed) => ProjectionMut::Variable(placed.view_mut()?),
            Self::Constant(placed) => ProjectionMut::Constant(placed.view_mut()?),
        })
    }

    fn fetch(buffer: &mut Option<ProjectionBuffer<T>>, placed: &Option<Self>) -> Result<()> {
        match (buffer, placed) {
            (Some(ProjectionBuffer::Variable(buffer)), Some(Self::Variable(placed))) => buffer.fetch(placed),
            (Some(ProjectionBuffer::Constant(buffer)), Some(Self::Constant(placed))) => buffer.fetch(placed),
            _ => Ok(()),
        }
    }
}

/// One scan backward.
pub fn scan_backward<T: Element>(
    device: &Emulator,
    case: &ScanCase<T>,
    upstream: &ScanUpstream<T>,
    gradients: &mut ScanGradients<T>,
) -> Result<()> {
    let inputs = ScanInputs::new(device, case)?;
    let dout = optional(device, "dout", &upstream.dout)?;
    let dfinal_state = optional(device, "dfinal_state", &upstream.dfinal_state)?;
    let checkpoints = upstream.checkpoints.as_ref().map(|(_, buffer)| buffer.input(device, "checkpoints"));
    let checkpoints = checkpoints.transpose()?;
    let mut by = SelectiveScanUpstream::new();
    if let Some(dout) = &dout {
        by = by.dout(dout.view()?);
    }
    if let Some(dfinal_state) = &dfinal_state {
        by = by.dfinal_state(dfinal_state.view()?);
    }
    if let (Some((every, _)), Some(placed)) = (&upstream.checkpoints, &checkpoints) {
        by = by.checkpoints(*every, placed.view()?);
    }
    let (mut dx, mut ddt) = (room(device, "dx", &gradients.dx)?, room(device, "ddt", &gradients.ddt)?);
    let (mut dz, mut dA) = (room(device, "dz", &gradients.dz)?, room(device, "dA", &gradients.dA)?);
    let mut dB = PlacedProjection::room(device, "dB", &gradients.dB)?;
    let mut dC = PlacedProjection::room(device, "dC", &gradients.dC)?;
    let (mut dD, mut ddt_bias) = (room(device, "dD", &gradients.dD)?, room(device, "ddt_bias", &gradients.ddt_bias)?);
    let mut dinitial_state = room(device, "dinitial_state", &gradients.dinitial_state)?;
    let done = {
        let mut views = (
            dx.as_mut().map(Placed::view_mut).transpose()?,
            ddt.as_mut().map(Placed::view_mut).transpose()?,
            dz.as_mut().map(Placed::view_mut).transpose()?,
            dA.as_mut().map(Placed::view_mut).transpose()?,
            dD.as_mut().map(Placed::view_mut).transpose()?,
            ddt_bias.as_mut().map(Placed::view_mut).transpose()?,
            dinitial_state.as_mut().map(Placed::view_mut).transpose()?,
        );
        let mut wanted = SelectiveScanGradients::new();
        wanted = views.0.iter_mut().fold(wanted, SelectiveScanGradients::dx);
        wanted = views.1.iter_mut().fold(wanted, SelectiveScanGradients::ddt);
        wanted = views.2.iter_mut().fold(wanted, SelectiveScanGradients::dz);
        wanted = views.3.iter_mut().fold(wanted, SelectiveScanGradients::dA);
        wanted = views.4.iter_mut().fold(wanted, SelectiveScanGradients::dD);
        wanted = views.5.iter_mut().fold(wanted, SelectiveScanGradients::ddt_bias);
        wanted = views.6.iter_mut().fold(wanted, SelectiveScanGradients::dinitial_state);
        if let Some(dB) = &mut dB {
            wanted = wanted.dB(dB.projection_mut()?);
        }
        if let Some(dC) = &mut dC {
            wanted = wanted.dC(dC.projection_mut()?);
        }
        gpu(device, case).backward(&inputs.scan(case)?, by, wanted)
    };
    fetch(&mut gradients.dx, &dx)?;
    fetch(&mut gradients.ddt, &ddt)?;
    fetch(&mut gradients.dz, &dz)?;
    fetch(&mut gradients.dA, &dA)?;
    PlacedProjection::fetch(&mut gradients.dB, &dB)?;
    PlacedProjection::fetch(&mut gradients.dC, &dC)?;
    fetch(&mut gradients.dD, &dD)?;
    fetch(&mut gradients.ddt_bias, &ddt_bias)?;
    fetch(&mut gradients.dinitial_state, &dinitial_state)?;
    done
}

/// One carry pass.
pub fn carry(device: &Emulator, case: &CarryCase, carried: &mut Buffer<f32>) -> Result<()> {
    let (A, delta_sum) = (case.A.input(device, "A")?, case.delta_sum.input(device, "delta_sum")?);
    let (states, initial) = (case.states.input(device, "states")?, optional(device, "initial", &case.initial)?);
    let mut op = SelectiveScanCarry::new(A.view()?, delta_sum.view()?, states.view()?)?.reverse(case.reverse);
    if let Some(initial) = &initial {
        op = op.initial(initial.view()?);
    }
    let mut placed = carried.output(device, "carried")?;
    let done = device.gpu().forward(&op, SelectiveScanCarryOutputs::new(&mut placed.view_mut()?));
    carried.fetch(&placed)?;
    done
}
