//! All that was found out about a call.

use super::case::Case;
use super::errors::{Held, Nonfinite, UnitError, dtype, room};
use super::findings::{Finding, Severity};
use super::growth::Growth;
use super::plans::Plans;
use super::ranges::Range;
use super::rule::Judged;
use super::survey::Survey;
use super::trace::Cause;
use ssm_kernels::Dtype;

/// What text and JSON are made of.
pub(super) struct Report<'r> {
    pub case: &'r Case<'r>,
    pub ranges: Vec<Range>,
    pub dtypes: Vec<Dtype>,
    /// Of each dtype, for each result, for each channel or group.
    pub errors: Vec<Vec<Vec<UnitError>>>,
    /// Of each dtype.
    pub judged: Vec<Judged>,
    /// f64, then each dtype.
    pub sources: Vec<Source>,
    pub survey: Survey,
    pub memory: Memory,
    /// Of the backward direction.
    pub growth: Option<Growth>,
    /// Of each dtype.
    pub plans: Vec<Plans>,
    pub findings: Vec<Finding>,
}

/// What was computed, and what of it is not finite.
#[derive(Debug)]
pub(super) struct Source {
    /// None is f64 on the file's inputs.
    pub dtype: Option<Dtype>,
    pub nonfinite: Nonfinite,
    pub cause: Option<Cause>,
}

impl Source {
    /// The same is not finite, for the same reason.
    pub fn is_like(&self, other: &Self) -> bool {
        self.nonfinite == other.nonfinite && self.cause == other.cause
    }

    pub fn name(&self) -> String {
        self.dtype.map_or("f64".into(), |dtype| dtype.to_string())
    }
}

/// Pairs of channel and state by their mean horizon: steps over -A times the sum of delta, over all sequences.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub pairs: u64,
    /// Beyond the longest sequence.
    pub beyond_sequence: u64,
    pub below_a_step: u64,
    /// Growing on the whole: they have no horizon.
    pub growing: u64,
}

impl Memory {
    /// From the sum of delta of each channel.
    pub fn new(case: &Case<'_>, sums: &[f64]) -> Self {
        let (dims, longest) = (case.dims, case.longest() as f64);
        let steps = (dims.batch * dims.seqlen) as f64;
        let mut memory = Self::default();
        for (channel, sum) in sums.iter().enumerate() {
            for &a in &case.tensors.A.data[channel * dims.dstate..][..dims.dstate] {
                let decayed = -f64::from(a) * sum;
                memory.pairs += 1;
                memory.growing += u64::from(decayed < 0.0);
                memory.beyond_sequence += u64::from(decayed >= 0.0 && steps > longest * decayed);
                memory.below_a_step += u64::from(steps < decayed);
            }
        }
        memory
    }
}

impl Report<'_> {
    /// What the `i`-th dtype holds of a result.
    pub fn held(&self, i: usize, which: usize) -> Held {
        self.errors[i][which].iter().fold(Held::default(), |held, one| held.merge(&one.held))
    }

    /// The power of two by which the upstream gradients may be scaled in the `i`-th dtype: they stay in range too.
    pub fn room(&self, i: usize) -> Option<i32> {
        let of_call = self.dtypes[i];
        let results = self.case.results.iter().enumerate();
        let results = results.filter_map(|(which, kind)| self.held(i, which).room(dtype(kind, of_call)));
        let upstream = [("dout", of_call), ("dfinal_state", Dtype::F32)];
        let upstream = upstream.iter().filter_map(|&(name, dtype)| {
            let [low, high] = self.ranges.iter().find(|range| range.name == name)?.extremes?;
            room(low.abs().max(high.abs()).into(), dtype)
        });
        results.chain(upstream).min()
    }

    /// No error was found.
    pub fn is_healthy(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity != Severity::Error)
    }
}
