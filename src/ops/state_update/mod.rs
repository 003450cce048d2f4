//! State update: the recurrence of the selective scan, one token or a few at a time, in place in a cache of states. The
//! decode step of Mamba-1 and Mamba-2.
//!
//! # Equation
//! For each row `b` of the batch, whose state is row `s` of the cache (`s = b`, or `state_indices[b]`), each channel, group
//! `g` of the channel, and each token `t` in order:
//! ```text
//! delta_t  = clamp(softplus(dt_t + dt_bias), dt_limit)
//! state[s,n] = exp(delta_t A[n]) state[s,n] + delta_t B_t[g,n] x_t
//! out_t    = (sum_n C_t[g,n] state[s,n] + D x_t) silu(z_t)               silu(z) = z / (1 + exp(-z))
//! ```
//! softplus only with `dt_softplus` (and `softplus(v) = v` above 20, as upstream); clamp only with `dt_limit`;
//! `dt_bias`, `D` and `z` each only if given. out takes the state before it is rounded to its dtype; the next token takes it
//! rounded, so that several tokens in one call are one call for each. The definition is that of `selective_state_update` in
//! state-spaces/mamba (Gu and Dao, arXiv 2312.00752), with several tokens added.
//!
//! # Shapes
//! Two forms: channels, or heads of `headdim` channels each. x says which, and whether there is a dimension of tokens.
//!
//! | tensor | channels, in any memory order | heads, in any memory order | dtype |
//! |---|---|---|---|
//! | x, z, out | batch, \[seqlen,\] dim | batch, \[seqlen,\] nheads, headdim | f32, f16 or bf16, one per call |
//! | dt | as x | as x, or without headdim | as x |
//! | A | dim, dstate | nheads [, headdim] [, dstate] | f32 |
//! | B, C | batch, \[seqlen,\] \[ngroups,\] dstate | the same | as x |
//! | D, dt_bias | dim | nheads [, headdim] | f32 |
//! | state | batch, dim, dstate | batch, nheads, headdim, dstate | f32, f16 or bf16 |
//! | state with state_indices | slots, dim, dstate | slots, nheads, headdim, dstate | as state |
//! | token_states | tokens, dim, dstate | tokens, nheads, headdim, dstate | as state |
//! | state_indices | batch | batch | i32 |
//!
//! A tensor of heads without headdim or dstate has one number for all of them; with A and dt of one number per head (Mamba-2)
//! a head has one exp. Any extent may be anything, 0 included; ngroups divides dim, or nheads, and a group is of neighbours.
//! A B or C that does not depend on the input, (dim, dstate), is a view of ngroups = dim with strides of 0 along batch and
//! seqlen, in the dtype of x.
//! Row `b seqlen + t` of `token_states` is the state after token t of row b: to go back behind a token that was not
//! accepted, copy that row to the cache, or make token_states the next call's cache with these rows as its state_indices.
//!
//! # Cache
//! With `state_indices` the cache may have more rows than the batch. A negative index is padding: its out is 0, and neither a
//! row of the cache nor one of token_states is written. Rows of the cache that no index names stay as they are. On the host
//! an index beyond the cache is an error, and so is a row named twice. On a device the kernel checks: an index beyond
//! the cache counts as padding, and [`StateUpdateOutputs::index_flag`] tells.
//!
//! # Precision
//! Arithmetic is f32 whatever the dtypes. Every backend keeps the rule of [`crate::reference::accuracy`].
//!
//! # Determinism
//! Bitwise: run equals run, batch n equals n times batch 1, several tokens equal one call per token, any number of threads.
//!
//! # Errors
//! All arguments are checked here before any backend starts: [`crate::Error`] names operator, argument, expected, got.

mod checked;
mod form;
mod outputs;

pub(crate) use checked::{CheckedOutputs, Grouped, Inputs};
pub use outputs::StateUpdateOutputs;

use super::{Operator, Sealed, StepOptions};
use crate::error::{Error, Result};
use crate::tensor::{Device, Element, Host, Storage, View};
use form::{Form, extent, has};
use std::marker::PhantomData;

const OP: &str = "state_update";

