//! Conversions.

use super::arithmetic::form;
use super::oracle::{self, BF16, F16, F32, F64, Layout, Number, Random, TF32};
use crate::arith::Mode;
use crate::forms::convert_floats::select_into;
use crate::forms::testing::{EDGES, levels, number, pairs, run, run1, truncate};
use crate::types::Type;

const FORMATS: [(Layout, &str); 4] = [(F32, "f32"), (F64, "f64"), (F16, "f16"), (BF16, "bf16")];
const MODES: [(&str, Mode); 4] = [("rn", Mode::Nearest), ("rz", Mode::Zero), ("rm", Mode::Down), ("rp", Mode::Up)];
const INTEGERS: [&str; 8] = ["u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64"];

/// All numbers of a half, edges and random numbers of the others, many of them near integers and in the range of
/// halves.
fn operands(layout: Layout) -> Vec<u64> {
    if layout.0 + layout.1 == 15 {
        return (0..1 << 16).collect();
    }
    let mut random = Random(3);
    let mut all = layout.edges();
    let fraction = (1_u64 << layout.1) - 1;
    for i in 0..12_000_u64 {
        let bits = random.bits() & (layout.sign() | layout.nan());
        let exponent = (layout.one() >> layout.1) + i % 96 - 32;
        // Few leading bits, so that there are ties in every format.
        let kept = [fraction, fraction & !(fraction >> 9), fraction & !(fraction >> 12)][i as usize % 3];
        all.push(if i % 7 == 0 { bits } else { bits & (layout.sign() | kept) | exponent << layout.1 });
    }
    all
}

fn nan_of(layout: Layout) -> u64 {
    if layout == F64 { 0x7FFF_FFFF_E000_0000 } else { layout.nan() }
}

