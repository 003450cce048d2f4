//! Comparisons of integers and bits: `setp` and `set`.
//!
//! A comparison leaves a word with a bit for each lane; what follows (the combination with a predicate, `!` for the second
//! destination, the expansion to values) works on those words, so that only the comparison itself exists for each type.

use super::by_type::by_type;
use super::execute::Level;
use super::modifiers::Modifiers;
use super::{Class, Form};
use crate::registers::{Exec, LANES, Operands, Registers, Value, WordRow};
use crate::types::Type;
use std::marker::PhantomData;

/// What [`select`] knows, for the table of the documentation; braces hold alternatives. `setp` also exists with two
/// destinations, see [`select_pair`].
pub(crate) const KNOWN: &[&str] = &[
    "setp.{eq,ne}{,.and,.or,.xor}.{b16,b32,b64,u16,s16,u32,s32,u64,s64}",
    "setp.{lt,le,gt,ge}{,.and,.or,.xor}.{u16,s16,u32,s32,u64,s64}",
    "setp.{lo,ls,hi,hs}{,.and,.or,.xor}.{u16,u32,u64}",
    "set.{eq,ne}{,.and,.or,.xor}.{u32,s32,f32,f16,bf16}.{b16,b32,b64,u16,s16,u32,s32,u64,s64}",
    "set.{lt,le,gt,ge}{,.and,.or,.xor}.{u32,s32,f32,f16,bf16}.{u16,s16,u32,s32,u64,s64}",
    "set.{lo,ls,hi,hs}{,.and,.or,.xor}.{u32,s32,f32,f16,bf16}.{u16,u32,u64}",
];

/// The form of `opcode.modifiers` with one destination; `None` if it is not of this family.
///
/// The sources are the two that are compared and, with a combination, the predicate.
pub(crate) fn select(opcode: &str, modifiers: &[&str], level: Level) -> Option<Form> {
    let left = Modifiers::new(modifiers);
    match opcode {
        "setp" => predicate::<Predicate>(left, level),
        "set" => number(left, level),
        _ => None,
    }
}

/// The form of `setp.modifiers p|q, ...`: `q` is what `p` would be of the contrary comparison. Both are always written.
pub(crate) fn select_pair(modifiers: &[&str], level: Level) -> Option<Form> {
    predicate::<Both>(Modifiers::new(modifiers), level)
}

/// A comparison.
pub(super) trait Comparison {
    type Operand: Value;
    fn holds(a: Self::Operand, b: Self::Operand) -> bool;
}

macro_rules! comparisons {
    ($($name:ident, $bound:ident, |$a:ident, $b:ident| $holds:expr;)*) => {$(
        struct $name<T>(PhantomData<T>);
        impl<T: Value + $bound> Comparison for $name<T> {
            type Operand = T;
            #[inline(always)]
            fn holds($a: T, $b: T) -> bool {
                $holds
            }
        }
    )*};
}
comparisons! {
    Equal, PartialEq, |a, b| a == b;
    Different, PartialEq, |a, b| a != b;
    Less, PartialOrd, |a, b| a < b;
    AtMost, PartialOrd, |a, b| a <= b;
    Greater, PartialOrd, |a, b| a > b;
    AtLeast, PartialOrd, |a, b| a >= b;
}

/// What a comparison and a predicate make; the comparison alone without.
pub(super) trait Combination {
    const USES_PREDICATE: bool;
    fn combine(compared: u32, predicate: u32) -> u32;
}

macro_rules! combinations {
    ($($name:ident, $uses:literal, |$compared:ident, $predicate:ident| $result:expr;)*) => {$(
        pub(super) struct $name;
        impl Combination for $name {
            const USES_PREDICATE: bool = $uses;
            #[inline(always)]
            fn combine($compared: u32, $predicate: u32) -> u32 {
                $result
            }
        }
    )*};
}
combinations! {
    Alone, false, |compared, _predicate| compared;
    And, true, |compared, predicate| compared & predicate;
    Or, true, |compared, predicate| compared | predicate;
    Xor, true, |compared, predicate| compared ^ predicate;
}

/// Where the truth goes.
pub(super) trait Destination {
    const TYPE: Type;
    const SECOND: Option<Type>;
    /// `truth` is that of the comparison, `contrary` that of its opposite, both combined already.
    fn write(registers: &mut Registers, operands: &Operands, truth: u32, contrary: u32, mask: u32);
}

pub(super) struct Predicate;
impl Destination for Predicate {
    const TYPE: Type = Type::Pred;
    const SECOND: Option<Type> = None;
    #[inline(always)]
    fn write(registers: &mut Registers, operands: &Operands, truth: u32, _contrary: u32, mask: u32) {
        bool::commit(registers, operands.dst, &truth, mask);
    }
}

pub(super) struct Both;
impl Destination for Both {
    const TYPE: Type = Type::Pred;
    const SECOND: Option<Type> = Some(Type::Pred);
    #[inline(always)]
    fn write(registers: &mut Registers, operands: &Operands, truth: u32, contrary: u32, mask: u32) {
        bool::commit(registers, operands.dst, &truth, mask);
        bool::commit(registers, operands.dst2, &contrary, mask);
    }
}

/// A register that holds `TRUE` or 0.
pub(super) struct Number<const TRUE: u32>;
impl<const TRUE: u32> Destination for Number<TRUE> {
    const TYPE: Type = Type::B32;
    const SECOND: Option<Type> = None;
    #[inline(always)]
    fn write(registers: &mut Registers, operands: &Operands, truth: u32, _contrary: u32, mask: u32) {
        expand(&mut registers.words[operands.dst as usize], TRUE, truth, mask);
    }
}

