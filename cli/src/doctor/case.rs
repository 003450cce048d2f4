//! The examined call: its inputs widened to f32 (which is exact), parts of it, and places in it.

use super::results::{Kind, groups};
use crate::error::Result;
use crate::memory::filled;
use crate::run::selective_scan::{Gradient, Options, Projected, Shaped, Tensors, Upstream};
use ssm_kernels::Dtype;
use ssm_kernels::ops::selective_scan::Dims;
use ssm_kernels::reference::{Real, selective_scan as naive, softplus, softplus_derivative};
use std::borrow::Cow;
use std::fmt::{Display, Formatter};

/// The inputs as stored, and the options.
pub(super) struct Case<'c> {
    pub tensors: &'c Tensors<'c, f32>,
    /// What comes from above, if it is the backward direction that is examined.
    pub upstream: Option<&'c Upstream<'c, f32>>,
    /// Those of that direction.
    pub gradients: Vec<Gradient>,
    /// What the direction computes.
    pub results: Vec<Kind>,
    pub options: &'c Options,
    /// Of the file's x.
    pub dtype: Dtype,
    pub dims: Dims,
}

/// Inputs to compute with: all channels, or some.
pub(super) struct Part<'p> {
    pub tensors: Tensors<'p, f32>,
    pub upstream: Option<Upstream<'p, f32>>,
}

impl Part<'_> {
    /// Nothing where there is none.
    pub fn dout(&self) -> &[f32] {
        self.upstream.as_ref().and_then(|upstream| upstream.dout.as_ref()).map_or(&[], |dout| &dout.data)
    }

    /// Nothing where there is none.
    pub fn dfinal_state(&self) -> &[f32] {
        self.upstream.as_ref().and_then(|upstream| upstream.dfinal_state.as_ref()).map_or(&[], |state| &state.data)
    }
}

/// An element of x in the scan. The order is that of the steps, the fewest first, counted from the start of their sequence,
/// or, of what the backward direction computes, from its end; then the first sequence, then the first channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub order: usize,
    pub seq: usize,
    pub channel: usize,
    pub batch: usize,
    pub time: usize,
    /// From the start of the sequence.
    pub step: usize,
}

impl Display for Place {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let Self { seq, channel, batch, time, step, .. } = self;
        write!(f, "(batch {batch}, channel {channel}, time {time})")?;
        if seq != batch {
            write!(f, ", sequence {seq}")?;
        }
        if seq != batch || step != time { write!(f, ", step {step}") } else { Ok(()) }
    }
}

/// How often something was seen, and where first.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Seen {
    pub count: u64,
    pub first: Option<Place>,
}

impl Seen {
    pub fn add(&mut self, count: u64, place: impl FnOnce() -> Place) {
        if count > 0 {
            self.merge(&Seen { count, first: Some(place()) });
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.first = self.first.into_iter().chain(other.first).min();
    }
}

impl<'c> Case<'c> {
    /// Where sequence `seq` lies: its row of the batch, its first time, its length.
    pub fn span(&self, seq: usize) -> (usize, usize, usize) {
        match &self.tensors.segments {
            Some(segments) => {
                let (start, len) = segments.bounds(seq);
                (0, start, len)
            }
            None => (seq, 0, self.dims.seqlen),
        }
    }

    /// The time of a step of a sequence.
    pub fn time(&self, seq: usize, step: usize) -> usize {
        let (_, start, len) = self.span(seq);
        if self.options.reverse { start + len - 1 - step } else { start + step }
    }

    /// The step at a time of a row of the batch.
    pub fn place(&self, batch: usize, channel: usize, time: usize) -> Place {
        let seq = match &self.tensors.segments {
            // The last that begins at or before it: empty ones before it begin there too.
            Some(segments) => segments.cu_seqlens().partition_point(|&start| start as usize <= time).saturating_sub(1),
            None => batch,
        };
        let (_, start, len) = self.span(seq);
        let step = if self.options.reverse { start + len - 1 - time } else { time - start };
        Place { order: step, seq, channel, batch, time, step }
    }

