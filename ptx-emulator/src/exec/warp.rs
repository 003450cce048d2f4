//! One warp: registers, local memory, and the groups of lanes that stand at different instructions.

use super::Launch;
use super::guesses::Guess;
use super::lanes;
use super::taint::Taint;
use crate::memory::POISON;
use crate::program::{NONE, Program, Row, Special};
use crate::registers::{LANES, Registers};
use crate::types::Width;

/// Lanes at one instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub pc: u32,
    pub mask: u32,
    pub state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    /// At an operation between lanes, of which some are missing.
    Exchange,
    /// At an aligned barrier, which the rest of the warp has not reached.
    Converge,
    /// Counted at a barrier of the block; `pc` is behind it.
    Barrier {
        id: u32,
        index: u32,
    },
}

#[derive(Debug)]
pub(super) struct Warp {
    pub index: u32,
    pub registers: Registers,
    pub groups: Vec<Group>,
    /// Lanes that have not exited.
    pub live: u32,
    /// Local memory, lane after lane.
    pub local: Vec<u8>,
    /// A flag for each of its bytes.
    pub local_written: Vec<bool>,
    /// Lanes in which each tracked register is defined.
    pub defined: Vec<u32>,
    /// Registers with undefined values.
    pub taints: Vec<Taint>,
    /// [`Row::bit`] of their rows.
    pub tainted_bits: u64,
    pub executed: u64,
    /// Of each load that may guess what a swap expects.
    pub guesses: Vec<Guess>,
    /// Which group is to run when several could and one has had its share.
    pub turn: u32,
}

impl Warp {
    pub fn new(program: &Program, index: u32) -> Self {
        let rows = program.rows;
        let mut registers = Registers::new(rows.words as usize, rows.longs as usize, rows.predicates as usize);
        for &(row, bits) in &program.constants {
            (0..LANES).for_each(|lane| registers.set_lane(row.width, row.index, lane, bits));
        }
        Self {
            index,
            registers,
            groups: Vec::new(),
            live: 0,
            local: vec![POISON; program.local_bytes as usize * LANES],
            local_written: vec![false; program.local_bytes as usize * LANES],
            defined: vec![0; program.tracked.len()],
            taints: Vec::new(),
            tainted_bits: 0,
            executed: 0,
            guesses: vec![Guess::default(); program.guesses as usize],
            turn: 0,
        }
    }

    /// Puts the warp at the start of a block.
    pub fn start(&mut self, launch: &Launch<'_>, block: [u32; 3], noise: Option<u64>) {
        let threads = launch.threads();
        let first = self.index * LANES as u32;
        let here = threads.saturating_sub(first).min(LANES as u32);
        self.live = if here == LANES as u32 { u32::MAX } else { (1 << here) - 1 };
        self.groups.clear();
        if self.live != 0 {
            self.groups.push(Group { pc: 0, mask: self.live, state: State::Ready });
        }
        self.executed = 0;
        self.turn = 0;
        self.registers.noise = noise;
        self.registers.carry = 0;
        self.local.fill(POISON);
        self.local_written.fill(false);
        self.defined.fill(0);
        self.taints.clear();
        self.tainted_bits = 0;
        // Others are written before they are read, whatever the path.
        for row in &launch.program.tracked {
            (0..LANES).for_each(|lane| self.registers.set_lane(row.width, row.index, lane, u64::MAX));
        }
        for &(special, index) in &launch.program.specials {
            let row = &mut self.registers.words[index as usize].0;
            for (lane, value) in row.iter_mut().enumerate() {
                *value = special_value(special, launch, block, self.index, lane as u32);
            }
        }
    }

    pub fn is_done(&self) -> bool {
        self.groups.is_empty()
    }

    pub fn is_ready(&self) -> bool {
        self.groups.iter().any(|group| group.state == State::Ready)
    }

    /// The lanes of `mask` whose predicate holds.
    #[inline(always)]
    pub fn guarded(&self, mask: u32, guard: u32, negated: bool) -> u32 {
        if guard == NONE {
            return mask;
        }
        let predicate = self.registers.predicates[guard as usize];
        mask & if negated { !predicate } else { predicate }
    }

    /// A word of a lane; what is absent is 0.
    pub fn word(&self, row: Row, lane: usize) -> u32 {
        match row.width {
            Width::Word if row.is_some() => self.registers.words[row.index as usize].0[lane],
            _ => 0,
        }
    }

    /// Puts groups at the same instruction together; waiting ones among them try again.
    pub fn merge(&mut self) {
        if self.groups.len() < 2 {
            return;
        }
        self.groups.sort_by_key(|group| group.pc);
        let mut merged: Vec<Group> = Vec::with_capacity(self.groups.len());
        for group in self.groups.drain(..) {
            let counted = matches!(group.state, State::Barrier { .. });
            let same = merged.iter_mut().rev().take_while(|other| other.pc == group.pc);
            let fitting = same.into_iter().find(|other| {
                if counted { other.state == group.state } else { !matches!(other.state, State::Barrier { .. }) }
            });
            match fitting {
                Some(other) if counted => other.mask |= group.mask,
                Some(other) => {
                    other.mask |= group.mask;
                    other.state = State::Ready;
                }
                None => merged.push(group),
            }
        }
        self.groups = merged;
    }

    /// Ends the lanes: they take part in nothing any more.
    pub fn exit(&mut self, mask: u32) {
        self.live &= !mask;
    }

    /// Thread numbers in the block start here.
    pub fn first_thread(&self) -> u32 {
        self.index * LANES as u32
    }

    /// Lane of the first of a mask, as thread of the block.
    pub fn thread(&self, mask: u32) -> u32 {
        self.first_thread() + lanes::first(mask) as u32
    }
}

fn special_value(special: Special, launch: &Launch<'_>, block: [u32; 3], warp: u32, lane: u32) -> u32 {
    let thread = warp * LANES as u32 + lane;
    let bit = 1u32 << lane;
    match special {
        Special::Thread(axis) => crate::findings::unflatten(thread, launch.block)[axis],
        Special::BlockSize(axis) => launch.block[axis],
        Special::Block(axis) => block[axis],
        Special::GridSize(axis) => launch.grid[axis],
        Special::Lane => lane,
        Special::Warp => warp,
        Special::Warps => launch.threads().div_ceil(LANES as u32),
        Special::LaneMaskEq => bit,
        Special::LaneMaskLt => bit - 1,
        Special::LaneMaskLe => bit | (bit - 1),
        Special::LaneMaskGt => !(bit | (bit - 1)),
        Special::LaneMaskGe => !(bit - 1),
        Special::Zero => 0,
        Special::One => 1,
        Special::DynamicShared => launch.dynamic_shared,
        Special::TotalShared => launch.program.shared.bytes + launch.dynamic_shared,
    }
}
