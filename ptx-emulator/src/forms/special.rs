//! Approximate functions. Nominally they round correctly what f64 computes; in adversarial mode they err, by a
//! pseudo-random part of what the PTX ISA allows.

use super::by_type::by_type;
use super::by_value::by_flag;
use super::errors::{disturb, in_steps, round, stepped, within};
use super::modifiers::Modifiers;
use super::{Class, Form, Level};
use crate::arith::bounds::{self, Bound};
use crate::arith::exp2::exp2;
use crate::arith::float::{Float, Pack};
use crate::arith::noise;
use crate::registers::{Exec, LANES, Operands, Registers, Value};
use crate::types::Type;
use half::{bf16, f16};
use std::cell::Cell;
use std::marker::PhantomData;

/// What [`select`] knows, for the table of the documentation; braces hold alternatives.
pub(crate) const KNOWN: &[&str] = &[
    "{ex2,lg2,sin,cos,rcp,sqrt,rsqrt}.approx{,.ftz}.f32",
    "ex2.approx.{f16,f16x2}",
    "ex2.approx.ftz.{bf16,bf16x2}",
    "tanh.approx.{f32,f16,f16x2,bf16,bf16x2}",
    "div.{approx,full}{,.ftz}.f32",
    "{rcp,rsqrt}.approx.ftz.f64",
    "rsqrt.approx.f64",
];

/// The form of `opcode.modifiers`; `None` if it is not of this family.
pub(crate) fn select(opcode: &str, modifiers: &[&str], level: Level) -> Option<Form> {
    let mut left = Modifiers::new(modifiers);
    let full = opcode == "div" && left.take("full");
    if !full && !left.take("approx") {
        return None;
    }
    let ftz = left.take("ftz");
    let ty = left.last_type()?;
    let form = match (opcode, ty) {
        ("ex2", Type::F32) => by_flag!(ftz, FTZ, unary::<f32, Ex2, FTZ>(level)),
        ("lg2", Type::F32) => by_flag!(ftz, FTZ, unary::<f32, Lg2, FTZ>(level)),
        ("sin", Type::F32) => by_flag!(ftz, FTZ, unary::<f32, Sin, FTZ>(level)),
        ("cos", Type::F32) => by_flag!(ftz, FTZ, unary::<f32, Cos, FTZ>(level)),
        ("rcp", Type::F32) => by_flag!(ftz, FTZ, unary::<f32, Rcp, FTZ>(level)),
        ("sqrt", Type::F32) => by_flag!(ftz, FTZ, unary::<f32, Sqrt, FTZ>(level)),
        ("rsqrt", Type::F32) => by_flag!(ftz, FTZ, unary::<f32, Rsqrt, FTZ>(level)),
        ("div", Type::F32) if full => by_flag!(ftz, FTZ, form::<Quotient<FTZ, true>>(level)),
        ("div", Type::F32) => by_flag!(ftz, FTZ, form::<Quotient<FTZ, false>>(level)),
        ("ex2", Type::F16 | Type::F16x2) if !ftz => {
            by_type!(ty, T in [F16: f16, F16x2: [f16; 2]], unary::<T, Ex2Half, false>(level))
        }
        ("ex2", Type::BF16 | Type::BF16x2) if ftz => {
            by_type!(ty, T in [BF16: bf16, BF16x2: [bf16; 2]], unary::<T, Ex2Brain, true>(level))
        }
        ("tanh", Type::F32) if !ftz => unary::<f32, Tanh, false>(level),
        ("tanh", Type::F16 | Type::F16x2) if !ftz => {
            by_type!(ty, T in [F16: f16, F16x2: [f16; 2]], unary::<T, TanhHalf, false>(level))
        }
        ("tanh", Type::BF16 | Type::BF16x2) if !ftz => {
            by_type!(ty, T in [BF16: bf16, BF16x2: [bf16; 2]], unary::<T, TanhBrain, false>(level))
        }
        ("rcp", Type::F64) if ftz => form::<Gross<Rcp>>(level),
        ("rsqrt", Type::F64) if ftz => form::<Gross<Rsqrt>>(level),
        ("rsqrt", Type::F64) => form::<RsqrtDouble>(level),
        _ => return None,
    };
    Some(Form { exponential: opcode == "ex2", ..form })
}

