//! Forward.

use super::*;
use crate::params::SsmCausalConv1dFwd;

/// The last inputs of a sequence.
///
/// # Safety
/// No other thread writes these elements of the channel's state.
#[inline(always)]
unsafe fn store_state<T: Io>(params: &SsmCausalConv1dFwd, tile: &Tile, d: u32, inputs: &Inputs, elements: (i32, i32)) {
    let state = Row::state(&params.final_state, tile.seq, d);
    let mut i = elements.0;
    while tile.last && state.given() && i < inputs.before {
        // SAFETY: the caller's.
        unsafe { state.store::<T>(i, inputs.at::<T>(inputs.len - inputs.before + i)) };
        i += elements.1;
    }
}

/// One thread per channel; `U` steps are loaded at once.
#[inline(always)]
fn channels<T: Io, const W: usize, const U: usize>(params: &SsmCausalConv1dFwd) {
    let dim = params.tiles.dim;
    let (tile, chunk, thread) = place(divide(dim + N_THREADS - 1, N_THREADS).0);
    let d = chunk * N_THREADS + thread;
    let Some(tile) = params.tiles.tile(tile) else { return };
    if d >= dim {
        return;
    }
    // SAFETY: the channel and the steps are the tensors', and each step of a channel is one thread's.
    unsafe {
        let taps = Taps::<W>::load(&params.taps, d);
        let (x, out) = (Row::new(&params.x, &tile, d), Row::new(&params.out, &tile, d));
        let initial = Row::state(&params.initial_state, tile.seq, d);
        let inputs = Inputs { x, initial, len: tile.len, before: taps.before() };
        let from = tile.number * params.tiles.steps as i32;
        let end = if tile.last { tile.len } else { from + params.tiles.steps as i32 };
        let mut window = window_before::<T, W>(&inputs, from);
        let mut t = from;
        while t < end {
            let mut next = [0.0; U];
            let mut i = 0;
            while i < U {
                if t + (i as i32) < end {
                    next[i] = x.load::<T>(t + i as i32);
                }
                i += 1;
            }
            let mut i = 0;
            while i < U {
                push(&mut window, next[i]);
                let pre = taps.sum(|w| window[w]);
                if t + (i as i32) < end {
                    out.store::<T>(t + i as i32, if params.silu != 0 { silu(pre) } else { pre });
                }
                i += 1;
            }
            t += U as i32;
        }
        store_state::<T>(params, &tile, d, &inputs, (0, 1));
    }
}

/// Elements by which a row lies beyond a sector's start.
#[inline(always)]
fn beyond_sector(row: &Row, bytes: u64) -> i32 {
    let address = row.address.wrapping_add((row.base as u64).wrapping_mul(bytes));
    if row.stride == 1 { ((address & 31) / bytes) as i32 } else { 0 }
}

/// One warp per channel, a lane per step; `U` chunks of 32 steps are loaded at once. Chunks of neighbours in memory begin
/// where sectors of out do, so that all but the first and the last of a row are stored whole.
#[inline(always)]
fn steps<T: Io, const W: usize, const U: usize, const BYTES: u64>(params: &SsmCausalConv1dFwd) {
    let dim = params.tiles.dim;
    let (tile, chunk, thread) = place(divide(dim + N_WARPS - 1, N_WARPS).0);
    let (d, lane) = (chunk * N_WARPS + thread / 32, thread % 32);
    let Some(tile) = params.tiles.tile(tile) else { return };
    // All lanes of a warp have one channel.
    if d >= dim {
        return;
    }
    // SAFETY: the channel and the steps are the tensors', and each step of a channel is one lane's.
    unsafe {
        let taps = Taps::<W>::load(&params.taps, d);
        let (x, out) = (Row::new(&params.x, &tile, d), Row::new(&params.out, &tile, d));
        let initial = Row::state(&params.initial_state, tile.seq, d);
        let inputs = Inputs { x, initial, len: tile.len, before: taps.before() };
        let steps = params.tiles.steps as i32;
        let from = tile.number * steps - beyond_sector(&out, BYTES);
        let end = if tile.last { tile.len } else { from + steps };
        let (mut base, own) = (from, lane as i32);
        let halo = base - 32 + own;
        let mut previous = if own >= 32 - taps.before() { inputs.at::<T>(halo) } else { 0.0 };
        while base < end {
            let mut next = [0.0; U];
            let mut i = 0;
            while i < U {
                let t = base + 32 * i as i32 + own;
                if t < end {
                    next[i] = inputs.at::<T>(t);
                }
                i += 1;
            }
            let mut i = 0;
            while i < U {
                let (chunks, t) = (Chunks { previous, current: next[i] }, base + 32 * i as i32 + own);
                let pre = taps.sum(|w| chunks.back(lane, (W - 1 - w) as u32));
                if t >= 0 && t < end {
                    out.store::<T>(t, if params.silu != 0 { silu(pre) } else { pre });
                }
                previous = next[i];
                i += 1;
            }
            base += 32 * U as i32;
        }
        store_state::<T>(params, &tile, d, &inputs, (own, 32));
    }
}

macro_rules! entries {
    ($dtype:literal, $io:ty, $bytes:literal: $($channels:ident, $steps:ident, $width:literal, $at_once:literal;)+) => {$(
        #[cfg(ssm_dtype = $dtype)]
        #[unsafe(no_mangle)]
        unsafe extern "ptx-kernel" fn $channels(params: SsmCausalConv1dFwd) {
            channels::<$io, $width, $at_once>(&params);
        }
        #[cfg(ssm_dtype = $dtype)]
        #[unsafe(no_mangle)]
        unsafe extern "ptx-kernel" fn $steps(params: SsmCausalConv1dFwd) {
            steps::<$io, $width, $at_once, $bytes>(&params);
        }
    )+};
}
entries! {
    "f32", F32, 4:
    causal_conv1d_fwd_f32_channels2, causal_conv1d_fwd_f32_steps2, 2, 4;
    causal_conv1d_fwd_f32_channels3, causal_conv1d_fwd_f32_steps3, 3, 4;
    causal_conv1d_fwd_f32_channels4, causal_conv1d_fwd_f32_steps4, 4, 4;
    causal_conv1d_fwd_f32_channels16, causal_conv1d_fwd_f32_steps16, 16, 1;
}
entries! {
    "f16", F16, 2:
    causal_conv1d_fwd_f16_channels2, causal_conv1d_fwd_f16_steps2, 2, 4;
    causal_conv1d_fwd_f16_channels3, causal_conv1d_fwd_f16_steps3, 3, 4;
    causal_conv1d_fwd_f16_channels4, causal_conv1d_fwd_f16_steps4, 4, 4;
    causal_conv1d_fwd_f16_channels16, causal_conv1d_fwd_f16_steps16, 16, 1;
}
entries! {
    "bf16", BF16, 2:
    causal_conv1d_fwd_bf16_channels2, causal_conv1d_fwd_bf16_steps2, 2, 4;
    causal_conv1d_fwd_bf16_channels3, causal_conv1d_fwd_bf16_steps3, 3, 4;
    causal_conv1d_fwd_bf16_channels4, causal_conv1d_fwd_bf16_steps4, 4, 4;
    causal_conv1d_fwd_bf16_channels16, causal_conv1d_fwd_bf16_steps16, 16, 1;
}