/// The arguments of one state update; `H` is the dtype of the states. The [module](self) has equation, shapes and errors.
///
/// ```
/// use ssm_kernels::prelude::*;
/// let (x, dt, a, bc) = ([1.0f32, 2.0], [0.5f32; 2], [-1.0f32; 2], [1.0f32]);
/// let (channels, rows) = ([("batch", 1), ("dim", 2)], [("batch", 1), ("dstate", 1)]);
/// let update = StateUpdate::new(
///     View::new(&x, channels),
///     View::new(&dt, channels),
///     View::new(&a, [("dim", 2), ("dstate", 1)]),
///     View::new(&bc, rows),
///     View::new(&bc, rows),
/// )?;
/// // Three sequences are cached; this call advances the last.
/// let (mut cache, mut out) = ([4.0f32; 6], [0.0f32; 2]);
/// let mut state = ViewMut::new(&mut cache, [("slots", 3), ("dim", 2), ("dstate", 1)]);
/// let update = update.state_indices(View::new(&[2], [("batch", 1)]));
/// Cpu::new().forward(&update, StateUpdateOutputs::new(&mut state, &mut ViewMut::new(&mut out, channels)))?;
/// assert_eq!(cache[..4], [4.0; 4]);
/// assert!((cache[4] - (4.0 * (-0.5f32).exp() + 0.5)).abs() < 1e-6 && out[0] == cache[4]);
/// # Ok::<(), ssm_kernels::Error>(())
/// ```
///
/// Heads with one A and one dt each, Mamba-2's:
/// ```
/// use ssm_kernels::prelude::*;
/// let (x, dt, a, bc) = ([1.0f32; 6], [0.5f32; 2], [-1.0f32, -2.0], [1.0f32; 4]);
/// let heads = [("batch", 1), ("nheads", 2), ("headdim", 3)];
/// let rows = View::new(&bc, [("batch", 1), ("dstate", 4)]);
/// let dt = View::new(&dt, [("batch", 1), ("nheads", 2)]);
/// let update = StateUpdate::new(View::new(&x, heads), dt, View::new(&a, [("nheads", 2)]), rows, rows)?;
/// let (mut cache, mut out) = ([1.0f32; 24], [0.0f32; 6]);
/// let mut state = ViewMut::new(&mut cache, [("batch", 1), ("nheads", 2), ("headdim", 3), ("dstate", 4)]);
/// Cpu::new().forward(&update, StateUpdateOutputs::new(&mut state, &mut ViewMut::new(&mut out, heads)))?;
/// assert!((cache[23] - ((-1.0f32).exp() + 0.5)).abs() < 1e-6 && (out[5] - 4.0 * cache[23]).abs() < 1e-6);
/// # Ok::<(), ssm_kernels::Error>(())
/// ```
#[derive(Debug)]
#[doc(alias("selective_state_update", "decode", "step"))]
pub struct StateUpdate<'a, T: 'a, H = f32, S: Storage = Host> {
    x: View<'a, T, S>,
    dt: View<'a, T, S>,
    A: View<'a, f32, S>,
    B: View<'a, T, S>,
    C: View<'a, T, S>,
    D: Option<View<'a, f32, S>>,
    z: Option<View<'a, T, S>>,
    dt_bias: Option<View<'a, f32, S>>,
    step: StepOptions,
    state_indices: Option<View<'a, i32, S>>,
    state: PhantomData<fn() -> H>,
}

impl<'a, T: Element, H: Element, S: Storage> StateUpdate<'a, T, H, S> {
    /// The required arguments.
    pub fn new(
        x: View<'a, T, S>,
        dt: View<'a, T, S>,
        A: View<'a, f32, S>,
        B: View<'a, T, S>,
        C: View<'a, T, S>,
    ) -> Result<Self> {
        let (D, z, dt_bias, state_indices) = (None, None, None, None);
        let (step, state) = (StepOptions::default(), PhantomData);
        let update = Self { x, dt, A, B, C, D, z, dt_bias, step, state_indices, state };
        update.inputs()?;
        Ok(update)
    }

    /// Adds `D x` to the output before the gate.
    pub fn D(mut self, D: View<'a, f32, S>) -> Self {
        self.D = Some(D);
        self
    }

    /// Multiplies the output by `silu(z)`.
    #[doc(alias = "gate")]
    pub fn z(mut self, z: View<'a, T, S>) -> Self {
        self.z = Some(z);
        self
    }

    /// Added to dt before softplus.
    #[doc(alias = "delta_bias")]
    pub fn dt_bias(mut self, dt_bias: View<'a, f32, S>) -> Self {
        self.dt_bias = Some(dt_bias);
        self
    }

    /// Whether delta goes through softplus. Default: no.
    #[doc(alias = "delta_softplus")]
    pub fn dt_softplus(mut self, dt_softplus: bool) -> Self {
        self.step.softplus = dt_softplus;
        self
    }

    /// Clamps delta to (min, max), after softplus. Default: no clamp.
    #[doc(alias("dt_min", "dt_max"))]
    pub fn dt_limit(mut self, dt_limit: (f32, f32)) -> Self {
        self.step.limit = Some(dt_limit);
        self
    }

    /// Everything that a backend checks before it runs, without running.
    pub fn check(&self, outputs: StateUpdateOutputs<'_, T, H, S>) -> Result<()> {
        outputs.check(&self.inputs()?).map(|_| ())
    }

