//! One chunk on the way back.

use super::memory::{Memory, Pitches};
use super::{Pass, steps};
use crate::cpu::Cpu;
use crate::cpu::squared_attention::decays::{self, Decays, all_finite, normal, nothing};
use crate::cpu::squared_attention::features::{self, Shape, Steps};
use crate::cpu::squared_attention::forward::{Chunk, decays_of_tile};
use crate::cpu::squared_attention::products::{Right, Sums};
use crate::cpu::squared_attention::rows::{Head, add_turned, load, store, turn};
use crate::cpu::squared_attention::{LANES, TILE, tile};
use crate::tensor::Element;
use pulp::{Simd, WithSimd};
use std::ops::Range;

impl<T: Element> Pass<'_, '_, T> {
    /// The chunk of these steps.
    pub(super) fn chunk(&self, cpu: Cpu, at: Head, range: Range<usize>, work: Work, memory: &mut Memory<'_>) {
        let (shape, pitches, count) = (work.shape, work.pitches, work.count);
        Chunk::load(self.inputs, at, range.clone(), work.lives[0], &mut memory.forward);
        self.load_rows(at, range.clone(), pitches, memory);
        let gradients = [(&mut *memory.dk, pitches.dim), (&mut *memory.dv, pitches.value), (&mut *memory.pairs, LANES)];
        for (rows, pitch) in gradients {
            rows[..count * pitch].fill(0.0);
        }
        let own = &memory.forward;
        let finite = all_finite(&memory.q[..count * pitches.dim])
            && all_finite(&memory.dsums[..count * pitches.values])
            && all_finite(&own.k[..count * shape.dim])
            && all_finite(&own.v[..count * shape.values]);
        let state = &memory.states[work.number * shape.state()..];
        let finite_state = work.lives[0] && all_finite(&state[..shape.state()]);
        let work = Work { finite, finite_state, ..work };
        let mut later = ThroughState { work, memory }.run(cpu);
        for t in (0..count).step_by(TILE).rev() {
            later = Tile { work, t, later, memory }.run(cpu);
            self.store_dq(at, range.start + t, TILE.min(count - t), work, memory);
        }
        self.store_rows(at, range, work, memory);
    }

    /// q and the gradient by the sums that out is made of, and nothing behind them. Nothing at all without a dout: then nothing
    /// comes from q, whatever it is.
    fn load_rows(&self, at: Head, range: Range<usize>, pitches: Pitches, memory: &mut Memory<'_>) {
        let vdim = self.inputs.dims.vdim;
        memory.q[..range.len() * pitches.dim].fill(0.0);
        memory.dsums[..range.len() * pitches.values].fill(0.0);
        let Some(dout) = &self.upstream.dout else { return };
        load(&self.inputs.q, at, range.clone(), memory.q, pitches.dim);
        load(dout, at, range.clone(), memory.dsums, pitches.values);
        for (t, row) in range.zip(memory.dsums.chunks_exact_mut(pitches.values)) {
            let norm = memory.norms[t];
            if norm == 0.0 {
                row.fill(0.0);
                continue;
            }
            row[..vdim].iter_mut().for_each(|dout| *dout /= norm);
            row[vdim] = memory.dnorms[t];
        }
    }

    fn store_dq(&self, at: Head, first: usize, count: usize, work: Work, memory: &mut Memory<'_>) {
        let (Some(dq), dim) = (&self.dq, work.shape.dim) else { return };
        if dim == 0 {
            return;
        }
        let rows = &mut memory.forward.rows[..count * dim];
        rows.fill(0.0);
        add_turned(memory.dx_turned, &[1.0; TILE], [count, dim], rows, dim);
        // SAFETY: a head's steps are of one task.
        unsafe { store(dq, at, first..first + count, rows, dim) };
    }

    fn store_rows(&self, at: Head, range: Range<usize>, work: Work, memory: &mut Memory<'_>) {
        // SAFETY: a head's steps are of one task.
        unsafe {
            if let Some(dk) = &self.dk {
                store(dk, at, range.clone(), memory.dk, work.pitches.dim);
            }
            if let Some(dv) = &self.dv {
                store(dv, at, range.clone(), memory.dv, work.pitches.value);
            }
            if let Some(dlog_decay) = &self.dlog_decay {
                dlog_decay.run([at.batch, at.head, at.start + range.start], 2, &memory.dlogs[..work.count]);
            }
        }
    }
}

/// What a chunk is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    pub shape: Shape,
    pub pitches: Pitches,
    /// Its number, and how many steps it has.
    pub number: usize,
    pub count: usize,
    /// There is a state before it; a gradient by that behind it.
    pub lives: [bool; 2],
    /// The gradient by the state before it is wanted.
    pub goes_on: bool,
    /// There is a gradient by out.
    pub dout: bool,
    pub scale: f32,
    /// All rows are, and all of the state before it.
    pub finite: bool,
    pub finite_state: bool,
}

