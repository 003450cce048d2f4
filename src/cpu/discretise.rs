//! Discretisation on the CPU: the contract's formulas, and other forms of them where delta A is beyond f32.

use super::Cpu;
use super::math::{phi, phi_derivative};
use super::writer::Writer;
use crate::error::Result;
use crate::ops::discretise::{Discretise, DiscretiseGradients, DiscretiseOutputs, DiscretiseUpstream, Inputs, Rule};
use crate::ops::{Backward, Forward, Operator, Workspace};
use crate::plan::Plan;
use crate::tensor::{Element, Host, MAX_RANK};

type Op<'a, T> = Discretise<'a, T, Host>;

impl<'a, T: Element> Forward<Op<'a, T>> for Cpu {
    fn forward_plan(&self, op: &Op<'a, T>) -> Result<Plan> {
        Ok(plan(&op.inputs()?, "fwd"))
    }

    fn forward_with(
        &self,
        op: &Op<'a, T>,
        outputs: DiscretiseOutputs<'_, Host>,
        given: &Plan,
        workspace: Workspace<'_, Host>,
    ) -> Result<()> {
        let inputs = op.inputs()?;
        let outputs = outputs.check(&inputs)?;
        plan(&inputs, "fwd").check(Op::<T>::NAME, given, &workspace)?;
        let [delta, A_bar, B_bar, B_prev_bar] =
            [outputs.delta, outputs.A_bar, outputs.B_bar, outputs.B_prev_bar].map(|tensor| tensor.map(Writer::new));
        self.for_each_element(inputs.extents(), |index| {
            let point = Point::new(&inputs, index);
            put(&delta, index, || point.delta);
            put(&A_bar, index, || point.A_bar());
            put(&B_bar, index, || point.B_bar());
            put(&B_prev_bar, index, || point.B_prev_bar());
        });
        Ok(())
    }

    fn forward(&self, op: &Op<'a, T>, outputs: DiscretiseOutputs<'_, Host>) -> Result<()> {
        let plan = self.forward_plan(op)?;
        self.forward_with(op, outputs, &plan, (&mut plan.allocate()?).into())
    }
}

impl<'a, T: Element> Backward<Op<'a, T>> for Cpu {
    fn backward_plan(&self, op: &Op<'a, T>) -> Result<Plan> {
        Ok(plan(&op.inputs()?, "bwd"))
    }

    fn backward_with(
        &self,
        op: &Op<'a, T>,
        upstream: DiscretiseUpstream<'_, Host>,
        gradients: DiscretiseGradients<'_, T, Host>,
        given: &Plan,
        workspace: Workspace<'_, Host>,
    ) -> Result<()> {
        let inputs = op.inputs()?;
        let upstream = upstream.check(&inputs)?;
        let gradients = gradients.check(&inputs, &upstream)?;
        plan(&inputs, "bwd").check(Op::<T>::NAME, given, &workspace)?;
        let [ddt, dB, dlambda] = [gradients.ddt, gradients.dB, gradients.dlambda].map(|tensor| tensor.map(Writer::new));
        let [ddt_bias, dA] = [gradients.ddt_bias, gradients.dA].map(|tensor| tensor.map(Writer::new));
        self.for_each_element(inputs.extents(), |index| {
            let point = Point::new(&inputs, index);
            let [ddelta, dA_bar, dB_bar, dB_prev_bar] =
                [upstream.ddelta, upstream.dA_bar, upstream.dB_bar, upstream.dB_prev_bar]
                    .map(|gradient| gradient.map(|gradient| gradient.at(index)));
            let by = By { ddelta, dA_bar, dB_bar, dB_prev_bar };
            let raw = || point.slope * point.ddelta(by);
            put(&ddt, index, || T::from_f32(raw()));
            put(&ddt_bias, index, raw);
            put(&dA, index, || point.dA(by));
            put(&dB, index, || T::from_f32(point.dB(by)));
            put(&dlambda, index, || T::from_f32(point.dlambda(by)));
        });
        Ok(())
    }

    fn backward(
        &self,
        op: &Op<'a, T>,
        upstream: DiscretiseUpstream<'_, Host>,
        gradients: DiscretiseGradients<'_, T, Host>,
    ) -> Result<()> {
        let plan = self.backward_plan(op)?;
        self.backward_with(op, upstream, gradients, &plan, (&mut plan.allocate()?).into())
    }
}

/// No workspace.
fn plan<T: Element>(inputs: &Inputs<'_, T, Host>, direction: &str) -> Plan {
    let dims = inputs.domain.as_slice().iter().map(|axis| (axis.name, axis.extent)).collect();
    Plan::new(format!("discretise_{direction}_{}", T::DTYPE), dims, 0)
}

impl Cpu {
    /// Calls `task` once for every index of the domain; a task is a row of the last two dimensions.
    fn for_each_element(self, extents: [usize; MAX_RANK], task: impl Fn([usize; MAX_RANK]) + Sync + Send) {
        if extents.contains(&0) {
            return;
        }
        let [e0, e1, e2, e3] = extents;
        self.for_each_plain(e0 * e1 * e2, |i| {
            for i3 in 0..e3 {
                task([i / (e1 * e2), i / e2 % e1, i % e2, i3]);
            }
        });
    }
}

fn put<T>(writer: &Option<Writer<'_, T, MAX_RANK>>, index: [usize; MAX_RANK], value: impl FnOnce() -> T) {
    if let Some(writer) = writer {
        // SAFETY: `for_each_element` visits each index of the domain once, and outputs have the domain's extents.
        unsafe { writer.write(index, value()) }
    }
}

