//! Host tensors on a device: copied there for one call, and the results copied back.

mod causal_conv1d;
mod discretise;
mod selective_scan;
mod state_update;

use super::Gpu;
use super::launcher::Launcher;
use crate::error::Result;
use crate::tensor::{Axes, Axis, Device, Host, Layout, Slice, SliceMut, Strided, StridedMut, View, ViewMut};
use bytemuck::Pod;

/// A backend for host tensors that runs the GPU backend's kernels on a device: an emulated one
/// (`Emulator::on_host`), or the CUDA driver's (`Gpu::<OnStream>::on_host`). Its plans need no workspace: what the kernels need
/// lies on the device. Copies go both ways in every call, and it returns when the results are there: for trying kernels out
/// and for tests, not for work. If a kernel misbehaves, nothing is copied back.
#[derive(Debug, Clone, Copy)]
pub struct OnHost<M>(pub(super) M);

/// A device with memory that the library may allocate. Not for other crates to implement.
pub trait Board: Copy {
    /// Elements in its memory.
    type Buffer<T: Pod>: BoardBuffer<T>;
    /// Where calls are enqueued.
    type Launcher: Launcher;

    /// Memory for `len` elements that nobody has written. The name is for messages.
    fn room<T: Pod>(self, name: &str, len: usize) -> Result<Self::Buffer<T>>;

    /// Memory that holds a copy of `elements`.
    fn copy<T: Pod>(self, name: &str, elements: &[T]) -> Result<Self::Buffer<T>>;

    /// The backend there.
    fn gpu(self) -> Gpu<Self::Launcher>;
}

/// Elements in a device's memory, freed when dropped.
pub trait BoardBuffer<T> {
    /// The elements as a device slice.
    fn slice(&self) -> Slice<'_, T, Device>;

    /// The elements as a device slice that is written.
    fn slice_mut(&mut self) -> SliceMut<'_, T, Device>;

    /// The elements, once the work that writes them is done.
    fn download(&self) -> Result<Vec<T>>;
}

/// A tensor's copy on the device.
struct Copied<M: Board, T: Pod> {
    memory: M::Buffer<T>,
    axes: Axes,
}

impl<M: Board, T: Pod> Copied<M, T> {
    fn view(&self) -> View<'_, T, Device> {
        View::from_parts(self.memory.slice(), self.axes)
    }

    fn view_mut(&mut self) -> ViewMut<'_, T, Device> {
        ViewMut::from_parts(self.memory.slice_mut(), self.axes)
    }
}

fn axes<const R: usize>(names: &[&'static str], layout: &Layout<R>) -> Result<Axes> {
    let all = names.iter().zip(layout.extents).zip(layout.strides);
    let all: Vec<Axis> = all.map(|((&name, extent), stride)| Axis { name, extent, stride }).collect();
    Axes::from_slice(&all)
}

impl<M: Board> OnHost<M> {
    fn copy<T: Pod, const R: usize>(
        self,
        name: &str,
        names: &[&'static str],
        tensor: &Strided<'_, T, Host, R>,
    ) -> Result<Copied<M, T>> {
        Ok(Copied { memory: self.0.copy(name, tensor.memory.as_slice())?, axes: axes(names, &tensor.layout)? })
    }

    fn optional<T: Pod, const R: usize>(
        self,
        name: &str,
        names: &[&'static str],
        tensor: &Option<Strided<'_, T, Host, R>>,
    ) -> Result<Option<Copied<M, T>>> {
        tensor.as_ref().map(|tensor| self.copy(name, names, tensor)).transpose()
    }

    fn room<T: Pod, const R: usize>(
        self,
        name: &str,
        names: &[&'static str],
        tensor: &StridedMut<'_, T, Host, R>,
    ) -> Result<Copied<M, T>> {
        Ok(Copied { memory: self.0.room(name, tensor.memory.elements())?, axes: axes(names, &tensor.layout)? })
    }

    /// As `room`, holding what the tensor holds: for one that is written in place.
    fn filled_room<T: Pod, const R: usize>(
        self,
        name: &str,
        names: &[&'static str],
        tensor: &StridedMut<'_, T, Host, R>,
    ) -> Result<Copied<M, T>> {
        Ok(Copied { memory: self.0.copy(name, tensor.memory.as_slice())?, axes: axes(names, &tensor.layout)? })
    }

    fn optional_room<T: Pod, const R: usize>(
        self,
        name: &str,
        names: &[&'static str],
        tensor: &Option<StridedMut<'_, T, Host, R>>,
    ) -> Result<Option<Copied<M, T>>> {
        tensor.as_ref().map(|tensor| self.room(name, names, tensor)).transpose()
    }
}

/// The elements of the tensor, and nothing beside them, from its copy.
fn fetch<M: Board, T: Pod, const R: usize>(copied: &Copied<M, T>, tensor: StridedMut<'_, T, Host, R>) -> Result<()> {
    if tensor.layout.is_empty() {
        return Ok(());
    }
    let (got, layout) = (copied.memory.download()?, tensor.layout);
    let memory = tensor.memory.into_slice();
    let mut index = [0; R];
    loop {
        let place = layout.offset(index);
        memory[place] = got[place];
        let Some(i) = (0..R).rev().find(|&i| index[i] + 1 < layout.extents[i]) else { return Ok(()) };
        index[i] += 1;
        index[i + 1..].fill(0);
    }
}

fn fetch_optional<M: Board, T: Pod, const R: usize>(
    copied: &Option<Copied<M, T>>,
    tensor: Option<StridedMut<'_, T, Host, R>>,
) -> Result<()> {
    copied.iter().zip(tensor).try_for_each(|(copied, tensor)| fetch(copied, tensor))
}
