//! The report for people.

mod errors;

pub(super) use errors::distribution;

use super::growth::{Growth, Row};
use super::histogram::Histogram;
use super::plans::Launched;
use super::ranges::{Conversion, Range};
use super::report::{Report, Source};
use super::trace::Cause;
use ssm_kernels::Dtype;
use ssm_kernels::ops::selective_scan::Dims;

/// Of a histogram's longest bar, and of lines of words.
const BAR: usize = 40;
const WIDTH: usize = 98;

/// All of it; `listed`: how many of the worst channels.
pub(super) fn text(report: &Report<'_>, listed: usize) -> String {
    let mut text = call(report);
    text += "\nfindings\n";
    if report.findings.is_empty() {
        text += "  none\n";
    }
    for finding in &report.findings {
        text += &wrapped(&format!("  {:<9}", finding.severity.name()), &finding.text);
    }
    text += &ranges(report);
    text += &first_nonfinite(report);
    text += &errors::errors(report, listed);
    report.growth.iter().for_each(|of| text += &growth(of));
    text += &memory(report);
    text += &plans(report);
    text
}

fn call(report: &Report<'_>) -> String {
    let Dims { batch, dim, seqlen, dstate, nseqs, .. } = report.case.dims;
    let options = report.case.options;
    let limit = options.dt_limit.map_or("none".into(), |(min, max)| format!("[{min:?}, {max:?}]"));
    let direction = if report.case.upstream.is_some() { ", backward" } else { "" };
    format!(
        "selective_scan{direction}, dtype {}\nbatch {batch}, dim {dim}, seqlen {seqlen}, dstate {dstate}, nseqs {nseqs}\n\
         dt_softplus {}, dt_limit {limit}, reverse {}\n",
        report.case.dtype, options.dt_softplus, options.reverse
    )
}

/// Words in lines of the width, the later ones under the first.
fn wrapped(lead: &str, words: &str) -> String {
    let (mut text, mut line) = (String::new(), lead.to_string());
    let mut empty = true;
    for word in words.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            text += line.trim_end();
            text.push('\n');
            (line, empty) = (" ".repeat(lead.len()), true);
        }
        if !empty {
            line.push(' ');
        }
        line += word;
        empty = false;
    }
    text + line.trim_end() + "\n"
}

