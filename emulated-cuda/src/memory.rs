//! Device memory, and host memory that copies may read late.

use crate::capture;
use crate::codes::{Code, Result};
use crate::edge::{Handle, Out, exports};
use crate::queue::synchronise_context;
use crate::state::{State, device_of, lock, memories};
use crate::{counters, report, settings};
use std::alloc::{Layout, alloc_zeroed, dealloc};

/// Where an allocation came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Plain,
    /// From a pool.
    Pool(Handle),
    /// A node of a graph.
    Graph,
    /// A variable of this module, which nobody frees.
    Variable(Handle),
}

/// An allocation of a device.
#[derive(Debug)]
pub(crate) struct Allocation {
    pub len: u64,
    pub context: Handle,
    pub device: usize,
    pub origin: Origin,
    /// The end of it is enqueued.
    pub freeing: bool,
}

/// Host memory that is pinned.
#[derive(Debug)]
pub(crate) struct HostBlock {
    pub len: usize,
    pub flags: u32,
    /// What it was allocated with; none if it was registered.
    layout: Option<Layout>,
}

impl State {
    /// Memory for a context.
    pub fn allocate(&mut self, context: Handle, bytes: usize, origin: Origin) -> Result<u64> {
        let device = self.context(context)?.device;
        if bytes == 0 {
            return Err(Code::INVALID_VALUE);
        }
        let in_use = self.devices[device].in_use;
        if bytes as u64 > settings::get().memory.saturating_sub(in_use) {
            return Err(Code::OUT_OF_MEMORY);
        }
        let buffer = memories()[device].alloc::<u8>(bytes).map_err(|error| {
            report::say(&error.to_string());
            Code::OUT_OF_MEMORY
        })?;
        self.devices[device].in_use += bytes as u64;
        counters::lock().allocated(bytes as u64);
        let allocation = Allocation { len: bytes as u64, context, device, origin, freeing: false };
        self.allocations.insert(buffer.address(), allocation);
        Ok(buffer.address())
    }

    /// Takes an allocation out of the tables and frees its memory.
    pub fn release(&mut self, address: u64) {
        let Some(gone) = self.allocations.remove(&address) else { return };
        if matches!(gone.origin, Origin::Variable(_)) {
            return;
        }
        let device = &memories()[gone.device];
        if let Err(error) = device.view::<u8>(address, 0).and_then(|buffer| device.free(buffer)) {
            report::say(&error.to_string());
        }
        self.devices[gone.device].in_use -= gone.len;
        counters::lock().bytes_in_use -= gone.len;
    }

    /// The allocation that an address lies in, and where it begins.
    pub fn allocation(&self, address: u64) -> Option<(u64, &Allocation)> {
        let (&start, found) = self.allocations.range(..=address).next_back()?;
        (address - start < found.len).then_some((start, found))
    }

    /// Refuses a range that is not in one allocation.
    pub fn inside(&self, address: u64, len: usize) -> Result<&Allocation> {
        let (start, found) = self.allocation(address).ok_or(Code::INVALID_VALUE)?;
        let inside = len as u64 <= found.len - (address - start);
        if inside { Ok(found) } else { Err(Code::INVALID_VALUE) }
    }

    /// Whether all of a range of the host is pinned.
    pub fn pinned(&self, address: usize, len: usize) -> bool {
        let found = self.host.range(..=address).next_back();
        found.is_some_and(|(start, block)| address - start < block.len && len <= block.len - (address - start))
    }

    /// An allocation that a program may free: it starts here, and nobody frees it yet.
    pub fn freeable(&self, address: u64) -> Result<&Allocation> {
        let found = self.allocations.get(&address).filter(|one| !matches!(one.origin, Origin::Variable(_)));
        found.filter(|one| !one.freeing).ok_or(Code::INVALID_VALUE)
    }
}

