//! Every form against arithmetic that shares nothing with it: exact numbers, and loops over bits.

mod arithmetic;
mod bits;
mod carry;
mod compare;
mod convert;
mod logic;
mod moves;

use super::integer_families::select;
use super::testing::{EDGES, expand, levels, outcomes, split};
use crate::types::Type;
use std::collections::BTreeSet;

/// Checks forms, and in the end that none of the family was left out.
#[derive(Default)]
struct Checker {
    names: BTreeSet<String>,
}

impl Checker {
    /// The form named by `name`, for every tuple of operands, at every level.
    fn check<const N: usize>(&mut self, name: &str, tuples: &[[u64; N]], expected: impl Fn([u64; N]) -> u64) {
        self.check_with_carry(name, tuples, &[], |tuple, carry| (expected(tuple), carry));
    }

    /// As [`check`](Self::check), with the carry flag before, and after.
    fn check_with_carry<const N: usize>(
        &mut self,
        name: &str,
        tuples: &[[u64; N]],
        carries: &[bool],
        expected: impl Fn([u64; N], bool) -> (u64, bool),
    ) {
        let (opcode, modifiers) = split(name);
        for level in levels() {
            let form = select(opcode, &modifiers, level).unwrap_or_else(|| panic!("{name} is not known"));
            for (i, (outcome, &tuple)) in outcomes(&form, tuples, carries).into_iter().zip(tuples).enumerate() {
                let carry = carries.get(i).copied().unwrap_or(false);
                let got = (outcome.dst, outcome.carry);
                assert_eq!(got, expected(tuple, carry), "{name} of {tuple:x?}, carry {carry}, {level:?}");
            }
        }
        self.names.insert(name.to_owned());
    }

    /// Every form of the lists was checked.
    fn finish(self, known: &[&[&str]]) {
        let known: BTreeSet<String> = known.iter().copied().flatten().flat_map(|line| expand(line)).collect();
        let missing: Vec<_> = known.difference(&self.names).collect();
        assert!(missing.is_empty(), "not checked: {missing:?}");
    }
}

/// The type named so.
fn named(name: &str) -> Type {
    Type::from_name(name).unwrap_or_else(|| panic!("no type {name}"))
}

/// Bit `i` of `value`, 0 beyond 64.
fn bit(value: u64, i: u64) -> u64 {
    if i < 64 { value >> i & 1 } else { 0 }
}

/// The number whose bits are given, from the lowest on.
fn from_bits(count: u64, bit: impl Fn(u64) -> u64) -> u64 {
    (0..count).fold(0, |all, i| all | (bit(i) & 1) << i)
}

/// A few of the edges, for third operands.
fn some_edges() -> Vec<u64> {
    EDGES.iter().copied().step_by(3).collect()
}
