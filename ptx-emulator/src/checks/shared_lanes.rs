//! Shared memory, lane by lane: what the fast ways through the checks leave over, and what tells of conflicts.

use super::clocks::{SEVERAL, View, lane_of};
use super::lanes;
use super::readers::{Earlier, tag, untag};
use super::shared::{Conflict, ConflictKind, SharedAccess, SharedShadow, Strong};
use std::ops::Range;

impl SharedShadow {
    /// The granules of a lane, without what lies beyond the end.
    #[inline]
    fn granules(&self, access: &SharedAccess<'_>, lane: usize) -> Range<usize> {
        let start = access.offsets[lane] as usize;
        let end = start.saturating_add(access.size as usize).min(self.bytes);
        start >> self.shift..end.div_ceil(1 << self.shift)
    }

    pub(super) fn read_lanes(&mut self, access: &SharedAccess<'_>, conflicts: &mut Vec<Conflict>) {
        let me = self.clocks.view(access.warp);
        let plain = self.atomics.is_none();
        for lane in lanes(access.mask) {
            for granule in self.granules(access, lane) {
                let stamp = self.written[granule];
                if !(plain && me.base < stamp && stamp <= me.floor) {
                    self.check_read(access, lane, conflicts);
                    break;
                }
            }
            for granule in self.granules(access, lane) {
                self.reads.note(&me, granule, lane as u32, access.instruction);
            }
        }
    }

    fn check_read(&self, access: &SharedAccess<'_>, lane: usize, conflicts: &mut Vec<Conflict>) {
        let me = self.clocks.view(access.warp);
        self.uninitialised(access, lane, conflicts);
        self.race(access, lane, conflicts, |granule| {
            self.unordered_write(&me, granule, lane).or_else(|| self.unordered_atomic(&me, granule, lane))
        });
    }

    /// Tells of lanes whose write races with what was before the instruction.
    pub(super) fn check_writes(&self, access: &SharedAccess<'_>, same: u32, conflicts: &mut Vec<Conflict>) {
        let me = self.clocks.view(access.warp);
        for lane in lanes(access.mask) {
            let same = same >> lane & 1 != 0;
            self.race(access, lane, conflicts, |granule| {
                let write = if same { None } else { self.unordered_write(&me, granule, lane) };
                write
                    .or_else(|| self.unordered_atomic(&me, granule, lane))
                    .or_else(|| self.unordered_read(&me, granule, lane))
            });
        }
    }

    pub(super) fn write_lanes(&mut self, access: &SharedAccess<'_>) {
        let tag = tag(access.instruction, access.warp);
        let step = self.clocks.view(access.warp).step;
        for lane in lanes(access.mask) {
            for granule in self.granules(access, lane) {
                self.written[granule] = step | lane as u32;
                self.writer[granule] = tag;
            }
        }
    }

    pub(super) fn atomic_lane(
        &mut self,
        access: &SharedAccess<'_>,
        strong: Strong,
        lane: usize,
        conflicts: &mut Vec<Conflict>,
    ) {
        let me = self.clocks.view(access.warp);
        if matches!(strong, Strong::Load | Strong::Update) {
            self.uninitialised(access, lane, conflicts);
        }
        self.race(access, lane, conflicts, |granule| {
            let write = self.unordered_write(&me, granule, lane);
            if strong == Strong::Load { write } else { write.or_else(|| self.unordered_read(&me, granule, lane)) }
        });
        let range = self.granules(access, lane);
        let Some(atomics) = self.atomics.as_mut().filter(|_| strong != Strong::Load) else { return };
        for granule in range {
            atomics.note(&me, granule, lane as u32, access.instruction);
            if self.written[granule] <= me.base {
                self.written[granule] = self.clocks.settled();
            }
        }
    }

    fn uninitialised(&self, access: &SharedAccess<'_>, lane: usize, conflicts: &mut Vec<Conflict>) {
        let base = self.clocks.base();
        let found = self.granules(access, lane).find(|&granule| self.written[granule] <= base);
        conflicts.extend(found.map(|granule| self.conflict(ConflictKind::Uninitialised, access, lane, granule)));
    }

