//! One channel of one sequence, and its inputs.

use super::{Cause, largest, shown};
use crate::doctor::case::{Case, round};
use crate::run::selective_scan::{Projected, Shaped};
use ssm_kernels::Dtype;
use ssm_kernels::ops::selective_scan::Dims;
use ssm_kernels::reference::Real;

/// One channel of one sequence, read where it lies: sums over many of them would copy the call as often.
pub(super) struct Line<'l, 'c> {
    pub case: &'l Case<'c>,
    pub seq: usize,
    pub channel: usize,
    /// What inputs are rounded to; none is f64 on them as stored.
    pub dtype: Option<Dtype>,
    /// The result whose cause is asked for.
    pub of: &'static str,
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
        let bias = self.dt_bias().map_or(0.0, |bias| bias.used);
        R::of(self.dt(time).used) + R::of(bias)
    }

    /// As computed with, of an input that has the dtype of x.
    fn used(&self, stored: f32) -> f32 {
        self.dtype.map_or(stored, |dtype| round(stored, dtype))
    }

    fn state(&self, tensor: &'static str, n: usize, from: &Shaped<'_, f32, 3>) -> Operand {
        let Dims { dim, dstate, .. } = self.case.dims;
        let used = from.data[(self.seq * dim + self.channel) * dstate + n];
        Operand { tensor, state: Some(n), time: None, used, stored: used }
    }

    pub(super) fn initial_operand(&self, n: usize) -> Operand {
        let zero = Operand { tensor: "initial_state", state: Some(n), time: None, used: 0.0, stored: 0.0 };
        self.case.tensors.initial_state.as_ref().map_or(zero, |state| self.state("initial_state", n, state))
    }

    pub(super) fn dfinal_state(&self, n: usize) -> Option<Operand> {
        let upstream = self.case.upstream.and_then(|upstream| upstream.dfinal_state.as_ref());
        upstream.map(|state| self.state("dfinal_state", n, state))
    }

    fn sequence(&self, tensor: &'static str, time: usize, from: &Shaped<'_, f32, 3>) -> Operand {
        let (Dims { dim, seqlen, .. }, (batch, _, _)) = (self.case.dims, self.case.span(self.seq));
        let stored = from.data[(batch * dim + self.channel) * seqlen + time];
        Operand { tensor, state: None, time: Some(time), used: self.used(stored), stored }
    }

    pub(super) fn x(&self, time: usize) -> Operand {
        self.sequence("x", time, &self.case.tensors.x)
    }

    pub(super) fn dt(&self, time: usize) -> Operand {
        self.sequence("dt", time, &self.case.tensors.dt)
    }

    pub(super) fn z(&self, time: usize) -> Option<Operand> {
        self.case.tensors.z.as_ref().map(|z| self.sequence("z", time, z))
    }

    pub(super) fn dout(&self, time: usize) -> Option<Operand> {
        let dout = self.case.upstream.and_then(|upstream| upstream.dout.as_ref());
        dout.map(|dout| self.sequence("dout", time, dout))
    }

    pub(super) fn A(&self, n: usize) -> Operand {
        self.constant("A", n, &self.case.tensors.A)
    }

    fn constant(&self, tensor: &'static str, n: usize, from: &Shaped<'_, f32, 2>) -> Operand {
        let used = from.data[self.channel * self.case.dims.dstate + n];
        Operand { tensor, state: Some(n), time: None, used, stored: used }
    }

    fn vector(&self, tensor: &'static str, from: &Option<Shaped<'_, f32, 1>>) -> Option<Operand> {
        let used = from.as_ref()?.data[self.channel];
        Some(Operand { tensor, state: None, time: None, used, stored: used })
    }

    pub(super) fn D(&self) -> Option<Operand> {
        self.vector("D", &self.case.tensors.D)
    }

    pub(super) fn dt_bias(&self) -> Option<Operand> {
        self.vector("dt_bias", &self.case.tensors.dt_bias)
    }

    /// An element of B or C.
    pub(super) fn projected(&self, tensor: &'static str, n: usize, time: usize) -> Operand {
        let tensors = self.case.tensors;
        match if tensor == "B" { &tensors.B } else { &tensors.C } {
            Projected::Constant(from) => self.constant(tensor, n, from),
            Projected::Variable(from) => {
                let ([_, ngroups, dstate, seqlen], (batch, _, _)) = (from.extents, self.case.span(self.seq));
                let group = self.case.group(tensor, self.channel);
                let stored = from.data[((batch * ngroups + group) * dstate + n) * seqlen + time];
                Operand { tensor, state: Some(n), time: Some(time), used: self.used(stored), stored }
            }
        }
    }
}
