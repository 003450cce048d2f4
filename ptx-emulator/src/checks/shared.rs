//! Shared memory of one block: who wrote and read each granule, and what orders them.

use super::clocks::{Clocks, SEVERAL, Snapshot};
use super::readers::{Readers, Run, none_negative, tag};
use super::signals::{Signal, Signals};
use super::{lanes, run_of};

/// One instruction of a warp.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SharedAccess<'a> {
    pub warp: usize,
    /// Lanes that take part.
    pub mask: u32,
    /// Byte offsets into shared memory; those of other lanes are ignored.
    pub offsets: &'a [u32; 32],
    /// Bytes of each lane, vectors included.
    pub size: u32,
    /// What conflicts name.
    pub instruction: u32,
}

/// Something wrong with one lane of an access. At most one of each kind is told for a lane of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub kind: ConflictKind,
    pub lane: u32,
    /// The first byte of the granule, or of the lane if that is later.
    pub offset: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConflictKind {
    /// Nothing orders the access and an earlier one, and one of them writes.
    Race {
        other_warp: u32,
        /// `None` for several lanes.
        other_lane: Option<u32>,
        other_instruction: u32,
        other_was_write: bool,
    },
    /// A read of what nobody wrote since the block started.
    Uninitialised,
}

/// Accesses that do not race with each other: atomics, and loads and stores that are volatile or relaxed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strong {
    Load,
    Store,
    /// Reads and writes.
    Update,
    /// Sets or clears bits, each for itself, and tells nobody what was there.
    Bits,
}

/// What happened to shared memory. One serves block after block.
#[derive(Clone, Debug)]
pub(crate) struct SharedShadow {
    pub(super) bytes: usize,
    /// Logarithm of the bytes of a granule.
    pub(super) shift: u32,
    pub(super) clocks: Clocks,
    /// Stamp of the last plain write of each granule.
    pub(super) written: Vec<u32>,
    /// Its tag.
    pub(super) writer: Vec<u32>,
    pub(super) reads: Readers,
    /// Atomics that write, once there was one.
    pub(super) atomics: Option<Readers>,
    signals: Signals,
}

/// How an access lies in memory.
enum Shape {
    /// Lane after lane.
    Run(Run),
    /// All lanes, two at least, at one place: its granules.
    One {
        granule: usize,
        count: usize,
    },
    Scattered,
}

impl SharedShadow {
    /// For shared memory of so many bytes and a block of so many warps (at most 32). The granule is the narrowest
    /// shared access of the kernel: 1, 2 or 4 bytes.
    pub fn new(bytes: usize, warps: usize, granule: u32) -> Self {
        let shift = granule.clamp(1, 4).ilog2();
        let granules = bytes.div_ceil(1 << shift);
        let clocks = Clocks::new(warps);
        let reads = Readers::new(granules, clocks.warps());
        let (written, writer) = (vec![0; granules], vec![0; granules]);
        Self { bytes, shift, clocks, written, writer, reads, atomics: None, signals: Signals::default() }
    }

    /// A new block: nothing is written, no warp has done anything.
    pub fn start_block(&mut self) {
        self.signals.start_block();
        if !self.clocks.start_block() {
            self.written.fill(0);
            self.restart();
        }
    }

    /// The warps of the mask have met in a barrier: each is ordered after all that each of them did. Warps that have
    /// exited may be named.
    pub fn barrier(&mut self, warps: u32) {
        self.clocks.barrier(warps);
        self.rebase();
    }

    /// The warp has arrived at a barrier where it does not wait; those that wait acquire the snapshot.
    pub fn release(&mut self, warp: usize) -> Snapshot {
        let snapshot = self.clocks.release(warp);
        self.rebase();
        snapshot
    }

    /// The warp has waited for the release.
    pub fn acquire(&mut self, warp: usize, released: &Snapshot) {
        self.clocks.acquire(warp, released);
        self.rebase();
    }

    /// `bar.warp.sync`. A partial mask counts as the whole warp, which can hide a race but not invent one.
    pub fn warp_sync(&mut self, warp: usize) {
        self.clocks.warp_sync(warp);
        self.rebase();
    }

    /// A fence of any scope.
    pub fn fence(&mut self, warp: usize) {
        self.signals.fence(&mut self.clocks, warp);
        self.rebase();
    }

