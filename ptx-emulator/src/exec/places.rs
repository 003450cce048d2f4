//! Addresses: which are in bounds, aligned, readable.

use super::block::Common;
use super::lanes;
use super::warp::Warp;
use crate::findings::FindingKind;
use crate::memory::{Allocation, Fault, LOCAL_TAG, Memory, PARAM_TAG, SHARED_TAG, TAG_SHIFT, all_inside};
use crate::parse::ast::Space;
use crate::program::Address;
use crate::registers::LANES;
use crate::types::Width;

/// An address per lane.
pub(super) type Addresses = [u64; LANES];

/// One access of a warp to one space.
#[derive(Clone, Copy)]
pub(super) struct Touch {
    pub pc: u32,
    pub mask: u32,
    /// Bytes of each lane, vectors included.
    pub bytes: u32,
    pub write: bool,
}

/// Where global addresses lie.
pub(super) enum Found<'a> {
    /// All in this allocation.
    One(&'a Allocation),
    Many,
}

impl Warp {
    /// The addresses; those of inactive lanes mean nothing.
    #[inline(always)]
    pub(super) fn addresses(&self, address: &Address) -> Addresses {
        let offset = address.offset as u64;
        if !address.row.is_some() {
            return [offset; LANES];
        }
        let index = address.row.index as usize;
        match address.row.width {
            Width::Long => {
                let row = &self.registers.longs[index].0;
                std::array::from_fn(|lane| row[lane].wrapping_add(offset))
            }
            _ => {
                let row = &self.registers.words[index].0;
                std::array::from_fn(|lane| u64::from(row[lane].wrapping_add(offset as u32)))
            }
        }
    }

    /// Notes lanes with a misaligned address, and the place that it is; returns the others.
    fn aligned(
        &self,
        common: &mut Common<'_>,
        touch: Touch,
        addresses: &Addresses,
        place: impl Fn(u64) -> String,
    ) -> u32 {
        let low = u64::from(touch.bytes - 1);
        let bad = lanes::collect(touch.mask, |lane| addresses[lane] & low != 0);
        for lane in lanes::each(bad) {
            let address = addresses[lane];
            common.note(FindingKind::Misaligned, touch.pc, self.first_thread() + lane as u32, Some(address), || {
                format!("{} bytes, expected a multiple of {}{}", touch.bytes, touch.bytes, place(address))
            });
        }
        touch.mask & !bad
    }

    /// The lanes whose access of global memory is right; the others are noted.
    #[inline(always)]
    pub(super) fn check_global<'a>(
        &self,
        common: &mut Common<'a>,
        touch: Touch,
        addresses: &Addresses,
    ) -> (u32, Found<'a>) {
        let memory = common.launch.memory;
        if let Some(allocation) = memory.region(addresses[lanes::first(touch.mask)]) {
            let size = u64::from(touch.bytes);
            let room = allocation.len.checked_sub(size);
            let mut wrong = room.is_none() || allocation.freed || (touch.write && allocation.read_only);
            let (room, low) = (room.unwrap_or(0), size - 1);
            wrong |= !inside(touch.mask, addresses, allocation.base, room, low);
            let known = |lane: usize| !allocation.is_unwritten(addresses[lane] - allocation.base, size);
            let trusted = touch.write || !common.launch.checks.uninitialised;
            if !wrong
                && (allocation.is_plain()
                    || (!allocation.has_forbidden() && (trusted || lanes::each(touch.mask).all(known))))
            {
                return (touch.mask, Found::One(allocation));
            }
        }
        (self.check_global_lanes(common, touch, addresses), Found::Many)
    }

    #[cold]
    fn check_global_lanes(&self, common: &mut Common<'_>, touch: Touch, addresses: &Addresses) -> u32 {
        let memory = common.launch.memory;
        let mut good = self.aligned(common, touch, addresses, |address| offset_in(memory, address));
        for lane in lanes::each(good) {
            let (address, thread) = (addresses[lane], self.first_thread() + lane as u32);
            let size = u64::from(touch.bytes);
            match memory.find(address, size, touch.write) {
                Err(fault) => {
                    good &= !(1 << lane);
                    let kind = match fault {
                        Fault::OutOfBounds | Fault::Forbidden => FindingKind::OutOfBounds,
                        Fault::Freed => FindingKind::UseAfterFree,
                        Fault::ReadOnly => FindingKind::ReadOnlyWrite,
                    };
                    common.note(kind, touch.pc, thread, Some(address), || {
                        describe(memory.region(address), address, size, fault)
                    });
                }
                Ok((allocation, offset)) => {
                    let checked = common.launch.checks.uninitialised && !touch.write;
                    if checked && allocation.is_unwritten(offset, size) {
                        common.note(FindingKind::UninitialisedGlobal, touch.pc, thread, Some(address), || {
                            format!("{size} bytes at offset {offset} of {}", name(allocation))
                        });
                    }
                }
            }
        }
        good
    }

    /// As [`Self::check_global`] for shared memory; addresses are offsets.
    #[inline(always)]
    pub(super) fn check_shared(&self, common: &mut Common<'_>, touch: Touch, addresses: &Addresses) -> u32 {
        let (size, low) = (u64::from(touch.bytes), u64::from(touch.bytes) - 1);
        let first = addresses[lanes::first(touch.mask)];
        let holds = |&&(start, end): &&(u32, u32)| (u64::from(start)..u64::from(end)).contains(&first);
        if let Some(&(start, end)) = common.variables.iter().find(holds) {
            // Variables are at least as aligned as their accesses must be, or the lanes are looked at one by one.
            let room = u64::from(end - start).checked_sub(size);
            if u64::from(start) & low == 0
                && room.is_some_and(|room| inside(touch.mask, addresses, start.into(), room, low))
            {
                return touch.mask;
            }
        }
        self.check_shared_lanes(common, touch, addresses)
    }

    #[cold]
    fn check_shared_lanes(&self, common: &mut Common<'_>, touch: Touch, addresses: &Addresses) -> u32 {
        let program = common.launch.program;
        let mut good = self.aligned(common, touch, addresses, |address| program.shared.place(address));
        for lane in lanes::each(good) {
            let (start, end) = (addresses[lane], addresses[lane].saturating_add(touch.bytes.into()));
            let inside = |&(from, to): &(u32, u32)| u64::from(from) <= start && end <= u64::from(to);
            if !common.variables.iter().any(inside) {
                good &= !(1 << lane);
                let thread = self.first_thread() + lane as u32;
                common.note(FindingKind::OutOfBounds, touch.pc, thread, Some(start), || {
                    format!("{} bytes of shared memory{}", touch.bytes, program.shared.place(start))
                });
            }
        }
        good
    }

    /// As [`Self::check_global`] for memory of so many bytes per thread: local memory, parameters.
    pub(super) fn check_sized(
        &self,
        common: &mut Common<'_>,
        touch: Touch,
        addresses: &Addresses,
        (what, len): (&str, u64),
    ) -> u32 {
        let mut good = self.aligned(common, touch, addresses, |_| format!(", in {what} memory ({len} bytes)"));
        for lane in lanes::each(good) {
            let (start, end) = (addresses[lane], addresses[lane].saturating_add(touch.bytes.into()));
            if end > len {
                good &= !(1 << lane);
                let thread = self.first_thread() + lane as u32;
                common.note(FindingKind::OutOfBounds, touch.pc, thread, Some(start), || {
                    format!("{} bytes of {what} memory, of which there are {len}", touch.bytes)
                });
            }
        }
        good
    }
}

