//! Planted bugs: a suite that cannot fail proves nothing, so each of these must make it fail.

use crate::build::{self, HELP, Language};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Where proptest keeps what failed.
const SUITES: &str = "tests/suites";

/// The repository, and the copy that bugs are planted in.
struct Trees {
    root: PathBuf,
    copy: PathBuf,
    build: PathBuf,
}

/// Applies each patch to a copy of the tree; the suites must build, and fail.
pub fn run(names: &[String]) -> Result<(), String> {
    let root = crate::root();
    let folder = root.join("target/planted");
    let trees = Trees { copy: folder.join("tree"), build: folder.join("build"), root };
    let patches = patches(&trees.root, names)?;
    let compilers = Language::ALL.iter().all(|language| build::variable(language.variable()).is_some());

    trees.refresh()?;
    println!("without a bug ...");
    let suites = if compilers { Suites::Kernels } else { Suites::Default };
    let clean = trees.test(suites, &[])?;
    if !clean.status.success() {
        return Err(format!("the suites fail without any planted bug:\n{}", text(&clean)));
    }
    let mut missed = Vec::new();
    for (i, patch) in patches.iter().enumerate() {
        let name = patch.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let Some(suites) = Suites::of(patch, compilers)? else {
            println!("{}/{} {name}: SKIPPED: its kernel must be compiled: {HELP}", i + 1, patches.len());
            continue;
        };
        trees.apply(patch, &[])?;
        let built = trees.test(suites, &["--no-run"])?;
        if !built.status.success() {
            return Err(format!("{name}: the tree with this bug does not build:\n{}", text(&built)));
        }
        let tested = trees.test(suites, &[])?;
        let caught = failures(&tested);
        match (tested.status.success(), caught.is_empty()) {
            (true, _) => missed.push(name.clone()),
            (false, true) => return Err(format!("{name}: no test failed, but the run did:\n{}", text(&tested))),
            (false, false) => {}
        }
        let more = caught.len().saturating_sub(3);
        let verdict = match caught.get(..3).unwrap_or(&caught).join(", ") {
            names if names.is_empty() => "MISSED".into(),
            names if more > 0 => format!("caught by {names} and {more} more"),
            names => format!("caught by {names}"),
        };
        println!("{}/{} {name}: {verdict}", i + 1, patches.len());
        trees.apply(patch, &["--reverse"])?;
        trees.forget_regressions()?;
    }
    match missed.as_slice() {
        [] => Ok(()),
        missed => Err(format!("the suites stay green with: {}", missed.join(", "))),
    }
}

/// All patches, or those named.
fn patches(root: &Path, names: &[String]) -> Result<Vec<PathBuf>, String> {
    let folder = root.join("tests/planted");
    let list = fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let paths = list.filter_map(|entry| Some(entry.ok()?.path()));
    let mut patches: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|e| e == "patch")).collect();
    patches.sort();
    for name in names {
        if !patches.iter().any(|path| path.file_stem().is_some_and(|stem| stem == name.as_str())) {
            return Err(format!("no tests/planted/{name}.patch"));
        }
    }
    let wanted = |path: &PathBuf| names.iter().any(|name| path.file_stem().is_some_and(|stem| stem == name.as_str()));
    if !names.is_empty() {
        patches.retain(wanted);
    }
    Ok(patches)
}

/// What a patch is to be caught by.
#[derive(Clone, Copy)]
enum Suites {
    /// Those of the default features, on the committed PTX.
    Default,
    /// Those without the GPU backend, because a kernel source has changed and there is no compiler.
    Cpu,
    /// Those of the emulator too, on PTX that is compiled anew.
    Kernels,
}

impl Suites {
    /// `None` if nothing but a compiled kernel can show the bug, and there are no compilers.
    fn of(patch: &Path, compilers: bool) -> Result<Option<Self>, String> {
        let text = fs::read_to_string(patch).map_err(|e| format!("{}: {e}", patch.display()))?;
        let mut kernels = text.lines().filter(|line| line.starts_with("+++ b/kernels-")).peekable();
        Ok(match (kernels.peek().is_some(), compilers) {
            (false, _) => Some(Self::Default),
            (true, true) => Some(Self::Kernels),
            // The CPU backend has the formulas too.
            (true, false) => kernels.all(|line| line.ends_with("discretise_formulas.rs")).then_some(Self::Cpu),
        })
    }

