//! What the benches share: CPU time as the measurement, and inputs. docs/benchmarks.md says what is beside what.

// Every bench is a crate of its own and uses a part of this.
#![allow(dead_code)]

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, Throughput};
use ssm_baseline::{Layout, Scan, Shape, cpu_time};
use ssm_kernels::Result;
use ssm_kernels::prelude::*;
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

/// Extents (batch, dim, seqlen, dstate) of the benches over whole sequences, in both layouts, with names.
pub fn shapes() -> Vec<(String, Shape)> {
    with_layouts(&[(1, 256, 512, 16), (1, 1536, 1, 16)])
}

/// These extents in both layouts, with names.
pub fn with_layouts(extents: &[(usize, usize, usize, usize)]) -> Vec<(String, Shape)> {
    let layouts = [("dense", Layout::Dense), ("channel-last", Layout::ChannelLast)];
    let all = extents.iter().flat_map(|&extents| layouts.map(|layout| (extents, layout)));
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

/// The inputs of a scan with every option on.
pub struct ScanInputs {
    pub shape: Shape,
    /// x, dt, z, dout.
    pub sequences: [Vec<f32>; 4],
    /// B and C.
    rows: [Vec<f32>; 2],
    A: Vec<f32>,
    D: Vec<f32>,
    dt_bias: Vec<f32>,
}

impl ScanInputs {
    pub fn new(shape: Shape) -> Self {
        Self {
            shape,
            sequences: std::array::from_fn(|i| pattern(shape.sequence(), i, (-2.0, 2.0))),
            rows: std::array::from_fn(|i| pattern(shape.rows(), 4 + i, (-1.0, 1.0))),
            A: pattern(shape.states(), 6, (-16.0, -1.0)),
            D: pattern(shape.dim, 7, (-1.0, 1.0)),
            dt_bias: pattern(shape.dim, 8, (-3.0, -1.0)),
        }
    }

    /// For the loops.
    pub fn plain(&self) -> Scan<'_> {
        let ([x, dt, z, _], [B, C]) = (&self.sequences, &self.rows);
        Scan { shape: self.shape, x, dt, A: &self.A, B, C, D: &self.D, z, dt_bias: &self.dt_bias }
    }

    /// x, dt and z.
    fn channels(&self) -> [View<'_, f32>; 3] {
        std::array::from_fn(|i| View::new(&self.sequences[i], sequence_dims(&self.shape)))
    }

    /// A, B and C.
    fn projections(&self) -> [View<'_, f32>; 3] {
        let A = View::new(&self.A, [("dim", self.shape.dim), ("dstate", self.shape.dstate)]);
        let [B, C] = self.rows.each_ref().map(|rows| View::new(rows, rows_dims(&self.shape)));
        [A, B, C]
    }

    pub fn scan(&self) -> Result<SelectiveScan<'_, f32>> {
        let ([x, dt, z], [A, B, C]) = (self.channels(), self.projections());
        let scan = SelectiveScan::new(x, dt, A, B, C)?.D(channels(&self.D)).z(z);
        Ok(scan.dt_bias(channels(&self.dt_bias)).dt_softplus(true))
    }

    /// The same steps as tokens.
    pub fn update(&self) -> Result<StateUpdate<'_, f32>> {
        let ([x, dt, z], [A, B, C]) = (self.channels(), self.projections());
        let update = StateUpdate::new(x, dt, A, B, C)?.D(channels(&self.D)).z(z);
        Ok(update.dt_bias(channels(&self.dt_bias)).dt_softplus(true))
    }
}
