//! Device memory: allocations far apart, so that an address names its allocation and a stray one hits nothing.

use crate::error::{Error, Result};
use std::ops::Range;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Each allocation starts at a multiple of this.
const STRIDE_BITS: u32 = 32;
/// Generic addresses of shared, local and parameter memory carry these tags in their highest byte; global ones 0.
pub(crate) const SHARED_TAG: u64 = 1;
pub(crate) const LOCAL_TAG: u64 = 2;
pub(crate) const PARAM_TAG: u64 = 3;
/// Lowest bit of the tag.
pub(crate) const TAG_SHIFT: u32 = 56;
/// What never-written memory holds: a NaN in f32 and f64, far from any address.
pub(crate) const POISON: u8 = 0xff;

/// State of a byte, in bits.
const WRITTEN: u8 = 1;
const FORBIDDEN: u8 = 2;

/// What is wrong with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No allocation here, or beyond its end.
    OutOfBounds,
    Freed,
    /// Inside an allocation, in bytes that the host has forbidden.
    Forbidden,
    ReadOnly,
}

/// One allocation. Blocks on several threads share it: every access is a relaxed atomic one, so that a race of the
/// kernel is no race of the emulator.
#[derive(Debug)]
pub(crate) struct Allocation {
    pub base: u64,
    pub len: u64,
    words: Box<[AtomicU64]>,
    /// A state per byte, where not all bytes are written and allowed.
    states: Option<Box<[AtomicU8]>>,
    /// Some bytes may be forbidden.
    forbidden: bool,
    pub freed: bool,
    pub read_only: bool,
    pub name: Option<String>,
}

macro_rules! accessors {
    ($($read:ident, $write:ident, $type:ty, $atomic:ty;)*) => {$(
        /// The value at a checked, aligned offset.
        #[inline(always)]
        pub fn $read(&self, offset: u64) -> $type {
            self.cell::<$atomic>(offset).load(Relaxed)
        }
        #[inline(always)]
        pub fn $write(&self, offset: u64, value: $type) {
            self.cell::<$atomic>(offset).store(value, Relaxed);
        }
    )*};
}

/// Atomics that may lie anywhere in the memory of [`AtomicU64`]s.
trait Cell {}
impl Cell for AtomicU8 {}
impl Cell for AtomicU16 {}
impl Cell for AtomicU32 {}
impl Cell for AtomicU64 {}

impl Allocation {
    fn new(base: u64, len: u64, written: bool) -> Self {
        let word = if written { 0 } else { u64::from_ne_bytes([POISON; 8]) };
        let words = (0..len.div_ceil(8)).map(|_| AtomicU64::new(word)).collect();
        let mut allocation =
            Self { base, len, words, states: None, forbidden: false, freed: false, read_only: false, name: None };
        if !written {
            allocation.states = Some((0..len).map(|_| AtomicU8::new(0)).collect());
        }
        allocation
    }

    #[inline(always)]
    fn cell<T: Cell>(&self, offset: u64) -> &T {
        let size = size_of::<T>() as u64;
        // The last word is whole: the check needs no exact end. Callers have checked both; this keeps it safe.
        assert!(offset.is_multiple_of(size) && offset / 8 < self.words.len() as u64);
        // SAFETY: inside `words` and aligned, by the assertion; atomics of all sizes allow any bits. Accesses of
        // different sizes race only where the kernel's do; relaxed loads and stores are then plain moves.
        unsafe { &*self.words.as_ptr().cast::<u8>().add(offset as usize).cast::<T>() }
    }

    accessors! {
        read_u8, write_u8, u8, AtomicU8;
        read_u16, write_u16, u16, AtomicU16;
        read_u32, write_u32, u32, AtomicU32;
        read_u64, write_u64, u64, AtomicU64;
    }

    /// The words at an address per lane, all inside and aligned.
    #[inline(always)]
    pub fn read_words(&self, addresses: &[u64; 32]) -> [u32; 32] {
        let room = (self.words.len() as u64 * 8).wrapping_sub(4);
        assert!(!self.words.is_empty() && all_inside(addresses, self.base, room, 3));
        let memory = self.words.as_ptr().cast::<u8>();
        std::array::from_fn(|lane| {
            // SAFETY: inside `words` and aligned, by the assertion; otherwise as in `cell`.
            unsafe { (*memory.add((addresses[lane] - self.base) as usize).cast::<AtomicU32>()).load(Relaxed) }
        })
    }

