//! What a backend has to be for `ssm bench` and `ssm check`: every operator that has kernels everywhere, in the directions that
//! it has; and what a backend may be without.

use crate::tensor::Io;
use half::{bf16, f16};
use ssm_kernels::prelude::*;
use ssm_kernels::{Host, Storage};

/// The causal convolution of elements of `T` with weights of `W`.
pub trait Convolves<T: Io, W: Io, S: Storage = Host>:
    for<'a> Forward<CausalConv1d<'a, T, W, S>>
    + for<'a> Backward<CausalConv1d<'a, T, W, S>>
    + for<'a> Forward<CausalConv1dUpdate<'a, T, W, S>>
{
}

impl<T: Io, W: Io, S: Storage, B> Convolves<T, W, S> for B where
    B: for<'a> Forward<CausalConv1d<'a, T, W, S>>
        + for<'a> Backward<CausalConv1d<'a, T, W, S>>
        + for<'a> Forward<CausalConv1dUpdate<'a, T, W, S>>
{
}

/// Every operator on elements of `T` in memory of one kind.
pub trait Runs<T: Io, S: Storage = Host>:
    for<'a> Forward<SelectiveScan<'a, T, S>>
    + for<'a> Backward<SelectiveScan<'a, T, S>>
    + for<'a> Forward<Discretise<'a, T, S>>
    + for<'a> Backward<Discretise<'a, T, S>>
    + for<'a> Forward<StateUpdate<'a, T, f32, S>>
    + for<'a> Forward<StateUpdate<'a, T, f16, S>>
    + for<'a> Forward<StateUpdate<'a, T, bf16, S>>
    + Convolves<T, f32, S>
    + Convolves<T, f16, S>
    + Convolves<T, bf16, S>
{
}

impl<T: Io, S: Storage, B> Runs<T, S> for B where
    B: for<'a> Forward<SelectiveScan<'a, T, S>>
        + for<'a> Backward<SelectiveScan<'a, T, S>>
        + for<'a> Forward<Discretise<'a, T, S>>
        + for<'a> Backward<Discretise<'a, T, S>>
        + for<'a> Forward<StateUpdate<'a, T, f32, S>>
        + for<'a> Forward<StateUpdate<'a, T, f16, S>>
        + for<'a> Forward<StateUpdate<'a, T, bf16, S>>
        + Convolves<T, f32, S>
        + Convolves<T, f16, S>
        + Convolves<T, bf16, S>
{
}

/// The same on every dtype.
pub trait RunsAll: Runs<f32> + Runs<f16> + Runs<bf16> {}

impl<B: Runs<f32> + Runs<f16> + Runs<bf16>> RunsAll for B {}

/// Squared attention of elements of `T`, both ways and for decoding. It has no GPU kernels: a backend may be without it.
pub trait Attends<T: Io, S: Storage = Host>:
    for<'a> Forward<SquaredAttention<'a, T, S>>
    + for<'a> Backward<SquaredAttention<'a, T, S>>
    + for<'a> Forward<SquaredAttentionUpdate<'a, T, f32, S>>
    + for<'a> Forward<SquaredAttentionUpdate<'a, T, f16, S>>
    + for<'a> Forward<SquaredAttentionUpdate<'a, T, bf16, S>>
{
}

impl<T: Io, S: Storage, B> Attends<T, S> for B where
    B: for<'a> Forward<SquaredAttention<'a, T, S>>
        + for<'a> Backward<SquaredAttention<'a, T, S>>
        + for<'a> Forward<SquaredAttentionUpdate<'a, T, f32, S>>
        + for<'a> Forward<SquaredAttentionUpdate<'a, T, f16, S>>
        + for<'a> Forward<SquaredAttentionUpdate<'a, T, bf16, S>>
{
}

/// The same on every dtype.
pub trait AttendsAll: Attends<f32> + Attends<f16> + Attends<bf16> {}

impl<B: Attends<f32> + Attends<f16> + Attends<bf16>> AttendsAll for B {}
