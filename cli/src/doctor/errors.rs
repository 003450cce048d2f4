//! What the cpu backend makes of the inputs in each dtype, beside f64.

use super::case::{Case, Place, Seen, differ, rounded};
use super::plans::{self, Plans};
use crate::error::Result;
use crate::memory::{Memory, filled};
use crate::run::selective_scan::{Options, Tensors};
use crate::tensor::Io;
use ssm_kernels::Dtype;
use ssm_kernels::ops::selective_scan::Dims;
use ssm_kernels::prelude::*;
use ssm_kernels::reference::selective_scan as naive;

/// The results, in this order everywhere.
pub(super) const RESULTS: [&str; 2] = ["out", "final_state"];

/// Results of the cpu backend, widened: out, final_state. And how backends would have run.
pub(super) struct Computed {
    pub dtype: Dtype,
    pub results: [Vec<f32>; 2],
    pub plans: Plans,
}

/// Runs the cpu backend on the inputs rounded to `T`.
pub(super) fn compute<T: Io>(case: &Case<'_>, threads: Option<u16>, memory: &mut Memory) -> Result<Computed> {
    let tensors = case.tensors.converted::<T>()?;
    let backend = if threads == Some(1) { Cpu::single_thread() } else { Cpu::new() };
    let (out, final_state) = forward(&backend, &tensors, case.options, case.dims, memory)?;
    let out = out.into_iter().map(T::to_f32).collect();
    Ok(Computed { dtype: T::DTYPE, results: [out, final_state], plans: plans::of(case, &tensors)? })
}

fn forward<T: Io>(
    backend: &Cpu,
    tensors: &Tensors<'_, T>,
    options: &Options,
    dims: Dims,
    memory: &mut Memory,
) -> Result<(Vec<T>, Vec<f32>)> {
    let Dims { batch, dim, seqlen, dstate, nseqs, .. } = dims;
    let scan = tensors.scan(options)?;
    let plan = backend.forward_plan(&scan)?;
    memory.plan(plan.workspace_bytes, 1)?;
    memory.reserve()?;
    let mut out = filled(batch * dim * seqlen, T::from_f32(f32::NAN))?;
    let mut final_state = filled(nseqs * dim * dstate, f32::NAN)?;
    let mut out_view = ViewMut::new(&mut out, [("batch", batch), ("dim", dim), ("seqlen", seqlen)]);
    let mut state_view = ViewMut::new(&mut final_state, [("batch", nseqs), ("dim", dim), ("dstate", dstate)]);
    let outputs = SelectiveScanOutputs::new(&mut out_view).final_state(&mut state_view);
    backend.forward_with(&scan, outputs, &plan, (&mut plan.allocate()?).into())?;
    Ok((out, final_state))
}

/// The errors of one result of one channel, over all sequences.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ChannelError {
    /// Largest distance from f64 on the file's inputs, and where: batch and time, or sequence and state.
    pub error: f64,
    pub at: Option<[usize; 2]>,
    /// Largest distance of f64 on the rounded inputs from f64 on the file's: what rounding of the inputs does.
    pub inputs: f64,
    /// Largest distance from f64 on the rounded inputs: what the backend does, rounding of out included.
    pub kernel: f64,
    /// Largest |f64 on the file's inputs| where the result is finite.
    pub truth: f64,
    /// Not finite where f64 on the file's inputs is.
    pub lost: u64,
}

impl ChannelError {
    /// The largest error as a share of the largest |truth|.
    pub fn share(&self) -> f64 {
        if self.error == 0.0 { 0.0 } else { self.error / self.truth }
    }

    fn take(&mut self, at: [usize; 2], got: f64, truth: f64, own: f64) {
        let finite = |value: f64| if value.is_finite() { value } else { 0.0 };
        if got.is_finite() {
            self.truth = self.truth.max(finite(truth.abs()));
        }
        self.inputs = self.inputs.max(finite((own - truth).abs()));
        self.kernel = self.kernel.max(finite((got - own).abs()));
        let error = finite((got - truth).abs());
        if error > self.error || self.at.is_none() {
            (self.error, self.at) = (error, Some(at));
        }
        self.lost += u64::from(truth.is_finite() && !got.is_finite());
    }
}

/// What is not finite in a source: out by place; states, by the last place of their sequence, where out is finite.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Nonfinite {
    pub out: Seen,
    pub channels: u64,
    pub final_state: u64,
    /// Sequence, channel and state.
    pub first_state: Option<[usize; 3]>,
}

