//! The selective scan.

use crate::lend::Lend;
use crate::on::{SsmOn, by_dtype, placed, read, structs};
use crate::status::{refuse, renamed, status};
use crate::tensor::{Arg, Io, SsmTensor, arg};
use ssm_kernels::Error;
use ssm_kernels::ops::{Backward, Forward};
use ssm_kernels::prelude::*;
use std::ffi::c_int;

const OP: &str = "selective_scan";
const SEQUENCE: &[&str] = &["batch", "dim", "seqlen"];
const VARIABLE: &[&str] = &["batch", "ngroups", "dstate", "seqlen"];
const MATRIX: &[&str] = &["dim", "dstate"];
const CHANNEL: &[&str] = &["dim"];
/// With packed sequences a row for each of them.
const STATE: &[&str] = &["batch", "dim", "dstate"];
const CHUNKS: &[&str] = &["nchunks", "dim", "dstate"];

/// The arguments of a selective scan: with `delta = clamp(softplus(dt + dt_bias))`,
/// `h = exp(delta A) h + delta B x` and `out = (C h + D x) silu(z)` from step to step. Null for what is absent.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SsmSelectiveScan {
    /// sizeof(SsmSelectiveScan).
    pub size: usize,
    /// (batch, dim, seqlen) in f32, f16 or bf16.
    pub x: *const SsmTensor,
    /// As x: the raw step.
    pub dt: *const SsmTensor,
    /// (dim, dstate) in f32, usually negative.
    pub A: *const SsmTensor,
    /// (batch, ngroups, dstate, seqlen) in the dtype of x, or constant: (dim, dstate) in f32.
    pub B: *const SsmTensor,
    /// As B may be.
    pub C: *const SsmTensor,
    /// (dim) in f32, or null.
    pub D: *const SsmTensor,
    /// The gate, as x, or null.
    pub z: *const SsmTensor,
    /// (dim) in f32, or null.
    pub dt_bias: *const SsmTensor,
    /// (batch, dim, dstate) in f32, or null; with packed sequences a row for each.
    pub initial_state: *const SsmTensor,
    /// Packed sequences: where each begins, and the total, (nseqs + 1) i32 in host memory; batch is then 1. Or null.
    pub cu_seqlens: *const SsmTensor,
    /// CUDA, with cu_seqlens: a copy of it on the device. On the host it is not read.
    pub cu_seqlens_on_device: *const SsmTensor,
    /// Parts that each sequence is cut into along seqlen; 0: as the library thinks best.
    pub split: usize,
    /// The clamp.
    pub dt_min: f32,
    /// The clamp.
    pub dt_max: f32,
    /// Whether delta goes through softplus.
    pub dt_softplus: bool,
    /// Whether delta is clamped to dt_min and dt_max, after softplus.
    pub dt_limit: bool,
    /// From the last step to the first.
    pub reverse: bool,
    /// Zeros, for what later versions add.
    pub reserved: [u8; 5],
}

/// What a selective scan writes; null for what is not wanted.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SsmSelectiveScanOutputs {
    /// sizeof(SsmSelectiveScanOutputs).
    pub size: usize,
    /// As x.
    pub out: *const SsmTensor,
    /// (batch, dim, dstate) in f32; with packed sequences a row for each.
    pub final_state: *const SsmTensor,
    /// (nchunks, dim, dstate) in f32: the state after each full chunk_every steps of each sequence.
    pub chunk_states: *const SsmTensor,
    /// (batch, dim) in f32: the sum of delta over each sequence.
    pub delta_sum: *const SsmTensor,
    /// For backward: the checkpoint_every of ssm_selective_scan_plan.
    pub chunk_every: usize,
}

/// Gradients of the loss with respect to what forward writes: one at least.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SsmSelectiveScanUpstream {
    /// sizeof(SsmSelectiveScanUpstream).
    pub size: usize,
    /// As x, or null.
    pub dout: *const SsmTensor,
    /// (batch, dim, dstate) in f32, or null.
    pub dfinal_state: *const SsmTensor,
    /// The chunk_states that forward wrote every checkpoint_every steps, or null: they are then computed again.
    pub checkpoints: *const SsmTensor,
    /// The checkpoint_every of ssm_selective_scan_plan.
    pub checkpoint_every: usize,
}

/// Gradients that backward writes, each of the shape and dtype of its tensor; null for what is not wanted.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SsmSelectiveScanGradients {
    /// sizeof(SsmSelectiveScanGradients).
    pub size: usize,
    /// Of x.
    pub dx: *const SsmTensor,
    /// Of dt.
    pub ddt: *const SsmTensor,
    /// Of A.
    pub dA: *const SsmTensor,
    /// Of B.
    pub dB: *const SsmTensor,
    /// Of C.
    pub dC: *const SsmTensor,
    /// Of D.
    pub dD: *const SsmTensor,
    /// Of z.
    pub dz: *const SsmTensor,
    /// Of dt_bias.
    pub ddt_bias: *const SsmTensor,
    /// Of initial_state, given or not.
    pub dinitial_state: *const SsmTensor,
}

