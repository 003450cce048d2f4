//! The causal convolution and its form for decoding.

use crate::tensor::*;
use half::f16;
use ssm_kernels::prelude::*;
use ssm_kernels_c::conv::*;
use std::ptr::null;

#[test]
fn causal_conv1d_both_ways() {
    let (width, mut r) = (4, random());
    let [x, dout] = [(); 2].map(|()| tensor::<f16>(&SEQUENCE, &[0, 2, 1], || f16::of(r())));
    let weight = tensor(&[("dim", DIM), ("width", width)], &[0, 1], &mut r);
    let bias = tensor(&[("dim", DIM)], &[0], &mut r);
    let state = [("batch", BATCH), ("dim", DIM), ("state_len", width - 1)];
    let initial = tensor::<f16>(&state, &[0, 1, 2], || f16::of(r()));
    let (out, last, mut out2, mut last2) = (x.twin(), initial.twin(), x.twin(), initial.twin());
    let conv = zeroed!(SsmCausalConv1d {
        x: x.c(),
        weight: weight.c(),
        bias: bias.c(),
        initial_state: initial.c(),
        silu: true,
    });
    let outputs = zeroed!(SsmCausalConv1dOutputs { out: out.c(), final_state: last.c() });
    // SAFETY: the tensors live, and are as they say.
    ok(unsafe { ssm_causal_conv1d_forward(null(), &conv, &outputs) });
    let op = CausalConv1d::new(x.view(), weight.view()).expect("valid").bias(bias.view()).silu(true);
    let op = op.initial_state(initial.view());
    let (mut o, mut l) = (out2.view_mut(), last2.view_mut());
    Cpu::new().forward(&op, CausalConv1dOutputs::new(&mut o).final_state(&mut l)).expect("as C");
    assert_eq!((&out.data, &last.data), (&out2.data, &last2.data));

    let upstream = zeroed!(SsmCausalConv1dUpstream { dout: dout.c() });
    let (dx, dweight, dbias, dinitial) = (x.twin(), weight.twin(), bias.twin(), initial.twin());
    let (mut dx2, mut dweight2, mut dbias2, mut dinitial2) = (x.twin(), weight.twin(), bias.twin(), initial.twin());
    let gradients = zeroed!(SsmCausalConv1dGradients {
        dx: dx.c(),
        dweight: dweight.c(),
        dbias: dbias.c(),
        dinitial_state: dinitial.c(),
    });
    // SAFETY: as above.
    ok(unsafe { ssm_causal_conv1d_backward(null(), &conv, &upstream, &gradients) });
    let (mut vx, mut vw, mut vb, mut vi) =
        (dx2.view_mut(), dweight2.view_mut(), dbias2.view_mut(), dinitial2.view_mut());
    let wanted = CausalConv1dGradients::new().dx(&mut vx).dweight(&mut vw).dbias(&mut vb).dinitial_state(&mut vi);
    Cpu::new().backward(&op, CausalConv1dUpstream::new().dout(dout.view()), wanted).expect("as C");
    assert_eq!((&dx.data, &dinitial.data), (&dx2.data, &dinitial2.data));
    assert_eq!((&dweight.data, &dbias.data), (&dweight2.data, &dbias2.data));
}

#[test]
fn causal_conv1d_update_of_a_ring() {
    let (width, mut r) = (3, random());
    let x = tensor(&[("batch", 2), ("dim", DIM), ("seqlen", 1)], &[0, 1, 2], &mut r);
    let weight = tensor(&[("dim", DIM), ("width", width)], &[0, 1], &mut r);
    let state = tensor(&[("slots", 4), ("dim", DIM), ("state_len", 3)], &[0, 1, 2], &mut r);
    let (mut lengths, mut slots) = ([7, 2].into_iter(), [3, 1].into_iter());
    let lengths = tensor::<i32>(&[("batch", 2)], &[0], || lengths.next().expect("two"));
    let slots = tensor::<i32>(&[("batch", 2)], &[0], || slots.next().expect("two"));
    let (out, mut out2, mut state2) = (x.twin(), x.twin(), state.twin());
    let update = zeroed!(SsmCausalConv1dUpdate {
        x: x.c(),
        weight: weight.c(),
        cache_seqlens: lengths.c(),
        state_indices: slots.c(),
    });
    let outputs = zeroed!(SsmCausalConv1dUpdateOutputs { out: out.c(), conv_state: state.c() });
    // SAFETY: the tensors live, and are as they say.
    ok(unsafe { ssm_causal_conv1d_update(null(), &update, &outputs) });
    let op = CausalConv1dUpdate::new(x.view(), weight.view()).expect("valid");
    let op = op.cache_seqlens(&lengths.data).state_indices(&slots.data);
    let (mut o, mut s) = (out2.view_mut(), state2.view_mut());
    Cpu::new().forward(&op, CausalConv1dUpdateOutputs::new(&mut o, &mut s)).expect("as C");
    assert_eq!((&out.data, &state.data), (&out2.data, &state2.data));
}
