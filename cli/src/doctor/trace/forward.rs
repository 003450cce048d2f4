//! The recurrence, value by value.

use super::line::{Followed, Line, lost};
use super::{Cause, TRAIL, shown};
use ssm_kernels::reference::{Real, silu};

impl Line<'_, '_> {
    /// What made the first value that is not finite; of the states alone, or of out too.
    pub(super) fn follow<R: Real>(&self, out: bool) -> Option<Cause> {
        let (_, _, len) = self.case.span(self.seq);
        let mut state = self.initial_states::<R>();
        for step in 0..len {
            let time = self.case.time(self.seq, step);
            let advanced = self.advance(time, &mut state);
            let found = advanced.and_then(|()| if out { self.output(time, &state) } else { Ok(()) });
            if let Err(mut cause) = found {
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

    /// delta of a step.
    pub(super) fn delta<R: Real>(&self, time: usize) -> Followed<R> {
        let (dt, bias) = (self.dt(time), self.dt_bias());
        let raw = self.raw(time);
        let (_, delta) = self.case.delta(raw);
        let operands: Vec<_> = [Some(dt), bias].into_iter().flatten().collect();
        self.check(&operands, "delta", delta, || "dt + dt_bias".into())
    }

    /// delta, and the states after a step.
    fn advance<R: Real>(&self, time: usize, state: &mut [R]) -> Followed<()> {
        if state.is_empty() {
            return Ok(());
        }
        let delta = self.delta::<R>(time)?;
        let input = self.input_term(time, delta)?;
        for (n, h) in state.iter_mut().enumerate() {
            let with = |cause: Cause| Cause { state: Some(n), ..cause };
            let (b, decay) = (self.projected("B", n, time), self.decay(n, delta).map_err(with)?);
            let text = || format!("delta x B = {} * {:e}", shown(input), b.used);
            let term = self.check(&[b], "input_term", input * R::of(b.used), text).map_err(with)?;
            // Only a state that nobody has computed can have been lost before.
            let first = if lost(*h) { vec![self.initial_operand(n)] } else { vec![] };
            let text = || format!("state {n} = {} * {} + {}", shown(decay), shown(*h), shown(term));
            *h = self.check(&first, "state", decay * *h + term, text).map_err(with)?;
        }
        Ok(())
    }

    /// exp(delta A).
    pub(super) fn decay<R: Real>(&self, n: usize, delta: R) -> Followed<R> {
        let a = self.A(n);
        let text = || format!("the decay exp(delta A) with delta {} and A {:e}", shown(delta), a.used);
        self.check(&[a], "decay", (delta * R::of(a.used)).exp(), text)
    }

    /// delta x.
    pub(super) fn input_term<R: Real>(&self, time: usize, delta: R) -> Followed<R> {
        let x = self.x(time);
        let text = || format!("delta x = {} * {}", shown(delta), shown(R::of(x.used)));
        self.check(&[x], "input_term", delta * R::of(x.used), text)
    }

    /// The output of a step, from the states after it.
    fn output<R: Real>(&self, time: usize, state: &[R]) -> Followed<()> {
        let mut y = self.ungated(time, state)?;
        if let Some(z) = self.z(time) {
            let text = || format!("y silu(z) = {} * silu({:e})", shown(y), z.used);
            y = self.check(&[z], "gate", y * silu(R::of(z.used)), text)?;
        }
        self.written("out", y)
    }

    /// The same before the gate.
    pub(super) fn ungated<R: Real>(&self, time: usize, state: &[R]) -> Followed<R> {
        let mut y = R::of(0.0);
        for (n, &h) in state.iter().enumerate() {
            let c = self.projected("C", n, time);
            let text = || format!("the sum of C h over the states, {} + {} * {:e}", shown(y), shown(h), c.used);
            let sum = self.check(&[c], "output_sum", y + h * R::of(c.used), text);
            y = sum.map_err(|cause| Cause { state: Some(n), ..cause })?;
        }
        let Some(D) = self.D() else { return Ok(y) };
        let x = self.x(time);
        let text = || format!("y + D x = {} + {:e} * {:e}", shown(y), D.used, x.used);
        self.check(&[D, x], "skip", y + R::of(D.used) * R::of(x.used), text)
    }

    /// What the state that overflows did before: its last values, and since when its decay is a growth.
    fn explain_growth<R: Real>(&self, cause: &mut Cause, until: usize) {
        let Some(n) = cause.state else { return };
        let mut state = self.initial_states::<R>();
        let mut growing = 0;
        for step in 0..=until {
            let time = self.case.time(self.seq, step);
            growing = if self.grows::<R>(n, time) { growing + 1 } else { 0 };
            if step < until && self.advance(time, &mut state).is_ok() && TRAIL.contains(&(until - step)) {
                cause.trail.push((step, state[n].to_f64().abs()));
            }
        }
        cause.text += &match growing {
            0 => "; it does not grow by itself (exp(delta A) <= 1): the terms delta x B are that large".into(),
            steps => format!("; {}, at this step and the {} before", self.why_it_grows::<R>(n, until), steps - 1),
        };
    }

    /// Whether exp(delta A) > 1.
    pub(super) fn grows<R: Real>(&self, n: usize, time: usize) -> bool {
        let (_, delta) = self.case.delta(self.raw::<R>(time));
        (delta * R::of(self.A(n).used)).exp() > R::of(1.0)
    }

    /// At a step at which it does.
    pub(super) fn why_it_grows<R: Real>(&self, n: usize, step: usize) -> String {
        let a = self.A(n).used;
        let (_, delta) = self.case.delta(self.raw::<R>(self.case.time(self.seq, step)));
        let why = if a > 0.0 { format!("A is {a:e} > 0") } else { format!("delta is {} < 0", shown(delta)) };
        format!("it grows by itself (exp(delta A) > 1, since {why})")
    }

    pub(super) fn initial_states<R: Real>(&self) -> Vec<R> {
        (0..self.case.dims.dstate).map(|n| R::of(self.initial_operand(n).used)).collect()
    }
}
