//! The operators on the inputs of a measurement, wherever those lie.

use crate::error::Result;
use crate::tensor::Io;
use ssm_baseline::{Layout, Shape};
use ssm_kernels::prelude::*;
use ssm_kernels::{Axes, Slice, Storage};

/// The tensors of a case in memory of one kind.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'c, T, S: Storage> {
    /// Extents and layout. The taps of a convolution stand for states; of attention dim is heads, and dstate the elements of
    /// a head's q, k and v.
    pub shape: Shape,
    /// x, dt, z and dout; of attention q, k, v and dout.
    pub sequences: [Slice<'c, T, S>; 4],
    /// B and C.
    pub rows: [Slice<'c, T, S>; 2],
    /// A, or the weight of a convolution: (dim, dstate). Of attention log_decay, which lies like x.
    pub matrix: Slice<'c, f32, S>,
    /// (dim).
    pub D: Slice<'c, f32, S>,
    /// dt_bias, or the bias of a convolution: (dim).
    pub bias: Slice<'c, f32, S>,
}

/// A dense tensor.
pub fn view<'v, T, S: Storage, const N: usize>(
    data: Slice<'v, T, S>,
    dims: [(&'static str, usize); N],
) -> View<'v, T, S> {
    View::from_parts(data, Axes::dense(dims))
}

impl<'c, T: Io, S: Storage> Inputs<'c, T, S> {
    /// The dimensions of x.
    pub fn sequence_dims(&self) -> [(&'static str, usize); 3] {
        let Shape { batch, dim, seqlen, layout, .. } = self.shape;
        match layout {
            Layout::Dense => [("batch", batch), ("dim", dim), ("seqlen", seqlen)],
            Layout::ChannelLast => [("batch", batch), ("seqlen", seqlen), ("dim", dim)],
        }
    }

    /// The dimensions of B and C.
    pub fn rows_dims(&self) -> [(&'static str, usize); 4] {
        let Shape { batch, seqlen, dstate, layout, .. } = self.shape;
        let (b, g, n, t) = (("batch", batch), ("ngroups", 1), ("dstate", dstate), ("seqlen", seqlen));
        match layout {
            Layout::Dense => [b, g, n, t],
            Layout::ChannelLast => [b, t, g, n],
        }
    }

    /// The dimensions of what discretise writes.
    pub fn domain(&self) -> [(&'static str, usize); 4] {
        let [batch, second, third] = self.sequence_dims();
        [batch, second, third, ("dstate", self.shape.dstate)]
    }

    /// The dimensions of what a convolution remembers of each row.
    pub fn conv_state_dims(&self) -> [(&'static str, usize); 3] {
        let Shape { batch, dim, dstate: width, layout, .. } = self.shape;
        let (slots, dim, steps) = (("slots", batch), ("dim", dim), ("state_len", width - 1));
        match layout {
            Layout::Dense => [slots, dim, steps],
            Layout::ChannelLast => [slots, steps, dim],
        }
    }

    /// The upstream gradient.
    pub fn dout(&self) -> View<'c, T, S> {
        self.sequence(3)
    }

    /// A selective scan with every option on.
    pub fn scan(&self) -> Result<SelectiveScan<'c, T, S>> {
        let [x, dt, z, B, C] = self.recurrence();
        let scan = SelectiveScan::new(x, dt, self.A(), B, C)?;
        Ok(scan.D(self.channels(self.D)).dt_bias(self.channels(self.bias)).z(z).dt_softplus(true))
    }

    /// The scan's steps as tokens of a state update.
    pub fn update(&self) -> Result<StateUpdate<'c, T, f32, S>> {
        let [x, dt, z, B, C] = self.recurrence();
        let op = StateUpdate::new(x, dt, self.A(), B, C)?;
        Ok(op.D(self.channels(self.D)).dt_bias(self.channels(self.bias)).z(z).dt_softplus(true))
    }

    /// A discretisation with zero-order hold.
    pub fn discretise(&self) -> Result<Discretise<'c, T, S>> {
        let Shape { batch, seqlen, dstate, layout, .. } = self.shape;
        let (batch, states, steps) = (("batch", batch), ("dstate", dstate), ("seqlen", seqlen));
        let dims = match layout {
            Layout::Dense => [batch, states, steps],
            Layout::ChannelLast => [batch, steps, states],
        };
        let op = Discretise::new(Rule::Zoh, self.sequence(1), self.A(), view(self.rows[0], dims))?;
        Ok(op.dt_bias(self.channels(self.bias)).dt_softplus(true))
    }

    /// A causal convolution with every option on but an initial state. The weights are f32.
    pub fn conv(&self) -> Result<CausalConv1d<'c, T, f32, S>> {
        let conv = CausalConv1d::new(self.sequence(0), self.weight())?;
        Ok(conv.bias(self.channels(self.bias)).silu(true))
    }

    /// Its steps as tokens of an update.
    pub fn conv_update(&self) -> Result<CausalConv1dUpdate<'c, T, f32, S>> {
        let update = CausalConv1dUpdate::new(self.sequence(0), self.weight())?;
        Ok(update.bias(self.channels(self.bias)).silu(true))
    }

    /// The dimensions of log_decay.
    pub fn decay_dims(&self) -> [(&'static str, usize); 3] {
        let Shape { batch, dim: nheads, seqlen, layout, .. } = self.shape;
        match layout {
            Layout::Dense => [("batch", batch), ("nheads", nheads), ("seqlen", seqlen)],
            Layout::ChannelLast => [("batch", batch), ("seqlen", seqlen), ("nheads", nheads)],
        }
    }

    /// The dimensions of q and k, whose last one is dim, or of v and out, whose last one is vdim.
    pub fn head_dims(&self, inner: &'static str) -> [(&'static str, usize); 4] {
        let [first, second, third] = self.decay_dims();
        [first, second, third, (inner, self.shape.dstate)]
    }

    /// The dimensions of a state of attention whose rows have this name; without the last one those of a norm.
    pub fn attention_state_dims(&self, rows: &'static str) -> [(&'static str, usize); 4] {
        let Shape { batch, dim: nheads, dstate: dim, .. } = self.shape;
        [(rows, batch), ("nheads", nheads), ("features", dim * (dim + 1) / 2), ("vdim", dim)]
    }

    /// The upstream gradient of attention.
    pub fn attention_dout(&self) -> View<'c, T, S> {
        view(self.sequences[3], self.head_dims("vdim"))
    }

    /// A squared attention from nothing.
    pub fn attention(&self) -> Result<SquaredAttention<'c, T, S>> {
        let [q, k, v] = self.heads();
        Ok(SquaredAttention::new(q, k, v, view(self.matrix, self.decay_dims()))?)
    }

    /// Its steps as tokens of an update.
    pub fn attention_update(&self) -> Result<SquaredAttentionUpdate<'c, T, f32, S>> {
        let [q, k, v] = self.heads();
        Ok(SquaredAttentionUpdate::new(q, k, v, view(self.matrix, self.decay_dims()))?)
    }

    /// q, k and v.
    fn heads(&self) -> [View<'c, T, S>; 3] {
        let of = |i: usize, inner| view(self.sequences[i], self.head_dims(inner));
        [of(0, "dim"), of(1, "dim"), of(2, "vdim")]
    }

    /// x, dt, z, B and C.
    fn recurrence(&self) -> [View<'c, T, S>; 5] {
        let rows = |i: usize| view(self.rows[i], self.rows_dims());
        [self.sequence(0), self.sequence(1), self.sequence(2), rows(0), rows(1)]
    }

    fn sequence(&self, i: usize) -> View<'c, T, S> {
        view(self.sequences[i], self.sequence_dims())
    }

    fn channels(&self, data: Slice<'c, f32, S>) -> View<'c, f32, S> {
        view(data, [("dim", self.shape.dim)])
    }

    fn weight(&self) -> View<'c, f32, S> {
        view(self.matrix, [("dim", self.shape.dim), ("width", self.shape.dstate)])
    }

    fn A(&self) -> View<'c, f32, S> {
        view(self.matrix, [("dim", self.shape.dim), ("dstate", self.shape.dstate)])
    }
}
