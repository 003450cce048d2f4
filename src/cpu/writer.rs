//! Writing one strided output from several threads.

use super::runs::fetch;
use crate::tensor::{Host, Layout, StridedMut};
use std::marker::PhantomData;

/// A host output that threads share; each element is written by one of them.
pub(super) struct Writer<'o, T, const R: usize> {
    start: *mut T,
    layout: Layout<R>,
    memory: PhantomData<&'o mut [T]>,
}

// SAFETY: a Writer is exclusive access to the elements of its layout, handed out element by element; `write` makes the
// caller promise that no two threads touch the same element.
unsafe impl<T: Send, const R: usize> Sync for Writer<'_, T, R> {}

impl<'o, T, const R: usize> Writer<'o, T, R> {
    pub fn new(tensor: StridedMut<'o, T, Host, R>) -> Self {
        Self { start: tensor.memory.start(), layout: tensor.layout, memory: PhantomData }
    }

    /// Writes one element.
    ///
    /// # Safety
    /// `index` is below the extents, and no other thread writes the same index at the same time.
    #[inline(always)]
    pub unsafe fn write(&self, index: [usize; R], value: T) {
        debug_assert!(index.iter().zip(self.layout.extents).all(|(&i, extent)| i < extent));
        // SAFETY: the contract checked that every index below the extents lies inside the memory, and that distinct
        // indices are distinct elements; the caller guarantees the rest.
        unsafe { self.start.add(self.layout.offset(index)).write(value) }
    }

    /// Reads one element.
    ///
    /// # Safety
    /// `index` is below the extents, and no other thread writes the same index at the same time.
    #[inline(always)]
    pub unsafe fn read(&self, index: [usize; R]) -> T
    where
        T: Copy,
    {
        debug_assert!(index.iter().zip(self.layout.extents).all(|(&i, extent)| i < extent));
        // SAFETY: as for `write`.
        unsafe { self.start.add(self.layout.offset(index)).read() }
    }

    pub fn layout(&self) -> &Layout<R> {
        &self.layout
    }

    /// Distances of neighbours.
    pub fn strides(&self) -> [i64; R] {
        self.layout.strides
    }

    /// Where the element at `index` lies, if its neighbours along dimension `axis` lie next to it.
    #[inline(always)]
    pub fn contiguous(&self, index: [usize; R], axis: usize) -> Option<*mut T> {
        debug_assert!(index.iter().zip(self.layout.extents).all(|(&i, extent)| i < extent));
        // SAFETY: the contract checked that every index below the extents lies inside the memory.
        (self.layout.strides[axis] == 1).then(|| unsafe { self.start.add(self.layout.offset(index)) })
    }

    /// Where the element at `index` lies, and how far its neighbours along dimension `axis` lie apart, in elements.
    #[inline(always)]
    pub fn along(&self, index: [usize; R], axis: usize) -> (*mut T, isize) {
        debug_assert!(index.iter().zip(self.layout.extents).all(|(&i, extent)| i < extent));
        // SAFETY: the contract checked that every index below the extents lies inside the memory.
        (unsafe { self.start.add(self.layout.offset(index)) }, self.layout.strides[axis] as isize)
    }

    /// The elements of `layout`, counted from `offset` of this one's memory.
    ///
    /// The caller sees to it that they lie inside, and that they are not elements of this one.
    pub fn beside<const Q: usize>(&self, offset: usize, layout: Layout<Q>) -> Writer<'o, T, Q> {
        Writer { start: self.start.wrapping_add(offset), layout, memory: PhantomData }
    }

    /// Asks for the `count` elements from `index` on along dimension `axis`, if they lie side by side.
    #[inline(always)]
    pub fn fetch(&self, index: [usize; R], axis: usize, count: usize) {
        if let Some(start) = self.contiguous(index, axis) {
            fetch(start, count);
        }
    }

    /// Distance of neighbours along dimension `axis`.
    pub fn stride(&self, axis: usize) -> i64 {
        self.layout.strides[axis]
    }
}
