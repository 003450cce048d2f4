//! Tensors of one call that lie element by element between each other: what they read, and what they write.

use crate::tensor::*;
use ssm_kernels_c::conv::*;
use ssm_kernels_c::on::SsmOn;
use ssm_kernels_c::scan::*;
use ssm_kernels_c::tensor::{SsmDevice, SsmTensor};
use ssm_kernels_c::update::*;
use std::ptr::null;

/// Tensors of the same extents in one allocation: element i of number k lies at i * count + k, and behind the last one NaN.
struct Woven {
    memory: Vec<f32>,
    shape: Vec<i64>,
    strides: Vec<i64>,
    tensors: Vec<SsmTensor>,
}

/// What number `k` holds, dense.
type Apart = Box<Tensor<f32>>;

/// Woven tensors that hold what `apart` holds, and one place for nobody.
fn woven(apart: &[&Apart]) -> Woven {
    let count = apart.len() + 1;
    let (shape, strides) = (apart[0].shape.clone(), apart[0].strides.clone());
    let mut memory = vec![f32::NAN; count * apart[0].data.len()];
    for (k, tensor) in apart.iter().enumerate() {
        assert_eq!((&tensor.shape, &tensor.strides), (&shape, &strides));
        memory.iter_mut().skip(k).step_by(count).zip(&tensor.data).for_each(|(to, &value)| *to = value);
    }
    let strides = strides.into_iter().map(|stride| stride * count as i64).collect();
    let mut woven = Woven { memory, shape, strides, tensors: Vec::new() };
    for k in 0..apart.len() {
        woven.tensors.push(SsmTensor {
            data: woven.memory.as_mut_ptr().cast(),
            device: SsmDevice { device_type: 1, device_id: 0 },
            ndim: woven.shape.len() as i32,
            dtype: f32::KIND,
            shape: woven.shape.as_mut_ptr(),
            strides: woven.strides.as_mut_ptr(),
            byte_offset: 4 * k as u64,
        });
    }
    woven
}

impl Woven {
    fn c<const N: usize>(&self) -> [*const SsmTensor; N] {
        std::array::from_fn(|k| &raw const self.tensors[k])
    }

    /// The same tensors hold the same bits, whatever lies between them.
    fn holds(&self, apart: &[&Apart]) {
        let count = apart.len() + 1;
        for (k, tensor) in apart.iter().enumerate() {
            let own = self.memory.iter().skip(k).step_by(count);
            assert!(own.zip(&tensor.data).all(|(a, b)| a.to_bits() == b.to_bits()), "tensor {k}");
        }
        assert!(self.memory.iter().skip(apart.len()).step_by(count).all(|v| v.is_nan()), "written between tensors");
    }
}

/// Miri, which finds references that overlap what is written, takes its time.
const MANY: usize = if cfg!(miri) { 1 } else { 4 };
const SEQLEN: usize = if cfg!(miri) { 3 } else { 19 };
const SEQUENCE: [(&str, usize); 3] = [("batch", 2), ("dim", 5), ("seqlen", SEQLEN)];

/// One thread and all, and two orders in memory.
fn ways() -> impl Iterator<Item = (SsmOn, [usize; 3])> {
    let ons = [true, false].map(|single_thread| zeroed!(SsmOn { single_thread: single_thread }));
    ons.into_iter().flat_map(|on| [(on, [0, 1, 2]), (on, [0, 2, 1])]).take(MANY)
}

/// x, dt, z, out, dout, dx, ddt and dz in one allocation; A and dA; B, C, dB and dC; states.
#[test]
fn selective_scan() {
    let mut r = random();
    for (on, order) in ways() {
        let s: [Apart; 8] = [(); 8].map(|()| tensor(&SEQUENCE, &order, &mut r));
        let a: [Apart; 2] = [(); 2].map(|()| tensor(&[("dim", 5), ("dstate", 3)], &[0, 1], || r() - 1.0));
        let rows = [("batch", 2), ("ngroups", 1), ("dstate", 3), ("seqlen", SEQLEN)];
        let b: [Apart; 4] = [(); 4].map(|()| tensor(&rows, &[0, 1, 2, 3], &mut r));
        let states = [("batch", 2), ("dim", 5), ("dstate", 3)];
        let h: [Apart; 4] = [(); 4].map(|()| tensor(&states, &[0, 1, 2], &mut r));
        let [s_refs, a_refs, b_refs, h_refs] = [&s[..], &a, &b, &h].map(|list| list.iter().collect::<Vec<_>>());
        let between = [&s_refs, &a_refs, &b_refs, &h_refs].map(|refs| woven(refs));
        let run = |[x, dt, z, out, dout, dx, ddt, dz]: [_; 8],
                   [A, dA]: [_; 2],
                   [B, C, dB, dC]: [_; 4],
                   [initial_state, final_state, dfinal_state, dinitial_state]: [_; 4]| {
            let scan = zeroed!(SsmSelectiveScan { x: x, dt: dt, A: A, B: B, C: C, z: z, initial_state: initial_state });
            let outputs = zeroed!(SsmSelectiveScanOutputs { out: out, final_state: final_state });
            let upstream = zeroed!(SsmSelectiveScanUpstream { dout: dout, dfinal_state: dfinal_state });
            let gradients = zeroed!(SsmSelectiveScanGradients {
                dx: dx,
                ddt: ddt,
                dz: dz,
                dA: dA,
                dB: dB,
                dC: dC,
                dinitial_state: dinitial_state,
            });
            // SAFETY: the tensors live, and share no element.
            unsafe {
                ok(ssm_selective_scan_forward(&on, &scan, &outputs));
                ok(ssm_selective_scan_backward(&on, &scan, &upstream, &gradients));
            }
        };
        run(between[0].c(), between[1].c(), between[2].c(), between[3].c());
        run(
            s.each_ref().map(|t| t.c()),
            a.each_ref().map(|t| t.c()),
            b.each_ref().map(|t| t.c()),
            h.each_ref().map(|t| t.c()),
        );
        for (woven, apart) in between.iter().zip([s_refs, a_refs, b_refs, h_refs]) {
            woven.holds(&apart);
        }
    }
}

