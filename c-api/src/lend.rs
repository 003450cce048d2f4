//! What differs between host and device memory.

use ssm_kernels::prelude::*;
use ssm_kernels::{Axes, Device, Element, Error, Host, Slice, SliceMut, Storage};

use crate::status::refuse;

/// Memory that C lends.
pub(crate) trait Lend: Storage {
    const ON_HOST: bool;

    /// Of the memory only the elements that the axes name are lent: others' may lie between them.
    ///
    /// # Safety
    /// `start` is that of so many elements there; those that the axes name live for `'a` with nobody writing them.
    unsafe fn view<'a, T>(start: *const T, elements: usize, ordinal: u32, axes: Axes) -> View<'a, T, Self>;

    /// # Safety
    /// As for [`view`](Self::view), and nobody reads them either.
    unsafe fn view_mut<'a, T>(start: *mut T, elements: usize, ordinal: u32, axes: Axes) -> ViewMut<'a, T, Self>;

    /// # Safety
    /// `start` is that of so many elements there, which live for `'a` with nobody writing them.
    unsafe fn slice<'a, T>(start: *const T, elements: usize, ordinal: u32) -> Slice<'a, T, Self>;

    /// # Safety
    /// As for [`slice`](Self::slice), and nobody reads them either.
    unsafe fn slice_mut<'a, T>(start: *mut T, elements: usize, ordinal: u32) -> SliceMut<'a, T, Self>;

    /// # Safety
    /// The table, on a device, holds the segments' cu_seqlens.
    unsafe fn scan_segments<'a, T: Element>(
        scan: SelectiveScan<'a, T, Self>,
        packed: Packed<'a, Self>,
    ) -> SelectiveScan<'a, T, Self>;

    /// # Safety
    /// As for [`scan_segments`](Self::scan_segments).
    unsafe fn conv_segments<'a, T: Element, W: Element>(
        conv: CausalConv1d<'a, T, W, Self>,
        packed: Packed<'a, Self>,
    ) -> CausalConv1d<'a, T, W, Self>;

    /// # Safety
    /// On a device, no two indices that are not negative are the same.
    unsafe fn update_indices<'a, T: Element, H: Element>(
        update: StateUpdate<'a, T, H, Self>,
        state_indices: View<'a, i32, Self>,
    ) -> StateUpdate<'a, T, H, Self>;

    /// # Safety
    /// As for [`update_indices`](Self::update_indices).
    unsafe fn conv_update_lists<'a, T: Element, W: Element>(
        update: CausalConv1dUpdate<'a, T, W, Self>,
        cache_seqlens: Option<Slice<'a, i32, Self>>,
        state_indices: Option<Slice<'a, i32, Self>>,
    ) -> CausalConv1dUpdate<'a, T, W, Self>;

    fn update_flag<'o, T: Element, H: Element>(
        outputs: StateUpdateOutputs<'o, T, H, Self>,
        flag: &'o mut SliceMut<'_, u32, Self>,
    ) -> Result<StateUpdateOutputs<'o, T, H, Self>, Error>;

    fn conv_update_flag<'o, T: Element>(
        outputs: CausalConv1dUpdateOutputs<'o, T, Self>,
        flag: &'o mut ViewMut<'_, u32, Self>,
    ) -> Result<CausalConv1dUpdateOutputs<'o, T, Self>, Error>;
}

/// Packed sequences: on a device with their table there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packed<'a, S: Storage> {
    pub segments: &'a Segments,
    pub table: Option<Slice<'a, i32, S>>,
}

impl Lend for Host {
    const ON_HOST: bool = true;

    unsafe fn view<'a, T>(start: *const T, elements: usize, _: u32, axes: Axes) -> View<'a, T, Self> {
        // SAFETY: the caller's promise.
        unsafe { View::from_raw_parts(start, elements, axes) }
    }

    unsafe fn view_mut<'a, T>(start: *mut T, elements: usize, _: u32, axes: Axes) -> ViewMut<'a, T, Self> {
        // SAFETY: the caller's promise.
        unsafe { ViewMut::from_raw_parts(start, elements, axes) }
    }

