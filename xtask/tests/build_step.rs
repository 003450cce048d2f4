//! The rules of build.rs: the script itself is compiled and run on copies of the kernels, with the compilers that a test
//! gives it. Those with real compilers are ignored without them: `.ci/run` runs them.
#![cfg(unix)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// A copy of what the package's build reads, and the folders that a build would have.
struct Tree {
    folder: PathBuf,
    variables: Vec<(String, String)>,
}

impl Tree {
    fn new(test: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
        let _ = fs::remove_dir_all(&folder);
        for part in ["kernels-cu", "kernels-rs", "kernels-ptx"] {
            copy(&repository().join(part), &folder.join("crate").join(part));
        }
        fs::create_dir_all(folder.join("out")).unwrap();
        fs::create_dir_all(folder.join("bin")).unwrap();
        let tree = Self { folder, variables: Vec::new() };
        // No compiler but those of the test.
        let bin = tree.folder.join("bin").display().to_string();
        tree.with("CARGO_FEATURE_CUDA", "1").with("PATH", &bin).with("RUSTC", &format!("{bin}/rustc"))
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(other, _)| other != name);
        self.variables.push((name.into(), value.into()));
        self
    }

    /// With the compilers and the path of this process.
    fn with_compilers(self) -> Self {
        let mut tree = self;
        for name in ["PATH", "NVCC", "PTX_RUSTC"] {
            let value = std::env::var(name);
            tree = tree.with(name, &value.unwrap_or_else(|_| panic!("{name} is not set: see scripts/toolchains")));
        }
        tree
    }

    /// A script as a program on the path. It can leave a trace, `$CALLED`.
    fn program(self, name: &str, script: &str) -> Self {
        let path = self.folder.join("bin").join(name);
        let called = self.folder.join("called").display().to_string();
        let text = path.with_extension("text");
        fs::write(&text, format!("#!/bin/sh\nCALLED='{called}'\n{script}\n")).unwrap();
        // By another process: a file that any process of this one still has open for writing cannot be run.
        assert!(Command::new("install").args(["-m", "755"]).args([text, path]).status().unwrap().success());
        self
    }

    fn edit(self, path: &str, change: impl Fn(String) -> String) -> Self {
        let path = self.folder.join("crate").join(path);
        fs::write(&path, change(fs::read_to_string(&path).unwrap())).unwrap();
        self
    }

    fn run(&self) -> Output {
        let mut script = Command::new(script());
        script.env_clear().envs(self.variables.iter().cloned()).env("OUT_DIR", self.folder.join("out"));
        script.env("CARGO_MANIFEST_DIR", self.folder.join("crate")).current_dir(self.folder.join("crate"));
        script.output().unwrap()
    }

    /// The table that a successful build writes.
    fn table(&self) -> String {
        let output = self.run();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read_to_string(self.folder.join("out/ptx.rs")).unwrap()
    }

    /// The message that a failed build prints.
    fn error(&self) -> String {
        let output = self.run();
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(!message.contains("panicked"), "{message}");
        message
    }

    fn embedded(&self, unit: &str) -> String {
        fs::read_to_string(self.folder.join("out/ptx").join(format!("{unit}.ptx"))).unwrap()
    }

    fn committed(&self, unit: &str) -> String {
        fs::read_to_string(self.folder.join("crate/kernels-ptx").join(format!("{unit}.ptx"))).unwrap()
    }

    fn called(&self) -> bool {
        self.folder.join("called").exists()
    }
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// build.rs, compiled: it has no dependencies.
fn script() -> &'static Path {
    static SCRIPT: OnceLock<PathBuf> = OnceLock::new();
    SCRIPT.get_or_init(|| {
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("build-script");
        let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
        let mut command = Command::new(rustc);
        command.args(["--edition=2024", "build.rs", "-o"]).arg(&program).current_dir(repository());
        assert!(command.status().unwrap().success());
        program
    })
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, target) = entry.map(|entry| (entry.path(), to.join(entry.file_name()))).unwrap();
        match path.is_dir() {
            true => copy(&path, &target),
            false => fs::copy(&path, &target).map(|_| ()).unwrap(),
        }
    }
}