/// An approximate instruction.
trait Approximation {
    type Operand: Value;
    const SOURCES: usize;
    /// Nominal results are computed for the active lanes alone.
    const SLOW: bool;
    /// The nominal result. `b` is `a` again where there is one source.
    fn nominal(a: Self::Operand, b: Self::Operand) -> Self::Operand;
    /// A result that a device may return, given noise in [-1, 1) for each number of the operand.
    fn disturbed(a: Self::Operand, b: Self::Operand, noise: [f64; 2]) -> Self::Operand;
    /// Whether a device may return this result.
    fn allows(a: Self::Operand, b: Self::Operand, result: Self::Operand) -> bool;
}

/// A function of one number.
trait Function {
    const SLOW: bool;
    /// To well above the precision of f32; NaN where the result is.
    fn exact(x: f64) -> f64;
    /// The error allowed at an operand. Not asked where the exact result is 0, infinite or NaN.
    fn bound(x: f64) -> Bound;
}

macro_rules! functions {
    ($($name:ident, slow $slow:literal, |$x:ident| $exact:expr, |$y:ident| $bound:expr;)*) => {$(
        struct $name;
        impl Function for $name {
            const SLOW: bool = $slow;
            #[inline(always)]
            fn exact($x: f64) -> f64 {
                $exact
            }
            fn bound($y: f64) -> Bound {
                $bound
            }
        }
    )*};
}
functions! {
    // Operands are f32 numbers or narrower, so that the cast is exact.
    // Whole operands give exact powers: CUDA's expm1f and double-precision tanh are built on that.
    Ex2, slow false, |x| exp2(x as f32), |x| unless(x == x.round_ties_even(), bounds::EX2_F32);
    Ex2Half, slow false, |x| exp2(x as f32), |x| unless(x == 0.0, bounds::EX2_F16);
    Ex2Brain, slow false, |x| exp2(x as f32), |x| unless(x == 0.0, bounds::EX2_BF16);
    Lg2, slow true, |x| x.log2(), |x| if x > 0.5 && x < 2.0 { bounds::LG2_NEAR_ONE } else { bounds::LG2_ELSEWHERE };
    Sin, slow true, |x| x.sin(), |x| unless(x == 0.0, sin_cos(x));
    Cos, slow true, |x| x.cos(), |x| unless(x == 0.0, sin_cos(x));
    Rcp, slow false, |x| 1.0 / x, |_x| bounds::RCP_F32;
    Sqrt, slow false, |x| x.sqrt(), |_x| bounds::SQRT_F32;
    // 1/sqrt(-0) is -infinity already.
    Rsqrt, slow false, |x| 1.0 / x.sqrt(), |_x| bounds::RSQRT_F32;
    // Subnormal numbers of f32 come back as they are.
    Tanh, slow true, |x| x.tanh(), |x| unless(x.is_infinite() || x.abs() < f64::from(f32::MIN_POSITIVE), bounds::TANH_F32);
    TanhHalf, slow true, |x| x.tanh(), |x| unless(x.is_infinite(), bounds::TANH_F16);
    TanhBrain, slow true, |x| x.tanh(), |x| unless(x.is_infinite(), bounds::TANH_BF16);
}

fn unless(exact: bool, bound: Bound) -> Bound {
    if exact { Bound::None } else { bound }
}

fn sin_cos(x: f64) -> Bound {
    use std::f64::consts::PI;
    match x.abs() {
        near if near <= 2.0 * PI => bounds::SIN_COS_NEAR,
        far if far <= 100.0 * PI => bounds::SIN_COS_FAR,
        _ => bounds::SIN_COS_BEYOND,
    }
}

/// A function of each number of `T`.
struct Unary<T, F, const FTZ: bool>(PhantomData<(T, F)>);

