//! The state update: lanes along the states of a channel, four neighbours each, so that a warp moves whole sectors.
//! Equation, shapes and options: src/ops/state_update.

use crate::load_store::{BF16, F16, F32, Io};
use crate::math;
use crate::params::{SsmStateUpdate, SsmWide};
use core::arch::asm;
use core::arch::nvptx::{_block_dim_x, _block_idx_x, _thread_idx_x};
use core::num::NonZeroU32;

/// Neighbours that a lane holds, and moves at once. What all lanes of a channel hold is a slab of its states.
const FOUR: u32 = 4;

unsafe extern "C" {
    /// Convergent, which inline assembly is not.
    #[link_name = "llvm.nvvm.shfl.sync.bfly.f32"]
    fn shuffle_xor(mask: u32, value: f32, offset: u32, bound: u32) -> f32;
}

/// The host keeps divisors above 0; a divisor that may be 0 would leave a panic in the kernel.
#[inline(always)]
fn divide(a: u32, b: u32) -> [u32; 2] {
    let b = NonZeroU32::new(b).unwrap_or(NonZeroU32::MIN);
    [a / b, a % b]
}

/// Four numbers of a row, or none.
#[derive(Clone, Copy)]
struct Place {
    n: u32,
    /// How many of the four there are.
    count: u32,
}

impl Place {
    /// Of what lies from `n` on.
    #[inline(always)]
    fn new(n: u32, dstate: u32) -> Self {
        let rest = if n < dstate { dstate - n } else { 0 };
        Self { n, count: if rest < FOUR { rest } else { FOUR } }
    }
}

impl SsmWide {
    /// Numbers of the row that begins at element `row`; 0 where there are none.
    ///
    /// # Safety
    /// They lie inside the tensor, and `by_four` is as the host says.
    #[inline(always)]
    unsafe fn row<T: Io>(&self, row: i64, place: Place, by_four: bool) -> [f32; 4] {
        if place.count == 0 {
            return [0.0; 4];
        }
        if by_four {
            // SAFETY: the caller's; the host saw that rows are whole fours.
            return unsafe { T::load_four(self.address, row + i64::from(place.n)) };
        }
        [0, 1, 2, 3].map(|i| match i < place.count {
            // SAFETY: the caller's.
            true => unsafe { T::load(self.address, row + i64::from(place.n + i) * self.strides[3]) },
            false => 0.0,
        })
    }

    /// Writes them.
    ///
    /// # Safety
    /// As for `row`, and no other thread touches them.
    #[inline(always)]
    unsafe fn put<T: Io>(&self, row: i64, place: Place, by_four: bool, values: [f32; 4]) {
        if place.count == 0 {
            return;
        }
        if by_four {
            // SAFETY: the caller's.
            return unsafe { T::store_four(self.address, row + i64::from(place.n), values) };
        }
        let mut i = 0;
        while i < FOUR {
            if i < place.count {
                let value = values[i as usize];
                // SAFETY: the caller's.
                unsafe { T::store(self.address, row + i64::from(place.n + i) * self.strides[3], value) }
            }
            i += 1;
        }
    }
}

/// A channel of a row of the batch, as one of its lanes sees it.
struct Channel<'p> {
    params: &'p SsmStateUpdate,
    b: u64,
    slot: u64,
    h: u32,
    p: u32,
    lane: u32,
    /// The lanes of the channel.
    mask: u32,
}

