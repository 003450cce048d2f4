//! Tensors as files hold them: dense, row-major, one of five dtypes.

use half::{bf16, f16};
use ssm_kernels::Element;
use std::borrow::Cow;

/// An element type of a file.
pub trait Scalar: bytemuck::Pod {
    /// Its name there.
    const STORED: safetensors::Dtype;
    /// A vector of it as data of a result.
    fn into_data(vec: Vec<Self>) -> Data;
}

/// f32, f16 or bf16: what an operator reads and writes.
pub trait Io: Element + Scalar {}
impl<T: Element + Scalar> Io for T {}

macro_rules! scalar {
    ($($type:ident $variant:ident),*) => {
        /// The elements of a result.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Data {
            $(#[doc = concat!(stringify!($type), ".")] $variant(Vec<$type>)),*
        }

        impl Data {
            /// The name of the element type.
            pub fn dtype(&self) -> safetensors::Dtype {
                match self {
                    $(Data::$variant(_) => safetensors::Dtype::$variant),*
                }
            }

            /// The elements as stored.
            pub fn bytes(&self) -> &[u8] {
                match self {
                    $(Data::$variant(vec) => bytemuck::cast_slice(vec)),*
                }
            }
        }

        $(impl Scalar for $type {
            const STORED: safetensors::Dtype = safetensors::Dtype::$variant;
            fn into_data(vec: Vec<Self>) -> Data {
                Data::$variant(vec)
            }
        })*
    };
}
scalar!(f64 F64, f32 F32, f16 F16, bf16 BF16, i32 I32);

impl Data {
    /// The elements, exactly.
    pub fn to_f64(&self) -> Cow<'_, [f64]> {
        match self {
            Data::F64(vec) => Cow::Borrowed(vec),
            Data::F32(vec) => vec.iter().map(|&v| v.into()).collect(),
            Data::F16(vec) => vec.iter().map(|v| v.to_f64()).collect(),
            Data::BF16(vec) => vec.iter().map(|v| v.to_f64()).collect(),
            Data::I32(vec) => vec.iter().map(|&v| v.into()).collect(),
        }
    }

    /// The elements of what backends compute, exactly; the others rounded.
    pub fn into_f32(self) -> Vec<f32> {
        match self {
            Data::F32(vec) => vec,
            Data::F16(vec) => vec.into_iter().map(f16::to_f32).collect(),
            Data::BF16(vec) => vec.into_iter().map(bf16::to_f32).collect(),
            other => other.to_f64().iter().map(|&v| v as f32).collect(),
        }
    }
}

/// A result.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Its name in files.
    pub name: &'static str,
    /// Extents, last dimension fastest.
    pub shape: Vec<usize>,
    /// Elements.
    pub data: Data,
}
