//! The discretisation.

use super::params::{self, SsmDiscretiseBwd, SsmDiscretiseFwd};
use super::{Recorder, view, view_mut};
use ssm_kernels::Device;
use ssm_kernels::prelude::*;

#[test]
fn every_option_of_discretise_has_its_place() {
    let recorder = Recorder::default();
    let domain = [("a", 3), ("b", 5)];
    let input = |place: u64| view::<f32, 2>(place << 20, domain);
    for (rule, value) in [
        (Rule::Euler, params::SSM_RULE_EULER),
        (Rule::ExpEuler, params::SSM_RULE_EXP_EULER),
        (Rule::Zoh, params::SSM_RULE_ZOH),
        (Rule::Bilinear, params::SSM_RULE_BILINEAR),
        (Rule::ExpTrapezoidal, params::SSM_RULE_EXP_TRAPEZOIDAL),
    ] {
        let trapezoidal = rule == Rule::ExpTrapezoidal;
        let op = Discretise::new(rule, input(1), view(2 << 20, domain), input(3)).expect("valid");
        let op = op.dt_bias(view(4 << 20, domain)).dt_limit((0.5, 2.0));
        let op: Discretise<'_, f32, Device> = if trapezoidal { op.lambda(input(5)) } else { op };
        let [mut delta, mut A_bar, mut B_bar, mut B_prev_bar] =
            [6, 7, 8, 9].map(|place: u64| view_mut(place << 20, domain));
        let outputs = DiscretiseOutputs::new().delta(&mut delta).A_bar(&mut A_bar).B_bar(&mut B_bar);
        let outputs = if trapezoidal { outputs.B_prev_bar(&mut B_prev_bar) } else { outputs };
        recorder.gpu().forward(&op, outputs).expect("launched");
        let p = recorder.only::<SsmDiscretiseFwd>().3;
        let lambda = if trapezoidal { 5 } else { 0 };
        let i = p.inputs;
        assert_eq!((i.rule, i.step.limited, i.step.min, i.step.max), (value, 1, 0.5, 2.0));
        assert_eq!([i.dt, i.A, i.B, i.dt_bias, i.lambda].map(|wide| wide.address >> 20), [1, 2, 3, 4, lambda]);
        let prev = if trapezoidal { 9 } else { 0 };
        assert_eq!([p.delta, p.A_bar, p.B_bar, p.B_prev_bar].map(|wide| wide.address >> 20), [6, 7, 8, prev]);
        let [ddelta, dA_bar, dB_bar, dB_prev_bar] = [6, 7, 8, 9].map(input);
        let upstream = DiscretiseUpstream::new().ddelta(ddelta).dA_bar(dA_bar).dB_bar(dB_bar);
        let upstream = if trapezoidal { upstream.dB_prev_bar(dB_prev_bar) } else { upstream };
        let [mut ddt, mut ddt_bias, mut dA, mut dB, mut dlambda] =
            [10, 11, 12, 13, 14].map(|place: u64| view_mut(place << 20, domain));
        let gradients = DiscretiseGradients::new().ddt(&mut ddt).ddt_bias(&mut ddt_bias).dA(&mut dA).dB(&mut dB);
        let gradients = if trapezoidal { gradients.dlambda(&mut dlambda) } else { gradients };
        recorder.gpu().backward(&op, upstream, gradients).expect("launched");
        let p = recorder.only::<SsmDiscretiseBwd>().3;
        assert_eq!([p.ddelta, p.dA_bar, p.dB_bar, p.dB_prev_bar].map(|w| w.address >> 20), [6, 7, 8, prev]);
        let last = if trapezoidal { 14 } else { 0 };
        let written = [p.ddt, p.ddt_bias, p.dA, p.dB, p.dlambda].map(|wide| wide.address >> 20);
        assert_eq!(written, [10, 11, 12, 13, last]);
    }
}

#[test]
fn discretise_parameters() {
    let recorder = Recorder::default();
    let dt = view::<half::bf16, 2>(0x1_0000, [("seqlen", 300), ("dim", 7)]);
    let A = view(0x2_0000, [("dim", 7), ("dstate", 4)]);
    let op = Discretise::new(Rule::Bilinear, dt, A, view(0x3_0000, [("dstate", 4)])).expect("valid").dt_softplus(true);
    let domain = [("dstate", 4), ("dim", 7), ("seqlen", 300)];
    let mut B_bar = view_mut(0x4_0000, domain);
    recorder.gpu().forward(&op, DiscretiseOutputs::new().B_bar(&mut B_bar)).expect("launched");
    let (kernel, grid, block, p) = recorder.only::<SsmDiscretiseFwd>();
    assert_eq!((kernel.as_str(), grid, block), ("discretise_fwd_bf16", [33, 1, 1], [256, 1, 1]));
    // The domain: seqlen, dim, dstate.
    let i = p.inputs;
    assert_eq!((i.extents, i.rule, i.step.softplus, i.step.limited), ([300, 7, 4, 1], params::SSM_RULE_BILINEAR, 1, 0));
    assert_eq!((i.dt.strides, i.A.strides, i.B.strides), ([7, 1, 0, 0], [0, 4, 1, 0], [0, 0, 1, 0]));
    assert_eq!((i.dt.address, i.dt_bias.address, i.lambda.address), (0x1_0000, 0, 0));
    assert_eq!((p.B_bar.address, p.B_bar.strides, p.delta.address), (0x4_0000, [1, 300, 2100, 0], 0));
    let (mut ddt, mut dA) = (view_mut(0x5_0000, domain), view_mut(0x9_0000, domain));
    let upstream = DiscretiseUpstream::new().dA_bar(view(0x6_0000, domain));
    let gradients = DiscretiseGradients::new().ddt(&mut ddt).dA(&mut dA);
    recorder.gpu().backward(&op, upstream, gradients).expect("launched");
    let (kernel, _, _, p) = recorder.only::<SsmDiscretiseBwd>();
    assert_eq!((kernel.as_str(), p.dA_bar.address, p.ddelta.address), ("discretise_bwd_bf16", 0x6_0000, 0));
    assert_eq!((p.ddt.address, p.dA.address, p.dB.address, p.ddt_bias.address), (0x5_0000, 0x9_0000, 0, 0));
}
