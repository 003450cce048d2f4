//! What one block did in global memory, as ranges of addresses.

use super::order::{BlockOrder, Stamp, SyncState};
use super::ranges::{By, Key, Range, compact};
use super::run_of;

/// What an access does. Strong ones do not race with each other: atomics, and volatile or relaxed loads and stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Read,
    /// `ld.global.nc`: nobody may write there during the launch.
    NonCoherentRead,
    /// A volatile or relaxed load.
    StrongRead,
    Write,
    /// An atomic, or a volatile or relaxed store.
    Atomic,
    /// A plain read whose value a compare-and-swap confirmed or refused.
    Guess,
}

impl Kind {
    pub(super) fn writes(self) -> bool {
        matches!(self, Self::Write | Self::Atomic)
    }
}

/// One instruction of a warp.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GlobalAccess<'a> {
    /// Number of the instruction among those of the kernel that access memory.
    pub slot: usize,
    /// What conflicts name.
    pub instruction: u32,
    pub warp: usize,
    /// Lanes that take part.
    pub mask: u32,
    /// Lanes whose plain write leaves memory as it is, and which shall count as reads.
    pub same: u32,
    pub addresses: &'a [u64; 32],
    /// Bytes of each lane, vectors included.
    pub size: u32,
    pub kind: Kind,
}

/// What a block did.
#[derive(Clone, Debug)]
pub(crate) struct FinishedLog {
    pub(super) block: u32,
    pub(super) ranges: Vec<Range>,
    pub(super) stamps: Vec<Stamp>,
}

impl FinishedLog {
    /// The plain reads of these instructions were guesses.
    pub fn confirm(&mut self, instructions: &[u32]) {
        for key in self.ranges.iter_mut().map(|range| &mut range.key) {
            if key.kind() == Kind::Read && instructions.contains(&key.instruction()) {
                *key = Key::new(Kind::Guess, key.instruction(), key.stamp() as u32);
            }
        }
    }
}

/// Ranges of an instruction and a warp that may still grow.
#[derive(Clone, Debug)]
struct Open {
    key: Key,
    warp: u32,
    /// Lanes that have a range. If it is one range for the warp, that is in lane 0.
    lanes: u32,
    whole: Option<By>,
    start: [u64; 32],
    end: [u64; 32],
}

/// The log of one block. One serves block after block.
#[derive(Clone, Debug)]
pub(crate) struct BlockLog {
    warps: usize,
    open: Vec<Option<Box<Open>>>,
    /// Those of `open` that hold something.
    active: Vec<usize>,
    ranges: Vec<Range>,
    /// Length of `ranges` at which they are merged.
    limit: usize,
    order: BlockOrder,
}

const FIRST_LIMIT: usize = 4096;

impl BlockLog {
    /// For a kernel with so many instructions that access memory, and blocks of so many warps.
    pub fn new(memory_instructions: usize, warps: usize) -> Self {
        Self {
            warps,
            open: vec![None; memory_instructions * 2 * warps],
            active: Vec::new(),
            ranges: Vec::new(),
            limit: FIRST_LIMIT,
            order: BlockOrder::new(0),
        }
    }

    /// Starts a block, by its number in the grid. What was not finished is forgotten.
    pub fn start(&mut self, block: u32) {
        for index in self.active.drain(..) {
            if let Some(open) = &mut self.open[index] {
                open.lanes = 0;
            }
        }
        self.ranges.clear();
        self.limit = FIRST_LIMIT;
        self.order = BlockOrder::new(block);
    }

    /// A fence of device or system scope by any warp: covers all that the block did so far. A releasing write is a
    /// fence before it.
    pub fn fence(&mut self) {
        self.order.fence();
    }

    /// A volatile or atomic access of `(address, bytes)` by a lane, in the order of execution. Reads acquire at once,
    /// whether or not a fence follows.
    pub fn synchronise(&mut self, state: &mut SyncState, word: (u64, u32), write: bool, read: bool) {
        self.order.synchronise(state, word, write, read);
    }

    /// Lanes access memory.
    pub fn record(&mut self, access: &GlobalAccess<'_>) {
        let same = if access.kind == Kind::Write { access.same & access.mask } else { 0 };
        if same != 0 {
            self.note(access, same, Kind::Read, 1);
        }
        if access.mask & !same != 0 {
            self.note(access, access.mask & !same, access.kind, 0);
        }
    }

    fn note(&mut self, access: &GlobalAccess<'_>, mask: u32, kind: Kind, part: usize) {
        let stamp = self.order.stamp();
        let index = (access.slot * 2 + part) * self.warps + access.warp;
        let key = Key::new(kind, access.instruction, stamp);
        let blank = || Box::new(Open::new(key, access.warp as u32));
        let open = self.open[index].get_or_insert_with(blank);
        if open.lanes == 0 {
            self.active.push(index);
        } else if open.key != key {
            open.flush(open.lanes, &mut self.ranges);
        }
        open.key = key;
        if let Some((start, end, by)) = whole(access, mask) {
            open.extend_whole(start, end, by, &mut self.ranges);
        } else {
            open.extend_lanes(mask, access, &mut self.ranges);
        }
        if self.ranges.len() >= self.limit {
            compact(&mut self.ranges);
            self.limit = FIRST_LIMIT.max(self.ranges.len() * 2);
        }
    }

