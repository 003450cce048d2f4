//! Races between blocks, rule by rule and against a comparison of all pairs.

use super::global::{BlockLog, FinishedLog, GlobalAccess, Kind};
use super::merge::{GlobalConflict, GlobalConflictKind, merge};
use super::order::SyncState;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Blocks of one warp that run step by step.
struct Launch {
    blocks: Vec<BlockLog>,
    state: SyncState,
}

impl Launch {
    fn new(blocks: u32) -> Self {
        let block = |block| {
            let mut log = BlockLog::new(8, 1);
            log.start(block);
            log
        };
        Self { blocks: (0..blocks).map(block).collect(), state: SyncState::default() }
    }

    /// Lane 0 accesses 4 bytes; the instruction is given.
    fn access(&mut self, block: usize, instruction: u32, address: u64, kind: Kind) {
        self.lanes(block, instruction, 1, address, kind);
    }

    fn lanes(&mut self, block: usize, instruction: u32, mask: u32, address: u64, kind: Kind) {
        let addresses = std::array::from_fn(|lane| address + 4 * lane as u64);
        let slot = instruction as usize % 8;
        let access = GlobalAccess { slot, instruction, warp: 0, mask, same: 0, addresses: &addresses, size: 4, kind };
        self.blocks[block].record(&access);
    }

    /// An atomic update of a word.
    fn update(&mut self, block: usize, address: u64) {
        self.access(block, 7, address, Kind::Atomic);
        self.blocks[block].synchronise(&mut self.state, (address, 4), true, true);
    }

    fn store(&mut self, block: usize, address: u64) {
        self.access(block, 6, address, Kind::Atomic);
        self.blocks[block].synchronise(&mut self.state, (address, 4), true, false);
    }

    fn load(&mut self, block: usize, address: u64) {
        self.access(block, 5, address, Kind::StrongRead);
        self.blocks[block].synchronise(&mut self.state, (address, 4), false, true);
    }

    fn finish(mut self) -> Vec<GlobalConflict> {
        merge(self.blocks.iter_mut().map(BlockLog::finish).collect())
    }
}

const FLAG: u64 = 0x9000;

#[test]
fn blocks_that_write_one_address_race() {
    let mut launch = Launch::new(3);
    launch.lanes(2, 1, u32::MAX, 0x1000, Kind::Write);
    launch.lanes(0, 2, u32::MAX, 0x1040, Kind::Write);
    launch.lanes(1, 2, u32::MAX, 0x1040, Kind::Read);
    let found = launch.finish();
    let summary: Vec<_> = found
        .iter()
        .map(|conflict| {
            let party = |party: super::Party| (party.block, party.instruction, party.warp, party.lane, party.write);
            (conflict.kind, conflict.address, party(conflict.first), party(conflict.second))
        })
        .collect();
    assert_eq!(
        summary,
        [
            (GlobalConflictKind::WriteWrite, 0x1040, (0, 2, Some(0), Some(0), true), (2, 1, Some(0), Some(16), true)),
            (GlobalConflictKind::ReadWrite, 0x1040, (1, 2, Some(0), Some(0), false), (2, 1, Some(0), Some(16), true)),
            (GlobalConflictKind::ReadWrite, 0x1040, (0, 2, Some(0), Some(0), true), (1, 2, Some(0), Some(0), false)),
        ]
    );
}

#[test]
fn neighbours_and_reads_and_the_own_block_do_not_race() {
    let mut launch = Launch::new(3);
    for block in 0..3 {
        launch.lanes(block, 1, u32::MAX, 0x1000 + 128 * block as u64, Kind::Write);
        launch.lanes(block, 2, u32::MAX, 0x1000 + 128 * block as u64, Kind::Read);
        launch.lanes(block, 3, u32::MAX, 0x4000, Kind::Read);
    }
    assert_eq!(launch.finish(), []);
}

#[test]
fn atomics_race_with_plain_accesses_only() {
    let race = |one, other| {
        let mut launch = Launch::new(2);
        launch.access(0, 1, 64, one);
        launch.access(1, 2, 64, other);
        launch.finish().first().map(|conflict| conflict.kind)
    };
    use GlobalConflictKind::{NonCoherent, ReadWrite, WriteWrite};
    assert_eq!(race(Kind::Atomic, Kind::Atomic), None);
    assert_eq!(race(Kind::Atomic, Kind::StrongRead), None);
    assert_eq!(race(Kind::StrongRead, Kind::Read), None);
    assert_eq!(race(Kind::Atomic, Kind::Read), Some(ReadWrite));
    assert_eq!(race(Kind::Atomic, Kind::Write), Some(WriteWrite));
    assert_eq!(race(Kind::Write, Kind::StrongRead), Some(ReadWrite));
    assert_eq!(race(Kind::NonCoherentRead, Kind::Read), None);
    assert_eq!(race(Kind::NonCoherentRead, Kind::Atomic), Some(NonCoherent));
}

