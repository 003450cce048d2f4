//! The form for decoding: one thread per channel of a row, which reads what it remembers first and writes it last.

use super::*;
use crate::params::SsmCausalConv1dUpdate;

impl SsmCausalConv1dUpdate {
    /// The slot of row `b`, unless it is padding or there is none.
    #[inline(always)]
    fn slot(&self, b: u32, d: u32) -> Option<u32> {
        if self.state_indices == 0 {
            return Some(b);
        }
        // SAFETY: there is an index for each row.
        let slot = unsafe { *(self.state_indices as *const i32).add(b as usize) };
        if slot >= 0 && slot as u64 >= self.slots {
            if d == 0 && self.out_of_range != 0 {
                // SAFETY: the word is there, and blocks may set it at once.
                unsafe { asm!("red.global.or.b32 [{}], 1;", in(reg64) self.out_of_range, options(nostack)) };
            }
            return None;
        }
        if slot < 0 { None } else { Some(slot as u32) }
    }

    /// Where the ring of row `b` stands, if the state is one.
    #[inline(always)]
    fn seen(&self, b: u32) -> Option<i64> {
        if self.cache_seqlens == 0 || self.state_len == 0 {
            return None;
        }
        // SAFETY: there is a length for each row.
        let seen = unsafe { *(self.cache_seqlens as *const i32).add(b as usize) } as i64;
        let rest = seen.wrapping_rem(self.state_len);
        Some(if rest < 0 { rest + self.state_len } else { rest })
    }
}

/// An element of the state.
#[inline(always)]
fn wrapped(place: i64, state_len: i64) -> i64 {
    if place >= state_len { place - state_len } else { place }
}

#[inline(always)]
fn update<T: Io, const W: usize>(params: &SsmCausalConv1dUpdate) {
    let dim = params.dim;
    let (b, chunk, thread) = place(divide(dim + N_THREADS - 1, N_THREADS).0);
    let d = chunk * N_THREADS + thread;
    if d >= dim || b >= params.batch {
        return;
    }
    let tile = Tile { seq: b, batch: b as i64, start: 0, len: params.seqlen as i32, number: 0, last: true };
    let (x, out) = (Row::new(&params.x, &tile, d), Row::new(&params.out, &tile, d));
    // SAFETY: a slot is one row's, and its channel one thread's; all indices stay inside the tensors.
    unsafe {
        let Some(slot) = params.slot(b, d) else {
            let mut t = 0;
            while t < tile.len {
                out.store::<T>(t, 0.0);
                t += 1;
            }
            return;
        };
        let (taps, state_len, seen) = (Taps::<W>::load(&params.taps, d), params.state_len, params.seen(b));
        let state = Row::state(&params.conv_state, slot, d);
        let element = |i: i64| state.base + i * state.stride;
        let (mut window, mut back) = ([0.0; W], taps.before() as i64);
        while back > 0 {
            // The ring's oldest lies state_len behind, which is as far as taps may reach.
            let place = state_len - back;
            let place = seen.map_or(place, |seen| wrapped(seen + place, state_len));
            push(&mut window, T::load(state.address, element(place)));
            back -= 1;
        }
        let mut t = 0;
        while t < tile.len {
            let next = x.load::<T>(t);
            push(&mut window, next);
            let pre = taps.sum(|w| window[w]);
            out.store::<T>(t, if params.silu != 0 { silu(pre) } else { pre });
            t += 1;
        }
        remember::<T>(params, &x, &state, seen);
    }
}

/// Writes the steps of x into the state, oldest first.
///
/// # Safety
/// The channel of the slot is this thread's alone.
#[inline(always)]
unsafe fn remember<T: Io>(params: &SsmCausalConv1dUpdate, x: &Row, state: &Row, seen: Option<i64>) {
    let (state_len, seqlen) = (params.state_len, params.seqlen as i64);
    let element = |i: i64| state.base + i * state.stride;
    // SAFETY: the caller's.
    unsafe {
        let mut i = 0;
        // What is read lies behind what is written.
        while seen.is_none() && i + seqlen < state_len {
            T::store(state.address, element(i), T::load(state.address, element(i + seqlen)));
            i += 1;
        }
        let kept = if seqlen > state_len { seqlen - state_len } else { 0 };
        let mut t = kept;
        let mut place = match seen {
            Some(seen) => (seen + t).wrapping_rem(if state_len == 0 { 1 } else { state_len }),
            None => state_len - (seqlen - kept),
        };
        while t < seqlen {
            T::store(state.address, element(place), T::load(x.address, x.base + t * x.stride));
            place = wrapped(place + 1, state_len);
            t += 1;
        }
    }
}

macro_rules! entries {
    ($dtype:literal, $io:ty: $($name:ident, $width:literal;)+) => {$(
        #[cfg(ssm_dtype = $dtype)]
        #[unsafe(no_mangle)]
        unsafe extern "ptx-kernel" fn $name(params: SsmCausalConv1dUpdate) {
            update::<$io, $width>(&params);
        }
    )+};
}
entries! {
    "f32", F32:
    causal_conv1d_update_f32_taps2, 2;
    causal_conv1d_update_f32_taps3, 3;
    causal_conv1d_update_f32_taps4, 4;
    causal_conv1d_update_f32_taps16, 16;
}
entries! {
    "f16", F16:
    causal_conv1d_update_f16_taps2, 2;
    causal_conv1d_update_f16_taps3, 3;
    causal_conv1d_update_f16_taps4, 4;
    causal_conv1d_update_f16_taps16, 16;
}
entries! {
    "bf16", BF16:
    causal_conv1d_update_bf16_taps2, 2;
    causal_conv1d_update_bf16_taps3, 3;
    causal_conv1d_update_bf16_taps4, 4;
    causal_conv1d_update_bf16_taps16, 16;
}
