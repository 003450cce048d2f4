//! Discretisation: from the continuous system `h' = A h + B x` and a step size to the recurrence
//! `h_t = A_bar h_{t-1} + B_bar x_t (+ B_prev_bar x_{t-1})`, element by element.
//!
//! # Equation
//! ```text
//! delta = clamp(softplus(dt + dt_bias), dt_limit)                       w = delta A
//! ```
//! | rule | A_bar | B_bar | B_prev_bar | used by |
//! |---|---|---|---|---|
//! | euler | 1 + w | delta B | | GBT with alpha 0 |
//! | exp_euler | exp(w) | delta B | | Mamba-1 and Mamba-2, as coded |
//! | zoh | exp(w) | (exp(w) - 1) / A B | | S4D, S5 |
//! | bilinear | (1 + w/2) / (1 - w/2) | delta / (1 - w/2) B | | S4 |
//! | exp_trapezoidal | exp(w) | lambda delta B | (1 - lambda) delta exp(w) B | Mamba-3 (arXiv 2603.15569) |
//!
//! softplus only with `dt_softplus` (`softplus(v) = v` above 20, as upstream); clamp only with `dt_limit`. B_bar of
//! zoh at A = 0 is its limit, delta B. B_prev_bar uses the element of B at the same place: shift B by one step
//! yourself if it changes with time.
//!
//! # Backward
//! For upstream gradients of any of delta, A_bar, B_bar, B_prev_bar (an absent one counts as zero), the gradients of
//! dt, dt_bias, A, B, lambda, each as if every element of the domain had an input of its own: in the broadcast shape,
//! unreduced. Sum them over the dimensions that an input lacks. At the clamp's limits the gradient passes; outside it
//! is zero. Above 20 the derivative of softplus is 1.
//!
//! # Shapes
//! Up to four dimensions of any names. The domain is the union of the inputs' dimensions, in order of first appearance
//! over dt, A, B, dt_bias, lambda; an input is broadcast along dimensions that it lacks (or has with stride 0).
//! Outputs and gradients have exactly the dimensions of the domain.
//!
//! | tensor | dtype |
//! |---|---|
//! | dt, B, lambda, ddt, dB, dlambda | f32, f16 or bf16, one per call |
//! | A, dt_bias, dA, ddt_bias | f32 |
//! | delta, A_bar, B_bar, B_prev_bar and their upstream gradients | f32 (a decay of 0.999 is 1 in bf16) |
//!
//! # Precision
//! Arithmetic is f32. Outputs are accurate relative to each element for delta A near 0 (no cancellation) and where delta A
//! leaves the range of f32 (limits, not NaN). Gradients likewise for delta up to 1e15; beyond, a factor such as delta^2
//! may overflow although the gradient would not. A factor e^w that underflows takes its product with it.
//!
//! # Determinism
//! Bitwise; elements do not depend on each other.
//!
//! # Errors
//! All arguments are checked here before any backend starts: [`crate::Error`] names operator, argument, expected, got.

mod checked;
mod tensors;

pub(crate) use checked::Inputs;
pub use tensors::{DiscretiseGradients, DiscretiseOutputs, DiscretiseUpstream};

use super::{Differentiable, Operator, Sealed, StepOptions};
use crate::error::{Error, Result};
use crate::tensor::{Axes, Element, Host, Storage, View};

const OP: &str = "discretise";

/// The discretisation rule; the [module](self) has the table.
///
/// ```
/// use ssm_kernels::prelude::Rule;
/// assert_eq!("zoh".parse(), Ok(Rule::Zoh));
/// let error = "zho".parse::<Rule>().unwrap_err().to_string();
/// assert!(error.ends_with("expected one of euler, exp_euler, zoh, bilinear, exp_trapezoidal"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// Forward Euler.
    Euler,
    /// Exact decay, Euler input: what Mamba codes.
    ExpEuler,
    /// Zero-order hold.
    Zoh,
    /// Bilinear (Tustin).
    Bilinear,
    /// Exact decay, trapezoidal input with weight lambda: Mamba-3.
    ExpTrapezoidal,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Rule; 5] = [Rule::Euler, Rule::ExpEuler, Rule::Zoh, Rule::Bilinear, Rule::ExpTrapezoidal];

    /// The name in fixtures and kernels.
    pub const fn name(self) -> &'static str {
        match self {
            Rule::Euler => "euler",
            Rule::ExpEuler => "exp_euler",
            Rule::Zoh => "zoh",
            Rule::Bilinear => "bilinear",
            Rule::ExpTrapezoidal => "exp_trapezoidal",
        }
    }
}

impl std::str::FromStr for Rule {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self> {
        Rule::ALL.into_iter().find(|rule| rule.name() == name).ok_or_else(|| Error::Value {
            op: OP,
            arg: "rule",
            got: format!("{name:?}"),
            expected: format!("one of {}", Rule::ALL.map(Rule::name).join(", ")),
        })
    }
}

