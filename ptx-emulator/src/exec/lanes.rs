//! Masks of lanes.

use crate::registers::LANES;

/// The lanes of a mask, in order.
#[inline(always)]
pub(super) fn each(mask: u32) -> Each {
    Each { left: mask }
}

/// See [`each`].
#[derive(Clone, Copy)]
pub(super) struct Each {
    left: u32,
}

impl Iterator for Each {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        if self.left == 0 {
            return None;
        }
        let lane = self.left.trailing_zeros() as usize;
        self.left &= self.left - 1;
        Some(lane)
    }
}

/// The lanes for which a test holds.
#[inline(always)]
pub(super) fn collect(mask: u32, mut test: impl FnMut(usize) -> bool) -> u32 {
    let mut found = 0;
    for lane in each(mask) {
        found |= u32::from(test(lane)) << lane;
    }
    found
}

/// The lowest lane of a mask that is not empty.
#[inline(always)]
pub(super) fn first(mask: u32) -> usize {
    (mask.trailing_zeros() as usize).min(LANES - 1)
}
