//! The interpreter's loop: one warp, until it waits, exits or has had its turn.

use super::block::Common;
use super::warp::{Group, State, Warp};
use crate::findings::FindingKind;
use crate::forms::Level;
use crate::program::{Code, Instruction};
use crate::types::Width;

/// Instructions for a group that others of its warp may be waiting for.
const GROUP_SHARE: u64 = 1024;

/// Why a group stopped.
enum Stop {
    /// Another group is lower, or at the same instruction.
    Meet,
    /// The group has split, parked or exited.
    Changed,
    /// Its share is used up.
    Share,
}

impl Warp {
    /// Executes up to `most` instructions.
    pub fn run(&mut self, common: &mut Common<'_>, most: u64) {
        let mut left = most;
        while left > 0 && !common.aborted {
            self.merge();
            let Some(chosen) = self.choose(common) else { return };
            let group = self.groups.swap_remove(chosen);
            let mut share = if self.groups.is_empty() { left } else { left.min(GROUP_SHARE) };
            let given = share;
            let stop = match common.launch.level {
                Level::Portable => self.straight(common, group, &mut share),
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the level is what this processor was found to have.
                Level::Avx2 => unsafe { self.straight_avx2(common, group, &mut share) },
            };
            left -= given - share;
            self.executed += given - share;
            if matches!(stop, Stop::Share) && !self.groups.is_empty() {
                // The group may be waiting in a loop for lanes that stand higher.
                self.turn = self.turn.wrapping_add(1);
            } else if matches!(stop, Stop::Meet) {
                self.turn = 0;
            }
            if self.executed > common.launch.budget {
                let pc = self.groups.last().map_or(0, |group| group.pc);
                let thread = self.thread(self.live);
                common.note(FindingKind::Budget, pc, thread, None, || {
                    format!("a warp has executed {} instructions", self.executed)
                });
                common.aborted = true;
            }
        }
    }

    /// The ready group at the lowest instruction, or in turn.
    fn choose(&mut self, common: &mut Common<'_>) -> Option<usize> {
        let mut ready: Vec<usize> = (0..self.groups.len()).filter(|&i| self.groups[i].state == State::Ready).collect();
        if ready.is_empty() {
            if !self.wake_exchanges(common) {
                return None;
            }
            ready = (0..self.groups.len()).filter(|&i| self.groups[i].state == State::Ready).collect();
        }
        ready.sort_by_key(|&i| self.groups[i].pc);
        ready.get(self.turn as usize % ready.len().max(1)).copied()
    }

    /// The next instruction at which another group stands.
    fn limit(&self, pc: u32) -> u32 {
        let others = self.groups.iter().filter(|group| !matches!(group.state, State::Barrier { .. }));
        others.map(|group| group.pc).filter(|&other| other >= pc).min().unwrap_or(u32::MAX)
    }

    /// The loop once more, compiled for a processor with AVX2: memory accesses are part of it.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,f16c,popcnt,bmi1,bmi2,lzcnt")]
    fn straight_avx2(&mut self, common: &mut Common<'_>, group: Group, share: &mut u64) -> Stop {
        self.straight(common, group, share)
    }

    /// Runs one group, which is not in `groups` meanwhile.
    #[inline(always)]
    fn straight(&mut self, common: &mut Common<'_>, mut group: Group, share: &mut u64) -> Stop {
        let program = common.launch.program;
        let code = &program.code[..];
        let mut limit = self.limit(group.pc);
        // The group's own first instruction may be one where another waits at a barrier: it goes on regardless.
        while *share > 0 {
            let instruction = &code[group.pc as usize];
            let mask = self.guarded(group.mask, instruction.guard, instruction.negated);
            *share -= 1;
            common.tally.count(group.pc, mask);
            if instruction.tracked && common.launch.checks.uninitialised {
                self.taint_unwritten(program, group.pc, group.mask, mask);
            }
            if self.tainted_bits & instruction.touched != 0 {
                self.follow_taints(common, group.pc, group.mask, mask);
            }
            match instruction.code {
                Code::Compute(exec) => {
                    if mask != 0 {
                        // SAFETY: lowering chose the function for the level that it found this processor to have.
                        unsafe { exec(&mut self.registers, &instruction.operands, mask) };
                    }
                    group.pc += 1;
                }
                Code::Branch(target) => {
                    let was = group.pc;
                    if !self.branch(common, &mut group, mask, target) {
                        return Stop::Changed;
                    }
                    if group.pc != was + 1 && !self.groups.is_empty() {
                        limit = self.limit(group.pc);
                    }
                }
                Code::Load(index) => {
                    self.load(common, &program.accesses[index as usize], mask, group.pc);
                    group.pc += 1;
                }
                Code::Store(index) => {
                    self.store(common, &program.accesses[index as usize], mask, group.pc);
                    group.pc += 1;
                }
                _ => {
                    if !self.other(common, &mut group, instruction, mask) {
                        return Stop::Changed;
                    }
                }
            }
            if group.pc >= limit {
                self.groups.push(group);
                return Stop::Meet;
            }
        }
        self.groups.push(group);
        Stop::Share
    }

