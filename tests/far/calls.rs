//! The operators, each with every tensor that it has.

use crate::host::HostMemory;
use crate::tensors::{Memory, Tensors};
use ssm_kernels::prelude::*;
use ssm_kernels::{Element, Result, Storage};

#[derive(Debug, Clone, Copy)]
pub struct Extents {
    pub batch: usize,
    pub dim: usize,
    pub seqlen: usize,
    pub dstate: usize,
}

/// A scan in `parts` and its backward, from checkpoints.
pub fn scan<S, T, B, M>(backend: &B, tensors: &Tensors<M>, n: Extents, parts: usize) -> Result<()>
where
    S: Storage,
    T: Element,
    M: Memory<S = S>,
    B: Forward<SelectiveScan<'static, T, S>> + Backward<SelectiveScan<'static, T, S>>,
{
    let Extents { batch, dim, seqlen, dstate } = n;
    let sequence = [("batch", batch), ("dim", dim), ("seqlen", seqlen)];
    let rows = [("batch", batch), ("ngroups", 1), ("dstate", dstate), ("seqlen", seqlen)];
    let states = [("batch", batch), ("dim", dim), ("dstate", dstate)];
    let (matrix, channels) = ([("dim", dim), ("dstate", dstate)], [("dim", dim)]);
    let [x, dt, z, dout] = [(); 4].map(|()| tensors.input(&sequence));
    let [B, C] = [(); 2].map(|()| tensors.input::<T>(&rows));
    let scan = SelectiveScan::new(x, dt, tensors.negative(&matrix), B, C)?.z(z).D(tensors.input(&channels));
    let scan = scan.dt_bias(tensors.input(&channels)).initial_state(tensors.input(&states)).dt_softplus(true);
    let scan = scan.split(parts);

    let every = 2;
    let chunks = [("nchunks", batch * (seqlen / every)), ("dim", dim), ("dstate", dstate)];
    let (mut out, mut last) = (tensors.output("out", &sequence), tensors.output("final_state", &states));
    let mut chunk_states = tensors.output("chunk_states", &chunks);
    let outputs = SelectiveScanOutputs::new(&mut out).final_state(&mut last).chunk_states(every, &mut chunk_states);
    backend.forward(&scan, outputs)?;

    let [mut dx, mut ddt, mut dz] = ["dx", "ddt", "dz"].map(|name| tensors.output(name, &sequence));
    let [mut dB, mut dC] = ["dB", "dC"].map(|name| tensors.output(name, &rows));
    let [mut dD, mut ddt_bias] = ["dD", "ddt_bias"].map(|name| tensors.output(name, &channels));
    let mut dA = tensors.output("dA", &matrix);
    let mut dinitial_state = tensors.output("dinitial_state", &states);
    let gradients = SelectiveScanGradients::new().dx(&mut dx).ddt(&mut ddt).dz(&mut dz).dA(&mut dA).dB(&mut dB);
    let gradients = gradients.dC(&mut dC).dD(&mut dD).ddt_bias(&mut ddt_bias).dinitial_state(&mut dinitial_state);
    let upstream = SelectiveScanUpstream::new().dout(dout).dfinal_state(tensors.input(&states));
    backend.backward(&scan, upstream, gradients)
}

pub fn carry<S, B, M>(backend: &B, tensors: &Tensors<M>, n: Extents) -> Result<()>
where
    S: Storage,
    M: Memory<S = S>,
    B: Forward<SelectiveScanCarry<'static, S>>,
{
    let (Extents { batch, dim, dstate, .. }, nchunks) = (n, 3);
    let chunks = [("batch", batch), ("nchunks", nchunks), ("dim", dim), ("dstate", dstate)];
    let sums = [("batch", batch), ("nchunks", nchunks), ("dim", dim)];
    let states = [("batch", batch), ("dim", dim), ("dstate", dstate)];
    let A = tensors.negative(&[("dim", dim), ("dstate", dstate)]);
    let carry = SelectiveScanCarry::new(A, tensors.input(&sums), tensors.input(&chunks))?;
    let mut carried = tensors.output("carried", &chunks);
    backend.forward(&carry.initial(tensors.input(&states)), SelectiveScanCarryOutputs::new(&mut carried))
}

