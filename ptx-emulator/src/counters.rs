//! What a launch executed and moved, per static instruction and in all.

use crate::forms::Class;
use crate::program::{Kind, Program};

/// Classes of instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InstructionClass {
    /// f32, f16 and bf16 arithmetic.
    Float,
    /// f64 arithmetic.
    Double,
    /// The special-function unit: ex2, lg2, rcp, rsqrt, sin, cos, tanh.
    Special,
    /// Integer arithmetic, logic, comparisons, selections, moves.
    Integer,
    /// Conversions.
    Convert,
    /// Loads, stores, atomics, copies, fences.
    Memory,
    /// Shuffles, votes, matches, reductions over a warp.
    Shuffle,
    /// Barriers of the block and of the warp.
    Barrier,
    /// Branches, exits, hints.
    Control,
}

/// Counts of one static instruction over the whole launch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Times a warp issued it.
    pub executed: u64,
    /// Active lanes, summed over those times.
    pub lanes: u64,
    /// Bytes of global memory loaded or stored, lane by lane.
    pub global_bytes: u64,
    /// 32-byte sectors of global memory touched, warp by warp.
    pub global_sectors: u64,
    /// Passes through shared memory beyond the fewest possible.
    pub bank_conflicts: u64,
    /// Branches that split a group of lanes.
    pub divergences: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.executed += other.executed;
        self.lanes += other.lanes;
        self.global_bytes += other.global_bytes;
        self.global_sectors += other.global_sectors;
        self.bank_conflicts += other.bank_conflicts;
        self.divergences += other.divergences;
    }
}

/// Counts of one instruction, with what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CountedInstruction {
    /// Opcode and modifiers.
    pub instruction: String,
    /// Line of the PTX text, from 1.
    pub ptx_line: u32,
    /// File and line of the source, where known.
    pub source: Option<(String, u32)>,
    /// Its class.
    pub class: InstructionClass,
    /// Reads memory.
    pub is_load: bool,
    /// Writes memory.
    pub is_store: bool,
    /// Floating-point operations per lane.
    pub flops: u32,
    /// An exponential (`ex2`).
    pub is_exponential: bool,
    /// The counts.
    pub counts: Counts,
}

/// Per static instruction of the kernel, in order; functions that are called appear once per call.
pub(crate) fn resolve(program: &Program, counts: &[Counts], files: &[(u32, String)]) -> Vec<CountedInstruction> {
    let file = |index: u32| files.iter().find(|file| file.0 == index).map(|file| file.1.clone());
    let each = program.info.iter().zip(counts).map(|(info, counts)| CountedInstruction {
        instruction: info.text.clone(),
        ptx_line: info.line,
        source: info.location.and_then(|location| file(location.file).map(|file| (file, location.line))),
        class: class(info.class),
        is_load: info.text.starts_with("ld") || info.text.starts_with("atom") || info.text.starts_with("cp.async.c"),
        is_store: ["st", "atom", "red."].iter().any(|opcode| info.text.starts_with(opcode)),
        flops: info.flops,
        is_exponential: info.exponential,
        counts: counts.clone(),
    });
    each.collect()
}

fn class(kind: Kind) -> InstructionClass {
    match kind {
        Kind::Compute(Class::Float) => InstructionClass::Float,
        Kind::Compute(Class::Double) => InstructionClass::Double,
        Kind::Compute(Class::Special) => InstructionClass::Special,
        Kind::Compute(Class::Integer) => InstructionClass::Integer,
        Kind::Compute(Class::Convert) => InstructionClass::Convert,
        Kind::Memory => InstructionClass::Memory,
        Kind::Shuffle => InstructionClass::Shuffle,
        Kind::Barrier => InstructionClass::Barrier,
        Kind::Control => InstructionClass::Control,
    }
}
