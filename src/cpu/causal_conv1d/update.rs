//! The form for decoding: tiles of channels of one row of x, which read what they remember first and write it last.

use super::channels::Ring;
use super::taps::silu;
use super::{LANES, Rows, spread, take, workers};
use crate::cpu::Cpu;
use crate::cpu::writer::Writer;
use crate::error::Result;
use crate::ops::causal_conv1d::{CausalConv1dUpdate, CausalConv1dUpdateOutputs, CheckedUpdate, UpdateInputs};
use crate::ops::{Forward, Operator, Workspace};
use crate::plan::{Plan, as_f32};
use crate::tensor::{Element, Host, Strided};
use pulp::Simd;
use std::ops::Range;

type Update<'a, T, W> = CausalConv1dUpdate<'a, T, W, Host>;

/// Channels of a tile, at the most.
const CHANNELS: usize = 256;

impl<'a, T: Element, W: Element> Forward<Update<'a, T, W>> for Cpu {
    fn forward_plan(&self, op: &Update<'a, T, W>) -> Result<Plan> {
        Ok(plan(&op.inputs()?))
    }

    fn forward_with(
        &self,
        op: &Update<'a, T, W>,
        outputs: CausalConv1dUpdateOutputs<'_, T, Host>,
        given: &Plan,
        workspace: Workspace<'_, Host>,
    ) -> Result<()> {
        let inputs = op.inputs()?;
        let CheckedUpdate { out, conv_state, .. } = outputs.check(&inputs)?;
        plan(&inputs).check(Update::<T, W>::NAME, given, &workspace)?;
        if out.layout.is_empty() {
            return Ok(());
        }
        let [batch, dim, seqlen] = inputs.x.layout.extents;
        let (width, state_len) = (inputs.weights.width(), conv_state.layout.extents[2]);
        let (rows, memory) = as_f32(workspace, floats(&inputs)).split_at_mut(Rows::floats(dim, width));
        let pass = Pass {
            x: &inputs.x,
            rows: Rows::new(&inputs.weights, rows),
            silu: inputs.weights.silu,
            width,
            state_len,
            cache_seqlens: inputs.cache_seqlens.map(|list| list.as_slice()),
            state_indices: inputs.state_indices.map(|list| list.as_slice()),
            out: Writer::new(out),
            conv_state: Writer::new(conv_state),
            dim,
            seqlen,
        };
        let count = batch * dim.div_ceil(CHANNELS);
        spread(*self, &pass, count, memory, worker_floats(dim, width), T::causal_conv1d_update);
        Ok(())
    }

    fn forward(&self, op: &Update<'a, T, W>, outputs: CausalConv1dUpdateOutputs<'_, T, Host>) -> Result<()> {
        let plan = self.forward_plan(op)?;
        self.forward_with(op, outputs, &plan, (&mut plan.allocate()?).into())
    }
}

/// Inputs, and a row of outputs.
fn worker_floats(dim: usize, width: usize) -> usize {
    (width + 1) * dim.min(CHANNELS).next_multiple_of(LANES)
}

fn floats<T: Element, W: Element>(inputs: &UpdateInputs<'_, T, W, Host>) -> usize {
    let ([batch, dim, _], width) = (inputs.x.layout.extents, inputs.weights.width());
    let workers = workers(batch.saturating_mul(dim.div_ceil(CHANNELS)));
    Rows::floats(dim, width).saturating_add(workers * worker_floats(dim, width))
}

fn plan<T: Element, W: Element>(inputs: &UpdateInputs<'_, T, W, Host>) -> Plan {
    let bytes = floats(inputs).saturating_mul(size_of::<f32>());
    Plan::new(format!("causal_conv1d_update_{}", T::DTYPE), inputs.named(), bytes)
}

/// One call.
pub struct Pass<'p, 'a, T> {
    x: &'p Strided<'a, T, Host, 3>,
    rows: Rows<'p>,
    silu: bool,
    width: usize,
    state_len: usize,
    cache_seqlens: Option<&'a [i32]>,
    state_indices: Option<&'a [i32]>,
    out: Writer<'p, T, 3>,
    conv_state: Writer<'p, T, 3>,
    dim: usize,
    seqlen: usize,
}

