//! Backward: the outputs before silu again, the gradients g by them, and what these give to inputs, states and, summed over
//! the tile, to the weights.

use super::*;
use crate::params::SsmCausalConv1dBwd;

/// One channel of a tile.
struct Channel {
    inputs: Inputs,
    dout: Row,
    dx: Row,
    dfinal: Row,
    dinitial: Row,
    silu: bool,
    /// The steps of the tile.
    from: i32,
    end: i32,
}

impl Channel {
    #[inline(always)]
    fn new(params: &SsmCausalConv1dBwd, tile: &Tile, d: u32, before: i32) -> Self {
        let (x, dout, dx) =
            (Row::new(&params.x, tile, d), Row::new(&params.dout, tile, d), Row::new(&params.dx, tile, d));
        let initial = Row::state(&params.initial_state, tile.seq, d);
        let mut dinitial = Row::state(&params.dinitial_state, tile.seq, d);
        if tile.number > 0 {
            dinitial.address = 0;
        }
        let from = tile.number * params.tiles.steps as i32;
        Self {
            inputs: Inputs { x, initial, len: tile.len, before },
            dout,
            dx,
            dfinal: Row::state(&params.dfinal_state, tile.seq, d),
            dinitial,
            silu: params.silu != 0,
            from,
            end: if tile.last { tile.len } else { from + params.tiles.steps as i32 },
        }
    }

    /// One behind the last step whose gradient the tile needs.
    #[inline(always)]
    fn reach(&self) -> i32 {
        let reach = self.end + self.inputs.before;
        if reach < self.inputs.len { reach } else { self.inputs.len }
    }

    /// The gradient by the output before silu.
    #[inline(always)]
    fn by_pre(&self, dout: f32, pre: f32) -> f32 {
        if self.silu { dout * silu_derivative(pre) } else { dout }
    }

    /// Whether there is a gradient by the output of step `t`.
    #[inline(always)]
    fn is_given(&self, t: i32) -> bool {
        self.dout.given() && t >= 0 && t < self.inputs.len
    }

    /// What comes back through the final state to input `p` of the sequence behind its initial state.
    #[inline(always)]
    fn last<T: Io>(&self, p: i32) -> f32 {
        let i = p - self.inputs.len;
        // SAFETY: p is below len + before.
        if i >= 0 && self.dfinal.given() { unsafe { self.dfinal.load::<T>(i) } } else { 0.0 }
    }
}

/// Where the sums of a tile go.
#[inline(always)]
fn partial(params: &SsmCausalConv1dBwd, tile: u32, width: u32, w: u32, d: u32) -> i64 {
    (tile as i64 * (width as i64 + 1) + w as i64) * params.tiles.dim as i64 + d as i64
}

/// One thread per channel.
#[inline(always)]
fn channels<T: Io, const W: usize>(params: &SsmCausalConv1dBwd) {
    let dim = params.tiles.dim;
    let (number, chunk, thread) = place(divide(dim + N_THREADS - 1, N_THREADS).0);
    let d = chunk * N_THREADS + thread;
    let Some(tile) = params.tiles.tile(number) else { return };
    if d >= dim {
        return;
    }
    // SAFETY: the channel and the steps are the tensors', and each step of a channel is one thread's.
    unsafe {
        let (taps, counted) = (Taps::<W>::load(&params.taps, d), Counted::<W>::load(&params.taps, d));
        let channel = Channel::new(params, &tile, d, taps.before());
        let (from, end, reach, before) = (channel.from, channel.end, channel.reach(), taps.before());
        let width = taps.width();
        let (given, sums) = (channel.dout.given(), params.partials != 0);
        let (mut g, mut of_taps, mut of_bias) = ([0.0; W], [0.0; W], 0.0);
        let mut window = window_before::<T, W>(&channel.inputs, from);
        let mut t = from;
        while t < end + before {
            let within = given && t < reach;
            let x = if within { channel.inputs.x.load::<T>(t) } else { 0.0 };
            let dout = if within { channel.dout.load::<T>(t) } else { 0.0 };
            push(&mut window, x);
            push(&mut g, 0.0);
            if within {
                let by_pre = channel.by_pre(dout, taps.sum(|w| window[w]));
                g[W - 1] = by_pre;
                if sums && t < end {
                    of_bias += by_pre;
                    each!(w < W => {
                        if taps.is(w) {
                            of_taps[w] = fma(by_pre, window[w], of_taps[w]);
                        }
                    });
                }
            }
            let dy = counted.sum_of(|w| channel.is_given(t - w as i32), |w| g[W - 1 - w]) + channel.last::<T>(t);
            if channel.dx.given() && t >= from + before {
                channel.dx.store::<T>(t - before, dy);
            }
            if channel.dinitial.given() && t < before {
                channel.dinitial.store::<T>(t, dy);
            }
            t += 1;
        }
        if sums {
            each!(w < W => {
                if taps.is(w) {
                    let offset = partial(params, number, width, w as u32 - taps.skipped, d);
                    F32::store(params.partials, offset, of_taps[w]);
                }
            });
            F32::store(params.partials, partial(params, number, width, width, d), of_bias);
        }
    }
}