/// Gradients by the outputs at one element; `None` leaves a term out, so that it cannot bring in 0 * infinity.
#[derive(Clone, Copy)]
struct By {
    ddelta: Option<f32>,
    dA_bar: Option<f32>,
    dB_bar: Option<f32>,
    dB_prev_bar: Option<f32>,
}

/// One element's inputs, w = delta A, and the derivative of delta by the raw step.
struct Point {
    rule: Rule,
    delta: f32,
    slope: f32,
    A: f32,
    B: f32,
    lambda: f32,
    w: f32,
}

impl Point {
    #[inline(always)]
    fn new<T: Element>(inputs: &Inputs<'_, T, Host>, index: [usize; MAX_RANK]) -> Self {
        let raw = inputs.dt.at(index).to_f32() + inputs.dt_bias.map_or(0.0, |bias| bias.at(index));
        let (delta, slope) = (inputs.step.apply(raw), inputs.step.slope(raw));
        let (A, B) = (inputs.A.at(index), inputs.B.at(index).to_f32());
        let lambda = inputs.lambda.map_or(0.0, |lambda| lambda.at(index).to_f32());
        Self { rule: inputs.rule, delta, slope, A, B, lambda, w: delta * A }
    }

    /// The formulas as written are good here. Beyond, delta A or a square may overflow or lose its digits although the
    /// result does neither, and each formula has another form.
    fn ordinary(&self) -> bool {
        self.w.abs() < 1e15 && self.delta.abs() < 1e15
    }

    /// bilinear: 1 / (1 - w/2).
    fn q(&self) -> f32 {
        1.0 / (1.0 - self.w / 2.0)
    }

    /// bilinear: delta / (1 - w/2), which tends to -2/A although w overflows.
    fn delta_q(&self) -> f32 {
        if self.ordinary() { self.delta / (1.0 - self.w / 2.0) } else { 1.0 / (1.0 / self.delta - self.A / 2.0) }
    }

    /// zoh: (e^w - 1) / A, which tends to delta as A tends to 0, and to -1/A although w overflows.
    fn delta_phi(&self) -> f32 {
        if self.ordinary() || self.w.abs() < 1.0 { self.delta * phi(self.w) } else { self.w.exp_m1() / self.A }
    }

    /// zoh: the derivative of `delta_phi` by A, delta^2 phi'(w).
    fn delta_phi_slope(&self) -> f32 {
        if self.ordinary() || self.w.abs() < 1.0 {
            self.delta * self.delta * phi_derivative(self.w)
        } else {
            (self.delta * self.w.exp() - self.delta_phi()) / self.A
        }
    }

    fn A_bar(&self) -> f32 {
        match self.rule {
            Rule::Euler => 1.0 + self.w,
            Rule::Bilinear if self.w.is_infinite() => -1.0,
            Rule::Bilinear => (1.0 + self.w / 2.0) / (1.0 - self.w / 2.0),
            Rule::ExpEuler | Rule::Zoh | Rule::ExpTrapezoidal => self.w.exp(),
        }
    }

    /// The derivative of A_bar by w, times `factor`.
    fn A_bar_slope(&self, factor: f32) -> f32 {
        match self.rule {
            Rule::Euler => factor,
            Rule::Bilinear if self.ordinary() => self.q() * self.q() * factor,
            Rule::Bilinear => self.q() * factor * self.q(),
            Rule::ExpEuler | Rule::Zoh | Rule::ExpTrapezoidal => self.w.exp() * factor,
        }
    }

    /// The derivative of B_bar by B.
    fn input_factor(&self) -> f32 {
        match self.rule {
            Rule::Euler | Rule::ExpEuler => self.delta,
            Rule::Zoh => self.delta_phi(),
            Rule::Bilinear => self.delta_q(),
            Rule::ExpTrapezoidal => self.lambda * self.delta,
        }
    }

    /// (1 - lambda) e^w.
    fn previous(&self) -> f32 {
        (1.0 - self.lambda) * self.w.exp()
    }

    fn B_bar(&self) -> f32 {
        self.input_factor() * self.B
    }

    fn B_prev_bar(&self) -> f32 {
        self.previous() * self.delta * self.B
    }

    fn ddelta(&self, by: By) -> f32 {
        let by_B_bar = || match self.rule {
            Rule::Euler | Rule::ExpEuler => self.B,
            Rule::Zoh => self.w.exp() * self.B,
            Rule::Bilinear => self.q() * self.q() * self.B,
            Rule::ExpTrapezoidal => self.lambda * self.B,
        };
        // 0 * infinity is 0 here: e^w wins.
        let by_B_prev_bar = || if self.w.exp() == 0.0 { 0.0 } else { self.previous() * (1.0 + self.w) * self.B };
        by.ddelta.unwrap_or(0.0)
            + times(by.dA_bar, || self.A_bar_slope(self.A))
            + times(by.dB_bar, by_B_bar)
            + times(by.dB_prev_bar, by_B_prev_bar)
    }

    fn dA(&self, by: By) -> f32 {
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

    fn dB(&self, by: By) -> f32 {
        times(by.dB_bar, || self.input_factor()) + times(by.dB_prev_bar, || self.previous() * self.delta)
    }

    fn dlambda(&self, by: By) -> f32 {
        times(by.dB_bar, || self.delta * self.B) + times(by.dB_prev_bar, || -(self.delta * self.w.exp() * self.B))
    }
}

/// An upstream gradient times a derivative; an absent gradient leaves even an infinite derivative out.
fn times(gradient: Option<f32>, derivative: impl FnOnce() -> f32) -> f32 {
    gradient.map_or(0.0, |gradient| gradient * derivative())
}
