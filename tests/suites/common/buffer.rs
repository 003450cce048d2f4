//! Tensors in memory that is NaN wherever the tensor is not: strided, with gaps and guard bands.

use super::random::Random;
#[cfg(feature = "emulator")]
use ssm_kernels::gpu::{EmulatedBuffer, Emulator};
use ssm_kernels::{Axes, Axis, Element, View, ViewMut};
#[cfg(feature = "emulator")]
use ssm_kernels::{Device, Result};

/// Elements of NaN on either side of a tensor.
const GUARD: usize = 37;

/// How a tensor lies in memory: order of its dimensions and gaps between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Canonical order, no gaps.
    Dense,
    /// So too, from a multiple of 64 bytes on: several neighbours may be moved at once.
    Aligned,
    /// The second dimension fastest: (batch, seqlen, dim) for a sequence.
    ChannelLast,
    /// So too, from a multiple of 64 bytes on.
    AlignedChannelLast,
    /// Any order, gaps anywhere, from this seed.
    Strided(u64),
}

/// A tensor in memory of its own.
#[derive(Debug, Clone)]
pub struct Buffer<T> {
    memory: Vec<T>,
    /// Canonical order.
    axes: Vec<Axis>,
    lead: usize,
    len: usize,
}

impl<T: Element> Buffer<T> {
    /// All NaN.
    pub fn poisoned(dims: &[(&'static str, usize)], order: Order) -> Self {
        let mut axes: Vec<Axis> = dims.iter().map(|&(name, extent)| Axis { name, extent, stride: 0 }).collect();
        let mut fastest_first: Vec<usize> = (0..dims.len()).rev().collect();
        let mut random = Random::new(0);
        let strided = matches!(order, Order::Strided(_));
        match order {
            Order::Dense | Order::Aligned => {}
            Order::ChannelLast | Order::AlignedChannelLast if dims.len() > 1 => {
                fastest_first.retain(|&i| i != 1);
                fastest_first.insert(0, 1);
            }
            Order::ChannelLast | Order::AlignedChannelLast => {}
            Order::Strided(seed) => {
                random = Random::new(seed ^ dims.len() as u64);
                (1..dims.len()).for_each(|i| fastest_first.swap(i, random.below(i + 1)));
            }
        }
        let mut gap = |most: usize| if strided { random.below(most + 1) } else { 0 };
        let mut stride = 1 + gap(1);
        for i in fastest_first {
            axes[i].stride = stride as i64;
            stride = stride * axes[i].extent.max(1) + gap(3);
        }
        let empty = axes.iter().any(|axis| axis.extent == 0);
        let reach: usize = axes.iter().map(|axis| axis.extent.saturating_sub(1) * axis.stride as usize).sum();
        let len = if empty { 0 } else { reach + 1 };
        let aligned = matches!(order, Order::Aligned | Order::AlignedChannelLast);
        let lead = if aligned { GUARD.next_multiple_of(32) } else { GUARD + gap(7) };
        Self { memory: vec![T::from_f32(f32::NAN); lead + len + GUARD], axes, lead, len }
    }

    /// Element by element from `value`, in canonical order.
    pub fn filled(dims: &[(&'static str, usize)], order: Order, mut value: impl FnMut() -> f32) -> Self {
        let mut buffer = Self::poisoned(dims, order);
        for place in buffer.places() {
            buffer.memory[place] = T::from_f32(value());
        }
        buffer
    }

    /// The places of the elements in canonical order.
    fn places(&self) -> Vec<usize> {
        self.axes.iter().fold(vec![self.lead], |places, axis| {
            let along = |&place: &usize| (0..axis.extent).map(move |i| place + i * axis.stride as usize);
            places.iter().flat_map(along).collect()
        })
    }

    fn view_axes(&self) -> Axes {
        Axes::from_slice(&self.axes).expect("at most four dimensions")
    }

    pub fn view(&self) -> View<'_, T> {
        View::from_parts(&self.memory[self.lead..self.lead + self.len], self.view_axes())
    }

    pub fn view_mut(&mut self) -> ViewMut<'_, T> {
        let axes = self.view_axes();
        ViewMut::from_parts(&mut self.memory[self.lead..self.lead + self.len], axes)
    }

    pub fn dims(&self) -> Vec<(&'static str, usize)> {
        self.axes.iter().map(|axis| (axis.name, axis.extent)).collect()
    }

    /// Length of the last axis.
    pub fn row(&self) -> usize {
        self.axes.last().map_or(1, |axis| axis.extent)
    }

    /// The values in canonical order.
    pub fn dense(&self) -> Vec<f64> {
        self.places().into_iter().map(|place| self.memory[place].to_f32().into()).collect()
    }

    /// The bits of the values in canonical order.
    pub fn bits(&self) -> Vec<u32> {
        self.places().into_iter().map(|place| self.memory[place].to_f32().to_bits()).collect()
    }

    /// The same values in another order of memory.
    pub fn laid(&self, order: Order) -> Self {
        let values = self.dense();
        let mut values = values.iter();
        Self::filled(&self.dims(), order, || *values.next().expect("one each") as f32)
    }

    /// The same tensor with dimension `from` named `to`.
    pub fn renamed(mut self, from: &str, to: &'static str) -> Self {
        self.axes.iter_mut().filter(|axis| axis.name == from).for_each(|axis| axis.name = to);
        self
    }

    /// The same tensor along more dimensions, before its own, in all of which it stands still.
    pub fn still_along(mut self, dims: &[(&'static str, usize)]) -> Self {
        self.axes.splice(0..0, dims.iter().map(|&(name, extent)| Axis { name, extent, stride: 0 }));
        self
    }

    /// The values in `range` of dimension `name`, dense.
    pub fn slice(&self, name: &str, range: std::ops::Range<usize>) -> Self {
        let at = self.axes.iter().position(|axis| axis.name == name).expect("a dimension of the buffer");
        let mut dims = self.dims();
        dims[at].1 = range.len();
        let (inner, extent): (usize, usize) = (dims[at + 1..].iter().map(|d| d.1).product(), self.axes[at].extent);
        let values = self.dense();
        let kept = (0..values.len()).filter(|i| range.contains(&(i / inner.max(1) % extent)));
        let mut kept = kept.map(|i| values[i] as f32);
        Self::filled(&dims, Order::Dense, || kept.next().expect("as many as the slice has"))
    }

    /// The same values with the elements along `name` in the order that `source` gives.
    pub fn reordered(&self, name: &str, source: impl Fn(usize) -> usize) -> Self {
        let at = self.axes.iter().position(|axis| axis.name == name).expect("a dimension of the buffer");
        let dims = self.dims();
        let (inner, extent): (usize, usize) = (dims[at + 1..].iter().map(|d| d.1).product(), self.axes[at].extent);
        let values = self.dense();
        let mut i = 0;
        Self::filled(&dims, Order::Dense, || {
            let (outer, here, rest) = (i / (inner * extent), i / inner % extent, i % inner);
            i += 1;
            values[(outer * extent + source(here)) * inner + rest] as f32
        })
    }

    /// Fails if anything beside the tensor has been written.
    pub fn expect_untouched_surroundings(&self, label: &str) {
        let places: std::collections::HashSet<usize> = self.places().into_iter().collect();
        for (place, value) in self.memory.iter().enumerate() {
            if !places.contains(&place) {
                let at = place as i64 - self.lead as i64;
                assert!(value.to_f32().is_nan(), "{label}: memory beside the tensor written, at element {at}");
            }
        }
    }
}

/// A tensor's whole memory on an emulated device, surroundings included.
#[cfg(feature = "emulator")]
pub struct Placed<'e, T: Element> {
    memory: EmulatedBuffer<'e, T>,
    elements: std::ops::Range<usize>,
    axes: Axes,
}

#[cfg(feature = "emulator")]
impl<T: Element> Placed<'_, T> {
    pub fn view(&self) -> Result<View<'_, T, Device>> {
        self.memory.view_of(self.elements.clone(), self.axes)
    }

    pub fn view_mut(&mut self) -> Result<ViewMut<'_, T, Device>> {
        self.memory.view_mut_of(self.elements.clone(), self.axes)
    }

