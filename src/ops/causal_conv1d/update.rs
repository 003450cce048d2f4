//! The form for decoding.

use super::SEQUENCE;
use super::checked::Weights;
use crate::error::{Error, Result};
use crate::ops::{Operator, Sealed, check_slots};
use crate::tensor::{Device, Element, Host, Memory, Slice, Storage, Strided, StridedMut, View, ViewMut};

const OP: &str = "causal_conv1d_update";
const CACHE: [&str; 3] = ["slots", "dim", "state_len"];

/// A few steps of a causal convolution, from a state that is kept up to date in place.
///
/// # Equation
/// That of the [module](super), with the steps of x behind those that the state remembers:
/// ```text
/// out[t] = act(bias[d] + sum_w weight[d,w] x[t - (width - 1 - w)]),      x before the first step from the state
/// ```
/// A state holds `state_len >= width - 1` inputs of a channel. Without `cache_seqlens` the oldest comes first, and a call
/// shifts it: `state' = the last state_len of (state, x)`. With them it is a ring: step `t` of row `b` is written at
/// `(cache_seqlens[b] + t) mod state_len`, and what came before the first step is read backwards from
/// `cache_seqlens[b] - 1`, modulo state_len. All reads come before the writes; where x has more than state_len steps, the
/// last ones stay. Repeated calls are one call of [`CausalConv1d`](super::CausalConv1d). The definition is that of
/// `causal_conv1d_update_ref` in Dao-AILab/causal-conv1d.
///
/// To go back behind tokens that were not accepted, let `cache_seqlens` of the next call count the accepted ones alone: a ring
/// with `state_len >= width - 1 +` the tokens of a call still has the inputs before any of them.
///
/// With `state_indices` row `b` of x belongs to slot `state_indices[b]` of the state. A negative index is padding: out is 0
/// there, and no slot changes.
///
/// # Shapes
/// | tensor | dimensions, in any memory order | dtype |
/// |---|---|---|
/// | x, out | batch, dim, seqlen | f32, f16 or bf16, one per call |
/// | conv_state | slots, dim, state_len | as x |
/// | weight | dim, width from 1 to 16 | f32, f16 or bf16, whatever x has |
/// | bias | dim | as weight |
/// | cache_seqlens, state_indices | batch | i32 |
///
/// slots is batch without `state_indices`. The weight's gradient is that of the forward operator: there is no backward.
///
/// # Precision, determinism, errors
/// Those of the [module](super). Indices on the host are checked: one beyond the slots, two rows on one slot and a negative
/// length are refused. Those on a device ([`CausalConv1dUpdate::state_indices_on`]) are read by the kernel.
///
/// ```
/// use ssm_kernels::prelude::*;
/// let (x, weight, mut state) = ([3.0f32], [0.5f32, 1.0], [2.0f32]);
/// let sequence = [("batch", 1), ("dim", 1), ("seqlen", 1)];
/// let update = CausalConv1dUpdate::new(View::new(&x, sequence), View::new(&weight, [("dim", 1), ("width", 2)]))?;
/// let mut out = [0.0f32];
/// let mut conv_state = ViewMut::new(&mut state, [("slots", 1), ("dim", 1), ("state_len", 1)]);
/// let mut view = ViewMut::new(&mut out, sequence);
/// Cpu::new().forward(&update, CausalConv1dUpdateOutputs::new(&mut view, &mut conv_state))?;
/// assert_eq!((out, state), ([4.0], [3.0]));
/// # Ok::<(), ssm_kernels::Error>(())
/// ```
#[derive(Debug)]
#[doc(alias("causal_conv1d_update", "conv_step"))]
pub struct CausalConv1dUpdate<'a, T: 'a, W: 'a = T, S: Storage = Host> {
    x: View<'a, T, S>,
    weight: View<'a, W, S>,
    bias: Option<View<'a, W, S>>,
    silu: bool,
    cache_seqlens: Option<Slice<'a, i32, S>>,
    state_indices: Option<Slice<'a, i32, S>>,
    /// The values of the two above that the host can read.
    host_lengths: Option<&'a [i32]>,
    host_indices: Option<&'a [i32]>,
}

impl<'a, T: Element, W: Element, S: Storage> CausalConv1dUpdate<'a, T, W, S> {
    /// The required arguments.
    pub fn new(x: View<'a, T, S>, weight: View<'a, W, S>) -> Result<Self> {
        let (cache_seqlens, state_indices, host_lengths, host_indices) = (None, None, None, None);
        let update =
            Self { x, weight, bias: None, silu: false, cache_seqlens, state_indices, host_lengths, host_indices };
        update.inputs()?;
        Ok(update)
    }

