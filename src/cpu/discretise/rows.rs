//! Elements of the domain as rows of f32: the formulas over a row, in vectors.
//!
//! Nothing here depends on the dtype of the call, so that the vector loops are compiled once, in this crate.

use super::Rule;
use super::blocks::Block;
use super::formulas::{By, Gradient, Point, Powers};
use crate::cpu::Cpu;
use crate::cpu::math::exp::{Any, exp, exp_m1};
use crate::cpu::math::lanes::each;
use crate::ops::StepOptions;
use pulp::{Simd, WithSimd};

/// Elements of a row, at the most.
pub(super) const ROW: usize = 256;
type Row = [f32; ROW];

/// The part of a block that a row has the elements of, and the extents that they were repeated to; nothing yet.
pub(super) type Held = Option<(Block, [usize; 2])>;

/// What is read and computed of `count` elements.
pub(super) struct Rows {
    pub count: usize,
    /// What delta and slope, A, B and lambda are those of.
    pub held: [Held; 4],
    /// The raw step, which becomes delta.
    pub delta: Row,
    /// dt_bias, which becomes the derivative of delta by the raw step.
    pub slope: Row,
    pub A: Row,
    pub B: Row,
    pub lambda: Row,
    /// Gradients by delta, A_bar, B_bar, B_prev_bar.
    pub upstream: [Row; 4],
    /// A_bar, B_bar, B_prev_bar; or the gradients by the raw step, A, B, lambda.
    pub results: [Row; 4],
    exp: Row,
    exp_m1: Row,
}

impl Rows {
    pub fn new() -> Self {
        let row = [0.0; ROW];
        let (upstream, results) = ([row; 4], [row; 4]);
        let (delta, slope, A, B, lambda, exp, exp_m1) = (row, row, row, row, row, row, row);
        Self { count: 0, held: [None; 4], delta, slope, A, B, lambda, upstream, results, exp, exp_m1 }
    }

    /// delta of the first `count` raw steps and biases, and its derivative if that is asked for.
    pub fn step(&mut self, cpu: Cpu, step: StepOptions, count: usize, derivative: bool) {
        cpu.dispatch(Steps { delta: &mut self.delta, slope: &mut self.slope, step, count, derivative });
    }

    pub fn forward(&mut self, cpu: Cpu, rule: Rule) {
        cpu.dispatch(Formulas { rows: self, rule, given: None });
    }

    /// `given`: which gradients by the outputs there are.
    pub fn backward(&mut self, cpu: Cpu, rule: Rule, given: [bool; 4]) {
        cpu.dispatch(Formulas { rows: self, rule, given: Some(given) });
    }
}

struct Steps<'r> {
    delta: &'r mut Row,
    slope: &'r mut Row,
    step: StepOptions,
    count: usize,
    derivative: bool,
}

impl WithSimd for Steps<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { delta, slope, step, count, derivative } = self;
        each(simd, delta, slope, count, |_, raw, bias| simd.add_f32s(raw, bias));
        if derivative {
            each(simd, slope, delta, count, |_, _, raw| step.slope(simd, raw));
        }
        each(simd, delta, slope, count, |_, raw, _| step.apply_to(simd, raw));
    }
}

/// e^w and e^w - 1 of an element.
#[derive(Clone, Copy)]
struct Given {
    exp: f32,
    exp_m1: f32,
}

impl Powers for Given {
    #[inline(always)]
    fn exp(self, _: f32) -> f32 {
        self.exp
    }

    #[inline(always)]
    fn exp_m1(self, _: f32) -> f32 {
        self.exp_m1
    }
}

struct Formulas<'r> {
    rows: &'r mut Rows,
    rule: Rule,
    /// The gradients that there are, backward.
    given: Option<[bool; 4]>,
}

impl WithSimd for Formulas<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        self.powers(simd);
        // A rule that is known is not asked for at each element.
        match self.rule {
            Rule::Euler => self.points(Rule::Euler),
            Rule::ExpEuler => self.points(Rule::ExpEuler),
            Rule::Zoh => self.points(Rule::Zoh),
            Rule::Bilinear => self.points(Rule::Bilinear),
            Rule::ExpTrapezoidal => self.points(Rule::ExpTrapezoidal),
        }
    }
}

impl Formulas<'_> {
    /// Those that the rule has.
    #[inline(always)]
    fn powers<S: Simd>(&mut self, simd: S) {
        let Rows { count, delta, A, exp: powers, exp_m1: powers_m1, .. } = &mut *self.rows;
        let vectors = count.div_ceil(S::F32_LANES);
        let ((delta, _), (A, _)) = (S::as_simd_f32s(&delta[..]), S::as_simd_f32s(&A[..]));
        let ((powers, _), (powers_m1, _)) = (S::as_mut_simd_f32s(powers), S::as_mut_simd_f32s(powers_m1));
        let rows = powers.iter_mut().zip(powers_m1).zip(delta.iter().zip(A));
        match self.rule {
            Rule::ExpEuler | Rule::ExpTrapezoidal => {
                for ((power, _), (&delta, &A)) in rows.take(vectors) {
                    *power = exp(simd, Any, simd.mul_f32s(delta, A));
                }
            }
            Rule::Zoh => {
                for ((power, power_m1), (&delta, &A)) in rows.take(vectors) {
                    let w = simd.mul_f32s(delta, A);
                    (*power, *power_m1) = (exp(simd, Any, w), exp_m1(simd, w));
                }
            }
            Rule::Euler | Rule::Bilinear => {}
        }
    }

    #[inline(always)]
    fn points(&mut self, rule: Rule) {
        // Two loops: in one for both ways the compiler computes gradients forward too, and drops them.
        match self.given {
            None => self.outputs(rule),
            Some(given) => self.gradients(rule, given),
        }
    }

    #[inline(always)]
    fn outputs(&mut self, rule: Rule) {
        let Rows { count, delta, slope, A, B, lambda, results, exp, exp_m1, .. } = &mut *self.rows;
        let [first, second, third, _] = results;
        for i in 0..(*count).min(ROW) {
            let powers = Given { exp: exp[i], exp_m1: exp_m1[i] };
            let point = Point::new(rule, powers, [delta[i], slope[i]], [A[i], B[i], lambda[i]]);
            [first[i], second[i], third[i]] = [point.A_bar(), point.B_bar(), point.B_prev_bar()];
        }
    }

    #[inline(always)]
    fn gradients(&mut self, rule: Rule, given: [bool; 4]) {
        let Rows { count, delta, slope, A, B, lambda, upstream, results, exp, exp_m1, .. } = &mut *self.rows;
        let [first, second, third, fourth] = results;
        for i in 0..(*count).min(ROW) {
            let powers = Given { exp: exp[i], exp_m1: exp_m1[i] };
            let point = Point::new(rule, powers, [delta[i], slope[i]], [A[i], B[i], lambda[i]]);
            let gradient = |k: usize| Gradient { given: given[k], value: upstream[k][i] };
            let [ddelta, dA_bar, dB_bar, dB_prev_bar] = [gradient(0), gradient(1), gradient(2), gradient(3)];
            let by = By { ddelta, dA_bar, dB_bar, dB_prev_bar };
            [first[i], second[i], third[i], fourth[i]] =
                [point.slope * point.ddelta(by), point.dA(by), point.dB(by), point.dlambda(by)];
        }
    }
}
