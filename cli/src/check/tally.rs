//! What the cases came to.

use crate::args::Checked;
use ssm_kernels::Dtype;
use ssm_kernels::reference::accuracy::Yardstick;
use std::collections::BTreeMap;

/// Failures that are printed.
const MOST_PRINTED: usize = 10;

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

#[derive(Debug, Clone, Copy, Default)]
struct Worst {
    judged: usize,
    share: f64,
    error: f64,
    failed: bool,
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
        let mut text = format!("backend {backend}: {} cases, {} failed\n\n", self.cases, self.failed);
        text += &format!(
            "{:<26}{:<11}{:<7}{:<15}{:>7}{:>15}{:>19}\n",
            "op", "direction", "dtype", "tensor", "judged", "largest error", "share of allowed"
        );
        for ((Kind { op, direction, dtype }, tensor), worst) in &self.worst {
            let share = format!("{:.1} %", worst.share * 100.0);
            let word = if worst.failed { "FAIL" } else { "ok" };
            let (judged, error) = (worst.judged, worst.error);
            text +=
                &format!("{op:<26}{direction:<11}{dtype:<7}{tensor:<15}{judged:>7}{error:>15.3e}{share:>19}  {word}\n");
        }
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
