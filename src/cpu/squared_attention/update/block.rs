//! The rows of a few features over all tokens: lanes along the values.
//!
//! Nothing here depends on the dtype of the call, so that the vector loops are compiled once, in this crate.

use crate::cpu::Cpu;
use crate::cpu::math::lanes::fma;
use crate::cpu::runs::{narrow, widen};
use crate::cpu::squared_attention::{LANES, decays};
use crate::tensor::Dtype;
use half::{bf16, f16};
use pulp::{Simd, WithSimd};

/// The tokens of a head.
pub struct Tokens<'m> {
    pub count: usize,
    pub features: usize,
    pub vdim: usize,
    /// (count, features).
    pub phi_q: &'m [f32],
    /// Times the square of scale.
    pub phi_k: &'m [f32],
    /// (count, vdim).
    pub v: &'m [f32],
    /// Their logarithms, until [`norms`](Self::norms).
    pub decays: &'m mut [f32],
    /// What sums are divided by.
    pub norms: &'m mut [f32],
    /// (count, vdim).
    pub sums: &'m mut [f32],
    /// What the state is stored as between two tokens.
    pub stored: Dtype,
}

impl Tokens<'_> {
    /// Advances the norm, and reads it for each token.
    pub fn norms(&mut self, cpu: Cpu, norm: &mut [f32]) {
        cpu.dispatch(Norms { tokens: self, norm });
    }

    /// out, from its sums: 0 where the norm is 0.
    pub fn divide(&mut self) {
        for (row, &norm) in self.sums.chunks_exact_mut(self.vdim.max(1)).zip(self.norms.iter()) {
            row.iter_mut().for_each(|sum| *sum = if norm == 0.0 { 0.0 } else { *sum / norm });
        }
    }
}

struct Norms<'t, 'm> {
    tokens: &'t mut Tokens<'m>,
    norm: &'t mut [f32],
}

impl WithSimd for Norms<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { tokens, norm } = self;
        for t in 0..tokens.count {
            let decay = decays::power(simd, tokens.decays[t].into());
            tokens.decays[t] = decay;
            let row = t * tokens.features..(t + 1) * tokens.features;
            let (phi_q, phi_k) = (&tokens.phi_q[row.clone()], &tokens.phi_k[row]);
            let mut sums = [0.0; LANES];
            for ((norm, phi_q), phi_k) in norm.chunks_mut(LANES).zip(phi_q.chunks(LANES)).zip(phi_k.chunks(LANES)) {
                for (((sum, norm), &phi_q), &phi_k) in sums.iter_mut().zip(norm).zip(phi_q).zip(phi_k) {
                    *norm = decay * *norm + phi_k;
                    *sum += phi_q * *norm;
                }
            }
            tokens.norms[t] = sums.iter().sum();
        }
    }
}

/// The rows of the features from `first` on.
pub struct Block<'t, 'm> {
    pub tokens: &'t mut Tokens<'m>,
    pub first: usize,
    /// (rows, vdim).
    pub state: &'t mut [f32],
}

impl Block<'_, '_> {
    pub fn run(self, cpu: Cpu) {
        cpu.dispatch(self);
    }
}

impl WithSimd for Block<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { tokens, first, state } = self;
        let vdim = tokens.vdim;
        for (f, row) in state.chunks_exact_mut(vdim).enumerate().map(|(i, row)| (first + i, row)) {
            for t in 0..tokens.count {
                if t > 0 {
                    store(row, tokens.stored);
                }
                let factors = [tokens.decays[t], tokens.phi_k[t * tokens.features + f]];
                let read = tokens.phi_q[t * tokens.features + f];
                let (v, sums) = (&tokens.v[t * vdim..][..vdim], &mut tokens.sums[t * vdim..][..vdim]);
                advance(simd, row, factors, v, read, sums);
            }
        }
    }
}

/// `row = decay row + phi v`, and `sums += read row`.
#[inline(always)]
fn advance<S: Simd>(simd: S, row: &mut [f32], [decay, phi]: [f32; 2], v: &[f32], read: f32, sums: &mut [f32]) {
    let [decay, phi, read] = [decay, phi, read].map(|factor| simd.splat_f32s(factor));
    let ((rows, row), (vs, v), (sums, sum)) = (S::as_mut_simd_f32s(row), S::as_simd_f32s(v), S::as_mut_simd_f32s(sums));
    for ((row, &v), sum) in rows.iter_mut().zip(vs).zip(sums) {
        *row = fma(simd, decay, *row, simd.mul_f32s(phi, v));
        *sum = fma(simd, read, *row, *sum);
    }
    if !row.is_empty() {
        let last = fma(simd, decay, simd.partial_load_f32s(row), simd.mul_f32s(phi, simd.partial_load_f32s(v)));
        simd.partial_store_f32s(row, last);
        let total = fma(simd, read, last, simd.partial_load_f32s(sum));
        simd.partial_store_f32s(sum, total);
    }
}

/// What the next token finds.
#[inline(always)]
fn store(row: &mut [f32], stored: Dtype) {
    match stored {
        Dtype::F32 => {}
        Dtype::F16 => rounded::<f16>(row, f16::ZERO),
        Dtype::BF16 => rounded::<bf16>(row, bf16::ZERO),
    }
}

#[inline(always)]
fn rounded<H: crate::tensor::Element>(row: &mut [f32], zero: H) {
    let mut stored = [zero; LANES];
    for row in row.chunks_mut(LANES) {
        let stored = &mut stored[..row.len()];
        narrow(row, stored);
        widen(stored, row);
    }
}