const SCAN: &str = "kernels-cu/selective_scan_fwd.cu";
const FAILS: &str = ": > \"$CALLED\"; echo 'this compiler fails' >&2; exit 1";
/// Writes one kernel to the file after `-o`.
const COMPILES: &str = r#": > "$CALLED"
[ "$1" = --version ] && { echo 'Cuda compilation tools, release 99.1, V99.1.2'; exit; }
while [ "$1" != -o ]; do shift; done
printf '.version 9.9\n.target sm_80\n.visible .entry from_the_fake(\n)\n{\n\tret;\n}\n' > "$2""#;

#[test]
fn without_compilers_the_committed_ptx_is_embedded() {
    let tree = Tree::new("without_compilers");
    let table = tree.table();
    assert!(table.contains("ORIGIN: &str = \"committed\""), "{table}");
    assert!(table.contains("\"nvcc ") && table.contains("\"rustc "), "{table}");
    for unit in ["selective_scan_fwd_bf16", "discretise_bwd_f32"] {
        assert!(table.contains(&format!("unit: \"{unit}\"")), "{table}");
        assert_eq!(tree.embedded(unit), tree.committed(unit));
    }
}

#[test]
fn unrelated_compilers_are_not_called() {
    let tree = Tree::new("unrelated").program("nvcc", FAILS).program("rustc", FAILS);
    let home = tree.folder.join("toolkit");
    fs::create_dir_all(&home).unwrap();
    std::os::unix::fs::symlink(tree.folder.join("bin"), home.join("bin")).unwrap();
    let tree = tree.with("CUDA_HOME", &home.display().to_string());
    assert!(tree.table().contains("\"committed\""));
    assert!(!tree.called());
}

#[test]
fn line_ends_are_no_change() {
    let tree = Tree::new("line_ends").edit(SCAN, |text| text.replace('\n', "\r\n"));
    let tree = tree.edit("kernels-ptx/selective_scan_fwd_f32.ptx", |text| text.replace('\n', "\r\n"));
    let tree = tree.edit("kernels-ptx/manifest.txt", |text| text.replace('\n', "\r\n"));
    assert!(tree.table().contains("\"committed\""));
    assert!(!tree.embedded("selective_scan_fwd_f32").contains('\r'));
}

#[test]
fn without_the_feature_nothing_is_read() {
    let mut tree = Tree::new("without_feature").edit(SCAN, |text| text + "\n");
    tree.variables.retain(|(name, _)| name != "CARGO_FEATURE_CUDA");
    fs::remove_dir_all(tree.folder.join("crate/kernels-ptx")).unwrap();
    assert!(tree.table().contains("pub static MODULES: &[Module] = &[\n];"));
}

