//! The measurements as a picture: a group of bars for each, CPU time or a device's per state step.

use super::Row;
use crate::error::{CliError, Result};
use plotters::prelude::*;

const BAR: i32 = 14;
const GAP: i32 = 16;
const TOP: i32 = 60;
const LABELS: i32 = 420;
const PLOT: i32 = 560;
const NUMBERS: i32 = 100;
const COLOURS: [RGBColor; 3] = [RGBColor(31, 119, 180), RGBColor(190, 190, 190), RGBColor(120, 120, 120)];
const NAMES: [&str; 3] = ["backend", "C, -O3", "C, -O3 -ffast-math -march=native"];

/// An SVG document.
pub fn svg(rows: &[Row]) -> Result<String> {
    let bars: Vec<[Option<f64>; 3]> = rows
        .iter()
        .map(|row| [row.own(), row.o3, row.fast_math].map(|time| time.map(|seconds| row.per_step(seconds))))
        .collect();
    let longest = bars.iter().flatten().flatten().fold(1e-9f64, |longest, &time| longest.max(time));
    let group = 3 * BAR + GAP;
    let height = i32::try_from(rows.len()).ok().and_then(|rows| rows.checked_mul(group)?.checked_add(TOP + GAP));
    let height = height.ok_or_else(|| CliError::new("too many measurements for a picture"))?;
    let size = ((LABELS + PLOT + NUMBERS) as u32, height as u32);
    let mut document = String::new();
    let root = SVGBackend::with_string(&mut document, size).into_drawing_area();
    let failed = |error: &dyn std::fmt::Display| CliError::new(format!("the picture: {error}"));
    root.fill(&WHITE).map_err(|error| failed(&error))?;
    let text = |text: String, at: (i32, i32)| {
        root.draw(&Text::new(text, at, ("sans-serif", 13).into_font())).map_err(|error| failed(&error))
    };
    let bar = |from: (i32, i32), to: (i32, i32), colour: RGBColor| {
        root.draw(&Rectangle::new([from, to], colour.filled())).map_err(|error| failed(&error))
    };
    text("CPU time, or a device's own, per state step, ns (shorter is better)".into(), (10, 8))?;
    for (i, name) in NAMES.into_iter().enumerate() {
        let left = 10 + 180 * i as i32;
        bar((left, 32), (left + 10, 42), COLOURS[i])?;
        text(name.into(), (left + 15, 30))?;
    }
    for (i, (row, times)) in rows.iter().zip(&bars).enumerate() {
        let top = TOP + i as i32 * group;
        text(label(row), (10, top + BAR))?;
        for (k, time) in times.iter().enumerate() {
            let Some(time) = time else { continue };
            let (top, length) = (top + k as i32 * BAR, (f64::from(PLOT) * time / longest) as i32);
            bar((LABELS, top), (LABELS + length.max(1), top + BAR - 2), COLOURS[k])?;
            text(format!("{time:.3}"), (LABELS + length + 5, top))?;
        }
    }
    root.present().map_err(|error| failed(&error))?;
    drop(root);
    Ok(document)
}

fn label(row: &Row) -> String {
    let (task, threads) = (&row.task, row.threads);
    let (op, way, backend) = (task.op, task.direction.name(), task.backend);
    let (dtype, layout, shape) = (row.dtype, task.layout(), task.extents());
    let threads = threads.filter(|&n| n > 1).map_or(String::new(), |n| format!(", {n} threads"));
    format!("{op} {way}, {backend} {dtype}, {layout}, {shape}{threads}")
}
