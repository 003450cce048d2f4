//! Whether two arguments share an element, and whether all lie on one device.

use super::layout::Layout;
use super::storage::Storage;
use super::view::{Strided, StridedMut};
use crate::error::{Error, Result};

/// Nodes the exact search may visit before two views count as overlapping. Views whose strides nest, which
/// is every slice of a dense tensor, need a few dozen.
const SEARCH_LIMIT: u32 = 10_000;

/// The memory of every argument of one call.
#[derive(Default)]
pub(crate) struct Memory {
    inputs: Vec<Argument>,
    outputs: Vec<Argument>,
}

struct Argument {
    name: &'static str,
    device: Option<u32>,
    bytes: Bytes,
}

/// The set of byte addresses `base + sum(step * k), 0 <= k <= last`.
#[derive(Debug, Clone)]
struct Bytes {
    base: i128,
    terms: Vec<Term>,
    empty: bool,
}

#[derive(Debug, Clone, Copy)]
struct Term {
    step: i128,
    last: i128,
}

impl Memory {
    pub fn input<T, S: Storage, const R: usize>(&mut self, name: &'static str, tensor: &Strided<'_, T, S, R>) {
        let (address, device) = (tensor.memory.address(), tensor.memory.ordinal());
        self.inputs.push(Argument::new(name, address, device, &tensor.layout, size_of::<T>()));
    }

    pub fn output<T, S: Storage, const R: usize>(&mut self, name: &'static str, tensor: &StridedMut<'_, T, S, R>) {
        let (address, device) = (tensor.memory.address(), tensor.memory.ordinal());
        self.outputs.push(Argument::new(name, address, device, &tensor.layout, size_of::<T>()));
    }

    pub fn has_outputs(&self) -> bool {
        !self.outputs.is_empty()
    }

    /// The arguments that lie somewhere: those that have elements, or all of them if no input has any.
    fn located(&self) -> impl Iterator<Item = &Argument> {
        let everywhere = self.inputs.iter().all(|input| input.bytes.empty);
        self.inputs.iter().chain(&self.outputs).filter(move |argument| everywhere || !argument.bytes.empty)
    }

    /// The first of them, and its device.
    #[cfg(any(test, feature = "cuda", feature = "emulator"))]
    pub fn place(&self) -> Option<(&'static str, Option<u32>)> {
        self.located().next().map(|argument| (argument.name, argument.device))
    }

    /// All arguments on one device; no output shares memory with an input or another output.
    pub fn check(&self, op: &'static str) -> Result<()> {
        let mut all = self.located();
        if let Some(first) = all.next() {
            for other in all {
                if other.device != first.device {
                    let (got, expected) =
                        (place(other.device), format!("{} like `{}`", place(first.device), first.name));
                    return Err(Error::WrongDevice { op, arg: other.name, got, expected });
                }
            }
        }
        for (i, output) in self.outputs.iter().enumerate() {
            for other in self.inputs.iter().chain(&self.outputs[i + 1..]) {
                if output.bytes.meets(&other.bytes) {
                    return Err(Error::Overlap { op, arg: output.name, other: other.name });
                }
            }
        }
        Ok(())
    }
}

fn place(device: Option<u32>) -> String {
    device.map_or_else(|| "the host".into(), |ordinal| format!("device {ordinal}"))
}

impl Argument {
    fn new<const R: usize>(
        name: &'static str,
        address: u64,
        device: Option<u32>,
        layout: &Layout<R>,
        size: usize,
    ) -> Self {
        let size = size as i128;
        let mut terms = vec![Term { step: 1, last: size - 1 }];
        for (extent, stride) in layout.extents.into_iter().zip(layout.strides) {
            terms.push(Term { step: i128::from(stride) * size, last: extent as i128 - 1 });
        }
        let bytes = Bytes { base: i128::from(address), terms, empty: layout.is_empty() };
        Self { name, device, bytes }
    }
}

impl Bytes {
    fn reach(&self) -> i128 {
        self.terms.iter().map(|term| term.step * term.last).sum()
    }

    fn meets(&self, other: &Bytes) -> bool {
        if self.empty || other.empty {
            return false;
        }
        if self.base + self.reach() < other.base || other.base + other.reach() < self.base {
            return false;
        }
        // base_a + a = base_b + b, with b written as reach_b - b', so that all terms count upwards.
        let target = other.base + other.reach() - self.base;
        let mut terms: Vec<Term> =
            self.terms.iter().chain(&other.terms).copied().filter(|term| term.step * term.last > 0).collect();
        terms.sort_by_key(|term| -term.step);
        let mut merged: Vec<Term> = Vec::new();
        for term in terms {
            match merged.last_mut() {
                Some(last) if last.step == term.step => last.last += term.last,
                _ => merged.push(term),
            }
        }
        let mut budget = SEARCH_LIMIT;
        reachable(&merged, target, &mut budget)
    }
}