    /// Whether every byte may be accessed and has been written, without looking further.
    #[inline(always)]
    pub fn is_plain(&self) -> bool {
        self.states.is_none()
    }

    #[inline(always)]
    pub fn has_forbidden(&self) -> bool {
        self.forbidden
    }

    /// Some byte of the range is forbidden.
    pub fn is_forbidden(&self, offset: u64, size: u64) -> bool {
        self.any_state(offset, size, |state| state & FORBIDDEN != 0)
    }

    /// Some byte of the range has never been written.
    pub fn is_unwritten(&self, offset: u64, size: u64) -> bool {
        self.any_state(offset, size, |state| state & WRITTEN == 0)
    }

    fn any_state(&self, offset: u64, size: u64, is: impl Fn(u8) -> bool) -> bool {
        let Some(states) = &self.states else { return false };
        states[offset as usize..(offset + size) as usize].iter().any(|cell| is(cell.load(Relaxed)))
    }

    /// Notes that the range has been written, or has not.
    pub fn mark_written(&self, offset: u64, size: u64, written: bool) {
        self.mark(offset, size, WRITTEN, written);
    }

    /// Sets or clears a bit; not in one step: while kernels run, only `WRITTEN` is ever set.
    fn mark(&self, offset: u64, size: u64, bit: u8, set: bool) {
        if let Some(states) = &self.states {
            for cell in &states[offset as usize..(offset + size) as usize] {
                cell.store(cell.load(Relaxed) & !bit | if set { bit } else { 0 }, Relaxed);
            }
        }
    }

    /// The bytes of the range.
    pub fn bytes(&self, offset: u64, len: u64) -> Vec<u8> {
        (offset..offset + len).map(|at| self.read_u8(at)).collect()
    }

    pub fn write_bytes(&self, offset: u64, bytes: &[u8]) {
        for (at, &byte) in (offset..).zip(bytes) {
            self.write_u8(at, byte);
        }
        self.mark_written(offset, bytes.len() as u64, true);
    }
}

/// Whether all addresses are at most `room` (below 2^63) beyond `base`, with none of the bits `low`. Free of branches.
#[inline(always)]
pub(crate) fn all_inside(addresses: &[u64; 32], base: u64, room: u64, low: u64) -> bool {
    let (mut beyond, mut bits) = (0, 0);
    for address in addresses {
        let offset = address.wrapping_sub(base);
        beyond |= offset | room.wrapping_sub(offset);
        bits |= offset;
    }
    beyond >> 63 == 0 && bits & low == 0
}

/// All allocations of a device, freed ones included.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    allocations: Vec<Allocation>,
    /// Multiples of the stride that lie before the first allocation's, and how many it may have; 0 for all.
    before: u64,
    most: u64,
}

impl Memory {
    /// Memory whose addresses all lie in a range.
    pub fn within(range: Range<u64>) -> Result<Self> {
        let stride = 1u64 << STRIDE_BITS;
        let whole = range.start.is_multiple_of(stride) && range.end.is_multiple_of(stride);
        if !whole || range.start == 0 || range.is_empty() || range.end > 1 << TAG_SHIFT {
            let what = format!("addresses {range:#x?}, expected multiples of 4 GiB from 4 GiB to 2^{TAG_SHIFT}");
            return Err(Error::Memory { what });
        }
        let before = (range.start >> STRIDE_BITS) - 1;
        Ok(Self { allocations: Vec::new(), before, most: (range.end - range.start) >> STRIDE_BITS })
    }

    /// Reserves memory; not `written`: poison that must be written before it is read.
    pub fn allocate(&mut self, len: u64, written: bool) -> Result<u64> {
        let number = self.allocations.len() as u64;
        let base = (self.before + number + 1) << STRIDE_BITS;
        if len > 1 << (STRIDE_BITS - 1) {
            return Err(Error::Memory { what: format!("{len} bytes asked for, expected at most {}", 1u64 << 31) });
        }
        if base >> TAG_SHIFT != 0 || (self.most != 0 && number >= self.most) {
            return Err(Error::Memory { what: "no addresses left".into() });
        }
        self.allocations.push(Allocation::new(base, len, written));
        Ok(base)
    }

