//! Strided views with named dimensions, and the canonical forms that contracts hand to backends.

use super::layout::{Axes, Layout, MAX_RANK};
use super::region::{Region, RegionMut};
use super::storage::{Host, Slice, SliceMut, Storage};
use crate::error::Result;

/// A tensor that an operator reads: memory, named dimensions, strides in elements.
///
/// Dimensions may come in any order; the contract finds them by name. A channel-last tensor is
/// `[("batch", b), ("seqlen", l), ("dim", d)]` and needs no copy. Construction checks nothing: the operator
/// that takes the view checks names, strides and memory, and its error can then name the argument.
///
/// ```
/// use ssm_kernels::View;
/// let data = vec![0.0f32; 2 * 3 * 64];
/// let channel_last = View::new(&data, [("batch", 2), ("seqlen", 64), ("dim", 3)]);
/// // Every second row of a wider tensor:
/// let slice = View::strided(&data, [("batch", 2, 192), ("dim", 1, 128), ("seqlen", 64, 1)]);
/// assert_eq!(channel_last.axes().as_slice()[2].stride, 1);
/// assert_eq!(slice.axes().as_slice()[1].extent, 1);
/// ```
pub struct View<'a, T: 'a, S: Storage = Host> {
    memory: Region<'a, T, S>,
    axes: Axes,
}

impl<T, S: Storage> Clone for View<'_, T, S> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T, S: Storage> Copy for View<'_, T, S> {}

impl<T, S: Storage> std::fmt::Debug for View<'_, T, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "View({})", self.axes.describe())
    }
}

impl<'a, T> View<'a, T, Host> {
    /// A dense host tensor, last dimension fastest. `data` must hold exactly its elements.
    pub fn new<const N: usize>(data: &'a [T], dims: [(&'static str, usize); N]) -> Self {
        Self::from_parts(data, Axes::dense(dims))
    }

    /// A host tensor with any strides (name, extent, stride in elements); element 0 is `data[0]`.
    pub fn strided<const N: usize>(data: &'a [T], dims: [(&'static str, usize, i64); N]) -> Self {
        Self::from_parts(data, Axes::strided(dims))
    }

    /// A host tensor of which only its own elements are lent: between them may lie those of other tensors, of outputs of the
    /// same call too. `elements` is the length of the memory from `start`, the tensor's first element, on.
    ///
    /// # Safety
    /// Every element that `axes` name, if it lies below `elements`, is a valid `T` at `start` plus its offset, in one
    /// allocation; for `'a` it stays there, and nobody writes it.
    pub unsafe fn from_raw_parts(start: *const T, elements: usize, axes: Axes) -> Self {
        // SAFETY: the caller's promise.
        Self { memory: unsafe { Region::from_raw_parts(start, elements) }, axes }
    }
}

impl<'a, T, S: Storage> View<'a, T, S> {
    /// A view of any storage.
    pub fn from_parts(memory: impl Into<Slice<'a, T, S>>, axes: Axes) -> Self {
        Self { memory: memory.into().into(), axes }
    }

    /// Its dimensions.
    pub fn axes(&self) -> &Axes {
        &self.axes
    }

    /// The dimensions `names` in that order, their memory checked.
    pub(crate) fn align<const R: usize>(
        self,
        op: &'static str,
        arg: &'static str,
        names: [&'static str; R],
    ) -> Result<Strided<'a, T, S, R>> {
        let layout = self.axes.align(op, arg, self.memory.elements(), names)?;
        Ok(Strided { memory: self.memory, layout })
    }

    /// As `align`, with the extents that the other arguments imply.
    pub(crate) fn align_to<const R: usize>(
        self,
        op: &'static str,
        arg: &'static str,
        names: [&'static str; R],
        extents: [usize; R],
    ) -> Result<Strided<'a, T, S, R>> {
        let aligned = self.align(op, arg, names)?;
        aligned.layout.expect_shape(op, arg, names, extents)?;
        Ok(aligned)
    }

    /// The view over all of `domain`, with stride 0 along the dimensions that it lacks.
    pub(crate) fn broadcast(
        self,
        op: &'static str,
        arg: &'static str,
        domain: &Axes,
    ) -> Result<Strided<'a, T, S, MAX_RANK>> {
        let layout = self.axes.broadcast(op, arg, self.memory.elements(), domain)?;
        Ok(Strided { memory: self.memory, layout })
    }
}

/// A tensor that an operator writes. As [`View`], with strides that address every element once.
///
/// ```
/// use ssm_kernels::prelude::*;
/// let (x, weight) = ([1.0f32, 2.0, 3.0], [2.0f32]);
/// let conv = CausalConv1d::new(
///     View::new(&x, [("batch", 1), ("dim", 1), ("seqlen", 3)]),
///     View::new(&weight, [("dim", 1), ("width", 1)]),
/// )?;
/// // Into the second of two columns; what lies between is left alone.
/// let mut wide = [0.0f32; 6];
/// let mut column = ViewMut::strided(&mut wide[1..], [("batch", 1, 6), ("seqlen", 3, 2), ("dim", 1, 1)]);
/// Cpu::new().forward(&conv, CausalConv1dOutputs::new(&mut column))?;
/// assert_eq!(wide, [0.0, 2.0, 0.0, 4.0, 0.0, 6.0]);
/// # Ok::<(), ssm_kernels::Error>(())
/// ```
pub struct ViewMut<'a, T: 'a, S: Storage = Host> {
    memory: RegionMut<'a, T, S>,
    axes: Axes,
}

impl<T, S: Storage> std::fmt::Debug for ViewMut<'_, T, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ViewMut({})", self.axes.describe())
    }
}

