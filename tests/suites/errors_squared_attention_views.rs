//! Views of squared attention that lie on one another, and extents that leave every integer.

use crate::common::device::{device, device_mut, expect_overlaps};
use half::bf16;
use ssm_kernels::prelude::*;
use ssm_kernels::{Device, Error};

const KEY: [(&str, usize); 4] = [("batch", 1), ("nheads", 3), ("seqlen", 5), ("dim", 2)];
const VALUE: [(&str, usize); 4] = [("batch", 1), ("nheads", 3), ("seqlen", 5), ("vdim", 4)];
const DECAY: [(&str, usize); 3] = [("batch", 1), ("nheads", 3), ("seqlen", 5)];

#[test]
fn no_output_may_lie_on_another_argument() {
    const STATE: [(&str, usize); 4] = [("batch", 2), ("nheads", 3), ("features", 3), ("vdim", 4)];
    const NORM: [(&str, usize); 3] = [("batch", 2), ("nheads", 3), ("features", 3)];
    let segments = Segments::new(&[0, 2, 5]).expect("valid");
    let op = |at: &[u64]| {
        let (q, k, v) = (device::<bf16, 4>(at[0], KEY), device(at[1], KEY), device(at[2], VALUE));
        let op = SquaredAttention::<bf16, Device>::new(q, k, v, device(at[3], DECAY))?.segments(&segments);
        Ok(op.initial_state(device(at[4], STATE), device(at[5], NORM)))
    };
    let inputs = ["q", "k", "v", "log_decay", "initial_state", "initial_norm"];
    expect_overlaps(&inputs, &["out", "final_state", "final_norm"], |at| {
        let (mut out, mut state, mut norm) =
            (device_mut(at[6], VALUE), device_mut(at[7], STATE), device_mut(at[8], NORM));
        op(at)?.check(SquaredAttentionOutputs::new(&mut out).final_state(&mut state).final_norm(&mut norm))
    });
    let inputs = [&inputs[..], &["dout", "dfinal_state", "dfinal_norm"]].concat();
    expect_overlaps(&inputs, &["dq", "dk", "dv", "dlog_decay", "dinitial_state", "dinitial_norm"], |at| {
        let upstream = SquaredAttentionUpstream::new().dout(device(at[6], VALUE));
        let upstream = upstream.dfinal_state(device(at[7], STATE)).dfinal_norm(device(at[8], NORM));
        let (mut dq, mut dk, mut dv) = (device_mut(at[9], KEY), device_mut(at[10], KEY), device_mut(at[11], VALUE));
        let (mut dlog, mut state, mut norm) =
            (device_mut(at[12], DECAY), device_mut(at[13], STATE), device_mut(at[14], NORM));
        let gradients = SquaredAttentionGradients::new().dq(&mut dq).dk(&mut dk).dv(&mut dv).dlog_decay(&mut dlog);
        op(at)?.check_backward(upstream, gradients.dinitial_state(&mut state).dinitial_norm(&mut norm))
    });
    let inputs = ["q", "k", "v", "log_decay"];
    expect_overlaps(&inputs, &["out", "state", "norm"], |at| {
        let (q, k, v) = (device::<bf16, 4>(at[0], KEY), device(at[1], KEY), device(at[2], VALUE));
        let update = SquaredAttentionUpdate::<bf16, f32, Device>::new(q, k, v, device(at[3], DECAY))?;
        let mut out = device_mut(at[4], VALUE);
        let mut state = device_mut(at[5], [("slots", 1), ("nheads", 3), ("features", 3), ("vdim", 4)]);
        let mut norm = device_mut(at[6], [("slots", 1), ("nheads", 3), ("features", 3)]);
        update.check(SquaredAttentionUpdateOutputs::new(&mut state, &mut norm, &mut out))
    });
}

