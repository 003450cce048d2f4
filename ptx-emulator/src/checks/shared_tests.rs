//! One rule of the shared memory shadow after the other.

use super::shared::{Conflict, ConflictKind, SharedAccess, SharedShadow, Strong};

/// A shadow of 256 bytes and four warps, and short names for what warps do to it.
pub(super) struct Bench {
    pub shadow: SharedShadow,
    instruction: u32,
}

impl Bench {
    fn new(granule: u32) -> Self {
        Self { shadow: SharedShadow::new(256, 4, granule), instruction: 0 }
    }

    /// With all of memory written by warp 0, and known to all.
    pub fn written(granule: u32) -> Self {
        let mut bench = Self::new(granule);
        assert_eq!(bench.write(0, u32::MAX, |lane| lane * 8, 8), []);
        bench.shadow.barrier(15);
        bench
    }

    fn access(
        &mut self,
        warp: usize,
        mask: u32,
        offset: impl Fn(u32) -> u32,
        size: u32,
        act: impl FnOnce(&mut SharedShadow, &SharedAccess<'_>, &mut Vec<Conflict>),
    ) -> Vec<Conflict> {
        let offsets = std::array::from_fn(|lane| offset(lane as u32));
        let mut conflicts = Vec::new();
        self.instruction += 1;
        let access = SharedAccess { warp, mask, offsets: &offsets, size, instruction: self.instruction };
        act(&mut self.shadow, &access, &mut conflicts);
        conflicts
    }

    pub fn read(&mut self, warp: usize, mask: u32, offset: impl Fn(u32) -> u32, size: u32) -> Vec<Conflict> {
        self.access(warp, mask, offset, size, |shadow, access, conflicts| shadow.read(access, conflicts))
    }

    pub fn write(&mut self, warp: usize, mask: u32, offset: impl Fn(u32) -> u32, size: u32) -> Vec<Conflict> {
        self.access(warp, mask, offset, size, |shadow, access, conflicts| {
            shadow.write(access, 0, |_, _| true, conflicts);
        })
    }

    fn write_same(&mut self, warp: usize, mask: u32, offset: impl Fn(u32) -> u32, size: u32) -> Vec<Conflict> {
        self.access(warp, mask, offset, size, |shadow, access, conflicts| {
            shadow.write(access, mask, |_, _| false, conflicts);
        })
    }

    fn atomic(&mut self, warp: usize, mask: u32, offset: impl Fn(u32) -> u32, strong: Strong) -> Vec<Conflict> {
        self.access(warp, mask, offset, 4, |shadow, access, conflicts| shadow.atomic(access, strong, conflicts))
    }
}

fn race(lane: u32, offset: u32, other: (u32, Option<u32>), instruction: u32, write: bool) -> Conflict {
    let kind = ConflictKind::Race {
        other_warp: other.0,
        other_lane: other.1,
        other_instruction: instruction,
        other_was_write: write,
    };
    Conflict { kind, lane, offset }
}

pub(super) fn row(lane: u32) -> u32 {
    lane * 4
}

#[test]
fn a_missing_barrier_is_found_and_a_barrier_orders() {
    let mut bench = Bench::written(4);
    assert_eq!(bench.write(0, u32::MAX, row, 4), []);
    let found = bench.read(1, u32::MAX, |lane| (31 - lane) * 4, 4);
    assert_eq!(found.len(), 32);
    assert_eq!(found[3], race(3, 28 * 4, (0, Some(28)), 2, true));
    bench.shadow.barrier(3);
    assert_eq!(bench.read(1, u32::MAX, row, 4), []);
    // Warps 2 and 3 were not there.
    assert_eq!(bench.read(2, u32::MAX, row, 4).len(), 32);
    assert_eq!(bench.read(3, 1, row, 4), [race(0, 0, (0, Some(0)), 2, true)]);
}

#[test]
fn a_write_after_a_read_needs_a_barrier() {
    let mut bench = Bench::written(4);
    assert_eq!(bench.read(0, u32::MAX, row, 4), []);
    assert_eq!(bench.write(1, 2, row, 4), [race(1, 4, (0, Some(1)), 2, false)]);
    bench.shadow.barrier(15);
    assert_eq!(bench.write(1, 4, row, 4), []);
    assert_eq!(bench.write(1, u32::MAX, |lane| 128 + lane * 4, 4), []);
}

#[test]
fn a_named_barrier_orders_consumers_after_producers_and_not_the_reverse() {
    let mut bench = Bench::written(4);
    assert_eq!(bench.write(0, u32::MAX, row, 4), []);
    assert_eq!(bench.read(1, u32::MAX, |lane| 128 + lane * 4, 4), []);
    let arrived = bench.shadow.release(0);
    bench.shadow.acquire(1, &arrived);
    assert_eq!(bench.read(1, u32::MAX, row, 4), []);
    // The producer does not know what the consumer read, and what it does after its arrival is not covered.
    assert_eq!(bench.write(0, 1, |_| 128, 4), [race(0, 128, (1, Some(0)), 3, false)]);
    assert_eq!(bench.write(0, 1, |_| 160, 4).len(), 1);
    assert_eq!(bench.read(1, 1, |_| 160, 4), [race(0, 160, (0, Some(0)), 6, true)]);
}

#[test]
fn an_arrival_does_not_order_the_lanes_of_its_warp() {
    let mut bench = Bench::written(4);
    assert_eq!(bench.write(0, 1, |_| 0, 4), []);
    bench.shadow.release(0);
    assert_eq!(bench.read(0, 2, |_| 0, 4), [race(1, 0, (0, Some(0)), 2, true)]);
}

#[test]
fn order_passes_through_a_third_warp() {
    let mut bench = Bench::written(4);
    assert_eq!(bench.write(0, u32::MAX, row, 4), []);
    bench.shadow.barrier(0b011);
    bench.shadow.barrier(0b110);
    assert_eq!(bench.read(2, u32::MAX, row, 4), []);
    assert_eq!(bench.read(3, u32::MAX, row, 4).len(), 32);
}

#[test]
fn lanes_of_a_warp_are_ordered_by_its_barrier_only() {
    let mut bench = Bench::written(4);
    assert_eq!(bench.write(2, u32::MAX, row, 4), []);
    let found = bench.read(2, u32::MAX, |lane| (lane ^ 1) * 4, 4);
    assert_eq!(found.len(), 32);
    assert_eq!(found[5], race(5, 16, (2, Some(4)), 2, true));
    bench.shadow.warp_sync(2);
    assert_eq!(bench.read(2, u32::MAX, |lane| (lane ^ 1) * 4, 4), []);
    // Other warps learn nothing from it.
    assert_eq!(bench.read(1, 1, row, 4).len(), 1);
}

#[test]
fn a_lane_may_update_its_own_bytes() {
    let mut bench = Bench::written(4);
    for _ in 0..2 {
        assert_eq!(bench.read(1, u32::MAX, row, 4), []);
        assert_eq!(bench.write(1, u32::MAX, row, 4), []);
        assert_eq!(bench.read(1, 0xF0F0_1111, row, 4), []);
        assert_eq!(bench.write(1, 0xF0F0_1111, row, 4), []);
        // Each of the first lanes finds a word of another lane.
        assert_eq!(bench.read(1, u32::MAX, |lane| lane * 8, 8).len(), 16);
        bench.shadow.barrier(15);
    }
}

#[test]
fn a_broadcast_read_before_a_write_of_lane_0_is_a_race() {
    let mut bench = Bench::written(4);
    assert_eq!(bench.read(0, u32::MAX, |_| 12, 4), []);
    assert_eq!(bench.write(0, 1, |_| 12, 4), [race(0, 12, (0, None), 2, false)]);
    bench.shadow.warp_sync(0);
    assert_eq!(bench.read(0, u32::MAX, |_| 12, 4), []);
    bench.shadow.warp_sync(0);
    assert_eq!(bench.write(0, 1, |_| 12, 4), []);
    // The lane that wrote may read; the others may not.
    assert_eq!(bench.read(0, u32::MAX, |_| 12, 4).len(), 31);
}

#[test]
fn neighbouring_bytes_do_not_race_and_granules_of_words_would() {
    let mut bench = Bench::written(1);
    assert_eq!(bench.write(0, 1, |_| 4, 1), []);
    assert_eq!(bench.write(1, 1, |_| 5, 1), []);
    assert_eq!(bench.read(2, 1, |_| 6, 2), []);
    assert_eq!(bench.read(2, 1, |_| 4, 4), [race(0, 4, (0, Some(0)), 2, true)]);
    let mut halves = Bench::written(2);
    assert_eq!(halves.write(0, u32::MAX, |lane| lane * 2, 2), []);
    assert_eq!(halves.write(1, u32::MAX, |lane| 64 + lane * 2, 2), []);
    // Bytes 60 and 61 are of lane 30, the first that this lane is not ordered after.
    assert_eq!(halves.read(0, 1, |_| 60, 8), [race(0, 60, (0, Some(30)), 2, true)]);
}

#[test]
fn lanes_that_write_bytes_of_one_granule_do_not_overlap() {
    let mut bench = Bench::written(4);
    assert_eq!(bench.write(0, 0xF, |lane| 8 + lane, 1), []);
    assert_eq!(bench.write(0, 0x30, |_| 16, 1).len(), 1);
}

#[test]
fn reads_of_what_nobody_wrote_are_told_and_a_block_starts_blank() {
    let mut bench = Bench::new(4);
    let blank = |lane, offset| Conflict { kind: ConflictKind::Uninitialised, lane, offset };
    assert_eq!(bench.read(0, 4, row, 4), [blank(2, 8)]);
    assert_eq!(bench.read(0, u32::MAX, |_| 0, 4).len(), 32);
    bench.shadow.barrier(15);
    assert_eq!(bench.write(0, 0xFFFF, row, 4), []);
    bench.shadow.barrier(15);
    assert_eq!(bench.read(1, u32::MAX, row, 4), (16..32).map(|lane| blank(lane, lane * 4)).collect::<Vec<_>>());
    assert_eq!(bench.read(1, 1, |_| 60, 8), [blank(0, 64)]);
    bench.shadow.start_block();
    assert_eq!(bench.write(3, 1, |_| 0, 4), []);
    assert_eq!(bench.read(3, 1, |_| 0, 8), [blank(0, 4)]);
    assert_eq!(bench.read(0, u32::MAX, |lane| 64 + row(lane), 4).len(), 32);
}

#[test]
fn lanes_of_one_write_that_differ_are_a_conflict() {
    let mut bench = Bench::written(4);
    assert_eq!(bench.write_same(0, 7, |_| 16, 4), []);
    // Whoever of them reads it, another has written it too.
    assert_eq!(bench.read(0, 7, |_| 16, 4).len(), 3);
    bench.shadow.barrier(15);
    assert_eq!(
        bench.write(1, 0b1011, |_| 16, 4),
        [race(1, 16, (1, Some(0)), 4, true), race(3, 16, (1, Some(0)), 4, true)]
    );
    bench.shadow.barrier(15);
    // Partial overlap.
    let found = bench.write(1, 3, |lane| 32 + lane * 4, 8);
    assert_eq!(found, [race(1, 36, (1, Some(0)), 5, true)]);
}

#[test]
fn writes_of_what_is_there_race_with_reads_but_with_no_write() {
    let mut bench = Bench::written(4);
    assert_eq!(bench.write(0, 1, |_| 0, 4), []);
    assert_eq!(bench.write_same(1, 1, |_| 0, 4), []);
    assert_eq!(bench.write(2, 1, |_| 0, 4), [race(0, 0, (1, Some(0)), 3, true)]);
    assert_eq!(bench.read(0, 1, |_| 4, 4), []);
    assert_eq!(bench.write_same(1, 1, |_| 4, 4), [race(0, 4, (0, Some(0)), 5, false)]);
}

#[test]
fn atomics_race_with_plain_accesses_only() {
    let mut bench = Bench::written(4);
    for warp in 0..4 {
        assert_eq!(bench.atomic(warp, u32::MAX, |lane| lane % 3 * 4, Strong::Update), []);
    }
    assert_eq!(bench.atomic(0, 1, |_| 0, Strong::Load), []);
    assert_eq!(bench.read(3, u32::MAX, |_| 0, 4).len(), 32);
    assert_eq!(bench.read(3, u32::MAX, row, 4).len(), 3);
    assert_eq!(bench.write_same(3, 1, |_| 4, 4).len(), 1);
    bench.shadow.barrier(15);
    assert_eq!(bench.read(3, u32::MAX, row, 4), []);
    assert_eq!(bench.atomic(2, 1, |_| 0, Strong::Load), []);
    assert_eq!(bench.atomic(2, 1, |_| 0, Strong::Store), [race(0, 0, (3, Some(0)), 10, false)]);
    bench.shadow.start_block();
    assert_eq!(bench.atomic(0, 1, |_| 0, Strong::Store), []);
    assert_eq!(bench.atomic(0, 3, |_| 0, Strong::Update), []);
    assert_eq!(bench.atomic(0, 1, |_| 4, Strong::Update).len(), 1);
    assert_eq!(bench.atomic(0, 1, |_| 4, Strong::Update), []);
}

#[test]
fn an_asynchronous_copy_counts_as_a_write_of_its_thread() {
    let mut bench = Bench::written(4);
    bench.shadow.arrive((1, 5), (16, 16), 70);
    assert_eq!(bench.read(1, 1 << 5, |_| 28, 4), []);
    assert_eq!(bench.read(2, 1, |_| 28, 4), [race(0, 28, (1, Some(5)), 70, true)]);
    let begin = |bench: &Bench, same: u32, offset: u32| {
        let mut conflicts = Vec::new();
        let access = SharedAccess { warp: 3, mask: 1, offsets: &[offset; 32], size: 4, instruction: 71 };
        bench.shadow.check_copy(&access, || same, &mut conflicts);
        conflicts
    };
    assert_eq!(begin(&bench, 1, 28), [race(0, 28, (2, Some(0)), 3, false)]);
    assert_eq!(begin(&bench, 0, 28), [race(0, 28, (1, Some(5)), 70, true)]);
    assert_eq!((begin(&bench, 1, 24), begin(&bench, 0, 0)), (vec![], vec![]));
    bench.shadow.barrier(15);
    assert_eq!(begin(&bench, 0, 28), []);
}

#[test]
fn nothing_beyond_the_end_is_touched() {
    let mut bench = Bench::new(4);
    for offset in [252, 256, u32::MAX] {
        bench.read(0, u32::MAX, |lane| row(lane).wrapping_add(offset), 16);
        bench.write(0, u32::MAX, |lane| row(lane).wrapping_add(offset), 16);
        bench.atomic(0, u32::MAX, |_| offset, Strong::Update);
    }
    let mut none = SharedShadow::new(0, 1, 4);
    let access = SharedAccess { warp: 0, mask: u32::MAX, offsets: &[0; 32], size: 4, instruction: 0 };
    none.read(&access, &mut Vec::new());
    none.write(&access, 0, |_, _| true, &mut Vec::new());
}

#[test]
fn clocks_that_run_out_start_again() {
    let mut bench = Bench::written(4);
    bench.shadow.clocks.set_last_step(9);
    for round in 0..40 {
        assert_eq!(bench.write(0, u32::MAX, row, 4), [], "round {round}");
        bench.shadow.barrier(15);
        assert_eq!(bench.read(1, u32::MAX, row, 4), [], "round {round}");
        bench.shadow.barrier(15);
        // Still written, and what nobody wrote still is not.
        assert_eq!(bench.read(3, 1, |_| 248, 4), [], "round {round}");
    }
    assert_eq!(bench.write(0, 1, row, 4), []);
    assert_eq!(bench.read(1, 1, row, 4).len(), 1);
    for _ in 0..40 {
        bench.shadow.start_block();
        assert_eq!(bench.read(1, 1, row, 4).len(), 1);
        assert_eq!(bench.write(0, 1, row, 4).len(), 1);
        assert_eq!(bench.read(0, 1, row, 4), []);
    }
}

#[test]
fn what_was_released_before_clocks_start_again_says_nothing_of_what_follows() {
    let mut bench = Bench::written(4);
    for _ in 0..30 {
        bench.shadow.warp_sync(0);
    }
    let old = bench.shadow.release(0);
    bench.shadow.clocks.set_last_step(9);
    bench.shadow.warp_sync(1);
    assert_eq!(bench.write(0, 1, row, 4), []);
    bench.shadow.acquire(1, &old);
    assert_eq!(bench.read(1, 1, row, 4).len(), 1);
}

#[test]
#[ignore = "prints times"]
fn times() {
    let mut shadow = SharedShadow::new(16384, 8, 4);
    let mut conflicts = Vec::new();
    for start in 0..128 {
        let offsets = std::array::from_fn(|lane| start * 128 + lane as u32 * 4);
        let access = SharedAccess { warp: 0, mask: u32::MAX, offsets: &offsets, size: 4, instruction: 1 };
        shadow.write(&access, 0, |_, _| true, &mut conflicts);
    }
    shadow.barrier(255);
    let mut time = |name: &str, write: bool, warp: usize, offset: &dyn Fn(u32, u32) -> u32| {
        let rows: Vec<[u32; 32]> = (0..64).map(|step| std::array::from_fn(|lane| offset(step, lane as u32))).collect();
        let mut best = f64::MAX;
        for _ in 0..50 {
            let started = std::time::Instant::now();
            for round in 0..6400_usize {
                let access = SharedAccess { warp, mask: u32::MAX, offsets: &rows[round % 64], size: 4, instruction: 1 };
                if write {
                    shadow.write(&access, 0, |_, _| true, &mut conflicts);
                } else {
                    shadow.read(&access, &mut conflicts);
                }
            }
            best = best.min(started.elapsed().as_nanos() as f64 / 6400.0);
        }
        println!("{name}: {best:.1} ns, {} conflicts", conflicts.len());
        conflicts.clear();
        shadow.barrier(255);
    };
    time("contiguous read", false, 3, &|step, lane| step * 128 + lane * 4);
    time("broadcast read", false, 3, &|step, _| step * 4);
    time("strided read", false, 3, &|step, lane| (lane * 33 + step) * 4);
    time("contiguous write", true, 3, &|step, lane| 8192 + step * 128 + lane * 4);
    time("strided write", true, 3, &|step, lane| 8192 + step * 128 + (lane * 9 % 32) * 4);
    // Its own, not yet known to others.
    let own = |step: u32, lane: u32| 8192 + step % 2 * 128 + lane * 4;
    time("own update", true, 3, &own);
    for warps in [8_u32, 32] {
        let mut shadow = SharedShadow::new(64, warps as usize, 4);
        let started = std::time::Instant::now();
        for _ in 0..100_000 {
            shadow.barrier(u32::MAX);
        }
        println!("barrier of {warps}: {:.1} ns", started.elapsed().as_nanos() as f64 / 1e5);
    }
}
