//! The selective scan on a file.

mod backward;
mod forward;
mod tensors;

use super::{Contents, Finished};
use crate::args::{Layout, RunArgs};
use crate::error::{CliError, Result};
use crate::input::Input;
use crate::memory::Memory;
use crate::metadata::Metadata;
use crate::tensor::Io;
pub(crate) use backward::{Call, Gradient, Upstream, outlines};
use ssm_kernels::ops::selective_scan::Dims;
use std::num::NonZeroUsize;
pub(crate) use tensors::{Projected, Shaped, Tensors};

const OP: &str = "selective_scan";

/// What a file may hold.
pub(super) const CONTENTS: Contents = Contents {
    inputs: &[
        "x",
        "dt",
        "A",
        "B",
        "C",
        "D",
        "z",
        "dt_bias",
        "initial_state",
        "cu_seqlens",
        "chunk_offsets",
        "dout",
        "dfinal_state",
    ],
    results: &[
        "out",
        "final_state",
        "chunk_states",
        "dx",
        "ddt",
        "dA",
        "dB",
        "dC",
        "dD",
        "dz",
        "ddt_bias",
        "dinitial_state",
    ],
    keys: &[
        "dt_softplus",
        "dt_limit",
        "reverse",
        "cu_seqlens",
        "batch",
        "dim",
        "seqlen",
        "dstate",
        "ngroups",
        "has_D",
        "has_z",
        "has_dt_bias",
        "initial_state",
        "const_B",
        "const_C",
        "dfinal_state",
        "backward",
    ],
};

/// The options of the call.
#[derive(Default)]
pub(crate) struct Options {
    pub dt_softplus: bool,
    pub dt_limit: Option<(f32, f32)>,
    pub reverse: bool,
    layout: Layout,
    every: Option<usize>,
    split: Option<usize>,
    threads: Option<u16>,
    repeat: Option<NonZeroUsize>,
}

impl Options {
    /// Of the operator, as the file has them; nothing is asked of the run.
    pub fn of(metadata: &Metadata) -> Result<Self> {
        metadata.flag("backward")?;
        metadata.flag("dfinal_state")?;
        Ok(Self {
            dt_softplus: metadata.flag("dt_softplus")?.unwrap_or(false),
            dt_limit: metadata.dt_limit()?,
            reverse: metadata.flag("reverse")?.unwrap_or(false),
            ..Self::default()
        })
    }

    /// Of a call that nobody times.
    pub fn once(self) -> Self {
        Self { repeat: Some(NonZeroUsize::MIN), ..self }
    }

    fn new(args: &RunArgs, metadata: &Metadata) -> Result<Self> {
        if args.backward && args.states_every.is_some() {
            return Err(CliError::new(format!("{OP}: --states-every does not apply with --backward, expected none")));
        }
        Ok(Self {
            layout: args.layout.unwrap_or_default(),
            every: args.states_every.map(usize::from),
            split: args.split.map(usize::from),
            threads: args.threads,
            repeat: args.repeat,
            ..Self::of(metadata)?
        })
    }

    fn facts(&self, dims: &Dims) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("batch", dims.batch.to_string()),
            ("dim", dims.dim.to_string()),
            ("seqlen", dims.seqlen.to_string()),
            ("dstate", dims.dstate.to_string()),
            ("nseqs", dims.nseqs.to_string()),
            ("layout", self.layout.to_string()),
            ("dt_softplus", self.dt_softplus.to_string()),
            ("reverse", self.reverse.to_string()),
        ];
        facts.extend(self.dt_limit.map(|(min, max)| ("dt_limit", format!("[{min:?}, {max:?}]"))));
        facts.extend(self.every.map(|every| ("states_every", every.to_string())));
        facts.extend(self.split.map(|split| ("split", split.to_string())));
        facts.extend(self.threads.map(|threads| ("threads", threads.to_string())));
        facts
    }
}

/// Loads, runs, judges.
pub(super) fn run<T: Io>(args: &RunArgs, input: &Input<'_>, memory: &mut Memory) -> Result<Finished> {
    let options = Options::new(args, &input.metadata)?;
    let tensors = Tensors::<T>::load(input, options.layout, memory)?;
    let scan = tensors.scan(&options)?;
    let dims = scan.dims()?;
    tensors.check_metadata(&input.metadata, &dims)?;
    let (results, rows, speed) = if args.backward {
        backward::run(args, &scan, &tensors, &options, input, memory)?
    } else {
        forward::run(args, &scan, &options, input, memory)?
    };
    let work = [dims.batch, dims.dim, dims.dstate, dims.seqlen].iter().map(|&extent| extent as f64).product();
    Ok(Finished { facts: options.facts(&dims), results, rows, speed, work: (work, "state step") })
}
