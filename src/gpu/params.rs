//! Kernel parameters from checked tensors. The structs are made from kernels-cu/params.h by `cargo xtask bindings`.

use crate::ops::StepOptions;
use crate::tensor::{Device, MAX_RANK, Strided, StridedMut};

#[allow(dead_code, missing_docs, non_camel_case_types, non_upper_case_globals, unused_imports)]
#[rustfmt::skip]
#[path = "../../kernels-rs/params.rs"]
mod bindings;

pub(super) use bindings::*;

macro_rules! plain_old_data {
    ($($type:ty: $size:expr,)*) => {$(
        const _: () = assert!(size_of::<$type>() == $size, "padding, or a field that is not counted");
        // SAFETY: repr(C), all fields are integers or floats, for which zero is a value, or such structs.
        unsafe impl bytemuck::Zeroable for $type {}
        // SAFETY: as above, and without padding: the size is the sum of the fields' sizes.
        unsafe impl bytemuck::Pod for $type {}
    )*};
}
plain_old_data! {
    SsmSpans: 4 * 8 + 4 * 4,
    SsmSelectiveScanFwd: 4 * 32 + 24 + 2 * 56 + 2 * 16 + 3 * 32 + 8 + 24 + size_of::<SsmSpans>() + 4 * 4 + 16,
    SsmProjectionSum: 6 * 8 + 2 * 4,
    SsmSelectiveScanBwd: 4 * 32 + 24 + 2 * 56 + 2 * 16 + 4 * 32 + 3 * 32 + 2 * size_of::<SsmProjectionSum>() + 3 * 32
        + 3 * 24 + 2 * 8 + size_of::<SsmSpans>() + 10 * 4 + 16,
    SsmSelectiveScanCarry: 24 + 4 * 40 + 4 * 8 + 2 * 4,
    SsmSelectiveScanSum: 2 * 40 + 4 * 8 + 3 * 8,
    SsmTaps: 5 * 8 + 2 * 4,
    SsmTiles: 2 * 8 + 4 * 4,
    SsmCausalConv1dFwd: 2 * 32 + size_of::<SsmTaps>() + 2 * 32 + size_of::<SsmTiles>() + 2 * 4,
    SsmCausalConv1dBwd: 3 * 32 + size_of::<SsmTaps>() + 3 * 32 + 8 + size_of::<SsmTiles>() + 2 * 4,
    SsmCausalConv1dSum: size_of::<SsmTaps>() + 8 + size_of::<SsmTiles>(),
    SsmCausalConv1dUpdate: 2 * 32 + size_of::<SsmTaps>() + 32 + 5 * 8 + 4 * 4,
    SsmDiscretise: 5 * 40 + 4 * 8 + 2 * 4 + 16,
    SsmDiscretiseFwd: size_of::<SsmDiscretise>() + 4 * 40,
    SsmDiscretiseBwd: size_of::<SsmDiscretise>() + 9 * 40,
    SsmStateUpdate: 11 * 40 + 4 * 8 + 12 * 4 + 16,
}

/// x, dt, z.
pub(super) fn sequence<T>(tensor: Option<&Strided<'_, T, Device, 3>>) -> SsmSequence {
    tensor.map_or_else(Default::default, |tensor| sequence_at(tensor.memory.address(), tensor.layout.strides))
}

/// out, dx, ddt, dz.
pub(super) fn sequence_mut<T>(tensor: Option<&StridedMut<'_, T, Device, 3>>) -> SsmSequence {
    tensor.map_or_else(Default::default, |tensor| sequence_at(tensor.memory.address(), tensor.layout.strides))
}

fn sequence_at(address: u64, [batch_stride, dim_stride, seqlen_stride]: [i64; 3]) -> SsmSequence {
    SsmSequence { address, batch_stride, dim_stride, seqlen_stride }
}

/// initial_state.
pub(super) fn state<T>(tensor: Option<&Strided<'_, T, Device, 3>>) -> SsmState {
    tensor.map_or_else(Default::default, |tensor| state_at(tensor.memory.address(), tensor.layout.strides))
}

/// final_state, chunk_states.
pub(super) fn state_mut<T>(tensor: Option<&StridedMut<'_, T, Device, 3>>) -> SsmState {
    tensor.map_or_else(Default::default, |tensor| state_at(tensor.memory.address(), tensor.layout.strides))
}

/// States anywhere.
pub(super) fn state_at(address: u64, [batch_stride, dim_stride, dstate_stride]: [i64; 3]) -> SsmState {
    SsmState { address, batch_stride, dim_stride, dstate_stride }
}

/// A.
pub(super) fn matrix(tensor: &Strided<'_, f32, Device, 2>) -> SsmMatrix {
    let [dim_stride, dstate_stride] = tensor.layout.strides;
    SsmMatrix { address: tensor.memory.address(), dim_stride, dstate_stride }
}

/// dA, and dB and dC of constant projections.
pub(super) fn matrix_mut(tensor: Option<&StridedMut<'_, f32, Device, 2>>) -> SsmMatrix {
    tensor.map_or_else(Default::default, |tensor| {
        let [dim_stride, dstate_stride] = tensor.layout.strides;
        SsmMatrix { address: tensor.memory.address(), dim_stride, dstate_stride }
    })
}

/// D, dt_bias.
pub(super) fn vector(tensor: Option<&Strided<'_, f32, Device, 1>>) -> SsmVector {
    tensor.map_or_else(Default::default, |tensor| SsmVector {
        address: tensor.memory.address(),
        dim_stride: tensor.layout.strides[0],
    })
}

/// dD, ddt_bias.
pub(super) fn vector_mut(tensor: Option<&StridedMut<'_, f32, Device, 1>>) -> SsmVector {
    tensor.map_or_else(Default::default, |tensor| SsmVector {
        address: tensor.memory.address(),
        dim_stride: tensor.layout.strides[0],
    })
}

/// delta_sum.
pub(super) fn rows_mut(tensor: Option<&StridedMut<'_, f32, Device, 2>>) -> SsmRows {
    tensor.map_or_else(Default::default, |tensor| {
        let [batch_stride, dim_stride] = tensor.layout.strides;
        SsmRows { address: tensor.memory.address(), batch_stride, dim_stride }
    })
}

/// An input over a domain.
pub(super) fn wide<T>(tensor: Option<&Strided<'_, T, Device, MAX_RANK>>) -> SsmWide {
    tensor.map_or_else(Default::default, |tensor| SsmWide {
        address: tensor.memory.address(),
        strides: tensor.layout.strides,
    })
}

/// An input over the last dimensions of a domain.
pub(super) fn last_of_wide<T, const R: usize>(tensor: Option<&Strided<'_, T, Device, R>>) -> SsmWide {
    tensor.map_or_else(Default::default, |tensor| {
        let mut strides = [0; MAX_RANK];
        strides[MAX_RANK - R..].copy_from_slice(&tensor.layout.strides);
        SsmWide { address: tensor.memory.address(), strides }
    })
}

/// An output over a domain.
pub(super) fn wide_mut<T>(tensor: Option<&StridedMut<'_, T, Device, MAX_RANK>>) -> SsmWide {
    tensor.map_or_else(Default::default, |tensor| SsmWide {
        address: tensor.memory.address(),
        strides: tensor.layout.strides,
    })
}

/// dt to delta.
pub(super) fn step(options: StepOptions) -> SsmStep {
    let (min, max) = options.limit.unwrap_or((0.0, 0.0));
    SsmStep { softplus: options.softplus.into(), limited: options.limit.is_some().into(), min, max }
}
