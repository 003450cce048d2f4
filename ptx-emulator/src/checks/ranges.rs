//! Ranges of addresses that a block accessed in global memory.

use super::global::Kind;

/// Addresses that one instruction of a block accessed under one stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub key: Key,
    pub start: u64,
    pub end: u64,
    pub by: By,
}

/// What ranges have in common that may be merged, in one word, which makes sorting fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(u64);

impl Key {
    pub fn new(kind: Kind, instruction: u32, stamp: u32) -> Self {
        Self((kind as u64) << 61 | u64::from(instruction & 0x1FFF_FFFF) << 32 | u64::from(stamp))
    }

    pub fn kind(self) -> Kind {
        match self.0 >> 61 {
            0 => Kind::Read,
            1 => Kind::NonCoherentRead,
            2 => Kind::StrongRead,
            3 => Kind::Write,
            4 => Kind::Atomic,
            _ => Kind::Guess,
        }
    }

    /// Kernels stay far below 2^29 instructions.
    pub fn instruction(self) -> u32 {
        (self.0 >> 32) as u32 & 0x1FFF_FFFF
    }

    /// Index into the stamps of the block.
    pub fn stamp(self) -> usize {
        self.0 as u32 as usize
    }
}

/// Which threads accessed a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum By {
    /// So many bytes each, beginning with this thread of the block.
    Threads(u32, u32),
    /// Several lanes of a warp.
    Warp(u32),
    Several,
}

impl By {
    /// Warp and lane at some distance from the start of the range.
    pub fn at(self, distance: u64) -> (Option<u32>, Option<u32>) {
        match self {
            Self::Threads(first, each) => {
                let thread = u64::from(first) + distance / u64::from(each.max(1));
                (Some((thread / 32) as u32), Some((thread % 32) as u32))
            }
            Self::Warp(warp) => (Some(warp), None),
            Self::Several => (None, None),
        }
    }
}

impl Range {
    /// The warp, if it is but one.
    fn warp(&self) -> Option<u32> {
        let last = self.end.saturating_sub(self.start).saturating_sub(1);
        let warp = self.by.at(0).0;
        if self.by.at(last).0 == warp { warp } else { None }
    }

    /// True if what starts there is the next thread with as many bytes.
    pub fn continued(&self, start: u64, by: By) -> bool {
        match (self.by, by) {
            (By::Threads(first, each), By::Threads(next, other)) => {
                let distance = start.wrapping_sub(self.start);
                each == other
                    && each > 0
                    && start == self.end
                    && distance.is_multiple_of(each.into())
                    && u64::from(first) + distance / u64::from(each) == u64::from(next)
            }
            _ => false,
        }
    }
}

/// Sorts ranges and merges those that touch.
pub(super) fn compact(ranges: &mut Vec<Range>) {
    ranges.sort_by_key(|range| (range.key, range.start));
    ranges.dedup_by(|next, so_far| {
        let touch = next.key == so_far.key && next.start <= so_far.end;
        if touch {
            let equal = (so_far.start, so_far.end, so_far.by) == (next.start, next.end, next.by);
            if !equal && !so_far.continued(next.start, next.by) {
                so_far.by = match (so_far.warp(), next.warp()) {
                    (Some(one), Some(other)) if one == other => By::Warp(one),
                    _ => By::Several,
                };
            }
            so_far.end = so_far.end.max(next.end);
        }
        touch
    });
}
