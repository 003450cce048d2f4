//! The state update: the decode step.

use crate::lend::Lend;
use crate::on::{SsmOn, by_dtype, placed, read, structs};
use crate::status::{refuse, status};
use crate::tensor::{Arg, Io, SsmTensor, arg};
use ssm_kernels::Error;
use ssm_kernels::ops::Forward;
use ssm_kernels::prelude::*;
use std::ffi::c_int;

const OP: &str = "state_update";

/// The arguments of a state update, which advances states in place by one token or a few. Channels, or (`heads`) heads of
/// several channels each; with tokens if x has a dimension of them. Null for what is absent.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SsmStateUpdate {
    /// sizeof(SsmStateUpdate).
    pub size: usize,
    /// Channels: (batch, dim) or (batch, seqlen, dim); heads: (batch, nheads, headdim) or (batch, seqlen, nheads, headdim). In
    /// f32, f16 or bf16.
    pub x: *const SsmTensor,
    /// As x; of heads also without headdim.
    pub dt: *const SsmTensor,
    /// f32. Channels: (dim, dstate); heads: (nheads), (nheads, headdim) or (nheads, headdim, dstate).
    pub A: *const SsmTensor,
    /// (batch, dstate), or (batch, ngroups, dstate); with seqlen behind batch if x has it. In the dtype of x.
    pub B: *const SsmTensor,
    /// As B may be.
    pub C: *const SsmTensor,
    /// f32. Channels: (dim); heads: (nheads) or (nheads, headdim). Or null.
    pub D: *const SsmTensor,
    /// As x, or null.
    pub z: *const SsmTensor,
    /// As D may be, or null.
    pub dt_bias: *const SsmTensor,
    /// The row of the cache for each row of the batch, (batch) i32, negative for padding; no row twice. Null: row b for row b.
    pub state_indices: *const SsmTensor,
    /// The clamp.
    pub dt_min: f32,
    /// The clamp.
    pub dt_max: f32,
    /// x is of heads.
    pub heads: bool,
    /// Whether delta goes through softplus.
    pub dt_softplus: bool,
    /// Whether delta is clamped to dt_min and dt_max, after softplus.
    pub dt_limit: bool,
    /// Zeros, for what later versions add.
    pub reserved: [u8; 5],
}

/// What a state update writes; null for what is not wanted.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SsmStateUpdateOutputs {
    /// sizeof(SsmStateUpdateOutputs).
    pub size: usize,
    /// The cache, (slots, dim, dstate) or (slots, nheads, headdim, dstate) in f32, f16 or bf16: read, and then written.
    pub state: *const SsmTensor,
    /// As x.
    pub out: *const SsmTensor,
    /// (batch seqlen, ...) as state: the state after each token; or null.
    pub token_states: *const SsmTensor,
    /// CUDA: a u32, (1): 1 + the last row of the batch whose index lies beyond the cache, if that is more than what stands
    /// there; or null.
    pub index_flag: *const SsmTensor,
}

structs! {
    SsmStateUpdate: "update", reserved;
    SsmStateUpdateOutputs: "outputs";
}

/// The names of a call's dimensions.
#[derive(Clone, Copy)]
struct Names {
    heads: bool,
    tokens: bool,
}

impl Names {
    /// By the rank of x.
    ///
    /// # Safety
    /// The tensor is as its fields say.
    unsafe fn new(x: Arg, heads: bool) -> Self {
        // SAFETY: the caller's promise.
        Self { heads, tokens: unsafe { x.rank() } > if heads { 3 } else { 2 } }
    }

    fn channels(self) -> &'static [&'static str] {
        if self.heads { &["nheads", "headdim"] } else { &["dim"] }
    }

    fn rows(self) -> &'static [&'static str] {
        if self.tokens { &["batch", "seqlen"] } else { &["batch"] }
    }

    fn sequence(self) -> Vec<&'static str> {
        [self.rows(), self.channels()].concat()
    }

    fn states(self, of: &'static str) -> Vec<&'static str> {
        [&[of], self.channels(), &["dstate"]].concat()
    }

    /// The first dimensions of `all`, as many as the tensor has, if these are `least` or more.
    ///
    /// # Safety
    /// The tensor is as its fields say.
    unsafe fn of(self, tensor: Arg, all: Vec<&'static str>, least: usize) -> Vec<&'static str> {
        // SAFETY: the caller's promise.
        let rank = unsafe { tensor.rank() };
        all[..if (least..=all.len()).contains(&rank) { rank } else { all.len() }].to_vec()
    }

    /// B and C.
    ///
    /// # Safety
    /// The tensor is as its fields say.
    unsafe fn projection(self, tensor: Arg) -> Vec<&'static str> {
        // SAFETY: the caller's promise.
        let groups: &[&str] = if unsafe { tensor.rank() } > self.rows().len() + 1 { &["ngroups"] } else { &[] };
        [self.rows(), groups, &["dstate"]].concat()
    }
}

