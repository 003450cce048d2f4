//! Embeds the kernels' PTX: committed, or compiled here. The rules stand in build/embed.rs.

#[path = "build/mod.rs"]
mod build;
#[path = "build/embed.rs"]
mod embed;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let (Some(root), Some(out)) = (env::var_os("CARGO_MANIFEST_DIR"), env::var_os("OUT_DIR")) else {
        eprintln!("build.rs is run by cargo, which sets CARGO_MANIFEST_DIR and OUT_DIR");
        return ExitCode::FAILURE;
    };
    match embed::run(&PathBuf::from(root), &PathBuf::from(out)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
