//! The state update.

use crate::tensor::*;
use half::{bf16, f16};
use ssm_kernels::prelude::*;
use ssm_kernels_c::update::*;
use std::ptr::null;

#[test]
fn state_update_of_heads_with_tokens_and_padding() {
    let (nheads, headdim, seqlen, slots) = (4, 3, 2, 5);
    let mut r = random();
    let sequence = [("batch", 3), ("seqlen", seqlen), ("nheads", nheads), ("headdim", headdim)];
    let x = tensor::<bf16>(&sequence, &[0, 1, 2, 3], || bf16::of(r()));
    let dt = tensor::<bf16>(&sequence[..3], &[0, 1, 2], || bf16::of(r()));
    let (A, D) = (tensor(&[("nheads", nheads)], &[0], || r() - 1.0), tensor(&[("nheads", nheads)], &[0], &mut r));
    let rows = [("batch", 3), ("seqlen", seqlen), ("ngroups", 2), ("dstate", DSTATE)];
    let [B, C] = [(); 2].map(|()| tensor::<bf16>(&rows, &[0, 1, 2, 3], || bf16::of(r())));
    let mut of = [4, -1, 0].into_iter();
    let indices = tensor::<i32>(&[("batch", 3)], &[0], || of.next().expect("three"));
    let cache = [("slots", slots), ("nheads", nheads), ("headdim", headdim), ("dstate", DSTATE)];
    let state = tensor::<f16>(&cache, &[0, 1, 2, 3], || f16::of(r()));
    let tokens = [("tokens", 3 * seqlen), ("nheads", nheads), ("headdim", headdim), ("dstate", DSTATE)];
    let token_states = tensor::<f16>(&tokens, &[0, 1, 2, 3], || f16::of(0.0));
    let (out, mut out2, mut state2, mut token_states2) = (x.twin(), x.twin(), state.twin(), token_states.twin());
    let update = zeroed!(SsmStateUpdate {
        x: x.c(),
        dt: dt.c(),
        A: A.c(),
        B: B.c(),
        C: C.c(),
        D: D.c(),
        state_indices: indices.c(),
        heads: true,
        dt_softplus: true,
    });
    let outputs = zeroed!(SsmStateUpdateOutputs { state: state.c(), out: out.c(), token_states: token_states.c() });
    // SAFETY: the tensors live, and are as they say.
    ok(unsafe { ssm_state_update(null(), &update, &outputs) });
    let op = StateUpdate::new(x.view(), dt.view(), A.view(), B.view(), C.view()).expect("valid");
    let op = op.D(D.view()).dt_softplus(true).state_indices(indices.view());
    let (mut s, mut o, mut t) = (state2.view_mut(), out2.view_mut(), token_states2.view_mut());
    Cpu::new().forward(&op, StateUpdateOutputs::new(&mut s, &mut o).token_states(&mut t)).expect("as C");
    assert_eq!((&out.data, &state.data, &token_states.data), (&out2.data, &state2.data, &token_states2.data));
    let mut bytes = usize::MAX;
    // SAFETY: as above.
    ok(unsafe { ssm_state_update_plan(null(), &update, &outputs, &mut bytes) });
    assert_eq!(
        bytes,
        Forward::<StateUpdate<'_, bf16, f16>>::forward_plan(&Cpu::new(), &op).expect("valid").workspace_bytes
    );
}

#[test]
fn state_update_of_channels() {
    let mut r = random();
    let rows = [("batch", BATCH), ("dim", DIM)];
    let [x, dt, z] = [(); 3].map(|()| tensor(&rows, &[0, 1], &mut r));
    let A = tensor(&MATRIX, &[0, 1], || r() - 1.0);
    let [B, C] = [(); 2].map(|()| tensor(&[("batch", BATCH), ("dstate", DSTATE)], &[0, 1], &mut r));
    let state = tensor(&STATE, &[0, 1, 2], &mut r);
    let (out, mut out2, mut state2) = (x.twin(), x.twin(), state.twin());
    let update = zeroed!(SsmStateUpdate { x: x.c(), dt: dt.c(), A: A.c(), B: B.c(), C: C.c(), z: z.c() });
    let outputs = zeroed!(SsmStateUpdateOutputs { state: state.c(), out: out.c() });
    // SAFETY: the tensors live, and are as they say.
    ok(unsafe { ssm_state_update(null(), &update, &outputs) });
    let op = StateUpdate::new(x.view(), dt.view(), A.view(), B.view(), C.view()).expect("valid").z(z.view());
    let (mut s, mut o) = (state2.view_mut(), out2.view_mut());
    Cpu::new().forward(&op, StateUpdateOutputs::new(&mut s, &mut o)).expect("as C");
    assert_eq!((&out.data, &state.data), (&out2.data, &state2.data));
}
