//! Tensors in memory that is NaN wherever the tensor is not.

use crate::random::Random;
use crate::tensor::Io;
use ssm_kernels::prelude::Segments;
use ssm_kernels::{Axes, Axis, Result, View, ViewMut};
use std::ops::Range;

/// A dimension's name and extent.
pub type Dim = (&'static str, usize);

/// Elements of NaN behind a tensor.
const GUARD: usize = 17;

/// How a tensor lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Canonical order, no gaps.
    Dense,
    /// The second dimension fastest.
    ChannelLast,
    /// Any order and gaps, from this seed.
    Strided(u64),
}

impl Order {
    /// Any.
    pub fn draw(random: &mut Random) -> Self {
        match random.below(3) {
            0 => Order::Dense,
            1 => Order::ChannelLast,
            _ => Order::Strided(random.bits()),
        }
    }
}

/// A tensor.
#[derive(Debug, Clone)]
pub struct Tensor<T> {
    memory: Vec<T>,
    /// Canonical order.
    axes: Vec<Axis>,
}

impl<T: Io> Tensor<T> {
    /// All NaN, to be written.
    pub fn blank(dims: &[Dim], order: Order) -> Self {
        let mut axes: Vec<Axis> = dims.iter().map(|&(name, extent)| Axis { name, extent, stride: 0 }).collect();
        let mut fastest_first: Vec<usize> = (0..dims.len()).rev().collect();
        let (mut stride, mut gaps) = (1, None);
        match order {
            Order::ChannelLast if dims.len() > 1 => {
                fastest_first.retain(|&i| i != 1);
                fastest_first.insert(0, 1);
            }
            Order::Dense | Order::ChannelLast => {}
            Order::Strided(seed) => {
                let mut random = Random::new(seed ^ dims.len() as u64);
                (1..dims.len()).for_each(|i| fastest_first.swap(i, random.below(i + 1)));
                stride += random.below(2);
                gaps = Some(random);
            }
        }
        for i in fastest_first {
            axes[i].stride = stride as i64;
            stride = stride * axes[i].extent.max(1) + gaps.as_mut().map_or(0, |random| random.below(4));
        }
        let reach: usize = axes.iter().map(|axis| axis.extent.saturating_sub(1) * axis.stride as usize).sum();
        Self { memory: vec![T::from_f32(f32::NAN); reach + 1 + GUARD], axes }
    }

    /// Element by element from `value`, in canonical order.
    pub fn filled(dims: &[Dim], order: Order, mut value: impl FnMut() -> f32) -> Self {
        let mut tensor = Self::blank(dims, order);
        for place in tensor.places() {
            tensor.memory[place] = T::from_f32(value());
        }
        tensor
    }

    /// The places of the elements in canonical order.
    fn places(&self) -> Vec<usize> {
        self.axes.iter().fold(vec![0], |places, axis| {
            let along = |&place: &usize| (0..axis.extent).map(move |i| place + i * axis.stride as usize);
            places.iter().flat_map(along).collect()
        })
    }

    /// The dimensions in canonical order.
    pub fn dims(&self) -> Vec<Dim> {
        self.axes.iter().map(|axis| (axis.name, axis.extent)).collect()
    }

    /// All of it.
    pub fn view(&self) -> Result<View<'_, T>> {
        Ok(View::from_parts(self.memory.as_slice(), Axes::from_slice(&self.axes)?))
    }

    /// All of it, to be written.
    pub fn view_mut(&mut self) -> Result<ViewMut<'_, T>> {
        Ok(ViewMut::from_parts(self.memory.as_mut_slice(), Axes::from_slice(&self.axes)?))
    }

    /// The steps in `range`; all of a tensor without steps.
    pub fn steps(&self, range: &Range<usize>) -> Result<View<'_, T>> {
        let (start, axes) = self.cut(range);
        Ok(View::from_parts(self.memory.get(start..).unwrap_or_default(), Axes::from_slice(&axes)?))
    }

    /// The same, to be written.
    pub fn steps_mut(&mut self, range: &Range<usize>) -> Result<ViewMut<'_, T>> {
        let (start, axes) = self.cut(range);
        Ok(ViewMut::from_parts(self.memory.get_mut(start..).unwrap_or_default(), Axes::from_slice(&axes)?))
    }

    fn cut(&self, range: &Range<usize>) -> (usize, Vec<Axis>) {
        let (mut start, mut axes) = (0, self.axes.clone());
        if let Some(axis) = axes.iter_mut().find(|axis| axis.name == "seqlen") {
            start = range.start * axis.stride as usize;
            axis.extent = range.len();
        }
        (start, axes)
    }

    /// The values in canonical order; `None` if memory beside the tensor has been written.
    pub fn dense(&self) -> Option<Vec<f64>> {
        let (places, mut beside) = (self.places(), vec![true; self.memory.len()]);
        places.iter().for_each(|&place| beside[place] = false);
        let untouched = self.memory.iter().zip(beside).all(|(value, beside)| !beside || value.to_f32().is_nan());
        untouched.then(|| places.into_iter().map(|place| self.memory[place].to_f32().into()).collect())
    }
}

/// Packed sequences of these lengths.
pub fn segments(lengths: &[usize]) -> Result<Segments> {
    let ends = lengths.iter().scan(0, |end, &len| {
        *end += len as i32;
        Some(*end)
    });
    Segments::new(&std::iter::once(0).chain(ends).collect::<Vec<i32>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_holds_the_same_values() {
        for order in [Order::Dense, Order::ChannelLast, Order::Strided(3), Order::Strided(4)] {
            let mut next = 0.0;
            let mut tensor = Tensor::<f32>::filled(&[("batch", 2), ("dim", 3), ("seqlen", 4)], order, || {
                next += 1.0;
                next
            });
            assert_eq!(tensor.dense().unwrap(), (1..=24).map(f64::from).collect::<Vec<_>>());
            *tensor.memory.last_mut().unwrap() = 0.0;
            assert_eq!(tensor.dense(), None);
        }
    }
}
