//! Tensors of a call in some memory: the same values, near or far from each other.

use ssm_kernels::{Axes, Axis, Element, Storage, View, ViewMut};
use std::cell::{Cell, RefCell};

/// How the axes of a tensor lie.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// The axis of stride 1, if a tensor has it.
    pub dense: &'static str,
    /// Elements between neighbours along the fastest of the other axes; without it all lie side by side.
    pub apart: Option<usize>,
}

/// Where the tensors of one call lie.
pub trait Memory {
    type S: Storage;
    /// A distance of at least `apart` elements of `bytes` bytes that this memory has.
    fn distance(&self, apart: usize, bytes: usize) -> usize;
    /// New memory whose elements at `offsets` have these values, or hold nothing.
    fn lay<T: Element>(&self, offsets: &[usize], values: Option<&[T]>) -> u64;
    /// The elements there.
    fn read<T: Element>(&self, start: u64, offsets: &[usize]) -> Vec<T>;
    /// The elements from `start` on as a tensor.
    fn view<T: Element>(&self, start: u64, elements: usize, axes: Axes) -> View<'static, T, Self::S>;
    /// So too, of memory that no other view reaches.
    fn view_mut<T: Element>(&self, start: u64, elements: usize, axes: Axes) -> ViewMut<'static, T, Self::S>;
}

/// Reads a result's bits.
type Read<M> = Box<dyn Fn(&M) -> Vec<u32>>;

/// Tensors of values that are the same in every memory and layout.
pub struct Tensors<M> {
    memory: M,
    layout: Layout,
    seed: Cell<u32>,
    results: RefCell<Vec<(&'static str, Read<M>)>>,
}

impl<M: Memory> Tensors<M> {
    pub fn new(memory: M, layout: Layout) -> Self {
        Self { memory, layout, seed: Cell::new(1), results: RefCell::default() }
    }

    /// Values of -1 to 1.
    pub fn input<T: Element>(&self, dims: &[(&'static str, usize)]) -> View<'static, T, M::S> {
        self.scaled(dims, |value| value)
    }

    /// Values of -1 to 0.
    pub fn negative<T: Element>(&self, dims: &[(&'static str, usize)]) -> View<'static, T, M::S> {
        self.scaled(dims, |value| value / 2.0 - 0.5)
    }

    fn scaled<T: Element>(&self, dims: &[(&'static str, usize)], value: impl Fn(f32) -> f32) -> View<'static, T, M::S> {
        let (axes, offsets) = self.places::<T>(dims);
        let values: Vec<T> = offsets.iter().map(|_| T::from_f32(value(self.draw()))).collect();
        let start = self.memory.lay(&offsets, Some(&values));
        self.memory.view(start, reach(&offsets), axes)
    }

    /// Room for a result.
    pub fn output<T: Element>(&self, name: &'static str, dims: &[(&'static str, usize)]) -> ViewMut<'static, T, M::S> {
        self.result::<T>(name, dims, false)
    }

    /// Values that a call changes.
    pub fn in_place<T: Element>(
        &self,
        name: &'static str,
        dims: &[(&'static str, usize)],
    ) -> ViewMut<'static, T, M::S> {
        self.result::<T>(name, dims, true)
    }

    fn result<T: Element>(
        &self,
        name: &'static str,
        dims: &[(&'static str, usize)],
        written: bool,
    ) -> ViewMut<'static, T, M::S> {
        let (axes, offsets) = self.places::<T>(dims);
        let values: Option<Vec<T>> = written.then(|| offsets.iter().map(|_| T::from_f32(self.draw())).collect());
        let start = self.memory.lay(&offsets, values.as_deref());
        let view = self.memory.view_mut(start, reach(&offsets), axes);
        let read = move |memory: &M| -> Vec<u32> {
            memory.read::<T>(start, &offsets).iter().map(|value| value.to_f32().to_bits()).collect()
        };
        self.results.borrow_mut().push((name, Box::new(read)));
        view
    }

    /// The bits of all results, in canonical order.
    pub fn results(&self) -> Vec<(&'static str, Vec<u32>)> {
        self.results.borrow().iter().map(|(name, read)| (*name, read(&self.memory))).collect()
    }

    fn draw(&self) -> f32 {
        self.seed.set(self.seed.get().wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
        (self.seed.get() >> 8) as f32 / (1 << 23) as f32 - 1.0
    }

    /// The axes, and where the elements lie, in canonical order.
    fn places<T>(&self, dims: &[(&'static str, usize)]) -> (Axes, Vec<usize>) {
        let Layout { dense, apart } = self.layout;
        let mut axes: Vec<Axis> = dims.iter().map(|&(name, extent)| Axis { name, extent, stride: 1 }).collect();
        let mut stride = axes.iter().find(|axis| axis.name == dense).map_or(1, |axis| axis.extent);
        if let Some(apart) = apart {
            stride = self.memory.distance(apart, size_of::<T>());
        }
        for axis in axes.iter_mut().rev().filter(|axis| axis.name != dense) {
            axis.stride = stride as i64;
            stride *= axis.extent;
        }
        let offsets = axes.iter().fold(vec![0], |offsets, axis| {
            let along = |&offset: &usize| (0..axis.extent).map(move |i| offset + i * axis.stride as usize);
            offsets.iter().flat_map(along).collect()
        });
        (Axes::from_slice(&axes).expect("at most four dimensions"), offsets)
    }
}

/// Elements from the first to the last.
fn reach(offsets: &[usize]) -> usize {
    offsets.iter().max().map_or(0, |last| last + 1)
}
