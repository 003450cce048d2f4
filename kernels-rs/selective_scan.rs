//! The small passes of the selective scan: carries between chunks, and sums of partial sums.
//! The scan itself: kernels-cu/selective_scan_fwd.cu and _bwd.cu. Equations: src/ops/selective_scan.

use crate::load_store::{BF16, F16, F32, Io};
use crate::math;
use crate::params::{SsmSelectiveScanCarry, SsmSelectiveScanSum, SsmWide};
use crate::wide::each;

#[cfg(ssm_unit = "selective_scan_carry")]
#[unsafe(no_mangle)]
unsafe extern "ptx-kernel" fn selective_scan_carry_f32(params: SsmSelectiveScanCarry) {
    let SsmSelectiveScanCarry { A, batch, nchunks, dim, dstate, .. } = params;
    each([1, batch, dim, dstate], |[_, b, d, n]| {
        // SAFETY: `each` gives every (batch, channel, state) to one thread, and the contract checked the tensors.
        unsafe {
            let A = F32::load(A.address, d as i64 * A.dim_stride + n as i64 * A.dstate_stride);
            let mut carried = if params.initial.address != 0 { params.initial.load_slice::<F32>([b, 0, d, n], 0) } else { 0.0 };
            let mut i = 0;
            while i < nchunks {
                let chunk = if params.reverse != 0 { nchunks - 1 - i } else { i };
                params.carried.store::<F32>([b, chunk, d, n], || carried);
                let decay = math::exp_of_product(A, params.delta_sum.load_slice::<F32>([b, chunk, d, 0], 0));
                // A state of 0 stays 0 whatever the decay, as it does step by step.
                let kept = if carried == 0.0 { 0.0 } else { decay * carried };
                carried = kept + params.states.load_slice::<F32>([b, chunk, d, n], 0);
                i += 1;
            }
        }
    });
}

#[cfg(ssm_unit = "selective_scan_sum")]
mod sum {
    use super::*;

    /// Elements of a thread: eighths of the last dimension, so that threads side by side have elements side by side, and what
    /// finds them is worked out once for all. The host counts as many.
    const EIGHTHS: u64 = 8;
    type Sums = [f32; EIGHTHS as usize];

    /// Calls `task` for each of a thread's elements of `count`, from `first` on `apart` from one to the next.
    #[inline(always)]
    fn for_each(first: u64, apart: u64, count: u64, mut task: impl FnMut(usize)) {
        let whole = first + (EIGHTHS - 1) * apart < count;
        let mut i = 0;
        while i < EIGHTHS && (whole || first + i * apart < count) {
            task(i as usize);
            i += 1;
        }
    }

    #[inline(always)]
    fn sum<T: Io>(params: &SsmSelectiveScanSum) {
        let [e0, e1, e2, e3] = params.extents;
        let eighth = e3.div_ceil(EIGHTHS);
        each([e0, e1, e2, eighth], |index| {
            let apart = |tensor: &SsmWide| (eighth as i64 * tensor.strides[3], tensor.offset(index));
            let (from_apart, from) = apart(&params.source);
            let (to_apart, to) = apart(&params.target);
            let slice = |slice: u64| {
                let mut own: Sums = [0.0; EIGHTHS as usize];
                let mut at = from + slice as i64 * params.slice_stride;
                for_each(index[3], eighth, e3, |i| {
                    // SAFETY: an index of the domain; the host laid the slices out.
                    own[i] = unsafe { F32::load(params.source.address, at) };
                    at += from_apart;
                });
                own
            };
            // Of no slices the sum is 0; of one it is that slice, sign of zero included.
            let mut sum: Sums = [0.0; EIGHTHS as usize];
            let mut first = 0;
            while first < params.slices {
                let mut own = slice(first);
                let mut next = first + 1;
                while next < first + params.group {
                    add(&mut own, slice(next));
                    next += 1;
                }
                if first == 0 {
                    sum = own;
                } else {
                    add(&mut sum, own);
                }
                first += params.group;
            }
            let mut at = to;
            for_each(index[3], eighth, e3, |i| {
                // SAFETY: as above, and `each` gives every index to one thread.
                unsafe { T::store(params.target.address, at, sum[i]) };
                at += to_apart;
            });
        });
    }

    #[inline(always)]
    fn add(sums: &mut Sums, more: Sums) {
        let mut i = 0;
        while i < sums.len() {
            sums[i] += more[i];
            i += 1;
        }
    }

    macro_rules! entry {
        ($dtype:literal, $name:ident, $io:ty) => {
            #[cfg(ssm_dtype = $dtype)]
            #[unsafe(no_mangle)]
            unsafe extern "ptx-kernel" fn $name(params: SsmSelectiveScanSum) {
                sum::<$io>(&params);
            }
        };
    }
    entry!("f32", selective_scan_sum_f32, F32);
    entry!("f16", selective_scan_sum_f16, F16);
    entry!("bf16", selective_scan_sum_bf16, BF16);
}
