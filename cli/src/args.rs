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
    /// Measures operators on this machine, beside plain C loops and a roofline.
    ///
    /// A state step is one (batch, channel, state, time); convolution and attention are counted by (batch, channel, time). The
    /// C loops are what people write: one thread, f32, compiled with -O3 and with -O3 -ffast-math -march=native. They run in
    /// the same process, turn by turn with the cpu backend, after a device; the machine's limits are measured first: the share
    /// is the time that a call cannot go below, max(bytes that it must read and write / bandwidth of a copy, operations /
    /// peak), over the time that it took. An operation is a lane of a fused multiply-add, exp counts as 8; docs/benchmarks.md
    /// has the counts. Exit status: 0, or 2 if the call was refused.
    #[cfg(feature = "bench")]
    Bench(BenchArgs),
    /// Examines a training call of selective_scan in a file: why it is not finite or not exact, and what its states do.
    ///
    /// Ranges of the inputs; the error of the cpu backend with inputs in each dtype against f64, per channel, and how much
    /// of it is the rounding of the inputs; the first (batch, channel, time) that is not finite, and its cause, found by
    /// following the recurrence there; histograms of delta and of the decay horizon 1/(delta |A|) in steps; the plans.
    /// Exit status: 0 if no error was found (there may be warnings), 1 if one was (something is not finite, or the accuracy
    /// rule is broken), 2 if the file was refused.
    Doctor(DoctorArgs),
    /// Holds backends to the reference on random cases: the accuracy rule, and that a split sequence is the whole.
    ///
    /// Exit status: 0 if every case passes, 1 if one does not, 2 if the call was refused.
    Check(CheckArgs),
}

/// The arguments of `ssm bench`.
#[cfg(feature = "bench")]
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// What is measured; may be given several times.
    #[arg(long, value_enum, default_values_t = [Measured::Cpu])]
    pub backend: Vec<Measured>,
    /// Which device of the CUDA driver; without it, 0.
    #[cfg(feature = "cuda")]
    #[arg(long, value_name = "ORDINAL")]
    pub device: Option<u32>,
    /// The operator; without it, all.
    #[arg(long, value_enum)]
    pub op: Option<Op>,
    /// Which way.
    #[arg(long, value_enum, default_value_t = Directions::Both)]
    pub direction: Directions,
    /// Leave out the C loops, which take most of the time beside a device.
    #[arg(long)]
    pub no_loops: bool,
    /// Threads of the cpu backend. The C loops have one.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: u16,
    /// The dtype of x, dt, z, B, C, or q, k, v, and their gradients. The C loops compute with the same values in f32.
    #[arg(long, value_enum, default_value_t = IoDtype::F32)]
    pub dtype: IoDtype,
    /// How tensors lie in memory.
    #[arg(long, value_enum, default_value_t = Layouts::Both)]
    pub layout: Layouts,
    /// The extents: 16 states, or of a convolution 4 taps, if not given; may be given several times. Without it, a few of
    /// a model's. Of attention BATCHxNHEADSxSEQLEN[xDIM]: heads, and as the last one, 64 if not given, what q, k and v of a
    /// head have at a step.
    #[arg(long, value_name = "BATCHxDIMxSEQLEN[xDSTATE|xWIDTH]")]
    pub shape: Vec<Shape>,
    /// How often each is measured; without it, for 0.3 s and 3 times.
    #[arg(long, value_name = "N")]
    pub reps: Option<NonZeroUsize>,
    /// Where the measurements go as JSON, written anew with each of them.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Where the measurements go as a bar chart.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// The most memory that a measurement may ask for.
    #[arg(long, value_name = "MIB", default_value_t = 4096, value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    pub max_memory: u64,
}

