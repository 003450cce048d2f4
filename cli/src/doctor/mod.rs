//! `ssm doctor`: what is wrong with a call of the selective scan, and where it begins.

mod case;
mod errors;
mod findings;
mod histogram;
mod json;
#[cfg(any(feature = "cuda", feature = "emulator"))]
mod launches;
mod plans;
mod ranges;
mod report;
mod rule;
mod survey;
mod text;
mod trace;

use crate::args::{DoctorArgs, IoDtype, Layout, Op};
use crate::error::{CliError, Result};
use crate::input::{self, Input};
use crate::memory::Memory;
use crate::output;
use crate::progress::Progress;
use crate::run::selective_scan::{Options, Tensors};
use crate::run::{choose_op, for_op, memory_for};
use crate::speed;
use crate::tensor::Io;
use case::Case;
use errors::{Channel, Computed, Nonfinite};
use half::{bf16, f16};
use report::{Report, Source};
use ssm_kernels::Dtype;
use ssm_kernels::ops::selective_scan::Dims;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use survey::Survey;
use trace::Cause;

/// Channels that are examined at a time, and elements of x that they have at the most.
const CHANNELS: usize = 16;
const ELEMENTS: usize = 1 << 20;

/// Reads, examines, writes the JSON. Returns the text, and whether no error was found.
pub fn run(args: &DoctorArgs, err: &mut dyn Write) -> Result<(String, bool)> {
    if let Some(json) = &args.json {
        output::check(&args.input, json).map_err(|error| error.at(json))?;
    }
    examine_file(args, err).map_err(|error| error.at(&args.input)).and_then(|examined| {
        if let (Some(path), Some(json)) = (&args.json, &examined.json) {
            output::write_text(path, json).map_err(|error| error.at(path))?;
        }
        Ok((examined.text, examined.healthy))
    })
}

/// What comes of a file.
struct Examined {
    text: String,
    json: Option<String>,
    healthy: bool,
}

fn examine_file(args: &DoctorArgs, err: &mut dyn Write) -> Result<Examined> {
    let mut memory = Memory::new(args.max_memory.unwrap_or_else(|| memory_for(&args.input)));
    let bytes = input::read(&args.input, &mut memory)?;
    let input = Input::parse(&bytes)?;
    let op = choose_op(args.op, &input)?;
    if op != Op::SelectiveScan {
        return Err(CliError::new(format!("{op} cannot be examined, expected {}", Op::SelectiveScan)));
    }
    let (input, dtype) = for_op(op, input, err)?;
    match dtype {
        Dtype::F16 => examine::<f16>(args, &input, &mut memory),
        Dtype::BF16 => examine::<bf16>(args, &input, &mut memory),
        _ => examine::<f32>(args, &input, &mut memory),
    }
}

fn examine<T: Io>(args: &DoctorArgs, input: &Input<'_>, memory: &mut Memory) -> Result<Examined> {
    let options = Options::of(&input.metadata)?;
    let stored = Tensors::<T>::load(input, Layout::ChannelFirst, memory)?;
    let dims = stored.scan(&options)?.dims()?;
    stored.check_metadata(&input.metadata, &dims)?;
    plan_memory(&dims, stored.io_elements(), args, memory)?;
    let tensors = stored.converted::<f32>()?;
    let case = Case { tensors: &tensors, options: &options, dtype: T::DTYPE, dims };
    let mut dtypes = vec![];
    args.dtype.iter().for_each(|dtype| {
        if !dtypes.contains(dtype) {
            dtypes.push(*dtype)
        }
    });
    let report = speed::in_pool(args.threads, || gather(&case, &dtypes, args.threads, memory))?;
    Ok(Examined {
        text: text::text(&report, args.channels),
        json: args.json.is_some().then(|| json::json(&report)),
        healthy: report.is_healthy(),
    })
}

/// The widened inputs, one rounded copy of them, the results, and what is kept of each channel; and of the parts that are
/// examined at a time their inputs, and results and rounded inputs in f64.
fn plan_memory(dims: &Dims, io_elements: usize, args: &DoctorArgs, memory: &mut Memory) -> Result<()> {
    let Dims { batch, dim, seqlen, dstate, nseqs, .. } = *dims;
    memory.plan(io_elements, 2 * size_of::<f32>())?;
    let states = crate::memory::elements("final_state", &[nseqs, dim, dstate])?;
    memory.plan(batch * dim * seqlen, args.dtype.len() * 2 * size_of::<f32>())?;
    memory.plan(states, args.dtype.len() * size_of::<f32>())?;
    memory.plan(dim, 1024)?;
    // Chunk offsets, in the library and here.
    memory.plan(nseqs.saturating_add(1), 3 * size_of::<usize>())?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let part = batch.saturating_mul(seqlen).max(ELEMENTS).saturating_add(nseqs.saturating_mul(dstate));
    memory.plan(args.threads.map_or(threads, usize::from).saturating_mul(part), 8 * size_of::<f64>())?;
    memory.reserve()
}

