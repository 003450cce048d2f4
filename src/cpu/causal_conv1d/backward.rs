//! Backward: the outputs before silu again, the gradients by them, and what these give to the inputs and, summed over the
//! steps of a tile, to the weights. Then the sums over tiles and sequences, in their order.

use super::channels::Ring;
use super::forward::tiling;
use super::taps::{add, add_products, times_silu_derivative};
use super::{LANES, Rows, Source, Tile, Tiling, spread, steps, take, workers};
use crate::cpu::Cpu;
use crate::cpu::writer::Writer;
use crate::error::Result;
use crate::ops::causal_conv1d::{CausalConv1d, CausalConv1dGradients, CausalConv1dUpstream, Inputs};
use crate::ops::{Backward, Operator, Workspace};
use crate::plan::{Plan, as_f32};
use crate::tensor::{Element, Host, Layout, Strided, StridedMut};
use pulp::Simd;

type Conv<'a, T, W> = CausalConv1d<'a, T, W, Host>;

impl<'a, T: Element, W: Element> Backward<Conv<'a, T, W>> for Cpu {
    fn backward_plan(&self, op: &Conv<'a, T, W>) -> Result<Plan> {
        Ok(plan(&op.inputs()?))
    }

    fn backward_with(
        &self,
        op: &Conv<'a, T, W>,
        upstream: CausalConv1dUpstream<'_, T, Host>,
        gradients: CausalConv1dGradients<'_, T, W, Host>,
        given: &Plan,
        workspace: Workspace<'_, Host>,
    ) -> Result<()> {
        let inputs = op.inputs()?;
        let upstream = upstream.check(&inputs)?;
        let gradients = gradients.check(&inputs, &upstream)?;
        plan(&inputs).check(Conv::<T, W>::NAME, given, &workspace)?;
        // Without elements there may be sequences beyond counting; sums over them are 0.
        let idle = gradients.no_elements() && inputs.x.layout.is_empty();
        let floats = if idle { Floats::default() } else { Floats::new(&inputs) };
        let (rows, memory) = as_f32(workspace, floats.all()).split_at_mut(floats.rows);
        let (partials, memory) = memory.split_at_mut(floats.partials);
        let (dweight, dbias) = (gradients.dweight.map(Writer::new), gradients.dbias.map(Writer::new));
        let (tiling, sums) = (tiling(&inputs), dweight.is_some() || dbias.is_some());
        let layout = partial_layout(&tiling);
        if !idle {
            let before = inputs.dims.width - 1;
            let pass = Pass {
                source: Source { x: &inputs.x, initial_state: inputs.initial_state.as_ref(), before },
                rows: Rows::new(&inputs.weights, rows),
                tiling,
                silu: inputs.weights.silu,
                dout: upstream.dout.as_ref(),
                dfinal_state: upstream.dfinal_state.as_ref(),
                dx: gradients.dx.map(Writer::new),
                dinitial_state: gradients.dinitial_state.map(Writer::new),
                partials: sums.then(|| Writer::new(StridedMut { memory: (&mut *partials).into(), layout })),
            };
            spread(*self, &pass, tiling.count(), memory, floats.worker, T::causal_conv1d_backward);
        }
        if sums {
            let partials = (!idle).then(|| Strided { memory: (&*partials).into(), layout });
            reduce(*self, &tiling, partials.as_ref(), dweight.as_ref(), dbias.as_ref());
        }
        Ok(())
    }

    fn backward(
        &self,
        op: &Conv<'a, T, W>,
        upstream: CausalConv1dUpstream<'_, T, Host>,
        gradients: CausalConv1dGradients<'_, T, W, Host>,
    ) -> Result<()> {
        let plan = self.backward_plan(op)?;
        self.backward_with(op, upstream, gradients, &plan, (&mut plan.allocate()?).into())
    }
}

/// The sums of each tile: (tiles, taps and bias, dim).
fn partial_layout(tiling: &Tiling<'_>) -> Layout<3> {
    let extents = [tiling.sequences.tiles(tiling.steps), tiling.width + 1, tiling.dim];
    // Beyond i64 the workspace is beyond any memory.
    let row = tiling.dim as i64;
    Layout { extents, strides: [row.wrapping_mul(tiling.width as i64 + 1), row, 1] }
}

/// f32 of what lies in the workspace.
#[derive(Default)]
struct Floats {
    rows: usize,
    partials: usize,
    worker: usize,
    workers: usize,
}

impl Floats {
    fn new<T: Element, W: Element>(inputs: &Inputs<'_, T, W, Host>) -> Self {
        let tiling = tiling(inputs);
        let worker = match tiling.by_channel {
            // Inputs, gradients, sums, and three rows at hand.
            true => (3 * tiling.width + 4) * tiling.row(),
            false => 4 * tiling.window(),
        };
        Self {
            rows: Rows::floats(tiling.dim, tiling.width),
            partials: partial_layout(&tiling).extents.into_iter().fold(1, usize::saturating_mul),
            worker,
            workers: workers(tiling.count()),
        }
    }

    fn all(&self) -> usize {
        self.rows.saturating_add(self.partials).saturating_add(self.worker * self.workers)
    }
}

