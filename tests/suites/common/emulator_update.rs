//! The state update on the emulator: every tensor placed on the device, run, and fetched.

use super::buffer::Placed;
use super::emulator::optional;
use super::state_update::{UpdateBuffers, UpdateCase};
use ssm_kernels::gpu::{EmulatedBuffer, Emulator};
use ssm_kernels::prelude::*;
use ssm_kernels::{Device, Element, Result};

/// What a state update moved.
#[derive(Debug, Default)]
pub struct UpdateTraffic {
    /// Bytes of the state, and of its rows after tokens: loaded, stored.
    pub state: [u64; 2],
    pub token_states: [u64; 2],
    pub out: u64,
    pub A: u64,
    /// 32-byte sectors of all tensors.
    pub sectors: [u64; 2],
    /// Instructions of all lanes.
    pub instructions: u64,
    /// What the flag of indices says.
    pub flag: u32,
}

/// What a state update reads, on the device.
struct UpdateInputs<'e, T: Element> {
    x: Placed<'e, T>,
    dt: Placed<'e, T>,
    A: Placed<'e, f32>,
    B: Placed<'e, T>,
    C: Placed<'e, T>,
    D: Option<Placed<'e, f32>>,
    z: Option<Placed<'e, T>>,
    dt_bias: Option<Placed<'e, f32>>,
    indices: Option<EmulatedBuffer<'e, i32>>,
}

impl<'e, T: Element> UpdateInputs<'e, T> {
    fn new<H: Element>(device: &'e Emulator, case: &UpdateCase<T, H>) -> Result<Self> {
        let indices = case.state_indices.as_ref().map(|rows| device.upload(rows)).transpose()?;
        Ok(Self {
            x: case.x.input(device, "x")?,
            dt: case.dt.input(device, "dt")?,
            A: case.A.input(device, "A")?,
            B: case.B.input(device, "B")?,
            C: case.C.input(device, "C")?,
            D: optional(device, "D", &case.D)?,
            z: optional(device, "z", &case.z)?,
            dt_bias: optional(device, "dt_bias", &case.dt_bias)?,
            indices: indices.map(|rows| rows.named("state_indices")),
        })
    }

    fn op<H: Element>(&self, case: &UpdateCase<T, H>) -> Result<StateUpdate<'_, T, H, Device>> {
        let (B, C) = (self.B.view()?, self.C.view()?);
        let mut op = StateUpdate::new(self.x.view()?, self.dt.view()?, self.A.view()?, B, C)?;
        op = op.dt_softplus(case.dt_softplus);
        if let Some(D) = &self.D {
            op = op.D(D.view()?);
        }
        if let Some(z) = &self.z {
            op = op.z(z.view()?);
        }
        if let Some(dt_bias) = &self.dt_bias {
            op = op.dt_bias(dt_bias.view()?);
        }
        if let Some(dt_limit) = case.dt_limit {
            op = op.dt_limit(dt_limit);
        }
        if let (Some(rows), Some(indices)) = (&self.indices, &case.state_indices) {
            // SAFETY: a case has no row twice.
            op = unsafe { op.state_indices_from_device(rows.view([("batch", indices.len())])) };
        }
        Ok(op)
    }
}

/// One update; its traffic, if it launched anything.
pub fn state_update<T: Element, H: Element>(
    device: &Emulator,
    case: &UpdateCase<T, H>,
    outputs: &mut UpdateBuffers<T, H>,
) -> Result<UpdateTraffic> {
    let inputs = UpdateInputs::new(device, case)?;
    let mut state = outputs.state.input(device, "state")?;
    let mut out = outputs.out.output(device, "out")?;
    let kept = outputs.token_states.as_ref().map(|buffer| buffer.output(device, "token_states"));
    let mut kept = kept.transpose()?;
    let mut flag = device.upload(&[0u32])?.named("index_flag");
    let done = {
        let (mut state, mut out) = (state.view_mut()?, out.view_mut()?);
        let mut kept = kept.as_mut().map(Placed::view_mut).transpose()?;
        let mut word = flag.slice_mut();
        let wanted = StateUpdateOutputs::new(&mut state, &mut out).index_flag(&mut word);
        let wanted = kept.iter_mut().fold(wanted, StateUpdateOutputs::token_states);
        device.gpu().forward(&inputs.op(case)?, wanted)
    };
    outputs.state.fetch(&state)?;
    outputs.out.fetch(&out)?;
    outputs.token_states.iter_mut().zip(&kept).try_for_each(|(buffer, placed)| buffer.fetch(placed))?;
    done?;
    let report = device.take_reports().pop();
    let mut traffic = report.map_or_else(UpdateTraffic::default, |report| UpdateTraffic {
        state: [report.bytes_loaded(state.raw()), report.bytes_stored(state.raw())],
        token_states: kept
            .as_ref()
            .map_or([0; 2], |kept| [report.bytes_loaded(kept.raw()), report.bytes_stored(kept.raw())]),
        out: report.bytes_stored(out.raw()),
        A: report.bytes_loaded(inputs.A.raw()),
        sectors: [report.sectors_loaded(), report.sectors_stored()],
        instructions: report.lane_instructions(),
        flag: 0,
    });
    traffic.flag = flag.download()?[0];
    Ok(traffic)
}
