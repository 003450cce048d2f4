//! The selective scan.

use crate::tensor::*;
use half::f16;
use ssm_kernels::prelude::*;
use ssm_kernels_c::scan::*;
use std::ptr::null;

/// What a scan reads, and what comes back to it.
struct Given {
    x: Box<Tensor<f32>>,
    dt: Box<Tensor<f32>>,
    z: Box<Tensor<f32>>,
    dout: Box<Tensor<f32>>,
    A: Box<Tensor<f32>>,
    B: Box<Tensor<f32>>,
    C: Box<Tensor<f32>>,
    D: Box<Tensor<f32>>,
    bias: Box<Tensor<f32>>,
    h0: Box<Tensor<f32>>,
    dfinal: Box<Tensor<f32>>,
}

impl Given {
    fn drawn(mut r: impl FnMut() -> f32) -> Self {
        let mut draw = |dims: &[(&'static str, usize)], order: &[usize]| tensor(dims, order, &mut r);
        let [x, dt, z, dout] = [(); 4].map(|()| draw(&SEQUENCE, &[0, 2, 1]));
        let (mut A, B, C) = (draw(&MATRIX, &[0, 1]), draw(&PROJECTION, &[0, 3, 1, 2]), draw(&MATRIX, &[1, 0]));
        A.data.iter_mut().for_each(|a| *a -= 1.0);
        let [D, bias] = [(); 2].map(|()| draw(&[("dim", DIM)], &[0]));
        let [h0, dfinal] = [(); 2].map(|()| draw(&STATE, &[0, 1, 2]));
        Self { x, dt, z, dout, A, B, C, D, bias, h0, dfinal }
    }

    fn c(&self) -> SsmSelectiveScan {
        zeroed!(SsmSelectiveScan {
            x: self.x.c(),
            dt: self.dt.c(),
            A: self.A.c(),
            B: self.B.c(),
            C: self.C.c(),
            D: self.D.c(),
            z: self.z.c(),
            dt_bias: self.bias.c(),
            initial_state: self.h0.c(),
            dt_softplus: true,
            dt_limit: true,
            reverse: true,
            dt_min: 0.1,
            dt_max: 0.9,
            split: 2,
        })
    }

    fn rust(&self) -> SelectiveScan<'_, f32> {
        let [x, dt, A, B] = [&self.x, &self.dt, &self.A, &self.B].map(|tensor| tensor.view());
        let op = SelectiveScan::new(x, dt, A, B, Projection::Constant(self.C.view())).expect("as C");
        let op = op.D(self.D.view()).z(self.z.view()).dt_bias(self.bias.view()).initial_state(self.h0.view());
        op.dt_softplus(true).dt_limit((0.1, 0.9)).reverse(true).split(2)
    }
}

#[test]
fn forward() {
    let mut r = random();
    let given = Given::drawn(&mut r);
    let mut draw = |dims: &[(&'static str, usize)], order: &[usize]| tensor(dims, order, &mut r);
    let (out, last) = (given.x.twin(), given.h0.twin());
    let (sum, every) = (draw(&[("batch", BATCH), ("dim", DIM)], &[0, 1]), 16);
    let chunks = draw(&[("nchunks", 2 * BATCH), ("dim", DIM), ("dstate", DSTATE)], &[0, 1, 2]);
    let [mut out2, mut last2, mut sum2, mut chunks2] = [out.twin(), last.twin(), sum.twin(), chunks.twin()];
    let outputs = zeroed!(SsmSelectiveScanOutputs {
        out: out.c(),
        final_state: last.c(),
        chunk_states: chunks.c(),
        delta_sum: sum.c(),
        chunk_every: every,
    });
    // SAFETY: the tensors live, and are as they say.
    ok(unsafe { ssm_selective_scan_forward(null(), &given.c(), &outputs) });
    let (mut v_out, mut v_last, mut v_sum, mut v_chunks) =
        (out2.view_mut(), last2.view_mut(), sum2.view_mut(), chunks2.view_mut());
    let outputs = SelectiveScanOutputs::new(&mut v_out).final_state(&mut v_last).delta_sum(&mut v_sum);
    Cpu::new().forward(&given.rust(), outputs.chunk_states(every, &mut v_chunks)).expect("as C");
    assert_eq!((&out.data, &last.data, &sum.data), (&out2.data, &last2.data, &sum2.data));
    assert_eq!(chunks.data, chunks2.data);
    assert!(out.data.iter().any(|&v| v != 0.0));
}

#[test]
fn backward() {
    let given = Given::drawn(random());
    let Given { x, dout, A, B, C, D, bias, h0, dfinal, .. } = &given;
    let upstream = zeroed!(SsmSelectiveScanUpstream { dout: dout.c(), dfinal_state: dfinal.c() });
    let [mut dx, mut ddt, mut dz, mut dB] = [x.twin(), x.twin(), x.twin(), B.twin()];
    let [mut dA, mut dC, mut dD, mut dbias, mut dh0] = [A.twin(), C.twin(), D.twin(), bias.twin(), h0.twin()];
    let gradients = [&dx, &ddt, &dz, &dB, &dA, &dC, &dD, &dbias, &dh0].map(|tensor| tensor.twin());
    let [gx, gdt, gz, gB, gA, gC, gD, gbias, gh0] = &gradients;
    let wanted = zeroed!(SsmSelectiveScanGradients {
        dx: gx.c(),
        ddt: gdt.c(),
        dz: gz.c(),
        dB: gB.c(),
        dA: gA.c(),
        dC: gC.c(),
        dD: gD.c(),
        ddt_bias: gbias.c(),
        dinitial_state: gh0.c(),
    });
    // SAFETY: the tensors live, and are as they say.
    ok(unsafe { ssm_selective_scan_backward(null(), &given.c(), &upstream, &wanted) });
    let (mut vx, mut vdt, mut vz, mut vA, mut vD) =
        (dx.view_mut(), ddt.view_mut(), dz.view_mut(), dA.view_mut(), dD.view_mut());
    let (mut vbias, mut vh0) = (dbias.view_mut(), dh0.view_mut());
    let wanted = SelectiveScanGradients::new().dx(&mut vx).ddt(&mut vdt).dz(&mut vz).dA(&mut vA).dD(&mut vD);
    let wanted = wanted.ddt_bias(&mut vbias).dinitial_state(&mut vh0);
    let wanted = wanted.dB(dB.view_mut()).dC(ProjectionMut::Constant(dC.view_mut()));
    let upstream = SelectiveScanUpstream::new().dout(dout.view()).dfinal_state(dfinal.view());
    Cpu::new().backward(&given.rust(), upstream, wanted).expect("as C");
    for (c, rust) in gradients.iter().zip([dx, ddt, dz, dB, dA, dC, dD, dbias, dh0]) {
        assert!(c.data == rust.data && c.data.iter().any(|&v| v != 0.0));
    }
}

#[test]
fn packed_sequences() {
    let mut r = random();
    let one = [("batch", 1), ("dim", DIM), ("seqlen", SEQLEN)];
    let [x, dt] = [(); 2].map(|()| tensor::<f16>(&one, &[0, 1, 2], || f16::of(r())));
    let A = tensor(&MATRIX, &[0, 1], || r() - 1.0);
    let B =
        tensor(&[("batch", 1), ("ngroups", 1), ("dstate", DSTATE), ("seqlen", SEQLEN)], &[0, 1, 2, 3], || f16::of(r()));
    let mut starts = [0, 10, 10, SEQLEN as i32].into_iter();
    let cu_seqlens = tensor::<i32>(&[("elements", 4)], &[0], || starts.next().expect("four"));
    let mut last = tensor(&[("batch", 3), ("dim", DIM), ("dstate", DSTATE)], &[0, 1, 2], || f32::NAN);
    let (mut out, mut out2, mut last2) = (x.twin(), x.twin(), last.twin());
    let scan =
        zeroed!(SsmSelectiveScan { x: x.c(), dt: dt.c(), A: A.c(), B: B.c(), C: B.c(), cu_seqlens: cu_seqlens.c() });
    let outputs = zeroed!(SsmSelectiveScanOutputs { out: out.c(), final_state: last.c() });
    // SAFETY: the tensors live, and are as they say.
    ok(unsafe { ssm_selective_scan_forward(null(), &scan, &outputs) });
    let segments = Segments::new(&[0, 10, 10, SEQLEN as i32]).expect("valid");
    let op = SelectiveScan::new(x.view(), dt.view(), A.view(), B.view(), B.view()).expect("valid").segments(&segments);
    let (mut view, mut state) = (out2.view_mut(), last2.view_mut());
    Cpu::new().forward(&op, SelectiveScanOutputs::new(&mut view).final_state(&mut state)).expect("as C");
    assert_eq!((&out.data, &last.data), (&out2.data, &last2.data));
    out.view_mut();
    last.view_mut();
}