/// The gradients through the state behind a chunk, and that by the state before it. Returns the sum of all pairs, weight times
/// gradient, that reach over the chunk.
struct ThroughState<'c, 'm> {
    work: Work,
    memory: &'c mut Memory<'m>,
}

impl ThroughState<'_, '_> {
    fn run(self, cpu: Cpu) -> f32 {
        cpu.dispatch(self)
    }
}

impl WithSimd for ThroughState<'_, '_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        self.work.through_state(simd, self.memory)
    }
}

/// The tile at `t`: its dq, and what it gives to the earlier steps. `later`: the pairs of all later steps, and of those behind
/// the chunk, with what came before the chunk; it returns the same with its own.
struct Tile<'c, 'm> {
    work: Work,
    t: usize,
    later: f32,
    memory: &'c mut Memory<'m>,
}

impl Tile<'_, '_> {
    fn run(self, cpu: Cpu) -> f32 {
        cpu.dispatch(self)
    }
}

impl WithSimd for Tile<'_, '_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) -> f32 {
        self.work.tile(simd, self.t, &mut self.later, self.memory);
        self.later
    }
}

impl Work {
    #[inline(always)]
    fn through_state<S: Simd>(self, simd: S, memory: &mut Memory<'_>) -> f32 {
        let Self { shape, count, .. } = self;
        let whole = decays::behind(simd, &memory.forward.logs[..count], self.scale, memory.forward.decays);
        let mut across = 0.0;
        if self.lives[1] {
            for t in (0..count).step_by(TILE) {
                self.written(simd, t, memory);
            }
            if self.lives[0] {
                let state = &memory.states[self.number * shape.state()..][..shape.state()];
                across = whole * steps::inner(shape, state, memory.dstate);
            }
        }
        if self.goes_on {
            let mut decays = Decays::new(count, memory.forward.decays);
            let mut sum = 0.0;
            for (t, &log) in memory.forward.logs[..count].iter().enumerate() {
                sum += f64::from(log);
                decays.set(t, sum);
            }
            let steps = Steps {
                x: memory.q,
                x_pitch: self.pitches.dim,
                values: memory.dsums,
                values_pitch: self.pitches.values,
                factors: decays.powers(simd),
                count,
                finite: self.finite,
            };
            let decay = self.lives[1].then_some(whole);
            simd.vectorize(features::Write {
                shape,
                decay,
                steps,
                state: memory.dstate,
                block: memory.forward.scratch,
            });
        }
        across
    }

    /// What the tile at `t` gets from the gradient by the state that it was written into.
    #[inline(always)]
    fn written<S: Simd>(self, simd: S, t: usize, memory: &mut Memory<'_>) {
        let (shape, count) = (self.shape, TILE.min(self.count - t));
        let own = &mut memory.forward;
        let factors = &own.decays[t..][..count];
        turn(&own.k[t * shape.dim..], shape.dim, [count, shape.dim], own.q);
        turn(&own.v[t * shape.values..], shape.values, [count, shape.values], memory.dsums_turned);
        let dk = &mut memory.dx_turned[..shape.dim * TILE];
        dk.fill(0.0);
        simd.vectorize(features::ReadBackward {
            shape,
            state: memory.dstate,
            x: own.q,
            dvalues: memory.dsums_turned,
            dx: dk,
            block: own.scratch,
        });
        let pitch = self.pitches.dim;
        add_turned(dk, factors, [count, shape.dim], &mut memory.dk[t * pitch..], pitch);
        // By Euler: a sum of products of two elements is half of what its gradient makes with them.
        let half = steps::half_inner(own.q, dk);
        for m in 0..count {
            memory.pairs[(t + m) * LANES] = factors[m] * half[m];
        }
        let sums = &mut own.sums[..shape.values * TILE];
        sums.fill(0.0);
        simd.vectorize(features::Read { shape, state: memory.dstate, x: own.q, sums, block: own.scratch });
        let pitch = self.pitches.value;
        add_turned(sums, factors, [count, shape.values - 1], &mut memory.dv[t * pitch..], pitch);
    }

    #[inline(always)]
    fn tile<S: Simd>(self, simd: S, t: usize, later: &mut f32, memory: &mut Memory<'_>) {
        let count = TILE.min(self.count - t);
        let mut earlier = steps::total(&memory.pairs[..t * LANES]);
        let [with_state, columns] = if self.dout {
            self.attended(simd, t, memory)
        } else {
            // No pair has a gradient, whatever its elements are.
            memory.dx_turned[..self.shape.dim * TILE].fill(0.0);
            memory.dweights.fill(0.0);
            [[0.0; TILE]; 2]
        };
        let own_pairs = &memory.pairs[t * LANES..][..count * LANES];
        let dlogs = &mut memory.dlogs[t..t + count];
        steps::dlogs(own_pairs, memory.dweights, [&with_state, &columns], [later, &mut earlier], dlogs);
    }