/// Some tokens at a time, all states kept.
pub fn decode<S, T, H, B, M>(backend: &B, tensors: &Tensors<M>, n: Extents) -> Result<()>
where
    S: Storage,
    T: Element,
    H: Element,
    M: Memory<S = S>,
    B: Forward<StateUpdate<'static, T, H, S>>,
{
    let Extents { batch, dim, dstate, .. } = n;
    let seqlen = 2;
    let sequence = [("batch", batch), ("seqlen", seqlen), ("dim", dim)];
    let rows = [("batch", batch), ("seqlen", seqlen), ("ngroups", 1), ("dstate", dstate)];
    let channels = [("dim", dim)];
    let [x, dt, z] = [(); 3].map(|()| tensors.input(&sequence));
    let [B, C] = [(); 2].map(|()| tensors.input(&rows));
    let update = StateUpdate::new(x, dt, tensors.negative(&[("dim", dim), ("dstate", dstate)]), B, C)?;
    let update = update.z(z).D(tensors.input(&channels)).dt_bias(tensors.input(&channels)).dt_softplus(true);
    let mut state = tensors.in_place("state", &[("batch", batch), ("dim", dim), ("dstate", dstate)]);
    let tokens = [("tokens", batch * seqlen), ("dim", dim), ("dstate", dstate)];
    let (mut out, mut kept) = (tensors.output("out", &sequence), tensors.output("token_states", &tokens));
    backend.forward(&update, StateUpdateOutputs::new(&mut state, &mut out).token_states(&mut kept))
}

pub fn discretisation<S, T, B, M>(backend: &B, tensors: &Tensors<M>, n: Extents) -> Result<()>
where
    S: Storage,
    T: Element,
    M: Memory<S = S>,
    B: Forward<Discretise<'static, T, S>> + Backward<Discretise<'static, T, S>>,
{
    let domain = [("batch", n.batch), ("dim", n.dim), ("seqlen", n.seqlen)];
    let steps = [("dim", n.dim), ("seqlen", n.seqlen)];
    let op = Discretise::new(
        Rule::ExpTrapezoidal,
        tensors.input(&steps),
        tensors.negative(&domain),
        tensors.input(&domain),
    )?;
    let op = op.dt_bias(tensors.input(&[("dim", n.dim)])).lambda(tensors.input(&domain)).dt_softplus(true);
    let [mut delta, mut A_bar, mut B_bar, mut B_prev_bar] =
        ["delta", "A_bar", "B_bar", "B_prev_bar"].map(|name| tensors.output(name, &domain));
    let outputs = DiscretiseOutputs::new().delta(&mut delta).A_bar(&mut A_bar).B_bar(&mut B_bar);
    backend.forward(&op, outputs.B_prev_bar(&mut B_prev_bar))?;

    let [ddelta, dA_bar, dB_bar, dB_prev_bar] = [(); 4].map(|()| tensors.input(&domain));
    let upstream = DiscretiseUpstream::new().ddelta(ddelta).dA_bar(dA_bar).dB_bar(dB_bar).dB_prev_bar(dB_prev_bar);
    let [mut ddt, mut dB, mut dlambda] = ["ddt", "dB", "dlambda"].map(|name| tensors.output(name, &domain));
    let [mut ddt_bias, mut dA] = ["ddt_bias", "dA"].map(|name| tensors.output(name, &domain));
    let gradients = DiscretiseGradients::new().ddt(&mut ddt).ddt_bias(&mut ddt_bias).dA(&mut dA);
    backend.backward(&op, upstream, gradients.dB(&mut dB).dlambda(&mut dlambda))
}

