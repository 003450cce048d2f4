//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Runs and checks the operators of ssm-kernels on safetensors files.
#[derive(Debug, Parser)]
#[command(name = "ssm", version)]
pub struct Cli {
    /// What to do; without it, help.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Version, processor, and what this build can run.
    Info,
    /// Runs one operator on a file, and compares with the truth (F64 tensors) that the file holds.
    ///
    /// Exit status: 0 if every result that has a truth keeps the accuracy rule, 1 if one does not, 2 if the call was
    /// refused (then OUT is not written).
    Run(RunArgs),
}

/// The arguments of `ssm run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The operator; without it, the file's metadata say.
    #[arg(long, value_enum)]
    pub op: Option<Op>,
    /// What computes: the CPU, the naive loops in f64 (whose results are stored as F64, a truth for others), or the GPU's
    /// kernels on an emulated device, which refuses kernels that misbehave.
    #[arg(long, value_enum, default_value_t = Backend::Cpu)]
    pub backend: Backend,
    /// Computes the gradients, from the upstream gradients in the file.
    #[arg(long)]
    pub backward: bool,
    /// How x, dt, z, out and their gradients lie in memory during the run (files are always channel-first).
    #[arg(long, value_enum)]
    pub layout: Option<Layout>,
    /// Also keeps the state after each full K steps of each sequence, as chunk_states and chunk_offsets.
    #[arg(long, value_name = "K")]
    pub states_every: Option<NonZeroUsize>,
    /// Cuts each sequence into N parts along its length; without it, as the backend's plan says. The naive loops have no
    /// parts.
    #[arg(long, value_name = "N")]
    pub split: Option<NonZeroUsize>,
    /// Threads of the CPU backend or the emulator; without it, one per core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// How often the backend runs, for the median time; without it, for 0.2 s. The reference runs once.
    #[arg(long, value_name = "N")]
    pub repeat: Option<NonZeroUsize>,
    /// Draws what PTX leaves open (order of warps and blocks, errors of approximate instructions) from this seed, on the
    /// emulator.
    #[cfg(feature = "emulator")]
    #[arg(long, value_name = "SEED")]
    pub adversarial: Option<u64>,
    /// The most memory that the run may ask for; without it, 1024 MiB and 32 times the size of the file.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    pub max_memory: Option<u64>,
    /// Inputs, options in the metadata, and any truth.
    #[arg(value_name = "IN.safetensors")]
    pub input: PathBuf,
    /// Where the results go.
    #[arg(value_name = "OUT.safetensors")]
    pub output: Option<PathBuf>,
}

/// The operators of this build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Op {
    /// The recurrence of Mamba-1.
    SelectiveScan,
    /// Continuous A and B to A_bar and B_bar.
    Discretise,
}

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// The cores of this machine.
    Cpu,
    /// The naive loops, in f64.
    Reference,
    /// The GPU's kernels, instruction by instruction, checked while they run.
    #[cfg(feature = "emulator")]
    Emulator,
}

/// How (batch, dim, seqlen) tensors lie in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    /// batch, dim, seqlen.
    #[default]
    ChannelFirst,
    /// batch, seqlen, dim.
    ChannelLast,
}

/// The name that the command line, metadata and reports use.
macro_rules! named {
    ($($type:ident),*) => {$(
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.to_possible_value().map_or(Ok(()), |value| f.write_str(value.get_name()))
            }
        }
    )*};
}
named!(Op, Backend, Layout);