/// The arguments of one discretisation. The [module](self) has equation, shapes and errors.
///
/// ```
/// use ssm_kernels::prelude::*;
/// let (dt, a, b) = ([0.1f32, 0.2], [-1.0f32, -2.0, -3.0], [1.0f32; 3]);
/// let op = Discretise::new(
///     Rule::Zoh,
///     View::new(&dt, [("seqlen", 2)]),
///     View::new(&a, [("dstate", 3)]),
///     View::new(&b, [("dstate", 3)]),
/// )?;
/// let domain = [("seqlen", 2), ("dstate", 3)];
/// let (mut a_bar, mut b_bar) = ([0.0f32; 6], [0.0f32; 6]);
/// let (mut a_view, mut b_view) = (ViewMut::new(&mut a_bar, domain), ViewMut::new(&mut b_bar, domain));
/// Cpu::new().forward(&op, DiscretiseOutputs::new().A_bar(&mut a_view).B_bar(&mut b_view))?;
/// assert!((a_bar[4] - (-0.4f32).exp()).abs() < 1e-6);
/// # Ok::<(), ssm_kernels::Error>(())
/// ```
#[derive(Debug)]
#[doc(alias("discretize", "zoh"))]
pub struct Discretise<'a, T: 'a, S: Storage = Host> {
    rule: Rule,
    dt: View<'a, T, S>,
    A: View<'a, f32, S>,
    B: View<'a, T, S>,
    dt_bias: Option<View<'a, f32, S>>,
    lambda: Option<View<'a, T, S>>,
    step: StepOptions,
}

impl<'a, T: Element, S: Storage> Discretise<'a, T, S> {
    /// The required arguments.
    pub fn new(rule: Rule, dt: View<'a, T, S>, A: View<'a, f32, S>, B: View<'a, T, S>) -> Result<Self> {
        let op = Self { rule, dt, A, B, dt_bias: None, lambda: None, step: StepOptions::default() };
        op.domain()?;
        Ok(op)
    }

    /// Added to dt before softplus.
    pub fn dt_bias(mut self, dt_bias: View<'a, f32, S>) -> Self {
        self.dt_bias = Some(dt_bias);
        self
    }

    /// The weight of the current token; exp_trapezoidal needs it, no other rule takes it.
    #[doc(alias = "trap")]
    pub fn lambda(mut self, lambda: View<'a, T, S>) -> Self {
        self.lambda = Some(lambda);
        self
    }

    /// Whether delta goes through softplus. Default: no.
    #[doc(alias = "delta_softplus")]
    pub fn dt_softplus(mut self, dt_softplus: bool) -> Self {
        self.step.softplus = dt_softplus;
        self
    }

    /// Clamps delta to (min, max), after softplus. Default: no clamp.
    pub fn dt_limit(mut self, dt_limit: (f32, f32)) -> Self {
        self.step.limit = Some(dt_limit);
        self
    }

    /// The dimensions of outputs and gradients: names and extents (dense strides).
    pub fn domain(&self) -> Result<Axes> {
        let mut domain = Axes::empty();
        domain.union(OP, "dt", self.dt.axes())?;
        domain.union(OP, "A", self.A.axes())?;
        domain.union(OP, "B", self.B.axes())?;
        self.dt_bias.iter().try_for_each(|view| domain.union(OP, "dt_bias", view.axes()))?;
        self.lambda.iter().try_for_each(|view| domain.union(OP, "lambda", view.axes()))?;
        Ok(domain.packed())
    }

    /// Everything that a backend checks before it runs forward, without running.
    pub fn check(&self, outputs: DiscretiseOutputs<'_, S>) -> Result<()> {
        outputs.check(&self.inputs()?).map(|_| ())
    }

    /// Everything that a backend checks before it runs backward, without running.
    pub fn check_backward(
        &self,
        upstream: DiscretiseUpstream<'_, S>,
        gradients: DiscretiseGradients<'_, T, S>,
    ) -> Result<()> {
        let inputs = self.inputs()?;
        let upstream = upstream.check(&inputs)?;
        gradients.check(&inputs, &upstream).map(|_| ())
    }

    /// All inputs checked and over the whole domain.
    pub(crate) fn inputs(&self) -> Result<Inputs<'a, T, S>> {
        let domain = self.domain()?;
        self.step.check(OP)?;
        match (self.rule, self.lambda) {
            (Rule::ExpTrapezoidal, None) => {
                return Err(Error::Missing { op: OP, arg: "lambda", reason: "the rule is exp_trapezoidal" });
            }
            (Rule::ExpTrapezoidal, Some(_)) | (_, None) => {}
            (rule, Some(_)) => {
                let (got, expected) =
                    (format!("given with rule {}", rule.name()), "none but with exp_trapezoidal".into());
                return Err(Error::Value { op: OP, arg: "lambda", got, expected });
            }
        }
        Ok(Inputs {
            rule: self.rule,
            dt: self.dt.broadcast(OP, "dt", &domain)?,
            A: self.A.broadcast(OP, "A", &domain)?,
            B: self.B.broadcast(OP, "B", &domain)?,
            dt_bias: self.dt_bias.map(|view| view.broadcast(OP, "dt_bias", &domain)).transpose()?,
            lambda: self.lambda.map(|view| view.broadcast(OP, "lambda", &domain)).transpose()?,
            step: self.step,
            domain,
        })
    }
}

impl<T: Element, S: Storage> Sealed for Discretise<'_, T, S> {}

impl<T: Element, S: Storage> Operator for Discretise<'_, T, S> {
    type Storage = S;
    type Outputs<'o> = DiscretiseOutputs<'o, S>;
    const NAME: &'static str = OP;
}

impl<T: Element, S: Storage> Differentiable for Discretise<'_, T, S> {
    type Upstream<'u> = DiscretiseUpstream<'u, S>;
    type Gradients<'o> = DiscretiseGradients<'o, T, S>;
}
