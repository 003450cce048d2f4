//! What is worth saying: each with how often and where first.

use super::case::{Place, Seen};
use super::errors::{Held, UnitError, dtype};
use super::ranges::Range;
use super::report::{Report, Source};
use super::results::Axes;
use super::trace::largest;
use ssm_kernels::reference::softplus;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// The exit status is 1.
    Error,
    /// Training may go wrong by it.
    Warning,
    /// To know.
    Note,
}

impl Severity {
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// One of them.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    pub severity: Severity,
    /// A word for machines.
    pub kind: &'static str,
    pub text: String,
    pub count: u64,
    /// Where, if it has a place in the scan.
    pub first: Option<Place>,
}

/// softplus(dt_bias) that is usual: from the floor of Mamba's initialisation (0.0001; it draws 0.001 to 0.1) to a decade
/// above what it draws.
const USUAL_STEP: [f64; 2] = [1e-4, 1.0];
/// Shares of the largest |truth| from which on the rounding of the inputs is a warning.
const ROUGH: f64 = 0.1;
/// Share of a result's elements from which on underflow is a warning.
const UNDERFLOW: f64 = 0.01;

/// All, the worst first.
pub(super) fn all(report: &Report<'_>) -> Vec<Finding> {
    let mut findings = vec![];
    report.ranges.iter().for_each(|range| of_range(range, &mut findings));
    of_nonfinite(report, &mut findings);
    of_errors(report, &mut findings);
    of_range_of_results(report, &mut findings);
    of_growth(report, &mut findings);
    of_parameters(report, &mut findings);
    of_steps(report, &mut findings);
    of_memory(report, &mut findings);
    findings.sort_by_key(|finding| finding.severity);
    findings
}

fn of_range(range: &Range, findings: &mut Vec<Finding>) {
    let name = range.name;
    let mut add = |severity, kind, count, text| findings.push(Finding { severity, kind, text, count, first: None });
    if range.nonfinite.count > 0 {
        let (count, place) = (range.nonfinite.count, range.place(&range.nonfinite));
        let text = format!("{name} in the file is not finite in {}, first {place}", elements(count));
        add(Severity::Error, "nonfinite_input", count, text);
    }
    for conversion in &range.conversions {
        let (dtype, overflow, underflow) = (conversion.dtype, &conversion.overflow, &conversion.underflow);
        if overflow.count > 0 {
            let (count, place) = (overflow.count, range.place(overflow));
            let beyond = format!("beyond {}, the largest {dtype}", largest(dtype));
            let text = format!("{name} is {beyond}, in {}, first {place}", elements(count));
            add(Severity::Warning, "overflow", count, text);
        }
        if underflow.count > 0 {
            let (count, place) = (underflow.count, range.place(underflow));
            let text = format!(
                "{name} is 0 or subnormal in {dtype}, and not 0 in the file, in {}, first {place}",
                elements(count)
            );
            add(Severity::Note, "underflow", count, text);
        }
    }
}

/// Of what is not finite, and why; once for sources that have the same.
fn of_nonfinite(report: &Report<'_>, findings: &mut Vec<Finding>) {
    let results = &report.case.results;
    for same in report.sources.chunk_by(Source::is_like) {
        let Source { nonfinite, cause, .. } = &same[0];
        let Some((which, spot)) = nonfinite.first(results) else { continue };
        let names = same.iter().map(Source::name).collect::<Vec<_>>().join(", ");
        let lost = results.iter().zip(&nonfinite.lost).filter(|(_, lost)| lost.count > 0);
        let lost: Vec<String> = lost.map(|(kind, lost)| format!("{} of {}", elements(lost.count), kind.name)).collect();
        let place = results[which].place(report.case, &spot);
        let of = if nonfinite.channels > 0 { format!(", in {}", channels(nonfinite.channels)) } else { String::new() };
        let cause = cause.as_ref().map(|cause| format!(": {}", cause.text)).unwrap_or_default();
        let text =
            format!("in {names} not finite: {}{of}, first {} {place}{cause}", lost.join(", "), results[which].name);
        let count = nonfinite.lost.iter().map(|lost| lost.count).sum();
        let timed = results[which].axes == Axes::Sequence;
        let first = timed.then(|| report.case.visited(spot.row, spot.unit, spot.element));
        findings.push(Finding { severity: Severity::Error, kind: "nonfinite", text, count, first });
    }
}