/// # Safety
/// The tensors are as their fields say.
unsafe fn update<'a, T: Io, H: Io, S: Lend>(given: &SsmStateUpdate) -> Result<StateUpdate<'a, T, H, S>, Error> {
    // SAFETY: the caller's promise.
    unsafe {
        let names = Names::new(arg!(OP, given, x), given.heads);
        let sequence = names.sequence();
        let [dt, A, B, C] = [arg!(OP, given, dt), arg!(OP, given, A), arg!(OP, given, B), arg!(OP, given, C)];
        let mut matrix = names.channels().to_vec();
        matrix.push("dstate");
        let update = StateUpdate::new(
            arg!(OP, given, x).view(&sequence)?,
            dt.view(&names.of(dt, sequence.clone(), if names.heads { sequence.len() - 1 } else { sequence.len() }))?,
            A.view(&names.of(A, matrix, if names.heads { 1 } else { 2 }))?,
            B.view(&names.projection(B))?,
            C.view(&names.projection(C))?,
        )?;
        let mut update = update.dt_softplus(given.dt_softplus);
        let [D, dt_bias] = [arg!(OP, given, D), arg!(OP, given, dt_bias)];
        if let Some(D) = D.optional(&names.of(D, names.channels().to_vec(), 1))? {
            update = update.D(D);
        }
        if let Some(dt_bias) = dt_bias.optional(&names.of(dt_bias, names.channels().to_vec(), 1))? {
            update = update.dt_bias(dt_bias);
        }
        if let Some(z) = arg!(OP, given, z).optional(&sequence)? {
            update = update.z(z);
        }
        if given.dt_limit {
            update = update.dt_limit((given.dt_min, given.dt_max));
        }
        if let Some(state_indices) = arg!(OP, given, state_indices).optional(&["batch"])? {
            update = S::update_indices(update, state_indices);
        }
        Ok(update)
    }
}

/// # Safety
/// The tensors are as their fields say.
unsafe fn run<T: Io, H: Io, S: Lend, B>(
    on: &SsmOn,
    backend: &B,
    ordinal: u32,
    given: &SsmStateUpdate,
    outputs: &SsmStateUpdateOutputs,
) -> Result<(), Error>
where
    B: for<'a> Forward<StateUpdate<'a, T, H, S>>,
{
    // SAFETY: the caller's promise.
    unsafe {
        let update = update::<T, H, S>(given)?;
        let names = Names::new(arg!(OP, given, x), given.heads);
        let slots = if given.state_indices.is_null() { "batch" } else { "slots" };
        let mut state = arg!(OP, outputs, state).view_mut(&names.states(slots))?;
        let mut out = arg!(OP, outputs, out).view_mut(&names.sequence())?;
        let mut token_states = arg!(OP, outputs, token_states).optional_mut(&names.states("tokens"))?;
        let mut flag = arg!(OP, outputs, index_flag).list_mut()?;
        let mut writes = StateUpdateOutputs::new(&mut state, &mut out);
        if let Some(view) = &mut token_states {
            writes = writes.token_states(view);
        }
        if let Some(flag) = &mut flag {
            writes = S::update_flag(writes, flag)?;
        }
        on.forward(backend, ordinal, &update, writes)
    }
}

/// Advances states by one token or a few, or enqueues that.
///
/// # Safety
/// Structs and tensors are as their fields say, until the work is done; on a device, no row of the cache that is not negative
/// stands twice in state_indices.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ssm_state_update(
    on: *const SsmOn,
    update: *const SsmStateUpdate,
    outputs: *const SsmStateUpdateOutputs,
) -> c_int {
    // SAFETY: the caller's promise.
    status(|| unsafe {
        let (on, update, outputs) = (&SsmOn::new(OP, on)?, &read(OP, update)?, &read(OP, outputs)?);
        let (x, state) = (arg!(OP, update, x), arg!(OP, outputs, state));
        by_dtype!(x.dtype()?, T => by_dtype!(state.dtype()?, H => placed!(OP, on, x, run::<T, H>(update, outputs))))
    })
}

/// # Safety
/// The tensors are as their fields say.
unsafe fn plan<T: Io, H: Io, S: Lend, B>(
    _: &SsmOn,
    backend: &B,
    _: u32,
    given: &SsmStateUpdate,
    bytes: *mut usize,
) -> Result<(), Error>
where
    B: for<'a> Forward<StateUpdate<'a, T, H, S>>,
{
    // SAFETY: the caller's promise; the pointer is not null.
    unsafe { *bytes = backend.forward_plan(&update::<T, H, S>(given)?)?.workspace_bytes };
    Ok(())
}

/// Bytes of workspace that a state update needs. Reads no tensor's elements.
///
/// # Safety
/// As for ssm_state_update; `bytes` is that of a number to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ssm_state_update_plan(
    on: *const SsmOn,
    update: *const SsmStateUpdate,
    outputs: *const SsmStateUpdateOutputs,
    bytes: *mut usize,
) -> c_int {
    // SAFETY: the caller's promise.
    status(|| unsafe {
        let (on, update, outputs) = (&SsmOn::new(OP, on)?, &read(OP, update)?, &read(OP, outputs)?);
        if bytes.is_null() {
            return refuse(OP, "bytes", "null", "a pointer");
        }
        let (x, state) = (arg!(OP, update, x), arg!(OP, outputs, state));
        by_dtype!(x.dtype()?, T => by_dtype!(state.dtype()?, H => placed!(OP, on, x, plan::<T, H>(update, bytes))))
    })
}
