//! Loads and stores.

use super::block::Common;
use super::lanes;
use super::places::{Addresses, Found, Touch, same_space};
use super::warp::Warp;
use crate::checks::{ConflictKind, GlobalAccess, Kind, SharedAccess, Strong};
use crate::findings::FindingKind;
use crate::memory::Allocation;
use crate::parse::ast::Space;
use crate::program::{Access, Row};
use crate::registers::{LANES, Registers};
use crate::types::Width;

/// What never-written or unreadable memory gives.
const POISONED: u64 = u64::MAX;

impl Warp {
    #[inline(always)]
    pub(super) fn load(&mut self, common: &mut Common<'_>, access: &Access, mask: u32, pc: u32) {
        let mut addresses = self.addresses(&access.address);
        let mut left = mask;
        while left != 0 {
            let (space, part) = same_space(access.space, left, &mut addresses);
            left &= !part;
            let touch = Touch { pc, mask: part, bytes: access.size * access.count, write: false };
            match space {
                Space::Shared => self.load_shared(common, access, touch, &addresses),
                Space::Local => self.load_local(common, access, touch, &addresses),
                Space::Param => self.load_param(common, access, touch, &addresses),
                _ => self.load_global(common, access, touch, &addresses),
            }
        }
    }

    #[inline(always)]
    pub(super) fn store(&mut self, common: &mut Common<'_>, access: &Access, mask: u32, pc: u32) {
        let mut addresses = self.addresses(&access.address);
        let mut left = mask;
        while left != 0 {
            let (space, part) = same_space(access.space, left, &mut addresses);
            left &= !part;
            let touch = Touch { pc, mask: part, bytes: access.size * access.count, write: true };
            match space {
                Space::Shared => self.store_shared(common, access, touch, &addresses),
                Space::Local => self.store_local(common, access, touch, &addresses),
                Space::Param => {
                    let thread = self.thread(part);
                    common.note(FindingKind::ReadOnlyWrite, pc, thread, None, || "a store to a parameter".into());
                }
                _ => self.store_global(common, access, touch, &addresses),
            }
        }
    }

    #[inline(always)]
    fn load_global(&mut self, common: &mut Common<'_>, access: &Access, touch: Touch, addresses: &Addresses) {
        let (good, found) = self.check_global(common, touch, addresses);
        let memory = common.launch.memory;
        match found {
            Found::One(allocation) if uniform(good, addresses) => {
                let start = addresses[0] - allocation.base;
                spread(&mut self.registers, access, |at| element(allocation, start + at, access.size));
                common.tally.traffic(allocation.base, u64::from(good.count_ones() * touch.bytes), false);
            }
            Found::One(allocation) if good == u32::MAX && access.size == 4 && access.count == 1 => {
                let words = allocation.read_words(addresses);
                read(&mut self.registers, access, good, |lane, _| words[lane].into());
                common.tally.traffic(allocation.base, u64::from(32 * touch.bytes), false);
            }
            Found::One(allocation) => {
                let base = allocation.base;
                match access.size {
                    4 => read(&mut self.registers, access, good, |lane, at| {
                        allocation.read_u32(addresses[lane] - base + at).into()
                    }),
                    2 => read(&mut self.registers, access, good, |lane, at| {
                        allocation.read_u16(addresses[lane] - base + at).into()
                    }),
                    size => read(&mut self.registers, access, good, |lane, at| {
                        element(allocation, addresses[lane] - base + at, size)
                    }),
                }
                common.tally.traffic(allocation.base, u64::from(good.count_ones() * touch.bytes), false);
            }
            Found::Many => {
                read(&mut self.registers, access, good, |lane, at| {
                    memory.region(addresses[lane]).map_or(POISONED, |allocation| {
                        element(allocation, addresses[lane] - allocation.base + at, access.size)
                    })
                });
                for lane in lanes::each(good) {
                    common.tally.traffic(addresses[lane], touch.bytes.into(), false);
                }
            }
        }
        poison(&mut self.registers, access, touch.mask & !good);
        let kind = match (access.noncoherent, access.volatile) {
            (true, _) => Kind::NonCoherentRead,
            (_, true) => Kind::StrongRead,
            _ => Kind::Read,
        };
        self.note_global(common, access.slot, Touch { mask: good, ..touch }, addresses, kind);
    }

