//! Operands: combinations of the most special values in one half of the tuples, drawn ones in the other.

use super::types::{Format, Kind, Type, ones};
use std::collections::HashSet;

/// A block of the kernels: the operations of warps and blocks see predicates that agree.
pub const BLOCK: usize = 128;

/// Integers around every boundary of every width, amounts to shift by, some without a pattern.
const INTEGERS: &[u64] = &[
    0,
    1,
    2,
    3,
    5,
    7,
    8,
    15,
    16,
    17,
    31,
    32,
    33,
    63,
    64,
    65,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x1_0000,
    0x007F_FFFF,
    0x0080_0000,
    0x00FF_FFFF,
    0x0100_0001,
    0x7FFF_FFFF,
    0x8000_0000,
    0x8000_0001,
    0xFFFF_0000,
    0xFFFF_FF80,
    0xFFFF_FFFE,
    0xFFFF_FFFF,
    0x1_0000_0000,
    0x0020_0000_0000_0001,
    0x7FFF_FFFF_FFFF_FFFF,
    0x8000_0000_0000_0000,
    0xFFFF_FFFF_0000_0000,
    0xFFFF_FFFF_FFFF_8000,
    0xFFFF_FFFF_FFFF_FFFE,
    0xFFFF_FFFF_FFFF_FFFF,
    0x0123_4567_89AB_CDEF,
    0x5555_AAAA_3333_CCCC,
];

/// Powers of two at which conversions change: ends of integers, of f16, of f32, of ranges of approximations.
const POWERS: &[i32] = &[-150, -149, -126, -25, -24, -14, -1, 1, 7, 8, 15, 16, 24, 31, 32, 53, 63, 64, 126, 127];
/// 2 pi and 100 pi, where the bounds of `sin` and `cos` change, and other numbers, as f64.
const NUMBERS: &[f64] = &[
    1.5,
    2.5,
    3.5,
    0.1,
    1.0 / 3.0,
    0.5 * std::f64::consts::PI,
    2.0 * std::f64::consts::PI,
    314.159_26,
    65504.0,
    65520.0,
];

/// Pseudo-random bits (splitmix64).
pub struct Draw(pub u64);

impl Draw {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let bits = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ bits >> 31
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }
}

/// Operands for `count` threads, or for more if all there are fit: those of the first source for each thread, then those
/// of the second. Equal arguments give equal operands.
pub fn operands(sources: &[Type], count: usize, seed: u64) -> Vec<u64> {
    let specials: Vec<Vec<u64>> = sources.iter().map(|&ty| specials(ty)).collect();
    let all = total(sources, count);
    let most = crossed(sources.len(), all / 2);
    let mut draw = Draw(sources.iter().fold(seed, |seed, ty| Draw(seed ^ u64::from(ty.bits)).bits()));
    let mut values = vec![0; sources.len() * all];
    for index in 0..all {
        let mut left = index;
        let mut digit = |specials: &Vec<u64>| {
            let first = &specials[..most.min(specials.len())];
            let value = first[left % first.len()];
            left /= first.len();
            value
        };
        let combination: Vec<u64> = specials.iter().map(&mut digit).collect();
        // Else these were the first ones again.
        let is_new = left == 0;
        for (slot, &ty) in sources.iter().enumerate() {
            values[slot * all + index] = if all == 1 << 16 && ty.bits == 16 && sources.len() == 1 {
                index as u64
            } else if ty.kind == Kind::Predicate {
                predicate(index, &mut draw)
            } else if is_new {
                combination[slot]
            } else {
                let neighbour = slot.checked_sub(1).map(|slot| values[slot * all + index]);
                drawn(ty, &specials[slot], neighbour, &mut draw)
            };
        }
    }
    values
}

/// How many values of each of so many sources may be combined with all others in so many tuples.
fn crossed(sources: usize, tuples: usize) -> usize {
    (1..=tuples).take_while(|most| most.pow(sources as u32) <= tuples).last().unwrap_or(1)
}

/// The threads of a kernel with these sources: enough for all values of a single operand of 16 bits, if thousands are
/// asked for.
pub fn total(sources: &[Type], count: usize) -> usize {
    match sources {
        [only] if only.bits == 16 && (4096..=1 << 16).contains(&count) => 1 << 16,
        _ => count.next_multiple_of(BLOCK),
    }
}

