//! The causal convolution on the emulator: every tensor placed on the device, run, and fetched.

use super::buffer::{Buffer, Placed};
use super::conv::{ConvBuffers, ConvCase, ConvGradients, ConvUpstream};
use super::conv_update::ConvUpdateCase;
use super::emulator::{fetch, optional};
use ssm_kernels::gpu::{EmulatedBuffer, Emulator};
use ssm_kernels::prelude::*;
use ssm_kernels::{Device, Element, Result};

/// What a convolution reads, on the device.
struct ConvInputs<'e, T: Element, W: Element> {
    x: Placed<'e, T>,
    weight: Placed<'e, W>,
    bias: Option<Placed<'e, W>>,
    initial_state: Option<Placed<'e, T>>,
    table: Option<EmulatedBuffer<'e, i32>>,
}

impl<'e, T: Element, W: Element> ConvInputs<'e, T, W> {
    fn new(device: &'e Emulator, case: &ConvCase<T, W>) -> Result<Self> {
        let table = case.segments.as_ref().map(|segments| device.upload(segments.cu_seqlens())).transpose()?;
        Ok(Self {
            x: case.x.input(device, "x")?,
            weight: case.weight.input(device, "weight")?,
            bias: optional(device, "bias", &case.bias)?,
            initial_state: optional(device, "initial_state", &case.initial_state)?,
            table: table.map(|table| table.named("cu_seqlens")),
        })
    }

    fn op<'v>(&'v self, case: &'v ConvCase<T, W>) -> Result<CausalConv1d<'v, T, W, Device>> {
        let mut op = CausalConv1d::new(self.x.view()?, self.weight.view()?)?.silu(case.silu);
        if let Some(bias) = &self.bias {
            op = op.bias(bias.view()?);
        }
        if let Some(initial_state) = &self.initial_state {
            op = op.initial_state(initial_state.view()?);
        }
        if let (Some(segments), Some(table)) = (&case.segments, &self.table) {
            // SAFETY: the table was made from these segments.
            op = unsafe { op.segments_on(segments, table.slice()) };
        }
        Ok(op)
    }
}

/// One convolution.
pub fn conv_forward<T: Element, W: Element>(
    device: &Emulator,
    case: &ConvCase<T, W>,
    outputs: &mut ConvBuffers<T>,
) -> Result<()> {
    let inputs = ConvInputs::new(device, case)?;
    let mut out = outputs.out.output(device, "out")?;
    let final_state = outputs.final_state.as_ref().map(|buffer| buffer.output(device, "final_state"));
    let mut final_state = final_state.transpose()?;
    let done = {
        let (mut view, mut state) = (out.view_mut()?, final_state.as_mut().map(Placed::view_mut).transpose()?);
        let wanted = state.iter_mut().fold(CausalConv1dOutputs::new(&mut view), CausalConv1dOutputs::final_state);
        device.gpu().forward(&inputs.op(case)?, wanted)
    };
    outputs.out.fetch(&out)?;
    fetch(&mut outputs.final_state, &final_state)?;
    done
}

/// A gradient's place on the device.
fn room<'e, T: Element>(device: &'e Emulator, name: &str, buffer: &Option<Buffer<T>>) -> Result<Option<Placed<'e, T>>> {
    buffer.as_ref().map(|buffer| buffer.output(device, name)).transpose()
}

/// One convolution backward.
pub fn conv_backward<T: Element, W: Element>(
    device: &Emulator,
    case: &ConvCase<T, W>,
    upstream: &ConvUpstream<T>,
    gradients: &mut ConvGradients<T, W>,
) -> Result<()> {
    let inputs = ConvInputs::new(device, case)?;
    let (dout, dfinal) =
        (optional(device, "dout", &upstream.dout)?, optional(device, "dfinal_state", &upstream.dfinal_state)?);
    let mut by = CausalConv1dUpstream::new();
    if let Some(dout) = &dout {
        by = by.dout(dout.view()?);
    }
    if let Some(dfinal) = &dfinal {
        by = by.dfinal_state(dfinal.view()?);
    }
    let (mut dx, mut dweight) = (room(device, "dx", &gradients.dx)?, room(device, "dweight", &gradients.dweight)?);
    let mut dbias = room(device, "dbias", &gradients.dbias)?;
    let mut dinitial = room(device, "dinitial_state", &gradients.dinitial_state)?;
    let done = {
        let mut views = (
            dx.as_mut().map(Placed::view_mut).transpose()?,
            dweight.as_mut().map(Placed::view_mut).transpose()?,
            dbias.as_mut().map(Placed::view_mut).transpose()?,
            dinitial.as_mut().map(Placed::view_mut).transpose()?,
        );
        let mut wanted = CausalConv1dGradients::new();
        wanted = views.0.iter_mut().fold(wanted, CausalConv1dGradients::dx);
        wanted = views.1.iter_mut().fold(wanted, CausalConv1dGradients::dweight);
        wanted = views.2.iter_mut().fold(wanted, CausalConv1dGradients::dbias);
        wanted = views.3.iter_mut().fold(wanted, CausalConv1dGradients::dinitial_state);
        device.gpu().backward(&inputs.op(case)?, by, wanted)
    };
    fetch(&mut gradients.dx, &dx)?;
    fetch(&mut gradients.dweight, &dweight)?;
    fetch(&mut gradients.dbias, &dbias)?;
    fetch(&mut gradients.dinitial_state, &dinitial)?;
    done
}

/// One update; `state` holds the state before it. Returns the flag word, if there are indices.
pub fn conv_update<T: Element, W: Element>(
    device: &Emulator,
    case: &ConvUpdateCase<T, W>,
    out: &mut Buffer<T>,
    state: &mut Buffer<T>,
) -> Result<Option<u32>> {
    let (x, weight) = (case.x.input(device, "x")?, case.weight.input(device, "weight")?);
    let bias = optional(device, "bias", &case.bias)?;
    let list = |name: &str, list: &Option<Vec<i32>>| {
        list.as_ref().map(|list| Ok(device.upload(list)?.named(name))).transpose()
    };
    let lengths: Option<EmulatedBuffer<'_, i32>> = list("cache_seqlens", &case.cache_seqlens)?;
    let indices: Option<EmulatedBuffer<'_, i32>> = list("state_indices", &case.state_indices)?;
    let mut op = CausalConv1dUpdate::new(x.view()?, weight.view()?)?.silu(case.silu);
    if let Some(bias) = &bias {
        op = op.bias(bias.view()?);
    }
    if let Some(lengths) = &lengths {
        op = op.cache_seqlens_on(lengths.slice());
    }
    if let Some(indices) = &indices {
        // SAFETY: cases have no slot twice.
        op = unsafe { op.state_indices_on(indices.slice()) };
    }
    let mut flag = device.upload(&[0u32])?.named("out_of_range");
    let (mut out_placed, mut state_placed) = (out.output(device, "out")?, state.input(device, "conv_state")?);
    let done = {
        let (mut out, mut state) = (out_placed.view_mut()?, state_placed.view_mut()?);
        let mut flag = flag.view_mut([("flag", 1)]);
        let wanted = CausalConv1dUpdateOutputs::new(&mut out, &mut state);
        device.gpu().forward(&op, if indices.is_some() { wanted.out_of_range(&mut flag) } else { wanted })
    };
    out.fetch(&out_placed)?;
    state.fetch(&state_placed)?;
    done?;
    Ok(indices.is_some().then_some(flag.download()?[0]))
}