    /// Added to every output, before silu.
    pub fn bias(mut self, bias: View<'a, W, S>) -> Self {
        self.bias = Some(bias);
        self
    }

    /// Whether the output goes through silu. Default: no.
    #[doc(alias("activation", "swish"))]
    pub fn silu(mut self, silu: bool) -> Self {
        self.silu = silu;
        self
    }

    /// Everything that a backend checks before it runs, without running.
    pub fn check(&self, outputs: CausalConv1dUpdateOutputs<'_, T, S>) -> Result<()> {
        outputs.check(&self.inputs()?).map(|_| ())
    }

    /// All inputs checked and in canonical order.
    pub(crate) fn inputs(&self) -> Result<UpdateInputs<'a, T, W, S>> {
        let x = self.x.align(OP, "x", SEQUENCE)?;
        let [batch, dim, _] = x.layout.extents;
        let refuse = |arg, got: String, expected: String| Err(Error::Value { op: OP, arg, got, expected });
        for (arg, list) in [("cache_seqlens", self.cache_seqlens), ("state_indices", self.state_indices)] {
            if let Some(list) = list.filter(|list| list.elements() != batch) {
                return refuse(arg, format!("of {} i32", list.elements()), format!("{batch} for the batch"));
            }
        }
        if let Some(b) = self.host_lengths.and_then(|lengths| lengths.iter().position(|&length| length < 0)) {
            let length = self.host_lengths.map_or(0, |lengths| lengths[b]);
            return refuse("cache_seqlens", format!("{length} at index {b}"), "0 or more".into());
        }
        Ok(UpdateInputs {
            x,
            weights: Weights::check(OP, self.weight, self.bias, self.silu, dim)?,
            cache_seqlens: self.cache_seqlens,
            state_indices: self.state_indices,
            host_indices: self.host_indices,
        })
    }
}

impl<'a, T: Element, W: Element> CausalConv1dUpdate<'a, T, W, Host> {
    /// Steps that each row has seen: the state is a ring. Default: the state is shifted.
    ///
    /// ```
    /// use ssm_kernels::prelude::*;
    /// let (x, weight, mut state) = ([3.0f32], [0.5f32, 1.0], [1.0f32, 2.0]);
    /// let token = [("batch", 1), ("dim", 1), ("seqlen", 1)];
    /// let update = CausalConv1dUpdate::new(View::new(&x, token), View::new(&weight, [("dim", 1), ("width", 2)]))?;
    /// let update = update.cache_seqlens(&[2]); // it has seen 1 and 2: this one goes where the 1 is
    /// let mut out = [0.0f32];
    /// let mut ring = ViewMut::new(&mut state, [("slots", 1), ("dim", 1), ("state_len", 2)]);
    /// Cpu::new().forward(&update, CausalConv1dUpdateOutputs::new(&mut ViewMut::new(&mut out, token), &mut ring))?;
    /// assert_eq!((out, state), ([4.0], [3.0, 2.0]));
    /// # Ok::<(), ssm_kernels::Error>(())
    /// ```
    pub fn cache_seqlens(mut self, cache_seqlens: &'a [i32]) -> Self {
        (self.cache_seqlens, self.host_lengths) = (Some(cache_seqlens.into()), Some(cache_seqlens));
        self
    }

    /// The slot of each row, or a negative number for padding. Default: slot b for row b.
    #[doc(alias("conv_state_indices", "cache_indices"))]
    pub fn state_indices(mut self, state_indices: &'a [i32]) -> Self {
        (self.state_indices, self.host_indices) = (Some(state_indices.into()), Some(state_indices));
        self
    }
}

impl<'a, T: Element, W: Element> CausalConv1dUpdate<'a, T, W, Device> {
    /// Steps that each row has seen: the state is a ring. Default: the state is shifted. The kernel takes them modulo
    /// state_len, whatever they are.
    pub fn cache_seqlens_on(mut self, cache_seqlens: Slice<'a, i32, Device>) -> Self {
        self.cache_seqlens = Some(cache_seqlens);
        self
    }

    /// The slot of each row, or a negative number for padding. Default: slot b for row b.
    ///
    /// The kernel checks that slots exist: a row whose slot does not is treated as padding, and sets the word of
    /// [`CausalConv1dUpdateOutputs::out_of_range`].
    ///
    /// # Safety
    /// When kernels read them, no two that are not negative are equal: two rows would update one slot at once.
    pub unsafe fn state_indices_on(mut self, state_indices: Slice<'a, i32, Device>) -> Self {
        self.state_indices = Some(state_indices);
        self
    }
}

