//! What the instructions that only compute take and give, for programs that make kernels of every one.

use crate::forms::{self, Form, Level};
use crate::types::Type;
use std::collections::HashSet;

/// An instruction that only computes, and the types of its operands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Computation {
    /// The opcode with its modifiers: `add.sat.s32`.
    pub name: String,
    /// The types of what it writes, as PTX names them: two for `p|q`.
    pub destinations: Vec<&'static str>,
    /// The types of what it reads. A register that a conversion reads may be wider.
    pub sources: Vec<&'static str>,
    allows: Option<forms::Allows>,
}

impl Computation {
    /// Whether a device may give this result: for approximate instructions, of which the PTX ISA bounds the error and
    /// `docs/precision.md` has the bounds. `None` for those with one right result.
    pub fn allows(&self, sources: &[u64], result: u64) -> Option<bool> {
        let first = sources.first().copied().unwrap_or_default();
        self.allows.map(|allows| allows(first, sources.get(1).copied().unwrap_or(first), result))
    }

    fn new(name: String, form: &Form) -> Self {
        let types = |types: &[Type]| types.iter().map(|ty| ty.name()).collect();
        let destinations: Vec<Type> = std::iter::once(form.dst).chain(form.dst2).collect();
        Self { name, destinations: types(&destinations), sources: types(&form.src), allows: form.allows }
    }
}

/// Every instruction that only computes. One name comes twice if it has two numbers of destinations (`setp`) or of
/// sources (`min`, `max`).
pub fn computations() -> impl Iterator<Item = Computation> {
    let level = Level::detect();
    let with = move |group, select: fn(&str, &[&str], Level) -> Option<Form>| {
        expand(group).into_iter().filter_map(move |name| {
            let mut words = name.split('.');
            let opcode = words.next().unwrap_or_default();
            let form = select(opcode, &words.collect::<Vec<_>>(), level)?;
            Some(Computation::new(name, &form))
        })
    };
    let two = forms::known_of_two().flat_map(move |group| with(group, one_destination));
    let three = forms::known_of_three().flat_map(move |group| with(group, three_sources));
    let pairs = forms::known_of_pairs().flat_map(move |group| with(group, forms::select_pair));
    // Some lines of the list share a name.
    let mut seen = HashSet::new();
    let all = two.chain(three).chain(pairs);
    all.filter(move |one| seen.insert((one.name.clone(), one.destinations.len(), one.sources.len())))
}

fn one_destination(opcode: &str, modifiers: &[&str], level: Level) -> Option<Form> {
    if opcode != "cvt" || modifiers.first() == Some(&"pack") {
        return forms::select(opcode, modifiers, 2, level);
    }
    // No narrower than the registers that compilers use.
    let to = modifiers.iter().find_map(|name| Type::from_name(name)).unwrap_or(Type::F32);
    let bits = (8 * to.bytes()).max(16);
    let form = forms::select_conversion(modifiers, bits, level)?;
    // Of some forms the row is what counts, which is wider.
    let narrow = if to.is_signed() { Type::S16 } else { Type::U16 };
    Some(if 8 * form.dst.bytes() > bits { Form { dst: narrow, ..form } } else { form })
}

fn three_sources(opcode: &str, modifiers: &[&str], level: Level) -> Option<Form> {
    forms::select(opcode, modifiers, 3, level)
}

/// The names that a line of [`instruction_forms`](crate::instruction_forms) stands for: `a{b,c}d` is `abd` and `acd`.
pub fn expand(line: &str) -> Vec<String> {
    let Some((head, rest)) = line.split_once('{') else { return vec![line.to_owned()] };
    let Some((alternatives, tail)) = rest.split_once('}') else { return vec![line.to_owned()] };
    let tails = expand(tail);
    alternatives.split(',').flat_map(|choice| tails.iter().map(move |tail| format!("{head}{choice}{tail}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_name_of_the_list_is_a_computation_and_no_other() {
        let listed: BTreeSet<String> = forms::known().flat_map(expand).collect();
        let found: BTreeSet<String> = computations().map(|one| one.name).collect();
        assert_eq!(listed, found);
        let numbers = |name: &str| -> Vec<(usize, usize)> {
            let all = computations().filter(|one| one.name == name);
            all.map(|one| (one.destinations.len(), one.sources.len())).collect()
        };
        assert_eq!(numbers("min.f32"), [(1, 2), (1, 3)]);
        assert_eq!(numbers("cvt.rn.f16.f32"), [(1, 1)]);
        assert_eq!(numbers("setp.lt.s32"), [(1, 2), (2, 2)]);
        assert_eq!(numbers("setp.lt.and.f16"), [(1, 3), (2, 3)]);
        assert_eq!(numbers("setp.lt.f16x2"), [(2, 2)]);
    }

    #[test]
    fn types_are_those_of_ptx() {
        let of = |name: &str| computations().find(|one| one.name == name).map(|one| (one.destinations, one.sources));
        assert_eq!(of("mul.wide.s32"), Some((vec!["s64"], vec!["s32", "s32"])));
        assert_eq!(of("cvt.u8.s32"), Some((vec!["u16"], vec!["s32"])));
        assert_eq!(of("cvt.rzi.s8.f32"), Some((vec!["s16"], vec!["f32"])));
        assert_eq!(of("cvt.rzi.u16.f64"), Some((vec!["u16"], vec!["f64"])));
        assert_eq!(of("fma.rn.f32.bf16"), Some((vec!["f32"], vec!["bf16", "bf16", "f32"])));
        assert_eq!(of("selp.f32"), Some((vec!["f32"], vec!["f32", "f32", "pred"])));
    }

    #[test]
    fn what_is_allowed_ends_at_the_bound() {
        let of = |name: &str| computations().find(|one| one.name == name).expect("a computation");
        let (two, one) = (of("ex2.approx.f32"), 1.5f32.to_bits().into());
        let right = u64::from(1.5f32.exp2().to_bits());
        let allowed = |change: i64| two.allows(&[one], right.wrapping_add_signed(change));
        assert_eq!([-3, -2, 0, 2, 3].map(allowed), [Some(false), Some(true), Some(true), Some(true), Some(false)]);
        assert_eq!(two.allows(&[one], 0x7FC0_0000), Some(false), "a NaN of numbers");
        let nan = u64::from(f32::NAN.to_bits());
        assert_eq!(two.allows(&[nan], nan ^ 1), Some(true), "another NaN of a NaN");
        assert_eq!(of("add.f32").allows(&[one, one], 0), None);
        // Either half alone is seen.
        let pair = of("tanh.approx.f16x2");
        assert_eq!(pair.allows(&[0x3C00_0000], 0x3A18_0000), Some(true));
        assert_eq!(pair.allows(&[0x3C00_0000], 0x3A38_0000), Some(false));
        assert_eq!(pair.allows(&[0x0000_3C00], 0x0000_3A38), Some(false));
        // The zero of the divisor's size, and no number near it.
        let quotient = of("div.approx.f32");
        let operands = [1.0f32, f32::from_bits(0x7F00_0000)].map(|value| u64::from(value.to_bits()));
        assert_eq!(quotient.allows(&operands, 0), Some(true));
        assert_eq!(quotient.allows(&operands, 0x0040_0000), Some(false));
    }
}
