//! The carry pass between the chunks of a scan.

use super::{CONSTANT, STATE};
use crate::error::Result;
use crate::ops::{Operator, Sealed};
use crate::tensor::{Host, Memory, Storage, Strided, StridedMut, View, ViewMut};

const OP: &str = "selective_scan_carry";
const SUMS: [&str; 3] = ["batch", "nchunks", "dim"];
const CHUNKS: [&str; 4] = ["batch", "nchunks", "dim", "dstate"];

/// Carries states from chunk to chunk: the building block of context parallelism.
///
/// # Equation
/// For each sequence, channel `d` and state `n`, over the chunks `i` that the sequence is cut into:
/// ```text
/// carried_0     = initial or 0
/// carried_{i+1} = exp(A[d,n] delta_sum_i[d]) carried_i + states_i[n]
/// ```
/// `reverse` runs from the last chunk to the first: `carried_{i-1} = exp(A delta_sum_i) carried_i + states_i`.
/// A carried 0 stays 0 under any decay, an overflowed one included.
///
/// # Three passes are one scan
/// Forward, with the chunks as sequences of their own (packed, or rows of a batch; on one device or on several):
/// 1. each chunk from state 0, with [`SelectiveScanOutputs::states_only`](super::SelectiveScanOutputs::states_only),
///    final_state and delta_sum;
/// 2. this operator on those final states and sums, the sequence's initial_state as `initial`;
/// 3. each chunk in full, `carried` as its initial_state. The last chunk's final_state is the sequence's.
///
/// Backward:
/// 1. each chunk with its dout and no dfinal_state, asking only for dinitial_state (which needs no states);
/// 2. this operator in `reverse` on those gradients and the same sums, the sequence's dfinal_state as `initial`;
/// 3. each chunk in full, `carried` as its dfinal_state and the forward's `carried` as its initial_state. The first
///    chunk's dinitial_state is the sequence's; dA, dD, ddt_bias and constant dB and dC add up over the chunks.
///
/// A scan with `reverse` visits its last chunk first: its forward carries in reverse, its backward does not. Between
/// devices only `(dim, 1 + dstate)` floats travel per chunk and direction.
///
/// # Shapes
/// | tensor | dimensions, in any memory order | dtype |
/// |---|---|---|
/// | A | dim, dstate | f32 |
/// | delta_sum | batch, nchunks, dim | f32 |
/// | states, carried | batch, nchunks, dim, dstate | f32 |
/// | initial | batch, dim, dstate | f32 |
///
/// Precision, determinism and errors are those of the [module](super).
///
/// ```
/// use ssm_kernels::prelude::*;
/// // Two chunks of a sequence: what each makes of state 0, and its sum of delta.
/// let (a, delta_sum, states, initial) = ([-0.5f32], [2.0, 2.0], [1.0, 3.0], [4.0]);
/// let A = View::new(&a, [("dim", 1), ("dstate", 1)]);
/// let chunks = [("batch", 1), ("nchunks", 2), ("dim", 1), ("dstate", 1)];
/// let sums = View::new(&delta_sum, [("batch", 1), ("nchunks", 2), ("dim", 1)]);
/// let carry = SelectiveScanCarry::new(A, sums, View::new(&states, chunks))?;
/// let carry = carry.initial(View::new(&initial, [("batch", 1), ("dim", 1), ("dstate", 1)]));
/// let mut carried = [0.0; 2];
/// Cpu::new().forward(&carry, SelectiveScanCarryOutputs::new(&mut ViewMut::new(&mut carried, chunks)))?;
/// // What each chunk starts from.
/// assert!(carried[0] == 4.0 && (carried[1] - (4.0 * (-1.0f32).exp() + 1.0)).abs() < 1e-6);
/// # Ok::<(), ssm_kernels::Error>(())
/// ```
#[derive(Debug)]
pub struct SelectiveScanCarry<'a, S: Storage = Host> {
    A: View<'a, f32, S>,
    delta_sum: View<'a, f32, S>,
    states: View<'a, f32, S>,
    initial: Option<View<'a, f32, S>>,
    reverse: bool,
}

