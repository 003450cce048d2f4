//! The report for machines. Numbers that are not finite are null.

use super::case::{Place, Seen};
use super::errors::{UnitError, dtype};
use super::growth::Growth;
use super::histogram::Histogram;
use super::plans::Planned;
use super::ranges::{Flagged, Range};
use super::report::{Report, Source};
use super::results::{Axes, Kind};
use super::text::distribution;
use serde_json::{Map, Value, json};
use ssm_kernels::ops::selective_scan::Dims;

/// All of it, every channel included.
pub(super) fn json(report: &Report<'_>) -> String {
    let Dims { batch, dim, seqlen, dstate, nseqs, .. } = report.case.dims;
    let options = report.case.options;
    let value = json!({
        "op": "selective_scan",
        "direction": if report.case.upstream.is_some() { "backward" } else { "forward" },
        "dtype": report.case.dtype.name(),
        "batch": batch,
        "dim": dim,
        "seqlen": seqlen,
        "dstate": dstate,
        "nseqs": nseqs,
        "dt_softplus": options.dt_softplus,
        "dt_limit": options.dt_limit.map(|(min, max)| [min, max]),
        "reverse": options.reverse,
        "healthy": report.is_healthy(),
        "findings": findings(report),
        "inputs": report.ranges.iter().map(range).collect::<Vec<_>>(),
        "nonfinite": report.sources.iter().map(|one| source(report, one)).collect::<Vec<_>>(),
        "errors": errors(report),
        "delta": delta(report),
        "horizon": horizon(report),
        "growth": report.growth.as_ref().map(growth),
        "plans": report.plans.iter().flat_map(|plans| &plans.planned).map(planned).collect::<Vec<_>>(),
        "refused_plans": report.plans.iter().flat_map(|plans| &plans.refused).collect::<Vec<_>>(),
    });
    format!("{value:#}\n")
}

fn findings(report: &Report<'_>) -> Vec<Value> {
    let finding = |finding: &super::findings::Finding| {
        json!({
            "severity": finding.severity.name(),
            "kind": finding.kind,
            "text": finding.text,
            "count": finding.count,
            "first": finding.first.map(place),
        })
    };
    report.findings.iter().map(finding).collect()
}

fn place(place: Place) -> Value {
    let Place { step, seq, channel, batch, time, .. } = place;
    json!({"batch": batch, "channel": channel, "time": time, "sequence": seq, "step": step})
}

fn seen(seen: &Seen) -> Value {
    json!({"count": seen.count, "first": seen.first.map(place)})
}

fn range(range: &Range) -> Value {
    let flagged = |flagged: &Flagged| {
        let first = range.index(flagged).map(named);
        json!({"count": flagged.count, "first": first})
    };
    let conversion = |one: &super::ranges::Conversion| json!({"dtype": one.dtype.name(), "overflow": flagged(&one.overflow), "underflow": flagged(&one.underflow)});
    json!({
        "tensor": range.name,
        "dtype": range.dtype.name(),
        "shape": range.shape,
        "smallest": range.extremes.map(|[low, _]| low),
        "largest": range.extremes.map(|[_, high]| high),
        "nonfinite": flagged(&range.nonfinite),
        "conversions": range.conversions.iter().map(conversion).collect::<Vec<_>>(),
    })
}

