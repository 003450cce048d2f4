//! dweight and dbias from the sums of tiles, one thread per element.

use super::*;
use crate::params::SsmCausalConv1dSum;

/// Writes an element of a dtype that is known at run time.
///
/// # Safety
/// As for [`Io::store`].
#[inline(always)]
unsafe fn store_as(dtype: u32, address: u64, offset: i64, value: f32) {
    // SAFETY: the caller's.
    unsafe {
        match dtype {
            SSM_DTYPE_F16 => F16::store(address, offset, value),
            SSM_DTYPE_BF16 => BF16::store(address, offset, value),
            _ => F32::store(address, offset, value),
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "ptx-kernel" fn causal_conv1d_sum_f32(params: SsmCausalConv1dSum) {
    let (tiles, gradients) = (&params.tiles, &params.gradients);
    let (dim, width) = (tiles.dim, gradients.width);
    let (w, chunk, thread) = place(divide(dim + N_THREADS - 1, N_THREADS).0);
    let d = chunk * N_THREADS + thread;
    if d >= dim || w > width {
        return;
    }
    let (address, offset) = match w == width {
        true => (gradients.bias, d as i64 * gradients.bias_dim_stride),
        false => (gradients.weight, d as i64 * gradients.weight_dim_stride + w as i64 * gradients.weight_width_stride),
    };
    if address == 0 {
        return;
    }
    // Of a sequence first, so that a batch is the sum of its rows.
    let (mut sum, mut seq) = (0.0, 0);
    // SAFETY: every tile in use has written its sums; each element of the gradients is one thread's.
    unsafe {
        while seq < tiles.nseqs {
            let (mut tile, count) = (tiles.first(seq), tiles.length(seq).1);
            let past = tile + count as u32;
            let mut own = 0.0;
            while tile < past {
                let place = (tile as i64 * (width as i64 + 1) + w as i64) * dim as i64 + d as i64;
                own += F32::load(params.partials, place);
                tile += 1;
            }
            sum = if seq == 0 { own } else { sum + own };
            seq += 1;
        }
        store_as(gradients.dtype, address, offset, sum);
    }
}
