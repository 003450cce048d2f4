//! Named dimensions with strides, and their canonical order.

use crate::error::{Error, Result};

/// The most dimensions a view has.
pub const MAX_RANK: usize = 4;

/// One dimension of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Axis {
    /// Name, one of the contract's: `"batch"`, `"dim"`, `"seqlen"`, `"dstate"`, ...
    pub name: &'static str,
    /// Number of elements along it.
    pub extent: usize,
    /// Distance in elements between neighbours along it. At least 0; 0 (a broadcast) on inputs only.
    pub stride: i64,
}

/// The dimensions of a view in the order of memory or any other: the contract finds them by name.
///
/// ```
/// use ssm_kernels::{Axes, Axis};
/// let axes = Axes::dense([("batch", 2), ("seqlen", 64), ("dim", 16)]);
/// assert_eq!(axes.as_slice()[0], Axis { name: "batch", extent: 2, stride: 1024 });
/// // Half of the channels of the same memory, and their number known at run time only.
/// let mut half = axes.as_slice().to_vec();
/// half[2].extent = 8;
/// assert_eq!(Axes::from_slice(&half)?.as_slice()[2].extent, 8);
/// # Ok::<(), ssm_kernels::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Axes {
    axes: [Axis; MAX_RANK],
    rank: usize,
    dense: bool,
}

