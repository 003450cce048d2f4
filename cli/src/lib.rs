//! The `ssm` command as a function, so that tests can call it without a process.
//!
//! A run reads one safetensors file, computes on one backend, compares with the truth that the file holds, writes the
//! results and says how fast it was. [`main`] is the whole of it; the modules behind it are named for what they hold.

// A, B, C and D are the field's names.
#![allow(non_snake_case)]

#[cfg(target_endian = "big")]
compile_error!("safetensors files are little-endian, and this crate reads and writes their bytes as they are");

mod args;
#[cfg(feature = "bench")]
mod bench;
mod check;
#[cfg(feature = "cuda")]
mod cuda;
mod doctor;
mod error;
mod info;
mod input;
mod memory;
mod metadata;
mod operators;
mod output;
mod progress;
mod random;
mod report;
mod run;
mod speed;
mod tensor;

use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use std::ffi::OsString;
use std::io::{ErrorKind, Write};

/// Everything ran, and every result that has a truth keeps the accuracy rule.
pub const SUCCESS: u8 = 0;
/// Everything ran, and a result breaks the accuracy rule.
pub const RULE_BROKEN: u8 = 1;
/// Everything ran, and `ssm doctor` found an error.
pub const FOUND: u8 = 1;
/// Nothing was written, because of the message on standard error.
pub const REFUSED: u8 = 2;

/// Runs the command line `args` (the program's name first) and returns the exit status.
pub fn main(args: impl IntoIterator<Item = OsString>, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let (text, status) = match Cli::try_parse_from(args) {
        Ok(Cli { command: None }) => (Cli::command().render_help().to_string(), SUCCESS),
        Ok(Cli { command: Some(Command::Info) }) => (info::text(), SUCCESS),
        Ok(Cli { command: Some(Command::Run(args)) }) => match run::run(&args, err) {
            Ok(report) => (report.text(), if report.keeps_the_rule() { SUCCESS } else { RULE_BROKEN }),
            Err(error) => return refuse(err, &error.to_string()),
        },
        #[cfg(feature = "bench")]
        Ok(Cli { command: Some(Command::Bench(args)) }) => match bench::run(&args) {
            Ok(table) => (table, SUCCESS),
            Err(error) => return refuse(err, &error.to_string()),
        },
        Ok(Cli { command: Some(Command::Doctor(args)) }) => match doctor::run(&args, err) {
            Ok((text, healthy)) => (text, if healthy { SUCCESS } else { FOUND }),
            Err(error) => return refuse(err, &error.to_string()),
        },
        Ok(Cli { command: Some(Command::Check(args)) }) => match check::run(&args) {
            Ok((text, passes)) => (text, if passes { SUCCESS } else { RULE_BROKEN }),
            Err(error) => return refuse(err, &error.to_string()),
        },
        Err(usage) if usage.use_stderr() => {
            // Standard error is gone: nobody is left to tell.
            let _ = write!(err, "{usage}");
            return REFUSED;
        }
        Err(help) => (help.to_string(), SUCCESS),
    };
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // A reader such as `head` may leave early.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => refuse(err, &format!("standard output: {error}")),
        _ => status,
    }
}

fn refuse(err: &mut dyn Write, message: &str) -> u8 {
    // Standard error is gone: nobody is left to tell.
    let _ = writeln!(err, "ssm: {}", error::one_line(message));
    REFUSED
}
