//! The published crates: a dry run of publishing them together, what their archives hold, and a crate that is built and
//! run against the archives in a folder of its own, where every call of nvcc fails.

use crate::build;
use crate::{root, target};
use serde_json::Value;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The most that an archive may take.
const LIMIT: u64 = 5_000_000;
/// What the library's package must hold whole: with these it can be built, and its kernels compiled anew.
const WHOLE: [&str; 5] = ["build", "kernels-cu", "kernels-ptx", "kernels-rs", "src"];
/// What every package holds.
const ALWAYS: [&str; 5] = ["Cargo.lock", "Cargo.toml", "LICENSE-APACHE", "LICENSE-MIT", "README.md"];
/// Tests of `xtask/downstream`.
const PASSED: &str = "test result: ok. 4 passed";

/// A published crate and its archive.
struct Crate {
    name: String,
    /// Its folder in an archive, and the archive's stem.
    stem: String,
    archive: PathBuf,
}

pub fn run() -> Result<(), String> {
    let scratch = std::env::temp_dir().join(format!("ssm-kernels-package-{}", std::process::id()));
    build::create_dir(&scratch)?;
    let compiler = FailingNvcc::new(&scratch)?;
    let crates = crates(&metadata()?);

    let packages = crates.iter().flat_map(|published| ["--package", &published.name]);
    let options = ["--locked", "--allow-dirty"];
    let mut publish = compiler.cargo("publish");
    publish.args(["--quiet", "--dry-run"]).args(options).args(packages.clone()).current_dir(root());
    build::run(&mut publish)?;
    // The dry run keeps its archives to itself.
    let mut package = compiler.cargo("package");
    package.args(["--quiet", "--no-verify"]).args(options).args(packages).current_dir(root());
    build::run(&mut package)?;

    let unpacked = scratch.join("unpacked");
    build::create_dir(&unpacked)?;
    for published in &crates {
        check_archive(published, &unpacked)?;
    }
    check_own_targets(&compiler, &crates, &unpacked)?;
    check_downstream(&compiler, &crates, &unpacked, &scratch.join("downstream"))?;
    compiler.check()?;
    fs::remove_dir_all(&scratch).map_err(|error| at(&scratch, &error))
}

fn at(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

/// An nvcc that is the first in the path, says that it was called, and fails.
struct FailingNvcc {
    path: OsString,
    called: PathBuf,
}

impl FailingNvcc {
    fn new(scratch: &Path) -> Result<Self, String> {
        let (folder, called) = (scratch.join("bin"), scratch.join("called"));
        build::create_dir(&folder)?;
        let program = folder.join("nvcc");
        build::write(&program, &format!("#!/bin/sh\n: > '{}'\nexit 1\n", called.display()))?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).map_err(|error| at(&program, &error))?;
        let others = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(folder).chain(std::env::split_paths(&others));
        let path = std::env::join_paths(folders).map_err(|error| error.to_string())?;
        Ok(Self { path, called })
    }

    /// Cargo for somebody who has this compiler and names no other.
    fn cargo(&self, subcommand: &str) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // As the workspace has its dependencies, whose builds are taken where they fit.
        command.arg(subcommand).env("PATH", &self.path).env("CARGO_PROFILE_DEV_DEBUG", "false");
        for name in ["NVCC", "PTX_RUSTC", "SSM_PTX", "CUDA_HOME", "CUDA_PATH", "CARGO_MANIFEST_DIR"] {
            command.env_remove(name);
        }
        command
    }

    fn check(&self) -> Result<(), String> {
        match self.called.exists() {
            true => Err("a build of the packaged files called nvcc, expected the committed PTX".into()),
            false => Ok(()),
        }
    }
}

fn metadata() -> Result<Value, String> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let told = build::run(command.args(["metadata", "--no-deps", "--format-version=1"]).current_dir(root()))?;
    serde_json::from_str(&told).map_err(|error| format!("cargo metadata: {error}"))
}

/// The members of the workspace that are published.
fn crates(metadata: &Value) -> Vec<Crate> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    // Nowhere is an empty list of registries, anywhere is none.
    let published = packages.filter(|package| package["publish"].is_null());
    let named = published.filter_map(|package| {
        let (name, version) = (package["name"].as_str()?, package["version"].as_str()?);
        let stem = format!("{name}-{version}");
        let archive = target().join("package").join(format!("{stem}.crate"));
        Some(Crate { name: name.into(), stem, archive })
    });
    named.collect()
}

/// Size and contents; leaves the files in `unpacked`.
fn check_archive(published: &Crate, unpacked: &Path) -> Result<(), String> {
    let Crate { name, archive, stem } = published;
    let bytes = archive.metadata().map_err(|error| at(archive, &error))?.len();
    build::run(Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(unpacked))?;
    let folder = unpacked.join(stem);
    let files = files(&folder)?;
    println!("{name}: {} files, {:.2} MB packed", files.len(), bytes as f64 / 1e6);
    if bytes > LIMIT {
        return Err(format!("{name}: the archive has {bytes} bytes, expected at most {LIMIT}"));
    }
    let mut needed: Vec<String> = ALWAYS.map(String::from).to_vec();
    if name == "ssm-kernels" {
        let listed = build::run(Command::new("git").arg("ls-files").args(WHOLE).current_dir(root()))?;
        needed.extend(listed.lines().map(String::from));
    }
    let mut faults = contents(&files, &needed);
    faults.extend(machine_paths(&folder, &files)?);
    match faults.is_empty() {
        true => Ok(()),
        false => Err(format!("{name}: {}", faults.join("; "))),
    }
}

/// The files below a folder, relative to it.
fn files(folder: &Path) -> Result<Vec<String>, String> {
    let told = build::run(Command::new("find").args([".", "-type", "f"]).current_dir(folder))?;
    Ok(told.lines().map(|line| line.trim_start_matches("./").to_string()).collect())
}

