//! Comparisons of floating-point numbers: `setp` and `set`, ordered and unordered.

use super::by_value::by_ftz;
use super::compare::{self, Alone, And, Both, COMBINATIONS, Combination, Comparison, Destination, Number, Or};
use super::compare::{Predicate, Xor, combined};
use super::modifiers::Modifiers;
use super::{Class, Form, Level};
use crate::arith::float::Float;
use crate::registers::{Exec, LANES, Operands, Registers, Value};
use crate::types::Type;
use half::{bf16, f16};
use std::marker::PhantomData;

/// What [`select`] knows, for the table of the documentation; braces hold alternatives.
pub(crate) const KNOWN: &[&str] = &[
    "setp.{eq,ne,lt,le,gt,ge,equ,neu,ltu,leu,gtu,geu,num,nan}{,.and,.or,.xor}{,.ftz}.{f32,f16}",
    "setp.{eq,ne,lt,le,gt,ge,equ,neu,ltu,leu,gtu,geu,num,nan}{,.and,.or,.xor}.{f64,bf16}",
    "set.{eq,ne,lt,le,gt,ge,equ,neu,ltu,leu,gtu,geu,num,nan}{,.and,.or,.xor}{,.ftz}.{u32,s32,f32,f16,bf16}.f32",
    "set.{eq,ne,lt,le,gt,ge,equ,neu,ltu,leu,gtu,geu,num,nan}{,.and,.or,.xor}.{u32,s32,f32,f16,bf16}.f64",
    "set.{eq,ne,lt,le,gt,ge,equ,neu,ltu,leu,gtu,geu,num,nan}{,.and,.or,.xor}{,.ftz}.{u16,s16,u32,s32,f16,bf16}.f16",
    "set.{eq,ne,lt,le,gt,ge,equ,neu,ltu,leu,gtu,geu,num,nan}{,.and,.or,.xor}.{u16,s16,u32,s32,bf16}.bf16",
    "set.{eq,ne,lt,le,gt,ge,equ,neu,ltu,leu,gtu,geu,num,nan}{,.and,.or,.xor}{,.ftz}.{u32,s32,f16x2}.f16x2",
    "set.{eq,ne,lt,le,gt,ge,equ,neu,ltu,leu,gtu,geu,num,nan}{,.and,.or,.xor}.{u32,s32,bf16x2}.bf16x2",
];

/// What [`select_pair`] knows.
pub(crate) const KNOWN_PAIRS: &[&str] = &[
    "setp.{eq,ne,lt,le,gt,ge,equ,neu,ltu,leu,gtu,geu,num,nan}{,.and,.or,.xor}{,.ftz}.{f32,f16,f16x2}",
    "setp.{eq,ne,lt,le,gt,ge,equ,neu,ltu,leu,gtu,geu,num,nan}{,.and,.or,.xor}.{f64,bf16,bf16x2}",
];

/// The form of `opcode.modifiers` with one destination; `None` if it is not of this family.
pub(crate) fn select(opcode: &str, modifiers: &[&str], level: Level) -> Option<Form> {
    match opcode {
        "setp" => {
            let (head, left) = Head::take(modifiers)?;
            head.predicate::<Predicate>(left.last_type()?, level)
        }
        "set" => number(modifiers),
        _ => None,
    }
}

/// The form of `setp.modifiers p|q, ...`. Of single numbers, `q` is what `p` would be of the contrary comparison; of pairs,
/// `p` is of the lower and `q` of the upper numbers. Both are always written.
pub(crate) fn select_pair(modifiers: &[&str], level: Level) -> Option<Form> {
    let (head, left) = Head::take(modifiers)?;
    match left.last_type()? {
        ty @ (Type::F16x2 | Type::BF16x2) => head.halves::<PairOfPredicates>(ty),
        ty => head.predicate::<Both>(ty, level),
    }
}

