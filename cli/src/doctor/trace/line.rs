//! One channel of one sequence, and its inputs.

use super::{Cause, largest, shown};
use crate::doctor::case::{Case, Part, round};
use crate::run::selective_scan::{Projected, Shaped};
use ssm_kernels::Dtype;
use ssm_kernels::reference::Real;

/// One channel of one sequence: its inputs as computed with, and as stored.
pub(super) struct Line<'l, 'c> {
    pub case: &'l Case<'c>,
    pub used: &'l Part<'l>,
    pub stored: &'l Part<'l>,
    pub seq: usize,
    pub channel: usize,
    pub dtype: Option<Dtype>,
}

/// An input: the tensor, which of its elements, the value computed with and the value stored.
#[derive(Clone, Copy)]
pub(super) struct Operand {
    pub tensor: &'static str,
    pub state: Option<usize>,
    pub time: Option<usize>,
    pub used: f32,
    pub stored: f32,
}

/// A value, or why it is not finite.
pub(super) type Followed<R> = std::result::Result<R, Cause>;

/// Whether a value has left the range, or is no number.
pub(super) fn lost<R: Real>(value: R) -> bool {
    !value.to_f64().is_finite()
}

impl Line<'_, '_> {
    /// The value itself if it is finite; else an operand is to blame, or what computed it.
    pub(super) fn check<R: Real>(
        &self,
        operands: &[Operand],
        kind: &'static str,
        value: R,
        text: impl FnOnce() -> String,
    ) -> Followed<R> {
        if !lost(value) {
            return Ok(value);
        }
        let verb = if value.to_f64().is_nan() { "is no number" } else { "overflows" };
        Err(self.blame(operands).unwrap_or_else(|| Cause::new(kind, format!("{} {verb}", text()))))
    }

    /// A result as it is stored.
    pub(super) fn written<R: Real>(&self, name: &str, value: R) -> Followed<()> {
        // The value is an f32 here, so that it is not rounded twice.
        match self.dtype.filter(|&dtype| !round(value.to_f64() as f32, dtype).is_finite()) {
            Some(dtype) => Err(Cause::of_write(name, &shown(value), "f32", dtype)),
            None => Ok(()),
        }
    }

    /// The first operand that is not finite: in the file, or once it has the dtype.
    pub(super) fn blame(&self, operands: &[Operand]) -> Option<Cause> {
        let operand = operands.iter().find(|operand| !operand.used.is_finite())?;
        let Operand { tensor, used, stored, .. } = *operand;
        let place = self.place(operand);
        let (kind, text) = match (stored.is_finite(), self.dtype) {
            (true, Some(dtype)) => {
                let range = format!("beyond {}, the largest {dtype}", largest(dtype));
                ("conversion", format!("{tensor} {place} is {stored:e} in the file, and {used} as {dtype}: {range}"))
            }
            _ => ("input", format!("{tensor} {place} is {used} in the file")),
        };
        Some(Cause { tensor: Some(tensor), ..Cause::new(kind, text) })
    }

    /// Which element of its tensor an operand is.
    fn place(&self, &Operand { tensor, state, time, .. }: &Operand) -> String {
        let (channel, (batch, _, _)) = (self.channel, self.case.span(self.seq));
        match (state, time) {
            (None, None) => format!("(channel {channel})"),
            (None, Some(time)) => format!("(batch {batch}, channel {channel}, time {time})"),
            (Some(n), None) if tensor != "A" && tensor != "B" && tensor != "C" => {
                format!("(sequence {}, channel {channel}, state {n})", self.seq)
            }
            (Some(n), None) => format!("(channel {channel}, state {n})"),
            (Some(n), Some(time)) => {
                format!("(batch {batch}, group {}, state {n}, time {time})", self.case.group(tensor, channel))
            }
        }
    }

    /// dt + dt_bias.
    pub(super) fn raw<R: Real>(&self, time: usize) -> R {
        let bias = self.vector("dt_bias", &self.used.tensors.dt_bias).map_or(0.0, |bias| bias.used);
        R::of(self.dt(time).used) + R::of(bias)
    }

    pub(super) fn initial_operand(&self, n: usize) -> Operand {
        let index = self.seq * self.case.dims.dstate + n;
        let used = self.used.tensors.initial_state.as_ref().map_or(0.0, |state| state.data[index]);
        Operand { tensor: "initial_state", state: Some(n), time: None, used, stored: used }
    }

    pub(super) fn sequence(&self, tensor: &'static str, time: usize, used: &[f32], stored: &[f32]) -> Operand {
        let (batch, _, _) = self.case.span(self.seq);
        let index = batch * self.case.dims.seqlen + time;
        Operand { tensor, state: None, time: Some(time), used: used[index], stored: stored[index] }
    }

    pub(super) fn x(&self, time: usize) -> Operand {
        self.sequence("x", time, &self.used.tensors.x.data, &self.stored.tensors.x.data)
    }

    pub(super) fn dt(&self, time: usize) -> Operand {
        self.sequence("dt", time, &self.used.tensors.dt.data, &self.stored.tensors.dt.data)
    }

    pub(super) fn z(&self, time: usize) -> Option<Operand> {
        let (used, stored) = self.used.tensors.z.as_ref().zip(self.stored.tensors.z.as_ref())?;
        Some(self.sequence("z", time, &used.data, &stored.data))
    }

    pub(super) fn A(&self, n: usize) -> Operand {
        let used = self.used.tensors.A.data[n];
        Operand { tensor: "A", state: Some(n), time: None, used, stored: used }
    }

    pub(super) fn vector(&self, tensor: &'static str, from: &Option<Shaped<'_, f32, 1>>) -> Option<Operand> {
        let used = from.as_ref()?.data[0];
        Some(Operand { tensor, state: None, time: None, used, stored: used })
    }

    /// An element of B or C.
    pub(super) fn projected(&self, tensor: &'static str, n: usize, time: usize) -> Operand {
        let pick = |Part { tensors, .. }: &Part<'_>| match if tensor == "B" { &tensors.B } else { &tensors.C } {
            Projected::Constant(tensor) => (tensor.data[n], None),
            Projected::Variable(tensor) => {
                let (batch, _, _) = self.case.span(self.seq);
                let [_, _, dstate, seqlen] = tensor.extents;
                (tensor.data[(batch * dstate + n) * seqlen + time], Some(time))
            }
        };
        let ((used, time), (stored, _)) = (pick(self.used), pick(self.stored));
        Operand { tensor, state: Some(n), time, used, stored }
    }
}
