//! Execution of one block: warps in lockstep, taking turns.

mod access;
mod atomics;
mod barrier;
mod block;
mod copies;
mod counting;
mod elements;
mod exchange;
mod guesses;
mod lanes;
mod noting;
mod places;
mod run;
mod taint;
mod warp;

pub(crate) use block::{Block, Progress};
pub(crate) use counting::Tally;

use crate::device::DeviceId;
use crate::forms::Level;
use crate::memory::Memory;
use crate::program::Program;

/// What is looked for beside bounds and alignment, which always are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checks {
    /// Reads of registers and memory that nobody has written.
    pub uninitialised: bool,
    /// Races in shared memory, between blocks in global memory, and non-coherent reads of what is written.
    pub races: bool,
}

impl Checks {
    /// Everything: the default.
    pub const ALL: Self = Self { uninitialised: true, races: true };
    /// Bounds, alignment, barriers and shuffles alone: the fastest.
    pub const BOUNDS: Self = Self { uninitialised: false, races: false };
}

impl Default for Checks {
    fn default() -> Self {
        Self::ALL
    }
}

/// What all blocks of a launch share.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    pub program: &'a Program,
    /// What the program was lowered for.
    pub level: Level,
    pub device: DeviceId,
    pub memory: &'a Memory,
    pub params: &'a [u8],
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub dynamic_shared: u32,
    pub checks: Checks,
    pub counting: bool,
    /// Shuffled and adversarial mode: the seed of the order.
    pub order: Option<u64>,
    /// Adversarial mode: approximate operations err.
    pub disturbed: bool,
    /// Instructions that one warp may execute.
    pub budget: u64,
}

impl Launch<'_> {
    pub fn threads(&self) -> u32 {
        self.block.iter().product()
    }
}
