//! What this machine can do at most, measured, and what a call needs at least, counted. docs/benchmarks.md has the counts.

use super::attention;
use super::case::Direction;
use crate::args::Op;
use crate::error::Result;
use crate::memory::filled;
use ssm_baseline::{Shape, cpu_time};
use ssm_kernels::Dtype;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Elements of each of the two tensors of the copy: 128 MiB.
const COPIED: usize = 1 << 25;
const TRIALS: usize = 5;

/// Measured limits of so many threads.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    /// Lanes of fused multiply-adds per second.
    pub operations: f64,
    /// Bytes per second, read and written.
    pub bandwidth: f64,
}

/// What a call reads, writes and computes at least.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work {
    /// (batch, channel, state, time); of a convolution or attention (batch, channel, time).
    pub state_steps: f64,
    /// Each input once, each output once.
    pub bytes: f64,
    /// Lanes.
    pub operations: f64,
}

impl Machine {
    /// Measures for about half a second.
    pub fn measure(threads: u16) -> Result<Self> {
        let operations = peak() * f64::from(threads);
        Ok(Self { operations, bandwidth: bandwidth(threads.into())? })
    }

    /// The seconds that `work` takes at least.
    pub fn floor(&self, work: &Work) -> f64 {
        (work.bytes / self.bandwidth).max(work.operations / self.operations)
    }
}

impl Work {
    /// Of one call.
    pub fn new(op: Op, direction: Direction, shape: &Shape, dtype: Dtype) -> Self {
        let io = if dtype == Dtype::F32 { 4.0 } else { 2.0 };
        if op.has_heads() {
            return attention::work(op, direction, shape, io);
        }
        let (sequence, rows) = (shape.sequence() as f64, shape.rows() as f64);
        let (states, dim) = (4.0 * shape.states() as f64, 4.0 * shape.dim as f64);
        let taps = if op.has_taps() { shape.dstate as f64 } else { 0.0 };
        let state_steps = if op.has_taps() { sequence } else { sequence * shape.dstate as f64 };
        let (bytes, per_state_step, per_step) = match (op, direction) {
            // x, dt, z, out; B, C; A; D, dt_bias.
            (Op::SelectiveScan, Direction::Forward) => {
                (io * (4.0 * sequence + 2.0 * rows) + states + 2.0 * dim, 12.0, 36.0)
            }
            // x, dt, z, dout, dx, ddt, dz; B, C, dB, dC; A, dA; D, dt_bias, dD, ddt_bias.
            (Op::SelectiveScan, Direction::Backward) => {
                (io * (7.0 * sequence + 4.0 * rows) + 2.0 * states + 4.0 * dim, 20.0, 64.0)
            }
            // As the scan, and the state read and written.
            (Op::StateUpdate, _) => {
                let state = 8.0 * (shape.batch * shape.states()) as f64;
                (io * (4.0 * sequence + 2.0 * rows) + states + 2.0 * dim + state, 12.0, 36.0)
            }
            // x, out; weight, bias.
            (Op::CausalConv1d, Direction::Forward) => (io * 2.0 * sequence + states + dim, taps + 17.0, 0.0),
            // x, dout, dx; weight, dweight; bias, dbias.
            (Op::CausalConv1d, Direction::Backward) => {
                (io * 3.0 * sequence + 2.0 * (states + dim), 3.0 * taps + 22.0, 0.0)
            }
            // As forward, and the state read and written.
            (Op::CausalConv1dUpdate, _) => {
                let state = 2.0 * io * (shape.batch * shape.dim) as f64 * (taps - 1.0);
                (io * 2.0 * sequence + states + dim + state, taps + 17.0, 0.0)
            }
            // Counted above.
            (Op::SquaredAttention | Op::SquaredAttentionUpdate, _) => (0.0, 0.0, 0.0),
            // dt; B; A; dt_bias; A_bar, B_bar.
            (Op::Discretise, Direction::Forward) => {
                (io * (sequence + rows) + states + dim + 8.0 * state_steps, 20.0, 17.0)
            }
            // The same inputs; dA_bar, dB_bar, dA; ddt, dB.
            (Op::Discretise, Direction::Backward) => {
                (io * (sequence + rows) + states + dim + (12.0 + 2.0 * io) * state_steps, 30.0, 26.0)
            }
        };
        Self { state_steps, bytes, operations: per_state_step * state_steps + per_step * sequence }
    }
}

/// Lanes of fused multiply-adds that one core does in a second.
fn peak() -> f64 {
    const STEPS: u32 = 200_000;
    let trial = |_| {
        let start = cpu_time();
        let lanes = multiply_adds(STEPS);
        lanes / cpu_time().saturating_sub(start).max(Duration::from_nanos(1)).as_secs_f64()
    };
    // The first trials wake the core.
    (0..4 * TRIALS).map(trial).fold(0.0, f64::max)
}

/// Independent chains of multiply-adds, enough to hide their latency: `steps` rounds of `CHAINS` vectors of `LANES`.
#[inline(always)]
fn chains<const LANES: usize, const CHAINS: usize>(steps: u32, step: impl Fn(f32, f32, f32) -> f32) -> f64 {
    let (factor, addend) = (black_box(0.999f32), black_box(0.001f32));
    let mut values = [[1.0f32; LANES]; CHAINS];
    for _ in 0..steps {
        for chain in &mut values {
            for value in chain {
                *value = step(*value, factor, addend);
            }
        }
    }
    black_box(values);
    f64::from(steps) * (LANES * CHAINS) as f64
}

