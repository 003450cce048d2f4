//! The form for decoding.

use super::{DECAY, KEY, VALUE, features, scale_squared};
use crate::error::{Error, Result};
use crate::ops::{Operator, Sealed, check_slots};
use crate::tensor::{Element, Host, Memory, Slice, Storage, Strided, StridedMut, View, ViewMut};
use std::marker::PhantomData;

const OP: &str = "squared_attention_update";
const CACHE: [&str; 4] = ["slots", "nheads", "features", "vdim"];
const CACHE_NORM: [&str; 3] = ["slots", "nheads", "features"];

/// A token or a few of squared attention, from a state that is kept up to date in place; `H` is the dtype of the state.
///
/// # Equation
/// The recurrence of the [module](super), in place. out takes the state before it is rounded to its dtype; the next token takes
/// it rounded, so that several tokens in one call are one call for each.
///
/// With `state_indices` row `b` of q belongs to slot `state_indices[b]` of the cache. A negative index is padding: out is 0
/// there, and no slot changes.
///
/// # Shapes
/// | tensor | dimensions, in any memory order | dtype |
/// |---|---|---|
/// | q, k | batch, nheads, seqlen, dim | f32, f16 or bf16, one per call |
/// | v, out | batch, nheads, seqlen, vdim | as q |
/// | log_decay | batch, nheads, seqlen | f32 |
/// | state | slots, nheads, features = dim (dim + 1) / 2, vdim | f32, f16 or bf16 |
/// | norm | slots, nheads, features | f32 |
/// | state_indices | batch | i32 |
///
/// slots is batch without `state_indices`. There is no backward: that of the forward operator is the gradient.
///
/// # Precision, determinism, errors
/// Those of the [module](super). An index beyond the slots, and two rows on one slot, are refused.
///
/// ```
/// use ssm_kernels::prelude::*;
/// let (q, k, v, log_decay) = ([1.0f32], [1.0f32], [7.0f32], [0.5f32.ln()]);
/// let rows = [("batch", 1), ("nheads", 1), ("seqlen", 1), ("dim", 1)];
/// let values = [("batch", 1), ("nheads", 1), ("seqlen", 1), ("vdim", 1)];
/// let log_decay = View::new(&log_decay, [("batch", 1), ("nheads", 1), ("seqlen", 1)]);
/// let update = SquaredAttentionUpdate::new(View::new(&q, rows), View::new(&k, rows), View::new(&v, values), log_decay)?;
/// // One token has been seen, of value 3 and weight 1.
/// let (mut state, mut norm, mut out) = ([3.0f32], [1.0f32], [0.0f32]);
/// let mut state = ViewMut::new(&mut state, [("slots", 1), ("nheads", 1), ("features", 1), ("vdim", 1)]);
/// let mut norm = ViewMut::new(&mut norm, [("slots", 1), ("nheads", 1), ("features", 1)]);
/// let mut view = ViewMut::new(&mut out, values);
/// Cpu::new().forward(&update, SquaredAttentionUpdateOutputs::new(&mut state, &mut norm, &mut view))?;
/// assert!((out[0] - (0.5 * 3.0 + 7.0) / 1.5).abs() < 1e-6);
/// # Ok::<(), ssm_kernels::Error>(())
/// ```
#[derive(Debug)]
#[doc(alias("decode", "step"))]
pub struct SquaredAttentionUpdate<'a, T: 'a, H = f32, S: Storage = Host> {
    q: View<'a, T, S>,
    k: View<'a, T, S>,
    v: View<'a, T, S>,
    log_decay: View<'a, f32, S>,
    scale: Option<f32>,
    state_indices: Option<Slice<'a, i32, S>>,
    host_indices: Option<&'a [i32]>,
    state: PhantomData<fn() -> H>,
}