/// Rows under a header, columns aligned: words on the left, numbers on the right.
fn table(header: &[&str], rows: &[Vec<String>], words: usize) -> String {
    let header: Vec<String> = header.iter().map(ToString::to_string).collect();
    let all = || std::iter::once(&header).chain(rows);
    let widths: Vec<usize> =
        (0..header.len()).map(|i| all().map(|row| row[i].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in all() {
        let cells = row.iter().zip(&widths).enumerate().map(|(i, (cell, &width))| match i < words {
            true => format!("{cell:<width$}"),
            false => format!("{cell:>width$}"),
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        text += &format!("  {}\n", line.trim_end());
    }
    text
}

/// Three digits.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        0.001..1.0 => format!("{value:.*}", (2 - value.abs().log10().floor() as i32) as usize),
        1.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        100.0..10_000.0 => format!("{value:.0}"),
        _ => format!("{value:.2e}"),
    }
}

/// A count, to three digits where it is long.
fn number(count: u64) -> String {
    if count < 100_000 { count.to_string() } else { short(count as f64) }
}

fn percent(share: f64) -> String {
    match share {
        0.0 => "0".into(),
        share if share < 0.0001 => format!("{:.1e} %", share * 100.0),
        share => format!("{:.2} %", share * 100.0),
    }
}

fn ranges(report: &Report<'_>) -> String {
    let tried = &report.dtypes;
    let mut header = vec!["tensor".to_string(), "dtype".into(), "shape".into(), "smallest".into(), "largest".into()];
    header.push("non-finite".into());
    header.extend(tried.iter().map(Dtype::to_string));
    let row = |range: &Range| {
        let shape = range.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("x");
        let mut row = vec![range.name.to_string(), range.dtype.to_string(), shape];
        row.extend((0..2).map(|i| range.extremes.map_or("-".into(), |ends| short(ends[i].into()))));
        row.push(number(range.nonfinite.count));
        let of = |dtype: &Dtype| range.conversions.iter().find(|conversion| conversion.dtype == *dtype);
        let counts = |one: &Conversion| format!("{} / {}", number(one.overflow.count), number(one.underflow.count));
        row.extend(tried.iter().map(|dtype| of(dtype).map_or("-".into(), counts)));
        row
    };
    let rows: Vec<Vec<String>> = report.ranges.iter().map(row).collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let title = "inputs (under a dtype: elements beyond its largest / not 0 in the file, and 0 or subnormal there)";
    format!("\n{title}\n{}", table(&header, &rows, 3))
}

fn first_nonfinite(report: &Report<'_>) -> String {
    let (results, back) = (&report.case.results, report.case.upstream.is_some());
    let order = if back { "counted from the end of the sequences, as they are computed" } else { "in scan order" };
    let mut text = format!("\nfirst that is not finite, {order}\n");
    for same in report.sources.chunk_by(Source::is_like) {
        let Source { nonfinite, cause, .. } = &same[0];
        let name = same.iter().map(Source::name).collect::<Vec<_>>().join(", ");
        let Some((which, spot)) = nonfinite.first(results) else {
            text += &format!("  {name}: none\n");
            continue;
        };
        text += &format!("  {name}: {} at {}\n", results[which].name, results[which].place(report.case, &spot));
        cause.iter().for_each(|cause| text += &explained(cause, back));
        let lost = results.iter().zip(&nonfinite.lost).filter(|(_, lost)| back && lost.count > 0);
        let lost: Vec<String> = lost.map(|(kind, lost)| format!("{} {}", lost.count, kind.name)).collect();
        if back {
            text += &wrapped("       ", &format!("elements that are not finite: {}", lost.join(", ")));
        }
    }
    text
}

fn growth(growth: &Growth) -> String {
    let mut text = String::from("\ngradient by the state, from the end of the sequences (f64)\n");
    text += &wrapped(
        "  ",
        "|dh| is that by the state after the step; carried: what later steps leave of it. Arriving: of the gradient by the \
         last state, exp(sum of delta A); largest and median over (sequence, channel, state).",
    );
    let header = ["steps from end", "largest |dh|", "mean |dh|", "carried", "arriving", "median", "non-finite"];
    let row = |row: &Row| {
        let arriving = [Some(row.arriving.largest), row.arriving.quantile(0.5)];
        let mut cells = vec![row.distance.to_string()];
        cells.extend([row.largest, row.mean(), row.carried].map(short));
        cells.extend(arriving.map(|share| share.map_or("-".into(), short)));
        cells.push(number(row.nonfinite));
        cells
    };
    text + &table(&header, &growth.rows.iter().map(row).collect::<Vec<_>>(), 0)
}

fn explained(cause: &Cause, back: bool) -> String {
    let at = cause.step.map_or(String::new(), |[step, time]| format!(" at time {time}, step {step}"));
    let mut text = wrapped("       ", &format!("cause{at}: {}", cause.text));
    if !cause.trail.is_empty() {
        let steps: Vec<String> = cause.trail.iter().map(|(step, h)| format!("{} at step {step}", short(*h))).collect();
        let trailed = if back { "|dh| at later steps" } else { "|h| before" };
        text += &wrapped("       ", &format!("{trailed}: {}", steps.join(", ")));
    }
    text
}

fn memory(report: &Report<'_>) -> String {
    let (survey, memory) = (&report.survey, &report.memory);
    let mut text = String::from("\ndelta (after bias, softplus and limit), steps\n");
    text += &bars(&survey.delta);
    text += "\ndecay horizon 1/(delta |A|) in time steps, (batch, channel, state, time) that decay\n";
    text += &bars(&survey.horizon);
    if survey.growing.count > 0 {
        text += &format!("  growing (delta A > 0): {}\n", survey.growing.count);
    }
    if survey.staying.count > 0 {
        text += &format!("  staying (delta A = 0): {}\n", survey.staying.count);
    }
    let share = |count: u64| percent(count as f64 / memory.pairs.max(1) as f64);
    text + &wrapped(
        "  ",
        &format!(
            "of {} (channel, state) pairs, by their mean over all steps: {} below one step, {} beyond the longest sequence \
             ({} steps), {} growing",
            memory.pairs,
            share(memory.below_a_step),
            share(memory.beyond_sequence),
            report.case.longest(),
            share(memory.growing)
        ),
    )
}

fn bars(histogram: &Histogram) -> String {
    let (rows, all) = (histogram.rows(), histogram.count());
    let Some(most) = rows.iter().map(|row| row.count).max() else { return "  none\n".into() };
    let mut text = String::new();
    for row in &rows {
        // Whatever is there has a bar.
        let bar = (row.count as f64 / most as f64 * BAR as f64).ceil() as usize;
        let share = percent(row.count as f64 / all as f64);
        text += &format!("  {:>8} to {:>8} {share:>10}  {}", short(row.from), short(row.to), "#".repeat(bar));
        text = text.trim_end().to_string() + "\n";
    }
    let quantile = |share: f64| histogram.quantile(share).map_or("-".into(), short);
    let [low, one, median, ninety, high] =
        [short(histogram.smallest), quantile(0.01), quantile(0.5), quantile(0.99), short(histogram.largest)];
    text + &format!("  smallest {low}, 1 % {one}, median {median}, 99 % {ninety}, largest {high}, of {all}\n")
}

fn plans(report: &Report<'_>) -> String {
    let mut text =
        String::from("\nplans (bytes of workspace, and of the checkpoints that forward saves for backward)\n");
    let header = ["backend", "direction", "dtype", "lanes", "split", "part", "workspace", "checkpoints", "every"];
    let all = || report.plans.iter().flat_map(|plans| &plans.planned);
    let rows = all().map(|planned| {
        let plan = &planned.plan;
        let mut row = vec![planned.backend.to_string(), planned.direction.into(), planned.dtype.to_string()];
        row.extend([plan.lanes, plan.split, plan.part, plan.workspace_bytes].map(|extent| extent.to_string()));
        row.extend([planned.checkpoint_bytes, plan.checkpoint_every].map(|extent| extent.to_string()));
        row
    });
    text += &table(&header, &rows.collect::<Vec<_>>(), 3);
    let mut rows: Vec<Vec<String>> = vec![];
    for planned in all() {
        for same in planned.launches.chunk_by(|a, b| a == b) {
            let Launched { kernel, grid, threads, shared_bytes } = &same[0];
            let mut row = vec![planned.direction.to_string(), planned.dtype.to_string(), kernel.clone()];
            row.push(same.len().to_string());
            row.push(grid.map(|blocks| blocks.to_string()).join("x"));
            row.extend([threads, shared_bytes].map(u32::to_string));
            rows.push(row);
        }
    }
    if rows.is_empty() {
        text += "  gpu: nothing is launched, or it is not in this build\n";
    } else {
        let header = ["direction", "dtype", "kernel of the gpu", "launches", "blocks", "threads", "shared"];
        text += &format!("\n{}", table(&header, &rows, 3));
    }
    report.plans.iter().flat_map(|plans| &plans.refused).for_each(|why| text += &wrapped("  ", why));
    text
}
