//! The GPU backend's kernels on the emulator, checks on: every tensor is an allocation of its own, in which all but the
//! elements is forbidden, and outputs and workspace hold nothing that anyone wrote.

use super::backends::Backend;
use super::buffer::{Buffer, Placed};
use super::conv::{ConvBuffers, ConvCase, ConvGradients, ConvUpstream};
use super::conv_update::ConvUpdateCase;
use super::discretise::{DiscretiseBuffers, DiscretiseCase, GradientBuffers};
use super::emulator_conv::{conv_backward, conv_forward, conv_update};
use super::emulator_scan::{carry, scan_backward, scan_forward};
use super::emulator_update::state_update;
use super::scan::{ScanBuffers, ScanCase};
use super::scan_backward::{CarryCase, ScanGradients, ScanUpstream};
use super::state_update::{UpdateBuffers, UpdateCase};
use ssm_kernels::gpu::{Emulator, Mode};
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

    fn slow(&self) -> bool {
        true
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

    fn selective_scan_backward<T: Element>(
        &self,
        case: &ScanCase<T>,
        upstream: &ScanUpstream<T>,
        gradients: &mut ScanGradients<T>,
    ) -> Result<()> {
        scan_backward(&self.device(), case, upstream, gradients)
    }

    fn selective_scan_carry(&self, case: &CarryCase, carried: &mut Buffer<f32>) -> Result<()> {
        carry(&self.device(), case, carried)
    }

    fn causal_conv1d_forward<T: Element, W: Element>(
        &self,
        case: &ConvCase<T, W>,
        outputs: &mut ConvBuffers<T>,
    ) -> Result<()> {
        conv_forward(&self.device(), case, outputs)
    }

    fn causal_conv1d_backward<T: Element, W: Element>(
        &self,
        case: &ConvCase<T, W>,
        upstream: &ConvUpstream<T>,
        gradients: &mut ConvGradients<T, W>,
    ) -> Result<()> {
        conv_backward(&self.device(), case, upstream, gradients)
    }

    fn causal_conv1d_update<T: Element, W: Element>(
        &self,
        case: &ConvUpdateCase<T, W>,
        out: &mut Buffer<T>,
        state: &mut Buffer<T>,
    ) -> Result<()> {
        let flag = conv_update(&self.device(), case, out, state)?;
        assert!(flag.is_none_or(|flag| flag == 0), "no index of a case lies beyond the slots");
        Ok(())
    }

    fn state_update<T: Element, H: Element>(
        &self,
        case: &UpdateCase<T, H>,
        outputs: &mut UpdateBuffers<T, H>,
    ) -> Result<()> {
        state_update(&self.device(), case, outputs).map(|_| ())
    }
}

pub(super) fn optional<'e, T: Element>(
    device: &'e Emulator,
    name: &str,
    buffer: &Option<Buffer<T>>,
) -> Result<Option<Placed<'e, T>>> {
    buffer.as_ref().map(|buffer| buffer.input(device, name)).transpose()
}

pub(super) fn fetch<T: Element>(buffer: &mut Option<Buffer<T>>, placed: &Option<Placed<'_, T>>) -> Result<()> {
    buffer.iter_mut().zip(placed).try_for_each(|(buffer, placed)| buffer.fetch(placed))
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
