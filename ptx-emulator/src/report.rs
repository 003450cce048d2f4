//! The report of a launch.

use crate::checks::{GlobalConflict, GlobalConflictKind, Party};
use crate::counters::{self, CountedInstruction, InstructionClass};
use crate::device::{Buffer, DeviceId};
use crate::exec::Launch;
use crate::findings::{self, Finding, FindingKind, RawFinding};
use crate::schedule::Outcome;
use std::collections::BTreeMap;
use std::fmt;

/// What a launch did, and did wrong.
#[derive(Clone, Debug)]
pub struct Report {
    device: DeviceId,
    findings: Vec<Finding>,
    instructions: Vec<CountedInstruction>,
    traffic: BTreeMap<u64, [u64; 2]>,
}

/// Whatever the devices.
impl PartialEq for Report {
    fn eq(&self, other: &Self) -> bool {
        (&self.findings, &self.instructions, &self.traffic) == (&other.findings, &other.instructions, &other.traffic)
    }
}

impl Eq for Report {}

impl Report {
    pub(crate) fn new(launch: &Launch<'_>, files: &[(u32, String)], outcome: Outcome) -> Self {
        Self {
            device: launch.device,
            findings: findings::resolve(outcome.findings, launch.program, files, launch.grid, launch.block),
            instructions: counters::resolve(launch.program, &outcome.tally.counts, files),
            traffic: outcome.tally.traffic,
        }
    }

    /// What was wrong: one finding for each kind and instruction, in the order of the blocks.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Nothing was wrong.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// Some finding is of this kind.
    pub fn has(&self, kind: FindingKind) -> bool {
        self.findings.iter().any(|finding| finding.kind == kind)
    }

    /// Counts per static instruction, in the order of the kernel; called functions appear once per call.
    pub fn instructions(&self) -> &[CountedInstruction] {
        &self.instructions
    }

    fn total(&self, count: impl Fn(&CountedInstruction) -> u64) -> u64 {
        self.instructions.iter().map(count).sum()
    }

    /// Instructions issued by warps, in all.
    pub fn warp_instructions(&self) -> u64 {
        self.total(|one| one.counts.executed)
    }

    /// Instructions executed, summed over lanes.
    pub fn lane_instructions(&self) -> u64 {
        self.total(|one| one.counts.lanes)
    }

    /// Instructions of a class issued by warps.
    pub fn executed(&self, class: InstructionClass) -> u64 {
        self.total(|one| if one.class == class { one.counts.executed } else { 0 })
    }

    /// Floating-point operations of all lanes; a fused multiply-add is two.
    pub fn flops(&self) -> u64 {
        self.total(|one| u64::from(one.flops) * one.counts.lanes)
    }

    /// Exponentials (`ex2`) of all lanes.
    pub fn exponentials(&self) -> u64 {
        self.total(|one| if one.is_exponential { one.counts.lanes } else { 0 })
    }

    /// Bytes that lanes loaded from global memory.
    pub fn global_bytes_loaded(&self) -> u64 {
        self.traffic.values().map(|bytes| bytes[0]).sum()
    }

    /// Bytes that lanes stored to global memory, atomics included.
    pub fn global_bytes_stored(&self) -> u64 {
        self.traffic.values().map(|bytes| bytes[1]).sum()
    }

    /// Bytes that lanes loaded from the allocation of a buffer: its size, if every element is read exactly once.
    pub fn bytes_loaded<T>(&self, buffer: Buffer<T>) -> u64 {
        self.traffic_of(buffer)[0]
    }

    /// Bytes that lanes stored to the allocation of a buffer, atomics included.
    pub fn bytes_stored<T>(&self, buffer: Buffer<T>) -> u64 {
        self.traffic_of(buffer)[1]
    }

    fn traffic_of<T>(&self, buffer: Buffer<T>) -> [u64; 2] {
        let here = (buffer.device() == self.device).then(|| self.traffic.get(&(buffer.address() >> 32)));
        here.flatten().copied().unwrap_or_default()
    }

    /// 32-byte sectors of global memory that loads touched, warp by warp.
    pub fn sectors_loaded(&self) -> u64 {
        self.total(|one| if one.is_load { one.counts.global_sectors } else { 0 })
    }

    /// 32-byte sectors of global memory that stores touched, warp by warp; atomics count here and as loads.
    pub fn sectors_stored(&self) -> u64 {
        self.total(|one| if one.is_store { one.counts.global_sectors } else { 0 })
    }

    /// Passes through shared memory beyond the fewest possible.
    pub fn bank_conflicts(&self) -> u64 {
        self.total(|one| one.counts.bank_conflicts)
    }

    /// Branches that split a group of lanes.
    pub fn divergences(&self) -> u64 {
        self.total(|one| one.counts.divergences)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.findings.is_empty() {
            return write!(f, "no findings, {} warp instructions", self.warp_instructions());
        }
        for (number, finding) in self.findings.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            write!(f, "{finding}")?;
        }
        Ok(())
    }
}

/// A conflict between blocks as a finding of the later block.
pub(crate) fn conflict(conflict: &GlobalConflict, launch: &Launch<'_>) -> RawFinding {
    let GlobalConflict { kind, address, first, second } = conflict;
    let (finding, one, other) = match kind {
        GlobalConflictKind::NonCoherent if first.write => (FindingKind::NonCoherentRead, second, first),
        GlobalConflictKind::NonCoherent => (FindingKind::NonCoherentRead, first, second),
        _ => (FindingKind::GlobalRace, second, first),
    };
    let info = launch.program.info.get(other.instruction as usize);
    let place = info.map_or_else(String::new, |info| {
        let source = info.location.map_or_else(String::new, |at| format!(", source line {}", at.line));
        format!(" at PTX line {} ({}){source}", info.line, info.text)
    });
    let what = if other.write { "written" } else { "read" };
    let by = findings::unflatten(other.block, launch.grid);
    let allocation = launch.memory.region(*address).map_or_else(String::new, |allocation| {
        let name = allocation.name.as_ref().map_or_else(String::new, |name| format!("`{name}`, "));
        format!("; offset {} of {name}{} bytes", address - allocation.base, allocation.len)
    });
    RawFinding {
        kind: finding,
        instruction: one.instruction,
        block: one.block,
        thread: thread(one),
        address: Some(*address),
        detail: format!("also {what} by block {by:?}{place}{allocation}"),
        occurrences: 1,
    }
}

/// The thread, as far as it is known.
fn thread(party: &Party) -> u32 {
    party.warp.unwrap_or(0) * 32 + party.lane.unwrap_or(0)
}
