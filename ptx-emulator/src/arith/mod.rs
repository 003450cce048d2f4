//! Floating-point arithmetic that Rust's operators do not give: directed roundings, narrow formats, canonical NaNs,
//! special functions and the bounds of their errors.

pub(crate) mod bounds;
pub(crate) mod exact;
pub(crate) mod exp2;
pub(crate) mod float;
pub(crate) mod noise;
pub(crate) mod soft;

/// How a result is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// `.rn`: to nearest, ties to even.
    Nearest,
    /// `.rz`: toward zero.
    Zero,
    /// `.rm`: toward negative infinity.
    Down,
    /// `.rp`: toward positive infinity.
    Up,
    /// `.rna`: to nearest, ties away from zero.
    Away,
}

impl Mode {
    /// From `rn`, `rz`, `rm` or `rp`.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "rn" => Self::Nearest,
            "rz" => Self::Zero,
            "rm" => Self::Down,
            "rp" => Self::Up,
            _ => return None,
        })
    }
}

/// Bits that depend on every bit of the argument (the finaliser of splitmix64).
pub(crate) fn mix(bits: u64) -> u64 {
    let bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}