fn named(names: impl IntoIterator<Item = (&'static str, usize)>) -> Value {
    names.into_iter().map(|(name, i)| (name.to_string(), i.into())).collect::<Map<String, Value>>().into()
}

fn source(report: &Report<'_>, source: &Source) -> Value {
    let (case, found) = (report.case, &source.nonfinite);
    let trailed = if case.upstream.is_some() { "dh" } else { "state" };
    let cause = source.cause.as_ref().map(|cause| {
        let trail = cause.trail.iter().map(|(step, h)| json!({"step": step, trailed: h}));
        json!({
            "kind": cause.kind,
            "tensor": cause.tensor,
            "step": cause.step.map(|[step, _]| step),
            "time": cause.step.map(|[_, time]| time),
            "state": cause.state,
            "text": cause.text,
            "trail": trail.collect::<Vec<_>>(),
        })
    });
    let mut value = json!({
        "dtype": source.name(),
        "result": found.first(&case.results).map(|(which, _)| case.results[which].name),
        "channels": found.channels,
        "cause": cause,
    });
    for (kind, lost) in case.results.iter().zip(&found.lost) {
        let first = lost.first.map(|spot| match kind.axes {
            Axes::Sequence => place(case.visited(spot.row, spot.unit, spot.element)),
            _ => named(kind.names(spot.row, spot.element).into_iter().chain([(kind.unit(), spot.unit)])),
        });
        value[kind.name] = json!({"count": lost.count, "first": first});
    }
    value
}

fn errors(report: &Report<'_>) -> Vec<Value> {
    let mut errors = vec![];
    for (i, &of_call) in report.dtypes.iter().enumerate() {
        for (which, kind) in report.case.results.iter().enumerate() {
            let all = &report.errors[i][which];
            let largest = |of: fn(&UnitError) -> f64| all.iter().map(of).fold(0.0, f64::max);
            let [median, ninety, worst] = distribution(all.iter().map(UnitError::share));
            let (judged, verdict) = (&report.judged[i], &report.judged[i].verdicts[which]);
            let held = report.held(i, which);
            let mut value = json!({
                "result": kind.name,
                "dtype": of_call.name(),
                "largest": largest(|one| one.error),
                "inputs": largest(|one| one.inputs),
                "kernel": largest(|one| one.kernel),
                "share": {"median": median, "ninety_percent": ninety, "largest": worst},
                "lost": all.iter().map(|one| one.lost).sum::<u64>(),
                "range": {
                    "stored": dtype(kind, of_call).name(),
                    "elements": held.all,
                    "zero": held.zero,
                    "subnormal": held.subnormal,
                    "beyond": held.beyond,
                    "largest": held.largest,
                    "room_log2": held.room(dtype(kind, of_call)),
                },
                "rule": {
                    "holds": verdict.failure.is_none(),
                    "share_of_allowed": verdict.share,
                    "channels_judged": judged.channels.len(),
                },
            });
            value[format!("{}s", kind.unit())] = all.iter().map(|one| unit(kind, one)).collect();
            errors.push(value);
        }
    }
    errors
}

/// The place by the names of the result's dimensions.
fn unit(kind: &Kind, one: &UnitError) -> Value {
    json!({
        "error": one.error,
        "share": one.share(),
        "inputs": one.inputs,
        "inputs_truth": one.scale,
        "kernel": one.kernel,
        "truth": one.truth,
        "lost": one.lost,
        "at": one.at.map(|[row, i]| named(kind.names(row, i))),
    })
}

fn growth(growth: &Growth) -> Value {
    let row = |row: &super::growth::Row| {
        json!({
            "steps_from_end": row.distance,
            "count": row.count,
            "nonfinite": row.nonfinite,
            "largest": row.largest,
            "mean": row.mean(),
            "carried": row.carried,
            "arriving_largest": row.arriving.largest,
            "arriving_median": row.arriving.quantile(0.5),
        })
    };
    growth.rows.iter().map(row).collect()
}

fn histogram(histogram: &Histogram) -> Value {
    let row = |row: &super::histogram::Row| json!({"from": row.from, "to": row.to, "count": row.count});
    json!({
        "count": histogram.count(),
        "smallest": histogram.smallest,
        "largest": histogram.largest,
        "quantiles": {
            "0.01": histogram.quantile(0.01),
            "0.1": histogram.quantile(0.1),
            "0.5": histogram.quantile(0.5),
            "0.9": histogram.quantile(0.9),
            "0.99": histogram.quantile(0.99),
        },
        "bins": histogram.rows().iter().map(row).collect::<Vec<_>>(),
    })
}

fn delta(report: &Report<'_>) -> Value {
    let survey = &report.survey;
    json!({
        "steps": survey.steps,
        "positive": histogram(&survey.delta),
        "nonfinite": seen(&survey.nonfinite),
        "negative": seen(&survey.negative),
        "zero": seen(&survey.zero),
        "linear": seen(&survey.linear),
        "at_min": seen(&survey.at_min),
        "at_max": seen(&survey.at_max),
    })
}

fn horizon(report: &Report<'_>) -> Value {
    let (survey, memory) = (&report.survey, &report.memory);
    json!({
        "steps_of_states": survey.pairs,
        "decaying": histogram(&survey.horizon),
        "growing": seen(&survey.growing),
        "staying": seen(&survey.staying),
        "one_in_f32": seen(&survey.one_in_f32),
        "one_in_bf16": seen(&survey.one_in_bf16),
        "pairs": memory.pairs,
        "pairs_beyond_sequence": memory.beyond_sequence,
        "pairs_below_a_step": memory.below_a_step,
        "pairs_growing": memory.growing,
    })
}

fn planned(planned: &Planned) -> Value {
    let launch = |launch: &super::plans::Launched| {
        json!({
            "kernel": launch.kernel,
            "blocks": launch.grid,
            "threads": launch.threads,
            "shared_bytes": launch.shared_bytes,
        })
    };
    let plan = &planned.plan;
    json!({
        "backend": planned.backend,
        "direction": planned.direction,
        "dtype": planned.dtype.name(),
        "kernel": plan.kernel,
        "lanes": plan.lanes,
        "split": plan.split,
        "part": plan.part,
        "workspace_bytes": plan.workspace_bytes,
        "checkpoint_every": plan.checkpoint_every,
        "checkpoint_bytes": planned.checkpoint_bytes,
        "launches": planned.launches.iter().map(launch).collect::<Vec<_>>(),
    })
}
