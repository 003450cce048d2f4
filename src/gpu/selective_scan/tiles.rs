//! How a scan lies over a GPU: all numbers of its plans, and the rules that choose lanes, blocks and parts.
//!
//! A rule may look at what `Shape` holds, never at the batch or at the device: batch n has the bits of n times batch 1, and
//! every device those of any other.

/// Threads of a block, as in the kernels; forward has twice as many where a channel has several lanes.
pub(super) const THREADS: usize = 128;
/// States that a lane holds in registers, as in the kernels, which read them by quads.
pub(super) const STATES_PER_LANE: usize = 16;
const QUAD: usize = 4;
pub(super) const MOST_LANES: usize = 32;
/// Blocks along y; sequences beyond take turns.
pub(super) const MOST_GRID_Y: u32 = 65_535;
/// Blocks that a launch keeps, or nearly so many, when sequences take turns so that the workspace stays small: as many as the
/// largest devices hold at once.
pub(super) const MANY_BLOCKS: usize = 512;
/// Bytes that blocks may keep in the workspace for each element of x, beyond `MANY_BLOCKS`; less than
/// two thirds of it where parts have rows of states, so that the whole workspace stays below 4.
pub(super) const KEPT_PER_ELEMENT: usize = 2;
/// Channels for each partial sum of dB and dC at the least: 8 dstate / 64 bytes of workspace per element for both.
const CHANNELS_PER_SUM: usize = 64;
/// Elements of x in the calls that plans are made for, 8 sequences of 2048 steps and 2048 channels: 64 MiB in 16 bits. Plans
/// may not look at the batch, so smaller calls leave multiprocessors without work, and larger ones pay for more lanes or
/// parts than they need.
const USUAL_CALL: usize = 1 << 25;
/// Threads that fill a device: two warps for each scheduler of the largest, 132 multiprocessors of four, since one alone
/// issues at most every second clock.
const FILL: usize = 1 << 15;
/// Lanes that forward takes to fill a device: with the last, 16 states are a quad of each lane. With two lanes a state step
/// costs 1.15 times the instructions of one lane, with four 1.5 times.
const LANES_TO_FILL: [usize; 3] = [1, 2, 4];
/// Parts are made for so many blocks, if they keep `LONG_PART` steps, and else for `FEW_BLOCKS`, two for each multiprocessor of
/// the largest devices: the more blocks, the more even is their share, but each begins and ends with its states.
const BLOCKS: usize = 512;
const FEW_BLOCKS: usize = 256;
/// Steps from which on a block's own beginning and end do not matter, and a window of the backward direction keeps less than
/// `KEPT_PER_ELEMENT` bytes for each element.
const LONG_PART: usize = 1024;
/// f32 that a block of the backward direction keeps of the part that it is at work on.
pub(super) const NUMBERS: usize = 40;

/// Bytes of a block's registers, 16 f32 of each thread: the unit of what blocks keep in the workspace.
pub(super) const fn unit(threads: usize) -> usize {
    threads * STATES_PER_LANE * size_of::<f32>()
}

/// Bytes of the workspace that blocks may keep, beyond those of `MANY_BLOCKS`.
pub(super) const fn kept_at_most(elements: usize, split: usize) -> usize {
    if split > 1 { elements.saturating_add(elements / 4) } else { elements.saturating_mul(KEPT_PER_ELEMENT) }
}

/// Steps whose states shared memory holds in the backward direction, and steps whose inputs it holds, as `Places` in the
/// kernel has them.
pub(super) const fn tile_and_stretch(lanes: usize) -> [usize; 2] {
    if lanes == MOST_LANES { [2, 2] } else { [4, 8] }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Forward,
    Backward,
}

/// What a rule may look at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub dim: usize,
    pub dstate: usize,
    /// Channels that share their rows of B and C.
    pub run: usize,
    /// Steps of the longest sequence.
    pub longest: usize,
    /// Parts are multiples of so many steps.
    pub every: usize,
    /// Steps of all sequences if they were as long as the longest, beside those that they have, rounded up: 1 unless packed.
    pub spread: usize,
}

/// What a caller chose instead of a rule.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Forced {
    pub lanes: Option<usize>,
    pub split: Option<usize>,
}

/// Lanes of a channel, and how the channels lie over blocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tiles {
    pub lanes: usize,
    pub threads: usize,
    pub blocks_per_run: usize,
    pub tiles_per_block: usize,
    /// Along x.
    pub blocks: usize,
    pub split: usize,
}

