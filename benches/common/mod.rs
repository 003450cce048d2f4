//! What the benches share: CPU time as the measurement, and inputs. docs/benchmarks.md says what is beside what.

// Every bench is a crate of its own and uses a part of this.
#![allow(dead_code)]

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, Throughput};
use ssm_baseline::{Layout, Shape, cpu_time};
use ssm_kernels::View;
use std::time::Duration;

/// CPU time of the process: what else runs on the machine lengthens it little.
#[derive(Debug, Clone, Copy)]
pub struct CpuTime;

/// Formats durations.
const WALL: &WallTime = &WallTime;

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        cpu_time()
    }
    fn end(&self, start: Duration) -> Duration {
        // A clock that has not moved would make a rate infinite.
        cpu_time().saturating_sub(start).max(Duration::from_nanos(1))
    }
    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }
    fn zero(&self) -> Duration {
        Duration::ZERO
    }
    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }
    fn formatter(&self) -> &dyn ValueFormatter {
        WALL.formatter()
    }
}

/// The settings of every bench.
pub fn criterion() -> Criterion<CpuTime> {
    Criterion::default().with_measurement(CpuTime).sample_size(10).measurement_time(Duration::from_secs(2))
}

/// State steps per second.
pub fn throughput(shape: &Shape) -> Throughput {
    Throughput::Elements((shape.sequence() * shape.dstate) as u64)
}

/// The shapes of every bench, with names.
pub fn shapes() -> Vec<(String, Shape)> {
    let layouts = [("dense", Layout::Dense), ("channel-last", Layout::ChannelLast)];
    let extents = [(1, 256, 512, 16), (1, 1536, 1, 16)];
    let all = extents.into_iter().flat_map(|extents| layouts.map(|layout| (extents, layout)));
    all.map(|((batch, dim, seqlen, dstate), (name, layout))| {
        (format!("{name}/{batch}x{dim}x{seqlen}x{dstate}"), Shape { batch, dim, seqlen, dstate, layout })
    })
    .collect()
}

/// A fixed pattern from `low` to `high`.
pub fn pattern(count: usize, phase: usize, (low, high): (f32, f32)) -> Vec<f32> {
    (0..count).map(|i| low + (high - low) * ((i * 37 + phase * 11) % 101) as f32 / 100.0).collect()
}

/// The dimensions of x.
pub fn sequence_dims(shape: &Shape) -> [(&'static str, usize); 3] {
    let (batch, dim, seqlen) = (("batch", shape.batch), ("dim", shape.dim), ("seqlen", shape.seqlen));
    match shape.layout {
        Layout::Dense => [batch, dim, seqlen],
        Layout::ChannelLast => [batch, seqlen, dim],
    }
}

/// The dimensions of B and C.
pub fn rows_dims(shape: &Shape) -> [(&'static str, usize); 4] {
    let (batch, groups) = (("batch", shape.batch), ("ngroups", 1));
    let (dstate, seqlen) = (("dstate", shape.dstate), ("seqlen", shape.seqlen));
    match shape.layout {
        Layout::Dense => [batch, groups, dstate, seqlen],
        Layout::ChannelLast => [batch, seqlen, groups, dstate],
    }
}

/// A tensor of channels.
pub fn channels(data: &[f32]) -> View<'_, f32> {
    View::new(data, [("dim", data.len())])
}