    /// All inputs checked and in canonical order.
    pub(crate) fn inputs(&self) -> Result<Inputs<'a, T, S>> {
        let x_axes = self.x.axes();
        let form = Form::of(x_axes)?;
        let [batch, seqlen] = ["batch", "seqlen"].map(|name| extent(x_axes, name));
        let dstate = extent(self.B.axes(), "dstate");
        let rows = |arg, view: View<'a, T, S>| {
            let ngroups = has(view.axes(), "ngroups").then(|| extent(view.axes(), "ngroups"));
            let tensor = form.rows([batch, seqlen, dstate], ngroups)?.fit(arg, view, &[])?;
            check_groups(arg, ngroups.unwrap_or(1), form.grouped(x_axes)).map(|ngroups| (tensor, ngroups))
        };
        let ((B, B_groups), (C, C_groups)) = (rows("B", self.B)?, rows("C", self.C)?);
        let form = form.with_groups(x_axes, [B_groups, C_groups]);
        let [nheads, headdim] = form.heads();
        let dims = Dims { batch, seqlen, nheads, headdim, dstate };
        let (sequence, channels) = (form.sequence([batch, seqlen])?, form.channels()?);
        let channel = |arg, view: View<'a, f32, S>| channels.fit(arg, view, &["headdim"]);
        self.step.check(OP)?;
        Ok(Inputs {
            dims,
            form,
            x: sequence.fit("x", self.x, &[])?,
            dt: sequence.fit("dt", self.dt, &["headdim"])?,
            A: form.matrix(dstate)?.fit("A", self.A, if form.headed() { &["headdim", "dstate"] } else { &[] })?,
            B: Grouped { tensor: B, heads: (nheads / B_groups).max(1) },
            C: Grouped { tensor: C, heads: (nheads / C_groups).max(1) },
            D: self.D.map(|view| channel("D", view)).transpose()?,
            z: self.z.map(|view| sequence.fit("z", view, &[])).transpose()?,
            dt_bias: self.dt_bias.map(|view| channel("dt_bias", view)).transpose()?,
            step: self.step,
            state_indices: self
                .state_indices
                .map(|view| view.align_to(OP, "state_indices", ["batch"], [batch]))
                .transpose()?,
        })
    }
}

/// The number of groups, at least 1, if it divides the channels or heads; of none of these it does.
fn check_groups(arg: &'static str, ngroups: usize, (name, extent): (&str, usize)) -> Result<usize> {
    if extent == 0 {
        return Ok(1);
    }
    if ngroups == 0 || extent % ngroups != 0 {
        let expected = format!("a number of groups that divides {name} {extent}");
        return Err(Error::Value { op: OP, arg, got: format!("in {ngroups} groups"), expected });
    }
    Ok(ngroups)
}

impl<'a, T: Element, H: Element> StateUpdate<'a, T, H, Host> {
    /// The row of the cache for each row of the batch; negative is padding. Default: row b for row b.
    #[doc(alias("cache_indices", "state_batch_indices"))]
    pub fn state_indices(mut self, state_indices: View<'a, i32, Host>) -> Self {
        self.state_indices = Some(state_indices);
        self
    }
}

impl<'a, T: Element, H: Element> StateUpdate<'a, T, H, Device> {
    /// As on the host, with indices that the host does not read: the kernel takes one beyond the cache for padding, and
    /// writes it down in [`StateUpdateOutputs::index_flag`].
    ///
    /// # Safety
    /// When the kernel reads them, no two name the same row of the cache: it would be written by two blocks at once.
    pub unsafe fn state_indices_from_device(mut self, state_indices: View<'a, i32, Device>) -> Self {
        self.state_indices = Some(state_indices);
        self
    }
}

impl<T: Element, H: Element, S: Storage> Sealed for StateUpdate<'_, T, H, S> {}

impl<T: Element, H: Element, S: Storage> Operator for StateUpdate<'_, T, H, S> {
    type Storage = S;
    type Outputs<'o> = StateUpdateOutputs<'o, T, H, S>;
    const NAME: &'static str = OP;
}

/// The dimensions of one call. Channels are heads, each a run of channels that share their groups of B and C.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dims {
    pub batch: usize,
    pub seqlen: usize,
    pub nheads: usize,
    pub headdim: usize,
    pub dstate: usize,
}

impl Dims {
    /// For plans.
    pub fn named(self) -> Vec<(&'static str, usize)> {
        let Self { batch, seqlen, nheads, headdim, dstate } = self;
        vec![("batch", batch), ("seqlen", seqlen), ("nheads", nheads), ("headdim", headdim), ("dstate", dstate)]
    }
}
