//! CUDA C to PTX, by nvcc.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Language, Unit, named_program, run, variable};

/// No fast-math: the kernels name the approximate instructions that they want.
pub const OPTIONS: &[&str] = &["-ptx", "-arch=sm_80", "-O3", "-lineinfo", "-std=c++17"];

pub struct Nvcc {
    pub program: PathBuf,
    pub name: String,
}

impl Nvcc {
    /// `NVCC`, else the toolkit at `CUDA_HOME` or `CUDA_PATH`, else `PATH`.
    pub fn find() -> Result<Option<Self>, String> {
        let named = named_program(Language::Cuda.variable());
        let program = named.or_else(|| {
            let file = format!("nvcc{}", std::env::consts::EXE_SUFFIX);
            let toolkits = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(variable).map(|home| home.join("bin"));
            let path = variable("PATH").unwrap_or_default();
            let mut folders = toolkits.chain(std::env::split_paths(&path).collect::<Vec<_>>());
            folders.find_map(|folder| Some(folder.join(&file)).filter(|program| program.is_file()))
        });
        let Some(program) = program else { return Ok(None) };
        let told = run(Command::new(&program).arg("--version"))?;
        // "Cuda compilation tools, release 13.0, V13.0.88"
        let version = told.split_whitespace().find_map(|word| word.strip_prefix('V'));
        let version = version.ok_or_else(|| format!("{} --version names no version:\n{told}", program.display()))?;
        Ok(Some(Self { name: format!("nvcc {version}"), program }))
    }

    /// Paths in messages and line tables are relative to `root`.
    pub fn command(&self, unit: &Unit, root: &Path, ptx: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.args(OPTIONS).args(unit.select).arg("-o").arg(ptx).arg(unit.source).current_dir(root);
        command
    }
}
