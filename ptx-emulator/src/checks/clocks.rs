//! Who is ordered after whom within a block: a vector clock for each warp.
//!
//! A warp counts steps, and its accesses carry a stamp: the step, and the lane in the low bits. What a warp knows of
//! another is a limit: all stamps up to it are ordered before what the warp does next. What it knows of itself orders
//! its lanes among themselves; lanes of one warp run in any order until they synchronise.

/// The most warps of a block, on any device.
pub(crate) const WARPS: usize = 32;

/// Bits of a stamp below the step.
pub(super) const LANE_BITS: u32 = 6;

/// In place of a lane: several lanes.
pub(super) const SEVERAL: u32 = 32;

/// Stamps stay below 2^31, so that comparisons can be signed, which plain x86-64 has for vectors.
const LAST_STEP: u32 = (1 << 25) - 2 - ONE_SIGNAL;

/// Steps that one signal takes at most: it releases once, and learns of its own warp's releases before and after.
const ONE_SIGNAL: u32 = 4;

/// Above all stamps.
const ABOVE: u32 = i32::MAX as u32;

/// The last stamp of a step.
const fn limit(step: u32) -> u32 {
    step << LANE_BITS | 63
}

/// The lane of a stamp, `None` if there were several.
pub(super) fn lane_of(stamp: u32) -> Option<u32> {
    let lane = stamp & 63;
    (lane < SEVERAL).then_some(lane)
}

/// What a warp knew when it released, itself included.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snapshot {
    generation: u32,
    known: [u32; WARPS],
}

impl Snapshot {
    /// Adds another. All that was before the clocks started again is known to all.
    pub fn join(&mut self, other: &Self) {
        if self.generation == other.generation {
            join(&mut self.known, &other.known);
        } else {
            *self = *other;
        }
    }
}

/// The clocks as one warp sees them.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'c> {
    pub warp: usize,
    /// Stamp of lane 0 of the present step.
    pub step: u32,
    /// Stamps up to here are of earlier blocks.
    pub base: u32,
    /// Limit for its own lanes.
    pub own: u32,
    /// Limit that holds for every warp.
    pub floor: u32,
    pub known: &'c [u32; WARPS],
}

/// The clocks of all warps of a block.
#[derive(Clone, Debug)]
pub(super) struct Clocks {
    warps: usize,
    steps: [u32; WARPS],
    /// Limits; those for warps that the block does not have are above all stamps.
    known: Box<[[u32; WARPS]; WARPS]>,
    floors: [u32; WARPS],
    base: u32,
    /// Advances when steps start again from 0, which makes old snapshots void.
    generation: u32,
    last_step: u32,
}

impl Clocks {
    pub fn new(warps: usize) -> Self {
        let mut clocks = Self {
            warps: warps.clamp(1, WARPS),
            steps: [0; WARPS],
            known: Box::new([[ABOVE; WARPS]; WARPS]),
            floors: [0; WARPS],
            base: 0,
            generation: 0,
            last_step: LAST_STEP,
        };
        clocks.begin(0);
        clocks
    }

    /// Lets steps run out early.
    #[cfg(test)]
    pub fn set_last_step(&mut self, step: u32) {
        self.last_step = step;
    }

    pub fn warps(&self) -> usize {
        self.warps
    }

    pub fn base(&self) -> u32 {
        self.base
    }

    /// A stamp of this block that all warps are ordered after.
    pub fn settled(&self) -> u32 {
        self.base + 1
    }

    /// Forgets what came up to `step`; the step after it is the settled one.
    fn begin(&mut self, step: u32) {
        self.base = limit(step);
        let settled = limit(step + 1);
        for row in self.known.iter_mut() {
            row[..self.warps].fill(settled);
        }
        self.floors = [settled; WARPS];
        self.steps = [step + 2; WARPS];
    }

    /// Starts a block. False if steps have run out: then stamps must be cleared and `restart` called.
    #[must_use]
    pub fn start_block(&mut self) -> bool {
        let top = self.top(u32::MAX);
        let room = top < self.last_step.saturating_sub(4);
        if room {
            self.begin(top);
        }
        room
    }

    /// Steps start again, all stamps being 0 or settled.
    pub fn restart(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        self.begin(0);
    }

    /// True when `restart` is due.
    pub fn exhausted(&self) -> bool {
        self.top(u32::MAX) >= self.last_step
    }

    /// The highest step of some warps.
    fn top(&self, warps: u32) -> u32 {
        self.members(warps).map(|warp| self.steps[warp]).max().unwrap_or(0)
    }

    /// Warps of the mask that the block has.
    fn members(&self, warps: u32) -> impl Iterator<Item = usize> + use<> {
        super::lanes(warps & u32::MAX >> (WARPS - self.warps))
    }

    #[inline]
    pub fn view(&self, warp: usize) -> View<'_> {
        View {
            warp,
            step: self.steps[warp] << LANE_BITS,
            base: self.base,
            own: self.known[warp][warp],
            floor: self.floors[warp],
            known: &self.known[warp],
        }
    }

    fn know(&mut self, warp: usize, known: [u32; WARPS]) {
        self.known[warp] = known;
        self.floors[warp] = known.into_iter().fold(ABOVE as i32, |floor, limit| floor.min(limit as i32)) as u32;
    }

    /// The warps of the mask meet: each is ordered after all that any of them did.
    pub fn barrier(&mut self, warps: u32) {
        let top = self.top(warps);
        if self.members(warps).count() == self.warps {
            for row in &mut self.known[..self.warps] {
                row[..self.warps].fill(limit(top));
            }
            self.floors = [limit(top); WARPS];
            self.steps = [top + 1; WARPS];
            return;
        }
        let mut joined = [0; WARPS];
        for warp in self.members(warps) {
            join(&mut joined, &self.known[warp]);
        }
        // A common step keeps the floors high, which is the fast way through the checks.
        for warp in self.members(warps) {
            joined[warp] = limit(top);
        }
        for warp in self.members(warps) {
            self.know(warp, joined);
            self.steps[warp] = top + 1;
        }
    }

    /// What the warp did so far, for others to acquire. Its own lanes stay unordered.
    pub fn release(&mut self, warp: usize) -> Snapshot {
        let mut known = self.known[warp];
        known[warp] = limit(self.steps[warp]);
        self.steps[warp] += 1;
        Snapshot { generation: self.generation, known }
    }

    /// Orders the warp after what was released. Acquiring what depends on its own release orders its own lanes too.
    pub fn acquire(&mut self, warp: usize, released: &Snapshot) {
        // All that was before a restart is known to all.
        if released.generation != self.generation {
            return;
        }
        let mut known = self.known[warp];
        let returned = released.known[warp] > known[warp];
        join(&mut known, &released.known);
        if returned {
            known[warp] = limit(self.steps[warp]);
            self.steps[warp] += 1;
        }
        self.know(warp, known);
    }

    /// Orders the lanes of a warp.
    pub fn warp_sync(&mut self, warp: usize) {
        let mut known = self.known[warp];
        known[warp] = limit(self.steps[warp]);
        self.steps[warp] += 1;
        self.know(warp, known);
    }
}

fn join(into: &mut [u32; WARPS], other: &[u32; WARPS]) {
    for (mine, theirs) in into.iter_mut().zip(other) {
        *mine = (*mine as i32).max(*theirs as i32) as u32;
    }
}
