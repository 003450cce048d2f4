//! The last access of each warp to each granule, for accesses that do not race with each other: reads, or atomics.

use super::clocks::{LANE_BITS, SEVERAL, View, lane_of};

/// Instruction and warp in one word. Kernels stay far below 2^27 instructions.
#[inline]
pub(super) fn tag(instruction: u32, warp: usize) -> u32 {
    instruction << 5 | warp as u32
}

/// The instruction and the warp of a tag.
pub(super) fn untag(tag: u32) -> (u32, u32) {
    (tag >> 5, tag & 31)
}

/// Granules that follow each other, shared out to lanes that follow each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub granule: usize,
    /// Granules.
    pub count: usize,
    pub lane: u32,
    /// Logarithm of the granules of a lane.
    pub shift: u32,
}

impl Run {
    /// The lane of a granule of the run.
    #[inline]
    pub fn lane(self, index: u32) -> u32 {
        self.lane.wrapping_add(index >> self.shift)
    }
}

/// An earlier access that nothing orders.
#[derive(Clone, Copy, Debug)]
pub(super) struct Earlier {
    pub warp: u32,
    pub lane: Option<u32>,
    pub instruction: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Readers {
    granules: usize,
    warps: usize,
    /// The highest stamp of all warps, without its lane.
    latest: Vec<u32>,
    /// The last instruction of each warp that accessed it, ordered as the stamps are.
    instructions: Vec<u32>,
    /// Stamps, the granules of warp 0 first. Earlier stamps of a warp are implied: whoever is ordered after the last
    /// step is ordered after those before.
    stamps: Vec<u32>,
}

impl Readers {
    pub fn new(granules: usize, warps: usize) -> Self {
        Self {
            granules,
            warps,
            latest: vec![0; granules],
            instructions: vec![0; granules.saturating_mul(warps)],
            stamps: vec![0; granules.saturating_mul(warps)],
        }
    }

    pub fn clear(&mut self) {
        self.latest.fill(0);
        self.stamps.fill(0);
    }

    /// Notes an access by each lane of the run.
    pub fn note_run(&mut self, me: &View<'_>, run: Run, instruction: u32) {
        let start = me.warp * self.granules + run.granule;
        let stamps = &mut self.stamps[start..start + run.count];
        for (stamp, index) in stamps.iter_mut().zip(0..run.count as u32) {
            *stamp = me.step | merged(*stamp, run.lane(index), me);
        }
        for latest in &mut self.latest[run.granule..run.granule + run.count] {
            *latest = (*latest as i32).max(me.step as i32) as u32;
        }
        self.instructions[start..start + run.count].fill(instruction);
    }

    /// Notes an access by a lane, or by `SEVERAL`.
    #[inline]
    pub fn note(&mut self, me: &View<'_>, granule: usize, lane: u32, instruction: u32) {
        let place = me.warp * self.granules + granule;
        let stamp = &mut self.stamps[place];
        *stamp = me.step | merged(*stamp, lane, me);
        let latest = &mut self.latest[granule];
        *latest = (*latest).max(me.step);
        self.instructions[place] = instruction;
    }

    /// True if all accesses to all granules of the run are ordered before its lanes.
    pub fn before_run(&self, me: &View<'_>, run: Run) -> bool {
        let range = run.granule..run.granule + run.count;
        if none_negative(&self.latest[range], |latest| me.floor.wrapping_sub(latest)) {
            return true;
        }
        (0..self.warps).all(|warp| {
            let start = warp * self.granules + run.granule;
            let stamps = &self.stamps[start..start + run.count];
            let known = me.known[warp];
            if none_negative(stamps, |stamp| known.wrapping_sub(stamp)) {
                return true;
            }
            let ordered = |(index, &stamp): (u32, &u32)| stamp <= known || stamp & 63 == run.lane(index);
            warp == me.warp && (0..).zip(stamps).all(ordered)
        })
    }

    /// An access that is not ordered before the lane, one of those with the highest step.
    #[inline]
    pub fn unordered(&self, me: &View<'_>, granule: usize, lane: u32) -> Option<Earlier> {
        if self.latest[granule] <= me.floor { None } else { self.find(me, granule, lane) }
    }

    #[cold]
    fn find(&self, me: &View<'_>, granule: usize, lane: u32) -> Option<Earlier> {
        let unordered = (0..self.warps).filter_map(|warp| {
            let place = warp * self.granules + granule;
            let stamp = self.stamps[place];
            let before = stamp <= me.known[warp] || (warp == me.warp && stamp & 63 == lane);
            (!before).then_some((stamp, warp, self.instructions[place]))
        });
        let (stamp, warp, instruction) = unordered.max_by_key(|&(stamp, ..)| stamp >> LANE_BITS)?;
        Some(Earlier { warp: warp as u32, lane: lane_of(stamp), instruction })
    }
}

/// The lane of a stamp that replaces another: several, unless the other is ordered or of the same lane.
#[inline]
fn merged(old: u32, lane: u32, me: &View<'_>) -> u32 {
    if (old as i32 > me.own as i32) & (old & 63 != lane) { SEVERAL } else { lane }
}

/// True if the excess of no element is negative. Looks at every element, which is what vector instructions can do.
#[inline]
pub(super) fn none_negative(stamps: &[u32], excess: impl Fn(u32) -> u32) -> bool {
    stamps.iter().fold(0, |signs, &stamp| signs | excess(stamp)) as i32 >= 0
}