    #[inline(always)]
    fn store_global(&mut self, common: &mut Common<'_>, access: &Access, touch: Touch, addresses: &Addresses) {
        let (good, found) = self.check_global(common, touch, addresses);
        let memory = common.launch.memory;
        match found {
            Found::One(allocation) => {
                let base = allocation.base;
                write(&self.registers, access, good, |lane, at, bits| {
                    put(allocation, addresses[lane] - base + at, access.size, bits);
                });
                if !allocation.is_plain() {
                    let bytes = u64::from(touch.bytes);
                    lanes::each(good).for_each(|lane| allocation.mark_written(addresses[lane] - base, bytes, true));
                }
                common.tally.traffic(allocation.base, u64::from(good.count_ones() * touch.bytes), true);
            }
            Found::Many => {
                write(&self.registers, access, good, |lane, at, bits| {
                    if let Some(allocation) = memory.region(addresses[lane]) {
                        let offset = addresses[lane] - allocation.base + at;
                        put(allocation, offset, access.size, bits);
                        allocation.mark_written(offset, access.size.into(), true);
                    }
                });
                for lane in lanes::each(good) {
                    common.tally.traffic(addresses[lane], touch.bytes.into(), true);
                }
            }
        }
        let kind = if access.volatile { Kind::Atomic } else { Kind::Write };
        self.note_global(common, access.slot, Touch { mask: good, ..touch }, addresses, kind);
    }

    /// For the race check between blocks and the counters.
    #[inline(always)]
    pub(super) fn note_global(
        &self,
        common: &mut Common<'_>,
        slot: u32,
        touch: Touch,
        addresses: &Addresses,
        kind: Kind,
    ) {
        if touch.mask == 0 {
            return;
        }
        if common.launch.counting {
            common.tally.global(touch, addresses);
        }
        let Some(log) = &mut common.log else { return };
        log.record(&GlobalAccess {
            slot: slot as usize,
            instruction: touch.pc,
            warp: self.index as usize,
            mask: touch.mask,
            // What memory holds may depend on which block came first: a write is one whatever it writes.
            same: 0,
            addresses,
            size: touch.bytes,
            kind,
        });
        if matches!(kind, Kind::StrongRead | Kind::Atomic) {
            // A volatile store counts as reading, too: what is acquired too much hides a race and invents none.
            for lane in lanes::each(touch.mask) {
                let word = (addresses[lane], touch.bytes);
                log.synchronise(&mut common.sync, word, kind == Kind::Atomic, true);
            }
        }
    }

    #[inline(always)]
    fn load_shared(&mut self, common: &mut Common<'_>, access: &Access, touch: Touch, addresses: &Addresses) {
        let good = self.check_shared(common, touch, addresses);
        let shared = &common.shared;
        match access.size {
            4 => {
                read(&mut self.registers, access, good, |lane, at| word(shared, (addresses[lane] + at) as usize).into())
            }
            size => read(&mut self.registers, access, good, |lane, at| {
                little_endian(shared, (addresses[lane] + at) as usize, size)
            }),
        }
        poison(&mut self.registers, access, touch.mask & !good);
        let strong = access.volatile.then_some(Strong::Load);
        self.note_shared(common, Touch { mask: good, ..touch }, addresses, strong, (0, |_, _| true));
    }

    #[inline(always)]
    fn store_shared(&mut self, common: &mut Common<'_>, access: &Access, touch: Touch, addresses: &Addresses) {
        let good = self.check_shared(common, touch, addresses);
        let mut same = good;
        let shared = &mut common.shared;
        write(&self.registers, access, good, |lane, at, bits| {
            let start = (addresses[lane] + at) as usize;
            let place = &mut shared[start..start + access.size as usize];
            let bytes = &bits.to_le_bytes()[..access.size as usize];
            if place != bytes {
                same &= !(1 << lane);
            }
            place.copy_from_slice(bytes);
        });
        let strong = access.volatile.then_some(Strong::Store);
        // Lanes that store the same bytes do not race, whatever was there before.
        let unused = 64 - 8 * access.size;
        let differ = |a: usize, b: usize| {
            let rows = access.rows.iter().take(access.count as usize);
            let each = rows.map(|&row| bits_of(&self.registers, row, a) ^ bits_of(&self.registers, row, b));
            each.fold(0, |all, one| all | one << unused) != 0
        };
        self.note_shared(common, Touch { mask: good, ..touch }, addresses, strong, (same, differ));
    }

