//! Where and with what memory a call runs.

use crate::lend::Lend;
use crate::status::refuse;
use ssm_kernels::ops::{Backward, Differentiable, Forward, Operator};
use ssm_kernels::prelude::*;
use ssm_kernels::{Error, WorkspaceBlock};
use std::ffi::c_void;
use std::ops::Range;

/// Where and with what memory a call runs. A null pointer in its place stands for all zeros.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SsmOn {
    /// sizeof(SsmOn).
    pub size: usize,
    /// CUDA: the `CUstream` (or `cudaStream_t`) that the call is enqueued on, of the primary context of the device of x; null
    /// is the default stream. Not used for host memory.
    pub stream: *mut c_void,
    /// Memory on the device of x, aligned to 256 bytes, for what `..._plan` says, or null: then the call allocates (and,
    /// on a device, frees in stream order). Needs no initialisation; apart from all tensors of the call; not shared by calls that may run at the same time.
    pub workspace: *mut c_void,
    /// Bytes of it.
    pub workspace_bytes: usize,
    /// Host memory: run on the calling thread alone, and not on all cores.
    pub single_thread: bool,
    /// Zeros, for what later versions add.
    pub reserved: [u8; 7],
}

/// A struct that C hands over: its first field says how much of it the caller knows. It has no padding, whose bytes C may
/// leave at anything: what would be some is a field, `reserved`, and must be zeros, so that a later version may use it.
///
/// # Safety
/// All zeros is a value, and the first field is a usize named size.
pub(crate) unsafe trait Struct: Copy {
    const NAME: &'static str;
    /// Bytes of `reserved`.
    const RESERVED: Range<usize>;
}

/// The struct, with zeros for what the caller's header does not have yet.
///
/// # Safety
/// `given` is null or that of as many bytes as its field `size` says.
pub(crate) unsafe fn read<T: Struct>(op: &'static str, given: *const T) -> Result<T, Error> {
    if given.is_null() {
        return refuse(op, T::NAME, "null", "a struct");
    }
    // SAFETY: the caller's promise; the trait's for the field.
    let size = unsafe { given.cast::<usize>().read_unaligned() };
    let known = size_of::<T>();
    let bytes = given.cast::<u8>();
    // SAFETY: the caller's promise.
    let set = |at: usize| unsafe { bytes.add(at).read() } != 0;
    if size < size_of::<usize>() || (known..size).any(set) {
        let got = format!("of size {size}");
        return refuse(op, T::NAME, got, &format!("size = {known}, or more with zeros behind what this library knows"));
    }
    if (T::RESERVED.start..T::RESERVED.end.min(size)).any(set) {
        return refuse(op, T::NAME, "not zero in `reserved`", "a struct that was set to zeros before its fields were");
    }
    // SAFETY: all zeros is a value, as the trait says.
    let mut own: T = unsafe { std::mem::zeroed() };
    // SAFETY: both have so many bytes.
    unsafe { std::ptr::copy_nonoverlapping(bytes, (&raw mut own).cast::<u8>(), size.min(known)) };
    Ok(own)
}

/// Implements [`Struct`].
macro_rules! structs {
    ($($type:ty: $name:literal $(, $reserved:ident)?;)*) => {
        $(
            // SAFETY: numbers, booleans and pointers, the first of them `size`.
            unsafe impl $crate::on::Struct for $type {
                const NAME: &'static str = $name;
                const RESERVED: std::ops::Range<usize> = {
                    let size = size_of::<$type>();
                    let start = [$(std::mem::offset_of!($type, $reserved),)? size][0];
                    assert!(size - start < size_of::<usize>(), "`reserved` ends a struct");
                    start..size
                };
            }
        )*
    };
}
pub(crate) use structs;

structs! { SsmOn: "on", reserved; }

impl SsmOn {
    /// # Safety
    /// As for [`read`].
    pub(crate) unsafe fn new(op: &'static str, given: *const Self) -> Result<Self, Error> {
        if given.is_null() {
            // SAFETY: all zeros is a value, as `structs` says.
            return Ok(unsafe { std::mem::zeroed() });
        }
        // SAFETY: the caller's promise.
        unsafe { read(op, given) }
    }

    pub(crate) fn cpu(&self) -> Cpu {
        if self.single_thread { Cpu::single_thread() } else { Cpu::new() }
    }

