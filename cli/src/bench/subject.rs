//! What is measured: a backend as it is here, with what its machine can do at most.

use super::Task;
use super::attention;
use super::backends::{self, Runner};
use super::case::Case;
#[cfg(feature = "cuda")]
use super::device::{Device, Stored};
use super::measure::Stopwatch;
use super::roofline::{Machine, Work};
use crate::args::{BenchArgs, Measured, Op};
use crate::error::Result;
use crate::tensor::Io;
use ssm_kernels::Cpu;

/// A backend that is there.
pub enum Subject {
    /// So many threads.
    Cpu(u16, Machine),
    /// A device of the CUDA driver.
    #[cfg(feature = "cuda")]
    Cuda(Device),
}

/// A case in the memory of the backend, where that is not the host's.
pub enum Placed<'c, T: Io> {
    /// It is the host's.
    Host(&'c Case<T>),
    /// Copies on a device, which calls use in turn.
    #[cfg(feature = "cuda")]
    Device(&'c Device, Vec<Stored<T>>),
}

impl Subject {
    /// Opens it, and measures its machine for about half a second.
    pub fn new(backend: Measured, args: &BenchArgs) -> Result<Self> {
        match backend {
            Measured::Cpu => Ok(Self::Cpu(args.threads, Machine::measure(args.threads)?)),
            #[cfg(feature = "cuda")]
            Measured::Cuda => Ok(Self::Cuda(Device::open(args.device)?)),
        }
    }

    /// The limits; `None` of an emulated device, which has no time.
    pub fn machine(&self) -> Option<&Machine> {
        match self {
            Self::Cpu(_, machine) => Some(machine),
            #[cfg(feature = "cuda")]
            Self::Cuda(device) => device.machine.as_ref(),
        }
    }

    /// Threads of a backend that has them.
    pub fn threads(&self) -> Option<u16> {
        match self {
            Self::Cpu(threads, _) => Some(*threads),
            #[cfg(feature = "cuda")]
            Self::Cuda(_) => None,
        }
    }

    /// The name of the variant.
    pub fn variant(&self) -> &'static str {
        match self {
            Self::Cpu(1, _) => "single_thread",
            Self::Cpu(..) => "rayon",
            #[cfg(feature = "cuda")]
            Self::Cuda(device) if device.emulated => "emulated",
            #[cfg(feature = "cuda")]
            Self::Cuda(_) => "driver",
        }
    }

    /// What its calls are timed with.
    pub fn stopwatch(&self) -> Stopwatch {
        match self {
            Self::Cpu(..) => Stopwatch::Host,
            #[cfg(feature = "cuda")]
            Self::Cuda(device) => Stopwatch::Device(device.gpu),
        }
    }

    /// Brings a case to where it reads it.
    #[cfg_attr(not(feature = "cuda"), expect(unused_variables, clippy::unnecessary_wraps, reason = "a device copies"))]
    pub fn place<'c, T: Io>(&'c self, case: &'c Case<T>, work: &Work) -> Result<Placed<'c, T>> {
        match self {
            Self::Cpu(..) => Ok(Placed::Host(case)),
            #[cfg(feature = "cuda")]
            Self::Cuda(device) => Ok(Placed::Device(device, device.store(case, work)?)),
        }
    }

    /// A line about it.
    pub fn text(&self) -> String {
        match self {
            Self::Cpu(threads, Machine { operations, bandwidth }) => {
                let (peak, bandwidth) = (operations / 1e9, bandwidth / 1e9);
                let threads = if *threads == 1 { "1 thread".into() } else { format!("{threads} threads") };
                format!("{threads}: {peak:.1} G multiply-add lanes/s, copy {bandwidth:.1} GB/s\n")
            }
            #[cfg(feature = "cuda")]
            Self::Cuda(device) => device.text(),
        }
    }
}

impl<T: Io> Placed<'_, T> {
    /// The call of a task.
    pub fn runner(&self, task: &Task, threads: Option<u16>) -> Result<Runner<'_>> {
        let Task { op, direction, .. } = *task;
        match self {
            Self::Host(case) => {
                let cpu = if threads == Some(1) { Cpu::single_thread() } else { Cpu::new() };
                match op {
                    Op::SquaredAttention | Op::SquaredAttentionUpdate => {
                        attention::runner(cpu, op, direction, case.inputs())
                    }
                    _ => backends::runner(cpu, op, direction, case.inputs()),
                }
            }
            #[cfg(feature = "cuda")]
            Self::Device(device, sets) => {
                let runner = |set| backends::runner(device.gpu, op, direction, Stored::inputs(set));
                Ok(backends::in_turn(sets.iter().map(runner).collect::<Result<_>>()?))
            }
        }
    }
}
