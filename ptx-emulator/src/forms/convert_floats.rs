//! Conversions to and from floating-point numbers: `cvt`.

use super::by_type::by_type;
use super::by_value::{by_choice, by_flag, by_ftz, by_mode};
use super::modifiers::Modifiers;
use super::{Class, Form, Level};
use crate::arith::Mode;
use crate::arith::exact::{self, Shape, nan64};
use crate::arith::float::Float;
use crate::arith::soft::{Format, Soft};
use crate::registers::Value;
use crate::types::Type;
use half::{bf16, f16};

/// What [`select`] knows, for the table of the documentation; braces hold alternatives.
pub(crate) const KNOWN: &[&str] = &[
    "cvt{,.ftz}{,.sat}.f32.{f32,f16,bf16}",
    "cvt{,.sat}.f64.{f64,f16,bf16}",
    "cvt{,.ftz}{,.sat}.f64.f32",
    "cvt{,.sat}.f16.f16",
    "cvt.bf16.bf16",
    "cvt.{rni,rzi,rmi,rpi}{,.ftz}{,.sat}.f32.f32",
    "cvt.{rni,rzi,rmi,rpi}{,.sat}.{f64.f64,f16.f16}",
    "cvt.{rni,rzi,rmi,rpi}.bf16.bf16",
    "cvt.{rn,rz,rm,rp}{,.ftz}{,.sat}.{f32.f64,f16.f32}",
    "cvt.{rn,rz,rm,rp}{,.sat}.f16.{f64,bf16}",
    "cvt.{rn,rz,rm,rp}.bf16.{f64,f16}",
    "cvt.{rn,rz,rm,rp}{,.ftz}.bf16.f32",
    "cvt.{rn,rz}{,.relu}{,.satfinite}.{f16,bf16,f16x2,bf16x2}.f32",
    "cvt.rna{,.satfinite}.tf32.f32",
    "cvt.{rn,rz}{,.satfinite}{,.relu}.tf32.f32",
    "cvt.{rni,rzi,rmi,rpi}{,.ftz}{,.sat}.{u8,s8,u16,s16,u32,s32,u64,s64}.f32",
    "cvt.{rni,rzi,rmi,rpi}{,.sat}.{u8,s8,u16,s16,u32,s32,u64,s64}.{f64,f16,bf16}",
    "cvt.{rn,rz,rm,rp}{,.ftz}{,.sat}.f32.{u8,s8,u16,s16,u32,s32,u64,s64}",
    "cvt.{rn,rz,rm,rp}{,.sat}.{f64,f16}.{u8,s8,u16,s16,u32,s32,u64,s64}",
    "cvt.{rn,rz,rm,rp}.bf16.{u8,s8,u16,s16,u32,s32,u64,s64}",
];

/// The form of `opcode.modifiers`; `None` if it is not of this family.
///
/// A result narrower than 32 bits is extended to 32, as for a register of 32 bits; [`select_into`] knows the register.
pub(crate) fn select(opcode: &str, modifiers: &[&str], level: Level) -> Option<Form> {
    if opcode == "cvt" { select_into(modifiers, None, level) } else { None }
}

