//! A device of the CUDA driver that is measured.

use super::case::Case;
use super::inputs::Inputs;
use super::measure::WARM_UP;
use super::roofline::{Machine, Work};
use crate::cuda;
use crate::error::Result;
use crate::memory::filled;
use crate::tensor::Io;
use ssm_baseline::Shape;
use ssm_kernels::gpu::{DeviceInfo, DriverBuffer, Gpu, OnStream, Stream};
use std::time::Instant;

/// Bytes of each of the two buffers of the copy, or an eighth of the device's memory.
const COPIED: usize = 256 << 20;
const TRIALS: usize = 10;
const COPIES: usize = 8;
/// Copies of a case at most: tiny ones stay in the L2.
const MOST_SETS: usize = 1024;

/// An open device.
pub struct Device {
    /// Its default stream.
    pub gpu: Gpu<OnStream>,
    /// It computes, and has no time.
    pub emulated: bool,
    /// What it can do at most; not of an emulated one.
    pub machine: Option<Machine>,
    info: DeviceInfo,
}

/// The inputs of a case on a device.
pub struct Stored<T> {
    shape: Shape,
    sequences: [DriverBuffer<T>; 4],
    rows: [DriverBuffer<T>; 2],
    channels: [DriverBuffer<f32>; 3],
}

impl Device {
    /// Opens it, and measures its copies.
    pub fn open(ordinal: Option<u32>) -> Result<Self> {
        let driver = cuda::open(ordinal)?;
        let (gpu, info) = (driver.on(Stream::null()), driver.info().clone());
        let emulated = info.is_emulated();
        let machine = match emulated {
            true => None,
            // Operations are not bounded: of a device only the copy is measured.
            false => Some(Machine { operations: f64::INFINITY, bandwidth: bandwidth(&gpu, &info)? }),
        };
        Ok(Self { gpu, emulated, machine, info })
    }

    /// As many copies of the inputs as, with outputs, fill the L2 twice: each call finds its tensors in memory.
    pub fn store<T: Io>(&self, case: &Case<T>, work: &Work) -> Result<Vec<Stored<T>>> {
        let beyond = 2.0 * self.info.l2_bytes as f64 / work.bytes.max(1.0);
        let sets = if self.emulated { 1 } else { (beyond as usize).saturating_add(1).min(MOST_SETS) };
        (0..sets).map(|_| Stored::new(&self.gpu, case)).collect()
    }

    /// A line about it.
    pub fn text(&self) -> String {
        let DeviceInfo { ordinal, name, l2_bytes, .. } = &self.info;
        let said = match &self.machine {
            Some(machine) => format!("copy {:.1} GB/s, L2 {} MiB", machine.bandwidth / 1e9, l2_bytes >> 20),
            None => "this device is emulated: each call runs once, and nothing is timed".into(),
        };
        format!("cuda device {ordinal}, {name}: {said}\n")
    }
}

impl<T: Io> Stored<T> {
    fn new(gpu: &Gpu<OnStream>, case: &Case<T>) -> Result<Self> {
        let [x, dt, z, dout] = case.io.sequences.each_ref().map(|tensor| gpu.upload(tensor));
        let [B, C] = case.io.rows.each_ref().map(|tensor| gpu.upload(tensor));
        let [matrix, D, bias] = [&case.matrix, &case.D, &case.bias].map(|tensor| gpu.upload(tensor));
        let (sequences, rows) = ([x?, dt?, z?, dout?], [B?, C?]);
        Ok(Self { shape: case.shape, sequences, rows, channels: [matrix?, D?, bias?] })
    }

    /// What the device reads.
    pub fn inputs(&self) -> Inputs<'_, T, ssm_kernels::Device> {
        let [matrix, D, bias] = self.channels.each_ref().map(DriverBuffer::slice);
        let rows = self.rows.each_ref().map(DriverBuffer::slice);
        let sequences = self.sequences.each_ref().map(DriverBuffer::slice);
        Inputs { shape: self.shape, sequences, rows, matrix, D, bias }
    }
}

/// Bytes per second, read and written, of the fastest of a few copies.
fn bandwidth(gpu: &Gpu<OnStream>, info: &DeviceInfo) -> Result<f64> {
    let bytes = COPIED.min(info.memory_bytes / 8).max(1);
    let (from, mut to) = (gpu.upload(&filled(bytes, 0u8)?)?, gpu.alloc(bytes)?);
    // The gap before the first copy would be a part of one alone; and a device raises its clock only under load.
    let mut trial = || gpu.seconds(|| (0..COPIES).try_for_each(|_| to.copy_from(&from)));
    let start = Instant::now();
    while start.elapsed() < WARM_UP {
        trial()?;
    }
    let mut best = f64::INFINITY;
    for _ in 0..TRIALS {
        best = best.min(trial()?);
    }
    Ok(2.0 * (bytes * COPIES) as f64 / best.max(1e-9))
}
