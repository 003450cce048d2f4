//! The formulas of discretise at one element, in f32: one text for the GPU kernels and the CPU backend. Whoever includes
//! this file has a `Rule` beside it.

use super::Rule;

/// Where e^w and e^w - 1 come from: computed when a formula asks for them, or beforehand for many elements.
pub trait Powers: Copy {
    fn exp(self, w: f32) -> f32;
    fn exp_m1(self, w: f32) -> f32;
}

/// A gradient by an output at one element, 0 where it is absent. An Option has no value there: the compiler may then
/// compute with a register that nobody wrote, which cannot be told from a mistake when the kernel is checked.
#[derive(Clone, Copy)]
pub struct Gradient {
    pub given: bool,
    pub value: f32,
}

/// Gradients by the outputs; an absent one leaves its term out, so that it cannot bring in 0 * infinity.
#[derive(Clone, Copy)]
pub struct By {
    pub ddelta: Gradient,
    pub dA_bar: Gradient,
    pub dB_bar: Gradient,
    pub dB_prev_bar: Gradient,
}

/// One element's inputs, w = delta A, and the derivative of delta by the raw step.
pub struct Point<P> {
    rule: Rule,
    pub delta: f32,
    pub slope: f32,
    A: f32,
    B: f32,
    lambda: f32,
    w: f32,
    powers: P,
}

impl<P: Powers> Point<P> {
    /// `slope`: the derivative of delta by the raw step.
    #[inline(always)]
    pub fn new(rule: Rule, powers: P, [delta, slope]: [f32; 2], [A, B, lambda]: [f32; 3]) -> Self {
        Self { rule, delta, slope, A, B, lambda, w: delta * A, powers }
    }

    #[inline(always)]
    fn exp(&self) -> f32 {
        self.powers.exp(self.w)
    }

    #[inline(always)]
    fn exp_m1(&self) -> f32 {
        self.powers.exp_m1(self.w)
    }

    /// The formulas as written are good here. Beyond, delta A or a square may overflow or lose its digits although the
    /// result does neither, and each formula has another form.
    #[inline(always)]
    fn ordinary(&self) -> bool {
        self.w.abs() < 1e15 && self.delta.abs() < 1e15
    }

    /// bilinear: 1 / (1 - w/2).
    #[inline(always)]
    fn q(&self) -> f32 {
        1.0 / (1.0 - self.w / 2.0)
    }

    /// bilinear: delta / (1 - w/2), which tends to -2/A although w overflows.
    #[inline(always)]
    fn delta_q(&self) -> f32 {
        if self.ordinary() { self.delta / (1.0 - self.w / 2.0) } else { 1.0 / (1.0 / self.delta - self.A / 2.0) }
    }

    /// zoh: (e^w - 1) / A, which tends to delta as A tends to 0, and to -1/A although w overflows.
    #[inline(always)]
    fn delta_phi(&self) -> f32 {
        if self.ordinary() || self.w.abs() < 1.0 { self.delta * self.phi() } else { self.exp_m1() / self.A }
    }

    /// zoh: the derivative of `delta_phi` by A, delta^2 phi'(w).
    #[inline(always)]
    fn delta_phi_slope(&self) -> f32 {
        if self.ordinary() || self.w.abs() < 1.0 {
            self.delta * self.delta * self.phi_derivative()
        } else {
            (self.delta * self.exp() - self.delta_phi()) / self.A
        }
    }

    #[inline(always)]
    pub fn A_bar(&self) -> f32 {
        match self.rule {
            Rule::Euler => 1.0 + self.w,
            Rule::Bilinear if self.w.is_infinite() => -1.0,
            Rule::Bilinear => (1.0 + self.w / 2.0) / (1.0 - self.w / 2.0),
            Rule::ExpEuler | Rule::Zoh | Rule::ExpTrapezoidal => self.exp(),
        }
    }

    /// The derivative of A_bar by w, times `factor`.
    #[inline(always)]
    fn A_bar_slope(&self, factor: f32) -> f32 {
        match self.rule {
            Rule::Euler => factor,
            Rule::Bilinear if self.ordinary() => self.q() * self.q() * factor,
            Rule::Bilinear => self.q() * factor * self.q(),
            Rule::ExpEuler | Rule::Zoh | Rule::ExpTrapezoidal => self.exp() * factor,
        }
    }