/// The arguments of `ssm check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// What is checked; may be given several times.
    #[arg(long, value_enum, default_values_t = [Checked::Cpu])]
    pub backend: Vec<Checked>,
    /// Which device of the CUDA driver; without it, 0.
    #[cfg(feature = "cuda")]
    #[arg(long, value_name = "ORDINAL")]
    pub device: Option<u32>,
    /// Random cases for each backend; without it, 2000, and 24 on emulated devices.
    #[arg(long, value_name = "N")]
    pub cases: Option<NonZeroUsize>,
    /// Where the cases come from: case i of seed S is case 0 of seed S + i. Without it, the clock.
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Prints the table in Markdown: for each tensor and dtype of a call the largest error and that of the plain loops, both
    /// in ulp, and the share of what is allowed.
    #[arg(long)]
    pub table: bool,
}

/// The arguments of `ssm doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The operator, selective_scan; without it, the file's metadata say.
    #[arg(long, value_enum)]
    pub op: Option<Op>,
    /// Examines the gradients instead, by the upstream gradients `dout` and `dfinal_state` that the file has.
    #[arg(long)]
    pub backward: bool,
    /// The dtypes of x, dt, z, B, C, out and dout that are tried; may be given several times. Without it, all.
    #[arg(long, value_enum, default_values_t = [IoDtype::F32, IoDtype::Bf16, IoDtype::F16])]
    pub dtype: Vec<IoDtype>,
    /// How many of the worst channels are listed; the JSON has all.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub channels: usize,
    /// Threads; without it, one per core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Where everything goes as JSON. Numbers that are not finite are null there.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// The most memory that it may ask for; without it, 1024 MiB and 32 times the size of the file.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    pub max_memory: Option<u64>,
    /// Inputs, and options in the metadata, as for `ssm run`.
    #[arg(value_name = "IN.safetensors")]
    pub input: PathBuf,
}

/// What `ssm bench` measures.
#[cfg(feature = "bench")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Measured {
    /// The cores of this machine.
    Cpu,
    /// A device of the CUDA driver.
    #[cfg(feature = "cuda")]
    Cuda,
}

#[cfg(feature = "bench")]
impl Measured {
    /// Whether it has an operator.
    pub fn has(self, op: Op) -> bool {
        self == Self::Cpu || op.has_gpu_kernels()
    }
}

/// What `ssm check` checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Checked {
    /// The cores of this machine.
    Cpu,
    /// The GPU's kernels, instruction by instruction, checked while they run.
    #[cfg(feature = "emulator")]
    Emulator,
    /// A device of the CUDA driver.
    #[cfg(feature = "cuda")]
    Cuda,
}

/// Which directions are measured.
#[cfg(feature = "bench")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Directions {
    /// The outputs.
    Forward,
    /// The gradients.
    Backward,
    /// Both.
    Both,
}

/// Which layouts are measured.
#[cfg(feature = "bench")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Layouts {
    /// (batch, dim, seqlen); of attention (batch, nheads, seqlen, dim).
    Dense,
    /// (batch, seqlen, dim); of attention (batch, seqlen, nheads, dim).
    ChannelLast,
    /// Both.
    Both,
}

/// The dtype of what operators read and write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum IoDtype {
    /// IEEE binary32.
    F32,
    /// bfloat16.
    Bf16,
    /// IEEE binary16.
    F16,
}

impl IoDtype {
    /// As the library calls it.
    pub fn dtype(self) -> ssm_kernels::Dtype {
        match self {
            Self::F32 => ssm_kernels::Dtype::F32,
            Self::Bf16 => ssm_kernels::Dtype::BF16,
            Self::F16 => ssm_kernels::Dtype::F16,
        }
    }
}

/// Extents of a measurement, at least 1 each.
#[cfg(feature = "bench")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows of the batch.
    pub batch: usize,
    /// Channels, or heads of attention.
    pub dim: usize,
    /// Steps.
    pub seqlen: usize,
    /// States per channel, taps of a convolution, or elements of a head, if they were given.
    pub inner: Option<usize>,
}

