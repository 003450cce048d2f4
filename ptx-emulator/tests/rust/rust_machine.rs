//! A machine of byte code, each thread with a program of its own: a jump table in a loop.

#![no_std]
#![feature(abi_ptx, stdarch_nvptx)]

use core::arch::nvptx::{_block_dim_x, _block_idx_x, _thread_idx_x};

/// `length` bytes of program a thread; the result is the accumulator.
#[unsafe(no_mangle)]
pub unsafe extern "ptx-kernel" fn machine(programs: *const u8, length: u32, out: *mut u32) {
    // SAFETY: the programs of all threads are there; a thread writes its own result.
    unsafe {
        let thread = (_block_idx_x() * _block_dim_x() + _thread_idx_x()) as usize;
        let program = programs.add(thread * length as usize);
        let (mut a, mut b, mut at) = (1u32, thread as u32, 0u32);
        while at < length {
            match *program.add(at as usize) {
                0 => a = a.wrapping_add(b),
                1 => b = b.wrapping_mul(3) ^ a,
                2 => core::mem::swap(&mut a, &mut b),
                3 => a = a.rotate_left(b & 31),
                4 => a = a / ((b & 15) + 1),
                5 => a = a.wrapping_sub(b).wrapping_mul(a),
                6 => at += a & 1,
                7 => break,
                8 => a = !a,
                9 => b = a.count_ones() + b.leading_zeros(),
                _ => a = a.wrapping_add(at),
            }
            at += 1;
        }
        *out.add(thread) = a;
    }
}
