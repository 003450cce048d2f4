//! `ssm doctor`: what is wrong with a call of the selective scan, and where it begins.

mod case;
mod compute;
mod errors;
mod estimate;
mod findings;
mod growth;
mod histogram;
mod json;
#[cfg(any(feature = "cuda", feature = "emulator"))]
mod launches;
mod plans;
mod ranges;
mod report;
mod results;
mod rule;
mod survey;
mod text;
mod trace;

use crate::args::{DoctorArgs, Layout, Op};
use crate::error::{CliError, Result};
use crate::input::{self, Input};
use crate::memory::{Memory, filled};
use crate::output;
use crate::progress::Progress;
use crate::run::selective_scan::{Options, Projected, Tensors, Upstream};
use crate::run::shaped::converted;
use crate::run::{choose_op, for_op, memory_for};
use crate::speed;
use crate::tensor::Io;
use case::Case;
use compute::Computed;
use errors::Compared;
use estimate::Estimate;
use growth::Growth;
use half::{bf16, f16};
use report::{Report, Source};
use results::Kind;
use ssm_kernels::Dtype;
use ssm_kernels::ops::selective_scan::Dims;
use ssm_kernels::prelude::{SelectiveScanGradients, ViewMut};
use std::io::Write;
use survey::Survey;

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
    let options = Options::of(&input.metadata)?.once();
    let stored = Tensors::<T>::load(input, Layout::ChannelFirst, memory)?;
    let dims = stored.scan(&options)?.dims()?;
    stored.check_metadata(&input.metadata, &dims)?;
    let upstream = if args.backward { Some(upstream::<T>(&stored, &options, input, memory)?) } else { None };
    let gradients = stored.gradients(&dims, input.asks_for("dinitial_state"));
    let results = match upstream {
        Some(_) => gradients.iter().map(Kind::of_gradient).collect(),
        None => Kind::forward(&dims),
    };
    let dout = upstream.as_ref().and_then(|upstream| upstream.dout.as_ref()).map_or(0, |dout| dout.data.len());
    let io_elements = stored.io_elements() + dout;
    Estimate { dims: &dims, groups: groups(&stored), results: &results, io_elements, args }.plan(memory)?;
    let tensors = stored.converted::<f32>()?;
    let upstream = upstream.as_ref().map(|upstream| upstream.mapped(&converted)).transpose()?;
    let gradients = gradients.into_iter().map(|(gradient, _)| gradient).collect();
    let case = Case {
        tensors: &tensors,
        upstream: upstream.as_ref(),
        gradients,
        results,
        options: &options,
        dtype: T::DTYPE,
        dims,
    };
    let mut dtypes = vec![];
    for dtype in args.dtype.iter().map(|dtype| dtype.dtype()) {
        if !dtypes.contains(&dtype) {
            dtypes.push(dtype);
        }
    }
    let report = speed::in_pool(args.threads, || gather(&case, &dtypes, args.threads, memory))?;
    Ok(Examined {
        text: text::text(&report, args.channels),
        json: args.json.is_some().then(|| json::json(&report)),
        healthy: report.is_healthy(),
    })
}

/// What comes from above, if the library takes it.
fn upstream<'f, T: Io>(
    tensors: &Tensors<'_, T>,
    options: &Options,
    input: &Input<'f>,
    memory: &mut Memory,
) -> Result<Upstream<'f, T>> {
    let upstream = Upstream::<T>::load(input, Layout::ChannelFirst, memory)?;
    let scan = tensors.scan(options)?;
    let [dim, dstate] = tensors.A.extents;
    let mut dA = filled(dim * dstate, 0.0)?;
    let mut dA = ViewMut::new(&mut dA, [("dim", dim), ("dstate", dstate)]);
    // The library checks what is asked for something.
    scan.check_backward(upstream.views(), SelectiveScanGradients::new().dA(&mut dA))?;
    Ok(upstream)
}

/// Of variable B and C; 0 where it is constant.
fn groups<T: Io>(tensors: &Tensors<'_, T>) -> [usize; 2] {
    [&tensors.B, &tensors.C].map(|projection| match projection {
        Projected::Variable(tensor) => tensor.extents[1],
        Projected::Constant(_) => 0,
    })
}