    /// What the tile at `t` gets by out: dq in rows of steps, and for each step its pairs with the state and with earlier tiles.
    #[inline(always)]
    fn attended<S: Simd>(self, simd: S, t: usize, memory: &mut Memory<'_>) -> [[f32; TILE]; 2] {
        let (shape, pitches, count) = (self.shape, self.pitches, TILE.min(self.count - t));
        let own = &mut memory.forward;
        turn(&memory.q[t * pitches.dim..], pitches.dim, [count, shape.dim], own.q);
        turn(&memory.dsums[t * pitches.values..], pitches.values, [count, shape.values], memory.dsums_turned);
        let from_chunk = decays::behind(simd, &own.logs[..t], self.scale, own.decays);
        let factors = decays_of_tile(simd, &own.logs[t..t + count]);
        let dq = &mut memory.dx_turned[..shape.dim * TILE];
        dq.fill(0.0);
        let mut with_state = [0.0; TILE];
        let mut from_state = factors;
        from_state.iter_mut().for_each(|factor| *factor = normal(*factor * from_chunk));
        if self.lives[0] && !(self.finite_state && self.finite && nothing(&from_state)) {
            let state = &memory.states[self.number * shape.state()..][..shape.state()];
            simd.vectorize(features::ReadBackward {
                shape,
                state,
                x: own.q,
                dvalues: memory.dsums_turned,
                dx: dq,
                block: own.scratch,
            });
            tile::scale_steps(dq, &from_state);
            with_state = steps::half_inner(own.q, dq);
        }
        let mut columns = [0.0; TILE];
        for m in (0..t + 1).step_by(TILE) {
            let diagonal = m == t;
            let rows = if diagonal { count } else { TILE };
            if diagonal {
                let logs = &memory.forward.logs[t..t + count];
                tile::decays_within(simd, logs, self.scale, memory.forward.scratch, memory.forward.within);
            } else {
                let decays = &memory.forward.decays[m..m + TILE];
                // Where all is finite, nothing of it is nothing.
                if !tile::decays_between(decays, &factors, memory.forward.within) && self.finite {
                    continue;
                }
            }
            self.pairs(simd, [m, t], [rows, count], memory);
            let weights = &memory.dweights[..rows * TILE];
            if !diagonal {
                steps::take(weights, &mut memory.pairs[m * LANES..], &mut columns);
            }
        }
        steps::project(memory.forward.q, &mut memory.dx_turned[..shape.dim * TILE]);
        [with_state, columns]
    }

    /// The pairs of the steps at `m` with the later ones at `t`, of which there are so many: dq in rows of steps, dk and dv, and
    /// in `dweights` weight times gradient.
    #[inline(always)]
    fn pairs<S: Simd>(self, simd: S, [m, t]: [usize; 2], [rows, count]: [usize; 2], memory: &mut Memory<'_>) {
        let (shape, pitches, own) = (self.shape, self.pitches, &mut memory.forward);
        let (k, v) = (&own.k[m * shape.dim..], &own.v[m * shape.values..]);
        let mixed = m == t && !self.finite;
        let [products, within] = [&mut *own.products, &mut *own.within].map(|tile| &mut tile[..rows * TILE]);
        let [dweights, dproducts] =
            [&mut *memory.dweights, &mut *memory.dproducts].map(|tile| &mut tile[..rows * TILE]);
        tile::dot(simd, k, shape.dim, [rows, shape.dim], own.q, products);
        tile::dot(simd, v, shape.values, [rows, shape.values], memory.dsums_turned, dweights);
        if m == t {
            for tile in [&mut *products, &mut *dweights, &mut *within] {
                tile::mask(tile);
            }
        }
        steps::gradients(products, within, dweights, dproducts);
        tile::gather(simd, dproducts, k, shape.dim, [rows, shape.dim], memory.dx_turned, mixed);
        let q = Right { memory: &memory.q[t * pitches.dim..], pitch: pitches.dim };
        let dk = Sums { memory: &mut memory.dk[m * pitches.dim..], pitch: pitches.dim };
        tile::scatter(simd, dproducts, q, [rows, count, pitches.dim], dk, mixed);
        let dsums = Right { memory: &memory.dsums[t * pitches.values..], pitch: pitches.values };
        let dv = Sums { memory: &mut memory.dv[m * pitches.value..], pitch: pitches.value };
        tile::scatter(simd, products, dsums, [rows, count, pitches.value], dv, mixed);
    }
}
