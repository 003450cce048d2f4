//! Squared attention on a file, and its form for decoding.

mod backward;
mod forward;
mod tensors;
mod update;

use super::{Contents, Finished, check_without_dt};
use crate::args::{Backend, Layout, Op, RunArgs};
use crate::error::{CliError, Result};
use crate::input::Input;
use crate::memory::Memory;
use crate::tensor::Io;
use half::{bf16, f16};
use ssm_kernels::Cpu;
use ssm_kernels::ops::squared_attention::Dims;
use std::num::NonZeroUsize;
use tensors::{Tensors, UpdateTensors};

/// What a file may hold.
pub(super) const CONTENTS: Contents = Contents {
    inputs: &[
        "q",
        "k",
        "v",
        "log_decay",
        "initial_state",
        "initial_norm",
        "cu_seqlens",
        "dout",
        "dfinal_state",
        "dfinal_norm",
    ],
    results: &["out", "final_state", "final_norm", "dq", "dk", "dv", "dlog_decay", "dinitial_state", "dinitial_norm"],
    keys: &[
        "scale",
        "dt_softplus",
        "decay",
        "cu_seqlens",
        "batch",
        "nheads",
        "seqlen",
        "dim",
        "vdim",
        "initial_state",
        "dfinal_state",
        "backward",
    ],
};

/// What a file of an update may hold.
pub(super) const UPDATE_CONTENTS: Contents = Contents {
    inputs: &["q", "k", "v", "log_decay", "initial_state", "initial_norm", "state_indices"],
    results: &["out", "final_state", "final_norm"],
    keys: &[
        "scale",
        "dt_softplus",
        "decay",
        "state_indices",
        "indices",
        "batch",
        "nheads",
        "seqlen",
        "dim",
        "vdim",
        "slots",
        "state_dtype",
        "initial_state",
    ],
};

/// The options of the call.
struct Options {
    /// The backend; none is the reference.
    cpu: Option<Cpu>,
    scale: Option<f32>,
    chunk_size: Option<usize>,
    layout: Layout,
    threads: Option<u16>,
    repeat: Option<NonZeroUsize>,
}

impl Options {
    fn new(op: Op, args: &RunArgs, input: &Input<'_>) -> Result<Self> {
        check_without_dt(op, op == Op::SquaredAttentionUpdate, args, input, "attention has no dt")?;
        let metadata = &input.metadata;
        Ok(Self {
            cpu: cpu(op, args)?,
            scale: metadata.number("scale")?,
            chunk_size: args.chunk_size.map(usize::from),
            layout: args.layout.unwrap_or_default(),
            threads: args.threads,
            repeat: args.repeat,
        })
    }

    fn facts(&self, dims: &[(&'static str, usize)]) -> Vec<(&'static str, String)> {
        let mut facts: Vec<_> = dims.iter().map(|(name, extent)| (*name, extent.to_string())).collect();
        facts.push(("layout", self.layout.to_string()));
        facts.extend(self.scale.map(|scale| ("scale", format!("{scale:?}"))));
        facts.extend(self.chunk_size.map(|size| ("chunk_size", size.to_string())));
        facts.extend(self.threads.map(|threads| ("threads", threads.to_string())));
        facts
    }
}

/// The CPU, if it is what computes.
#[cfg_attr(
    not(any(feature = "cuda", feature = "emulator")),
    expect(unused_variables, clippy::unnecessary_wraps, reason = "GPUs are refused")
)]
fn cpu(op: Op, args: &RunArgs) -> Result<Option<Cpu>> {
    match args.backend {
        Backend::Cpu if args.threads == Some(1) => Ok(Some(Cpu::single_thread())),
        Backend::Cpu => Ok(Some(Cpu::new())),
        Backend::Reference => Ok(None),
        #[cfg(any(feature = "cuda", feature = "emulator"))]
        gpu => Err(CliError::new(format!(
            "{op}: --backend {gpu} has no kernels of this operator, expected cpu or reference"
        ))),
    }
}

/// Loads, runs, judges.
pub(super) fn run<T: Io>(args: &RunArgs, input: &Input<'_>, memory: &mut Memory) -> Result<Finished> {
    let options = Options::new(Op::SquaredAttention, args, input)?;
    let tensors = Tensors::<T>::load(input, options.layout, memory)?;
    let op = tensors.op(&options)?;
    let dims @ Dims { batch, nheads, seqlen, dim, vdim, nseqs, .. } = op.dims()?;
    let named =
        [("batch", batch), ("nheads", nheads), ("seqlen", seqlen), ("dim", dim), ("vdim", vdim), ("nseqs", nseqs)];
    named[..5].iter().try_for_each(|&(name, extent)| input.metadata.check_number(name, extent))?;
    let (results, rows, speed) = if args.backward {
        backward::run(&op, &tensors, dims, &options, input, memory)?
    } else {
        forward::run(&op, dims, &options, input, memory)?
    };
    let work = [batch, nheads, seqlen, vdim].iter().map(|&extent| extent as f64).product();
    Ok(Finished { facts: options.facts(&named), results, rows, speed, work: (work, "element") })
}

/// The same for an update. The state has a dtype of its own.
pub(super) fn run_update<T: Io>(args: &RunArgs, input: &Input<'_>, memory: &mut Memory) -> Result<Finished> {
    match input.required("initial_state")?.dtype {
        safetensors::Dtype::F32 => update_of_states::<T, f32>(args, input, memory),
        safetensors::Dtype::F16 => update_of_states::<T, f16>(args, input, memory),
        safetensors::Dtype::BF16 => update_of_states::<T, bf16>(args, input, memory),
        other => Err(CliError::value(input.op(), "initial_state", format!("has dtype {other}"), "F32, F16 or BF16")),
    }
}

fn update_of_states<T: Io, H: Io>(args: &RunArgs, input: &Input<'_>, memory: &mut Memory) -> Result<Finished> {
    let options = Options::new(Op::SquaredAttentionUpdate, args, input)?;
    let tensors = UpdateTensors::<T, H>::load(input, options.layout, memory)?;
    let named = tensors.dims();
    named.iter().try_for_each(|&(name, extent)| input.metadata.check_number(name, extent))?;
    input.metadata.check_text("state_dtype", H::DTYPE.name(), "like `initial_state`")?;
    let (results, rows, speed) = update::run(&tensors, &options, input, memory)?;
    let work = tensors.rows.values().iter().map(|&extent| extent as f64).product();
    let mut facts = options.facts(&named);
    facts.push(("state_dtype", H::DTYPE.name().to_string()));
    Ok(Finished { facts, results, rows, speed, work: (work, "element") })
}
