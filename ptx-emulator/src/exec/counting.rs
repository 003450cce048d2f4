//! Counters of a block's execution.

use super::lanes;
use super::places::{Addresses, Touch};
use crate::counters::Counts;
use std::collections::BTreeMap;

/// Bytes of a sector of global memory.
const SECTOR_BITS: u32 = 5;
/// Banks of shared memory, four bytes wide.
const BANKS: u64 = 32;
/// Bytes that shared memory gives in one pass.
const PASS: u32 = 128;

/// Counts per instruction, and bytes per allocation.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub counts: Vec<Counts>,
    /// By region: bytes loaded, bytes stored.
    pub traffic: BTreeMap<u64, [u64; 2]>,
    recent: (u64, [u64; 2]),
}

impl Tally {
    pub fn new(instructions: usize) -> Self {
        Self { counts: vec![Counts::default(); instructions], traffic: BTreeMap::new(), recent: (0, [0; 2]) }
    }

    #[inline(always)]
    pub fn count(&mut self, pc: u32, mask: u32) {
        let counts = &mut self.counts[pc as usize];
        counts.executed += 1;
        counts.lanes += u64::from(mask.count_ones());
    }

    pub fn diverged(&mut self, pc: u32) {
        self.counts[pc as usize].divergences += 1;
    }

    /// Bytes of an allocation.
    #[inline(always)]
    pub fn traffic(&mut self, address: u64, bytes: u64, store: bool) {
        let region = address >> 32;
        if region != self.recent.0 {
            self.flush();
            self.recent.0 = region;
        }
        self.recent.1[usize::from(store)] += bytes;
    }

    fn flush(&mut self) {
        let (region, bytes) = self.recent;
        if bytes != [0; 2] {
            let all = self.traffic.entry(region).or_default();
            all[0] += bytes[0];
            all[1] += bytes[1];
        }
        self.recent.1 = [0; 2];
    }

    /// A global access.
    #[inline(always)]
    pub(super) fn global(&mut self, touch: Touch, addresses: &Addresses) {
        let counts = &mut self.counts[touch.pc as usize];
        counts.global_bytes += u64::from(touch.mask.count_ones() * touch.bytes);
        counts.global_sectors += sectors(touch, addresses);
    }

    /// A shared access.
    #[inline(always)]
    pub(super) fn shared(&mut self, touch: Touch, addresses: &Addresses) {
        let conflicts = bank_conflicts(touch, addresses);
        if conflicts > 0 {
            self.counts[touch.pc as usize].bank_conflicts += conflicts;
        }
    }

    /// Adds what another counted.
    pub fn add(&mut self, mut other: Self) {
        other.flush();
        self.flush();
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            mine.add(theirs);
        }
        for (region, [loaded, stored]) in other.traffic {
            let all = self.traffic.entry(region).or_default();
            all[0] += loaded;
            all[1] += stored;
        }
    }
}

/// Different sectors of a warp's access. Accesses are aligned to their size, of at most 32 bytes: one sector a lane.
#[inline(always)]
fn sectors(touch: Touch, addresses: &Addresses) -> u64 {
    if touch.mask == u32::MAX {
        let pairs = addresses.iter().zip(&addresses[1..]).map(|(a, b)| (a >> SECTOR_BITS, b >> SECTOR_BITS));
        let (changes, sorted) = pairs.fold((0, true), |(n, sorted), (a, b)| (n + u64::from(a != b), sorted & (a <= b)));
        return if sorted { changes + 1 } else { scattered_sectors(touch, addresses) };
    }
    let (mut count, mut last, mut sorted) = (0u64, u64::MAX, true);
    for lane in lanes::each(touch.mask) {
        let sector = addresses[lane] >> SECTOR_BITS;
        count += u64::from(sector != last);
        sorted &= last == u64::MAX || sector >= last;
        last = sector;
    }
    if sorted {
        return count;
    }
    scattered_sectors(touch, addresses)
}

/// As [`sectors`], in any order.
fn scattered_sectors(touch: Touch, addresses: &Addresses) -> u64 {
    let sector = |lane: usize| addresses[lane] >> SECTOR_BITS;
    let least = lanes::each(touch.mask).map(sector).min().unwrap_or(0);
    let mut near = 0u64;
    let mut far: Vec<u64> = Vec::new();
    for lane in lanes::each(touch.mask) {
        match sector(lane) - least {
            distance @ 0..64 => near |= 1 << distance,
            distance => far.push(distance),
        }
    }
    far.sort_unstable();
    far.dedup();
    u64::from(near.count_ones()) + far.len() as u64
}

/// Passes beyond one for each 128 bytes' worth of lanes. Wide accesses go in parts of the warp.
#[inline(always)]
fn bank_conflicts(touch: Touch, addresses: &Addresses) -> u64 {
    let first = addresses[lanes::first(touch.mask)];
    if touch.mask == u32::MAX && addresses.iter().fold(0, |differ, address| differ | (address ^ first)) == 0 {
        return 0;
    }
    let lanes_per_pass = (PASS / touch.bytes.max(4)).max(1);
    if touch.mask == u32::MAX
        && lanes::each(touch.mask).zip(0..).all(|(lane, i)| addresses[lane] == first + i * u64::from(touch.bytes))
    {
        return 0;
    }
    let mut conflicts = 0;
    let mut start = 0;
    while start < 32 {
        let part = touch.mask & ((u64::MAX >> (64 - lanes_per_pass)) << start) as u32;
        conflicts += part_conflicts(part, touch.bytes, addresses);
        start += lanes_per_pass;
    }
    conflicts
}

/// The most different words in one bank, less one.
fn part_conflicts(mask: u32, bytes: u32, addresses: &Addresses) -> u64 {
    let words = bytes.div_ceil(4);
    let mut all: Vec<u64> =
        lanes::each(mask).flat_map(|lane| (0..u64::from(words)).map(move |word| addresses[lane] / 4 + word)).collect();
    all.sort_unstable();
    all.dedup();
    let mut banks = [0u64; BANKS as usize];
    for word in all {
        banks[(word % BANKS) as usize] += 1;
    }
    banks.iter().max().map_or(0, |most| most.saturating_sub(1))
}
