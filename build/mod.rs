//! From kernel sources to PTX: what build.rs and `cargo xtask` share. Standard library only.

pub mod committed;
pub mod nvcc;
pub mod ptx_text;
pub mod rust_ptx;
pub mod units;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

pub use units::{Language, UNITS, Unit};

/// The folder of the committed PTX and its manifest, from the root of the crate.
pub const COMMITTED: &str = "kernels-ptx";

/// How to get compilers; ends every error that wants one.
pub const HELP: &str = "`eval \"$(scripts/toolchains)\"` in the repository installs both compilers and names them";

/// A compiler of one language's units.
pub enum Compiler {
    Nvcc(nvcc::Nvcc),
    Rustc(rust_ptx::Rustc),
}

impl Compiler {
    /// The language's compiler: named by a variable, or found where such compilers lie; `None` if there is none.
    /// What is built once per compiler is kept in `cache`.
    pub fn find(language: Language, cache: &Path) -> Result<Option<Self>, String> {
        Ok(match language {
            Language::Cuda => nvcc::Nvcc::find()?.map(Self::Nvcc),
            Language::Rust => rust_ptx::Rustc::find(cache)?.map(Self::Rustc),
        })
    }

    /// Name and version, as the manifest has them.
    pub fn name(&self) -> &str {
        match self {
            Self::Nvcc(nvcc) => &nvcc.name,
            Self::Rustc(rustc) => &rustc.name,
        }
    }

    pub fn program(&self) -> &Path {
        match self {
            Self::Nvcc(nvcc) => &nvcc.program,
            Self::Rustc(rustc) => &rustc.program,
        }
    }

    /// The unit's PTX from the sources under `root`, normalised. Intermediate files go to `scratch`.
    pub fn compile(&self, unit: &Unit, root: &Path, scratch: &Path) -> Result<String, String> {
        create_dir(scratch)?;
        let file = scratch.join(format!("{}.raw.ptx", unit.name));
        match self {
            Self::Nvcc(nvcc) => run(&mut nvcc.command(unit, root, &file)),
            Self::Rustc(rustc) => run(&mut rustc.command(unit, root, &file)),
        }
        .map_err(|message| format!("{} does not compile ({}):\n{message}", unit.source, unit.name))?;
        let ptx = ptx_text::normalise(&read(&file)?);
        match ptx_text::undefined_functions(&ptx).as_slice() {
            [] => Ok(ptx),
            names => Err(format!(
                "{}: the PTX of {} calls functions that no kernel source defines: {}",
                unit.source,
                unit.name,
                names.join(", ")
            )),
        }
    }
}

/// Compiles `units`, each with its language's compiler, on all cores; the PTX comes in the units' order.
pub fn compile_all(
    units: &[&Unit],
    compilers: &HashMap<Language, Compiler>,
    root: &Path,
    scratch: &Path,
) -> Result<Vec<String>, String> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(units.len()).max(1);
    let mut finished: Vec<(usize, Result<String, String>)> = std::thread::scope(|scope| {
        let share = |worker: usize| {
            let mine = units.iter().enumerate().skip(worker).step_by(workers);
            mine.map(|(i, unit)| (i, compilers[&unit.language].compile(unit, root, scratch))).collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..workers).map(|worker| scope.spawn(move || share(worker))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("compiling does not panic")).collect()
    });
    finished.sort_by_key(|(i, _)| *i);
    let mut errors: Vec<(&str, String)> = Vec::new();
    let mut texts = Vec::new();
    for (i, result) in finished {
        match result {
            Ok(ptx) => texts.push(ptx),
            // Units of one source share its errors: one of them says it.
            Err(_) if errors.iter().any(|(source, _)| *source == units[i].source) => {}
            Err(message) => errors.push((units[i].source, message)),
        }
    }
    match errors.is_empty() {
        true => Ok(texts),
        false => Err(errors.into_iter().map(|(_, message)| message).collect::<Vec<_>>().join("\n")),
    }
}

/// Runs a compiler. Its messages go to stderr; those of a failure are the error.
pub fn run(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|e| format!("{program} cannot be run: {e}"))?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        return Err(format!("{stdout}{stderr}{program}: {}", output.status));
    }
    eprint!("{stderr}");
    Ok(stdout.into_owned())
}

/// A variable that is set and not empty.
pub fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The program that a variable names, to be found from any folder: compilers run where the sources are.
pub fn named_program(variable_name: &str) -> Option<PathBuf> {
    let program = variable(variable_name)?;
    match program.components().count() {
        1 => Some(program),
        _ => Some(std::path::absolute(&program).unwrap_or(program)),
    }
}

/// Where what is built once per compiler is kept: cargo's target folder, which holds `inside`.
pub fn cache(inside: &Path) -> PathBuf {
    let target = inside.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists());
    target.unwrap_or(inside).join("ssm-kernels-core")
}

pub fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

pub fn write(path: &Path, content: &str) -> Result<(), String> {
    fs::write(path, content).map_err(|e| format!("{}: {e}", path.display()))
}

pub fn create_dir(path: &Path) -> Result<(), String> {
    fs::create_dir_all(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// FNV-1a of 128 bits, in hexadecimal: tells versions of a file apart; guards against nothing else.
pub fn hash(text: &str) -> String {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013B;
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    let step = |hash: u128, byte: u8| (hash ^ u128::from(byte)).wrapping_mul(PRIME);
    let mut digits = String::new();
    let _ = write!(digits, "{:032x}", text.bytes().fold(BASIS, step));
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_fnv_1a() {
        assert_eq!(hash(""), "6c62272e07bb014262b821756295c58d");
        assert_eq!(hash("a"), "d228cb696f1a8caf78912b704e4a8964");
    }
}
