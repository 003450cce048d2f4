//! What the functions are made of. One text for vectors and scalars, and one result: every operation here rounds the
//! same way in every instruction set, so that an element has the same bits in a vector and in a scalar tail.

use pulp::Simd;

/// a * b + c with one rounding.
#[inline(always)]
pub fn fma<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
    // Baseline x86 has no such instruction, and the C library's function is a call, or emulated and slower than this.
    if S::IS_SCALAR && cfg!(all(any(target_arch = "x86", target_arch = "x86_64"), not(target_feature = "fma"))) {
        return pulp::bytemuck::cast(fma_in_f64(
            pulp::bytemuck::cast(a),
            pulp::bytemuck::cast(b),
            pulp::bytemuck::cast(c),
        ));
    }
    simd.mul_add_f32s(a, b, c)
}

/// a * b + c with one rounding to f32, by f64: the sum is rounded to odd there, after which the second rounding gives
/// what one would have given.
#[inline(always)]
pub(super) fn fma_in_f64(a: f32, b: f32, c: f32) -> f32 {
    let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let sum = product + c;
    let part = sum - product;
    let lost = (product - (sum - part)) + (c - part);
    let bits = sum.to_bits();
    // Away from 0 if the loss has the sum's sign, towards it otherwise. Not where the loss is NaN: the sum is infinite.
    let inexact = lost.abs() > 0.0 && bits & 1 == 0;
    let step = if (lost > 0.0) == (sum > 0.0) { 1 } else { u64::MAX };
    f64::from_bits(if inexact { bits.wrapping_add(step) } else { bits }) as f32
}

/// v, or `bound` if v is above it; NaN stays.
#[inline(always)]
pub fn at_most<S: Simd>(simd: S, bound: f32, v: S::f32s) -> S::f32s {
    let bound = simd.splat_f32s(bound);
    if S::IS_SCALAR {
        // A scalar minimum drops NaN; that of vectors keeps the second argument's.
        return simd.select_f32s(simd.greater_than_f32s(v, bound), bound, v);
    }
    simd.min_f32s(bound, v)
}

/// v, or `bound` if v is below it; NaN stays.
#[inline(always)]
pub fn at_least<S: Simd>(simd: S, bound: f32, v: S::f32s) -> S::f32s {
    let bound = simd.splat_f32s(bound);
    if S::IS_SCALAR {
        return simd.select_f32s(simd.less_than_f32s(v, bound), bound, v);
    }
    simd.max_f32s(bound, v)
}

/// |v|.
#[inline(always)]
pub fn abs<S: Simd>(simd: S, v: S::f32s) -> S::f32s {
    let magnitude = simd.splat_u32s(0x7fff_ffff);
    simd.transmute_f32s_u32s(simd.and_u32s(magnitude, simd.transmute_u32s_f32s(v)))
}

/// -|v|.
#[inline(always)]
pub fn neg_abs<S: Simd>(simd: S, v: S::f32s) -> S::f32s {
    let sign = simd.splat_u32s(0x8000_0000);
    simd.transmute_f32s_u32s(simd.or_u32s(sign, simd.transmute_u32s_f32s(v)))
}

/// The bits of v, moved up by `places`.
#[inline(always)]
pub fn bits_up<S: Simd>(simd: S, v: S::f32s, places: u32) -> S::u32s {
    simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(v), simd.splat_u32s(places))
}

/// `c[0] + c[1] x + c[2] x^2 + ..`
#[inline(always)]
pub fn polynomial<S: Simd, const N: usize>(simd: S, x: S::f32s, c: [f32; N]) -> S::f32s {
    let mut sum = simd.splat_f32s(c[N - 1]);
    for &c in c[..N - 1].iter().rev() {
        sum = fma(simd, sum, x, simd.splat_f32s(c));
    }
    sum
}

