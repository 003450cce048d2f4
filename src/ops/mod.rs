//! The contracts: one file per operator with its equation, shapes, dtypes, checks and argument structs. No arithmetic.
//!
//! A contract knows no backend. A backend implements [`Forward`] and [`Backward`] for the argument structs of the
//! operators that it has; a pair that does not exist is a compile error at the call.

#[macro_use]
mod macros;

pub mod causal_conv1d;
pub mod discretise;
pub mod selective_scan;
mod sequences;
pub mod squared_attention;
pub mod state_update;

pub(crate) use sequences::Sequences;

use crate::error::Result;
use crate::plan::{Plan, WorkspaceBlock};
use crate::tensor::{SliceMut, Storage};

mod sealed {
    pub trait Sealed {}
}
use sealed::Sealed;

/// The arguments of one operator: what [`Forward`] takes beside the outputs. Sealed.
pub trait Operator: Sealed {
    /// Where its tensors lie.
    type Storage: Storage;
    /// The tensors that the forward direction writes.
    type Outputs<'o>;
    /// The stem of its files, kernels, fixtures and benches.
    const NAME: &'static str;
}

/// An operator with a backward direction. Sealed, as [`Operator`] is.
pub trait Differentiable: Operator {
    /// Gradients of the loss with respect to the outputs.
    type Upstream<'u>;
    /// Gradients of the loss with respect to the inputs, each written only if asked for.
    type Gradients<'o>;
}

/// Workspace memory of a storage.
pub type Workspace<'w, S> = SliceMut<'w, WorkspaceBlock, S>;

/// A backend that runs an operator forward.
///
/// A model is written for any backend that has its operators:
/// ```
/// use ssm_kernels::prelude::*;
/// use ssm_kernels::Result;
///
/// /// x, each step added to the one before.
/// fn sums<B>(backend: &B, x: &[f32]) -> Result<Vec<f32>>
/// where
///     B: for<'a> Forward<CausalConv1d<'a, f32>>,
/// {
///     let sequence = [("batch", 1), ("dim", 1), ("seqlen", x.len())];
///     let conv = CausalConv1d::new(View::new(x, sequence), View::new(&[1.0, 1.0], [("dim", 1), ("width", 2)]))?;
///     let mut out = vec![0.0; x.len()];
///     backend.forward(&conv, CausalConv1dOutputs::new(&mut ViewMut::new(&mut out, sequence)))?;
///     Ok(out)
/// }
/// assert_eq!(sums(&Cpu::new(), &[1.0, 2.0, 3.0])?, [1.0, 3.0, 5.0]);
/// # Ok::<(), ssm_kernels::Error>(())
/// ```
pub trait Forward<Op: Operator> {
    /// How it will run: checks the arguments, reads no tensor.
    fn forward_plan(&self, op: &Op) -> Result<Plan>;

    /// Runs exactly `plan` in the caller's workspace, and allocates no tensor memory.
    fn forward_with(
        &self,
        op: &Op,
        outputs: Op::Outputs<'_>,
        plan: &Plan,
        workspace: Workspace<'_, Op::Storage>,
    ) -> Result<()>;

    /// Runs with a workspace of its own.
    fn forward(&self, op: &Op, outputs: Op::Outputs<'_>) -> Result<()>;
}

/// A backend that runs an operator backward.
pub trait Backward<Op: Differentiable> {
    /// How it will run: checks the arguments, reads no tensor.
    fn backward_plan(&self, op: &Op) -> Result<Plan>;

    /// Runs exactly `plan` in the caller's workspace, and allocates no tensor memory.
    fn backward_with(
        &self,
        op: &Op,
        upstream: Op::Upstream<'_>,
        gradients: Op::Gradients<'_>,
        plan: &Plan,
        workspace: Workspace<'_, Op::Storage>,
    ) -> Result<()>;

    /// Runs with a workspace of its own.
    fn backward(&self, op: &Op, upstream: Op::Upstream<'_>, gradients: Op::Gradients<'_>) -> Result<()>;
}

/// The options that turn the raw step `dt` into the effective step `delta`; every operator that has dt has them.
///
/// `delta = clamp(softplus(dt + dt_bias), dt_limit)`; softplus only if `softplus`, clamp only if `limit`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct StepOptions {
    pub softplus: bool,
    pub limit: Option<(f32, f32)>,
}

impl StepOptions {
    fn check(&self, op: &'static str) -> Result<()> {
        match self.limit {
            None => Ok(()),
            Some((min, max)) if min <= max => Ok(()),
            Some((min, max)) => Err(crate::Error::Value {
                op,
                arg: "dt_limit",
                got: format!("({min}, {max})"),
                expected: "(min, max) with min <= max".into(),
            }),
        }
    }
}

/// Packed sequences fit the `input`, and a table of them on a device fits them. Returns their number.
fn check_segments<S: Storage>(
    (op, input): (&'static str, &'static str),
    segments: &crate::Segments,
    table: Option<&crate::tensor::Slice<'_, i32, S>>,
    batch: usize,
    seqlen: usize,
) -> Result<usize> {
    let refuse = |arg, got: String, expected: String| crate::Error::Value { op, arg, got, expected };
    if batch != 1 {
        return Err(refuse(input, format!("of batch {batch}"), "batch 1 with packed sequences".into()));
    }
    if segments.total() != seqlen {
        let expected = format!("an end at seqlen {seqlen}");
        return Err(refuse("cu_seqlens", format!("ending at {}", segments.total()), expected));
    }
    if let Some(table) = table.filter(|table| table.elements() != segments.cu_seqlens().len()) {
        let expected = format!("{} i32 for {} sequences", segments.cu_seqlens().len(), segments.nseqs());
        return Err(refuse("segments_table", format!("of {} i32", table.elements()), expected));
    }
    Ok(segments.nseqs())
}

/// A gradient is asked for only of what the call has.
fn expect_given(op: &'static str, arg: &'static str, asked: bool, of: &str, given: bool) -> Result<()> {
    if !asked || given {
        return Ok(());
    }
    Err(crate::Error::Value { op, arg, got: format!("asked for without {of}"), expected: format!("none, or {of} too") })
}

/// Each slot of a cache that the rows of a batch name exists, and is that of one row. A negative index is padding.
fn check_slots(op: &'static str, indices: &[i32], slots: usize) -> Result<()> {
    let refuse = |got: String, expected: String| Err(crate::Error::Value { op, arg: "state_indices", got, expected });
    let live = indices.iter().enumerate().filter_map(|(b, &index)| Some((usize::try_from(index).ok()?, b)));
    let mut live: Vec<(usize, usize)> = live.collect();
    if let Some(&(slot, b)) = live.iter().find(|(slot, _)| *slot >= slots) {
        return refuse(format!("{slot} at index {b}"), format!("less than {slots} slots, or negative for padding"));
    }
    live.sort_unstable();
    match live.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => {
            let got = format!("{} at the indices {} and {}", pair[0].0, pair[0].1, pair[1].1);
            refuse(got, "each slot once".into())
        }
        None => Ok(()),
    }
}
