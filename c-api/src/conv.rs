//! The causal convolution, and its form for decoding.

use crate::lend::Lend;
use crate::on::{SsmOn, by_dtype, placed, read, structs};
use crate::status::{refuse, status};
use crate::tensor::{Io, SsmTensor, arg};
use ssm_kernels::Error;
use ssm_kernels::ops::{Backward, Forward};
use ssm_kernels::prelude::*;
use std::ffi::c_int;

const OP: &str = "causal_conv1d";
const UPDATE: &str = "causal_conv1d_update";
const SEQUENCE: &[&str] = &["batch", "dim", "seqlen"];
const WEIGHT: &[&str] = &["dim", "width"];
const CHANNEL: &[&str] = &["dim"];
/// With packed sequences a row for each of them.
const STATE: &[&str] = &["batch", "dim", "state_len"];
const CACHE: &[&str] = &["slots", "dim", "state_len"];

/// The arguments of a causal convolution: each step of out is bias plus the taps times the last steps of x, the last tap
/// times the step itself; silu of it only if asked. Null for what is absent.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SsmCausalConv1d {
    /// sizeof(SsmCausalConv1d).
    pub size: usize,
    /// (batch, dim, seqlen) in f32, f16 or bf16.
    pub x: *const SsmTensor,
    /// (dim, width), width from 1 to 16, in a dtype of its own of the three.
    pub weight: *const SsmTensor,
    /// (dim) in the dtype of weight, or null.
    pub bias: *const SsmTensor,
    /// (batch, dim, width - 1) in the dtype of x, or null; with packed sequences a row for each.
    pub initial_state: *const SsmTensor,
    /// Packed sequences: where each begins, and the total, (nseqs + 1) i32 in host memory; batch is then 1. Or null.
    pub cu_seqlens: *const SsmTensor,
    /// CUDA, with cu_seqlens: a copy of it on the device. On the host it is not read.
    pub cu_seqlens_on_device: *const SsmTensor,
    /// Whether the output goes through silu.
    pub silu: bool,
    /// Zeros, for what later versions add.
    pub reserved: [u8; 7],
}

/// What a causal convolution writes; null for what is not wanted.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SsmCausalConv1dOutputs {
    /// sizeof(SsmCausalConv1dOutputs).
    pub size: usize,
    /// As x.
    pub out: *const SsmTensor,
    /// The last width - 1 steps of x, (batch, dim, width - 1), or null; with packed sequences a row for each.
    pub final_state: *const SsmTensor,
}

/// Gradients of the loss with respect to what forward writes: one at least.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SsmCausalConv1dUpstream {
    /// sizeof(SsmCausalConv1dUpstream).
    pub size: usize,
    /// As x, or null.
    pub dout: *const SsmTensor,
    /// As final_state, or null.
    pub dfinal_state: *const SsmTensor,
}

/// Gradients that backward writes, each of the shape and dtype of its tensor; null for what is not wanted.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SsmCausalConv1dGradients {
    /// sizeof(SsmCausalConv1dGradients).
    pub size: usize,
    /// Of x.
    pub dx: *const SsmTensor,
    /// Of weight.
    pub dweight: *const SsmTensor,
    /// Of bias.
    pub dbias: *const SsmTensor,
    /// Of initial_state, given or not.
    pub dinitial_state: *const SsmTensor,
}

/// The arguments of a causal convolution over a few steps, from a state that is updated. Null for what is absent.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SsmCausalConv1dUpdate {
    /// sizeof(SsmCausalConv1dUpdate).
    pub size: usize,
    /// (batch, dim, seqlen) in f32, f16 or bf16.
    pub x: *const SsmTensor,
    /// (dim, width), width from 1 to 16, in a dtype of its own of the three.
    pub weight: *const SsmTensor,
    /// (dim) in the dtype of weight, or null.
    pub bias: *const SsmTensor,
    /// Steps that each row has seen, (batch) i32: the state is a ring. Null: the state is shifted.
    pub cache_seqlens: *const SsmTensor,
    /// The slot of each row, (batch) i32, negative for padding; no slot twice. Null: slot b for row b.
    pub state_indices: *const SsmTensor,
    /// Whether the output goes through silu.
    pub silu: bool,
    /// Zeros, for what later versions add.
    pub reserved: [u8; 7],
}