    /// The derivative of B_bar by B.
    #[inline(always)]
    fn input_factor(&self) -> f32 {
        match self.rule {
            Rule::Euler | Rule::ExpEuler => self.delta,
            Rule::Zoh => self.delta_phi(),
            Rule::Bilinear => self.delta_q(),
            Rule::ExpTrapezoidal => self.lambda * self.delta,
        }
    }

    /// (1 - lambda) e^w.
    #[inline(always)]
    fn previous(&self) -> f32 {
        (1.0 - self.lambda) * self.exp()
    }

    #[inline(always)]
    pub fn B_bar(&self) -> f32 {
        self.input_factor() * self.B
    }

    #[inline(always)]
    pub fn B_prev_bar(&self) -> f32 {
        self.previous() * self.delta * self.B
    }

    #[inline(always)]
    pub fn ddelta(&self, by: By) -> f32 {
        let by_B_bar = || match self.rule {
            Rule::Euler | Rule::ExpEuler => self.B,
            Rule::Zoh => self.exp() * self.B,
            Rule::Bilinear => self.q() * self.q() * self.B,
            Rule::ExpTrapezoidal => self.lambda * self.B,
        };
        // 0 * infinity is 0 here: e^w wins.
        let by_B_prev_bar = || if self.exp() == 0.0 { 0.0 } else { self.previous() * (1.0 + self.w) * self.B };
        by.ddelta.value
            + times(by.dA_bar, || self.A_bar_slope(self.A))
            + times(by.dB_bar, by_B_bar)
            + times(by.dB_prev_bar, by_B_prev_bar)
    }

    #[inline(always)]
    pub fn dA(&self, by: By) -> f32 {
        let by_A_bar = || match self.rule {
            Rule::Bilinear if !self.ordinary() => self.q() * self.delta_q(),
            _ => self.A_bar_slope(self.delta),
        };
        let by_B_bar = || match self.rule {
            Rule::Zoh => self.delta_phi_slope() * self.B,
            Rule::Bilinear => self.delta_q() * self.delta_q() * self.B / 2.0,
            Rule::Euler | Rule::ExpEuler | Rule::ExpTrapezoidal => 0.0,
        };
        times(by.dA_bar, by_A_bar)
            + times(by.dB_bar, by_B_bar)
            + times(by.dB_prev_bar, || self.previous() * self.delta * self.delta * self.B)
    }

    #[inline(always)]
    pub fn dB(&self, by: By) -> f32 {
        times(by.dB_bar, || self.input_factor()) + times(by.dB_prev_bar, || self.previous() * self.delta)
    }

    #[inline(always)]
    pub fn dlambda(&self, by: By) -> f32 {
        times(by.dB_bar, || self.delta * self.B) + times(by.dB_prev_bar, || -(self.delta * self.exp() * self.B))
    }

    /// (e^w - 1) / w, and its limit 1 at 0.
    #[inline(always)]
    fn phi(&self) -> f32 {
        if self.w == 0.0 { 1.0 } else { self.exp_m1() / self.w }
    }

    /// The derivative of phi: (e^w - phi(w)) / w; near 0 its series, sum of w^k / (k! (k + 2)).
    #[inline(always)]
    fn phi_derivative(&self) -> f32 {
        const TERMS: [f32; 10] = {
            let (mut terms, mut factorial, mut k) = ([0.0; 10], 1.0f64, 0);
            while k < 10 {
                terms[k] = (1.0 / (factorial * (k as f64 + 2.0))) as f32;
                k += 1;
                factorial *= k as f64;
            }
            terms
        };
        if self.w.abs() >= 1.0 {
            return (self.exp() - self.phi()) / self.w;
        }
        TERMS.iter().rev().fold(0.0, |sum, &term| sum * self.w + term)
    }
}

/// An upstream gradient times a derivative; an absent gradient leaves even an infinite derivative out.
#[inline(always)]
fn times(gradient: Gradient, derivative: impl FnOnce() -> f32) -> f32 {
    if gradient.given { gradient.value * derivative() } else { 0.0 }
}
