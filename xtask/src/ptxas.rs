//! What ptxas says of the PTX: of CUDA 12.0, whose drivers must load it, and of 13.0, for all architectures.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::build::{self, HELP, ptx_text};
use crate::target;

/// The most that all PTX together may take.
const LIMIT: usize = 7 << 20;

/// The variable that names a ptxas, and the architectures that it assembles for.
const ASSEMBLERS: [(&str, &[&str]); 2] =
    [("PTXAS_12", &["sm_80", "sm_90"]), ("PTXAS_13", &["sm_80", "sm_90", "sm_100", "sm_120"])];

/// One entry's needs on one architecture.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Usage {
    pub entry: String,
    pub registers: u32,
    pub shared: u32,
    /// Bytes of stack, of spill stores and of spill loads.
    pub memory: [u32; 3],
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<44} {:>9} {:>7}", self.entry, self.registers, self.shared)
    }
}

/// Assembles every PTX file of `folder`; prints the table, and fails on what must not be.
pub fn run(folder: &Path) -> Result<(), String> {
    let files = files(folder)?;
    let mut wrong = Vec::new();
    let mut size = 0;
    for path in &files {
        let ptx = build::read(path)?;
        size += ptx.len();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let functions = ptx_text::undefined_functions(&ptx);
        wrong.extend(functions.iter().map(|function| format!("{name}: undefined function {function}")));
        wrong.extend(absolute_paths(&ptx).iter().map(|line| format!("{name}: absolute path: {line}")));
    }
    println!("{:<8} {:<6} {:<44} {:>9} {:>7}", "ptxas", "arch", "entry", "registers", "shared");
    for (variable, architectures) in ASSEMBLERS {
        let program = build::variable(variable).ok_or_else(|| format!("{variable} is not set: {HELP}"))?;
        for architecture in architectures {
            for path in &files {
                match assemble(&program, architecture, path, &[], &target().join("ptxas.cubin")) {
                    Ok(usages) => {
                        for usage in usages {
                            println!("{variable:<8} {architecture:<6} {usage}");
                            if usage.memory != [0; 3] {
                                let [stack, stores, loads] = usage.memory;
                                wrong.push(format!(
                                    "{}, {variable}, {architecture}: {stack} bytes of stack, {stores} of spill stores, \
                                     {loads} of spill loads",
                                    usage.entry
                                ));
                            }
                        }
                    }
                    Err(message) => wrong.push(message),
                }
            }
        }
    }
    println!("{} files, {size} of at most {LIMIT} bytes", files.len());
    if size > LIMIT {
        wrong.push(format!("{size} bytes of PTX: at most {LIMIT}"));
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let list = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let paths = list.filter_map(|entry| Some(entry.ok()?.path()));
    let mut files: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|e| e == "ptx")).collect();
    files.sort();
    if files.is_empty() { Err(format!("{}: no PTX", folder.display())) } else { Ok(files) }
}

/// Lines with a path from the root of a file system in a string, on Unix or Windows.
fn absolute_paths(ptx: &str) -> Vec<&str> {
    let is_absolute = |text: &str| {
        let mut bytes = text.bytes();
        text.starts_with(['/', '\\'])
            || (bytes.next().is_some_and(|b| b.is_ascii_alphabetic()) && bytes.next() == Some(b':'))
    };
    let mut lines: Vec<&str> = ptx.lines().filter(|line| line.split('"').skip(1).step_by(2).any(is_absolute)).collect();
    // Comments of the compilers, and whatever else names a home or the file system's usual folders.
    let folders = ["/home/", "/root/", "/tmp/", "/usr/", "/Users/", "/opt/"];
    lines.extend(ptx.lines().filter(|line| !line.contains('"') && folders.iter().any(|folder| line.contains(folder))));
    lines
}

/// Assembles one file into `cubin`.
pub fn assemble(
    program: &Path,
    architecture: &str,
    ptx: &Path,
    options: &[&str],
    cubin: &Path,
) -> Result<Vec<Usage>, String> {
    let mut command = Command::new(program);
    command.arg("-v").arg(format!("-arch={architecture}")).args(options).arg(ptx).arg("-o").arg(cubin);
    let output = command.output().map_err(|e| format!("{} cannot be run: {e}", program.display()))?;
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // A refusal may be a crash without words: the status decides.
    if !output.status.success() {
        return Err(format!("{} for {architecture}: {}\n{told}{}", ptx.display(), program.display(), output.status));
    }
    let expected = ptx_text::entries(&build::read(ptx)?).len();
    let usages = usages(&told);
    match usages.len() == expected {
        true => Ok(usages),
        false => Err(format!("{}: {expected} entries, but ptxas tells of {}:\n{told}", ptx.display(), usages.len())),
    }
}

/// From the text of `ptxas -v`.
fn usages(told: &str) -> Vec<Usage> {
    let mut usages: Vec<Usage> = Vec::new();
    for line in told.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            let entry = rest.split('\'').next().unwrap_or(rest).to_string();
            // Spills until ptxas says otherwise.
            usages.push(Usage { entry, memory: [u32::MAX; 3], ..Usage::default() });
        }
        let Some(usage) = usages.last_mut() else { continue };
        if line.contains("bytes stack frame") {
            let mut numbers = line.split_whitespace().filter_map(|word| word.parse().ok());
            usage.memory = std::array::from_fn(|_| numbers.next().unwrap_or(u32::MAX));
        } else if let Some((_, rest)) = line.split_once("Used ") {
            let before = |what: &str| {
                let part = rest.split(", ").find(|part| part.ends_with(what))?;
                part.split_whitespace().next()?.parse().ok()
            };
            usage.registers = before("registers").unwrap_or(u32::MAX);
            usage.shared = before("smem").unwrap_or(0);
        }
    }
    usages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_ptxas_are_read() {
        let told = "ptxas info    : 0 bytes gmem\nptxas info    : Compiling entry function 'a' for 'sm_80'\n\
                    ptxas info    : Function properties for a\n    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads\n\
                    ptxas info    : Used 40 registers, used 1 barriers, 16384 bytes smem, 376 bytes cmem[0]\n\
                    ptxas info    : Compiling entry function 'b' for 'sm_80'\n\
                    \x20   0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n\
                    ptxas info    : Used 20 registers, 376 bytes cmem[0]\n";
        let a = Usage { entry: "a".into(), registers: 40, shared: 16384, memory: [8, 4, 12] };
        let b = Usage { entry: "b".into(), registers: 20, shared: 0, memory: [0; 3] };
        assert_eq!(usages(told), [a, b]);
    }

    #[test]
    fn absolute_paths_are_seen() {
        let bad = ["\t.file\t1 \"/a/b.cu\"", "\t.file\t1 \"C:/a.cu\"", "// compiled in /home/me"];
        for line in bad {
            assert_eq!(absolute_paths(line), [line]);
        }
        assert!(absolute_paths("\t.file\t1 \"kernels-cu/a.cu\"\n// a / b\n").is_empty());
    }
}
