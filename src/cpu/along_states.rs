//! One step of rows of states, a row being a channel's, with the lanes of vectors along the states.

use super::math::decay::{Any, Decay, Power, Rate, Small};
use super::math::lanes::fma;
use super::transpose::transpose;
use pulp::Simd;

/// Partial sums of a row, whatever the instructions: state n adds to sum n % 16. No vector has more lanes.
pub(super) const SUMS: usize = 16;
/// Sums that are left of a row for [`Halves`].
const HALF: usize = SUMS / 2;
/// Rows whose sums are added up together, at the most.
pub(super) const MOST_ROWS: usize = 64;

/// The factors of states. (Not closures: those need not be inlined, and then compute without the instructions.)
pub(super) trait Factors<S: Simd>: Copy {
    /// The factor of these states times them, plus `input`.
    fn advance(self, simd: S, delta: S::f32s, A: S::f32s, h: S::f32s, input: S::f32s) -> S::f32s;
}

/// Each state its own.
#[derive(Clone, Copy)]
pub(super) struct Each<D>(pub D);

impl<S: Simd, D: Decay> Factors<S> for Each<D> {
    #[inline(always)]
    fn advance(self, simd: S, delta: S::f32s, A: S::f32s, h: S::f32s, input: S::f32s) -> S::f32s {
        let power = self.0.power(simd, simd.mul_f32s(delta, A), Rate::one(simd));
        self.0.advance(simd, power, h, input)
    }
}

/// Each state its own, and the cheaper where states that lie side by side allow it.
#[derive(Clone, Copy)]
pub(super) struct EachAsSmall;

impl<S: Simd> Factors<S> for EachAsSmall {
    #[inline(always)]
    fn advance(self, simd: S, delta: S::f32s, A: S::f32s, h: S::f32s, input: S::f32s) -> S::f32s {
        match Small::fits(simd, simd.mul_f32s(delta, A)) {
            true => Each(Small).advance(simd, delta, A, h, input),
            false => Each(Any).advance(simd, delta, A, h, input),
        }
    }
}

/// One for all.
#[derive(Clone, Copy)]
pub(super) struct Same<S: Simd>(Power<S>);

impl<S: Simd> Same<S> {
    /// e^(delta A), in every lane.
    #[inline(always)]
    pub fn new(simd: S, delta: f32, A: f32) -> Self {
        Self(Any.power(simd, simd.splat_f32s(delta * A), Rate::one(simd)))
    }
}

impl<S: Simd> Factors<S> for Same<S> {
    #[inline(always)]
    fn advance(self, simd: S, _: S::f32s, _: S::f32s, h: S::f32s, input: S::f32s) -> S::f32s {
        Any.advance(simd, self.0, h, input)
    }
}

/// Sixteen states of a row: advanced, and added to its sums.
#[inline(always)]
pub(super) fn sixteen<S: Simd>(
    simd: S,
    factors: impl Factors<S>,
    [delta, delta_x]: [S::f32s; 2],
    [A, B, C]: [&[f32; SUMS]; 3],
    h: &mut [f32; SUMS],
    sums: &mut [S::f32s; SUMS],
) {
    let (A, B, C) = (S::as_simd_f32s(A).0, S::as_simd_f32s(B).0, S::as_simd_f32s(C).0);
    let h = S::as_mut_simd_f32s(h).0;
    for k in 0..SUMS / S::F32_LANES {
        h[k] = factors.advance(simd, delta, A[k], h[k], simd.mul_f32s(delta_x, B[k]));
        sums[k] = fma(simd, h[k], C[k], sums[k]);
    }
}

/// The sums by twos. What is left of them is added up in the same order with all instructions.
#[inline(always)]
pub(super) fn halved<S: Simd>(sums: &[S::f32s; SUMS]) -> [f32; HALF] {
    let mut all = [0.0f32; SUMS];
    for (to, &from) in S::as_mut_simd_f32s(&mut all).0.iter_mut().zip(sums) {
        *to = from;
    }
    std::array::from_fn(|i| all[i] + all[i + HALF])
}

/// What is left of the sums of some rows.
pub(super) struct Halves {
    pub rows: [[f32; HALF]; MOST_ROWS],
    turned: [[f32; MOST_ROWS]; HALF],
}

impl Halves {
    pub fn new() -> Self {
        Self { rows: [[0.0; HALF]; MOST_ROWS], turned: [[0.0; MOST_ROWS]; HALF] }
    }

    /// A step of rows of 16 states: what Mamba-1 has. B and C stay in registers.
    #[inline(always)]
    pub fn sixteens<'s, S: Simd>(
        &mut self,
        simd: S,
        factors: impl Factors<S>,
        steps: impl Iterator<Item = (&'s f32, &'s f32)>,
        [A, B, C]: [&[f32]; 3],
        h: &mut [f32],
    ) {
        let [B, C] = [B, C].map(|row| row.first_chunk().expect("sixteen states"));
        let rows = h.as_chunks_mut().0.iter_mut().zip(A.as_chunks().0).zip(&mut self.rows);
        for (((h, A), half), (&delta, &delta_x)) in rows.zip(steps) {
            let mut sums = [simd.splat_f32s(0.0); SUMS];
            let steps = [simd.splat_f32s(delta), simd.splat_f32s(delta_x)];
            sixteen(simd, factors, steps, [A, B, C], h, &mut sums);
            *half = halved::<S>(&sums);
        }
    }

    /// y of each of `rows` rows: lanes along the rows. `y` has room for whole vectors.
    #[inline(always)]
    pub fn add<S: Simd>(&mut self, simd: S, rows: usize, y: &mut [f32]) {
        let whole = rows.next_multiple_of(HALF);
        transpose(self.rows.as_flattened(), HALF, self.turned.as_flattened_mut(), MOST_ROWS, [whole, HALF]);
        for (i, y) in S::as_mut_simd_f32s(y).0[..rows.div_ceil(S::F32_LANES)].iter_mut().enumerate() {
            let sum = |k: usize| S::as_simd_f32s(&self.turned[k]).0[i];
            let even = simd.add_f32s(simd.add_f32s(sum(0), sum(4)), simd.add_f32s(sum(2), sum(6)));
            let odd = simd.add_f32s(simd.add_f32s(sum(1), sum(5)), simd.add_f32s(sum(3), sum(7)));
            *y = simd.add_f32s(even, odd);
        }
    }
}
