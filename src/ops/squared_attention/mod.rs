//! Squared attention with a scalar decay for each head and step: the core of 2Mamba. Attention whose weights are squares has a
//! state of finite size, so that it is a state space model too.
//!
//! # Equation
//! For each sequence and head, with the decay `E[t,j] = exp(sum of log_decay over j < r <= t)`:
//! ```text
//! weight[t,j] = (scale q[t].k[j])^2 E[t,j]                               j <= t
//! out[t] = sum_j weight[t,j] v[j] / sum_j weight[t,j]                    0 where that sum is 0
//! ```
//! The same as a recurrence, since `(q.k)^2 = phi(q).phi(k)` with the `features = dim (dim + 1) / 2` products of two elements
//! `phi(x)[i,j] = c x[i] x[j]`, `i <= j`, where `c` is 1 for `i = j` and else the square root of 2, in the order (0,0), (0,1),
//! .., (0,dim-1), (1,1), ..:
//! ```text
//! state[f,p] = exp(log_decay[t]) state[f,p] + phi(scale k[t])[f] v[t,p]
//! norm[f]    = exp(log_decay[t]) norm[f]    + phi(scale k[t])[f]
//! out[t,p]   = sum_f phi(q[t])[f] state[f,p] / sum_f phi(q[t])[f] norm[f]
//! ```
//! both from `initial_state`, or 0. The decay of a step multiplies what came before it; `log_decay` is usually at most 0, in
//! 2Mamba `-softplus` of a projection, and `-inf` forgets all. `scale` is `1 / sqrt(dim)` unless said otherwise; it cancels in
//! out, if the state before was made with the same, and stays in the states.
//!
//! The definition is that of `forwrd_gated` (power 2, `sm_norm`) in gmongaras/2Mamba2Furious (arXiv 2602.17363), with states,
//! their gradients and packed sequences added; upstream a sum of weights that is 0 gives the sum of v. Without decay it is the
//! core of ReBased.
//!
//! Backward, with `n[t]` the sum of weights and `g[t,j] = (dout[t].v[j] - dout[t].out[t]) / n[t]`:
//! ```text
//! dq[t] = sum_j 2 g[t,j] E[t,j] scale^2 (q[t].k[j]) k[j]                 dk[j] = the same with q[t] at the end, over t
//! dv[j] = sum_t weight[t,j] / n[t] dout[t]                               dlog_decay[r] = sum over t >= r > j of g[t,j] weight[t,j]
//! ```
//! and likewise through the states; where n is 0, out does not depend on anything. An absent dout, dfinal_state or dfinal_norm
//! is left out.
//!
//! [`SquaredAttentionUpdate`] is the form for decoding: a few tokens, from a state that it keeps up to date.
//!
//! # Shapes
//! | tensor | dimensions, in any memory order | dtype |
//! |---|---|---|
//! | q, k | batch, nheads, seqlen, dim | f32, f16 or bf16, one per call |
//! | v, out | batch, nheads, seqlen, vdim | as q |
//! | log_decay | batch, nheads, seqlen | f32 |
//! | initial_state, final_state | batch, nheads, features, vdim | f32 |
//! | initial_norm, final_norm | batch, nheads, features | f32 |
//!
//! A gradient has the shape and dtype of its tensor. Heads that share k, v or log_decay are views with a stride of 0. Any
//! extent may be anything, 0 included. With [`SquaredAttention::segments`] batch is 1, and the states have one row per packed
//! sequence along "batch".
//!
//! # Precision
//! Arithmetic is f32 whatever the dtypes. Every backend keeps the rule of [`crate::reference::accuracy`], where weights are
//! numbers that f32 holds in full: below 1.2e-38, the least normal f32, a weight may count as 0, the decay of a pair (times `scale^2`), that
//! with which a state is read or a step added to it, a feature times it, and a gradient by q.k. The decay of a first step without
//! an initial_state need not be looked at.
//!
//! # Determinism
//! Bitwise: run equals run, batch n equals n times batch 1, any number of threads. A gradient has the same bits whichever
//! others are asked for.
//!
//! # Performance
//! Short sequences are computed by pairs of steps, `seqlen (dim + vdim)` operations for each step; long ones in chunks with the
//! state between them, about `4 features vdim`. See [`Cpu`](crate::Cpu) for where the one becomes the other, and for the
//! workspace.
//!
//! # Errors
//! All arguments are checked here before any backend starts: [`crate::Error`] names operator, argument, expected, got.

mod checked;
mod tensors;
mod update;

