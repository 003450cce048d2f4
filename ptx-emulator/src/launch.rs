//! Launches: arguments, settings, threads.

use crate::device::{Buffer, Device, DeviceId};
use crate::error::{Error, Result};
use crate::exec::{Checks, Launch};
use crate::forms::Level;
use crate::module::Module;
use crate::program::Program;
use crate::registers::LANES;
use crate::report::Report;
use crate::schedule::{RESIDENT, execute};

/// Instructions that a warp may execute unless the caller says otherwise.
const BUDGET: u64 = 1 << 27;
/// Limits of devices.
const MOST_THREADS: u64 = 1024;
const MOST_GRID: [u32; 3] = [i32::MAX as u32, 65_535, 65_535];
const MOST_BLOCK: [u32; 3] = [1024, 1024, 64];
const MOST_SHARED: u32 = 227 * 1024;
/// Bytes of local memory, and of what is known about it, that all blocks under way may take of the host.
const MOST_LOCAL: u64 = 8 << 30;

/// How arithmetic that PTX leaves open is done, and in which order what has none is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// Approximate operations correctly rounded, warps and blocks in their order.
    #[default]
    Nominal,
    /// Rounded like [`Mode::Nominal`]; warps, blocks and atomics in an order drawn from the seed: what changes with it
    /// depends on the order.
    Shuffled {
        /// The same seed gives the same order.
        seed: u64,
    },
    /// Drawn from the seed: approximate operations disturbed within their documented bounds, `mul` and `add` that say
    /// nothing of rounding fused or not, warps, blocks and atomics in any order.
    Adversarial {
        /// The same seed gives the same run.
        seed: u64,
    },
}

/// What a kernel can be given: see [`LaunchBuilder::arg`].
pub trait Argument {
    /// Its bytes in the parameter space.
    fn to_bytes(&self) -> Vec<u8>;

    /// The device on which alone it means something.
    fn device(&self) -> Option<DeviceId> {
        None
    }
}

macro_rules! arguments {
    ($($type:ty),*) => {$(
        impl Argument for $type {
            fn to_bytes(&self) -> Vec<u8> {
                self.to_le_bytes().to_vec()
            }
        }
    )*};
}
arguments!(u8, i8, u16, i16, u32, i32, u64, i64, f32, f64, half::f16, half::bf16);

impl<T> Argument for Buffer<T> {
    fn to_bytes(&self) -> Vec<u8> {
        self.address().to_le_bytes().to_vec()
    }

    fn device(&self) -> Option<DeviceId> {
        Some(Self::device(self))
    }
}

/// An argument as it was given.
#[derive(Clone, Debug)]
struct Given {
    bytes: Vec<u8>,
    device: Option<DeviceId>,
}

/// A launch in the making.
#[derive(Clone, Debug)]
#[must_use = "nothing runs before `run`"]
pub struct LaunchBuilder<'m> {
    module: &'m Module,
    kernel: String,
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    arguments: Vec<Given>,
    checks: Checks,
    counters: bool,
    mode: Mode,
    threads: Option<usize>,
    budget: u64,
}

impl<'m> LaunchBuilder<'m> {
    pub(crate) fn new(module: &'m Module, kernel: &str) -> Self {
        Self {
            module,
            kernel: kernel.to_string(),
            grid: [1; 3],
            block: [1; 3],
            shared_bytes: 0,
            arguments: Vec::new(),
            checks: Checks::ALL,
            counters: true,
            mode: Mode::Nominal,
            threads: None,
            budget: BUDGET,
        }
    }

    /// Blocks along x, y, z.
    pub fn grid(mut self, grid: [u32; 3]) -> Self {
        self.grid = grid;
        self
    }

    /// Threads of a block along x, y, z.
    pub fn block(mut self, block: [u32; 3]) -> Self {
        self.block = block;
        self
    }

    /// Dynamic shared memory of a block.
    pub fn shared_bytes(mut self, bytes: u32) -> Self {
        self.shared_bytes = bytes;
        self
    }

    /// The next argument: a buffer or a scalar.
    pub fn arg(mut self, argument: impl Argument) -> Self {
        self.arguments.push(Given { bytes: argument.to_bytes(), device: argument.device() });
        self
    }

