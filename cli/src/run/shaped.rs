//! Tensors of a file with a known number of dimensions, in the memory order of `--layout`.

use crate::args::Layout;
use crate::error::{CliError, Result};
use crate::input::Input;
use crate::memory::{Memory, filled};
use crate::metadata::refuse;
use crate::tensor::{Io, Scalar};
use ssm_kernels::prelude::*;
use std::borrow::Cow;

/// A tensor of R dimensions.
pub(crate) struct Shaped<'f, T: Clone, const R: usize> {
    pub extents: [usize; R],
    pub data: Cow<'f, [T]>,
}

impl<T: Clone, const R: usize> Shaped<'_, T, R> {
    /// The same elements.
    pub fn lent(&self) -> Shaped<'_, T, R> {
        Shaped { extents: self.extents, data: Cow::Borrowed(&self.data) }
    }
}

impl<'f, T: Io, const R: usize> Shaped<'f, T, R> {
    /// Other elements in the same places.
    pub fn mapped<'s, U: Io>(
        &'s self,
        elements: &impl Fn(&'s [T]) -> Result<Cow<'s, [U]>>,
    ) -> Result<Shaped<'s, U, R>> {
        Ok(Shaped { extents: self.extents, data: elements(&self.data)? })
    }
}

/// The elements rounded to `U`, lent where that is what they are.
pub(crate) fn converted<T: Io, U: Io>(data: &[T]) -> Result<Cow<'_, [U]>> {
    match bytemuck::try_cast_slice(data) {
        Ok(same) if T::DTYPE == U::DTYPE => Ok(Cow::Borrowed(same)),
        _ => {
            let mut rounded = filled(data.len(), U::from_f32(0.0))?;
            rounded.iter_mut().zip(data).for_each(|(to, from)| *to = U::from_f32(from.to_f32()));
            Ok(Cow::Owned(rounded))
        }
    }
}

/// A tensor of (batch, dim, seqlen), in the memory order of `layout`.
pub(super) fn sequence<'f, T: Io>(
    input: &Input<'f>,
    name: &str,
    layout: Layout,
    memory: &mut Memory,
) -> Result<Option<Shaped<'f, T, 3>>> {
    let Some(tensor) = shaped::<T, 3>(input, name, ["batch", "dim", "seqlen"])? else { return Ok(None) };
    if layout == Layout::ChannelLast {
        memory.plan(tensor.data.len(), size_of::<T>())?;
        memory.reserve()?;
    }
    let data = laid_out(tensor.data, tensor.extents, layout)?;
    Ok(Some(Shaped { extents: tensor.extents, data }))
}

pub(super) fn sequence_view<'v, T: Io>(tensor: &'v Shaped<'_, T, 3>, layout: Layout) -> View<'v, T> {
    let [batch, dim, seqlen] = tensor.extents;
    match layout {
        Layout::ChannelFirst => View::new(&tensor.data, [("batch", batch), ("dim", dim), ("seqlen", seqlen)]),
        Layout::ChannelLast => View::new(&tensor.data, [("batch", batch), ("seqlen", seqlen), ("dim", dim)]),
    }
}

pub(super) fn shaped<'f, T: Scalar, const R: usize>(
    input: &Input<'f>,
    name: &str,
    names: [&str; R],
) -> Result<Option<Shaped<'f, T, R>>> {
    let Some(tensor) = input.optional::<T>(name)? else { return Ok(None) };
    let extents = tensor.extents(input.op(), name, names)?;
    Ok(Some(Shaped { extents, data: tensor.data }))
}

/// The tensor, or the error that it is missing.
pub(super) fn needed<'f, T: Clone, const R: usize>(
    input: &Input<'f>,
    name: &str,
    tensor: Option<Shaped<'f, T, R>>,
) -> Result<Shaped<'f, T, R>> {
    input.required(name)?;
    tensor.ok_or_else(|| CliError::value(input.op(), name, "is missing", "in every file"))
}

/// From the tensor, which the metadata may repeat.
pub(super) fn segments(input: &Input<'_>) -> Result<Option<Segments>> {
    let tensor = input.optional::<i32>("cu_seqlens")?;
    let listed = input.metadata.list::<i32>("cu_seqlens")?;
    let said = || input.metadata.text("cu_seqlens").unwrap_or_default();
    match (tensor, listed) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(refuse("cu_seqlens", said(), "none because `cu_seqlens` is not in the file")),
        (Some(tensor), Some(listed)) if *tensor.data != *listed => {
            Err(refuse("cu_seqlens", said(), "the values of the tensor `cu_seqlens`"))
        }
        (Some(tensor), _) => {
            tensor.extents(input.op(), "cu_seqlens", ["nseqs + 1"])?;
            Ok(Some(Segments::new(&tensor.data)?))
        }
    }
}

/// A dense copy of (outer, rows, columns) as (outer, columns, rows).
fn reordered<T: Io>(data: &[T], [outer, rows, columns]: [usize; 3]) -> Result<Vec<T>> {
    let mut copy = filled(data.len(), T::from_f32(0.0))?;
    // Without elements the loops below would still visit the other extents.
    if data.is_empty() {
        return Ok(copy);
    }
    for o in 0..outer {
        let matrix = o * rows * columns;
        for row in 0..rows {
            for column in 0..columns {
                copy[matrix + column * rows + row] = data[matrix + row * columns + column];
            }
        }
    }
    Ok(copy)
}

/// Data of a file in the memory order of `layout`.
fn laid_out<'f, T: Io>(data: Cow<'f, [T]>, extents: [usize; 3], layout: Layout) -> Result<Cow<'f, [T]>> {
    match layout {
        Layout::ChannelFirst => Ok(data),
        Layout::ChannelLast => Ok(Cow::Owned(reordered(&data, extents)?)),
    }
}

/// A result in the memory order of `layout`, as files have it.
pub(super) fn channel_first<T: Io>(data: Vec<T>, [batch, dim, seqlen]: [usize; 3], layout: Layout) -> Result<Vec<T>> {
    match layout {
        Layout::ChannelFirst => Ok(data),
        Layout::ChannelLast => reordered(&data, [batch, seqlen, dim]),
    }
}

/// A (batch, dim, seqlen) result in the memory order of `layout`.
pub(super) fn sequence_view_mut<T>(data: &mut [T], [batch, dim, seqlen]: [usize; 3], layout: Layout) -> ViewMut<'_, T> {
    match layout {
        Layout::ChannelFirst => ViewMut::new(data, [("batch", batch), ("dim", dim), ("seqlen", seqlen)]),
        Layout::ChannelLast => ViewMut::new(data, [("batch", batch), ("seqlen", seqlen), ("dim", dim)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reordering_twice_is_nothing() {
        let data: Vec<f32> = (0..24).map(|i| i as f32).collect();
        let once = reordered(&data, [2, 3, 4]).unwrap();
        assert_eq!(once[..4], [0.0, 4.0, 8.0, 1.0]);
        assert_eq!(reordered(&once, [2, 4, 3]).unwrap(), data);
        assert!(reordered::<f32>(&[], [1 << 40, 1 << 40, 0]).unwrap().is_empty());
    }
}