pub(crate) use checked::{CheckedGradients, CheckedOutputs, CheckedUpstream, Inputs, States};
pub use tensors::{SquaredAttentionGradients, SquaredAttentionOutputs, SquaredAttentionUpstream};
pub(crate) use update::{CheckedUpdate, UpdateInputs};
pub use update::{SquaredAttentionUpdate, SquaredAttentionUpdateOutputs};

use super::{Differentiable, Operator, Sealed, check_segments};
use crate::error::{Error, Result};
use crate::segments::Segments;
use crate::tensor::{Element, Host, Storage, View};

const OP: &str = "squared_attention";
const KEY: [&str; 4] = ["batch", "nheads", "seqlen", "dim"];
const VALUE: [&str; 4] = ["batch", "nheads", "seqlen", "vdim"];
const DECAY: [&str; 3] = ["batch", "nheads", "seqlen"];
const STATE: [&str; 4] = ["batch", "nheads", "features", "vdim"];
const NORM: [&str; 3] = ["batch", "nheads", "features"];

/// The arguments of one squared attention. The [module](self) has equation, shapes and errors.
///
/// ```
/// use ssm_kernels::prelude::*;
/// let (q, k, v) = ([1.0f32, 2.0], [1.0f32, 1.0], [3.0f32, 7.0]);
/// let rows = [("batch", 1), ("nheads", 1), ("seqlen", 2), ("dim", 1)];
/// let values = [("batch", 1), ("nheads", 1), ("seqlen", 2), ("vdim", 1)];
/// // The second step forgets half of the first.
/// let log_decay = [0.0f32, 0.5f32.ln()];
/// let log_decay = View::new(&log_decay, [("batch", 1), ("nheads", 1), ("seqlen", 2)]);
/// let attention = SquaredAttention::new(View::new(&q, rows), View::new(&k, rows), View::new(&v, values), log_decay)?;
/// let mut out = [0.0f32; 2];
/// Cpu::new().forward(&attention, SquaredAttentionOutputs::new(&mut ViewMut::new(&mut out, values)))?;
/// assert_eq!(out[0], 3.0);
/// assert!((out[1] - (0.5 * 3.0 + 7.0) / 1.5).abs() < 1e-6);
/// # Ok::<(), ssm_kernels::Error>(())
/// ```
#[derive(Debug)]
#[doc(alias("2mamba", "rebased", "power_attention"))]
pub struct SquaredAttention<'a, T: 'a, S: Storage = Host> {
    q: View<'a, T, S>,
    k: View<'a, T, S>,
    v: View<'a, T, S>,
    log_decay: View<'a, f32, S>,
    scale: Option<f32>,
    initial: Option<(View<'a, f32, S>, View<'a, f32, S>)>,
    segments: Option<&'a Segments>,
    chunk_size: Option<usize>,
}

impl<'a, T: Element, S: Storage> SquaredAttention<'a, T, S> {
    /// The required arguments.
    pub fn new(q: View<'a, T, S>, k: View<'a, T, S>, v: View<'a, T, S>, log_decay: View<'a, f32, S>) -> Result<Self> {
        let (scale, initial, segments, chunk_size) = (None, None, None, None);
        let attention = Self { q, k, v, log_decay, scale, initial, segments, chunk_size };
        attention.inputs()?;
        Ok(attention)
    }

    /// What q.k is multiplied by. Default: `1 / sqrt(dim)`. It stands in the states, and not in out
    /// if an initial_state was made with the same.
    #[doc(alias = "softmax_scale")]
    pub fn scale(mut self, scale: f32) -> Self {
        self.scale = Some(scale);
        self
    }

    /// State and norm before each sequence. Default: zero.
    #[doc(alias = "initial_states")]
    pub fn initial_state(mut self, initial_state: View<'a, f32, S>, initial_norm: View<'a, f32, S>) -> Self {
        self.initial = Some((initial_state, initial_norm));
        self
    }

    /// Several sequences packed along seqlen, each with its own initial and final state; nothing reaches over a boundary.
    /// batch must be 1.
    #[doc(alias("cu_seqlens", "seq_idx", "varlen"))]
    pub fn segments(mut self, segments: &'a Segments) -> Self {
        self.segments = Some(segments);
        self
    }

    /// Steps that are computed by pairs, from a state before them. Default: what is least work, which is all of a short
    /// sequence; backward, of a long one, as many as make the states that are kept about as much memory as the rows. Another
    /// size gives other bits.
    pub fn chunk_size(mut self, chunk_size: usize) -> Self {
        self.chunk_size = Some(chunk_size);
        self
    }