    /// The next argument: a structure by value.
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.arguments.push(Given { bytes: bytes.to_vec(), device: None });
        self
    }

    /// What to look for; by default everything.
    pub fn checks(mut self, checks: Checks) -> Self {
        self.checks = checks;
        self
    }

    /// Whether to count sectors and bank conflicts; by default yes. Instructions are counted always.
    pub fn counters(mut self, counters: bool) -> Self {
        self.counters = counters;
        self
    }

    /// By default nominal.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Threads of the host; by default one for each processor. Results and reports do not depend on it.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads.max(1));
        self
    }

    /// Instructions that one warp may execute before it is taken for an endless loop.
    pub fn budget(mut self, instructions: u64) -> Self {
        self.budget = instructions;
        self
    }

    /// Checks kernel, arguments, grid and block, and runs nothing.
    ///
    /// # Errors
    /// Those of [`LaunchBuilder::run`].
    pub fn check(&self, device: &Device) -> Result<()> {
        let program = self.module.program(&self.kernel, device, None)?;
        self.check_extents(&program)?;
        self.check_local(&program, self.threads.unwrap_or_else(processors))?;
        self.params(&program, device.id()).map(drop)
    }

    /// Runs the kernel to its end.
    ///
    /// # Errors
    /// If kernel, arguments, grid or block are wrong, or the kernel holds what the emulator does not know. What the
    /// running kernel does wrong is in the report.
    pub fn run(self, device: &Device) -> Result<Report> {
        let (order, disturbance) = match self.mode {
            Mode::Nominal => (None, None),
            Mode::Shuffled { seed } => (Some(seed), None),
            Mode::Adversarial { seed } => (Some(seed), Some(seed)),
        };
        let program = self.module.program(&self.kernel, device, disturbance)?;
        self.check_extents(&program)?;
        let threads = self.threads.unwrap_or_else(processors);
        self.check_local(&program, threads)?;
        let params = self.params(&program, device.id())?;
        let memory = device.read_memory();
        let launch = Launch {
            program: &program,
            level: Level::detect(),
            device: device.id(),
            memory: &memory,
            params: &params,
            grid: self.grid,
            block: self.block,
            dynamic_shared: self.shared_bytes,
            checks: self.checks,
            counting: self.counters,
            order,
            disturbed: disturbance.is_some(),
            budget: self.budget,
        };
        let outcome = execute(&launch, threads);
        Ok(Report::new(&launch, self.module.files(), outcome))
    }

    fn refuse(&self, what: String) -> Error {
        Error::Launch { kernel: self.kernel.clone(), what }
    }

    fn check_extents(&self, program: &Program) -> Result<()> {
        for (name, extents, most) in [("grid", self.grid, MOST_GRID), ("block", self.block, MOST_BLOCK)] {
            if extents.iter().zip(most).any(|(&extent, most)| extent == 0 || extent > most) {
                return Err(self.refuse(format!("{name} {extents:?}, expected 1 to {most:?}")));
            }
        }
        let blocks = self.grid.iter().try_fold(1u32, |blocks, &extent| blocks.checked_mul(extent));
        if blocks.is_none() {
            return Err(self.refuse(format!("grid {:?}, expected fewer than 2^32 blocks", self.grid)));
        }
        let threads: u64 = self.block.iter().map(|&extent| u64::from(extent)).product();
        let most = program.most_threads.unwrap_or(MOST_THREADS).min(MOST_THREADS);
        if threads > most {
            return Err(self.refuse(format!("block {:?}, expected at most {most} threads", self.block)));
        }
        match program.required_block {
            Some(required) if required != self.block => {
                return Err(self.refuse(format!("block {:?}, expected {required:?}", self.block)));
            }
            _ => {}
        }
        let shared = program.shared.bytes.saturating_add(self.shared_bytes);
        if shared > MOST_SHARED {
            return Err(self.refuse(format!("{shared} bytes of shared memory, expected at most {MOST_SHARED}")));
        }
        Ok(())
    }

    /// A device has room for the local memory of all threads that it runs; the host may not.
    fn check_local(&self, program: &Program, threads: usize) -> Result<()> {
        let blocks: u32 = self.grid.iter().product();
        let at_once = if program.communicates { RESIDENT } else { threads }.min(blocks as usize) as u64;
        let lanes = u64::from(self.block.iter().product::<u32>().next_multiple_of(LANES as u32));
        let each = u64::from(program.local_bytes);
        if at_once * lanes * each * 2 > MOST_LOCAL {
            return Err(self.refuse(format!(
                "{each} bytes of local memory for each of {lanes} threads in {at_once} blocks at once, expected at most {} \
                 bytes together",
                MOST_LOCAL / 2
            )));
        }
        Ok(())
    }

    /// The parameter space.
    fn params(&self, program: &Program, here: DeviceId) -> Result<Vec<u8>> {
        let refuse = |what: String| Error::Arguments { kernel: self.kernel.clone(), what };
        if self.arguments.len() != program.params.len() {
            let (got, expected) = (self.arguments.len(), program.params.len());
            return Err(refuse(format!("{got} arguments, expected {expected}")));
        }
        let mut params = vec![0; program.param_bytes as usize];
        for (number, (Given { bytes: argument, device }, param)) in
            self.arguments.iter().zip(&program.params).enumerate()
        {
            if let Some(device) = device.filter(|&device| device != here) {
                let name = &param.name;
                return Err(refuse(format!(
                    "argument {number} (`{name}`) is a buffer of {device}, expected one of {here}"
                )));
            }
            if argument.len() != param.bytes as usize {
                let (got, expected, name) = (argument.len(), param.bytes, &param.name);
                return Err(refuse(format!("argument {number} (`{name}`) has {got} bytes, expected {expected}")));
            }
            let start = param.offset as usize;
            params[start..start + argument.len()].copy_from_slice(argument);
        }
        Ok(params)
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
