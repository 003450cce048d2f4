//! The selective scan on the CPU, in vectors of channels, or of a channel's states.
//!
//! Where sequences are cut into parts, a local pass runs each part from nothing, a carry pass connects the parts, and
//! the parts then run in full from what was carried.

mod advance;
mod ahead;
mod along_states;
mod backward;
mod carry;
mod forward;
mod lines;
mod memory;
mod output;
mod stage;
mod tiling;

pub use backward::Worker as BackwardWorker;
pub use forward::Worker as ForwardWorker;

use crate::ops::selective_scan::{Inputs, SelectiveScan, part_steps};
use crate::plan::Plan;
use crate::tensor::{Element, Host};
use std::ops::Range;

type Scan<'a, T> = SelectiveScan<'a, T, Host>;

/// The parts that sequences are cut into.
#[derive(Debug, Clone, Copy)]
struct Cut {
    split: usize,
    part: usize,
}

impl Cut {
    /// As forced, or by the rule.
    fn new<T: Element>(inputs: &Inputs<'_, T, Host>) -> Self {
        match inputs.split.unwrap_or_else(|| Self::rule(inputs.dims.dim, inputs.longest())) {
            1 => Self { split: 1, part: 0 },
            split => Self { split, part: part_steps(inputs.longest(), split, inputs.checkpoint_every()) },
        }
    }

    /// Long sequences of few channels are cut, so that there is work for several threads, whatever there is of them: whole, up
    /// to 128 channels are four tasks in the dense order. A cut computes most powers twice, so parts are long and few.
    fn rule(dim: usize, longest: usize) -> usize {
        const CHANNELS: usize = 32;
        const TASKS: usize = 8;
        const LEAST_STEPS: usize = 4096;
        match dim.div_ceil(CHANNELS) {
            tiles @ 1..=4 => (TASKS / tiles).min(longest / LEAST_STEPS).max(1),
            _ => 1,
        }
    }

    /// The steps of a part of a sequence of `len` steps.
    fn steps(self, len: usize, part: usize) -> Range<usize> {
        if self.split == 1 {
            return 0..len;
        }
        part.saturating_mul(self.part).min(len)..(part + 1).saturating_mul(self.part).min(len)
    }

    fn plan<T: Element>(self, direction: &str, inputs: &Inputs<'_, T, Host>, floats: usize) -> Plan {
        let bytes = floats.saturating_mul(size_of::<f32>());
        let mut plan = Plan::new(format!("selective_scan_{direction}_{}", T::DTYPE), inputs.dims.named(), bytes);
        (plan.split, plan.part, plan.checkpoint_every) = (self.split, self.part, inputs.checkpoint_every());
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::Cut;

    #[test]
    fn long_sequences_of_few_channels_are_cut() {
        let parts =
            [(1, 1 << 20), (32, 8192), (32, 8191), (64, 1 << 20), (128, 8192), (128, 4096), (129, 1 << 20), (0, 0)];
        assert_eq!(parts.map(|(dim, longest)| Cut::rule(dim, longest)), [8, 2, 1, 4, 2, 1, 1, 1]);
    }
}
