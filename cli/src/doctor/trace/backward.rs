//! The gradients, value by value, from the end of the sequence.

use super::line::{Followed, Line, Operand, lost};
use super::{Cause, TRAIL, shown};
use crate::error::Result;
use crate::memory::filled;
use ssm_kernels::reference::{Real, silu, silu_derivative};

/// What the states of a step share on the way back.
#[derive(Clone, Copy)]
struct Step<R> {
    time: usize,
    delta: R,
    /// The gradient by the sum over the states, if there is an upstream gradient of out.
    g: Option<R>,
}

/// The kind of a dh that the decay of its own step makes, until the growth is explained: it is `dh` then.
const DECAYED: &str = "dh, decayed";

impl Line<'_, '_> {
    /// What made the first value that is not finite on the way back.
    pub(super) fn follow_back<R: Real>(&self) -> Result<Option<Cause>> {
        let (dstate, (_, _, len)) = (self.case.dims.dstate, self.case.span(self.seq));
        let states = self.states::<R>()?;
        let mut later = self.final_gradients::<R>();
        for step in (0..len).rev() {
            let around = [step, step + 1].map(|row| &states[row * dstate..][..dstate]);
            let time = self.case.time(self.seq, step);
            if let Err(mut cause) = self.back(time, around, &mut later) {
                cause.step = Some([step, time]);
                let decayed = cause.kind == DECAYED;
                if decayed || cause.kind == "dh" {
                    cause.kind = "dh";
                    self.explain_growth_back(&mut cause, step, if decayed { step } else { step + 1 }, &states);
                }
                return Ok(Some(cause));
            }
        }
        // Without a step the gradient by the first state is that by the last.
        let n = later.iter().position(|&dh| lost(dh)).filter(|_| len == 0);
        Ok(n.and_then(|n| self.blame(self.dfinal_state(n).as_slice())))
    }

    /// Row k is the state before step k.
    fn states<R: Real>(&self) -> Result<Vec<R>> {
        let (dstate, (_, _, len)) = (self.case.dims.dstate, self.case.span(self.seq));
        let mut states = filled((len + 1) * dstate, R::of(0.0))?;
        states[..dstate].copy_from_slice(&self.initial_states::<R>());
        for step in 0..len {
            let time = self.case.time(self.seq, step);
            let (_, delta) = self.case.delta(self.raw::<R>(time));
            let input = delta * R::of(self.x(time).used);
            for n in 0..dstate {
                let decay = (delta * R::of(self.A(n).used)).exp();
                let term = input * R::of(self.projected("B", n, time).used);
                states[(step + 1) * dstate + n] = decay * states[step * dstate + n] + term;
            }
        }
        Ok(states)
    }

    fn final_gradients<R: Real>(&self) -> Vec<R> {
        let last = |n| self.dfinal_state(n).map_or(0.0, |operand| operand.used);
        (0..self.case.dims.dstate).map(|n| R::of(last(n))).collect()
    }

    /// A step; `later` is the gradient by the state after it, from later steps, and then that by the state before it.
    fn back<R: Real>(&self, time: usize, [before, after]: [&[R]; 2], later: &mut [R]) -> Followed<()> {
        let step = Step { time, delta: self.delta(time)?, g: self.upstream(time)? };
        let with = |n| move |cause: Cause| Cause { state: cause.state.or(Some(n)), ..cause };
        let (mut by_input, mut by_decay) = (R::of(0.0), R::of(0.0));
        for (n, dh) in later.iter_mut().enumerate() {
            self.enter(n, &step, after[n], dh).map_err(with(n))?;
            self.to_input(n, &step, *dh, &mut by_input).map_err(with(n))?;
        }
        self.beside_states(&step, by_input, after)?;
        // What the decay does reaches dx only in the next step.
        for (n, dh) in later.iter_mut().enumerate() {
            self.pass(n, &step, before[n], dh, &mut by_decay).map_err(with(n))?;
        }
        self.to_delta(time, by_input, by_decay)
    }

    /// The value, and `check` of it where the gradient that it alone is of is the one that is asked for.
    fn check_own<R: Real>(
        &self,
        operands: &[Operand],
        kind: &'static str,
        value: R,
        text: impl FnOnce() -> String,
    ) -> Followed<R> {
        if self.asks(kind) { self.check(operands, kind, value, text) } else { Ok(value) }
    }