/// The form of `cvt.modifiers` for a destination register of `bits` bits: PTX extends an integer to the whole register,
/// with its sign if its type has one. A register narrower than the result is not known.
pub(crate) fn select_into(modifiers: &[&str], bits: Option<u32>, level: Level) -> Option<Form> {
    if modifiers.contains(&"tf32") {
        return to_tf32(Modifiers::new(modifiers), level);
    }
    if modifiers.contains(&"relu")
        || modifiers.contains(&"satfinite")
        || modifiers.iter().any(|name| name.ends_with("x2"))
    {
        return to_halves(Modifiers::new(modifiers), level);
    }
    let mut left = Modifiers::new(modifiers);
    let integral = left.take_any(&["rni", "rzi", "rmi", "rpi"]).and_then(|name| Mode::from_name(&name[..2]));
    let rounding = left.take_any(&["rn", "rz", "rm", "rp"]).and_then(Mode::from_name);
    if integral.is_some() && rounding.is_some() {
        return None;
    }
    let (ftz, sat) = (left.take("ftz"), left.take("sat"));
    let (to, from) = (left.take_type()?, left.last_type()?);
    if (ftz && to != Type::F32 && from != Type::F32) || (sat && to == Type::BF16) {
        return None;
    }
    match (is_float(to), is_float(from)) {
        (true, true) if integral.is_some() => (to == from).then(|| to_integral(to, integral?, ftz, sat, level))?,
        (true, true) => between_floats(to, from, rounding, ftz, sat, level),
        (false, true) => from_float(to, from, integral?, bits.unwrap_or((8 * to.bytes()).max(32)), ftz, level),
        (true, false) if integral.is_none() => from_integer(to, from, rounding?, sat, level),
        _ => None,
    }
}

fn is_float(ty: Type) -> bool {
    matches!(ty, Type::F16 | Type::BF16 | Type::F32 | Type::F64)
}

/// Whether `.ftz` is about numbers of this type.
fn flushes<T: Value>(ftz: bool) -> bool {
    ftz && T::TYPE == Type::F32
}

#[inline(always)]
fn saturated_if<T: Float>(value: T, sat: bool) -> T {
    if sat { value.saturated() } else { value }
}

/// Between formats, or none. Exact conversions take no rounding, others must have one. A NaN becomes the canonical one,
/// in f64 that of f32 widened, but keeps its bits where the format stays.
fn between_floats(to: Type, from: Type, rounding: Option<Mode>, ftz: bool, sat: bool, level: Level) -> Option<Form> {
    if to == from {
        return if rounding.is_none() { same_format(to, ftz, sat, level) } else { None };
    }
    macro_rules! rounded {
        ($d:ty, [$($flushing:tt)*] or [$($other:tt)*], $mode:expr) => {
            by_ftz!(from, ftz, S, FTZ in [$($flushing)*] or [$($other)*],
                by_flag!(sat, SAT, form!(level, Class::Convert, |a: S| -> $d {
                    let a = a.flush_if(flushes::<S>(FTZ)).wide();
                    let rounded = <$d as Float>::narrow(a, $mode).canonical();
                    saturated_if(rounded.flush_if(flushes::<$d>(FTZ)), SAT)
                }))
            )
        };
    }
    Some(match (to, rounding) {
        (Type::F32, None) => rounded!(f32, [F16: f16, BF16: bf16] or [], Mode::Nearest),
        (Type::F64, None) => rounded!(f64, [F32: f32] or [F16: f16, BF16: bf16], Mode::Nearest),
        (Type::F32, Some(mode)) => by_mode!(mode, MODE, rounded!(f32, [F64: f64] or [], MODE)),
        (Type::F16, Some(mode)) => by_mode!(mode, MODE, rounded!(f16, [F32: f32] or [F64: f64, BF16: bf16], MODE)),
        (Type::BF16, Some(mode)) => by_mode!(mode, MODE, rounded!(bf16, [F32: f32] or [F64: f64, F16: f16], MODE)),
        _ => return None,
    })
}

fn same_format(ty: Type, ftz: bool, sat: bool, level: Level) -> Option<Form> {
    Some(by_ftz!(ty, ftz, T, FTZ in [F32: f32] or [F64: f64, F16: f16, BF16: bf16], by_flag!(sat, SAT,
        form!(level, Class::Convert, |a: T| -> T { saturated_if(a.flush_if(FTZ), SAT) })
    )))
}

#[inline(always)]
fn integral_f64(value: f64, mode: Mode) -> f64 {
    match mode {
        Mode::Nearest => value.round_ties_even(),
        Mode::Zero => value.trunc(),
        Mode::Down => value.floor(),
        _ => value.ceil(),
    }
}

