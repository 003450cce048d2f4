//! The inputs of a discretisation, and the domain that they broadcast to.

use super::{OP, Options};
use crate::error::{CliError, Result};
use crate::input::{Input, Typed};
use crate::memory::elements;
use crate::tensor::Io;
use ssm_kernels::prelude::*;
use ssm_kernels::{Axes, Axis, MAX_RANK};

const AXES: [&str; MAX_RANK] = ["axis0", "axis1", "axis2", "axis3"];

/// Every input that the file has.
pub(super) struct Tensors<'f, T: Clone> {
    step: &'static str,
    dt: Typed<'f, T>,
    A: Typed<'f, f32>,
    B: Typed<'f, T>,
    dt_bias: Option<Typed<'f, f32>>,
    lambda: Option<Typed<'f, T>>,
    domain: Vec<usize>,
}

impl<'f, T: Io> Tensors<'f, T> {
    /// From a file; dtypes and shapes are checked.
    pub fn load(input: &Input<'f>, options: &Options) -> Result<Self> {
        let step = if options.effective { "delta" } else { "dt" };
        let (dt, A, B) = (input.typed(step)?, input.typed("A")?, input.typed("B")?);
        let (dt_bias, lambda) = (input.optional("dt_bias")?, input.optional("lambda")?);
        let mut tensors = Self { step, dt, A, B, dt_bias, lambda, domain: vec![] };
        tensors.domain = broadcast(&tensors.shapes())?;
        Ok(tensors)
    }

    /// The extents of every result.
    pub fn domain(&self) -> &[usize] {
        &self.domain
    }

    /// Whether dt_bias is one of them.
    pub fn has_dt_bias(&self) -> bool {
        self.dt_bias.is_some()
    }

    fn shapes(&self) -> Vec<(&'static str, &[usize])> {
        let mut shapes: Vec<(&'static str, &[usize])> =
            vec![(self.step, &self.dt.shape), ("A", &self.A.shape), ("B", &self.B.shape)];
        shapes.extend(self.dt_bias.iter().map(|tensor| ("dt_bias", tensor.shape.as_slice())));
        shapes.extend(self.lambda.iter().map(|tensor| ("lambda", tensor.shape.as_slice())));
        shapes
    }

    /// The arguments of the call, every view over the whole domain.
    pub fn op(&self, options: &Options) -> Result<Discretise<'_, T>> {
        let (dt, A, B) = (self.view(self.step, &self.dt)?, self.view("A", &self.A)?, self.view("B", &self.B)?);
        let mut op = Discretise::new(options.rule, dt, A, B)?.dt_softplus(options.dt_softplus);
        if let Some(dt_bias) = &self.dt_bias {
            op = op.dt_bias(self.view("dt_bias", dt_bias)?);
        }
        if let Some(lambda) = &self.lambda {
            op = op.lambda(self.view("lambda", lambda)?);
        }
        Ok(match options.dt_limit {
            Some(dt_limit) => op.dt_limit(dt_limit),
            None => op,
        })
    }

    /// A tensor over the whole domain, with stride 0 where it is broadcast.
    pub fn view<'v, U: Clone>(&self, name: &str, tensor: &'v Typed<'_, U>) -> Result<View<'v, U>> {
        fits(name, &tensor.shape, &self.domain)?;
        let mut axes = vec![];
        let (mut stride, missing) = (1, self.domain.len() - tensor.shape.len());
        for (i, &extent) in self.domain.iter().enumerate().rev() {
            let own = if i < missing { 1 } else { tensor.shape[i - missing] };
            axes.push(Axis { name: AXES[i], extent, stride: if own == extent { stride } else { 0 } });
            stride *= own.max(1) as i64;
        }
        axes.reverse();
        Ok(View::from_parts(&*tensor.data, Axes::from_slice(&axes)?))
    }

    /// A result over the domain.
    pub fn view_mut<'v, U>(&self, data: &'v mut [U]) -> Result<ViewMut<'v, U>> {
        let mut axes = vec![];
        let mut stride = 1;
        for (i, &extent) in self.domain.iter().enumerate().rev() {
            axes.push(Axis { name: AXES[i], extent, stride });
            stride *= extent.max(1) as i64;
        }
        axes.reverse();
        Ok(ViewMut::from_parts(data, Axes::from_slice(&axes)?))
    }
}

/// The shape that all of these broadcast to: aligned at the right, extents of 1 stretched.
fn broadcast(shapes: &[(&'static str, &[usize])]) -> Result<Vec<usize>> {
    let rank = shapes.iter().map(|(_, shape)| shape.len()).max().unwrap_or(0);
    let mut domain = vec![1; rank.min(MAX_RANK)];
    for (name, shape) in shapes {
        if shape.len() > MAX_RANK {
            let expected = format!("at most {MAX_RANK} dimensions");
            return Err(CliError::value(OP, name, format!("has shape {shape:?}"), expected));
        }
        let offset = domain.len() - shape.len();
        for (wide, &extent) in domain[offset..].iter_mut().zip(*shape) {
            if *wide == 1 {
                *wide = extent;
            }
        }
    }
    shapes.iter().try_for_each(|(name, shape)| fits(name, shape, &domain))?;
    elements("the broadcast of all inputs", &domain)?;
    Ok(domain)
}

fn fits(name: &str, shape: &[usize], domain: &[usize]) -> Result<()> {
    let matches = |(&own, &wide): (&usize, &usize)| own == wide || own == 1;
    if shape.len() <= domain.len() && shape.iter().rev().zip(domain.iter().rev()).all(matches) {
        return Ok(());
    }
    let expected = format!("one that broadcasts to {domain:?}");
    Err(CliError::value(OP, name, format!("has shape {shape:?}"), expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasting_is_numpys() {
        assert_eq!(broadcast(&[("a", &[2, 1, 4]), ("b", &[3, 1]), ("c", &[])]).unwrap(), [2, 3, 4]);
        assert_eq!(broadcast(&[("a", &[1]), ("b", &[0])]).unwrap(), [0]);
        for wrong in [&[2usize, 3][..], &[5], &[1, 1, 1, 1, 4]] {
            let error = broadcast(&[("a", &[2, 4]), ("b", wrong)]).unwrap_err().to_string();
            assert!(error.contains("`b`") && error.contains("expected"), "{error}");
        }
    }
}
