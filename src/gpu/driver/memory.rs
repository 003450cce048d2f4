//! Memory of the driver's devices, for those who have no other crate for it.

use super::{Current, Driver, Gpu, OnStream};
use crate::error::{Error, Result};
use crate::gpu::on_host::{Board, BoardBuffer, OnHost};
use crate::tensor::{Axes, Device, Slice, SliceMut, View, ViewMut};
use bytemuck::Pod;
use std::marker::PhantomData;

impl OnStream {
    /// Memory in stream order; the context is current.
    pub(super) fn allocate(&self, what: impl FnOnce() -> String, bytes: usize) -> Result<u64> {
        let (api, mut address) = (self.driver.0.api, 0);
        // SAFETY: `address` is written.
        match unsafe { api.cuMemAllocAsync(&mut address, bytes, self.stream.0) } {
            Ok(()) => Ok(address),
            Err(code) => Err(match code.into_error(api) {
                Error::OutOfMemory { .. } => Error::OutOfMemory { what: what(), bytes: Some(bytes) },
                other => other,
            }),
        }
    }

    fn room<T: Pod>(&self, name: &str, len: usize) -> Result<DriverBuffer<T>> {
        let what = || format!("`{name}`, {len} elements of {} bytes", size_of::<T>());
        let Some(bytes) = len.checked_mul(size_of::<T>()) else {
            return Err(Error::OutOfMemory { what: what(), bytes: None });
        };
        let mut buffer = DriverBuffer { on: *self, address: 0, len, elements: PhantomData };
        if bytes > 0 {
            let (api, _current) = (self.driver.0.api, Current::push(self.driver.0)?);
            buffer.address = self.allocate(what, bytes)?;
            // Other streams may use it, too.
            // SAFETY: the stream is one of this context.
            unsafe { api.cuStreamSynchronize(self.stream.0) }.map_err(|code| code.into_error(api))?;
        }
        Ok(buffer)
    }

    fn copy<T: Pod>(&self, name: &str, elements: &[T]) -> Result<DriverBuffer<T>> {
        let buffer = self.room(name, elements.len())?;
        if buffer.address != 0 {
            let _current = Current::push(self.driver.0)?;
            let (api, bytes) = (self.driver.0.api, size_of_val(elements));
            // SAFETY: the memory was allocated for so many bytes, and the elements live until the copy is made.
            let copied = unsafe {
                api.cuMemcpyHtoDAsync_v2(buffer.address, elements.as_ptr().cast(), bytes, self.stream.0)
                    .and_then(|()| api.cuStreamSynchronize(self.stream.0))
            };
            copied.map_err(|code| code.into_error(api))?;
        }
        Ok(buffer)
    }
}

impl Gpu<OnStream> {
    /// The device that it is on.
    pub fn driver(&self) -> Driver {
        self.launcher.driver
    }

    /// Memory for `len` elements that nobody has written; returns when every stream may use it.
    pub fn alloc<T: Pod>(&self, len: usize) -> Result<DriverBuffer<T>> {
        self.launcher.room("buffer", len)
    }

    /// Memory that holds a copy of `elements`; returns when the copy is made.
    pub fn upload<T: Pod>(&self, elements: &[T]) -> Result<DriverBuffer<T>> {
        self.launcher.copy("buffer", elements)
    }

    /// Waits until all that is enqueued on the stream is done. An error that a kernel made comes out here.
    pub fn synchronise(&self) -> Result<()> {
        let opened = self.launcher.driver.0;
        let _current = Current::push(opened)?;
        // SAFETY: the stream is one of this context.
        unsafe { opened.api.cuStreamSynchronize(self.launcher.stream.0) }.map_err(|code| code.into_error(opened.api))
    }

    /// A backend for host tensors: each call copies them to this device, runs there, and copies the results back.
    pub fn on_host(&self) -> OnHost<OnStream> {
        OnHost(self.launcher)
    }
}

/// Elements in the memory of a device, freed when dropped, which waits for what the device does.
#[derive(Debug)]
pub struct DriverBuffer<T> {
    on: OnStream,
    /// 0 without elements.
    address: u64,
    len: usize,
    elements: PhantomData<T>,
}

impl<T> Drop for DriverBuffer<T> {
    fn drop(&mut self) {
        if self.address == 0 {
            return;
        }
        // In a context that is lost there is nothing to free, and an error has no one to hear it.
        if let Ok(_current) = Current::push(self.on.driver.0) {
            let api = self.on.driver.0.api;
            // SAFETY: allocated for this buffer, and freed once, after all that is enqueued on any stream: freeing memory of a
            // stream's order does not wait by itself.
            let _ = unsafe { api.cuCtxSynchronize().and_then(|()| api.cuMemFree_v2(self.address)) };
        }
    }
}

