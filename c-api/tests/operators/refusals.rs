//! What is refused says why, and writes nothing.

use crate::tensor::*;
use half::bf16;
use ssm_kernels_c::on::SsmOn;
use ssm_kernels_c::scan::*;
use ssm_kernels_c::status::*;
use std::ffi::c_int;
use std::ptr::{null, null_mut};

/// A scan that is as it must be, until a test says otherwise.
pub struct Call {
    pub x: Box<Tensor<f32>>,
    pub dt: Box<Tensor<f32>>,
    pub A: Box<Tensor<f32>>,
    pub B: Box<Tensor<f32>>,
    pub out: Box<Tensor<f32>>,
    pub scan: SsmSelectiveScan,
}

impl Call {
    pub fn new() -> Self {
        let mut r = random();
        let [x, dt] = [(); 2].map(|()| tensor(&SEQUENCE, &[0, 1, 2], &mut r));
        let (A, B) = (tensor(&MATRIX, &[0, 1], &mut r), tensor(&PROJECTION, &[0, 1, 2, 3], &mut r));
        let out = tensor(&SEQUENCE, &[0, 1, 2], || 7.0f32);
        let scan = zeroed!(SsmSelectiveScan { x: x.c(), dt: dt.c(), A: A.c(), B: B.c(), C: A.c() });
        Self { x, dt, A, B, out, scan }
    }

    fn outputs(&self) -> SsmSelectiveScanOutputs {
        zeroed!(SsmSelectiveScanOutputs { out: self.out.c() })
    }

    /// What a call with this scan returns, and its message.
    pub fn made(&self, on: *const SsmOn, scan: *const SsmSelectiveScan) -> (c_int, String) {
        // SAFETY: the tensors live; what they say wrong is refused before anything is read.
        (unsafe { ssm_selective_scan_forward(on, scan, &self.outputs()) }, message())
    }

    fn refused(&self, expected: &str) {
        self.refused_with(&self.scan, expected);
    }

    fn refused_with(&self, scan: *const SsmSelectiveScan, expected: &str) {
        assert_eq!(self.made(null(), scan), (SSM_INVALID, format!("selective_scan: {expected}")));
        assert!(self.out.data.iter().all(|&v| v == 7.0), "written although refused: {expected}");
    }
}

#[test]
fn tensors() {
    let mut call = Call::new();
    call.scan.cu_seqlens_on_device = call.A.c();
    call.refused("`cu_seqlens_on_device` is given, expected null, or cu_seqlens in host memory beside it");
    call.scan.cu_seqlens_on_device = null();
    call.scan.C = null();
    call.refused("`C` is null, expected a tensor");
    call.scan.C = call.A.c();
    call.x.c.ndim = 2;
    call.refused("`x` is of 2 dimensions, expected 3 (batch, dim, seqlen)");
    call.x.c.ndim = 3;
    call.x.strides[2] = -1;
    call.refused("`x` is of stride -1 along seqlen, expected 0 or more");
    call.x.strides[2] = 1;
    call.x.shape[1] = -4;
    call.refused("`x` is of extent -4 along dim, expected 0 or more");
    call.x.shape[1] = i64::MAX;
    call.refused("`x` is beyond any address, expected extents and strides that fit the address space");
    call.x.shape[1] = DIM as i64;
    call.x.c.dtype.code = 0;
    call.refused("`x` is int32, expected f32, f16 or bf16");
    call.x.c.dtype = bf16::KIND;
    call.refused("`dt` is float32, expected bf16");
    call.x.c.dtype = f32::KIND;
    call.x.c.byte_offset = 2;
    let at = call.x.data.as_ptr().wrapping_byte_add(2);
    call.refused(&format!("`x` is at {at:p}, expected memory aligned to 4 bytes"));
    call.x.c.byte_offset = 0;
    call.x.c.device.device_type = 7;
    call.refused("`x` is on device 0 of type 7, expected host (1 or 3) or CUDA (2) memory");
}

#[test]
fn structs() {
    let mut call = Call::new();
    call.scan.size = 4;
    call.refused(&size_message(4));
    // A struct of a later header, with an option set that this library does not know.
    #[repr(C)]
    struct Later(SsmSelectiveScan, usize);
    let mut later = Later(call.scan, 0);
    later.0.size = size_of::<Later>();
    later.0.x = null();
    let later_scan = (&raw const later).cast();
    call.refused_with(later_scan, "`x` is null, expected a tensor");
    later.1 = 1;
    call.refused_with((&raw const later).cast(), &size_message(size_of::<Later>()));
    call.refused_with(null(), "`scan` is null, expected a struct");
    call.scan.size = size_of::<SsmSelectiveScan>();
    call.scan.reserved[4] = 1;
    let zeros = "is not zero in `reserved`, expected a struct that was set to zeros before its fields were";
    call.refused(&format!("`scan` {zeros}"));
    call.scan.reserved[4] = 0;
    let on = zeroed!(SsmOn { reserved: [1, 0, 0, 0, 0, 0, 0] });
    assert_eq!(call.made(&on, &call.scan), (SSM_INVALID, format!("selective_scan: `on` {zeros}")));
}

fn size_message(size: usize) -> String {
    let known = size_of::<SsmSelectiveScan>();
    format!("`scan` is of size {size}, expected size = {known}, or more with zeros behind what this library knows")
}

/// Names are those of the header, not of the Rust crate.
#[test]
fn names() {
    let mut call = Call::new();
    let mut starts = [1, SEQLEN as i32].into_iter();
    let cu_seqlens = tensor::<i32>(&[("elements", 2)], &[0], || starts.next().expect("two"));
    call.scan.cu_seqlens = cu_seqlens.c();
    call.refused("`cu_seqlens` is starting at 1, expected a start at 0");
    call.scan.cu_seqlens = null();
    let chunks = tensor(&[("nchunks", 0), ("dim", DIM), ("dstate", DSTATE)], &[0, 1, 2], || 0.0f32);
    let outputs = zeroed!(SsmSelectiveScanOutputs { out: call.out.c(), chunk_states: chunks.c() });
    // SAFETY: the tensors live, and are as they say.
    let status = unsafe { ssm_selective_scan_forward(null(), &call.scan, &outputs) };
    let expected = "selective_scan: `chunk_every` is 0, expected at least 1 step";
    assert_eq!((status, message()), (SSM_INVALID, expected.into()));
}

#[test]
fn workspaces_and_plans() {
    let call = Call::new();
    let mut on = zeroed!(SsmOn { workspace: 8 as *mut _ });
    let unaligned = "selective_scan: `workspace` is at 0x8, expected memory aligned to 256 bytes".into();
    assert_eq!(call.made(&on, &call.scan), (SSM_INVALID, unaligned));
    (on.workspace, on.workspace_bytes) = (256 as *mut _, 0);
    assert_eq!(call.made(&on, &call.scan).0, SSM_OUT_OF_MEMORY);
    // SAFETY: null for all that is wanted.
    let nothing = unsafe { ssm_selective_scan_plan(null(), &call.scan, null_mut(), null_mut(), null_mut()) };
    assert_eq!(nothing, SSM_INVALID);
}
