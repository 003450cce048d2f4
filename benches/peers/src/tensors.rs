//! The inputs of a scan, the same numbers for all.

use crate::Result;
use std::fs;
use std::path::Path;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub batch: usize,
    pub dim: usize,
    pub seqlen: usize,
    pub dstate: usize,
}

impl Shape {
    pub fn sequence(&self) -> usize {
        self.batch * self.dim * self.seqlen
    }

    pub fn rows(&self) -> usize {
        self.batch * self.seqlen * self.dstate
    }

    pub fn states(&self) -> usize {
        self.dim * self.dstate
    }

    pub fn state_steps(&self) -> f64 {
        (self.sequence() * self.dstate) as f64
    }
}

/// What lies side by side: steps of a channel, or channels of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    Dense,
    ChannelLast,
}

impl Layout {
    pub fn name(self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::ChannelLast => "channel-last",
        }
    }
}

/// Channel-last: x, dt, z and dout are (batch, seqlen, dim), B and C (batch, seqlen, dstate). dt has no bias in it.
#[derive(Clone)]
pub struct Tensors {
    pub shape: Shape,
    pub layout: Layout,
    pub x: Vec<f32>,
    pub dt: Vec<f32>,
    pub z: Vec<f32>,
    pub dout: Vec<f32>,
    pub B: Vec<f32>,
    pub C: Vec<f32>,
    pub A: Vec<f32>,
    pub D: Vec<f32>,
    pub dt_bias: Vec<f32>,
}

impl Tensors {
    /// The same with steps side by side.
    pub fn dense(&self) -> Self {
        let Shape { batch, dim, seqlen, dstate, .. } = self.shape;
        let sequence = |data: &[f32]| transposed(data, batch, seqlen, dim);
        let rows = |data: &[f32]| transposed(data, batch, seqlen, dstate);
        Self {
            layout: Layout::Dense,
            x: sequence(&self.x),
            dt: sequence(&self.dt),
            z: sequence(&self.z),
            dout: sequence(&self.dout),
            B: rows(&self.B),
            C: rows(&self.C),
            ..self.clone()
        }
    }

    /// For the programs in other languages: one file of little-endian f32 a tensor.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let sequences = [("x", &self.x), ("dt", &self.dt), ("z", &self.z), ("dout", &self.dout)];
        let others = [("B", &self.B), ("C", &self.C), ("A", &self.A), ("D", &self.D), ("dt_bias", &self.dt_bias)];
        fs::create_dir_all(folder)?;
        sequences.iter().chain(&others).try_for_each(|(name, data)| write(folder, name, data))
    }
}

pub fn write(folder: &Path, name: &str, data: &[f32]) -> Result<()> {
    let bytes: Vec<u8> = data.iter().flat_map(|value| value.to_le_bytes()).collect();
    Ok(fs::write(folder.join(format!("{name}.f32")), bytes)?)
}

/// (batch, rows, columns) to (batch, columns, rows).
pub fn transposed(data: &[f32], batch: usize, rows: usize, columns: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(data.len());
    for matrix in data.chunks_exact(rows * columns).take(batch) {
        for column in 0..columns {
            out.extend((0..rows).map(|row| matrix[row * columns + column]));
        }
    }
    out
}

/// The greatest difference, beside the greatest value.
pub fn difference(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    let greatest = ours.iter().fold(f32::MIN_POSITIVE, |most, value| most.max(value.abs()));
    // What is no number stays.
    let apart = |most: f32, apart: f32| if most.is_nan() || apart <= most { most } else { apart };
    ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, apart) / greatest
}

/// Uniform numbers, the same in every run.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed * 2 + 1)
    }

    pub fn fill(&mut self, out: &mut [f32], low: f32, high: f32) {
        for value in out {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *value = low + (high - low) * (self.0 >> 40) as f32 / (1 << 24) as f32;
        }
    }

    pub fn vec(&mut self, len: usize, low: f32, high: f32) -> Vec<f32> {
        let mut out = vec![0.0; len];
        self.fill(&mut out, low, high);
        out
    }
}
