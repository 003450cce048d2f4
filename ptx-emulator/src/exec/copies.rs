//! `cp.async`: what is copied arrives when it is waited for, not before.

use super::block::Common;
use super::elements::element;
use super::lanes;
use super::places::{Addresses, Touch};
use super::warp::Warp;
use crate::checks::Kind;
use crate::findings::FindingKind;
use crate::program::{CopyAsync, Release};
use crate::registers::LANES;

/// Unfinished copies that a warp may have: a loop that never waits would fill the host's memory.
const MOST_PENDING: usize = 1 << 18;

/// The unfinished copies of a warp.
#[derive(Clone, Debug)]
pub(super) struct Copies {
    /// Groups that each lane has committed.
    committed: [u32; LANES],
    pending: Vec<Copy>,
}

impl Default for Copies {
    fn default() -> Self {
        Self { committed: [0; LANES], pending: Vec::new() }
    }
}

/// One lane's copy.
#[derive(Clone, Copy, Debug)]
struct Copy {
    lane: u32,
    /// Group that it belongs to, once committed.
    group: u32,
    dst: u32,
    src: u64,
    bytes: u32,
    /// Bytes to read; the rest is zero.
    src_bytes: u32,
    pc: u32,
}

impl Copies {
    pub fn commit(&mut self, mask: u32) {
        lanes::each(mask).for_each(|lane| self.committed[lane] += 1);
    }
}

impl Warp {
    pub(super) fn copy_async(&mut self, common: &mut Common<'_>, copy: &CopyAsync, mask: u32, pc: u32) {
        let (dst, src) = (self.addresses(&copy.dst), self.addresses(&copy.src));
        let mut sizes = [copy.bytes; LANES];
        for lane in lanes::each(mask) {
            if copy.src_bytes.is_some() {
                sizes[lane] = self.word(copy.src_bytes, lane).min(copy.bytes);
            }
            if copy.ignore.is_some() && self.registers.predicates[copy.ignore.index as usize] >> lane & 1 != 0 {
                sizes[lane] = 0;
            }
        }
        if self.copies.pending.len() > MOST_PENDING {
            let thread = self.thread(mask);
            common.note(FindingKind::Budget, pc, thread, None, || {
                format!("a warp has more than {MOST_PENDING} unfinished copies")
            });
            common.aborted = true;
            return;
        }
        // What is not read need not be there.
        let reading = lanes::collect(mask, |lane| sizes[lane] > 0);
        let mut good = self.check_shared(common, Touch { pc, mask, bytes: copy.bytes, write: true }, &dst);
        good &= !reading | self.check_sources(common, (pc, copy), reading, (&src, &sizes));
        if common.launch.counting {
            common.tally.shared(Touch { pc, mask: good, bytes: copy.bytes, write: true }, &dst);
        }
        for lane in lanes::each(good) {
            self.copies.pending.push(Copy {
                lane: lane as u32,
                group: self.copies.committed[lane],
                dst: dst[lane] as u32,
                src: src[lane],
                bytes: copy.bytes,
                src_bytes: sizes[lane],
                pc,
            });
        }
        common.pending_copies += good.count_ones() as usize;
    }

    /// Sources of one size at a time: in one copy they differ only at edges.
    fn check_sources(
        &self,
        common: &mut Common<'_>,
        (pc, copy): (u32, &CopyAsync),
        reading: u32,
        (src, sizes): (&Addresses, &[u32; LANES]),
    ) -> u32 {
        let mut good = 0;
        let full = lanes::collect(reading, |lane| sizes[lane] == copy.bytes);
        if full != 0 {
            let touch = Touch { pc, mask: full, bytes: copy.bytes, write: false };
            let right = self.check_global(common, touch, src).0;
            self.note_global(common, copy.slot, Touch { mask: right, ..touch }, src, (Kind::Read, Release::None));
            lanes::each(right).for_each(|lane| common.tally.traffic(src[lane], copy.bytes.into(), false));
            good |= right;
        }
        for lane in lanes::each(reading & !full) {
            if src[lane] % u64::from(copy.bytes) != 0 {
                let thread = self.first_thread() + lane as u32;
                common.note(FindingKind::Misaligned, pc, thread, Some(src[lane]), String::new);
                continue;
            }
            // Byte by byte: any number of bytes may be asked for.
            let mut right = true;
            for byte in 0..sizes[lane] {
                let touch = Touch { pc, mask: 1 << lane, bytes: 1, write: false };
                let mut at = *src;
                at[lane] = src[lane].wrapping_add(byte.into());
                right &= self.check_global(common, touch, &at).0 != 0;
                if right {
                    self.note_global(common, copy.slot, touch, &at, (Kind::Read, Release::None));
                    common.tally.traffic(at[lane], 1, false);
                }
            }
            good |= u32::from(right) << lane;
        }
        good
    }

    /// Copies of all but the last `most` groups of each lane arrive.
    pub(super) fn copy_wait(&mut self, common: &mut Common<'_>, mask: u32, most: u32, _pc: u32) {
        let committed = self.copies.committed;
        let due = |copy: &mut Copy| {
            let lane = copy.lane as usize;
            mask >> lane & 1 != 0 && u64::from(copy.group) + u64::from(most) < u64::from(committed[lane])
        };
        let arriving: Vec<Copy> = self.copies.pending.extract_if(.., due).collect();
        common.pending_copies -= arriving.len();
        arriving.iter().for_each(|copy| self.arrive_copy(common, copy));
    }

    fn arrive_copy(&self, common: &mut Common<'_>, copy: &Copy) {
        let mut bytes = [0; 16];
        if let Some(allocation) = common.launch.memory.region(copy.src) {
            for (at, byte) in bytes.iter_mut().enumerate().take(copy.src_bytes as usize) {
                *byte = element(allocation, copy.src - allocation.base + at as u64, 1) as u8;
            }
        }
        let (start, size) = (copy.dst as usize, copy.bytes as usize);
        let place = &mut common.shared[start..start + size];
        let same = place == &bytes[..size];
        place.copy_from_slice(&bytes[..size]);
        if let Some(shadow) = &mut common.shadow {
            let mut conflicts = Vec::new();
            let who = (self.index as usize, copy.lane as usize);
            shadow.write_by(who, (copy.dst, copy.bytes), copy.pc, same, &mut conflicts);
            if !conflicts.is_empty() {
                self.report_conflicts(common, copy.pc, &conflicts);
            }
        }
    }

    /// Lanes that touch what an unfinished copy of this warp is writing; they are reported.
    pub(super) fn check_pending(&self, common: &mut Common<'_>, touch: Touch, addresses: &Addresses) -> u32 {
        let mut found = 0;
        for lane in lanes::each(touch.mask) {
            let (start, end) = (addresses[lane], addresses[lane] + u64::from(touch.bytes));
            let overlaps = |copy: &&Copy| u64::from(copy.dst) < end && start < u64::from(copy.dst + copy.bytes);
            if let Some(copy) = self.copies.pending.iter().find(overlaps) {
                let thread = self.first_thread() + lane as u32;
                let (line, other) =
                    (common.launch.program.info[copy.pc as usize].line, self.first_thread() + copy.lane);
                common.note(FindingKind::PendingCopy, touch.pc, thread, Some(start), || {
                    format!("the copy of PTX line {line} by thread {other} has not been waited for")
                });
                found |= 1 << lane;
            }
        }
        found
    }
}
