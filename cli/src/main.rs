//! The `ssm` command; everything is in the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    ssm_cli::main(std::env::args_os(), &mut std::io::stdout(), &mut std::io::stderr()).into()
}
