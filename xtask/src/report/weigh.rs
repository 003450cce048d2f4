//! How often each block of a kernel's machine code was executed.
//!
//! The emulator executes PTX and counts each of its lines; ptxas tells the PTX line of each machine instruction. ptxas
//! moves instructions between blocks and turns short branches into predicates, so a line's count is a vote for its
//! block, and one of more weight where the instruction is of those that are not moved (branches, stores, barriers,
//! shuffles). The counts are those that control can have and that contradict the fewest votes (`flow.rs`).

use std::collections::{HashMap, HashSet};

use ssm_kernels::gpu::Report;

use super::classes::Class;
use super::flow;
use super::sass::{Block, Function, Instruction};

/// Exponentials of a loop from which on they are state steps: softplus, silu and their gradients have fewer.
const STATES: usize = 8;
/// Weight of an instruction that is not moved, and of a way that is never taken.
const PINNED: i64 = 4;
const NEVER: i64 = 1000;
/// The largest part by which counted exponentials may differ from what the emulator saw; and shuffles and barriers, which it
/// counts once more when a part of a warp has to wait for the others there.
const AGREEMENT: f64 = 0.02;
const AGREEMENT_OF_MEETINGS: f64 = 0.1;

/// Instructions by class.
pub type ByClass = [f64; Class::ALL.len()];

/// What a line of PTX executes, in one launch.
#[derive(Debug, Clone, Default)]
pub struct PtxLine {
    pub opcode: String,
    pub executed: u64,
    pub bank_conflicts: u64,
    /// File and line of the kernel's source.
    pub source: Option<(String, u32)>,
}

pub type PtxLines = HashMap<u32, PtxLine>;

/// What a launch executed. The emulator may run the parts of a warp that a branch has split one after another far beyond
/// the place where a device joins them: an instruction with more than half of the lanes counts as executed by whole warps.
/// (Lanes that write for their channel are half of a warp or less.)
pub fn lines(report: &Report) -> PtxLines {
    let each = report.instructions().iter().map(|one| {
        let (executed, lanes) = (one.counts.executed, one.counts.lanes);
        let executed = if lanes > 16 * executed { lanes.div_ceil(32) } else { executed };
        let (opcode, source) = (one.instruction.clone(), one.source.clone());
        (one.ptx_line, PtxLine { opcode, executed, bank_conflicts: one.counts.bank_conflicts, source })
    });
    each.collect()
}

/// A loop that works on states.
#[derive(Debug, Clone, Default)]
pub struct StateLoop {
    /// In one pass, rare ways left out.
    pub instructions: ByClass,
    /// State steps of a lane in one pass: its exponentials.
    pub exponentials: f64,
    pub passes: u64,
}

/// What a launch of a kernel issued, in warp instructions.
#[derive(Debug, Clone, Default)]
pub struct Counted {
    pub all: ByClass,
    pub state: ByClass,
    pub loops: Vec<StateLoop>,
    /// Of the state loops.
    pub bank_conflicts: u64,
    /// In all, and in state loops, by line of the kernel's source.
    pub by_source: HashMap<(String, u32), [f64; 2]>,
}

/// Counts a launch of `function` whose PTX executed `lines`.
pub fn count(function: &Function, lines: &PtxLines) -> Result<Counted, String> {
    let weights = weights(function, lines);
    for (block, weight) in function.blocks.iter().zip(&weights) {
        if *weight > 0 && block.instructions.iter().any(Instruction::is_call) {
            return Err(format!("{}: a function of ptxas is called {weight} times, and not counted", function.name));
        }
    }
    agree(function, lines, &weights)?;
    let (state_blocks, loops) = state_loops(function, &weights);
    let mut shared = HashSet::new();
    let mut counted = Counted { loops, ..Counted::default() };
    for (i, block) in function.blocks.iter().enumerate() {
        for instruction in &block.instructions {
            let (class, weight) = (Class::of(instruction) as usize, weights[i] as f64);
            let in_state = if state_blocks[i] { weight } else { 0.0 };
            counted.all[class] += weight;
            counted.state[class] += in_state;
            if state_blocks[i] && Class::of(instruction) == Class::SharedMemory {
                shared.insert(instruction.line);
            }
            let source = lines.get(&instruction.line).and_then(|line| line.source.clone());
            let both = counted.by_source.entry(source.unwrap_or_default()).or_default();
            both[0] += weight;
            both[1] += in_state;
        }
    }
    let conflicts = |line: &u32| lines.get(line).map_or(0, |line| line.bank_conflicts);
    counted.bank_conflicts = shared.iter().map(conflicts).sum();
    Ok(counted)
}

