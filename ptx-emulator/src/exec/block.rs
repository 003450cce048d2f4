//! A block of threads: its warps take turns until all have exited.

use super::Launch;
use super::barrier::Barriers;
use super::copies::Copies;
use super::counting::Tally;
use super::guesses::Guesses;
use super::warp::{State, Warp};
use crate::arith::mix;
use crate::checks::{BlockLog, SharedShadow, SyncState};
use crate::findings::{FindingKind, Findings, unflatten};
use crate::memory::POISON;
use crate::registers::LANES;

/// Instructions that a warp executes before the next has its turn.
const SHARE: u64 = 4096;

/// What several warps of a block share, and what is noted about them.
pub(super) struct Common<'a> {
    pub launch: &'a Launch<'a>,
    pub number: u32,
    /// Shared memory with its red zones.
    pub shared: Vec<u8>,
    /// Start and end of each shared variable.
    pub variables: Vec<(u32, u32)>,
    pub shadow: Option<SharedShadow>,
    pub log: Option<BlockLog>,
    /// How blocks order each other; lent by the launch while the block runs.
    pub sync: SyncState,
    pub findings: Findings,
    /// Of each load that may guess what a swap expects.
    pub guesses: Vec<Guesses>,
    pub tally: Tally,
    pub barriers: Barriers,
    pub copies: Copies,
    /// A trap, a deadlock or an empty budget: the block ends.
    pub aborted: bool,
    /// Random numbers of the shuffled and the adversarial mode.
    pub random: Option<u64>,
}

impl Common<'_> {
    pub fn note(
        &mut self,
        kind: FindingKind,
        pc: u32,
        thread: u32,
        address: Option<u64>,
        detail: impl FnOnce() -> String,
    ) {
        self.findings.note(kind, pc, thread, address, detail);
    }

    /// A number below `bound` in shuffled and adversarial mode, otherwise 0.
    pub fn random_below(&mut self, bound: u64) -> u64 {
        match &mut self.random {
            Some(state) if bound > 0 => {
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                mix(*state) % bound
            }
            _ => 0,
        }
    }
}

/// One block at a time; kept from block to block for its memory.
pub(crate) struct Block<'a> {
    warps: Vec<Warp>,
    common: Common<'a>,
    order: Vec<usize>,
}

/// Where a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Done,
    /// It has had its share, and may be waiting for another block.
    Unfinished,
}

impl<'a> Block<'a> {
    pub fn new(launch: &'a Launch<'a>) -> Self {
        let warps = launch.threads().div_ceil(LANES as u32);
        let layout = &launch.program.shared;
        let mut variables: Vec<(u32, u32)> =
            layout.variables.iter().map(|variable| (variable.offset, variable.offset + variable.bytes)).collect();
        if launch.dynamic_shared > 0 {
            variables.push((layout.dynamic, layout.dynamic + launch.dynamic_shared));
        }
        let bytes = variables.last().map_or(0, |last| last.1) as usize;
        let checked = (launch.checks.races || launch.checks.uninitialised) && bytes > 0;
        let slots = launch.program.global_slots as usize;
        Self {
            warps: (0..warps).map(|index| Warp::new(launch.program, index)).collect(),
            common: Common {
                launch,
                number: 0,
                shared: vec![POISON; bytes],
                variables,
                shadow: checked.then(|| SharedShadow::new(bytes, warps as usize, launch.program.granule)),
                log: (launch.checks.races && slots > 0).then(|| BlockLog::new(slots, warps as usize)),
                sync: SyncState::default(),
                findings: Findings::default(),
                guesses: (0..launch.program.guesses).map(|_| Guesses::default()).collect(),
                tally: Tally::new(launch.program.code.len()),
                barriers: Barriers::default(),
                copies: Copies::new(warps as usize),
                aborted: false,
                random: None,
            },
            order: (0..warps as usize).collect(),
        }
    }