    /// Whether the group goes on whole; otherwise its parts are in `groups`.
    #[inline(always)]
    fn branch(&mut self, common: &mut Common<'_>, group: &mut Group, mask: u32, target: u32) -> bool {
        if mask == group.mask {
            group.pc = target;
            return true;
        }
        if mask == 0 {
            group.pc += 1;
            return true;
        }
        common.tally.diverged(group.pc);
        self.groups.push(Group { pc: target, mask, state: State::Ready });
        self.groups.push(Group { pc: group.pc + 1, mask: group.mask & !mask, state: State::Ready });
        false
    }

    /// Everything that is neither arithmetic nor a branch.
    fn other(&mut self, common: &mut Common<'_>, group: &mut Group, instruction: &Instruction, mask: u32) -> bool {
        let program = common.launch.program;
        let pc = group.pc;
        match instruction.code {
            Code::Atomic(index) => self.atomic(common, &program.atomics[index as usize], mask, pc),
            Code::CopyAsync(index) => self.copy_async(common, &program.copies[index as usize], mask, pc),
            Code::CopyCommit => common.copies.commit(self.index, mask),
            Code::CopyWait(most) => self.copy_wait(common, mask, most),
            Code::ActiveMask => {
                let active = mask;
                self.broadcast(instruction.operands.dst, Width::Word, mask, active.into());
            }
            Code::Clock(width) => {
                let clock = self.executed;
                self.broadcast(instruction.operands.dst, width, mask, clock);
            }
            Code::Fence(release) => self.fence(common, mask, release),
            Code::Nothing => {}
            Code::Table(table) => {
                self.jump(common, group, mask, instruction.operands.src[0], &program.tables[table as usize]);
                return false;
            }
            Code::Exit => return self.leave(group, mask),
            Code::Trap => {
                if mask != 0 {
                    let thread = self.thread(mask);
                    common.note(FindingKind::Trap, pc, thread, None, String::new);
                    // Nobody goes on: what is left of the warp would miss the lanes that trapped.
                    common.aborted = true;
                    return false;
                }
            }
            Code::Barrier(index) => return self.barrier(common, group, mask, index),
            Code::Exchange(index) => {
                return self.exchange(common, group, mask, &program.exchanges[index as usize]);
            }
            Code::Compute(_) | Code::Branch(_) | Code::Load(_) | Code::Store(_) => {}
        }
        group.pc = pc + 1;
        true
    }

    fn broadcast(&mut self, row: u32, width: Width, mask: u32, value: u64) {
        super::lanes::each(mask).for_each(|lane| self.registers.set_lane(width, row, lane, value));
    }

    /// The lanes of the mask exit; whether others of the group go on.
    fn leave(&mut self, group: &mut Group, mask: u32) -> bool {
        self.exit(mask);
        group.mask &= !mask;
        group.pc += 1;
        group.mask != 0
    }

    /// `brx.idx`: a group per target. An index beyond the table is undefined; its lanes stop there.
    fn jump(&mut self, common: &mut Common<'_>, group: &Group, mask: u32, index: u32, targets: &[u32]) {
        let row = self.registers.words[index as usize].0;
        let rest = group.mask & !mask;
        if rest != 0 {
            self.groups.push(Group { pc: group.pc + 1, mask: rest, state: State::Ready });
        }
        let mut parts = 0;
        for (number, &target) in targets.iter().enumerate() {
            let part = super::lanes::collect(mask, |lane| row[lane] as usize == number);
            if part != 0 {
                parts += 1;
                self.groups.push(Group { pc: target, mask: part, state: State::Ready });
            }
        }
        let beyond = super::lanes::collect(mask, |lane| row[lane] as usize >= targets.len());
        if beyond != 0 {
            let (thread, entries) = (self.thread(beyond), targets.len());
            common.note(FindingKind::OutOfBounds, group.pc, thread, None, || {
                format!("index {} in a branch table of {entries}", row[super::lanes::first(beyond)])
            });
            self.exit(beyond);
        }
        if parts + u32::from(rest != 0) > 1 {
            common.tally.diverged(group.pc);
        }
    }
}
