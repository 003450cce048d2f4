//! Cases of discretise: what proptest draws, the tensors made from it, and its naive loop.

use super::buffer::{Buffer, Order};
use super::random::Random;
use super::scan::order;
use proptest::prelude::*;
use ssm_kernels::prelude::*;
use ssm_kernels::reference::accuracy::{Loop, Yardstick};
use ssm_kernels::reference::{Real, discretise as reference};
use ssm_kernels::{Element, Result};

/// Shape and options of one case. Its Debug form reproduces the case.
#[derive(Debug, Clone)]
pub struct DiscretiseSpec {
    pub rule: Rule,
    pub extents: Vec<usize>,
    /// Per input (dt, A, B, dt_bias, lambda), which dimensions it has; the others are broadcast.
    pub has: [[bool; 4]; 5],
    pub dt_bias: bool,
    pub dt_softplus: bool,
    pub dt_limit: bool,
    /// Which of ddelta, dA_bar, dB_bar, dB_prev_bar come from above.
    pub upstream: [bool; 4],
    pub order: Order,
    pub seed: u64,
}

const NAMES: [&str; 4] = ["batch", "dim", "dstate", "seqlen"];

pub fn spec() -> impl Strategy<Value = DiscretiseSpec> {
    let extents = prop::collection::vec(prop_oneof![1 => Just(0usize), 20 => 1usize..6], 1..5);
    let options = (any::<[bool; 3]>(), any::<[bool; 4]>());
    let has = prop::array::uniform5(prop::array::uniform4(prop::bool::weighted(0.7)));
    (prop::sample::select(Rule::ALL.to_vec()), extents, has, options, order(), any::<u64>()).prop_map(
        |(rule, extents, has, ([dt_bias, dt_softplus, dt_limit], mut upstream), order, seed)| {
            // Upstream gradients may cancel. On a handful of elements the yardstick of a cancelling sum is luck: the
            // plain loop may happen to be right to the last bit. There, one gradient at a time.
            if extents.iter().product::<usize>() < 64 {
                upstream = std::array::from_fn(|i| i as u64 == seed % 4);
            }
            DiscretiseSpec { rule, extents, has, dt_bias, dt_softplus, dt_limit, upstream, order, seed }
        },
    )
}

/// The tensors of one case.
#[derive(Debug, Clone)]
pub struct DiscretiseCase<T> {
    pub rule: Rule,
    pub dt: Buffer<T>,
    pub A: Buffer<f32>,
    pub B: Buffer<T>,
    pub dt_bias: Option<Buffer<f32>>,
    pub lambda: Option<Buffer<T>>,
    pub dt_softplus: bool,
    pub dt_limit: Option<(f32, f32)>,
    /// By delta, A_bar, B_bar, B_prev_bar.
    pub upstream: [Option<Buffer<f32>>; 4],
}

impl<T: Element> DiscretiseCase<T> {
    pub fn new(spec: &DiscretiseSpec) -> Self {
        let mut random = Random::new(spec.seed);
        let (rule, order) = (spec.rule, spec.order);
        let dims = |has: [bool; 4]| -> Vec<(&'static str, usize)> {
            let all = NAMES.into_iter().zip(spec.extents.iter().copied()).zip(has);
            all.filter(|(_, has)| *has).map(|(dim, _)| dim).collect()
        };
        let softplus = spec.dt_softplus;
        let dt = Buffer::filled(&dims(spec.has[0]), order, || match softplus {
            true => 3.0 * random.normal() - 2.0,
            false => random.log_uniform(1e-6, 10.0),
        });
        let A = Buffer::filled(&dims(spec.has[1]), order, || match random.below(8) {
            0 => 0.0,
            1 => -random.log_uniform(1e-8, 1e-4),
            _ => -random.log_uniform(1e-2, 100.0),
        });
        let B = Buffer::filled(&dims(spec.has[2]), order, || random.normal());
        let dt_bias = spec.dt_bias.then(|| Buffer::filled(&dims(spec.has[3]), order, || random.uniform(0.0, 0.5)));
        let trapezoidal = rule == Rule::ExpTrapezoidal;
        let lambda = trapezoidal.then(|| Buffer::filled(&dims(spec.has[4]), order, || random.uniform(0.0, 1.0)));
        let dt_limit = spec.dt_limit.then_some((0.01, 1.0));
        let mut case = Self {
            rule,
            dt,
            A,
            B,
            dt_bias,
            lambda,
            dt_softplus: softplus,
            dt_limit,
            upstream: [None, None, None, None],
        };
        let domain = case.domain();
        for (i, slot) in case.upstream.iter_mut().enumerate() {
            if spec.upstream[i] && (i < 3 || trapezoidal) {
                *slot = Some(Buffer::filled(&domain, order, || random.normal()));
            }
        }
        case
    }

