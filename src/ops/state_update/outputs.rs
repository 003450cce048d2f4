//! What a state update writes.

use super::OP;
use super::checked::{CheckedOutputs, Inputs};
use crate::error::{Error, Result};
use crate::tensor::{Device, Element, Host, Layout, SliceMut, Storage, StridedMut, ViewMut};

/// What a state update writes: the cache, in place, and out.
///
/// Two tokens are guessed, and only the first is accepted:
/// ```
/// use ssm_kernels::prelude::*;
/// # let (ones, a) = ([1.0f32; 2], [-0.5f32]);
/// # let tokens = [("batch", 1), ("seqlen", 2), ("dim", 1)];
/// # let rows = View::new(&ones, [("batch", 1), ("seqlen", 2), ("dstate", 1)]);
/// # let (x, A) = (View::new(&ones, tokens), View::new(&a, [("dim", 1), ("dstate", 1)]));
/// let update = StateUpdate::new(x, x, A, rows, rows)?;
/// let (mut cache, mut out, mut kept) = ([0.0f32], [0.0; 2], [0.0f32; 2]);
/// let mut state = ViewMut::new(&mut cache, [("batch", 1), ("dim", 1), ("dstate", 1)]);
/// let mut kept_view = ViewMut::new(&mut kept, [("tokens", 2), ("dim", 1), ("dstate", 1)]);
/// let mut out_view = ViewMut::new(&mut out, tokens);
/// Cpu::new().forward(&update, StateUpdateOutputs::new(&mut state, &mut out_view).token_states(&mut kept_view))?;
/// assert_eq!(cache[0], kept[1]); // the state after both
/// cache[0] = kept[0]; // back behind the second
/// assert_eq!(cache[0], 1.0);
/// # Ok::<(), ssm_kernels::Error>(())
/// ```
#[derive(Debug)]
pub struct StateUpdateOutputs<'o, T: 'o, H: 'o = f32, S: Storage = Host> {
    state: ViewMut<'o, H, S>,
    out: ViewMut<'o, T, S>,
    token_states: Option<ViewMut<'o, H, S>>,
    index_flag: Option<SliceMut<'o, u32, S>>,
}

impl<'o, T: Element, H: Element, S: Storage> StateUpdateOutputs<'o, T, H, S> {
    /// `state`, which is read and then written, and `out`, every element of it.
    pub fn new(state: &'o mut ViewMut<'_, H, S>, out: &'o mut ViewMut<'_, T, S>) -> Self {
        let (token_states, index_flag) = (None, None);
        Self { state: state.reborrow(), out: out.reborrow(), token_states, index_flag }
    }
    writes!(
        /// Also the state after each token, in rows `b seqlen + t`; those of padding are not written.
        #[doc(alias("intermediate_states", "spec_decode"))]
        token_states: H
    );

    /// All outputs checked against the inputs and in canonical order.
    pub(crate) fn check<'i>(self, inputs: &Inputs<'i, T, S>) -> Result<CheckedOutputs<'o, T, H, S>> {
        let dims = inputs.dims;
        let slots = inputs.slots("state", self.state.axes())?;
        let state = inputs.state(slots, self.state)?;
        let out = inputs.form.sequence([dims.batch, dims.seqlen])?.fit_mut("out", self.out)?;
        let tokens = dims.batch.saturating_mul(dims.seqlen);
        let token_states = match self.token_states {
            None => None,
            Some(view) => Some(inputs.form.states("tokens", tokens, dims.dstate)?.fit_mut("token_states", view)?),
        };
        let flag = self.index_flag.map(|memory| {
            let layout = Layout { extents: [memory.elements()], strides: [1] };
            StridedMut { memory: memory.into(), layout }
        });
        if let Some(flag) = flag.as_ref().filter(|flag| flag.memory.elements() != 1) {
            let (got, names) = (vec![flag.memory.elements()], "words".into());
            return Err(Error::Shape { op: OP, arg: "index_flag", got, expected: vec![1], names });
        }
        let mut memory = inputs.memory();
        memory.output("out", &out);
        memory.output("state", &state);
        token_states.iter().for_each(|tensor| memory.output("token_states", tensor));
        flag.iter().for_each(|flag| memory.output("index_flag", flag));
        memory.check(OP)?;
        inputs.check_indices(slots)?;
        Ok(CheckedOutputs { out, state, token_states, index_flag: flag.map(|flag| flag.memory) })
    }
}

impl<'o, T: Element, H: Element> StateUpdateOutputs<'o, T, H, Device> {
    /// Where the kernel writes down indices beyond the cache: 1 + the last row of the batch that has one, if that is more than
    /// what stands there. Clear it before the call, and read it whenever the work is done.
    pub fn index_flag(mut self, flag: &'o mut SliceMut<'_, u32, Device>) -> Self {
        self.index_flag = Some(flag.reborrow());
        self
    }
}
