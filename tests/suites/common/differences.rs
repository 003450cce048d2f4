//! The reference's gradients against central differences of its own forward direction, in f64.

use super::buffer::{Buffer, Order};
use super::random::Random;

pub const STEP: f32 = 1.0 / 1024.0;

/// Dense, each value changed.
pub fn mapped(buffer: &Buffer<f32>, mut change: impl FnMut(f32) -> f32) -> Buffer<f32> {
    let values = buffer.dense();
    let mut values = values.iter();
    Buffer::filled(&buffer.dims(), Order::Dense, || change(*values.next().expect("one each") as f32))
}

/// Multiples of 2^-14 below 2^7 can be moved by multiples of the step without rounding.
pub fn coarse(buffer: &mut Buffer<f32>) {
    *buffer = mapped(buffer, |value| (value * 16384.0).round() / 16384.0);
}

/// The derivative by the five-point stencil; `values` are those at 1, -1, 2 and -2 steps.
pub fn derivative(values: [f64; 4]) -> f64 {
    let [up, down, up_two, down_two] = values;
    (8.0 * (up - down) - (up_two - down_two)) / (12.0 * f64::from(STEP))
}

/// The loss whose gradients by the tensors are `upstream`, an absent one empty.
pub fn loss(upstream: &[Vec<f64>], tensors: &[Vec<f64>]) -> f64 {
    upstream.iter().zip(tensors).flat_map(|(by, tensor)| by.iter().zip(tensor)).map(|(by, value)| by * value).sum()
}

/// An operator's inputs, in the order of its gradients.
pub type Inputs<C, const N: usize> = fn(&mut C) -> [Option<&mut Buffer<f32>>; N];

/// The gradients of a case, by name.
pub struct Gradients<const N: usize> {
    pub names: [&'static str; N],
    pub values: Vec<Vec<f64>>,
    /// Of an input of so many elements.
    pub bound: fn(f64) -> f64,
}

impl<const N: usize> Gradients<N> {
    /// One random direction of each input at a time; distances are shares of the gradient's largest element, or of 1.
    pub fn expect_derivatives<C: Clone>(&self, case: &C, inputs: Inputs<C, N>, seed: u64, loss: impl Fn(&C) -> f64) {
        let mut present = case.clone();
        let present = inputs(&mut present).map(|input| input.map(|input| input.dense().len()));
        for (i, elements) in present.into_iter().enumerate().filter_map(|(i, elements)| Some((i, elements?))) {
            let mut random = Random::new(seed ^ i as u64);
            let direction: Vec<f32> = (0..elements).map(|_| [-1.0, 0.0, 1.0][random.below(3)]).collect();
            let at = |steps: f32| {
                let mut moved = case.clone();
                let input = inputs(&mut moved)[i].take().expect("is there");
                let mut each = direction.iter();
                *input = mapped(input, |value| value + steps * STEP * each.next().expect("one each"));
                loss(&moved)
            };
            let terms = self.values[i].iter().zip(&direction).map(|(gradient, &d)| gradient * f64::from(d));
            let scale = self.values[i].iter().fold(1.0f64, |scale, gradient| scale.max(gradient.abs()));
            let error = (derivative([1.0, -1.0, 2.0, -2.0].map(at)) - terms.sum::<f64>()).abs() / scale;
            let bound = (self.bound)(elements.max(1) as f64);
            assert!(error < bound, "{}: off by {error:e} of {scale:e}", self.names[i]);
        }
    }
}
