//! A divergent condition, a barrier, the same condition again: rustc's jump threading makes two barriers of one.

#![no_std]
#![feature(abi_ptx, stdarch_nvptx)]

use core::arch::nvptx::{_syncthreads, _thread_idx_x};

#[unsafe(no_mangle)]
pub unsafe extern "ptx-kernel" fn barrier(scratch: *mut f32, out: *mut f32, bound: u32) {
    // SAFETY: `bound` elements, each written by one thread and read after the barrier.
    unsafe {
        let thread = _thread_idx_x() as u32;
        let first = thread < bound;
        if first {
            *scratch.add(thread as usize) = thread as f32;
        }
        _syncthreads();
        if first {
            *out.add(thread as usize) = *scratch.add((bound - 1 - thread) as usize) + 0.5;
        }
    }
}
