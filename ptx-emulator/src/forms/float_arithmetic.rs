//! Arithmetic of f32 and f64 that PTX defines exactly: sums, products, quotients, roots, in the four roundings.

use super::by_type::by_type;
use super::by_value::{by_flag, by_mode};
use super::modifiers::Modifiers;
use super::{Class, Form, Level};
use crate::arith::Mode;
use crate::arith::exact::{self, nan64};
use crate::arith::float::Float;
use crate::arith::soft::Soft;
use crate::types::Type;
use half::{bf16, f16};

/// What [`select`] knows, for the table of the documentation; braces hold alternatives.
pub(crate) const KNOWN: &[&str] = &[
    "{add,sub,mul}{,.rn,.rz,.rm,.rp}{,.ftz}{,.sat}.f32",
    "{add,sub,mul}{,.rn,.rz,.rm,.rp}.f64",
    "{fma,mad}.{rn,rz,rm,rp}{,.ftz}{,.sat}.f32",
    "{fma,mad}.{rn,rz,rm,rp}.f64",
    "{div,rcp,sqrt}.{rn,rz,rm,rp}{,.ftz}.f32",
    "{div,rcp,sqrt}.{rn,rz,rm,rp}.f64",
    "{add,sub}{,.rn,.rz,.rm,.rp}{,.sat}.f32.{f16,bf16}",
    "fma.{rn,rz,rm,rp}{,.sat}.f32.{f16,bf16}",
];

/// The form of `opcode.modifiers`; `None` if it is not of this family.
pub(crate) fn select(opcode: &str, modifiers: &[&str], level: Level) -> Option<Form> {
    let mut left = Modifiers::new(modifiers);
    let rounding = left.take_any(&["rn", "rz", "rm", "rp"]);
    let (ftz, sat) = (left.take("ftz"), left.take("sat"));
    let ty = left.take_type()?;
    let narrow = left.take_type();
    left.done()?;
    let optional = matches!(opcode, "add" | "sub" | "mul");
    let saturable = optional || matches!(opcode, "fma" | "mad");
    if (rounding.is_none() && !optional) || (sat && !saturable) {
        return None;
    }
    let mode = rounding.map_or(Some(Mode::Nearest), Mode::from_name)?;
    let form = match (ty, narrow) {
        (Type::F32, None) => single(opcode, mode, ftz, sat, level)?,
        (Type::F32, Some(narrow)) if !ftz => mixed(opcode, mode, sat, narrow, level)?,
        (Type::F64, None) if !ftz && !sat => double(opcode, mode, level)?,
        _ => return None,
    };
    let flops = if matches!(opcode, "fma" | "mad") { 2 } else { 1 };
    Some(Form { flops, contractable: optional && rounding.is_none() && narrow.is_none(), ..form })
}

/// f32 operations in any rounding, on operands that are flushed already.
mod f32_ops {
    use super::{Float, Mode, exact};

    #[inline(always)]
    pub fn add(a: f32, b: f32, mode: Mode) -> f32 {
        match mode {
            Mode::Nearest => (a + b).canonical(),
            _ => exact::to_f32(exact::sum_odd(a.wide(), b.wide(), mode == Mode::Down), mode),
        }
    }

    #[inline(always)]
    pub fn mul(a: f32, b: f32, mode: Mode) -> f32 {
        match mode {
            Mode::Nearest => (a * b).canonical(),
            _ => exact::to_f32(a.wide() * b.wide(), mode),
        }
    }

    #[inline(always)]
    pub fn fma(a: f32, b: f32, c: f32, mode: Mode) -> f32 {
        match mode {
            Mode::Nearest => a.mul_add(b, c).canonical(),
            _ => exact::to_f32(exact::fused_odd(a.wide(), b.wide(), c.wide(), mode == Mode::Down), mode),
        }
    }

    #[inline(always)]
    pub fn div(a: f32, b: f32, mode: Mode) -> f32 {
        match mode {
            Mode::Nearest => (a / b).canonical(),
            _ => exact::to_f32(a.wide() / b.wide(), mode),
        }
    }

    #[inline(always)]
    pub fn sqrt(a: f32, mode: Mode) -> f32 {
        match mode {
            Mode::Nearest => a.sqrt().canonical(),
            _ => exact::to_f32(a.wide().sqrt(), mode),
        }
    }