#[test]
fn between_floats() {
    for (from, from_name) in FORMATS {
        let operands = operands(from);
        for (to, to_name) in FORMATS.into_iter().filter(|(to, _)| *to != from) {
            let exact = to == F64 || (to == F32 && from != F64);
            let flushes = from == F32 || to == F32;
            for ftz in [false, true].into_iter().filter(|ftz| flushes || !ftz) {
                let flush = |layout: Layout, bits| if ftz && layout == F32 { layout.flush(bits) } else { bits };
                let wanted: Vec<_> =
                    operands.iter().map(|&bits| oracle::convert(from.decode(flush(from, bits))).round(to)).collect();
                for (rounding, mode) in MODES.into_iter().take(if exact { 1 } else { 4 }) {
                    for sat in [false, true].into_iter().filter(|sat| to != BF16 || !sat) {
                        let rounding = if exact { String::new() } else { format!(".{rounding}") };
                        let (ftz, sat_name) = (if ftz { ".ftz" } else { "" }, if sat { ".sat" } else { "" });
                        let name = format!("cvt{rounding}{ftz}{sat_name}.{to_name}.{from_name}");
                        for level in levels() {
                            let results = run1(&form(&name, level), &operands);
                            for ((bits, wanted), result) in operands.iter().zip(&wanted).zip(results) {
                                let wanted = if from.is_nan(*bits) { nan_of(to) } else { flush(to, wanted.get(mode)) };
                                let wanted = if sat { to.saturate(wanted) } else { wanted };
                                assert_eq!(result, wanted, "{name} {bits:x} gave {result:x}, not {wanted:x}");
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn to_the_same_format() {
    for (layout, ty) in FORMATS {
        let operands = operands(layout);
        assert_eq!(run1(&form(&format!("cvt.{ty}.{ty}"), levels()[1]), &operands), operands);
        if ty != "bf16" {
            let saturated: Vec<_> = operands.iter().map(|&bits| layout.saturate(bits)).collect();
            assert_eq!(run1(&form(&format!("cvt.sat.{ty}.{ty}"), levels()[1]), &operands), saturated);
        }
        if ty == "f32" {
            let flushed: Vec<_> = operands.iter().map(|&bits| layout.flush(bits)).collect();
            assert_eq!(run1(&form("cvt.ftz.f32.f32", levels()[1]), &operands), flushed);
        }
    }
}

#[test]
fn to_halves_with_relu_and_satfinite() {
    let operands = operands(F32);
    for (to, ty) in [(F16, "f16"), (BF16, "bf16"), (TF32, "tf32")] {
        for (rounding, mode) in [("rn", Mode::Nearest), ("rz", Mode::Zero), ("rna", Mode::Away)] {
            for modifiers in ["", ".relu", ".satfinite", ".both"] {
                let relu = matches!(modifiers, ".relu" | ".both");
                if (rounding == "rna") && (ty != "tf32" || relu) {
                    continue;
                }
                let both = if ty == "tf32" { ".satfinite.relu" } else { ".relu.satfinite" };
                let name = format!("cvt.{rounding}{}.{ty}.f32", if modifiers == ".both" { both } else { modifiers });
                let finite = matches!(modifiers, ".satfinite" | ".both");
                for level in levels() {
                    let results = run1(&form(&name, level), &operands);
                    for (bits, result) in operands.iter().zip(results) {
                        let mut wanted = oracle::convert(F32.decode(*bits)).round(to).get(mode);
                        if finite && wanted & to.nan() == to.infinity() {
                            wanted -= 1;
                        }
                        if relu {
                            wanted = to.relu(wanted);
                        }
                        let wanted = match ty {
                            "tf32" if F32.is_nan(*bits) => 0x7FFF_FFFF,
                            "tf32" => wanted << 13,
                            _ => wanted,
                        };
                        assert_eq!(result, wanted, "{name} {bits:x} gave {result:x}, not {wanted:x}");
                    }
                }
            }
        }
    }
}

#[test]
fn packed_conversions_put_their_first_operand_above() {
    let operands = F32.edges();
    for ty in ["f16", "bf16"] {
        for modifiers in ["rn", "rz", "rn.relu", "rz.satfinite", "rn.relu.satfinite"] {
            for level in levels() {
                let single = run1(&form(&format!("cvt.{modifiers}.{ty}.f32"), level), &operands);
                let pairs_of_bits = pairs(&operands, &operands);
                let wanted = pairs(&single, &single);
                let results = run(&form(&format!("cvt.{modifiers}.{ty}x2.f32"), level), &pairs_of_bits);
                for ([a, b], result) in wanted.iter().zip(results) {
                    assert_eq!(result, a << 16 | b, "{modifiers} {ty}");
                }
            }
        }
    }
}

/// The integer that a number rounds to, as a sign and a magnitude; beyond 2^100 any great number.
fn integer(negative: bool, significand: u128, exponent: i32, mode: Mode) -> u128 {
    if exponent >= 0 {
        return if exponent > 70 && significand != 0 { 1 << 120 } else { significand << exponent.min(70) };
    }
    let shift = -exponent as u32;
    let (whole, order) = if shift > 120 {
        (0, if significand == 0 { 0 } else { 1 })
    } else {
        let rest = significand & ((1 << shift) - 1);
        // 0 exact, 1 below the half, 2 the half, 3 above.
        let order = match (rest, (2 * rest).cmp(&(1 << shift))) {
            (0, _) => 0,
            (_, std::cmp::Ordering::Less) => 1,
            (_, std::cmp::Ordering::Equal) => 2,
            _ => 3,
        };
        (significand >> shift, order)
    };
    let up = match mode {
        Mode::Nearest => order == 3 || (order == 2 && whole % 2 == 1),
        Mode::Down => negative && order > 0,
        Mode::Up => !negative && order > 0,
        _ => false,
    };
    whole + u128::from(up)
}

#[test]
fn to_integers() {
    for (from, from_name) in FORMATS {
        let operands = operands(from);
        for to_name in INTEGERS {
            let to = Type::from_name(to_name).unwrap();
            let bits = 8 * to.bytes();
            let (least, greatest) =
                if to.is_signed() { (-(1_i128 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) };
            for (rounding, mode) in MODES {
                for ftz in ["", ".ftz"].into_iter().filter(|ftz| ftz.is_empty() || from == F32) {
                    let name = format!("cvt.{rounding}i{ftz}.{to_name}.{from_name}");
                    let wanted = operands.iter().map(|&operand| {
                        let operand = if ftz.is_empty() { operand } else { from.flush(operand) };
                        match from.decode(operand) {
                            Number::Nan if bits < 64 && from != F64 => 0,
                            Number::Nan => 1 << (bits - 1),
                            Number::Infinite(negative) => {
                                if negative {
                                    least
                                } else {
                                    greatest
                                }
                            }
                            Number::Finite(negative, (significand, exponent)) => {
                                let magnitude = integer(negative, significand, exponent, mode) as i128;
                                (if negative { -magnitude } else { magnitude }).clamp(least, greatest)
                            }
                        }
                    });
                    let wanted: Vec<i128> = wanted.collect();
                    for level in levels() {
                        for register in [8, 16, 32, 64].into_iter().filter(|register| *register >= bits) {
                            let modifiers: Vec<&str> = name.split('.').skip(1).collect();
                            let form = select_into(&modifiers, Some(register), level).unwrap();
                            for ((operand, wanted), result) in operands.iter().zip(&wanted).zip(run1(&form, &operands))
                            {
                                // Extended to the register, from there with zeros.
                                let signed = if to.is_signed() { number(to, *wanted as u64) } else { *wanted };
                                let wanted = signed as u64 & (u64::MAX >> (64 - register));
                                assert_eq!(result, wanted, "{name} into {register}: {operand:x}");
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn to_integers_in_the_same_format() {
    for (layout, ty) in FORMATS {
        let operands = operands(layout);
        for (rounding, mode) in MODES {
            for modifiers in ["", ".ftz", ".sat"] {
                if (modifiers == ".ftz" && ty != "f32") || (modifiers == ".sat" && ty == "bf16") {
                    continue;
                }
                let name = format!("cvt.{rounding}i{modifiers}.{ty}.{ty}");
                for level in levels() {
                    for (bits, result) in operands.iter().zip(run1(&form(&name, level), &operands)) {
                        let bits = if modifiers == ".ftz" { layout.flush(*bits) } else { *bits };
                        let wanted = match layout.decode(bits) {
                            Number::Nan if layout == F64 => bits | 1 << 51,
                            Number::Nan => layout.nan(),
                            Number::Infinite(_) => bits,
                            // Great numbers are integers already.
                            Number::Finite(_, (_, exponent)) if exponent >= 0 => bits,
                            Number::Finite(negative, (significand, exponent)) => {
                                let whole = integer(negative, significand, exponent, mode);
                                oracle::convert(Number::Finite(negative, (whole, 0))).round(layout).get(Mode::Nearest)
                            }
                        };
                        let wanted = if modifiers == ".sat" { layout.saturate(wanted) } else { wanted };
                        assert_eq!(result, wanted, "{name} {bits:x}");
                    }
                }
            }
        }
    }
}

#[test]
fn from_integers() {
    let mut random = Random(5);
    let mut operands = EDGES.to_vec();
    operands.extend((0..4000).map(|i| random.bits() >> (i % 64)));
    // Ties of the narrower formats, and their neighbours.
    operands.extend((8..64).flat_map(|i| [7, 9, 10, 23, 24, 52, 53].map(|low| (1_u64 << i) + (1 << i >> low))));
    operands.extend(operands.clone().into_iter().flat_map(|bits| [bits.wrapping_add(1), bits.wrapping_neg()]));
    for from_name in INTEGERS {
        let from = Type::from_name(from_name).unwrap();
        for (to, to_name) in FORMATS {
            let wanted: Vec<_> = operands
                .iter()
                .map(|&bits| {
                    let value = number(from, truncate(from, bits.into()));
                    oracle::convert(Number::Finite(value < 0, (value.unsigned_abs(), 0))).round(to)
                })
                .collect();
            for (rounding, mode) in MODES {
                for sat in ["", ".sat"].into_iter().filter(|sat| sat.is_empty() || to != BF16) {
                    let name = format!("cvt.{rounding}{sat}.{to_name}.{from_name}");
                    for level in levels() {
                        let results = run1(&form(&name, level), &operands);
                        for ((bits, wanted), result) in operands.iter().zip(&wanted).zip(results) {
                            let wanted = wanted.get(mode);
                            let wanted = if sat.is_empty() { wanted } else { to.saturate(wanted) };
                            assert_eq!(result, wanted, "{name} {bits:x}");
                        }
                    }
                }
            }
        }
    }
}
