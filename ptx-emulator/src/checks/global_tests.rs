//! The log of one block: ranges are exact, few, and know their threads.

use super::global::{BlockLog, GlobalAccess, Kind};
use super::ranges::By;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn log(log: &mut BlockLog, slot: usize, warp: usize, mask: u32, address: impl Fn(u64) -> u64, size: u32) {
    let addresses = std::array::from_fn(|lane| address(lane as u64));
    let instruction = slot as u32 * 10;
    let kind = Kind::Read;
    log.record(&GlobalAccess { slot, instruction, warp, mask, same: 0, addresses: &addresses, size, kind });
}

#[test]
fn warps_that_follow_each_other_are_one_range_of_threads() {
    let mut block = BlockLog::new(2, 4);
    block.start(7);
    for warp in [2, 0, 1, 3] {
        log(&mut block, 1, warp, u32::MAX, |lane| 4096 + warp as u64 * 128 + lane * 4, 4);
    }
    let done = block.finish();
    assert_eq!((done.block, done.ranges.len()), (7, 1));
    let range = done.ranges[0];
    assert_eq!((range.start, range.end, range.key.instruction()), (4096, 4096 + 512, 10));
    assert_eq!(range.by.at(128 * 2 + 4 * 5 + 3), (Some(2), Some(5)));
}

#[test]
fn lanes_that_walk_rows_have_a_range_each() {
    let mut block = BlockLog::new(1, 1);
    for step in 0..50 {
        log(&mut block, 0, 0, u32::MAX, |lane| 1000 * lane + step * 8, 8);
    }
    let done = block.finish();
    assert_eq!(done.ranges.len(), 32);
    for (lane, range) in (0..).zip(&done.ranges) {
        assert_eq!((range.start, range.end), (1000 * lane, 1000 * lane + 400));
        assert_eq!(range.by.at(399), (Some(0), Some(lane as u32)));
    }
}

#[test]
fn a_warp_that_walks_on_forgets_its_lanes_and_rows_that_meet_are_one() {
    let mut block = BlockLog::new(1, 2);
    for step in 0..50 {
        log(&mut block, 0, 1, u32::MAX, |lane| step * 128 + lane * 4, 4);
    }
    for step in 0..8 {
        log(&mut block, 0, 0, u32::MAX, |lane| 10_000 + lane * 32 + step * 4, 4);
    }
    log(&mut block, 0, 0, u32::MAX, |_| 20_000, 4);
    let ranges: Vec<_> = block.finish().ranges.iter().map(|range| (range.start, range.end, range.by)).collect();
    assert_eq!(ranges, [(0, 6400, By::Warp(1)), (10_000, 11_024, By::Threads(0, 32)), (20_000, 20_004, By::Warp(0))]);
}

#[test]
fn memory_is_bounded_by_the_ranges_that_differ() {
    let mut block = BlockLog::new(1, 1);
    for step in 0..100_000_u64 {
        log(&mut block, 0, 0, 0x5555_5555, |lane| lane * 64 + step % 7 * 4096, 4);
    }
    assert!(block.held() < 10_000);
    assert_eq!(block.finish().ranges.len(), 7 * 16);
    assert_eq!(block.finish().ranges.len(), 0);
}

#[test]
fn stores_that_change_nothing_count_as_reads() {
    let mut block = BlockLog::new(1, 1);
    let addresses = std::array::from_fn(|lane| lane as u64 * 4);
    let kind = Kind::Write;
    block.record(&GlobalAccess {
        slot: 0,
        instruction: 3,
        warp: 0,
        mask: 0xFF,
        same: 0xFFF0,
        addresses: &addresses,
        size: 4,
        kind,
    });
    let ranges: Vec<_> = block.finish().ranges.iter().map(|range| (range.key.kind(), range.start, range.end)).collect();
    assert_eq!(ranges, [(Kind::Read, 16, 32), (Kind::Write, 0, 16)]);
}

#[test]
fn a_block_that_starts_forgets_what_was_not_finished() {
    let mut block = BlockLog::new(1, 1);
    log(&mut block, 0, 0, u32::MAX, |lane| lane * 4, 4);
    block.start(1);
    log(&mut block, 0, 0, 1, |_| 500, 4);
    let done = block.finish();
    assert_eq!(done.ranges.iter().map(|range| (range.start, range.end)).collect::<Vec<_>>(), [(500, 504)]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Bytes by slot are those of the accesses, and whoever is named has accessed them.
    #[test]
    fn ranges_are_exact(
        accesses in prop::collection::vec(
            (0..2_usize, 0..2_usize, prop_oneof![Just(u32::MAX), any::<u32>(), Just(0xFF0)], 0..400_u64,
             prop_oneof![Just(0_u64), Just(4), Just(8), Just(12)], prop_oneof![Just(4_u32), Just(8)]), 0..40),
    ) {
        let mut block = BlockLog::new(2, 2);
        let mut bytes = BTreeSet::new();
        for &(slot, warp, mask, start, stride, size) in &accesses {
            let address = |lane: u64| start * 4 + lane * stride;
            log(&mut block, slot, warp, mask, address, size);
            for lane in (0..32).filter(|lane| mask >> lane & 1 != 0) {
                let touched = address(lane)..address(lane) + u64::from(size);
                bytes.extend(touched.map(|byte| (slot as u32 * 10, byte, warp as u32, lane as u32)));
            }
        }
        let ranges = block.finish().ranges;
        let found: Vec<_> = ranges.iter().flat_map(|range| (range.start..range.end).map(|byte| (range.key.instruction(), byte))).collect();
        let expected: BTreeSet<_> = bytes.iter().map(|&(instruction, byte, ..)| (instruction, byte)).collect();
        prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
        for range in &ranges {
            for byte in range.start..range.end {
                let of = bytes.range((range.key.instruction(), byte, 0, 0)..(range.key.instruction(), byte + 1, 0, 0));
                let (warp, lane) = range.by.at(byte - range.start);
                let named = |by: &(u32, u64, u32, u32)| warp.is_none_or(|warp| warp == by.2) && lane.is_none_or(|lane| lane == by.3);
                prop_assert!(of.clone().any(named), "{range:?} at {byte}");
                prop_assert!(warp.is_none() || of.clone().all(|by| Some(by.2) == warp), "{range:?} at {byte}");
            }
        }
    }
}

#[test]
#[ignore = "prints times"]
fn times() {
    type Pattern = (&'static str, fn(u64, u64) -> u64);
    let patterns: [Pattern; 5] = [
        ("contiguous, onwards", |step, lane| step * 128 + lane * 4),
        ("contiguous, apart", |step, lane| step * 4096 + lane * 4),
        ("one place", |step, _| step * 4),
        ("rows", |step, lane| lane * (1 << 20) + step * 4),
        ("anywhere", |step, lane| (lane * 7 + step * 13) % 31 * 1024),
    ];
    for (name, pattern) in patterns {
        let mut block = BlockLog::new(1, 1);
        let rows: Vec<[u64; 32]> =
            (0..1000).map(|step| std::array::from_fn(|lane| pattern(step, lane as u64))).collect();
        let started = std::time::Instant::now();
        for round in 0..200_000 {
            let addresses = &rows[round % 1000];
            block.record(&GlobalAccess {
                slot: 0,
                instruction: 1,
                warp: 0,
                mask: u32::MAX,
                same: 0,
                addresses,
                size: 4,
                kind: Kind::Read,
            });
        }
        println!("{name}: {:.1} ns, {} ranges", started.elapsed().as_nanos() as f64 / 2e5, block.finish().ranges.len());
    }
}