impl<'a, T: Element, H: Element, S: Storage> SquaredAttentionUpdate<'a, T, H, S> {
    /// The required arguments.
    pub fn new(q: View<'a, T, S>, k: View<'a, T, S>, v: View<'a, T, S>, log_decay: View<'a, f32, S>) -> Result<Self> {
        let (scale, state_indices, host_indices) = (None, None, None);
        let update = Self { q, k, v, log_decay, scale, state_indices, host_indices, state: PhantomData };
        update.inputs()?;
        Ok(update)
    }

    /// What q.k is multiplied by. Default: `1 / sqrt(dim)`. It stands in the state, which is to be
    /// advanced with the same one always.
    #[doc(alias = "softmax_scale")]
    pub fn scale(mut self, scale: f32) -> Self {
        self.scale = Some(scale);
        self
    }

    /// Everything that a backend checks before it runs, without running.
    pub fn check(&self, outputs: SquaredAttentionUpdateOutputs<'_, T, H, S>) -> Result<()> {
        outputs.check(&self.inputs()?).map(|_| ())
    }

    /// All inputs checked and in canonical order.
    pub(crate) fn inputs(&self) -> Result<UpdateInputs<'a, T, S>> {
        let q = self.q.align(OP, "q", KEY)?;
        let [batch, nheads, seqlen, dim] = q.layout.extents;
        let v = self.v.align(OP, "v", VALUE)?;
        v.layout.expect_shape(OP, "v", VALUE, [batch, nheads, seqlen, v.layout.extents[3]])?;
        if let Some(list) = self.state_indices.filter(|list| list.elements() != batch) {
            let (got, expected) = (format!("of {} i32", list.elements()), format!("{batch} for the batch"));
            return Err(Error::Value { op: OP, arg: "state_indices", got, expected });
        }
        Ok(UpdateInputs {
            q,
            k: self.k.align_to(OP, "k", KEY, [batch, nheads, seqlen, dim])?,
            v,
            log_decay: self.log_decay.align_to(OP, "log_decay", DECAY, [batch, nheads, seqlen])?,
            scale_squared: scale_squared(OP, self.scale, dim)?,
            state_indices: self.state_indices,
            host_indices: self.host_indices,
        })
    }
}

impl<'a, T: Element, H: Element> SquaredAttentionUpdate<'a, T, H, Host> {
    /// The slot of each row, or a negative number for padding. Default: slot b for row b.
    #[doc(alias("cache_indices", "state_batch_indices"))]
    pub fn state_indices(mut self, state_indices: &'a [i32]) -> Self {
        (self.state_indices, self.host_indices) = (Some(state_indices.into()), Some(state_indices));
        self
    }
}

impl<T: Element, H: Element, S: Storage> Sealed for SquaredAttentionUpdate<'_, T, H, S> {}

impl<T: Element, H: Element, S: Storage> Operator for SquaredAttentionUpdate<'_, T, H, S> {
    type Storage = S;
    type Outputs<'o> = SquaredAttentionUpdateOutputs<'o, T, H, S>;
    const NAME: &'static str = OP;
}

/// What an update writes: the cache, in place, and out.
#[derive(Debug)]
pub struct SquaredAttentionUpdateOutputs<'o, T: 'o, H: 'o = f32, S: Storage = Host> {
    state: ViewMut<'o, H, S>,
    norm: ViewMut<'o, f32, S>,
    out: ViewMut<'o, T, S>,
}

impl<'o, T: Element, H: Element, S: Storage> SquaredAttentionUpdateOutputs<'o, T, H, S> {
    /// `state` and `norm`, which are read and then written, and `out`, every element of it.
    pub fn new(
        state: &'o mut ViewMut<'_, H, S>,
        norm: &'o mut ViewMut<'_, f32, S>,
        out: &'o mut ViewMut<'_, T, S>,
    ) -> Self {
        Self { state: state.reborrow(), norm: norm.reborrow(), out: out.reborrow() }
    }

