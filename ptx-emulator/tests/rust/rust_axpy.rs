//! a x + y over half-precision x, by rustc: a struct by value, slices of four, a tail.

#![no_std]
#![feature(abi_ptx, asm_experimental_arch, stdarch_nvptx)]

use core::arch::asm;
use core::arch::nvptx::{_block_dim_x, _block_idx_x, _grid_dim_x, _thread_idx_x};

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Params {
    x: *const u16,
    y: *const f32,
    out: *mut f32,
    len: u64,
    a: f32,
    negate: u32,
}

#[repr(C, align(16))]
#[derive(Clone, Copy)]
struct Four([f32; 4]);

fn half(bits: u16) -> f32 {
    let value: f32;
    // SAFETY: a conversion between registers.
    unsafe { asm!("cvt.f32.f16 {}, {};", out(reg32) value, in(reg16) bits, options(pure, nomem, nostack)) };
    value
}

#[unsafe(no_mangle)]
pub unsafe extern "ptx-kernel" fn axpy(params: Params) {
    // SAFETY: every index is below `len`, and one thread's alone.
    unsafe {
        let stride = u64::from(_grid_dim_x() as u32 * _block_dim_x() as u32);
        let first = u64::from(_block_idx_x() as u32 * _block_dim_x() as u32 + _thread_idx_x() as u32);
        let sign = if params.negate != 0 { -1.0 } else { 1.0 };
        let mut i = first;
        while i < params.len / 4 {
            let Four(y) = *params.y.cast::<Four>().add(i as usize);
            let mut out = [0.0; 4];
            let mut j = 0;
            while j < 4 {
                out[j] = sign * (params.a * half(*params.x.add(4 * i as usize + j)) + y[j]);
                j += 1;
            }
            *params.out.cast::<Four>().add(i as usize) = Four(out);
            i += stride;
        }
        i = params.len / 4 * 4 + first;
        while i < params.len {
            let (x, y) = (half(*params.x.add(i as usize)), *params.y.add(i as usize));
            *params.out.add(i as usize) = sign * (params.a * x + y);
            i += stride;
        }
    }
}
