//! What the cases came to.

use crate::args::Checked;
use ssm_kernels::Dtype;
use ssm_kernels::reference::accuracy::Yardstick;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Failures that are printed.
const MOST_PRINTED: usize = 10;

/// In the order of the table's columns.
const DTYPES: [Dtype; 3] = [Dtype::F32, Dtype::BF16, Dtype::F16];

/// What a case runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// The operator.
    pub op: &'static str,
    /// forward or backward.
    pub direction: &'static str,
    /// Of inputs and outputs.
    pub dtype: &'static str,
}

/// Operator, direction (forward first) and tensor.
type Row<'t> = (&'t str, Reverse<&'t str>, &'t str);

#[derive(Debug, Clone, Copy, Default)]
struct Worst {
    judged: usize,
    share: f64,
    error: f64,
    /// The error in ulp of the tensor's largest |truth|, and that of the plain loops.
    ulps: f64,
    plain_ulps: f64,
    failed: bool,
}

impl Worst {
    /// Error, error of the plain loops, share of what is allowed.
    fn cell(&self) -> String {
        let (ulps, plain_ulps, share) = (digits(self.ulps), digits(self.plain_ulps), self.share * 100.0);
        format!("{ulps} / {plain_ulps} / {share:.0} %{}", if self.failed { " **FAIL**" } else { "" })
    }
}

/// The worst of each tensor, and the cases that failed.
#[derive(Debug, Default)]
pub struct Tally {
    worst: BTreeMap<(Kind, &'static str), Worst>,
    failures: Vec<String>,
    failed: usize,
    cases: usize,
}

/// Judges the tensors of one case.
pub struct Judge<'t> {
    tally: &'t mut Tally,
    kind: Kind,
    wrong: Vec<String>,
}

impl Tally {
    /// Begins a case.
    pub fn judge(&mut self, kind: Kind) -> Judge<'_> {
        Judge { tally: self, kind, wrong: vec![] }
    }

    /// No case failed.
    pub fn passes(&self) -> bool {
        self.failed == 0
    }

    /// The failures that are printed.
    #[cfg(test)]
    pub fn failures(self) -> Vec<String> {
        self.failures
    }

    /// The table, and the failures.
    pub fn text(&self, backend: Checked) -> String {
        let mut text = format!("{}\n\n", self.summary(backend));
        text += &format!(
            "{:<22}{:<11}{:<7}{:<15}{:>7}{:>15}{:>19}\n",
            "op", "direction", "dtype", "tensor", "judged", "largest error", "share of allowed"
        );
        for ((Kind { op, direction, dtype }, tensor), worst) in &self.worst {
            let share = format!("{:.1} %", worst.share * 100.0);
            let word = if worst.failed { "FAIL" } else { "ok" };
            let (judged, error) = (worst.judged, worst.error);
            text +=
                &format!("{op:<22}{direction:<11}{dtype:<7}{tensor:<15}{judged:>7}{error:>15.3e}{share:>19}  {word}\n");
        }
        text + &self.failures_text()
    }

    /// A table in Markdown with a line for each tensor and a column for each dtype of a call, and the failures. Errors are in
    /// ulp of the tensor's own dtype at its largest |truth|; a tensor that reaches the end of the range has no such number.
    pub fn markdown(&self, backend: Checked) -> String {
        let mut rows: BTreeMap<Row, [Option<Worst>; DTYPES.len()]> = BTreeMap::new();
        for ((Kind { op, direction, dtype }, tensor), worst) in &self.worst {
            let row = rows.entry((op, Reverse(direction), tensor)).or_default();
            DTYPES.iter().zip(row).filter(|(of, _)| of.name() == *dtype).for_each(|(_, cell)| *cell = Some(*worst));
        }
        let mut text = format!("{}\n\n| operator | direction | tensor |", self.summary(backend));
        DTYPES.iter().for_each(|dtype| text += &format!(" {dtype} |"));
        text += &format!("\n|---|---|---|{}\n", "---|".repeat(DTYPES.len()));
        for ((op, Reverse(direction), tensor), cells) in rows {
            text += &format!("| {op} | {direction} | {tensor} |");
            cells.iter().for_each(|cell| text += &cell.map_or(" |".into(), |worst| format!(" {} |", worst.cell())));
            text += "\n";
        }
        text + &self.failures_text()
    }

    fn summary(&self, backend: Checked) -> String {
        format!("backend {backend}: {} cases, {} failed", self.cases, self.failed)
    }

    fn failures_text(&self) -> String {
        let mut text = String::new();
        for failure in &self.failures {
            text += &format!("\n{failure}\n");
        }
        let more = self.failed - self.failures.len();
        if more > 0 {
            text += &format!("\nand {more} other cases\n");
        }
        text
    }
}