/// Executions of each block.
fn weights(function: &Function, lines: &PtxLines) -> Vec<u64> {
    let vote = |one: &Instruction| {
        let weight = if is_pinned(one) { PINNED } else { 1 };
        let counts = is_pinned(one) || !one.predicated;
        lines.get(&one.line).filter(|_| counts).map(|line| (line.executed, weight))
    };
    let votes = |block: &Block| match (block.is_rare, copies(block)) {
        (true, _) => vec![(0, NEVER)],
        (_, copies) => {
            let votes = block.instructions.iter().filter_map(vote);
            votes.map(|(executed, weight)| (executed / copies, weight)).collect()
        }
    };
    // The next warp enters where one exits.
    let entry = |block: &Block| block.exits.then_some(0);
    let next = |block: &Block| block.successors.iter().copied().chain(entry(block)).collect();
    let successors: Vec<Vec<usize>> = function.blocks.iter().map(next).collect();
    flow::fit(&successors, &function.blocks.iter().map(votes).collect::<Vec<_>>())
}

/// How many passes of a loop ptxas has put into one: a line's exponential or shuffle is one instruction.
fn copies(block: &Block) -> u64 {
    let mut of_line: HashMap<(u32, &str), u64> = HashMap::new();
    for one in block.instructions.iter().filter(|one| one.opcode == "MUFU.EX2" || one.stem() == "SHFL") {
        *of_line.entry((one.line, one.stem())).or_default() += 1;
    }
    of_line.into_values().max().unwrap_or(1)
}

fn is_pinned(instruction: &Instruction) -> bool {
    match instruction.stem() {
        "EXIT" => true,
        _ if instruction.is_branch() => true,
        "BAR" | "SHFL" | "STS" | "STG" | "ST" | "RED" | "ATOMG" | "LDGSTS" => !instruction.predicated,
        _ => false,
    }
}

/// Exponentials, shuffles and barriers are the same instructions in PTX and in machine code: if their sums differ, ptxas
/// has copied or moved code in a way that the votes do not see, and the counts mean nothing.
fn agree(function: &Function, lines: &PtxLines, weights: &[u64]) -> Result<(), String> {
    let kinds = [
        ("ex2.", "MUFU.EX2", AGREEMENT),
        ("shfl.", "SHFL", AGREEMENT_OF_MEETINGS),
        ("bar.sync", "BAR", AGREEMENT_OF_MEETINGS),
    ];
    for (ptx, sass, agreement) in kinds {
        let told: u64 = lines.values().filter(|line| line.opcode.starts_with(ptx)).map(|line| line.executed).sum();
        let of = |instructions: &[Instruction]| instructions.iter().filter(|one| one.opcode.starts_with(sass)).count();
        let blocks = function.blocks.iter().zip(weights);
        let counted: u64 = blocks.map(|(block, weight)| of(&block.instructions) as u64 * weight).sum();
        if (counted as f64 - told as f64).abs() > agreement * told.max(100) as f64 {
            let name = &function.name;
            return Err(format!("{name}: {counted} {sass} by blocks, {told} {ptx}* by the emulator"));
        }
    }
    Ok(())
}

/// Which blocks belong to state loops, and these loops: the innermost ones with eight exponentials or more that do not touch
/// global memory, as loops over pointwise work do.
fn state_loops(function: &Function, weights: &[u64]) -> (Vec<bool>, Vec<StateLoop>) {
    let (loops, innermost) = (function.loops(), function.innermost_loops());
    let mut within = vec![false; weights.len()];
    let mut counted = Vec::new();
    for (which, one) in loops.iter().enumerate() {
        let exponentials = |block: usize| {
            let instructions = &function.blocks[block].instructions;
            instructions.iter().filter(|one| one.is_exponential()).count()
        };
        let all: usize = one.blocks.iter().map(|&block| exponentials(block)).sum();
        let is_innermost = one.blocks.iter().all(|&block| innermost[block] == Some(which));
        let passes = weights[one.first];
        if all < STATES || passes == 0 || !is_innermost || one.blocks.iter().any(|&block| is_global(function, block)) {
            continue;
        }
        let mut found = StateLoop { passes, ..StateLoop::default() };
        for &block in &one.blocks {
            within[block] = true;
            let share = weights[block] as f64 / passes as f64;
            found.exponentials += exponentials(block) as f64 * share;
            for instruction in &function.blocks[block].instructions {
                found.instructions[Class::of(instruction) as usize] += share;
            }
        }
        counted.push(found);
    }
    (within, counted)
}

