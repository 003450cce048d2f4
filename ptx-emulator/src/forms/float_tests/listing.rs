//! The lists of what is known, against the selection.

use crate::forms::testing::{expand, levels, spell, split};
use crate::forms::{float_compare, float_families, float_signs};
use std::collections::BTreeSet;

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

/// Nothing is known beyond the lists: whatever is spelt from their words is either in them or refused.
#[test]
fn no_other_spelling_is_known() {
    let all: BTreeSet<String> = float_families::known().flat_map(expand).collect();
    let opcodes: BTreeSet<&str> = all.iter().map(|name| split(name).0).collect();
    for opcode in opcodes {
        let mut words: BTreeSet<&str> = ["s32", "f32", "u8", "pred", "b32", "oob", "f32x2", "e4m3x2"].into();
        words.extend(
            all.iter().map(|name| split(name)).filter(|(first, _)| *first == opcode).flat_map(|(_, rest)| rest),
        );
        let words: Vec<&str> = words.into_iter().collect();
        let depth = if words.len() > 25 { 3 } else { 4 };
        spell(float_families::select, opcode, (&words, depth), &mut Vec::new(), &all);
    }
}

#[test]
fn unknown_forms_are_refused() {
    for name in [
        "add.ftz.rn.f32",
        "add.sat.ftz.f32",
        "add.ftz.f64",
        "add.rz.f16",
        "add.ftz.bf16",
        "add.f32x2",
        "fma.f32",
        "fma.rn.oob.f16",
        "fma.rn.sat.relu.f16",
        "fma.rn.ftz.bf16",
        "mad.f32",
        "div.f32",
        "div.approx.f64",
        "div.rn.sat.f32",
        "sqrt.f32",
        "rcp.approx.f64",
        "rsqrt.rn.f32",
        "ex2.f32",
        "ex2.approx.ftz.f16",
        "ex2.approx.bf16",
        "tanh.approx.ftz.f32",
        "min.NaN.f64",
        "min.xorsign.f32",
        "min.abs.f32",
        "max.s32",
        "neg.ftz.bf16",
        "abs.s32",
        "copysign.f16",
        "testp.zero.f32",
        "setp.lt.f16x2",
        "setp.lo.f32",
        "setp.lt.s32",
        "setp.lt.ftz.and.f32",
        "set.lt.u16.f32",
        "set.lt.f32.f16",
        "cvt.f32.f64",
        "cvt.rn.f32.f16",
        "cvt.rn.f64.f32",
        "cvt.f32.s32",
        "cvt.s32.f32",
        "cvt.rn.s32.f32",
        "cvt.rni.f32.s32",
        "cvt.rni.f32.f64",
        "cvt.rn.rni.f32.f64",
        "cvt.rm.relu.f16.f32",
        "cvt.rn.satfinite.relu.f16.f32",
        "cvt.rn.relu.satfinite.tf32.f32",
        "cvt.rna.relu.tf32.f32",
        "cvt.rna.f16.f32",
        "cvt.rn.ftz.f16x2.f32",
        "cvt.rn.f16x2.f16",
        "cvt.rn.satfinite.e4m3x2.f32",
        "cvt.rs.f16x2.f32",
        "cvt.rn.sat.bf16.f32",
        "cvt.ftz.f64.f16",
        "cvt.u32.u16",
    ] {
        let (opcode, modifiers) = split(name);
        for level in levels() {
            assert!(float_families::select(opcode, &modifiers, level).is_none(), "{name}");
        }
    }
    assert!(float_signs::select_three("min", &["xorsign", "abs", "f32"], levels()[1]).is_none());
    assert!(float_signs::select_three("max", &["f16"], levels()[1]).is_none());
    assert!(float_compare::select_pair(&["lt", "s32"], levels()[1]).is_none());
    assert!(float_compare::select_pair(&["lt", "ftz", "bf16x2"], levels()[1]).is_none());
}
