//! Operations between the lanes of a warp: they wait for all lanes of their mask.

use super::block::Common;
use super::lanes;
use super::warp::{Group, State, Warp};
use crate::findings::FindingKind;
use crate::program::{AtomicOperation, Code, Exchange, ExchangeKind};
use crate::registers::LANES;
use crate::types::{Type, Width};

impl Warp {
    /// Executes the operation for the lanes whose partners are all here; others wait. Whether the group goes on, whole.
    pub(super) fn exchange(
        &mut self,
        common: &mut Common<'_>,
        group: &mut Group,
        mask: u32,
        exchange: &Exchange,
    ) -> bool {
        let mut waiting = 0;
        let mut left = mask;
        while left != 0 {
            let (members, part) = self.together(exchange, left);
            left &= !part;
            if members & self.live & !part != 0 {
                waiting |= part;
                continue;
            }
            let outside = part & !members;
            if outside != 0 {
                let thread = self.thread(outside);
                common.note(FindingKind::MaskMismatch, group.pc, thread, None, || {
                    format!("lanes {outside:#010x} execute it with the mask {members:#010x}")
                });
            }
            self.perform(common, exchange, part, group.pc);
        }
        if waiting == 0 {
            group.pc += 1;
            return true;
        }
        let past = group.mask & !waiting;
        if past != 0 {
            self.groups.push(Group { pc: group.pc + 1, mask: past, state: State::Ready });
        }
        self.groups.push(Group { pc: group.pc, mask: waiting, state: State::Exchange });
        false
    }

    /// The mask that the first lane names, and the lanes that name the same.
    fn together(&self, exchange: &Exchange, mask: u32) -> (u32, u32) {
        let members = self.word(exchange.members, lanes::first(mask));
        (members, lanes::collect(mask, |lane| self.word(exchange.members, lane) == members))
    }

    /// Nothing is ready: waiting lanes whose missing partners have exited, or wait at another `bar.warp.sync` with the
    /// same mask, go on. Whether any does.
    pub(super) fn wake_exchanges(&mut self, common: &mut Common<'_>) -> bool {
        let program = common.launch.program;
        for i in 0..self.groups.len() {
            let Some(exchange) = waiting_at(program, &self.groups[i]) else { continue };
            let mut left = self.groups[i].mask;
            while left != 0 {
                let (members, part) = self.together(exchange, left);
                left &= !part;
                if members & self.live & !part == 0 {
                    self.groups[i].state = State::Ready;
                    return true;
                }
                if exchange.kind == ExchangeKind::Sync && self.meet_elsewhere(common, members) {
                    return true;
                }
            }
        }
        false
    }

    /// Lanes that wait with this mask at any `bar.warp.sync` go on if they are all there is.
    fn meet_elsewhere(&mut self, common: &mut Common<'_>, members: u32) -> bool {
        let program = common.launch.program;
        let parts: Vec<(usize, u32)> = (0..self.groups.len())
            .filter_map(|j| {
                let exchange = waiting_at(program, &self.groups[j]).filter(|one| one.kind == ExchangeKind::Sync)?;
                let same = |lane: usize| self.word(exchange.members, lane) == members;
                Some((j, lanes::collect(self.groups[j].mask, same)))
            })
            .collect();
        let all = parts.iter().fold(0, |all, &(_, part)| all | part);
        if members & self.live & !all != 0 {
            return false;
        }
        for (j, part) in parts.into_iter().filter(|&(_, part)| part != 0) {
            self.groups[j].mask &= !part;
            let pc = self.groups[j].pc + 1;
            self.groups.push(Group { pc, mask: part, state: State::Ready });
        }
        self.groups.retain(|group| group.mask != 0);
        self.sync_shadow(common);
        true
    }

    fn sync_shadow(&self, common: &mut Common<'_>) {
        if let Some(shadow) = &mut common.shadow {
            shadow.warp_sync(self.index as usize);
        }
    }

    fn perform(&mut self, common: &mut Common<'_>, exchange: &Exchange, mask: u32, pc: u32) {
        match exchange.kind {
            ExchangeKind::Sync => self.sync_shadow(common),
            ExchangeKind::ShuffleUp
            | ExchangeKind::ShuffleDown
            | ExchangeKind::ShuffleButterfly
            | ExchangeKind::ShuffleIndex => self.shuffle(exchange, mask, pc),
            ExchangeKind::VoteAll | ExchangeKind::VoteAny | ExchangeKind::VoteUniform | ExchangeKind::VoteBallot => {
                self.vote(exchange, mask)
            }
            ExchangeKind::MatchAny | ExchangeKind::MatchAll => self.matching(exchange, mask),
            ExchangeKind::Reduce(operation, ty) => self.reduce(exchange, mask, operation, ty),
        }
    }