structs! {
    SsmSelectiveScan: "scan", reserved;
    SsmSelectiveScanOutputs: "outputs";
    SsmSelectiveScanUpstream: "upstream";
    SsmSelectiveScanGradients: "gradients";
}

/// B or C.
///
/// # Safety
/// The argument is a tensor, as its fields say.
unsafe fn projection<'a, T: Io, S: Lend>(tensor: Arg) -> Result<Projection<'a, T, S>, Error> {
    // SAFETY: the caller's promise.
    unsafe {
        match tensor.rank() {
            2 => Ok(Projection::Constant(tensor.view(MATRIX)?)),
            _ => Ok(Projection::Variable(tensor.view(VARIABLE)?)),
        }
    }
}

/// # Safety
/// The tensors are as their fields say.
unsafe fn scan<'a, T: Io, S: Lend>(
    given: &SsmSelectiveScan,
    segments: Option<&'a Segments>,
) -> Result<SelectiveScan<'a, T, S>, Error> {
    // SAFETY: the caller's promise.
    unsafe {
        let [x, dt] = [arg!(OP, given, x), arg!(OP, given, dt)].map(|tensor| tensor.view(SEQUENCE));
        let A = arg!(OP, given, A).view(MATRIX)?;
        let [B, C] = [arg!(OP, given, B), arg!(OP, given, C)].map(|tensor| projection(tensor));
        let mut scan = SelectiveScan::new(x?, dt?, A, B?, C?)?.dt_softplus(given.dt_softplus).reverse(given.reverse);
        if let Some(D) = arg!(OP, given, D).optional(CHANNEL)? {
            scan = scan.D(D);
        }
        if let Some(z) = arg!(OP, given, z).optional(SEQUENCE)? {
            scan = scan.z(z);
        }
        if let Some(dt_bias) = arg!(OP, given, dt_bias).optional(CHANNEL)? {
            scan = scan.dt_bias(dt_bias);
        }
        if let Some(initial_state) = arg!(OP, given, initial_state).optional(STATE)? {
            scan = scan.initial_state(initial_state);
        }
        if given.dt_limit {
            scan = scan.dt_limit((given.dt_min, given.dt_max));
        }
        if given.split > 0 {
            scan = scan.split(given.split);
        }
        if let Some(packed) = arg!(OP, given, cu_seqlens_on_device).packed::<S>(segments)? {
            scan = S::scan_segments(scan, packed);
        }
        Ok(scan)
    }
}

/// # Safety
/// The tensors are as their fields say.
unsafe fn run_forward<T: Io, S: Lend, B>(
    on: &SsmOn,
    backend: &B,
    ordinal: u32,
    given: &SsmSelectiveScan,
    outputs: &SsmSelectiveScanOutputs,
) -> Result<(), Error>
where
    B: for<'a> Forward<SelectiveScan<'a, T, S>>,
{
    // SAFETY: the caller's promise.
    unsafe {
        let segments = arg!(OP, given, cu_seqlens).segments()?;
        let scan = scan::<T, S>(given, segments.as_ref())?;
        let mut out = arg!(OP, outputs, out).optional_mut(SEQUENCE)?;
        let mut final_state = arg!(OP, outputs, final_state).optional_mut(STATE)?;
        let mut chunk_states = arg!(OP, outputs, chunk_states).optional_mut(CHUNKS)?;
        let mut delta_sum = arg!(OP, outputs, delta_sum).optional_mut(&["batch", "dim"])?;
        let mut writes = match &mut out {
            Some(out) => SelectiveScanOutputs::new(out),
            None => SelectiveScanOutputs::states_only(),
        };
        if let Some(view) = &mut final_state {
            writes = writes.final_state(view);
        }
        if let Some(view) = &mut chunk_states {
            writes = writes.chunk_states(outputs.chunk_every, view);
        }
        if let Some(view) = &mut delta_sum {
            writes = writes.delta_sum(view);
        }
        on.forward(backend, ordinal, &scan, writes).map_err(|error| renamed(error, "every", "chunk_every"))
    }
}

/// # Safety
/// The tensors are as their fields say.
unsafe fn run_backward<T: Io, S: Lend, B>(
    on: &SsmOn,
    backend: &B,
    ordinal: u32,
    given: &SsmSelectiveScan,
    upstream: &SsmSelectiveScanUpstream,
    gradients: &SsmSelectiveScanGradients,
) -> Result<(), Error>
where
    B: for<'a> Backward<SelectiveScan<'a, T, S>>,
{
    // SAFETY: the caller's promise.
    unsafe {
        let segments = arg!(OP, given, cu_seqlens).segments()?;
        let scan = scan::<T, S>(given, segments.as_ref())?;
        let mut reads = SelectiveScanUpstream::new();
        if let Some(dout) = arg!(OP, upstream, dout).optional(SEQUENCE)? {
            reads = reads.dout(dout);
        }
        if let Some(dfinal_state) = arg!(OP, upstream, dfinal_state).optional(STATE)? {
            reads = reads.dfinal_state(dfinal_state);
        }
        if let Some(checkpoints) = arg!(OP, upstream, checkpoints).optional(CHUNKS)? {
            reads = reads.checkpoints(upstream.checkpoint_every, checkpoints);
        }
        let mut writes = SelectiveScanGradients::new();
        macro_rules! wanted {
            ($($field:ident: $names:expr;)*) => {
                $(
                    let mut $field = arg!(OP, gradients, $field).optional_mut($names)?;
                    if let Some(view) = &mut $field {
                        writes = writes.$field(view);
                    }
                )*
            };
        }
        wanted! {
            dx: SEQUENCE; ddt: SEQUENCE; dz: SEQUENCE; dA: MATRIX; dD: CHANNEL; ddt_bias: CHANNEL; dinitial_state: STATE;
        }
        if let Some(dB) = projection_mut(arg!(OP, gradients, dB))? {
            writes = writes.dB(dB);
        }
        if let Some(dC) = projection_mut(arg!(OP, gradients, dC))? {
            writes = writes.dC(dC);
        }
        on.backward(backend, ordinal, &scan, reads, writes)
    }
}