/// One warp per channel, a lane per step, one chunk of 32 steps after the other: the gradients by the inputs of a chunk are
/// made when those by the outputs of the next are.
#[inline(always)]
fn steps<T: Io, const W: usize>(params: &SsmCausalConv1dBwd) {
    let dim = params.tiles.dim;
    let (number, chunk, thread) = place(divide(dim + N_WARPS - 1, N_WARPS).0);
    let (d, lane) = (chunk * N_WARPS + thread / 32, thread % 32);
    let Some(tile) = params.tiles.tile(number) else { return };
    // All lanes of a warp have one channel.
    if d >= dim {
        return;
    }
    // SAFETY: the channel and the steps are the tensors', and each step of a channel is one lane's.
    unsafe {
        let taps = Taps::<W>::load(&params.taps, d);
        let channel = Channel::new(params, &tile, d, taps.before());
        let (from, end, reach, before) = (channel.from, channel.end, channel.reach(), taps.before());
        let width = taps.width();
        let (given, sums, own) = (channel.dout.given(), params.partials != 0, lane as i32);
        let (mut of_taps, mut of_bias) = ([0.0; W], 0.0);
        let mut x = Chunks { previous: 0.0, current: 0.0 };
        let mut g = Chunks { previous: 0.0, current: 0.0 };
        if given && own >= 32 - before {
            x.current = channel.inputs.at::<T>(from - 32 + own);
        }
        let mut base = from;
        // The chunk behind the last completes it.
        while base < end + 32 || base == from {
            let t = base + own;
            x = Chunks { previous: x.current, current: 0.0 };
            g = Chunks { previous: g.current, current: 0.0 };
            let mut dout = 0.0;
            if given && t < reach {
                x.current = channel.inputs.at::<T>(t);
                dout = channel.dout.load::<T>(t);
            }
            if given && base < reach {
                let mut met = [0.0; W];
                each!(w < W => {
                    if taps.is(w) {
                        met[w] = x.back(lane, (W - 1 - w) as u32);
                    }
                });
                if t < reach {
                    g.current = channel.by_pre(dout, taps.sum(|w| met[w]));
                }
                if sums && t < end {
                    of_bias += g.current;
                    each!(w < W => {
                        if taps.is(w) {
                            of_taps[w] = fma(g.current, met[w], of_taps[w]);
                        }
                    });
                }
            }
            if base == from && channel.dinitial.given() {
                let first = Chunks { previous: 0.0, current: g.current };
                let counted = Counted::<W>::load(&params.taps, d);
                let dy = counted.sum_of(|w| channel.is_given(own - w as i32), |w| first.back(lane, w as u32));
                if own < before {
                    channel.dinitial.store::<T>(own, dy + channel.last::<T>(own));
                }
            }
            if base > from && channel.dx.given() {
                let t = t - 32;
                let met = |w| channel.is_given(t + (W - 1 - w) as i32);
                let dy = taps.sum_of(0.0, met, |w| g.ahead(lane, (W - 1 - w) as u32));
                if t < end {
                    channel.dx.store::<T>(t, dy + channel.last::<T>(t + before));
                }
            }
            base += 32;
        }
        if sums {
            let put = |w: u32, sum: f32| {
                let sum = over_lanes(sum, lane);
                if lane == 0 {
                    F32::store(params.partials, partial(params, number, width, w, d), sum);
                }
            };
            each!(w < W => {
                if taps.is(w) {
                    put(w as u32 - taps.skipped, of_taps[w]);
                }
            });
            put(width, of_bias);
        }
    }
}

macro_rules! entries {
    ($dtype:literal, $io:ty: $($channels:ident, $steps:ident, $width:literal;)+) => {$(
        #[cfg(ssm_dtype = $dtype)]
        #[unsafe(no_mangle)]
        unsafe extern "ptx-kernel" fn $channels(params: SsmCausalConv1dBwd) {
            channels::<$io, $width>(&params);
        }
        #[cfg(ssm_dtype = $dtype)]
        #[unsafe(no_mangle)]
        unsafe extern "ptx-kernel" fn $steps(params: SsmCausalConv1dBwd) {
            steps::<$io, $width>(&params);
        }
    )+};
}
entries! {
    "f32", F32:
    causal_conv1d_bwd_f32_channels2, causal_conv1d_bwd_f32_steps2, 2;
    causal_conv1d_bwd_f32_channels3, causal_conv1d_bwd_f32_steps3, 3;
    causal_conv1d_bwd_f32_channels4, causal_conv1d_bwd_f32_steps4, 4;
    causal_conv1d_bwd_f32_channels16, causal_conv1d_bwd_f32_steps16, 16;
}
entries! {
    "f16", F16:
    causal_conv1d_bwd_f16_channels2, causal_conv1d_bwd_f16_steps2, 2;
    causal_conv1d_bwd_f16_channels3, causal_conv1d_bwd_f16_steps3, 3;
    causal_conv1d_bwd_f16_channels4, causal_conv1d_bwd_f16_steps4, 4;
    causal_conv1d_bwd_f16_channels16, causal_conv1d_bwd_f16_steps16, 16;
}
entries! {
    "bf16", BF16:
    causal_conv1d_bwd_bf16_channels2, causal_conv1d_bwd_bf16_steps2, 2;
    causal_conv1d_bwd_bf16_channels3, causal_conv1d_bwd_bf16_steps3, 3;
    causal_conv1d_bwd_bf16_channels4, causal_conv1d_bwd_bf16_steps4, 4;
    causal_conv1d_bwd_bf16_channels16, causal_conv1d_bwd_bf16_steps16, 16;
}
