//! A backend that is checked, opened.

use super::{Checks, check, tally::Tally};
use crate::args::{CheckArgs, Checked};
#[cfg(feature = "cuda")]
use crate::cuda;
use crate::error::Result;
use ssm_kernels::Cpu;
#[cfg(feature = "cuda")]
use ssm_kernels::gpu::{Driver, Stream};

/// Cases, if nobody says how many.
const MANY: usize = 2000;
/// The same on an emulated device, which takes a thousand times as long.
#[cfg(any(feature = "cuda", feature = "emulator"))]
const FEW: usize = 24;

/// A backend that is there.
pub enum Subject {
    Cpu,
    #[cfg(feature = "emulator")]
    Emulator,
    #[cfg(feature = "cuda")]
    Cuda(Driver),
}

impl Subject {
    /// Opens it. An error if it is absent.
    #[cfg_attr(
        not(feature = "cuda"),
        expect(unused_variables, clippy::unnecessary_wraps, reason = "a device is opened")
    )]
    pub fn new(backend: Checked, args: &CheckArgs) -> Result<Self> {
        match backend {
            Checked::Cpu => Ok(Self::Cpu),
            #[cfg(feature = "emulator")]
            Checked::Emulator => Ok(Self::Emulator),
            #[cfg(feature = "cuda")]
            Checked::Cuda => Ok(Self::Cuda(cuda::open(args.device)?)),
        }
    }

    /// Of the command line, to check the same again.
    pub fn arguments(&self) -> String {
        match self {
            Self::Cpu => "--backend cpu".into(),
            #[cfg(feature = "emulator")]
            Self::Emulator => "--backend emulator".into(),
            #[cfg(feature = "cuda")]
            Self::Cuda(driver) => format!("--backend cuda --device {}", driver.info().ordinal),
        }
    }

    /// What it runs on, if there is a choice.
    pub fn place(&self) -> Option<String> {
        match self {
            #[cfg(feature = "cuda")]
            Self::Cuda(driver) => Some(format!("cuda: device {}, {}", driver.info().ordinal, driver.info().name)),
            _ => None,
        }
    }

    /// Whether it has squared attention.
    pub fn attends(&self) -> bool {
        matches!(self, Self::Cpu)
    }

    /// Checks so many cases, or as many as there is time for.
    pub fn check(&self, seed: u64, cases: Option<usize>) -> Tally {
        let again = self.arguments();
        match self {
            Self::Cpu => {
                let cpu = Cpu::new();
                let checks = Checks { backend: &cpu, attends: Some(&cpu) };
                check(&checks, &again, seed, cases.unwrap_or(MANY))
            }
            #[cfg(feature = "emulator")]
            Self::Emulator => {
                let emulator = ssm_kernels::gpu::Emulator::new();
                check(&without_attention(&emulator.on_host()), &again, seed, cases.unwrap_or(FEW))
            }
            #[cfg(feature = "cuda")]
            Self::Cuda(driver) => {
                let usual = if driver.info().is_emulated() { FEW } else { MANY };
                let stream = driver.on(Stream::null());
                check(&without_attention(&stream.on_host()), &again, seed, cases.unwrap_or(usual))
            }
        }
    }
}

/// A backend of GPU kernels.
#[cfg(any(feature = "cuda", feature = "emulator"))]
fn without_attention<B>(backend: &B) -> Checks<'_, B, Cpu> {
    Checks { backend, attends: None }
}
