//! Sums over several words: `add.cc addc sub.cc subc mad.cc madc`.

use super::by_type::by_type;
use super::execute::Level;
use super::modifiers::Modifiers;
use super::{Class, Form};
use crate::registers::{Exec, LANES, Operands, Registers, Value};
use crate::types::Type;

/// What [`select`] knows, for the table of the documentation; braces hold alternatives.
pub(crate) const KNOWN: &[&str] = &[
    "{add,sub}.cc.{u32,s32,u64,s64}",
    "{addc,subc}{,.cc}.{u32,s32,u64,s64}",
    "mad.{lo,hi}.cc.{u32,s32,u64,s64}",
    "madc.{lo,hi}{,.cc}.{u32,s32,u64,s64}",
];

/// An operation on lanes that takes and gives the carry flag; what it does not take or give is not looked at.
trait CarryOperation {
    type Result: Value;
    const SOURCES: usize;
    /// Reads the flag.
    const TAKES: bool;
    /// Writes the flag.
    const GIVES: bool;
    fn lane(registers: &Registers, operands: &Operands, lane: usize, carry: bool) -> (Self::Result, bool);
}

#[inline(always)]
fn each_lane<O: CarryOperation>(registers: &mut Registers, operands: &Operands, mask: u32) {
    let mut out = O::Result::blank();
    let mut carries = 0;
    for lane in 0..LANES {
        let carry = O::TAKES && registers.carry >> lane & 1 != 0;
        let (value, carry) = O::lane(registers, operands, lane, carry);
        O::Result::set(&mut out, lane, value);
        carries |= u32::from(carry) << lane;
    }
    O::Result::commit(registers, operands.dst, &out, mask);
    if O::GIVES {
        registers.carry = (registers.carry & !mask) | (carries & mask);
    }
}

fn portable<O: CarryOperation>(registers: &mut Registers, operands: &Operands, mask: u32) {
    each_lane::<O>(registers, operands, mask);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn avx2<O: CarryOperation>(registers: &mut Registers, operands: &Operands, mask: u32) {
    each_lane::<O>(registers, operands, mask);
}

fn form<O: CarryOperation>(level: Level) -> Form {
    let exec: Exec = match level {
        Level::Portable => portable::<O>,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => avx2::<O>,
    };
    let ty = O::Result::TYPE;
    Form {
        exec,
        dst: ty,
        dst2: None,
        src: vec![ty; O::SOURCES],
        class: Class::Integer,
        flops: 0,
        exponential: false,
        contractable: false,
        allows: None,
    }
}

/// Forms of one body, for what they do with the flag: `addc` takes it, `.cc` gives it. Sums of two terms in which the
/// carry is 1 at most: the terms may carry, or their sum with the flag, but not both.
macro_rules! carried {
    ($level:expr, $takes:expr, $gives:expr, |$($name:ident),+; $carry:ident| -> $type:ty $body:block) => {
        match ($takes, $gives) {
            (true, true) => carried!(@ $level, true, true, |$($name),+; $carry| -> $type $body),
            (true, false) => carried!(@ $level, true, false, |$($name),+; $carry| -> $type $body),
            (false, _) => carried!(@ $level, false, true, |$($name),+; $carry| -> $type $body),
        }
    };
    (@ $level:expr, $takes:literal, $gives:literal, |$($name:ident),+; $carry:ident| -> $type:ty $body:block) => {{
        struct Local;
        impl CarryOperation for Local {
            type Result = $type;
            const SOURCES: usize = [$(stringify!($name)),+].len();
            const TAKES: bool = $takes;
            const GIVES: bool = $gives;
            #[inline(always)]
            fn lane(registers: &Registers, operands: &Operands, lane: usize, $carry: bool) -> ($type, bool) {
                let mut rows = operands.src.iter();
                $(
                    let row = rows.next().copied().unwrap_or_default();
                    let $name = <$type as Value>::get(<$type as Value>::row(registers, row), lane);
                )+
                $body
            }
        }
        form::<Local>($level)
    }};
}

/// The form of `opcode.modifiers`; `None` if it is not of this family.
pub(crate) fn select(opcode: &str, modifiers: &[&str], level: Level) -> Option<Form> {
    let mut left = Modifiers::new(modifiers);
    let takes = matches!(opcode, "addc" | "subc" | "madc");
    let half = if matches!(opcode, "mad" | "madc") { left.take_any(&["lo", "hi"])? } else { "" };
    let gives = left.take("cc");
    let ty = left.last_type()?;
    if !takes && !gives {
        return None;
    }
    match (opcode, half) {
        ("add" | "addc", _) => add(ty, takes, gives, level),
        ("sub" | "subc", _) => subtract(ty, takes, gives, level),
        ("mad" | "madc", "lo") => low_add(ty, takes, gives, level),
        ("mad" | "madc", _) => high_add(ty, takes, gives, level),
        _ => None,
    }
}

fn add(ty: Type, takes: bool, gives: bool, level: Level) -> Option<Form> {
    Some(by_type!(ty, T in [U32: u32, S32: u32, U64: u64, S64: u64],
        carried!(level, takes, gives, |a, b; carry| -> T {
            let (sum, first) = a.overflowing_add(b);
            let (sum, second) = sum.overflowing_add(T::from(carry));
            (sum, first | second)
        })
    ))
}

/// The flag is the carry of `a + !b + 1`, set where nothing was borrowed: so devices do it, and the division of 128 bits
/// that NVVM emits reads the flag of `subc.cc` with `addc`.
fn subtract(ty: Type, takes: bool, gives: bool, level: Level) -> Option<Form> {
    Some(by_type!(ty, T in [U32: u32, S32: u32, U64: u64, S64: u64], {
        if takes {
            carried!(level, true, gives, |a, b; carry| -> T {
                let (difference, first) = a.overflowing_sub(b);
                let (difference, second) = difference.overflowing_sub(T::from(!carry));
                (difference, !(first | second))
            })
        } else {
            carried!(level, false, gives, |a, b; _carry| -> T {
                let (difference, borrow) = a.overflowing_sub(b);
                (difference, !borrow)
            })
        }
    }))
}

fn low_add(ty: Type, takes: bool, gives: bool, level: Level) -> Option<Form> {
    Some(by_type!(ty, T in [U32: u32, S32: u32, U64: u64, S64: u64],
        carried!(level, takes, gives, |a, b, c; carry| -> T {
            let (sum, first) = a.wrapping_mul(b).overflowing_add(c);
            let (sum, second) = sum.overflowing_add(T::from(carry));
            (sum, first | second)
        })
    ))
}

/// The carry is that of the unsigned sum, whatever the type; the product is signed if the type is.
fn high_add(ty: Type, takes: bool, gives: bool, level: Level) -> Option<Form> {
    macro_rules! high {
        ($signed:ty, $unsigned:ty, $wide:ty) => {
            carried!(level, takes, gives, |a, b, c; carry| -> $unsigned {
                let product = (a as $signed as $wide).wrapping_mul(b as $signed as $wide);
                let (sum, first) = ((product >> <$unsigned>::BITS) as $unsigned).overflowing_add(c);
                let (sum, second) = sum.overflowing_add(<$unsigned>::from(carry));
                (sum, first | second)
            })
        };
    }
    Some(match ty {
        Type::U32 => high!(u32, u32, u64),
        Type::S32 => high!(i32, u32, i64),
        Type::U64 => high!(u64, u64, u128),
        Type::S64 => high!(i64, u64, i128),
        _ => return None,
    })
}
