//! All families of floating-point forms together.

use super::{Form, Level};
use super::{convert_floats, float_arithmetic, float_compare, float_signs, half_arithmetic, special};

/// The form of `opcode.modifiers` with one destination (and two sources, for `min` and `max`); `None` if it is none of
/// floating-point numbers.
pub(crate) fn select(opcode: &str, modifiers: &[&str], level: Level) -> Option<Form> {
    type Select = fn(&str, &[&str], Level) -> Option<Form>;
    const FAMILIES: [Select; 6] = [
        float_arithmetic::select,
        half_arithmetic::select,
        float_signs::select,
        float_compare::select,
        convert_floats::select,
        special::select,
    ];
    FAMILIES.iter().find_map(|family| family(opcode, modifiers, level))
}

/// What [`select`] knows, a line for each opcode with its modifiers and types; braces hold alternatives.
pub(crate) fn known() -> impl Iterator<Item = &'static str> {
    [
        float_arithmetic::KNOWN,
        half_arithmetic::KNOWN,
        float_signs::KNOWN,
        float_compare::KNOWN,
        convert_floats::KNOWN,
        special::KNOWN,
    ]
    .into_iter()
    .flatten()
    .copied()
}
