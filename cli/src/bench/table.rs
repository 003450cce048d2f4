//! The measurements as text.

use super::Row;
use super::roofline::Machine;
use ssm_baseline::HAS_CPU_CLOCK;

const HEADER: [&str; 14] = [
    "op",
    "direction",
    "backend",
    "dtype",
    "layout",
    "shape",
    "reps",
    "cpu ns",
    "wall ns",
    "GB/s",
    "roofline",
    "-O3 ns",
    "fast ns",
    "vs fast",
];
/// The first columns are words, and stand on the left.
const WORDS: usize = 6;

/// What the machine can do, and a line for each measurement.
pub fn text(machine: &Machine, threads: u16, rows: &[Row]) -> String {
    let (peak, bandwidth) = (machine.operations / 1e9, machine.bandwidth / 1e9);
    let threads = if threads == 1 { "1 thread".into() } else { format!("{threads} threads") };
    let mut text = format!("{threads}: {peak:.1} G multiply-add lanes/s, copy {bandwidth:.1} GB/s\n");
    if !HAS_CPU_CLOCK {
        text += "this system has no CPU clock: cpu is wall time\n";
    }
    if ssm_baseline::loops().is_empty() {
        text += "built without a C compiler: no C loops beside the backend\n";
    }
    text += "ns per state step, of a convolution per step of a channel; fast: the C loops with -ffast-math; vs fast: their CPU time over the backend's\n\n";
    let mut lines = vec![HEADER.map(String::from)];
    lines.extend(rows.iter().map(cells));
    let widths: [usize; 14] = std::array::from_fn(|i| lines.iter().map(|line| line[i].len()).max().unwrap_or(0));
    for line in lines {
        let aligned = line.iter().zip(widths).enumerate().map(|(i, (cell, width))| match i < WORDS {
            true => format!("{cell:<width$}"),
            false => format!("{cell:>width$}"),
        });
        text += aligned.collect::<Vec<_>>().join("  ").trim_end();
        text += "\n";
    }
    text
}

fn cells(row: &Row) -> [String; 14] {
    let number = |value: f64| format!("{value:.3}");
    let optional = |value: Option<f64>| value.map_or("-".into(), |seconds| number(row.per_step(seconds)));
    let task = &row.task;
    [
        task.op.to_string(),
        task.direction.name().into(),
        task.backend.to_string(),
        row.dtype.to_string(),
        task.layout().into(),
        task.extents().to_string(),
        row.reps.to_string(),
        number(row.per_step(row.ours.cpu)),
        number(row.per_step(row.ours.wall)),
        format!("{:.2}", row.work.bytes / row.time() / 1e9),
        format!("{:.1} %", row.share * 100.0),
        optional(row.o3),
        optional(row.fast_math),
        row.fast_math.map_or("-".into(), |seconds| format!("{:.2}", seconds / row.ours.cpu.max(1e-9))),
    ]
}
