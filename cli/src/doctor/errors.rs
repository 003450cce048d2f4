//! What the cpu backend makes of the inputs in each dtype, beside f64.

use super::case::{Case, Part, differ, round, rounded};
use super::compute::Computed;
use super::ranges::smallest_normal;
use super::results::{Kind, Spot};
use crate::error::Result;
use crate::memory::filled;
use ssm_kernels::Dtype;

/// The errors of one result of one channel, over all sequences, or of one group.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct UnitError {
    /// Largest distance from f64 on the file's inputs, and where: row and element.
    pub error: f64,
    pub at: Option<[usize; 2]>,
    /// Largest distance of f64 on the rounded inputs from f64 on the file's: what rounding of the inputs does. Not of what
    /// is lost because the dtype cannot hold the truth.
    pub inputs: f64,
    /// Largest |f64 on the file's inputs| of the elements that count there.
    pub scale: f64,
    /// Largest distance from f64 on the rounded inputs: what the backend does, rounding of the result included.
    pub kernel: f64,
    /// Largest |f64 on the file's inputs| where the result is finite.
    pub truth: f64,
    /// Not finite where f64 on the file's inputs is.
    pub lost: u64,
    pub held: Held,
}

/// What of a result its dtype can hold: counts of elements that are finite in f64 on the file's inputs, and not 0.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Held {
    pub all: u64,
    /// The result is 0.
    pub zero: u64,
    /// The result is subnormal.
    pub subnormal: u64,
    /// Beyond the largest number.
    pub beyond: u64,
    /// The largest |f64|.
    pub largest: f64,
}

/// Whether a dtype cannot hold it.
fn beyond(value: f64, dtype: Dtype) -> bool {
    !round(value as f32, dtype).is_finite()
}

impl Held {
    fn take(&mut self, got: f64, truth: f64, dtype: Dtype) {
        if !truth.is_finite() || truth == 0.0 {
            return;
        }
        self.all += 1;
        self.zero += u64::from(got == 0.0);
        self.subnormal += u64::from(got != 0.0 && got.abs() < smallest_normal(dtype).into());
        self.beyond += u64::from(beyond(truth, dtype));
        self.largest = self.largest.max(truth.abs());
    }

    pub fn merge(mut self, other: &Self) -> Self {
        self.all += other.all;
        self.zero += other.zero;
        self.subnormal += other.subnormal;
        self.beyond += other.beyond;
        self.largest = self.largest.max(other.largest);
        self
    }

    /// The largest power of two that all may be multiplied by and stay in the range; none if there is nothing.
    pub fn room(&self, dtype: Dtype) -> Option<i32> {
        room(self.largest, dtype)
    }
}

/// The largest power of two that `largest` may be multiplied by and stay in the range; none if it is 0.
pub(super) fn room(largest: f64, dtype: Dtype) -> Option<i32> {
    let most = match dtype {
        Dtype::F16 => half::f16::MAX.to_f64(),
        Dtype::BF16 => half::bf16::MAX.to_f64(),
        _ => f32::MAX.into(),
    };
    (largest > 0.0).then(|| (most / largest).log2().floor() as i32)
}

impl UnitError {
    /// The largest error as a share of the largest |truth|.
    pub fn share(&self) -> f64 {
        if self.error == 0.0 { 0.0 } else { self.error / self.truth }
    }

    fn take(&mut self, at: [usize; 2], [got, truth, own]: [f64; 3], dtype: Dtype) {
        let finite = |value: f64| if value.is_finite() { value } else { 0.0 };
        if got.is_finite() {
            self.truth = self.truth.max(finite(truth.abs()));
        }
        if (own - truth).is_finite() && (got.is_finite() || !beyond(truth, dtype)) {
            self.inputs = self.inputs.max((own - truth).abs());
            self.scale = self.scale.max(truth.abs());
        }
        self.kernel = self.kernel.max(finite((got - own).abs()));
        let error = finite((got - truth).abs());
        if error > self.error || self.at.is_none() {
            (self.error, self.at) = (error, Some(at));
        }
        self.lost += u64::from(truth.is_finite() && !got.is_finite());
        self.held.take(got, truth, dtype);
    }
}

/// What is not finite in one result.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lost {
    pub count: u64,
    pub first: Option<Spot>,
    /// f64 on the inputs of the source, there.
    pub own: f64,
}

