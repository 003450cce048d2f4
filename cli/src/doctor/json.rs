//! The report for machines. Numbers that are not finite are null.

use super::case::{Place, Seen};
use super::errors::{ChannelError, RESULTS};
use super::histogram::Histogram;
use super::plans::Planned;
use super::ranges::{Flagged, Range};
use super::report::{Report, Source};
use super::text::distribution;
use serde_json::{Map, Value, json};
use ssm_kernels::ops::selective_scan::Dims;

/// All of it, every channel included.
pub(super) fn json(report: &Report<'_>) -> String {
    let Dims { batch, dim, seqlen, dstate, nseqs, .. } = report.case.dims;
    let options = report.case.options;
    let value = json!({
        "op": "selective_scan",
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
        "nonfinite": report.sources.iter().map(source).collect::<Vec<_>>(),
        "errors": errors(report),
        "delta": delta(report),
        "horizon": horizon(report),
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
    let Place { step, seq, channel, batch, time } = place;
    json!({"batch": batch, "channel": channel, "time": time, "sequence": seq, "step": step})
}

fn seen(seen: &Seen) -> Value {
    json!({"count": seen.count, "first": seen.first.map(place)})
}

fn range(range: &Range) -> Value {
    let flagged = |flagged: &Flagged| {
        let first = range.index(flagged).map(|index| {
            index.into_iter().map(|(name, i)| (name.to_string(), i.into())).collect::<Map<String, Value>>()
        });
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

fn source(source: &Source) -> Value {
    let found = &source.nonfinite;
    let cause = source.cause.as_ref().map(|cause| {
        let trail = cause.trail.iter().map(|(step, h)| json!({"step": step, "state": h}));
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
    let first_state =
        found.first_state.map(|[seq, channel, n]| json!({"sequence": seq, "channel": channel, "state": n}));
    json!({
        "dtype": source.name(),
        "out": seen(&found.out),
        "final_state": {"count": found.final_state, "first": first_state},
        "channels": found.channels,
        "cause": cause,
    })
}

fn errors(report: &Report<'_>) -> Vec<Value> {
    let mut errors = vec![];
    for (i, dtype) in report.dtypes.iter().enumerate() {
        for (which, name) in RESULTS.iter().enumerate() {
            let all = || report.channels.iter().map(|channel| &channel.errors[i][which]);
            let largest = |of: fn(&ChannelError) -> f64| all().map(of).fold(0.0, f64::max);
            let [median, ninety, worst] = distribution(all().map(ChannelError::share));
            let (judged, verdict) = (&report.judged[i], &report.judged[i].verdicts[which]);
            errors.push(json!({
                "result": name,
                "dtype": dtype.name(),
                "largest": largest(|one| one.error),
                "inputs": largest(|one| one.inputs),
                "kernel": largest(|one| one.kernel),
                "share": {"median": median, "ninety_percent": ninety, "largest": worst},
                "lost": all().map(|one| one.lost).sum::<u64>(),
                "rule": {
                    "holds": verdict.failure.is_none(),
                    "share_of_allowed": verdict.share,
                    "channels_judged": judged.channels.len(),
                },
                "channels": all().map(|one| channel(one, which)).collect::<Vec<_>>(),
            }));
        }
    }
    errors
}

/// The place by the names of the result's dimensions.
fn channel(one: &ChannelError, which: usize) -> Value {
    let [outer, inner] = [["batch", "time"], ["sequence", "state"]][which];
    json!({
        "error": one.error,
        "share": one.share(),
        "inputs": one.inputs,
        "kernel": one.kernel,
        "truth": one.truth,
        "lost": one.lost,
        "at": one.at.map(|[row, i]| json!({outer: row, inner: i})),
    })
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