fn channels_at_a_time(dims: &Dims) -> usize {
    (ELEMENTS / dims.batch.saturating_mul(dims.seqlen).max(1)).clamp(1, CHANNELS)
}

fn threads(threads: Option<u16>) -> usize {
    threads.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from)
}

/// What is kept of the channels.
struct Examinations {
    compared: Compared,
    survey: Survey,
    growth: Option<Growth>,
    /// The sum of delta of each channel.
    sums: Vec<f64>,
}

fn gather<'r>(case: &'r Case<'r>, dtypes: &[Dtype], threads: Option<u16>, memory: &mut Memory) -> Result<Report<'r>> {
    let each = channels_at_a_time(&case.dims);
    let progress = Progress::new(dtypes.len() + case.dims.dim.div_ceil(each) + 1);
    let mut computed = vec![];
    for &dtype in dtypes {
        progress.begin(&format!("cpu backend, {dtype}"));
        computed.push(compute::compute(case, dtype, threads, memory)?);
        progress.step();
    }
    progress.begin("f64, channel by channel");
    let Examinations { compared, survey, growth, sums } = examine_channels(case, each, &computed, threads, &progress)?;
    progress.begin("accuracy rule");
    let judged =
        computed.iter().zip(&compared.errors).map(|(one, errors)| rule::judge(case, one, errors, threads, memory));
    let judged = judged.collect::<Result<Vec<_>>>()?;
    let mut report = Report {
        case,
        ranges: ranges::all(case, dtypes),
        sources: sources(case, dtypes, &compared)?,
        dtypes: dtypes.to_vec(),
        errors: compared.errors,
        judged,
        survey,
        memory: report::Memory::new(case, &sums),
        growth,
        plans: computed.into_iter().map(|Computed { plans, .. }| plans).collect(),
        findings: vec![],
    };
    report.findings = findings::all(&report);
    Ok(report)
}

/// `each` channels at a time, and so many of these parts in parallel as there are threads. What comes of them is put together in
/// their order, so that sums do not depend on it.
fn examine_channels(
    case: &Case<'_>,
    each: usize,
    computed: &[Computed],
    asked: Option<u16>,
    progress: &Progress,
) -> Result<Examinations> {
    let dim = case.dims.dim;
    let blocks: Vec<Vec<usize>> =
        (0..dim.div_ceil(each)).map(|i| (i * each..((i + 1) * each).min(dim)).collect()).collect();
    let mut all = Examinations {
        compared: Compared::new(case, computed.len())?,
        survey: Survey::new(),
        growth: case.upstream.map(|_| Growth::new(case)),
        sums: vec![],
    };
    for wave in blocks.chunks(threads(asked)) {
        let examined = in_parallel(wave, asked != Some(1), |channels| {
            let part = case.part(channels)?;
            let (mut survey, mut growth) = (Survey::new(), case.upstream.map(|_| Growth::new(case)));
            let channel = |(c, &channel)| survey.take(case, &part, c, channel);
            let sums = channels.iter().enumerate().map(channel).collect();
            growth.iter_mut().for_each(|growth| (0..channels.len()).for_each(|c| growth.take(case, &part, c)));
            let compared = errors::compare(case, &part, channels, computed)?;
            progress.step();
            Ok(Examinations { compared, survey, growth, sums })
        })?;
        for (channels, one) in wave.iter().zip(examined) {
            all.compared.merge(case, channels, one.compared);
            all.survey.merge(&one.survey);
            all.growth.iter_mut().zip(&one.growth).for_each(|(to, from)| to.merge(from));
            all.sums.extend(one.sums);
        }
    }
    all.compared.finish(case, computed);
    Ok(all)
}

/// Each with the cause of what is not finite first.
fn sources(case: &Case<'_>, dtypes: &[Dtype], compared: &Compared) -> Result<Vec<Source>> {
    let all = std::iter::once(None).chain(dtypes.iter().copied().map(Some));
    let source = |(dtype, nonfinite): (Option<Dtype>, &errors::Nonfinite)| {
        Ok(Source { dtype, nonfinite: nonfinite.clone(), cause: trace::cause(case, nonfinite, dtype)? })
    };
    all.zip(&compared.nonfinite).map(source).collect()
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