#[test]
fn non_coherent_reads_of_what_the_launch_writes_are_told_within_a_block_too() {
    let mut launch = Launch::new(1);
    launch.lanes(0, 1, u32::MAX, 64, Kind::NonCoherentRead);
    launch.lanes(0, 2, u32::MAX, 128, Kind::Write);
    let found = launch.finish();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].kind, found[0].address), (GlobalConflictKind::NonCoherent, 128));
    assert_eq!((found[0].first.instruction, found[0].first.lane), (1, Some(16)));
}

/// Each block writes its part, fences and counts; the last to arrive reads all.
fn last_block(fences: bool, counts: bool) -> Vec<GlobalConflict> {
    let mut launch = Launch::new(4);
    for block in 0..4 {
        launch.access(block, 1, 64 + 4 * block as u64, Kind::Write);
        if fences {
            launch.blocks[block].fence();
        }
        if counts {
            launch.update(block, FLAG);
        }
    }
    launch.lanes(3, 2, 15, 64, Kind::Read);
    launch.finish()
}

#[test]
fn the_last_block_may_read_what_was_fenced_and_counted() {
    assert_eq!(last_block(true, true), []);
    assert_eq!(last_block(true, false).len(), 1);
    assert_eq!(last_block(false, true).len(), 1);
}

#[test]
fn what_follows_the_fence_is_not_released() {
    let mut launch = Launch::new(2);
    launch.access(0, 1, 64, Kind::Write);
    launch.blocks[0].fence();
    launch.access(0, 2, 68, Kind::Write);
    launch.update(0, FLAG);
    launch.update(1, FLAG);
    launch.access(1, 3, 64, Kind::Read);
    launch.access(1, 4, 68, Kind::Read);
    let found = launch.finish();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].first.instruction, found[0].second.instruction), (2, 4));
}

#[test]
fn a_second_fence_with_nothing_between_releases_nothing_more() {
    let mut launch = Launch::new(2);
    launch.access(0, 1, 64, Kind::Write);
    launch.blocks[0].fence();
    launch.blocks[0].fence();
    launch.store(0, FLAG);
    launch.access(0, 2, 68, Kind::Write);
    launch.load(1, FLAG);
    launch.access(1, 3, 64, Kind::Read);
    assert_eq!(merge(launch.blocks.iter().map(|log| log.clone().finish()).collect()), []);
    launch.access(1, 4, 68, Kind::Read);
    assert_eq!(launch.finish().len(), 1);
}

#[test]
fn look_back_passes_on_what_predecessors_released() {
    let mut launch = Launch::new(70);
    for block in 0..70 {
        launch.access(block, 1, 64 + 4 * block as u64, Kind::Write);
        if block > 0 {
            launch.load(block, FLAG + 4 * (block as u64 - 1));
        }
        launch.blocks[block].fence();
        launch.store(block, FLAG + 4 * block as u64);
    }
    launch.lanes(69, 2, u32::MAX, 64, Kind::Read);
    assert_eq!(launch.finish(), []);
}

#[test]
fn a_lock_orders_its_holders() {
    let mut launch = Launch::new(5);
    for block in [3, 1, 4, 0, 2] {
        launch.update(block, FLAG);
        launch.blocks[block].fence();
        launch.access(block, 1, 64, Kind::Read);
        launch.access(block, 2, 64, Kind::Write);
        launch.blocks[block].fence();
        launch.store(block, FLAG);
    }
    assert_eq!(launch.finish(), []);
}

#[test]
fn a_plain_store_ends_what_the_word_released() {
    let mut launch = Launch::new(3);
    launch.access(0, 1, 64, Kind::Write);
    launch.blocks[0].fence();
    launch.store(0, FLAG);
    launch.store(1, FLAG);
    launch.load(2, FLAG);
    launch.access(2, 2, 64, Kind::Read);
    assert_eq!(launch.finish().len(), 1);
}

