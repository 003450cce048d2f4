//! All families of integers, logic, comparisons, selections, moves and conversions between integers.

use super::{Form, Level};
use super::{bits, carry, compare, convert_integers, integers, logic, moves, multiply, packed};

type Select = fn(&str, &[&str], Level) -> Option<Form>;

/// Each family with what it knows. No two know the same form.
const FAMILIES: [(Select, &[&str]); 9] = [
    (integers::select, integers::KNOWN),
    (multiply::select, multiply::KNOWN),
    (moves::select, moves::KNOWN),
    (logic::select, logic::KNOWN),
    (compare::select, compare::KNOWN),
    (convert_integers::select, convert_integers::KNOWN),
    (bits::select, bits::KNOWN),
    (packed::select, packed::KNOWN),
    (carry::select, carry::KNOWN),
];

/// The form of `opcode.modifiers` in whichever family knows it.
pub(crate) fn select(opcode: &str, modifiers: &[&str], level: Level) -> Option<Form> {
    FAMILIES.iter().find_map(|(select, _)| select(opcode, modifiers, level))
}

/// Every form that [`select`] knows: a line for each group, braces holding alternatives (`"add.{u32,s32}"`).
pub(crate) fn known() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().flat_map(|(_, known)| known.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{expand, levels, spell, split};
    use super::*;
    use std::collections::BTreeSet;

    fn all() -> BTreeSet<String> {
        known().flat_map(expand).collect()
    }

    #[test]
    fn braces_expand_to_every_combination() {
        assert_eq!(expand("a{,.x}.{b,c}"), ["a.b", "a.c", "a.x.b", "a.x.c"]);
    }

    #[test]
    fn every_form_of_the_list_is_known_at_every_level_to_one_family() {
        for name in all() {
            let (opcode, modifiers) = split(&name);
            for level in levels() {
                let families =
                    FAMILIES.iter().filter(|(select, _)| select(opcode, &modifiers, level).is_some()).count();
                assert_eq!(families, 1, "{name}");
            }
        }
    }

    /// Nothing is known beyond the list: whatever is spelt from its words is either in it or refused.
    #[test]
    fn no_other_spelling_is_known() {
        let all = all();
        let opcodes: BTreeSet<&str> = all.iter().map(|name| split(name).0).collect();
        for opcode in opcodes {
            let mut words: BTreeSet<&str> = ["s32", "f32", "u8", "pred", "b128", "sat", "ftz", "cc", "lo"].into();
            words.extend(
                all.iter().map(|name| split(name)).filter(|(first, _)| *first == opcode).flat_map(|(_, rest)| rest),
            );
            let words: Vec<&str> = words.into_iter().collect();
            let longest =
                all.iter().map(|name| split(name)).filter(|(first, _)| *first == opcode).map(|(_, rest)| rest.len());
            let depth = longest.max().unwrap_or(0).min(3) + 1;
            spell(select, opcode, (&words, depth), &mut Vec::new(), &all);
        }
    }

    #[test]
    fn unknown_forms_are_refused() {
        for name in [
            "add",
            "add.f32",
            "add.sat.u32",
            "add.s32.sat",
            "add.cc",
            "addc.s16",
            "mul.s32",
            "mul.wide.s64",
            "mad.hi.sat.u32",
            "div.s32.s32",
            "lop3.and.b32",
            "lop3.b64",
            "setp.lt.b32",
            "setp.lo.s32",
            "setp.lt.f32",
            "set.lt.s32",
            "mov.b128",
            "mov.f16",
            "selp.pred",
            "slct.ftz.s32.s32",
            "shl.s32",
            "prmt.b32.f4",
            "cvt.u32",
            "cvt.rn.f32.s32",
            "cvt.u32.b32",
            "cvt.sat.sat.u8.s32",
            "cvt.pack.u8.s32.b32",
            "abs.u32",
            "neg.f32",
            "and.u32",
            "bfe.b32",
            "min.relu.u32",
            "sub.u16x2",
            "vadd.s32",
            "",
        ] {
            let (opcode, modifiers) = split(name);
            assert!(select(opcode, &modifiers, Level::Portable).is_none(), "{name}");
        }
    }
}
