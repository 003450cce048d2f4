//! The modelled time of a call: no measurement, but the largest of three bounds.
//!
//! - HBM: the least bytes of the call (and x, dt and z once more for each further launch of a scan, where sequences are cut)
//!   over the device's bandwidth.
//! - Special functions and issue slots: of the multiprocessor with the most blocks. A scheduler issues one warp instruction
//!   a clock if it has two warps or more, `ALONE` of that for each warp otherwise; a multiprocessor does `SPECIAL` special
//!   functions a clock.
//!
//! The instructions of a block come from the emulator and the machine code, of one tile of channels and a part as long
//! as the plan's, or 2048 steps of it. The passes between scans (carries, sums of partial sums) are left out.

use super::calls::{self, Call, Done, Launched};
use super::classes::Class;
use super::counts::{Code, total};
use super::devices::{ALONE, Device, Multiprocessor, SCHEDULERS, SPECIAL};

/// Steps beyond which a part is not emulated whole.
const EMULATED: usize = 2048;
/// Channels of a block at one lane: a call of so many is one tile of blocks whatever the lanes.
const CHANNELS: usize = 128;

/// Seconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Modelled {
    pub hbm: f64,
    pub special: f64,
    pub issue: f64,
    /// On the busiest multiprocessor, of the launch that takes longest.
    pub warps_per_scheduler: f64,
    pub time: f64,
}

/// What a tile of channels and a part of a sequence executed when it ran, per launch of a scan, and of how many steps.
pub struct Sample {
    done: Done,
    steps: f64,
}

impl Sample {
    /// Of the plan's parts.
    pub fn of(plan: &Done) -> Result<Self, String> {
        let Call { seqlen, .. } = plan.call;
        let part = seqlen.div_ceil(plan.split);
        let steps = part.min(EMULATED);
        let parts = if plan.split > 1 { 2 } else { 1 };
        let lanes = Some(plan.lanes);
        let call = Call { batch: 1, dim: CHANNELS, seqlen: parts * steps, split: Some(parts), lanes, ..plan.call };
        let done = calls::run(call).map_err(|error| error.to_string())?;
        Ok(Self { done, steps: (parts * steps) as f64 })
    }
}

/// Launches of the call's own kernel: one, or more where sequences are cut.
pub fn scans(done: &Done) -> Vec<&Launched> {
    let is_scan = |one: &&Launched| {
        one.kernel.starts_with(&format!("selective_scan_{}_", if done.call.backward { "bwd" } else { "fwd" }))
    };
    done.launches.iter().filter(is_scan).collect()
}

/// `resident`: blocks of a kernel that a multiprocessor holds, by its name and its dynamic shared memory.
pub fn time(
    plan: &Done,
    sample: &Sample,
    device: &Device,
    code: &mut Code<'_>,
    resident: &dyn Fn(&Launched, &Multiprocessor) -> Result<u32, String>,
) -> Result<Modelled, String> {
    let (planned, ran) = (scans(plan), scans(&sample.done));
    if planned.len() != ran.len() || planned.is_empty() {
        return Err(format!("{:?}: {} launches of scans, {} in the sample", plan.call, planned.len(), ran.len()));
    }
    let mut modelled = Modelled::default();
    let mut longest = 0.0;
    // Tiles of channels times steps, beside the sample's.
    let Call { batch, dim, seqlen, .. } = plan.call;
    let work = (batch * dim.div_ceil(CHANNELS) * seqlen) as f64 / sample.steps;
    for (launched, one) in planned.iter().zip(ran) {
        let counted = code.launch(one, device.architecture)?;
        let blocks = launched.blocks.div_ceil(device.multiprocessors) as f64;
        let share = blocks / launched.blocks as f64 * work;
        let held = f64::from(resident(launched, Multiprocessor::of(device.architecture))?).min(blocks);
        let warps = held * f64::from(launched.threads.div_ceil(32)) / SCHEDULERS;
        let clocks = total(&counted.all) * share / SCHEDULERS / (ALONE * warps).min(1.0);
        let special = counted.all[Class::Special as usize] * share * 32.0 / SPECIAL;
        modelled.issue += clocks / device.hertz;
        modelled.special += special / device.hertz;
        if clocks > longest {
            (longest, modelled.warps_per_scheduler) = (clocks, warps);
        }
    }
    let again = 6.0 * plan.call.elements() * (planned.len() - 1) as f64;
    modelled.hbm = (plan.call.least_bytes() + plan.call.least_projection_bytes() + again) / device.bandwidth;
    modelled.time = modelled.hbm.max(modelled.special).max(modelled.issue);
    Ok(modelled)
}
