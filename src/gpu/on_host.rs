//! Host tensors on a device: copied there for one call, and the results copied back.

mod causal_conv1d;
mod discretise;
mod selective_scan;
mod state_update;

use super::Gpu;
use super::launcher::Launcher;
use crate::error::{Error, Result};
use crate::tensor::{Axes, Axis, Device, Host, Layout, Slice, SliceMut, Strided, StridedMut, View, ViewMut};
use bytemuck::Pod;

/// A backend for host tensors that runs the GPU backend's kernels on a device: an emulated one
/// (`Emulator::on_host`), or the CUDA driver's (`Gpu::<OnStream>::on_host`, `Gpu::<OnCust>::on_host`). Its plans need no workspace: what the kernels need
/// lies on the device. Copies go both ways in every call, and it returns when the results are there: for trying kernels out
/// and for tests, not for work. If anything fails, no tensor is touched.
#[derive(Debug, Clone, Copy)]
pub struct OnHost<M>(pub(super) M);

mod sealed {
    pub trait Sealed {}

    #[cfg(feature = "cuda")]
    impl Sealed for crate::gpu::OnStream {}
    #[cfg(feature = "cuda")]
    impl<T: bytemuck::Pod> Sealed for crate::gpu::DriverBuffer<T> {}
    #[cfg(feature = "cust")]
    impl Sealed for crate::gpu::OnCust<'_> {}
    #[cfg(feature = "cust")]
    impl<T: bytemuck::Pod> Sealed for crate::gpu::CustBuffer<'_, T> {}
    #[cfg(feature = "emulator")]
    impl Sealed for &crate::gpu::Emulator {}
    #[cfg(feature = "emulator")]
    impl<T: bytemuck::Pod> Sealed for crate::gpu::EmulatedBuffer<'_, T> {}
}

/// A device with memory that the library may allocate. Sealed.
pub trait Board: sealed::Sealed + Copy {
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

/// Elements in a device's memory, freed when dropped. Sealed.
pub trait BoardBuffer<T>: sealed::Sealed {
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
        Ok(Copied { memory: self.0.copy(name, &gathered(name, tensor)?)?, axes: axes(names, &tensor.layout)? })
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
        self.copy(name, names, &tensor.as_input())
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

/// The elements of the tensor where they lie, and zeros between them, where elements of others may lie.
fn gathered<T: Pod, const R: usize>(name: &str, tensor: &Strided<'_, T, Host, R>) -> Result<Vec<T>> {
    let (elements, mut all) = (tensor.memory.elements(), Vec::new());
    let refused = |_| Error::OutOfMemory {
        what: format!("a copy of {name}"),
        bytes: Some(elements.saturating_mul(size_of::<T>())),
    };
    all.try_reserve_exact(elements).map_err(refused)?;
    all.resize(elements, T::zeroed());
    each(&tensor.layout, |index, place| all[place] = tensor.at(index));
    Ok(all)
}

/// What a call made, to be written when all of it is here: a copy that fails leaves every tensor as it was.
#[derive(Default)]
struct Results<'o>(Vec<Box<dyn FnOnce() + 'o>>);

impl<'o> Results<'o> {
    /// The elements of the tensor, and nothing beside them, from its copy.
    fn fetch<M: Board, T: Pod, const R: usize>(
        &mut self,
        copied: &Copied<M, T>,
        tensor: StridedMut<'o, T, Host, R>,
    ) -> Result<()> {
        if tensor.layout.is_empty() {
            return Ok(());
        }
        let got = copied.memory.download()?;
        self.0.push(Box::new(move || {
            let start = tensor.memory.start();
            // SAFETY: the contract checked that the elements lie inside the memory; they are this tensor's alone.
            each(&tensor.layout, |_, place| unsafe { start.add(place).write(got[place]) });
        }));
        Ok(())
    }

    fn optional<M: Board, T: Pod, const R: usize>(
        &mut self,
        copied: &Option<Copied<M, T>>,
        tensor: Option<StridedMut<'o, T, Host, R>>,
    ) -> Result<()> {
        copied.iter().zip(tensor).try_for_each(|(copied, tensor)| self.fetch(copied, tensor))
    }

    fn write(self) {
        self.0.into_iter().for_each(|write| write());
    }
}

/// Calls `visit` with every element's index and place; once for those that a stride of 0 puts in one place.
fn each<const R: usize>(layout: &Layout<R>, mut visit: impl FnMut([usize; R], usize)) {
    if layout.is_empty() {
        return;
    }
    let last: [usize; R] = std::array::from_fn(|i| if layout.strides[i] == 0 { 0 } else { layout.extents[i] - 1 });
    let mut index = [0; R];
    loop {
        visit(index, layout.offset(index));
        let Some(i) = (0..R).rev().find(|&i| index[i] < last[i]) else { return };
        index[i] += 1;
        index[i + 1..].fill(0);
    }
}
