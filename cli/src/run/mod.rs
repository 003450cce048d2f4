//! `ssm run`: one operator on one file.

mod causal_conv1d;
mod discretise;
#[cfg(feature = "emulator")]
mod emulator;
pub(crate) mod results;
pub(crate) mod selective_scan;
pub(crate) mod shaped;
mod squared_attention;
mod state_update;

use crate::args::{Backend, Op, RunArgs};
use crate::error::{CliError, Result, one_line};
use crate::input::{self, Input};
use crate::memory::Memory;
use crate::metadata::refuse;
use crate::output;
use crate::report::{Clock, Report, Row};
use crate::speed::Speed;
use crate::tensor::{Io, Tensor};
use clap::ValueEnum;
use half::{bf16, f16};
use ssm_kernels::Dtype;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::Write;
use std::path::Path;

/// What an operator's file may hold.
struct Contents {
    inputs: &'static [&'static str],
    results: &'static [&'static str],
    keys: &'static [&'static str],
}

/// What a run of an operator gives.
struct Finished {
    /// Dimensions and options that held, as metadata of the output.
    facts: Vec<(&'static str, String)>,
    results: Vec<Tensor>,
    rows: Vec<Row>,
    speed: Speed,
    /// How many of what a call works through.
    work: (f64, &'static str),
}

/// Refuses options that are given, by name, where they do not apply.
fn refuse_given<const N: usize>(op: impl Display, options: [(bool, &str); N]) -> Result<()> {
    match options.into_iter().find(|(given, _)| *given) {
        Some((_, option)) => Err(CliError::new(format!("{op}: {option} does not apply, expected none"))),
        None => Ok(()),
    }
}

/// Options and metadata of an operator that has no dt, nothing that a scan is cut by, and no gradients in its form for
/// decoding. `why`: it has no dt.
fn check_without_dt(op: Op, decodes: bool, args: &RunArgs, input: &Input<'_>, why: &str) -> Result<()> {
    refuse_given(
        op,
        [
            (args.states_every.is_some(), "--states-every"),
            (args.split.is_some(), "--split"),
            (args.backward && decodes, "--backward"),
        ],
    )?;
    let metadata = &input.metadata;
    metadata.flag("backward")?;
    metadata.flag("dfinal_state")?;
    if metadata.flag("dt_softplus")? == Some(true) {
        return Err(refuse("dt_softplus", "true", format!("false: {why}")));
    }
    metadata.check_flag("initial_state", input.get("initial_state").is_some(), "`initial_state` is")
}

/// Keys whose values only inform, and those that are checked before the operator is known.
const COMMON_KEYS: [&str; 7] = ["op", "dtype", "seed", "source", "spec", "special", "complex"];

/// Reads, computes, compares, writes.
pub fn run(args: &RunArgs, err: &mut dyn Write) -> Result<Report> {
    if let Some(output) = &args.output {
        output::check(&args.input, output).map_err(|error| error.at(output))?;
    }
    let (op, dtype, finished) = compute(args, err).map_err(|error| error.at(&args.input))?;
    let direction = if args.backward { "backward" } else { "forward" };
    let mut metadata: BTreeMap<&str, String> = finished.facts.iter().cloned().collect();
    metadata.insert("op", op.to_string());
    metadata.insert("dtype", dtype.to_string());
    metadata.insert("backend", args.backend.to_string());
    metadata.insert("backward", args.backward.to_string());
    if let Some(output) = &args.output {
        output::write(output, &metadata, &finished.results).map_err(|error| error.at(output))?;
    }
    let facts: Vec<String> = finished.facts.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let call = vec![format!("{op} {direction}, backend {}, dtype {dtype}", args.backend), facts.join(", ")];
    Ok(Report { call, rows: finished.rows, speed: finished.speed, clock: clock(args)?, work: finished.work })
}

/// What the time of a call is that this backend has run.
#[cfg_attr(not(feature = "cuda"), expect(clippy::unnecessary_wraps, reason = "a device is asked"))]
fn clock(args: &RunArgs) -> Result<Clock> {
    match args.backend {
        Backend::Cpu | Backend::Reference => Ok(Clock::Call),
        #[cfg(feature = "emulator")]
        Backend::Emulator => Ok(Clock::Emulated),
        #[cfg(feature = "cuda")]
        Backend::Cuda if crate::cuda::open(args.device)?.info().is_emulated() => Ok(Clock::Emulated),
        #[cfg(feature = "cuda")]
        Backend::Cuda => Ok(Clock::Copies),
    }
}

fn takes_threads(backend: Backend) -> bool {
    match backend {
        Backend::Cpu => true,
        Backend::Reference => false,
        #[cfg(feature = "emulator")]
        Backend::Emulator => true,
        #[cfg(feature = "cuda")]
        Backend::Cuda => false,
    }
}

fn compute(args: &RunArgs, err: &mut dyn Write) -> Result<(Op, Dtype, Finished)> {
    if args.threads.is_some() && !takes_threads(args.backend) {
        return Err(CliError::new("--threads is for --backend cpu and emulator only"));
    }
    #[cfg(feature = "emulator")]
    if args.adversarial.is_some() && args.backend != Backend::Emulator {
        return Err(CliError::new("--adversarial is for --backend emulator only"));
    }
    #[cfg(feature = "cuda")]
    crate::cuda::check_device(args.device, args.backend == Backend::Cuda)?;
    let mut memory = Memory::new(args.max_memory.unwrap_or_else(|| memory_for(&args.input)));
    let bytes = input::read(&args.input, &mut memory)?;
    let input = Input::parse(&bytes)?;
    let op = choose_op(args.op, &input)?;
    if args.chunk_size.is_some() && op != Op::SquaredAttention {
        return Err(CliError::new(format!("{op}: --chunk-size does not apply, expected none")));
    }
    let (input, dtype) = for_op(op, input, err)?;
    let finished = match dtype {
        Dtype::F16 => dispatch::<f16>(op, args, &input, &mut memory),
        Dtype::BF16 => dispatch::<bf16>(op, args, &input, &mut memory),
        _ => dispatch::<f32>(op, args, &input, &mut memory),
    };
    Ok((op, dtype, finished?))
}

/// The file as one of `op`, its names and metadata checked, and the dtype of the call.
pub(crate) fn for_op<'f>(op: Op, input: Input<'f>, err: &mut dyn Write) -> Result<(Input<'f>, Dtype)> {
    let contents = match op {
        Op::SelectiveScan => selective_scan::CONTENTS,
        Op::Discretise => discretise::CONTENTS,
        Op::CausalConv1d => causal_conv1d::CONTENTS,
        Op::CausalConv1dUpdate => causal_conv1d::UPDATE_CONTENTS,
        Op::StateUpdate => state_update::CONTENTS,
        Op::SquaredAttention => squared_attention::CONTENTS,
        Op::SquaredAttentionUpdate => squared_attention::UPDATE_CONTENTS,
    };
    let name = op.to_string();
    for warning in input.metadata.warnings(&name, &[contents.keys, COMMON_KEYS.as_slice()].concat()) {
        // Standard error is gone: nobody is left to warn.
        let _ = writeln!(err, "{}", one_line(&warning));
    }
    input.metadata.check_real()?;
    let input = input.for_op(&name, contents.inputs, contents.results)?;
    let dtype = case_dtype(op, &input)?;
    input.metadata.check_text("dtype", dtype.name(), "like the tensors")?;
    Ok((input, dtype))
}

/// MiB that a run on this file may ask for: a small file that describes huge tensors is refused, not served.
pub(crate) fn memory_for(input: &Path) -> u64 {
    // A file that cannot be read is refused when it is read.
    let bytes = std::fs::metadata(input).map_or(0, |metadata| metadata.len());
    1024 + bytes.saturating_mul(32).div_ceil(1 << 20)
}

fn dispatch<T: Io>(op: Op, args: &RunArgs, input: &Input<'_>, memory: &mut Memory) -> Result<Finished> {
    match op {
        Op::SelectiveScan => selective_scan::run::<T>(args, input, memory),
        Op::Discretise => discretise::run::<T>(args, input, memory),
        Op::CausalConv1d | Op::CausalConv1dUpdate => causal_conv1d::run::<T>(op, args, input, memory),
        Op::StateUpdate => state_update::run::<T>(args, input, memory),
        Op::SquaredAttention => squared_attention::run::<T>(args, input, memory),
        Op::SquaredAttentionUpdate => squared_attention::run_update::<T>(args, input, memory),
    }
}

/// From the command line and the metadata, which must agree.
pub(crate) fn choose_op(asked: Option<Op>, input: &Input<'_>) -> Result<Op> {
    let names = Op::value_variants().iter().map(Op::to_string).collect::<Vec<_>>().join(", ");
    match (asked, input.metadata.text("op")) {
        (Some(op), None) => Ok(op),
        (None, None) => {
            Err(CliError::new(format!("metadata key `op` is missing, expected it or --op with one of {names}")))
        }
        (Some(op), Some(text)) if text != op.to_string() => {
            Err(CliError::new(format!("metadata key `op` is {text:?}, expected {op} because of --op")))
        }
        (_, Some(text)) => Op::from_str(text, false)
            .map_err(|_| CliError::new(format!("metadata key `op` is {text:?}, expected one of {names}"))),
    }
}

/// The dtype of the tensor that leads the call.
fn case_dtype(op: Op, input: &Input<'_>) -> Result<Dtype> {
    let name = match op {
        Op::SelectiveScan | Op::CausalConv1d | Op::CausalConv1dUpdate | Op::StateUpdate => "x",
        Op::Discretise => discretise::step_name(input)?,
        Op::SquaredAttention | Op::SquaredAttentionUpdate => "q",
    };
    match input.required(name)?.dtype {
        safetensors::Dtype::F32 => Ok(Dtype::F32),
        safetensors::Dtype::F16 => Ok(Dtype::F16),
        safetensors::Dtype::BF16 => Ok(Dtype::BF16),
        other => Err(CliError::value(op, name, format!("has dtype {other}"), "F32, F16 or BF16")),
    }
}
