//! The planted kernel of `cargo xtask barrier-guard`: a divergent condition, a barrier, the same condition again.
//! Written once and never launched.

#![no_std]
#![feature(abi_ptx, stdarch_nvptx)]

use core::arch::nvptx::{_syncthreads, _thread_idx_x};

#[unsafe(no_mangle)]
pub unsafe extern "ptx-kernel" fn planted(memory: *mut f32, bound: u32) {
    unsafe {
        let thread = _thread_idx_x();
        let first = thread < bound;
        if first {
            *memory.add(thread as usize) = 1.0;
        }
        _syncthreads();
        if first {
            *memory.add(thread as usize) += *memory.add(thread as usize + 1);
        }
    }
}