/// `to` from itself and `other`, vector by vector up to `count`; both have room for whole vectors.
#[inline(always)]
pub fn each<S: Simd>(
    _: S,
    to: &mut [f32],
    other: &[f32],
    count: usize,
    mut function: impl FnMut(usize, S::f32s, S::f32s) -> S::f32s,
) {
    let (to, _) = S::as_mut_simd_f32s(to);
    let (other, _) = S::as_simd_f32s(other);
    let vectors = count.div_ceil(S::F32_LANES);
    for (i, (to, &other)) in to[..vectors].iter_mut().zip(other).enumerate() {
        *to = function(i * S::F32_LANES, *to, other);
    }
}

/// The least and the greatest number in each lane; NaN does not count.
#[derive(Debug, Clone, Copy)]
pub struct Extremes<S: Simd> {
    least: S::f32s,
    greatest: S::f32s,
}

impl<S: Simd> Extremes<S> {
    /// Of no numbers: the other way round.
    #[inline(always)]
    pub fn none(simd: S) -> Self {
        Self { least: simd.splat_f32s(f32::INFINITY), greatest: simd.splat_f32s(f32::NEG_INFINITY) }
    }

    #[inline(always)]
    pub fn take(&mut self, simd: S, v: S::f32s) {
        // Of two arguments, of which the first is NaN, the vectors' are the second, and a scalar's the number.
        self.least = simd.min_f32s(v, self.least);
        self.greatest = simd.max_f32s(v, self.greatest);
    }

    #[inline(always)]
    fn take_both(&mut self, simd: S, other: Self) {
        self.least = simd.min_f32s(other.least, self.least);
        self.greatest = simd.max_f32s(other.greatest, self.greatest);
    }

    /// Over all lanes.
    #[inline(always)]
    pub fn of_lanes(self, simd: S) -> [f32; 2] {
        [simd.reduce_min_f32s(self.least), simd.reduce_max_f32s(self.greatest)]
    }

    /// Of a slice.
    #[inline(always)]
    pub fn of(simd: S, values: &[f32]) -> [f32; 2] {
        let (vectors, rest) = S::as_simd_f32s(values);
        // Several, so that one vector need not wait for the one before it.
        let mut several = [Self::none(simd); 4];
        let (fours, ones) = vectors.as_chunks::<4>();
        for four in fours {
            for (extremes, &v) in several.iter_mut().zip(four) {
                extremes.take(simd, v);
            }
        }
        let [mut extremes, others @ ..] = several;
        for &v in ones {
            extremes.take(simd, v);
        }
        for other in others {
            extremes.take_both(simd, other);
        }
        rest.iter().fold(extremes.of_lanes(simd), |[least, greatest], &v| [least.min(v), greatest.max(v)])
    }
}

#[cfg(test)]
mod tests {
    use super::fma_in_f64;

    #[test]
    fn fma_rounds_once() {
        let mut seed = 7u64;
        let mut draw = || {
            seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            (seed >> 32) as u32
        };
        let same = |a: f32, b: f32, c: f32| {
            let (got, expected) = (fma_in_f64(a, b, c), a.mul_add(b, c));
            let same = got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan();
            assert!(same, "{a:e} * {b:e} + {c:e} is {got:e}, expected {expected:e}");
        };
        for _ in 0..1_000_000 {
            same(f32::from_bits(draw()), f32::from_bits(draw()), f32::from_bits(draw()));
            // Of like size, with few digits, so that sums lie near the middle between two neighbours.
            let [a, b, c] = [draw(), draw(), draw()].map(|bits| f32::from_bits(bits & 0x81ff_e001 | 0x3e00_0000));
            same(a, b, c);
            same(a, b, c * 2f32.powi(-30));
            same(a * 2f32.powi(-70), b * 2f32.powi(-70), c * 2f32.powi(-120));
        }
        // Half a last place, and a little: twice rounded it would be even.
        same(1.0 + 2f32.powi(-12), 1.0 + 2f32.powi(-12), 2f32.powi(-100));
        same(f32::MAX, 2.0, f32::NEG_INFINITY);
    }
}