impl Channel<'_> {
    #[inline(always)]
    fn at(&self, t: u32) -> [u64; 4] {
        [self.b, t.into(), self.h.into(), self.p.into()]
    }

    /// The sum over the channel's lanes, in all of them.
    #[inline(always)]
    fn total(&self, mut sum: f32) -> f32 {
        let mut offset = self.params.lanes / 2;
        while offset > 0 {
            // SAFETY: the channel's lanes are all here: what they branch on is the channel's.
            sum += unsafe { shuffle_xor(self.mask, sum, offset, 31) };
            offset /= 2;
        }
        sum
    }

    /// The gated output of a token.
    ///
    /// # Safety
    /// The parameters are as the host made them.
    #[inline(always)]
    unsafe fn finish<T: Io>(&self, t: u32, x: f32, sum: f32) {
        if self.lane != 0 {
            return;
        }
        let (params, at) = (self.params, self.at(t));
        // SAFETY: the caller's; each token of a channel is of one thread.
        unsafe {
            let skip = params.D.load::<F32>(at);
            let y = match skip {
                Some(D) => sum + D * x,
                None => sum,
            };
            let y = match params.z.load::<T>(at) {
                Some(z) => y * math::silu(z),
                None => y,
            };
            params.out.store::<T>(at, || y);
        }
    }

    /// A token of what this lane holds: the states after it, what they add to the output, and x.
    ///
    /// # Safety
    /// As for `finish`.
    #[inline(always)]
    unsafe fn step<T: Io>(&self, t: u32, place: Place, A: [f32; 4], h: [f32; 4]) -> ([f32; 4], f32, f32) {
        let (params, at) = (self.params, self.at(t));
        // SAFETY: the caller's.
        let (raw, x) = unsafe {
            let bias = params.dt_bias.load::<F32>(at);
            (params.dt.load_slice::<T>(at, 0) + bias.unwrap_or(0.0), params.x.load_slice::<T>(at, 0))
        };
        let (delta, _) = params.step.delta(raw);
        let delta_x = delta * x;
        let [B, C] = [(&params.B, params.B_heads), (&params.C, params.C_heads)].map(|(rows, heads)| {
            let [group, _] = divide(self.h, heads);
            let row = rows.offset([self.b, t.into(), group.into(), 0]);
            // SAFETY: the caller's.
            unsafe { rows.row::<T>(row, place, params.rows_by_four != 0) }
        });
        let first = math::exp(delta * A[0]);
        let decay = match params.one_decay {
            0 => [first, math::exp(delta * A[1]), math::exp(delta * A[2]), math::exp(delta * A[3])],
            _ => [first; 4],
        };
        let h = [0, 1, 2, 3].map(|i| math::fma(decay[i], h[i], delta_x * B[i]));
        (h, math::fma(h[3], C[3], math::fma(h[2], C[2], math::fma(h[1], C[1], h[0] * C[0]))), x)
    }

    /// Tokens `from..to`, which are one if the states are several slabs: then they wait in the cache between tokens.
    ///
    /// # Safety
    /// As for `finish`; no other row of the batch has this row of the cache.
    #[inline(always)]
    unsafe fn tokens<T: Io, H: Io>(&self, from: u32, to: u32, slabs: u32) {
        let (params, by_four) = (self.params, self.params.states_by_four != 0);
        let [h, p] = [self.h.into(), self.p.into()];
        let (state_row, A_row) = (params.state.offset([self.slot, h, p, 0]), params.A.offset([0, h, p, 0]));
        let (mut sum, mut slab) = (0.0, 0);
        while slab < slabs {
            let place = Place::new((slab * params.lanes + self.lane) * FOUR, params.dstate);
            // SAFETY: the caller's; this lane alone has these states.
            let (mut states, A) = unsafe {
                let A = match params.one_decay {
                    0 => params.A.row::<F32>(A_row, place, params.A_by_four != 0),
                    _ => [F32::load(params.A.address, A_row); 4],
                };
                (params.state.row::<H>(state_row, place, by_four), A)
            };
            let mut t = from;
            while t < to {
                // SAFETY: the caller's.
                let (advanced, own, x) = unsafe { self.step::<T>(t, place, A, states) };
                // Without states there is nothing to sum, not even 0 * infinity.
                let own = if params.dstate == 0 { 0.0 } else { own };
                states = advanced.map(H::rounded);
                if params.token_states.address != 0 {
                    let row = self.b * u64::from(params.seqlen) + u64::from(t);
                    let row = params.token_states.offset([row, h, p, 0]);
                    // SAFETY: each row of token_states is of one token.
                    unsafe { params.token_states.put::<H>(row, place, by_four, states) };
                }
                if t + 1 == to {
                    // Before lanes part over the output: a warp stores whole sectors.
                    // SAFETY: the caller's.
                    unsafe { params.state.put::<H>(state_row, place, by_four, states) };
                }
                sum = if slab == 0 { own } else { sum + own };
                if slab == slabs - 1 {
                    // SAFETY: the caller's.
                    unsafe { self.finish::<T>(t, x, self.total(sum)) };
                }
                t += 1;
            }
            slab += 1;
        }
    }
}

