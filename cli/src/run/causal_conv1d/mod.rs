//! The causal convolution on a file, and its form for decoding.

mod backward;
mod forward;
mod tensors;
mod update;

use super::{Contents, Finished, check_without_dt};
use crate::args::{Layout, Op, RunArgs};
use crate::error::{CliError, Result};
use crate::input::Input;
use crate::memory::Memory;
use crate::tensor::Io;
use half::{bf16, f16};
use std::num::NonZeroUsize;
use tensors::{Tensors, UpdateTensors};

/// What a file may hold.
pub(super) const CONTENTS: Contents = Contents {
    inputs: &["x", "weight", "bias", "initial_state", "cu_seqlens", "dout", "dfinal_state"],
    results: &["out", "final_state", "dx", "dweight", "dbias", "dinitial_state"],
    keys: &[
        "silu",
        "dt_softplus",
        "cu_seqlens",
        "batch",
        "dim",
        "seqlen",
        "width",
        "has_bias",
        "initial_state",
        "dfinal_state",
        "weight_dtype",
        "backward",
    ],
};

/// What a file of an update may hold.
pub(super) const UPDATE_CONTENTS: Contents = Contents {
    inputs: &["x", "weight", "bias", "initial_state", "cache_seqlens", "state_indices"],
    results: &["out", "final_state"],
    keys: &[
        "silu",
        "dt_softplus",
        "cache_seqlens",
        "state_indices",
        "indices",
        "batch",
        "dim",
        "seqlen",
        "width",
        "state_len",
        "slots",
        "has_bias",
        "initial_state",
        "weight_dtype",
    ],
};

/// The options of the call.
struct Options {
    silu: bool,
    layout: Layout,
    threads: Option<u16>,
    repeat: Option<NonZeroUsize>,
}

impl Options {
    fn new(op: Op, args: &RunArgs, input: &Input<'_>) -> Result<Self> {
        check_without_dt(op, op == Op::CausalConv1dUpdate, args, input, "a convolution has no dt")?;
        let metadata = &input.metadata;
        metadata.check_flag("has_bias", input.get("bias").is_some(), "`bias` is")?;
        Ok(Self {
            silu: metadata.flag("silu")?.unwrap_or(false),
            layout: args.layout.unwrap_or_default(),
            threads: args.threads,
            repeat: args.repeat,
        })
    }

    fn facts(&self, dims: &[(&'static str, usize)]) -> Vec<(&'static str, String)> {
        let mut facts: Vec<_> = dims.iter().map(|(name, extent)| (*name, extent.to_string())).collect();
        facts.extend([("layout", self.layout.to_string()), ("silu", self.silu.to_string())]);
        facts.extend(self.threads.map(|threads| ("threads", threads.to_string())));
        facts
    }
}

/// Loads, runs, judges. The weights have a dtype of their own.
pub(super) fn run<T: Io>(op: Op, args: &RunArgs, input: &Input<'_>, memory: &mut Memory) -> Result<Finished> {
    let dtype = input.required("weight")?.dtype;
    let name = match dtype {
        safetensors::Dtype::F32 => "f32",
        safetensors::Dtype::F16 => "f16",
        safetensors::Dtype::BF16 => "bf16",
        other => return Err(CliError::value(op, "weight", format!("has dtype {other}"), "F32, F16 or BF16")),
    };
    input.metadata.check_text("weight_dtype", name, "like the tensors")?;
    match (op, name) {
        (Op::CausalConv1dUpdate, "f16") => run_update::<T, f16>(args, input, memory),
        (Op::CausalConv1dUpdate, "bf16") => run_update::<T, bf16>(args, input, memory),
        (Op::CausalConv1dUpdate, _) => run_update::<T, f32>(args, input, memory),
        (_, "f16") => run_with::<T, f16>(args, input, memory),
        (_, "bf16") => run_with::<T, bf16>(args, input, memory),
        _ => run_with::<T, f32>(args, input, memory),
    }
}

fn run_with<T: Io, W: Io>(args: &RunArgs, input: &Input<'_>, memory: &mut Memory) -> Result<Finished> {
    let options = Options::new(Op::CausalConv1d, args, input)?;
    let tensors = Tensors::<T, W>::load(input, options.layout, memory)?;
    let op = tensors.op(&options)?;
    let dims = op.dims()?;
    let named = [
        ("batch", dims.batch),
        ("dim", dims.dim),
        ("seqlen", dims.seqlen),
        ("width", dims.width),
        ("nseqs", dims.nseqs),
    ];
    named[..4].iter().try_for_each(|&(name, extent)| input.metadata.check_number(name, extent))?;
    let (results, rows, speed) = if args.backward {
        backward::run(args, &op, &tensors, &options, input, memory)?
    } else {
        forward::run(args, &op, &options, input, memory)?
    };
    let work = [dims.batch, dims.dim, dims.seqlen].iter().map(|&extent| extent as f64).product();
    Ok(Finished { facts: options.facts(&named), results, rows, speed, work: (work, "element") })
}

fn run_update<T: Io, W: Io>(args: &RunArgs, input: &Input<'_>, memory: &mut Memory) -> Result<Finished> {
    let options = Options::new(Op::CausalConv1dUpdate, args, input)?;
    let tensors = UpdateTensors::<T, W>::load(input, options.layout, memory)?;
    let named = tensors.dims();
    // Files without indices say that there are no slots.
    let no_slots = input.get("state_indices").is_none() && input.metadata.text("slots") == Some("0");
    let checked = named.iter().filter(|(name, _)| !(no_slots && *name == "slots"));
    checked.copied().try_for_each(|(name, extent)| input.metadata.check_number(name, extent))?;
    let (results, rows, speed) = update::run(args, &tensors, &options, input, memory)?;
    let work = named[..3].iter().map(|&(_, extent)| extent as f64).product();
    Ok(Finished { facts: options.facts(&named), results, rows, speed, work: (work, "element") })
}
