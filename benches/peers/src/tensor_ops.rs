//! The recurrence in tensors of candle, step by step, with the operations of the Mamba model in candle-transformers.

use crate::Result;
use crate::measure::Subject;
use crate::tensors::{Shape, Tensors};
use candle_core::{D, Device, Tensor};
use candle_nn::ops::silu;

/// A step: x, dt, z of shape (batch, dim), B and C of shape (batch, dstate).
struct Step {
    x: Tensor,
    dt: Tensor,
    z: Tensor,
    B: Tensor,
    C: Tensor,
}

/// The inputs, cut into steps.
pub struct Steps {
    shape: Shape,
    steps: Vec<Step>,
    A: Tensor,
    D: Tensor,
    dt_bias: Tensor,
}

impl Steps {
    /// Of tensors whose channels lie side by side.
    pub fn new(tensors: &Tensors) -> Result<Self> {
        let shape = tensors.shape;
        let Shape { batch, dim, seqlen, dstate } = shape;
        let cut = |data: &[f32], width: usize| -> Result<Vec<Tensor>> {
            let whole = Tensor::from_slice(data, (batch, seqlen, width), &Device::Cpu)?;
            // Contiguous each, as a model's projections leave them.
            (0..seqlen).map(|t| Ok(whole.narrow(1, t, 1)?.squeeze(1)?.force_contiguous()?)).collect()
        };
        let [x, dt, z] = [cut(&tensors.x, dim)?, cut(&tensors.dt, dim)?, cut(&tensors.z, dim)?];
        let [B, C] = [cut(&tensors.B, dstate)?, cut(&tensors.C, dstate)?];
        let steps = x.into_iter().zip(dt).zip(z).zip(B).zip(C);
        let channels = |data: &[f32]| Tensor::from_slice(data, dim, &Device::Cpu);
        Ok(Self {
            shape,
            steps: steps.map(|((((x, dt), z), B), C)| Step { x, dt, z, B, C }).collect(),
            A: Tensor::from_slice(&tensors.A, (dim, dstate), &Device::Cpu)?,
            D: channels(&tensors.D)?,
            dt_bias: channels(&tensors.dt_bias)?,
        })
    }

    fn no_states(&self) -> Result<Tensor> {
        let Shape { batch, dim, dstate, .. } = self.shape;
        Ok(Tensor::zeros((batch, dim, dstate), candle_core::DType::F32, &Device::Cpu)?)
    }

    fn step(&self, step: &Step, states: &mut Tensor) -> Result<Tensor> {
        let Shape { batch, dim, dstate, .. } = self.shape;
        let wide = (batch, dim, dstate);
        let dt = step.dt.broadcast_add(&self.dt_bias)?;
        let delta = (dt.exp()? + 1.0)?.log()?.unsqueeze(D::Minus1)?.broadcast_as(wide)?;
        // The model's B has no such dimension: a batch of one needs none.
        let B = step.B.unsqueeze(1)?.broadcast_as(wide)?;
        let x = step.x.unsqueeze(D::Minus1)?.broadcast_as(wide)?;
        let decay = (&delta * self.A.broadcast_as(wide)?)?.exp()?;
        *states = ((&*states * decay)? + ((&delta * &B)? * &x)?)?;
        let read = states.matmul(&step.C.unsqueeze(D::Minus1)?)?.squeeze(D::Minus1)?;
        let out = (read + step.x.broadcast_mul(&self.D)?)?;
        Ok((out * silu(&step.z)?)?)
    }

    fn run(&self) -> Result<Vec<Tensor>> {
        let mut states = self.no_states()?;
        self.steps.iter().map(|step| self.step(step, &mut states)).collect()
    }

    /// (batch, seqlen, dim).
    pub fn out(&self) -> Result<Vec<f32>> {
        Ok(Tensor::stack(&self.run()?, 1)?.flatten_all()?.to_vec1()?)
    }

    /// Outputs stay apart, one tensor a step.
    pub fn forward(&self) -> Subject<'_> {
        Subject::new("candle, tensor operations", move || self.run().map(drop))
    }

    pub fn decode(&self) -> Result<Subject<'_>> {
        let mut states = self.no_states()?;
        Ok(Subject::new("candle, tensor operations", move || self.step(&self.steps[0], &mut states).map(drop)))
    }
}