    pub fn domain(&self) -> Vec<(&'static str, usize)> {
        let axes = self.op().and_then(|op| op.domain()).expect("a valid case");
        axes.as_slice().iter().map(|axis| (axis.name, axis.extent)).collect()
    }

    pub fn op(&self) -> Result<Discretise<'_, T>> {
        let mut op =
            Discretise::new(self.rule, self.dt.view(), self.A.view(), self.B.view())?.dt_softplus(self.dt_softplus);
        if let Some(dt_bias) = &self.dt_bias {
            op = op.dt_bias(dt_bias.view());
        }
        if let Some(lambda) = &self.lambda {
            op = op.lambda(lambda.view());
        }
        if let Some(dt_limit) = self.dt_limit {
            op = op.dt_limit(dt_limit);
        }
        Ok(op)
    }

    pub fn upstream(&self) -> DiscretiseUpstream<'_> {
        let mut upstream = DiscretiseUpstream::new();
        let [ddelta, dA_bar, dB_bar, dB_prev_bar] = &self.upstream;
        if let Some(gradient) = ddelta {
            upstream = upstream.ddelta(gradient.view());
        }
        if let Some(gradient) = dA_bar {
            upstream = upstream.dA_bar(gradient.view());
        }
        if let Some(gradient) = dB_bar {
            upstream = upstream.dB_bar(gradient.view());
        }
        if let Some(gradient) = dB_prev_bar {
            upstream = upstream.dB_prev_bar(gradient.view());
        }
        upstream
    }
}

/// The outputs of one case, NaN until a backend writes them.
#[derive(Debug, Clone)]
pub struct DiscretiseBuffers {
    pub delta: Buffer<f32>,
    pub A_bar: Buffer<f32>,
    pub B_bar: Buffer<f32>,
    pub B_prev_bar: Option<Buffer<f32>>,
}

impl DiscretiseBuffers {
    pub fn new<T: Element>(case: &DiscretiseCase<T>, order: Order) -> Self {
        let new = || Buffer::poisoned(&case.domain(), order);
        let B_prev_bar = (case.rule == Rule::ExpTrapezoidal).then(new);
        Self { delta: new(), A_bar: new(), B_bar: new(), B_prev_bar }
    }
}

/// The gradients of one case, NaN until a backend writes them.
#[derive(Debug, Clone)]
pub struct GradientBuffers<T> {
    pub ddt: Buffer<T>,
    pub ddt_bias: Buffer<f32>,
    pub dA: Buffer<f32>,
    pub dB: Buffer<T>,
    pub dlambda: Option<Buffer<T>>,
}

impl<T: Element> GradientBuffers<T> {
    pub fn new(case: &DiscretiseCase<T>, order: Order) -> Self {
        let domain = case.domain();
        Self {
            ddt: Buffer::poisoned(&domain, order),
            ddt_bias: Buffer::poisoned(&domain, order),
            dA: Buffer::poisoned(&domain, order),
            dB: Buffer::poisoned(&domain, order),
            dlambda: (case.rule == Rule::ExpTrapezoidal).then(|| Buffer::poisoned(&domain, order)),
        }
    }
}

/// The naive discretisation forward: delta, A_bar, B_bar, B_prev_bar (zero but for exp_trapezoidal).
pub struct NaiveForward<'c, T>(pub &'c DiscretiseCase<T>);

/// The naive discretisation backward: ddt, dA, dB, dlambda (zero but for exp_trapezoidal).
pub struct NaiveBackward<'c, T>(pub &'c DiscretiseCase<T>);

impl<T: Element> Loop for NaiveForward<'_, T> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let op = self.0.op().expect("a valid case");
        let run = reference::forward::<R, T>(&op).expect("a valid case");
        [run.delta, run.A_bar, run.B_bar, run.B_prev_bar].map(|t| t.into_iter().map(R::to_f64).collect()).into()
    }
}

impl<T: Element> Loop for NaiveBackward<'_, T> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let op = self.0.op().expect("a valid case");
        let run = reference::backward::<R, T>(&op, self.0.upstream()).expect("a valid case");
        [run.ddt, run.dA, run.dB, run.dlambda].map(|t| t.into_iter().map(R::to_f64).collect()).into()
    }
}

/// What four tensors over the domain of `case` are judged by.
pub fn yardsticks<T: Element>(case: &DiscretiseCase<T>, naive: &impl Loop) -> [Yardstick; 4] {
    let row = case.domain().last().map_or(1, |dim| dim.1);
    Yardstick::measure(naive, &[row; 4]).try_into().expect("four tensors")
}
