//! What is not compared, and what a device must have for what is.

use super::forms::{self, Form};
use super::types::Type;
use ptx_emulator::{expand, instruction_forms};
use std::collections::{BTreeSet, HashSet};

/// Instructions that are not compared, by how their names begin, and why.
pub const NOT_COMPARED: &[(&str, &str)] = &[
    ("ld.", "moves bits from memory; every kernel here does"),
    ("ldu.", "moves bits from memory"),
    ("st.", "moves bits to memory; every kernel here does"),
    ("cp.async.", "copies memory"),
    ("prefetch.", "a hint, no result"),
    ("prefetchu.", "a hint, no result"),
    ("membar.", "orders memory, no result"),
    ("fence.", "orders memory, no result"),
    ("nanosleep.", "waits, no result"),
    ("pmevent", "counts for profilers, no result"),
    ("cvta.", "addresses, which differ between devices"),
    ("isspacep.", "addresses, which differ between devices"),
    ("activemask.", "the lanes that happen to run together"),
    ("bra", "control"),
    ("brx.", "control"),
    ("call", "control"),
    ("ret", "control"),
    ("exit", "control"),
    ("trap", "control"),
    ("bar.sync", "waits, no result"),
    ("bar.arrive", "waits, no result"),
    ("bar.cta.sync", "waits, no result"),
    ("bar.cta.arrive", "waits, no result"),
    ("bar.warp.sync", "waits, no result"),
    ("barrier.sync", "waits, no result"),
    ("barrier.arrive", "waits, no result"),
    ("barrier.cta.sync", "waits, no result"),
    ("barrier.cta.arrive", "waits, no result"),
];

/// Of spellings beyond the PTX ISA.
const NOT_PTX: &str = "ptxas refuses it, though the emulator takes it";
/// Of atomic operations under another order, scope or name of a space, all of which change no value.
const SAME_VALUE: &str = "the same value as without its order, its scope or the longer name of its space";
const NO_VALUE_WORDS: &[&str] = &["relaxed", "acquire", "release", "acq_rel", "cta", "cluster", "gpu", "sys"];

/// The emulator's instructions that are not compared, with the reason; an empty one if there is none.
pub fn not_compared() -> Vec<(String, &'static str)> {
    let forms = forms::all();
    let compared: HashSet<&str> = forms.iter().map(|form| form.instruction.as_str()).collect();
    let all: BTreeSet<String> = instruction_forms().flat_map(expand).collect();
    let others = all.into_iter().filter(|name| !compared.contains(name.as_str()));
    let reasoned = |name: String| {
        let reason = reason(&name, &compared).unwrap_or_default();
        (name, reason)
    };
    others.map(reasoned).collect()
}

/// Why an instruction is not compared; `None` if it must be.
fn reason(instruction: &str, compared: &HashSet<&str>) -> Option<&'static str> {
    if let Some((_, reason)) = NOT_COMPARED.iter().find(|(start, _)| instruction.starts_with(start)) {
        return Some(reason);
    }
    if !instruction.starts_with("atom.") && !instruction.starts_with("red.") {
        return None;
    }
    let has = |word: &str| instruction.split('.').any(|part| part == word);
    let half = ["f16", "bf16", "f16x2", "bf16x2"].into_iter().any(has);
    if has("add") && (has("s64") || (half && !has("noftz"))) {
        return Some(NOT_PTX);
    }
    let words = instruction.split('.').filter(|word| !NO_VALUE_WORDS.contains(word));
    let plain = words.map(|word| if word == "shared::cta" { "shared" } else { word }).collect::<Vec<_>>().join(".");
    (plain != instruction && compared.contains(plain.as_str())).then_some(SAME_VALUE)
}

/// A device and its driver, as far as they decide what is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Ten times the compute capability.
    pub capability: u32,
    /// Ten times the version of PTX.
    pub ptx: u32,
}

/// Why a form is left out on a device; `None` if it is not.
pub fn left_out(form: &Form, target: Target) -> Option<String> {
    if is_refused_by_ptxas(form) {
        return Some(NOT_PTX.into());
    }
    let needs = NEEDS.iter().filter(|(words, ..)| words.iter().all(|word| form.has(word)));
    let (capability, ptx) = needs.fold((0, 0), |most, need| (most.0.max(need.1), most.1.max(need.2)));
    let lacks = capability > target.capability || ptx > target.ptx;
    lacks.then(|| format!("needs sm_{capability} and PTX {}.{}", ptx / 10, ptx % 10))
}

