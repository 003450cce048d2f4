//! What a device's compiler makes of a product and a sum: one instruction, rounded once.

use super::{Class, Form, Level, select};

/// `fma` (a b + c), `fma.minus` (a b - c) or `fma.from` (c - a b), with the modifiers of `fma`.
pub(crate) fn fused(name: &str, modifiers: &[&str], level: Level) -> Option<Form> {
    let mut form = match (name, modifiers) {
        ("fma", modifiers) => return select("fma", modifiers, 3, level),
        ("fma.minus", ["rn", "f32"]) => {
            form!(level, Class::Float, |a: f32, b: f32, c: f32| -> f32 { a.mul_add(b, -c) })
        }
        ("fma.from", ["rn", "f32"]) => {
            form!(level, Class::Float, |a: f32, b: f32, c: f32| -> f32 { (-a).mul_add(b, c) })
        }
        ("fma.minus", ["rn", "ftz", "f32"]) => {
            form!(level, Class::Float, |a: f32, b: f32, c: f32| -> f32 {
                flushed(flushed(a).mul_add(flushed(b), -flushed(c)))
            })
        }
        ("fma.from", ["rn", "ftz", "f32"]) => {
            form!(level, Class::Float, |a: f32, b: f32, c: f32| -> f32 {
                flushed((-flushed(a)).mul_add(flushed(b), flushed(c)))
            })
        }
        ("fma.minus", ["rn", "f64"]) => {
            form!(level, Class::Double, |a: f64, b: f64, c: f64| -> f64 { a.mul_add(b, -c) })
        }
        ("fma.from", ["rn", "f64"]) => {
            form!(level, Class::Double, |a: f64, b: f64, c: f64| -> f64 { (-a).mul_add(b, c) })
        }
        _ => return None,
    };
    form.flops = 2;
    Some(form)
}

#[inline(always)]
fn flushed(value: f32) -> f32 {
    if value.is_subnormal() { 0f32.copysign(value) } else { value }
}
