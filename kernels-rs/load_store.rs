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
    /// Reads four neighbours at once.
    ///
    /// # Safety
    /// As for [`Io::load`], and the first lies at a multiple of the size of four.
    unsafe fn load_four(address: u64, offset: i64) -> [f32; 4];
    /// Writes four neighbours at once.
    ///
    /// # Safety
    /// As for [`Io::store`], and the first lies at a multiple of the size of four.
    unsafe fn store_four(address: u64, offset: i64, values: [f32; 4]);
    /// The value that `store` stores.
    fn rounded(value: f32) -> f32;
}

/// The bits of a dtype of two bytes.
trait Half {
    fn widen(bits: u16) -> f32;
    fn narrow(value: f32) -> u16;
}

pub struct F32;
pub struct F16;
pub struct BF16;

/// What one instruction moves.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
struct Four([f32; 4]);

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
    #[inline(always)]
    unsafe fn load_four(address: u64, offset: i64) -> [f32; 4] {
        // SAFETY: the caller's.
        unsafe { *(address as *const f32).offset(offset as isize).cast::<Four>() }.0
    }
    #[inline(always)]
    unsafe fn store_four(address: u64, offset: i64, values: [f32; 4]) {
        // SAFETY: the caller's.
        unsafe { *(address as *mut f32).offset(offset as isize).cast::<Four>() = Four(values) }
    }
    #[inline(always)]
    fn rounded(value: f32) -> f32 {
        value
    }
}

impl Half for F16 {
    #[inline(always)]
    fn widen(bits: u16) -> f32 {
        let value: f32;
        // SAFETY: a conversion between registers.
        unsafe { asm!("cvt.f32.f16 {}, {};", out(reg32) value, in(reg16) bits, options(pure, nomem, nostack)) };
        value
    }
    #[inline(always)]
    fn narrow(value: f32) -> u16 {
        let bits: u16;
        // SAFETY: a conversion between registers.
        unsafe { asm!("cvt.rn.f16.f32 {}, {};", out(reg16) bits, in(reg32) value, options(pure, nomem, nostack)) };
        bits
    }
}

impl Half for BF16 {
    #[inline(always)]
    fn widen(bits: u16) -> f32 {
        f32::from_bits(u32::from(bits) << 16)
    }
    #[inline(always)]
    fn narrow(value: f32) -> u16 {
        let bits: u16;
        // SAFETY: a conversion between registers.
        unsafe { asm!("cvt.rn.bf16.f32 {}, {};", out(reg16) bits, in(reg32) value, options(pure, nomem, nostack)) };
        bits
    }
}

impl<T: Half> Io for T {
    #[inline(always)]
    unsafe fn load(address: u64, offset: i64) -> f32 {
        // SAFETY: the caller's.
        T::widen(unsafe { *(address as *const u16).offset(offset as isize) })
    }
    #[inline(always)]
    unsafe fn store(address: u64, offset: i64, value: f32) {
        let bits = T::narrow(value);
        // SAFETY: the caller's.
        unsafe { *(address as *mut u16).offset(offset as isize) = bits }
    }
    #[inline(always)]
    unsafe fn load_four(address: u64, offset: i64) -> [f32; 4] {
        // SAFETY: the caller's.
        let bits = unsafe { *(address as *const u16).offset(offset as isize).cast::<u64>() };
        [T::widen(bits as u16), T::widen((bits >> 16) as u16), T::widen((bits >> 32) as u16), T::widen((bits >> 48) as u16)]
    }
    #[inline(always)]
    unsafe fn store_four(address: u64, offset: i64, [a, b, c, d]: [f32; 4]) {
        let low = u64::from(T::narrow(a)) | u64::from(T::narrow(b)) << 16;
        let bits = low | u64::from(T::narrow(c)) << 32 | u64::from(T::narrow(d)) << 48;
        // SAFETY: the caller's.
        unsafe { *(address as *mut u16).offset(offset as isize).cast::<u64>() = bits }
    }
    #[inline(always)]
    fn rounded(value: f32) -> f32 {
        T::widen(T::narrow(value))
    }
}