    #[inline(always)]
    fn index(&self, address: u64) -> usize {
        (address >> STRIDE_BITS).wrapping_sub(1 + self.before) as usize
    }

    /// The allocation whose region holds the address, in bounds or not.
    #[inline(always)]
    pub fn region(&self, address: u64) -> Option<&Allocation> {
        self.allocations.get(self.index(address))
    }

    fn region_mut(&mut self, address: u64) -> Option<&mut Allocation> {
        let index = self.index(address);
        self.allocations.get_mut(index)
    }

    /// The allocation that holds the range, and the offset in it.
    pub fn find(&self, address: u64, size: u64, write: bool) -> std::result::Result<(&Allocation, u64), Fault> {
        let Some(allocation) = self.region(address) else { return Err(Fault::OutOfBounds) };
        let offset = address - allocation.base;
        if offset + size > allocation.len {
            return Err(Fault::OutOfBounds);
        }
        if allocation.freed {
            return Err(Fault::Freed);
        }
        if write && allocation.read_only {
            return Err(Fault::ReadOnly);
        }
        if allocation.is_forbidden(offset, size) {
            return Err(Fault::Forbidden);
        }
        Ok((allocation, offset))
    }

    /// For the host: the range, or an error that tells what is wrong.
    pub fn host(&self, address: u64, size: u64) -> Result<(&Allocation, u64)> {
        let told = |what: &str| Error::Memory { what: format!("{size} bytes at {address:#x} {what}") };
        let allocation = self.region(address).ok_or_else(|| told("lie in no allocation"))?;
        let offset = address - allocation.base;
        match offset.checked_add(size) {
            _ if allocation.freed => Err(told("have been freed")),
            Some(end) if end <= allocation.len => Ok((allocation, offset)),
            _ => Err(told(&format!("lie outside the {} bytes at {:#x}", allocation.len, allocation.base))),
        }
    }

    /// Frees the allocation that starts at the address. Its addresses are never used again.
    pub fn free(&mut self, address: u64) -> Result<()> {
        let told = |what: &str| Error::Memory { what: format!("free of {address:#x}, which {what}") };
        let allocation = self.region_mut(address).filter(|allocation| allocation.base == address);
        let allocation = allocation.ok_or_else(|| told("is not the start of an allocation"))?;
        if allocation.freed {
            return Err(told("has been freed before"));
        }
        allocation.freed = true;
        allocation.words = Box::default();
        allocation.states = None;
        Ok(())
    }

    /// Forbids or allows a range to kernels, for arenas that hold several buffers.
    pub fn forbid(&mut self, address: u64, size: u64, forbidden: bool) -> Result<()> {
        let (_, offset) = self.host(address, size)?;
        if let Some(allocation) = self.region_mut(address) {
            let len = allocation.len;
            allocation.states.get_or_insert_with(|| (0..len).map(|_| AtomicU8::new(WRITTEN)).collect());
            allocation.forbidden |= forbidden;
            allocation.mark(offset, size, FORBIDDEN, forbidden);
        }
        Ok(())
    }

    /// Notes that nobody has written these bytes, as if they were new.
    pub fn forget(&mut self, address: u64, bytes: impl Iterator<Item = u64>) {
        let Some(allocation) = self.region_mut(address) else { return };
        let (offset, len) = (address - allocation.base, allocation.len);
        allocation.states.get_or_insert_with(|| (0..len).map(|_| AtomicU8::new(WRITTEN)).collect());
        for byte in bytes {
            allocation.write_u8(offset + byte, POISON);
            allocation.mark(offset + byte, 1, WRITTEN, false);
        }
    }

    pub fn set_read_only(&mut self, address: u64) {
        if let Some(allocation) = self.region_mut(address) {
            allocation.read_only = true;
        }
    }

    pub fn set_name(&mut self, address: u64, name: &str) {
        if let Some(allocation) = self.region_mut(address) {
            allocation.name = Some(name.to_string());
        }
    }
}
