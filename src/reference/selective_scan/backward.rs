//! The contract's closed form, over all states of a row.

use super::{Channel, OP};
use crate::error::Result;
use crate::ops::selective_scan::{AlignedProjection, CheckedUpstream, Dims, SelectiveScan, SelectiveScanUpstream};
use crate::reference::{Real, Tensor, silu_derivative, zeros};
use crate::tensor::{Element, Host};

/// Gradients, dense and unrounded.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Gradients<R> {
    /// (batch, dim, seqlen).
    pub dx: Tensor<R>,
    /// (batch, dim, seqlen).
    pub ddt: Tensor<R>,
    /// (batch, dim, seqlen); zero without z.
    pub dz: Tensor<R>,
    /// (dim, dstate).
    pub dA: Tensor<R>,
    /// As B: (batch, ngroups, dstate, seqlen) or (dim, dstate).
    pub dB: Tensor<R>,
    /// As C.
    pub dC: Tensor<R>,
    /// (dim).
    pub dD: Tensor<R>,
    /// (dim).
    pub ddt_bias: Tensor<R>,
    /// (nseqs, dim, dstate).
    pub dinitial_state: Tensor<R>,
}

/// The gradients for these upstream gradients. Checkpoints are not used.
pub fn backward<R: Real, T: Element>(
    scan: &SelectiveScan<'_, T, Host>,
    upstream: SelectiveScanUpstream<'_, T, Host>,
) -> Result<Gradients<R>> {
    let inputs = scan.inputs()?;
    let upstream = upstream.check(&inputs)?;
    let Dims { batch, dim, seqlen, dstate, nseqs } = inputs.dims;
    let sequence = || zeros(OP, &[batch, dim, seqlen]);
    let mut gradients = Gradients {
        dx: sequence()?,
        ddt: sequence()?,
        dz: sequence()?,
        dA: zeros(OP, &[dim, dstate])?,
        dB: zeros(OP, &shape(&inputs.B))?,
        dC: zeros(OP, &shape(&inputs.C))?,
        dD: zeros(OP, &[dim])?,
        ddt_bias: zeros(OP, &[dim])?,
        dinitial_state: zeros(OP, &[nseqs, dim, dstate])?,
    };
    // Without elements there may be sequences beyond counting.
    let empty = gradients.dx.is_empty() && gradients.dinitial_state.is_empty();
    // What dD sums, and ddt what ddt_bias does. Without z no exp disturbs the terms of dD: the order of the sum is all in
    // which plain loops differ.
    let mut by_D = sequence()?;
    for seq in 0..if empty { 0 } else { nseqs } {
        for i in 0..dim {
            gradients.row(&Channel::new(&inputs, seq, R::nth(i, dim)), &upstream, &mut by_D)?;
        }
    }
    // So too here: sums of nothing are the zeros that they begin as.
    for d in 0..if gradients.dx.is_empty() { 0 } else { dim } {
        let sum = |terms: &Tensor<R>| {
            let rows = (0..batch).flat_map(|b| &terms[(b * dim + d) * seqlen..][..seqlen]);
            R::sum(&rows.copied().collect::<Vec<R>>())
        };
        (gradients.dD[d], gradients.ddt_bias[d]) = (sum(&by_D), sum(&gradients.ddt));
    }
    Ok(gradients)
}

fn shape<T: Element>(projection: &AlignedProjection<'_, T, Host>) -> Vec<usize> {
    match projection {
        AlignedProjection::Variable { tensor, .. } => tensor.layout.extents.to_vec(),
        AlignedProjection::Constant(tensor) => tensor.layout.extents.to_vec(),
    }
}

/// Where the gradient of the element that `projection.at` reads lies.
fn place<T: Element>(projection: &AlignedProjection<'_, T, Host>, [b, d, n, t]: [usize; 4]) -> usize {
    match projection {
        AlignedProjection::Variable { tensor, channels } => {
            let [_, ngroups, dstate, seqlen] = tensor.layout.extents;
            ((b * ngroups + d / channels) * dstate + n) * seqlen + t
        }
        AlignedProjection::Constant(tensor) => d * tensor.layout.extents[1] + n,
    }
}

