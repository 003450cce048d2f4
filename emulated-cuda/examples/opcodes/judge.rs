//! Whether two results of a form agree, and by how much they differ.

use super::forms::{Form, Rule};
use super::types::{Type, ones};

/// What became of all tuples of a form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub tuples: usize,
    /// Of which the PTX ISA leaves the result open: not looked at.
    pub open: usize,
    pub equal: usize,
    /// Differ in nothing but the payload of a NaN.
    pub payloads: usize,
    /// Differ, within the bound of the approximation.
    pub within: usize,
    pub different: usize,
    /// The largest distance of floating-point results, in units in the last place.
    pub worst: u64,
    pub example: Option<Example>,
}

/// The worst tuple.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    pub operands: Vec<u64>,
    pub emulated: Vec<u64>,
    pub device: Vec<u64>,
    rank: (Class, u64),
}

/// How two results compare, the worse the later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Equal,
    Payload,
    Within,
    Different,
}

/// Compares all results of a form. Operands and results stand as the kernels have them: those of the first source or
/// destination for all tuples, then those of the next.
pub fn compare(form: &Form, count: usize, operands: &[u64], emulated: &[u64], device: &[u64]) -> Outcome {
    let mut outcome = Outcome { tuples: count, ..Outcome::default() };
    let of = |all: &[u64], index: usize| -> Vec<u64> { all.chunks(count).map(|cell| cell[index]).collect() };
    let masks: Vec<u64> = form.destinations.iter().map(|ty| ones(ty.bits)).collect();
    let may_be_open = form.may_be_open();
    for index in 0..count {
        // Nearly all, so without looking further.
        let same =
            |(cell, mask): (usize, &u64)| (emulated[cell * count + index] ^ device[cell * count + index]) & mask == 0;
        if !may_be_open && masks.iter().enumerate().all(same) {
            outcome.equal += 1;
            continue;
        }
        let operands = of(operands, index);
        if form.is_open(&operands) {
            outcome.open += 1;
            continue;
        }
        let masked =
            |all: &[u64]| -> Vec<u64> { of(all, index).iter().zip(&masks).map(|(bits, mask)| bits & mask).collect() };
        let (ours, theirs) = (masked(emulated), masked(device));
        let (class, distance) = pair(form, &operands, &ours, &theirs);
        *match class {
            Class::Equal => &mut outcome.equal,
            Class::Payload => &mut outcome.payloads,
            Class::Within => &mut outcome.within,
            Class::Different => &mut outcome.different,
        } += 1;
        outcome.worst = outcome.worst.max(distance);
        let rank = (class, distance);
        if class != Class::Equal && outcome.example.as_ref().is_none_or(|example| example.rank < rank) {
            outcome.example = Some(Example { operands, emulated: ours, device: theirs, rank });
        }
    }
    outcome
}

/// The worst of the destinations.
fn pair(form: &Form, operands: &[u64], emulated: &[u64], device: &[u64]) -> (Class, u64) {
    let one = |((&ours, &theirs), &ty): ((&u64, &u64), &Type)| {
        if ours == theirs {
            return (Class::Equal, 0);
        }
        let class = match &form.rule {
            Rule::Bits => Class::Different,
            _ if nan_alike(ty, ours, theirs) => Class::Payload,
            Rule::Within(computation) if computation.allows(operands, theirs) == Some(true) => Class::Within,
            _ => Class::Different,
        };
        (class, if class == Class::Payload { 0 } else { distance(ty, ours, theirs) })
    };
    let all = emulated.iter().zip(device).zip(&form.destinations).map(one);
    all.fold((Class::Equal, 0), |worst, next| (worst.0.max(next.0), worst.1.max(next.1)))
}

/// Whether the numbers are the same, or both NaN.
fn nan_alike(ty: Type, a: u64, b: u64) -> bool {
    let Some(format) = ty.format() else { return false };
    ty.numbers(a).zip(ty.numbers(b)).all(|(a, b)| a == b || (format.is_nan(a) && format.is_nan(b)))
}

/// The greatest of the numbers' distances. None where one is NaN.
fn distance(ty: Type, a: u64, b: u64) -> u64 {
    let Some(format) = ty.format() else { return 0 };
    let pairs = ty.numbers(a).zip(ty.numbers(b)).filter(|&(a, b)| !format.is_nan(a) && !format.is_nan(b));
    pairs.map(|(a, b)| format.distance(a, b)).max().unwrap_or(0)
}