/// At most a digit behind the point, with an exponent for what is small or large.
fn digits(value: f64) -> String {
    match value {
        0.0 => "0".into(),
        0.095..9.95 => format!("{value:.1}"),
        9.95..1e5 => format!("{value:.0}"),
        _ => format!("{value:.0e}"),
    }
}

impl Judge<'_> {
    /// Holds a tensor to the rule. `how`: the way it was computed. `got` is none if memory beside it was written.
    pub fn tensor(&mut self, name: &'static str, how: &str, got: Option<Vec<f64>>, by: &Yardstick, dtype: Dtype) {
        let worst = self.tally.worst.entry((self.kind, name)).or_default();
        worst.judged += 1;
        let Some(got) = got else {
            worst.failed = true;
            return self.wrong.push(format!("{name} ({how}): memory beside the tensor was written"));
        };
        let verdict = by.judge(&got, dtype);
        worst.share = worst.share.max(verdict.share);
        worst.error = worst.error.max(verdict.largest_error);
        let ulp = dtype.ulp(verdict.largest_truth);
        if ulp < dtype.ulp(f64::INFINITY) {
            worst.ulps = worst.ulps.max(verdict.largest_error / ulp);
            worst.plain_ulps = worst.plain_ulps.max(by.largest_error() / ulp);
        }
        if let Some(failure) = verdict.failure {
            worst.failed = true;
            let (index, value, truth, allowed) = (failure.index, failure.got, failure.truth, failure.allowed);
            self.wrong
                .push(format!("{name} ({how}): element {index} is {value:e}, expected {truth:e} within {allowed:.3e}"));
        }
    }

    /// The backend refused what is a valid case.
    pub fn error(&mut self, how: &str, error: &ssm_kernels::Error) {
        self.wrong.push(format!("({how}): {error}"));
    }

    /// Ends the case. `again`: how to repeat it.
    pub fn end(self, case: &dyn std::fmt::Debug, again: &str) {
        let Self { tally, kind: Kind { op, direction, dtype }, wrong } = self;
        tally.cases += 1;
        if wrong.is_empty() {
            return;
        }
        tally.failed += 1;
        if tally.failures.len() < MOST_PRINTED {
            let wrong = wrong.join("\n  ");
            tally.failures.push(format!("FAIL {op} {direction} {dtype}\n  {wrong}\n  {case:?}\n  again: {again}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ssm_kernels::reference::Real;
    use ssm_kernels::reference::accuracy::Loop;

    /// Two numbers, without an error in any arithmetic.
    struct Exact([f64; 2]);

    impl Loop for Exact {
        fn run<R: Real>(&self) -> Vec<Vec<f64>> {
            vec![self.0.into()]
        }
    }

    fn judged(dtype: Dtype, got: [f64; 2]) -> Tally {
        judged_by([1.0, 0.25], dtype, got)
    }

    fn judged_by(truth: [f64; 2], dtype: Dtype, got: [f64; 2]) -> Tally {
        let by = &Yardstick::measure(&Exact(truth), &[2])[0];
        let mut tally = Tally::default();
        let mut judge = tally.judge(Kind { op: "copy", direction: "forward", dtype: dtype.name() });
        judge.tensor("out", "whole", Some(got.into()), by, dtype);
        judge.end(&"a case", "again");
        tally
    }

    #[test]
    fn the_table_has_ulps_and_shares() {
        let row = |tally: Tally| tally.markdown(Checked::Cpu).lines().nth(4).expect("a row").to_owned();
        let ulp = f64::from(f32::EPSILON);
        // Of four ulp that are allowed; the ulp is that of the largest truth, whichever element is off.
        let two = row(judged(Dtype::F32, [1.0, 0.25 + 2.0 * ulp]));
        assert_eq!(two, "| copy | forward | out | 2.0 / 0 / 50 % | | |");
        let half = row(judged(Dtype::BF16, [1.0 + 0.5 / 128.0, 0.25]));
        assert_eq!(half, "| copy | forward | out | | 0.5 / 0 / 12 % | |");
        let failed = row(judged(Dtype::F16, [1.0 + 40.0 / 1024.0, 0.25]));
        assert_eq!(failed, "| copy | forward | out | | | 40 / 0 / 1000 % **FAIL** |");
        // Beyond the range there is no ulp, and the result has to be infinite.
        let beyond = row(judged_by([1e9, 1.0], Dtype::F16, [f64::INFINITY, 1.0]));
        assert_eq!(beyond, "| copy | forward | out | | | 0 / 0 / 0 % |");
    }

    #[test]
    fn numbers_are_short() {
        let texts = [0.0, 0.012, 0.1, 9.94, 9.96, 12_345.6, 123_456.7].map(digits);
        assert_eq!(texts, ["0", "1e-2", "0.1", "9.9", "10", "12346", "1e5"]);
    }
}
