//! Why something is not finite: the recurrence of one channel of one sequence, followed value by value until one is not.

use super::case::{Case, Place, rounded};
use crate::error::Result;
use crate::run::selective_scan::{Projected, Shaped, Tensors};
use ssm_kernels::Dtype;
use ssm_kernels::reference::{Real, silu};

/// Steps before the overflow whose states are shown.
const TRAIL: [usize; 6] = [32, 16, 8, 4, 2, 1];

/// What made the first value that is not finite.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cause {
    /// A word for machines: input, conversion, delta, decay, input_term, state, output_sum, skip, gate, write or backend.
    pub kind: &'static str,
    /// The input to blame.
    pub tensor: Option<&'static str>,
    /// The step in scan order, and the time; of a state before the first step none.
    pub step: Option<[usize; 2]>,
    pub state: Option<usize>,
    /// A sentence.
    pub text: String,
    /// Steps and the |state| after them, up to the last finite one.
    pub trail: Vec<(usize, f64)>,
}

impl Cause {
    /// The recurrence in plain f32 is finite where the backend's result is not.
    pub fn of_backend(place: Option<Place>) -> Self {
        let text = "the plain f32 recurrence is finite there: an intermediate result of the backend, which takes sums and \
                    products in another order, left the range";
        let step = place.map(|place| [place.step, place.time]);
        Self { kind: "backend", tensor: None, step, state: None, text: text.into(), trail: vec![] }
    }

    /// Says so if the plain recurrence is lost at another step than what was computed.
    pub fn beside(mut self, first: Option<Place>) -> Self {
        if let (Some([step, _]), Some(first)) = (self.step, first)
            && step != first.step
        {
            self.text +=
                &format!(" (in the plain f32 loop, at step {step}; the backend's first is step {})", first.step);
        }
        self
    }
}

/// One channel of one sequence: its inputs as computed with, and as stored.
struct Line<'l, 'c> {
    case: &'l Case<'c>,
    used: &'l Tensors<'l, f32>,
    stored: &'l Tensors<'l, f32>,
    seq: usize,
    channel: usize,
    dtype: Option<Dtype>,
}

/// An input: the tensor, which of its elements, the value computed with and the value stored.
struct Operand {
    tensor: &'static str,
    state: Option<usize>,
    time: Option<usize>,
    used: f32,
    stored: f32,
}

/// Follows channel `channel` of sequence `seq` in f32 with the inputs and out of a dtype, or in f64 with the inputs as
/// stored. None if all of it is finite.
pub(super) fn cause(case: &Case<'_>, seq: usize, channel: usize, dtype: Option<Dtype>) -> Result<Option<Cause>> {
    let stored = case.part(&[channel])?;
    Ok(match dtype {
        None => Line { case, used: &stored, stored: &stored, seq, channel, dtype }.follow::<f64>(),
        Some(rounding) => {
            let used = rounded(&stored, rounding)?;
            Line { case, used: &used, stored: &stored, seq, channel, dtype }.follow::<f32>()
        }
    })
}

/// Whether a value has left the range, or is no number.
fn lost<R: Real>(value: R) -> bool {
    !value.to_f64().is_finite()
}

impl Line<'_, '_> {
    fn follow<R: Real>(&self) -> Option<Cause> {
        let dstate = self.case.dims.dstate;
        let (_, _, len) = self.case.span(self.seq);
        let mut state: Vec<R> = (0..dstate).map(|n| self.initial(n)).collect();
        for step in 0..len {
            let time = self.case.time(self.seq, step);
            let found = self.advance(time, &mut state).or_else(|| self.output(time, &state));
            if let Some(mut cause) = found {
                cause.step = Some([step, time]);
                if cause.kind == "state" {
                    self.explain_growth::<R>(&mut cause, step);
                }
                return Some(cause);
            }
        }
        // Without a step the last state is the first.
        let n = state.iter().position(|&h| lost(h)).filter(|_| len == 0)?;
        self.blame(&[self.initial_operand(n)])
    }