    /// Tells of the first granule of a lane for which `find` has something.
    fn race(
        &self,
        access: &SharedAccess<'_>,
        lane: usize,
        conflicts: &mut Vec<Conflict>,
        find: impl Fn(usize) -> Option<ConflictKind>,
    ) {
        let found = self.granules(access, lane).find_map(|granule| find(granule).map(|kind| (kind, granule)));
        conflicts.extend(found.map(|(kind, granule)| self.conflict(kind, access, lane, granule)));
    }

    fn conflict(&self, kind: ConflictKind, access: &SharedAccess<'_>, lane: usize, granule: usize) -> Conflict {
        let offset = ((granule << self.shift) as u32).max(access.offsets[lane]);
        Conflict { kind, lane: lane as u32, offset }
    }

    #[inline]
    fn unordered_write(&self, me: &View<'_>, granule: usize, lane: usize) -> Option<ConflictKind> {
        let stamp = self.written[granule];
        if stamp <= me.floor {
            return None;
        }
        let (instruction, warp) = untag(self.writer[granule]);
        let own = warp as usize == me.warp && stamp & 63 == lane as u32;
        (stamp > me.known[warp as usize] && !own).then(|| ConflictKind::Race {
            other_warp: warp,
            other_lane: lane_of(stamp),
            other_instruction: instruction,
            other_was_write: true,
        })
    }

    #[inline]
    fn unordered_read(&self, me: &View<'_>, granule: usize, lane: usize) -> Option<ConflictKind> {
        self.reads.unordered(me, granule, lane as u32).map(|earlier| race_with(earlier, false))
    }

    #[inline]
    fn unordered_atomic(&self, me: &View<'_>, granule: usize, lane: usize) -> Option<ConflictKind> {
        let atomics = self.atomics.as_ref()?;
        atomics.unordered(me, granule, lane as u32).map(|earlier| race_with(earlier, true))
    }

    /// False if no two lanes of the access share a granule, which a small hash table nearly always shows.
    pub(super) fn may_overlap(&self, access: &SharedAccess<'_>) -> bool {
        let mut seen = [0_u64; 16];
        for lane in lanes(access.mask) {
            for granule in self.granules(access, lane) {
                let word = &mut seen[granule >> 6 & 15];
                let bit = 1 << (granule & 63);
                if *word & bit != 0 {
                    return true;
                }
                *word |= bit;
            }
        }
        false
    }

    /// Lanes of one write that hit the same bytes: a conflict if they differ. Several lanes have then written.
    pub(super) fn overlaps(
        &mut self,
        access: &SharedAccess<'_>,
        values_differ: impl Fn(usize, usize) -> bool,
        conflicts: &mut Vec<Conflict>,
    ) {
        for lane in lanes(access.mask) {
            let mine = self.granules(access, lane);
            let mut told = false;
            for other in lanes(access.mask & ((1 << lane) - 1)) {
                let theirs = self.granules(access, other);
                let common = mine.start.max(theirs.start)..mine.end.min(theirs.end);
                for granule in common.clone() {
                    self.written[granule] = self.written[granule] & !63 | SEVERAL;
                }
                // Neighbours within a granule do not overlap.
                let apart = access.offsets[lane].abs_diff(access.offsets[other]) >= access.size;
                if !told && !common.is_empty() && !apart && values_differ(other, lane) {
                    told = true;
                    let kind = ConflictKind::Race {
                        other_warp: access.warp as u32,
                        other_lane: Some(other as u32),
                        other_instruction: access.instruction,
                        other_was_write: true,
                    };
                    conflicts.push(self.conflict(kind, access, lane, common.start));
                }
            }
        }
    }
}

fn race_with(earlier: Earlier, other_was_write: bool) -> ConflictKind {
    ConflictKind::Race {
        other_warp: earlier.warp,
        other_lane: earlier.lane,
        other_instruction: earlier.instruction,
        other_was_write,
    }
}
