//! Tensors and streams of the crate `cust`, for programs that live in one of its contexts.

use super::driver::{Driver, OnStream, Stream};
use super::launcher::{Launch, Launcher};
use super::on_host::{Board, BoardBuffer, OnHost};
use super::{Gpu, driver};
use crate::error::{Error, Result};
use crate::ops::Workspace;
use crate::plan::Plan;
use crate::tensor::{Device, Slice, SliceMut};
use bytemuck::Pod;
use cust::context::CurrentContext;
use cust::error::CudaError;
use cust::memory::{CopyDestination, DeviceBuffer, DeviceCopy, DeviceSlice};
use half::{bf16, f16};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;

/// Elements that cust holds as `C`: it knows no halves, whose bits it holds as u16.
pub trait HeldAs<C: DeviceCopy>: sealed::Held<C> {}

mod sealed {
    pub trait Held<C> {}
}

macro_rules! held {
    ($($element:ty: $by:ty;)*) => {
        $(
            impl sealed::Held<$by> for $element {}
            impl HeldAs<$by> for $element {}
        )*
    };
}
held! { f32: f32; f16: u16; bf16: u16; i32: i32; u32: u32; }

/// Where memory of cust lies, and on which device.
fn place<C: DeviceCopy>(memory: &DeviceSlice<C>) -> Result<(u64, u32)> {
    let address = memory.as_device_ptr().as_raw();
    Ok((address, driver::ordinal(address, memory.len())?))
}

impl<'a, T> Slice<'a, T, Device> {
    /// Memory of cust (a `DeviceBuffer` is one): f32, or halves as their bits, u16.
    ///
    /// Memory without elements, which has no address, goes with tensors of any device.
    ///
    /// # Errors
    /// If the driver does not know the address.
    ///
    /// # Safety
    /// As for [`Slice::from_raw_parts`]: until the work enqueued with it is done nobody writes the memory, nor frees it by
    /// `drop_async` on another stream. (`DeviceBuffer`'s own drop waits.)
    pub unsafe fn from_cust<C: DeviceCopy>(memory: &'a DeviceSlice<C>) -> Result<Self>
    where
        T: HeldAs<C>,
    {
        let (address, ordinal) = place(memory)?;
        // SAFETY: the caller's promise, and elements have one size.
        Ok(unsafe { Self::from_raw_parts(address, memory.len(), ordinal) })
    }
}

impl<'a, T> SliceMut<'a, T, Device> {
    /// The same of memory that is written.
    ///
    /// # Errors
    /// If the driver does not know the address.
    ///
    /// # Safety
    /// As for what is read, and nobody reads it in that time either.
    pub unsafe fn from_cust<C: DeviceCopy>(memory: &'a mut DeviceSlice<C>) -> Result<Self>
    where
        T: HeldAs<C>,
    {
        let (address, ordinal) = place(memory)?;
        // SAFETY: the caller's promise, and elements have one size.
        Ok(unsafe { Self::from_raw_parts(address, memory.len(), ordinal) })
    }
}

impl Driver {
    /// The backend on a stream of cust.
    ///
    /// # Safety
    /// The stream is one of this device's primary context, as `cust::quick_init` and `cust::context::Context::new` have it;
    /// `cust::context::legacy` makes others.
    pub unsafe fn on_cust<'s>(&self, stream: &'s cust::stream::Stream) -> Gpu<OnCust<'s>> {
        // SAFETY: the caller's promise; the stream is borrowed for as long as the backend, and when cust destroys it, what is
        // enqueued still runs.
        let stream = unsafe { Stream::from_raw(stream.as_inner().cast()) };
        Gpu::new(OnCust { on: OnStream::new(*self, stream), stream: PhantomData })
    }
}

/// A stream of cust.
#[derive(Debug, Clone, Copy)]
pub struct OnCust<'s> {
    on: OnStream,
    stream: PhantomData<&'s cust::stream::Stream>,
}

impl Launcher for OnCust<'_> {
    fn ordinal(&self) -> u32 {
        self.on.ordinal()
    }

    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.on.launch(launch) }
    }

    fn with_workspace(&self, plan: &Plan, run: &mut dyn FnMut(Workspace<'_, Device>) -> Result<()>) -> Result<()> {
        self.on.with_workspace(plan, run)
    }
}