fn free(address: u64) -> Result<()> {
    let mut state = lock();
    let current = state.current()?;
    if address == 0 {
        return Ok(());
    }
    capture::refuse_unsafe_call(&mut state)?;
    let found = state.freeable(address)?;
    if found.origin == Origin::Graph {
        // A graph frees what it allocates.
        return Err(Code::INVALID_VALUE);
    }
    let owner = found.context;
    let mut state = match found.origin {
        // Memory of a stream's order is freed without a wait: who calls this has waited.
        Origin::Pool(_) => state,
        // What is enqueued may still use it.
        _ => synchronise_context(state, owner)?,
    };
    state.context(current)?;
    state.release(address);
    Ok(())
}

fn pin(bytes: usize, flags: u32) -> Result<usize> {
    let mut state = lock();
    state.current()?;
    capture::refuse_unsafe_call(&mut state)?;
    let layout = Layout::from_size_align(bytes, 4096).map_err(|_| Code::OUT_OF_MEMORY)?;
    if bytes == 0 {
        return Err(Code::INVALID_VALUE);
    }
    // SAFETY: the layout is not empty.
    let place = unsafe { alloc_zeroed(layout) };
    if place.is_null() {
        return Err(Code::OUT_OF_MEMORY);
    }
    let address = place.expose_provenance();
    state.host.insert(address, HostBlock { len: bytes, flags, layout: Some(layout) });
    Ok(address)
}

/// Waits for every context, since copies of any may still use the memory.
fn unpin(address: usize, allocated: bool) -> Result<()> {
    let mut state = lock();
    state.current()?;
    let known = state.host.get(&address).is_some_and(|block| block.layout.is_some() == allocated);
    if !known {
        return Err(if allocated { Code::INVALID_VALUE } else { Code::HOST_MEMORY_NOT_REGISTERED });
    }
    capture::refuse_unsafe_call(&mut state)?;
    for context in state.contexts.keys().copied().collect::<Vec<_>>() {
        state = match synchronise_context(state, context) {
            Ok(state) => state,
            // A lost context uses nothing any more.
            Err(_) => lock(),
        };
    }
    if let Some(layout) = state.host.remove(&address).and_then(|block| block.layout) {
        // SAFETY: allocated by `pin` with this layout, and taken out of the table, so freed once.
        unsafe { dealloc(std::ptr::with_exposed_provenance_mut(address), layout) };
    }
    Ok(())
}