/// Of errors: the accuracy rule, and what rounding does.
fn of_errors(report: &Report<'_>, findings: &mut Vec<Finding>) {
    for (i, judged) in report.judged.iter().enumerate() {
        let dtype = report.dtypes[i];
        for (kind, verdict) in report.case.results.iter().zip(&judged.verdicts) {
            if let Some(failure) = &verdict.failure {
                let text = format!(
                    "{} in {dtype} breaks the accuracy rule: {:e} where f64 has {:e}, {:.1} times what is allowed",
                    kind.name, failure.got, failure.truth, verdict.share
                );
                findings.push(Finding { severity: Severity::Error, kind: "rule", text, count: 1, first: None });
            }
        }
        for (kind, errors) in report.case.results.iter().zip(&report.errors[i]) {
            let rough = |one: &&UnitError| one.inputs > ROUGH * one.scale;
            let Some(first) = errors.iter().position(|one| rough(&one)) else { continue };
            let count = errors.iter().filter(rough).count() as u64;
            let text = format!(
                "rounding the inputs to {dtype} alone changes {} by more than 10 % of the largest |truth| of its {unit} in \
                 {count} of {} {unit}s, first {unit} {first}",
                kind.name,
                kind.units,
                unit = kind.unit(),
            );
            findings.push(Finding { severity: Severity::Warning, kind: "rounding", text, count, first: None });
        }
    }
}

/// Of what is too large or too small for its dtype.
fn of_range_of_results(report: &Report<'_>, findings: &mut Vec<Finding>) {
    for (i, &of_call) in report.dtypes.iter().enumerate() {
        for (which, kind) in report.case.results.iter().enumerate() {
            let Held { all, zero, subnormal, beyond, .. } = report.held(i, which);
            if beyond > 0 {
                let stored = dtype(kind, of_call);
                let most = format!("beyond {}, the largest {stored}", largest(stored));
                let text = format!("{} in {of_call} is {most}, in {} that f64 holds", kind.name, elements(beyond));
                let severity = Severity::Warning;
                findings.push(Finding { severity, kind: "result_overflow", text, count: beyond, first: None });
            }
            let count = zero + subnormal;
            if count == 0 {
                continue;
            }
            let share = count as f64 / all as f64;
            let severity = if share > UNDERFLOW { Severity::Warning } else { Severity::Note };
            let asked = severity == Severity::Warning && report.case.upstream.is_some();
            let scale = report.room(i).filter(|_| asked).map(loss_scale);
            let text = format!(
                "{} in {of_call} is 0 in {zero} and subnormal in {subnormal} of the {all} elements that are not 0 in f64 \
                 ({:.2} %), as {}{}",
                kind.name,
                100.0 * share,
                dtype(kind, of_call),
                scale.unwrap_or_default()
            );
            findings.push(Finding { severity, kind: "result_underflow", text, count, first: None });
        }
    }
}

/// What a loss scale may do about gradients that are lost.
fn loss_scale(room: i32) -> String {
    match room {
        1.. => format!(
            "; with upstream gradients of 2^{room} times these, neither they nor any gradient would be beyond the range"
        ),
        0 => "; with upstream gradients of twice these, they or a gradient would be beyond the range".into(),
        ..0 => "; they or another gradient are beyond the range already: no loss scale helps".into(),
    }
}

/// Of the gradient by the state.
fn of_growth(report: &Report<'_>, findings: &mut Vec<Finding>) {
    let Some(growth) = &report.growth else { return };
    let mut add = |severity, kind, text| findings.push(Finding { severity, kind, text, count: 1, first: None });
    if let Some(row) = growth.grown() {
        let text = format!(
            "on its way back a gradient by the state grows by itself, to {:.2e} times in {} steps",
            row.arriving.largest, row.distance
        );
        add(Severity::Warning, "gradient_grows", text);
    }
    if let Some(row) = growth.vanished() {
        let text = format!(
            "{} steps before the end of a sequence at most {:.1e} of the gradient by its last state arrives",
            row.distance, row.arriving.largest
        );
        add(Severity::Note, "gradient_vanishes", text);
    }
}

