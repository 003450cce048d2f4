//! What a run will compute: planned before it runs, judged after.

use crate::error::Result;
use crate::input::Input;
use crate::memory::{Memory, elements, filled};
use crate::report::Row;
use crate::tensor::{Data, Io, Tensor};
use ssm_kernels::reference::Real;
use ssm_kernels::reference::accuracy::{Loop, Yardstick};
use ssm_kernels::{Dtype, Element};

/// A result that is to be.
#[derive(Debug)]
pub struct Outline {
    /// Its name in files.
    pub name: &'static str,
    /// Extents, last dimension fastest.
    pub shape: Vec<usize>,
    /// As what a backend stores it, and so as what it is judged.
    pub dtype: Dtype,
}

/// An outline for elements of `T`.
pub fn outline<T: Element>(name: &'static str, shape: impl Into<Vec<usize>>) -> Outline {
    Outline { name, shape: shape.into(), dtype: T::DTYPE }
}

impl Outline {
    /// A buffer for it in which an element that nobody writes shows.
    pub fn nan<T: Io>(&self) -> Result<Vec<T>> {
        filled(elements(self.name, &self.shape)?, T::from_f32(f32::NAN))
    }

    /// The result itself.
    pub fn tensor(&self, data: Data) -> Tensor {
        Tensor { name: self.name, shape: self.shape.clone(), data }
    }
}

/// Plans the memory of the results, of the loops that they are judged by, and of the judging. `loops`: bytes that one
/// run of the naive loops takes for each element of a result. The shape of every truth is checked on the way.
pub fn plan(outlines: &[Outline], loops: usize, input: &Input<'_>, memory: &mut Memory) -> Result<()> {
    let (mut total, mut judged) = (0usize, false);
    for Outline { name, shape, .. } in outlines {
        let count = elements(name, shape)?;
        memory.plan(count, loops + size_of::<f64>())?;
        total = total.saturating_add(count);
        judged |= input.has_truth(name, shape)?;
    }
    // The truth, the exact run, five others and the result, all in f64; one truth makes the loops run for all results.
    memory.plan(if judged { total } else { 0 }, 8 * size_of::<f64>())
}

/// Holds each result to its truth in the file, if there is one. The loops give the results in the order of the outlines.
pub fn judge(outlines: &[Outline], results: &[Tensor], input: &Input<'_>, naive: &impl Loop) -> Result<Vec<Row>> {
    let truths = outlines.iter().map(|outline| input.truth(outline.name)).collect::<Result<Vec<_>>>()?;
    if truths.iter().all(Option::is_none) {
        return Ok(outlines.iter().map(|outline| Row { name: outline.name, verdict: None }).collect());
    }
    let rows: Vec<usize> = outlines.iter().map(|outline| outline.shape.last().copied().unwrap_or(1)).collect();
    let yardsticks = Yardstick::measure(naive, &rows);
    let mut judged = Vec::new();
    for (i, (yardstick, truth)) in yardsticks.into_iter().zip(truths).enumerate() {
        let (outline, result) = (&outlines[i], &results[i]);
        let judge = |truth: Vec<f64>| yardstick.against(truth).judge(&result.data.to_f64(), outline.dtype);
        judged.push(Row { name: outline.name, verdict: truth.map(|truth| judge(truth.data.into_owned())) });
    }
    Ok(judged)
}

/// A tensor of the loops as they return it.
pub fn widened<R: Real>(tensor: impl IntoIterator<Item = R>) -> Vec<f64> {
    tensor.into_iter().map(Real::to_f64).collect()
}
