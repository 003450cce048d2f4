//! What squared attention refuses, and in which words; nothing is written when a call is refused.

use half::bf16;
use ssm_kernels::prelude::*;
use ssm_kernels::{Error, Result};

static ZEROS: [f32; 4096] = [0.0; 4096];
const KEY: [(&str, usize); 4] = [("batch", 2), ("nheads", 3), ("seqlen", 5), ("dim", 2)];
const VALUE: [(&str, usize); 4] = [("batch", 2), ("nheads", 3), ("seqlen", 5), ("vdim", 4)];
const DECAY: [(&str, usize); 3] = [("batch", 2), ("nheads", 3), ("seqlen", 5)];
const STATE: [(&str, usize); 4] = [("batch", 2), ("nheads", 3), ("features", 3), ("vdim", 4)];
const NORM: [(&str, usize); 3] = [("batch", 2), ("nheads", 3), ("features", 3)];
const CACHE: [(&str, usize); 4] = [("slots", 2), ("nheads", 3), ("features", 3), ("vdim", 4)];
const CACHE_NORM: [(&str, usize); 3] = [("slots", 2), ("nheads", 3), ("features", 3)];

fn zeros<const N: usize>(dims: [(&'static str, usize); N]) -> View<'static, f32> {
    View::new(&ZEROS[..dims.iter().map(|dim| dim.1).product()], dims)
}

/// The same dimensions, one of them of another extent.
fn with<const N: usize>(mut dims: [(&'static str, usize); N], at: usize, extent: usize) -> [(&'static str, usize); N] {
    dims[at].1 = extent;
    dims
}

fn text<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.expect_err("refused").to_string()
}

type Attention<'a> = SquaredAttention<'a, f32>;

fn valid() -> Attention<'static> {
    Attention::new(zeros(KEY), zeros(KEY), zeros(VALUE), zeros(DECAY)).expect("valid")
}

/// Of a call whose outputs are 7 before and after.
fn run(attention: &Attention<'_>) -> String {
    let (mut out, mut state, mut norm) = ([7.0f32; 120], [7.0f32; 72], [7.0f32; 18]);
    let mut out_view = ViewMut::new(&mut out, VALUE);
    let (mut state_view, mut norm_view) = (ViewMut::new(&mut state, STATE), ViewMut::new(&mut norm, NORM));
    let outputs = SquaredAttentionOutputs::new(&mut out_view).final_state(&mut state_view).final_norm(&mut norm_view);
    let refused = text(Cpu::new().forward(attention, outputs));
    assert!(out.iter().chain(&state).chain(&norm).all(|&value| value == 7.0), "written although refused");
    refused
}

#[test]
fn arguments() {
    let new = |q, k, v, log_decay| text(Attention::new(q, k, v, log_decay));
    let (key, value, decay) = (zeros(KEY), zeros(VALUE), zeros(DECAY));
    assert_eq!(
        new(zeros([("batch", 2), ("heads", 3), ("seqlen", 5), ("dim", 2)]), key, value, decay),
        "squared_attention: `q` has dimensions (batch, heads, seqlen, dim), expected (batch, nheads, seqlen, dim) in any \
         memory order"
    );
    assert_eq!(
        new(key, zeros(with(KEY, 3, 3)), value, decay),
        "squared_attention: `k` has shape [2, 3, 5, 3], expected [2, 3, 5, 2] (batch, nheads, seqlen, dim)"
    );
    assert_eq!(
        new(key, zeros(with(KEY, 1, 1)), value, decay),
        "squared_attention: `k` has shape [2, 1, 5, 2], expected [2, 3, 5, 2] (batch, nheads, seqlen, dim)"
    );
    assert_eq!(
        new(key, key, zeros(with(VALUE, 2, 6)), decay),
        "squared_attention: `v` has shape [2, 3, 6, 4], expected [2, 3, 5, 4] (batch, nheads, seqlen, vdim)"
    );
    assert_eq!(
        new(key, key, key, decay),
        "squared_attention: `v` has dimensions (batch, nheads, seqlen, dim), expected (batch, nheads, seqlen, vdim) in \
         any memory order"
    );
    assert_eq!(
        new(key, key, value, zeros(with(DECAY, 0, 3))),
        "squared_attention: `log_decay` has shape [3, 3, 5], expected [2, 3, 5] (batch, nheads, seqlen)"
    );
    let short = View::new(&ZEROS[..59], KEY);
    assert_eq!(
        new(key, short, value, decay),
        "squared_attention: `k` holds 59 elements of memory, expected exactly 60 for shape \
         (batch 2 stride 30, nheads 3 stride 10, seqlen 5 stride 2, dim 2 stride 1)"
    );
}

#[test]
fn options() {
    for scale in [f32::INFINITY, f32::NAN, 1e30, -1e30] {
        assert_eq!(
            run(&valid().scale(scale)),
            format!("squared_attention: `scale` is {scale}, expected a number whose square is finite")
        );
    }
    assert_eq!(run(&valid().chunk_size(0)), "squared_attention: `chunk_size` is 0, expected at least 1 step");
    assert_eq!(
        run(&valid().initial_state(zeros(with(STATE, 2, 4)), zeros(NORM))),
        "squared_attention: `initial_state` has shape [2, 3, 4, 4], expected [2, 3, 3, 4] (batch, nheads, features, vdim)"
    );
    assert_eq!(
        run(&valid().initial_state(zeros(with(STATE, 3, 5)), zeros(NORM))),
        "squared_attention: `initial_state` has shape [2, 3, 3, 5], expected [2, 3, 3, 4] (batch, nheads, features, vdim)"
    );
    assert_eq!(
        run(&valid().initial_state(zeros(STATE), zeros(with(NORM, 0, 1)))),
        "squared_attention: `initial_norm` has shape [1, 3, 3], expected [2, 3, 3] (batch, nheads, features)"
    );
    let segments = Segments::new(&[0, 2, 5]).expect("valid");
    assert_eq!(
        run(&valid().segments(&segments)),
        "squared_attention: `q` is of batch 2, expected batch 1 with packed sequences"
    );
    let (key, value, decay) = (zeros(with(KEY, 0, 1)), zeros(with(VALUE, 0, 1)), zeros(with(DECAY, 0, 1)));
    let one = || Attention::new(key, key, value, decay).expect("valid");
    let short = Segments::new(&[0, 2, 4]).expect("valid");
    assert_eq!(
        text(one().segments(&short).dims()),
        "squared_attention: `cu_seqlens` is ending at 4, expected an end at seqlen 5"
    );
    // States have a row for each packed sequence.
    let packed = one().segments(&segments).initial_state(zeros(with(STATE, 0, 1)), zeros(with(NORM, 0, 1)));
    assert_eq!(
        text(packed.dims()),
        "squared_attention: `initial_state` has shape [1, 3, 3, 4], expected [2, 3, 3, 4] (batch, nheads, features, vdim)"
    );
}

#[test]
fn outputs() {
    let attention = valid();
    let (mut memory, mut state) = ([7.0f32; 400], [7.0f32; 96]);
    let mut wide = ViewMut::new(&mut memory[..150], with(VALUE, 3, 5));
    assert_eq!(
        text(Cpu::new().forward(&attention, SquaredAttentionOutputs::new(&mut wide))),
        "squared_attention: `out` has shape [2, 3, 5, 5], expected [2, 3, 5, 4] (batch, nheads, seqlen, vdim)"
    );
    let dims = [("batch", 2, 60), ("nheads", 3, 20), ("seqlen", 5, 4), ("vdim", 4, 0)];
    let mut folded = ViewMut::strided(&mut memory, dims);
    assert_eq!(
        text(Cpu::new().forward(&attention, SquaredAttentionOutputs::new(&mut folded))),
        "squared_attention: `out` has stride 0 along vdim, expected more than the reach of the faster dimensions \
         (an output must not overlap itself)"
    );
    let mut out = ViewMut::new(&mut memory[..120], VALUE);
    let mut wrong = ViewMut::new(&mut state, with(STATE, 2, 4));
    let outputs = SquaredAttentionOutputs::new(&mut out).final_state(&mut wrong);
    assert_eq!(
        text(Cpu::new().forward(&attention, outputs)),
        "squared_attention: `final_state` has shape [2, 3, 4, 4], expected [2, 3, 3, 4] (batch, nheads, features, vdim)"
    );
    let mut wrong = ViewMut::new(&mut state[..12], with(NORM, 1, 2));
    let outputs = SquaredAttentionOutputs::new(&mut out).final_norm(&mut wrong);
    assert_eq!(
        text(Cpu::new().forward(&attention, outputs)),
        "squared_attention: `final_norm` has shape [2, 2, 3], expected [2, 3, 3] (batch, nheads, features)"
    );
    assert!(memory.iter().chain(&state).all(|&value| value == 7.0), "written although refused");
}

const VALUES: &str = "expected [2, 3, 5, 4] (batch, nheads, seqlen, vdim)";
const STATES: &str = "expected [2, 3, 3, 4] (batch, nheads, features, vdim)";
const NORMS: &str = "expected [2, 3, 3] (batch, nheads, features)";

/// What the backward direction of a valid call is refused with.
fn refused(upstream: SquaredAttentionUpstream<'_, f32>, gradients: SquaredAttentionGradients<'_, f32>) -> String {
    text(Cpu::new().backward(&valid(), upstream, gradients))
}

#[test]
fn gradients() {
    let dout = SquaredAttentionUpstream::new().dout(zeros(VALUE));
    assert_eq!(
        refused(dout, SquaredAttentionGradients::new()),
        "squared_attention: `gradients` is missing, expected because at least one of dq, dk, dv, dlog_decay, \
         dinitial_state, dinitial_norm is written"
    );
    let mut memory = [7.0f32; 200];
    let mut dq = ViewMut::new(&mut memory[..60], KEY);
    assert_eq!(
        refused(SquaredAttentionUpstream::new(), SquaredAttentionGradients::new().dq(&mut dq)),
        "squared_attention: `upstream` is missing, expected because at least one of dout, dfinal_state, dfinal_norm is \
         given"
    );
    for (upstream, expected) in [
        (dout.dout(zeros(with(VALUE, 3, 3))), format!("`dout` has shape [2, 3, 5, 3], {VALUES}")),
        (dout.dfinal_state(zeros(with(STATE, 0, 1))), format!("`dfinal_state` has shape [1, 3, 3, 4], {STATES}")),
        (dout.dfinal_norm(zeros(with(NORM, 2, 4))), format!("`dfinal_norm` has shape [2, 3, 4], {NORMS}")),
    ] {
        assert_eq!(
            refused(upstream, SquaredAttentionGradients::new().dq(&mut dq)),
            format!("squared_attention: {expected}")
        );
    }
    assert_eq!(memory, [7.0; 200]);
}

#[test]
fn shapes_of_gradients() {
    let mut memory = [7.0f32; 200];
    let dout = SquaredAttentionUpstream::new().dout(zeros(VALUE));
    let wanted = SquaredAttentionGradients::new;
    fn shaped<'a, const N: usize>(memory: &'a mut [f32], dims: [(&'static str, usize); N]) -> ViewMut<'a, f32> {
        ViewMut::new(&mut memory[..dims.iter().map(|dim| dim.1).product()], dims)
    }
    let keys = "expected [2, 3, 5, 2] (batch, nheads, seqlen, dim)";
    let mut wrong = shaped(&mut memory, with(KEY, 3, 1));
    assert_eq!(
        refused(dout, wanted().dq(&mut wrong)),
        format!("squared_attention: `dq` has shape [2, 3, 5, 1], {keys}")
    );
    assert_eq!(
        refused(dout, wanted().dk(&mut wrong)),
        format!("squared_attention: `dk` has shape [2, 3, 5, 1], {keys}")
    );
    let mut wrong = shaped(&mut memory, with(VALUE, 1, 1));
    assert_eq!(
        refused(dout, wanted().dv(&mut wrong)),
        format!("squared_attention: `dv` has shape [2, 1, 5, 4], {VALUES}")
    );
    let mut wrong = shaped(&mut memory, with(DECAY, 2, 4));
    assert_eq!(
        refused(dout, wanted().dlog_decay(&mut wrong)),
        "squared_attention: `dlog_decay` has shape [2, 3, 4], expected [2, 3, 5] (batch, nheads, seqlen)"
    );
    let mut wrong = shaped(&mut memory, with(STATE, 3, 1));
    assert_eq!(
        refused(dout, wanted().dinitial_state(&mut wrong)),
        format!("squared_attention: `dinitial_state` has shape [2, 3, 3, 1], {STATES}")
    );
    let mut wrong = shaped(&mut memory, with(NORM, 1, 1));
    assert_eq!(
        refused(dout, wanted().dinitial_norm(&mut wrong)),
        format!("squared_attention: `dinitial_norm` has shape [2, 1, 3], {NORMS}")
    );
    assert_eq!(memory, [7.0; 200]);
}

#[test]
fn plans_and_workspaces() {
    let (cpu, attention) = (Cpu::new(), valid());
    let key = with(KEY, 2, 4);
    let other = Attention::new(zeros(key), zeros(key), zeros(with(VALUE, 2, 4)), zeros(with(DECAY, 2, 4)));
    let other = other.expect("valid");
    let mut memory = [7.0f32; 120];
    let mut out = ViewMut::new(&mut memory, VALUE);
    let plan = cpu.forward_plan(&attention).expect("valid");
    let refused = cpu.forward_with(&attention, SquaredAttentionOutputs::new(&mut out), &plan, (&mut Vec::new()).into());
    assert!(matches!(refused, Err(Error::Workspace { op: "squared_attention", got: 0, .. })), "{refused:?}");
    // Another length, other chunks, and the other direction.
    let foreign = [
        cpu.forward_plan(&other).expect("valid"),
        cpu.forward_plan(&valid().chunk_size(2)).expect("valid"),
        cpu.backward_plan(&attention).expect("valid"),
    ];
    for plan in foreign {
        let mut workspace = plan.allocate().expect("room");
        let outputs = SquaredAttentionOutputs::new(&mut out);
        let refused = cpu.forward_with(&attention, outputs, &plan, (&mut workspace).into());
        assert!(matches!(refused, Err(Error::Plan { op: "squared_attention", .. })), "{refused:?}");
    }
    assert_eq!(memory, [7.0; 120]);
    let mut memory = [7.0f32; 60];
    let mut dq = ViewMut::new(&mut memory, KEY);
    let dout = SquaredAttentionUpstream::new().dout(zeros(VALUE));
    let plan = cpu.backward_plan(&attention).expect("valid");
    let wanted = SquaredAttentionGradients::new().dq(&mut dq);
    let refused = cpu.backward_with(&attention, dout, wanted, &plan, (&mut Vec::new()).into());
    assert!(matches!(refused, Err(Error::Workspace { op: "squared_attention", got: 0, .. })), "{refused:?}");
    let plan = cpu.forward_plan(&attention).expect("valid");
    let mut workspace = plan.allocate().expect("room");
    let wanted = SquaredAttentionGradients::new().dq(&mut dq);
    let refused = cpu.backward_with(&attention, dout, wanted, &plan, (&mut workspace).into());
    assert!(matches!(refused, Err(Error::Plan { op: "squared_attention", .. })), "{refused:?}");
    assert_eq!(memory, [7.0; 60]);
}

type Update<'a> = SquaredAttentionUpdate<'a, f32>;

fn update() -> Update<'static> {
    Update::new(zeros(KEY), zeros(KEY), zeros(VALUE), zeros(DECAY)).expect("valid")
}

/// What an update of such a cache is refused with; nothing is written.
fn update_into<const N: usize, const M: usize>(
    update: &Update<'_>,
    cache: [(&'static str, usize); N],
    norm: [(&'static str, usize); M],
) -> String {
    let zeros = |dims: &[(&str, usize)]| vec![7.0f32; dims.iter().map(|dim| dim.1).product()];
    let (mut out, mut state, mut sums) = ([7.0f32; 120], zeros(&cache), zeros(&norm));
    let mut out_view = ViewMut::new(&mut out, VALUE);
    let (mut state_view, mut norm_view) = (ViewMut::new(&mut state, cache), ViewMut::new(&mut sums, norm));
    let outputs = SquaredAttentionUpdateOutputs::new(&mut state_view, &mut norm_view, &mut out_view);
    let refused = text(Cpu::new().forward(update, outputs));
    assert!(out.iter().chain(&state).chain(&sums).all(|&value| value == 7.0), "written although refused");
    refused
}

#[test]
fn updates() {
    let new = |q, k, v, log_decay| text(Update::new(q, k, v, log_decay));
    let (key, value, decay) = (zeros(KEY), zeros(VALUE), zeros(DECAY));
    assert_eq!(
        new(key, key, value, zeros(with(DECAY, 2, 1))),
        "squared_attention_update: `log_decay` has shape [2, 3, 1], expected [2, 3, 5] (batch, nheads, seqlen)"
    );
    assert_eq!(
        new(key, value, value, decay),
        "squared_attention_update: `k` has dimensions (batch, nheads, seqlen, vdim), expected (batch, nheads, seqlen, \
         dim) in any memory order"
    );
    assert_eq!(
        update_into(&update().scale(1e20), CACHE, CACHE_NORM),
        "squared_attention_update: `scale` is 100000000000000000000, expected a number whose square is finite"
    );
    assert_eq!(
        update_into(&update(), with(CACHE, 0, 3), CACHE_NORM),
        "squared_attention_update: `state` has shape [3, 3, 3, 4], expected [2, 3, 3, 4] (slots, nheads, features, vdim)"
    );
    assert_eq!(
        update_into(&update(), with(CACHE, 2, 2), CACHE_NORM),
        "squared_attention_update: `state` has shape [2, 3, 2, 4], expected [2, 3, 3, 4] (slots, nheads, features, vdim)"
    );
    assert_eq!(
        update_into(&update(), CACHE, with(CACHE_NORM, 2, 2)),
        "squared_attention_update: `norm` has shape [2, 3, 2], expected [2, 3, 3] (slots, nheads, features)"
    );
    assert_eq!(
        update_into(&update(), STATE, CACHE_NORM),
        "squared_attention_update: `state` has dimensions (batch, nheads, features, vdim), expected (slots, nheads, \
         features, vdim) in any memory order"
    );
}

#[test]
fn slots() {
    // Those of the state are those of the norm.
    assert_eq!(
        update_into(&update().state_indices(&[0, 1]), with(CACHE, 0, 3), CACHE_NORM),
        "squared_attention_update: `norm` has shape [2, 3, 3], expected [3, 3, 3] (slots, nheads, features)"
    );
    assert_eq!(
        update_into(&update().state_indices(&[0, 2]), CACHE, CACHE_NORM),
        "squared_attention_update: `state_indices` is 2 at index 1, expected less than 2 slots, or negative for padding"
    );
    assert_eq!(
        update_into(&update().state_indices(&[1, 1]), CACHE, CACHE_NORM),
        "squared_attention_update: `state_indices` is 1 at the indices 0 and 1, expected each slot once"
    );
    assert_eq!(
        update_into(&update().state_indices(&[1]), CACHE, CACHE_NORM),
        "squared_attention_update: `state_indices` is of 1 i32, expected 2 for the batch"
    );
}

/// A plan of another call, and too little workspace.
#[test]
fn plans_of_updates() {
    let (cpu, mut state, mut norm, mut out) = (Cpu::new(), [7.0f32; 72], [7.0f32; 18], [7.0f32; 120]);
    let (mut state_view, mut norm_view) = (ViewMut::new(&mut state, CACHE), ViewMut::new(&mut norm, CACHE_NORM));
    let mut out_view = ViewMut::new(&mut out, VALUE);
    let mut run = |plan: &Plan| {
        let outputs = SquaredAttentionUpdateOutputs::new(&mut state_view, &mut norm_view, &mut out_view);
        cpu.forward_with(&update(), outputs, plan, (&mut Vec::new()).into()).expect_err("refused")
    };
    let other = SquaredAttentionUpdate::<f32, bf16>::new(zeros(KEY), zeros(KEY), zeros(VALUE), zeros(DECAY));
    let other = other.expect("valid");
    let refused = run(&cpu.forward_plan(&other).expect("valid"));
    assert!(matches!(refused, Error::Plan { op: "squared_attention_update", .. }), "{refused}");
    let refused = run(&cpu.forward_plan(&update()).expect("valid"));
    assert!(matches!(refused, Error::Workspace { op: "squared_attention_update", got: 0, .. }), "{refused}");
    assert!(out.iter().chain(&state).chain(&norm).all(|&value| value == 7.0));
}
