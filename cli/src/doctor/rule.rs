//! The accuracy rule on a file: on all channels of a small call, else on those that err most.

use super::case::{Case, rounded};
use super::errors::{Channel, Computed, RESULTS};
use crate::error::{CliError, Result};
use crate::run::results::widened;
use crate::run::selective_scan::Tensors;
use ssm_kernels::Dtype;
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
pub(super) fn judge(case: &Case<'_>, computed: &Computed, channels: &[Channel], i: usize) -> Result<Judged> {
    let chosen = choose(case, channels, i);
    let part = case.part(&chosen)?;
    let naive = Naive { case, part: &rounded(&part, computed.dtype)? };
    // What could make the loops fail makes the first of them fail, here, where it is an error.
    case.naive::<f64>(naive.part)?;
    let Dims { dim, seqlen, dstate, .. } = case.dims;
    let yardsticks = Yardstick::measure(&naive, &[seqlen, dstate]);
    let verdicts = yardsticks.iter().enumerate().map(|(which, yardstick)| {
        let (extent, dtype) = [(seqlen, computed.dtype), (dstate, Dtype::F32)][which];
        let rows = computed.results[which].chunks(extent.max(1));
        let got: Vec<f64> = rows
            .enumerate()
            .filter(|(row, _)| chosen.binary_search(&(row % dim)).is_ok())
            .flat_map(|(_, row)| row.iter().map(|&value| value.into()))
            .collect();
        match got.len() == yardstick.truth().len() {
            true => Ok(yardstick.judge(&got, dtype)),
            false => Err(CliError::new(format!("{} of the loops has another length", RESULTS[which]))),
        }
    });
    Ok(Judged { verdicts: verdicts.collect::<Result<_>>()?, channels: chosen })
}

/// All channels, or those with the largest errors of the kernel, absolute and as a share of the channel's largest |truth|,
/// in ascending order. Something lost counts as the largest error.
fn choose(case: &Case<'_>, channels: &[Channel], i: usize) -> Vec<usize> {
    let Dims { batch, seqlen, dstate, .. } = case.dims;
    let steps = batch.saturating_mul(seqlen).saturating_mul(dstate.max(1)).max(1);
    let most = (STATE_STEPS / steps).max(2);
    if channels.len() <= most {
        return (0..channels.len()).collect();
    }
    let error = |channel: &usize, relative: bool| {
        channels[*channel].errors[i].iter().fold(0.0, |largest: f64, error| {
            let kernel = if error.lost > 0 { f64::MAX } else { error.kernel };
            largest.max(if relative && error.truth > 0.0 { kernel / error.truth } else { kernel })
        })
    };
    let mut chosen = vec![];
    for relative in [false, true] {
        let mut ranked: Vec<usize> = (0..channels.len()).filter(|channel| !chosen.contains(channel)).collect();
        ranked.sort_by(|a, b| error(b, relative).total_cmp(&error(a, relative)));
        chosen.extend(&ranked[..most / 2]);
    }
    chosen.sort_unstable();
    chosen
}

/// The loops on a part.
struct Naive<'n, 'c> {
    case: &'n Case<'c>,
    part: &'n Tensors<'n, f32>,
}

impl Loop for Naive<'_, '_> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let forward = self.case.naive::<R>(self.part).expect("it has run on the same arguments");
        vec![widened(forward.out), widened(forward.final_state)]
    }
}
