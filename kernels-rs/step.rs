//! From the raw step to delta.

use crate::math;
use crate::params::SsmStep;

impl SsmStep {
    /// delta and its derivative by the raw step. The comparisons keep NaN.
    #[inline(always)]
    pub fn delta(&self, raw: f32) -> (f32, f32) {
        let (delta, slope) = match self.softplus {
            0 => (raw, 1.0),
            _ => (math::softplus(raw), math::softplus_derivative(raw)),
        };
        if self.limited != 0 && delta < self.min {
            (self.min, 0.0)
        } else if self.limited != 0 && delta > self.max {
            (self.max, 0.0)
        } else {
            (delta, slope)
        }
    }
}