    pub fn start(&mut self, number: u32) {
        let launch = self.common.launch;
        // Whatever block these warps ran before.
        self.order.sort_unstable();
        let common = &mut self.common;
        common.number = number;
        for &(start, end) in &common.variables {
            common.shared[start as usize..end as usize].fill(POISON);
        }
        if let Some(shadow) = &mut common.shadow {
            shadow.start_block();
        }
        if let Some(log) = &mut common.log {
            log.start(number);
        }
        common.barriers = Barriers::default();
        common.copies.start_block();
        common.aborted = false;
        common.random = launch.order.map(|seed| mix(seed ^ mix(u64::from(number) + 1)));
        let block = unflatten(number, launch.grid);
        for warp in &mut self.warps {
            let noise =
                common.random.filter(|_| launch.disturbed).map(|random| mix(random ^ u64::from(warp.index) << 32));
            warp.start(launch, block, noise);
        }
    }

    /// Runs until all threads have exited, or every warp has had `shares` turns.
    pub fn run(&mut self, shares: u32, sync: &mut SyncState) -> Progress {
        std::mem::swap(&mut self.common.sync, sync);
        let progress = self.take_turns(shares);
        std::mem::swap(&mut self.common.sync, sync);
        progress
    }

    fn take_turns(&mut self, shares: u32) -> Progress {
        for _ in 0..shares {
            self.shuffle_order();
            let mut ran = false;
            for i in 0..self.order.len() {
                let warp = &mut self.warps[self.order[i]];
                if warp.is_ready() {
                    ran = true;
                    let most = if self.common.random.is_some() { 1 + self.common.random_below(SHARE) } else { SHARE };
                    warp.run(&mut self.common, most);
                }
                if self.common.aborted {
                    return Progress::Done;
                }
                self.release_barriers();
            }
            if self.warps.iter().all(Warp::is_done) {
                return Progress::Done;
            }
            if !ran && !self.unblock() {
                self.report_deadlock();
                return Progress::Done;
            }
        }
        Progress::Unfinished
    }

    fn shuffle_order(&mut self) {
        if self.common.random.is_some() {
            for i in (1..self.order.len()).rev() {
                let j = self.common.random_below(i as u64 + 1) as usize;
                self.order.swap(i, j);
            }
        }
    }

    /// Ends barriers whose threads have all come.
    fn release_barriers(&mut self) {
        let live: u32 = self.warps.iter().map(|warp| warp.live.count_ones()).sum();
        super::barrier::release(&mut self.warps, &mut self.common, live);
    }

    /// Nothing can run: lanes of a warp that wait for the rest of it at a barrier go on alone, which is an error.
    fn unblock(&mut self) -> bool {
        let mut moved = self.warps.iter_mut().any(|warp| warp.wake_exchanges(&mut self.common));
        if !moved {
            for warp in &mut self.warps {
                moved |= warp.arrive_diverged(&mut self.common);
            }
        }
        self.release_barriers();
        moved || self.warps.iter().any(Warp::is_ready)
    }

    fn report_deadlock(&mut self) {
        let program = self.common.launch.program;
        let mut places: Vec<String> = Vec::new();
        let mut first = None;
        for warp in &self.warps {
            for group in &warp.groups {
                let at = match group.state {
                    State::Barrier { .. } => group.pc.saturating_sub(1),
                    _ => group.pc,
                };
                first.get_or_insert((at, warp.thread(group.mask)));
                let info = &program.info[at as usize];
                let place =
                    format!("warp {} lanes {:#010x} at `{}` (line {})", warp.index, group.mask, info.text, info.line);
                if places.len() < 8 {
                    places.push(place);
                }
            }
        }
        if let Some((at, thread)) = first {
            self.common.note(FindingKind::Deadlock, at, thread, None, || places.join(", "));
        }
        self.common.aborted = true;
    }

    /// Closes the block: what it found and touched.
    pub fn finish(&mut self) -> Finished {
        let number = self.common.number;
        let guesses = self.common.close_guesses(&mut self.warps);
        let mut log = self.common.log.as_mut().map(BlockLog::finish);
        if let Some(log) = log.as_mut().filter(|_| !guesses.is_empty()) {
            log.confirm(&guesses);
        }
        Finished { findings: self.common.findings.take(number), log }
    }

    pub fn into_tally(self) -> Tally {
        self.common.tally
    }
}

/// What a block leaves behind.
pub(crate) struct Finished {
    pub findings: Vec<crate::findings::RawFinding>,
    pub log: Option<crate::checks::FinishedLog>,
}
