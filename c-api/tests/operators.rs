//! Every function of the C API beside the call in Rust that it stands for: the same bits.

#![allow(non_snake_case)]

use half::{bf16, f16};
use ssm_kernels::prelude::*;
use ssm_kernels::{Axes, Axis};
use ssm_kernels_c::conv::*;
use ssm_kernels_c::on::SsmOn;
use ssm_kernels_c::scan::*;
use ssm_kernels_c::status::*;
use ssm_kernels_c::tensor::{SsmDevice, SsmDtype, SsmTensor};
use ssm_kernels_c::update::*;
use std::ffi::{CStr, c_int};
use std::ptr::{null, null_mut};

/// A tensor with what it points to.
struct Tensor<T> {
    data: Vec<T>,
    shape: Vec<i64>,
    strides: Vec<i64>,
    names: Vec<&'static str>,
    c: SsmTensor,
}

trait Kind: Copy {
    const KIND: SsmDtype;
    fn of(value: f32) -> Self;
}
macro_rules! kinds {
    ($($type:ty: $code:literal, $bits:literal, $of:expr;)*) => {
        $(impl Kind for $type {
            const KIND: SsmDtype = SsmDtype { code: $code, bits: $bits, lanes: 1 };
            fn of(value: f32) -> Self {
                $of(value)
            }
        })*
    };
}
kinds! { f32: 2, 32, |v| v; f16: 2, 16, f16::from_f32; bf16: 4, 16, bf16::from_f32; i32: 0, 32, |v| v as i32; }

/// The dimensions in order, and how they lie: `order[0]` slowest.
fn tensor<T: Kind>(dims: &[(&'static str, usize)], order: &[usize], fill: impl FnMut() -> T) -> Box<Tensor<T>> {
    let mut strides = vec![0i64; dims.len()];
    let mut stride = 1;
    for &axis in order.iter().rev() {
        strides[axis] = stride;
        stride *= dims[axis].1 as i64;
    }
    let mut data: Vec<T> = std::iter::repeat_with(fill).take(stride as usize).collect();
    let mut shape: Vec<i64> = dims.iter().map(|dim| dim.1 as i64).collect();
    let c = SsmTensor {
        data: data.as_mut_ptr().cast(),
        device: SsmDevice { device_type: 1, device_id: 0 },
        ndim: dims.len() as i32,
        dtype: T::KIND,
        shape: shape.as_mut_ptr(),
        strides: strides.as_mut_ptr(),
        byte_offset: 0,
    };
    Box::new(Tensor { data, shape, strides, names: dims.iter().map(|dim| dim.0).collect(), c })
}

impl<T: Kind> Tensor<T> {
    fn axes(&self) -> Axes {
        let axis = |i: usize| Axis { name: self.names[i], extent: self.shape[i] as usize, stride: self.strides[i] };
        Axes::from_slice(&(0..self.names.len()).map(axis).collect::<Vec<_>>()).expect("few dimensions")
    }

    fn view(&self) -> View<'_, T> {
        View::from_parts(&self.data[..], self.axes())
    }

    fn view_mut(&mut self) -> ViewMut<'_, T> {
        let axes = self.axes();
        ViewMut::from_parts(&mut self.data[..], axes)
    }

    fn c(&self) -> *const SsmTensor {
        &self.c
    }

    /// Another of the same extents, for what Rust writes.
    fn twin(&self) -> Box<Self> {
        let dims: Vec<_> = self.names.iter().copied().zip(self.shape.iter().map(|&extent| extent as usize)).collect();
        let mut order: Vec<usize> = (0..dims.len()).collect();
        order.sort_by_key(|&axis| std::cmp::Reverse((self.strides[axis], dims[axis].1)));
        let mut values = self.data.iter().copied();
        tensor(&dims, &order, || values.next().expect("as many"))
    }
}

fn random() -> impl FnMut() -> f32 {
    let mut seed = 1u32;
    move || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as f32 / (1 << 24) as f32 - 0.5
    }
}