    /// The dimensions of the call, once all arguments are checked.
    pub fn dims(&self) -> Result<Dims> {
        Ok(self.inputs()?.dims)
    }

    /// Everything that a backend checks before it runs forward, without running.
    pub fn check(&self, outputs: SquaredAttentionOutputs<'_, T, S>) -> Result<()> {
        outputs.check(&self.inputs()?).map(|_| ())
    }

    /// Everything that a backend checks before it runs backward, without running.
    pub fn check_backward(
        &self,
        upstream: SquaredAttentionUpstream<'_, T, S>,
        gradients: SquaredAttentionGradients<'_, T, S>,
    ) -> Result<()> {
        let inputs = self.inputs()?;
        let upstream = upstream.check(&inputs)?;
        gradients.check(&inputs, &upstream).map(|_| ())
    }

    /// All inputs checked and in canonical order.
    pub(crate) fn inputs(&self) -> Result<Inputs<'a, T, S>> {
        let q = self.q.align(OP, "q", KEY)?;
        let [batch, nheads, seqlen, dim] = q.layout.extents;
        let k = self.k.align_to(OP, "k", KEY, [batch, nheads, seqlen, dim])?;
        let v = self.v.align(OP, "v", VALUE)?;
        let vdim = v.layout.extents[3];
        v.layout.expect_shape(OP, "v", VALUE, [batch, nheads, seqlen, vdim])?;
        let nseqs = match self.segments {
            Some(segments) => check_segments::<S>((OP, "q"), segments, None, batch, seqlen)?,
            None => batch,
        };
        if self.chunk_size == Some(0) {
            let (got, expected) = ("0".into(), "at least 1 step".into());
            return Err(Error::Value { op: OP, arg: "chunk_size", got, expected });
        }
        let dims = Dims { batch, nheads, seqlen, dim, vdim, nseqs };
        Ok(Inputs {
            dims,
            q,
            k,
            v,
            log_decay: self.log_decay.align_to(OP, "log_decay", DECAY, [batch, nheads, seqlen])?,
            scale_squared: scale_squared(OP, self.scale, dim)?,
            initial: self
                .initial
                .map(|initial| States::check(["initial_state", "initial_norm"], initial, dims))
                .transpose()?,
            segments: self.segments,
            chunk_size: self.chunk_size,
        })
    }
}

/// Its square: as given, or 1 / dim.
fn scale_squared(op: &'static str, scale: Option<f32>, dim: usize) -> Result<f32> {
    // Without elements there is nothing to scale.
    let Some(scale) = scale else { return Ok((1.0 / dim.max(1) as f64) as f32) };
    if !(scale * scale).is_finite() {
        let expected = "a number whose square is finite".into();
        return Err(Error::Value { op, arg: "scale", got: scale.to_string(), expected });
    }
    Ok(scale * scale)
}

impl<T: Element, S: Storage> Sealed for SquaredAttention<'_, T, S> {}

impl<T: Element, S: Storage> Operator for SquaredAttention<'_, T, S> {
    type Storage = S;
    type Outputs<'o> = SquaredAttentionOutputs<'o, T, S>;
    const NAME: &'static str = OP;
}

impl<T: Element, S: Storage> Differentiable for SquaredAttention<'_, T, S> {
    type Upstream<'u> = SquaredAttentionUpstream<'u, T, S>;
    type Gradients<'o> = SquaredAttentionGradients<'o, T, S>;
}

/// The dimensions of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dims {
    /// Rows of the batch; 1 with packed sequences.
    pub batch: usize,
    /// Heads.
    pub nheads: usize,
    /// Length; with packed sequences the sum of lengths.
    pub seqlen: usize,
    /// Of q and k.
    pub dim: usize,
    /// Of v and out.
    pub vdim: usize,
    /// Sequences: batch, or the number of packed ones.
    pub nseqs: usize,
}

impl Dims {
    /// Products of two elements of a key: dim (dim + 1) / 2.
    pub fn features(&self) -> usize {
        features(self.dim)
    }

    /// By name, for plans.
    pub(crate) fn named(&self) -> Vec<(&'static str, usize)> {
        let Dims { batch, nheads, seqlen, dim, vdim, nseqs } = *self;
        vec![("batch", batch), ("nheads", nheads), ("seqlen", seqlen), ("dim", dim), ("vdim", vdim), ("nseqs", nseqs)]
    }
}

/// (Saturating: no memory holds a state of so many.)
pub(crate) fn features(dim: usize) -> usize {
    let twice = (dim as u128) * (dim as u128 + 1);
    usize::try_from(twice / 2).unwrap_or(usize::MAX)
}
