//! The recurrence of one token over a few rows of states, which lie as they are stored: lanes along the states.
//!
//! Nothing here depends on the dtype of the call, so that the vector loops are compiled once, in this crate.

use crate::cpu::Cpu;
use crate::cpu::along_states::{Each, EachAsSmall, Factors, Halves, MOST_ROWS, SUMS, Same, halved, sixteen};
use crate::cpu::math::decay::{Choice, Exponents, SMALL};
use crate::cpu::math::lanes::{Extremes, each, fma};
use crate::cpu::math::logistic::silu;
use crate::cpu::runs::{narrow, widen};
use crate::ops::StepOptions;
use crate::tensor::{Dtype, Element};
use half::{bf16, f16};
use pulp::{Simd, WithSimd};

/// Fewer states than this are added up one after the other.
const FEW: usize = 8;

/// States as they are stored, beside room for them as f32.
pub(super) enum States<'m> {
    F32(&'m mut [f32]),
    F16(&'m mut [f16], &'m mut [f32]),
    BF16(&'m mut [bf16], &'m mut [f32]),
}

impl<'m> States<'m> {
    pub fn new<H: Element>(stored: &'m mut [H], room: &'m mut [f32]) -> Self {
        let room = &mut room[..stored.len()];
        match H::DTYPE {
            Dtype::F32 => Self::F32(bytemuck::cast_slice_mut(stored)),
            Dtype::F16 => Self::F16(bytemuck::cast_slice_mut(stored), room),
            Dtype::BF16 => Self::BF16(bytemuck::cast_slice_mut(stored), room),
        }
    }
}

/// One token of a few rows.
pub(super) struct Block<'m> {
    pub rows: usize,
    pub dstate: usize,
    pub step: StepOptions,
    /// The rows of A one after the other, unless there is one decay.
    pub A: &'m [f32],
    /// A of all rows, whose delta is the same.
    pub one_decay: Option<f32>,
    pub B: &'m [f32],
    pub C: &'m [f32],
    pub raw: &'m [f32; MOST_ROWS],
    pub bias: &'m [f32; MOST_ROWS],
    pub x: &'m [f32; MOST_ROWS],
    pub D: Option<&'m [f32; MOST_ROWS]>,
    pub z: Option<&'m [f32; MOST_ROWS]>,
    pub y: &'m mut [f32; MOST_ROWS],
    pub states: States<'m>,
}

impl Block<'_> {
    pub fn run(self, cpu: Cpu) {
        cpu.dispatch(self);
    }
}

impl WithSimd for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let (mut delta, mut delta_x) = (*self.raw, *self.x);
        let (rows, step) = (self.rows, self.step);
        let mut extremes = Extremes::none(simd);
        each(simd, &mut delta, self.bias, rows, |_, raw, bias| {
            let delta = step.apply_to(simd, simd.add_f32s(raw, bias));
            extremes.take(simd, delta);
            delta
        });
        each(simd, &mut delta_x, &delta, rows, |_, x, delta| simd.mul_f32s(x, delta));
        let decay = Exponents::new(extremes.of_lanes(simd)).of(Extremes::of(simd, self.A), SMALL);
        let mut states = std::mem::replace(&mut self.states, States::F32(&mut []));
        match &mut states {
            States::F32(h) => self.advance(simd, h, &delta, &delta_x, decay),
            States::F16(stored, h) => {
                widen(stored, h);
                self.advance(simd, h, &delta, &delta_x, decay);
                narrow(h, stored);
            }
            States::BF16(stored, h) => {
                widen(stored, h);
                self.advance(simd, h, &delta, &delta_x, decay);
                narrow(h, stored);
            }
        }
        let Self { D, x, z, y, .. } = self;
        if let Some(D) = D {
            let [D, x] = [D, x].map(|row| S::as_simd_f32s(row).0);
            let y = S::as_mut_simd_f32s(y).0;
            for i in 0..rows.div_ceil(S::F32_LANES) {
                y[i] = fma(simd, D[i], x[i], y[i]);
            }
        }
        if let Some(z) = z {
            each(simd, y, z, rows, |_, y, z| simd.mul_f32s(y, silu(simd, z)));
        }
    }
}

