//! The carry pass between chunks.

use crate::error::Result;
use crate::ops::selective_scan::SelectiveScanCarry;
use crate::reference::{Real, Tensor, zeros};
use crate::tensor::Host;

/// What each chunk starts from: (batch, nchunks, dim, dstate).
pub fn carry<R: Real>(op: &SelectiveScanCarry<'_, Host>) -> Result<Tensor<R>> {
    let inputs = op.inputs()?;
    let [batch, nchunks, dim, dstate] = inputs.states.layout.extents;
    let mut carried = zeros("selective_scan_carry", &[batch, nchunks, dim, dstate])?;
    if carried.is_empty() {
        return Ok(carried);
    }
    for row in 0..batch * dim * dstate {
        let (b, d, n) = (row / (dim * dstate), row / dstate % dim, row % dstate);
        let mut state = inputs.initial.map_or(R::of(0.0), |initial| R::of(initial.at([b, d, n])));
        for i in 0..nchunks {
            let chunk = if inputs.reverse { nchunks - 1 - i } else { i };
            carried[((b * nchunks + chunk) * dim + d) * dstate + n] = state;
            let own = R::of(inputs.states.at([b, chunk, d, n]));
            let log_decay = R::of(inputs.A.at([d, n])) * R::of(inputs.delta_sum.at([b, chunk, d]));
            // Nothing stays nothing, even under a decay beyond the range.
            state = if state == R::of(0.0) { own } else { log_decay.exp() * state + own };
        }
    }
    Ok(carried)
}
