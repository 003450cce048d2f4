//! A layer of a model: a selective scan of one sequence with its own A, on a GPU where there is one, else on the CPU.

// A, B, C and D are the field's names.
#![allow(non_snake_case)]

use ssm_kernels::prelude::*;
use ssm_kernels::{Error, Result};

/// Sizes and weights.
pub struct Layer {
    pub dim: usize,
    pub dstate: usize,
    /// (dim, dstate)
    pub A: Vec<f32>,
    /// (dim)
    pub D: Vec<f32>,
}

/// What a call is given: x and dt (dim, seqlen), B and C (dstate, seqlen).
pub struct Inputs {
    pub x: Vec<f32>,
    pub dt: Vec<f32>,
    pub B: Vec<f32>,
    pub C: Vec<f32>,
}

/// Gradients, shaped as what they are gradients of.
#[derive(Debug, PartialEq)]
pub struct Gradients {
    pub dx: Vec<f32>,
    pub ddt: Vec<f32>,
    pub dA: Vec<f32>,
    pub dB: Vec<f32>,
    pub dC: Vec<f32>,
    pub dD: Vec<f32>,
}

/// Where a layer runs.
pub enum Place {
    Cpu(Cpu),
    #[cfg(feature = "cuda")]
    Gpu(ssm_kernels::gpu::Driver),
}

impl Place {
    /// The first GPU, or the CPU if this machine has no driver or no device.
    pub fn best() -> Result<Self> {
        match Self::gpu() {
            Ok(gpu) => Ok(gpu),
            Err(Error::NoDriver | Error::NoDevice { .. } | Error::Unsupported { .. }) => Ok(Self::Cpu(Cpu::new())),
            Err(other) => Err(other),
        }
    }

    #[cfg(feature = "cuda")]
    pub fn gpu() -> Result<Self> {
        ssm_kernels::gpu::Driver::open(0).map(Self::Gpu)
    }

    #[cfg(not(feature = "cuda"))]
    pub fn gpu() -> Result<Self> {
        Err(Error::NoDriver)
    }
}

impl Layer {
    /// out (dim, seqlen).
    pub fn forward(&self, inputs: &Inputs, place: &Place) -> Result<Vec<f32>> {
        let scan = self.scan(inputs)?;
        let mut out = vec![0.0; inputs.x.len()];
        let mut view = ViewMut::new(&mut out, self.sequence(inputs));
        let outputs = SelectiveScanOutputs::new(&mut view);
        match place {
            Place::Cpu(cpu) => cpu.forward(&scan, outputs)?,
            #[cfg(feature = "cuda")]
            Place::Gpu(gpu) => gpu.on(ssm_kernels::gpu::Stream::null()).on_host().forward(&scan, outputs)?,
        }
        Ok(out)
    }

    /// The gradients of a loss whose gradient by out is `dout` (dim, seqlen).
    pub fn backward(&self, inputs: &Inputs, dout: &[f32], place: &Place) -> Result<Gradients> {
        let scan = self.scan(inputs)?;
        let zeros = |like: &[f32]| vec![0.0; like.len()];
        let Inputs { x, dt, B, C } = inputs;
        let mut gradients = Gradients {
            dx: zeros(x),
            ddt: zeros(dt),
            dA: zeros(&self.A),
            dB: zeros(B),
            dC: zeros(C),
            dD: zeros(&self.D),
        };
        let Gradients { dx, ddt, dA, dB, dC, dD } = &mut gradients;
        let (sequence, projection) = (self.sequence(inputs), self.projection(inputs));
        let (mut dx, mut ddt) = (ViewMut::new(dx, sequence), ViewMut::new(ddt, sequence));
        let (mut dB, mut dC) = (ViewMut::new(dB, projection), ViewMut::new(dC, projection));
        let (mut dA, mut dD) = (ViewMut::new(dA, self.matrix()), ViewMut::new(dD, [("dim", self.dim)]));
        let upstream = SelectiveScanUpstream::new().dout(View::new(dout, sequence));
        let wanted =
            SelectiveScanGradients::new().dx(&mut dx).ddt(&mut ddt).dA(&mut dA).dB(&mut dB).dC(&mut dC).dD(&mut dD);
        match place {
            Place::Cpu(cpu) => cpu.backward(&scan, upstream, wanted)?,
            #[cfg(feature = "cuda")]
            Place::Gpu(gpu) => gpu.on(ssm_kernels::gpu::Stream::null()).on_host().backward(&scan, upstream, wanted)?,
        }
        Ok(gradients)
    }

    fn scan<'a>(&'a self, inputs: &'a Inputs) -> Result<SelectiveScan<'a, f32>> {
        let (x, dt) = (View::new(&inputs.x, self.sequence(inputs)), View::new(&inputs.dt, self.sequence(inputs)));
        let (B, C) = (View::new(&inputs.B, self.projection(inputs)), View::new(&inputs.C, self.projection(inputs)));
        let scan = SelectiveScan::new(x, dt, View::new(&self.A, self.matrix()), B, C)?;
        Ok(scan.D(View::new(&self.D, [("dim", self.dim)])))
    }

    fn seqlen(&self, inputs: &Inputs) -> usize {
        inputs.x.len() / self.dim
    }

    fn sequence(&self, inputs: &Inputs) -> [(&'static str, usize); 3] {
        [("batch", 1), ("dim", self.dim), ("seqlen", self.seqlen(inputs))]
    }

    fn matrix(&self) -> [(&'static str, usize); 2] {
        [("dim", self.dim), ("dstate", self.dstate)]
    }

    fn projection(&self, inputs: &Inputs) -> [(&'static str, usize); 4] {
        [("batch", 1), ("ngroups", 1), ("dstate", self.dstate), ("seqlen", self.seqlen(inputs))]
    }
}
