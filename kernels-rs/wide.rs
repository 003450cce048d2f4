//! Tensors over a domain of up to four dimensions, and the threads that visit it.

use crate::load_store::Io;
use crate::params::SsmWide;
use core::arch::nvptx::{_block_dim_x, _block_idx_x, _grid_dim_x, _thread_idx_x};
use core::num::NonZeroU64;

/// An index of the domain.
pub type Index = [u64; 4];

impl SsmWide {
    #[inline(always)]
    pub fn offset(&self, index: Index) -> i64 {
        let mut offset = 0;
        let mut i = 0;
        while i < 4 {
            offset += index[i] as i64 * self.strides[i];
            i += 1;
        }
        offset
    }

    /// The element, or `None` if the tensor is absent.
    ///
    /// # Safety
    /// `index` is an index of the domain.
    #[inline(always)]
    pub unsafe fn load<T: Io>(&self, index: Index) -> Option<f32> {
        // SAFETY: the caller's.
        (self.address != 0).then(|| unsafe { self.load_slice::<T>(index, 0) })
    }

    /// The element `shift` elements from that of `index`; the tensor is there.
    ///
    /// # Safety
    /// `index` is an index of the domain, and what lies `shift` from it is the tensor's.
    #[inline(always)]
    pub unsafe fn load_slice<T: Io>(&self, index: Index, shift: i64) -> f32 {
        // SAFETY: the contract checked on the host that every index of the domain lies inside the tensor.
        unsafe { T::load(self.address, self.offset(index) + shift) }
    }

    /// Writes the element unless the tensor is absent.
    ///
    /// # Safety
    /// `index` is an index of the domain, and no other thread writes it.
    #[inline(always)]
    pub unsafe fn store<T: Io>(&self, index: Index, value: impl FnOnce() -> f32) {
        if self.address != 0 {
            // SAFETY: as above; distinct indices are distinct elements of an output.
            unsafe { T::store(self.address, self.offset(index), value()) }
        }
    }
}

/// Calls `task` for every index below `extents` that is this thread's.
#[inline(always)]
pub fn each(extents: [u64; 4], mut task: impl FnMut(Index)) {
    // None is 0: the host launches nothing then. A divisor that may be 0 would leave a panic in the kernel.
    let [e0, e1, e2, e3] = extents.map(|extent| NonZeroU64::new(extent).unwrap_or(NonZeroU64::MIN));
    let count = e0.get() * e1.get() * e2.get() * e3.get();
    // SAFETY: these read special registers.
    let (block, blocks, threads, thread) = unsafe { (_block_idx_x(), _grid_dim_x(), _block_dim_x(), _thread_idx_x()) };
    let (threads, mut i) = (threads as u64, block as u64 * threads as u64 + thread as u64);
    while i < count {
        task([i / e3 / e2 / e1, i / e3 / e2 % e1, i / e3 % e2, i % e3]);
        i += blocks as u64 * threads;
    }
}
