//! Instructions that only compute: which function executes `opcode.modifiers`, and what its operands are.

#[macro_use]
mod execute;

pub(crate) use execute::Level;

use crate::registers::Exec;
use crate::types::Type;

/// What an instruction costs, for the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// f32, f16 and bf16 arithmetic.
    Float,
    /// f64 arithmetic.
    Double,
    /// Approximate functions of the special-function unit.
    Special,
    /// Integer arithmetic, logic, comparisons, selections, moves.
    Integer,
    /// Conversions.
    Convert,
}

/// One computing instruction with its modifiers.
#[derive(Clone, Debug)]
pub(crate) struct Form {
    pub exec: Exec,
    /// Type of the destination.
    pub dst: Type,
    /// Type of the second destination, `q` of `p|q`.
    pub dst2: Option<Type>,
    pub src: Vec<Type>,
    pub class: Class,
    /// Floating-point operations per lane: 1 for add and mul, 2 for fma, twice that for packed halves.
    pub flops: u32,
    /// `ex2`.
    pub exponential: bool,
    /// A `mul`, `add` or `sub` of f32 or f64 that says nothing of rounding: a device may fuse them.
    pub contractable: bool,
}