    fn shuffle(&mut self, exchange: &Exchange, mask: u32, pc: u32) {
        let source = self.registers.words[exchange.src.index as usize].0;
        let mut out = source;
        let (mut inside, mut undefined) = (0u32, 0u32);
        for lane in lanes::each(mask) {
            let (from, within) = shuffle_source(
                exchange.kind,
                lane as u32,
                self.word(exchange.lane, lane),
                self.word(exchange.clamp, lane),
            );
            inside |= u32::from(within) << lane;
            if mask >> from & 1 == 0 {
                undefined |= 1 << lane;
                out[lane] = u32::MAX;
            } else {
                out[lane] = source[from as usize];
            }
        }
        if undefined != 0 || !self.taints.is_empty() {
            let sources: [u32; LANES] = std::array::from_fn(|lane| {
                shuffle_source(
                    exchange.kind,
                    lane as u32,
                    self.word(exchange.lane, lane),
                    self.word(exchange.clamp, lane),
                )
                .0
            });
            self.taint_shuffle((exchange.src, exchange.dst), (mask, pc), undefined, |lane| sources[lane]);
        }
        let row = &mut self.registers.words[exchange.dst.index as usize].0;
        lanes::each(mask).for_each(|lane| row[lane] = out[lane]);
        if exchange.dst2.is_some() {
            let row = &mut self.registers.predicates[exchange.dst2.index as usize];
            *row = (*row & !mask) | inside;
        }
    }

    fn vote(&mut self, exchange: &Exchange, mask: u32) {
        let holding = self.registers.predicates[exchange.src.index as usize] & mask;
        let (width, value) = match exchange.kind {
            ExchangeKind::VoteAll => (Width::Predicate, u32::from(holding == mask)),
            ExchangeKind::VoteAny => (Width::Predicate, u32::from(holding != 0)),
            ExchangeKind::VoteUniform => (Width::Predicate, u32::from(holding == mask || holding == 0)),
            _ => (Width::Word, holding),
        };
        lanes::each(mask).for_each(|lane| self.registers.set_lane(width, exchange.dst.index, lane, value.into()));
    }

    fn matching(&mut self, exchange: &Exchange, mask: u32) {
        let value = |lane: usize| self.registers.lane(exchange.src.width, exchange.src.index, lane);
        let mut out = [0u32; LANES];
        let mut all = false;
        if exchange.kind == ExchangeKind::MatchAll {
            let expected = value(lanes::first(mask));
            all = lanes::collect(mask, |lane| value(lane) == expected) == mask;
            out = [if all { mask } else { 0 }; LANES];
        } else {
            for lane in lanes::each(mask) {
                out[lane] = lanes::collect(mask, |other| value(other) == value(lane));
            }
        }
        let row = &mut self.registers.words[exchange.dst.index as usize].0;
        lanes::each(mask).for_each(|lane| row[lane] = out[lane]);
        if exchange.dst2.is_some() {
            let row = &mut self.registers.predicates[exchange.dst2.index as usize];
            *row = if all { *row | mask } else { *row & !mask };
        }
    }

    fn reduce(&mut self, exchange: &Exchange, mask: u32, operation: AtomicOperation, ty: Type) {
        let row = &mut self.registers.words[exchange.src.index as usize].0;
        let values = lanes::each(mask).map(|lane| row[lane]);
        let total = match (operation, ty) {
            (AtomicOperation::Min, Type::S32) => values.map(|value| value as i32).min().map(|value| value as u32),
            (AtomicOperation::Max, Type::S32) => values.map(|value| value as i32).max().map(|value| value as u32),
            (AtomicOperation::Min, _) => values.min(),
            (AtomicOperation::Max, _) => values.max(),
            (AtomicOperation::And, _) => values.reduce(|a, b| a & b),
            (AtomicOperation::Or, _) => values.reduce(|a, b| a | b),
            (AtomicOperation::Xor, _) => values.reduce(|a, b| a ^ b),
            _ => values.reduce(u32::wrapping_add),
        };
        let total = u64::from(total.unwrap_or(0));
        lanes::each(mask).for_each(|lane| self.registers.set_lane(Width::Word, exchange.dst.index, lane, total));
    }
}

fn waiting_at<'p>(program: &'p crate::program::Program, group: &Group) -> Option<&'p Exchange> {
    match (group.state, program.code[group.pc as usize].code) {
        (State::Exchange, Code::Exchange(index)) => Some(&program.exchanges[index as usize]),
        _ => None,
    }
}

/// The lane that a shuffle reads, and whether it lies within the segment.
fn shuffle_source(kind: ExchangeKind, lane: u32, by: u32, clamp: u32) -> (u32, bool) {
    let (by, most, segment) = (by & 31, clamp & 31, clamp >> 8 & 31);
    let last = (lane & segment) | (most & !segment);
    let first = lane & segment;
    let (from, within) = match kind {
        ExchangeKind::ShuffleUp => (lane.wrapping_sub(by), lane as i32 - by as i32 >= last as i32),
        ExchangeKind::ShuffleDown => (lane + by, lane + by <= last),
        ExchangeKind::ShuffleButterfly => (lane ^ by, (lane ^ by) <= last),
        _ => (first | (by & !segment), (first | (by & !segment)) <= last),
    };
    (if within { from & 31 } else { lane }, within)
}