    /// As reports know it.
    pub fn raw(&self) -> ptx_emulator::Buffer<T> {
        self.memory.raw()
    }
}

#[cfg(feature = "emulator")]
impl<T: Element> Buffer<T> {
    /// A copy for kernels to read.
    pub fn input<'e>(&self, device: &'e Emulator, name: &str) -> Result<Placed<'e, T>> {
        self.placed(device.upload(&self.memory)?.named(name))
    }

    /// Memory as large for kernels to write, which nobody has written.
    pub fn output<'e>(&self, device: &'e Emulator, name: &str) -> Result<Placed<'e, T>> {
        self.placed(device.alloc(self.memory.len())?.named(name))
    }

    /// All but the elements is forbidden.
    fn placed<'e>(&self, memory: EmulatedBuffer<'e, T>) -> Result<Placed<'e, T>> {
        let mut places = self.places();
        places.sort_unstable();
        places.push(self.memory.len());
        let mut next = 0;
        for place in places {
            if place > next {
                memory.forbid(next..place, true)?;
            }
            next = place + 1;
        }
        Ok(Placed { memory, elements: self.lead..self.lead + self.len, axes: self.view_axes() })
    }

    /// What the device holds by now; NaN where nobody has written.
    pub fn fetch(&mut self, placed: &Placed<'_, T>) -> Result<()> {
        self.memory = placed.memory.download()?;
        Ok(())
    }
}
