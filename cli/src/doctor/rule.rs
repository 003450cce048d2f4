//! The accuracy rule on a file: on all channels of a small call, else on those that err most.

use super::case::{Case, Part, rounded};
use super::compute::{self, Computed};
use super::errors::{UnitError, dtype};
use super::results::{Axes, Kind};
use crate::error::{CliError, Result};
use crate::memory::Memory;
use crate::run::results::widened;
use ssm_kernels::ops::selective_scan::Dims;
use ssm_kernels::reference::Real;
use ssm_kernels::reference::accuracy::{Loop, Verdict, Yardstick};

/// State steps that the plain loops, eighteen runs of them, go through for each dtype.
const STATE_STEPS: usize = 1 << 22;

/// How a dtype did.
#[derive(Debug)]
pub(super) struct Judged {
    /// Of each result.
    pub verdicts: Vec<Verdict>,
    /// The channels that were judged, as a call of their own.
    pub channels: Vec<usize>,
}

/// Holds the results of the `i`-th dtype to the rule.
pub(super) fn judge(
    case: &Case<'_>,
    computed: &Computed,
    errors: &[Vec<UnitError>],
    threads: Option<u16>,
    memory: &mut Memory,
) -> Result<Judged> {
    let chosen = choose(case, errors);
    let stored = case.part(&chosen)?;
    let naive = Naive { case, part: &rounded(&stored, computed.dtype)? };
    // What could make the loops fail makes the first of them fail, here, where it is an error.
    case.naive::<f64>(naive.part)?;
    // Sums over the chosen channels alone are in no result of the call.
    let apart = case.results.iter().any(Kind::is_shared) && chosen.len() < case.dims.dim;
    let apart = if apart { compute::results(case, &stored, computed.dtype, threads, memory)? } else { vec![] };
    let rows: Vec<usize> = case.results.iter().map(|kind| last(kind, chosen.len())).collect();
    let yardsticks = Yardstick::measure(&naive, &rows);
    let verdicts = yardsticks.iter().enumerate().map(|(which, yardstick)| {
        let kind = &case.results[which];
        let got = match apart.get(which).filter(|_| kind.is_shared()) {
            Some(apart) => apart.iter().map(|&value| value.into()).collect(),
            None => picked(kind, &computed.results[which], &chosen),
        };
        match got.len() == yardstick.truth().len() {
            true => Ok(yardstick.judge(&got, dtype(kind, computed.dtype))),
            false => Err(CliError::new(format!("{} of the loops has another length", kind.name))),
        }
    });
    Ok(Judged { verdicts: verdicts.collect::<Result<_>>()?, channels: chosen })
}

/// The last extent of a result of so many channels.
fn last(kind: &Kind, channels: usize) -> usize {
    if kind.axes == Axes::Vector { channels } else { kind.last }
}

/// The elements of these channels; of sums over channels all.
fn picked(kind: &Kind, result: &[f32], chosen: &[usize]) -> Vec<f64> {
    let units = result.chunks(kind.elements.max(1)).enumerate();
    let of_chosen = |unit: usize| kind.is_shared() || chosen.binary_search(&(unit % kind.units.max(1))).is_ok();
    units.filter(|(unit, _)| of_chosen(*unit)).flat_map(|(_, unit)| unit.iter().map(|&value| value.into())).collect()
}

/// All channels, or those with the largest errors of the kernel, absolute and as a share of the channel's largest |truth|,
/// in ascending order. Something lost counts as the largest error.
fn choose(case: &Case<'_>, errors: &[Vec<UnitError>]) -> Vec<usize> {
    let Dims { batch, dim, seqlen, dstate, .. } = case.dims;
    let steps = batch.saturating_mul(seqlen).saturating_mul(dstate.max(1)).max(1);
    let most = (STATE_STEPS / steps).max(2);
    if dim <= most {
        return (0..dim).collect();
    }
    let of_channels = || case.results.iter().zip(errors).filter(|(kind, _)| !kind.is_shared());
    let error = |channel: &usize, relative: bool| {
        of_channels().fold(0.0, |largest: f64, (_, errors)| {
            let error = &errors[*channel];
            let kernel = if error.lost > 0 { f64::MAX } else { error.kernel };
            largest.max(if relative && error.truth > 0.0 { kernel / error.truth } else { kernel })
        })
    };
    let mut chosen = vec![];
    for relative in [false, true] {
        let mut ranked: Vec<usize> = (0..dim).filter(|channel| !chosen.contains(channel)).collect();
        ranked.sort_by(|a, b| error(b, relative).total_cmp(&error(a, relative)));
        chosen.extend(&ranked[..most / 2]);
    }
    chosen.sort_unstable();
    chosen
}

/// The loops on a part.
struct Naive<'n, 'c> {
    case: &'n Case<'c>,
    part: &'n Part<'n>,
}

impl Loop for Naive<'_, '_> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let results = self.case.naive::<R>(self.part).expect("it has run on the same arguments");
        results.into_iter().map(widened).collect()
    }
}

#[cfg(test)]
mod tests;
