//! The last pass: labels, `extern` shared memory, and which registers may be read before they are written.

use super::{Dynamic, Lowering, contract};
use crate::error::Result;
use crate::parse::ast::Space;
use crate::program::{AtomicOperation, Code, Info, Instruction, NONE, Program, Row};
use crate::types::Width;
use std::collections::{HashMap, HashSet};

/// Alignment of `extern` shared memory, and the distance from the variables before it.
const DYNAMIC_ALIGN: u32 = 1024;

impl Lowering<'_> {
    pub(super) fn finish(mut self, contraction: Option<u64>) -> Result<Program> {
        self.place_dynamic_shared();
        self.patch_labels()?;
        let mut program = self.program;
        // What remains are registers: declared ones, and temporaries.
        let mut given: HashSet<Row> = program.constants.iter().map(|constant| constant.0).collect();
        given.extend(program.specials.iter().map(|&(_, index)| Row { width: Width::Word, index }));
        program.info.iter_mut().for_each(|info| info.uses.retain(|row| !given.contains(row)));
        if let Some(seed) = contraction {
            contract::contract(&mut program, self.level, seed);
        }
        number_guesses(&mut program);
        forgive_undefined_parts(&mut program);
        program.tracked = maybe_uninitialised(&program);
        let tracked: HashSet<Row> = program.tracked.iter().copied().collect();
        for (instruction, info) in program.code.iter_mut().zip(&program.info) {
            let mut rows = info.uses.iter().chain(&info.defs);
            instruction.touched = rows.clone().fold(0, |bits, row| bits | row.bit());
            instruction.tracked = rows.any(|row| tracked.contains(row));
        }
        Ok(program)
    }

    fn place_dynamic_shared(&mut self) {
        let layout = &mut self.program.shared;
        let end = layout.variables.last().map_or(0, |last| last.offset + last.bytes + 1);
        layout.dynamic = end.next_multiple_of(DYNAMIC_ALIGN);
        let start = layout.dynamic;
        let Program { constants, accesses, atomics, copies, .. } = &mut self.program;
        for &place in &self.dynamic {
            let offset = match place {
                Dynamic::Constant(index) => {
                    let bits = &mut constants[index].1;
                    *bits = bits.wrapping_add(start.into());
                    continue;
                }
                Dynamic::Access(index) => &mut accesses[index].address.offset,
                Dynamic::Atomic(index) => &mut atomics[index].address.offset,
                Dynamic::Copy(index) => &mut copies[index].dst.offset,
            };
            *offset = offset.wrapping_add(start.into());
        }
    }

    fn patch_labels(&mut self) -> Result<()> {
        let labels = std::mem::take(&mut self.labels);
        let place = |label: &mut u32| *label = labels[*label as usize];
        for instruction in &mut self.program.code {
            if let Code::Branch(label) = &mut instruction.code {
                place(label);
            }
        }
        self.program.tables.iter_mut().flatten().for_each(place);
        Ok(())
    }
}

/// Plain loads of as many bytes as a compare-and-swap of the kernel takes.
fn number_guesses(program: &mut Program) {
    let swaps = program.atomics.iter().filter(|atomic| atomic.operation == AtomicOperation::CompareAndSwap);
    let sizes: HashSet<u32> = swaps.map(|swap| swap.ty.bytes()).collect();
    let loads: HashSet<u32> =
        program.code.iter().filter_map(|one| if let Code::Load(load) = one.code { Some(load) } else { None }).collect();
    for (index, access) in (0..).zip(&mut program.accesses) {
        let plain = !access.volatile && !access.noncoherent && access.count == 1 && access.rows[0].is_some();
        let space = matches!(access.space, Space::Shared | Space::Global | Space::Generic);
        if plain && space && sizes.contains(&access.size) && loads.contains(&index) {
            access.guess = program.guesses;
            program.guesses += 1;
        }
    }
}

