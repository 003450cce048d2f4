//! Which block runs when, and on which thread of the host.

use crate::checks::{self, FinishedLog, SyncState};
use crate::exec::{Block, Launch, Progress, Tally};
use crate::findings::RawFinding;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};

/// Turns of its warps that a block has before the next one goes on, where blocks may wait for each other.
const SHARES: u32 = 64;
/// Blocks under way at once, where they may wait for each other.
pub(crate) const RESIDENT: usize = 64;

/// What all blocks left behind.
pub(crate) struct Outcome {
    pub findings: Vec<RawFinding>,
    pub tally: Tally,
}

/// What some of the blocks left behind.
struct Part {
    findings: Vec<RawFinding>,
    logs: Vec<FinishedLog>,
    tally: Tally,
}

impl Part {
    fn new(launch: &Launch<'_>) -> Self {
        Self { findings: Vec::new(), logs: Vec::new(), tally: Tally::new(launch.program.code.len()) }
    }

    fn close(&mut self, block: &mut Block<'_>) {
        let finished = block.finish();
        self.findings.extend(finished.findings);
        self.logs.extend(finished.log);
    }
}

pub(crate) fn execute(launch: &Launch<'_>, threads: usize) -> Outcome {
    let blocks: u32 = launch.grid.iter().product();
    let parts = if launch.program.communicates {
        vec![in_order(launch, blocks)]
    } else {
        side_by_side(launch, blocks, threads)
    };
    let mut whole = Part::new(launch);
    for part in parts {
        whole.findings.extend(part.findings);
        whole.logs.extend(part.logs);
        whole.tally.add(part.tally);
    }
    // One access that conflicts with several others is one finding.
    let conflicts = checks::merge(whole.logs);
    whole.findings.extend(conflicts.iter().map(|conflict| crate::report::conflict(conflict, launch)));
    Outcome { findings: whole.findings, tally: whole.tally }
}

/// The order of the blocks in adversarial mode; empty where they run in their own, as very many do.
fn drawn_order(launch: &Launch<'_>, blocks: u32) -> Vec<u32> {
    const MOST: u32 = 1 << 20;
    let Some(seed) = launch.order.filter(|_| blocks <= MOST) else { return Vec::new() };
    let mut order: Vec<u32> = (0..blocks).collect();
    for i in (1..order.len()).rev() {
        order.swap(i, (crate::arith::mix(seed ^ i as u64) % (i as u64 + 1)) as usize);
    }
    order
}

/// Blocks that do not wait for each other, on several threads.
fn side_by_side(launch: &Launch<'_>, blocks: u32, threads: usize) -> Vec<Part> {
    let next = AtomicU32::new(0);
    let order = drawn_order(launch, blocks);
    let work = || {
        let mut part = Part::new(launch);
        let mut block = Block::new(launch);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= blocks {
                part.tally.add(block.into_tally());
                return part;
            }
            block.start(order.get(number as usize).copied().unwrap_or(number));
            while block.run(SHARES, &mut SyncState::default()) == Progress::Unfinished {}
            part.close(&mut block);
        }
    };
    let threads = threads.min(blocks as usize);
    if threads <= 1 {
        return vec![work()];
    }
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut parts = vec![work()];
        // A thread that panicked has found a bug of the emulator: it goes on in the caller.
        parts.extend(
            others.into_iter().map(|other| other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))),
        );
        parts
    })
}

/// Blocks that may wait for each other: on one thread, one share after the other, so that every run is the same.
fn in_order(launch: &Launch<'_>, blocks: u32) -> Part {
    let mut part = Part::new(launch);
    let mut sync = SyncState::default();
    let drawn = drawn_order(launch, blocks);
    let mut order = (0..blocks).map(|number| drawn.get(number as usize).copied().unwrap_or(number));
    let mut idle: Vec<Block<'_>> = Vec::new();
    let mut resident: VecDeque<Block<'_>> = VecDeque::new();
    loop {
        if resident.len() < RESIDENT
            && let Some(number) = order.next()
        {
            let mut block = idle.pop().unwrap_or_else(|| Block::new(launch));
            block.start(number);
            resident.push_front(block);
        }
        let Some(mut block) = resident.pop_front() else { break };
        match block.run(SHARES, &mut sync) {
            Progress::Unfinished => resident.push_back(block),
            Progress::Done => {
                part.close(&mut block);
                idle.push(block);
            }
        }
    }
    idle.into_iter().for_each(|block| part.tally.add(block.into_tally()));
    part
}
