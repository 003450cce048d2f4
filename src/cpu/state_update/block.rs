//! The recurrence of one token over a few rows of states, which lie as they are stored: lanes along the states.
//!
//! Nothing here depends on the dtype of the call, so that the vector loops are compiled once, in this crate.

use crate::cpu::Cpu;
use crate::cpu::math::exp::{Any, UpTo70, exp};
use crate::cpu::math::lanes::{each, fma};
use crate::cpu::math::logistic::silu;
use crate::cpu::runs::{narrow, widen};
use crate::ops::StepOptions;
use crate::tensor::{Dtype, Element};
use half::{bf16, f16};
use pulp::{Simd, WithSimd};

/// Rows of a block, at the most.
pub(super) const MOST_ROWS: usize = 64;
/// Partial sums of a row, whatever the instructions: state n adds to sum n % 16. No vector has more lanes.
const SUMS: usize = 16;
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
        let mut lowest = simd.splat_f32s(0.0);
        each(simd, &mut delta, self.bias, rows, |_, raw, bias| {
            let delta = step.apply_to(simd, simd.add_f32s(raw, bias));
            lowest = simd.min_f32s(delta, lowest);
            delta
        });
        each(simd, &mut delta_x, &delta, rows, |_, x, delta| simd.mul_f32s(x, delta));
        // No exponent is positive.
        let decays = simd.reduce_min_f32s(lowest) >= 0.0 && greatest(simd, self.A) <= 0.0;
        let mut states = std::mem::replace(&mut self.states, States::F32(&mut []));
        match &mut states {
            States::F32(h) => self.advance(simd, h, &delta, &delta_x, decays),
            States::F16(stored, h) => {
                widen(stored, h);
                self.advance(simd, h, &delta, &delta_x, decays);
                narrow(h, stored);
            }
            States::BF16(stored, h) => {
                widen(stored, h);
                self.advance(simd, h, &delta, &delta_x, decays);
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

/// Of a slice; at least 0 if it is empty or has NaN.
#[inline(always)]
fn greatest<S: Simd>(simd: S, values: &[f32]) -> f32 {
    let (vectors, rest) = S::as_simd_f32s(values);
    let most = vectors.iter().fold(simd.splat_f32s(f32::MIN), |most, &v| simd.max_f32s(v, most));
    rest.iter().fold(simd.reduce_max_f32s(most), |most, &v| if v > most { v } else { most })
}

impl Block<'_> {
    #[inline(always)]
    fn advance<S: Simd>(
        &mut self,
        simd: S,
        h: &mut [f32],
        delta: &[f32; MOST_ROWS],
        delta_x: &[f32; MOST_ROWS],
        decays: bool,
    ) {
        match self.one_decay {
            _ if self.dstate == 0 => self.y[..self.rows].fill(0.0),
            Some(A) => {
                let decay = exp(simd, Any, simd.splat_f32s(delta[0] * A));
                self.rows(simd, h, delta, delta_x, |_, _| decay);
            }
            None if decays => self.rows(simd, h, delta, delta_x, |delta, A| exp(simd, UpTo70, simd.mul_f32s(delta, A))),
            None => self.rows(simd, h, delta, delta_x, |delta, A| exp(simd, Any, simd.mul_f32s(delta, A))),
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
        decay: impl Fn(S::f32s, S::f32s) -> S::f32s,
    ) {
        if self.dstate < FEW {
            self.few(simd, h, delta, delta_x, decay);
        } else {
            self.wide(simd, h, delta, delta_x, decay);
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
        decay: impl Fn(S::f32s, S::f32s) -> S::f32s,
    ) {
        let (dstate, whole) = (self.dstate, self.dstate / SUMS * SUMS);
        let (B, C, shared) = (&self.B[..dstate], &self.C[..dstate], self.one_decay.is_some());
        for row in 0..self.rows {
            let A = if shared { &[][..] } else { &self.A[row * dstate..][..dstate] };
            let h = &mut h[row * dstate..][..dstate];
            let [delta, delta_x] = [delta[row], delta_x[row]].map(|v| simd.splat_f32s(v));
            let mut sums = [simd.splat_f32s(0.0); SUMS];
            let mut sixteen = |A: &[f32], h: &mut [f32], B: &[f32], C: &[f32]| {
                let (A, B, C) = (S::as_simd_f32s(A).0, S::as_simd_f32s(B).0, S::as_simd_f32s(C).0);
                let h = S::as_mut_simd_f32s(h).0;
                for k in 0..SUMS / S::F32_LANES {
                    let decay = decay(delta, if shared { delta } else { A[k] });
                    h[k] = fma(simd, decay, h[k], simd.mul_f32s(delta_x, B[k]));
                    sums[k] = fma(simd, h[k], C[k], sums[k]);
                }
            };
            for n in (0..whole).step_by(SUMS) {
                let part = n..n + SUMS;
                let A = if shared { A } else { &A[part.clone()] };
                sixteen(A, &mut h[part.clone()], &B[part.clone()], &C[part]);
            }
            if whole < dstate {
                // What lies beyond the states adds nothing.
                let padded = |from: &[f32]| {
                    let mut to = [0.0; SUMS];
                    to[..from.len()].copy_from_slice(from);
                    to
                };
                let A = if shared { [0.0; SUMS] } else { padded(&A[whole..]) };
                let mut last = padded(&h[whole..]);
                sixteen(&A, &mut last, &padded(&B[whole..]), &padded(&C[whole..]));
                h[whole..].copy_from_slice(&last[..dstate - whole]);
            }
            self.y[row] = total::<S>(&sums);
        }
    }

    /// All rows as one run of states: each with the step of its row.
    #[inline(always)]
    fn few<S: Simd>(
        &mut self,
        simd: S,
        h: &mut [f32],
        delta: &[f32; MOST_ROWS],
        delta_x: &[f32; MOST_ROWS],
        decay: impl Fn(S::f32s, S::f32s) -> S::f32s,
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
                states[i] = fma(simd, decay(steps[i], A[i]), states[i], terms[i]);
            }
        }
        h.copy_from_slice(&states[..count]);
        for (y, states) in self.y.iter_mut().zip(states[..count].chunks_exact(dstate)) {
            *y = states.iter().zip(self.C).fold(0.0, |sum, (h, C)| sum + h * C);
        }
    }
}

/// The sum of 16 numbers, in the order that every instruction set has.
#[inline(always)]
fn total<S: Simd>(sums: &[S::f32s; SUMS]) -> f32 {
    let mut all = [0.0f32; SUMS];
    for (to, &from) in S::as_mut_simd_f32s(&mut all).0.iter_mut().zip(sums) {
        *to = from;
    }
    let eight: [f32; 8] = std::array::from_fn(|i| all[i] + all[i + 8]);
    let four: [f32; 4] = std::array::from_fn(|i| eight[i] + eight[i + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}