    /// For the race check within the block and the counters.
    #[inline(always)]
    pub(super) fn note_shared(
        &self,
        common: &mut Common<'_>,
        mut touch: Touch,
        addresses: &Addresses,
        strong: Option<Strong>,
        (same, differ): (u32, impl Fn(usize, usize) -> bool),
    ) {
        if touch.mask == 0 {
            return;
        }
        if common.launch.counting {
            common.tally.shared(touch, addresses);
        }
        if common.pending_copies > 0 {
            touch.mask &= !self.check_pending(common, touch, addresses);
        }
        let Some(shadow) = common.shadow.as_mut().filter(|_| touch.mask != 0) else { return };
        let offsets: [u32; LANES] = std::array::from_fn(|lane| addresses[lane] as u32);
        let warp = self.index as usize;
        let access =
            SharedAccess { warp, mask: touch.mask, offsets: &offsets, size: touch.bytes, instruction: touch.pc };
        let mut conflicts = Vec::new();
        match strong {
            Some(strong) => shadow.atomic(&access, strong, &mut conflicts),
            None if touch.write => {
                shadow.write(&access, same, differ, &mut conflicts);
            }
            None => shadow.read(&access, &mut conflicts),
        }
        if !conflicts.is_empty() {
            self.report_conflicts(common, touch.pc, &conflicts);
        }
    }

    #[cold]
    pub(super) fn report_conflicts(&self, common: &mut Common<'_>, pc: u32, conflicts: &[crate::checks::Conflict]) {
        let (checks, program) = (common.launch.checks, common.launch.program);
        for conflict in conflicts {
            let (thread, address) = (self.first_thread() + conflict.lane, Some(conflict.offset.into()));
            match conflict.kind {
                ConflictKind::Uninitialised if checks.uninitialised => {
                    common.note(FindingKind::UninitialisedShared, pc, thread, address, || {
                        format!("shared memory{}", program.shared.place(conflict.offset.into()))
                    });
                }
                ConflictKind::Race { other_warp, other_lane, other_instruction, other_was_write } if checks.races => {
                    common.note(FindingKind::SharedRace, pc, thread, address, || {
                        let who = match other_lane {
                            Some(lane) => format!("thread {}", other_warp * LANES as u32 + lane),
                            None => format!("several lanes of warp {other_warp}"),
                        };
                        let what = if other_was_write { "written" } else { "read" };
                        let place = other_instruction.and_then(|at| program.info.get(at as usize));
                        let place = place.map_or_else(String::new, |info| {
                            let source =
                                info.location.map_or_else(String::new, |at| format!(", source line {}", at.line));
                            format!(" at PTX line {} ({}){source}", info.line, info.text)
                        });
                        let variable = program.shared.place(conflict.offset.into());
                        format!("{what} by {who}{place}, with no barrier between{variable}")
                    });
                }
                _ => {}
            }
        }
    }

    fn load_local(&mut self, common: &mut Common<'_>, access: &Access, touch: Touch, addresses: &Addresses) {
        let frame = common.launch.program.local_bytes as usize;
        let good = self.check_sized(common, touch, addresses, ("local", frame as u64));
        if common.launch.checks.uninitialised {
            let size = access.size as usize;
            for (index, &row) in access.rows.iter().enumerate().take(access.count as usize) {
                let mut bytes = 0u8;
                let undefined = lanes::collect(good, |lane| {
                    let start = lane * frame + addresses[lane] as usize + index * size;
                    let written = &self.local_written[start..start + size];
                    let missing = (0..size).fold(0, |missing, byte| missing | u8::from(!written[byte]) << byte);
                    bytes |= missing;
                    missing != 0
                });
                self.taint_load(row, (undefined, bytes), touch.pc, addresses);
            }
        }
        let local = &self.local;
        read(&mut self.registers, access, good, |lane, at| {
            little_endian(local, lane * frame + (addresses[lane] + at) as usize, access.size)
        });
        poison(&mut self.registers, access, touch.mask & !good);
    }

    fn store_local(&mut self, common: &mut Common<'_>, access: &Access, touch: Touch, addresses: &Addresses) {
        let frame = common.launch.program.local_bytes as usize;
        let good = self.check_sized(common, touch, addresses, ("local", frame as u64));
        let (local, written) = (&mut self.local, &mut self.local_written);
        write(&self.registers, access, good, |lane, at, bits| {
            let start = lane * frame + (addresses[lane] + at) as usize;
            let size = access.size as usize;
            local[start..start + size].copy_from_slice(&bits.to_le_bytes()[..size]);
            written[start..start + size].fill(true);
        });
        if self.taints.is_empty() {
            return;
        }
        let size = access.size as usize;
        for (index, &row) in access.rows.iter().enumerate().take(access.count as usize) {
            let (undefined, bytes) = self.undefined_bytes(row);
            for lane in lanes::each(good & undefined) {
                let start = lane * frame + addresses[lane] as usize + index * size;
                let stored = self.local_written[start..start + size].iter_mut().enumerate();
                stored.for_each(|(byte, written)| *written = bytes >> byte & 1 == 0);
            }
        }
    }