    /// A volatile or atomic access to any memory, in the order of execution. Reads acquire at once, whether or not a
    /// fence follows.
    pub fn signal(&mut self, signal: &Signal<'_>) {
        self.signals.signal(&mut self.clocks, signal);
        self.rebase();
    }

    /// When clocks run out within a block, all that was counts as ordered: races across this point go unseen.
    fn rebase(&mut self) {
        if self.clocks.exhausted() {
            let base = self.clocks.base();
            for stamp in &mut self.written {
                *stamp = if *stamp > base { 64 } else { 0 };
            }
            self.restart();
        }
    }

    fn restart(&mut self) {
        self.reads.clear();
        if let Some(atomics) = &mut self.atomics {
            atomics.clear();
        }
        self.clocks.restart();
    }

    fn shape(&self, access: &SharedAccess<'_>) -> Shape {
        let size = access.size;
        let each = (size >> self.shift) as usize;
        let Some((first, count)) = run_of(access.mask) else { return Shape::Scattered };
        let offsets = &access.offsets[first..first + count];
        let start = offsets[0];
        if !each.is_power_of_two() || (start | size) & ((1 << self.shift) - 1) != 0 {
            return Shape::Scattered;
        }
        let granule = (start >> self.shift) as usize;
        let one = count > 1 && offsets[1] == start;
        let total = if one { each } else { each * count };
        if granule + total > self.written.len() {
            return Shape::Scattered;
        }
        // Most scattered accesses show in the second lane.
        if !one && count > 1 && offsets[1] != start.wrapping_add(size) {
            return Shape::Scattered;
        }
        let step = if one { 0 } else { size };
        let regular = match <&[u32; 32]>::try_from(offsets) {
            Ok(offsets) => regular(offsets, step),
            Err(_) => regular(offsets, step),
        };
        match (regular, one) {
            (true, true) => Shape::One { granule, count: each },
            (true, false) => Shape::Run(Run { granule, count: total, lane: first as u32, shift: each.ilog2() }),
            _ => Shape::Scattered,
        }
    }

    /// Lanes read.
    pub fn read(&mut self, access: &SharedAccess<'_>, conflicts: &mut Vec<Conflict>) {
        match self.shape(access) {
            Shape::Run(run) if self.readable_run(access.warp, run) => {
                self.reads.note_run(&self.clocks.view(access.warp), run, access.instruction);
            }
            Shape::One { granule, count } if self.readable(access.warp, granule, count) => {
                let me = self.clocks.view(access.warp);
                for granule in granule..granule + count {
                    self.reads.note(&me, granule, SEVERAL, access.instruction);
                }
            }
            _ => self.read_lanes(access, conflicts),
        }
    }

    /// Lanes write. `same` are the lanes that write the bytes that are there already: such a write races with reads
    /// and atomics, but with no other write. `values_differ` tells whether two lanes whose bytes overlap differ in them.
    pub fn write(
        &mut self,
        access: &SharedAccess<'_>,
        same: u32,
        values_differ: impl Fn(usize, usize) -> bool,
        conflicts: &mut Vec<Conflict>,
    ) {
        let shape = self.shape(access);
        if let Shape::Run(run) = shape {
            if !self.writable_run(access.warp, run) {
                self.check_writes(access, same, conflicts);
            }
            self.write_run(access, run);
            return;
        }
        self.check_writes(access, same, conflicts);
        if let Shape::One { granule, count } = shape {
            let first = access.mask.trailing_zeros() as usize;
            if !lanes(access.mask).any(|lane| lane != first && values_differ(first, lane)) {
                let stamp = self.clocks.view(access.warp).step | SEVERAL;
                self.written[granule..granule + count].fill(stamp);
                self.writer[granule..granule + count].fill(tag(access.instruction, access.warp));
                return;
            }
        }
        self.write_lanes(access);
        if self.may_overlap(access) {
            self.overlaps(access, values_differ, conflicts);
        }
    }

