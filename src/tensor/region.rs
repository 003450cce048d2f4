//! Where the elements of a view lie.

use super::storage::{Host, Slice, SliceMut, Storage, place};
use std::marker::PhantomData;

/// The memory of a view that is read, from its first element to its last.
///
/// A [`Slice`] is lent as a whole. Of a region only those elements are that the view's dimensions name: what lies between them
/// may be elements of an output of the same call, or of no tensor. Hence pointers, and references to no more than elements
/// of the view that lie side by side.
#[derive(Debug)]
pub(crate) struct Region<'a, T, S: Storage> {
    start: *const T,
    elements: usize,
    place: S::Place,
    memory: PhantomData<&'a [T]>,
}

/// The same of a view that is written, whose elements are its own alone.
#[derive(Debug)]
pub(crate) struct RegionMut<'a, T, S: Storage> {
    start: *mut T,
    elements: usize,
    place: S::Place,
    memory: PhantomData<&'a mut [T]>,
}

impl<T, S: Storage> Clone for Region<'_, T, S> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T, S: Storage> Copy for Region<'_, T, S> {}

// SAFETY: a Region is `&T`s (or an address that is never dereferenced here), which are Send if T is Sync.
unsafe impl<T: Sync, S: Storage> Send for Region<'_, T, S> {}
// SAFETY: as above.
unsafe impl<T: Sync, S: Storage> Sync for Region<'_, T, S> {}
// SAFETY: a RegionMut is `&mut T`s (or an address that is never dereferenced here), which are Send if T is Send.
unsafe impl<T: Send, S: Storage> Send for RegionMut<'_, T, S> {}
// SAFETY: as above; what is read through a shared RegionMut is read as through `&T`.
unsafe impl<T: Sync, S: Storage> Sync for RegionMut<'_, T, S> {}

impl<'a, T, S: Storage> From<Slice<'a, T, S>> for Region<'a, T, S> {
    fn from(slice: Slice<'a, T, S>) -> Self {
        let (start, elements, place) = slice.parts();
        Self { start, elements, place, memory: PhantomData }
    }
}

impl<'a, T, S: Storage> From<SliceMut<'a, T, S>> for RegionMut<'a, T, S> {
    fn from(slice: SliceMut<'a, T, S>) -> Self {
        let (start, elements, place) = slice.parts();
        Self { start, elements, place, memory: PhantomData }
    }
}

impl<'a, T> From<&'a [T]> for Region<'a, T, Host> {
    fn from(slice: &'a [T]) -> Self {
        Slice::from(slice).into()
    }
}

impl<'a, T> From<&'a mut [T]> for RegionMut<'a, T, Host> {
    fn from(slice: &'a mut [T]) -> Self {
        SliceMut::from(slice).into()
    }
}

impl<T> Region<'_, T, Host> {
    /// # Safety
    /// As for `View::from_raw_parts`.
    pub unsafe fn from_raw_parts(start: *const T, elements: usize) -> Self {
        Self { start, elements, place: (), memory: PhantomData }
    }

    /// Where element `offset` lies, `reach` elements before the last that is wanted.
    ///
    /// # Panics
    /// If one of the two lies outside.
    #[inline(always)]
    pub fn from(&self, offset: usize, reach: usize) -> *const T {
        assert!(offset < self.elements && reach < self.elements - offset, "beyond the memory of a view");
        // SAFETY: inside the memory, as just seen.
        unsafe { self.start.add(offset) }
    }

    /// Where element `offset` would lie: nothing is read.
    #[inline(always)]
    pub fn hint(&self, offset: usize) -> *const T {
        self.start.wrapping_add(offset)
    }
}

impl<'a, T, S: Storage> Region<'a, T, S> {
    /// The same, if it is on the host.
    pub fn on_host(&self) -> Option<Region<'a, T, Host>> {
        let (start, elements) = (self.start, self.elements);
        // Only host memory has no ordinal.
        self.ordinal().is_none().then_some(Region { start, elements, place: (), memory: PhantomData })
    }
}

impl<T> RegionMut<'_, T, Host> {
    /// # Safety
    /// As for `ViewMut::from_raw_parts`.
    pub unsafe fn from_raw_parts(start: *mut T, elements: usize) -> Self {
        Self { start, elements, place: (), memory: PhantomData }
    }

    /// The first element.
    pub fn start(&self) -> *mut T {
        self.start
    }
}

impl<T, S: Storage> RegionMut<'_, T, S> {
    /// The same memory for a shorter time.
    pub fn reborrow(&mut self) -> RegionMut<'_, T, S> {
        RegionMut { start: self.start, elements: self.elements, place: self.place, memory: PhantomData }
    }
}

place!(Region);
place!(RegionMut);
