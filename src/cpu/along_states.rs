//! One step of rows of states, a row being a channel's, with the lanes of vectors along the states.

use super::math::decay::{Any, Decay, Exponent, Power, Rate, Small};
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
    /// What can be known of a factor before it is needed.
    type Early: Copy;

    fn early(self, simd: S, delta: S::f32s, A: S::f32s) -> Self::Early;

    /// The factor of these states times them, plus `input`.
    fn apply(self, simd: S, early: Self::Early, h: S::f32s, input: S::f32s) -> S::f32s;

    /// Both.
    #[inline(always)]
    fn advance(self, simd: S, delta: S::f32s, A: S::f32s, h: S::f32s, input: S::f32s) -> S::f32s {
        self.apply(simd, self.early(simd, delta, A), h, input)
    }
}

/// Each state its own.
#[derive(Clone, Copy)]
pub(super) struct Each<D>(pub D);

impl<S: Simd, D: Decay> Factors<S> for Each<D> {
    type Early = Exponent<S>;

    #[inline(always)]
    fn early(self, simd: S, delta: S::f32s, A: S::f32s) -> Exponent<S> {
        self.0.exponent(simd, simd.mul_f32s(delta, A), Rate::one(simd))
    }

    #[inline(always)]
    fn apply(self, simd: S, early: Exponent<S>, h: S::f32s, input: S::f32s) -> S::f32s {
        self.0.advance(simd, early.power(simd), h, input)
    }
}

/// Each state its own, and the cheaper where states that lie side by side allow it.
#[derive(Clone, Copy)]
pub(super) struct EachAsSmall;

impl<S: Simd> Factors<S> for EachAsSmall {
    /// The exponent as it is rounded.
    type Early = S::f32s;

    #[inline(always)]
    fn early(self, simd: S, delta: S::f32s, A: S::f32s) -> S::f32s {
        simd.mul_f32s(delta, A)
    }

    #[inline(always)]
    fn apply(self, simd: S, early: S::f32s, h: S::f32s, input: S::f32s) -> S::f32s {
        let one = Rate::one(simd);
        match Small::fits(simd, early) {
            true => Small.advance(simd, Small.power(simd, early, one), h, input),
            false => Any.advance(simd, Any.power(simd, early, one), h, input),
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
    type Early = ();

    #[inline(always)]
    fn early(self, _: S, _: S::f32s, _: S::f32s) {}

    #[inline(always)]
    fn apply(self, simd: S, (): (), h: S::f32s, input: S::f32s) -> S::f32s {
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
    folded(&all)
}

/// The same of sums in memory.
#[inline(always)]
pub(super) fn folded(all: &[f32; SUMS]) -> [f32; HALF] {
    let mut halves = [0.0; HALF];
    for (i, half) in halves.iter_mut().enumerate() {
        *half = all[i] + all[i + HALF];
    }
    halves
}

/// [`halved`], with one vector of the sums after the other.
#[inline(always)]
fn add_half<S: Simd>(simd: S, half: &mut [f32; HALF], k: usize, sum: S::f32s) {
    if S::F32_LANES == SUMS {
        *half = halved::<S>(&[sum; SUMS]);
        return;
    }
    let first = k * S::F32_LANES;
    let half = &mut S::as_mut_simd_f32s(&mut half[first % HALF..]).0[0];
    *half = if first < HALF { sum } else { simd.add_f32s(*half, sum) };
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

    /// A step of rows of 16 states: what Mamba-1 has, a column of vectors after the other.
    #[inline(always)]
    pub fn sixteens<S: Simd>(
        &mut self,
        simd: S,
        factors: impl Factors<S>,
        steps: [&[f32]; 2],
        rows: [&[f32]; 3],
        h: &mut [f32],
    ) {
        for k in 0..SUMS / S::F32_LANES {
            self.column(simd, factors, k, steps, rows, h.as_chunks_mut().0);
        }
    }

    /// Vector `k` of each row. A row's exponents are worked out beside the polynomials of the row before it: few rows are in the
    /// window of instructions that a core sees.
    #[inline(always)]
    fn column<S: Simd>(
        &mut self,
        simd: S,
        factors: impl Factors<S>,
        k: usize,
        [delta, delta_x]: [&[f32]; 2],
        [A, B, C]: [&[f32]; 3],
        h: &mut [[f32; SUMS]],
    ) {
        let (B, C) = (S::as_simd_f32s(B).0[k], S::as_simd_f32s(C).0[k]);
        let Some(last) = h.len().checked_sub(1) else { return };
        let (delta, A) = (&delta[..=last], &A.as_chunks::<SUMS>().0[..=last]);
        let mut next = factors.early(simd, simd.splat_f32s(delta[0]), S::as_simd_f32s(&A[0]).0[k]);
        for (i, ((h, half), &delta_x)) in h.iter_mut().zip(&mut self.rows).zip(delta_x).enumerate() {
            let (now, then) = (next, (i + 1).min(last));
            next = factors.early(simd, simd.splat_f32s(delta[then]), S::as_simd_f32s(&A[then]).0[k]);
            let h = &mut S::as_mut_simd_f32s(h).0[k];
            *h = factors.apply(simd, now, *h, simd.mul_f32s(simd.splat_f32s(delta_x), B));
            add_half(simd, half, k, fma(simd, *h, C, simd.splat_f32s(0.0)));
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
