//! Sums of blocks by rustc: LLVM's shuffles, shared memory of a symbol, dynamic shared memory.

#![no_std]
#![feature(abi_ptx, asm_experimental_arch, stdarch_nvptx, link_llvm_intrinsics)]
#![allow(internal_features)]

use core::arch::nvptx::{_block_dim_x, _block_idx_x, _syncthreads, _thread_idx_x};
use core::arch::{asm, global_asm};

global_asm!(".shared .align 4 .b8 parts[128];", ".extern .shared .align 4 .b8 whole[];");

unsafe extern "C" {
    #[link_name = "llvm.nvvm.shfl.sync.bfly.i32"]
    fn shuffle_xor(mask: i32, value: i32, lane: i32, clamp: i32) -> i32;
}

unsafe fn store(base: u32, index: u32, value: i32) {
    // SAFETY: the caller's.
    unsafe { asm!("st.shared.s32 [{}], {};", in(reg32) base + 4 * index, in(reg32) value, options(nostack)) }
}

unsafe fn load(base: u32, index: u32) -> i32 {
    let value;
    // SAFETY: the caller's.
    unsafe { asm!("ld.shared.s32 {}, [{}];", out(reg32) value, in(reg32) base + 4 * index, options(nostack)) };
    value
}

unsafe fn warp_sum(mut value: i32) -> i32 {
    let mut step = 16;
    while step > 0 {
        // SAFETY: the whole warp is here.
        value += unsafe { shuffle_xor(-1, value, step, 31) };
        step /= 2;
    }
    value
}

/// Blocks of a multiple of 32 threads; `out` gets each block's sum, `reversed` its elements in reverse order.
#[unsafe(no_mangle)]
pub unsafe extern "ptx-kernel" fn block_sum(x: *const i32, out: *mut i32, reversed: *mut i32) {
    // SAFETY: sizes as said; barriers between the writes and the reads of others.
    unsafe {
        let (parts, whole): (u32, u32);
        asm!("mov.u32 {}, parts;", out(reg32) parts, options(pure, nomem, nostack));
        asm!("mov.u32 {}, whole;", out(reg32) whole, options(pure, nomem, nostack));
        let (t, n, block) = (_thread_idx_x() as u32, _block_dim_x() as u32, _block_idx_x() as u32);
        let i = (block * n + t) as usize;
        let value = *x.add(i);
        store(whole, t, value);
        let sum = warp_sum(value);
        if t % 32 == 0 {
            store(parts, t / 32, sum);
        }
        _syncthreads();
        *reversed.add(i) = load(whole, n - 1 - t);
        if t < 32 {
            let sum = warp_sum(if t < n / 32 { load(parts, t) } else { 0 });
            if t == 0 {
                *out.add(block as usize) = sum;
            }
        }
    }
}