#[test]
fn a_change_without_a_compiler_says_what_changed_and_how_to_get_one() {
    for (name, path, compiler) in [("cuda", SCAN, "nvcc"), ("rust", "kernels-rs/discretise.rs", "rust-src")] {
        let message = Tree::new(&format!("changed_{name}")).edit(path, |text| text + "\n").error();
        for part in [&format!("{path} changed"), compiler, "scripts/toolchains", "restore"] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
}

#[test]
fn the_structs_header_concerns_both_languages() {
    let tree = Tree::new("params").edit("kernels-cu/params.h", |text| text + "\n").program("nvcc", COMPILES);
    let message = tree.error();
    assert!(message.contains("kernels-cu/params.h changed") && message.contains("rust-src"), "{message}");
}

#[test]
fn committed_only_refuses_changed_sources() {
    let tree = Tree::new("committed_only").program("nvcc", COMPILES).with("SSM_PTX", "committed");
    assert!(tree.table().contains("\"committed\""));
    let message = tree.edit(SCAN, |text| text + "\n").error();
    assert!(message.contains("SSM_PTX=committed") && message.contains(SCAN), "{message}");
}

#[test]
fn only_the_changed_language_is_compiled() {
    // Every CUDA unit includes it.
    let tree = Tree::new("one_language").edit("kernels-cu/math.cuh", |text| text + "\n").program("nvcc", COMPILES);
    let table = tree.program("rustc", FAILS).table();
    assert!(table.contains("\"compiled\"") && table.contains("\"from_the_fake\""), "{table}");
    assert!(table.contains("\"nvcc 99.1.2\", \"rustc "), "{table}");
    let tree = Tree { folder: Path::new(env!("CARGO_TARGET_TMPDIR")).join("one_language"), variables: Vec::new() };
    assert!(tree.embedded("selective_scan_fwd_f16").starts_with(".version 8.0\n"));
    assert_eq!(tree.embedded("discretise_fwd_f16"), tree.committed("discretise_fwd_f16"));
}

#[test]
fn a_named_compiler_is_used_although_nothing_changed() {
    let tree = Tree::new("named").program("mine", COMPILES);
    let mine = tree.folder.join("bin/mine").display().to_string();
    assert!(tree.with("NVCC", &mine).table().contains("\"from_the_fake\""));
}

#[test]
fn a_named_compiler_that_is_not_there_is_an_error() {
    let message = Tree::new("not_there").with("NVCC", "/nowhere/nvcc").error();
    assert!(message.contains("/nowhere/nvcc cannot be run"), "{message}");
    let message = Tree::new("not_there").with("PTX_RUSTC", "/nowhere/rustc").error();
    assert!(message.contains("/nowhere/rustc cannot be run"), "{message}");
}

#[test]
fn a_failing_compiler_fails_the_build_in_its_own_words() {
    let fails = format!("[ \"$1\" = --version ] && {{ echo 'V1.0'; exit; }}\n{FAILS}");
    let tree = Tree::new("failing").edit(SCAN, |text| text + "\n").program("nvcc", &fails);
    let message = tree.error();
    assert!(message.contains("this compiler fails") && message.contains(SCAN), "{message}");
    // Once, not once per unit.
    assert_eq!(message.matches("this compiler fails").count(), 1, "{message}");
}

#[test]
fn ptx_that_calls_what_is_not_there_is_refused() {
    let undefined = COMPILES.replace(".visible", ".extern .func lost ()\\n.visible");
    let tree = Tree::new("undefined").edit(SCAN, |text| text + "\n").program("nvcc", &undefined);
    let message = tree.error();
    assert!(message.contains("lost"), "{message}");
}

#[test]
fn wishes_that_are_none_are_refused() {
    let message = Tree::new("wishes").with("SSM_PTX", "always").error();
    assert!(message.contains("SSM_PTX=always") && message.contains("`build` or `committed`"), "{message}");
}

#[test]
#[ignore = "needs the compilers of scripts/toolchains"]
fn named_compilers_compile_everything() {
    let tree = Tree::new("fresh").with_compilers();
    let table = tree.table();
    assert!(table.contains("\"compiled\""), "{table}");
    let committed = fs::read_dir(repository().join("kernels-ptx")).unwrap();
    let units = committed.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|end| end == "ptx"));
    assert_eq!(table.matches("Module {").count(), units.count(), "{table}");
    for unit in ["selective_scan_fwd_bf16", "discretise_bwd_f32"] {
        assert!(tree.embedded(unit).contains(&format!(".entry {unit}")));
    }
}

/// What a build says of a source with a line that is no language, and that line.
fn broken(test: &str, path: &str) -> (String, usize) {
    let tree = Tree::new(test).with_compilers().edit(path, |text| text + "\nthis is no language;\n");
    let text = fs::read_to_string(tree.folder.join("crate").join(path)).unwrap();
    (tree.error(), text.lines().count())
}

#[test]
#[ignore = "needs the compilers of scripts/toolchains"]
fn a_syntax_error_in_cuda_c_fails_with_nvccs_message() {
    let (message, line) = broken("broken_cuda", SCAN);
    assert!(message.contains(&format!("{SCAN}({line}): error")), "{message}");
}

#[test]
#[ignore = "needs the compilers of scripts/toolchains"]
fn a_syntax_error_in_rust_fails_with_rustcs_message() {
    let (message, line) = broken("broken_rust", "kernels-rs/discretise.rs");
    assert!(message.contains("error: ") && message.contains(&format!("kernels-rs/discretise.rs:{line}:")), "{message}");
}