impl Lost {
    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        if let Some(first) = other.first
            && self.first.is_none_or(|own| first < own)
        {
            (self.first, self.own) = (other.first, other.own);
        }
    }
}

impl PartialEq for Lost {
    fn eq(&self, other: &Self) -> bool {
        (self.count, self.first) == (other.count, other.first)
    }
}

/// What is not finite in a source.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Nonfinite {
    /// Of each result.
    pub lost: Vec<Lost>,
    /// Channels that something is not finite in, sums over channels apart.
    pub channels: u64,
}

impl Nonfinite {
    pub fn merge(&mut self, other: &Self) {
        self.channels += other.channels;
        self.lost.resize(self.lost.len().max(other.lost.len()), Lost::default());
        self.lost.iter_mut().zip(&other.lost).for_each(|(to, from)| to.merge(from));
    }

    /// Which result is not finite first, and where; of what has times if there is such a one.
    pub fn first(&self, results: &[Kind]) -> Option<(usize, Spot)> {
        let all = || self.lost.iter().enumerate().filter_map(|(which, lost)| Some((which, lost.first?)));
        let timed = all().filter(|(which, spot)| results[*which].time(spot.element).is_some());
        // What names a channel before what names a group.
        let key =
            |(which, spot): &(usize, Spot)| (spot.order, spot.seq, results[*which].is_shared(), spot.unit, *which);
        timed.min_by_key(key).or_else(|| all().next())
    }
}

/// What came of the comparison.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// Of f64 on the file's inputs, then of each dtype.
    pub nonfinite: Vec<Nonfinite>,
    /// Of each dtype, for each result, for each channel or group.
    pub errors: Vec<Vec<Vec<UnitError>>>,
    /// Of each source, for each result: the sums over the channels of each group.
    sums: Vec<Vec<Vec<f64>>>,
}

impl Compared {
    /// Nothing yet.
    pub fn new(case: &Case<'_>, dtypes: usize) -> Result<Self> {
        let sum = |kind: &Kind| {
            let units = if kind.is_shared() && kind.elements > 0 { kind.units } else { 0 };
            filled(kind.rows * units * kind.elements, 0.0)
        };
        let sums = |_| case.results.iter().map(sum).collect::<Result<Vec<_>>>();
        let none = Nonfinite { lost: vec![Lost::default(); case.results.len()], channels: 0 };
        Ok(Self {
            nonfinite: vec![none; dtypes + 1],
            errors: vec![vec![vec![]; case.results.len()]; dtypes],
            sums: (0..=dtypes).map(sums).collect::<Result<_>>()?,
        })
    }

    /// Takes in what came of the next channels.
    pub fn merge(&mut self, case: &Case<'_>, channels: &[usize], part: Self) {
        self.nonfinite.iter_mut().zip(&part.nonfinite).for_each(|(to, from)| to.merge(from));
        for (to, from) in self.errors.iter_mut().zip(part.errors) {
            to.iter_mut().zip(from).for_each(|(to, from)| to.extend(from));
        }
        for (to, from) in self.sums.iter_mut().zip(&part.sums) {
            for (which, kind) in case.results.iter().enumerate().filter(|(_, kind)| kind.is_shared()) {
                add(kind, &case.groups(kind, channels), &mut to[which], &from[which]);
            }
        }
    }

    /// Compares the sums over channels, once all channels are taken in.
    pub fn finish(&mut self, case: &Case<'_>, computed: &[Computed]) {
        for (which, kind) in case.results.iter().enumerate().filter(|(_, kind)| kind.is_shared()) {
            for unit in 0..kind.units {
                let at =
                    |source: usize, row, element| self.sums[source][which][kind.index(kind.units, unit, row, element)];
                let truth = |row, element| at(0, row, element);
                self.nonfinite[0].lost[which].merge(&lost(case, kind, unit, truth, truth));
                for (i, one) in computed.iter().enumerate() {
                    let got = |row, element| one.element(kind, which, unit, row, element);
                    let own = |row, element| at(i + 1, row, element);
                    self.nonfinite[i + 1].lost[which].merge(&lost(case, kind, unit, got, own));
                    let error = unit_error(kind, dtype(kind, one.dtype), got, truth, own);
                    self.errors[i][which].push(error);
                }
            }
        }
        self.sums = vec![];
    }
}

/// The dtype of a result in a call of this dtype.
pub(super) fn dtype(kind: &Kind, dtype: Dtype) -> Dtype {
    if kind.io { dtype } else { Dtype::F32 }
}