    fn asks(&self, kind: &str) -> bool {
        let gradient = kind.strip_suffix("_term").unwrap_or(kind);
        self.of == gradient || self.of == "ddt_bias" && gradient == "ddt"
    }

    /// The gradient by the sum over the states: dout, through the gate.
    fn upstream<R: Real>(&self, time: usize) -> Followed<Option<R>> {
        let Some(dout) = self.dout(time) else { return Ok(None) };
        let Some(z) = self.z(time) else {
            return self.check(&[dout], "upstream", R::of(dout.used), || "dout".into()).map(Some);
        };
        let text = || format!("dout silu(z) = {:e} * silu({:e})", dout.used, z.used);
        self.check(&[dout, z], "upstream", R::of(dout.used) * silu(R::of(z.used)), text).map(Some)
    }

    /// What comes to a state from out, and dC.
    fn enter<R: Real>(&self, n: usize, step: &Step<R>, after: R, dh: &mut R) -> Followed<()> {
        // Only a gradient that nobody has computed can have been lost before.
        let first = self.dfinal_state(n).filter(|_| lost(*dh));
        let first = first.as_slice();
        if let Some(g) = step.g {
            let c = self.projected("C", n, step.time);
            let text = || format!("dout C = {} * {:e}", shown(g), c.used);
            let term = self.check(&[c], "upstream", g * R::of(c.used), text)?;
            let text = || format!("dh of state {n} = {} from later steps + {} from out", shown(*dh), shown(term));
            *dh = self.check(first, "dh", term + *dh, text)?;
            self.beside_state("dC_term", "dout", g, after)?;
        }
        self.check(first, "dh", *dh, || format!("dh of state {n}")).map(|_| ())
    }

    /// dB, and what comes to the sum over the states that dx is made of.
    fn to_input<R: Real>(&self, n: usize, step: &Step<R>, dh: R, by_input: &mut R) -> Followed<()> {
        let &Step { time, delta, .. } = step;
        if self.asks("dB_term") {
            let input = self.input_term(time, delta)?;
            let text = || format!("dh delta x = {} * {}", shown(dh), shown(input));
            self.check(&[], "dB_term", dh * input, text)?;
        }
        let b = self.projected("B", n, time);
        let text = || format!("the sum of dh B over the states, + {} * {:e}", shown(dh), b.used);
        let kind = if self.asks("ddt") { "ddt" } else { "dx" };
        *by_input = self.check_own(&[b], kind, *by_input + dh * R::of(b.used), text)?;
        Ok(())
    }

    /// From the state after the step to the one before it, dA, and the sum over the states that is in ddt.
    fn pass<R: Real>(&self, n: usize, step: &Step<R>, before: R, dh: &mut R, by_decay: &mut R) -> Followed<()> {
        let (delta, a) = (step.delta, self.A(n));
        let decay = self.decay(n, delta)?;
        let text = || format!("dh of state {n}, before the step, = {} * {}", shown(decay), shown(*dh));
        *dh = self.check(&[], DECAYED, decay * *dh, text)?;
        let kind = if self.asks("ddt") { "ddt" } else { "dA_term" };
        let w = self.beside_state(kind, "dh", *dh, before)?;
        let text = || format!("the sum of dh h A over the states, + {} * {:e}", shown(w), a.used);
        *by_decay = self.check_own(&[a], "ddt", *by_decay + w * R::of(a.used), text)?;
        let text = || format!("dh h delta = {} * {}", shown(w), shown(delta));
        self.check_own(&[], "dA_term", w * delta, text).map(|_| ())
    }

    /// A product with a state.
    fn beside_state<R: Real>(&self, kind: &'static str, what: &str, factor: R, state: R) -> Followed<R> {
        if self.asks(kind) && lost(state) {
            return Err(self.of_state::<R>());
        }
        self.check_own(&[], kind, factor * state, || format!("{what} h = {} * {}", shown(factor), shown(state)))
    }

