//! Lane loops: one function per operation and processor level.

use super::{Class, Form};
use crate::registers::{Exec, LANES, Operands, Registers, Value};
use crate::types::Type;

/// What the processor can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Portable,
    /// AVX2, FMA, F16C and the bit instructions that come with them.
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

impl Level {
    /// The best that this processor has.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let vectors = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let halves = vectors && is_x86_feature_detected!("f16c") && is_x86_feature_detected!("popcnt");
            let bits = is_x86_feature_detected!("bmi1") && is_x86_feature_detected!("bmi2");
            if halves && bits && is_x86_feature_detected!("lzcnt") {
                return Self::Avx2;
            }
        }
        Self::Portable
    }
}

/// An operation on lanes: `SOURCES` operands to one result.
pub(crate) trait Operation {
    type Result: Value;
    fn sources() -> Vec<Type>;
    /// `SLOW` operations run for the lanes of the mask alone.
    const SLOW: bool;
    fn lane(registers: &Registers, operands: &Operands, lane: usize) -> Self::Result;
}

#[inline(always)]
fn each_lane<O: Operation>(registers: &mut Registers, operands: &Operands, mask: u32) {
    let mut out = O::Result::blank();
    if O::SLOW {
        let mut left = mask;
        while left != 0 {
            let lane = left.trailing_zeros() as usize;
            left &= left - 1;
            O::Result::set(&mut out, lane, O::lane(registers, operands, lane));
        }
    } else {
        for lane in 0..LANES {
            O::Result::set(&mut out, lane, O::lane(registers, operands, lane));
        }
    }
    O::Result::commit(registers, operands.dst, &out, mask);
}

fn portable<O: Operation>(registers: &mut Registers, operands: &Operands, mask: u32) {
    each_lane::<O>(registers, operands, mask);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn avx2<O: Operation>(registers: &mut Registers, operands: &Operands, mask: u32) {
    each_lane::<O>(registers, operands, mask);
}

/// The function of an operation at a level.
pub(crate) fn exec<O: Operation>(level: Level) -> Exec {
    match level {
        Level::Portable => portable::<O>,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => avx2::<O>,
    }
}

/// A form of an operation, without floating-point operations to count.
pub(crate) fn form<O: Operation>(level: Level, class: Class) -> Form {
    form_of::<O>(exec::<O>(level), class)
}

/// A form of a `SLOW` operation: the same code at every level, which halves what there is to compile.
pub(crate) fn slow_form<O: Operation>(_level: Level, class: Class) -> Form {
    form_of::<O>(portable::<O>, class)
}

fn form_of<O: Operation>(exec: Exec, class: Class) -> Form {
    Form {
        exec,
        dst: O::Result::TYPE,
        dst2: None,
        src: O::sources(),
        class,
        flops: 0,
        exponential: false,
        contractable: false,
        allows: None,
    }
}

/// A form from a closure-like text: `form!(level, Class::Integer, |a: u32, b: u32| -> u32 { a.wrapping_add(b) })`;
/// `slow` before the bars runs active lanes only.
macro_rules! form {
    ($level:expr, $class:expr, slow |$($name:ident: $type:ty),+| -> $result:ty $body:block) => {
        form!(@ slow_form, $level, $class, true, |$($name: $type),+| -> $result $body)
    };
    ($level:expr, $class:expr, |$($name:ident: $type:ty),+| -> $result:ty $body:block) => {
        form!(@ form, $level, $class, false, |$($name: $type),+| -> $result $body)
    };
    (
        @ $function:ident, $level:expr, $class:expr, $slow:literal, |$($name:ident: $type:ty),+| -> $result:ty $body:block
    ) => {{
        struct Local;
        impl $crate::forms::execute::Operation for Local {
            type Result = $result;
            const SLOW: bool = $slow;
            fn sources() -> Vec<$crate::types::Type> {
                vec![$(<$type as $crate::registers::Value>::TYPE),+]
            }
            #[inline(always)]
            #[allow(unused_assignments, unused_mut)]
            fn lane(
                registers: &$crate::registers::Registers,
                operands: &$crate::registers::Operands,
                lane: usize,
            ) -> $result {
                let mut i = 0;
                $(
                    let $name = <$type as $crate::registers::Value>::get(
                        <$type as $crate::registers::Value>::row(registers, operands.src[i]), lane);
                    i += 1;
                )+
                $body
            }
        }
        $crate::forms::execute::$function::<Local>($level, $class)
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_computes_the_lanes_of_its_mask_and_no_other() {
        for level in [Level::Portable, Level::detect()] {
            let form = form!(level, Class::Integer, |a: u32, b: u32| -> u32 { a.wrapping_add(b) });
            let mut registers = Registers::new(3, 0, 0);
            registers.words[1].0 = std::array::from_fn(|lane| lane as u32);
            registers.words[2].0 = [7; LANES];
            let operands = Operands { dst: 0, src: [1, 2, 0, 0], ..Default::default() };
            // SAFETY: the level is one that this processor has.
            unsafe { (form.exec)(&mut registers, &operands, 0x8000_0002) };
            let expected = std::array::from_fn(|lane| if lane == 1 || lane == 31 { lane as u32 + 7 } else { 0 });
            assert_eq!(registers.words[0].0, expected);
            // SAFETY: as above.
            unsafe { (form.exec)(&mut registers, &operands, u32::MAX) };
            assert_eq!(registers.words[0].0, std::array::from_fn(|lane| lane as u32 + 7));
        }
    }
}