macro_rules! zeroed {
    ($type:ty { $($field:ident: $value:expr),* $(,)? }) => {{
        // SAFETY: all zeros is a value of the structs of the header.
        let mut made: $type = unsafe { std::mem::zeroed() };
        made.size = size_of::<$type>();
        $(made.$field = $value;)*
        made
    }};
}

fn message() -> String {
    // SAFETY: the text lives until the next failure of this thread.
    unsafe { CStr::from_ptr(ssm_error_message()) }.to_string_lossy().into_owned()
}

fn ok(status: c_int) {
    assert_eq!(status, SSM_OK, "{}", message());
}

const BATCH: usize = 2;
const DIM: usize = 6;
const SEQLEN: usize = 37;
const DSTATE: usize = 5;
const SEQUENCE: [(&str, usize); 3] = [("batch", BATCH), ("dim", DIM), ("seqlen", SEQLEN)];
const STATE: [(&str, usize); 3] = [("batch", BATCH), ("dim", DIM), ("dstate", DSTATE)];
const MATRIX: [(&str, usize); 2] = [("dim", DIM), ("dstate", DSTATE)];
const PROJECTION: [(&str, usize); 4] = [("batch", BATCH), ("ngroups", 2), ("dstate", DSTATE), ("seqlen", SEQLEN)];