    fn load_param(&mut self, common: &mut Common<'_>, access: &Access, touch: Touch, addresses: &Addresses) {
        let params = common.launch.params;
        // Parameters are aligned as their structure says; a part of one need not be.
        let good = self.check_sized(common, touch, addresses, ("parameter", params.len() as u64));
        if uniform(good, addresses) {
            spread(&mut self.registers, access, |at| little_endian(params, (addresses[0] + at) as usize, access.size));
            return;
        }
        read(&mut self.registers, access, good, |lane, at| {
            little_endian(params, (addresses[lane] + at) as usize, access.size)
        });
        poison(&mut self.registers, access, touch.mask & !good);
    }
}

/// Elements into registers: `bits(lane, offset)`.
#[inline(always)]
fn read(registers: &mut Registers, access: &Access, mask: u32, bits: impl Fn(usize, u64) -> u64) {
    for (k, row) in access.rows.iter().enumerate().take(access.count as usize) {
        if !row.is_some() {
            continue;
        }
        let at = k as u64 * u64::from(access.size);
        let index = row.index as usize;
        match row.width {
            Width::Long => {
                let row = &mut registers.longs[index].0;
                lanes::each(mask).for_each(|lane| row[lane] = extend(bits(lane, at), access));
            }
            _ => {
                let row = &mut registers.words[index].0;
                if mask == u32::MAX && !access.signed {
                    (0..LANES).for_each(|lane| row[lane] = bits(lane, at) as u32);
                } else {
                    lanes::each(mask).for_each(|lane| row[lane] = extend(bits(lane, at), access) as u32);
                }
            }
        }
    }
}

/// All lanes are there, at one address.
#[inline(always)]
fn uniform(mask: u32, addresses: &Addresses) -> bool {
    let differ = addresses.iter().fold(0, |differ, address| differ | (address ^ addresses[0]));
    mask == u32::MAX && differ == 0
}

/// Elements at one address into the registers of all lanes.
#[inline(always)]
fn spread(registers: &mut Registers, access: &Access, bits: impl Fn(u64) -> u64) {
    for (k, row) in access.rows.iter().enumerate().take(access.count as usize).filter(|(_, row)| row.is_some()) {
        let value = extend(bits(k as u64 * u64::from(access.size)), access);
        match row.width {
            Width::Long => registers.longs[row.index as usize].0 = [value; LANES],
            _ => registers.words[row.index as usize].0 = [value as u32; LANES],
        }
    }
}

/// Elements from registers: `place(lane, offset, bits)`.
#[inline(always)]
fn write(registers: &Registers, access: &Access, mask: u32, mut place: impl FnMut(usize, u64, u64)) {
    for (k, row) in access.rows.iter().enumerate().take(access.count as usize) {
        let at = k as u64 * u64::from(access.size);
        for lane in lanes::each(mask) {
            place(lane, at, bits_of(registers, *row, lane));
        }
    }
}

#[inline(always)]
fn bits_of(registers: &Registers, row: Row, lane: usize) -> u64 {
    match row.width {
        Width::Long => registers.longs[row.index as usize].0[lane],
        _ => registers.words[row.index as usize].0[lane].into(),
    }
}

fn poison(registers: &mut Registers, access: &Access, mask: u32) {
    if mask != 0 {
        read(registers, access, mask, |_, _| POISONED);
    }
}

#[inline(always)]
fn extend(bits: u64, access: &Access) -> u64 {
    if !access.signed {
        return bits;
    }
    let unused = 64 - 8 * access.size;
    ((bits << unused) as i64 >> unused) as u64
}

#[inline(always)]
pub(super) fn element(allocation: &Allocation, offset: u64, size: u32) -> u64 {
    match size {
        1 => allocation.read_u8(offset).into(),
        2 => allocation.read_u16(offset).into(),
        4 => allocation.read_u32(offset).into(),
        _ => allocation.read_u64(offset),
    }
}

#[inline(always)]
pub(super) fn put(allocation: &Allocation, offset: u64, size: u32, bits: u64) {
    match size {
        1 => allocation.write_u8(offset, bits as u8),
        2 => allocation.write_u16(offset, bits as u16),
        4 => allocation.write_u32(offset, bits as u32),
        _ => allocation.write_u64(offset, bits),
    }
}

#[inline(always)]
fn word(bytes: &[u8], start: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[start..start + 4]);
    u32::from_le_bytes(word)
}

#[inline(always)]
fn little_endian(bytes: &[u8], start: usize, size: u32) -> u64 {
    let mut whole = [0; 8];
    whole[..size as usize].copy_from_slice(&bytes[start..start + size as usize]);
    u64::from_le_bytes(whole)
}