#[derive(Clone, Debug)]
enum Step {
    Access { instruction: u32, at: u64, lanes: u32, kind: Kind },
    Fence,
    Sync { word: u64, write: bool, read: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![
        3 => Just(Kind::Read), 3 => Just(Kind::Write), 1 => Just(Kind::Atomic),
        1 => Just(Kind::StrongRead), 1 => Just(Kind::NonCoherentRead)
    ];
    prop_oneof![
        6 => (0..6_u32, 0..24_u64, 1..5_u32, kind)
            .prop_map(|(instruction, at, lanes, kind)| Step::Access { instruction, at: at * 2, lanes, kind }),
        2 => Just(Step::Fence),
        4 => (0..3_u64, any::<bool>(), any::<bool>()).prop_map(|(word, write, read)| Step::Sync { word, write, read }),
    ]
}

struct Past {
    block: u32,
    instruction: u32,
    kind: Kind,
    bytes: std::ops::Range<u64>,
    /// Accesses that are ordered before this one.
    before: BTreeSet<usize>,
}

type Key = (GlobalConflictKind, u32, u32);

/// Each pair of accesses, and sets of accesses in place of clocks.
fn all_pairs(steps: &[(usize, Step)]) -> BTreeMap<Key, (u64, u32, u32)> {
    let mut past: Vec<Past> = Vec::new();
    let mut before = vec![BTreeSet::new(); 4];
    let mut fenced: Vec<Option<BTreeSet<usize>>> = vec![None; 4];
    let mut words: BTreeMap<u64, BTreeSet<usize>> = BTreeMap::new();
    for (block, step) in steps {
        let known = &mut before[*block];
        match step {
            Step::Access { instruction, at, lanes, kind } => {
                let bytes = *at..*at + u64::from(*lanes) * 4;
                let block = *block as u32;
                past.push(Past { block, instruction: *instruction, kind: *kind, bytes, before: known.clone() });
                known.insert(past.len() - 1);
            }
            Step::Fence => fenced[*block] = Some(known.clone()),
            Step::Sync { word, write, read } => {
                if *read {
                    known.extend(words.get(word).into_iter().flatten());
                }
                if *write && !read {
                    words.remove(word);
                }
                if *write {
                    words.entry(*word).or_default().extend(fenced[*block].iter().flatten());
                }
            }
        }
    }
    let mut found: BTreeMap<Key, (u64, u32, u32)> = BTreeMap::new();
    for (index, two) in past.iter().enumerate() {
        for (other, one) in past[..index].iter().enumerate() {
            let address = one.bytes.start.max(two.bytes.start);
            let overlap = address < one.bytes.end.min(two.bytes.end);
            let writes = |past: &Past| matches!(past.kind, Kind::Write | Kind::Atomic);
            let strong = |past: &Past| matches!(past.kind, Kind::StrongRead | Kind::Atomic);
            let frozen = [one, two].iter().any(|past| past.kind == Kind::NonCoherentRead);
            let kind = match (writes(one), writes(two)) {
                (false, false) => continue,
                _ if frozen => GlobalConflictKind::NonCoherent,
                (true, true) => GlobalConflictKind::WriteWrite,
                _ => GlobalConflictKind::ReadWrite,
            };
            let race = one.block != two.block && !two.before.contains(&other) && !(strong(one) && strong(two));
            if overlap && (race || frozen) {
                let key = (kind, one.instruction.min(two.instruction), one.instruction.max(two.instruction));
                let new = (address, one.block.min(two.block), one.block.max(two.block));
                let best = found.entry(key).or_insert(new);
                *best = new.min(*best);
            }
        }
    }
    found
}

fn run(steps: &[(usize, Step)]) -> Vec<FinishedLog> {
    let mut launch = Launch::new(4);
    for (block, step) in steps {
        match step {
            Step::Access { instruction, at, lanes, kind } => {
                launch.lanes(*block, *instruction, (1 << lanes) - 1, *at, *kind);
            }
            Step::Fence => launch.blocks[*block].fence(),
            Step::Sync { word, write, read } => {
                launch.blocks[*block].synchronise(&mut launch.state, (FLAG + word * 4, 4), *write, *read);
            }
        }
    }
    launch.blocks.iter_mut().map(BlockLog::finish).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_sweep_agrees_with_all_pairs(steps in prop::collection::vec((0..4_usize, step()), 1..40), turn in 0..4_usize) {
        let logs = run(&steps);
        let mut turned = logs.clone();
        turned.rotate_left(turn);
        turned.swap(0, 1);
        let conflicts = merge(logs);
        prop_assert_eq!(&conflicts, &merge(turned));
        let found: BTreeMap<Key, _> = conflicts
            .iter()
            .map(|conflict| {
                let (one, two) = (conflict.first.instruction, conflict.second.instruction);
                ((conflict.kind, one.min(two), one.max(two)), (conflict.address, conflict.first.block, conflict.second.block))
            })
            .collect();
        prop_assert_eq!(found.len(), conflicts.len());
        prop_assert_eq!(found, all_pairs(&steps));
    }
}
