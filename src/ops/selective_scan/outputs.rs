//! What the forward direction writes.

use super::checked::{CheckedOutputs, ChunkStates, Inputs};
use super::{CHUNKS, Dims, OP, SEQUENCE, STATE};
use crate::error::{Error, Result};
use crate::tensor::{Element, Host, Storage, ViewMut};

/// What a selective scan writes.
///
/// ```
/// use ssm_kernels::prelude::*;
/// # let (ones, a) = ([1.0f32; 4], [-0.5f32]);
/// # let sequence = [("batch", 1), ("dim", 1), ("seqlen", 4)];
/// # let state = [("batch", 1), ("dim", 1), ("dstate", 1)];
/// # let rows = View::new(&ones, [("batch", 1), ("ngroups", 1), ("dstate", 1), ("seqlen", 4)]);
/// # let (x, A) = (View::new(&ones, sequence), View::new(&a, [("dim", 1), ("dstate", 1)]));
/// let scan = SelectiveScan::new(x, x, A, rows, rows)?; // four steps of 1, A = -0.5
/// let (mut out, mut chunks, mut last) = ([0.0; 4], [0.0; 2], [0.0]);
/// let mut out_view = ViewMut::new(&mut out, sequence);
/// let mut chunks_view = ViewMut::new(&mut chunks, [("nchunks", 2), ("dim", 1), ("dstate", 1)]);
/// let mut last_view = ViewMut::new(&mut last, state);
/// let outputs = SelectiveScanOutputs::new(&mut out_view).chunk_states(2, &mut chunks_view).final_state(&mut last_view);
/// Cpu::new().forward(&scan, outputs)?;
/// // C is 1, so that each output is the state.
/// assert!((out[1] - chunks[0]).abs() < 1e-6 && (out[3] - chunks[1]).abs() < 1e-6 && last[0] == chunks[1]);
///
/// // Where a call ends another goes on.
/// let scan = scan.initial_state(View::new(&last, state));
/// Cpu::new().forward(&scan, SelectiveScanOutputs::new(&mut ViewMut::new(&mut out, sequence)))?;
/// assert!((out[0] - (last[0] * (-0.5f32).exp() + 1.0)).abs() < 1e-6);
/// # Ok::<(), ssm_kernels::Error>(())
/// ```
#[derive(Debug)]
pub struct SelectiveScanOutputs<'o, T: 'o, S: Storage = Host> {
    out: Option<ViewMut<'o, T, S>>,
    final_state: Option<ViewMut<'o, f32, S>>,
    chunk_states: Option<(usize, ViewMut<'o, f32, S>)>,
    delta_sum: Option<ViewMut<'o, f32, S>>,
}

impl<'o, T: Element, S: Storage> SelectiveScanOutputs<'o, T, S> {
    /// `out`, every element of it, and whatever the methods add.
    pub fn new(out: &'o mut ViewMut<'_, T, S>) -> Self {
        Self { out: Some(out.reborrow()), ..Self::states_only() }
    }

    /// No `out`: only what the methods add, at least one. The first pass of a scan whose sequences are cut into chunks
    /// ([`SelectiveScanCarry`](super::SelectiveScanCarry)).
    pub fn states_only() -> Self {
        Self { out: None, final_state: None, chunk_states: None, delta_sum: None }
    }
    writes!(
        /// Also the state after the last step of each sequence.
        #[doc(alias("last_state", "return_last_state"))]
        final_state: f32
    );
    writes!(
        /// Also the sum of delta over each sequence, (batch, dim): `exp(A delta_sum)` is the decay over all of it.
        delta_sum: f32
    );

    /// Also the state after each full `every` steps (for prefix caches; for backward with
    /// [`SelectiveScan::checkpoint_every`](super::SelectiveScan::checkpoint_every)).
    #[doc(alias = "checkpoints")]
    pub fn chunk_states(mut self, every: usize, chunk_states: &'o mut ViewMut<'_, f32, S>) -> Self {
        self.chunk_states = Some((every, chunk_states.reborrow()));
        self
    }

    /// All outputs checked against the inputs and in canonical order.
    pub(crate) fn check<'i>(self, inputs: &Inputs<'i, T, S>) -> Result<CheckedOutputs<'o, T, S>> {
        let Dims { batch, dim, seqlen, dstate, nseqs } = inputs.dims;
        let out = self.out.map(|view| view.align_to(OP, "out", SEQUENCE, [batch, dim, seqlen])).transpose()?;
        let state = |view: ViewMut<'o, f32, S>| view.align_to(OP, "final_state", STATE, [nseqs, dim, dstate]);
        let final_state = self.final_state.map(state).transpose()?;
        let chunk_states = match self.chunk_states {
            None => None,
            Some((every, view)) => {
                let offsets = inputs.chunk_offsets(every)?;
                let states = view.align_to(OP, "chunk_states", CHUNKS, [offsets[nseqs], dim, dstate])?;
                Some(ChunkStates { every, offsets, states })
            }
        };
        let sum = |view: ViewMut<'o, f32, S>| view.align_to(OP, "delta_sum", ["batch", "dim"], [nseqs, dim]);
        let delta_sum = self.delta_sum.map(sum).transpose()?;
        let mut memory = inputs.memory();
        out.iter().for_each(|tensor| memory.output("out", tensor));
        final_state.iter().for_each(|tensor| memory.output("final_state", tensor));
        chunk_states.iter().for_each(|chunks| memory.output("chunk_states", &chunks.states));
        delta_sum.iter().for_each(|tensor| memory.output("delta_sum", tensor));
        if !memory.has_outputs() {
            let reason = "at least one of final_state, chunk_states, delta_sum is written without out";
            return Err(Error::Missing { op: OP, arg: "outputs", reason });
        }
        memory.check(OP)?;
        Ok(CheckedOutputs { out, final_state, chunk_states, delta_sum })
    }
}
