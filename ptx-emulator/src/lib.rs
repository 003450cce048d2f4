//! Runs the PTX of CUDA kernels on any machine.

mod arith;
mod checks;
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
mod types;

pub use counters::{CountedInstruction, Counts, InstructionClass};
pub use device::{Buffer, Device};
pub use error::{Error, Result};
pub use exec::Checks;
pub use findings::{Finding, FindingKind};
pub use launch::{Argument, LaunchBuilder, Mode};
pub use module::Module;
pub use report::Report;