impl<T: Element> super::Pass for Pass<'_, '_, T> {
    #[inline(always)]
    fn task<S: Simd>(&self, simd: S, task: usize, memory: &mut [f32]) {
        let tiles = self.dim.div_ceil(CHANNELS);
        let (b, first) = (task / tiles, task % tiles * CHANNELS);
        let channels = first..(first + CHANNELS).min(self.dim);
        let slot = self.state_indices.map_or(Some(b), |indices| usize::try_from(indices[b]).ok());
        match slot {
            Some(slot) => self.row(simd, b, slot, channels, memory),
            None => self.padding(b, channels, memory),
        }
    }
}

impl<T: Element> Pass<'_, '_, T> {
    #[inline(always)]
    fn padding(&self, b: usize, channels: Range<usize>, memory: &mut [f32]) {
        let zeros = &mut memory[..channels.len()];
        zeros.fill(0.0);
        for t in 0..self.seqlen {
            // SAFETY: each row's channels are of one task.
            unsafe { self.out.run([b, channels.start, t], 1, zeros) };
        }
    }

    #[inline(always)]
    fn row<S: Simd>(&self, simd: S, b: usize, slot: usize, channels: Range<usize>, mut memory: &mut [f32]) {
        let (before, len, d) = (self.width - 1, channels.len().next_multiple_of(LANES), channels.start);
        let out = take(&mut memory, len);
        let mut ring = Ring::new(self.width, len, memory);
        for p in 0..before {
            let place = self.place(b, p as i64 - before as i64);
            // SAFETY: the contract checked that the slot exists and is of one row, whose channels are of one task.
            unsafe { self.conv_state.read_run([slot, d, place], 1, &mut ring.row_mut(p)[..channels.len()]) };
        }
        for t in 0..self.seqlen {
            self.x.run([b, d, t], 1, &mut ring.row_mut(before + t)[..channels.len()]);
            ring.convolve(simd, self.rows, d, t, out);
            if self.silu {
                silu(simd, out);
            }
            // SAFETY: as above.
            unsafe { self.out.run([b, d, t], 1, &out[..channels.len()]) };
        }
        self.remember([b, slot, d], &ring, &mut out[..channels.len()]);
    }

    /// Where the input of step `t` is remembered, or was if t is negative.
    #[inline(always)]
    fn place(&self, b: usize, t: i64) -> usize {
        let state_len = self.state_len as i64;
        match self.cache_seqlens {
            Some(seen) => (i64::from(seen[b]) + t).rem_euclid(state_len) as usize,
            None => (state_len + t) as usize,
        }
    }

    /// Writes the steps of x into the state, for the channels from `d` on; `ring` has the last ones at hand.
    #[inline(always)]
    fn remember(&self, [b, slot, d]: [usize; 3], ring: &Ring<'_>, row: &mut [f32]) {
        let (state_len, seqlen) = (self.state_len, self.seqlen);
        let kept = if self.cache_seqlens.is_some() { 0 } else { state_len.saturating_sub(seqlen) };
        for i in 0..kept {
            // SAFETY: as in `row`. What is read lies behind what is written.
            unsafe {
                self.conv_state.read_run([slot, d, i + seqlen], 1, row);
                self.conv_state.run([slot, d, i], 1, row);
            }
        }
        for t in seqlen.saturating_sub(state_len)..seqlen {
            let place = match self.cache_seqlens {
                Some(_) => self.place(b, t as i64),
                None => state_len + t - seqlen,
            };
            let step = t + self.width - 1;
            let last = if step >= seqlen { &ring.row(step)[..row.len()] } else { &[] };
            if last.is_empty() {
                self.x.run([b, d, t], 1, row);
            }
            // SAFETY: as in `row`.
            unsafe { self.conv_state.run([slot, d, place], 1, if last.is_empty() { row } else { last }) };
        }
    }
}
