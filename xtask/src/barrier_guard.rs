//! rustc's jump threading moves a barrier that stands between two equal conditions into both arms: threads then wait at
//! different barriers. The option that turns it off must do so with the compiler at hand, and must still be needed: a
//! guard that the planted kernel cannot trip guards nothing.

use crate::build::{self, HELP, Language, rust_ptx};
use crate::{root, target};

pub fn run() -> Result<(), String> {
    let target = target();
    let rustc = rust_ptx::Rustc::find(&build::cache(&target))?;
    let rustc = rustc.ok_or_else(|| format!("no compiler of {} kernels: {HELP}", Language::Rust.name()))?;
    let folder = root().join("xtask/data");
    let barriers = |option: Option<&str>| -> Result<usize, String> {
        let ptx = target.join("barrier_guard.ptx");
        build::run(rustc.any_command(&folder, &folder.join("barrier.rs"), &ptx).args(option))?;
        let text = build::read(&ptx)?;
        Ok(text.lines().filter(|line| line.contains("bar.sync") || line.contains("barrier.sync")).count())
    };
    let (with, without) = (barriers(Some(rust_ptx::NO_JUMP_THREADING))?, barriers(None)?);
    println!(
        "{}: barriers of the planted kernel: {with} with {}, {without} without",
        rustc.name,
        rust_ptx::NO_JUMP_THREADING
    );
    match (with, without) {
        (1, 2) => Ok(()),
        (1, _) => Err("the planted kernel no longer shows what the option is for: plant another".into()),
        _ => Err("barriers are duplicated although jump threading is off: the Rust kernels must not ship".into()),
    }
}
