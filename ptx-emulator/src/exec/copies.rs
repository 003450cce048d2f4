//! `cp.async`: what is copied arrives when it is waited for, not before.

use super::block::Common;
use super::elements::element;
use super::lanes;
use super::places::{Addresses, Touch, offset_in};
use super::warp::Warp;
use crate::checks::{Kind, SharedAccess};
use crate::findings::FindingKind;
use crate::memory::Memory;
use crate::program::{CopyAsync, Release};
use crate::registers::LANES;
use std::ops::Range;

/// Unfinished copies that a warp may have: a loop that never waits would fill the host's memory.
const MOST_PENDING: usize = 1 << 18;

/// The unfinished copies of a block.
#[derive(Debug)]
pub(super) struct Copies {
    warps: Vec<OfWarp>,
    /// How many of them write each word of shared memory: they start and end at whole ones. Empty until there is one.
    words: Vec<u32>,
    unfinished: usize,
}

#[derive(Clone, Debug, Default)]
struct OfWarp {
    /// Groups that each lane has committed.
    committed: [u32; LANES],
    pending: Vec<Copy>,
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

impl Copy {
    fn words(&self) -> Range<usize> {
        words(self.dst.into(), self.bytes)
    }

    /// What arrives, and zeros behind it.
    fn arriving(&self, memory: &Memory) -> [u8; 16] {
        let mut bytes = [0; 16];
        if let Some(allocation) = memory.region(self.src) {
            for (at, byte) in bytes.iter_mut().enumerate().take(self.src_bytes as usize) {
                *byte = element(allocation, self.src - allocation.base + at as u64, 1) as u8;
            }
        }
        bytes
    }
}

/// The words of shared memory that so many bytes lie in.
fn words(start: u64, bytes: u32) -> Range<usize> {
    start as usize / 4..(start as usize + bytes as usize).div_ceil(4)
}

impl Copies {
    pub fn new(warps: usize) -> Self {
        Self { warps: vec![OfWarp::default(); warps], words: Vec::new(), unfinished: 0 }
    }

    pub fn start_block(&mut self) {
        if self.unfinished > 0 {
            self.words.fill(0);
            self.unfinished = 0;
        }
        for warp in &mut self.warps {
            warp.committed = [0; LANES];
            warp.pending.clear();
        }
    }

    /// No copy is unfinished.
    #[inline(always)]
    pub fn none(&self) -> bool {
        self.unfinished == 0
    }

    pub fn commit(&mut self, warp: u32, mask: u32) {
        let committed = &mut self.warps[warp as usize].committed;
        lanes::each(mask).for_each(|lane| committed[lane] += 1);
    }

    /// Adds a copy into shared memory of so many bytes.
    fn push(&mut self, warp: u32, copy: Copy, shared: usize) {
        if self.words.is_empty() {
            self.words = vec![0; shared.div_ceil(4)];
        }
        self.words[copy.words()].iter_mut().for_each(|count| *count += 1);
        self.unfinished += 1;
        self.warps[warp as usize].pending.push(copy);
    }

    /// Removes the copies of a warp that are due.
    fn take(&mut self, warp: u32, mask: u32, most: u32) -> Vec<Copy> {
        let OfWarp { committed, pending } = &mut self.warps[warp as usize];
        let due = |copy: &mut Copy| {
            let lane = copy.lane as usize;
            mask >> lane & 1 != 0 && u64::from(copy.group) + u64::from(most) < u64::from(committed[lane])
        };
        let arriving: Vec<Copy> = pending.extract_if(.., due).collect();
        self.unfinished -= arriving.len();
        for copy in &arriving {
            self.words[copy.words()].iter_mut().for_each(|count| *count -= 1);
        }
        arriving
    }

    /// Whether some unfinished copy writes there.
    fn covers(&self, range: Range<usize>) -> bool {
        self.words.get(range).is_some_and(|counts| counts.iter().any(|&count| count > 0))
    }