fn gather<'r>(case: &'r Case<'r>, dtypes: &[IoDtype], threads: Option<u16>, memory: &mut Memory) -> Result<Report<'r>> {
    let Dims { batch, dim, seqlen, .. } = case.dims;
    let each = (ELEMENTS / batch.saturating_mul(seqlen).max(1)).clamp(1, CHANNELS);
    let blocks: Vec<Vec<usize>> =
        (0..dim.div_ceil(each)).map(|i| (i * each..((i + 1) * each).min(dim)).collect()).collect();
    let progress = Progress::new(dtypes.len() + blocks.len() + 1);
    let mut computed = vec![];
    for dtype in dtypes {
        progress.begin(&format!("cpu backend, {dtype}"));
        computed.push(match dtype {
            IoDtype::F32 => errors::compute::<f32>(case, threads, memory),
            IoDtype::Bf16 => errors::compute::<bf16>(case, threads, memory),
            IoDtype::F16 => errors::compute::<f16>(case, threads, memory),
        }?);
        progress.step();
    }
    progress.begin("f64, channel by channel");
    let survey = Mutex::new(Survey::new());
    let examined = in_parallel(&blocks, threads != Some(1), |channels| {
        let part = case.part(channels)?;
        let mut own = Survey::new();
        let sums: Vec<f64> =
            channels.iter().enumerate().map(|(c, &channel)| own.take(case, &part, c, channel)).collect();
        let compared = errors::compare(case, &part, channels, &computed)?;
        survey.lock().unwrap_or_else(PoisonError::into_inner).merge(&own);
        progress.step();
        Ok((sums, compared))
    })?;
    let (sums, channels): (Vec<Vec<f64>>, Vec<Vec<Channel>>) = examined.into_iter().unzip();
    let channels = channels.concat();
    progress.begin("accuracy rule");
    let judged = computed.iter().enumerate().map(|(i, one)| rule::judge(case, one, &channels, i));
    let judged = judged.collect::<Result<Vec<_>>>()?;
    let dtypes: Vec<Dtype> = computed.iter().map(|one| one.dtype).collect();
    let mut report = Report {
        case,
        ranges: ranges::all(case, &dtypes),
        sources: sources(case, &dtypes, &channels)?,
        dtypes,
        channels,
        judged,
        survey: survey.into_inner().unwrap_or_else(PoisonError::into_inner),
        memory: report::Memory::new(case, &sums.concat()),
        plans: computed.into_iter().map(|Computed { plans, .. }| plans).collect(),
        findings: vec![],
    };
    report.findings = findings::all(&report);
    Ok(report)
}

/// Each with the cause of what is not finite first.
fn sources(case: &Case<'_>, dtypes: &[Dtype], channels: &[Channel]) -> Result<Vec<Source>> {
    let all = std::iter::once(None).chain(dtypes.iter().copied().map(Some));
    all.enumerate()
        .map(|(i, dtype)| {
            let mut nonfinite = Nonfinite::default();
            channels.iter().for_each(|channel| nonfinite.merge(&channel.nonfinite[i]));
            let cause = match errors::start(&nonfinite) {
                None => None,
                Some((seq, channel, place)) => {
                    let found = trace::cause(case, seq, channel, dtype)?;
                    // The plain recurrence may go on where the backend, which sums in another order, does not.
                    Some(found.map_or_else(|| Cause::of_backend(place), |cause| cause.beside(place)))
                }
            };
            Ok(Source { dtype, nonfinite, cause })
        })
        .collect()
}

/// The work of all blocks, in their order.
#[cfg(feature = "rayon")]
fn in_parallel<R: Send>(
    blocks: &[Vec<usize>],
    parallel: bool,
    work: impl Fn(&[usize]) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    use rayon::prelude::*;
    match parallel {
        true => blocks.par_iter().map(|block| work(block)).collect(),
        false => blocks.iter().map(|block| work(block)).collect(),
    }
}

/// The work of all blocks, in their order.
#[cfg(not(feature = "rayon"))]
fn in_parallel<R>(blocks: &[Vec<usize>], _parallel: bool, work: impl Fn(&[usize]) -> Result<R>) -> Result<Vec<R>> {
    blocks.iter().map(|block| work(block)).collect()
}