/// To an integer in the same format.
fn to_integral(ty: Type, mode: Mode, ftz: bool, sat: bool, level: Level) -> Option<Form> {
    Some(by_ftz!(ty, ftz, T, FTZ in [F32: f32] or [F64: f64, F16: f16, BF16: bf16], by_mode!(mode, MODE,
        by_flag!(sat, SAT, form!(level, Class::Convert, |a: T| -> T {
            let a = a.flush_if(FTZ).wide();
            let rounded = nan64(integral_f64(a, MODE), [a]);
            saturated_if(T::narrow(rounded, Mode::Nearest), SAT)
        }))
    )))
}

/// To integers: clamped to the range of the type. NaN becomes 0, or the number with the highest bit alone if the source
/// is f64 or the result has 64 bits, as the PTX ISA says at `cvt`. Only 32-bit results are common enough for loops that
/// vectorise.
fn from_float(to: Type, from: Type, mode: Mode, bits: u32, ftz: bool, level: Level) -> Option<Form> {
    if bits < 8 * to.bytes() {
        return None;
    }
    macro_rules! into {
        ($d:ty, $r:ty $(, $slow:ident)?) => {
            by_ftz!(from, ftz, S, FTZ in [F32: f32] or [F64: f64, F16: f16, BF16: bf16],
                by_mode!(mode, MODE, form!(level, Class::Convert, $($slow)? |a: S| -> $r {
                    let a = a.flush_if(FTZ).plain();
                    let rounded = match MODE {
                        Mode::Nearest => a.round_ties_even(),
                        Mode::Zero => a,
                        Mode::Down => a.floor(),
                        _ => a.ceil(),
                    };
                    let highest: $d = 1 << (<$d>::BITS - 1);
                    let marked = matches!(S::TYPE, Type::F64) || <$d>::BITS == 64;
                    let number = rounded as $d;
                    (if marked & a.is_nan() { highest } else { number }) as $r
                }))
            )
        };
    }
    Some(match (to, bits) {
        (Type::U8, 8..=32) => into!(u8, u32, slow),
        (Type::U8, 64) => into!(u8, u64, slow),
        (Type::U16, 16..=32) => into!(u16, u32, slow),
        (Type::U16, 64) => into!(u16, u64, slow),
        (Type::U32, 32) => into!(u32, u32),
        (Type::U32, 64) => into!(u32, u64, slow),
        (Type::U64, 64) => into!(u64, u64, slow),
        (Type::S8, 8) => into!(i8, i8, slow),
        (Type::S8, 16) => into!(i8, i16, slow),
        (Type::S8, 32) => into!(i8, i32, slow),
        (Type::S8, 64) => into!(i8, i64, slow),
        (Type::S16, 16) => into!(i16, i16, slow),
        (Type::S16, 32) => into!(i16, i32, slow),
        (Type::S16, 64) => into!(i16, i64, slow),
        (Type::S32, 32) => into!(i32, i32),
        (Type::S32, 64) => into!(i32, i64, slow),
        (Type::S64, 64) => into!(i64, i64, slow),
        _ => return None,
    })
}

