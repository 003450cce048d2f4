//! Runs forms on tables of operands, for tests.

use super::{Form, Level};
pub(crate) use crate::computations::expand;
use crate::registers::{LANES, Operands, Registers};
use crate::types::{Type, Width};
use std::collections::BTreeSet;

/// Where the harness puts the destinations; the sources have the rows from 0.
const DST: u32 = 4;
const DST2: u32 = 5;
const ROWS: usize = 6;
/// What destination rows hold before: lanes outside of the mask must keep it.
const POISON: u64 = 0xA5A5_5A5A_DEAD_BEEF;
/// Masks that every form runs under.
const MASKS: [u32; 3] = [u32::MAX, 0x5A5A_3C71, 0x8000_0000];

/// What a form left in one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The whole register: zero-extended to the row.
    pub dst: u64,
    /// 0 without a second destination.
    pub dst2: u64,
    pub carry: bool,
}

/// Both levels of this processor (one twice, if it has but one).
pub(crate) fn levels() -> [Level; 2] {
    [Level::Portable, Level::detect()]
}

/// Splits "add.sat.s32" into the opcode and its modifiers.
pub(crate) fn split(name: &str) -> (&str, Vec<&str>) {
    let mut words = name.split('.');
    (words.next().unwrap_or_default(), words.collect())
}