impl<T: Pack, F: Function, const FTZ: bool> Approximation for Unary<T, F, FTZ> {
    type Operand = T;
    const SOURCES: usize = 1;
    const SLOW: bool = F::SLOW;
    #[inline(always)]
    fn nominal(a: T, _b: T) -> T {
        a.map(|a| round::<T::Item>(F::exact(a.flush_if(FTZ).wide()), FTZ))
    }
    fn disturbed(a: T, _b: T, noise: [f64; 2]) -> T {
        let index = Cell::new(0);
        a.map(|a| {
            let noise = noise[index.replace(1)];
            let wide = a.flush_if(FTZ).wide();
            disturb::<T::Item>(F::exact(wide), F::bound(wide), noise, FTZ)
        })
    }
    fn allows(a: T, _b: T, result: T) -> bool {
        let all = Cell::new(true);
        a.map2(result, |a, result| {
            let wide = a.flush_if(FTZ).wide();
            all.set(all.get() && within(F::exact(wide), F::bound(wide), FTZ, result));
            result
        });
        all.get()
    }
}

/// `div.approx` and (`FULL`) `div.full`.
struct Quotient<const FTZ: bool, const FULL: bool>;

impl<const FTZ: bool, const FULL: bool> Quotient<FTZ, FULL> {
    const BOUND: Bound = if FULL { bounds::DIV_FULL } else { bounds::DIV_APPROX };

    /// The quotient; `div.approx` multiplies by a reciprocal that underflows above 2^126.
    #[inline(always)]
    fn exact(a: f32, b: f32) -> f64 {
        let (a, b) = (a.flush_if(FTZ).wide(), b.flush_if(FTZ).wide());
        let size = b.abs();
        let quotient = a / b;
        let underflowed = a * (0.0_f64).copysign(b);
        let beyond = !FULL & (size > f64::from_bits((1023 + 126) << 52)) & (size < f64::INFINITY);
        if beyond { underflowed } else { quotient }
    }
}

impl<const FTZ: bool, const FULL: bool> Approximation for Quotient<FTZ, FULL> {
    type Operand = f32;
    const SOURCES: usize = 2;
    const SLOW: bool = false;
    #[inline(always)]
    fn nominal(a: f32, b: f32) -> f32 {
        round(Self::exact(a, b), FTZ)
    }
    fn disturbed(a: f32, b: f32, noise: [f64; 2]) -> f32 {
        disturb(Self::exact(a, b), Self::BOUND, noise[0], FTZ)
    }
    fn allows(a: f32, b: f32, result: f32) -> bool {
        within(Self::exact(a, b), Self::BOUND, FTZ, result)
    }
}

/// `rcp.approx.ftz.f64`, `rsqrt.approx.ftz.f64`: of the upper 32 bits of the operand, to the upper 32 of the result.
struct Gross<F>(PhantomData<F>);

impl<F: Function> Approximation for Gross<F> {
    type Operand = f64;
    const SOURCES: usize = 1;
    const SLOW: bool = F::SLOW;
    #[inline(always)]
    fn nominal(a: f64, _b: f64) -> f64 {
        // A subnormal operand is a zero whatever its lower bits.
        let exact = F::exact(f64::from_bits(a.flush().to_bits() & !0xFFFF_FFFF));
        let bits = exact.to_bits();
        let rounded = bits.wrapping_add(0x7FFF_FFFF + (bits >> 32 & 1)) & !0xFFFF_FFFF;
        let number = f64::from_bits(rounded).flush();
        // A NaN of the lower bits alone passes for an infinity: the instruction does not see them.
        if Float::is_nan(exact) { f64::from_bits(0x7FFF_FFFF_0000_0000) } else { number }
    }
    fn disturbed(a: f64, b: f64, noise: [f64; 2]) -> f64 {
        stepped(Self::nominal(a, b), noise[0], bounds::GROSS_F64_UNITS, 1 << 32)
    }
    fn allows(a: f64, b: f64, result: f64) -> bool {
        result.to_bits() as u32 == 0 && in_steps(Self::nominal(a, b), bounds::GROSS_F64_UNITS, 1 << 32, result)
    }
}

