//! How much memory an examination takes, before it takes it.

use super::errors::UnitError;
use super::results::Kind;
use super::{channels_at_a_time, threads};
use crate::args::DoctorArgs;
use crate::error::Result;
use crate::memory::{Memory, elements};
use ssm_kernels::ops::selective_scan::Dims;

/// What it depends on.
pub(super) struct Estimate<'e> {
    pub dims: &'e Dims,
    /// Of variable B and C; 0 where it is constant.
    pub groups: [usize; 2],
    pub results: &'e [Kind],
    /// Of inputs that have the dtype of x.
    pub io_elements: usize,
    pub args: &'e DoctorArgs,
}

impl Estimate<'_> {
    /// The widened inputs, one rounded copy of them, the results, and what is kept of each channel; and of the parts that
    /// are examined at a time what they hold.
    pub fn plan(&self, memory: &mut Memory) -> Result<()> {
        let Dims { dim, nseqs, .. } = *self.dims;
        let dtypes = self.args.dtype.len();
        memory.plan(self.io_elements, 2 * size_of::<f32>())?;
        for kind in self.results {
            let elements = elements(kind.name, &[kind.rows, kind.units, kind.elements])?;
            memory.plan(elements, dtypes * size_of::<f32>())?;
            // As backends store it, while it is widened.
            memory.plan(if kind.io { elements } else { 0 }, size_of::<f32>())?;
            memory.plan(if kind.is_shared() { elements } else { 0 }, (dtypes + 1) * size_of::<f64>())?;
            memory.plan(kind.units, dtypes * size_of::<UnitError>())?;
        }
        memory.plan(dim, 256)?;
        // Chunk offsets, in the library and here.
        memory.plan(nseqs.saturating_add(1), 3 * size_of::<usize>())?;
        self.parts(memory)?;
        memory.reserve()
    }

    /// Of each thread's part: its inputs, results and rounded inputs in f64; B and C of its groups, and rounded; backward
    /// gradients, the states of a sequence, and each source's sums over channels, which are kept beside the results.
    fn parts(&self, memory: &mut Memory) -> Result<()> {
        let Dims { batch, dim, seqlen, dstate, nseqs, .. } = *self.dims;
        let channels = channels_at_a_time(self.dims).min(dim);
        // Threads beyond the parts of the call have nothing.
        let parts = threads(self.args.threads).min(dim.div_ceil(channels.max(1)));
        let dtypes = self.args.dtype.len();
        let rows = batch.saturating_mul(seqlen).saturating_add(nseqs.saturating_mul(dstate));
        let of_channels = parts.saturating_mul(channels.saturating_mul(rows));
        memory.plan(of_channels, 8 * size_of::<f64>())?;
        let of_group = parts.saturating_mul(batch.saturating_mul(dstate).saturating_mul(seqlen));
        for groups in self.groups {
            memory.plan(of_group.saturating_mul(self.groups_at_a_time(groups)), 2 * size_of::<f32>())?;
        }
        if self.args.backward {
            memory.plan(of_channels, 8 * size_of::<f64>())?;
            memory.plan(parts.saturating_mul(seqlen.saturating_add(1).saturating_mul(dstate)), size_of::<f64>())?;
            for groups in self.groups {
                memory.plan(of_group.saturating_mul(self.groups_at_a_time(groups)), (dtypes + 3) * size_of::<f64>())?;
            }
        }
        Ok(())
    }

    /// The most that a part has, of so many in the call: one for each of its channels where they are not all of one.
    fn groups_at_a_time(&self, groups: usize) -> usize {
        let (dim, channels) = (self.dims.dim, channels_at_a_time(self.dims));
        match groups {
            groups if dim <= channels => groups,
            0 | 1 => groups,
            groups if (dim / groups).is_multiple_of(channels) => 1,
            _ => channels,
        }
    }
}
