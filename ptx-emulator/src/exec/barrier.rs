//! Barriers of the block.

use super::block::Common;
use super::lanes;
use super::warp::{Group, State, Warp};
use crate::checks::Snapshot;
use crate::findings::FindingKind;
use crate::program::{Barrier, BarrierKind};
use crate::registers::LANES;
use crate::types::Width;

/// Barriers that a block has.
const BARRIERS: usize = 16;

/// Threads counted at each barrier.
#[derive(Debug, Default)]
pub(super) struct Barriers {
    states: [Counted; BARRIERS],
}

#[derive(Debug, Default)]
struct Counted {
    /// Threads that wait here.
    waiting: u32,
    /// Threads that arrived and went on.
    arrived: u32,
    /// Threads that must come; absent: all that live.
    expected: Option<u32>,
    /// Who came first, and where: all who follow must ask for as many threads.
    first: Option<First>,
    /// What those who went on have done before.
    released: Vec<Snapshot>,
    /// `bar.red`: threads whose predicate held, and whose did not.
    holding: u32,
    failing: u32,
}

#[derive(Clone, Copy, Debug)]
struct First {
    /// Threads asked for; without a count those of the block, in whole warps.
    threads: u32,
    pc: u32,
    thread: u32,
}

impl Warp {
    /// A group comes to a barrier. Whether it goes on at once, whole.
    pub(super) fn barrier(&mut self, common: &mut Common<'_>, group: &mut Group, mask: u32, index: u32) -> bool {
        let barrier = &common.launch.program.barriers[index as usize];
        if mask != group.mask {
            // Lanes whose guard does not hold go past.
            self.groups.push(Group { pc: group.pc + 1, mask: group.mask & !mask, state: State::Ready });
            group.mask = mask;
            if mask == 0 {
                return false;
            }
        }
        if barrier.aligned && mask != self.live {
            self.groups.push(Group { state: State::Converge, ..*group });
            return false;
        }
        self.arrive(common, group.pc, mask, index);
        false
    }

    /// Lanes at an aligned barrier whose warp will not follow: reported, and counted one by one.
    pub(super) fn arrive_diverged(&mut self, common: &mut Common<'_>) -> bool {
        let waiting: Vec<Group> = self.groups.extract_if(.., |group| group.state == State::Converge).collect();
        for group in &waiting {
            let Some(index) = common.barrier_at(group.pc) else { continue };
            let (thread, live) = (self.thread(group.mask), self.live);
            if group.mask == live {
                // The rest of the warp has exited meanwhile.
                self.arrive(common, group.pc, group.mask, index);
                continue;
            }
            common.note(FindingKind::DivergentBarrier, group.pc, thread, None, || {
                format!("lanes {:#010x} of {live:#010x} of the warp are here", group.mask)
            });
            self.arrive(common, group.pc, group.mask, index);
        }
        !waiting.is_empty()
    }

    fn arrive(&mut self, common: &mut Common<'_>, pc: u32, mask: u32, index: u32) {
        let barrier = common.launch.program.barriers[index as usize];
        let lane = lanes::first(mask);
        let id = self.word(barrier.id, lane) as usize;
        let explicit = barrier.count.is_some().then(|| self.word(barrier.count, lane));
        let most = common.launch.threads().next_multiple_of(LANES as u32);
        let impossible = explicit.is_some_and(|count| count == 0 || count % LANES as u32 != 0 || count > most);
        if id >= BARRIERS || impossible {
            let thread = self.thread(mask);
            common.note(FindingKind::DivergentBarrier, pc, thread, None, || match explicit {
                Some(count) if impossible => format!("{count} threads, expected a multiple of {LANES} up to {most}"),
                _ => format!("barrier {id}, expected one below {BARRIERS}"),
            });
            self.groups.push(Group { pc: pc + 1, mask, state: State::Ready });
            return;
        }
        self.agree(common, id, First { threads: explicit.unwrap_or(most), pc, thread: self.thread(mask) });
        // With a count, whole warps are counted, exited lanes included.
        let threads = if explicit.is_some() && barrier.aligned { LANES as u32 } else { mask.count_ones() };
        let holding = self.holding(&barrier, mask);
        let counted = &mut common.barriers.states[id];
        counted.expected = explicit.or(counted.expected);
        counted.holding += holding;
        counted.failing += if barrier.predicate.is_some() { mask.count_ones() - holding } else { 0 };
        if barrier.kind == BarrierKind::Arrive {
            counted.arrived += threads;
            if let Some(shadow) = &mut common.shadow {
                counted.released.push(shadow.release(self.index as usize));
            }
            self.groups.push(Group { pc: pc + 1, mask, state: State::Ready });
        } else {
            counted.waiting += threads;
            self.groups.push(Group { pc: pc + 1, mask, state: State::Barrier { id: id as u32, index } });
        }
    }