impl<'a, T> ViewMut<'a, T, Host> {
    /// A dense host tensor, last dimension fastest. `data` must hold exactly its elements.
    pub fn new<const N: usize>(data: &'a mut [T], dims: [(&'static str, usize); N]) -> Self {
        Self::from_parts(data, Axes::dense(dims))
    }

    /// A host tensor with any strides (name, extent, stride in elements); element 0 is `data[0]`.
    pub fn strided<const N: usize>(data: &'a mut [T], dims: [(&'static str, usize, i64); N]) -> Self {
        Self::from_parts(data, Axes::strided(dims))
    }

    /// A host tensor of which only its own elements are lent: those between them are neither read nor written, and may be
    /// written by others meanwhile. `elements` is the length of the memory from `start`, the tensor's first element, on.
    ///
    /// # Safety
    /// As for [`View::from_raw_parts`], and nobody else reads or writes the tensor's elements for `'a`. (Elements that two
    /// arguments of a call share are found and refused.)
    pub unsafe fn from_raw_parts(start: *mut T, elements: usize, axes: Axes) -> Self {
        // SAFETY: the caller's promise.
        Self { memory: unsafe { RegionMut::from_raw_parts(start, elements) }, axes }
    }
}

impl<'a, T, S: Storage> ViewMut<'a, T, S> {
    /// A view of any storage.
    pub fn from_parts(memory: impl Into<SliceMut<'a, T, S>>, axes: Axes) -> Self {
        Self { memory: memory.into().into(), axes }
    }

    /// Its dimensions.
    pub fn axes(&self) -> &Axes {
        &self.axes
    }

    /// The same view for a shorter time, so that one view serves several calls.
    pub fn reborrow(&mut self) -> ViewMut<'_, T, S> {
        ViewMut { memory: self.memory.reborrow(), axes: self.axes }
    }

    /// The extents of the dimensions `names`, in that order.
    pub(crate) fn shape<const R: usize>(
        &self,
        op: &'static str,
        arg: &'static str,
        names: [&'static str; R],
    ) -> Result<[usize; R]> {
        Ok(self.axes.align(op, arg, self.memory.elements(), names)?.extents)
    }

    /// The dimensions `names` in that order with these extents, memory and self-overlap checked.
    pub(crate) fn align_to<const R: usize>(
        self,
        op: &'static str,
        arg: &'static str,
        names: [&'static str; R],
        extents: [usize; R],
    ) -> Result<StridedMut<'a, T, S, R>> {
        let layout = self.axes.align(op, arg, self.memory.elements(), names)?;
        layout.expect_shape(op, arg, names, extents)?;
        layout.expect_injective(op, arg, names)?;
        Ok(StridedMut { memory: self.memory, layout })
    }

    /// The view over `domain`, none of whose dimensions it may lack.
    pub(crate) fn over(
        self,
        op: &'static str,
        arg: &'static str,
        domain: &Axes,
    ) -> Result<StridedMut<'a, T, S, MAX_RANK>> {
        let layout = self.axes.broadcast(op, arg, self.memory.elements(), domain)?;
        if self.axes.as_slice().len() != domain.as_slice().len() {
            let (got, expected) = (self.axes.names(), domain.names());
            return Err(crate::Error::Dimensions { op, arg, got, expected });
        }
        let names = std::array::from_fn(|i| domain.as_slice().get(i).map_or("", |axis| axis.name));
        layout.expect_injective(op, arg, names)?;
        Ok(StridedMut { memory: self.memory, layout })
    }
}

/// An input in canonical order; every index below the extents lies inside the memory.
pub(crate) struct Strided<'a, T: 'a, S: Storage, const R: usize> {
    pub memory: Region<'a, T, S>,
    pub layout: Layout<R>,
}

impl<T, S: Storage, const R: usize> Clone for Strided<'_, T, S, R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T, S: Storage, const R: usize> Copy for Strided<'_, T, S, R> {}

impl<'a, T, S: Storage> Strided<'a, T, S, 1> {
    /// A run of elements as a tensor.
    pub fn flat(memory: Slice<'a, T, S>) -> Self {
        let layout = Layout { extents: [memory.elements()], strides: [1] };
        Self { memory: memory.into(), layout }
    }
}

impl<T: Copy, const R: usize> Strided<'_, T, Host, R> {
    /// The element at `index`.
    #[inline(always)]
    pub fn at(&self, index: [usize; R]) -> T {
        // SAFETY: an element of the view, which is readable.
        unsafe { self.line(index, 0, 1).read() }
    }

    /// Where `count` elements, 1 or more, from `index` on along dimension `axis` lie, one stride from each other.
    ///
    /// # Panics
    /// If one lies beyond the memory.
    #[inline(always)]
    pub fn line(&self, index: [usize; R], axis: usize, count: usize) -> *const T {
        debug_assert!(index.iter().zip(self.layout.extents).all(|(&i, extent)| i < extent), "{index:?}");
        debug_assert!(index[axis] + count <= self.layout.extents[axis], "{count} from {index:?} on");
        // Strides are not negative.
        self.memory.from(self.layout.offset(index), (count - 1) * self.layout.strides[axis] as usize)
    }
}

/// An output in canonical order; distinct indices are distinct elements inside the memory.
pub(crate) struct StridedMut<'a, T: 'a, S: Storage, const R: usize> {
    pub memory: RegionMut<'a, T, S>,
    pub layout: Layout<R>,
}

impl<T: Copy, const R: usize> StridedMut<'_, T, Host, R> {
    /// The tensor, to be read.
    pub fn as_input(&self) -> Strided<'_, T, Host, R> {
        // SAFETY: its elements are this view's, which is borrowed meanwhile.
        let memory = unsafe { Region::from_raw_parts(self.memory.start(), self.memory.elements()) };
        Strided { memory, layout: self.layout }
    }
}