#[cfg(feature = "bench")]
impl std::str::FromStr for Shape {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let extent = |part: &str| part.parse().ok().filter(|&extent: &usize| extent > 0);
        let extents: Option<Vec<usize>> = text.split('x').map(extent).collect();
        match extents.as_deref() {
            Some(&[batch, dim, seqlen]) => Ok(Self { batch, dim, seqlen, inner: None }),
            Some(&[batch, dim, seqlen, inner]) => Ok(Self { batch, dim, seqlen, inner: Some(inner) }),
            _ => Err("expected three or four extents of at least 1, such as 1x1536x2048 or 1x1536x2048x16".into()),
        }
    }
}

#[cfg(feature = "bench")]
impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { batch, dim, seqlen, inner } = self;
        write!(f, "{batch}x{dim}x{seqlen}")?;
        inner.map_or(Ok(()), |inner| write!(f, "x{inner}"))
    }
}

/// The arguments of `ssm run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The operator; without it, the file's metadata say.
    #[arg(long, value_enum)]
    pub op: Option<Op>,
    /// What computes: the CPU, the naive loops in f64 (whose results are stored as F64, a truth for others), the GPU's
    /// kernels on an emulated device, which refuses kernels that misbehave, or a GPU.
    #[arg(long, value_enum, default_value_t = Backend::Cpu)]
    pub backend: Backend,
    /// Which device of the CUDA driver; without it, 0.
    #[cfg(feature = "cuda")]
    #[arg(long, value_name = "ORDINAL")]
    pub device: Option<u32>,
    /// Computes the gradients, from the upstream gradients in the file.
    #[arg(long)]
    pub backward: bool,
    /// How x, dt, z, out and their gradients lie in memory during the run (files are always channel-first). Of attention q, k,
    /// v, log_decay and out: channel-first is (batch, nheads, seqlen, dim), channel-last (batch, seqlen, nheads, dim).
    #[arg(long, value_enum)]
    pub layout: Option<Layout>,
    /// Also keeps the state after each full K steps of each sequence, as chunk_states and chunk_offsets.
    #[arg(long, value_name = "K")]
    pub states_every: Option<NonZeroUsize>,
    /// Cuts each sequence into N parts along its length; without it, as the backend's plan says. The naive loops have no
    /// parts.
    #[arg(long, value_name = "N")]
    pub split: Option<NonZeroUsize>,
    /// Steps of squared_attention that are computed by pairs, from a state before them; without it, as the backend's plan
    /// says. The naive loops have no chunks.
    #[arg(long, value_name = "K")]
    pub chunk_size: Option<NonZeroUsize>,
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
    /// The short convolution before the scan.
    #[value(name = "causal_conv1d")]
    CausalConv1d,
    /// Its form for decoding: a few steps, from a state that is updated.
    #[value(name = "causal_conv1d_update")]
    CausalConv1dUpdate,
    /// The recurrence of Mamba-1 and Mamba-2 for one token, in a cache of states.
    StateUpdate,
    /// Attention by squares with decay, the core of 2Mamba (cpu and reference only).
    SquaredAttention,
    /// Its form for decoding: a few tokens, in a cache of states (cpu and reference only).
    SquaredAttentionUpdate,
}

impl Op {
    /// Whether it is a convolution, which has taps and no states.
    #[cfg(feature = "bench")]
    pub fn has_taps(self) -> bool {
        matches!(self, Op::CausalConv1d | Op::CausalConv1dUpdate)
    }

    /// Whether it is attention, which has heads.
    #[cfg(feature = "bench")]
    pub fn has_heads(self) -> bool {
        matches!(self, Op::SquaredAttention | Op::SquaredAttentionUpdate)
    }

    /// Whether GPUs have kernels of it.
    pub fn has_gpu_kernels(self) -> bool {
        !matches!(self, Op::SquaredAttention | Op::SquaredAttentionUpdate)
    }

    /// Whether it has gradients: the forms for decoding have none.
    pub fn has_backward(self) -> bool {
        !matches!(self, Op::StateUpdate | Op::CausalConv1dUpdate | Op::SquaredAttentionUpdate)
    }
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
    /// A device of the CUDA driver.
    #[cfg(feature = "cuda")]
    Cuda,
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
named!(Op, Backend, Layout, Checked, IoDtype);
#[cfg(feature = "bench")]
named!(Measured);