    /// delta, and the states after a step.
    fn advance<R: Real>(&self, time: usize, state: &mut [R]) -> Option<Cause> {
        if state.is_empty() {
            return None;
        }
        let (dt, bias, x) = (self.dt(time), self.vector("dt_bias", &self.used.dt_bias), self.x(time));
        let raw = R::of(dt.used) + R::of(bias.as_ref().map_or(0.0, |bias| bias.used));
        let (_, delta) = self.case.delta(raw);
        if lost(delta) {
            let operands: Vec<Operand> = [Some(dt), bias].into_iter().flatten().collect();
            return self.blame(&operands).or_else(|| overflow("delta", "dt + dt_bias", raw));
        }
        let dx = delta * R::of(x.used);
        if lost(dx) {
            let text = format!("delta x = {} * {}", shown(delta), shown(R::of(x.used)));
            return self.blame(&[x]).or_else(|| overflow("input_term", &text, dx));
        }
        for (n, h) in state.iter_mut().enumerate() {
            let (a, b) = (self.A(n), self.projected("B", n, time));
            let with = |cause: Option<Cause>| cause.map(|cause| Cause { state: Some(n), ..cause });
            let decay = (delta * R::of(a.used)).exp();
            if lost(decay) {
                let text = format!("the decay exp(delta A) with delta {} and A {:e}", shown(delta), a.used);
                return with(self.blame(&[a]).or_else(|| overflow("decay", &text, decay)));
            }
            let term = dx * R::of(b.used);
            if lost(term) {
                let text = format!("delta x B = {} * {:e}", shown(dx), b.used);
                return with(self.blame(&[b]).or_else(|| overflow("input_term", &text, term)));
            }
            let next = decay * *h + term;
            if lost(next) {
                // Only a state that nobody has computed can have been lost before.
                let first = lost(*h).then(|| self.blame(&[self.initial_operand(n)])).flatten();
                let text = format!("state {n} = {} * {} + {}", shown(decay), shown(*h), shown(term));
                return with(first.or_else(|| overflow("state", &text, next)));
            }
            *h = next;
        }
        None
    }

    /// The output of a step, from the states after it.
    fn output<R: Real>(&self, time: usize, state: &[R]) -> Option<Cause> {
        let mut y = R::of(0.0);
        for (n, &h) in state.iter().enumerate() {
            let c = self.projected("C", n, time);
            let term = h * R::of(c.used);
            let sum = y + term;
            if lost(sum) {
                let text = format!("the sum of C h over the states, {} + {} * {:e}", shown(y), shown(h), c.used);
                let cause = self.blame(&[c]).or_else(|| overflow("output_sum", &text, sum));
                return cause.map(|cause| Cause { state: Some(n), ..cause });
            }
            y = sum;
        }
        if let Some(D) = self.vector("D", &self.used.D) {
            let x = self.x(time);
            let sum = y + R::of(D.used) * R::of(x.used);
            if lost(sum) {
                let text = format!("y + D x = {} + {:e} * {:e}", shown(y), D.used, x.used);
                return self.blame(&[D, x]).or_else(|| overflow("skip", &text, sum));
            }
            y = sum;
        }
        if let Some(z) = self.z(time) {
            let gated = y * silu(R::of(z.used));
            if lost(gated) {
                let text = format!("y silu(z) = {} * silu({:e})", shown(y), z.used);
                return self.blame(&[z]).or_else(|| overflow("gate", &text, gated));
            }
            y = gated;
        }
        self.written(y)
    }

    /// The output as it is stored.
    fn written<R: Real>(&self, y: R) -> Option<Cause> {
        let dtype = self.dtype?;
        let largest = largest(dtype);
        // y is an f32 here, so that it is not rounded twice.
        if super::case::round(y.to_f64() as f32, dtype).is_finite() {
            return None;
        }
        let text = format!("out = {} is finite in f32, and rounds beyond {largest}, the largest {dtype}", shown(y));
        Some(Cause { kind: "write", tensor: None, step: None, state: None, text, trail: vec![] })
    }

    /// The first operand that is not finite: in the file, or once it has the dtype.
    fn blame(&self, operands: &[Operand]) -> Option<Cause> {
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
        Some(Cause { kind, tensor: Some(tensor), step: None, state: None, text, trail: vec![] })
    }

    /// Which element of its tensor an operand is.
    fn place(&self, &Operand { tensor, state, time, .. }: &Operand) -> String {
        let (channel, (batch, _, _)) = (self.channel, self.case.span(self.seq));
        match (state, time) {
            (None, None) => format!("(channel {channel})"),
            (None, Some(time)) => format!("(batch {batch}, channel {channel}, time {time})"),
            (Some(n), None) if tensor == "initial_state" => {
                format!("(sequence {}, channel {channel}, state {n})", self.seq)
            }
            (Some(n), None) => format!("(channel {channel}, state {n})"),
            (Some(n), Some(time)) => {
                format!("(batch {batch}, group {}, state {n}, time {time})", self.case.group(tensor, channel))
            }
        }
    }