/// Blocks in which all agree, and others.
fn predicate(index: usize, draw: &mut Draw) -> u64 {
    match index / BLOCK % 4 {
        0 => 1,
        1 => 0,
        _ => draw.bits() & 1,
    }
}

/// Special values, the more so the earlier.
fn specials(ty: Type) -> Vec<u64> {
    let mut values = match ty.kind {
        Kind::Predicate => vec![0, 1],
        Kind::Integer => {
            let highest = 1 << (ty.bits - 1);
            let first = [0, u64::MAX, 1, highest, highest - 1, 2, 31, 32, 33, 64];
            first.iter().chain(INTEGERS).map(|value| value & ones(ty.loaded())).collect()
        }
        Kind::Float(format) => numbers(format),
        // Beside each number one that is elsewhere in the list.
        Kind::Pair(format) => {
            let numbers = numbers(format);
            let other = |index: usize| numbers[(index * 7 + 3) % numbers.len()];
            numbers.iter().enumerate().map(|(index, low)| low | other(index) << (ty.bits / 2)).collect()
        }
    };
    let mut seen = HashSet::new();
    values.retain(|value| seen.insert(*value));
    values
}

/// Special numbers of a format, each with both signs, the more special the earlier.
fn numbers(format: Format) -> Vec<u64> {
    let (one, infinity, normal) = (format.one(), format.infinity(), 1u64 << format.fraction);
    let quiet = infinity | normal >> 1;
    // Zero, infinity, NaN, the ends of normal and subnormal numbers; then neighbours and other NaNs.
    let mut values = vec![0, infinity, quiet, one, infinity - 1, 1, normal, normal - 1, infinity | 1];
    values.extend([one - 1, one + 1, normal + 1, quiet | (normal - 1), quiet | 5]);
    let bias = (1 << (format.exponent - 1)) - 1;
    for power in POWERS.iter().map(|power| power + bias).filter(|power| (1..2 * bias).contains(power)) {
        let bits = (power as u64) << format.fraction;
        values.extend([bits, bits - 1, bits + 1]);
    }
    values.extend(NUMBERS.iter().map(|&number| rounded(number, format)).filter(|&bits| bits < infinity));
    values.iter().flat_map(|&value| [value, value | format.sign()]).collect()
}

/// A positive number in a format, cut off; above all numbers if it is beyond them.
fn rounded(number: f64, format: Format) -> u64 {
    let bias = (1i64 << (format.exponent - 1)) - 1;
    let exponent = (number.to_bits() >> 52) as i64 - 1023 + bias;
    let fraction = number.to_bits() & ones(52);
    let most = ones(format.exponent) as i64;
    (exponent.clamp(0, most) as u64) << format.fraction | fraction >> (52 - format.fraction)
}

/// A special value, random bits, a real number of moderate size, or a neighbour of the operand before.
fn drawn(ty: Type, specials: &[u64], before: Option<u64>, draw: &mut Draw) -> u64 {
    let mask = ones(ty.loaded());
    match (draw.below(8), before) {
        (0 | 1, _) => specials[draw.below(specials.len())],
        (2, Some(before)) => near(ty, before, draw) & mask,
        (2..=4, _) => draw.bits() & mask,
        _ => match ty.kind {
            Kind::Float(format) => real(format, draw),
            Kind::Pair(format) => real(format, draw) | real(format, draw) << (ty.bits / 2),
            // Any size is as likely as any other.
            Kind::Integer => {
                let value = draw.bits() >> draw.below(64);
                (if draw.bits() & 1 == 0 { value } else { value.wrapping_neg() }) & mask
            }
            Kind::Predicate => draw.bits() & 1,
        },
    }
}

/// The same bits, a few units away, with the other sign: sums cancel, comparisons are close.
fn near(ty: Type, before: u64, draw: &mut Draw) -> u64 {
    let moved = before.wrapping_add(draw.bits() % 5).wrapping_sub(2);
    let sign = ty.format().map_or(0, Format::sign);
    if draw.bits() & 1 == 0 { moved } else { moved ^ sign }
}

fn real(format: Format, draw: &mut Draw) -> u64 {
    let bias = (1u64 << (format.exponent - 1)) - 1;
    let reach = bias.min(20);
    let exponent = bias - reach + draw.bits() % (2 * reach);
    let sign = if draw.bits() & 1 == 0 { 0 } else { format.sign() };
    sign | exponent << format.fraction | (draw.bits() & ones(format.fraction))
}
