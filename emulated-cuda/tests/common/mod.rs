//! The library where a loader finds it, and programs that load it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The library as cargo built it for this test.
pub fn library() -> PathBuf {
    let test = std::env::current_exe().expect("this binary");
    let library = test.with_file_name("libemulated_cuda.so");
    assert!(library.exists(), "{} is built with the tests", library.display());
    library
}

/// A folder in which the library has the names of a driver's.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        // One for each test binary: they may run at the same time.
        let test = std::env::current_exe().expect("this binary");
        let name = format!("libcuda-{}", test.file_stem().unwrap_or_default().to_string_lossy());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(folder.join("lib64")).expect("a folder for temporary files");
        for link in ["libcuda.so.1", "lib64/libcuda.so"].map(|name| folder.join(name)) {
            if std::fs::read_link(&link).ok() != Some(library()) {
                let _ = std::fs::remove_file(&link);
                std::os::unix::fs::symlink(library(), link).expect("a link");
            }
        }
        folder
    })
}

/// Runs a program with the emulated driver and these settings.
pub fn run(program: &mut Command, settings: &[(&str, &str)]) -> Output {
    for (name, value) in settings {
        program.env(format!("EMULATED_CUDA_{name}"), value);
    }
    program.env("LD_LIBRARY_PATH", folder()).output().expect("a child")
}
