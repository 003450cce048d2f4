//! Instructions that only compute: which function executes `opcode.modifiers`, and what its operands are.

#[macro_use]
mod execute;
mod bits;
mod by_type;
mod by_value;
mod carry;
mod compare;
mod convert_floats;
mod convert_integers;
mod errors;
mod float_arithmetic;
mod float_compare;
mod float_families;
mod float_signs;
#[cfg(test)]
mod float_tests;
mod fused;
mod half_arithmetic;
mod integer_families;
#[cfg(test)]
mod integer_tests;
mod integers;
mod logic;
mod modifiers;
pub(crate) mod moves;
mod multiply;
mod packed;
mod shift;
mod special;
#[cfg(test)]
pub(crate) mod testing;

pub(crate) use execute::Level;
pub(crate) use fused::fused;

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
    /// Of approximate instructions.
    pub allows: Option<Allows>,
}

/// Whether a device may give `result`, the bits of which stand last, of one or two operands: `b` is `a` where there is
/// one.
pub(crate) type Allows = fn(a: u64, b: u64, result: u64) -> bool;

/// The form of an instruction with so many sources.
pub(crate) fn select(opcode: &str, modifiers: &[&str], sources: usize, level: Level) -> Option<Form> {
    if sources == 3
        && let Some(form) = float_signs::select_three(opcode, modifiers, level)
    {
        return Some(form);
    }
    integer_families::select(opcode, modifiers, level).or_else(|| float_families::select(opcode, modifiers, level))
}

/// The form of a comparison with two destinations, `p|q`.
pub(crate) fn select_pair(opcode: &str, modifiers: &[&str], level: Level) -> Option<Form> {
    if opcode != "setp" {
        return None;
    }
    compare::select_pair(modifiers, level).or_else(|| float_compare::select_pair(modifiers, level))
}

/// A conversion into a register of so many bits, to whose width the result is extended.
pub(crate) fn select_conversion(modifiers: &[&str], bits: u32, level: Level) -> Option<Form> {
    if modifiers.first() == Some(&"pack") {
        return convert_integers::select("cvt", modifiers, level);
    }
    convert_integers::select_into(modifiers, bits, level)
        .or_else(|| convert_floats::select_into(modifiers, Some(bits), level))
}

/// Every form, a line for each group; braces hold alternatives.
///
/// `setp` of these types also exists with two destinations.
pub(crate) fn known() -> impl Iterator<Item = &'static str> {
    let more = [float_signs::KNOWN_OF_THREE, float_compare::KNOWN_PAIRS].into_iter().flatten().copied();
    known_of_two().chain(more)
}

/// The part of [`known`] with one destination and, for `min` and `max`, two sources.
pub(crate) fn known_of_two() -> impl Iterator<Item = &'static str> {
    integer_families::known().chain(float_families::known())
}

/// The part of [`known`] that has three sources and shares its name with what has two.
pub(crate) fn known_of_three() -> impl Iterator<Item = &'static str> {
    float_signs::KNOWN_OF_THREE.iter().copied()
}

/// What [`select_pair`] knows.
pub(crate) fn known_of_pairs() -> impl Iterator<Item = &'static str> {
    let integers = compare::KNOWN.iter().filter(|line| line.starts_with("setp."));
    integers.chain(float_compare::KNOWN_PAIRS).copied()
}