/// Whether the addresses of the lanes are at most `room` beyond `base`, with none of the bits `low`.
#[inline(always)]
fn inside(mask: u32, addresses: &Addresses, base: u64, room: u64, low: u64) -> bool {
    if mask == u32::MAX {
        return all_inside(addresses, base, room, low);
    }
    lanes::each(mask).all(|lane| {
        let offset = addresses[lane].wrapping_sub(base);
        offset <= room && offset & low == 0
    })
}

/// The lanes of the mask by space: those of the first lane's, with addresses in it.
#[inline(always)]
pub(super) fn same_space(space: Space, mask: u32, addresses: &mut Addresses) -> (Space, u32) {
    if space != Space::Generic {
        return (space, mask);
    }
    let tag = addresses[lanes::first(mask)] >> TAG_SHIFT;
    let space = match tag {
        SHARED_TAG => Space::Shared,
        LOCAL_TAG => Space::Local,
        PARAM_TAG => Space::Param,
        _ => return (Space::Global, lanes::collect(mask, |lane| !matches!(addresses[lane] >> TAG_SHIFT, 1..=3))),
    };
    let part = lanes::collect(mask, |lane| addresses[lane] >> TAG_SHIFT == tag);
    lanes::each(part).for_each(|lane| addresses[lane] &= (1 << TAG_SHIFT) - 1);
    (space, part)
}

/// For reports: where in which allocation an address is, if in any.
pub(super) fn offset_in(memory: &Memory, address: u64) -> String {
    memory.region(address).map_or_else(String::new, |allocation| {
        format!(", at offset {} of {}", address - allocation.base, name(allocation))
    })
}

fn name(allocation: &Allocation) -> String {
    match &allocation.name {
        Some(name) => format!("`{name}` ({} bytes)", allocation.len),
        None => format!("the {} bytes at {:#x}", allocation.len, allocation.base),
    }
}

fn describe(region: Option<&Allocation>, address: u64, size: u64, fault: Fault) -> String {
    let Some(allocation) = region else { return format!("{size} bytes, in no allocation") };
    let offset = address - allocation.base;
    let what = match fault {
        Fault::OutOfBounds => "beyond the end of",
        Fault::Freed => "in freed memory,",
        Fault::Forbidden => "in a forbidden part of",
        Fault::ReadOnly => "in read-only memory,",
    };
    format!("{size} bytes at offset {offset}, {what} {}", name(allocation))
}
