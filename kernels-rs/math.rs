//! The scalar functions of the Rust kernels, in f32 and without a library: `core` has no exp. Pure Rust but for fma, so
//! that tests on the host reach them; their bounds stand in `tests/kernels_rs.rs`.

/// a * b + c with one rounding.
#[cfg(target_arch = "nvptx64")]
#[inline(always)]
pub fn fma(a: f32, b: f32, c: f32) -> f32 {
    let result: f32;
    // SAFETY: arithmetic between registers.
    unsafe {
        core::arch::asm!("fma.rn.f32 {}, {}, {}, {};", out(reg32) result, in(reg32) a, in(reg32) b, in(reg32) c,
            options(pure, nomem, nostack))
    };
    result
}

/// a * b + c with one rounding.
#[cfg(not(target_arch = "nvptx64"))]
pub fn fma(a: f32, b: f32, c: f32) -> f32 {
    a.mul_add(b, c)
}

const LOG2_E: f32 = core::f32::consts::LOG2_E;
/// ln 2 in two parts: the first has 9 trailing zero bits, so that its product with a small integer is exact.
const LN_2_HIGH: f32 = 0.693_145_75;
const LN_2_LOW: f32 = 1.428_606_8e-6;
/// 1.5 * 2^23: adding it rounds to an integer, which then stands in the low bits.
const ROUNDER: f32 = 12_582_912.0;

/// (n, r, (e^r - 1 - r) / r^2) with v = n ln 2 + r, |r| <= ln(2)/2, for |v| below 2^20.
#[inline(always)]
fn reduced(v: f32) -> (i32, f32, f32) {
    let shifted = fma(v, LOG2_E, ROUNDER);
    let n = shifted - ROUNDER;
    let r = fma(n, -LN_2_LOW, fma(n, -LN_2_HIGH, v));
    // Taylor, to r^8: the first term left out is below 2^-30.
    let mut q = 1.0 / 40320.0;
    q = fma(q, r, 1.0 / 5040.0);
    q = fma(q, r, 1.0 / 720.0);
    q = fma(q, r, 1.0 / 120.0);
    q = fma(q, r, 1.0 / 24.0);
    q = fma(q, r, 1.0 / 6.0);
    q = fma(q, r, 0.5);
    (n as i32, r, q)
}

/// 2^n for -126 <= n <= 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits(((n + 127) << 23) as u32)
}

/// e^(a b), with what rounding the product loses put back: the error of `exp` alone would grow with the product.
#[inline(always)]
pub fn exp_of_product(a: f32, b: f32) -> f32 {
    let product = a * b;
    let power = exp(product);
    // Where the power is 0 or infinite nothing can be put back.
    if power > 0.0 && power < f32::INFINITY { fma(power, fma(a, b, -product), power) } else { power }
}

/// e^v: infinity above the range, subnormal results rounded once.
#[inline(always)]
pub fn exp(v: f32) -> f32 {
    // Beyond these the result is 0 or infinity; NaN stays.
    let inside = v.clamp(-104.0, 89.0);
    let (n, r, q) = reduced(inside);
    let mantissa = fma(r * r, q, r) + 1.0;
    // Two factors: 2^n itself may be subnormal or infinite where the result is not.
    let half = n / 2;
    mantissa * power_of_two(half) * power_of_two(n - half)
}

/// e^v - 1.
#[inline(always)]
pub fn exp_m1(v: f32) -> f32 {
    if !(-18.0..=88.0).contains(&v) {
        return exp(v) - 1.0;
    }
    let (n, r, q) = reduced(v);
    let scale = power_of_two(n);
    // 2^n (e^r - 1) + (2^n - 1): nothing cancels where n = 0, and the second term is exact up to n = 24.
    fma(scale, fma(r * r, q, r), scale - 1.0)
}

/// ln(1 + y) for 0 <= y <= 1, as 2 artanh(s) with s = y / (2 + y).
#[inline(always)]
fn ln_1p_unit(y: f32) -> f32 {
    let s = y / (2.0 + y);
    let s2 = s * s;
    let mut sum = 1.0 / 15.0;
    sum = fma(sum, s2, 1.0 / 13.0);
    sum = fma(sum, s2, 1.0 / 11.0);
    sum = fma(sum, s2, 1.0 / 9.0);
    sum = fma(sum, s2, 1.0 / 7.0);
    sum = fma(sum, s2, 1.0 / 5.0);
    sum = fma(sum, s2, 1.0 / 3.0);
    let twice = s + s;
    // 2 s = y - y s: exact to the last bit where s itself is rounded.
    fma(twice, s2 * sum, twice)
}

/// ln(1 + e^v), and v itself above 20.
#[inline(always)]
pub fn softplus(v: f32) -> f32 {
    if v > 20.0 {
        return v;
    }
    let tail = ln_1p_unit(exp(-v.abs()));
    if v > 0.0 { v + tail } else { tail }
}

/// The derivative of [`softplus`]: the logistic function, and 1 above 20.
#[inline(always)]
pub fn softplus_derivative(v: f32) -> f32 {
    if v > 20.0 {
        return 1.0;
    }
    let e = exp(-v.abs());
    if v < 0.0 { e / (1.0 + e) } else { 1.0 / (1.0 + e) }
}

/// e^-60.
const EXP_MINUS_60: f32 = 8.756_511e-27;

/// v / (1 + e^-v). Far below zero e^v is subnormal, and e^-v infinite, where v e^v is neither.
#[inline(always)]
pub fn silu(v: f32) -> f32 {
    if v < -60.0 {
        return v * exp(v + 60.0) * EXP_MINUS_60;
    }
    v / (1.0 + exp(-v))
}
