//! The memory of an emulated device, and buffers in it.

use crate::error::{Error, Result};
use crate::memory::Memory;
use bytemuck::Pod;
use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
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
/// Addresses are the same on every device from [`Device::new`], so that reports are: a buffer is refused by another device
/// than its own, an address that a kernel is given as a number is not. [`Device::with_addresses`] sets devices apart.
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

    /// A device whose addresses all lie in this range of multiples of 4 GiB below 2^56: devices with ranges of their own
    /// have no address in common, so that one that is meant for another device hits nothing.
    ///
    /// # Errors
    /// If the range is empty, or begins or ends elsewhere.
    pub fn with_addresses(range: Range<u64>) -> Result<Self> {
        Ok(Self { memory: RwLock::new(Memory::within(range)?), ..Self::default() })
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

    /// The buffer of `len` elements at an address, which may lie inside of what was allocated.
    ///
    /// # Errors
    /// If all of it is not in one allocation that has not been freed.
    pub fn view<T: Pod>(&self, address: u64, len: usize) -> Result<Buffer<T>> {
        self.read_memory().host(address, bytes::<T>(len)?)?;
        Ok(buffer_at(self, address, len))
    }

    /// Copies a buffer of this device, or of another, with what is known of it: what nobody wrote stays unwritten.
    ///
    /// # Errors
    /// If the lengths differ, or one has been freed or is not on its device.
    pub fn copy<T: Pod>(&self, to: Buffer<T>, source: &Self, from: Buffer<T>) -> Result<()> {
        source.check(from)?;
        self.check(to)?;
        if to.len != from.len {
            let what = format!("{} elements for a buffer of {}", from.len, to.len);
            return Err(Error::Memory { what });
        }
        let size = bytes::<T>(from.len)?;
        let (content, unwritten) = {
            let memory = source.read_memory();
            let (allocation, offset) = memory.host(from.address, size)?;
            let unwritten: Vec<u64> = match allocation.is_unwritten(offset, size) {
                true => (0..size).filter(|&byte| allocation.is_unwritten(offset + byte, 1)).collect(),
                false => Vec::new(),
            };
            (allocation.bytes(offset, size), unwritten)
        };
        let mut memory = self.write_memory();
        let (allocation, offset) = memory.host(to.address, size)?;
        allocation.write_bytes(offset, &content);
        if !unwritten.is_empty() {
            memory.forget(to.address, unwritten.into_iter());
        }
        Ok(())
    }

    /// Forgets what a buffer holds, as if it were new: a kernel that reads an element before it is written is reported.
    ///
    /// # Errors
    /// If the buffer has been freed, or is not on this device.
    pub fn forget<T: Pod>(&self, buffer: Buffer<T>) -> Result<()> {
        self.check(buffer)?;
        let size = bytes::<T>(buffer.len)?;
        let mut memory = self.write_memory();
        memory.host(buffer.address, size)?;
        memory.forget(buffer.address, 0..size);
        Ok(())
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

    /// Frees the variables of a module.
    pub(crate) fn forget_globals(&self, module: u64) {
        let known = self.modules.lock().unwrap_or_else(PoisonError::into_inner).remove(&module);
        let mut memory = self.write_memory();
        for address in known.into_iter().flat_map(HashMap::into_values) {
            // The host may have freed it already.
            let _ = memory.free(address);
        }
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