    /// The same where the direction that is examined gets to it.
    pub fn visited(&self, batch: usize, channel: usize, time: usize) -> Place {
        let place = self.place(batch, channel, time);
        if self.upstream.is_none() {
            return place;
        }
        let (_, _, len) = self.span(place.seq);
        Place { order: len - 1 - place.step, ..place }
    }

    /// The group of a channel in variable B or C.
    pub fn group(&self, tensor: &str, channel: usize) -> usize {
        let projection = if tensor == "B" { &self.tensors.B } else { &self.tensors.C };
        match projection {
            Projected::Variable(tensor) => channel / (self.dims.dim / tensor.extents[1].max(1)).max(1),
            Projected::Constant(_) => 0,
        }
    }

    /// Steps of the longest sequence.
    pub fn longest(&self) -> usize {
        match &self.tensors.segments {
            Some(segments) => (0..segments.nseqs()).map(|seq| segments.bounds(seq).1).max().unwrap_or(0),
            None => self.dims.seqlen,
        }
    }

    /// Some of the channels, all sequences.
    pub fn part(&self, channels: &[usize]) -> Result<Part<'_>> {
        let upstream = self.upstream.map(|upstream| -> Result<Upstream<'_, f32>> {
            Ok(Upstream {
                dout: upstream.dout.as_ref().map(|dout| rows(dout, 1, channels)).transpose()?,
                dfinal_state: upstream.dfinal_state.as_ref().map(|state| rows(state, 1, channels)).transpose()?,
                layout: upstream.layout,
            })
        });
        Ok(Part { tensors: self.channels(channels)?, upstream: upstream.transpose()? })
    }

    fn channels(&self, channels: &[usize]) -> Result<Tensors<'_, f32>> {
        let Tensors { layout, x, dt, A, B, C, D, z, dt_bias, initial_state, segments } = self.tensors;
        let dim = self.dims.dim;
        Ok(Tensors {
            layout: *layout,
            x: rows(x, 1, channels)?,
            dt: rows(dt, 1, channels)?,
            A: rows(A, 0, channels)?,
            B: projection(B, dim, channels)?,
            C: projection(C, dim, channels)?,
            D: D.as_ref().map(|D| rows(D, 0, channels)).transpose()?,
            z: z.as_ref().map(|z| rows(z, 1, channels)).transpose()?,
            dt_bias: dt_bias.as_ref().map(|bias| rows(bias, 0, channels)).transpose()?,
            initial_state: initial_state.as_ref().map(|state| rows(state, 1, channels)).transpose()?,
            segments: segments.clone(),
        })
    }

    /// The results of the naive loops on a part.
    pub fn naive<R: Real>(&self, part: &Part<'_>) -> Result<Vec<Vec<R>>> {
        let scan = part.tensors.scan(self.options)?;
        let Some(upstream) = &part.upstream else {
            let naive::Forward { out, final_state, .. } = naive::forward::<R, f32>(&scan, None)?;
            return Ok(vec![out, final_state]);
        };
        let mut all = naive::backward::<R, f32>(&scan, upstream.views())?;
        Ok(self.gradients.iter().map(|gradient| gradient.pick(&mut all)).collect())
    }

    /// The groups of a part, of one of the results that are sums over channels.
    pub fn groups(&self, kind: &Kind, channels: &[usize]) -> Vec<usize> {
        let projection = if kind.name == "dB" { &self.tensors.B } else { &self.tensors.C };
        groups(projection, self.dims.dim, channels)
    }

    /// delta before and after the clamp, of dt with its bias.
    pub fn delta<R: Real>(&self, raw: R) -> (R, R) {
        let free = if self.options.dt_softplus { softplus(raw) } else { raw };
        match self.options.dt_limit {
            Some((min, _)) if free < R::of(min) => (free, R::of(min)),
            Some((_, max)) if free > R::of(max) => (free, R::of(max)),
            _ => (free, free),
        }
    }

    /// The derivative of delta by dt.
    pub fn slope<R: Real>(&self, raw: R) -> R {
        let (free, delta) = self.delta(raw);
        match self.options.dt_softplus {
            _ if delta != free => R::of(0.0),
            true => softplus_derivative(raw),
            false => R::of(1.0),
        }
    }
}

