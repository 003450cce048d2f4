//! Tensors and streams of the crate `cust`, for programs that live in one of its contexts.

use super::driver::{Driver, OnStream, Stream};
use super::launcher::{Launch, Launcher};
use super::{Gpu, driver};
use crate::error::Result;
use crate::ops::Workspace;
use crate::plan::Plan;
use crate::tensor::{Device, Slice, SliceMut};
use cust::memory::{DeviceCopy, DeviceSlice};
use half::{bf16, f16};
use std::marker::PhantomData;

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
        let address = memory.as_device_ptr().as_raw();
        let ordinal = driver::ordinal(address, memory.len())?;
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
        let address = memory.as_device_ptr().as_raw();
        let ordinal = driver::ordinal(address, memory.len())?;
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
