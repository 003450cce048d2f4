//! Kernels for state space models (Mamba and its relatives) as a low-level crate that model crates link.
//!
//! An operator is a contract ([`ops`]): equation, shapes, dtypes, checks. A backend runs it: [`Cpu`], or the kernels for NVIDIA
//! GPUs (`gpu`), which have been run on an emulator and **on no GPU yet**. The [`mod@reference`] holds the same equations as naive
//! loops, generic over the arithmetic, and the accuracy rule that every backend is held to.
//!
#![cfg_attr(
    doc,
    doc = "The [`guide`] has a quick start for the CPU, for a GPU, for tensors of candle, burn and others, and the"
)]
#![cfg_attr(doc, doc = "tables: what is supported, limits, precision, speed, comparison.")]
//!
//! ```
//! use ssm_kernels::prelude::*;
//! # let (batch, dim, seqlen, dstate) = (2, 8, 5, 4);
//! # let sequence = vec![0.5f32; batch * dim * seqlen];
//! # let (a, projection) = (vec![-1.0f32; dim * dstate], vec![0.5f32; batch * dstate * seqlen]);
//! # let mut y = sequence.clone();
//! # let mut h = vec![0.0f32; batch * dim * dstate];
//! let x = View::new(&sequence, [("batch", batch), ("dim", dim), ("seqlen", seqlen)]);
//! # let (dt, z) = (x, x);
//! # let A = View::new(&a, [("dim", dim), ("dstate", dstate)]);
//! # let B = View::new(&projection, [("batch", batch), ("ngroups", 1), ("dstate", dstate), ("seqlen", seqlen)]);
//! # let C = B;
//! # let mut out = ViewMut::new(&mut y, [("batch", batch), ("dim", dim), ("seqlen", seqlen)]);
//! # let mut state = ViewMut::new(&mut h, [("batch", batch), ("dim", dim), ("dstate", dstate)]);
//! let scan = SelectiveScan::new(x, dt, A, B, C)?.z(z).dt_softplus(true);
//! Cpu::new().forward(&scan, SelectiveScanOutputs::new(&mut out).final_state(&mut state))?;
//! # Ok::<(), ssm_kernels::Error>(())
//! ```
//!
//! # Glossary
//! | name | shape of the selective scan | says |
//! |---|---|---|
//! | `x` | (batch, dim, seqlen) | input; upstream's `u` |
//! | `out` | as x | output, after `D` and after the gate |
//! | `dt` | as x | raw step, before bias and softplus; upstream's `delta` |
//! | `delta` | as x | effective step: `clamp(softplus(dt + dt_bias))` |
//! | `A` | (dim, dstate) | state matrix, diagonal, usually negative: `-exp(A_log)` already taken |
//! | `B`, `C` | (batch, ngroups, dstate, seqlen) | input and output projections |
//! | `D` | (dim) | skip |
//! | `z` | as x | gate: `out *= silu(z)` |
//! | `initial_state`, `final_state` | (batch, dim, dstate) | state before the first and after the last step, one per sequence |
//! | `chunk_states` | (nchunks, dim, dstate) | states at the ends of chunks |
//! | `delta_sum` | (batch, dim) | sum of delta over a sequence: `exp(A delta_sum)` is its whole decay |
//! | `state` | (batch or slots, dim, dstate) | of a state update: states of many sequences, advanced in place |
//! | `state_indices` | (batch) | row of the cache for each row of the batch; negative is padding |
//! | `token_states` | (batch seqlen, dim, dstate) | states after each token of a state update |
//! | `nheads`, `headdim` | | heads of a state update, channels of a head |
//! | `cu_seqlens` | (nseqs + 1) | where packed sequences begin, and the total |
//! | `weight`, `width`, `bias` | (dim, width), (dim) | taps of the causal convolution, the last one the current token's |
//! | `conv_state` | (slots, dim, state_len) | inputs that decoding remembers |
//! | `q`, `k`, `v` | (batch, nheads, seqlen, dim or vdim) | queries, keys and values of attention |
//! | `vdim` | | elements of a value |
//! | `scale`, `chunk_size` | | what q.k is multiplied by; steps that are computed by pairs |
//! | `log_decay` | (batch, nheads, seqlen) | logarithm of what a step leaves of what came before |
//! | `features` | | products of two elements of a key: dim (dim + 1) / 2 |
//! | `initial_norm`, `final_norm` | (batch, nheads, features) | state of the sum that attention divides by |
//! | `norm` | (slots, nheads, features) | that of an update of squared attention, in place beside its `state` |
//! | `A_bar`, `B_bar` | the domain | discretised A and B |
//!
//! The prefix `d` is always a gradient of the loss: `dx`, `dA`, `dfinal_state`.
//!
//! # Features
//! `rayon` (default): the CPU backend runs in the caller's rayon pool. Without it, on the calling thread. `cuda`
//! (default): the GPU backend through the CUDA driver. `emulator`: the GPU backend's kernels on the CPU, checked while
//! they run. `cust`: memory and streams of the crate cust for the GPU backend; it links the driver when it is built.
//! `nvtx`: a range for profilers around every call of the GPU backend.

// docs.rs says which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]
// A, B, C and D are the field's names.
#![allow(non_snake_case)]

pub mod cpu;
mod error;
#[cfg(any(feature = "cuda", feature = "emulator"))]
pub mod gpu;
#[cfg(any(doc, doctest))]
pub mod guide;
pub mod ops;
mod plan;
pub mod reference;
mod segments;
mod tensor;

pub use cpu::{Cpu, Instructions};
pub use error::{Error, Result};
pub use plan::{Plan, WorkspaceBlock};
pub use segments::Segments;
pub use tensor::{Axes, Axis, Device, Dtype, Element, Host, MAX_RANK, Slice, SliceMut, Storage, View, ViewMut};

/// Everything that a call needs: `use ssm_kernels::prelude::*`.
pub mod prelude {
    pub use crate::cpu::Cpu;
    pub use crate::ops::causal_conv1d::{
        CausalConv1d, CausalConv1dGradients, CausalConv1dOutputs, CausalConv1dUpdate, CausalConv1dUpdateOutputs,
        CausalConv1dUpstream,
    };
    pub use crate::ops::discretise::{Discretise, DiscretiseGradients, DiscretiseOutputs, DiscretiseUpstream, Rule};
    pub use crate::ops::selective_scan::{
        Projection, ProjectionMut, SelectiveScan, SelectiveScanCarry, SelectiveScanCarryOutputs,
        SelectiveScanGradients, SelectiveScanOutputs, SelectiveScanUpstream,
    };
    pub use crate::ops::squared_attention::{
        SquaredAttention, SquaredAttentionGradients, SquaredAttentionOutputs, SquaredAttentionUpdate,
        SquaredAttentionUpdateOutputs, SquaredAttentionUpstream,
    };
    pub use crate::ops::state_update::{StateUpdate, StateUpdateOutputs};
    pub use crate::ops::{Backward, Forward};
    pub use crate::plan::Plan;
    pub use crate::segments::Segments;
    pub use crate::tensor::{View, ViewMut};
}
