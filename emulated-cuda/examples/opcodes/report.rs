//! What is printed: a line for each form, sums, and what is not compared.

use super::coverage;
use super::forms::Form;
use super::judge::{Example, Outcome};
use super::types::Type;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// What became of a form.
#[derive(Clone, Debug)]
pub enum Verdict {
    Compared(Outcome),
    /// What the driver says of it.
    Refused(String),
    /// The device computed it, and why the emulator did not.
    NotEmulated(String),
    /// What the device or its driver lacks.
    LeftOut(String),
}

/// Numbers of forms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub equal: usize,
    pub within: usize,
    pub different: usize,
    pub refused: usize,
    pub not_emulated: usize,
    pub left_out: usize,
}

impl Summary {
    pub fn of(verdicts: &[Verdict]) -> Self {
        let mut summary = Self::default();
        for verdict in verdicts {
            *match verdict {
                Verdict::Refused(_) => &mut summary.refused,
                Verdict::NotEmulated(_) => &mut summary.not_emulated,
                Verdict::LeftOut(_) => &mut summary.left_out,
                Verdict::Compared(outcome) if outcome.different > 0 => &mut summary.different,
                Verdict::Compared(outcome) if outcome.within > 0 => &mut summary.within,
                Verdict::Compared(_) => &mut summary.equal,
            } += 1;
        }
        summary
    }

    /// Something was compared, nothing differs by more than it may, and the emulator ran all that the device did.
    pub fn is_good(&self) -> bool {
        self.different + self.not_emulated == 0 && self.equal + self.within > 0
    }

    pub fn line(&self) -> String {
        let Self { equal, within, different, refused, not_emulated, left_out } = self;
        format!(
            "{} forms compared: {equal} equal, {within} within the bound, {different} DIFFERENT; \
             {refused} refused by the driver, {not_emulated} NOT EMULATED, {left_out} left out",
            equal + within + different
        )
    }
}

/// A form's row: its name, tuples, share of equal bits, worst distance, verdict, example.
pub fn row(form: &Form, verdict: &Verdict) -> [String; 6] {
    let name = form.label.clone();
    let none = || "-".to_owned();
    match verdict {
        Verdict::Refused(reason) => [name, none(), none(), none(), "refused".into(), one_line(reason)],
        Verdict::NotEmulated(reason) => [name, none(), none(), none(), "NOT EMULATED".into(), one_line(reason)],
        Verdict::LeftOut(reason) => [name, none(), none(), none(), "left out".into(), reason.clone()],
        Verdict::Compared(outcome) => {
            let tuples = outcome.tuples - outcome.open;
            let percent = 100.0 * outcome.equal as f64 / tuples.max(1) as f64;
            // Never rounded up to all.
            let share = if outcome.equal == tuples { "all".into() } else { format!("{:.2}%", percent.min(99.99)) };
            let distance = form.destinations.iter().any(|ty| ty.format().is_some());
            let worst = if distance { format!("{} ulp", outcome.worst) } else { none() };
            let example = outcome.example.as_ref().map(|example| shown(form, example)).unwrap_or_default();
            [name, tuples.to_string(), share, worst, word(outcome), example]
        }
    }
}

fn word(outcome: &Outcome) -> String {
    let mut text = match outcome {
        Outcome { different: 1.., .. } => format!("DIFFERENT in {}", outcome.different),
        Outcome { within: 1.., .. } => "within the bound".to_owned(),
        Outcome { payloads: 1.., .. } => "equal but for NaN payloads".to_owned(),
        _ => "equal".to_owned(),
    };
    if outcome.open > 0 {
        _ = write!(text, ", {} left open by the ISA", outcome.open);
    }
    text
}

fn shown(form: &Form, example: &Example) -> String {
    let hex = |types: &[Type], values: &[u64]| {
        let one = |(ty, value): (&Type, &u64)| format!("{value:#0width$x}", width = 2 + ty.loaded() as usize / 4);
        types.iter().zip(values).map(one).collect::<Vec<_>>().join(" ")
    };
    format!(
        "{} -> emulator {}, device {}",
        hex(&form.sources, &example.operands),
        hex(&form.destinations, &example.emulated),
        hex(&form.destinations, &example.device)
    )
}

/// The first lines of what a driver says, in one.
fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= 300 { line } else { line.chars().take(300).chain("...".chars()).collect() }
}

/// The rows as text.
pub fn table(forms: &[&Form], verdicts: &[Verdict]) -> String {
    let mut text = String::new();
    for (form, verdict) in forms.iter().zip(verdicts) {
        let [name, tuples, share, worst, word, example] = row(form, verdict);
        let line = format!("{name:<46} {tuples:>6} {share:>7} {worst:>12}  {word}  {example}");
        _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// The whole as Markdown.
pub fn markdown(head: &str, forms: &[&Form], verdicts: &[Verdict]) -> String {
    let mut text = format!("# The emulator beside a device, opcode by opcode\n\n{head}\n\n");
    _ = writeln!(text, "{}.\n", Summary::of(verdicts).line());
    text += "| form | tuples | equal bits | worst | verdict | worst tuple, or why not |\n|---|---|---|---|---|---|\n";
    for (form, verdict) in forms.iter().zip(verdicts) {
        let cells = row(form, verdict).map(|cell| cell.replace('|', "\\|"));
        _ = writeln!(text, "| `{}` | {} |", cells[0], cells[1..].join(" | "));
    }
    text + "\n## Not compared\n\n" + &not_compared()
}

/// What of the emulator's list is not compared, by reason.
pub fn not_compared() -> String {
    let mut names: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, reason) in coverage::not_compared() {
        names.entry(reason).or_default().push(name);
    }
    let mut text = String::new();
    for (reason, names) in names {
        let opcodes: BTreeSet<&str> = names.iter().filter_map(|name| name.split('.').next()).collect();
        let opcodes = opcodes.into_iter().collect::<Vec<_>>().join(", ");
        _ = writeln!(text, "- {opcodes} ({} forms): {reason}", names.len());
    }
    text
}
