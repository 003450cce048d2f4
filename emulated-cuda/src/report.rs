//! What the emulation has to say: on stderr, or appended to a file.

use crate::settings;
use ptx_emulator::{FindingKind, Report};
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use crate::codes::Code;

/// Says it.
pub fn say(text: &str) {
    let lines: String = text.lines().map(|line| format!("emulated CUDA: {line}\n")).collect();
    if let Some(path) = &settings::get().report {
        let file = OpenOptions::new().create(true).append(true).open(path);
        match file.and_then(|mut file| file.write_all(lines.as_bytes())) {
            Ok(()) => return,
            Err(why) => eprintln!("emulated CUDA: {} cannot be written: {why}", path.display()),
        }
    }
    eprint!("{lines}");
}

/// Says it for the first time alone.
pub fn say_once(text: &'static str, what: &str) {
    static SAID: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());
    if SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(text) {
        say(&format!("{text} {what}"));
    }
}

/// The code by which a driver would tell of what a kernel did.
pub fn code(report: &Report) -> Option<Code> {
    use FindingKind as Kind;
    let finding = report.findings().first()?;
    Some(match finding.kind {
        Kind::Misaligned => Code::MISALIGNED_ADDRESS,
        Kind::Deadlock | Kind::Budget => Code::LAUNCH_TIMEOUT,
        Kind::Trap
        | Kind::DivergentBarrier
        | Kind::InactiveShuffle
        | Kind::MaskMismatch
        | Kind::SharedRace
        | Kind::GlobalRace
        | Kind::NonCoherentRead
        | Kind::PendingCopy => Code::LAUNCH_FAILED,
        _ => Code::ILLEGAL_ADDRESS,
    })
}