impl<R: Real> Gradients<R> {
    /// Adds what one channel of one sequence gives.
    fn row<T: Element>(
        &mut self,
        channel: &Channel<'_, '_, T>,
        upstream: &CheckedUpstream<'_, T, Host>,
        by_D: &mut Tensor<R>,
    ) -> Result<()> {
        let (Channel { inputs, span, seq, d }, dstate) = (channel, channel.inputs.dims.dstate);
        let (b, d, seq) = (span.batch, *d, *seq);
        // Row k is the state before step k.
        let mut states: Tensor<R> = zeros(OP, &[span.len + 1, dstate])?;
        (0..dstate).for_each(|n| states[n] = channel.initial(n));
        for step in 0..span.len {
            let (before, after) = states[step * dstate..].split_at_mut(dstate);
            after[..dstate].copy_from_slice(before);
            channel.advance(span.time(step), &mut after[..dstate]);
        }
        let last = |n| upstream.dfinal_state.map_or(R::of(0.0), |state| R::of(state.at([seq, d, n])));
        // The gradient by the state after the step, from all later steps.
        let mut later: Vec<R> = (0..dstate).map(last).collect();
        for step in (0..span.len).rev() {
            let t = span.time(step);
            let dout = upstream.dout.map(|dout| R::of(dout.at([b, d, t]).to_f32()));
            let [before, after] = [step, step + 1].map(|row| &states[row * dstate..][..dstate]);
            let product = self.step(channel, t, dout, [before, after], &mut later);
            by_D[(b * inputs.dims.dim + d) * inputs.dims.seqlen + t] = product;
            if let (Some(dout), Some(z)) = (dout, channel.z(t)) {
                let dims = inputs.dims;
                let y: R = channel.ungated(t, after);
                self.dz[(b * dims.dim + d) * dims.seqlen + t] = dout * y * silu_derivative(z);
            }
        }
        self.dinitial_state[(seq * inputs.dims.dim + d) * dstate..][..dstate].copy_from_slice(&later);
        Ok(())
    }

    /// One step back; `later` is the gradient by the state after it, and then by the state before it. Returns the step's
    /// term of dD.
    fn step<T: Element>(
        &mut self,
        channel: &Channel<'_, '_, T>,
        t: usize,
        dout: Option<R>,
        [before, after]: [&[R]; 2],
        later: &mut [R],
    ) -> R {
        let (Channel { inputs, span, d, .. }, dims) = (channel, channel.inputs.dims);
        let (x, (delta, slope)) = (channel.x::<R>(t), channel.delta::<R>(t));
        let g = dout.map(|dout| if inputs.z.is_some() { dout * channel.gate(t) } else { dout });
        let (mut by_input, mut by_decay) = (R::of(0.0), R::of(0.0));
        for i in 0..dims.dstate {
            let n = R::nth(i, dims.dstate);
            let index = [span.batch, *d, n, t];
            if let Some(g) = g {
                later[n] = g * channel.at(&inputs.C, n, t) + later[n];
                let dC = &mut self.dC[place(&inputs.C, index)];
                *dC = *dC + g * after[n];
            }
            let dB = &mut self.dB[place(&inputs.B, index)];
            *dB = *dB + later[n] * (delta * x);
            by_input = by_input + later[n] * channel.at(&inputs.B, n, t);
            later[n] = (delta * channel.A(n)).exp() * later[n];
            let w = later[n] * before[n];
            by_decay = by_decay + w * channel.A(n);
            let dA = &mut self.dA[d * dims.dstate + n];
            *dA = *dA + w * delta;
        }
        let ddt = (x * by_input + by_decay) * slope;
        let mut dx = delta * by_input;
        if let Some(g) = g {
            dx = inputs.D.map_or(dx, |D| R::of(D.at([*d])) * g + dx);
        }
        let place = (span.batch * dims.dim + d) * dims.seqlen + t;
        (self.dx[place], self.ddt[place]) = (dx, ddt);
        g.map_or(R::of(0.0), |g| g * x)
    }
}
