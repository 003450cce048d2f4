//! The selective scan on a file.

mod tensors;

use super::results::{Outline, judge, outline, plan, widened};
use super::{Contents, Finished};
use crate::args::{Backend, Layout, RunArgs};
use crate::error::{CliError, Result};
use crate::input::Input;
use crate::memory::{Memory, filled};
use crate::metadata::Metadata;
use crate::speed::{self, Speed};
use crate::tensor::{Data, Io, Scalar, Tensor};
use ssm_kernels::ops::selective_scan::Dims;
use ssm_kernels::prelude::*;
use ssm_kernels::reference::accuracy::Loop;
use ssm_kernels::reference::{Real, selective_scan as naive};
use std::borrow::Cow;
use std::num::NonZeroUsize;
use tensors::{Tensors, reordered};

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
struct Options {
    dt_softplus: bool,
    dt_limit: Option<(f32, f32)>,
    reverse: bool,
    layout: Layout,
    every: Option<usize>,
    threads: Option<u16>,
    repeat: Option<NonZeroUsize>,
}

impl Options {
    fn new(args: &RunArgs, metadata: &Metadata) -> Result<Self> {
        if args.backward {
            return Err(CliError::new(format!("{OP}: this build has no backward direction, expected no --backward")));
        }
        metadata.flag("backward")?;
        metadata.flag("dfinal_state")?;
        Ok(Self {
            dt_softplus: metadata.flag("dt_softplus")?.unwrap_or(false),
            dt_limit: metadata.dt_limit()?,
            reverse: metadata.flag("reverse")?.unwrap_or(false),
            layout: args.layout.unwrap_or_default(),
            every: args.states_every.map(usize::from),
            threads: args.threads,
            repeat: args.repeat,
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
    // A chunk offset per sequence, in the library and here, before the scan can be asked for them.
    memory.plan(dims.nseqs.saturating_add(1), 3 * size_of::<usize>())?;
    memory.reserve()?;
    let offsets = options.every.map(|every| scan.chunk_offsets(every)).transpose()?;
    let outlines = outlines::<T>(&dims, offsets.as_deref());
    plan(&outlines, 2 * size_of::<f64>(), input, memory)?;
    memory.reserve()?;
    let offsets = offsets.map(|offsets| chunk_offsets(&offsets, input)).transpose()?;
    let (mut results, speed) = match args.backend {
        Backend::Cpu if options.threads == Some(1) => timed(&Cpu::single_thread(), &scan, &dims, &options, &outlines)?,
        Backend::Cpu => timed(&Cpu::new(), &scan, &dims, &options, &outlines)?,
        #[cfg(feature = "emulator")]
        Backend::Emulator => timed(&super::emulator::device(args).on_host(), &scan, &dims, &options, &outlines)?,
        Backend::Reference => reference(&scan, &options, &outlines)?,
    };
    let rows = judge(&outlines, &results, input, &Naive { scan: &scan, every: options.every })?;
    results.extend(offsets);
    let work = [dims.batch, dims.dim, dims.dstate, dims.seqlen].iter().map(|&extent| extent as f64).product();
    Ok(Finished { facts: options.facts(&dims), results, rows, speed, work: (work, "state step") })
}

/// In the order of the results.
fn outlines<T: Io>(dims: &Dims, offsets: Option<&[usize]>) -> Vec<Outline> {
    let Dims { batch, dim, seqlen, dstate, nseqs } = *dims;
    let mut outlines =
        vec![outline::<T>("out", [batch, dim, seqlen]), outline::<f32>("final_state", [nseqs, dim, dstate])];
    let chunks = offsets.and_then(<[usize]>::last);
    outlines.extend(chunks.map(|&nchunks| outline::<f32>("chunk_states", [nchunks, dim, dstate])));
    outlines
}

/// As a tensor, equal to that of the file if it has one.
fn chunk_offsets(offsets: &[usize], input: &Input<'_>) -> Result<Tensor> {
    let narrow = |&offset: &usize| {
        i32::try_from(offset).map_err(|_| CliError::value(OP, "chunk_offsets", format!("holds {offset}"), "an i32"))
    };
    let data = offsets.iter().map(narrow).collect::<Result<Vec<i32>>>()?;
    if let Some(given) = input.optional::<i32>("chunk_offsets")?
        && *given.data != *data
    {
        let expected = format!("{data:?} with this --states-every");
        return Err(CliError::value(OP, "chunk_offsets", format!("is {:?}", given.data), expected));
    }
    Ok(Tensor { name: "chunk_offsets", shape: vec![data.len()], data: Data::I32(data) })
}

fn timed<'a, T: Io>(
    backend: &(impl Forward<SelectiveScan<'a, T>> + Sync),
    scan: &SelectiveScan<'a, T>,
    dims: &Dims,
    options: &Options,
    outlines: &[Outline],
) -> Result<(Vec<Tensor>, Speed)> {
    let Dims { batch, dim, seqlen, dstate, nseqs } = *dims;
    let nchunks = outlines.get(2).map_or(0, |chunks| chunks.shape[0]);
    let (mut out, mut final_state) = (outlines[0].nan::<T>()?, outlines[1].nan::<f32>()?);
    let mut chunk_states = filled(nchunks * dim * dstate, f32::NAN)?;
    let plan = backend.forward_plan(scan)?;
    let mut workspace = plan.allocate()?;
    let call = || {
        let mut out = match options.layout {
            Layout::ChannelFirst => ViewMut::new(&mut out, [("batch", batch), ("dim", dim), ("seqlen", seqlen)]),
            Layout::ChannelLast => ViewMut::new(&mut out, [("batch", batch), ("seqlen", seqlen), ("dim", dim)]),
        };
        let mut final_state = ViewMut::new(&mut final_state, [("batch", nseqs), ("dim", dim), ("dstate", dstate)]);
        let mut states = ViewMut::new(&mut chunk_states, [("nchunks", nchunks), ("dim", dim), ("dstate", dstate)]);
        let mut outputs = SelectiveScanOutputs::new(&mut out).final_state(&mut final_state);
        if let Some(every) = options.every {
            outputs = outputs.chunk_states(every, &mut states);
        }
        Ok(backend.forward_with(scan, outputs, &plan, (&mut workspace).into())?)
    };
    let speed = speed::in_pool(options.threads, || speed::repeat(options.repeat, call))?;
    let out = match options.layout {
        Layout::ChannelFirst => out,
        Layout::ChannelLast => reordered(&out, [batch, seqlen, dim])?,
    };
    let data = [T::into_data(out), f32::into_data(final_state), f32::into_data(chunk_states)];
    Ok((outlines.iter().zip(data).map(|(outline, data)| outline.tensor(data)).collect(), speed))
}

fn reference<T: Io>(
    scan: &SelectiveScan<'_, T>,
    options: &Options,
    outlines: &[Outline],
) -> Result<(Vec<Tensor>, Speed)> {
    let (forward, speed) = speed::once(|| Ok(naive::forward::<f64, T>(scan, options.every)?))?;
    let data = [forward.out, forward.final_state, forward.chunk_states.unwrap_or_default()];
    Ok((outlines.iter().zip(data).map(|(outline, data)| outline.tensor(Data::F64(data))).collect(), speed))
}

/// The loops that the results are judged by.
struct Naive<'r, 'a, T> {
    scan: &'r SelectiveScan<'a, T>,
    every: Option<usize>,
}

impl<T: Io> Loop for Naive<'_, '_, T> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let forward = naive::forward::<R, T>(self.scan, self.every).expect("the backend accepted the same arguments");
        let tensors = [Some(forward.out), Some(forward.final_state), forward.chunk_states];
        tensors.into_iter().flatten().map(widened).collect()
    }
}

/// Data of a file in the memory order of `layout`.
fn laid_out<'f, T: Io>(data: Cow<'f, [T]>, extents: [usize; 3], layout: Layout) -> Result<Cow<'f, [T]>> {
    match layout {
        Layout::ChannelFirst => Ok(data),
        Layout::ChannelLast => Ok(Cow::Owned(reordered(&data, extents)?)),
    }
}