fn plan<T: Element, W: Element>(inputs: &Inputs<'_, T, W, Host>) -> Plan {
    let bytes = Floats::new(inputs).all().saturating_mul(size_of::<f32>());
    Plan::new(format!("causal_conv1d_bwd_{}", T::DTYPE), inputs.dims.named(), bytes)
}

/// dweight and dbias: of each sequence its tiles first, so that a batch is the sum of its rows.
fn reduce<W: Element>(
    cpu: Cpu,
    tiling: &Tiling<'_>,
    partials: Option<&Strided<'_, f32, Host, 3>>,
    dweight: Option<&Writer<'_, W, 2>>,
    dbias: Option<&Writer<'_, W, 1>>,
) {
    const CHANNELS: usize = 64;
    cpu.for_each_plain(tiling.dim.div_ceil(CHANNELS), |chunk| {
        let channels = chunk * CHANNELS..((chunk + 1) * CHANNELS).min(tiling.dim);
        for w in 0..=tiling.width {
            let mut sums = [0.0f32; CHANNELS];
            let sums = &mut sums[..channels.len()];
            if let Some(partials) = partials {
                sum_rows(tiling, partials, [w, channels.start], sums);
            }
            for (d, &sum) in channels.clone().zip(&*sums) {
                let value = W::from_f32(sum);
                match (w < tiling.width, dweight, dbias) {
                    // SAFETY: each channel is of one task.
                    (true, Some(dweight), _) => unsafe { dweight.write([d, w], value) },
                    // SAFETY: as above.
                    (false, _, Some(dbias)) => unsafe { dbias.write([d], value) },
                    _ => {}
                }
            }
        }
    });
}

/// The sums over all sequences of row `w`, from channel `d` on.
fn sum_rows(tiling: &Tiling<'_>, partials: &Strided<'_, f32, Host, 3>, [w, d]: [usize; 2], sums: &mut [f32]) {
    let sequences = tiling.sequences;
    for seq in 0..sequences.nseqs {
        let first = sequences.first_tile(tiling.steps, seq);
        let tiles = sequences.span(seq).len.div_ceil(tiling.steps).max(1);
        for (k, sum) in sums.iter_mut().enumerate() {
            let own = (first..first + tiles).map(|tile| f64::from(partials.at([tile, w, d + k]))).sum::<f64>() as f32;
            *sum = if seq == 0 { own } else { *sum + own };
        }
    }
}

/// One call.
pub struct Pass<'p, 'a, T> {
    source: Source<'p, T>,
    rows: Rows<'p>,
    tiling: Tiling<'a>,
    silu: bool,
    dout: Option<&'p Strided<'p, T, Host, 3>>,
    dfinal_state: Option<&'p Strided<'p, T, Host, 3>>,
    dx: Option<Writer<'p, T, 3>>,
    dinitial_state: Option<Writer<'p, T, 3>>,
    partials: Option<Writer<'p, f32, 3>>,
}

impl<T: Element> super::Pass for Pass<'_, '_, T> {
    #[inline(always)]
    fn task<S: Simd>(&self, simd: S, task: usize, memory: &mut [f32]) {
        let Some(tile) = self.tiling.tile(task) else { return };
        match self.tiling.by_channel {
            true => self.channels(simd, &tile, memory),
            false => {
                for d in tile.channels.clone() {
                    self.steps(simd, &tile, d, memory);
                }
            }
        }
    }
}