impl Block<'_> {
    #[inline(always)]
    fn advance<S: Simd>(
        &mut self,
        simd: S,
        h: &mut [f32],
        delta: &[f32; MOST_ROWS],
        delta_x: &[f32; MOST_ROWS],
        decay: Choice,
    ) {
        match self.one_decay {
            _ if self.dstate == 0 => self.y[..self.rows].fill(0.0),
            Some(A) => self.rows(simd, h, delta, delta_x, Same::new(simd, delta[0], A)),
            None => match decay {
                Choice::Small(decay) => self.rows(simd, h, delta, delta_x, Each(decay)),
                Choice::Any(_) => self.rows(simd, h, delta, delta_x, EachAsSmall),
            },
        }
    }

    /// The order of a row's sum is a matter of its length alone.
    #[inline(always)]
    fn rows<S: Simd>(
        &mut self,
        simd: S,
        h: &mut [f32],
        delta: &[f32; MOST_ROWS],
        delta_x: &[f32; MOST_ROWS],
        factors: impl Factors<S>,
    ) {
        if self.dstate < FEW {
            self.few(simd, h, delta, delta_x, factors);
        } else {
            self.wide(simd, h, delta, delta_x, factors);
        }
    }

    /// A row after the other, 16 states at a time.
    #[inline(always)]
    fn wide<S: Simd>(
        &mut self,
        simd: S,
        h: &mut [f32],
        delta: &[f32; MOST_ROWS],
        delta_x: &[f32; MOST_ROWS],
        factors: impl Factors<S>,
    ) {
        let (dstate, shared) = (self.dstate, self.one_decay.is_some());
        let mut halves = Halves::new();
        if dstate == SUMS && !shared {
            halves.sixteens(simd, factors, [delta, delta_x], [self.A, self.B, self.C], h);
            return halves.add(simd, self.rows, self.y);
        }
        let (B, B_rest) = self.B[..dstate].as_chunks::<SUMS>();
        let (C, C_rest) = self.C[..dstate].as_chunks::<SUMS>();
        let rows = h.chunks_exact_mut(dstate).zip(&mut halves.rows).zip(delta.iter().zip(delta_x));
        // One decay asks for no A: any row will do.
        let (A_all, A_step) = if shared { (self.B, 0) } else { (self.A, dstate) };
        for (row, ((h, half), (&delta, &delta_x))) in rows.enumerate() {
            let (h, h_rest) = h.as_chunks_mut::<SUMS>();
            let (A, A_rest) = A_all[row * A_step..][..dstate].as_chunks::<SUMS>();
            let steps = [simd.splat_f32s(delta), simd.splat_f32s(delta_x)];
            let mut sums = [simd.splat_f32s(0.0); SUMS];
            for (((h, A), B), C) in h.iter_mut().zip(A).zip(B).zip(C) {
                sixteen(simd, factors, steps, [A, B, C], h, &mut sums);
            }
            if !h_rest.is_empty() {
                fewer(simd, factors, steps, [A_rest, B_rest, C_rest], h_rest, &mut sums);
            }
            *half = halved::<S>(&sums);
        }
        halves.add(simd, self.rows, self.y);
    }

    /// All rows as one run of states: each with the step of its row.
    #[inline(always)]
    fn few<S: Simd>(
        &mut self,
        simd: S,
        h: &mut [f32],
        delta: &[f32; MOST_ROWS],
        delta_x: &[f32; MOST_ROWS],
        factors: impl Factors<S>,
    ) {
        const MOST: usize = MOST_ROWS * FEW;
        let (dstate, count) = (self.dstate, self.rows * self.dstate);
        let [mut steps, mut terms, mut states, mut A] = [[0.0f32; MOST]; 4];
        for row in 0..self.rows {
            for n in 0..dstate {
                steps[row * dstate + n] = delta[row];
                terms[row * dstate + n] = delta_x[row] * self.B[n];
            }
        }
        states[..count].copy_from_slice(h);
        if self.one_decay.is_none() {
            A[..count].copy_from_slice(self.A);
        }
        {
            let [A, steps, terms] = [&A, &steps, &terms].map(|row| S::as_simd_f32s(row).0);
            let states = S::as_mut_simd_f32s(&mut states).0;
            for i in 0..count.div_ceil(S::F32_LANES) {
                states[i] = factors.advance(simd, steps[i], A[i], states[i], terms[i]);
            }
        }
        h.copy_from_slice(&states[..count]);
        for (y, states) in self.y.iter_mut().zip(states[..count].chunks_exact(dstate)) {
            *y = states.iter().zip(self.C).fold(0.0, |sum, (h, C)| sum + h * C);
        }
    }
}

/// As many states as there are. What lies beyond them adds nothing.
#[inline(always)]
fn fewer<S: Simd>(
    simd: S,
    factors: impl Factors<S>,
    [delta, delta_x]: [S::f32s; 2],
    [A, B, C]: [&[f32]; 3],
    h: &mut [f32],
    sums: &mut [S::f32s; SUMS],
) {
    for (k, sum) in sums.iter_mut().enumerate().take(h.len().div_ceil(S::F32_LANES)) {
        let at = k * S::F32_LANES;
        let (A, B) = (simd.partial_load_f32s(&A[at..]), simd.partial_load_f32s(&B[at..]));
        let (C, own) = (simd.partial_load_f32s(&C[at..]), simd.partial_load_f32s(&h[at..]));
        let own = factors.advance(simd, delta, A, own, simd.mul_f32s(delta_x, B));
        simd.partial_store_f32s(&mut h[at..], own);
        // Beyond the states 0 again, where an infinite factor has made NaN of it.
        *sum = fma(simd, simd.partial_load_f32s(&h[at..]), C, *sum);
    }
}
