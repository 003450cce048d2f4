//! What the model assumes of devices, and how many blocks fit on a multiprocessor.

/// Of an architecture. CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
pub struct Multiprocessor {
    pub architecture: &'static str,
    warps: u32,
    blocks: u32,
    /// KiB of shared memory.
    shared: u32,
}

const REGISTERS: u32 = 65536;
/// Registers are given to warps in units of so many, and to warps in groups of four.
const REGISTER_UNIT: u32 = 256;
const WARP_UNIT: u32 = 4;
/// The system's own part of each block's shared memory, and the unit in which it is given.
const RESERVED: u32 = 1024;
const SHARED_UNIT: u32 = 128;

const MULTIPROCESSORS: [Multiprocessor; 4] = [
    Multiprocessor { architecture: "sm_80", warps: 64, blocks: 32, shared: 164 },
    Multiprocessor { architecture: "sm_90", warps: 64, blocks: 32, shared: 228 },
    Multiprocessor { architecture: "sm_100", warps: 64, blocks: 32, shared: 228 },
    Multiprocessor { architecture: "sm_120", warps: 48, blocks: 24, shared: 100 },
];

impl Multiprocessor {
    pub fn of(architecture: &str) -> &'static Self {
        let found = MULTIPROCESSORS.iter().find(|one| one.architecture == architecture);
        found.expect("every architecture of the report has its numbers")
    }

    /// Blocks that are resident at once.
    pub fn resident(&self, threads: u32, registers: u32, shared: u32) -> u32 {
        let warps = threads.div_ceil(32).max(1);
        let per_warp = (registers * 32).next_multiple_of(REGISTER_UNIT).max(REGISTER_UNIT);
        let by_registers = REGISTERS / per_warp / WARP_UNIT * WARP_UNIT / warps;
        let by_shared = self.shared * 1024 / (shared + RESERVED).next_multiple_of(SHARED_UNIT);
        by_registers.min(by_shared).min(self.warps / warps).min(self.blocks)
    }

    /// Warps of so many blocks beside the most there can be.
    pub fn occupancy(&self, blocks: u32, threads: u32) -> f64 {
        f64::from(blocks * threads.div_ceil(32)) / f64::from(self.warps)
    }
}

/// A device of the model.
pub struct Device {
    pub name: &'static str,
    pub architecture: &'static str,
    pub multiprocessors: usize,
    /// The highest clock.
    pub hertz: f64,
    /// Bytes of HBM a second.
    pub bandwidth: f64,
    pub source: &'static str,
}

/// Schedulers of a multiprocessor, each of which issues one instruction of a warp per clock; special functions of a
/// multiprocessor per clock. The same for all architectures of the report (CUDA C++ Programming Guide, "Arithmetic
/// Instructions").
pub const SCHEDULERS: f64 = 4.0;
pub const SPECIAL: f64 = 16.0;
/// A warp alone issues at most every second clock: an assumption, for dependent instructions wait four clocks or more and the
/// compiler finds one to two others meanwhile. Two warps per scheduler are then enough.
pub const ALONE: f64 = 0.5;

pub const DEVICES: [Device; 2] = [
    Device {
        name: "H200",
        architecture: "sm_90",
        multiprocessors: 132,
        hertz: 1.98e9,
        bandwidth: 4.8e12,
        source: "NVIDIA H200 datasheet (SXM, 4.8 TB/s); 132 multiprocessors and 1.98 GHz as H100 SXM, NVIDIA H100 white paper",
    },
    Device {
        name: "A100",
        architecture: "sm_80",
        multiprocessors: 108,
        hertz: 1.41e9,
        bandwidth: 2.039e12,
        source: "NVIDIA A100 80GB SXM datasheet (2.039 TB/s); 108 multiprocessors and 1.41 GHz, NVIDIA A100 white paper",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn residence_is_that_of_the_occupancy_tables() {
        let a100 = Multiprocessor::of("sm_80");
        // 104 registers: 13 units a warp, 19 warps, in groups of four 16.
        assert_eq!(a100.resident(128, 104, 24576), 4);
        assert_eq!(a100.resident(128, 168, 0), 3);
        assert_eq!(a100.resident(128, 32, 0), 16);
        assert_eq!(a100.resident(128, 16, 53248), 3);
        assert_eq!(a100.resident(32, 16, 0), 32);
        assert_eq!(Multiprocessor::of("sm_120").resident(128, 16, 0), 12);
        assert_eq!(a100.occupancy(4, 128), 0.25);
    }
}
