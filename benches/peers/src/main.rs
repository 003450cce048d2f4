//! CPU time of the selective scan in one thread, ssm-kernels beside mamba-rs and candle. README.md says what is compared.
// A, B, C and D are the field's names.
#![allow(non_snake_case)]

mod block;
mod measure;
mod ours;
mod projections;
mod tensor_ops;
mod tensors;

use block::{Block, Tape};
use measure::{Subject, Times, in_turns};
use std::path::{Path, PathBuf};
use tensor_ops::Steps;
use tensors::{Shape, Tensors, difference, transposed, write};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const USAGE: &str =
    "ssm-peers [--shape BATCHxDIMxSEQLEN]... [--dstate N] [--turns N] [--no-candle] [--more] [--dump FOLDER]";
const EXTENTS: [[usize; 3]; 4] = [[1, 1536, 2048], [1, 1536, 512], [8, 768, 1024], [1, 1536, 1]];

struct Options {
    extents: Vec<[usize; 3]>,
    dstate: usize,
    turns: usize,
    candle: bool,
    /// With twice as many states as well.
    more: bool,
    dump: Option<PathBuf>,
}

impl Options {
    fn parse() -> Result<Self> {
        let mut options = Self { extents: vec![], dstate: 16, turns: 11, candle: true, more: false, dump: None };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(USAGE);
            match word.as_str() {
                "--no-candle" => options.candle = false,
                "--more" => options.more = true,
                "--shape" => options.extents.push(extents(&value()?)?),
                "--dstate" => options.dstate = value()?.parse()?,
                "--turns" => options.turns = value()?.parse::<usize>()?.max(1),
                "--dump" => options.dump = Some(value()?.into()),
                _ => return Err(USAGE.into()),
            }
        }
        if options.extents.is_empty() {
            options.extents = EXTENTS.into();
        }
        Ok(options)
    }
}

fn extents(text: &str) -> Result<[usize; 3]> {
    let extents = text.split('x').map(str::parse).collect::<std::result::Result<Vec<usize>, _>>()?;
    extents.try_into().map_err(|_| USAGE.into())
}

/// Names and median seconds of tables.
type Rows = Vec<(String, f64)>;

