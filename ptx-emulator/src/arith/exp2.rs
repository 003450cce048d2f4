//! `2^x` of f32 numbers, in f64 and free of branches: the hottest special function of scans.

/// Taylor coefficients of `2^r`, `ln(2)^k / k!`, from `k = 13` down to 1. What is left out is below 2^-57 for
/// `|r| <= 1/2`.
const COEFFICIENTS: [f64; 13] = [
    1.369_148_885_390_412_8e-12,
    2.567_843_599_348_820_6e-11,
    4.445_538_271_870_811_6e-10,
    7.054_911_620_801_123e-09,
    1.017_808_600_923_97e-07,
    1.321_548_679_014_431e-06,
    1.525_273_380_405_984_1e-05,
    0.000_154_035_303_933_816_1,
    0.001_333_355_814_642_844_3,
    0.009_618_129_107_628_477,
    0.055_504_108_664_821_58,
    0.240_226_506_959_100_72,
    std::f64::consts::LN_2,
];

/// `2^x`, with a relative error below 2^-52; NaN for NaN.
///
/// The result is finite and not 0: beyond ±160, where f32 has long overflowed or underflowed, it stays the same.
#[inline(always)]
pub(crate) fn exp2(x: f32) -> f64 {
    // Adding it leaves the nearest integer in the low bits of the sum.
    const ROUNDER: f64 = 6_755_399_441_055_744.0;
    let wide = f64::from(x);
    let wide = if wide < -160.0 { -160.0 } else { wide };
    let wide = if wide > 160.0 { 160.0 } else { wide };
    let shifted = wide + ROUNDER;
    let rest = wide - (shifted - ROUNDER);
    let mut sum = COEFFICIENTS[0];
    for &coefficient in &COEFFICIENTS[1..] {
        sum = sum.mul_add(rest, coefficient);
    }
    let power = sum.mul_add(rest, 1.0);
    let scaled = f64::from_bits(power.to_bits().wrapping_add(shifted.to_bits() << 52));
    if wide.is_nan() { f64::NAN } else { scaled }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounded to f32, both must agree: f64's `exp2` is another implementation, and both are within an ulp of f64.
    fn check(x: f32) {
        let (ours, reference) = (exp2(x) as f32, f64::from(x).exp2() as f32);
        assert!(ours == reference || (ours.is_nan() && reference.is_nan()), "2^{x:e}: {ours:e}, not {reference:e}");
    }

    #[test]
    fn a_dense_sample_rounds_as_the_standard_library_does() {
        for bits in (0..=u32::MAX).step_by(1009) {
            check(f32::from_bits(bits));
        }
        for i in -160_000..160_000 {
            check(i as f32 / 1000.0);
        }
    }

    #[test]
    fn integers_are_exact() {
        for n in -149..=127 {
            assert_eq!(exp2(n as f32), f64::from_bits(((1023 + n) as u64) << 52));
        }
    }

    #[test]
    fn relative_error_is_below_two_to_the_minus_52() {
        for i in 0..2_000_000 {
            let x = (i as f32 - 1e6) * 1.27e-4;
            let reference = f64::from(x).exp2();
            // The standard library's own error is below 2^-52 too.
            assert!((exp2(x) / reference - 1.0).abs() < 2.0_f64.powi(-51), "{x:e}");
        }
    }

    #[test]
    #[ignore = "every f32: some minutes"]
    fn every_number_rounds_as_the_standard_library_does() {
        (0..=u32::MAX).for_each(|bits| check(f32::from_bits(bits)));
    }
}
