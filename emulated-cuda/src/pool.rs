//! Memory in the order of a stream, and the pools that it comes from.

use crate::codes::{Code, Result};
use crate::edge::{Handle, In, Out, exports};
use crate::memory::Origin;
use crate::queue::submit;
use crate::state::{State, lock};
use crate::work::Work;
use std::collections::BTreeMap;

/// A pool: a name for allocations, and attributes.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    device: usize,
    is_default: bool,
    /// `CUmemPool_attribute` that were set.
    attributes: BTreeMap<u32, u64>,
}

impl State {
    fn default_pool(&mut self, device: usize) -> Handle {
        if let Some(known) = self.devices[device].default_pool {
            return known;
        }
        let handle = self.handle();
        self.pools.insert(handle, Pool { device, is_default: true, attributes: BTreeMap::new() });
        self.devices[device].default_pool = Some(handle);
        handle
    }

    fn current_pool(&mut self, device: usize) -> Handle {
        self.devices[device].pool.unwrap_or_else(|| self.default_pool(device))
    }

    fn pool(&self, pool: Handle) -> Result<&Pool> {
        self.pools.get(&pool).ok_or(Code::INVALID_VALUE)
    }

    fn used(&self, pool: Handle) -> u64 {
        self.allocations.values().filter(|one| one.origin == Origin::Pool(pool)).map(|one| one.len).sum()
    }
}

/// Memory from a pool, or from the current one of the stream's device.
fn allocate(address: Out<u64>, bytes: usize, pool: Option<Handle>, stream: Handle) -> Result<()> {
    if address.is_null() {
        return Err(Code::INVALID_VALUE);
    }
    let mut state = lock();
    let stream = state.stream_of(stream)?;
    let found = state.streams.get(&stream).ok_or(Code::INVALID_HANDLE)?;
    let (context, capturing) = (found.context, found.capture.is_some());
    let device = state.context(context)?.device;
    let pool = pool.unwrap_or_else(|| state.current_pool(device));
    if state.pool(pool)?.device != device {
        return Err(Code::INVALID_VALUE);
    }
    if !capturing {
        // There from now on. What uses it before this place in the stream is not found.
        let made = state.allocate(context, bytes, Origin::Pool(pool))?;
        return address.put(made);
    }
    let made = state.allocate(context, bytes, Origin::Graph)?;
    let node = state.enqueue(stream, Work::Enter(made), Vec::new());
    if let Err(code) = node {
        state.release(made);
        return Err(code);
    }
    address.put(made)
}

fn free(address: u64, stream: Handle) -> Result<()> {
    let mut state = lock();
    let stream = state.stream_of(stream)?;
    if address == 0 {
        return Err(Code::INVALID_VALUE);
    }
    let origin = state.freeable(address)?.origin;
    let capturing = state.streams.get(&stream).is_some_and(|stream| stream.capture.is_some());
    if capturing != (origin == Origin::Graph) {
        // A graph frees what it allocates, and nobody else does.
        return Err(Code::INVALID_VALUE);
    }
    if capturing {
        state.enqueue(stream, Work::Leave(address), Vec::new())?;
    }
    if let Some(found) = state.allocations.get_mut(&address) {
        found.freeing = true;
    }
    if capturing { Ok(()) } else { submit(state, stream, Work::Free(address)) }
}

/// Attributes that are numbers of 64 bits; the others have 32.
fn is_wide(attribute: u32) -> bool {
    attribute >= 4
}

exports! {
    /// Memory that is there for what the stream does next.
    fn cuMemAllocAsync(address: Out<u64>, bytes: usize, stream: Handle) {
        allocate(address, bytes, None, stream)
    }

    /// The same from a pool.
    fn cuMemAllocFromPoolAsync(address: Out<u64>, bytes: usize, pool: Handle, stream: Handle) {
        allocate(address, bytes, Some(pool), stream)
    }

    /// Frees memory after what the stream does until then.
    fn cuMemFreeAsync(address: u64, stream: Handle) { free(address, stream) }

    /// The pool that a device has.
    fn cuDeviceGetDefaultMemPool(pool: Out<Handle>, device: i32) {
        let mut state = lock();
        state.device(device)?;
        pool.put(state.default_pool(device as usize))
    }

    /// The pool that `cuMemAllocAsync` takes.
    fn cuDeviceGetMemPool(pool: Out<Handle>, device: i32) {
        let mut state = lock();
        state.device(device)?;
        pool.put(state.current_pool(device as usize))
    }

    /// Changes it.
    fn cuDeviceSetMemPool(device: i32, pool: Handle) {
        let mut state = lock();
        state.device(device)?;
        if state.pool(pool)?.device != device as usize {
            return Err(Code::INVALID_VALUE);
        }
        state.device(device)?.pool = Some(pool);
        Ok(())
    }

    /// A pool of one's own; the properties' third and fourth words name the device.
    fn cuMemPoolCreate(pool: Out<Handle>, properties: In<i32>) {
        let (kind, place, device) = (properties.get(0)?, properties.get(2)?, properties.get(3)?);
        let mut state = lock();
        state.device(device)?;
        if (kind, place) != (1, 1) || pool.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        let handle = state.handle();
        state.pools.insert(handle, Pool { device: device as usize, ..Pool::default() });
        pool.put(handle)
    }

    /// Its allocations stay.
    fn cuMemPoolDestroy(pool: Handle) {
        let mut state = lock();
        let found = state.pool(pool)?;
        if found.is_default {
            return Err(Code::INVALID_VALUE);
        }
        let device = found.device;
        state.pools.remove(&pool);
        if state.devices[device].pool == Some(pool) {
            state.devices[device].pool = None;
        }
        Ok(())
    }

    /// Pools keep nothing back.
    fn cuMemPoolTrimTo(pool: Handle, _keep: usize) {
        lock().pool(pool).map(drop)
    }

    /// An attribute of a pool.
    fn cuMemPoolGetAttribute(pool: Handle, which: u32, value: Out<u8>) {
        let state = lock();
        let found = state.pool(pool)?;
        let number = match which {
            1..=3 => found.attributes.get(&which).copied().unwrap_or(1),
            4 => found.attributes.get(&which).copied().unwrap_or(0),
            5..=8 => state.used(pool),
            _ => return Err(Code::INVALID_VALUE),
        };
        let bytes = number.to_ne_bytes();
        value.fill(if is_wide(which) { &bytes } else { &bytes[..4] })
    }

    /// An attribute of a pool, which changes nothing.
    fn cuMemPoolSetAttribute(pool: Handle, which: u32, value: In<u8>) {
        let mut state = lock();
        let found = state.pools.get_mut(&pool).ok_or(Code::INVALID_VALUE)?;
        if !(1..=8).contains(&which) {
            return Err(Code::INVALID_VALUE);
        }
        let mut bytes = [0; 8];
        let given = value.bytes(if is_wide(which) { 8 } else { 4 })?;
        bytes[..given.len()].copy_from_slice(&given);
        found.attributes.insert(which, u64::from_ne_bytes(bytes));
        Ok(())
    }
}
