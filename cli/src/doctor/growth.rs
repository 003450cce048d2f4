//! How the gradient by the state grows or vanishes on its way back.

use super::case::{Case, Part};
use super::histogram::Histogram;
use crate::run::selective_scan::Projected;
use ssm_kernels::reference::silu;

/// So far from the end of the sequence, over all pairs of channel and state of the sequences that are that long.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// 0 is the last step.
    pub distance: usize,
    pub count: u64,
    /// Of |dh|, the gradient by the state after the step.
    pub largest: f64,
    sum: f64,
    /// The largest |dh| before out of the step adds to it: what later steps leave.
    pub carried: f64,
    /// Not finite in f64.
    pub nonfinite: u64,
    /// How much of the gradient by the last state arrives: exp(the sum of delta A over the steps between).
    pub arriving: Histogram,
}

/// At powers of two, in f64 on the file's inputs.
#[derive(Debug)]
pub(super) struct Growth {
    pub rows: Vec<Row>,
}

impl Row {
    fn at(distance: usize) -> Self {
        Self { distance, count: 0, largest: 0.0, sum: 0.0, carried: 0.0, nonfinite: 0, arriving: Histogram::new() }
    }

    fn take(&mut self, dh: f64, carried: f64, exponent: f64) {
        self.count += 1;
        if dh.is_finite() {
            self.largest = self.largest.max(dh.abs());
            self.sum += dh.abs();
        } else {
            self.nonfinite += 1;
        }
        if carried.is_finite() {
            self.carried = self.carried.max(carried.abs());
        }
        if !exponent.is_nan() {
            self.arriving.add(exponent.exp(), exponent * std::f64::consts::LOG10_E);
        }
    }

    /// Of |dh|, where it is finite.
    pub fn mean(&self) -> f64 {
        self.sum / (self.count - self.nonfinite).max(1) as f64
    }
}

impl Growth {
    /// Nothing yet, of the longest sequence.
    pub fn new(case: &Case<'_>) -> Self {
        let powers = std::iter::successors(Some(1usize), |distance| distance.checked_mul(2));
        let distances = std::iter::once(0).chain(powers).take_while(|&distance| distance < case.longest());
        Self { rows: distances.map(Row::at).collect() }
    }

    pub fn merge(&mut self, other: &Self) {
        for (to, from) in self.rows.iter_mut().zip(&other.rows) {
            to.count += from.count;
            to.largest = to.largest.max(from.largest);
            to.sum += from.sum;
            to.carried = to.carried.max(from.carried);
            to.nonfinite += from.nonfinite;
            to.arriving.merge(&from.arriving);
        }
    }

    /// Takes in channel `c` of the part.
    pub fn take(&mut self, case: &Case<'_>, part: &Part<'_>, c: usize) {
        let [_, channels, seqlen] = part.tensors.x.extents;
        let dstate = case.dims.dstate;
        let A: Vec<f64> = part.tensors.A.data[c * dstate..][..dstate].iter().copied().map(f64::from).collect();
        let bias = part.tensors.dt_bias.as_ref().map_or(0.0, |bias| f64::from(bias.data[c]));
        // Without steps there may be sequences beyond counting.
        for seq in 0..if seqlen == 0 { 0 } else { case.dims.nseqs } {
            let (batch, _, len) = case.span(seq);
            let (row, state) = ((batch * channels + c) * seqlen, (seq * channels + c) * dstate);
            let last = |n| part.dfinal_state().get(state + n).copied().map_or(0.0, f64::from);
            let mut dh: Vec<f64> = (0..dstate).map(last).collect();
            let mut sum = 0.0;
            for distance in 0..len {
                let time = case.time(seq, len - 1 - distance);
                let g = part.dout().get(row + time).map(|&dout| f64::from(dout) * gate(part, row + time));
                let (_, delta) = case.delta(f64::from(part.tensors.dt.data[row + time]) + bias);
                let at = if distance == 0 { Some(0) } else { power(distance) };
                for (n, dh) in dh.iter_mut().enumerate() {
                    let carried = *dh;
                    // Without an upstream gradient nothing comes of C, whatever it is.
                    if let Some(g) = g {
                        *dh += g * projected(&part.tensors.C, [batch, c, channels], n, time);
                    }
                    if let Some(row) = at.and_then(|at| self.rows.get_mut(at)) {
                        row.take(*dh, carried, sum * A[n]);
                    }
                    *dh *= (delta * A[n]).exp();
                }
                sum += delta;
            }
        }
    }

    /// The first distance at which nothing that f32 could hold beside it is left of the gradient by the last state.
    pub fn vanished(&self) -> Option<&Row> {
        let rounding = f64::from(f32::EPSILON) / 2.0;
        self.rows.iter().find(|row| row.arriving.count() > 0 && row.arriving.largest < rounding)
    }

    /// The row at which most of the gradient by the last state arrives, if that is more than there was.
    pub fn grown(&self) -> Option<&Row> {
        let most = self.rows.iter().max_by(|a, b| a.arriving.largest.total_cmp(&b.arriving.largest))?;
        Some(most).filter(|row| row.arriving.largest > 1.0)
    }
}

/// The row of a distance that is a power of two.
fn power(distance: usize) -> Option<usize> {
    distance.is_power_of_two().then(|| distance.trailing_zeros() as usize + 1)
}

fn gate(part: &Part<'_>, index: usize) -> f64 {
    part.tensors.z.as_ref().map_or(1.0, |z| silu(f64::from(z.data[index])))
}

fn projected(projection: &Projected<'_, f32>, [batch, c, channels]: [usize; 3], n: usize, time: usize) -> f64 {
    match projection {
        Projected::Constant(tensor) => tensor.data[c * tensor.extents[1] + n].into(),
        Projected::Variable(tensor) => {
            let [_, ngroups, dstate, seqlen] = tensor.extents;
            let group = c / (channels / ngroups.max(1)).max(1);
            tensor.data[((batch * ngroups + group) * dstate + n) * seqlen + time].into()
        }
    }
}