impl Tiles {
    pub fn new(direction: Direction, shape: &Shape, forced: Forced) -> Self {
        let fewest = Self::of_lanes(direction, shape, direction.lanes(1, shape.dstate));
        let split = forced.split.unwrap_or_else(|| direction.parts(shape, &fewest));
        let wanted = forced.lanes.unwrap_or_else(|| direction.wanted_lanes(shape, split));
        Self { split, ..Self::of_lanes(direction, shape, direction.lanes(wanted, shape.dstate)) }
    }

    fn of_lanes(direction: Direction, shape: &Shape, lanes: usize) -> Self {
        let threads = direction.threads(lanes);
        let run = shape.run;
        let tiles = run.div_ceil(threads / lanes);
        let most_blocks = match direction {
            Direction::Forward => tiles,
            Direction::Backward => (run / CHANNELS_PER_SUM).clamp(1, tiles.max(1)),
        };
        let tiles_per_block = tiles.div_ceil(most_blocks.max(1));
        let blocks_per_run = tiles.div_ceil(tiles_per_block.max(1));
        Self { lanes, threads, blocks_per_run, tiles_per_block, blocks: shape.dim / run * blocks_per_run, split: 1 }
    }
}

impl Direction {
    /// For which there are kernels.
    pub const fn all_lanes(self) -> &'static [usize] {
        match self {
            Self::Forward => &[1, 2, 4, 8, 32],
            Self::Backward => &[1, 4, 8, 32],
        }
    }

    /// The fewest that are as many as wanted and hold all states, or the most there are.
    fn lanes(self, wanted: usize, dstate: usize) -> usize {
        let enough = |&lanes: &usize| lanes >= wanted && lanes * STATES_PER_LANE >= dstate;
        self.all_lanes().iter().copied().find(enough).unwrap_or(MOST_LANES)
    }

    /// As few as fill a device. Backward the fewest there are: it goes through as many states as its lanes can hold.
    fn wanted_lanes(self, shape: &Shape, split: usize) -> usize {
        let threads = shape.usual_channels().max(shape.dim.saturating_mul(split));
        let fills = |&lanes: &usize| threads.saturating_mul(lanes) >= FILL;
        match self {
            // A lane without a quad of its own has nothing to do.
            Self::Forward => {
                let [.., most] = LANES_TO_FILL;
                LANES_TO_FILL.into_iter().find(fills).unwrap_or(most).min(shape.dstate.div_ceil(QUAD))
            }
            Self::Backward => 1,
        }
    }

    /// Of each sequence. Forward goes twice through sequences in parts, so it cuts only those of which a usual call does not
    /// half fill a device, whatever their lanes. Backward pays a quarter, and cuts where a usual call does not fill it.
    fn parts(self, shape: &Shape, fewest: &Tiles) -> usize {
        let [.., most] = LANES_TO_FILL;
        // Threads, of which a block that takes several tiles of channels in turn has fewer for each.
        let of = |channels: usize| channels.saturating_mul(fewest.lanes) / fewest.tiles_per_block.max(1);
        let (usual, alone) = (of(shape.usual_channels()), of(shape.dim));
        let cut = match self {
            Self::Forward => usual.saturating_mul(most) <= FILL / 2 && alone.saturating_mul(most) <= FILL,
            Self::Backward => usual < FILL && alone < FILL,
        };
        if cut { shape.longest.div_ceil(shape.part(fewest.blocks)).max(1) } else { 1 }
    }

    /// Of a block. Forward so many that 128 channels share B and C where a channel has one lane or two.
    fn threads(self, lanes: usize) -> usize {
        if self == Self::Backward || lanes == 1 { THREADS } else { 2 * THREADS }
    }
}

impl Shape {
    /// Side by side in a usual call of such sequences.
    fn usual_channels(&self) -> usize {
        USUAL_CALL / self.longest.max(1)
    }

    /// Steps of a part where a sequence has so many blocks. Every sequence has rows of states for as many parts as the longest,
    /// so that packed with many shorter ones it is cut into fewer.
    fn part(&self, blocks: usize) -> usize {
        let of = |all: usize| self.longest.saturating_mul(blocks) / all / self.every * self.every;
        let part = if of(BLOCKS) >= LONG_PART { of(BLOCKS) } else { of(FEW_BLOCKS).min(LONG_PART) };
        part.max(self.every.saturating_mul(self.spread))
    }
}