/// One element for every index.
fn still<const N: usize>(dims: [(&'static str, usize); N]) -> View<'static, f32> {
    View::strided(&[0.5f32], dims.map(|(name, extent)| (name, extent, 0)))
}

/// Nowhere, to be written.
fn nowhere<const N: usize>(dims: [(&'static str, usize); N]) -> ViewMut<'static, f32> {
    ViewMut::strided(&mut [], dims.map(|(name, extent)| (name, extent, 0)))
}

/// The call of these extents, each of the tensors one element at all indices.
fn attention([batch, nheads, seqlen, dim, vdim]: [usize; 5]) -> SquaredAttention<'static, f32> {
    let [rows, heads, steps] = [("batch", batch), ("nheads", nheads), ("seqlen", seqlen)];
    let (key, value) = (still([rows, heads, steps, ("dim", dim)]), still([rows, heads, steps, ("vdim", vdim)]));
    SquaredAttention::new(key, key, value, still([rows, heads, steps])).expect("valid")
}

/// Calls without elements are done, whatever extents the empty tensors have: nobody visits so many heads.
#[test]
fn nothing_beyond_counting() {
    let m = usize::MAX;
    for extents @ [batch, nheads, seqlen, dim, vdim] in
        [[1 << 60, 1 << 60, 0, 3, 4], [m, m, 1, 0, 0], [0, m, m, m, m], [m, 0, 5, 1 << 33, 2], [m, 4, 0, m, m]]
    {
        let op = attention(extents);
        let dims = [("batch", batch), ("nheads", nheads), ("seqlen", seqlen)];
        let (key, value) = ([dims[0], dims[1], dims[2], ("dim", dim)], [dims[0], dims[1], dims[2], ("vdim", vdim)]);
        Cpu::new().forward(&op, SquaredAttentionOutputs::new(&mut nowhere(value))).expect("nothing to do");
        let (mut dq, mut dk, mut dv) = (nowhere(key), nowhere(key), nowhere(value));
        let wanted = SquaredAttentionGradients::new().dq(&mut dq).dk(&mut dk).dv(&mut dv);
        let upstream = SquaredAttentionUpstream::new().dout(still(value));
        Cpu::new().backward(&op, upstream, wanted).expect("nothing to do");
        assert!(Cpu::new().forward_plan(&op).is_ok() && Cpu::new().backward_plan(&op).is_ok());
        let update = SquaredAttentionUpdate::<f32, f32>::new(still(key), still(key), still(value), still(dims));
        let features = op.dims().expect("valid").features();
        let cache = [("slots", batch), ("nheads", nheads), ("features", features), ("vdim", vdim)];
        // A cache that is not empty is memory: none here.
        if batch == 0 || nheads == 0 || features == 0 {
            let (mut state, mut norm) = (nowhere(cache), nowhere([cache[0], cache[1], cache[2]]));
            let (update, mut out) = (update.expect("valid"), nowhere(value));
            let outputs = SquaredAttentionUpdateOutputs::new(&mut state, &mut norm, &mut out);
            Cpu::new().forward(&update, outputs).expect("nothing to do");
        }
    }
}

/// A head whose state no memory holds: an error, not an abort.
#[test]
fn states_beyond_counting() {
    for dim in [1 << 33, usize::MAX] {
        let op = attention([1, 1, 3, dim, 1]);
        let mut memory = [7.0f32; 3];
        let dims = [("batch", 1), ("nheads", 1), ("seqlen", 3), ("vdim", 1)];
        let mut out = ViewMut::new(&mut memory, dims);
        for op in [op, attention([1, 1, 3, dim, 1]).chunk_size(1)] {
            let refused = Cpu::new().forward(&op, SquaredAttentionOutputs::new(&mut out));
            assert!(matches!(refused, Err(Error::OutOfMemory { .. })), "{refused:?}");
            let upstream = SquaredAttentionUpstream::new().dout(still(dims));
            let refused = Cpu::new().backward(&op, upstream, SquaredAttentionGradients::new().dv(&mut out));
            assert!(matches!(refused, Err(Error::OutOfMemory { .. })), "{refused:?}");
        }
        assert_eq!(memory, [7.0; 3]);
    }
}
