//! Loads and stores.

use super::block::Common;
use super::elements::*;
use super::lanes;
use super::places::{Addresses, Found, Touch, same_space};
use super::warp::Warp;
use crate::checks::{Kind, Strong};
use crate::findings::FindingKind;
use crate::parse::ast::Space;
use crate::program::{Access, Release};

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
        self.note_guess(common, access, good, addresses);
        self.note_global(common, access.slot, Touch { mask: good, ..touch }, addresses, (kind, Release::None));
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
        self.note_global(common, access.slot, Touch { mask: good, ..touch }, addresses, (kind, access.release));
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
        self.note_guess(common, access, good, addresses);
        let strong = access.volatile.then_some((Strong::Load, Release::None));
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
            let bytes = bits.to_le_bytes();
            // The usual width without calls of memcmp and memcpy.
            let unchanged = if let Ok(place) = <&mut [u8; 4]>::try_from(&mut *place) {
                let word = [bytes[0], bytes[1], bytes[2], bytes[3]];
                std::mem::replace(place, word) == word
            } else {
                let bytes = &bytes[..access.size as usize];
                let unchanged = place == bytes;
                place.copy_from_slice(bytes);
                unchanged
            };
            if !unchanged {
                same &= !(1 << lane);
            }
        });
        let strong = access.volatile.then_some((Strong::Store, access.release));
        // Lanes that store the same bytes do not race, whatever was there before.
        let unused = 64 - 8 * access.size;
        let differ = |a: usize, b: usize| {
            let rows = access.rows.iter().take(access.count as usize);
            let each = rows.map(|&row| bits_of(&self.registers, row, a) ^ bits_of(&self.registers, row, b));
            each.fold(0, |all, one| all | one << unused) != 0
        };
        self.note_shared(common, Touch { mask: good, ..touch }, addresses, strong, (same, differ));
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
