//! The lists of what is known, against the selection.

use crate::forms::testing::{expand, levels, split};
use crate::forms::{float_compare, float_families, float_signs};

#[test]
fn every_form_of_the_lists_is_known_at_every_level() {
    for level in levels() {
        for name in float_families::known().flat_map(expand) {
            let (opcode, modifiers) = split(&name);
            assert!(float_families::select(opcode, &modifiers, level).is_some(), "{name}");
        }
        for name in float_signs::KNOWN_OF_THREE.iter().copied().flat_map(expand) {
            let (opcode, modifiers) = split(&name);
            assert!(float_signs::select_three(opcode, &modifiers, level).is_some(), "{name}");
        }
        for name in float_compare::KNOWN_PAIRS.iter().copied().flat_map(expand) {
            let (_, modifiers) = split(&name);
            assert!(float_compare::select_pair(&modifiers, level).is_some(), "{name}");
        }
    }
}
