//! Forward.

use super::channels::Ring;
use super::taps::silu;
use super::{LANES, Rows, Source, Tile, Tiling, spread, take, workers};
use crate::cpu::Cpu;
use crate::cpu::writer::Writer;
use crate::error::Result;
use crate::ops::causal_conv1d::{CausalConv1d, CausalConv1dOutputs, Inputs};
use crate::ops::{Forward, Operator, Workspace};
use crate::plan::{Plan, as_f32};
use crate::tensor::{Element, Host};
use pulp::Simd;

type Conv<'a, T, W> = CausalConv1d<'a, T, W, Host>;

impl<'a, T: Element, W: Element> Forward<Conv<'a, T, W>> for Cpu {
    fn forward_plan(&self, op: &Conv<'a, T, W>) -> Result<Plan> {
        Ok(plan(&op.inputs()?))
    }

    fn forward_with(
        &self,
        op: &Conv<'a, T, W>,
        outputs: CausalConv1dOutputs<'_, T, Host>,
        given: &Plan,
        workspace: Workspace<'_, Host>,
    ) -> Result<()> {
        let inputs = op.inputs()?;
        let outputs = outputs.check(&inputs)?;
        plan(&inputs).check(Conv::<T, W>::NAME, given, &workspace)?;
        // With nothing to write there may be sequences beyond counting.
        if outputs.are_empty() {
            return Ok(());
        }
        let tiling = tiling(&inputs);
        let floats = Rows::floats(inputs.dims.dim, inputs.dims.width);
        let (rows, memory) = as_f32(workspace, all_floats(&inputs)).split_at_mut(floats);
        let before = inputs.dims.width - 1;
        let pass = Pass {
            source: Source { x: &inputs.x, initial_state: inputs.initial_state.as_ref(), before },
            rows: Rows::new(&inputs.weights, rows),
            tiling,
            silu: inputs.weights.silu,
            out: Writer::new(outputs.out),
            final_state: outputs.final_state.map(Writer::new),
        };
        spread(*self, &pass, tiling.count(), memory, worker_floats(&tiling), T::causal_conv1d_forward);
        Ok(())
    }

    fn forward(&self, op: &Conv<'a, T, W>, outputs: CausalConv1dOutputs<'_, T, Host>) -> Result<()> {
        let plan = self.forward_plan(op)?;
        self.forward_with(op, outputs, &plan, (&mut plan.allocate()?).into())
    }
}

pub(super) fn tiling<'a, T: Element, W: Element>(inputs: &Inputs<'a, T, W, Host>) -> Tiling<'a> {
    Tiling::new(inputs.sequences(), [inputs.dims.dim, inputs.dims.width], &inputs.x.layout)
}

/// Inputs and sums: rows of channels, or of steps.
fn worker_floats(tiling: &Tiling<'_>) -> usize {
    match tiling.by_channel {
        true => (tiling.width + 1) * tiling.row(),
        false => 2 * tiling.window(),
    }
}

fn all_floats<T: Element, W: Element>(inputs: &Inputs<'_, T, W, Host>) -> usize {
    let tiling = tiling(inputs);
    let own = workers(tiling.count()) * worker_floats(&tiling);
    Rows::floats(inputs.dims.dim, inputs.dims.width).saturating_add(own)
}

fn plan<T: Element, W: Element>(inputs: &Inputs<'_, T, W, Host>) -> Plan {
    let bytes = all_floats(inputs).saturating_mul(size_of::<f32>());
    Plan::new(format!("causal_conv1d_fwd_{}", T::DTYPE), inputs.dims.named(), bytes)
}

/// One call.
pub struct Pass<'p, 'a, T> {
    source: Source<'p, T>,
    rows: Rows<'p>,
    tiling: Tiling<'a>,
    silu: bool,
    out: Writer<'p, T, 3>,
    final_state: Option<Writer<'p, T, 3>>,
}

impl<T: Element> super::Pass for Pass<'_, '_, T> {
    #[inline(always)]
    fn task<S: Simd>(&self, simd: S, task: usize, memory: &mut [f32]) {
        let Some(tile) = self.tiling.tile(task) else { return };
        match self.tiling.by_channel {
            true => self.channels(simd, &tile, memory),
            false => self.steps(simd, &tile, memory),
        }
    }
}

impl<T: Element> Pass<'_, '_, T> {
    #[inline(always)]
    fn channels<S: Simd>(&self, simd: S, tile: &Tile, mut memory: &mut [f32]) {
        let (width, channels) = (self.tiling.width, tile.channels.len());
        let row = channels.next_multiple_of(LANES);
        let out = &mut take(&mut memory, self.tiling.row())[..row];
        let mut ring = Ring::new(width, row, memory);
        let (start, end) = (tile.steps.start, tile.steps.end);
        (start..start + width - 1).for_each(|p| self.source.channels(tile, p, &mut ring.row_mut(p)[..channels]));
        for t in tile.steps.clone() {
            self.source.fetch(tile, t);
            self.out.fetch([tile.batch, tile.channels.start, tile.later(t)], 1, channels);
            self.source.channels(tile, t + width - 1, &mut ring.row_mut(t + width - 1)[..channels]);
            ring.convolve(simd, self.rows, tile.channels.start, t, out);
            if self.silu {
                silu(simd, out);
            }
            // SAFETY: each step of each channel is of one task.
            unsafe { self.out.run([tile.batch, tile.channels.start, tile.start + t], 1, &out[..channels]) };
        }
        let Some(final_state) = self.final_state.as_ref().filter(|_| end == tile.len) else { return };
        for i in 0..width - 1 {
            // SAFETY: only one tile of a sequence is the last.
            unsafe { final_state.run([tile.seq, tile.channels.start, i], 1, &ring.row(end + i)[..channels]) };
        }
    }

    #[inline(always)]
    fn steps<S: Simd>(&self, simd: S, tile: &Tile, mut memory: &mut [f32]) {
        let (width, count) = (self.tiling.width, tile.steps.len());
        let [inputs, out] = [0; 2].map(|_| take(&mut memory, self.tiling.window()));
        let whole = count.next_multiple_of(LANES);
        inputs[count + width - 1..].fill(0.0);
        for d in tile.channels.clone() {
            self.source.steps(tile, d, tile.steps.start, &mut inputs[..count + width - 1]);
            let out = &mut out[..whole];
            super::steps::convolve(simd, self.rows, d, width, inputs, out);
            if self.silu {
                silu(simd, out);
            }
            // SAFETY: each step of each channel is of one task.
            unsafe { self.out.run([tile.batch, d, tile.start + tile.steps.start], 2, &out[..count]) };
            if let Some(final_state) = self.final_state.as_ref().filter(|_| tile.steps.end == tile.len) {
                // SAFETY: only one tile of a sequence is the last.
                unsafe { final_state.run([tile.seq, d, 0], 2, &inputs[count..][..width - 1]) };
            }
        }
    }
}
