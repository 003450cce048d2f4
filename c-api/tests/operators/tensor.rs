//! Tensors, structs and messages of tests.

use half::{bf16, f16};
use ssm_kernels::prelude::*;
use ssm_kernels::{Axes, Axis};
use ssm_kernels_c::status::{SSM_OK, ssm_error_message};
use ssm_kernels_c::tensor::{SsmDevice, SsmDtype, SsmTensor};
use std::ffi::{CStr, c_int};

/// A tensor with what it points to.
pub struct Tensor<T> {
    pub data: Vec<T>,
    pub shape: Vec<i64>,
    pub strides: Vec<i64>,
    pub names: Vec<&'static str>,
    pub c: SsmTensor,
}

pub trait Kind: Copy {
    const KIND: SsmDtype;
    fn of(value: f32) -> Self;
}
macro_rules! kinds {
    ($($type:ty: $code:literal, $bits:literal, $of:expr;)*) => {
        $(impl Kind for $type {
            const KIND: SsmDtype = SsmDtype { code: $code, bits: $bits, lanes: 1 };
            fn of(value: f32) -> Self {
                $of(value)
            }
        })*
    };
}
kinds! { f32: 2, 32, |v| v; f16: 2, 16, f16::from_f32; bf16: 4, 16, bf16::from_f32; i32: 0, 32, |v| v as i32; }

/// The dimensions in order, and how they lie: `order[0]` slowest.
pub fn tensor<T: Kind>(dims: &[(&'static str, usize)], order: &[usize], fill: impl FnMut() -> T) -> Box<Tensor<T>> {
    let mut strides = vec![0i64; dims.len()];
    let mut stride = 1;
    for &axis in order.iter().rev() {
        strides[axis] = stride;
        stride *= dims[axis].1 as i64;
    }
    let mut data: Vec<T> = std::iter::repeat_with(fill).take(stride as usize).collect();
    let mut shape: Vec<i64> = dims.iter().map(|dim| dim.1 as i64).collect();
    let c = SsmTensor {
        data: data.as_mut_ptr().cast(),
        device: SsmDevice { device_type: 1, device_id: 0 },
        ndim: dims.len() as i32,
        dtype: T::KIND,
        shape: shape.as_mut_ptr(),
        strides: strides.as_mut_ptr(),
        byte_offset: 0,
    };
    Box::new(Tensor { data, shape, strides, names: dims.iter().map(|dim| dim.0).collect(), c })
}

impl<T: Kind> Tensor<T> {
    fn axes(&self) -> Axes {
        let axis = |i: usize| Axis { name: self.names[i], extent: self.shape[i] as usize, stride: self.strides[i] };
        Axes::from_slice(&(0..self.names.len()).map(axis).collect::<Vec<_>>()).expect("few dimensions")
    }

    pub fn view(&self) -> View<'_, T> {
        View::from_parts(&self.data[..], self.axes())
    }

    pub fn view_mut(&mut self) -> ViewMut<'_, T> {
        let axes = self.axes();
        ViewMut::from_parts(&mut self.data[..], axes)
    }

    pub fn c(&self) -> *const SsmTensor {
        &self.c
    }

    /// Another of the same extents, for what Rust writes.
    pub fn twin(&self) -> Box<Self> {
        let dims: Vec<_> = self.names.iter().copied().zip(self.shape.iter().map(|&extent| extent as usize)).collect();
        let mut order: Vec<usize> = (0..dims.len()).collect();
        order.sort_by_key(|&axis| std::cmp::Reverse((self.strides[axis], dims[axis].1)));
        let mut values = self.data.iter().copied();
        tensor(&dims, &order, || values.next().expect("as many"))
    }
}

pub fn random() -> impl FnMut() -> f32 {
    let mut seed = 1u32;
    move || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as f32 / (1 << 24) as f32 - 0.5
    }
}

macro_rules! zeroed {
    ($type:ty { $($field:ident: $value:expr),* $(,)? }) => {{
        // SAFETY: all zeros is a value of the structs of the header.
        let mut made: $type = unsafe { std::mem::zeroed() };
        made.size = size_of::<$type>();
        $(made.$field = $value;)*
        made
    }};
}
pub(crate) use zeroed;

pub fn message() -> String {
    // SAFETY: the text lives until the next failure of this thread.
    unsafe { CStr::from_ptr(ssm_error_message()) }.to_string_lossy().into_owned()
}

pub fn ok(status: c_int) {
    assert_eq!(status, SSM_OK, "{}", message());
}

pub const BATCH: usize = 2;
pub const DIM: usize = 6;
pub const SEQLEN: usize = 37;
pub const DSTATE: usize = 5;
pub const SEQUENCE: [(&str, usize); 3] = [("batch", BATCH), ("dim", DIM), ("seqlen", SEQLEN)];
pub const STATE: [(&str, usize); 3] = [("batch", BATCH), ("dim", DIM), ("dstate", DSTATE)];
pub const MATRIX: [(&str, usize); 2] = [("dim", DIM), ("dstate", DSTATE)];
pub const PROJECTION: [(&str, usize); 4] = [("batch", BATCH), ("ngroups", 2), ("dstate", DSTATE), ("seqlen", SEQLEN)];