    /// The first of the copies that write there, by warps, and its thread.
    fn first_over(&self, range: &Range<usize>) -> Option<(u32, &Copy)> {
        let overlaps = |copy: &&Copy| copy.words().start < range.end && range.start < copy.words().end;
        let mut warps = self.warps.iter().zip(0u32..);
        warps.find_map(|(warp, number)| {
            let copy = warp.pending.iter().find(overlaps)?;
            Some((number * LANES as u32 + copy.lane, copy))
        })
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
        if common.copies.warps[self.index as usize].pending.len() > MOST_PENDING {
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
        let copies: Vec<Copy> = lanes::each(good)
            .map(|lane| Copy {
                lane: lane as u32,
                group: common.copies.warps[self.index as usize].committed[lane],
                dst: dst[lane] as u32,
                src: src[lane],
                bytes: copy.bytes,
                src_bytes: sizes[lane],
                pc,
            })
            .collect();
        self.begin_copies(common, Touch { pc, mask: good, bytes: copy.bytes, write: true }, &copies);
    }

    /// From now until it is waited for, a copy may write: what came before must be ordered before it, and until then
    /// nobody else may touch the place.
    fn begin_copies(&self, common: &mut Common<'_>, touch: Touch, copies: &[Copy]) {
        let memory = common.launch.memory;
        if let Some(shadow) = common.shadow.as_ref().filter(|_| touch.mask != 0) {
            let mut offsets = [0; LANES];
            copies.iter().for_each(|copy| offsets[copy.lane as usize] = copy.dst);
            let (warp, instruction) = (self.index as usize, touch.pc);
            let access = SharedAccess { warp, mask: touch.mask, offsets: &offsets, size: touch.bytes, instruction };
            let same = || {
                let unchanged = copies.iter().filter(|copy| {
                    let (start, bytes) = (copy.dst as usize, copy.bytes as usize);
                    common.shared[start..start + bytes] == copy.arriving(memory)[..bytes]
                });
                unchanged.fold(0, |same, copy| same | 1 << copy.lane)
            };
            let mut conflicts = Vec::new();
            shadow.check_copy(&access, same, &mut conflicts);
            if !conflicts.is_empty() {
                self.report_conflicts(common, touch.pc, &conflicts);
            }
        }
        for copy in copies {
            // Copies of the same bytes may come in any order.
            let same = |other: &Copy| {
                (other.dst, other.bytes) == (copy.dst, copy.bytes) && other.arriving(memory) == copy.arriving(memory)
            };
            if common.copies.covers(copy.words())
                && !common.copies.first_over(&copy.words()).is_some_and(|(_, other)| same(other))
            {
                self.report_pending(common, touch, copy.lane as usize, copy.dst.into());
            }
            common.copies.push(self.index, *copy, common.shared.len());
        }
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
                let memory = common.launch.memory;
                common.note(FindingKind::Misaligned, pc, thread, Some(src[lane]), || {
                    format!("source, expected a multiple of {}{}", copy.bytes, offset_in(memory, src[lane]))
                });
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
    pub(super) fn copy_wait(&mut self, common: &mut Common<'_>, mask: u32, most: u32) {
        for copy in common.copies.take(self.index, mask, most) {
            let (start, bytes) = (copy.dst as usize, copy.bytes as usize);
            common.shared[start..start + bytes].copy_from_slice(&copy.arriving(common.launch.memory)[..bytes]);
            if let Some(shadow) = &mut common.shadow {
                shadow.arrive((self.index as usize, copy.lane as usize), (copy.dst, copy.bytes), copy.pc);
            }
        }
    }

    /// Lanes that touch what an unfinished copy of the block is writing; they are reported.
    pub(super) fn check_pending(&self, common: &mut Common<'_>, touch: Touch, addresses: &Addresses) -> u32 {
        let found = lanes::collect(touch.mask, |lane| common.copies.covers(words(addresses[lane], touch.bytes)));
        for lane in lanes::each(found) {
            self.report_pending(common, touch, lane, addresses[lane]);
        }
        found
    }

    #[cold]
    fn report_pending(&self, common: &mut Common<'_>, touch: Touch, lane: usize, start: u64) {
        let (copies, program) = (&common.copies, common.launch.program);
        let thread = self.first_thread() + lane as u32;
        common.findings.note(FindingKind::PendingCopy, touch.pc, thread, Some(start), || {
            let what = copies.first_over(&words(start, touch.bytes)).map_or_else(String::new, |(by, copy)| {
                let line = program.info[copy.pc as usize].line;
                format!("the copy of PTX line {line} by thread {by} has not been waited for")
            });
            format!("{what}{}", program.shared.place(start))
        });
    }
}