/// What that writes.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SsmCausalConv1dUpdateOutputs {
    /// sizeof(SsmCausalConv1dUpdateOutputs).
    pub size: usize,
    /// As x.
    pub out: *const SsmTensor,
    /// (slots, dim, state_len) in the dtype of x, state_len at least width - 1: read, and then written.
    pub conv_state: *const SsmTensor,
    /// CUDA: a u32, (1), which is set to 1 if an index lies beyond the slots; or null.
    pub out_of_range: *const SsmTensor,
}

structs! {
    SsmCausalConv1d: "conv", reserved;
    SsmCausalConv1dOutputs: "outputs";
    SsmCausalConv1dUpstream: "upstream";
    SsmCausalConv1dGradients: "gradients";
    SsmCausalConv1dUpdate: "update", reserved;
    SsmCausalConv1dUpdateOutputs: "outputs";
}

/// # Safety
/// The tensors are as their fields say.
unsafe fn conv<'a, T: Io, W: Io, S: Lend>(
    given: &SsmCausalConv1d,
    segments: Option<&'a Segments>,
) -> Result<CausalConv1d<'a, T, W, S>, Error> {
    // SAFETY: the caller's promise.
    unsafe {
        let (x, weight) = (arg!(OP, given, x).view(SEQUENCE)?, arg!(OP, given, weight).view(WEIGHT)?);
        let mut conv = CausalConv1d::new(x, weight)?.silu(given.silu);
        if let Some(bias) = arg!(OP, given, bias).optional(CHANNEL)? {
            conv = conv.bias(bias);
        }
        if let Some(initial_state) = arg!(OP, given, initial_state).optional(STATE)? {
            conv = conv.initial_state(initial_state);
        }
        if let Some(packed) = arg!(OP, given, cu_seqlens_on_device).packed::<S>(segments)? {
            conv = S::conv_segments(conv, packed);
        }
        Ok(conv)
    }
}

/// # Safety
/// The tensors are as their fields say.
unsafe fn run_forward<T: Io, W: Io, S: Lend, B>(
    on: &SsmOn,
    backend: &B,
    ordinal: u32,
    given: &SsmCausalConv1d,
    outputs: &SsmCausalConv1dOutputs,
) -> Result<(), Error>
where
    B: for<'a> Forward<CausalConv1d<'a, T, W, S>>,
{
    // SAFETY: the caller's promise.
    unsafe {
        let segments = arg!(OP, given, cu_seqlens).segments()?;
        let conv = conv::<T, W, S>(given, segments.as_ref())?;
        let mut out = arg!(OP, outputs, out).view_mut(SEQUENCE)?;
        let mut final_state = arg!(OP, outputs, final_state).optional_mut(STATE)?;
        let mut writes = CausalConv1dOutputs::new(&mut out);
        if let Some(view) = &mut final_state {
            writes = writes.final_state(view);
        }
        on.forward(backend, ordinal, &conv, writes)
    }
}