    /// Asynchronous copies begin: each must come after all that touched its place. `same` tells the lanes whose copy
    /// changes nothing, as for [`Self::write`].
    pub fn check_copy(&self, access: &SharedAccess<'_>, same: impl FnOnce() -> u32, conflicts: &mut Vec<Conflict>) {
        match self.shape(access) {
            Shape::Run(run) if self.writable_run(access.warp, run) => {}
            _ => self.check_writes(access, same(), conflicts),
        }
    }

    /// The copy of one lane completes: the lane has written.
    pub fn arrive(&mut self, (warp, lane): (usize, usize), (offset, size): (u32, u32), instruction: u32) {
        let lane = lane & 31;
        let mut offsets = [0; 32];
        offsets[lane] = offset;
        self.write_lanes(&SharedAccess { warp, mask: 1 << lane, offsets: &offsets, size, instruction });
    }

    /// Lanes access atomically. An atomic load is checked but not remembered: a plain write that follows it unordered
    /// goes unseen.
    pub fn atomic(&mut self, access: &SharedAccess<'_>, strong: Strong, conflicts: &mut Vec<Conflict>) {
        if strong != Strong::Load && self.atomics.is_none() {
            self.atomics = Some(Readers::new(self.written.len(), self.clocks.warps()));
        }
        for lane in lanes(access.mask) {
            self.atomic_lane(access, strong, lane, conflicts);
        }
    }

    fn write_run(&mut self, access: &SharedAccess<'_>, run: Run) {
        let range = run.granule..run.granule + run.count;
        let step = self.clocks.view(access.warp).step;
        for (written, index) in self.written[range.clone()].iter_mut().zip(0..run.count as u32) {
            *written = step | run.lane(index);
        }
        self.writer[range].fill(tag(access.instruction, access.warp));
    }

    fn readable_run(&self, warp: usize, run: Run) -> bool {
        let me = self.clocks.view(warp);
        let written = &self.written[run.granule..run.granule + run.count];
        let first = me.base + 1;
        (none_negative(written, |stamp| stamp.wrapping_sub(first) | me.floor.wrapping_sub(stamp))
            || none_negative(written, |stamp| stamp.wrapping_sub(first)) && self.written_before_run(warp, run))
            && self.atomics.as_ref().is_none_or(|atomics| atomics.before_run(&me, run))
    }

    fn writable_run(&self, warp: usize, run: Run) -> bool {
        let me = self.clocks.view(warp);
        let written = &self.written[run.granule..run.granule + run.count];
        (none_negative(written, |stamp| me.floor.wrapping_sub(stamp)) || self.written_before_run(warp, run))
            && self.reads.before_run(&me, run)
            && self.atomics.as_ref().is_none_or(|atomics| atomics.before_run(&me, run))
    }

    /// True if all writes are ordered before the lanes of the run, as far as the floor or the own warp decide it.
    fn written_before_run(&self, warp: usize, run: Run) -> bool {
        let me = self.clocks.view(warp);
        let written = &self.written[run.granule..run.granule + run.count];
        let writer = &self.writer[run.granule..run.granule + run.count];
        let each = written.iter().zip(writer).zip(0..run.count as u32);
        each.fold(0, |signs, ((&stamp, &tag), index)| {
            // All ones where the warp or the lane is another.
            let other_warp = u32::from(tag & 31 != warp as u32).wrapping_neg();
            let other_lane = u32::from(stamp & 63 != run.lane(index)).wrapping_neg();
            let after_own = me.own.wrapping_sub(stamp) & other_lane;
            signs | (me.floor.wrapping_sub(stamp) & (other_warp | after_own))
        }) as i32
            >= 0
    }

    /// True if several lanes of the warp may read all the granules.
    fn readable(&self, warp: usize, granule: usize, count: usize) -> bool {
        let me = self.clocks.view(warp);
        (granule..granule + count).all(|granule| {
            let stamp = self.written[granule];
            stamp > me.base
                && stamp <= me.known[self.writer[granule] as usize & 31]
                && self.atomics.as_ref().is_none_or(|atomics| atomics.unordered(&me, granule, SEVERAL + 1).is_none())
        })
    }
}

/// True if each offset is so far from the one before.
#[inline(always)]
fn regular(offsets: &[u32], step: u32) -> bool {
    offsets.iter().zip(&offsets[1..]).fold(0, |apart, (one, next)| apart | (next.wrapping_sub(*one) ^ step)) == 0
}