/// Spellings beyond what ptxas 13.0 takes on any architecture, seen with `--write-ptx`.
fn is_refused_by_ptxas(form: &Form) -> bool {
    let words: Vec<&str> = form.instruction.split('.').collect();
    let (opcode, last) = (words[0], words[words.len() - 1]);
    let has = |word: &str| words.contains(&word);
    match opcode {
        "setp" => form.label.ends_with("p|q") && matches!(last, "f16" | "bf16"),
        "set" => has("ftz") && has("bf16"),
        "cvt" if has("sat") && last == "bf16" => true,
        "cvt" if has("sat") && !has("pack") => {
            let [to, from] = [words[words.len() - 2], last].map(Type::named);
            // Nothing to saturate.
            let signed = |ty: Type| ty.name.starts_with('s');
            let integers = to.format().is_none() && from.format().is_none();
            let fits = if signed(to) == signed(from) { to.bits >= from.bits } else { to.bits > from.bits };
            integers && fits && (signed(to) || !signed(from))
        }
        _ => false,
    }
}

/// Words of instructions, the capability that they need together, and the version of PTX, each times ten.
const NEEDS: &[(&[&str], u32, u32)] = &[
    (&["three sources"], 100, 88),
    (&["add", "f32", "f16"], 100, 86),
    (&["add", "f32", "bf16"], 100, 86),
    (&["sub", "f32", "f16"], 100, 86),
    (&["sub", "f32", "bf16"], 100, 86),
    (&["fma", "f32", "f16"], 100, 86),
    (&["fma", "f32", "bf16"], 100, 86),
    (&["add", "bf16"], 90, 78),
    (&["add", "bf16x2"], 90, 78),
    (&["sub", "bf16"], 90, 78),
    (&["sub", "bf16x2"], 90, 78),
    (&["mul", "bf16"], 90, 78),
    (&["mul", "bf16x2"], 90, 78),
    (&["ex2", "bf16"], 90, 78),
    (&["ex2", "bf16x2"], 90, 78),
    (&["tanh", "bf16"], 90, 78),
    (&["tanh", "bf16x2"], 90, 78),
    (&["set", "bf16"], 90, 78),
    (&["set", "bf16x2"], 90, 78),
    (&["setp", "bf16"], 90, 78),
    (&["setp", "bf16x2"], 90, 78),
    (&["u16x2"], 90, 80),
    (&["s16x2"], 90, 80),
    (&["relu", "s32"], 90, 80),
    (&["xorsign"], 86, 72),
    (&["NaN"], 80, 70),
    (&["bf16"], 80, 70),
    (&["bf16x2"], 80, 70),
    (&["min", "f16"], 80, 70),
    (&["min", "f16x2"], 80, 70),
    (&["max", "f16"], 80, 70),
    (&["max", "f16x2"], 80, 70),
    (&["relu"], 80, 70),
    (&["redux"], 80, 70),
    (&["tf32"], 80, 70),
    (&["tf32", "rn"], 90, 78),
    (&["tf32", "rz"], 90, 78),
    (&["tf32", "satfinite"], 89, 81),
    (&["tf32", "satfinite", "rn"], 100, 86),
    (&["tf32", "satfinite", "rz"], 100, 86),
    (&["cvt", "f16x2"], 80, 70),
    (&["cvt", "bf16", "f64"], 90, 78),
    (&["cvt", "bf16", "f16"], 90, 78),
    (&["cvt", "bf16", "u8"], 90, 78),
    (&["cvt", "bf16", "s8"], 90, 78),
    (&["cvt", "bf16", "u16"], 90, 78),
    (&["cvt", "bf16", "s16"], 90, 78),
    (&["cvt", "bf16", "u32"], 90, 78),
    (&["cvt", "bf16", "s32"], 90, 78),
    (&["cvt", "bf16", "u64"], 90, 78),
    (&["cvt", "bf16", "s64"], 90, 78),
    (&["cvt", "satfinite"], 80, 81),
    (&["bmsk"], 70, 76),
    (&["szext"], 70, 76),
];