/// dB or dC.
///
/// # Safety
/// The tensor is as its fields say.
unsafe fn projection_mut<'a, T: Io, S: Lend>(tensor: Arg) -> Result<Option<ProjectionMut<'a, T, S>>, Error> {
    // SAFETY: the caller's promise.
    unsafe {
        match tensor.rank() {
            2 => Ok(tensor.optional_mut(MATRIX)?.map(ProjectionMut::Constant)),
            _ => Ok(tensor.optional_mut(VARIABLE)?.map(ProjectionMut::Variable)),
        }
    }
}

/// Runs a selective scan forward, or enqueues it.
///
/// # Safety
/// Structs and tensors are as their fields say, until the work is done.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ssm_selective_scan_forward(
    on: *const SsmOn,
    scan: *const SsmSelectiveScan,
    outputs: *const SsmSelectiveScanOutputs,
) -> c_int {
    // SAFETY: the caller's promise.
    status(|| unsafe {
        let (on, scan, outputs) = (&SsmOn::new(OP, on)?, &read(OP, scan)?, &read(OP, outputs)?);
        let x = arg!(OP, scan, x);
        by_dtype!(x.dtype()?, T => placed!(OP, on, x, run_forward::<T>(scan, outputs)))
    })
}

/// Runs a selective scan backward, or enqueues it.
///
/// # Safety
/// As for ssm_selective_scan_forward.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ssm_selective_scan_backward(
    on: *const SsmOn,
    scan: *const SsmSelectiveScan,
    upstream: *const SsmSelectiveScanUpstream,
    gradients: *const SsmSelectiveScanGradients,
) -> c_int {
    // SAFETY: the caller's promise.
    status(|| unsafe {
        let (on, scan) = (&SsmOn::new(OP, on)?, &read(OP, scan)?);
        let (upstream, gradients) = (&read(OP, upstream)?, &read(OP, gradients)?);
        let x = arg!(OP, scan, x);
        by_dtype!(x.dtype()?, T => placed!(OP, on, x, run_backward::<T>(scan, upstream, gradients)))
    })
}

/// # Safety
/// The tensors are as their fields say.
unsafe fn plans<T: Io, S: Lend, B>(
    _: &SsmOn,
    backend: &B,
    _: u32,
    given: &SsmSelectiveScan,
    asked: [*mut usize; 3],
) -> Result<(), Error>
where
    B: for<'a> Forward<SelectiveScan<'a, T, S>> + for<'a> Backward<SelectiveScan<'a, T, S>>,
{
    // SAFETY: the caller's promise; each pointer is null or that of a number to write.
    unsafe {
        let segments = arg!(OP, given, cu_seqlens).segments()?;
        let scan = scan::<T, S>(given, segments.as_ref())?;
        // All of them before any is written.
        let plans = [backend.forward_plan(&scan)?.workspace_bytes, backend.backward_plan(&scan)?.workspace_bytes];
        for (to, value) in asked.into_iter().zip([plans[0], plans[1], scan.checkpoint_every()?]) {
            if let Some(to) = to.as_mut() {
                *to = value;
            }
        }
    }
    Ok(())
}

/// Bytes of workspace that a selective scan needs in either direction, and the steps between the states that forward saves
/// for backward. Null for what is not wanted. Reads no tensor's elements but cu_seqlens.
///
/// # Safety
/// As for ssm_selective_scan_forward; the pointers are null or those of numbers to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ssm_selective_scan_plan(
    on: *const SsmOn,
    scan: *const SsmSelectiveScan,
    forward_bytes: *mut usize,
    backward_bytes: *mut usize,
    checkpoint_every: *mut usize,
) -> c_int {
    // SAFETY: the caller's promise.
    status(|| unsafe {
        let (on, scan) = (&SsmOn::new(OP, on)?, &read(OP, scan)?);
        let (x, asked) = (arg!(OP, scan, x), [forward_bytes, backward_bytes, checkpoint_every]);
        if asked.iter().all(|asked| asked.is_null()) {
            return refuse(OP, "plan", "asked for nothing", "a pointer that is not null");
        }
        by_dtype!(x.dtype()?, T => placed!(OP, on, x, plans::<T>(scan, asked)))
    })
}
