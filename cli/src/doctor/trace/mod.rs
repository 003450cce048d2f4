//! Why something is not finite: the recurrence of one channel of one sequence, or its gradients, followed value by value until
//! one is not.

mod backward;
mod forward;
mod line;

use super::case::{Case, Place, round};
use super::errors::{Lost, Nonfinite, dtype as dtype_of};
use super::results::{Axes, Kind};
use crate::error::Result;
use line::Line;
use ssm_kernels::Dtype;
use ssm_kernels::reference::Real;

/// Steps before the overflow whose states are shown.
const TRAIL: [usize; 6] = [32, 16, 8, 4, 2, 1];

/// What made the first value that is not finite.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cause {
    /// A word for machines: those of docs/doctor.md.
    pub kind: &'static str,
    /// The input to blame.
    pub tensor: Option<&'static str>,
    /// The step in scan order, and the time; of a state before the first step none.
    pub step: Option<[usize; 2]>,
    pub state: Option<usize>,
    /// A sentence.
    pub text: String,
    /// Steps and the |state| after them, up to the last finite one; or the |dh| before them, down to it.
    pub trail: Vec<(usize, f64)>,
}

impl Cause {
    fn new(kind: &'static str, text: String) -> Self {
        Self { kind, tensor: None, step: None, state: None, text, trail: vec![] }
    }

    /// The plain loop is finite where the backend's result is not.
    fn of_backend(place: Option<Place>) -> Self {
        let text = "the plain f32 recurrence is finite there: an intermediate result of the backend, which takes sums and \
                    products in another order, left the range";
        Self { step: place.map(|place| [place.step, place.time]), ..Self::new("backend", text.into()) }
    }

    fn of_write(name: &str, value: &str, arithmetic: &str, dtype: Dtype) -> Self {
        let largest = largest(dtype);
        let text =
            format!("{name} = {value} is finite in {arithmetic}, and rounds beyond {largest}, the largest {dtype}");
        Self::new("write", text)
    }

    /// No step makes it: a sum over steps, or over the channels of a group, does, or the rounding of it.
    fn of_sum(kind: &Kind, own: f64, dtype: Option<Dtype>, place: Option<Place>) -> Self {
        let (name, step) = (kind.name, place.map(|place| [place.step, place.time]));
        let over = if kind.is_shared() { "channels of the group" } else { "steps" };
        let cause = match dtype.map(|dtype| dtype_of(kind, dtype)) {
            Some(dtype) if own.is_finite() && (own as f32).is_finite() && !round(own as f32, dtype).is_finite() => {
                Self::of_write(name, &shown(own), "f64", dtype)
            }
            Some(_) if own.is_finite() && (own as f32).is_finite() => return Self::of_backend(place),
            Some(_) => {
                Self::new("sum", format!("{name} = {own:.3e}, the sum over the {over}, leaves the range of f32"))
            }
            None => Self::new("sum", format!("{name}, the sum over the {over}, leaves the range of f64")),
        };
        Self { step, ..cause }
    }

    /// Says so if the plain recurrence is lost at another step than what was computed.
    pub fn beside(mut self, first: Option<Place>) -> Self {
        if let (Some([step, _]), Some(first)) = (self.step, first)
            && step != first.step
        {
            self.text +=
                &format!(" (in the plain f32 loop, at step {step}; the backend's first is step {})", first.step);
        }
        self
    }
}

/// Why what is not finite first is not, in f32 with the inputs and results of a dtype, or in f64 with the inputs as stored.
/// None if all is finite.
pub(super) fn cause(case: &Case<'_>, nonfinite: &Nonfinite, dtype: Option<Dtype>) -> Result<Option<Cause>> {
    let Some((which, spot)) = nonfinite.first(&case.results) else { return Ok(None) };
    let (kind, Lost { own, .. }) = (&case.results[which], nonfinite.lost[which]);
    let channels = kind.channels(case, spot.unit);
    let place = kind.time(spot.element).zip(channels.first());
    let place = place.map(|(time, &channel)| case.visited(spot.row, channel, time));
    let seqs = match kind.axes {
        Axes::Matrix | Axes::Vector => 0..case.dims.nseqs,
        _ => spot.seq..spot.seq + 1,
    };
    for (channel, seq) in channels.into_iter().flat_map(|channel| seqs.clone().map(move |seq| (channel, seq))) {
        let Some(cause) = followed(&Line { case, seq, channel, dtype, of: kind.name })? else { continue };
        // Of a sum over channels, one that fails at another step is not the reason.
        if !kind.is_shared() || cause.step.map(|[step, _]| step) == place.map(|place| place.step) {
            // The plain loop may go on where the backend, which sums in another order, does not.
            return Ok(Some(cause.beside(place)));
        }
    }
    let sums = case.upstream.is_some() && kind.axes != Axes::Sequence && kind.axes != Axes::State;
    Ok(Some(if sums { Cause::of_sum(kind, own, dtype, place) } else { Cause::of_backend(place) }))
}

/// The arithmetic of the line.
fn followed(line: &Line<'_, '_>) -> Result<Option<Cause>> {
    if line.dtype.is_some() { follow::<f32>(line) } else { follow::<f64>(line) }
}

fn follow<R: Real>(line: &Line<'_, '_>) -> Result<Option<Cause>> {
    match line.case.upstream {
        Some(_) => line.follow_back::<R>(),
        None => Ok(line.follow::<R>(true)),
    }
}

fn shown<R: Real>(value: R) -> String {
    format!("{:.3e}", value.to_f64())
}

/// The largest finite value, in words.
pub(super) fn largest(dtype: Dtype) -> String {
    match dtype {
        Dtype::F16 => "65504".into(),
        Dtype::BF16 => format!("{:.3e}", half::bf16::MAX.to_f32()),
        _ => format!("{:.3e}", f32::MAX),
    }
}
