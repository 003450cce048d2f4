//! What the emulator says, in this process.

use super::coverage::Target;
use super::kernel::{self, Batch};
use super::operands::BLOCK;
use ptx_emulator::{Checks, Device, Module};

/// The results of a batch: for each cell those of all tuples.
pub fn run(target: Target, batch: &Batch<'_>, operands: &[u64]) -> ptx_emulator::Result<Vec<u64>> {
    let module = Module::from_ptx(&kernel::module(target, std::slice::from_ref(batch)))?;
    let device = Device::new();
    // No kernel has an empty buffer.
    let operands = device.upload(if operands.is_empty() { &[0] } else { operands })?;
    let results = device.upload(&vec![0u64; batch.cells() * batch.count])?;
    let launch = module.launch("k0").grid([(batch.count / BLOCK) as u32, 1, 1]).block([BLOCK as u32, 1, 1]);
    launch.arg(operands).arg(results).checks(Checks::BOUNDS).counters(false).run(&device)?;
    device.read(results)
}