/// From integers. Those of up to 32 bits are exact in f64, on the way.
fn from_integer(to: Type, from: Type, mode: Mode, sat: bool, level: Level) -> Option<Form> {
    macro_rules! narrow {
        ($d:ty, [$($types:tt)+] $(, $slow:ident)?) => {
            by_type!(from, S in [$($types)+],
                by_mode!(mode, MODE, by_flag!(sat, SAT, form!(level, Class::Convert, $($slow)? |a: S| -> $d {
                    saturated_if(<$d as Float>::narrow(a.into(), MODE), SAT)
                })))
            )
        };
        ($d:ty) => {
            if matches!(from, Type::U32 | Type::S32) {
                narrow!($d, [U32: u32, S32: i32])
            } else {
                narrow!($d, [U8: u8, S8: i8, U16: u16, S16: i16], slow)
            }
        };
    }
    macro_rules! wide {
        ($d:ty, $format:ident) => {
            by_type!(from, S in [U64: u64, S64: i64],
                by_mode!(mode, MODE, by_flag!(sat, SAT, form!(level, Class::Convert, slow |a: S| -> $d {
                    let bits = Soft::from_integer(a.into()).pack(Format::$format, MODE);
                    saturated_if(<$d as Float>::from_raw(bits), SAT)
                })))
            )
        };
    }
    Some(match (to, from) {
        (Type::F32, Type::U64 | Type::S64) => wide!(f32, F32),
        (Type::F64, Type::U64 | Type::S64) => wide!(f64, F64),
        (Type::F16, Type::U64 | Type::S64) => wide!(f16, F16),
        (_, Type::U64 | Type::S64) => wide!(bf16, BF16),
        (Type::F32, _) => narrow!(f32),
        (Type::F64, _) => narrow!(f64),
        (Type::F16, _) => narrow!(f16),
        _ => narrow!(bf16),
    })
}

/// From f32 to a half or, `a` above `b`, to two, with `.relu` or `.satfinite`.
fn to_halves(mut left: Modifiers<'_>, level: Level) -> Option<Form> {
    let mode = Mode::from_name(left.take_any(&["rn", "rz"])?)?;
    let (relu, finite) = (left.take("relu"), left.take("satfinite"));
    let (to, from) = (left.take_type()?, left.last_type()?);
    if from != Type::F32 {
        return None;
    }
    macro_rules! rounded {
        (|$($name:ident),+| $result:ty, $packed:expr) => {
            by_choice!(mode, MODE: Mode = [Mode::Nearest, Mode::Zero], by_flag!(relu, RELU, by_flag!(finite, FINITE,
                form!(level, Class::Convert, |$($name: f32),+| -> $result {
                    $(let $name = half_of($name, MODE, RELU, FINITE);)+
                    $packed
                })
            )))
        };
    }
    Some(match to {
        Type::F16 => rounded!(|a| f16, a),
        Type::BF16 => rounded!(|a| bf16, a),
        Type::F16x2 => rounded!(|a, b| [f16; 2], [b, a]),
        Type::BF16x2 => rounded!(|a, b| [bf16; 2], [b, a]),
        _ => return None,
    })
}

#[inline(always)]
fn half_of<T: Float>(value: f32, mode: Mode, relu: bool, finite: bool) -> T {
    let wide = value.wide();
    let most = T::LARGEST.wide();
    let rounded = T::narrow(if finite { wide.clamp(-most, most) } else { wide }, mode);
    if relu { rounded.relu() } else { rounded }
}

/// From f32 to tf32, an f32 with 10 bits of fraction.
fn to_tf32(mut left: Modifiers<'_>, level: Level) -> Option<Form> {
    let mode = match left.take_any(&["rna", "rn", "rz"])? {
        "rna" => Mode::Away,
        name => Mode::from_name(name)?,
    };
    let finite = left.take("satfinite");
    let relu = mode != Mode::Away && left.take("relu");
    if !left.take("tf32") || left.last_type()? != Type::F32 {
        return None;
    }
    Some(by_choice!(mode, MODE: Mode = [Mode::Away, Mode::Nearest, Mode::Zero],
        by_flag!(relu, RELU, by_flag!(finite, FINITE, form!(level, Class::Convert, |a: f32| -> u32 {
            const LARGEST: f64 = f32::from_bits(0x7F7F_E000) as f64;
            let wide = a.wide();
            let limited = if FINITE { wide.clamp(-LARGEST, LARGEST) } else { wide };
            let bits = exact::narrow::<{ Shape::TF32 }>(limited, MODE) << 13;
            let number = if RELU && bits >> 31 != 0 { 0 } else { bits };
            if a.is_nan() { 0x7FFF_FFFF } else { number }
        })))
    ))
}