fn is_global(function: &Function, block: usize) -> bool {
    let global = [Class::GlobalLoadStore, Class::AsyncCopy];
    function.blocks[block].instructions.iter().any(|one| global.contains(&Class::of(one)))
}

#[cfg(test)]
mod tests {
    use super::super::sass;
    use super::*;

    /// What `fixtures/loop.sass` was made from, had it been a kernel of one warp with 50 passes; line 21 stood in the loop,
    /// and line 28 behind a branch taken every other time.
    fn lines() -> PtxLines {
        let executed = |line: u32| match line {
            20..=27 | 29..=31 | 41..=44 => 50,
            28 => 25,
            34..=35 => 0,
            _ => 1,
        };
        let opcode = |line| if (22..26).contains(&line) || line > 40 { "ex2.approx.ftz.f32" } else { "other" };
        let one = |line| {
            let source = Some(("a.cu".to_string(), line / 10));
            (line, PtxLine { opcode: opcode(line).to_string(), executed: executed(line), bank_conflicts: 3, source })
        };
        (10..36).chain(41..45).map(one).collect()
    }

    fn small() -> Function {
        sass::parse(include_str!("../../fixtures/loop.sass")).expect("a listing").remove(0)
    }

    #[test]
    fn a_loop_counted_by_hand() {
        let counted = count(&small(), &lines()).expect("they agree");
        // 4 before the loop, 50 passes of 3 + 12 (the call never), 2 behind it, nothing after the exit.
        assert_eq!(counted.all.iter().sum::<f64>(), 4.0 + 50.0 * 15.0 + 2.0);
        assert_eq!(counted.state.iter().sum::<f64>(), 50.0 * 15.0);
        // Those of the one line that reads shared memory.
        assert_eq!((counted.loops.len(), counted.bank_conflicts), (1, 3));
        let (one, class) = (&counted.loops[0], |class: Class| counted.loops[0].instructions[class as usize]);
        assert_eq!((one.exponentials, one.passes), (8.0, 50));
        // LDS; FCHK, FFMA, FADD; 8 EX2; ISETP; 2 BRA.
        assert_eq!((class(Class::SharedMemory), class(Class::Float), class(Class::Special)), (1.0, 3.0, 8.0));
        assert_eq!((class(Class::Integer), class(Class::Control), one.instructions.iter().sum()), (1.0, 2.0, 15.0));
        // Lines 20 and 21: 150 in the loop, and the FMUL that was moved out of it.
        assert_eq!(counted.by_source[&("a.cu".to_string(), 2)], [50.0 * 9.0 + 1.0, 50.0 * 9.0]);
    }

    /// The same loop with two passes in one, as ptxas unrolls: as many instructions of states in half the passes.
    #[test]
    fn an_unrolled_loop() {
        let listing = include_str!("../../fixtures/loop.sass");
        let (before, rest) = listing.split_once("\t//## File \"kernel.ptx\", line 22").expect("line 22");
        let (twice, after) = rest.split_once("\t//## File \"kernel.ptx\", line 30").expect("line 30");
        let line = |which| format!("\t//## File \"kernel.ptx\", line {which}");
        let text = format!("{before}{}{twice}{}{twice}{}{after}", line(22), line(22), line(30));
        let counted = count(&sass::parse(&text).expect("a listing")[0], &lines()).expect("they agree");
        let (one, special) = (&counted.loops[0], counted.all[Class::Special as usize]);
        assert_eq!((one.exponentials, one.passes, special), (16.0, 25, 400.0));
    }

    #[test]
    fn a_call_that_happens_is_refused() {
        let listing = ".text.a:\n//## File \"kernel.ptx\", line 10\n/*0000*/ CALL.REL.NOINC `($b) ;\n/*0010*/ EXIT ;\n";
        let function = sass::parse(listing).expect("a listing").remove(0);
        assert!(count(&function, &lines()).expect_err("refused").contains("called 1 times"));
    }

    #[test]
    fn what_does_not_agree_is_refused() {
        let mut lines = lines();
        lines.get_mut(&22).expect("a line").executed = 500;
        assert!(count(&small(), &lines).expect_err("refused").contains("400 MUFU.EX2 by blocks, 850 ex2."));
    }
}
