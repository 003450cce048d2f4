//! Adversarial mode: `mul` and `add` that say nothing of rounding may be fused by a device's compiler.

use super::analysis::block_starts;
use crate::forms::{self, Form, Level};
use crate::program::{Code, NONE, Program, Row};
use crate::types::Width;

/// Fuses about half of the pairs, chosen by the seed.
pub(super) fn contract(program: &mut Program, level: Level, seed: u64) {
    let starts = block_starts(program);
    let mut state = seed;
    for (block, &start) in starts.iter().enumerate() {
        let end = starts.get(block + 1).copied().unwrap_or(program.code.len());
        for at in start..end {
            if let Some((product, form, src)) = fusable(program, start, at, level) {
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                if crate::arith::mix(state) & 1 == 0 {
                    fuse(program, at, product, &form, src);
                }
            }
        }
    }
}

/// The `mul` whose product the sum at `at` takes, what computes both at once, and its operands.
fn fusable(program: &Program, start: usize, at: usize, level: Level) -> Option<(usize, Form, [u32; 3])> {
    let (sum, info) = (&program.code[at], &program.info[at]);
    let width = info.defs.first()?.width;
    let opcode = info.text.split('.').next()?;
    if !info.contractable || !matches!(opcode, "add" | "sub") {
        return None;
    }
    let tail = &info.text[opcode.len()..];
    for (place, subtract) in [(0, opcode == "sub"), (1, opcode == "sub")] {
        let row = Row { width, index: sum.operands.src[place] };
        let Some(product) = definition(program, start, at, row) else { continue };
        let (mul, mul_info) = (&program.code[product], &program.info[product]);
        let matching = mul_info.contractable && mul_info.text == format!("mul{tail}") && mul.guard == NONE;
        let [a, b, ..] = mul.operands.src;
        let unchanged = [a, b].iter().all(|&index| kept(program, product, at, Row { width, index }));
        if !matching || !unchanged {
            continue;
        }
        let form = fused(width, subtract, place, tail.contains("ftz"), level)?;
        return Some((product, form, [a, b, sum.operands.src[1 - place]]));
    }
    None
}

/// The last instruction before `at`, in its block, that writes the row.
fn definition(program: &Program, start: usize, at: usize, row: Row) -> Option<usize> {
    (start..at).rev().find(|&before| program.info[before].defs.contains(&row))
}

/// Nothing between writes the row.
fn kept(program: &Program, from: usize, to: usize, row: Row) -> bool {
    !program.info[from..to].iter().any(|info| info.defs.contains(&row))
}

/// a * b + c, a * b - c or c - a * b.
fn fused(width: Width, subtract: bool, place: usize, ftz: bool, level: Level) -> Option<Form> {
    let name = match (subtract, place) {
        (false, _) => "fma",
        (true, 0) => "fma.minus",
        (true, _) => "fma.from",
    };
    match (width, ftz) {
        (Width::Word, true) => forms::fused(name, &["rn", "ftz", "f32"], level),
        (Width::Word, false) => forms::fused(name, &["rn", "f32"], level),
        (Width::Long, _) => forms::fused(name, &["rn", "f64"], level),
        _ => None,
    }
}

fn fuse(program: &mut Program, at: usize, product: usize, form: &Form, src: [u32; 3]) {
    let factors = program.info[product].uses.clone();
    let instruction = &mut program.code[at];
    instruction.code = Code::Compute(form.exec);
    instruction.operands.src = [src[0], src[1], src[2], 0];
    let info = &mut program.info[at];
    info.uses.extend(factors);
    info.flops = form.flops;
    info.contractable = false;
}
