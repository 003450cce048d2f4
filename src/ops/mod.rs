//! The contracts: one file per operator with its equation, shapes, dtypes, checks and argument structs. No arithmetic.
//!
//! A contract knows no backend. A backend implements [`Forward`] and [`Backward`] for the argument structs of the
//! operators that it has; a pair that does not exist is a compile error at the call.

#[macro_use]
mod macros;

pub mod causal_conv1d;
pub mod discretise;
pub mod selective_scan;
pub mod state_update;

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

/// Packed sequences fit x, and a table of them on a device fits them. Returns their number.
fn check_segments<S: Storage>(
    op: &'static str,
    segments: &crate::Segments,
    table: Option<&crate::tensor::Slice<'_, i32, S>>,
    batch: usize,
    seqlen: usize,
) -> Result<usize> {
    let refuse = |arg, got: String, expected: String| crate::Error::Value { op, arg, got, expected };
    if batch != 1 {
        return Err(refuse("x", format!("of batch {batch}"), "batch 1 with packed sequences".into()));
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
