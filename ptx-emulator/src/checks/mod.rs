//! Dynamic checks of a running kernel: races and uninitialised reads in shared memory, races between blocks in global
//! memory. They know nothing of instructions; the interpreter tells them what a warp accesses and how it synchronises.

mod clocks;
mod global;
mod merge;
mod order;
mod ranges;
mod readers;
mod shared;
mod shared_lanes;
mod signals;

#[cfg(test)]
mod global_tests;
#[cfg(test)]
mod merge_tests;
#[cfg(test)]
mod shared_oracle;
#[cfg(test)]
mod shared_tests;
#[cfg(test)]
mod signals_tests;

pub(crate) use clocks::Snapshot;
pub(crate) use global::{BlockLog, FinishedLog, GlobalAccess, Kind};
pub(crate) use merge::{GlobalConflict, GlobalConflictKind, Party, merge};
pub(crate) use order::SyncState;
pub(crate) use shared::{Conflict, ConflictKind, SharedAccess, SharedShadow, Strong};
pub(crate) use signals::Signal;

/// The first lane and the number of lanes, if the lanes of the mask follow each other.
fn run_of(mask: u32) -> Option<(usize, usize)> {
    let first = mask.trailing_zeros();
    let count = mask.count_ones();
    (count > 0 && mask >> first == u32::MAX >> (32 - count)).then_some((first as usize, count as usize))
}

/// The lanes of a mask, in order.
fn lanes(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lane = mask.trailing_zeros() as usize;
        (mask != 0).then(|| {
            mask &= mask.wrapping_sub(1);
            lane
        })
    })
}
