//! Refusals of the discretisation, both directions.

#![allow(non_snake_case)]

use ssm_kernels::prelude::*;
use ssm_kernels::{Axes, Axis};

/// Zeros of these dimensions.
fn zeros<const N: usize>(dims: [(&'static str, usize); N]) -> View<'static, f32> {
    static ZEROS: [f32; 16] = [0.0; 16];
    View::new(&ZEROS[..dims.iter().map(|dim| dim.1).product()], dims)
}

#[test]
fn forward() {
    let (step, state) = (zeros([("seqlen", 5)]), zeros([("dstate", 3)]));
    let op = |rule| Discretise::new(rule, step, state, state).expect("valid");
    let run = |op: &Discretise<'_, f32>, prev: bool| {
        let (mut first, mut second) = ([7.0f32; 15], [7.0f32; 15]);
        let domain = [("seqlen", 5), ("dstate", 3)];
        let (mut first, mut second) = (ViewMut::new(&mut first, domain), ViewMut::new(&mut second, domain));
        let outputs = DiscretiseOutputs::new().A_bar(&mut first);
        let outputs = if prev { outputs.B_prev_bar(&mut second) } else { outputs };
        Cpu::new().forward(op, outputs).map_err(|error| error.to_string())
    };
    assert_eq!(run(&op(Rule::Zoh), false), Ok(()));
    let refused = |result: Result<(), String>| result.expect_err("refused");
    assert_eq!(
        refused(run(&op(Rule::ExpTrapezoidal), false)),
        "discretise: `lambda` is missing, expected because the rule is exp_trapezoidal"
    );
    assert_eq!(
        refused(run(&op(Rule::Zoh).lambda(step), false)),
        "discretise: `lambda` is given with rule zoh, expected none but with exp_trapezoidal"
    );
    assert_eq!(
        refused(run(&op(Rule::Zoh), true)),
        "discretise: `B_prev_bar` is given with rule zoh, expected none but with exp_trapezoidal"
    );
    assert_eq!(
        refused(run(&op(Rule::Zoh).dt_bias(zeros([("seqlen", 4)])), false)),
        "discretise: `dt_bias` has shape [4], expected [5] (seqlen)"
    );
    assert_eq!(
        refused(run(&op(Rule::Zoh).dt_bias(zeros([("dim", 4)])), false)),
        "discretise: `A_bar` has dimensions (seqlen, dstate), expected (seqlen, dstate, dim) in any memory order"
    );
    assert_eq!(
        Cpu::new().forward(&op(Rule::Zoh), DiscretiseOutputs::new()).expect_err("refused").to_string(),
        "discretise: `outputs` is missing, expected because at least one of delta, A_bar, B_bar, B_prev_bar is written"
    );
    assert_eq!(
        "zho".parse::<Rule>().expect_err("refused").to_string(),
        "discretise: `rule` is \"zho\", expected one of euler, exp_euler, zoh, bilinear, exp_trapezoidal"
    );
    let five = [Axis { name: "a", extent: 1, stride: 1 }; 5];
    assert_eq!(
        Axes::from_slice(&five).expect_err("refused").to_string(),
        "view: `dimensions` is 5 dimensions, expected at most 4"
    );
    let twice = zeros([("dstate", 3), ("dstate", 3)]);
    assert_eq!(
        Discretise::new(Rule::Zoh, step, twice, state).expect_err("refused").to_string(),
        "discretise: `A` has dimensions (dstate, dstate), expected (each name once, dstate twice) in any memory order"
    );
}

#[test]
fn views_beyond_counting() {
    let domain = [("batch", 1 << 40), ("nheads", 1 << 40), ("seqlen", 0), ("dstate", 4)];
    let row = [("dstate", 4)];
    let op = Discretise::<f32>::new(Rule::Zoh, View::new(&[], domain), zeros(row), zeros(row)).expect("valid");
    let mut A_bar = ViewMut::new(&mut [], domain);
    Cpu::new().forward(&op, DiscretiseOutputs::new().A_bar(&mut A_bar)).expect("nothing to do");
    let mut ddt = ViewMut::new(&mut [], domain);
    let upstream = DiscretiseUpstream::new().dA_bar(View::new(&[], domain));
    Cpu::new().backward(&op, upstream, DiscretiseGradients::new().ddt(&mut ddt)).expect("nothing to do");
}

#[test]
fn gradients() {
    let step = zeros([("seqlen", 5)]);
    let op = Discretise::new(Rule::Zoh, step, step, step).expect("valid");
    let run = |upstream: DiscretiseUpstream<'_>, gradients: DiscretiseGradients<'_, f32>| {
        Cpu::new().backward(&op, upstream, gradients).expect_err("refused").to_string()
    };
    assert_eq!(
        run(DiscretiseUpstream::new(), DiscretiseGradients::new()),
        "discretise: `gradients` is missing, expected because at least one of ddt, ddt_bias, dA, dB, dlambda is written"
    );
    let mut memory = [7.0f32; 5];
    let mut dA = ViewMut::new(&mut memory, [("seqlen", 5)]);
    assert_eq!(
        run(DiscretiseUpstream::new().dA_bar(zeros([("dim", 2)])), DiscretiseGradients::new().dA(&mut dA)),
        "discretise: `dA_bar` has dimensions (dim), expected (seqlen) in any memory order"
    );
    assert_eq!(
        run(DiscretiseUpstream::new().dB_prev_bar(step), DiscretiseGradients::new().dA(&mut dA)),
        "discretise: `dB_prev_bar` is given with rule zoh, expected none but with exp_trapezoidal"
    );
    assert_eq!(
        run(DiscretiseUpstream::new().dA_bar(step), DiscretiseGradients::new().dlambda(&mut dA)),
        "discretise: `dlambda` is given with rule zoh, expected none but with exp_trapezoidal"
    );
    assert_eq!(memory, [7.0; 5]);
}
