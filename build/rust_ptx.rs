//! Rust to PTX, by rustc's own NVPTX back end and the `core` of its rust-src component.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use super::{Language, UNITS, Unit, create_dir, hash, named_program, run, write};

/// For `core` and the kernels.
pub const OPTIONS: &[&str] = &[
    "--target=nvptx64-nvidia-cuda",
    "-Copt-level=3",
    "-Ccodegen-units=1",
    "-Zunstable-options",
    "-Cpanic=immediate-abort",
    "-Ctarget-cpu=sm_80",
    "-Cllvm-args=-unroll-runtime=false",
];

/// Without it a barrier between two equal conditions comes out twice, once in each arm (rust-lang/rust#137086).
pub const NO_JUMP_THREADING: &str = "-Zmir-enable-passes=-JumpThreading";

/// For the kernels. ptxas refuses the sections of any fuller debug information.
pub const KERNEL_OPTIONS: &[&str] =
    &["--crate-name=kernels", "--crate-type=lib", "--edition=2024", "--emit=asm", "-Cdebuginfo=line-directives-only"];

const CORE_OPTIONS: &[&str] = &[
    "--crate-type=rlib",
    "--emit=metadata",
    "--edition=2024",
    "-Zforce-unstable-if-unmarked",
    "--cap-lints=allow",
    "-Zalways-encode-mir=yes",
    "-Zcross-crate-inline-threshold=always",
];

/// rustc wants a crate of this name beside core; the kernels need nothing of it.
const COMPILER_BUILTINS: &str = "#![no_std]\n#![feature(compiler_builtins)]\n#![compiler_builtins]\n";

pub struct Rustc {
    pub program: PathBuf,
    pub name: String,
    /// Holds the metadata of `core`.
    core: PathBuf,
}

impl Rustc {
    /// `PTX_RUSTC`, else cargo's `RUSTC` if it has rust-src. Builds the metadata of `core` once per compiler, in `cache`.
    pub fn find(cache: &Path) -> Result<Option<Self>, String> {
        let named = named_program(Language::Rust.variable());
        let given = named.clone().or_else(|| named_program("RUSTC")).unwrap_or_else(|| "rustc".into());
        // Through rustup this names the toolchain that cargo was started with, so it is asked before the variables go.
        let asked = run(Command::new(&given).args(["--print", "sysroot"]).env_remove("LD_LIBRARY_PATH"));
        let sysroot = match asked {
            Ok(sysroot) => PathBuf::from(sysroot.trim_end()),
            Err(_) if named.is_none() => return Ok(None),
            Err(message) => return Err(message),
        };
        let library = sysroot.join("lib/rustlib/src/rust/library");
        let source = library.join("core/src/lib.rs");
        if !source.is_file() {
            return match named {
                None => Ok(None),
                Some(rustc) => Err(format!(
                    "PTX_RUSTC={} has no rust-src ({} is missing): `rustup component add rust-src`, or on Debian \
                     `apt-get install rustc-web rust-web-src`",
                    rustc.display(),
                    source.display()
                )),
            };
        }
        let own = sysroot.join("bin").join(format!("rustc{}", env::consts::EXE_SUFFIX));
        let program = if own.is_file() { own } else { given };
        let version = run(clean(&program).arg("-vV"))?;
        let field = |name: &str| version.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("?").trim();
        let name = format!("rustc {} (LLVM {})", field("release:"), field("LLVM version:"));
        let core = core(&program, &version, &library, cache)?;
        Ok(Some(Self { program, name, core }))
    }

    /// Paths in messages and line tables are relative to `root`.
    pub fn command(&self, unit: &Unit, root: &Path, ptx: &Path) -> Command {
        let mut command = self.any_command(root, &root.join(unit.source), ptx);
        command.arg(NO_JUMP_THREADING).args(unit.select);
        for name in ["ssm_unit", "ssm_dtype"] {
            command.arg("--check-cfg").arg(format!("cfg({name}, values({}))", selectors(name).join(", ")));
        }
        command
    }

    /// Any kernel source, with jump threading still on.
    pub fn any_command(&self, root: &Path, source: &Path, ptx: &Path) -> Command {
        let mut command = clean(&self.program);
        let source = source.strip_prefix(root).unwrap_or(source);
        command.args(OPTIONS).args(KERNEL_OPTIONS).arg("-L").arg(&self.core).arg("-o").arg(ptx).arg(source);
        command.arg(remap(root, ".")).current_dir(root);
        command
    }
}

/// The quoted values that any unit gives to this cfg: rustc warns of others.
fn selectors(name: &str) -> Vec<&'static str> {
    let options = UNITS.iter().flat_map(|unit| unit.select);
    let values = options.filter_map(|option| option.strip_prefix(name)?.strip_prefix('='));
    let mut values: Vec<_> = values.collect();
    values.sort_unstable();
    values.dedup();
    values
}

/// rustc with unstable options, and without what cargo or rustup meant for the host's build.
fn clean(program: &Path) -> Command {
    let mut command = Command::new(program);
    for name in ["LD_LIBRARY_PATH", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(name);
    }
    command.env("RUSTC_BOOTSTRAP", "1");
    command
}

fn remap(from: &Path, to: &str) -> String {
    format!("--remap-path-prefix={}={to}", from.display())
}

/// The folder with the metadata of `core` for this compiler. Half a minute of work, once.
fn core(program: &Path, version: &str, library: &Path, cache: &Path) -> Result<PathBuf, String> {
    // A package update may change the compiler and keep its version.
    let changed = fs::metadata(program).and_then(|m| m.modified()).map(|time| format!("{time:?}")).unwrap_or_default();
    let sources = library.display();
    let recipe = format!("{version}{sources}\n{changed}\n{OPTIONS:?}{CORE_OPTIONS:?}{NO_JUMP_THREADING}");
    let folder = cache.join(hash(&recipe));
    if folder.is_dir() {
        return Ok(folder);
    }
    let making = cache.join(format!("{}.{}", hash(&recipe), std::process::id()));
    create_dir(&making)?;
    let builtins = making.join("compiler_builtins.rs");
    write(&builtins, COMPILER_BUILTINS)?;
    for (name, source) in [("core", library.join("core/src/lib.rs")), ("compiler_builtins", builtins)] {
        let mut command = clean(program);
        command.args(OPTIONS).arg(NO_JUMP_THREADING).args(CORE_OPTIONS).args(["--crate-name", name]).arg(&source);
        command.arg("--out-dir").arg(&making).arg("-L").arg(&making).arg(remap(library, "library"));
        run(&mut command).map_err(|message| format!("`{name}` for the GPU does not compile:\n{message}"))?;
    }
    // Whole or not at all; another build that came first made the same.
    if fs::rename(&making, &folder).is_err() {
        let _ = fs::remove_dir_all(&making);
    }
    match folder.is_dir() {
        true => Ok(folder),
        false => Err(format!("{}: cannot be made", folder.display())),
    }
}
