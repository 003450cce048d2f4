#![doc = include_str!("../README.md")]

mod arith;
mod checks;
mod computations;
mod counters;
mod device;
mod error;
mod exec;
mod findings;
mod forms;
mod launch;
mod lower;
mod memory;
mod module;
mod parse;
mod program;
mod registers;
mod report;
mod schedule;
mod types;

pub use computations::{Computation, computations, expand};
pub use counters::{CountedInstruction, Counts, InstructionClass};
pub use device::{Buffer, Device, DeviceId};
pub use error::{Error, Result};
pub use exec::Checks;
pub use findings::{Finding, FindingKind};
pub use launch::{Argument, LaunchBuilder, Mode};
pub use module::{KernelInfo, Module, ParameterInfo};
pub use report::Report;

/// Every form of instruction that the emulator executes, a line for each group. Braces hold alternatives:
/// `add{,.sat}.{u32,s32}` stands for four forms.
pub fn instruction_forms() -> impl Iterator<Item = &'static str> {
    let others = lower::known::KNOWN.iter().flat_map(|(_, groups)| groups.iter().map(|(form, _)| *form));
    forms::known().chain(others)
}

/// The special registers that kernels may read, in the same way.
pub fn special_registers() -> impl Iterator<Item = &'static str> {
    lower::known::SPECIAL.iter().copied()
}
