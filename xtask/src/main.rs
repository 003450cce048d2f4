//! Developers' tasks: `cargo xtask <task>`.

mod barrier_guard;
mod bindings;
#[path = "../../build/mod.rs"]
mod build;
mod bundle;
mod header;
mod package;
mod planted;
mod ptx;
mod ptxas;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HELP: &str = "\
cargo xtask <task>

  planted [NAME ...]   apply each bug of tests/planted (or those named) to a copy of the tree; fails unless the
                       suites of ssm-kernels fail on every one of them
  ptx [--check]        compile all kernels and refresh kernels-ptx; --check compiles them in two other folders and
                       fails unless both give the committed bytes
  ptxas [FOLDER]       assemble kernels-ptx (or FOLDER) for every architecture with both ptxas; fails on spills,
                       undefined functions, absolute paths and too much PTX
  report [--check]     count the machine code's work and write docs/kernel-report.md and .svg; --check compares them,
                       and either fails if a ceiling of limits.toml is exceeded
  barrier-guard        rustc with our options leaves one barrier where it would make two
  bindings [--check]   make kernels-rs/params.rs and kernels-cu/params_layout.h from kernels-cu/params.h; --check
                       fails unless they are current
  bundle [--try]       one archive in target/bundle that checks, times and profiles the kernels on a machine with a GPU
                       and without Rust; --try unpacks it in an empty folder and runs it on the emulated driver
  package              dry run of publishing the crates together; fails unless each archive is small and whole, its
                       targets compile, and xtask/downstream computes against the packaged files without compilers
  header [--check]     make c-api/include/ssm_kernels.h from c-api/src; --check fails unless it is current

The compilers are those of the variables that `eval \"$(scripts/toolchains)\"` sets.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((task, rest)) = arguments.split_first() else {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    };
    let result = match (task.as_str(), rest) {
        ("planted", names) => planted::run(names),
        ("ptx", []) => ptx::refresh(),
        ("ptx", [option]) if option == "--check" => ptx::check(),
        ("ptxas", []) => ptxas::run(&root().join(build::COMMITTED)),
        ("ptxas", [folder]) => ptxas::run(Path::new(folder)),
        ("report", []) => report::run(false),
        ("report", [option]) if option == "--check" => report::run(true),
        ("barrier-guard", []) => barrier_guard::run(),
        ("bindings", []) => bindings::run(false),
        ("bindings", [option]) if option == "--check" => bindings::run(true),
        ("bundle", []) => bundle::run(false),
        ("bundle", [option]) if option == "--try" => bundle::run(true),
        ("package", []) => package::run(),
        ("header", []) => header::run(false),
        ("header", [option]) if option == "--check" => header::run(true),
        _ => Err(format!("no task `{}`\n\n{HELP}", arguments.join(" "))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The repository: that of the running cargo, for a copied target folder may bring a program of another one.
fn root() -> PathBuf {
    let own = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    own.parent().expect("xtask lies in the repository").to_path_buf()
}

/// Cargo's target folder, which this program lies in.
fn target() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let found = own.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists());
    found.map_or_else(|| root().join("target"), Path::to_path_buf)
}

/// Builds the xtask that has the feature which a task is called after, and hands over to it.
#[cfg(not(all(feature = "bindings", feature = "header", feature = "report")))]
fn with_feature(task: &str, check: bool, variables: &[(&str, &str)]) -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = std::process::Command::new(cargo);
    command.args(["run", "--quiet", "--package", "xtask", "--features", task, "--", task]);
    command.args(check.then_some("--check")).envs(variables.iter().copied()).current_dir(root());
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{task}: {status}")),
        Err(error) => Err(format!("cargo cannot be run: {error}")),
    }
}