exports! {
    /// Device memory.
    fn cuMemAlloc_v2(address: Out<u64>, bytes: usize) {
        let mut state = lock();
        let current = state.current()?;
        if address.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        capture::refuse_unsafe_call(&mut state)?;
        address.put(state.allocate(current, bytes, Origin::Plain)?)
    }

    /// Device memory in rows that begin at multiples of 512.
    fn cuMemAllocPitch_v2(address: Out<u64>, pitch: Out<usize>, width: usize, height: usize, element: u32) {
        let mut state = lock();
        let current = state.current()?;
        if address.is_null() || pitch.is_null() || !matches!(element, 4 | 8 | 16) {
            return Err(Code::INVALID_VALUE);
        }
        capture::refuse_unsafe_call(&mut state)?;
        let row = width.checked_next_multiple_of(512).ok_or(Code::OUT_OF_MEMORY)?;
        let bytes = row.checked_mul(height).ok_or(Code::OUT_OF_MEMORY)?;
        pitch.put(row)?;
        address.put(state.allocate(current, bytes, Origin::Plain)?)
    }

    /// Frees device memory, after all that is enqueued in its context; memory of a stream's order at once.
    fn cuMemFree_v2(address: u64) { free(address) }

    /// What is left, and what there is.
    fn cuMemGetInfo_v2(left: Out<usize>, all: Out<usize>) {
        let state = lock();
        let device = state.current_device()?;
        let total = settings::get().memory;
        left.put(total.saturating_sub(state.devices[device].in_use) as usize)?;
        all.put(total as usize)
    }

    /// The allocation that an address lies in.
    fn cuMemGetAddressRange_v2(start: Out<u64>, bytes: Out<usize>, address: u64) {
        let state = lock();
        state.current()?;
        let (found, allocation) = state.allocation(address).ok_or(Code::NOT_FOUND)?;
        start.put_if_wanted(found);
        bytes.put_if_wanted(allocation.len as usize);
        Ok(())
    }

    /// Pinned host memory. Kernels do not reach it.
    fn cuMemAllocHost_v2(place: Out<usize>, bytes: usize) {
        if place.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        place.put(pin(bytes, 0)?)
    }

    /// Pinned host memory. Kernels do not reach it.
    fn cuMemHostAlloc(place: Out<usize>, bytes: usize, flags: u32) {
        if place.is_null() || flags > 7 {
            return Err(Code::INVALID_VALUE);
        }
        place.put(pin(bytes, flags)?)
    }

    /// Frees pinned host memory, after all that is enqueued.
    fn cuMemFreeHost(place: usize) { unpin(place, true) }

    /// Pins memory of the caller's.
    fn cuMemHostRegister_v2(place: usize, bytes: usize, flags: u32) {
        let mut state = lock();
        state.current()?;
        if place == 0 || bytes == 0 {
            return Err(Code::INVALID_VALUE);
        }
        let end = place.checked_add(bytes).ok_or(Code::INVALID_VALUE)?;
        let before = state.host.range(..end).next_back();
        if before.is_some_and(|(start, block)| start + block.len > place) {
            return Err(Code::HOST_MEMORY_ALREADY_REGISTERED);
        }
        state.host.insert(place, HostBlock { len: bytes, flags, layout: None });
        Ok(())
    }

    /// Ends it, after all that is enqueued.
    fn cuMemHostUnregister(place: usize) { unpin(place, false) }

    /// The flags of pinned memory.
    fn cuMemHostGetFlags(flags: Out<u32>, place: usize) {
        let state = lock();
        state.current()?;
        let found = state.host.range(..=place).next_back().filter(|(start, block)| place - *start < block.len);
        flags.put(found.ok_or(Code::INVALID_VALUE)?.1.flags)
    }

    /// What is known of an address.
    fn cuPointerGetAttribute(data: Out<u8>, which: i32, address: u64) {
        let state = lock();
        match pointer_attribute(&state, which, address) {
            Ok(bytes) => data.fill(&bytes),
            Err(code) => Err(code),
        }
    }
}

/// The bytes of an attribute (`CUpointer_attribute`).
fn pointer_attribute(state: &State, which: i32, address: u64) -> Result<Vec<u8>> {
    if device_of(address).is_none() {
        let pinned = state.pinned(address as usize, 1);
        return match which {
            2 if pinned => Ok(1u32.to_ne_bytes().to_vec()),
            4 if pinned => Ok(address.to_ne_bytes().to_vec()),
            8 if pinned => Ok(0u32.to_ne_bytes().to_vec()),
            _ => Err(Code::INVALID_VALUE),
        };
    }
    let (start, found) = state.allocation(address).ok_or(Code::INVALID_VALUE)?;
    Ok(match which {
        1 => found.context.to_ne_bytes().to_vec(),
        2 => 2u32.to_ne_bytes().to_vec(),
        3 => address.to_ne_bytes().to_vec(),
        7 => (start >> 32).to_ne_bytes().to_vec(),
        6 | 8 | 10 => 0u32.to_ne_bytes().to_vec(),
        9 => (found.device as i32).to_ne_bytes().to_vec(),
        11 => start.to_ne_bytes().to_vec(),
        12 => found.len.to_ne_bytes().to_vec(),
        13 => 1u32.to_ne_bytes().to_vec(),
        17 => match found.origin {
            Origin::Pool(pool) => pool.to_ne_bytes().to_vec(),
            _ => 0usize.to_ne_bytes().to_vec(),
        },
        4 => return Err(Code::INVALID_VALUE),
        _ => return Err(Code::NOT_SUPPORTED),
    })
}