    /// Threads that ask for another number at a barrier than those that wait there are reported.
    fn agree(&self, common: &mut Common<'_>, id: usize, own: First) {
        let first = *common.barriers.states[id].first.get_or_insert(own);
        if first.threads != own.threads {
            let line = common.launch.program.info[first.pc as usize].line;
            common.note(FindingKind::DivergentBarrier, own.pc, own.thread, None, || {
                let First { threads, thread, .. } = first;
                format!(
                    "barrier {id} for {} threads, expected {threads} as thread {thread} in PTX line {line}",
                    own.threads
                )
            });
        }
    }

    fn holding(&self, barrier: &Barrier, mask: u32) -> u32 {
        match barrier.predicate.is_some() {
            true => (self.registers.predicates[barrier.predicate.index as usize] & mask).count_ones(),
            false => 0,
        }
    }
}

impl Common<'_> {
    fn barrier_at(&self, pc: u32) -> Option<u32> {
        match self.launch.program.code[pc as usize].code {
            crate::program::Code::Barrier(index) => Some(index),
            _ => None,
        }
    }
}

/// Lets the threads of complete barriers go.
pub(super) fn release(warps: &mut [Warp], common: &mut Common<'_>, live: u32) {
    for id in 0..BARRIERS {
        let counted = &common.barriers.states[id];
        let here = counted.waiting + counted.arrived;
        if here == 0 || here < counted.expected.unwrap_or(live) {
            continue;
        }
        let counted = std::mem::take(&mut common.barriers.states[id]);
        let mut here = 0u32;
        for warp in warps.iter_mut() {
            if warp.let_go(common, id as u32, &counted) {
                here |= 1 << warp.index;
            }
        }
        if let Some(shadow) = &mut common.shadow {
            shadow.barrier(here);
            for warp in lanes::each(here) {
                counted.released.iter().for_each(|snapshot| shadow.acquire(warp, snapshot));
            }
        }
    }
}

impl Warp {
    /// Groups that wait at the barrier are ready; whether there were any.
    fn let_go(&mut self, common: &Common<'_>, id: u32, counted: &Counted) -> bool {
        let mut any = false;
        for i in 0..self.groups.len() {
            let group = self.groups[i];
            let State::Barrier { id: at, index } = group.state else { continue };
            if at != id {
                continue;
            }
            any = true;
            self.groups[i].state = State::Ready;
            let barrier = &common.launch.program.barriers[index as usize];
            let value = match barrier.kind {
                BarrierKind::Sync | BarrierKind::Arrive => continue,
                BarrierKind::Count => counted.holding,
                BarrierKind::And => (counted.failing == 0).into(),
                BarrierKind::Or => (counted.holding > 0).into(),
            };
            let width = if barrier.kind == BarrierKind::Count { Width::Word } else { Width::Predicate };
            lanes::each(group.mask)
                .for_each(|lane| self.registers.set_lane(width, barrier.dst.index, lane, value.into()));
        }
        any
    }
}
