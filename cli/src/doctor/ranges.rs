//! What the tensors of a file hold, and what other dtypes would make of it.

use super::case::{Case, round};
use crate::run::selective_scan::{Projected, Shaped};
use ssm_kernels::Dtype;

/// How often something is so in a tensor, and where first: in scan order if the tensor has times, else in its own.
#[derive(Debug, Clone, Default)]
pub(super) struct Flagged {
    pub count: u64,
    /// Steps into the sequence, and place in the dense tensor.
    first: Option<(usize, usize)>,
}

/// What a dtype makes of a tensor's elements.
#[derive(Debug, Clone)]
pub(super) struct Conversion {
    pub dtype: Dtype,
    /// Finite, and then infinite.
    pub overflow: Flagged,
    /// Not 0, and then 0 or subnormal.
    pub underflow: Flagged,
}

/// One tensor.
#[derive(Debug, Clone)]
pub(super) struct Range {
    pub name: &'static str,
    /// As the file has it.
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Of finite elements; none if there are none.
    pub extremes: Option<[f32; 2]>,
    pub nonfinite: Flagged,
    /// In the dtypes that are tried, if the tensor is converted to them, else in f32.
    pub conversions: Vec<Conversion>,
    names: &'static [&'static str],
}

const SEQUENCE: &[&str] = &["batch", "channel", "time"];
const VARIABLE: &[&str] = &["batch", "group", "state", "time"];
const CHANNEL: &[&str] = &["channel"];
const MATRIX: &[&str] = &["channel", "state"];
const STATE: &[&str] = &["sequence", "channel", "state"];

/// All tensors of the call, each in the dtypes that it is tried in.
pub(super) fn all(case: &Case<'_>, dtypes: &[Dtype]) -> Vec<Range> {
    let tensors = case.tensors;
    let io = |name, names, extents: &[usize], data: &[f32]| {
        Range::of(case, (name, case.dtype), (names, extents), data, dtypes)
    };
    let wide = |name, names, extents: &[usize], data: &[f32]| {
        Range::of(case, (name, Dtype::F32), (names, extents), data, &[Dtype::F32])
    };
    let projection = |name, projection: &Projected<'_, f32>| match projection {
        Projected::Variable(tensor) => io(name, VARIABLE, &tensor.extents, &tensor.data),
        Projected::Constant(tensor) => wide(name, MATRIX, &tensor.extents, &tensor.data),
    };
    let sequence = |name, tensor: &Shaped<'_, f32, 3>| io(name, SEQUENCE, &tensor.extents, &tensor.data);
    let channel = |name, tensor: &Shaped<'_, f32, 1>| wide(name, CHANNEL, &tensor.extents, &tensor.data);
    let mut all = vec![
        sequence("x", &tensors.x),
        sequence("dt", &tensors.dt),
        wide("A", MATRIX, &tensors.A.extents, &tensors.A.data),
        projection("B", &tensors.B),
        projection("C", &tensors.C),
    ];
    all.extend(tensors.D.iter().map(|D| channel("D", D)));
    all.extend(tensors.z.iter().map(|z| sequence("z", z)));
    all.extend(tensors.dt_bias.iter().map(|bias| channel("dt_bias", bias)));
    let state = |name, one: &Shaped<'_, f32, 3>| wide(name, STATE, &one.extents, &one.data);
    all.extend(tensors.initial_state.iter().map(|one| state("initial_state", one)));
    let upstream = case.upstream.iter();
    all.extend(upstream.clone().filter_map(|upstream| Some(sequence("dout", upstream.dout.as_ref()?))));
    all.extend(upstream.filter_map(|upstream| Some(state("dfinal_state", upstream.dfinal_state.as_ref()?))));
    all
}

impl Range {
    fn of(
        case: &Case<'_>,
        (name, dtype): (&'static str, Dtype),
        (names, extents): (&'static [&'static str], &[usize]),
        data: &[f32],
        dtypes: &[Dtype],
    ) -> Self {
        let conversion =
            |&dtype: &Dtype| Conversion { dtype, overflow: Flagged::default(), underflow: Flagged::default() };
        let mut range = Self {
            name,
            dtype,
            shape: extents.to_vec(),
            extremes: None,
            nonfinite: Flagged::default(),
            conversions: dtypes.iter().map(conversion).collect(),
            names,
        };
        let step = |i: usize| range_step(case, names, extents, i);
        for (i, &value) in data.iter().enumerate() {
            if !value.is_finite() {
                range.nonfinite.add(i, step);
                continue;
            }
            let [low, high] = range.extremes.unwrap_or([value; 2]);
            range.extremes = Some([low.min(value), high.max(value)]);
            for Conversion { dtype, overflow, underflow } in &mut range.conversions {
                let stored = round(value, *dtype);
                if !stored.is_finite() {
                    overflow.add(i, step);
                } else if value != 0.0 && stored.abs() < smallest_normal(*dtype) {
                    underflow.add(i, step);
                }
            }
        }
        range
    }

    /// The first place in words.
    pub fn place(&self, flagged: &Flagged) -> String {
        let index = self.index(flagged).unwrap_or_default();
        let words: Vec<String> = index.iter().map(|(name, i)| format!("{name} {i}")).collect();
        format!("({})", words.join(", "))
    }

    /// The first place, by dimension.
    pub fn index(&self, flagged: &Flagged) -> Option<Vec<(&'static str, usize)>> {
        let (_, mut flat) = flagged.first?;
        let mut index: Vec<(&str, usize)> = vec![];
        for (&name, &extent) in self.names.iter().zip(&self.shape).rev() {
            index.push((name, flat % extent.max(1)));
            flat /= extent.max(1);
        }
        index.reverse();
        Some(index)
    }
}

impl Flagged {
    fn add(&mut self, flat: usize, step: impl Fn(usize) -> usize) {
        self.count += 1;
        self.first = self.first.into_iter().chain([(step(flat), flat)]).min();
    }
}

/// Steps from the start of its sequence to an element; 0 in a tensor without times.
fn range_step(case: &Case<'_>, names: &[&str], extents: &[usize], flat: usize) -> usize {
    if names.last() != Some(&"time") {
        return 0;
    }
    let seqlen = case.dims.seqlen;
    let batch = flat / extents[1..].iter().product::<usize>();
    case.place(batch, 0, flat % seqlen).step
}

/// Below it numbers lose bits, and then become 0.
pub(super) fn smallest_normal(dtype: Dtype) -> f32 {
    match dtype {
        Dtype::F16 => half::f16::MIN_POSITIVE.to_f32(),
        _ => f32::MIN_POSITIVE,
    }
}