#[test]
fn selective_scan_both_ways() {
    let mut r = random();
    let mut draw = |dims: &[(&'static str, usize)], order: &[usize]| tensor(dims, order, &mut r);
    let [x, dt, z, dout] = [(); 4].map(|()| draw(&SEQUENCE, &[0, 2, 1]));
    let (mut A, B, C) = (draw(&MATRIX, &[0, 1]), draw(&PROJECTION, &[0, 3, 1, 2]), draw(&MATRIX, &[1, 0]));
    A.data.iter_mut().for_each(|a| *a -= 1.0);
    let [D, bias] = [(); 2].map(|()| draw(&[("dim", DIM)], &[0]));
    let [h0, dfinal] = [(); 2].map(|()| draw(&STATE, &[0, 1, 2]));
    let (out, last) = (x.twin(), h0.twin());
    let (sum, every) = (draw(&[("batch", BATCH), ("dim", DIM)], &[0, 1]), 16);
    let chunks = draw(&[("nchunks", 2 * BATCH), ("dim", DIM), ("dstate", DSTATE)], &[0, 1, 2]);
    let [mut out2, mut last2, mut sum2, mut chunks2] = [out.twin(), last.twin(), sum.twin(), chunks.twin()];

    let scan = zeroed!(SsmSelectiveScan {
        x: x.c(),
        dt: dt.c(),
        A: A.c(),
        B: B.c(),
        C: C.c(),
        D: D.c(),
        z: z.c(),
        dt_bias: bias.c(),
        initial_state: h0.c(),
        dt_softplus: true,
        dt_limit: true,
        reverse: true,
        dt_min: 0.1,
        dt_max: 0.9,
        split: 2,
    });
    let outputs = zeroed!(SsmSelectiveScanOutputs {
        out: out.c(),
        final_state: last.c(),
        chunk_states: chunks.c(),
        delta_sum: sum.c(),
        chunk_every: every,
    });
    // SAFETY: the tensors live, and are as they say.
    ok(unsafe { ssm_selective_scan_forward(null(), &scan, &outputs) });
    let op = SelectiveScan::new(x.view(), dt.view(), A.view(), B.view(), Projection::Constant(C.view()))
        .and_then(|op| {
            let op = op.D(D.view()).z(z.view()).dt_bias(bias.view()).initial_state(h0.view());
            let op = op.dt_softplus(true).dt_limit((0.1, 0.9)).reverse(true).split(2);
            let (mut out, mut last, mut sum, mut chunks) =
                (out2.view_mut(), last2.view_mut(), sum2.view_mut(), chunks2.view_mut());
            let outputs = SelectiveScanOutputs::new(&mut out).final_state(&mut last).delta_sum(&mut sum);
            Cpu::new().forward(&op, outputs.chunk_states(every, &mut chunks))?;
            Ok(op)
        })
        .expect("as C");
    assert_eq!((&out.data, &last.data, &sum.data), (&out2.data, &last2.data, &sum2.data));
    assert_eq!(chunks.data, chunks2.data);
    assert!(out.data.iter().any(|&v| v != 0.0));

    let upstream = zeroed!(SsmSelectiveScanUpstream { dout: dout.c(), dfinal_state: dfinal.c() });
    let [mut dx, mut ddt, mut dz, mut dB] = [x.twin(), x.twin(), x.twin(), B.twin()];
    let [mut dA, mut dC, mut dD, mut dbias, mut dh0] = [A.twin(), C.twin(), D.twin(), bias.twin(), h0.twin()];
    let gradients = [&dx, &ddt, &dz, &dB, &dA, &dC, &dD, &dbias, &dh0].map(|tensor| tensor.twin());
    let [gx, gdt, gz, gB, gA, gC, gD, gbias, gh0] = &gradients;
    let given = zeroed!(SsmSelectiveScanGradients {
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
    // SAFETY: as above.
    ok(unsafe { ssm_selective_scan_backward(null(), &scan, &upstream, &given) });
    let (mut vx, mut vdt, mut vz, mut vA, mut vD) =
        (dx.view_mut(), ddt.view_mut(), dz.view_mut(), dA.view_mut(), dD.view_mut());
    let (mut vbias, mut vh0) = (dbias.view_mut(), dh0.view_mut());
    let wanted = SelectiveScanGradients::new().dx(&mut vx).ddt(&mut vdt).dz(&mut vz).dA(&mut vA).dD(&mut vD);
    let wanted = wanted.ddt_bias(&mut vbias).dinitial_state(&mut vh0);
    let wanted = wanted.dB(dB.view_mut()).dC(ProjectionMut::Constant(dC.view_mut()));
    let upstream = SelectiveScanUpstream::new().dout(dout.view()).dfinal_state(dfinal.view());
    Cpu::new().backward(&op, upstream, wanted).expect("as C");
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

/// What is refused says why.
#[test]
fn refusals() {
    let mut r = random();
    let [mut x, dt] = [(); 2].map(|()| tensor(&SEQUENCE, &[0, 1, 2], &mut r));
    let (A, B) = (tensor(&MATRIX, &[0, 1], &mut r), tensor(&PROJECTION, &[0, 1, 2, 3], &mut r));
    let out = tensor(&SEQUENCE, &[0, 1, 2], || 7.0f32);
    let mut scan = zeroed!(SsmSelectiveScan { x: x.c(), dt: dt.c(), A: A.c(), B: B.c(), C: B.c() });
    let outputs = zeroed!(SsmSelectiveScanOutputs { out: out.c() });
    let refused = |scan: &SsmSelectiveScan, status: c_int, expected: &str| {
        // SAFETY: the tensors live; what they say wrong is refused before anything is read.
        assert_eq!(unsafe { ssm_selective_scan_forward(null(), scan, &outputs) }, status, "{expected}");
        assert_eq!(message(), format!("selective_scan: {expected}"));
        assert!(out.data.iter().all(|&v| v == 7.0), "written although refused: {expected}");
    };
    scan.cu_seqlens_on_device = A.c();
    refused(
        &scan,
        SSM_INVALID,
        "`cu_seqlens_on_device` is given, expected null, or cu_seqlens in host memory beside it",
    );
    scan.cu_seqlens_on_device = null();
    scan.C = null();
    refused(&scan, SSM_INVALID, "`C` is null, expected a tensor");
    scan.C = A.c();
    x.c.ndim = 2;
    refused(&scan, SSM_INVALID, "`x` is of 2 dimensions, expected 3 (batch, dim, seqlen)");
    x.c.ndim = 3;
    x.strides[2] = -1;
    refused(&scan, SSM_INVALID, "`x` is of stride -1 along seqlen, expected 0 or more");
    x.strides[2] = 1;
    x.shape[1] = -4;
    refused(&scan, SSM_INVALID, "`x` is of extent -4 along dim, expected 0 or more");
    x.shape[1] = i64::MAX;
    refused(&scan, SSM_INVALID, "`x` is beyond any address, expected extents and strides that fit the address space");
    x.shape[1] = DIM as i64;
    x.c.dtype.code = 0;
    refused(&scan, SSM_INVALID, "`x` is int32, expected f32, f16 or bf16");
    x.c.dtype = bf16::KIND;
    refused(&scan, SSM_INVALID, "`dt` is float32, expected bf16");
    x.c.dtype = f32::KIND;
    x.c.byte_offset = 2;
    let at = x.data.as_ptr().wrapping_byte_add(2);
    refused(&scan, SSM_INVALID, &format!("`x` is at {at:p}, expected memory aligned to 4 bytes"));
    x.c.byte_offset = 0;
    x.c.device.device_type = 7;
    refused(&scan, SSM_INVALID, "`x` is on device 0 of type 7, expected host (1 or 3) or CUDA (2) memory");
    x.c.device.device_type = 1;
    scan.size = 4;
    refused(&scan, SSM_INVALID, &size_message(4));
    // A struct of a later header, with an option set that this library does not know.
    #[repr(C)]
    struct Later(SsmSelectiveScan, usize);
    let mut later = Later(scan, 0);
    later.0.size = size_of::<Later>();
    later.0.x = null();
    refused(&later.0, SSM_INVALID, "`x` is null, expected a tensor");
    later.1 = 1;
    refused(&later.0, SSM_INVALID, &size_message(size_of::<Later>()));
    let mut on = zeroed!(SsmOn { workspace: 8 as *mut _ });
    // SAFETY: nothing is read behind a null pointer, nor in a workspace that is refused.
    let forward = |on: *const SsmOn, scan: *const SsmSelectiveScan| unsafe {
        (ssm_selective_scan_forward(on, scan, &outputs), message())
    };
    let null_scan = "selective_scan: `scan` is null, expected a struct".into();
    assert_eq!(forward(null(), null()), (SSM_INVALID, null_scan));
    scan.size = size_of::<SsmSelectiveScan>();
    let unaligned = "selective_scan: `workspace` is at 0x8, expected memory aligned to 256 bytes".into();
    assert_eq!(forward(&on, &scan), (SSM_INVALID, unaligned));
    (on.workspace, on.workspace_bytes) = (256 as *mut _, 0);
    assert_eq!(forward(&on, &scan).0, SSM_OUT_OF_MEMORY);
    // SAFETY: as above.
    assert_eq!(unsafe { ssm_selective_scan_plan(null(), &scan, null_mut(), null_mut(), null_mut()) }, SSM_INVALID);
}

fn size_message(size: usize) -> String {
    let known = size_of::<SsmSelectiveScan>();
    format!("`scan` is of size {size}, expected size = {known}, or more with zeros behind what this library knows")
}

/// Without a driver the device is the reason.
#[test]
fn tensors_on_a_device() {
    let mut r = random();
    let [mut x, mut dt] = [(); 2].map(|()| tensor(&SEQUENCE, &[0, 1, 2], &mut r));
    let (mut A, mut B) = (tensor(&MATRIX, &[0, 1], &mut r), tensor(&PROJECTION, &[0, 1, 2, 3], &mut r));
    let scan = zeroed!(SsmSelectiveScan { x: x.c(), dt: dt.c(), A: A.c(), B: B.c(), C: B.c() });
    let mut out = x.twin();
    let outputs = zeroed!(SsmSelectiveScanOutputs { out: out.c() });
    x.c.device = SsmDevice { device_type: 2, device_id: 77 };
    // SAFETY: no kernel runs: there is no device 77.
    let status = unsafe { ssm_selective_scan_forward(null(), &scan, &outputs) };
    let expected = if cfg!(feature = "cuda") { SSM_DEVICE } else { SSM_INVALID };
    assert_eq!(status, expected, "{}", message());
    let host = SsmDevice { device_type: 1, device_id: 0 };
    x.c.device = host;
    for tensor in [&mut dt.c, &mut A.c, &mut B.c, &mut out.c] {
        tensor.device.device_type = 2;
        // SAFETY: refused before anything is read.
        assert_eq!(unsafe { ssm_selective_scan_forward(null(), &scan, &outputs) }, SSM_INVALID);
        assert!(message().ends_with("is on a CUDA device, expected host memory, as x"), "{}", message());
        tensor.device = host;
    }
}
