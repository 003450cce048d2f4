//! `ssm bench`: backends, C loops and the limits of the machine, measured in one process.

mod attention;
mod backends;
mod case;
mod chart;
#[cfg(feature = "cuda")]
mod device;
mod inputs;
mod loops;
mod measure;
mod place;
mod roofline;
mod subject;
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
use measure::{Stopwatch, Times};
use roofline::Work;
use serde_json::{Value, json};
use ssm_baseline::Layout;
use std::path::Path;
use subject::Subject;

/// What is measured without --shape: prompts, a batch, one token. discretise writes each state of each step, so its are
/// smaller; the updates have a token or a few.
const SCAN_SHAPES: [Shape; 4] = [shape(1, 1536, 2048), shape(1, 1536, 512), shape(8, 768, 1024), shape(1, 1536, 1)];
const CONV_SHAPES: [Shape; 2] = [shape(1, 1536, 2048), shape(8, 768, 1024)];
const DISCRETISE_SHAPES: [Shape; 2] = [shape(1, 768, 512), shape(1, 1536, 1)];
const UPDATE_SHAPES: [Shape; 3] = [shape(1, 1536, 1), shape(32, 1536, 1), shape(1, 1536, 4)];

/// Heads of 64 elements unless there are four extents: what is computed by pairs, what by states, and tokens.
const ATTENTION_SHAPES: [Shape; 3] = [shape(1, 8, 1024), shape(8, 8, 256), headed(1, 8, 4096, 32)];
const ATTENTION_UPDATE_SHAPES: [Shape; 2] = [shape(1, 8, 1), shape(8, 8, 1)];

const fn headed(batch: usize, nheads: usize, seqlen: usize, dim: usize) -> Shape {
    Shape { batch, dim: nheads, seqlen, inner: Some(dim) }
}

const fn shape(batch: usize, dim: usize, seqlen: usize) -> Shape {
    Shape { batch, dim, seqlen, inner: None }
}

/// What is to be measured.
#[derive(Debug, Clone, Copy)]
struct Task {
    backend: Measured,
    /// Which of the backends asked for it is.
    subject: usize,
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
    /// Of the cpu backend.
    threads: Option<u16>,
    reps: usize,
    work: Work,
    /// Nothing of an emulated device.
    ours: Option<Times>,
    /// CPU seconds of a call of the C loops.
    o3: Option<f64>,
    fast_math: Option<f64>,
    /// The floor over the time taken.
    share: Option<f64>,
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
    /// The time that the roofline and the traffic go by.
    fn time(&self) -> Option<f64> {
        self.ours.map(|times| taken(&times, self.threads))
    }

    /// The time that C loops are held to: CPU time, or the device's.
    fn own(&self) -> Option<f64> {
        self.ours.and_then(|times| times.device.or(times.cpu))
    }

    /// Nanoseconds per state step of the seconds of a call.
    fn per_step(&self, seconds: f64) -> f64 {
        seconds * 1e9 / self.work.state_steps
    }

    fn json(&self) -> Value {
        let Task { backend, op, direction, .. } = self.task;
        let ssm_baseline::Shape { batch, dim, seqlen, dstate: inner, .. } = self.task.shape;
        let per_step = |seconds: Option<f64>| seconds.map(|seconds| self.per_step(seconds));
        json!({
            "op": op.to_string(),
            "direction": direction.name(),
            "backend": backend.to_string(),
            "variant": self.variant,
            "dtype": self.dtype.to_string(),
            "layout": self.task.layout(),
            "batch": batch,
            "nheads": op.has_heads().then_some(dim),
            "dim": if op.has_heads() { inner } else { dim },
            "dstate": (!op.has_taps() && !op.has_heads()).then_some(inner),
            "width": op.has_taps().then_some(inner),
            "seqlen": seqlen,
            "threads": self.threads,
            "reps": self.reps,
            "cpu_ns_per_state_step": per_step(self.ours.and_then(|times| times.cpu)),
            "wall_ns_per_state_step": per_step(self.ours.map(|times| times.wall)),
            "device_ns_per_state_step": per_step(self.ours.and_then(|times| times.device)),
            "baseline_o3_ns": per_step(self.o3),
            "baseline_fastmath_ns": per_step(self.fast_math),
            "roofline_share": self.share,
        })
    }
}

/// The device's time, CPU time of one thread, wall time of several.
fn taken(times: &Times, threads: Option<u16>) -> f64 {
    let cpu = times.cpu.filter(|_| threads == Some(1));
    // A clock that has not moved is no reason to divide by zero.
    times.device.or(cpu).unwrap_or(times.wall).max(1e-9)
}

