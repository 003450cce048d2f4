//! The emulated driver's library, where the loader finds it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// A folder with the emulated libcuda.so.1, or `None` (said aloud) where its crate is not, as in a published package.
/// `root` is the repository.
pub fn folder(root: &Path) -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let build = || {
        let manifest = root.join("emulated-cuda/Cargo.toml");
        if !manifest.exists() {
            let required = std::env::var("SSM_REQUIRE").unwrap_or_default();
            let wanted = required.split(',').any(|name| name.trim() == "emulator");
            assert!(!wanted, "the emulator is required by SSM_REQUIRE, and {} is not there", manifest.display());
            let _ = writeln!(std::io::stderr(), "SKIPPED: no crate emulated-cuda beside this one");
            return None;
        }
        let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let target = temporary.parent().expect("the target folder");
        let library = target.join("debug/deps/libemulated_cuda.so");
        let sources = ["emulated-cuda/src", "ptx-emulator/src"].map(|folder| newest(&root.join(folder)));
        if modified(&library) <= sources.into_iter().max().flatten() {
            // Not built with the workspace just now. With the profile of tests, whose parts may be there.
            let arguments = ["build", "--quiet", "--package", "emulated-cuda", "--profile", "test", "--manifest-path"];
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(arguments).arg(&manifest).arg("--target-dir").arg(target);
            assert!(cargo.status().expect("cargo runs").success(), "emulated-cuda builds");
        }
        let folder = temporary.join("emulated_cuda");
        std::fs::create_dir_all(&folder).expect("a folder for temporary files");
        std::fs::copy(library, folder.join("libcuda.so.1")).expect("the library");
        Some(folder)
    };
    FOLDER.get_or_init(build).as_deref()
}

/// When a file was written; `None` if it is not there.
fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|about| about.modified()).ok()
}

/// When the newest file of a folder was written.
fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(folder).expect("sources").map(|entry| entry.expect("a file").path());
    entries.map(|path| if path.is_dir() { newest(&path) } else { modified(&path) }).max().flatten()
}
