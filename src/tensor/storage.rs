//! Where the memory of a view lies.

use std::marker::PhantomData;

pub trait Sealed {}
impl Sealed for f32 {}
impl Sealed for half::f16 {}
impl Sealed for half::bf16 {}
impl Sealed for Host {}
impl Sealed for Device {}

/// Memory of one kind: [`Host`] slices or [`Device`] addresses. Sealed.
pub trait Storage: Sealed + Sized + 'static {
    /// Shared memory of `T`.
    type Ref<'a, T: 'a>: Copy + Region;
    /// Exclusive memory of `T`.
    type Mut<'a, T: 'a>: Region;
    /// The same exclusive memory, for a shorter time.
    fn reborrow<'s, T>(memory: &'s mut Self::Mut<'_, T>) -> Self::Mut<'s, T>;
}

/// A contiguous run of elements somewhere.
pub trait Region {
    /// Address of the first element.
    fn address(&self) -> u64;
    /// Length in elements.
    fn elements(&self) -> usize;
    /// Device ordinal, or `None` on the host.
    fn ordinal(&self) -> Option<u32>;
}

/// Host memory: Rust slices.
#[derive(Debug, Clone, Copy)]
pub enum Host {}

impl Storage for Host {
    type Ref<'a, T: 'a> = &'a [T];
    type Mut<'a, T: 'a> = &'a mut [T];
    fn reborrow<'s, T>(memory: &'s mut &mut [T]) -> &'s mut [T] {
        memory
    }
}

impl<T> Region for &[T] {
    fn address(&self) -> u64 {
        self.as_ptr() as u64
    }
    fn elements(&self) -> usize {
        self.len()
    }
    fn ordinal(&self) -> Option<u32> {
        None
    }
}

impl<T> Region for &mut [T] {
    fn address(&self) -> u64 {
        self.as_ptr() as u64
    }
    fn elements(&self) -> usize {
        self.len()
    }
    fn ordinal(&self) -> Option<u32> {
        None
    }
}

/// Device memory: an address, a length in elements and a device ordinal. The library never reads it on the host.
#[derive(Debug, Clone, Copy)]
pub enum Device {}

impl Storage for Device {
    type Ref<'a, T: 'a> = DeviceSlice<'a, T>;
    type Mut<'a, T: 'a> = DeviceSliceMut<'a, T>;
    fn reborrow<'s, T>(memory: &'s mut DeviceSliceMut<'_, T>) -> DeviceSliceMut<'s, T> {
        DeviceSliceMut {
            address: memory.address,
            elements: memory.elements,
            ordinal: memory.ordinal,
            memory: PhantomData,
        }
    }
}

/// Shared device memory of `T`.
#[derive(Debug)]
pub struct DeviceSlice<'a, T> {
    address: u64,
    elements: usize,
    ordinal: u32,
    memory: PhantomData<&'a [T]>,
}

impl<T> Clone for DeviceSlice<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for DeviceSlice<'_, T> {}

impl<T> DeviceSlice<'_, T> {
    /// Device memory from its raw parts.
    ///
    /// # Safety
    /// `address` is the device address of `elements` consecutive `T` on device `ordinal`; for the lifetime of the
    /// slice, and until all work enqueued with it has finished, that memory stays allocated and nobody writes to it.
    pub unsafe fn from_raw_parts(address: u64, elements: usize, ordinal: u32) -> Self {
        Self { address, elements, ordinal, memory: PhantomData }
    }
}

/// Exclusive device memory of `T`.
#[derive(Debug)]
pub struct DeviceSliceMut<'a, T> {
    address: u64,
    elements: usize,
    ordinal: u32,
    memory: PhantomData<&'a mut [T]>,
}

impl<T> DeviceSliceMut<'_, T> {
    /// Device memory from its raw parts.
    ///
    /// # Safety
    /// As for [`DeviceSlice::from_raw_parts`], and nobody else reads or writes the memory in that time.
    /// (Overlap with other arguments of the same call is checked and refused.)
    pub unsafe fn from_raw_parts(address: u64, elements: usize, ordinal: u32) -> Self {
        Self { address, elements, ordinal, memory: PhantomData }
    }
}

macro_rules! device_region {
    ($type:ident) => {
        impl<T> Region for $type<'_, T> {
            fn address(&self) -> u64 {
                self.address
            }
            fn elements(&self) -> usize {
                self.elements
            }
            fn ordinal(&self) -> Option<u32> {
                Some(self.ordinal)
            }
        }
    };
}
device_region!(DeviceSlice);
device_region!(DeviceSliceMut);