impl Nonfinite {
    pub fn merge(&mut self, other: &Self) {
        self.out.merge(&other.out);
        self.channels += other.channels;
        self.final_state += other.final_state;
        self.first_state = self.first_state.into_iter().chain(other.first_state).min();
    }

    pub fn is_none(&self) -> bool {
        self.out.count == 0 && self.final_state == 0
    }
}

/// A channel in all dtypes.
#[derive(Debug, Clone, Default)]
pub(super) struct Channel {
    /// Of f64 on the file's inputs, then of each dtype.
    pub nonfinite: Vec<Nonfinite>,
    /// Of each dtype, for each result.
    pub errors: Vec<[ChannelError; 2]>,
}

/// Compares the channels of `part`.
pub(super) fn compare(
    case: &Case<'_>,
    part: &Tensors<'_, f32>,
    channels: &[usize],
    computed: &[Computed],
) -> Result<Vec<Channel>> {
    let truth = Dense::new(case.naive::<f64>(part)?);
    let mut all: Vec<Channel> = channels
        .iter()
        .enumerate()
        .map(|(c, &channel)| Channel {
            nonfinite: vec![nonfinite(case, channel, |which, row, i| truth.at(case, channels.len(), c, which, row, i))],
            errors: vec![],
        })
        .collect();
    for Computed { dtype, results, .. } in computed {
        let rounded = rounded(part, *dtype)?;
        let own = differ(part, &rounded).then(|| case.naive::<f64>(&rounded)).transpose()?.map(Dense::new);
        let own = own.as_ref().unwrap_or(&truth);
        for (c, &channel) in channels.iter().enumerate() {
            let at = |dense: &Dense, which, row, i| dense.at(case, channels.len(), c, which, row, i);
            let got = |which: usize, row: usize, i: usize| {
                f64::from(results[which][(row * case.dims.dim + channel) * extent(case, which) + i])
            };
            let mut errors = [ChannelError::default(); 2];
            each(case, |which, row, i| {
                errors[which].take([row, i], got(which, row, i), at(&truth, which, row, i), at(own, which, row, i));
            });
            all[c].nonfinite.push(nonfinite(case, channel, got));
            all[c].errors.push(errors);
        }
    }
    Ok(all)
}

/// The results of the naive recurrence on a part.
struct Dense([Vec<f64>; 2]);

impl Dense {
    fn new(forward: naive::Forward<f64>) -> Self {
        Self([forward.out, forward.final_state])
    }

    /// An element of channel `c` of `channels`.
    fn at(&self, case: &Case<'_>, channels: usize, c: usize, which: usize, row: usize, i: usize) -> f64 {
        self.0[which][(row * channels + c) * extent(case, which) + i]
    }
}

/// The last extent of a result.
fn extent(case: &Case<'_>, which: usize) -> usize {
    [case.dims.seqlen, case.dims.dstate][which]
}

/// Every element of a channel: result, batch or sequence, time or state.
fn each(case: &Case<'_>, mut visit: impl FnMut(usize, usize, usize)) {
    for (which, rows) in [case.dims.batch, case.dims.nseqs].into_iter().enumerate() {
        // Without elements there may be rows beyond counting.
        let extent = extent(case, which);
        for row in 0..if extent == 0 { 0 } else { rows } {
            (0..extent).for_each(|i| visit(which, row, i));
        }
    }
}

fn nonfinite(case: &Case<'_>, channel: usize, value: impl Fn(usize, usize, usize) -> f64) -> Nonfinite {
    let mut found = Nonfinite::default();
    each(case, |which, row, i| {
        if value(which, row, i).is_finite() {
            return;
        }
        if which == 0 {
            found.out.add(1, || case.place(row, channel, i));
        } else {
            found.final_state += 1;
            found.first_state = found.first_state.or(Some([row, channel, i]));
        }
    });
    found.channels = u64::from(!found.is_none());
    found
}

/// Where the search for the cause begins: the first place of out, or the first state.
pub(super) fn start(found: &Nonfinite) -> Option<(usize, usize, Option<Place>)> {
    match (found.out.first, found.first_state) {
        (Some(place), _) => Some((place.seq, place.channel, Some(place))),
        (None, Some([seq, channel, _])) => Some((seq, channel, None)),
        (None, None) => None,
    }
}