impl<T: Pod> DriverBuffer<T> {
    /// The elements, once all that is enqueued on the buffer's stream is done. What another stream writes has to be waited for
    /// before.
    pub fn download(&self) -> Result<Vec<T>> {
        let mut elements = vec![T::zeroed(); self.len];
        if self.address != 0 {
            let opened = self.on.driver.0;
            let _current = Current::push(opened)?;
            let (api, bytes) = (opened.api, size_of_val(&elements[..]));
            // SAFETY: both are so many bytes, and the elements live until the copy is made. Any bits are a T.
            let copied = unsafe {
                api.cuMemcpyDtoHAsync_v2(elements.as_mut_ptr().cast(), self.address, bytes, self.on.stream.0)
                    .and_then(|()| api.cuStreamSynchronize(self.on.stream.0))
            };
            copied.map_err(|code| code.into_error(api))?;
        }
        Ok(elements)
    }

    /// Enqueues a copy of `from`, a buffer of the same length on the same stream, into this one.
    pub fn copy_from(&mut self, from: &Self) -> Result<()> {
        let (opened, stream) = (self.on.driver.0, self.on.stream);
        // On another stream nothing would keep the copy from being made before `from` is written.
        if !std::ptr::eq(from.on.driver.0, opened) || from.on.stream != stream || from.len != self.len {
            let place = |buffer: &Self| {
                let (stream, device) = (buffer.on.stream, buffer.on.driver.0.info.ordinal);
                format!("{} elements on {stream:?} of device {device}", buffer.len)
            };
            let (got, expected) = (place(from), place(self));
            return Err(Error::Value { op: "copy", arg: "from", got, expected });
        }
        if self.address == 0 {
            return Ok(());
        }
        let _current = Current::push(opened)?;
        let bytes = self.len * size_of::<T>();
        // SAFETY: both were allocated for so many bytes, and are freed after a wait for the device.
        let copied = unsafe { opened.api.cuMemcpyDtoDAsync_v2(self.address, from.address, bytes, stream.0) };
        copied.map_err(|code| code.into_error(opened.api))
    }

    /// Elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// No elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements as a device slice.
    pub fn slice(&self) -> Slice<'_, T, Device> {
        let ordinal = self.on.driver.0.info.ordinal;
        // SAFETY: the memory stays allocated as long as this buffer, which the slice borrows, and is freed after a
        // wait for the device; who writes has borrowed the buffer exclusively.
        unsafe { Slice::<T, Device>::from_raw_parts(self.address, self.len, ordinal) }
    }

    /// The elements as a device slice that is written.
    pub fn slice_mut(&mut self) -> SliceMut<'_, T, Device> {
        let ordinal = self.on.driver.0.info.ordinal;
        // SAFETY: as in `slice`; this borrows the buffer exclusively.
        unsafe { SliceMut::<T, Device>::from_raw_parts(self.address, self.len, ordinal) }
    }

    /// A dense tensor over all elements, last dimension fastest.
    pub fn view<const N: usize>(&self, dims: [(&'static str, usize); N]) -> View<'_, T, Device> {
        View::from_parts(self.slice(), Axes::dense(dims))
    }

    /// A dense tensor over all elements, last dimension fastest, that is written.
    pub fn view_mut<const N: usize>(&mut self, dims: [(&'static str, usize); N]) -> ViewMut<'_, T, Device> {
        ViewMut::from_parts(self.slice_mut(), Axes::dense(dims))
    }
}

impl Board for OnStream {
    type Buffer<T: Pod> = DriverBuffer<T>;
    type Launcher = Self;

    fn room<T: Pod>(self, name: &str, len: usize) -> Result<DriverBuffer<T>> {
        OnStream::room(&self, name, len)
    }

    fn copy<T: Pod>(self, name: &str, elements: &[T]) -> Result<DriverBuffer<T>> {
        OnStream::copy(&self, name, elements)
    }

    fn gpu(self) -> Gpu<Self> {
        Gpu::new(self)
    }
}

impl<T: Pod> BoardBuffer<T> for DriverBuffer<T> {
    fn slice(&self) -> Slice<'_, T, Device> {
        DriverBuffer::slice(self)
    }

    fn slice_mut(&mut self) -> SliceMut<'_, T, Device> {
        DriverBuffer::slice_mut(self)
    }

    fn download(&self) -> Result<Vec<T>> {
        DriverBuffer::download(self)
    }
}