#[cfg(target_arch = "x86_64")]
fn multiply_adds(steps: u32) -> f64 {
    if std::is_x86_feature_detected!("avx512f") {
        // SAFETY: this CPU has avx512f.
        unsafe { x86::wide(steps) }
    } else if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
        // SAFETY: this CPU has avx2 and fma.
        unsafe { x86::narrow(steps) }
    } else {
        chains::<4, 8>(steps, |a, b, c| a * b + c)
    }
}

/// The vectors by name: a closure would not have the features of the function around it.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{_mm256_fmadd_ps, _mm256_set1_ps, _mm512_fmadd_ps, _mm512_set1_ps};
    use std::hint::black_box;

    macro_rules! chains {
        ($name:ident, $features:literal, $lanes:literal, $set:ident, $multiply_add:ident) => {
            #[target_feature(enable = $features)]
            pub fn $name(steps: u32) -> f64 {
                let (factor, addend) = ($set(black_box(0.999)), $set(black_box(0.001)));
                let mut chains = [$set(1.0); 12];
                for _ in 0..steps {
                    for chain in &mut chains {
                        *chain = $multiply_add(*chain, factor, addend);
                    }
                }
                black_box(chains);
                f64::from(steps) * ($lanes * chains.len()) as f64
            }
        };
    }
    chains!(wide, "avx512f", 16, _mm512_set1_ps, _mm512_fmadd_ps);
    chains!(narrow, "avx2,fma", 8, _mm256_set1_ps, _mm256_fmadd_ps);
}

#[cfg(target_arch = "aarch64")]
fn multiply_adds(steps: u32) -> f64 {
    chains::<4, 16>(steps, f32::mul_add)
}

/// Elsewhere a fused multiply-add may be a call: a multiply and an add count as one.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn multiply_adds(steps: u32) -> f64 {
    chains::<4, 8>(steps, |a, b, c| a * b + c)
}

/// Bytes per second of a copy in so many threads.
fn bandwidth(threads: usize) -> Result<f64> {
    let (source, mut copy) = (filled(COPIED, 1.0f32)?, filled(COPIED, 0.0f32)?);
    let share = COPIED.div_ceil(threads);
    let mut best = Duration::MAX;
    for _ in 0..TRIALS {
        let (start, cpu_start) = (Instant::now(), cpu_time());
        if threads == 1 {
            copy.copy_from_slice(black_box(&source));
        } else {
            std::thread::scope(|scope| {
                for (copy, source) in copy.chunks_mut(share).zip(source.chunks(share)) {
                    scope.spawn(|| copy.copy_from_slice(black_box(source)));
                }
            });
        }
        black_box(&mut copy);
        let (cpu, wall) = (cpu_time().saturating_sub(cpu_start), start.elapsed());
        best = best.min(if threads == 1 { cpu } else { wall });
    }
    Ok((2 * COPIED * size_of::<f32>()) as f64 / best.max(Duration::from_nanos(1)).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ssm_baseline::Layout;

    #[test]
    fn work_of_a_scan() {
        let shape = Shape { batch: 2, dim: 3, seqlen: 5, dstate: 4, layout: Layout::Dense };
        let work = Work::new(Op::SelectiveScan, Direction::Forward, &shape, Dtype::F32);
        assert_eq!(work.state_steps, 120.0);
        assert_eq!(work.bytes, 4.0 * (4.0 * 30.0 + 2.0 * 40.0 + 12.0 + 6.0));
        assert_eq!(work.operations, 12.0 * 120.0 + 36.0 * 30.0);
        let halved = Work::new(Op::SelectiveScan, Direction::Forward, &shape, Dtype::BF16);
        assert_eq!(work.bytes - halved.bytes, 2.0 * (4.0 * 30.0 + 2.0 * 40.0));
    }

    #[test]
    fn work_of_a_convolution() {
        let shape = Shape { batch: 2, dim: 3, seqlen: 5, dstate: 4, layout: Layout::Dense };
        let work = Work::new(Op::CausalConv1d, Direction::Backward, &shape, Dtype::BF16);
        assert_eq!(work.state_steps, 30.0);
        assert_eq!(work.bytes, 2.0 * 3.0 * 30.0 + 4.0 * 2.0 * (12.0 + 3.0));
        assert_eq!(work.operations, 34.0 * 30.0);
        let update = Work::new(Op::CausalConv1dUpdate, Direction::Forward, &shape, Dtype::F32);
        assert_eq!(update.bytes, 4.0 * (2.0 * 30.0 + 15.0 + 2.0 * 18.0));
    }

    #[test]
    fn the_floor_is_the_higher_one() {
        let machine = Machine { operations: 10.0, bandwidth: 100.0 };
        assert_eq!(machine.floor(&Work { state_steps: 1.0, bytes: 100.0, operations: 5.0 }), 1.0);
        assert_eq!(machine.floor(&Work { state_steps: 1.0, bytes: 10.0, operations: 5.0 }), 0.5);
    }
}
