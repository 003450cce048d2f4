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
    let mut judged = 0;
    for Outline { name, shape, .. } in outlines {
        let count = elements(name, shape)?;
        memory.plan(count, loops + size_of::<f64>())?;
        if input.has_truth(name, shape)? {
            judged = judged.max(count);
        }
    }
    // The truth twice, the exact run, five others and the result, all in f64.
    memory.plan(judged, 9 * size_of::<f64>())
}

/// Holds `result` to the truth in the file, if there is one.
pub fn judge(outline: &Outline, result: &Tensor, input: &Input<'_>, naive: &impl Loop) -> Result<Row> {
    let row = outline.shape.last().copied().unwrap_or(1);
    let verdict = input.truth(outline.name)?.map(|truth| {
        let truth = truth.data.into_owned();
        let onto = Onto { truth: &truth, exact: naive.run::<f64>(), naive };
        let yardstick = Yardstick::against(truth.clone(), &onto, row);
        yardstick.judge(&result.data.to_f64(), outline.dtype)
    });
    Ok(Row { name: outline.name, verdict })
}

/// The naive loops moved onto a truth from elsewhere, so that their error is that of the arithmetic alone. As they are,
/// a truth of another call would be an error of theirs, and every result would be allowed twice that.
struct Onto<'a, L> {
    truth: &'a [f64],
    exact: Vec<f64>,
    naive: &'a L,
}

impl<L: Loop> Loop for Onto<'_, L> {
    fn run<R: Real>(&self) -> Vec<f64> {
        let moved = |((run, exact), &truth): ((f64, &f64), &f64)| match (exact.is_finite(), truth.is_finite()) {
            (true, true) => run - exact + truth,
            (true, false) => truth,
            (false, _) => run,
        };
        self.naive.run::<R>().into_iter().zip(&self.exact).zip(self.truth).map(moved).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Third;

    impl Loop for Third {
        fn run<R: Real>(&self) -> Vec<f64> {
            vec![(R::of(1.0) / R::of(3.0)).to_f64(), R::of(f32::INFINITY).to_f64()]
        }
    }

    fn passes(truth: [f64; 2], got: [f64; 2]) -> bool {
        let onto = Onto { truth: &truth, exact: Third.run::<f64>(), naive: &Third };
        Yardstick::against(truth.to_vec(), &onto, 2).judge(&got, Dtype::F32).failure.is_none()
    }

    #[test]
    fn a_wrong_truth_does_not_excuse_itself() {
        let (third, infinity) = (1.0 / 3.0, f64::INFINITY);
        assert!(passes([third, infinity], [f64::from(1.0f32 / 3.0), infinity]));
        assert!(passes([0.25, infinity], [0.25, infinity]));
        assert!(!passes([0.25, infinity], [third, infinity]));
        assert!(!passes([infinity, infinity], [third, infinity]));
        assert!(!passes([third, infinity], [third, 1.0]));
    }
}
