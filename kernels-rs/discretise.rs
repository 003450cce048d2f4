//! Discretise, forward and backward: one thread per element of the domain. Equation, shapes and options:
//! src/ops/discretise.

#[path = "discretise_formulas.rs"]
mod formulas;

use crate::load_store::{BF16, F16, F32, Io};
use crate::math;
use crate::params::{SsmDiscretise, SsmWide};
use crate::wide::{Index, each};
use formulas::{Point, Powers};

/// Powers when they are asked for.
#[derive(Clone, Copy)]
struct Computed;

impl Powers for Computed {
    #[inline(always)]
    fn exp(self, w: f32) -> f32 {
        math::exp(w)
    }

    #[inline(always)]
    fn exp_m1(self, w: f32) -> f32 {
        math::exp_m1(w)
    }
}

/// The values of `SsmDiscretise::rule`.
#[derive(Clone, Copy)]
enum Rule {
    Euler,
    ExpEuler,
    Zoh,
    Bilinear,
    ExpTrapezoidal,
}

impl Rule {
    #[inline(always)]
    fn new(value: u32) -> Self {
        match value {
            crate::params::SSM_RULE_EULER => Rule::Euler,
            crate::params::SSM_RULE_EXP_EULER => Rule::ExpEuler,
            crate::params::SSM_RULE_ZOH => Rule::Zoh,
            crate::params::SSM_RULE_BILINEAR => Rule::Bilinear,
            _ => Rule::ExpTrapezoidal,
        }
    }
}

impl SsmDiscretise {
    /// # Safety
    /// `index` is an index of the domain.
    #[inline(always)]
    unsafe fn point<T: Io>(&self, index: Index) -> Point<Computed> {
        // SAFETY: the caller's.
        let (dt, bias, A, B, lambda) = unsafe {
            let (dt, bias) = (self.dt.load::<T>(index), self.dt_bias.load::<F32>(index));
            (dt, bias, self.A.load::<F32>(index), self.B.load::<T>(index), self.lambda.load::<T>(index))
        };
        let step = self.step.delta(dt.unwrap_or(0.0) + bias.unwrap_or(0.0)).into();
        let inputs = [A, B, lambda].map(|input| input.unwrap_or(0.0));
        Point::new(Rule::new(self.rule), Computed, step, inputs)
    }
}

#[cfg(ssm_unit = "discretise_fwd")]
mod fwd {
    use super::*;
    use crate::params::SsmDiscretiseFwd;

    #[inline(always)]
    fn forward<T: Io>(params: &SsmDiscretiseFwd) {
        each(params.inputs.extents, |index| {
            // SAFETY: `each` gives every index of the domain to one thread.
            unsafe {
                let point = params.inputs.point::<T>(index);
                params.delta.store::<F32>(index, || point.delta);
                params.A_bar.store::<F32>(index, || point.A_bar());
                params.B_bar.store::<F32>(index, || point.B_bar());
                params.B_prev_bar.store::<F32>(index, || point.B_prev_bar());
            }
        });
    }

    macro_rules! entry {
        ($dtype:literal, $name:ident, $io:ty) => {
            #[cfg(ssm_dtype = $dtype)]
            #[unsafe(no_mangle)]
            unsafe extern "ptx-kernel" fn $name(params: SsmDiscretiseFwd) {
                forward::<$io>(&params);
            }
        };
    }
    entry!("f32", discretise_fwd_f32, F32);
    entry!("f16", discretise_fwd_f16, F16);
    entry!("bf16", discretise_fwd_bf16, BF16);
}

#[cfg(ssm_unit = "discretise_bwd")]
mod bwd {
    use super::formulas::{By, Gradient};
    use super::*;
    use crate::params::SsmDiscretiseBwd;

    /// # Safety
    /// `index` is an index of the domain.
    #[inline(always)]
    unsafe fn gradient(wide: &SsmWide, index: Index) -> Gradient {
        // SAFETY: the caller's.
        let value = unsafe { wide.load::<F32>(index) };
        Gradient { given: wide.address != 0, value: value.unwrap_or(0.0) }
    }

    #[inline(always)]
    fn backward<T: Io>(params: &SsmDiscretiseBwd) {
        each(params.inputs.extents, |index| {
            // SAFETY: `each` gives every index of the domain to one thread.
            unsafe {
                let point = params.inputs.point::<T>(index);
                let by = By {
                    ddelta: gradient(&params.ddelta, index),
                    dA_bar: gradient(&params.dA_bar, index),
                    dB_bar: gradient(&params.dB_bar, index),
                    dB_prev_bar: gradient(&params.dB_prev_bar, index),
                };
                if params.ddt.address != 0 || params.ddt_bias.address != 0 {
                    let ddt = point.slope * point.ddelta(by);
                    params.ddt.store::<T>(index, || ddt);
                    params.ddt_bias.store::<F32>(index, || ddt);
                }
                params.dA.store::<F32>(index, || point.dA(by));
                params.dB.store::<T>(index, || point.dB(by));
                params.dlambda.store::<T>(index, || point.dlambda(by));
            }
        });
    }

    macro_rules! entry {
        ($dtype:literal, $name:ident, $io:ty) => {
            #[cfg(ssm_dtype = $dtype)]
            #[unsafe(no_mangle)]
            unsafe extern "ptx-kernel" fn $name(params: SsmDiscretiseBwd) {
                backward::<$io>(&params);
            }
        };
    }
    entry!("f32", discretise_bwd_f32, F32);
    entry!("f16", discretise_bwd_f16, F16);
    entry!("bf16", discretise_bwd_bf16, BF16);
}