    fn features(self) -> &'static [&'static str] {
        match self {
            Self::Default => &[],
            Self::Cpu => &["--no-default-features", "--features", "rayon"],
            Self::Kernels => &["--features", "emulator"],
        }
    }
}

impl Trees {
    /// Makes the copy equal to the tree; files that are equal already keep their times, so that little is rebuilt.
    fn refresh(&self) -> Result<(), String> {
        let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let listed = output(Command::new("git").args(list).current_dir(&self.root))?;
        if !listed.status.success() {
            return Err(format!("git ls-files: {}", text(&listed)));
        }
        let names = String::from_utf8_lossy(&listed.stdout).into_owned();
        let mut kept = HashSet::new();
        for name in names.split('\0').filter(|name| !name.is_empty()) {
            let (from, to) = (self.root.join(name), self.copy.join(name));
            // Deleted in the tree but not yet in the index.
            let Ok(content) = fs::read(&from) else { continue };
            kept.insert(to.clone());
            if fs::read(&to).is_ok_and(|old| old == content) {
                continue;
            }
            let parent = to.parent().expect("a file in a folder");
            fs::create_dir_all(parent).map_err(|e| format!("{}: {e}", parent.display()))?;
            fs::write(&to, content).map_err(|e| format!("{}: {e}", to.display()))?;
        }
        remove_others(&self.copy, &kept)
    }

    fn apply(&self, patch: &Path, options: &[&str]) -> Result<(), String> {
        // The copy lies inside the repository's own folder: without the ceiling git would look for paths there.
        let mut git = Command::new("git");
        git.arg("apply").args(options).arg(patch).current_dir(&self.copy);
        let applied = output(git.env("GIT_CEILING_DIRECTORIES", self.copy.parent().expect("a folder")))?;
        match applied.status.success() {
            true => Ok(()),
            false => Err(format!("{} does not apply: {}", patch.display(), text(&applied))),
        }
    }

    /// What proptest kept of one bug must not decide about the next: the tree's own regressions come back.
    fn forget_regressions(&self) -> Result<(), String> {
        let is_kept = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "regressions");
        let folder = self.copy.join(SUITES);
        for entry in fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))? {
            let path = entry.map_err(|e| e.to_string())?.path();
            if is_kept(&path) {
                let own = self.root.join(SUITES).join(path.file_name().unwrap_or_default());
                match own.exists() {
                    true => fs::copy(&own, &path).map(|_| ()),
                    false => fs::remove_file(&path),
                }
                .map_err(|e| format!("{}: {e}", path.display()))?;
            }
        }
        Ok(())
    }

    fn test(&self, suites: Suites, arguments: &[&str]) -> Result<Output, String> {
        let mut cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
        cargo.args(["test", "--package", "ssm-kernels", "--tests"]).args(suites.features()).args(arguments);
        cargo.current_dir(&self.copy);
        match suites {
            Suites::Kernels => _ = cargo.env("SSM_PTX", "build").env("SSM_REQUIRE", "cpu,emulator"),
            // The committed PTX is what these run on.
            Suites::Default | Suites::Cpu => {
                for name in Language::ALL.map(Language::variable).into_iter().chain(["SSM_PTX"]) {
                    cargo.env_remove(name);
                }
            }
        }
        output(cargo.env("CARGO_TARGET_DIR", &self.build).env("RUST_BACKTRACE", "0"))
    }
}

/// Removes what the copy holds beside `kept`.
fn remove_others(folder: &Path, kept: &HashSet<PathBuf>) -> Result<(), String> {
    for entry in fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))? {
        let path = entry.map_err(|e| e.to_string())?.path();
        if path.is_dir() {
            remove_others(&path, kept)?;
        } else if !kept.contains(&path) {
            fs::remove_file(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        }
    }
    Ok(())
}

fn output(command: &mut Command) -> Result<Output, String> {
    command.output().map_err(|e| format!("{:?}: {e}", command.get_program()))
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The names of the failed tests.
fn failures(output: &Output) -> Vec<String> {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed = stdout.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
    failed.map(str::to_string).collect()
}
