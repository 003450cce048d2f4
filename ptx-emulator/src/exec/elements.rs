//! Elements of memory, and their way into registers and back.

use super::lanes;
use super::places::Addresses;
use crate::memory::Allocation;
use crate::program::{Access, Row};
use crate::registers::{LANES, Registers};
use crate::types::Width;

/// What never-written or unreadable memory gives.
pub(super) const POISONED: u64 = u64::MAX;

/// Elements into registers: `bits(lane, offset)`.
#[inline(always)]
pub(super) fn read(registers: &mut Registers, access: &Access, mask: u32, bits: impl Fn(usize, u64) -> u64) {
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
pub(super) fn uniform(mask: u32, addresses: &Addresses) -> bool {
    let differ = addresses.iter().fold(0, |differ, address| differ | (address ^ addresses[0]));
    mask == u32::MAX && differ == 0
}

/// Elements at one address into the registers of all lanes.
#[inline(always)]
pub(super) fn spread(registers: &mut Registers, access: &Access, bits: impl Fn(u64) -> u64) {
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
pub(super) fn write(registers: &Registers, access: &Access, mask: u32, mut place: impl FnMut(usize, u64, u64)) {
    for (k, row) in access.rows.iter().enumerate().take(access.count as usize) {
        let at = k as u64 * u64::from(access.size);
        for lane in lanes::each(mask) {
            place(lane, at, bits_of(registers, *row, lane));
        }
    }
}

#[inline(always)]
pub(super) fn bits_of(registers: &Registers, row: Row, lane: usize) -> u64 {
    match row.width {
        Width::Long => registers.longs[row.index as usize].0[lane],
        _ => registers.words[row.index as usize].0[lane].into(),
    }
}

pub(super) fn poison(registers: &mut Registers, access: &Access, mask: u32) {
    if mask != 0 {
        read(registers, access, mask, |_, _| POISONED);
    }
}

#[inline(always)]
pub(super) fn extend(bits: u64, access: &Access) -> u64 {
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
pub(super) fn word(bytes: &[u8], start: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[start..start + 4]);
    u32::from_le_bytes(word)
}

#[inline(always)]
pub(super) fn little_endian(bytes: &[u8], start: usize, size: u32) -> u64 {
    let mut whole = [0; 8];
    whole[..size as usize].copy_from_slice(&bytes[start..start + size as usize]);
    u64::from_le_bytes(whole)
}