    unsafe fn slice<'a, T>(start: *const T, elements: usize, _: u32) -> Slice<'a, T, Self> {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts(start, elements) }.into()
    }

    unsafe fn slice_mut<'a, T>(start: *mut T, elements: usize, _: u32) -> SliceMut<'a, T, Self> {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(start, elements) }.into()
    }

    unsafe fn scan_segments<'a, T: Element>(
        scan: SelectiveScan<'a, T, Self>,
        packed: Packed<'a, Self>,
    ) -> SelectiveScan<'a, T, Self> {
        scan.segments(packed.segments)
    }

    unsafe fn conv_segments<'a, T: Element, W: Element>(
        conv: CausalConv1d<'a, T, W, Self>,
        packed: Packed<'a, Self>,
    ) -> CausalConv1d<'a, T, W, Self> {
        conv.segments(packed.segments)
    }

    unsafe fn update_indices<'a, T: Element, H: Element>(
        update: StateUpdate<'a, T, H, Self>,
        state_indices: View<'a, i32, Self>,
    ) -> StateUpdate<'a, T, H, Self> {
        update.state_indices(state_indices)
    }

    unsafe fn conv_update_lists<'a, T: Element, W: Element>(
        mut update: CausalConv1dUpdate<'a, T, W, Self>,
        cache_seqlens: Option<Slice<'a, i32, Self>>,
        state_indices: Option<Slice<'a, i32, Self>>,
    ) -> CausalConv1dUpdate<'a, T, W, Self> {
        if let Some(list) = cache_seqlens {
            update = update.cache_seqlens(list.as_slice());
        }
        if let Some(list) = state_indices {
            update = update.state_indices(list.as_slice());
        }
        update
    }

    fn update_flag<'o, T: Element, H: Element>(
        _: StateUpdateOutputs<'o, T, H, Self>,
        _: &'o mut SliceMut<'_, u32, Self>,
    ) -> Result<StateUpdateOutputs<'o, T, H, Self>, Error> {
        refuse("state_update", "index_flag", "given", "null: indices in host memory are checked before the call")
    }

    fn conv_update_flag<'o, T: Element>(
        _: CausalConv1dUpdateOutputs<'o, T, Self>,
        _: &'o mut ViewMut<'_, u32, Self>,
    ) -> Result<CausalConv1dUpdateOutputs<'o, T, Self>, Error> {
        refuse(
            "causal_conv1d_update",
            "out_of_range",
            "given",
            "null: indices in host memory are checked before the call",
        )
    }
}

impl Lend for Device {
    const ON_HOST: bool = false;

    unsafe fn view<'a, T>(start: *const T, elements: usize, ordinal: u32, axes: Axes) -> View<'a, T, Self> {
        // SAFETY: the caller's promise; on a device an address and a length are lent, no reference.
        View::from_parts(unsafe { Self::slice(start, elements, ordinal) }, axes)
    }

    unsafe fn view_mut<'a, T>(start: *mut T, elements: usize, ordinal: u32, axes: Axes) -> ViewMut<'a, T, Self> {
        // SAFETY: as above.
        ViewMut::from_parts(unsafe { Self::slice_mut(start, elements, ordinal) }, axes)
    }

    unsafe fn slice<'a, T>(start: *const T, elements: usize, ordinal: u32) -> Slice<'a, T, Self> {
        // SAFETY: the caller's promise.
        unsafe { Slice::<T, Device>::from_raw_parts(start.addr() as u64, elements, ordinal) }
    }

    unsafe fn slice_mut<'a, T>(start: *mut T, elements: usize, ordinal: u32) -> SliceMut<'a, T, Self> {
        // SAFETY: the caller's promise.
        unsafe { SliceMut::<T, Device>::from_raw_parts(start.addr() as u64, elements, ordinal) }
    }

    unsafe fn scan_segments<'a, T: Element>(
        scan: SelectiveScan<'a, T, Self>,
        Packed { segments, table }: Packed<'a, Self>,
    ) -> SelectiveScan<'a, T, Self> {
        match table {
            // SAFETY: the caller's promise.
            Some(table) => unsafe { scan.segments_on(segments, table) },
            None => scan.segments(segments),
        }
    }

    unsafe fn conv_segments<'a, T: Element, W: Element>(
        conv: CausalConv1d<'a, T, W, Self>,
        Packed { segments, table }: Packed<'a, Self>,
    ) -> CausalConv1d<'a, T, W, Self> {
        match table {
            // SAFETY: the caller's promise.
            Some(table) => unsafe { conv.segments_on(segments, table) },
            None => conv.segments(segments),
        }
    }

    unsafe fn update_indices<'a, T: Element, H: Element>(
        update: StateUpdate<'a, T, H, Self>,
        state_indices: View<'a, i32, Self>,
    ) -> StateUpdate<'a, T, H, Self> {
        // SAFETY: the caller's promise.
        unsafe { update.state_indices_from_device(state_indices) }
    }

    unsafe fn conv_update_lists<'a, T: Element, W: Element>(
        mut update: CausalConv1dUpdate<'a, T, W, Self>,
        cache_seqlens: Option<Slice<'a, i32, Self>>,
        state_indices: Option<Slice<'a, i32, Self>>,
    ) -> CausalConv1dUpdate<'a, T, W, Self> {
        if let Some(list) = cache_seqlens {
            update = update.cache_seqlens_on(list);
        }
        if let Some(list) = state_indices {
            // SAFETY: the caller's promise.
            update = unsafe { update.state_indices_on(list) };
        }
        update
    }

    fn update_flag<'o, T: Element, H: Element>(
        outputs: StateUpdateOutputs<'o, T, H, Self>,
        flag: &'o mut SliceMut<'_, u32, Self>,
    ) -> Result<StateUpdateOutputs<'o, T, H, Self>, Error> {
        Ok(outputs.index_flag(flag))
    }

    fn conv_update_flag<'o, T: Element>(
        outputs: CausalConv1dUpdateOutputs<'o, T, Self>,
        flag: &'o mut ViewMut<'_, u32, Self>,
    ) -> Result<CausalConv1dUpdateOutputs<'o, T, Self>, Error> {
        Ok(outputs.out_of_range(flag))
    }
}
