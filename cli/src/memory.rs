//! How much memory a run may ask for. Everything large is planned, and reserved once as a trial, before the library or
//! the reference allocates it: they would abort where this is an error.

use crate::error::{CliError, Result};

/// The most elements of a tensor and the largest extent, extents of 0 counted as 1. Below it no product of extents
/// overflows, and no loop over a tensor without elements takes forever.
const MAX_ELEMENTS: u64 = 1 << 40;
const MIB: u128 = 1 << 20;

/// A sum of allocations and its limit.
#[derive(Debug)]
pub struct Memory {
    limit_mib: u64,
    planned: u128,
}

impl Memory {
    /// Nothing planned yet.
    pub fn new(limit_mib: u64) -> Self {
        Self { limit_mib, planned: 0 }
    }

    /// Adds `count` elements of `size` bytes each.
    pub fn plan(&mut self, count: usize, size: usize) -> Result<()> {
        self.planned = self.planned.saturating_add(count as u128 * size as u128);
        if self.planned <= u128::from(self.limit_mib) * MIB {
            return Ok(());
        }
        let (needed, limit) = (self.planned.div_ceil(MIB), self.limit_mib);
        Err(CliError::new(format!("the run needs {needed} MiB of memory, expected at most {limit} (--max-memory)")))
    }

    /// All that is planned can be had now.
    pub fn reserve(&self) -> Result<()> {
        let bytes = usize::try_from(self.planned).unwrap_or(usize::MAX);
        let mut trial = Vec::<u8>::new();
        trial.try_reserve_exact(bytes).map_err(|_| no_memory(bytes))
    }
}

/// Number of elements, if it is one that can be worked with.
pub fn elements(name: &str, shape: &[usize]) -> Result<usize> {
    let count = |product: u64, &extent: &usize| {
        product.checked_mul((extent as u64).max(1)).filter(|&product| product <= MAX_ELEMENTS)
    };
    match shape.iter().try_fold(1, count) {
        Some(_) => Ok(shape.iter().product()),
        None => Err(CliError::new(format!(
            "tensor `{name}` has shape {shape:?}, expected at most 2^40 elements, extents of 0 counted as 1"
        ))),
    }
}

/// `count` copies of `value`.
pub fn filled<T: Copy>(count: usize, value: T) -> Result<Vec<T>> {
    let mut vec = Vec::new();
    vec.try_reserve_exact(count).map_err(|_| no_memory(count.saturating_mul(size_of::<T>())))?;
    vec.resize(count, value);
    Ok(vec)
}

fn no_memory(bytes: usize) -> CliError {
    CliError::new(format!("no memory for {bytes} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_are_bounded_even_beside_a_zero() {
        assert_eq!(elements("x", &[2, 0, 1 << 39]).unwrap(), 0);
        assert_eq!(elements("x", &[]).unwrap(), 1);
        assert!(elements("x", &[1, 1 << 62, 0]).is_err());
        assert!(elements("x", &[0, 1 << 30, 1 << 30]).is_err());
        assert!(elements("x", &[usize::MAX, usize::MAX, usize::MAX]).is_err());
    }

    #[test]
    fn the_limit_is_a_sum() {
        let mut memory = Memory::new(2);
        memory.plan(1 << 20, 1).unwrap();
        memory.plan(1 << 18, 4).unwrap();
        memory.reserve().unwrap();
        assert!(memory.plan(1, 1).unwrap_err().to_string().contains("3 MiB"));
        assert!(Memory::new(1 << 30).plan(usize::MAX, usize::MAX).is_err());
    }
}