/// `rsqrt.approx.f64`.
struct RsqrtDouble;

impl Approximation for RsqrtDouble {
    type Operand = f64;
    const SOURCES: usize = 1;
    const SLOW: bool = false;
    #[inline(always)]
    fn nominal(a: f64, _b: f64) -> f64 {
        crate::arith::exact::nan64(1.0 / a.sqrt(), [a])
    }
    fn disturbed(a: f64, b: f64, noise: [f64; 2]) -> f64 {
        stepped(Self::nominal(a, b), noise[0], bounds::RSQRT_F64_ULPS, 1)
    }
    fn allows(a: f64, b: f64, result: f64) -> bool {
        in_steps(Self::nominal(a, b), bounds::RSQRT_F64_ULPS, 1, result)
    }
}

fn unary<T: Pack, F: Function, const FTZ: bool>(level: Level) -> Form {
    form::<Unary<T, F, FTZ>>(level)
}

fn form<A: Approximation>(level: Level) -> Form {
    let exec: Exec = match level {
        Level::Portable => portable::<A>,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => avx2::<A>,
    };
    Form {
        exec,
        dst: A::Operand::TYPE,
        dst2: None,
        src: vec![A::Operand::TYPE; A::SOURCES],
        class: Class::Special,
        flops: 0,
        exponential: false,
        contractable: false,
        allows: Some(allows::<A>),
    }
}

fn allows<A: Approximation>(a: u64, b: u64, result: u64) -> bool {
    let [a, b, result] = [a, b, result].map(A::Operand::from_register);
    A::allows(a, b, result)
}

fn portable<A: Approximation>(registers: &mut Registers, operands: &Operands, mask: u32) {
    each_lane::<A>(registers, operands, mask);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn avx2<A: Approximation>(registers: &mut Registers, operands: &Operands, mask: u32) {
    each_lane::<A>(registers, operands, mask);
}

#[inline(always)]
fn each_lane<A: Approximation>(registers: &mut Registers, operands: &Operands, mask: u32) {
    if registers.noise.is_some() {
        return noisy::<A>(registers, operands, mask);
    }
    let mut out = A::Operand::blank();
    let (a, b) = rows::<A>(registers, operands);
    if A::SLOW {
        for lane in lanes(mask) {
            A::Operand::set(&mut out, lane, A::nominal(A::Operand::get(a, lane), A::Operand::get(b, lane)));
        }
    } else {
        for lane in 0..LANES {
            A::Operand::set(&mut out, lane, A::nominal(A::Operand::get(a, lane), A::Operand::get(b, lane)));
        }
    }
    A::Operand::commit(registers, operands.dst, &out, mask);
}

/// The adversarial results. The state of the noise advances once, whatever the mask.
#[cold]
#[inline(never)]
fn noisy<A: Approximation>(registers: &mut Registers, operands: &Operands, mask: u32) {
    let Some(state) = registers.noise else { return };
    registers.noise = Some(noise::advance(state));
    let mut out = A::Operand::blank();
    let (a, b) = rows::<A>(registers, operands);
    for lane in lanes(mask) {
        let noise = [noise::of_lane(state, lane), noise::of_lane(state, lane + LANES)];
        A::Operand::set(&mut out, lane, A::disturbed(A::Operand::get(a, lane), A::Operand::get(b, lane), noise));
    }
    A::Operand::commit(registers, operands.dst, &out, mask);
}

type Rows<'r, A> =
    (<<A as Approximation>::Operand as Value>::Row<'r>, <<A as Approximation>::Operand as Value>::Row<'r>);

#[inline(always)]
fn rows<'r, A: Approximation>(registers: &'r Registers, operands: &Operands) -> Rows<'r, A> {
    let second = if A::SOURCES == 2 { operands.src[1] } else { operands.src[0] };
    (A::Operand::row(registers, operands.src[0]), A::Operand::row(registers, second))
}

fn lanes(mask: u32) -> impl Iterator<Item = usize> {
    (0..LANES).filter(move |lane| mask >> lane & 1 != 0)
}