/// Is `target` a sum of `step * k` with `0 <= k <= last`? Steps descend. Out of budget means yes.
fn reachable(terms: &[Term], target: i128, budget: &mut u32) -> bool {
    let Some((first, rest)) = terms.split_first() else { return target == 0 };
    let below: i128 = rest.iter().map(|term| term.step * term.last).sum();
    let lowest = (target - below + first.step - 1).div_euclid(first.step).max(0);
    let highest = target.div_euclid(first.step).min(first.last);
    for k in lowest..=highest {
        if *budget == 0 {
            return true;
        }
        *budget -= 1;
        if reachable(rest, target - first.step * k, budget) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(base: u64, dims: &[(usize, i64)], size: i128) -> Bytes {
        let mut terms = vec![Term { step: 1, last: size - 1 }];
        terms.extend(dims.iter().map(|&(n, s)| Term { step: i128::from(s) * size, last: n as i128 - 1 }));
        Bytes { base: i128::from(base), terms, empty: dims.iter().any(|d| d.0 == 0) }
    }

    #[test]
    fn interleaved_halves_of_one_tensor_do_not_meet() {
        // (batch 3, 2 * dim 4, seqlen 5): x is the first half of the channels, z the second.
        let x = bytes(0, &[(3, 40), (4, 5), (5, 1)], 4);
        let z = bytes(80, &[(3, 40), (4, 5), (5, 1)], 4);
        assert!(!x.meets(&z) && !z.meets(&x));
        let off_by_one = bytes(76, &[(3, 40), (4, 5), (5, 1)], 4);
        assert!(x.meets(&off_by_one) && off_by_one.meets(&x));
    }

    fn argument(name: &'static str, device: u32, extent: usize) -> Argument {
        Argument { name, device: Some(device), bytes: bytes(device.into(), &[(extent, 1)], 4) }
    }

    #[test]
    fn memory_without_elements_lies_on_any_device() {
        let [x, A] = [argument("x", 0, 0), argument("A", 1, 3)];
        let memory = Memory { inputs: vec![x, A], outputs: vec![argument("out", 0, 0)] };
        assert_eq!((memory.check("op"), memory.place()), (Ok(()), Some(("A", Some(1)))));
        let [x, A] = [argument("x", 0, 2), argument("A", 1, 3)];
        let refused = Memory { inputs: vec![x, A], outputs: vec![] }.check("op").expect_err("two devices");
        assert_eq!(refused.to_string(), "op: `A` lies on device 1, expected device 0 like `x`");
        // Where no input tells the device of an output, all of them do.
        let memory = Memory { inputs: vec![argument("x", 0, 0)], outputs: vec![argument("delta_sum", 1, 3)] };
        assert!(memory.check("op").is_err());
    }

    #[test]
    fn an_exhausted_search_counts_as_overlap() {
        let terms = [Term { step: 3, last: 5 }, Term { step: 2, last: 5 }];
        assert!(!reachable(&terms, 1, &mut 100));
        assert!(reachable(&terms, 1, &mut 0));
    }

    #[test]
    fn brute_force_agrees() {
        let mut seed = 7u64;
        let mut draw = |n: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % n
        };
        let mut met = 0;
        for _ in 0..4000 {
            let mut random = |size: i128| {
                let base = draw(40);
                let dims: Vec<(usize, i64)> = (0..3).map(|_| (draw(4) as usize, draw(9) as i64)).collect();
                bytes(base, &dims, size)
            };
            let (a, b) = (random(4), random(2));
            let truth = !a.empty && !b.empty && addresses(&a).iter().any(|x| addresses(&b).contains(x));
            assert_eq!(a.meets(&b), truth, "{a:?} {b:?}");
            met += usize::from(truth);
        }
        assert!(met > 400, "{met} of 4000 overlap: the draw is lopsided");
    }

    fn addresses(bytes: &Bytes) -> std::collections::HashSet<i128> {
        let mut set = std::collections::HashSet::from([bytes.base]);
        for term in &bytes.terms {
            set = set.iter().flat_map(|&a| (0..=term.last).map(move |k| a + k * term.step)).collect();
        }
        set
    }
}