/// What a package lacks, and what it should not have.
fn contents(files: &[String], needed: &[String]) -> Vec<String> {
    let missing = needed.iter().filter(|name| !files.contains(name)).map(|name| format!("{name} is missing"));
    let unwanted = |name: &str| {
        let hidden = name.starts_with('.') && name != ".cargo_vcs_info.json";
        let case = name.ends_with(".safetensors") && !name.starts_with("examples/");
        hidden || name.contains("fixtures/") || case || name.ends_with(".patch")
    };
    let surplus = files.iter().filter(|name| unwanted(name)).map(|name| format!("{name} does not belong there"));
    missing.chain(surplus).collect()
}

/// Files that name a folder of this machine.
fn machine_paths(folder: &Path, files: &[String]) -> Result<Vec<String>, String> {
    let home = std::env::var("HOME").into_iter().map(|home| format!("{home}/."));
    let places: Vec<String> = home.chain([format!("{}/", root().display())]).collect();
    let mut found = vec![];
    for name in files {
        let path = folder.join(name);
        let bytes = fs::read(&path).map_err(|error| at(&path, &error))?;
        let text = String::from_utf8_lossy(&bytes);
        found.extend(places.iter().filter(|&place| text.contains(place)).map(|place| format!("{name} names {place}")));
    }
    Ok(found)
}

/// Options for cargo that put the unpacked files in the place of what crates.io would give.
fn instead(crates: &[Crate], unpacked: &Path) -> Vec<String> {
    let path = |published: &Crate| unpacked.join(&published.stem).display().to_string();
    let patch = |published: &Crate| format!("patch.crates-io.{}.path={:?}", published.name, path(published));
    crates.iter().flat_map(|published| ["--config".into(), patch(published)]).collect()
}

/// Every library, program, example, bench and test that a package has compiles from its files.
fn check_own_targets(compiler: &FailingNvcc, crates: &[Crate], unpacked: &Path) -> Result<(), String> {
    for published in crates {
        let manifest = unpacked.join(&published.stem).join("Cargo.toml");
        let mut check = compiler.cargo("check");
        check.args(["--quiet", "--all-targets", "--manifest-path"]).arg(manifest).arg("--target-dir").arg(target());
        let others: Vec<_> = crates.iter().filter(|other| other.name != published.name).collect();
        check.args(others.iter().flat_map(|other| instead(std::slice::from_ref(*other), unpacked)));
        build::run(check.current_dir(unpacked)).map_err(|error| format!("{}: {error}", published.name))?;
        println!("{}: all targets compile", published.name);
    }
    Ok(())
}

/// A crate with nothing but the packaged files, in `folder`: with the library's default features and without.
fn check_downstream(compiler: &FailingNvcc, crates: &[Crate], unpacked: &Path, folder: &Path) -> Result<(), String> {
    let listed = build::run(
        Command::new("git")
            .args(["ls-files", "-co", "--exclude-standard", "."])
            .current_dir(root().join("xtask/downstream")),
    )?;
    for name in listed.lines() {
        let (from, to) = (root().join("xtask/downstream").join(name), folder.join(name));
        build::create_dir(to.parent().expect("a file in a folder"))?;
        fs::copy(&from, &to).map_err(|error| at(&from, &error))?;
    }
    // The versions that everything else here is tested with.
    let lock = root().join("Cargo.lock");
    fs::copy(&lock, folder.join("Cargo.lock")).map_err(|error| at(&lock, &error))?;
    let library: Vec<_> = instead(crates, unpacked);
    for features in [&[][..], &["--no-default-features"]] {
        let mut test = compiler.cargo("test");
        test.args(["--quiet"]).args(features).args(&library).arg("--target-dir").arg(target());
        let told = build::run(test.current_dir(folder))?;
        if !told.contains(PASSED) {
            return Err(format!("downstream {features:?} did not say {PASSED:?}:\n{told}"));
        }
        println!("a crate outside of the repository {features:?}: passed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.into()).collect()
    }

    #[test]
    fn a_package_is_whole_and_has_no_more() {
        let needed = names(&["README.md", "kernels-ptx/manifest.txt"]);
        let whole = names(&[".cargo_vcs_info.json", "README.md", "kernels-ptx/manifest.txt", "examples/a.safetensors"]);
        assert!(contents(&whole, &needed).is_empty());
        let told = contents(&names(&["README.md", ".ci/run", "tests/fixtures/a.safetensors"]), &needed);
        let expected = [
            "kernels-ptx/manifest.txt is missing",
            ".ci/run does not belong there",
            "tests/fixtures/a.safetensors does not belong there",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn folders_of_the_machine_are_found() {
        let folder = std::env::temp_dir().join(format!("ssm-kernels-paths-{}", std::process::id()));
        build::create_dir(&folder).unwrap();
        build::write(&folder.join("clean"), "a/b").unwrap();
        build::write(&folder.join("dirty"), &format!("in {}/src", root().display())).unwrap();
        let found = machine_paths(&folder, &names(&["clean", "dirty"])).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert!(found.iter().any(|fault| fault.starts_with("dirty names ")), "{found:?}");
        assert!(!found.iter().any(|fault| fault.starts_with("clean")), "{found:?}");
    }

    #[test]
    fn members_that_say_so_are_not_published() {
        let metadata = serde_json::json!({ "packages": [
            { "name": "a", "version": "1.0.0", "publish": null },
            { "name": "b", "version": "1.0.0", "publish": [] },
        ]});
        let stems: Vec<_> = crates(&metadata).into_iter().map(|published| published.stem).collect();
        assert_eq!(stems, ["a-1.0.0"]);
    }
}