impl<'a, S: Storage> SelectiveScanCarry<'a, S> {
    /// The required arguments.
    pub fn new(A: View<'a, f32, S>, delta_sum: View<'a, f32, S>, states: View<'a, f32, S>) -> Result<Self> {
        let carry = Self { A, delta_sum, states, initial: None, reverse: false };
        carry.inputs()?;
        Ok(carry)
    }

    /// What the first chunk starts from. Default: zero.
    pub fn initial(mut self, initial: View<'a, f32, S>) -> Self {
        self.initial = Some(initial);
        self
    }

    /// From the last chunk to the first. Default: no.
    pub fn reverse(mut self, reverse: bool) -> Self {
        self.reverse = reverse;
        self
    }

    /// Everything that a backend checks before it starts, without running.
    pub fn check(&self, outputs: SelectiveScanCarryOutputs<'_, S>) -> Result<()> {
        outputs.check(&self.inputs()?).map(|_| ())
    }

    /// All inputs checked and in canonical order.
    pub(crate) fn inputs(&self) -> Result<CarryInputs<'a, S>> {
        let states = self.states.align(OP, "states", CHUNKS)?;
        let [batch, nchunks, dim, dstate] = states.layout.extents;
        Ok(CarryInputs {
            A: self.A.align_to(OP, "A", CONSTANT, [dim, dstate])?,
            delta_sum: self.delta_sum.align_to(OP, "delta_sum", SUMS, [batch, nchunks, dim])?,
            states,
            initial: self.initial.map(|view| view.align_to(OP, "initial", STATE, [batch, dim, dstate])).transpose()?,
            reverse: self.reverse,
        })
    }
}

impl<S: Storage> Sealed for SelectiveScanCarry<'_, S> {}

impl<S: Storage> Operator for SelectiveScanCarry<'_, S> {
    type Storage = S;
    type Outputs<'o> = SelectiveScanCarryOutputs<'o, S>;
    const NAME: &'static str = OP;
}

/// What a carry pass writes.
#[derive(Debug)]
pub struct SelectiveScanCarryOutputs<'o, S: Storage = Host> {
    carried: ViewMut<'o, f32, S>,
}

impl<'o, S: Storage> SelectiveScanCarryOutputs<'o, S> {
    /// What each chunk starts from, every element of it.
    pub fn new(carried: &'o mut ViewMut<'_, f32, S>) -> Self {
        Self { carried: carried.reborrow() }
    }

    pub(crate) fn check(self, inputs: &CarryInputs<'_, S>) -> Result<StridedMut<'o, f32, S, 4>> {
        let carried = self.carried.align_to(OP, "carried", CHUNKS, inputs.states.layout.extents)?;
        let mut memory = inputs.memory();
        memory.output("carried", &carried);
        memory.check(OP)?;
        Ok(carried)
    }
}

/// Everything that a backend reads, checked.
pub(crate) struct CarryInputs<'a, S: Storage> {
    pub A: Strided<'a, f32, S, 2>,
    pub delta_sum: Strided<'a, f32, S, 3>,
    pub states: Strided<'a, f32, S, 4>,
    pub initial: Option<Strided<'a, f32, S, 3>>,
    pub reverse: bool,
}

impl<S: Storage> CarryInputs<'_, S> {
    /// The dimensions by name, for plans.
    pub fn named(&self) -> Vec<(&'static str, usize)> {
        CHUNKS.into_iter().zip(self.states.layout.extents).collect()
    }

    pub fn memory(&self) -> Memory {
        let mut memory = Memory::default();
        memory.input("A", &self.A);
        memory.input("delta_sum", &self.delta_sum);
        memory.input("states", &self.states);
        self.initial.iter().for_each(|tensor| memory.input("initial", tensor));
        memory
    }
}
