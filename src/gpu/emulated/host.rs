//! Host tensors on the emulator: copied there for one call, and the results copied back.

mod causal_conv1d;
mod discretise;
mod selective_scan;
mod state_update;

use super::{EmulatedBuffer, Emulator};
use crate::error::Result;
use crate::tensor::{Axes, Axis, Device, Host, Layout, Strided, StridedMut, View, ViewMut};
use bytemuck::Pod;

/// A backend for host tensors that runs the GPU backend's kernels on an emulated device. Its plans need no workspace:
/// what the kernels need lies on the device. If a kernel misbehaves, nothing is copied back.
#[derive(Debug, Clone, Copy)]
pub struct OnHost<'e>(pub(super) &'e Emulator);

/// A tensor's copy on the device.
struct Copied<'e, T: Pod> {
    memory: EmulatedBuffer<'e, T>,
    axes: Axes,
}

impl<T: Pod> Copied<'_, T> {
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

impl<'e> OnHost<'e> {
    fn copy<T: Pod, const R: usize>(
        self,
        name: &str,
        names: &[&'static str],
        tensor: &Strided<'_, T, Host, R>,
    ) -> Result<Copied<'e, T>> {
        let memory = self.0.upload(tensor.memory.as_slice())?.named(name);
        Ok(Copied { memory, axes: axes(names, &tensor.layout)? })
    }

    fn optional<T: Pod, const R: usize>(
        self,
        name: &str,
        names: &[&'static str],
        tensor: &Option<Strided<'_, T, Host, R>>,
    ) -> Result<Option<Copied<'e, T>>> {
        tensor.as_ref().map(|tensor| self.copy(name, names, tensor)).transpose()
    }

    fn room<T: Pod, const R: usize>(
        self,
        name: &str,
        names: &[&'static str],
        tensor: &StridedMut<'_, T, Host, R>,
    ) -> Result<Copied<'e, T>> {
        let memory = self.0.alloc(tensor.memory.elements())?.named(name);
        Ok(Copied { memory, axes: axes(names, &tensor.layout)? })
    }

    /// As `room`, holding what the tensor holds: for one that is written in place.
    fn filled_room<T: Pod, const R: usize>(
        self,
        name: &str,
        names: &[&'static str],
        tensor: &StridedMut<'_, T, Host, R>,
    ) -> Result<Copied<'e, T>> {
        let memory = self.0.upload(tensor.memory.as_slice())?.named(name);
        Ok(Copied { memory, axes: axes(names, &tensor.layout)? })
    }

    fn optional_room<T: Pod, const R: usize>(
        self,
        name: &str,
        names: &[&'static str],
        tensor: &Option<StridedMut<'_, T, Host, R>>,
    ) -> Result<Option<Copied<'e, T>>> {
        tensor.as_ref().map(|tensor| self.room(name, names, tensor)).transpose()
    }
}

/// The elements of the tensor, and nothing beside them, from its copy.
fn fetch<T: Pod, const R: usize>(copied: &Copied<'_, T>, tensor: StridedMut<'_, T, Host, R>) -> Result<()> {
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

fn fetch_optional<T: Pod, const R: usize>(
    copied: &Option<Copied<'_, T>>,
    tensor: Option<StridedMut<'_, T, Host, R>>,
) -> Result<()> {
    copied.iter().zip(tensor).try_for_each(|(copied, tensor)| fetch(copied, tensor))
}