/// The row of the cache for row `b` of the batch; `None` is padding.
///
/// # Safety
/// The parameters are as the host made them.
#[inline(always)]
unsafe fn slot(params: &SsmStateUpdate, b: u32, first: bool) -> Option<u64> {
    if params.state_indices == 0 {
        return Some(b.into());
    }
    let offset = i64::from(b) * params.state_indices_stride;
    // SAFETY: the contract checked that there is an index for each row of the batch.
    let index = i64::from(unsafe { *(params.state_indices as *const i32).offset(offset as isize) });
    if index >= params.slots && first && params.index_flag != 0 {
        // SAFETY: the flag is a word of its own; others may write it at the same time, by atomics too.
        unsafe { asm!("red.global.max.u32 [{}], {};", in(reg64) params.index_flag, in(reg32) b + 1, options(nostack)) };
    }
    (index >= 0 && index < params.slots).then_some(index as u64)
}

#[inline(always)]
fn update<T: Io, H: Io>(params: &SsmStateUpdate) {
    // SAFETY: these read special registers.
    let (block, threads, thread) = unsafe { (_block_idx_x() as u32, _block_dim_x() as u32, _thread_idx_x() as u32) };
    let lanes = params.lanes;
    let ([b, tile], [channel, lane]) = (divide(block, params.tiles), divide(thread, lanes));
    let [channels, _] = divide(threads, lanes);
    let ([h, p], within) = (divide(tile * channels + channel, params.headdim), thread % 32 - lane);
    // SAFETY: the host's parameters.
    let slot = unsafe { slot(params, b, tile == 0 && thread == 0) };
    if h >= params.nheads {
        return;
    }
    let mask = if lanes == 32 { u32::MAX } else { ((1 << lanes) - 1) << within };
    let channel = Channel { params, b: b.into(), slot: slot.unwrap_or(0), h, p, lane, mask };
    let slab = lanes * FOUR;
    // Without states there is one slab of nothing.
    let slabs = divide(params.dstate + slab - 1, slab)[0].max(1);
    let together = if slabs == 1 { params.seqlen } else { 1 };
    let mut t = 0;
    while t < params.seqlen {
        // SAFETY: each channel of each row of the batch has lanes of its own, and the contract checked the tensors.
        unsafe {
            if slot.is_some() {
                channel.tokens::<T, H>(t, t + together, slabs);
                t += together;
            } else {
                if lane == 0 {
                    params.out.store::<T>(channel.at(t), || 0.0);
                }
                t += 1;
            }
        }
    }
}

macro_rules! entry {
    ($dtype:literal, $io:ty: $($name:ident $state:ty),+) => {$(
        #[cfg(ssm_dtype = $dtype)]
        #[unsafe(no_mangle)]
        unsafe extern "ptx-kernel" fn $name(params: SsmStateUpdate) {
            update::<$io, $state>(&params);
        }
    )+};
}
entry!("f32", F32: state_update_fwd_f32_state_f32 F32, state_update_fwd_f32_state_f16 F16, state_update_fwd_f32_state_bf16 BF16);
entry!("f16", F16: state_update_fwd_f16_state_f32 F32, state_update_fwd_f16_state_f16 F16, state_update_fwd_f16_state_bf16 BF16);
entry!("bf16", BF16: state_update_fwd_bf16_state_f32 F32, state_update_fwd_bf16_state_f16 F16, state_update_fwd_bf16_state_bf16 BF16);