fn add(kind: &Kind, groups: &[usize], to: &mut [f64], from: &[f64]) {
    for row in 0..if kind.elements == 0 { 0 } else { kind.rows } {
        for (g, &group) in groups.iter().enumerate() {
            let to = &mut to[kind.index(kind.units, group, row, 0)..][..kind.elements];
            let from = &from[kind.index(groups.len(), g, row, 0)..][..kind.elements];
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        }
    }
}

impl Computed {
    fn element(&self, kind: &Kind, which: usize, unit: usize, row: usize, element: usize) -> f64 {
        self.results[which][kind.index(kind.units, unit, row, element)].into()
    }
}

fn unit_error(
    kind: &Kind,
    dtype: Dtype,
    got: impl Fn(usize, usize) -> f64,
    truth: impl Fn(usize, usize) -> f64,
    own: impl Fn(usize, usize) -> f64,
) -> UnitError {
    let mut error = UnitError::default();
    kind.each(|row, i| error.take([row, i], [got(row, i), truth(row, i), own(row, i)], dtype));
    error
}

fn lost(
    case: &Case<'_>,
    kind: &Kind,
    unit: usize,
    value: impl Fn(usize, usize) -> f64,
    own: impl Fn(usize, usize) -> f64,
) -> Lost {
    let mut found = Lost::default();
    kind.each(|row, i| {
        if !value(row, i).is_finite() {
            let first = Some(kind.spot(case, unit, row, i));
            found.merge(&Lost { count: 1, first, own: own(row, i) });
        }
    });
    found
}

/// Compares the channels of `part`.
pub(super) fn compare(case: &Case<'_>, part: &Part<'_>, channels: &[usize], computed: &[Computed]) -> Result<Compared> {
    let truth = case.naive::<f64>(part)?;
    let mut all = Compared::default();
    all.nonfinite.push(nonfinite(case, channels, &truth, |kind, which, c, row, i| {
        truth[which][kind.index(channels.len(), c, row, i)]
    }));
    for one in computed {
        let rounded = rounded(part, one.dtype)?;
        let own = differ(part, &rounded).then(|| case.naive::<f64>(&rounded)).transpose()?;
        let own = own.as_ref().unwrap_or(&truth);
        all.nonfinite.push(nonfinite(case, channels, own, |kind, which, c, row, i| {
            one.element(kind, which, channels[c], row, i)
        }));
        let errors = case.results.iter().enumerate().map(|(which, kind)| {
            let channels = if kind.is_shared() { &[] } else { channels };
            let of_channel = |(c, &channel): (usize, &usize)| {
                let at = |dense: &[Vec<f64>], row, i| dense[which][kind.index(channels.len(), c, row, i)];
                let got = |row, i| one.element(kind, which, channel, row, i);
                unit_error(kind, dtype(kind, one.dtype), got, |row, i| at(&truth, row, i), |row, i| at(own, row, i))
            };
            channels.iter().enumerate().map(of_channel).collect()
        });
        all.errors.push(errors.collect());
        all.sums.push(shared(case, own));
    }
    all.sums.insert(0, shared(case, &truth));
    Ok(all)
}

/// The results that are sums over channels; nothing in place of the others.
fn shared(case: &Case<'_>, results: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let sum = |(kind, result): (&Kind, &Vec<f64>)| if kind.is_shared() { result.clone() } else { vec![] };
    case.results.iter().zip(results).map(sum).collect()
}

/// What is not finite in a source, sums over channels apart.
fn nonfinite(
    case: &Case<'_>,
    channels: &[usize],
    own: &[Vec<f64>],
    value: impl Fn(&Kind, usize, usize, usize, usize) -> f64,
) -> Nonfinite {
    let mut found = Nonfinite { lost: vec![Lost::default(); case.results.len()], channels: 0 };
    for (c, &channel) in channels.iter().enumerate() {
        let mut any = false;
        for (which, kind) in case.results.iter().enumerate().filter(|(_, kind)| !kind.is_shared()) {
            let own = |row, i| own[which][kind.index(channels.len(), c, row, i)];
            let lost = lost(case, kind, channel, |row, i| value(kind, which, c, row, i), own);
            any |= lost.count > 0;
            found.lost[which].merge(&lost);
        }
        found.channels += u64::from(any);
    }
    found
}