/// # Safety
/// The tensors are as their fields say.
unsafe fn run_backward<T: Io, W: Io, S: Lend, B>(
    on: &SsmOn,
    backend: &B,
    ordinal: u32,
    given: &SsmCausalConv1d,
    upstream: &SsmCausalConv1dUpstream,
    gradients: &SsmCausalConv1dGradients,
) -> Result<(), Error>
where
    B: for<'a> Backward<CausalConv1d<'a, T, W, S>>,
{
    // SAFETY: the caller's promise.
    unsafe {
        let segments = arg!(OP, given, cu_seqlens).segments()?;
        let conv = conv::<T, W, S>(given, segments.as_ref())?;
        let mut reads = CausalConv1dUpstream::new();
        if let Some(dout) = arg!(OP, upstream, dout).optional(SEQUENCE)? {
            reads = reads.dout(dout);
        }
        if let Some(dfinal_state) = arg!(OP, upstream, dfinal_state).optional(STATE)? {
            reads = reads.dfinal_state(dfinal_state);
        }
        let mut dx = arg!(OP, gradients, dx).optional_mut(SEQUENCE)?;
        let mut dweight = arg!(OP, gradients, dweight).optional_mut(WEIGHT)?;
        let mut dbias = arg!(OP, gradients, dbias).optional_mut(CHANNEL)?;
        let mut dinitial_state = arg!(OP, gradients, dinitial_state).optional_mut(STATE)?;
        let mut writes = CausalConv1dGradients::new();
        if let Some(view) = &mut dx {
            writes = writes.dx(view);
        }
        if let Some(view) = &mut dweight {
            writes = writes.dweight(view);
        }
        if let Some(view) = &mut dbias {
            writes = writes.dbias(view);
        }
        if let Some(view) = &mut dinitial_state {
            writes = writes.dinitial_state(view);
        }
        on.backward(backend, ordinal, &conv, reads, writes)
    }
}

/// # Safety
/// The tensors are as their fields say.
unsafe fn run_update<T: Io, W: Io, S: Lend, B>(
    on: &SsmOn,
    backend: &B,
    ordinal: u32,
    given: &SsmCausalConv1dUpdate,
    outputs: &SsmCausalConv1dUpdateOutputs,
) -> Result<(), Error>
where
    B: for<'a> Forward<CausalConv1dUpdate<'a, T, W, S>>,
{
    // SAFETY: the caller's promise.
    unsafe {
        let (x, weight) = (arg!(UPDATE, given, x).view(SEQUENCE)?, arg!(UPDATE, given, weight).view(WEIGHT)?);
        let mut update = CausalConv1dUpdate::<T, W, S>::new(x, weight)?.silu(given.silu);
        if let Some(bias) = arg!(UPDATE, given, bias).optional(CHANNEL)? {
            update = update.bias(bias);
        }
        let [lengths, indices] = [arg!(UPDATE, given, cache_seqlens), arg!(UPDATE, given, state_indices)];
        let update = S::conv_update_lists(update, lengths.list()?, indices.list()?);
        let mut out = arg!(UPDATE, outputs, out).view_mut(SEQUENCE)?;
        let mut conv_state = arg!(UPDATE, outputs, conv_state).view_mut(CACHE)?;
        let mut flag = arg!(UPDATE, outputs, out_of_range).optional_mut(&["flag"])?;
        let mut writes = CausalConv1dUpdateOutputs::new(&mut out, &mut conv_state);
        if let Some(flag) = &mut flag {
            writes = S::conv_update_flag(writes, flag)?;
        }
        on.forward(backend, ordinal, &update, writes)
    }
}

/// Runs a causal convolution forward, or enqueues it.
///
/// # Safety
/// Structs and tensors are as their fields say, until the work is done.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ssm_causal_conv1d_forward(
    on: *const SsmOn,
    conv: *const SsmCausalConv1d,
    outputs: *const SsmCausalConv1dOutputs,
) -> c_int {
    // SAFETY: the caller's promise.
    status(|| unsafe {
        let (on, conv, outputs) = (&SsmOn::new(OP, on)?, &read(OP, conv)?, &read(OP, outputs)?);
        let (x, weight) = (arg!(OP, conv, x), arg!(OP, conv, weight));
        by_dtype!(x.dtype()?, T => by_dtype!(weight.dtype()?, W => placed!(OP, on, x, run_forward::<T, W>(conv, outputs))))
    })
}

