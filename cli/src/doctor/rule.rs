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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::errors::{self, ChannelError, Nonfinite};
    use crate::memory::Memory;
    use crate::run::selective_scan::{Options, Projected, Shaped};

    fn shaped<const R: usize>(extents: [usize; R], low: f32, high: f32) -> Shaped<'static, f32, R> {
        let value = |i: usize| low + (high - low) * ((i * 37 % 101) as f32 / 100.0);
        Shaped { extents, data: (0..extents.iter().product()).map(value).collect() }
    }

    fn tensors(dim: usize, seqlen: usize) -> Tensors<'static, f32> {
        Tensors {
            layout: Default::default(),
            x: shaped([2, dim, seqlen], -1.0, 1.0),
            dt: shaped([2, dim, seqlen], 0.0, 1.0),
            A: shaped([dim, 3], -2.0, -0.1),
            B: Projected::Variable(shaped([2, 1, 3, seqlen], -1.0, 1.0)),
            C: Projected::Constant(shaped([dim, 3], -1.0, 1.0)),
            D: None,
            z: None,
            dt_bias: None,
            initial_state: None,
            segments: None,
        }
    }

    #[test]
    fn a_wrong_element_of_any_channel_breaks_the_rule() {
        let (tensors, options) = (tensors(4, 10), Options::default());
        let dims = tensors.scan(&options).unwrap().dims().unwrap();
        let case = Case { tensors: &tensors, options: &options, dtype: Dtype::F32, dims };
        let all: Vec<usize> = (0..4).collect();
        for (which, index) in [(0, 37), (1, 20)] {
            let mut computed = errors::compute::<f32>(&case, Some(1), &mut Memory::new(64)).unwrap();
            for wrong in [0.0, 0.01] {
                computed.results[which][index] += wrong;
                let channels = errors::compare(&case, &tensors, &all, std::slice::from_ref(&computed)).unwrap();
                let judged = judge(&case, &computed, &channels, 0).unwrap();
                let broken: Vec<usize> = (0..2).filter(|&i| judged.verdicts[i].failure.is_some()).collect();
                assert_eq!(broken, if wrong == 0.0 { vec![] } else { vec![which] });
                assert_eq!(judged.channels, all);
            }
        }
    }

    #[test]
    fn of_a_large_call_the_worst_channels_are_judged() {
        let (tensors, options) = (tensors(9, 2), Options::default());
        let dims = Dims { batch: 64, dim: 9, seqlen: 1 << 13, dstate: 3, nseqs: 64 };
        let case = Case { tensors: &tensors, options: &options, dtype: Dtype::F32, dims };
        let channel = |kernel: f64, truth: f64, lost: u64| Channel {
            nonfinite: vec![Nonfinite::default()],
            errors: vec![[ChannelError { kernel, truth, lost, ..ChannelError::default() }, ChannelError::default()]],
        };
        let mut channels = vec![channel(1e-6, 1.0, 0); 9];
        (channels[7], channels[2]) = (channel(1e-3, 1e6, 0), channel(1e-5, 1e-2, 0));
        assert_eq!(choose(&case, &channels, 0), [2, 7], "two, by the error and by its share");
        channels[5] = channel(0.0, 1.0, 3);
        assert!(choose(&case, &channels, 0).contains(&5), "something lost is worse");
    }
}
