//! Errors of approximate results: how far off a result is put, and whether one is within what is allowed.

use crate::arith::Mode;
use crate::arith::bounds::Bound;
use crate::arith::float::Float;

#[inline(always)]
pub(super) fn round<T: Float>(exact: f64, ftz: bool) -> T {
    T::narrow(exact, Mode::Nearest).flush_if(ftz)
}

/// `exact` with an error of `noise` times what `bound` allows, rounded; the nominal result where that would be too far
/// off, on the other side of 0, or where it is 0 or infinite.
pub(super) fn disturb<T: Float>(exact: f64, bound: Bound, noise: f64, ftz: bool) -> T {
    let nominal: T = round(exact, ftz);
    if nominal.wide() == 0.0 || !nominal.wide().is_finite() || bound == Bound::None {
        return nominal;
    }
    if bound == Bound::AnythingInUnit {
        return round(noise, ftz);
    }
    let allowed = bound.allowance(exact);
    let centre = if matches!(bound, Bound::UlpsFromRounded(_)) { nominal.wide() } else { exact };
    let result: T = round(noise.mul_add(allowed, exact), ftz);
    let signed = matches!(bound, Bound::Absolute(_)) || result.is_negative() == nominal.is_negative();
    if signed && (result.wide() - centre).abs() <= allowed { result } else { nominal }
}

/// Whether a result is within what `bound` allows of `exact`. As for [`disturb`], the nominal result always is, and the
/// sign is right where the bound is not absolute.
pub(super) fn within<T: Float>(exact: f64, bound: Bound, ftz: bool, result: T) -> bool {
    let nominal: T = round(exact, ftz);
    if nominal.is_nan() || result.is_nan() {
        return nominal.is_nan() && result.is_nan();
    }
    let (wide, rounded) = (result.wide(), nominal.wide());
    let signed = matches!(bound, Bound::Absolute(_)) || result.is_negative() == nominal.is_negative();
    match bound {
        Bound::AnythingInUnit => wide.abs() <= 1.0,
        _ if wide == rounded && signed => true,
        Bound::None => false,
        _ if exact.is_infinite() || exact == 0.0 => false,
        _ => {
            // An infinity stands for the power of two above all numbers.
            let limit = f64::from_bits(((T::LARGEST.wide().to_bits() >> 52) + 1) << 52);
            let finite = |value: f64| value.clamp(-limit, limit);
            let allowed = bound.allowance(exact);
            let centre = if matches!(bound, Bound::UlpsFromRounded(_)) { finite(rounded) } else { exact };
            // A zero stands for all that is flushed.
            let flushed = ftz && wide == 0.0 && round::<T>(exact.abs() - allowed, true).wide() <= 0.0;
            signed && (flushed || (finite(wide) - centre).abs() <= allowed)
        }
    }
}

/// A finite result other than 0 that is off by up to `steps` of units in its bits.
pub(super) fn stepped(nominal: f64, noise: f64, steps: f64, unit: i64) -> f64 {
    if nominal == 0.0 || !nominal.is_finite() {
        return nominal;
    }
    let taken = (noise * (steps + 0.5)).round_ties_even().clamp(-steps, steps) as i64;
    let result = f64::from_bits(nominal.to_bits().wrapping_add_signed(taken * unit));
    if result.is_normal() { result } else { nominal }
}

/// Whether a result is one that [`stepped`] may give.
pub(super) fn in_steps(nominal: f64, steps: f64, unit: u64, result: f64) -> bool {
    if Float::is_nan(nominal) || Float::is_nan(result) {
        return Float::is_nan(nominal) && Float::is_nan(result);
    }
    let distance = result.to_bits().abs_diff(nominal.to_bits());
    distance == 0 || (nominal != 0.0 && nominal.is_finite() && distance <= steps as u64 * unit)
}
