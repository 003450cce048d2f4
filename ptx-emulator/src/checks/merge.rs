//! Races between the blocks of a launch, found from their logs.

use super::global::{FinishedLog, Kind};
use super::ranges::Range;
use std::collections::{BTreeMap, BTreeSet};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum GlobalConflictKind {
    /// Two blocks write, unordered.
    WriteWrite,
    /// A block reads what another writes, unordered.
    ReadWrite,
    /// A non-coherent read of what the launch writes, in whatever order.
    NonCoherent,
}

/// Who accessed an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Party {
    pub block: u32,
    pub instruction: u32,
    /// `None` if several did.
    pub warp: Option<u32>,
    /// `None` if several did.
    pub lane: Option<u32>,
    pub write: bool,
}

/// Two accesses that contradict each other: of all of two instructions those at the lowest address, and there of the
/// lowest blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GlobalConflict {
    pub kind: GlobalConflictKind,
    pub address: u64,
    /// Of the lower block.
    pub first: Party,
    pub second: Party,
}

/// What two kinds of access may do wrong. Only non-coherent reads may do so within a block.
fn clash(one: Kind, other: Kind) -> Option<GlobalConflictKind> {
    use GlobalConflictKind::{NonCoherent, ReadWrite, WriteWrite};
    match (one, other) {
        (Kind::NonCoherentRead, other) if other.writes() => Some(NonCoherent),
        (one, Kind::NonCoherentRead) if one.writes() => Some(NonCoherent),
        (Kind::Atomic, Kind::Atomic | Kind::StrongRead | Kind::Guess) => None,
        (Kind::StrongRead | Kind::Guess, Kind::Atomic) => None,
        (one, other) if one.writes() && other.writes() => Some(WriteWrite),
        (one, other) if one.writes() || other.writes() => Some(ReadWrite),
        _ => None,
    }
}

/// A range and where it comes from.
#[derive(Clone, Copy)]
struct Item<'l> {
    log: &'l FinishedLog,
    range: &'l Range,
    group: usize,
}

impl Item<'_> {
    fn party(&self, address: u64) -> Party {
        let (warp, lane) = self.range.by.at(address.saturating_sub(self.range.start));
        let write = self.range.key.kind().writes();
        Party { block: self.log.block, instruction: self.range.key.instruction(), warp, lane, write }
    }

    /// True if either block knew of the other's access.
    fn ordered(&self, other: &Self) -> bool {
        let one = &self.log.stamps[self.range.key.stamp()];
        let two = &other.log.stamps[other.range.key.stamp()];
        one.known.of(other.log.block) >= two.epoch || two.known.of(self.log.block) >= one.epoch
    }
}

/// The conflict of two ranges at an address.
fn conflict(kind: GlobalConflictKind, address: u64, one: &Item<'_>, other: &Item<'_>) -> GlobalConflict {
    let mut parties = [one.party(address), other.party(address)];
    parties.sort_by_key(|party| (party.block, party.instruction, party.write));
    let [first, second] = parties;
    GlobalConflict { kind, address, first, second }
}

/// Finds the conflicts of a launch from the logs of all its blocks, in any order: at most one for each kind and two
/// instructions.
pub(crate) fn merge(mut logs: Vec<FinishedLog>) -> Vec<GlobalConflict> {
    logs.sort_by_key(|log| log.block);
    let (items, groups) = items(&logs);
    let mut events: Vec<_> = (0..items.len())
        .flat_map(|index| {
            let range = items[index].range;
            // At one address, ends come before starts.
            [(range.end, false, index), (range.start, true, index)]
        })
        .collect();
    events.sort_unstable();
    let mut sweep =
        Sweep { items, active: vec![BTreeSet::new(); groups], occupied: BTreeSet::new(), found: BTreeMap::new() };
    for (address, starts, index) in events {
        let group = sweep.items[index].group;
        if starts {
            sweep.enter(address, index);
            sweep.active[group].insert(index);
            sweep.occupied.insert(group);
        } else {
            sweep.active[group].remove(&index);
            if sweep.active[group].is_empty() {
                sweep.occupied.remove(&group);
            }
        }
    }
    sweep.found.into_values().collect()
}

/// All writes, the reads that touch any of them, and the number of groups: of one kind and instruction. Items are in
/// the order of their blocks.
fn items(logs: &[FinishedLog]) -> (Vec<Item<'_>>, usize) {
    let all = || logs.iter().flat_map(|log| log.ranges.iter().map(move |range| (log, range)));
    let mut written: Vec<(u64, u64)> =
        all().filter(|(_, range)| range.key.kind().writes()).map(|(_, range)| (range.start, range.end)).collect();
    written.sort_unstable();
    written.dedup_by(|next, so_far| {
        let touch = next.0 <= so_far.1;
        if touch {
            so_far.1 = so_far.1.max(next.1);
        }
        touch
    });
    let touched = |range: &Range| {
        let index = written.partition_point(|&(_, end)| end <= range.start);
        written.get(index).is_some_and(|&(start, _)| start < range.end)
    };
    let kept: Vec<_> = all().filter(|(_, range)| range.start < range.end && touched(range)).collect();
    let key = |range: &Range| (range.key.kind(), range.key.instruction());
    let keys: BTreeSet<_> = kept.iter().map(|(_, range)| key(range)).collect();
    let groups: BTreeMap<_, _> = keys.into_iter().zip(0..).collect();
    let items = kept.into_iter().map(|(log, range)| Item { log, range, group: groups[&key(range)] }).collect();
    (items, groups.len())
}

/// What is active at the address that the sweep has come to.
struct Sweep<'l> {
    items: Vec<Item<'l>>,
    /// Items by group, those of low blocks first.
    active: Vec<BTreeSet<usize>>,
    /// Groups that have any.
    occupied: BTreeSet<usize>,
    found: BTreeMap<(GlobalConflictKind, u32, u32), GlobalConflict>,
}

impl Sweep<'_> {
    /// Compares a range with those that are active where it starts.
    fn enter(&mut self, address: u64, index: usize) {
        let item = &self.items[index];
        for &group in &self.occupied {
            let Some(first) = self.active[group].first() else { continue };
            let other = self.items[*first].range;
            let Some(kind) = clash(item.range.key.kind(), other.key.kind()) else { continue };
            let [low, high] = [
                item.range.key.instruction().min(other.key.instruction()),
                item.range.key.instruction().max(other.key.instruction()),
            ];
            let best = self.found.get(&(kind, low, high));
            if best.is_some_and(|best| best.address < address) {
                continue;
            }
            let partner = self.active[group].iter().map(|&other| &self.items[other]).find(|other| {
                kind == GlobalConflictKind::NonCoherent || other.log.block != item.log.block && !item.ordered(other)
            });
            let Some(partner) = partner else { continue };
            let new = conflict(kind, address, item, partner);
            if best.is_none_or(|best| (new.first.block, new.second.block) < (best.first.block, best.second.block)) {
                self.found.insert((kind, low, high), new);
            }
        }
    }
}
