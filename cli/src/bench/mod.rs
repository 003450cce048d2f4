//! `ssm bench`: backends, C loops and the limits of the machine, measured in one process.

mod backends;
mod case;
mod chart;
mod loops;
mod measure;
mod roofline;
mod table;

use crate::args::{BenchArgs, Directions, IoDtype, Layouts, Measured, Op, Shape};
use crate::error::{CliError, Result};
use crate::memory::Memory;
use crate::output;
use crate::progress::Progress;
use crate::speed;
use crate::tensor::Io;
use case::{Case, Direction};
use clap::ValueEnum;
use half::{bf16, f16};
use measure::Times;
use roofline::{Machine, Work};
use serde_json::{Value, json};
use ssm_baseline::Layout;
use std::path::Path;

/// What is measured without --shape: prompts, a batch, one token. discretise writes each state of each step, so its are
/// smaller; the updates have a token or a few.
const SCAN_SHAPES: [Shape; 4] = [shape(1, 1536, 2048), shape(1, 1536, 512), shape(8, 768, 1024), shape(1, 1536, 1)];
const CONV_SHAPES: [Shape; 2] = [shape(1, 1536, 2048), shape(8, 768, 1024)];
const DISCRETISE_SHAPES: [Shape; 2] = [shape(1, 768, 512), shape(1, 1536, 1)];
const UPDATE_SHAPES: [Shape; 3] = [shape(1, 1536, 1), shape(32, 1536, 1), shape(1, 1536, 4)];

const fn shape(batch: usize, dim: usize, seqlen: usize) -> Shape {
    Shape { batch, dim, seqlen, inner: None }
}

/// What is to be measured.
#[derive(Debug, Clone, Copy)]
struct Task {
    backend: Measured,
    op: Op,
    direction: Direction,
    shape: ssm_baseline::Shape,
}

/// One measurement.
#[derive(Debug)]
struct Row {
    task: Task,
    variant: &'static str,
    dtype: IoDtype,
    threads: u16,
    reps: usize,
    work: Work,
    ours: Times,
    /// CPU seconds of a call of the C loops.
    o3: Option<f64>,
    fast_math: Option<f64>,
    /// The floor over the time taken.
    share: f64,
}

impl Task {
    /// The layout in reports.
    fn layout(&self) -> &'static str {
        match self.shape.layout {
            Layout::Dense => "dense",
            Layout::ChannelLast => "channel-last",
        }
    }

    fn extents(&self) -> Shape {
        let ssm_baseline::Shape { batch, dim, seqlen, dstate, .. } = self.shape;
        Shape { batch, dim, seqlen, inner: Some(dstate) }
    }
}

impl Row {
    /// The time that the roofline and the traffic go by: CPU time where it is one thread's.
    fn time(&self) -> f64 {
        taken(&self.ours, self.threads)
    }

    /// Nanoseconds per state step of the seconds of a call.
    fn per_step(&self, seconds: f64) -> f64 {
        seconds * 1e9 / self.work.state_steps
    }

    fn json(&self) -> Value {
        let Task { backend, op, direction, .. } = self.task;
        let ssm_baseline::Shape { batch, dim, seqlen, dstate: inner, .. } = self.task.shape;
        json!({
            "op": op.to_string(),
            "direction": direction.name(),
            "backend": backend.to_string(),
            "variant": self.variant,
            "dtype": self.dtype.to_string(),
            "layout": self.task.layout(),
            "batch": batch,
            "dim": dim,
            "dstate": (!op.has_taps()).then_some(inner),
            "width": op.has_taps().then_some(inner),
            "seqlen": seqlen,
            "threads": self.threads,
            "reps": self.reps,
            "cpu_ns_per_state_step": self.per_step(self.ours.cpu),
            "wall_ns_per_state_step": self.per_step(self.ours.wall),
            "baseline_o3_ns": self.o3.map(|seconds| self.per_step(seconds)),
            "baseline_fastmath_ns": self.fast_math.map(|seconds| self.per_step(seconds)),
            "roofline_share": self.share,
        })
    }
}

fn taken(times: &Times, threads: u16) -> f64 {
    // A clock that has not moved is no reason to divide by zero.
    (if threads == 1 { times.cpu } else { times.wall }).max(1e-9)
}

