//! Arithmetic of f16 and bf16, alone and in pairs: rounded once, to nearest.

use super::by_value::{by_choice, by_ftz};
use super::modifiers::Modifiers;
use super::{Class, Form, Level};
use crate::arith::Mode;
use crate::arith::exact::{fused_odd, sum_odd};
use crate::arith::float::{Float, Pack};
use crate::types::Type;
use half::{bf16, f16};

/// What [`select`] knows, for the table of the documentation; braces hold alternatives.
pub(crate) const KNOWN: &[&str] = &[
    "{add,sub,mul}{,.rn}{,.ftz}{,.sat}.{f16,f16x2}",
    "{add,sub,mul}{,.rn}.{bf16,bf16x2}",
    "fma.rn{,.ftz}{,.sat,.relu}.{f16,f16x2}",
    "fma.rn{,.relu}.{bf16,bf16x2}",
];

/// What happens to a result at last.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Clamp {
    None,
    Saturate,
    Relu,
}

/// The form of `opcode.modifiers`; `None` if it is not of this family.
pub(crate) fn select(opcode: &str, modifiers: &[&str], level: Level) -> Option<Form> {
    let mut left = Modifiers::new(modifiers);
    let (rounded, ftz) = (left.take("rn"), left.take("ftz"));
    let clamp = match left.take_any(&["sat", "relu"]) {
        Some("sat") => Clamp::Saturate,
        Some(_) => Clamp::Relu,
        None => Clamp::None,
    };
    let ty = left.last_type()?;
    let fused = opcode == "fma";
    let brain = matches!(ty, Type::BF16 | Type::BF16x2);
    if (fused && !rounded) || (brain && clamp == Clamp::Saturate) {
        return None;
    }
    macro_rules! operation {
        (|$($name:ident),+| $map:ident, $exact:expr, $flops:literal, [$($clamp:path),+]) => {
            by_ftz!(ty, ftz, T, FTZ in [F16: f16, F16x2: [f16; 2]] or [BF16: bf16, BF16x2: [bf16; 2]],
                by_choice!(clamp, CLAMP: Clamp = [$($clamp),+], Form {
                    flops: $flops * <T as Pack>::COUNT,
                    ..form!(level, Class::Float, |$($name: T),+| -> T {
                        Pack::$map($($name,)+ |$($name),+| {
                            $(let $name = $name.flush_if(FTZ).wide();)+
                            clamped(<T as Pack>::Item::narrow($exact, Mode::Nearest).flush_if(FTZ), CLAMP)
                        })
                    })
                })
            )
        };
    }
    Some(match opcode {
        "add" => operation!(|a, b| map2, sum_odd(a, b, false), 1, [Clamp::None, Clamp::Saturate]),
        "sub" => operation!(|a, b| map2, sum_odd(a, -b, false), 1, [Clamp::None, Clamp::Saturate]),
        "mul" => operation!(|a, b| map2, a * b, 1, [Clamp::None, Clamp::Saturate]),
        "fma" => operation!(|a, b, c| map3, fused_odd(a, b, c, false), 2, [Clamp::None, Clamp::Saturate, Clamp::Relu]),
        _ => return None,
    })
}

#[inline(always)]
fn clamped<T: Float>(value: T, clamp: Clamp) -> T {
    match clamp {
        Clamp::None => value,
        Clamp::Saturate => value.saturated(),
        Clamp::Relu => value.relu(),
    }
}
