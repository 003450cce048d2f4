//! Floating-point operations that round nothing: signs, extremes, properties.

use super::by_type::by_type;
use super::by_value::{by_flag, by_ftz};
use super::modifiers::Modifiers;
use super::{Class, Form, Level};
use crate::arith::float::{Float, Pack};
use crate::types::Type;
use half::{bf16, f16};

/// What [`select`] knows, for the table of the documentation; braces hold alternatives.
pub(crate) const KNOWN: &[&str] = &[
    "{neg,abs}{,.ftz}.{f32,f16,f16x2}",
    "{neg,abs}.{f64,bf16,bf16x2}",
    "{min,max}{,.ftz}{,.NaN}{,.xorsign.abs}.{f32,f16,f16x2}",
    "{min,max}{,.NaN}{,.xorsign.abs}.{bf16,bf16x2}",
    "{min,max}.f64",
    "copysign.{f32,f64}",
    "testp.{finite,infinite,number,notanumber,normal,subnormal}.{f32,f64}",
];

/// What [`select_three`] knows.
pub(crate) const KNOWN_OF_THREE: &[&str] = &["{min,max}{,.ftz}{,.NaN}{,.abs}.f32"];

/// The form of `opcode.modifiers` with at most two sources; `None` if it is not of this family.
pub(crate) fn select(opcode: &str, modifiers: &[&str], level: Level) -> Option<Form> {
    let left = Modifiers::new(modifiers);
    let form = match opcode {
        "neg" => signs(left, false, level)?,
        "abs" => signs(left, true, level)?,
        "min" => extremes(left, false, level)?,
        "max" => extremes(left, true, level)?,
        "copysign" => by_type!(left.last_type()?, T in [F32: f32, F64: f64],
            form!(level, Class::Float, |a: T, b: T| -> T { b.signed_as(a) })),
        "testp" => property(left, level)?,
        _ => return None,
    };
    Some(of_class(form))
}

/// The form of `min` and `max` with three sources, which the modifiers do not tell from that with two.
pub(crate) fn select_three(opcode: &str, modifiers: &[&str], level: Level) -> Option<Form> {
    let greater = match opcode {
        "min" => false,
        "max" => true,
        _ => return None,
    };
    let mut left = Modifiers::new(modifiers);
    let (ftz, nan, abs) = (left.take("ftz"), left.take("NaN"), left.take("abs"));
    if left.last_type()? != Type::F32 {
        return None;
    }
    Some(by_flag!(
        greater,
        GREATER,
        by_flag!(
            ftz,
            FTZ,
            by_flag!(
                nan,
                NAN,
                by_flag!(
                    abs,
                    ABS,
                    form!(level, Class::Float, |a: f32, b: f32, c: f32| -> f32 {
                        let prepared = |value: f32| {
                            let value = value.flush_if(FTZ);
                            if ABS { value.magnitude() } else { value }
                        };
                        prepared(a).extremum(prepared(b), GREATER, NAN).extremum(prepared(c), GREATER, NAN)
                    })
                )
            )
        )
    ))
}

/// The class of the operands' type.
fn of_class(form: Form) -> Form {
    if form.src.first() == Some(&Type::F64) { Form { class: Class::Double, ..form } } else { form }
}

/// Sign bits alone: NaNs keep their bits.
fn signs(mut left: Modifiers<'_>, absolute: bool, level: Level) -> Option<Form> {
    let ftz = left.take("ftz");
    Some(by_ftz!(left.last_type()?, ftz, T, FTZ in
        [F32: f32, F16: f16, F16x2: [f16; 2]] or [F64: f64, BF16: bf16, BF16x2: [bf16; 2]],
        by_flag!(absolute, ABSOLUTE, form!(level, Class::Float, |a: T| -> T {
            a.map(|a| {
                let a = a.flush_if(FTZ);
                if ABSOLUTE { a.magnitude() } else { a.negated() }
            })
        }))
    ))
}

fn extremes(mut left: Modifiers<'_>, greater: bool, level: Level) -> Option<Form> {
    let (ftz, nan) = (left.take("ftz"), left.take("NaN"));
    let xorsign = left.take("xorsign");
    if xorsign && !left.take("abs") {
        return None;
    }
    let ty = left.last_type()?;
    if ty == Type::F64 {
        let plain = !(ftz || nan || xorsign);
        return plain.then(|| {
            by_flag!(
                greater,
                GREATER,
                form!(level, Class::Double, |a: f64, b: f64| -> f64 { a.extremum(b, GREATER, false) })
            )
        });
    }
    Some(by_ftz!(ty, ftz, T, FTZ in [F32: f32, F16: f16, F16x2: [f16; 2]] or [BF16: bf16, BF16x2: [bf16; 2]],
        by_flag!(greater, GREATER, by_flag!(nan, NAN, by_flag!(xorsign, XORSIGN,
            form!(level, Class::Float, |a: T, b: T| -> T {
                a.map2(b, |a, b| {
                    let (a, b) = (a.flush_if(FTZ), b.flush_if(FTZ));
                    if XORSIGN { of_magnitudes(a, b, GREATER, NAN) } else { a.extremum(b, GREATER, NAN) }
                })
            })
        )))
    ))
}

/// `.xorsign.abs`: of the magnitudes, with the product's sign, unless it is NaN.
#[inline(always)]
fn of_magnitudes<T: Float>(a: T, b: T, greater: bool, nan_wins: bool) -> T {
    let result = a.magnitude().extremum(b.magnitude(), greater, nan_wins);
    let negative = a.is_negative() != b.is_negative();
    if negative & !result.is_nan() { result.negated() } else { result }
}

fn property(mut left: Modifiers<'_>, level: Level) -> Option<Form> {
    let property = left.take_any(&["finite", "infinite", "number", "notanumber", "normal", "subnormal"])?;
    let ty = left.last_type()?;
    macro_rules! test {
        (|$a:ident| $holds:expr) => {
            by_type!(ty, T in [F32: f32, F64: f64], form!(level, Class::Float, |$a: T| -> bool { $holds }))
        };
    }
    Some(match property {
        "finite" => test!(|a| a.is_finite()),
        "infinite" => test!(|a| a.is_infinite()),
        "number" => test!(|a| !Float::is_nan(a)),
        "notanumber" => test!(|a| Float::is_nan(a)),
        // Zeros count as normal.
        "normal" => test!(|a| a.is_normal() | (a == 0.0)),
        _ => test!(|a| a.is_subnormal()),
    })
}
