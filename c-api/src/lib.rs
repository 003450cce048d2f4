//! The operators of `ssm-kernels` behind a C ABI: `include/ssm_kernels.h`, which `cargo xtask header` makes from here.
//!
//! Every tensor is an [`SsmTensor`], which is DLPack's `DLTensor`: what NumPy, PyTorch, JAX and others hand out. Where
//! x lies decides who computes: the CPU backend for host memory, the CUDA driver for device memory, enqueued on the
//! caller's stream. Equations, shapes and dtypes are those of the Rust crate; dimensions come in the order that the
//! structs name, in any memory order, by their strides.
//!
//! No output shares an element with another tensor of its call, as a call in place would: that is refused. Between the elements
//! of a tensor may lie those of others. Structs, shapes and strides are read during a call; the memory that they name must last
//! until its work is done.
//!
//! A call that is refused writes nothing, returns a status other than 0, and leaves its reason in
//! [`ssm_error_message`](status::ssm_error_message).

// A, B, C and D are the field's names.
#![allow(non_snake_case)]

pub mod conv;
mod lend;
pub mod on;
pub mod scan;
pub mod status;
pub mod tensor;
pub mod update;

pub use tensor::SsmTensor;

use std::ffi::c_char;

/// The version of the library, "major.minor.patch".
#[unsafe(no_mangle)]
pub extern "C" fn ssm_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
