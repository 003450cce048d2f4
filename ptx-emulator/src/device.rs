//! The memory of an emulated device, and buffers in it.

use crate::error::{Error, Result};
use crate::memory::Memory;
use bytemuck::Pod;
use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Which [`Device`] of the process: buffers remember theirs, and no other takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceId(u64);

impl Default for DeviceId {
    /// One that no other device has.
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device {}", self.0)
    }
}

/// Device memory: buffers that kernels are given, and the variables of modules that have been launched.
///
/// Buffers lie 4 GiB apart, so that an access beyond one never lands in another, and addresses are never used again.
/// Addresses are the same on every device, so that reports are: a buffer is refused by another device than its own, an
/// address that a kernel is given as a number is not.
#[derive(Debug, Default)]
pub struct Device {
    id: DeviceId,
    memory: RwLock<Memory>,
    /// Addresses of the variables of each module, by its number.
    modules: Mutex<HashMap<u64, HashMap<String, u64>>>,
}

/// A buffer of `len` elements on a device: an address, free to copy.
#[derive(Debug)]
pub struct Buffer<T> {
    device: DeviceId,
    address: u64,
    len: usize,
    element: PhantomData<fn() -> T>,
}

impl<T> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Buffer<T> {}

impl<T> Buffer<T> {
    /// The device address, as kernels take it.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// The device whose memory this is.
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// Elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// No elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The same memory from element `start` on, `len` elements: a view, which frees nothing.
    ///
    /// # Errors
    /// If it does not lie inside.
    pub fn slice(&self, start: usize, len: usize) -> Result<Self> {
        match start.checked_add(len) {
            Some(end) if end <= self.len => {
                let address = self.address + (start * size_of::<T>()) as u64;
                Ok(Self { address, len, ..*self })
            }
            _ => Err(Error::Memory { what: format!("elements {start}.. ({len}) of a buffer of {}", self.len) }),
        }
    }
}

impl Device {
    /// A device without buffers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Which device this is.
    pub fn id(&self) -> DeviceId {
        self.id
    }

    /// Refuses buffers of other devices: what lies there on this one is something else.
    fn check<T>(&self, buffer: Buffer<T>) -> Result<()> {
        if buffer.device == self.id {
            return Ok(());
        }
        Err(Error::Memory { what: format!("a buffer of {}, expected one of {}", buffer.device, self.id) })
    }

    /// A buffer for `len` elements that nobody has written: a kernel that reads one before it is written is reported.
    ///
    /// # Errors
    /// If it is larger than 2 GiB.
    pub fn alloc<T: Pod>(&self, len: usize) -> Result<Buffer<T>> {
        let bytes = bytes::<T>(len)?;
        let address = self.write_memory().allocate(bytes, false)?;
        Ok(buffer_at(self, address, len))
    }

    /// A buffer with these elements.
    ///
    /// # Errors
    /// If it is larger than 2 GiB.
    pub fn upload<T: Pod>(&self, elements: &[T]) -> Result<Buffer<T>> {
        let bytes = bytes::<T>(elements.len())?;
        let address = self.write_memory().allocate(bytes, true)?;
        let buffer = buffer_at(self, address, elements.len());
        self.write(buffer, elements)?;
        Ok(buffer)
    }

    /// Names a buffer for reports.
    ///
    /// # Errors
    /// If it is not on this device.
    pub fn name<T>(&self, buffer: Buffer<T>, name: &str) -> Result<()> {
        self.check(buffer)?;
        let mut memory = self.write_memory();
        memory.host(buffer.address, 0)?;
        memory.set_name(buffer.address, name);
        Ok(())
    }

    /// The elements of a buffer. Those that nobody has written are poison: all bits are ones.
    ///
    /// # Errors
    /// If the buffer has been freed, or is not on this device.
    pub fn read<T: Pod>(&self, buffer: Buffer<T>) -> Result<Vec<T>> {
        self.check(buffer)?;
        let size = bytes::<T>(buffer.len)?;
        let memory = self.read_memory();
        let (allocation, offset) = memory.host(buffer.address, size)?;
        let mut elements = vec![T::zeroed(); buffer.len];
        bytemuck::cast_slice_mut::<T, u8>(&mut elements).copy_from_slice(&allocation.bytes(offset, size));
        Ok(elements)
    }

    /// Replaces the elements of a buffer.
    ///
    /// # Errors
    /// If their number is another, the buffer has been freed, or is not on this device.
    pub fn write<T: Pod>(&self, buffer: Buffer<T>, elements: &[T]) -> Result<()> {
        self.check(buffer)?;
        if elements.len() != buffer.len {
            let what = format!("{} elements for a buffer of {}", elements.len(), buffer.len);
            return Err(Error::Memory { what });
        }
        let bytes: &[u8] = bytemuck::cast_slice(elements);
        let memory = self.read_memory();
        let (allocation, offset) = memory.host(buffer.address, bytes.len() as u64)?;
        allocation.write_bytes(offset, bytes);
        Ok(())
    }

    /// Frees a buffer. Kernels that touch it later are reported.
    ///
    /// # Errors
    /// If it is not the start of an allocation, has been freed, or is not on this device.
    pub fn free<T>(&self, buffer: Buffer<T>) -> Result<()> {
        self.check(buffer)?;
        self.write_memory().free(buffer.address)
    }

    /// Forbids kernels the elements of a view, or allows them again: for arenas, in which several buffers lie in one
    /// allocation and the space between them belongs to nobody.
    ///
    /// # Errors
    /// If the view is not on this device.
    pub fn forbid<T: Pod>(&self, view: Buffer<T>, forbidden: bool) -> Result<()> {
        self.check(view)?;
        let size = bytes::<T>(view.len)?;
        self.write_memory().forbid(view.address, size, forbidden)
    }

    pub(crate) fn read_memory(&self) -> RwLockReadGuard<'_, Memory> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write_memory(&self) -> RwLockWriteGuard<'_, Memory> {
        self.memory.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The addresses of a module's variables, which are placed at its first launch.
    pub(crate) fn globals(
        &self,
        module: u64,
        place: impl FnOnce(&mut Memory) -> Result<HashMap<String, u64>>,
    ) -> Result<HashMap<String, u64>> {
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = modules.get(&module) {
            return Ok(known.clone());
        }
        let placed = place(&mut self.write_memory())?;
        modules.insert(module, placed.clone());
        Ok(placed)
    }
}

/// A buffer over memory whose extent is known.
pub(crate) fn buffer_at<T>(device: &Device, address: u64, len: usize) -> Buffer<T> {
    Buffer { device: device.id, address, len, element: PhantomData }
}

fn bytes<T>(len: usize) -> Result<u64> {
    let bytes = len.checked_mul(size_of::<T>()).map(|bytes| bytes as u64).filter(|_| size_of::<T>() > 0);
    bytes.ok_or_else(|| Error::Memory { what: format!("{len} elements of {} bytes", size_of::<T>()) })
}
