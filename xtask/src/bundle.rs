//! One archive for a machine that has a GPU and no Rust: the suites, scenes of the driver's calls, `ssm`, the profiling
//! example, the comparison of opcodes, and how to run them.

use crate::build;
use crate::{root, target};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const NAME: &str = "ssm-kernels-gpu-x86_64-linux";
/// The most that the archive may take.
const LIMIT: u64 = 60 << 20;
const README: &str = include_str!("bundle/README.md");
const RUN: &str = include_str!("bundle/run.sh");
/// What is tried of the suites on the emulated driver.
const SAMPLE: [&str; 2] = ["cuda::f32::drawn", "cuda::bf16::packed"];

/// Makes the archive, and tries it if that is asked for: unpacked in an empty folder, on the emulated driver.
pub fn run(tried: bool) -> Result<(), String> {
    let parent = target().join("bundle");
    let folder = parent.join(NAME);
    remove(&folder)?;
    let mut programs = commands(&folder.join("bin"))?;
    let (suites, driver) = suites(&folder.join("bin"))?;
    programs.extend(suites);
    cases(&folder.join("tests"))?;
    let mut git = Command::new("git");
    let commit = build::run(git.args(["describe", "--always", "--dirty", "--abbrev=40"]).current_dir(root()))?;
    let readme = README.replace("@COMMIT@", commit.trim()).replace("@GLIBC@", &glibc(&programs)?);
    build::write(&folder.join("README.md"), &readme)?;
    let script = folder.join("run");
    build::write(&script, RUN)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).map_err(|error| at(&script, &error))?;

    let archive = parent.join(format!("{NAME}.tar.xz"));
    // The programs share most of their bytes with the one before: as far back the compressor has to look.
    let mut tar = Command::new("tar");
    tar.env("XZ_OPT", "--lzma2=preset=1,dict=64MiB").arg("-cJf").arg(&archive).arg("-C").arg(&parent).arg(NAME);
    build::run(&mut tar)?;
    let bytes = archive.metadata().map_err(|error| at(&archive, &error))?.len();
    println!("{}: {:.1} MB, {} programs", archive.display(), bytes as f64 / 1e6, programs.len());
    if bytes > LIMIT {
        return Err(format!("{} has {bytes} bytes, at most {LIMIT} are allowed", archive.display()));
    }
    if tried { attempt(&archive, &driver) } else { Ok(()) }
}

fn at(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

fn remove(folder: &Path) -> Result<(), String> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(at(folder, &error)),
        _ => Ok(()),
    }
}

/// `ssm`, the profiling example and the comparison of opcodes; the first two have ranges for profilers.
fn commands(to: &Path) -> Result<Vec<PathBuf>, String> {
    let mut command = Command::new(cargo());
    command.args(["build", "--release", "--features", "ssm-kernels/nvtx", "--package", "ssm-cli", "--bin", "ssm"]);
    command.args(["--package", "ssm-kernels", "--example", "05_profile"]);
    let built = built(command.args(["--package", "emulated-cuda", "--example", "opcodes"]))?;
    built.iter().filter(|(_, file)| file.extension().is_none()).map(|(_, program)| copy(program, to)).collect()
}

/// The test program of this name, behind which cargo puts a number.
fn is(file: &Path, name: &str) -> bool {
    let stem = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    stem.rsplit_once('-').is_some_and(|(stem, _)| stem == name)
}

/// The test programs of the suites and of the scenes, beside `ssm`; and the emulated driver, which is built with them.
fn suites(to: &Path) -> Result<(Vec<PathBuf>, PathBuf), String> {
    let (mut copies, mut driver) = (vec![], None);
    for (package, file) in built(Command::new(cargo()).args(["test", "--workspace", "--tests", "--no-run"]))? {
        if file.ends_with("libemulated_cuda.so") {
            driver = Some(file);
        } else if package == "ssm-kernels" && (is(&file, "suites") || is(&file, "emulated_driver")) {
            copies.push(copy(&file, to)?);
        }
    }
    Ok((copies, driver.ok_or("cargo built no libemulated_cuda.so")?))
}

fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Runs cargo; package and place of each program and shared library that it built.
fn built(command: &mut Command) -> Result<Vec<(String, PathBuf)>, String> {
    // What the compilers say is for the eyes.
    let command = command.args(["--locked", "--message-format=json-render-diagnostics"]).current_dir(root());
    let output = command.stderr(Stdio::inherit()).output().map_err(|error| format!("cargo cannot be run: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", output.status));
    }
    let told = String::from_utf8_lossy(&output.stdout);
    let messages = told.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let files = |message: Value| {
        let package = message["package_id"].as_str()?;
        // path+file:///somewhere/folder#name@version, or #version where the folder has the name.
        let (folder, id) = package.split_once('#')?;
        let name = id.split_once('@').map_or_else(|| folder.rsplit('/').next(), |(name, _)| Some(name))?;
        let libraries = message["filenames"].as_array()?.iter().filter_map(Value::as_str);
        let libraries = libraries.filter(|file| file.ends_with(".so"));
        let files = message["executable"].as_str().into_iter().chain(libraries);
        Some(files.map(|file| (name.to_string(), PathBuf::from(file))).collect::<Vec<_>>())
    };
    Ok(messages.filter_map(files).flatten().collect())
}

/// Copies a program without its symbols, and without what cargo puts behind its name.
fn copy(program: &Path, to: &Path) -> Result<PathBuf, String> {
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = match name.rsplit_once('-') {
        Some((name, hash)) if hash.len() == 16 => name,
        _ => &name,
    };
    build::create_dir(to)?;
    let copy = to.join(name);
    build::run(Command::new("strip").arg("-o").arg(&copy).arg(program))?;
    Ok(copy)
}

/// What the suites read: fixtures, and cases that failed once.
fn cases(to: &Path) -> Result<(), String> {
    let from = root().join("tests");
    let mut git = Command::new("git");
    let listed = build::run(git.args(["ls-files", "fixtures", "*.regressions"]).current_dir(&from))?;
    for name in listed.lines() {
        let (from, to) = (from.join(name), to.join(name));
        build::create_dir(to.parent().expect("a file in a folder"))?;
        fs::copy(&from, &to).map_err(|error| at(&from, &error))?;
    }
    Ok(())
}

/// The oldest glibc that has all symbols which the programs ask for.
fn glibc(programs: &[PathBuf]) -> Result<String, String> {
    const PREFIX: &[u8] = b"GLIBC_2.";
    let mut newest = 0;
    for program in programs {
        let bytes = fs::read(program).map_err(|error| at(program, &error))?;
        let names = bytes.windows(PREFIX.len()).enumerate().filter(|(_, window)| *window == PREFIX);
        for (place, _) in names {
            let digits = bytes[place + PREFIX.len()..].iter().take_while(|byte| byte.is_ascii_digit());
            let minor =
                digits.fold(0u32, |minor, byte| minor.saturating_mul(10).saturating_add(u32::from(byte - b'0')));
            newest = newest.max(minor);
        }
    }
    Ok(format!("glibc 2.{newest}"))
}

/// Unpacks the archive in an empty folder and runs a part of it there, on the emulated driver.
fn attempt(archive: &Path, library: &Path) -> Result<(), String> {
    let driver = target().join("bundle/libcuda");
    build::create_dir(&driver)?;
    fs::copy(library, driver.join("libcuda.so.1")).map_err(|error| at(library, &error))?;

    let folder = std::env::temp_dir().join(format!("{NAME}-{}", std::process::id()));
    fs::create_dir(&folder).map_err(|error| at(&folder, &error))?;
    build::run(Command::new("tar").arg("-xJf").arg(archive).arg("-C").arg(&folder))?;
    let there = folder.join(NAME);
    let told = |command: &mut Command| {
        // As where there is no cargo.
        let names = std::env::vars_os().map(|(name, _)| name);
        let names = names.filter(|name| name.to_string_lossy().starts_with("CARGO"));
        names.for_each(|name| _ = command.env_remove(name));
        build::run(command.env("LD_LIBRARY_PATH", &driver).current_dir(&there))
    };
    let checked = told(Command::new("./run").arg("check").args(SAMPLE))?;
    let expected = SAMPLE.map(|test| format!("selective_scan::{test} ... ok")).into_iter();
    for line in expected.chain(["all passed\n".into()]) {
        if !checked.contains(&line) {
            return Err(format!("{:?} is not in what `run check` said:\n{checked}", line.trim()));
        }
    }
    for (program, arguments, says) in [
        ("run", &["info"][..], "Emulated CUDA device"),
        ("run", &["bench", "--shape", "1x2x3"], "Emulated CUDA device"),
        ("run", &["scenes"], " 7 passed"),
        ("bin/05_profile", &["1", "40", "37", "1"], "Emulated CUDA device"),
        ("bin/opcodes", &[], "Emulated CUDA device"),
        ("bin/ssm", &["check", "--backend", "cuda", "--cases", "12"], "Emulated CUDA device"),
    ] {
        let told = told(Command::new(there.join(program)).args(arguments))?;
        if !told.contains(says) {
            return Err(format!("{program} {arguments:?} did not say {says:?}:\n{told}"));
        }
    }
    println!("tried in {}: passed", folder.display());
    remove(&folder)
}