/// Measures, writes the files, and returns the table.
pub fn run(args: &BenchArgs) -> Result<String> {
    for path in args.json.iter().chain(&args.svg) {
        output::check_place(path).map_err(|error| error.at(path))?;
    }
    if args.json.is_some() && args.json == args.svg {
        return Err(CliError::new("--json and --svg name the same file, expected two"));
    }
    #[cfg(feature = "cuda")]
    crate::cuda::check_device(args.device, args.backend.contains(&Measured::Cuda))?;
    let (subjects, rows) = match args.dtype {
        IoDtype::F32 => measured::<f32>(args),
        IoDtype::Bf16 => measured::<bf16>(args),
        IoDtype::F16 => measured::<f16>(args),
    }?;
    if let Some(path) = &args.svg {
        write(path, &chart::svg(&rows)?)?;
    }
    Ok(left_out(args) + &table::text(&subjects, &rows))
}

/// A line for each operator that nobody asked for and a backend does not have.
fn left_out(args: &BenchArgs) -> String {
    let ops = Op::value_variants().iter().filter(|_| args.op.is_none());
    let lacks = |op: &Op| Some((*op, args.backend.iter().find(|backend| !backend.has(*op))?));
    ops.filter_map(lacks)
        .map(|(op, backend)| format!("{op} is not measured on {backend}: it has no GPU kernels\n"))
        .collect()
}

fn write(path: &Path, text: &str) -> Result<()> {
    output::write_text(path, text).map_err(|error| error.at(path))
}

fn measured<T: Io>(args: &BenchArgs) -> Result<(Vec<Subject>, Vec<Row>)> {
    if let Some((op, backend)) = args.op.and_then(|op| Some((op, args.backend.iter().find(|one| !one.has(op))?))) {
        return Err(CliError::new(format!("--backend {backend}: {op} has no GPU kernels, expected cpu")));
    }
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
        let subjects = args.backend.iter().map(|&backend| Subject::new(backend, args)).collect::<Result<Vec<_>>>()?;
        progress.step();
        let mut rows = vec![];
        for task in &tasks {
            let Task { op, direction, .. } = task;
            progress.begin(&format!("{op} {} {} {}", direction.name(), task.extents(), task.layout()));
            rows.push(measure::<T>(*task, args, &subjects[task.subject])?);
            // With each, so that an end before the last one loses nothing.
            if let Some(path) = &args.json {
                let list = Value::Array(rows.iter().map(Row::json).collect());
                write(path, &format!("{list:#}\n"))?;
            }
            progress.step();
        }
        Ok((subjects, rows))
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
            Op::SquaredAttention => &ATTENTION_SHAPES,
            Op::SquaredAttentionUpdate => &ATTENTION_UPDATE_SHAPES,
        };
        let usual = match op {
            _ if op.has_taps() => 4,
            _ if op.has_heads() => 64,
            _ => 16,
        };
        let has = |direction: &&Direction| op.has_backward() || **direction == Direction::Forward;
        for &direction in directions.iter().filter(has) {
            for &Shape { batch, dim, seqlen, inner } in shapes {
                for &layout in layouts {
                    let dstate = inner.unwrap_or(usual);
                    let shape = ssm_baseline::Shape { batch, dim, seqlen, dstate, layout };
                    let backends = args.backend.iter().enumerate().filter(|(_, backend)| backend.has(op));
                    tasks.extend(backends.map(|(subject, &backend)| Task { backend, subject, op, direction, shape }));
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

fn measure<T: Io>(task: Task, args: &BenchArgs, subject: &Subject) -> Result<Row> {
    let Task { op, direction, shape, .. } = task;
    let (case, work) = (Case::<T>::new(op, shape)?, Work::new(op, direction, &shape, T::DTYPE));
    let (placed, threads, stopwatch) = (subject.place(&case, &work)?, subject.threads(), subject.stopwatch());
    let mut runners = vec![placed.runner(&task, threads)?];
    let (dtype, variant) = (args.dtype, subject.variant());
    let Some(machine) = subject.machine() else {
        stopwatch.once(&mut runners[0])?;
        return Ok(Row {
            task,
            variant,
            dtype,
            threads,
            reps: 1,
            work,
            ours: None,
            o3: None,
            fast_math: None,
            share: None,
        });
    };
    let mut loops = if args.no_loops { vec![] } else { loops::runners(op, direction, &case)? };
    let (times, reps) = match stopwatch {
        Stopwatch::Host => {
            runners.append(&mut loops);
            measure::interleaved(&mut runners, stopwatch, args.reps)?
        }
        // Between the loops a device would cool down, and other processes do not slow it.
        #[cfg(feature = "cuda")]
        Stopwatch::Device(_) => {
            let (mut times, reps) = measure::interleaved(&mut runners, stopwatch, args.reps)?;
            times.extend(measure::interleaved(&mut loops, Stopwatch::Host, args.reps)?.0);
            (times, reps)
        }
    };
    let ours = times[0];
    let [o3, fast_math] = [1, 2].map(|i| times.get(i).and_then(|times| times.cpu));
    let share = Some(machine.floor(&work) / taken(&ours, threads));
    Ok(Row { task, variant, dtype, threads, reps, work, ours: Some(ours), o3, fast_math, share })
}