impl Axes {
    /// Row-major without gaps, last dimension fastest: `[("batch", 2), ("seqlen", 64), ("dim", 16)]`.
    pub fn dense<const N: usize>(dims: [(&'static str, usize); N]) -> Self {
        const { assert!(N <= MAX_RANK) }
        Self::from_fn(N, |i| Axis { name: dims[i].0, extent: dims[i].1, stride: 1 }).packed()
    }

    /// Any strides, in elements: `[("dim", 16, 64), ("seqlen", 64, 1)]`.
    pub fn strided<const N: usize>(dims: [(&'static str, usize, i64); N]) -> Self {
        const { assert!(N <= MAX_RANK) }
        Self::from_fn(N, |i| Axis { name: dims[i].0, extent: dims[i].1, stride: dims[i].2 })
    }

    /// From a list whose length is known at run time only.
    pub fn from_slice(list: &[Axis]) -> Result<Self> {
        if list.len() > MAX_RANK {
            return Err(Error::Value {
                op: "view",
                arg: "dimensions",
                got: format!("{} dimensions", list.len()),
                expected: format!("at most {MAX_RANK}"),
            });
        }
        Ok(Self::from_fn(list.len(), |i| list[i]))
    }

    fn from_fn(rank: usize, axis: impl Fn(usize) -> Axis) -> Self {
        let mut axes = [Axis { name: "", extent: 1, stride: 0 }; MAX_RANK];
        for (i, slot) in axes.iter_mut().enumerate().take(rank) {
            *slot = axis(i);
        }
        Self { axes, rank, dense: false }
    }

    /// The dimensions as a slice.
    pub fn as_slice(&self) -> &[Axis] {
        &self.axes[..self.rank]
    }

    pub(super) fn names(&self) -> String {
        join(self.as_slice().iter().map(|axis| axis.name))
    }

    pub(super) fn describe(&self) -> String {
        join(self.as_slice().iter().map(|axis| format!("{} {} stride {}", axis.name, axis.extent, axis.stride)))
    }

    /// Elements of memory from the first to the last element of the view, both included.
    fn span(&self) -> i128 {
        if self.as_slice().iter().any(|axis| axis.extent == 0) {
            return 0;
        }
        // Beyond i128 is beyond any memory.
        self.as_slice().iter().fold(1, |span: i128, axis| {
            span.saturating_add((axis.extent as i128 - 1).saturating_mul(axis.stride.into()))
        })
    }

    /// Strides are not negative, and every element lies inside the memory.
    fn check_memory(&self, op: &'static str, arg: &'static str, elements: usize) -> Result<()> {
        for axis in self.as_slice() {
            if axis.stride < 0 {
                let expected = "at least 0 (run backwards with the operator's `reverse`)";
                return Err(Error::Stride { op, arg, dimension: axis.name, got: axis.stride, expected });
            }
        }
        let needed = self.span();
        let fits = if self.dense { needed == elements as i128 } else { needed <= elements as i128 };
        if !fits {
            let bound = if self.dense { "exactly" } else { "at least" };
            let expected = format!("{bound} {needed}");
            return Err(Error::Length { op, arg, got: elements, expected, shape: format!("({})", self.describe()) });
        }
        Ok(())
    }

    /// The canonical order `names`, each exactly once, after all checks of memory.
    pub(crate) fn align<const R: usize>(
        &self,
        op: &'static str,
        arg: &'static str,
        elements: usize,
        names: [&'static str; R],
    ) -> Result<Layout<R>> {
        let found = names.map(|name| self.as_slice().iter().find(|axis| axis.name == name));
        if self.rank != R || found.iter().any(Option::is_none) {
            return Err(Error::Dimensions { op, arg, got: self.names(), expected: join(names) });
        }
        self.check_memory(op, arg, elements)?;
        let axis = |i: usize| found[i].expect("checked above");
        Ok(Layout {
            extents: std::array::from_fn(|i| axis(i).extent),
            strides: std::array::from_fn(|i| axis(i).stride),
        })
    }

    /// The order and extents of `domain`; dimensions that the view lacks are broadcast (stride 0).
    pub(crate) fn broadcast(
        &self,
        op: &'static str,
        arg: &'static str,
        elements: usize,
        domain: &Axes,
    ) -> Result<Layout<MAX_RANK>> {
        let mut union = *domain;
        union.union(op, arg, self)?;
        union.expect_same_names(op, arg, domain)?;
        self.check_memory(op, arg, elements)?;
        let mut layout = Layout { extents: [1; MAX_RANK], strides: [0; MAX_RANK] };
        for (i, wanted) in domain.as_slice().iter().enumerate() {
            layout.extents[i] = wanted.extent;
            if let Some(axis) = self.as_slice().iter().find(|axis| axis.name == wanted.name) {
                layout.strides[i] = axis.stride;
            }
        }
        Ok(layout)
    }

    /// Adds the dimensions of `other` that are not here yet, and checks the extents of those that are.
    pub(crate) fn union(&mut self, op: &'static str, arg: &'static str, other: &Axes) -> Result<()> {
        for (i, axis) in other.as_slice().iter().enumerate() {
            if other.as_slice()[..i].iter().any(|earlier| earlier.name == axis.name) {
                let expected = format!("each name once, {} twice", axis.name);
                return Err(Error::Dimensions { op, arg, got: other.names(), expected });
            }
            match self.as_slice().iter().find(|here| here.name == axis.name) {
                Some(here) if here.extent == axis.extent => {}
                Some(here) => {
                    let (got, expected, names) = (vec![axis.extent], vec![here.extent], axis.name.to_string());
                    return Err(Error::Shape { op, arg, got, expected, names });
                }
                None if self.rank == MAX_RANK => {
                    let expected = format!("{} and no fifth dimension", self.names());
                    return Err(Error::Dimensions { op, arg, got: other.names(), expected });
                }
                None => {
                    self.axes[self.rank] = *axis;
                    self.rank += 1;
                }
            }
        }
        Ok(())
    }

    /// `self`, the union of `domain` and the dimensions of `arg`, has no dimension that `domain` lacks.
    fn expect_same_names(&self, op: &'static str, arg: &'static str, domain: &Axes) -> Result<()> {
        if self.rank == domain.rank {
            return Ok(());
        }
        let names = &self.as_slice()[domain.rank..];
        let got = join(names.iter().map(|axis| axis.name));
        Err(Error::Dimensions { op, arg, got, expected: domain.names() })
    }

    /// The same dimensions with dense strides.
    pub(crate) fn packed(mut self) -> Self {
        let mut stride = 1i64;
        for axis in self.axes[..self.rank].iter_mut().rev() {
            axis.stride = stride;
            stride = stride.saturating_mul(axis.extent.max(1) as i64);
        }
        self.dense = true;
        self
    }

    /// An empty list, to begin a union with.
    pub(crate) fn empty() -> Self {
        Self::from_fn(0, |_| unreachable!("no dimensions"))
    }
}

pub(crate) fn join(parts: impl IntoIterator<Item = impl ToString>) -> String {
    parts.into_iter().map(|part| part.to_string()).collect::<Vec<_>>().join(", ")
}

/// Extents and strides in canonical order, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout<const R: usize> {
    pub extents: [usize; R],
    pub strides: [i64; R],
}

impl Layout<3> {
    /// Of (batch, dim, seqlen): whether channels lie nearer to each other than steps do. One channel alone does not, whatever
    /// its stride: a dimension of one element has no order, and a row of a batch takes the way of the whole.
    #[inline(always)]
    pub fn by_channel(&self) -> bool {
        self.extents[1] > 1 && self.strides[1] < self.strides[2]
    }
}

impl<const R: usize> Layout<R> {
    /// Offset of an element; inside the memory for every index below the extents, because `align` checked the span.
    #[inline(always)]
    pub fn offset(&self, index: [usize; R]) -> usize {
        let mut offset = 0;
        for (i, stride) in index.into_iter().zip(self.strides) {
            offset += i as i64 * stride;
        }
        offset as usize
    }

    pub fn is_empty(&self) -> bool {
        self.extents.contains(&0)
    }

    pub fn expect_shape(
        &self,
        op: &'static str,
        arg: &'static str,
        names: [&'static str; R],
        expected: [usize; R],
    ) -> Result<()> {
        if self.extents == expected {
            return Ok(());
        }
        let (got, expected) = (self.extents.to_vec(), expected.to_vec());
        Err(Error::Shape { op, arg, got, expected, names: join(names) })
    }

    /// An output addresses every element once: sorted by stride, each stride steps over all that lies below it.
    pub fn expect_injective(&self, op: &'static str, arg: &'static str, names: [&'static str; R]) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let mut order: Vec<usize> = (0..R).filter(|&i| self.extents[i] > 1).collect();
        order.sort_by_key(|&i| self.strides[i]);
        let mut reach: i128 = 0;
        for i in order {
            if i128::from(self.strides[i]) <= reach {
                let expected = "more than the reach of the faster dimensions (an output must not overlap itself)";
                return Err(Error::Stride { op, arg, dimension: names[i], got: self.strides[i], expected });
            }
            reach += i128::from(self.strides[i]) * (self.extents[i] as i128 - 1);
        }
        Ok(())
    }
}