/// Measures, writes the files, and returns the table.
pub fn run(args: &BenchArgs) -> Result<String> {
    for path in args.json.iter().chain(&args.svg) {
        output::check_place(path).map_err(|error| error.at(path))?;
    }
    if args.json.is_some() && args.json == args.svg {
        return Err(CliError::new("--json and --svg name the same file, expected two"));
    }
    let (machine, rows) = match args.dtype {
        IoDtype::F32 => measured::<f32>(args),
        IoDtype::Bf16 => measured::<bf16>(args),
        IoDtype::F16 => measured::<f16>(args),
    }?;
    if let Some(path) = &args.json {
        let list = Value::Array(rows.iter().map(Row::json).collect());
        write(path, &format!("{list:#}\n"))?;
    }
    if let Some(path) = &args.svg {
        write(path, &chart::svg(&rows)?)?;
    }
    Ok(table::text(&machine, args.threads, &rows))
}

fn write(path: &Path, text: &str) -> Result<()> {
    output::write_text(path, text).map_err(|error| error.at(path))
}

fn measured<T: Io>(args: &BenchArgs) -> Result<(Machine, Vec<Row>)> {
    let tasks = tasks(args);
    if tasks.is_empty() {
        let op = args.op.map(|op| op.to_string()).unwrap_or_default();
        return Err(CliError::new(format!("--direction backward: {op} has none, expected forward")));
    }
    // Nothing is measured if something could not be.
    for task in &tasks {
        fits::<T>(task, args).map_err(|error| CliError::new(format!("--shape {}: {error}", task.extents())))?;
    }
    speed::in_pool(Some(args.threads), || {
        let progress = Progress::new(tasks.len() + 1);
        progress.begin("limits of this machine");
        let machine = Machine::measure(args.threads)?;
        progress.step();
        let row = |task: &Task| {
            let Task { op, direction, .. } = task;
            progress.begin(&format!("{op} {} {} {}", direction.name(), task.extents(), task.layout()));
            let row = measure::<T>(*task, args, &machine);
            progress.step();
            row
        };
        Ok((machine, tasks.iter().map(row).collect::<Result<_>>()?))
    })
}

fn tasks(args: &BenchArgs) -> Vec<Task> {
    let ops = args.op.map_or(Op::value_variants().to_vec(), |op| vec![op]);
    let directions: &[Direction] = match args.direction {
        Directions::Forward => &[Direction::Forward],
        Directions::Backward => &[Direction::Backward],
        Directions::Both => &[Direction::Forward, Direction::Backward],
    };
    let layouts: &[Layout] = match args.layout {
        Layouts::Dense => &[Layout::Dense],
        Layouts::ChannelLast => &[Layout::ChannelLast],
        Layouts::Both => &[Layout::Dense, Layout::ChannelLast],
    };
    let mut tasks = vec![];
    for op in ops {
        let shapes = match op {
            _ if !args.shape.is_empty() => args.shape.as_slice(),
            Op::SelectiveScan => &SCAN_SHAPES,
            Op::Discretise => &DISCRETISE_SHAPES,
            Op::StateUpdate | Op::CausalConv1dUpdate => &UPDATE_SHAPES,
            Op::CausalConv1d => &CONV_SHAPES,
        };
        let usual = if op.has_taps() { 4 } else { 16 };
        let has = |direction: &&Direction| op.has_backward() || **direction == Direction::Forward;
        for &direction in directions.iter().filter(has) {
            for &Shape { batch, dim, seqlen, inner } in shapes {
                for &layout in layouts {
                    let dstate = inner.unwrap_or(usual);
                    let shape = ssm_baseline::Shape { batch, dim, seqlen, dstate, layout };
                    tasks.extend(args.backend.iter().map(|&backend| Task { backend, op, direction, shape }));
                }
            }
        }
    }
    tasks
}

fn fits<T: Io>(task: &Task, args: &BenchArgs) -> Result<()> {
    let mut memory = Memory::new(args.max_memory);
    case::plan::<T>(task.op, task.direction, &task.shape, &mut memory)
}

fn measure<T: Io>(task: Task, args: &BenchArgs, machine: &Machine) -> Result<Row> {
    let Task { backend, op, direction, shape } = task;
    let case = Case::<T>::new(op, shape)?;
    let (ours, variant) = backends::runner(backend, args.threads, op, direction, &case)?;
    let mut runners = vec![ours];
    runners.extend(loops::runners(op, direction, &case)?);
    let (times, reps) = measure::interleaved(&mut runners, args.reps)?;
    let work = Work::new(op, direction, &shape, T::DTYPE);
    let (dtype, threads, ours) = (args.dtype, args.threads, times[0]);
    let [o3, fast_math] = [1, 2].map(|i| times.get(i).map(|times| times.cpu));
    let share = machine.floor(&work) / taken(&ours, threads);
    Ok(Row { task, variant, dtype, threads, reps, work, ours, o3, fast_math, share })
}