#[inline(never)]
fn expand(row: &mut WordRow, value: u32, truth: u32, mask: u32) {
    for lane in 0..LANES {
        let set = 0u32.wrapping_sub(truth >> lane & 1) & value;
        let keep = (mask >> lane & 1).wrapping_sub(1);
        row.0[lane] = (row.0[lane] & keep) | (set & !keep);
    }
}

#[inline(always)]
fn each_lane<C: Comparison>(registers: &Registers, operands: &Operands) -> u32 {
    let (a, b) = (C::Operand::row(registers, operands.src[0]), C::Operand::row(registers, operands.src[1]));
    let mut truth = 0;
    for lane in 0..LANES {
        truth |= u32::from(C::holds(C::Operand::get(a, lane), C::Operand::get(b, lane))) << lane;
    }
    truth
}

#[inline(always)]
fn finish<B: Combination, D: Destination>(registers: &mut Registers, operands: &Operands, compared: u32, mask: u32) {
    let predicate = if B::USES_PREDICATE { registers.predicates[operands.src[2] as usize] } else { 0 };
    D::write(registers, operands, B::combine(compared, predicate), B::combine(!compared, predicate), mask);
}

#[inline(never)]
fn compare_portable<C: Comparison>(registers: &Registers, operands: &Operands) -> u32 {
    each_lane::<C>(registers, operands)
}

pub(super) fn portable<C: Comparison, B: Combination, D: Destination>(
    registers: &mut Registers,
    operands: &Operands,
    mask: u32,
) {
    let compared = compare_portable::<C>(registers, operands);
    finish::<B, D>(registers, operands, compared, mask);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
#[inline(never)]
fn compare_avx2<C: Comparison>(registers: &Registers, operands: &Operands) -> u32 {
    each_lane::<C>(registers, operands)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn avx2<C: Comparison, B: Combination, D: Destination>(registers: &mut Registers, operands: &Operands, mask: u32) {
    let compared = compare_avx2::<C>(registers, operands);
    finish::<B, D>(registers, operands, compared, mask);
}

fn form<C: Comparison, B: Combination, D: Destination>(level: Level) -> Form {
    let exec: Exec = match level {
        Level::Portable => portable::<C, B, D>,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => avx2::<C, B, D>,
    };
    let mut src = vec![C::Operand::TYPE; 2];
    if B::USES_PREDICATE {
        src.push(Type::Pred);
    }
    Form {
        exec,
        dst: D::TYPE,
        dst2: D::SECOND,
        src,
        class: Class::Integer,
        flops: 0,
        exponential: false,
        contractable: false,
        allows: None,
    }
}

const COMPARISONS: &[&str] = &["eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs"];
pub(super) const COMBINATIONS: &[&str] = &["and", "or", "xor"];

/// `setp`: comparison, combination and type.
fn predicate<D: Destination>(mut left: Modifiers<'_>, level: Level) -> Option<Form> {
    let (comparison, combination) = (left.take_any(COMPARISONS)?, left.take_any(COMBINATIONS));
    of_comparison::<D>(comparison, combination, left.last_type()?, level)
}

/// `set`: the type of the result stands before that of the operands.
fn number(mut left: Modifiers<'_>, level: Level) -> Option<Form> {
    let (comparison, combination) = (left.take_any(COMPARISONS)?, left.take_any(COMBINATIONS));
    let (result, ty) = (left.take_type()?, left.last_type()?);
    let form = match result {
        Type::U32 | Type::S32 => of_comparison::<Number<{ u32::MAX }>>(comparison, combination, ty, level)?,
        Type::F32 => of_comparison::<Number<0x3F80_0000>>(comparison, combination, ty, level)?,
        Type::F16 => of_comparison::<Number<0x3C00>>(comparison, combination, ty, level)?,
        Type::BF16 => of_comparison::<Number<0x3F80>>(comparison, combination, ty, level)?,
        _ => return None,
    };
    Some(Form { dst: result, ..form })
}

fn of_comparison<D: Destination>(comparison: &str, combination: Option<&str>, ty: Type, level: Level) -> Option<Form> {
    macro_rules! equality {
        ($compare:ident) => {
            by_type!(ty, T in [
                B16: u16, U16: u16, S16: u16, B32: u32, U32: u32, S32: u32, B64: u64, U64: u64, S64: u64
            ], combined::<$compare<T>, D>(combination, level))
        };
    }
    let name = match comparison {
        "lo" | "ls" | "hi" | "hs" if !matches!(ty, Type::U16 | Type::U32 | Type::U64) => return None,
        "lo" => "lt",
        "ls" => "le",
        "hi" => "gt",
        "hs" => "ge",
        name => name,
    };
    let form = match name {
        "eq" => equality!(Equal),
        "ne" => equality!(Different),
        "lt" => by_type!(ty, T in integers, combined::<Less<T>, D>(combination, level)),
        "le" => by_type!(ty, T in integers, combined::<AtMost<T>, D>(combination, level)),
        "gt" => by_type!(ty, T in integers, combined::<Greater<T>, D>(combination, level)),
        "ge" => by_type!(ty, T in integers, combined::<AtLeast<T>, D>(combination, level)),
        _ => return None,
    };
    Some(form)
}

pub(super) fn combined<C: Comparison, D: Destination>(combination: Option<&str>, level: Level) -> Form {
    match combination {
        Some("and") => form::<C, And, D>(level),
        Some("or") => form::<C, Or, D>(level),
        Some(_) => form::<C, Xor, D>(level),
        None => form::<C, Alone, D>(level),
    }
}