/// A part as a backend sees it that takes `dtype`: x, dt, z, variable B and C, and dout rounded.
pub(super) fn rounded<'p>(part: &'p Part<'_>, dtype: Dtype) -> Result<Part<'p>> {
    let elements = |elements: &'p [f32]| {
        if dtype == Dtype::F32 {
            return Ok(Cow::Borrowed(elements));
        }
        let mut values = filled(elements.len(), 0.0)?;
        values.iter_mut().zip(elements).for_each(|(to, &from)| *to = round(from, dtype));
        Ok(Cow::Owned(values))
    };
    let upstream = part.upstream.as_ref().map(|upstream| upstream.mapped(&elements)).transpose()?;
    Ok(Part { tensors: part.tensors.mapped(&elements)?, upstream })
}

/// The value that `dtype` stores for `value`.
pub(super) fn round(value: f32, dtype: Dtype) -> f32 {
    match dtype {
        Dtype::F16 => half::f16::from_f32(value).to_f32(),
        Dtype::BF16 => half::bf16::from_f32(value).to_f32(),
        _ => value,
    }
}

/// Whether rounding has changed anything.
pub(super) fn differ(a: &Part<'_>, b: &Part<'_>) -> bool {
    let unlike = |a: &[f32], b: &[f32]| a.iter().zip(b).any(|(a, b)| a.to_bits() != b.to_bits());
    let projections = |a: &Projected<'_, f32>, b: &Projected<'_, f32>| match (a, b) {
        (Projected::Variable(a), Projected::Variable(b)) => unlike(&a.data, &b.data),
        _ => false,
    };
    let douts = unlike(a.dout(), b.dout());
    let (a, b) = (&a.tensors, &b.tensors);
    douts
        || unlike(&a.x.data, &b.x.data)
        || unlike(&a.dt.data, &b.dt.data)
        || projections(&a.B, &b.B)
        || projections(&a.C, &b.C)
        || a.z.iter().zip(&b.z).any(|(a, b)| unlike(&a.data, &b.data))
}

/// The tensor cut down to `indices` of its dimension `axis`; lent if those are all.
fn rows<'t, const R: usize>(
    tensor: &'t Shaped<'_, f32, R>,
    axis: usize,
    indices: &[usize],
) -> Result<Shaped<'t, f32, R>> {
    if indices.iter().copied().eq(0..tensor.extents[axis]) {
        return Ok(tensor.lent());
    }
    let mut extents = tensor.extents;
    extents[axis] = indices.len();
    let (outer, inner) = (extents[..axis].iter().product(), extents[axis + 1..].iter().product::<usize>());
    let mut data = filled(extents.iter().product(), 0.0)?;
    if !data.is_empty() {
        let from = (0..outer).flat_map(|o| indices.iter().map(move |i| (o * tensor.extents[axis] + i) * inner));
        data.chunks_exact_mut(inner).zip(from).for_each(|(to, at)| to.copy_from_slice(&tensor.data[at..][..inner]));
    }
    Ok(Shaped { extents, data: Cow::Owned(data) })
}

/// With the groups of the channels.
fn projection<'t>(projection: &'t Projected<'_, f32>, dim: usize, channels: &[usize]) -> Result<Projected<'t, f32>> {
    Ok(match projection {
        Projected::Variable(tensor) if channels.is_empty() => Projected::Variable(tensor.lent()),
        Projected::Constant(tensor) => Projected::Constant(rows(tensor, 0, channels)?),
        Projected::Variable(tensor) => Projected::Variable(rows(tensor, 1, &groups(projection, dim, channels))?),
    })
}