/// `set`: the type of the result stands before that of the operands.
fn number(modifiers: &[&str]) -> Option<Form> {
    let (head, mut left) = Head::take(modifiers)?;
    let (result, ty) = (left.take_type()?, left.last_type()?);
    let form = match (result, ty) {
        (Type::U32 | Type::S32, Type::F16x2 | Type::BF16x2) => head.halves::<PairOfNumbers<0xFFFF>>(ty)?,
        (Type::F16x2, Type::F16x2) => head.halves::<PairOfNumbers<0x3C00>>(ty)?,
        (Type::BF16x2, Type::BF16x2) => head.halves::<PairOfNumbers<0x3F80>>(ty)?,
        (Type::U32 | Type::S32, _) => head.number::<Number<{ u32::MAX }>>(ty)?,
        (Type::U16 | Type::S16, Type::F16 | Type::BF16) => head.number::<Number<0xFFFF>>(ty)?,
        (Type::F32, Type::F32 | Type::F64) => head.number::<Number<0x3F80_0000>>(ty)?,
        (Type::F16, Type::F32 | Type::F64 | Type::F16) => head.number::<Number<0x3C00>>(ty)?,
        (Type::BF16, _) => head.number::<Number<0x3F80>>(ty)?,
        _ => return None,
    };
    Some(Form { dst: result, ..form })
}

/// The modifiers before the types.
struct Head<'a> {
    relation: &'a str,
    combination: Option<&'a str>,
    ftz: bool,
}

impl<'a> Head<'a> {
    fn take(modifiers: &'a [&'a str]) -> Option<(Self, Modifiers<'a>)> {
        let mut left = Modifiers::new(modifiers);
        let relation = left
            .take_any(&["eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"])?;
        let combination = left.take_any(COMBINATIONS);
        let ftz = left.take("ftz");
        Some((Self { relation, combination, ftz }, left))
    }

    /// `setp` of single numbers.
    fn predicate<D: Destination>(&self, ty: Type, level: Level) -> Option<Form> {
        Some(by_relation!(
            self.relation,
            R,
            by_ftz!(ty, self.ftz, T, FTZ in [F32: f32, F16: f16] or [F64: f64, BF16: bf16],
                combined::<FloatComparison<T, R, FTZ>, D>(self.combination, level))
        ))
    }

    /// `set` of single numbers. Rare, so the same code at every level.
    fn number<D: Destination>(&self, ty: Type) -> Option<Form> {
        Some(by_relation!(
            self.relation,
            R,
            by_ftz!(ty, self.ftz, T, FTZ in [F32: f32, F16: f16] or [F64: f64, BF16: bf16],
                combined_numbers::<FloatComparison<T, R, FTZ>, D>(self.combination))
        ))
    }

    /// `setp` and `set` of pairs.
    fn halves<D: PairDestination>(&self, ty: Type) -> Option<Form> {
        Some(by_relation!(
            self.relation,
            R,
            by_ftz!(ty, self.ftz, T, FTZ in [F16x2: f16] or [BF16x2: bf16],
                combined_pairs::<T, FloatComparison<T, R, FTZ>, D>(self.combination))
        ))
    }
}

/// One of the 14 comparisons, on the processor's own operators.
trait Relation {
    fn holds<T: PartialOrd + Copy>(a: T, b: T) -> bool;
}

macro_rules! relations {
    ($($label:literal $name:ident |$a:ident, $b:ident| $holds:expr;)*) => {
        $(
            struct $name;
            impl Relation for $name {
                #[inline(always)]
                #[allow(clippy::neg_cmp_op_on_partial_ord, clippy::eq_op)]
                fn holds<T: PartialOrd + Copy>($a: T, $b: T) -> bool {
                    $holds
                }
            }
        )*
        /// The expression with `$alias` standing for the relation of that name.
        macro_rules! by_relation {
            ($value:expr, $alias:ident, $form:expr) => {
                match $value {
                    $($label => {
                        type $alias = $name;
                        $form
                    })*
                    _ => return None,
                }
            };
        }
        use by_relation;
    };
}
relations! {
    "eq" Equal |a, b| a == b;
    "ne" Different |a, b| (a < b) | (a > b);
    "lt" Less |a, b| a < b;
    "le" AtMost |a, b| a <= b;
    "gt" Greater |a, b| a > b;
    "ge" AtLeast |a, b| a >= b;
    "equ" EqualOrNan |a, b| !((a < b) | (a > b));
    "neu" DifferentOrNan |a, b| a != b;
    "ltu" LessOrNan |a, b| !(a >= b);
    "leu" AtMostOrNan |a, b| !(a > b);
    "gtu" GreaterOrNan |a, b| !(a <= b);
    "geu" AtLeastOrNan |a, b| !(a < b);
    "num" Numbers |a, b| (a == a) & (b == b);
    "nan" SomeNan |a, b| (a != a) | (b != b);
}

