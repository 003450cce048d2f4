//! What the tests share: compiled programs, modes, fixed random numbers, distances in units of the last place.
#![allow(dead_code, unused_macros, unused_imports)]

pub use half::{bf16, f16};
pub use ptx_emulator::{Buffer, Checks, Device, Finding, FindingKind, Mode, Module, Report};

/// The PTX of a program of tests/ptx.
macro_rules! ptx {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ptx/", $name, ".ptx"))
    };
}

/// `report!(module, "kernel", device, mode, grid, block, shared bytes; arguments)`: the report of a launch.
macro_rules! report {
    ($module:expr, $kernel:expr, $device:expr, $mode:expr, $grid:expr, $block:expr, $shared:expr; $($arg:expr),*) => {
        $module
            .launch($kernel).grid($grid).block($block).shared_bytes($shared)
            $(.arg($arg))*
            .mode($mode)
            .run(&$device)
            .unwrap_or_else(|error| panic!("{}: {error}", $kernel))
    };
}

/// As `report!`, for a launch that must have no finding.
macro_rules! clean {
    ($module:expr, $kernel:expr, $device:expr, $mode:expr, $($rest:tt)*) => {{
        let report = report!($module, $kernel, $device, $mode, $($rest)*);
        assert!(report.is_clean(), "{} {:?}:\n{report}", $kernel, $mode);
        report
    }};
}

pub fn module(ptx: &str) -> Module {
    Module::from_ptx(ptx).unwrap_or_else(|error| panic!("{error}"))
}

/// Every mode in which a correct program must be clean.
pub fn modes() -> [Mode; 4] {
    let seeded = |seed| Mode::Adversarial { seed };
    [Mode::Nominal, seeded(1), seeded(2), seeded(0x5eed)]
}

pub fn is_nominal(mode: Mode) -> bool {
    matches!(mode, Mode::Nominal)
}

/// SplitMix64: the same numbers in every run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// From `low` to `high`, both inside.
    pub fn int(&mut self, low: i64, high: i64) -> i64 {
        low + (self.next() % (high - low + 1) as u64) as i64
    }

    /// From `low` up to `high`.
    pub fn real(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn ints(&mut self, count: usize, low: i64, high: i64) -> Vec<i32> {
        (0..count).map(|_| self.int(low, high) as i32).collect()
    }

    /// Whole numbers, so that sums of f32 are exact in any order.
    pub fn whole(&mut self, count: usize, low: i64, high: i64) -> Vec<f32> {
        (0..count).map(|_| self.int(low, high) as f32).collect()
    }

    pub fn reals(&mut self, count: usize, low: f64, high: f64) -> Vec<f32> {
        (0..count).map(|_| self.real(low, high) as f32).collect()
    }
}

/// The distance of `got` from the true value, in units of the last place of an f32 of that size.
pub fn ulps32(got: f32, truth: f64) -> f64 {
    if truth.is_nan() || got.is_nan() {
        return if truth.is_nan() && got.is_nan() { 0.0 } else { f64::INFINITY };
    }
    if truth.is_infinite() || got.is_infinite() {
        // What rounds to infinity may also stay the largest finite value.
        let rounded = truth as f32;
        return if rounded == got || rounded.is_infinite() && got.abs() == f32::MAX { 0.0 } else { f64::INFINITY };
    }
    let exponent = if truth == 0.0 { -126 } else { truth.abs().log2().floor() as i32 };
    (f64::from(got) - truth).abs() / 2f64.powi(exponent.max(-126) - 23)
}

/// The distance of two f64 by their order, NaN equal to NaN.
pub fn ulps64(got: f64, want: f64) -> u64 {
    let order = |v: f64| {
        let bits = v.to_bits() as i64;
        if bits < 0 { i64::MIN.wrapping_sub(bits) } else { bits }
    };
    if got.is_nan() || want.is_nan() {
        return if got.is_nan() && want.is_nan() { 0 } else { u64::MAX };
    }
    order(got).abs_diff(order(want))
}

/// Rounded once to `digits` binary digits, or to the subnormals below 2^`least`. (The conversions of `half` may round
/// twice.) Ties to even; overflow is for the caller.
fn rounded(v: f64, digits: i32, least: i32) -> f64 {
    if v == 0.0 || !v.is_finite() {
        return v;
    }
    let exponent = (v.abs().to_bits() >> 52) as i32 - 1023;
    let unit = 2f64.powi(exponent.max(least) + 1 - digits);
    (v / unit).round_ties_even() * unit
}

pub fn to_f16(v: f64) -> f16 {
    let v = rounded(v, 11, -14);
    if v.abs() > 65504.0 { f16::INFINITY.copysign(f16::from_f64(v)) } else { f16::from_f64(v) }
}

pub fn to_bf16(v: f64) -> bf16 {
    let v = rounded(v, 8, -126);
    if v.abs() > bf16::MAX.to_f64() { bf16::INFINITY.copysign(bf16::from_f64(v)) } else { bf16::from_f64(v) }
}

/// Equality of floats in which NaN is NaN and 0 is -0.
pub fn same(a: f32, b: f32) -> bool {
    a == b || a.is_nan() && b.is_nan()
}

/// The first place where two slices differ, told.
pub fn assert_equal<T: PartialEq + std::fmt::Debug>(got: &[T], want: &[T], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    for (i, (a, b)) in got.iter().zip(want).enumerate() {
        assert_eq!(a, b, "{what}: element {i}");
    }
}