    /// What the state that overflows did before: its last values, and since when its decay is a growth.
    fn explain_growth<R: Real>(&self, cause: &mut Cause, until: usize) {
        let Some(n) = cause.state else { return };
        let a = self.A(n).used;
        let bias = self.vector("dt_bias", &self.used.dt_bias).map_or(0.0, |bias| bias.used);
        let mut state: Vec<R> = (0..self.case.dims.dstate).map(|n| self.initial(n)).collect();
        let (mut growing, mut last_delta) = (0, 0.0);
        for step in 0..=until {
            let time = self.case.time(self.seq, step);
            let (_, delta) = self.case.delta(R::of(self.dt(time).used) + R::of(bias));
            growing = if (delta * R::of(a)).exp() > R::of(1.0) { growing + 1 } else { 0 };
            last_delta = delta.to_f64();
            if step < until && self.advance(time, &mut state).is_none() && TRAIL.contains(&(until - step)) {
                cause.trail.push((step, state[n].to_f64().abs()));
            }
        }
        cause.text += &match growing {
            0 => "; it does not grow by itself (exp(delta A) <= 1): the terms delta x B are that large".into(),
            steps => {
                let why = if a > 0.0 { format!("A is {a:e} > 0") } else { format!("delta is {last_delta:.3e} < 0") };
                format!(
                    "; it grows by itself (exp(delta A) > 1, since {why}), at this step and the {} before",
                    steps - 1
                )
            }
        };
    }

    fn initial<R: Real>(&self, n: usize) -> R {
        R::of(self.initial_operand(n).used)
    }

    fn initial_operand(&self, n: usize) -> Operand {
        let index = self.seq * self.case.dims.dstate + n;
        let used = self.used.initial_state.as_ref().map_or(0.0, |state| state.data[index]);
        Operand { tensor: "initial_state", state: Some(n), time: None, used, stored: used }
    }

    fn sequence(&self, tensor: &'static str, time: usize, used: &[f32], stored: &[f32]) -> Operand {
        let (batch, _, _) = self.case.span(self.seq);
        let index = batch * self.case.dims.seqlen + time;
        Operand { tensor, state: None, time: Some(time), used: used[index], stored: stored[index] }
    }

    fn x(&self, time: usize) -> Operand {
        self.sequence("x", time, &self.used.x.data, &self.stored.x.data)
    }

    fn dt(&self, time: usize) -> Operand {
        self.sequence("dt", time, &self.used.dt.data, &self.stored.dt.data)
    }

    fn z(&self, time: usize) -> Option<Operand> {
        let (used, stored) = self.used.z.as_ref().zip(self.stored.z.as_ref())?;
        Some(self.sequence("z", time, &used.data, &stored.data))
    }

    fn A(&self, n: usize) -> Operand {
        let used = self.used.A.data[n];
        Operand { tensor: "A", state: Some(n), time: None, used, stored: used }
    }

    fn vector(&self, tensor: &'static str, from: &Option<Shaped<'_, f32, 1>>) -> Option<Operand> {
        let used = from.as_ref()?.data[0];
        Some(Operand { tensor, state: None, time: None, used, stored: used })
    }

    /// An element of B or C.
    fn projected(&self, tensor: &'static str, n: usize, time: usize) -> Operand {
        let pick = |tensors: &Tensors<'_, f32>| match if tensor == "B" { &tensors.B } else { &tensors.C } {
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

fn overflow<R: Real>(kind: &'static str, what: &str, value: R) -> Option<Cause> {
    let verb = if value.to_f64().is_nan() { "is no number" } else { "overflows" };
    Some(Cause { kind, tensor: None, step: None, state: None, text: format!("{what} {verb}"), trail: vec![] })
}

fn shown<R: Real>(value: R) -> String {
    format!("{:.3e}", value.to_f64())
}

/// The largest finite value, in words.
pub(super) fn largest(dtype: Dtype) -> String {
    match dtype {
        Dtype::F16 => "65504".into(),
        Dtype::BF16 => format!("{:.3e}", half::bf16::MAX.to_f32()),
        _ => format!("{:.3e}", f32::MAX),
    }
}