/// Of A and dt_bias.
fn of_parameters(report: &Report<'_>, findings: &mut Vec<Finding>) {
    let (tensors, dstate) = (report.case.tensors, report.case.dims.dstate.max(1));
    let mut growing = tensors.A.data.iter().enumerate().filter(|&(_, &a)| a > 0.0);
    if let Some((i, a)) = growing.next() {
        let (count, place) = (1 + growing.count() as u64, format!("(channel {}, state {})", i / dstate, i % dstate));
        let text = format!(
            "A is positive in {}, first {place}: {a:e}; such a state grows by exp(delta A) each step (A should be -exp(A_log))",
            elements(count)
        );
        findings.push(Finding { severity: Severity::Warning, kind: "A_positive", text, count, first: None });
    }
    let Some(bias) = tensors.dt_bias.as_ref().filter(|_| report.case.options.dt_softplus) else { return };
    let [low, high] = USUAL_STEP;
    let steps = bias.data.iter().map(|&bias| softplus(f64::from(bias)));
    let mut unusual = steps.enumerate().filter(|(_, step)| step.is_finite() && !(low..=high).contains(step));
    if let Some((channel, step)) = unusual.next() {
        let count = 1 + unusual.count() as u64;
        let text = format!(
            "softplus(dt_bias) is outside {low} to {high} in {}, first channel {channel}: {step:.3e} \
             (Mamba's initialisation has 0.001 to 0.1)",
            channels(count)
        );
        findings.push(Finding { severity: Severity::Note, kind: "dt_bias", text, count, first: None });
    }
}

/// Of delta and the decay of each step.
fn of_steps(report: &Report<'_>, findings: &mut Vec<Finding>) {
    let (survey, options) = (&report.survey, report.case.options);
    let [steps, pairs] = [(survey.steps, "steps"), (survey.pairs, "(batch, channel, state, time)")];
    let mut add = |severity, kind, seen: &Seen, (all, unit): (u64, &str), what: &str| {
        let Some(first) = seen.first else { return };
        let share = 100.0 * seen.count as f64 / all.max(1) as f64;
        let text = format!("{what} at {} of {all} {unit} ({share:.2} %), first {first}", seen.count);
        findings.push(Finding { severity, kind, text, count: seen.count, first: Some(first) });
    };
    let softplus = if options.dt_softplus { "" } else { " (dt_softplus is off)" };
    let negative = format!("delta is negative{softplus}: states with A < 0 grow");
    add(Severity::Warning, "delta_negative", &survey.negative, steps, &negative);
    add(Severity::Warning, "delta_nonfinite", &survey.nonfinite, steps, "delta is not finite");
    let lost = "the state decays, but exp(delta A) rounds to 1 in f32: it never forgets";
    add(Severity::Warning, "decay_one_f32", &survey.one_in_f32, pairs, lost);
    add(Severity::Note, "delta_zero", &survey.zero, steps, "delta is 0: the step leaves the state as it is");
    add(Severity::Note, "delta_linear", &survey.linear, steps, "dt + dt_bias is beyond 20, where softplus(v) is v:");
    let clamped = "delta is raised to the minimum of dt_limit, and dt has no gradient,";
    add(Severity::Note, "delta_at_min", &survey.at_min, steps, clamped);
    let clamped = "delta is cut to the maximum of dt_limit, and dt has no gradient,";
    add(Severity::Note, "delta_at_max", &survey.at_max, steps, clamped);
    add(Severity::Note, "staying", &survey.staying, pairs, "delta A is 0: the state does not decay");
    let held = "exp(delta A) would round to 1 if the decay were held in bf16 (here it is f32 for every dtype)";
    add(Severity::Note, "decay_one_bf16", &survey.one_in_bf16, pairs, held);
}

/// Of how long states remember.
fn of_memory(report: &Report<'_>, findings: &mut Vec<Finding>) {
    let memory = &report.memory;
    let mut add = |kind, count: u64, what: &str| {
        if count > 0 {
            let share = 100.0 * count as f64 / memory.pairs as f64;
            let text = format!("{count} of {} (channel, state) pairs ({share:.1} %) {what}", memory.pairs);
            findings.push(Finding { severity: Severity::Note, kind, text, count, first: None });
        }
    };
    let beyond = format!("have a mean decay horizon beyond the longest sequence ({} steps)", report.case.longest());
    add("never_forgets", memory.beyond_sequence, &beyond);
    add("dead", memory.below_a_step, "have a mean decay horizon below one step: they forget at once");
}

fn channels(count: u64) -> String {
    if count == 1 { "1 channel".into() } else { format!("{count} channels") }
}

fn elements(count: u64) -> String {
    if count == 1 { "1 element".into() } else { format!("{count} elements") }
}