/// Whatever is spelt from the words, with up to so many modifiers, is known if it is among `all`.
pub(crate) fn spell<'a>(
    select: fn(&str, &[&str], Level) -> Option<Form>,
    opcode: &str,
    (words, depth): (&[&'a str], usize),
    modifiers: &mut Vec<&'a str>,
    all: &BTreeSet<String>,
) {
    let name = std::iter::once(opcode).chain(modifiers.iter().copied()).collect::<Vec<_>>().join(".");
    assert_eq!(select(opcode, modifiers, Level::Portable).is_some(), all.contains(&name), "{name}");
    if modifiers.len() < depth {
        for word in words {
            modifiers.push(word);
            spell(select, opcode, (words, depth), modifiers, all);
            modifiers.pop();
        }
    }
}

/// Runs `form` on every tuple of operands, a lane each, and returns the destinations. The bits of an operand beyond its
/// row are dropped; those beyond its type but within its row stay, as in a register wider than the type.
pub(crate) fn run<const N: usize>(form: &Form, tuples: &[[u64; N]]) -> Vec<u64> {
    outcomes(form, tuples, &[]).into_iter().map(|outcome| outcome.dst).collect()
}

/// As [`run`], for forms of one, two and three operands.
pub(crate) fn run1(form: &Form, a: &[u64]) -> Vec<u64> {
    run(form, &a.iter().map(|&a| [a]).collect::<Vec<_>>())
}

/// Every outcome. Lane `i` starts with the carry flag `carries[i]`, or without where there is none.
///
/// The form runs under several masks, into a row of its own and into that of its first operand: lanes outside of
/// the mask must keep all they had, and the lanes inside must not depend on the mask.
pub(crate) fn outcomes<const N: usize>(form: &Form, tuples: &[[u64; N]], carries: &[bool]) -> Vec<Outcome> {
    assert_eq!(form.src.len(), N, "number of operands");
    let mut all = Vec::with_capacity(tuples.len());
    for (block, lanes) in tuples.chunks(LANES).enumerate() {
        let mut before = Registers::new(ROWS, ROWS, ROWS);
        for lane in 0..LANES {
            for (i, &ty) in form.src.iter().enumerate() {
                before.set_lane(width(ty), i as u32, lane, lanes[lane % lanes.len()][i]);
            }
            for dst in [DST, DST2] {
                for row in [Width::Predicate, Width::Word, Width::Long] {
                    before.set_lane(row, dst, lane, POISON >> (lane % 2));
                }
            }
            let carry = carries.get(block * LANES + lane % lanes.len()).copied().unwrap_or(false);
            before.carry |= u32::from(carry) << lane;
        }
        let full = block_outcomes(form, &before, DST, u32::MAX);
        for mask in MASKS {
            assert_eq!(block_outcomes(form, &before, DST, mask), masked(form, &before, DST, &full, mask), "{mask:x}");
            if width(form.src[0]) == width(form.dst) {
                let expected = masked(form, &before, 0, &full, mask);
                assert_eq!(block_outcomes(form, &before, 0, mask), expected, "into its operand, {mask:x}");
            }
        }
        all.extend_from_slice(&full[..lanes.len()]);
    }
    all
}

fn width(ty: Type) -> Width {
    ty.width().unwrap_or_else(|| panic!("no row holds {ty:?}"))
}

fn block_outcomes(form: &Form, before: &Registers, dst: u32, mask: u32) -> Vec<Outcome> {
    let mut registers = before.clone();
    let operands = Operands { dst, dst2: DST2, src: [0, 1, 2, 3] };
    // SAFETY: tests take forms of levels that this processor has, see `levels`.
    unsafe { (form.exec)(&mut registers, &operands, mask) };
    (0..LANES).map(|lane| read(form, &registers, dst, lane)).collect()
}

fn read(form: &Form, registers: &Registers, dst: u32, lane: usize) -> Outcome {
    Outcome {
        dst: registers.lane(width(form.dst), dst, lane),
        dst2: form.dst2.map_or(0, |ty| registers.lane(width(ty), DST2, lane)),
        carry: registers.carry >> lane & 1 != 0,
    }
}

/// `full` where the mask is set, what was there before elsewhere.
fn masked(form: &Form, before: &Registers, dst: u32, full: &[Outcome], mask: u32) -> Vec<Outcome> {
    (0..LANES).map(|lane| if mask >> lane & 1 != 0 { full[lane] } else { read(form, before, dst, lane) }).collect()
}

/// All pairs.
pub(crate) fn pairs(a: &[u64], b: &[u64]) -> Vec<[u64; 2]> {
    a.iter().flat_map(|&a| b.iter().map(move |&b| [a, b])).collect()
}

/// All triples.
pub(crate) fn triples(a: &[u64], b: &[u64], c: &[u64]) -> Vec<[u64; 3]> {
    pairs(a, b).into_iter().flat_map(|[a, b]| c.iter().map(move |&c| [a, b, c])).collect()
}

/// Bits of a type.
pub(crate) fn bits_of(ty: Type) -> u32 {
    if ty == Type::Pred { 1 } else { 8 * ty.bytes() }
}

/// The low bits of `value` that a type holds.
pub(crate) fn truncate(ty: Type, value: i128) -> u64 {
    value as u64 & (u64::MAX >> (64 - bits_of(ty)))
}

/// The number that the low bits of a register are, of an integer or bit type.
pub(crate) fn number(ty: Type, register: u64) -> i128 {
    let bits = i128::from(truncate(ty, register.into()));
    let negative = ty.is_signed() && bits >> (bits_of(ty) - 1) != 0;
    if negative { bits - (1 << bits_of(ty)) } else { bits }
}

/// Integers around every boundary of every width, and some without a pattern.
pub(crate) const EDGES: [u64; 34] = [
    0,
    1,
    2,
    3,
    7,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x1_0000,
    0x00FF_FFFF,
    0x0080_0000,
    0x7FFF_FFFF,
    0x8000_0000,
    0x8000_0001,
    0xFFFF_0000,
    0xFFFF_FFFE,
    0xFFFF_FFFF,
    0x1_0000_0000,
    0x7FFF_FFFF_FFFF_FFFF,
    0x8000_0000_0000_0000,
    0x8000_0000_0000_0001,
    0xFFFF_FFFF_0000_0000,
    0xFFFF_FFFF_FFFF_8000,
    0xFFFF_FFFF_FFFF_FF80,
    0xFFFF_FFFF_FFFF_FFFE,
    0xFFFF_FFFF_FFFF_FFFF,
    0x0123_4567_89AB_CDEF,
    0xFEDC_BA98_7654_3210,
    0x5555_AAAA_3333_CCCC,
    0x9E37_79B9_7F4A_7C15,
];

/// Shift amounts, field positions and lengths.
pub(crate) const AMOUNTS: [u64; 23] =
    [0, 1, 2, 3, 7, 8, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 128, 0x91, 255, 256, 0x8000_0000, 0xFFFF_FFFF];
