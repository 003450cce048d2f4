//! Where the memory of a view lies.

use std::fmt::Debug;
use std::marker::PhantomData;

pub trait Sealed {}
impl Sealed for f32 {}
impl Sealed for half::f16 {}
impl Sealed for half::bf16 {}
impl Sealed for Host {}
impl Sealed for Device {}

/// Memory of one kind: [`Host`] or [`Device`]. Sealed.
pub trait Storage: Sealed + Sized + 'static {
    /// What, beside an address, says where the memory is.
    type Place: Copy + Debug + Send + Sync;
    /// The device ordinal of a place, or `None` on the host.
    fn ordinal(place: Self::Place) -> Option<u32>;
}

/// Host memory: Rust slices.
#[derive(Debug, Clone, Copy)]
pub enum Host {}

impl Storage for Host {
    type Place = ();
    fn ordinal((): ()) -> Option<u32> {
        None
    }
}

/// Device memory: an address, a length in elements and a device ordinal. The library never reads it on the host.
#[derive(Debug, Clone, Copy)]
pub enum Device {}

impl Storage for Device {
    type Place = u32;
    fn ordinal(place: u32) -> Option<u32> {
        Some(place)
    }
}

/// Consecutive elements that are shared for `'a`. (One struct for both storages, so that lifetimes shorten freely.)
#[derive(Debug)]
pub struct Slice<'a, T, S: Storage = Host> {
    start: *const T,
    elements: usize,
    place: S::Place,
    memory: PhantomData<&'a [T]>,
}

/// Consecutive elements that are exclusive for `'a`.
#[derive(Debug)]
pub struct SliceMut<'a, T, S: Storage = Host> {
    start: *mut T,
    elements: usize,
    place: S::Place,
    memory: PhantomData<&'a mut [T]>,
}

impl<T, S: Storage> Clone for Slice<'_, T, S> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T, S: Storage> Copy for Slice<'_, T, S> {}

// SAFETY: a Slice is a `&[T]` (or an address that is never dereferenced here), which is Send if T is Sync.
unsafe impl<T: Sync, S: Storage> Send for Slice<'_, T, S> {}
// SAFETY: as above.
unsafe impl<T: Sync, S: Storage> Sync for Slice<'_, T, S> {}
// SAFETY: a SliceMut is a `&mut [T]` (or an address that is never dereferenced here), which is Send if T is Send.
unsafe impl<T: Send, S: Storage> Send for SliceMut<'_, T, S> {}
// SAFETY: as above; through a shared SliceMut nothing can be reached.
unsafe impl<T: Sync, S: Storage> Sync for SliceMut<'_, T, S> {}

impl<'a, T> From<&'a [T]> for Slice<'a, T, Host> {
    fn from(slice: &'a [T]) -> Self {
        Self { start: slice.as_ptr(), elements: slice.len(), place: (), memory: PhantomData }
    }
}

impl<'a, T> From<&'a mut [T]> for SliceMut<'a, T, Host> {
    fn from(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), elements: slice.len(), place: (), memory: PhantomData }
    }
}

impl<'a, T> From<&'a mut Vec<T>> for SliceMut<'a, T, Host> {
    fn from(vec: &'a mut Vec<T>) -> Self {
        vec.as_mut_slice().into()
    }
}

impl<'a, T> Slice<'a, T, Host> {
    /// The elements.
    #[inline(always)]
    pub fn as_slice(&self) -> &'a [T] {
        // SAFETY: a host Slice is only made from a `&'a [T]`, of this start and length.
        unsafe { std::slice::from_raw_parts(self.start, self.elements) }
    }
}

impl<T, S: Storage> Slice<'_, T, S> {
    /// Start, length and place.
    pub(super) fn parts(self) -> (*const T, usize, S::Place) {
        (self.start, self.elements, self.place)
    }
}

impl<'a, T> SliceMut<'a, T, Host> {
    /// The elements, to be read.
    pub fn as_slice(&self) -> &[T] {
        // SAFETY: as in `into_slice`; this borrows them.
        unsafe { std::slice::from_raw_parts(self.start, self.elements) }
    }

    /// The elements.
    pub fn into_slice(self) -> &'a mut [T] {
        // SAFETY: a host SliceMut is only made from a `&'a mut [T]`, of this start and length, and is not copied.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.elements) }
    }
}

impl<T> Slice<'_, T, Device> {
    /// Device memory from its raw parts.
    ///
    /// ```
    /// use ssm_kernels::{Axes, Device, Slice, View};
    /// // SAFETY: nothing is run with it. An address as cudarc, cust or a framework gives it.
    /// let slice = unsafe { Slice::<f32, Device>::from_raw_parts(0x7f00_0000_0000, 12, 1) };
    /// assert_eq!((slice.elements(), slice.ordinal()), (12, Some(1)));
    /// let x = View::from_parts(slice, Axes::dense([("batch", 1), ("seqlen", 3), ("dim", 4)]));
    /// # assert_eq!(x.axes().as_slice().len(), 3);
    /// ```
    ///
    /// # Safety
    /// `address` is the device address of `elements` consecutive `T` on device `ordinal`; for the lifetime of the
    /// slice, and until all work enqueued with it has finished, that memory stays allocated and nobody writes to it.
    pub unsafe fn from_raw_parts(address: u64, elements: usize, ordinal: u32) -> Self {
        let start = std::ptr::without_provenance(address as usize);
        Self { start, elements, place: ordinal, memory: PhantomData }
    }
}

impl<T> SliceMut<'_, T, Device> {
    /// Device memory from its raw parts.
    ///
    /// # Safety
    /// As for [`Slice::from_raw_parts`], and nobody else reads or writes the memory in that time. (Overlap with other
    /// arguments of the same call is checked and refused.)
    pub unsafe fn from_raw_parts(address: u64, elements: usize, ordinal: u32) -> Self {
        let start = std::ptr::without_provenance_mut(address as usize);
        Self { start, elements, place: ordinal, memory: PhantomData }
    }
}

impl<T, S: Storage> SliceMut<'_, T, S> {
    /// Start, length and place.
    pub(super) fn parts(self) -> (*mut T, usize, S::Place) {
        (self.start, self.elements, self.place)
    }

    /// The same memory for a shorter time.
    pub fn reborrow(&mut self) -> SliceMut<'_, T, S> {
        SliceMut { start: self.start, elements: self.elements, place: self.place, memory: PhantomData }
    }
}

/// What memory as a whole and that of a view say of themselves.
macro_rules! place {
    ($type:ident) => {
        impl<T, S: Storage> $type<'_, T, S> {
            /// Address of the first element.
            pub fn address(&self) -> u64 {
                self.start.addr() as u64
            }
            /// Length in elements.
            pub fn elements(&self) -> usize {
                self.elements
            }
            /// Device ordinal, or `None` on the host.
            pub fn ordinal(&self) -> Option<u32> {
                S::ordinal(self.place)
            }
        }
    };
}
place!(Slice);
place!(SliceMut);
pub(super) use place;