struct FloatComparison<T, R, const FTZ: bool>(PhantomData<(T, R)>);

impl<T: Float, R: Relation, const FTZ: bool> Comparison for FloatComparison<T, R, FTZ> {
    type Operand = T;
    #[inline(always)]
    fn holds(a: T, b: T) -> bool {
        R::holds(a.flush_if(FTZ).plain(), b.flush_if(FTZ).plain())
    }
}

/// Where two truths go.
trait PairDestination {
    const TYPE: Type;
    const SECOND: Option<Type>;
    fn write(registers: &mut Registers, operands: &Operands, lower: u32, upper: u32, mask: u32);
}

struct PairOfPredicates;
impl PairDestination for PairOfPredicates {
    const TYPE: Type = Type::Pred;
    const SECOND: Option<Type> = Some(Type::Pred);
    #[inline(always)]
    fn write(registers: &mut Registers, operands: &Operands, lower: u32, upper: u32, mask: u32) {
        bool::commit(registers, operands.dst, &lower, mask);
        bool::commit(registers, operands.dst2, &upper, mask);
    }
}

/// A register each half of which holds `TRUE` or 0.
struct PairOfNumbers<const TRUE: u32>;
impl<const TRUE: u32> PairDestination for PairOfNumbers<TRUE> {
    const TYPE: Type = Type::B32;
    const SECOND: Option<Type> = None;
    #[inline(always)]
    fn write(registers: &mut Registers, operands: &Operands, lower: u32, upper: u32, mask: u32) {
        let values = std::array::from_fn(|lane| {
            let half = |truth: u32| 0_u32.wrapping_sub(truth >> lane & 1) & TRUE;
            half(lower) | half(upper) << 16
        });
        u32::commit(registers, operands.dst, &values, mask);
    }
}

macro_rules! by_combination {
    ($combination:expr, $alias:ident, $form:expr) => {
        match $combination {
            Some("and") => {
                type $alias = And;
                $form
            }
            Some("or") => {
                type $alias = Or;
                $form
            }
            Some(_) => {
                type $alias = Xor;
                $form
            }
            None => {
                type $alias = Alone;
                $form
            }
        }
    };
}

fn combined_numbers<C: Comparison, D: Destination>(combination: Option<&str>) -> Form {
    by_combination!(combination, B, form_of::<C::Operand, B>(compare::portable::<C, B, D>, D::TYPE, None))
}

fn combined_pairs<T: Float, C: Comparison<Operand = T>, D: PairDestination>(combination: Option<&str>) -> Form
where
    [T; 2]: Value,
{
    by_combination!(combination, B, form_of::<[T; 2], B>(pairs::<T, C, B, D>, D::TYPE, D::SECOND))
}

fn form_of<T: Value, B: Combination>(exec: Exec, dst: Type, dst2: Option<Type>) -> Form {
    let mut src = vec![T::TYPE; 2];
    if B::USES_PREDICATE {
        src.push(Type::Pred);
    }
    Form {
        exec,
        dst,
        dst2,
        src,
        class: Class::Integer,
        flops: 0,
        exponential: false,
        contractable: false,
        allows: None,
    }
}

fn pairs<T: Float, C: Comparison<Operand = T>, B: Combination, D: PairDestination>(
    registers: &mut Registers,
    operands: &Operands,
    mask: u32,
) where
    [T; 2]: Value,
{
    let (lower, upper) = compare_pairs::<T, C>(registers, operands);
    let predicate = if B::USES_PREDICATE { registers.predicates[operands.src[2] as usize] } else { 0 };
    D::write(registers, operands, B::combine(lower, predicate), B::combine(upper, predicate), mask);
}

#[inline(never)]
fn compare_pairs<T: Float, C: Comparison<Operand = T>>(registers: &Registers, operands: &Operands) -> (u32, u32)
where
    [T; 2]: Value,
{
    let a = <[T; 2]>::row(registers, operands.src[0]);
    let b = <[T; 2]>::row(registers, operands.src[1]);
    let (mut lower, mut upper) = (0, 0);
    for lane in 0..LANES {
        let (a, b) = (<[T; 2]>::get(a, lane), <[T; 2]>::get(b, lane));
        lower |= u32::from(C::holds(a[0], b[0])) << lane;
        upper |= u32::from(C::holds(a[1], b[1])) << lane;
    }
    (lower, upper)
}