    /// Results are flushed after rounding.
    #[inline(always)]
    pub fn finish(result: f32, ftz: bool, sat: bool) -> f32 {
        let result = result.flush_if(ftz);
        if sat { result.saturated() } else { result }
    }
}

fn single(opcode: &str, mode: Mode, ftz: bool, sat: bool, level: Level) -> Option<Form> {
    use f32_ops::{add, div, finish, fma, mul, sqrt};
    macro_rules! rounded {
        (|$($name:ident),+| $operation:expr) => {
            by_mode!(mode, MODE, by_flag!(ftz, FTZ, by_flag!(sat, SAT,
                form!(level, Class::Float, |$($name: f32),+| -> f32 {
                    $(let $name = $name.flush_if(FTZ);)+
                    finish($operation(MODE), FTZ, SAT)
                })
            )))
        };
        (unsaturated |$($name:ident),+| $operation:expr) => {
            by_mode!(mode, MODE, by_flag!(ftz, FTZ,
                form!(level, Class::Float, |$($name: f32),+| -> f32 {
                    $(let $name = $name.flush_if(FTZ);)+
                    finish($operation(MODE), FTZ, false)
                })
            ))
        };
    }
    Some(match opcode {
        "add" => rounded!(|a, b| |mode| add(a, b, mode)),
        "sub" => rounded!(|a, b| |mode| add(a, b.negated(), mode)),
        "mul" => rounded!(|a, b| |mode| mul(a, b, mode)),
        "fma" | "mad" => rounded!(|a, b, c| |mode| fma(a, b, c, mode)),
        "div" => rounded!(unsaturated | a, b | |mode| div(a, b, mode)),
        "rcp" => rounded!(unsaturated | a | |mode| div(1.0, a, mode)),
        "sqrt" => rounded!(unsaturated | a | |mode| sqrt(a, mode)),
        _ => return None,
    })
}

/// f32 results of operands some of which are halves.
fn mixed(opcode: &str, mode: Mode, sat: bool, narrow: Type, level: Level) -> Option<Form> {
    use f32_ops::{add, finish, fma};
    macro_rules! rounded {
        (|$($half:ident),+; $c:ident| $operation:expr) => {
            by_type!(narrow, T in [F16: f16, BF16: bf16], by_mode!(mode, MODE, by_flag!(sat, SAT,
                form!(level, Class::Float, |$($half: T,)+ $c: f32| -> f32 {
                    $(let $half = $half.plain();)+
                    finish($operation(MODE), false, SAT)
                })
            )))
        };
    }
    Some(match opcode {
        "add" => rounded!(|a; c| |mode| add(a, c, mode)),
        "sub" => rounded!(|a; c| |mode| add(a, c.negated(), mode)),
        "fma" => rounded!(|a, b; c| |mode| fma(a, b, c, mode)),
        _ => return None,
    })
}

fn double(opcode: &str, mode: Mode, level: Level) -> Option<Form> {
    // To nearest the processor's own instructions are right, and vectorise.
    macro_rules! rounded {
        (|$($name:ident),+| $nearest:expr, |$($soft:ident),+; $down:ident| $exact:expr) => {
            if mode == Mode::Nearest {
                form!(level, Class::Double, |$($name: f64),+| -> f64 { nan64($nearest, [$($name),+]) })
            } else {
                by_mode!(mode, MODE, form!(level, Class::Double, slow |$($name: f64),+| -> f64 {
                    let $down = MODE == Mode::Down;
                    $(let $soft = Soft::from_f64($name);)+
                    nan64($exact.to_f64(MODE), [$($name),+])
                }))
            }
        };
    }
    Some(match opcode {
        "add" => rounded!(|a, b| a + b, |x, y; down| x.plus(y, down)),
        "sub" => rounded!(|a, b| a - b, |x, y; down| x.plus(y.negated(), down)),
        "mul" => rounded!(|a, b| a * b, |x, y; _down| x.times(y)),
        "fma" | "mad" => rounded!(|a, b, c| a.mul_add(b, c), |x, y, z; down| x.times(y).plus(z, down)),
        "div" => rounded!(|a, b| a / b, |x, y; _down| x.over(y)),
        "rcp" => rounded!(|a| 1.0 / a, |x; _down| Soft::from_integer(1).over(x)),
        "sqrt" => rounded!(|a| a.sqrt(), |x; _down| x.root()),
        _ => return None,
    })
}
