//! Views of device memory that is not there: contracts check them all the same.

use ssm_kernels::{Axes, Device, Error, Slice, SliceMut, View, ViewMut};

/// A device view of `dims` at an address of its own.
pub fn device<T, const N: usize>(place: u64, dims: [(&'static str, usize); N]) -> View<'static, T, Device> {
    let elements = dims.iter().map(|dim| dim.1).product();
    // SAFETY: no backend of this test reads or writes device memory.
    View::from_parts(unsafe { Slice::<T, Device>::from_raw_parts(place << 20, elements, 0) }, Axes::dense(dims))
}

/// As [`device`], to be written.
pub fn device_mut<T, const N: usize>(place: u64, dims: [(&'static str, usize); N]) -> ViewMut<'static, T, Device> {
    let elements = dims.iter().map(|dim| dim.1).product();
    // SAFETY: no backend of this test reads or writes device memory.
    ViewMut::from_parts(unsafe { SliceMut::<T, Device>::from_raw_parts(place << 20, elements, 0) }, Axes::dense(dims))
}

/// Every output put onto every other argument in turn: refused, naming the two.
pub fn expect_overlaps(inputs: &[&str], outputs: &[&str], check: impl Fn(&[u64]) -> Result<(), Error>) {
    let apart: Vec<u64> = (0..(inputs.len() + outputs.len()) as u64).map(|i| i + 1).collect();
    assert_eq!(check(&apart), Ok(()));
    for (o, output) in outputs.iter().enumerate() {
        for (i, other) in inputs.iter().chain(&outputs[o + 1..]).enumerate() {
            let other_place = if i < inputs.len() { i } else { i + o + 1 };
            let mut places = apart.clone();
            places[inputs.len() + o] = places[other_place];
            match check(&places) {
                Err(Error::Overlap { arg, other: met, .. }) => assert_eq!((arg, met), (*output, *other)),
                accepted => panic!("{output} on {other}: {accepted:?}"),
            }
        }
    }
}
