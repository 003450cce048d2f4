//! From PTX to machine code in which every instruction knows its line of the PTX.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;

use super::sass::{self, Function};
use crate::ptxas::{self, Usage};
use crate::{build, target};

pub const ARCHITECTURES: [&str; 4] = ["sm_80", "sm_90", "sm_100", "sm_120"];

/// The programs, and how they call themselves.
pub struct Tools {
    ptxas: PathBuf,
    nvdisasm: PathBuf,
    pub versions: [String; 2],
}

impl Tools {
    pub fn find() -> Result<Self, String> {
        let named = |name| build::variable(name).ok_or_else(|| format!("{name} is not set: {}", build::HELP));
        let (ptxas, nvdisasm) = (named("PTXAS_13")?, named("NVDISASM")?);
        let version = |program: &PathBuf| {
            let told = build::run(Command::new(program).arg("--version"))?;
            // `Cuda compilation tools, release 13.0, V13.0.88`
            let word = told.split_whitespace().find(|word| word.starts_with('V') && word.contains('.'));
            word.map(|word| word[1..].to_string()).ok_or_else(|| format!("{}: {told}", program.display()))
        };
        let versions = [format!("ptxas {}", version(&ptxas)?), format!("nvdisasm {}", version(&nvdisasm)?)];
        Ok(Self { ptxas, nvdisasm, versions })
    }

    /// A unit's entries on an architecture.
    pub fn assemble(&self, unit: &str, ptx: &str, architecture: &str) -> Result<Vec<Usage>, String> {
        let source = self.scratch(unit, "ptx")?;
        build::write(&source, ptx)?;
        ptxas::assemble(&self.ptxas, architecture, &source, &[], &self.scratch(unit, "cubin")?)
    }

    /// The same with the machine code, by name.
    pub fn disassemble(&self, unit: &str, ptx: &str, architecture: &str) -> Result<HashMap<String, Function>, String> {
        let (source, cubin) = (self.scratch(unit, "lines.ptx")?, self.scratch(unit, "lines.cubin")?);
        build::write(&source, &with_lines(ptx))?;
        ptxas::assemble(&self.ptxas, architecture, &source, &["-lineinfo"], &cubin)?;
        let listing = build::run(Command::new(&self.nvdisasm).args(["-c", "-g"]).arg(&cubin))?;
        let functions = sass::parse(&listing).map_err(|message| format!("{unit}, {architecture}: {message}"))?;
        Ok(functions.into_iter().map(|function| (function.name.clone(), function)).collect())
    }

    fn scratch(&self, unit: &str, extension: &str) -> Result<PathBuf, String> {
        let folder = target().join("report");
        build::create_dir(&folder)?;
        Ok(folder.join(format!("{unit}.{extension}")))
    }
}

/// Each instruction's own line in place of its source's. Only what is told changes by that, not the machine code.
fn with_lines(ptx: &str) -> String {
    let mut text = String::with_capacity(2 * ptx.len());
    for (i, line) in ptx.lines().enumerate() {
        let trimmed = line.trim_start();
        if trimmed.starts_with(".loc") || trimmed.starts_with(".file") {
            continue;
        }
        if is_instruction(trimmed) {
            text += &format!(".loc 1 {} 0\n", i + 1);
        }
        text += line;
        text.push('\n');
    }
    text + "\t.file\t1 \"kernel.ptx\"\n"
}

/// Lines that begin with an opcode, or a predicate before one.
fn is_instruction(line: &str) -> bool {
    let opcode = match line.strip_prefix('@') {
        Some(rest) => rest.split_once(' ').map_or("", |(_, opcode)| opcode.trim_start()),
        None => line,
    };
    let end = opcode.find([' ', '\t', ';']).unwrap_or(opcode.len());
    opcode.starts_with(|c: char| c.is_ascii_lowercase()) && !opcode[..end].ends_with(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_their_own() {
        let ptx = ".entry a(\n)\n{\n.loc 1 7 5\n\tadd.s32 %r1,%r2,3;\n$L__1:\n@%p1 bra $L__1;\n\tret;\n}\n\t.file\t1 \"a.cu\"\n";
        let expected = ".entry a(\n)\n{\n.loc 1 5 0\n\tadd.s32 %r1,%r2,3;\n$L__1:\n.loc 1 7 0\n@%p1 bra $L__1;\n\
                        .loc 1 8 0\n\tret;\n}\n\t.file\t1 \"kernel.ptx\"\n";
        assert_eq!(with_lines(ptx), expected);
    }
}
