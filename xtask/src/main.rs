//! Developers' tasks: `cargo xtask <task>`.

mod planted;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask <task>

  planted [NAME ...]   apply each bug of tests/planted (or those named) to a copy of the tree; fails unless the
                       suites of ssm-kernels fail on every one of them
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.split_first() {
        None => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Some((task, names)) if task == "planted" => planted::run(names),
        Some((task, _)) => Err(format!("no task `{task}`\n\n{HELP}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}