impl<T: Element, W: Element, S: Storage> Sealed for CausalConv1dUpdate<'_, T, W, S> {}

impl<T: Element, W: Element, S: Storage> Operator for CausalConv1dUpdate<'_, T, W, S> {
    type Storage = S;
    type Outputs<'o> = CausalConv1dUpdateOutputs<'o, T, S>;
    const NAME: &'static str = OP;
}

/// What an update writes.
#[derive(Debug)]
pub struct CausalConv1dUpdateOutputs<'o, T: 'o, S: Storage = Host> {
    out: ViewMut<'o, T, S>,
    conv_state: ViewMut<'o, T, S>,
    out_of_range: Option<ViewMut<'o, u32, S>>,
}

impl<'o, T: Element, S: Storage> CausalConv1dUpdateOutputs<'o, T, S> {
    /// `out`, every element of it, and the state, which is read first.
    pub fn new(out: &'o mut ViewMut<'_, T, S>, conv_state: &'o mut ViewMut<'_, T, S>) -> Self {
        Self { out: out.reborrow(), conv_state: conv_state.reborrow(), out_of_range: None }
    }

    /// All outputs checked against the inputs and in canonical order.
    pub(crate) fn check<W: Element>(self, inputs: &UpdateInputs<'_, T, W, S>) -> Result<CheckedUpdate<'o, T, S>> {
        let extents @ [batch, dim, _] = inputs.x.layout.extents;
        let [slots, _, state_len] = self.conv_state.shape(OP, "conv_state", CACHE)?;
        let expected_slots = if inputs.state_indices.is_some() { slots } else { batch };
        let least = inputs.weights.width() - 1;
        if state_len < least {
            let (got, expected) = (format!("of state_len {state_len}"), format!("a state_len of {least} or more"));
            return Err(Error::Value { op: OP, arg: "conv_state", got, expected });
        }
        if let Some(indices) = inputs.host_indices {
            check_slots(OP, indices, slots)?;
        }
        let outputs = CheckedUpdate {
            out: self.out.align_to(OP, "out", SEQUENCE, extents)?,
            conv_state: self.conv_state.align_to(OP, "conv_state", CACHE, [expected_slots, dim, state_len])?,
            out_of_range: self.out_of_range.map(|view| view.align_to(OP, "out_of_range", ["flag"], [1])).transpose()?,
        };
        let mut memory = inputs.memory();
        memory.output("out", &outputs.out);
        memory.output("conv_state", &outputs.conv_state);
        outputs.out_of_range.iter().for_each(|flag| memory.output("out_of_range", flag));
        memory.check(OP)?;
        Ok(outputs)
    }
}

impl<'o, T: Element> CausalConv1dUpdateOutputs<'o, T, Device> {
    /// A word, ("flag", 1), that the kernel sets to 1 if an index lies beyond the slots. Nobody clears it.
    pub fn out_of_range(mut self, flag: &'o mut ViewMut<'_, u32, Device>) -> Self {
        self.out_of_range = Some(flag.reborrow());
        self
    }
}

/// Everything that a backend reads, checked.
pub(crate) struct UpdateInputs<'a, T: 'a, W: 'a, S: Storage> {
    pub x: Strided<'a, T, S, 3>,
    pub weights: Weights<'a, W, S>,
    pub cache_seqlens: Option<Slice<'a, i32, S>>,
    pub state_indices: Option<Slice<'a, i32, S>>,
    host_indices: Option<&'a [i32]>,
}

impl<T, W: Element, S: Storage> UpdateInputs<'_, T, W, S> {
    /// The dimensions by name, for plans.
    pub fn named(&self) -> Vec<(&'static str, usize)> {
        let dims = SEQUENCE.into_iter().zip(self.x.layout.extents);
        dims.chain([("width", self.weights.width())]).collect()
    }

    pub fn memory(&self) -> Memory {
        let mut memory = Memory::default();
        memory.input("x", &self.x);
        self.weights.record(&mut memory);
        self.cache_seqlens.iter().for_each(|list| memory.input("cache_seqlens", &Strided::flat(*list)));
        self.state_indices.iter().for_each(|list| memory.input("state_indices", &Strided::flat(*list)));
        memory
    }
}

/// Everything that a backend writes, checked.
pub(crate) struct CheckedUpdate<'o, T: 'o, S: Storage> {
    pub out: StridedMut<'o, T, S, 3>,
    pub conv_state: StridedMut<'o, T, S, 3>,
    /// Only kernels meet an index that nobody has checked.
    #[allow(dead_code, reason = "without the GPU backend nobody looks at it")]
    pub out_of_range: Option<StridedMut<'o, u32, S, 1>>,
}