/// Instructions that may follow.
fn successors(program: &Program, at: usize) -> Vec<usize> {
    let instruction: &Instruction = &program.code[at];
    let next = (at + 1 < program.code.len()).then_some(at + 1);
    let conditional = instruction.guard != NONE;
    match instruction.code {
        Code::Branch(target) => Some(target as usize).into_iter().chain(next.filter(|_| conditional)).collect(),
        Code::Table(table) => {
            let targets = program.tables[table as usize].iter().map(|&target| target as usize);
            targets.chain(next.filter(|_| conditional)).collect()
        }
        Code::Exit | Code::Trap => next.filter(|_| conditional).into_iter().collect(),
        _ => next.into_iter().collect(),
    }
}

/// Starts of basic blocks, in order.
pub(super) fn block_starts(program: &Program) -> Vec<usize> {
    let mut starts = vec![false; program.code.len() + 1];
    starts[0] = true;
    for (at, instruction) in program.code.iter().enumerate() {
        match instruction.code {
            Code::Branch(target) => {
                starts[target as usize] = true;
                starts[at + 1] = true;
            }
            Code::Table(table) => {
                program.tables[table as usize].iter().for_each(|&target| starts[target as usize] = true);
                starts[at + 1] = true;
            }
            Code::Exit | Code::Trap => starts[at + 1] = true,
            _ => {}
        }
    }
    (0..program.code.len()).filter(|&at| starts[at]).collect()
}

/// A compiler that cares for one half of a register packs it with one that nothing in the kernel writes.
fn forgive_undefined_parts(program: &mut Program) {
    let written: HashSet<Row> = program.info.iter().flat_map(|info| info.defs.iter().copied()).collect();
    for info in program.info.iter_mut().filter(|info| info.text.starts_with("mov.") && info.uses.len() > 1) {
        info.uses.retain(|row| row.width == Width::Predicate || written.contains(row));
    }
}

/// Registers for which some use is not reached by a definition on every path.
fn maybe_uninitialised(program: &Program) -> Vec<Row> {
    let mut numbers: HashMap<Row, usize> = HashMap::new();
    for row in program.info.iter().flat_map(|info| info.uses.iter().chain(&info.defs)) {
        let next = numbers.len();
        numbers.entry(*row).or_insert(next);
    }
    let words = numbers.len().div_ceil(64);
    let starts = block_starts(program);
    let mut block_of = vec![usize::MAX; program.code.len() + 1];
    starts.iter().enumerate().for_each(|(block, &start)| block_of[start] = block);
    // Defined registers at the start of each block; not reached yet: all.
    let mut entry: Vec<Option<Vec<u64>>> = vec![None; starts.len()];
    if !starts.is_empty() {
        entry[0] = Some(vec![0; words]);
    }
    let mut pending = vec![0];
    let mut maybe = vec![false; numbers.len()];
    while let Some(block) = pending.pop() {
        let Some(mut defined) = entry.get(block).cloned().flatten() else { continue };
        let end = starts.get(block + 1).copied().unwrap_or(program.code.len());
        for at in starts[block]..end {
            step(&program.code[at], &program.info[at], &numbers, &mut defined, &mut maybe);
        }
        for next in successors(program, end - 1) {
            let next = block_of[next];
            if next != usize::MAX && merge(&mut entry[next], &defined) {
                pending.push(next);
            }
        }
    }
    let mut rows: Vec<Row> = numbers.into_iter().filter(|&(_, number)| maybe[number]).map(|(row, _)| row).collect();
    rows.sort_by_key(|row| (row.width as u8, row.index));
    rows
}

fn step(
    instruction: &Instruction,
    info: &Info,
    numbers: &HashMap<Row, usize>,
    defined: &mut [u64],
    maybe: &mut [bool],
) {
    let is_defined = |defined: &[u64], number: usize| defined[number / 64] >> (number % 64) & 1 != 0;
    for row in &info.uses {
        let number = numbers[row];
        maybe[number] |= !is_defined(defined, number);
    }
    for row in info.defs.iter().filter(|_| instruction.guard == NONE) {
        let number = numbers[row];
        defined[number / 64] |= 1 << (number % 64);
    }
}

/// Registers defined on both ways; whether that is less than before.
fn merge(entry: &mut Option<Vec<u64>>, defined: &[u64]) -> bool {
    match entry {
        None => {
            *entry = Some(defined.to_vec());
            true
        }
        Some(known) => {
            let before = known.clone();
            known.iter_mut().zip(defined).for_each(|(known, defined)| *known &= defined);
            *known != before
        }
    }
}
