//! What a run says on standard output.

use crate::speed::Speed;
use ssm_kernels::reference::accuracy::Verdict;

/// One result beside its truth.
#[derive(Debug)]
pub struct Row {
    /// The result's name.
    pub name: &'static str,
    /// How it did, if the file has its truth.
    pub verdict: Option<Verdict>,
}

/// What the time of a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// That of the operator.
    Call,
    /// That of the operator, with copies to a device and back.
    #[cfg(feature = "cuda")]
    Copies,
    /// None: the device is emulated.
    #[cfg(any(feature = "cuda", feature = "emulator"))]
    Emulated,
}

/// What ran, how exact it was, how long it took.
#[derive(Debug)]
pub struct Report {
    /// What ran, a line each.
    pub call: Vec<String>,
    /// A row for each result.
    pub rows: Vec<Row>,
    /// Time of a call.
    pub speed: Speed,
    /// What it is the time of.
    pub clock: Clock,
    /// How many of what a call works through.
    pub work: (f64, &'static str),
}

impl Report {
    /// No result that has a truth is too far from it.
    pub fn keeps_the_rule(&self) -> bool {
        self.rows.iter().flat_map(|row| &row.verdict).all(|verdict| verdict.failure.is_none())
    }

    /// All of it.
    pub fn text(&self) -> String {
        let mut text = self.call.join("\n");
        text += &format!(
            "\n\n{:<14}{:>14}{:>17}{:>19}\n",
            "result", "largest error", "largest |truth|", "share of allowed"
        );
        for row in &self.rows {
            text += &match &row.verdict {
                None => format!("{:<16}no truth in the file\n", row.name),
                Some(verdict) => verdict_line(row.name, verdict),
            };
        }
        text + "\n" + &self.speed_line() + "\n"
    }

    fn speed_line(&self) -> String {
        let Speed { calls, median } = self.speed;
        let (count, unit) = self.work;
        let calls = if calls == 1 { "1 call".into() } else { format!("median of {calls} calls") };
        let time = format!("{calls}: {median:.3?}");
        match (self.clock, count) {
            #[cfg(any(feature = "cuda", feature = "emulator"))]
            (Clock::Emulated, _) => "on an emulated device, which has no time".into(),
            #[cfg(feature = "cuda")]
            (Clock::Copies, _) => format!("{time}, copies to the device and back included"),
            (Clock::Call, 0.0) => format!("{time} (without a {unit})"),
            (Clock::Call, _) => format!("{time}, {:.3} ns per {unit}", median.as_secs_f64() * 1e9 / count),
        }
    }
}

fn verdict_line(name: &str, verdict: &Verdict) -> String {
    let Verdict { largest_error, largest_truth, share, failure, .. } = verdict;
    let share = format!("{:.1} %", share * 100.0);
    let word = if failure.is_some() { "FAIL" } else { "ok" };
    let mut line = format!("{name:<14}{largest_error:>14.3e}{largest_truth:>17.3e}{share:>19}  {word}\n");
    if let Some(worst) = failure {
        let (index, got, truth) = (worst.index, worst.got, worst.truth);
        line += &format!("  element {index} is {got:e}, expected {truth:e} within {:.3e}\n", worst.allowed);
    }
    line
}
