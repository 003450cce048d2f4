//! The arguments of one state update after all checks, in canonical order: what backends see.

use super::form::Form;
use super::{Dims, OP};
use crate::error::{Error, Result};
use crate::ops::StepOptions;
use crate::tensor::{Memory, RegionMut, Storage, Strided, StridedMut, View};

/// B or C: (batch, seqlen, ngroups, dstate). `heads` share a group.
pub(crate) struct Grouped<'a, T: 'a, S: Storage> {
    pub tensor: Strided<'a, T, S, 4>,
    pub heads: usize,
}

/// Everything that a backend reads, checked.
pub(crate) struct Inputs<'a, T: 'a, S: Storage> {
    pub dims: Dims,
    pub form: Form,
    /// (batch, seqlen, nheads, headdim), and so dt, z.
    pub x: Strided<'a, T, S, 4>,
    pub dt: Strided<'a, T, S, 4>,
    /// (nheads, headdim, dstate).
    pub A: Strided<'a, f32, S, 3>,
    pub B: Grouped<'a, T, S>,
    pub C: Grouped<'a, T, S>,
    /// (nheads, headdim), and so dt_bias.
    pub D: Option<Strided<'a, f32, S, 2>>,
    pub z: Option<Strided<'a, T, S, 4>>,
    pub dt_bias: Option<Strided<'a, f32, S, 2>>,
    pub step: StepOptions,
    pub state_indices: Option<Strided<'a, i32, S, 1>>,
}

impl<T, S: Storage> Inputs<'_, T, S> {
    /// Whether a head has one decay: A and delta are the same in all of it.
    pub fn one_decay(&self) -> bool {
        let Dims { headdim, dstate, .. } = self.dims;
        let same = |stride: i64, extent: usize| stride == 0 || extent <= 1;
        let bias = self.dt_bias.is_none_or(|bias| same(bias.layout.strides[1], headdim));
        bias && same(self.dt.layout.strides[3], headdim)
            && same(self.A.layout.strides[1], headdim)
            && same(self.A.layout.strides[2], dstate)
    }

    /// The name of the state's first dimension.
    fn rows(&self) -> &'static str {
        if self.state_indices.is_some() { "slots" } else { "batch" }
    }

    /// A state that is only read, of the reference.
    pub fn initial_state<'h, H>(&self, view: View<'h, H, S>) -> Result<Strided<'h, H, S, 4>> {
        let slots = self.slots("state", view.axes())?;
        let state = self.form.states(self.rows(), slots, self.dims.dstate)?.fit("state", view, &[])?;
        self.check_indices(slots)?;
        Ok(state)
    }

    /// Rows of the cache.
    pub(super) fn slots(&self, arg: &'static str, axes: &crate::tensor::Axes) -> Result<usize> {
        match self.state_indices {
            None => Ok(self.dims.batch),
            Some(_) if super::has(axes, "slots") => Ok(super::extent(axes, "slots")),
            Some(_) => super::form::wrong_names(arg, axes, &self.form.names(&["slots"], &["dstate"])),
        }
    }

    pub(super) fn state<'o, H>(
        &self,
        slots: usize,
        view: crate::tensor::ViewMut<'o, H, S>,
    ) -> Result<StridedMut<'o, H, S, 4>> {
        self.form.states(self.rows(), slots, self.dims.dstate)?.fit_mut("state", view)
    }

    /// Indices on the host: below the rows of the cache, and no row twice.
    pub(super) fn check_indices(&self, slots: usize) -> Result<()> {
        let Some(indices) = self.state_indices else { return Ok(()) };
        let Some(memory) = indices.memory.on_host() else { return Ok(()) };
        let indices = Strided { memory, layout: indices.layout };
        let refuse = |got, expected: String| Err(Error::Value { op: OP, arg: "state_indices", got, expected });
        // One index for all rows of a batch, which may be beyond counting, is one for two.
        let batch = if indices.layout.strides[0] == 0 { self.dims.batch.min(2) } else { self.dims.batch };
        let mut rows = Vec::with_capacity(batch);
        for b in 0..batch {
            let index = indices.at([b]);
            match usize::try_from(index) {
                Err(_) => {}
                Ok(row) if row < slots => rows.push((row, b)),
                Ok(_) => {
                    let expected = format!("below {slots}, the rows of the state (negative: padding)");
                    return refuse(format!("{index} in row {b}"), expected);
                }
            }
        }
        rows.sort_unstable();
        match rows.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(&[(row, first), (_, second)]) => {
                let got = format!("{row} in rows {first} and {second}");
                refuse(got, "no row of the state twice (negative: padding)".into())
            }
            _ => Ok(()),
        }
    }

    pub fn memory(&self) -> Memory {
        let mut memory = Memory::default();
        memory.input("x", &self.x);
        memory.input("dt", &self.dt);
        memory.input("A", &self.A);
        memory.input("B", &self.B.tensor);
        memory.input("C", &self.C.tensor);
        self.D.iter().for_each(|tensor| memory.input("D", tensor));
        self.z.iter().for_each(|tensor| memory.input("z", tensor));
        self.dt_bias.iter().for_each(|tensor| memory.input("dt_bias", tensor));
        self.state_indices.iter().for_each(|tensor| memory.input("state_indices", tensor));
        memory
    }
}

impl<T> Inputs<'_, T, crate::tensor::Host> {
    /// The row of the cache that belongs to row `b`; `None` is padding.
    #[inline(always)]
    pub fn row(&self, b: usize) -> Option<usize> {
        match &self.state_indices {
            None => Some(b),
            Some(indices) => usize::try_from(indices.at([b])).ok(),
        }
    }
}

/// Everything that a backend writes, checked.
pub(crate) struct CheckedOutputs<'o, T: 'o, H: 'o, S: Storage> {
    /// (batch, seqlen, nheads, headdim).
    pub out: StridedMut<'o, T, S, 4>,
    /// (slots, nheads, headdim, dstate).
    pub state: StridedMut<'o, H, S, 4>,
    /// (batch times seqlen, nheads, headdim, dstate).
    pub token_states: Option<StridedMut<'o, H, S, 4>>,
    #[cfg_attr(not(any(feature = "cuda", feature = "emulator")), expect(dead_code, reason = "of devices"))]
    pub index_flag: Option<RegionMut<'o, u32, S>>,
}