    /// Why states are not finite: the forward direction knows.
    fn of_state<R: Real>(&self) -> Cause {
        let unknown = || Cause::new("state", "the state is not finite".into());
        let cause = self.follow::<R>(false).unwrap_or_else(unknown);
        let since = cause.step.map_or(String::new(), |[step, time]| format!(", since time {time}, step {step}"));
        let text = format!("the state h of the forward direction is not finite{since}: {}", cause.text);
        Cause { text, trail: vec![], ..cause }
    }

    /// dx, dD and dz of a step.
    fn beside_states<R: Real>(&self, step: &Step<R>, by_input: R, after: &[R]) -> Followed<()> {
        let &Step { time, delta, g } = step;
        let x = self.x(time);
        let text = || format!("delta times the sum of dh B = {} * {}", shown(delta), shown(by_input));
        let mut dx = self.check_own(&[], "dx", delta * by_input, text)?;
        if let (Some(g), Some(D)) = (g, self.D()) {
            let text = || format!("dx = {:e} * {} + {}", D.used, shown(g), shown(dx));
            dx = self.check_own(&[D], "dx", R::of(D.used) * g + dx, text)?;
            let text = || format!("dout x = {} * {:e}", shown(g), x.used);
            self.check_own(&[x], "dD_term", g * R::of(x.used), text)?;
        }
        if self.asks("dx") {
            self.written("dx", dx)?;
        }
        let (Some(dout), Some(z), true) = (self.dout(time), self.z(time), self.asks("dz")) else { return Ok(()) };
        if after.iter().any(|&h| lost(h)) {
            return Err(self.of_state::<R>());
        }
        let y = self.ungated(time, after)?;
        let text = || format!("dout y silu'(z) = {:e} * {} * silu'({:e})", dout.used, shown(y), z.used);
        let dz = R::of(dout.used) * y * silu_derivative(R::of(z.used));
        self.written("dz", self.check(&[dout, z], "dz", dz, text)?)
    }

    /// ddt of a step.
    fn to_delta<R: Real>(&self, time: usize, by_input: R, by_decay: R) -> Followed<()> {
        let (x, slope) = (self.x(time), self.case.slope(self.raw::<R>(time)));
        let text = || {
            let [by_input, by_decay, slope] = [by_input, by_decay, slope].map(shown);
            format!("ddt = ({:e} * {by_input} + {by_decay}) * {slope} (the slope of delta by dt)", x.used)
        };
        let ddt = self.check_own(&[x], "ddt", (R::of(x.used) * by_input + by_decay) * slope, text)?;
        // ddt_bias is the sum of what is not rounded.
        if self.of == "ddt" { self.written("ddt", ddt) } else { Ok(()) }
    }

    /// What the gradient that overflows did at later steps, and since when it grows by itself; `passed` is the last step whose
    /// decay it had.
    fn explain_growth_back<R: Real>(&self, cause: &mut Cause, until: usize, passed: usize, states: &[R]) {
        let Some(n) = cause.state else { return };
        let (dstate, (_, _, len)) = (self.case.dims.dstate, self.case.span(self.seq));
        let mut later = self.final_gradients::<R>();
        let mut growing = 0;
        for step in (until..len).rev() {
            let time = self.case.time(self.seq, step);
            if step >= passed {
                growing = if self.grows::<R>(n, time) { growing + 1 } else { 0 };
            }
            let around = [step, step + 1].map(|row| &states[row * dstate..][..dstate]);
            if step > until && self.back(time, around, &mut later).is_ok() && TRAIL.contains(&(step - until)) {
                cause.trail.push((step, later[n].to_f64().abs()));
            }
        }
        let from_end = len - 1 - until;
        cause.text += &match growing {
            0 => format!(
                "; it is {from_end} steps from the end, and does not grow by itself (exp(delta A) <= 1): what comes from \
                 above is that large"
            ),
            steps => {
                let why = self.why_it_grows::<R>(n, passed);
                let when = match (passed == until, steps) {
                    (true, steps) => format!("this step and the {} after it", steps - 1),
                    (false, 1) => "the step after it".into(),
                    (false, steps) => format!("the {steps} steps after it"),
                };
                format!("; it is {from_end} steps from the end, and {why}, at {when}")
            }
        };
    }
}
