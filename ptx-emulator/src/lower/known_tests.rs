//! Every form of the lists is lowered, and the documentation holds the lists.

use super::known::{KNOWN, SPECIAL};
use crate::forms::testing::expand;
use crate::{Error, Module};
use std::collections::BTreeSet;
use std::fmt::Write;

/// A module with `line` in its kernel, and all that the operands of the lists name.
fn module(line: &str) -> String {
    format!(
        ".version 9.0\n.target sm_100\n.address_size 64\n.global .b32 variable[8];\n.shared .align 16 .b8 shared[64];
.func function() {{ ret; }}
.func (.reg .b32 r) function_of_registers(.reg .b32 x, .reg .b32 y) {{ add.s32 r, x, y; ret; }}
.func (.param .b32 r) function_of_parameters(.param .b32 x) {{ .reg .b32 v; ld.param.b32 v, [x]; st.param.b32 [r], v; ret; }}
.entry k(.param .b64 q) {{
.reg .pred p; .reg .b8 byte; .reg .b16 half; .reg .b32 word, count; .reg .b64 long, address, policy;
.param .b32 argument; .param .b32 result;
labels: .branchtargets label, label;
label:
{line}
}}\n"
    )
}

/// A register for operands of the type that a form ends with.
fn register(form: &str) -> &'static str {
    match form.rsplit('.').next().unwrap_or_default() {
        "b8" | "u8" | "s8" => "byte",
        "b16" | "u16" | "s16" | "f16" | "bf16" => "half",
        "b64" | "u64" | "s64" | "f64" => "long",
        "pred" => "p",
        _ => "word",
    }
}

/// The operands of a list as PTX: single letters become registers.
fn written(form: &str, operands: &str) -> String {
    let mut text = String::new();
    let mut word = String::new();
    for character in operands.chars().chain([' ']) {
        if character.is_ascii_alphanumeric() || character == '_' {
            word.push(character);
            continue;
        }
        match word.as_str() {
            "d" | "b" => text.push_str(register(form)),
            "a" => text.push_str("address"),
            other => text.push_str(other),
        }
        word.clear();
        text.push(character);
    }
    text.trim_end().into()
}

fn lowered(line: &str) -> Result<(), Error> {
    Module::from_ptx(&module(line)).and_then(|module| module.check())
}

#[test]
fn every_form_of_the_list_lowers() {
    for (form, operands) in KNOWN.iter().flat_map(|(_, groups)| *groups) {
        for name in expand(form) {
            let line = format!("{name} {};", written(&name, operands));
            lowered(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }
}

#[test]
fn every_special_register_is_read() {
    for name in SPECIAL.iter().copied().flat_map(expand) {
        let line = if name.contains("64") || name.contains("timer") {
            format!("mov.u64 long, {name};")
        } else {
            format!("mov.u32 word, {name};")
        };
        lowered(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

/// Whatever is spelt from the words of the list is in it or refused, in lists of up to three words.
#[test]
fn no_other_spelling_is_taken() {
    for opcode in [
        "shfl",
        "vote",
        "match",
        "redux",
        "bar",
        "barrier",
        "membar",
        "fence",
        "cvta",
        "isspacep",
        "bra",
        "ret",
        "activemask",
    ] {
        let groups = || {
            KNOWN
                .iter()
                .flat_map(|(_, groups)| *groups)
                .filter(|(form, _)| form.split(['.', '{']).next() == Some(opcode))
        };
        let all: BTreeSet<String> = groups().flat_map(|(form, _)| expand(form)).collect();
        let words: BTreeSet<&str> = all.iter().flat_map(|name| name.split('.').skip(1)).chain(["x", "b16"]).collect();
        let operands: BTreeSet<&str> = groups().map(|(_, operands)| *operands).collect();
        let mut names = vec![opcode.to_string()];
        for _ in 0..3 {
            let longer: Vec<String> =
                names.iter().flat_map(|name| words.iter().map(move |word| format!("{name}.{word}"))).collect();
            names.extend(longer);
            names.dedup();
        }
        for name in names.into_iter().collect::<BTreeSet<_>>() {
            let taken =
                operands.iter().any(|operands| lowered(&format!("{name} {};", written(&name, operands))).is_ok());
            assert_eq!(taken, all.contains(&name), "{name}");
        }
    }
}

#[test]
fn the_documentation_has_the_lists() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let found = std::fs::read_to_string(path).unwrap();
    // The last section.
    let rest = found.split_once(HEAD.lines().next().unwrap()).expect("a section of instructions").0;
    let text = format!("{rest}{}", documentation());
    if std::env::var_os("PTX_EMULATOR_WRITE_DOCS").is_some() {
        return std::fs::write(path, &text).unwrap();
    }
    assert!(found == text, "README.md is not what the lists say: run this test with PTX_EMULATOR_WRITE_DOCS=1");
}

fn documentation() -> String {
    let mut text = String::from(HEAD);
    let mut forms: Vec<&str> = crate::forms::known().collect();
    forms.sort_by_key(|form| (form.trim_start_matches('{').to_string(), form.len()));
    text.push_str("\n### Instructions that compute\n\n");
    for form in forms {
        writeln!(text, "- `{form}`").unwrap();
    }
    text.push_str(BETWEEN);
    for (heading, groups) in KNOWN {
        write!(text, "\n#### {heading}\n\n| form | operands |\n|---|---|\n").unwrap();
        for (form, operands) in *groups {
            let operands =
                if operands.is_empty() { String::new() } else { format!("`{}`", operands.replace('|', "\\|")) };
            writeln!(text, "| `{form}` | {operands} |").unwrap();
        }
    }
    text.push_str("\n### Special registers\n\n");
    for name in SPECIAL {
        writeln!(text, "- `{name}`").unwrap();
    }
    text
}

const HEAD: &str = "## Instructions

Every form that the emulator executes. Braces hold alternatives: `add{,.sat}.{u32,s32}` stands for four forms. Whatever
is not here is an error that names it and its line, when the kernel is launched or `Module::check` is called.

This section is made from the lists that the tests run through; `PTX_EMULATOR_WRITE_DOCS=1 cargo test -p ptx-emulator
documentation` writes it. Programs have the lists from `instruction_forms()`, and `computations()` has what computes with the
types of its operands.
";

const BETWEEN: &str = "
`setp` has one destination or two, `p` or `p|q`; comparisons of packed halves have two.

### Instructions that do more

In the column of operands, `d` is a destination and `b` a source, of the type that the form ends with; `p` a predicate,
`[a]` an address, and the other words are what they say. Numbers are examples, except the sizes of `cp.async`. Modifiers of
loads, stores and atomics are taken in any order; those that steer caches do nothing, except that `.cv` and `.wt` count as
volatile.
";
