//! Compare-and-swap loops that start from a plain load, as `atomicAdd` of the toolkit's headers does for `bfloat16`. What
//! the load gives is a guess: a swap by the same thread, at the same address, that expects just this value confirms or
//! refuses it. A load all of whose values went that way in a block does not race with atomics there.

use super::block::Common;
use super::lanes;
use super::places::Addresses;
use super::warp::Warp;
use crate::findings::Findings;
use crate::program::{Access, Atomic, AtomicOperation, Code, NONE};
use crate::registers::LANES;

/// What the lanes of a warp loaded by one instruction, and have not yet compared.
#[derive(Clone, Debug)]
pub(super) struct Guess {
    mask: u32,
    addresses: Addresses,
    values: [u64; LANES],
}

impl Default for Guess {
    fn default() -> Self {
        Self { mask: 0, addresses: [0; LANES], values: [0; LANES] }
    }
}

/// What a block knows of a load that may guess.
#[derive(Debug, Default)]
pub(super) struct Guesses {
    /// A value of it was not compared.
    used: bool,
    /// Its races with atomics.
    races: Findings,
}

impl Warp {
    /// Lanes have loaded, into registers, from these addresses.
    pub(super) fn note_guess(&mut self, common: &mut Common<'_>, access: &Access, mask: u32, addresses: &Addresses) {
        if access.guess == NONE || common.guesses[access.guess as usize].used {
            return;
        }
        let guess = &mut self.guesses[access.guess as usize];
        common.guesses[access.guess as usize].used |= guess.mask & mask != 0;
        guess.mask |= mask;
        for lane in lanes::each(mask) {
            guess.addresses[lane] = addresses[lane];
            guess.values[lane] = self.registers.lane(access.rows[0].width, access.rows[0].index, lane);
        }
    }

    /// Lanes are about to compare and swap.
    pub(super) fn note_swap(&mut self, common: &mut Common<'_>, atomic: &Atomic, mask: u32, addresses: &Addresses) {
        if atomic.operation != AtomicOperation::CompareAndSwap {
            return;
        }
        let unused = 64 - 8 * atomic.ty.bytes();
        for (guess, known) in self.guesses.iter_mut().zip(&mut common.guesses) {
            for lane in lanes::each(guess.mask & mask) {
                if guess.addresses[lane] == addresses[lane] {
                    let expected = self.registers.lane(atomic.operand.width, atomic.operand.index, lane);
                    known.used |= (guess.values[lane] ^ expected) << unused != 0;
                    guess.mask &= !(1 << lane);
                }
            }
        }
    }
}

impl Common<'_> {
    /// The findings to which a race of two instructions in shared memory belongs, one of them a load.
    pub(super) fn races_of(&mut self, load: u32, other: u32) -> &mut Findings {
        let program = self.launch.program;
        match (program.code[load as usize].code, program.code[other as usize].code) {
            (Code::Load(index), Code::Atomic(_)) if program.accesses[index as usize].guess != NONE => {
                &mut self.guesses[program.accesses[index as usize].guess as usize].races
            }
            _ => &mut self.findings,
        }
    }

    /// At the end of the block: the loads that only guessed. The races of the others are findings.
    pub(super) fn close_guesses(&mut self, warps: &mut [Warp]) -> Vec<u32> {
        for warp in warps {
            for (guess, known) in warp.guesses.iter_mut().zip(&mut self.guesses) {
                known.used |= std::mem::take(&mut guess.mask) != 0;
            }
        }
        let mut confirmed = Vec::new();
        for (index, known) in self.guesses.iter_mut().enumerate() {
            let Guesses { used, races } = std::mem::take(known);
            if used {
                self.findings.add(races);
            } else {
                confirmed.push(index as u32);
            }
        }
        if confirmed.is_empty() {
            return confirmed;
        }
        let program = self.launch.program;
        let only_guessed = |code: &Code| match code {
            Code::Load(index) => confirmed.contains(&program.accesses[*index as usize].guess),
            _ => false,
        };
        (0..).zip(&program.code).filter(|(_, one)| only_guessed(&one.code)).map(|(pc, _)| pc).collect()
    }
}