impl<T: Element> Pass<'_, '_, T> {
    /// Row by row, and behind the tile as many rows as its last inputs reach.
    #[inline(always)]
    fn channels<S: Simd>(&self, simd: S, tile: &Tile, mut memory: &mut [f32]) {
        let (width, d, channels) = (self.tiling.width, tile.channels.start, tile.channels.len());
        let (before, len) = (width - 1, channels.next_multiple_of(LANES));
        let sums = &mut take(&mut memory, (width + 1) * self.tiling.row())[..(width + 1) * len];
        sums.fill(0.0);
        let [dout, dy] = [0; 2].map(|_| &mut take(&mut memory, self.tiling.row())[..len]);
        dout.fill(0.0);
        let mut y = Ring::new(width, len, take(&mut memory, width * self.tiling.row()));
        let mut g = Ring::new(width, len, memory);
        let (start, end) = (tile.steps.start, tile.steps.end);
        (start..start + before).for_each(|p| self.source.channels(tile, p, &mut y.row_mut(p)[..channels]));
        for t in start..end + before {
            match self.dout.filter(|_| t < tile.len) {
                Some(given) => {
                    self.source.fetch(tile, t);
                    given.fetch([tile.batch, d, tile.later(t)], 1, channels);
                    self.source.channels(tile, t + before, &mut y.row_mut(t + before)[..channels]);
                    given.run([tile.batch, d, tile.start + t], 1, &mut dout[..channels]);
                    let g = g.row_mut(t);
                    if self.silu {
                        y.convolve(simd, self.rows, d, t, g);
                        times_silu_derivative(simd, g, dout);
                    } else {
                        g.copy_from_slice(dout);
                    }
                    if t < end && self.partials.is_some() {
                        let (of_bias, of_taps) = sums.split_at_mut(len);
                        add(simd, of_bias, g);
                        for (w, sums) in of_taps.chunks_exact_mut(len).enumerate() {
                            add_products(simd, sums, g, y.row(t + w));
                        }
                    }
                }
                None => g.row_mut(t).fill(0.0),
            }
            let to = if t >= start + before { self.dx.as_ref() } else { None };
            let to_state = if t < before && start == 0 { self.dinitial_state.as_ref() } else { None };
            if to.is_none() && to_state.is_none() {
                continue;
            }
            // The taps that meet a gradient: what is not there is left out, for a weight times 0 may be NaN.
            let met = if self.dout.is_some() { (t + 1).saturating_sub(tile.len)..width.min(t + 1) } else { 0..0 };
            g.convolve_back(simd, self.rows, [d, t], met, dy);
            if let Some(last) = self.dfinal_state.filter(|_| t >= tile.len) {
                last.run([tile.seq, d, t - tile.len], 1, &mut dout[..channels]);
                add(simd, dy, dout);
            }
            // SAFETY: each step of each channel is of one task, and its state of the first one's.
            to.iter().for_each(|dx| unsafe { dx.run([tile.batch, d, tile.start + t - before], 1, &dy[..channels]) });
            // SAFETY: as above.
            to_state.iter().for_each(|state| unsafe { state.run([tile.seq, d, t], 1, &dy[..channels]) });
        }
        if let Some(partials) = &self.partials {
            for (w, sums) in sums.chunks_exact(len).enumerate() {
                // SAFETY: the channels of the tile are this task's. The bias comes first here, and last there.
                unsafe { partials.run([tile.tile, (w + width) % (width + 1), d], 2, &sums[..channels]) };
            }
        }
    }

    /// One channel.
    #[inline(always)]
    fn steps<S: Simd>(&self, simd: S, tile: &Tile, d: usize, mut memory: &mut [f32]) {
        let (width, count) = (self.tiling.width, tile.steps.len());
        let (before, start, window) = (width - 1, tile.steps.start, self.tiling.window());
        let [y, g, dout, dx] = [0; 4].map(|_| take(&mut memory, window));
        // Gradients of the steps of the tile, and of those that its last inputs reach.
        let reached = if self.dout.is_some() { (tile.steps.end + before).min(tile.len) - start } else { 0 };
        if let Some(given) = self.dout {
            self.source.steps(tile, d, start, &mut y[..reached + before]);
            let whole = reached.next_multiple_of(LANES);
            y[reached + before..whole + before].fill(0.0);
            dout[reached..whole].fill(0.0);
            given.run([tile.batch, d, tile.start + start], 2, &mut dout[..reached]);
            if self.silu {
                steps::convolve(simd, self.rows, d, width, y, &mut g[..whole]);
                times_silu_derivative(simd, &mut g[..whole], &dout[..whole]);
            } else {
                g[..reached].copy_from_slice(&dout[..reached]);
            }
        }
        g[reached..].fill(0.0);
        if let Some(partials) = &self.partials {
            let own = &g[..count.min(reached)];
            for w in 0..=width {
                let sum = if w < width { steps::dot(simd, own, &y[w..]) } else { steps::sum(simd, own) };
                // SAFETY: the channels of the tile are this task's.
                unsafe { partials.write([tile.tile, w, d], sum) };
            }
        }
        if let Some(state) = self.dinitial_state.as_ref().filter(|_| start == 0) {
            for i in 0..before {
                // SAFETY: only one tile of a sequence is the first.
                unsafe { state.write([tile.seq, d, i], T::from_f32(self.by_input(tile, d, &g[..reached], i))) };
            }
        }
        let Some(to) = &self.dx else { return };
        // The last inputs of a sequence, which not all taps give something back to, are made one by one.
        let whole = count.min(reached.saturating_sub(before));
        steps::convolve_back(simd, self.rows, d, width, g, &mut dx[..whole.next_multiple_of(LANES)]);
        for (i, dx) in dx[..count].iter_mut().enumerate().skip(whole) {
            *dx = self.by_input(tile, d, &g[..reached], i + before);
        }
        // SAFETY: each step of each channel is of one task.
        unsafe { to.run([tile.batch, d, tile.start + start], 2, &dx[..count]) };
    }

    /// The gradient by input `i` of those that the tile's taps meet, from `g`, those by the outputs that there are, in the
    /// order of operations that vectors have.
    #[inline(always)]
    fn by_input(&self, tile: &Tile, d: usize, g: &[f32], i: usize) -> f32 {
        let (mut dy, width) = (0.0, self.tiling.width);
        for w in (i + 1).saturating_sub(g.len())..width.min(i + 1) {
            dy = self.rows.at(w, d).mul_add(g[i - w], dy);
        }
        match self.dfinal_state.zip((tile.steps.start + i).checked_sub(tile.len)) {
            Some((state, i)) => dy + state.at([tile.seq, d, i]).to_f32(),
            None => dy,
        }
    }
}
