//! Programs that use the library as C does: compiled against the header, linked with the shared library. Without a C compiler
//! or NumPy they are skipped aloud.

#![cfg(target_os = "linux")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The folder with the shared library, which Cargo built beside this test.
fn library() -> PathBuf {
    let test = std::env::current_exe().expect("this binary");
    let found = test.ancestors().skip(1).take(2).find(|folder| folder.join("libssm_kernels_c.so").exists());
    found.expect("libssm_kernels_c.so beside the test").to_path_buf()
}

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn skipped(what: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: no {what}");
}

fn succeeded(output: &Output) -> String {
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}:\n{out}\n{errors}", output.status);
    out.into_owned()
}

#[test]
fn a_program_in_c() {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("scan");
    let built = Command::new("cc")
        .args(["-std=c99", "-O2", "-Wall", "-Wextra", "-Wredundant-decls", "-Werror", "-ffp-contract=off"])
        .arg("-I")
        .arg(folder().join("include"))
        .arg(folder().join("tests/scan.c"))
        .arg("-o")
        .arg(&program)
        .arg(format!("-L{}", library().display()))
        .args(["-lssm_kernels_c", "-lm"])
        .output();
    let Ok(built) = built else { return skipped("C compiler `cc`") };
    succeeded(&built);
    let run = Command::new(&program).env("LD_LIBRARY_PATH", library()).output().expect("the program");
    let printed = succeeded(&run);
    assert!(printed.contains("selective_scan: `A` has shape [3, 4], expected [2, 4] (dim, dstate)"), "{printed}");
    assert!(printed.contains(concat!("ok, version ", env!("CARGO_PKG_VERSION"))), "{printed}");
}

#[test]
fn the_example_in_python() {
    let has_numpy = Command::new("python3").args(["-c", "import numpy"]).output();
    if !has_numpy.is_ok_and(|output| output.status.success()) {
        return skipped("python3 with NumPy");
    }
    let run = Command::new("python3")
        .arg(folder().join("examples/selective_scan.py"))
        .arg(library().join("libssm_kernels_c.so"))
        .output()
        .expect("python3");
    assert!(succeeded(&run).contains("largest difference"));
}