    /// All outputs checked against the inputs and in canonical order.
    pub(crate) fn check(self, inputs: &UpdateInputs<'_, T, S>) -> Result<CheckedUpdate<'o, T, H, S>> {
        let [slots, ..] = self.state.shape(OP, "state", CACHE)?;
        let state = inputs.cache(slots);
        let [slots_norm, heads, features, _] = state;
        let outputs = CheckedUpdate {
            out: self.out.align_to(OP, "out", VALUE, inputs.v.layout.extents)?,
            state: self.state.align_to(OP, "state", CACHE, state)?,
            norm: self.norm.align_to(OP, "norm", CACHE_NORM, [slots_norm, heads, features])?,
        };
        inputs.check_slots(slots)?;
        let mut memory = inputs.memory();
        memory.output("out", &outputs.out);
        memory.output("state", &outputs.state);
        memory.output("norm", &outputs.norm);
        memory.check(OP)?;
        Ok(outputs)
    }
}

/// Everything that a backend reads, checked.
pub(crate) struct UpdateInputs<'a, T: 'a, S: Storage> {
    /// (batch, nheads, seqlen, dim).
    pub q: Strided<'a, T, S, 4>,
    pub k: Strided<'a, T, S, 4>,
    /// (batch, nheads, seqlen, vdim).
    pub v: Strided<'a, T, S, 4>,
    /// (batch, nheads, seqlen).
    pub log_decay: Strided<'a, f32, S, 3>,
    pub scale_squared: f32,
    state_indices: Option<Slice<'a, i32, S>>,
    host_indices: Option<&'a [i32]>,
}

impl<'a, T, S: Storage> UpdateInputs<'a, T, S> {
    /// Products of two elements of a key.
    pub fn features(&self) -> usize {
        features(self.q.layout.extents[3])
    }

    /// The extents of a cache that has so many slots.
    fn cache(&self, slots: usize) -> [usize; 4] {
        let [batch, nheads, _, vdim] = self.v.layout.extents;
        [if self.state_indices.is_some() { slots } else { batch }, nheads, self.features(), vdim]
    }

    fn check_slots(&self, slots: usize) -> Result<()> {
        self.host_indices.map_or(Ok(()), |indices| check_slots(OP, indices, slots))
    }

    /// A cache that is only read, of the reference.
    pub fn initial<'h, H>(
        &self,
        state: View<'h, H, S>,
        norm: View<'h, f32, S>,
    ) -> Result<(Strided<'h, H, S, 4>, Strided<'h, f32, S, 3>)> {
        let slots = state.align(OP, "state", CACHE)?.layout.extents[0];
        let extents @ [slots_norm, heads, features, _] = self.cache(slots);
        self.check_slots(slots)?;
        Ok((
            state.align_to(OP, "state", CACHE, extents)?,
            norm.align_to(OP, "norm", CACHE_NORM, [slots_norm, heads, features])?,
        ))
    }

    /// The dimensions by name, for plans.
    pub fn named(&self) -> Vec<(&'static str, usize)> {
        KEY.into_iter().zip(self.q.layout.extents).chain([("vdim", self.v.layout.extents[3])]).collect()
    }

    fn memory(&self) -> Memory {
        let mut memory = Memory::default();
        memory.input("q", &self.q);
        memory.input("k", &self.k);
        memory.input("v", &self.v);
        memory.input("log_decay", &self.log_decay);
        self.state_indices.iter().for_each(|list| memory.input("state_indices", &Strided::flat(*list)));
        memory
    }
}

impl<T> UpdateInputs<'_, T, Host> {
    /// The slot that belongs to row `b`; `None` is padding.
    #[inline(always)]
    pub fn slot(&self, b: usize) -> Option<usize> {
        self.host_indices.map_or(Some(b), |indices| usize::try_from(indices[b]).ok())
    }
}

/// Everything that a backend writes, checked.
pub(crate) struct CheckedUpdate<'o, T: 'o, H: 'o, S: Storage> {
    /// (batch, nheads, seqlen, vdim).
    pub out: StridedMut<'o, T, S, 4>,
    /// (slots, nheads, features, vdim).
    pub state: StridedMut<'o, H, S, 4>,
    /// (slots, nheads, features).
    pub norm: StridedMut<'o, f32, S, 3>,
}
