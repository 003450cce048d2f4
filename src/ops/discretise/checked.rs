//! The arguments of one discretisation after all checks, over the whole domain: what backends see.

use super::Rule;
use crate::ops::StepOptions;
use crate::tensor::{Axes, MAX_RANK, Memory, Storage, Strided, StridedMut};

/// An input of a discretisation over its domain.
pub(crate) type Wide<'a, T, S> = Strided<'a, T, S, MAX_RANK>;
/// An output of a discretisation over its domain.
pub(crate) type WideMut<'o, T, S> = StridedMut<'o, T, S, MAX_RANK>;

/// Everything that a backend reads, checked.
pub(crate) struct Inputs<'a, T: 'a, S: Storage> {
    pub rule: Rule,
    pub domain: Axes,
    pub dt: Wide<'a, T, S>,
    pub A: Wide<'a, f32, S>,
    pub B: Wide<'a, T, S>,
    pub dt_bias: Option<Wide<'a, f32, S>>,
    pub lambda: Option<Wide<'a, T, S>>,
    pub step: StepOptions,
}

impl<T, S: Storage> Inputs<'_, T, S> {
    /// The dimensions of the domain by name, for plans.
    pub fn named(&self) -> Vec<(&'static str, usize)> {
        self.domain.as_slice().iter().map(|axis| (axis.name, axis.extent)).collect()
    }

    /// The extents of the domain, padded with ones.
    pub fn extents(&self) -> [usize; MAX_RANK] {
        self.dt.layout.extents
    }

    pub fn memory(&self) -> Memory {
        let mut memory = Memory::default();
        memory.input("dt", &self.dt);
        memory.input("A", &self.A);
        memory.input("B", &self.B);
        self.dt_bias.iter().for_each(|tensor| memory.input("dt_bias", tensor));
        self.lambda.iter().for_each(|tensor| memory.input("lambda", tensor));
        memory
    }
}

/// What the forward direction writes, checked.
pub(crate) struct CheckedOutputs<'o, S: Storage> {
    pub delta: Option<WideMut<'o, f32, S>>,
    pub A_bar: Option<WideMut<'o, f32, S>>,
    pub B_bar: Option<WideMut<'o, f32, S>>,
    pub B_prev_bar: Option<WideMut<'o, f32, S>>,
}

/// What the backward direction reads beside the inputs, checked.
pub(crate) struct CheckedUpstream<'u, S: Storage> {
    pub ddelta: Option<Wide<'u, f32, S>>,
    pub dA_bar: Option<Wide<'u, f32, S>>,
    pub dB_bar: Option<Wide<'u, f32, S>>,
    pub dB_prev_bar: Option<Wide<'u, f32, S>>,
}

/// What the backward direction writes, checked.
pub(crate) struct CheckedGradients<'o, T: 'o, S: Storage> {
    pub ddt: Option<WideMut<'o, T, S>>,
    pub ddt_bias: Option<WideMut<'o, f32, S>>,
    pub dA: Option<WideMut<'o, f32, S>>,
    pub dB: Option<WideMut<'o, T, S>>,
    pub dlambda: Option<WideMut<'o, T, S>>,
}
