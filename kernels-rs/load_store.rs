//! Elements of the I/O dtypes in device memory, as f32 and back.

use core::arch::asm;

/// An element type of the I/O tensors.
pub trait Io {
    /// Reads element `offset` of the tensor at `address`.
    ///
    /// # Safety
    /// The element lies inside the tensor.
    unsafe fn load(address: u64, offset: i64) -> f32;
    /// Writes it, rounded to nearest even.
    ///
    /// # Safety
    /// The element lies inside the tensor, and no other thread touches it.
    unsafe fn store(address: u64, offset: i64, value: f32);
}

pub struct F32;
pub struct F16;
pub struct BF16;

impl Io for F32 {
    #[inline(always)]
    unsafe fn load(address: u64, offset: i64) -> f32 {
        // SAFETY: the caller's.
        unsafe { *(address as *const f32).offset(offset as isize) }
    }
    #[inline(always)]
    unsafe fn store(address: u64, offset: i64, value: f32) {
        // SAFETY: the caller's.
        unsafe { *(address as *mut f32).offset(offset as isize) = value }
    }
}

impl Io for F16 {
    #[inline(always)]
    unsafe fn load(address: u64, offset: i64) -> f32 {
        // SAFETY: the caller's.
        let bits = unsafe { *(address as *const u16).offset(offset as isize) };
        let value: f32;
        // SAFETY: a conversion between registers.
        unsafe { asm!("cvt.f32.f16 {}, {};", out(reg32) value, in(reg16) bits, options(pure, nomem, nostack)) };
        value
    }
    #[inline(always)]
    unsafe fn store(address: u64, offset: i64, value: f32) {
        let bits: u16;
        // SAFETY: a conversion between registers.
        unsafe { asm!("cvt.rn.f16.f32 {}, {};", out(reg16) bits, in(reg32) value, options(pure, nomem, nostack)) };
        // SAFETY: the caller's.
        unsafe { *(address as *mut u16).offset(offset as isize) = bits }
    }
}

impl Io for BF16 {
    #[inline(always)]
    unsafe fn load(address: u64, offset: i64) -> f32 {
        // SAFETY: the caller's.
        let bits = unsafe { *(address as *const u16).offset(offset as isize) };
        f32::from_bits(u32::from(bits) << 16)
    }
    #[inline(always)]
    unsafe fn store(address: u64, offset: i64, value: f32) {
        let bits: u16;
        // SAFETY: a conversion between registers.
        unsafe { asm!("cvt.rn.bf16.f32 {}, {};", out(reg16) bits, in(reg32) value, options(pure, nomem, nostack)) };
        // SAFETY: the caller's.
        unsafe { *(address as *mut u16).offset(offset as isize) = bits }
    }
}
