//! Distances along a sequence that forward and backward, and all backends, share.

/// Steps between the states that forward saves for backward: 128, or 8 dstate rounded up to a multiple of 128 where that
/// is more, so that a checkpoint costs at most half a byte per element of (batch, dim, seqlen).
pub(crate) const fn checkpoint_every(dstate: usize) -> usize {
    let wanted = match dstate.saturating_mul(8).checked_next_multiple_of(128) {
        Some(steps) => steps,
        // No tensor has so many states.
        None => usize::MAX / 128 * 128,
    };
    if wanted < 128 { 128 } else { wanted }
}

/// Steps of a part when the longest sequence is cut into `split` parts: a multiple of `every`, so that checkpoints lie
/// at the ends of parts. Later parts of shorter sequences may be empty.
pub(crate) fn part_steps(longest: usize, split: usize, every: usize) -> usize {
    longest.div_ceil(split).max(1).checked_next_multiple_of(every).unwrap_or(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_cost_at_most_half_a_byte() {
        for (dstate, every) in [(0, 128), (1, 128), (16, 128), (17, 256), (40, 384), (300, 2432)] {
            assert_eq!(checkpoint_every(dstate), every);
            assert!(4 * dstate * 2 <= every);
        }
        assert_eq!(checkpoint_every(usize::MAX) % 128, 0);
    }

    #[test]
    fn parts_cover_the_longest_sequence() {
        for (longest, split, part) in [(0, 3, 128), (1, 3, 128), (384, 3, 128), (385, 3, 256), (1000, 2, 512)] {
            assert_eq!(part_steps(longest, split, 128), part);
            assert!(part * split >= longest);
        }
        assert_eq!(part_steps(usize::MAX, 1, 128), usize::MAX);
    }
}