/// Runs a causal convolution backward, or enqueues it.
///
/// # Safety
/// As for ssm_causal_conv1d_forward.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ssm_causal_conv1d_backward(
    on: *const SsmOn,
    conv: *const SsmCausalConv1d,
    upstream: *const SsmCausalConv1dUpstream,
    gradients: *const SsmCausalConv1dGradients,
) -> c_int {
    // SAFETY: the caller's promise.
    status(|| unsafe {
        let (on, conv) = (&SsmOn::new(OP, on)?, &read(OP, conv)?);
        let (upstream, gradients) = (&read(OP, upstream)?, &read(OP, gradients)?);
        let (x, weight) = (arg!(OP, conv, x), arg!(OP, conv, weight));
        by_dtype!(x.dtype()?, T => by_dtype!(weight.dtype()?, W => {
            placed!(OP, on, x, run_backward::<T, W>(conv, upstream, gradients))
        }))
    })
}

/// Runs a few steps of a causal convolution from a state that is updated, or enqueues them.
///
/// # Safety
/// As for ssm_causal_conv1d_forward; on a device, no slot that is not negative stands twice in state_indices.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ssm_causal_conv1d_update(
    on: *const SsmOn,
    update: *const SsmCausalConv1dUpdate,
    outputs: *const SsmCausalConv1dUpdateOutputs,
) -> c_int {
    // SAFETY: the caller's promise.
    status(|| unsafe {
        let (on, update, outputs) = (&SsmOn::new(UPDATE, on)?, &read(UPDATE, update)?, &read(UPDATE, outputs)?);
        let (x, weight) = (arg!(UPDATE, update, x), arg!(UPDATE, update, weight));
        by_dtype!(x.dtype()?, T => by_dtype!(weight.dtype()?, W => {
            placed!(UPDATE, on, x, run_update::<T, W>(update, outputs))
        }))
    })
}

/// # Safety
/// The tensors are as their fields say.
unsafe fn plans<T: Io, W: Io, S: Lend, B>(
    _: &SsmOn,
    backend: &B,
    _: u32,
    given: &SsmCausalConv1d,
    asked: [*mut usize; 2],
) -> Result<(), Error>
where
    B: for<'a> Forward<CausalConv1d<'a, T, W, S>> + for<'a> Backward<CausalConv1d<'a, T, W, S>>,
{
    // SAFETY: the caller's promise; each pointer is null or that of a number to write.
    unsafe {
        let segments = arg!(OP, given, cu_seqlens).segments()?;
        let conv = conv::<T, W, S>(given, segments.as_ref())?;
        // Both of them before one is written.
        let plans = [backend.forward_plan(&conv)?.workspace_bytes, backend.backward_plan(&conv)?.workspace_bytes];
        for (to, value) in asked.into_iter().zip(plans) {
            if let Some(to) = to.as_mut() {
                *to = value;
            }
        }
    }
    Ok(())
}

/// Bytes of workspace that a causal convolution needs in either direction. Null for what is not wanted. Reads no tensor's
/// elements but cu_seqlens.
///
/// # Safety
/// As for ssm_causal_conv1d_forward; the pointers are null or those of numbers to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ssm_causal_conv1d_plan(
    on: *const SsmOn,
    conv: *const SsmCausalConv1d,
    forward_bytes: *mut usize,
    backward_bytes: *mut usize,
) -> c_int {
    // SAFETY: the caller's promise.
    status(|| unsafe {
        let (on, conv) = (&SsmOn::new(OP, on)?, &read(OP, conv)?);
        let (x, weight, asked) = (arg!(OP, conv, x), arg!(OP, conv, weight), [forward_bytes, backward_bytes]);
        if asked.iter().all(|asked| asked.is_null()) {
            return refuse(OP, "plan", "asked for nothing", "a pointer that is not null");
        }
        by_dtype!(x.dtype()?, T => by_dtype!(weight.dtype()?, W => placed!(OP, on, x, plans::<T, W>(conv, asked))))
    })
}
