//! Neighbours along one dimension of a tensor, as f32 and back.

use super::writer::Writer;
use crate::tensor::{Dtype, Element, Host, Strided};
use half::slice::HalfFloatSliceExt;

impl<T: Element, const R: usize> Strided<'_, T, Host, R> {
    /// The elements from `index` on along dimension `axis`.
    #[inline(always)]
    pub(super) fn run(&self, index: [usize; R], axis: usize, to: &mut [f32]) {
        if to.is_empty() {
            return;
        }
        let start = self.line(index, axis, to.len());
        match self.layout.strides[axis] {
            // SAFETY: elements of this tensor, side by side.
            1 => widen(unsafe { std::slice::from_raw_parts(start, to.len()) }, to),
            0 => to.fill(self.at(index).to_f32()),
            stride => {
                for (i, to) in to.iter_mut().enumerate() {
                    // SAFETY: an element of this tensor.
                    *to = unsafe { start.add(i * stride as usize).read() }.to_f32();
                }
            }
        }
    }

    /// The `count` elements from `index` on along dimension `axis`, if they lie side by side.
    #[inline(always)]
    pub(super) fn neighbours(&self, index: [usize; R], axis: usize, count: usize) -> Option<&[T]> {
        // Without elements there may be no memory.
        if count == 0 {
            return Some(&[]);
        }
        let start = || self.line(index, axis, count);
        // SAFETY: elements of this tensor, side by side.
        (self.layout.strides[axis] == 1).then(|| unsafe { std::slice::from_raw_parts(start(), count) })
    }

    /// Asks for the `count` elements from `index` on along dimension `axis`, if they lie side by side.
    #[inline(always)]
    pub(super) fn fetch(&self, index: [usize; R], axis: usize, count: usize) {
        if self.layout.strides[axis] == 1 {
            fetch(self.memory.hint(self.layout.offset(index)), count);
        }
    }
}

/// Bytes of a cache line.
pub(super) const LINE: usize = 64;

/// Asks for `count` elements: a hint, which reads nothing.
#[inline(always)]
pub(super) fn fetch<T>(start: *const T, count: usize) {
    for byte in (0..count * size_of::<T>()).step_by(LINE) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: any address may be asked for.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(start.wrapping_byte_add(byte).cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (start, byte);
    }
}

impl<T: Element, const R: usize> Writer<'_, T, R> {
    /// Writes the elements from `index` on along dimension `axis`.
    ///
    /// # Safety
    /// As for [`Writer::write`], for all of them.
    #[inline(always)]
    pub(super) unsafe fn run(&self, index: [usize; R], axis: usize, from: &[f32]) {
        if from.is_empty() {
            return;
        }
        if let Some(start) = self.contiguous(index, axis) {
            // SAFETY: neighbours along this dimension are neighbours in memory; the rest as for `write`.
            return narrow(from, unsafe { std::slice::from_raw_parts_mut(start, from.len()) });
        }
        let (start, stride) = self.along(index, axis);
        for (i, &value) in from.iter().enumerate() {
            // SAFETY: the caller's promise; what the contract checked is said at `Writer::write`.
            unsafe { start.offset(i as isize * stride).write(T::from_f32(value)) };
        }
    }

    /// Reads the elements from `index` on along dimension `axis`.
    ///
    /// # Safety
    /// As for [`Writer::read`], for all of them.
    #[inline(always)]
    pub(super) unsafe fn read_run(&self, index: [usize; R], axis: usize, to: &mut [f32]) {
        if to.is_empty() {
            return;
        }
        if let Some(start) = self.contiguous(index, axis) {
            // SAFETY: neighbours along this dimension are neighbours in memory; the rest as for `read`.
            return widen(unsafe { std::slice::from_raw_parts(start, to.len()) }, to);
        }
        let (start, stride) = self.along(index, axis);
        for (i, to) in to.iter_mut().enumerate() {
            // SAFETY: the caller's promise; what the contract checked is said at `Writer::write`.
            *to = unsafe { start.offset(i as isize * stride).read() }.to_f32();
        }
    }
}

/// Exact.
#[inline(always)]
pub(super) fn widen<T: Element>(from: &[T], to: &mut [f32]) {
    match T::DTYPE {
        Dtype::F32 => to.copy_from_slice(bytemuck::cast_slice(from)),
        Dtype::F16 => bytemuck::cast_slice::<T, half::f16>(from).convert_to_f32_slice(to),
        Dtype::BF16 => to
            .iter_mut()
            .zip(bytemuck::cast_slice::<T, u16>(from))
            .for_each(|(to, &bits)| *to = f32::from_bits(u32::from(bits) << 16)),
    }
}

/// To the nearest, ties to even.
#[inline(always)]
pub(super) fn narrow<T: Element>(from: &[f32], to: &mut [T]) {
    match T::DTYPE {
        Dtype::F32 => bytemuck::cast_slice_mut(to).copy_from_slice(from),
        Dtype::F16 => bytemuck::cast_slice_mut::<T, half::f16>(to).convert_from_f32_slice(from),
        Dtype::BF16 => bytemuck::cast_slice_mut::<T, u16>(to).iter_mut().zip(from).for_each(|(to, &value)| {
            let bits = value.to_bits();
            let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
            // A NaN stays one, whatever its low bits.
            *to = if bits & 0x7fff_ffff > 0x7f80_0000 { (bits >> 16 | 0x40) as u16 } else { nearest as u16 };
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_converted_as_elements_are() {
        let mut values: Vec<f32> = (0..1 << 16).map(|bits| f32::from_bits(bits << 16 | bits)).collect();
        values.extend((0..1 << 16).map(|bits| f32::from_bits(bits << 16 | 0x8000)));
        fn check<T: Element + PartialEq + std::fmt::Debug>(values: &[f32]) {
            let mut narrowed = vec![T::from_f32(0.0); values.len()];
            narrow(values, &mut narrowed);
            let mut widened = vec![0.0; values.len()];
            widen(&narrowed, &mut widened);
            for ((&value, &narrow), wide) in values.iter().zip(&narrowed).zip(widened) {
                let one = T::from_f32(value);
                assert!(narrow == one || value.is_nan() && narrow.to_f32().is_nan(), "{value:e}");
                assert!(wide == one.to_f32() || value.is_nan() && wide.is_nan(), "{value:e}");
            }
        }
        check::<f32>(&values);
        check::<half::f16>(&values);
        check::<half::bf16>(&values);
    }
}
