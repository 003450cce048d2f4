//! What a backend has to be for `ssm bench` and `ssm check`: every operator, in the directions that it has.

use crate::tensor::Io;
use half::{bf16, f16};
use ssm_kernels::prelude::*;

/// The causal convolution of elements of `T` with weights of `W`.
pub trait Convolves<T: Io, W: Io>:
    for<'a> Forward<CausalConv1d<'a, T, W>>
    + for<'a> Backward<CausalConv1d<'a, T, W>>
    + for<'a> Forward<CausalConv1dUpdate<'a, T, W>>
{
}

impl<T: Io, W: Io, B> Convolves<T, W> for B where
    B: for<'a> Forward<CausalConv1d<'a, T, W>>
        + for<'a> Backward<CausalConv1d<'a, T, W>>
        + for<'a> Forward<CausalConv1dUpdate<'a, T, W>>
{
}

/// Every operator on elements of `T`.
pub trait Runs<T: Io>:
    for<'a> Forward<SelectiveScan<'a, T>>
    + for<'a> Backward<SelectiveScan<'a, T>>
    + for<'a> Forward<Discretise<'a, T>>
    + for<'a> Backward<Discretise<'a, T>>
    + for<'a> Forward<StateUpdate<'a, T, f32>>
    + for<'a> Forward<StateUpdate<'a, T, f16>>
    + for<'a> Forward<StateUpdate<'a, T, bf16>>
    + Convolves<T, f32>
    + Convolves<T, f16>
    + Convolves<T, bf16>
{
}

impl<T: Io, B> Runs<T> for B where
    B: for<'a> Forward<SelectiveScan<'a, T>>
        + for<'a> Backward<SelectiveScan<'a, T>>
        + for<'a> Forward<Discretise<'a, T>>
        + for<'a> Backward<Discretise<'a, T>>
        + for<'a> Forward<StateUpdate<'a, T, f32>>
        + for<'a> Forward<StateUpdate<'a, T, f16>>
        + for<'a> Forward<StateUpdate<'a, T, bf16>>
        + Convolves<T, f32>
        + Convolves<T, f16>
        + Convolves<T, bf16>
{
}

/// The same on every dtype.
pub trait RunsAll: Runs<f32> + Runs<f16> + Runs<bf16> {}

impl<B: Runs<f32> + Runs<f16> + Runs<bf16>> RunsAll for B {}