    /// # Safety
    /// The stream is what the field says.
    #[cfg(feature = "cuda")]
    pub(crate) unsafe fn cuda(&self, ordinal: u32) -> Result<ssm_kernels::gpu::Gpu<ssm_kernels::gpu::OnStream>, Error> {
        use ssm_kernels::gpu::{Driver, Stream};
        // SAFETY: the caller's promise.
        Ok(Driver::open(ordinal)?.on(unsafe { Stream::from_raw(self.stream) }))
    }

    /// # Safety
    /// The workspace is what its fields say.
    unsafe fn workspace<S: Lend>(
        &self,
        op: &'static str,
        ordinal: u32,
    ) -> Result<ssm_kernels::SliceMut<'_, WorkspaceBlock, S>, Error> {
        let block = size_of::<WorkspaceBlock>();
        if !self.workspace.addr().is_multiple_of(block) {
            return refuse(
                op,
                "workspace",
                format!("at {:p}", self.workspace),
                &format!("memory aligned to {block} bytes"),
            );
        }
        // SAFETY: the caller's promise.
        Ok(unsafe { S::slice_mut(self.workspace.cast(), self.workspace_bytes / block, ordinal) })
    }

    /// Runs the operator forward, in the workspace given or one of its own.
    ///
    /// # Safety
    /// The workspace is what its fields say.
    pub(crate) unsafe fn forward<Op: Operator<Storage: Lend>, B: Forward<Op>>(
        &self,
        backend: &B,
        ordinal: u32,
        op: &Op,
        outputs: Op::Outputs<'_>,
    ) -> Result<(), Error> {
        if self.workspace.is_null() {
            return backend.forward(op, outputs);
        }
        // SAFETY: the caller's promise.
        let workspace = unsafe { self.workspace::<Op::Storage>(Op::NAME, ordinal) }?;
        backend.forward_with(op, outputs, &backend.forward_plan(op)?, workspace)
    }

    /// The same backward.
    ///
    /// # Safety
    /// As for [`forward`](Self::forward).
    pub(crate) unsafe fn backward<Op: Differentiable<Storage: Lend>, B: Backward<Op>>(
        &self,
        backend: &B,
        ordinal: u32,
        op: &Op,
        upstream: Op::Upstream<'_>,
        gradients: Op::Gradients<'_>,
    ) -> Result<(), Error> {
        if self.workspace.is_null() {
            return backend.backward(op, upstream, gradients);
        }
        // SAFETY: the caller's promise.
        let workspace = unsafe { self.workspace::<Op::Storage>(Op::NAME, ordinal) }?;
        backend.backward_with(op, upstream, gradients, &backend.backward_plan(op)?, workspace)
    }
}

/// Calls `$call::<dtypes, storage>(backend, ordinal, ...)` for where x lies.
macro_rules! placed {
    ($op:expr, $on:expr, $x:expr, $call:ident::<$($type:ty),*>($($argument:expr),*)) => {
        match $x.place()? {
            $crate::tensor::Place::Host => {
                $call::<$($type,)* ssm_kernels::Host, _>($on, &$on.cpu(), 0, $($argument),*)
            }
            #[cfg(feature = "cuda")]
            $crate::tensor::Place::Cuda(ordinal) => {
                $call::<$($type,)* ssm_kernels::Device, _>($on, &$on.cuda(ordinal)?, ordinal, $($argument),*)
            }
            #[cfg(not(feature = "cuda"))]
            $crate::tensor::Place::Cuda(_) => {
                Err(ssm_kernels::Error::Unsupported {
                    op: $op,
                    what: "`x` on a CUDA device".into(),
                    expected: "host memory: this library was built without CUDA".into(),
                })
            }
        }
    };
}
pub(crate) use placed;

/// With `$type` as the type of that dtype.
macro_rules! by_dtype {
    ($dtype:expr, $type:ident => $call:expr) => {
        match $dtype {
            ssm_kernels::Dtype::F32 => {
                type $type = f32;
                $call
            }
            ssm_kernels::Dtype::F16 => {
                type $type = half::f16;
                $call
            }
            _ => {
                type $type = half::bf16;
                $call
            }
        }
    };
}
pub(crate) use by_dtype;