/// A convolution, its backward, and a few tokens more.
pub fn convolution<S, T, W, B, M>(backend: &B, tensors: &Tensors<M>, n: Extents) -> Result<()>
where
    S: Storage,
    T: Element,
    W: Element,
    M: Memory<S = S>,
    B: Forward<CausalConv1d<'static, T, W, S>>
        + Backward<CausalConv1d<'static, T, W, S>>
        + Forward<CausalConv1dUpdate<'static, T, W, S>>,
{
    let Extents { batch, dim, seqlen, .. } = n;
    let width = 4;
    let sequence = [("batch", batch), ("dim", dim), ("seqlen", seqlen)];
    let states = [("batch", batch), ("dim", dim), ("state_len", width - 1)];
    let (taps, channels) = ([("dim", dim), ("width", width)], [("dim", dim)]);
    let (weight, bias) = (tensors.input::<W>(&taps), tensors.input::<W>(&channels));
    let conv = CausalConv1d::new(tensors.input(&sequence), weight)?.bias(bias).silu(true);
    let conv = conv.initial_state(tensors.input(&states));
    let (mut out, mut last) = (tensors.output("out", &sequence), tensors.output("final_state", &states));
    backend.forward(&conv, CausalConv1dOutputs::new(&mut out).final_state(&mut last))?;

    let upstream = CausalConv1dUpstream::new().dout(tensors.input(&sequence)).dfinal_state(tensors.input(&states));
    let (mut dx, mut dweight) = (tensors.output("dx", &sequence), tensors.output("dweight", &taps));
    let mut dbias = tensors.output("dbias", &channels);
    let mut dinitial_state = tensors.output("dinitial_state", &states);
    let gradients = CausalConv1dGradients::new().dx(&mut dx).dweight(&mut dweight).dbias(&mut dbias);
    backend.backward(&conv, upstream, gradients.dinitial_state(&mut dinitial_state))?;

    let tokens = [("batch", batch), ("dim", dim), ("seqlen", 2)];
    let cache = [("slots", batch), ("dim", dim), ("state_len", width - 1)];
    let update = CausalConv1dUpdate::new(tensors.input(&tokens), weight)?.bias(bias).silu(true);
    let (mut out, mut state) = (tensors.output("out of the update", &tokens), tensors.in_place("conv_state", &cache));
    backend.forward(&update, CausalConv1dUpdateOutputs::new(&mut out, &mut state))
}

/// An attention, its backward, and two tokens more.
pub fn attention<T: Element>(tensors: &Tensors<HostMemory>, n: Extents) -> Result<()> {
    let (nheads, dim, vdim, seqlen) = (2, n.dstate + 1, 3, n.seqlen.min(13));
    let keys = |seqlen| [("batch", n.batch), ("nheads", nheads), ("seqlen", seqlen), ("dim", dim)];
    let values = |seqlen| [("batch", n.batch), ("nheads", nheads), ("seqlen", seqlen), ("vdim", vdim)];
    let steps = |seqlen| [("batch", n.batch), ("nheads", nheads), ("seqlen", seqlen)];
    let features = dim * (dim + 1) / 2;
    let states = |rows| [(rows, n.batch), ("nheads", nheads), ("features", features), ("vdim", vdim)];
    let norms = |rows| [(rows, n.batch), ("nheads", nheads), ("features", features)];
    let [q, k] = [(); 2].map(|()| tensors.input(&keys(seqlen)));
    let v = tensors.input::<T>(&values(seqlen));
    let op = SquaredAttention::new(q, k, v, tensors.negative(&steps(seqlen)))?;
    // Several chunks, with the state between them.
    let op = op.initial_state(tensors.input(&states("batch")), tensors.input(&norms("batch"))).chunk_size(2);
    let mut out = tensors.output("out", &values(seqlen));
    let mut last = tensors.output("final_state", &states("batch"));
    let mut norm = tensors.output("final_norm", &norms("batch"));
    let outputs = SquaredAttentionOutputs::new(&mut out).final_state(&mut last).final_norm(&mut norm);
    Cpu::new().forward(&op, outputs)?;

    let upstream = SquaredAttentionUpstream::new().dout(tensors.input(&values(seqlen)));
    let upstream = upstream.dfinal_state(tensors.input(&states("batch"))).dfinal_norm(tensors.input(&norms("batch")));
    let [mut dq, mut dk] = ["dq", "dk"].map(|name| tensors.output(name, &keys(seqlen)));
    let mut dv = tensors.output("dv", &values(seqlen));
    let mut dlog_decay = tensors.output("dlog_decay", &steps(seqlen));
    let mut dinitial_state = tensors.output("dinitial_state", &states("batch"));
    let mut dinitial_norm = tensors.output("dinitial_norm", &norms("batch"));
    let gradients = SquaredAttentionGradients::new().dq(&mut dq).dk(&mut dk).dv(&mut dv).dlog_decay(&mut dlog_decay);
    let gradients = gradients.dinitial_state(&mut dinitial_state).dinitial_norm(&mut dinitial_norm);
    Cpu::new().backward(&op, upstream, gradients)?;

    let [q, k] = [(); 2].map(|()| tensors.input(&keys(2)));
    let update = SquaredAttentionUpdate::new(q, k, tensors.input::<T>(&values(2)), tensors.negative(&steps(2)))?;
    let mut state = tensors.in_place::<f32>("state", &states("slots"));
    let mut norm = tensors.in_place("norm", &norms("slots"));
    let mut out = tensors.output("out of the update", &values(2));
    Cpu::new().forward(&update, SquaredAttentionUpdateOutputs::new(&mut state, &mut norm, &mut out))
}
