//! Errors by result and dtype, and what the dtypes hold of the results.

use super::{number, percent, short, table, wrapped};
use crate::doctor::errors::{UnitError, dtype};
use crate::doctor::report::Report;

/// Median, nine tenths and largest of shares.
pub(in crate::doctor) fn distribution(shares: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut shares: Vec<f64> = shares.collect();
    shares.sort_by(f64::total_cmp);
    // The smallest below which, itself included, that share of all lies.
    let rank = |share: f64| ((share * shares.len() as f64).ceil() as usize).saturating_sub(1);
    [0.5, 0.9, 1.0].map(|share| shares.get(rank(share)).copied().unwrap_or(0.0))
}

pub(super) fn errors(report: &Report<'_>, listed: usize) -> String {
    let mut text = String::from("\nerrors of the cpu backend\n");
    text += &wrapped(
        "  ",
        "Of a channel (of a group where a result has groups): the largest distance from f64 on the inputs as the file \
         stores them, and what makes it: the rounding of the inputs to the dtype, and the kernel (on the rounded inputs; f32 \
         arithmetic, rounding of the result). Shares are of the channel's largest |truth|. Allowed: by the accuracy rule, of \
         the kernel's.",
    );
    let header = ["result", "dtype", "largest", "inputs", "kernel", "median", "90 %", "worst", "lost", "allowed"];
    let mut rows = vec![];
    for (i, of_call) in report.dtypes.iter().enumerate() {
        for (which, kind) in report.case.results.iter().enumerate() {
            let all = &report.errors[i][which];
            let largest = |of: fn(&UnitError) -> f64| short(all.iter().map(of).fold(0.0, f64::max));
            let mut row = vec![kind.name.to_string(), of_call.to_string()];
            row.extend([largest(|one| one.error), largest(|one| one.inputs), largest(|one| one.kernel)]);
            row.extend(distribution(all.iter().map(UnitError::share)).map(percent));
            row.push(number(all.iter().map(|one| one.lost).sum()));
            row.push(allowed(report, i, which));
            rows.push(row);
        }
    }
    text += &table(&header, &rows, 2);
    for (dtype, judged) in report.dtypes.iter().zip(&report.judged) {
        if judged.channels.len() < report.case.dims.dim {
            let said = format!("{dtype}: judged on the {} channels that err most.", judged.channels.len());
            text += &wrapped("  ", &said);
        }
    }
    if listed > 0 {
        text += &worst(report, listed);
    }
    text + &held(report)
}

fn allowed(report: &Report<'_>, i: usize, which: usize) -> String {
    let verdict = &report.judged[i].verdicts[which];
    let word = if verdict.failure.is_some() { " FAIL" } else { "" };
    format!("{:.1} %{word}", 100.0 * verdict.share)
}

/// The worst channels or groups, by share, over all results.
fn worst(report: &Report<'_>, listed: usize) -> String {
    let header = ["dtype", "result", "channel", "error", "of |truth|", "inputs", "kernel", "|truth|", "at"];
    let mut rows = vec![];
    for (i, dtype) in report.dtypes.iter().enumerate() {
        let all = report.errors[i].iter().enumerate();
        let mut ranked: Vec<(usize, usize)> =
            all.flat_map(|(which, errors)| (0..errors.len()).map(move |unit| (which, unit))).collect();
        ranked.retain(|&(which, unit)| report.errors[i][which][unit].error > 0.0);
        let share = |&(which, unit): &(usize, usize)| report.errors[i][which][unit].share();
        ranked.sort_by(|a, b| share(b).total_cmp(&share(a)));
        for (which, unit) in ranked.into_iter().take(listed) {
            let (kind, one) = (&report.case.results[which], &report.errors[i][which][unit]);
            let unit = if kind.is_shared() { format!("group {unit}") } else { unit.to_string() };
            let mut row = vec![dtype.to_string(), kind.name.into(), unit, short(one.error), percent(one.share())];
            row.extend([one.inputs, one.kernel, one.truth].map(short));
            let names = one.at.map(|[row, element]| kind.names(row, element)).unwrap_or_default();
            row.push(names.iter().map(|(name, i)| format!("{} {i}", letter(name))).collect::<Vec<_>>().join(" "));
            rows.push(row);
        }
    }
    format!("\nworst channels (at: b batch, q sequence, n state, t time)\n{}", table(&header, &rows, 2))
}

/// For a dimension, where there is no room.
fn letter(name: &str) -> &'static str {
    match name {
        "batch" => "b",
        "sequence" => "q",
        "state" => "n",
        _ => "t",
    }
}

/// What the dtypes hold.
fn held(report: &Report<'_>) -> String {
    let title = "results beside the range of their dtype (elements that are finite and not 0 in f64; room: all may be \
                 2^room times as large)";
    let header = ["result", "dtype", "stored", "elements", "is 0", "subnormal", "beyond", "largest", "room"];
    let mut rows = vec![];
    for (i, &of_call) in report.dtypes.iter().enumerate() {
        for (which, kind) in report.case.results.iter().enumerate() {
            let (held, stored) = (report.held(i, which), dtype(kind, of_call));
            let mut row = vec![kind.name.to_string(), of_call.to_string(), stored.to_string()];
            row.extend([held.all, held.zero, held.subnormal, held.beyond].map(number));
            row.push(short(held.largest));
            row.push(held.room(stored).map_or("-".into(), |room| room.to_string()));
            rows.push(row);
        }
    }
    format!("\n{}{}", wrapped("", title), table(&header, &rows, 3))
}
