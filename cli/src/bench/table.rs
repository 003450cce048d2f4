//! The measurements as text.

use super::Row;
use super::subject::Subject;
use ssm_baseline::HAS_CPU_CLOCK;

const HEADER: [&str; 15] = [
    "op",
    "direction",
    "backend",
    "dtype",
    "layout",
    "shape",
    "reps",
    "cpu ns",
    "wall ns",
    "device ns",
    "GB/s",
    "roofline",
    "-O3 ns",
    "fast ns",
    "vs fast",
];
/// The first columns are words, and stand on the left.
const WORDS: usize = 6;

/// What the machines can do, and a line for each measurement.
pub fn text(subjects: &[Subject], rows: &[Row]) -> String {
    let mut text: String = subjects.iter().map(Subject::text).collect();
    if !HAS_CPU_CLOCK {
        text += "this system has no CPU clock: cpu is wall time\n";
    }
    if ssm_baseline::loops().is_empty() {
        text += "built without a C compiler: no C loops beside the backend\n";
    } else if ssm_baseline::has_foreign_loops() {
        text += "built for another CPU: no C loops with -ffast-math -march=native beside the backend\n";
    }
    text += "ns per state step, of convolution and attention per step of a channel; fast: the C loops with -ffast-math; vs fast: their CPU time over the backend's, or the device's time\n\n";
    let mut lines = vec![HEADER.map(String::from)];
    lines.extend(rows.iter().map(cells));
    let widths: [usize; 15] = std::array::from_fn(|i| lines.iter().map(|line| line[i].len()).max().unwrap_or(0));
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

fn cells(row: &Row) -> [String; 15] {
    let shown = |value: Option<String>| value.unwrap_or("-".into());
    let optional = |value: Option<f64>| shown(value.map(|seconds| format!("{:.3}", row.per_step(seconds))));
    let task = &row.task;
    [
        task.op.to_string(),
        task.direction.name().into(),
        task.backend.to_string(),
        row.dtype.to_string(),
        task.layout().into(),
        task.extents().to_string(),
        row.reps.to_string(),
        optional(row.ours.and_then(|times| times.cpu)),
        optional(row.ours.map(|times| times.wall)),
        optional(row.ours.and_then(|times| times.device)),
        shown(row.time().map(|time| format!("{:.2}", row.work.bytes / time / 1e9))),
        shown(row.share.map(|share| format!("{:.1} %", share * 100.0))),
        optional(row.o3),
        optional(row.fast_math),
        shown(row.fast_math.zip(row.own()).map(|(seconds, own)| format!("{:.2}", seconds / own.max(1e-9)))),
    ]
}