impl<'s> Gpu<OnCust<'s>> {
    /// A backend for host tensors, as of a stream of the driver, in memory of cust: for trying kernels out and for tests.
    pub fn on_host(&self) -> OnHost<OnCust<'s>> {
        OnHost(self.launcher)
    }
}

/// Elements in memory of cust, in the primary context of the stream's device, freed when dropped.
#[derive(Debug)]
pub struct CustBuffer<'s, T> {
    bytes: ManuallyDrop<DeviceBuffer<u8>>,
    len: usize,
    /// What writes the elements is enqueued there.
    stream: OnCust<'s>,
    elements: PhantomData<T>,
}

impl<T> Drop for CustBuffer<'_, T> {
    fn drop(&mut self) {
        // In a context that is lost there is nothing to free, and an error has no one to hear it.
        if let Ok(_current) = self.stream.on.push() {
            // SAFETY: dropped once, here.
            unsafe { ManuallyDrop::drop(&mut self.bytes) };
        }
    }
}

impl<'s, T> CustBuffer<'s, T> {
    /// With these bytes, or any if there are none.
    fn new(stream: OnCust<'s>, name: &str, len: usize, elements: Option<&[u8]>) -> Result<Self> {
        let _current = stream.on.push()?;
        let refused = |why| match why {
            CudaError::OutOfMemory => Error::OutOfMemory {
                what: format!("`{name}`, {len} elements of {} bytes", size_of::<T>()),
                bytes: len.checked_mul(size_of::<T>()),
            },
            why => failed(why),
        };
        let bytes = len.checked_mul(size_of::<T>()).ok_or(CudaError::OutOfMemory).map_err(refused)?;
        // SAFETY: the elements are bytes of what any bits make, and on a device reading what nobody wrote is no more than that.
        let memory = unsafe { DeviceBuffer::uninitialized(bytes) }.map_err(refused)?;
        let mut buffer = Self { bytes: ManuallyDrop::new(memory), len, stream, elements: PhantomData };
        if let Some(elements) = elements {
            buffer.bytes.copy_from(elements).map_err(failed)?;
            // The copy is on the default stream, for which others need not wait.
            CurrentContext::synchronize().map_err(failed)?;
        }
        Ok(buffer)
    }
}

/// What cust says, as the crate's error.
fn failed(why: CudaError) -> Error {
    Error::Driver { call: "cust", code: format!("{why:?}"), text: why.to_string() }
}

impl<'s> Board for OnCust<'s> {
    type Buffer<T: Pod> = CustBuffer<'s, T>;
    type Launcher = Self;

    fn room<T: Pod>(self, name: &str, len: usize) -> Result<CustBuffer<'s, T>> {
        CustBuffer::new(self, name, len, None)
    }

    fn copy<T: Pod>(self, name: &str, elements: &[T]) -> Result<CustBuffer<'s, T>> {
        CustBuffer::new(self, name, elements.len(), Some(bytemuck::cast_slice(elements)))
    }

    fn gpu(self) -> Gpu<Self> {
        Gpu::new(self)
    }
}

impl<T: Pod> BoardBuffer<T> for CustBuffer<'_, T> {
    fn slice(&self) -> Slice<'_, T, Device> {
        // SAFETY: so many elements on this device, which live as long as this buffer and are freed after a wait.
        unsafe { Slice::from_raw_parts(self.bytes.as_device_ptr().as_raw(), self.len, self.stream.ordinal()) }
    }

    fn slice_mut(&mut self) -> SliceMut<'_, T, Device> {
        // SAFETY: as above, and this borrows the buffer exclusively.
        unsafe { SliceMut::from_raw_parts(self.bytes.as_device_ptr().as_raw(), self.len, self.stream.ordinal()) }
    }

    fn download(&self) -> Result<Vec<T>> {
        Gpu::new(self.stream.on).synchronise()?;
        let _current = self.stream.on.push()?;
        let mut elements = vec![T::zeroed(); self.len];
        self.bytes.copy_to(bytemuck::cast_slice_mut(&mut elements)).map_err(failed)?;
        Ok(elements)
    }
}
