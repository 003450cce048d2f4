//! Host memory: addresses without memory behind them but for the pages of the elements.

use crate::tensors::Memory;
use memmap2::{MmapMut, MmapOptions};
use ssm_kernels::{Axes, Element, Host, View, ViewMut};
use std::cell::Cell;

/// What lies around each element: a sum with an element too many is seen.
const GUARD: usize = 16;

/// One reservation, from which the tensors of a call are cut. Zero where nothing was written.
pub struct HostMemory {
    map: MmapMut,
    used: Cell<usize>,
}

impl HostMemory {
    pub const TEBIBYTES: usize = 40;

    /// Reserves addresses, or tells why there are none.
    pub fn reserve() -> std::io::Result<Self> {
        let map = MmapOptions::new().len(Self::TEBIBYTES << 40).no_reserve_swap().map_anon()?;
        Ok(Self { map, used: Cell::new(0) })
    }

    /// The element there.
    fn element<T>(&self, start: u64, offset: usize) -> *mut T {
        let at = (start as usize - self.map.as_ptr().addr()) + offset * size_of::<T>();
        assert!(at + size_of::<T>() <= self.map.len(), "{} TiB are too few", Self::TEBIBYTES);
        self.map.as_ptr().cast_mut().wrapping_add(at).cast()
    }
}

impl Memory for HostMemory {
    type S = Host;

    fn distance(&self, apart: usize, _: usize) -> usize {
        apart
    }

    fn lay<T: Element>(&self, offsets: &[usize], values: Option<&[T]>) -> u64 {
        let begin = self.used.get() + GUARD * size_of::<T>();
        let start = (self.map.as_ptr().addr() + begin) as u64;
        let end = begin + (offsets.iter().max().map_or(0, |last| last + 1) + GUARD) * size_of::<T>();
        self.used.set(end.next_multiple_of(4096));
        let nan = T::from_f32(f32::NAN);
        for offset in offsets {
            for around in 0..=2 * GUARD {
                let element: *mut T = self.element::<T>(start, offset + around).wrapping_sub(GUARD);
                // SAFETY: inside the map, as its neighbours on both sides are; no view of it exists yet.
                unsafe { element.write(nan) };
            }
        }
        for (offset, value) in offsets.iter().zip(values.unwrap_or_default()) {
            // SAFETY: as above.
            unsafe { self.element::<T>(start, *offset).write(*value) };
        }
        start
    }

    fn read<T: Element>(&self, start: u64, offsets: &[usize]) -> Vec<T> {
        // SAFETY: inside the map, and written by `lay`; calls have ended.
        offsets.iter().map(|&offset| unsafe { self.element::<T>(start, offset).read() }).collect()
    }

    fn view<T: Element>(&self, start: u64, elements: usize, axes: Axes) -> View<'static, T> {
        self.element::<T>(start, elements.saturating_sub(1));
        // SAFETY: the elements are inside the map, which outlives the call, and nothing writes them meanwhile.
        unsafe { View::from_raw_parts(self.element(start, 0), elements, axes) }
    }

    fn view_mut<T: Element>(&self, start: u64, elements: usize, axes: Axes) -> ViewMut<'static, T> {
        self.element::<T>(start, elements.saturating_sub(1));
        // SAFETY: as above, and this is their one view.
        unsafe { ViewMut::from_raw_parts(self.element(start, 0), elements, axes) }
    }
}
