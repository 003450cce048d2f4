//! The original kernels (state-spaces/mamba, commit e9594ce, csrc/selective_scan), counted in machine code made for sm_90 by
//! nvcc 13.0 with its own options (`-O3 --use_fast_math`): bf16, N = 16, variable B and C, z. Counted once, by hand; nothing here
//! is measured.

use super::calls::Call;
use super::classes::Class;
use super::counts::total;
use super::devices::{Device, SCHEDULERS};
use super::weigh::ByClass;

/// The states with which it was counted.
pub const STATES: usize = 16;
/// Slots per state step: in the loop over states for an even length, and all-in with pointwise work.
pub const FORWARD: [f64; 2] = [19.1, 22.7];
/// 59 without what only one of four warps does; 65 with all of it.
pub const BACKWARD: [f64; 2] = [65.0, 70.9];
pub const BACKWARD_LEAST: f64 = 59.0;
/// Where the length is no multiple of the chunk, and where it is at most 128; pointwise work comes on top.
const FORWARD_RAGGED: f64 = 33.9;
const FORWARD_SHORT: f64 = 34.3;

/// What was classified of the instructions of 16 state steps: 305 in the forward loop, 1047 in the backward one.
const FORWARD_LOOP: [(Class, f64); 7] = [
    (Class::Special, 16.0),
    (Class::Float, 116.0),
    (Class::Integer, 70.0),
    (Class::SharedMemory, 10.0),
    (Class::GlobalLoadStore, 4.0),
    (Class::Shuffle, 12.0),
    (Class::Control, 2.0),
];
const BACKWARD_LOOP: [(Class, f64); 5] = [
    (Class::Special, 16.0),
    (Class::GlobalLoadStore, 32.0),
    (Class::Shuffle, 35.0),
    (Class::Control, 8.0),
    (Class::Spill, 55.0),
];

/// Slots per state step by class; and those that were not classified, in the loop and all-in.
pub fn by_class(backward: bool) -> (ByClass, [f64; 2]) {
    let (counts, totals): (&[_], _) = if backward { (&BACKWARD_LOOP, BACKWARD) } else { (&FORWARD_LOOP, FORWARD) };
    let mut by_class = ByClass::default();
    for &(class, count) in counts {
        by_class[class as usize] = count / STATES as f64;
    }
    let classified = total(&by_class);
    (by_class, totals.map(|total| total - classified))
}

/// Threads of its block and steps of its chunk: one block per (batch, channel) row.
fn block(seqlen: usize) -> (usize, usize) {
    match seqlen {
        0..=128 => (32, 128),
        129..=256 => (32, 256),
        257..=512 => (32, 512),
        513..=1024 => (64, 1024),
        _ => (128, 2048),
    }
}

/// All-in slots per state step of the padded length.
fn slots(call: &Call) -> f64 {
    let (_, chunk) = block(call.seqlen);
    let [state, all] = if call.backward { BACKWARD } else { FORWARD };
    let least = match (call.backward, call.seqlen) {
        (true, _) => BACKWARD_LEAST,
        (false, 0..=128) => FORWARD_SHORT,
        (false, length) if length % chunk != 0 => FORWARD_RAGGED,
        _ => state,
    };
    least + (all - state)
}

/// Seconds by issue slots alone, every scheduler issuing in every clock however few warps it has: less than it can take.
pub fn time(call: &Call, device: &Device) -> f64 {
    let (threads, chunk) = block(call.seqlen);
    let padded = call.seqlen.next_multiple_of(chunk) as f64;
    let rows = (call.batch * call.dim).div_ceil(device.multiprocessors) as f64;
    // A row's block is one to four warps, which issue on as many schedulers.
    let schedulers = (rows * (threads / 32) as f64).min(SCHEDULERS);
    let warp_instructions = rows * padded * call.dstate as f64 * slots(call) / 32.0;
    warp_instructions / schedulers / device.hertz
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_the_count() {
        let h200 = &super::super::devices::DEVICES[0];
        // 8 * 2048 rows on 132: 125 each; 2048 * 16 * 22.7 / 32 instructions each, on four schedulers.
        let forward = time(&Call::new(false, [8, 2048, 2048]), h200);
        assert!((forward - 125.0 * 2048.0 * 16.0 * 22.7 / 32.0 / 4.0 / 1.98e9).abs() < 1e-9);
        let short = time(&Call::new(false, [1, 132, 64]), h200);
        assert!((short - 128.0 * 16.0 * (34.3 + 3.6) / 32.0 / 1.98e9).abs() < 1e-12);
    }
}