/// What is beside what in a table: times, each over that of `ssm-kernels, channel-last`.
fn table(title: &str, shape: &Shape, subjects: &mut [Subject<'_>], turns: usize) -> Result<Rows> {
    let times = in_turns(subjects, turns)?;
    let each = 1e9 / shape.state_steps();
    let mut rows: Vec<_> = subjects.iter().map(|it| it.name.clone()).zip(times).collect();
    if let Some(at) = rows.iter().position(|(name, _)| name == projections::NAME) {
        let (block, alone) = (rows[at - 1].1, rows[at].1);
        let less = Times { median: block.median - alone.median, least: block.least - alone.least };
        rows.insert(at + 1, ("mamba-rs, the block less its projections".into(), less));
    }
    let ours = rows[1].1;
    println!("\n{title} ({}, {}, {})\n", shape.batch, shape.dim, shape.seqlen);
    println!("| CPU ns per state step | median | least | median over ours |\n|---|---:|---:|---:|");
    for (name, Times { median, least }) in &rows {
        println!("| {name} | {:.3} | {:.3} | {:.2} |", median * each, least * each, median / ours.median);
    }
    Ok(rows.into_iter().map(|(name, times)| (format!("{title}: {name}"), times.median)).collect())
}

/// What is left of a step of a channel when all that does not grow with the states is taken away: not softplus and gate
/// alone, but what else a block does as well.
fn more(shape: &Shape, few: &Rows, many: &Rows) {
    println!("\nA further state ({}, {}, {})\n", shape.batch, shape.dim, shape.seqlen);
    println!("| CPU ns per step, from {} to {} states | |\n|---|---:|", shape.dstate, 2 * shape.dstate);
    for ((name, few), (_, many)) in few.iter().zip(many) {
        println!("| {name} | {:.3} |", (many - few) * 1e9 / shape.state_steps());
    }
}

/// Of what is the same but for rounding.
const MOST_APART: f32 = 2e-5;

fn compare(name: &str, ours: &[f32], theirs: &[f32]) -> Result<()> {
    let apart = difference(ours, theirs);
    println!("    {name}: {apart:.1e}");
    if apart <= MOST_APART { Ok(()) } else { Err(format!("{name}: not the same is timed").into()) }
}

/// That the same is computed.
fn check(block: &Block, tapes: &[Tape], tensors: &Tensors, dense: &Tensors, steps: Option<&Steps>) -> Result<()> {
    let Shape { batch, dim, seqlen, dstate } = tensors.shape;
    println!("  greatest difference from ours over the greatest value:");
    let ((out, gradients), (dense_out, _)) = (ours::results(tensors)?, ours::results(dense)?);
    compare("ours, dense, out", &out, &transposed(&dense_out, batch, dim, seqlen))?;
    compare("mamba-rs for training, out", &out, &block.gated(tapes))?;
    let (mut rows, mut state, mut scratch) = block.for_prefill();
    block.run_prefill(&mut rows, &mut state, &mut scratch);
    compare("mamba-rs for a prompt, from mamba-rs for training", &Block::recorded_rows(tapes), &rows)?;
    let first: Vec<_> = out.chunks_exact(seqlen * dim).flat_map(|sequence| &sequence[..dim]).copied().collect();
    compare("mamba-rs for a token, first step", &first, &block.first_tokens())?;
    if seqlen == 1 {
        compare("ours, as a token", &out, &ours::token(tensors)?)?;
    }
    let mut back = block.back();
    block.run_back(tapes, &mut back);
    // Of log -A.
    let dA: Vec<_> = gradients.dA.iter().zip(&tensors.A).map(|(dA, A)| dA * A).collect();
    compare("mamba-rs, dA", &dA, &back.gradients.a_log)?;
    compare("mamba-rs, dD", &gradients.dD, &back.gradients.d_param)?;
    compare("mamba-rs, ddt_bias", &gradients.ddt_bias, &back.gradients.dt_proj_b)?;
    let (dB, dC) = back.drows(dstate);
    let last = seqlen * dstate * (batch - 1);
    compare("mamba-rs, dB of the last sequence", &gradients.dB[last..], &dB)?;
    compare("mamba-rs, dC of the last sequence", &gradients.dC[last..], &dC)?;
    if let Some(steps) = steps {
        compare("candle, out", &out, &steps.out()?)?;
    }
    Ok(())
}

/// Inputs and our results, for the programs in other languages.
fn dump(folder: &Path, tensors: &Tensors) -> Result<()> {
    let Shape { batch, dim, seqlen, .. } = tensors.shape;
    let folder = folder.join(format!("{batch}x{dim}x{seqlen}"));
    tensors.write(&folder)?;
    let (out, gradients) = ours::results(tensors)?;
    write(&folder, "out", &out)?;
    let all = [("dx", &gradients.dx), ("ddt", &gradients.ddt), ("dz", &gradients.dz), ("dB", &gradients.dB)];
    let others = [("dC", &gradients.dC), ("dA", &gradients.dA), ("dD", &gradients.dD)];
    all.iter().chain(&others).try_for_each(|(name, data)| write(&folder, name, data))?;
    write(&folder, "ddt_bias", &gradients.ddt_bias)
}

fn measure(options: &Options, shape: Shape) -> Result<Rows> {
    let block = Block::new(shape)?;
    let mut tapes = block.tapes();
    let tensors = block.tensors(&mut tapes);
    if let Some(folder) = &options.dump {
        dump(folder, &tensors)?;
        return Ok(vec![]);
    }
    let dense = tensors.dense();
    let steps = options.candle.then(|| Steps::new(&tensors)).transpose()?;
    println!("\n## ({}, {}, {}), {} states", shape.batch, shape.dim, shape.seqlen, shape.dstate);
    check(&block, &tapes, &tensors, &dense, steps.as_ref())?;
    let turns = options.turns;
    if shape.seqlen == 1 {
        let mut subjects = vec![ours::decode(&dense)?, ours::decode(&tensors)?];
        subjects.extend([block.decode(), projections::decode(&block)]);
        subjects.extend(steps.as_ref().map(Steps::decode).transpose()?);
        return table("A token", &shape, &mut subjects, turns);
    }
    let mut rows = {
        let mut subjects = vec![ours::backward(&dense)?, ours::backward(&tensors)?];
        subjects.extend([block.backward(&tapes), projections::backward(&block)]);
        table("Backward", &shape, &mut subjects, turns)?
    };
    let mut subjects = vec![ours::forward(&dense)?, ours::forward(&tensors)?];
    subjects.extend([block.forward_for_training(&mut tapes), block.prefill(), projections::forward(&block)]);
    subjects.extend(steps.as_ref().map(Steps::forward));
    rows.extend(table("Forward", &shape, &mut subjects, turns)?);
    Ok(rows)
}

fn main() -> Result<()> {
    // CPU time is that of all threads: candle and mamba-rs take as many as this says.
    if std::env::var("RAYON_NUM_THREADS").as_deref() != Ok("1") {
        return Err("set RAYON_NUM_THREADS=1, as `cargo run` in this folder does".into());
    }
    let options = Options::parse()?;
    for &[batch, dim, seqlen] in &options.extents {
        let shape = Shape { batch, dim, seqlen, dstate: options.dstate };
        let few = measure(&options, shape)?;
        if options.more {
            more(&shape, &few, &measure(&options, Shape { dstate: 2 * shape.dstate, ..shape })?);
        }
    }
    Ok(())
}