/// x and out in one allocation, state and token_states in another.
#[test]
fn state_update() {
    let mut r = random();
    for (on, order) in ways() {
        let s: [Apart; 3] = [(); 3].map(|()| tensor(&[("batch", 2), ("seqlen", 1), ("dim", 9)], &order, &mut r));
        let h: [Apart; 2] = [(); 2].map(|()| tensor(&[("batch", 2), ("dim", 9), ("dstate", 4)], &[0, 1, 2], &mut r));
        let A = tensor(&[("dim", 9), ("dstate", 4)], &[0, 1], || r() - 1.0);
        let [B, C] = [(); 2].map(|()| tensor(&[("batch", 2), ("seqlen", 1), ("dstate", 4)], &[0, 1, 2], &mut r));
        let [s_refs, h_refs] = [&s[..], &h].map(|list| list.iter().collect::<Vec<_>>());
        let between = [woven(&s_refs), woven(&h_refs)];
        let run = |[x, dt, out]: [_; 3], [state, token_states]: [_; 2]| {
            let update = zeroed!(SsmStateUpdate { x: x, dt: dt, A: A.c(), B: B.c(), C: C.c() });
            let outputs = zeroed!(SsmStateUpdateOutputs { state: state, out: out, token_states: token_states });
            // SAFETY: the tensors live, and share no element.
            ok(unsafe { ssm_state_update(&on, &update, &outputs) });
        };
        run(between[0].c(), between[1].c());
        run(s.each_ref().map(|t| t.c()), h.each_ref().map(|t| t.c()));
        between[0].holds(&s_refs);
        between[1].holds(&h_refs);
    }
}

/// x, out, dout and dx in one allocation; weight and dweight; states.
#[test]
fn causal_conv1d() {
    let mut r = random();
    for (on, order) in ways() {
        let s: [Apart; 4] = [(); 4].map(|()| tensor(&SEQUENCE, &order, &mut r));
        let w: [Apart; 2] = [(); 2].map(|()| tensor(&[("dim", 5), ("width", 4)], &[0, 1], &mut r));
        let states = [("batch", 2), ("dim", 5), ("state_len", 3)];
        let h: [Apart; 4] = [(); 4].map(|()| tensor(&states, &[0, 1, 2], &mut r));
        let [s_refs, w_refs, h_refs] = [&s[..], &w, &h].map(|list| list.iter().collect::<Vec<_>>());
        let between = [woven(&s_refs), woven(&w_refs), woven(&h_refs)];
        let run = |[x, out, dout, dx]: [_; 4],
                   [weight, dweight]: [_; 2],
                   [initial_state, final_state, dinitial_state, conv_state]: [_; 4]| {
            let conv = zeroed!(SsmCausalConv1d { x: x, weight: weight, initial_state: initial_state, silu: true });
            let outputs = zeroed!(SsmCausalConv1dOutputs { out: out, final_state: final_state });
            let upstream = zeroed!(SsmCausalConv1dUpstream { dout: dout });
            let gradients =
                zeroed!(SsmCausalConv1dGradients { dx: dx, dweight: dweight, dinitial_state: dinitial_state });
            let update = zeroed!(SsmCausalConv1dUpdate { x: x, weight: weight });
            let updated = zeroed!(SsmCausalConv1dUpdateOutputs { out: out, conv_state: conv_state });
            // SAFETY: the tensors live, and share no element.
            unsafe {
                ok(ssm_causal_conv1d_forward(&on, &conv, &outputs));
                ok(ssm_causal_conv1d_backward(&on, &conv, &upstream, &gradients));
                ok(ssm_causal_conv1d_update(&on, &update, &updated));
            }
        };
        run(between[0].c(), between[1].c(), between[2].c());
        run(s.each_ref().map(|t| t.c()), w.each_ref().map(|t| t.c()), h.each_ref().map(|t| t.c()));
        for (woven, apart) in between.iter().zip([s_refs, w_refs, h_refs]) {
            woven.holds(&apart);
        }
    }
}

/// One element that two tensors share is refused, before anything is written.
#[test]
fn a_shared_element() {
    let mut r = random();
    let s: [Apart; 3] = [(); 3].map(|()| tensor(&SEQUENCE, &[0, 1, 2], &mut r));
    let mut between = woven(&s.iter().collect::<Vec<_>>());
    between.tensors[2].byte_offset = 4;
    let [x, dt, out] = between.c();
    let A = tensor(&[("dim", 5), ("dstate", 3)], &[0, 1], &mut r);
    let scan = zeroed!(SsmSelectiveScan { x: x, dt: dt, A: A.c(), B: A.c(), C: A.c() });
    let outputs = zeroed!(SsmSelectiveScanOutputs { out: out });
    // SAFETY: the tensors live; that two are one is refused.
    assert_ne!(unsafe { ssm_selective_scan_forward(null(), &scan, &outputs) }, 0);
    assert_eq!(message(), "selective_scan: output `out` overlaps `dt`, expected memory of its own");
    between.tensors[2].byte_offset = 8;
    between.holds(&s.iter().collect::<Vec<_>>());
}