    /// Ranges in memory.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.ranges.len()
    }

    /// Ends the block; the log can start another.
    pub fn finish(&mut self) -> FinishedLog {
        for index in self.active.drain(..) {
            if let Some(open) = &mut self.open[index] {
                open.flush(open.lanes, &mut self.ranges);
            }
        }
        compact(&mut self.ranges);
        let ranges = self.ranges.as_slice().to_vec();
        self.ranges.clear();
        self.limit = FIRST_LIMIT;
        let (block, stamps) = self.order.finish();
        FinishedLog { block, ranges, stamps }
    }
}

/// The one range of an access whose lanes follow each other in memory, or are all at one place.
#[inline]
fn whole(access: &GlobalAccess<'_>, mask: u32) -> Option<(u64, u64, By)> {
    let (first, count) = run_of(mask)?;
    let addresses = &access.addresses[first..first + count];
    let start = addresses[0];
    let size = u64::from(access.size);
    let one = count > 1 && addresses[1] == start;
    let step = if one { 0 } else { size };
    // Most scattered accesses show in the second lane.
    if !one && count > 1 && addresses[1] != start.wrapping_add(size) {
        return None;
    }
    let regular = match <&[u64; 32]>::try_from(addresses) {
        Ok(addresses) => regular(addresses, step),
        Err(_) => regular(addresses, step),
    };
    let thread = (access.warp * 32 + first) as u32;
    let by = if one { By::Warp(access.warp as u32) } else { By::Threads(thread, access.size) };
    let bytes = if one { size } else { size * count as u64 };
    regular.then(|| (start, start.saturating_add(bytes), by))
}

/// True if each address is so far from the one before.
#[inline(always)]
fn regular(addresses: &[u64], step: u64) -> bool {
    addresses.iter().zip(&addresses[1..]).fold(0, |apart, (one, next)| apart | (next.wrapping_sub(*one) ^ step)) == 0
}

impl Open {
    fn new(key: Key, warp: u32) -> Self {
        Self { key, warp, lanes: 0, whole: None, start: [0; 32], end: [0; 32] }
    }

    #[inline]
    fn extend_whole(&mut self, start: u64, end: u64, by: By, ranges: &mut Vec<Range>) {
        if self.lanes != 0 {
            if let Some(known) = &mut self.whole
                && self.start[0] <= start
                && start <= self.end[0]
            {
                if *known != by || self.start[0] != start {
                    *known = By::Warp(self.warp);
                }
                self.end[0] = self.end[0].max(end);
                return;
            }
            self.flush(self.lanes, ranges);
        }
        self.lanes = 1;
        self.whole = Some(by);
        self.start[0] = start;
        self.end[0] = end;
    }

    fn extend_lanes(&mut self, mask: u32, access: &GlobalAccess<'_>, ranges: &mut Vec<Range>) {
        if self.whole.is_some() {
            self.flush(self.lanes, ranges);
        }
        let size = u64::from(access.size);
        // Every lane goes on where it was: the common case, and one for vector instructions.
        let addresses = access.addresses;
        if mask & self.lanes == u32::MAX
            && self.end.iter().zip(addresses).fold(0, |apart, (end, address)| apart | (end ^ address)) == 0
        {
            for end in &mut self.end {
                *end = end.saturating_add(size);
            }
            return;
        }
        let mut fresh = mask & !self.lanes;
        for lane in super::lanes(mask & self.lanes) {
            let address = addresses[lane];
            if self.start[lane] <= address && address <= self.end[lane] {
                self.end[lane] = self.end[lane].max(address.saturating_add(size));
            } else {
                fresh |= 1 << lane;
            }
        }
        self.flush(fresh & self.lanes, ranges);
        for lane in super::lanes(fresh) {
            self.start[lane] = addresses[lane];
            self.end[lane] = addresses[lane].saturating_add(size);
        }
        self.lanes |= fresh;
    }

    /// Hands over the ranges of some lanes, those that continue each other as one.
    fn flush(&mut self, mask: u32, ranges: &mut Vec<Range>) {
        self.lanes &= !mask;
        let range = |start, end, by| Range { key: self.key, start, end, by };
        if let Some(by) = self.whole.take() {
            ranges.push(range(self.start[0], self.end[0], by));
            return;
        }
        let mut last: Option<(usize, Range)> = None;
        for lane in super::lanes(mask) {
            let (start, end) = (self.start[lane], self.end[lane]);
            let each = u32::try_from(end - start).unwrap_or(u32::MAX);
            let by = By::Threads(self.warp * 32 + lane as u32, each);
            match &mut last {
                Some((before, so_far)) if *before + 1 == lane && so_far.continued(start, by) => {
                    so_far.end = end;
                    *before = lane;
                }
                _ => {
                    ranges.extend(last.map(|(_, range)| range));
                    last = Some((lane, range(start, end, by)));
                }
            }
        }
        ranges.extend(last.map(|(_, range)| range));
    }
}
