//! What is embedded. The committed PTX, whenever the manifest's hashes match the sources: a user's compilers do not
//! matter then. A unit is compiled if its sources changed, if the variable of its language names a compiler, or with
//! `SSM_PTX=build`; `SSM_PTX=committed` forbids it.

use std::collections::HashMap;
use std::env;
use std::fmt::Write as _;
use std::path::Path;

use crate::build::committed::{Manifest, Sources};
use crate::build::{COMMITTED, Compiler, HELP, Language, UNITS, Unit};
use crate::build::{cache, compile_all, create_dir, ptx_text, variable, write};

/// The wish of `SSM_PTX`.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    /// Compile what changed, and what a variable asks for.
    Needed,
    Build,
    Committed,
}

impl Mode {
    fn read() -> Result<Option<Self>, String> {
        match env::var("SSM_PTX").unwrap_or_default().as_str() {
            "" => Ok(None),
            "build" => Ok(Some(Self::Build)),
            "committed" => Ok(Some(Self::Committed)),
            other => Err(format!("SSM_PTX={other}: expected `build` or `committed`")),
        }
    }
}

/// One unit's PTX, on its way into the library.
struct Module {
    unit: &'static Unit,
    ptx: String,
    compiler: String,
}

/// Writes `ptx.rs` and the PTX files that it includes to `out`.
pub fn run(root: &Path, out: &Path) -> Result<(), String> {
    let compilers = Language::ALL.map(Language::variable);
    for name in ["SSM_PTX", "CUDA_HOME", "CUDA_PATH"].into_iter().chain(compilers) {
        println!("cargo::rerun-if-env-changed={name}");
    }
    for path in ["build.rs", "build", "kernels-cu", "kernels-rs", COMMITTED] {
        println!("cargo::rerun-if-changed={path}");
    }
    let mode = Mode::read()?;
    let wanted = ["CARGO_FEATURE_CUDA", "CARGO_FEATURE_EMULATOR"].iter().any(|name| env::var_os(name).is_some());
    if !wanted && mode.is_none() {
        return write(&out.join("ptx.rs"), &table(&[], false, out)?);
    }
    let manifest = Manifest::committed(root)?;
    let compiled = compile(mode.unwrap_or(Mode::Needed), &manifest, root, out)?;
    let mut modules = Vec::new();
    for unit in UNITS {
        let (ptx, compiler) = match compiled.get(unit.name) {
            Some((ptx, compiler)) => (ptx.clone(), compiler),
            None => (manifest.ptx(unit, root)?, manifest.compiler(unit.language)?),
        };
        modules.push(Module { unit, ptx, compiler: compiler.clone() });
    }
    write(&out.join("ptx.rs"), &table(&modules, !compiled.is_empty(), out)?)
}

/// The PTX of the units that must not be taken from the committed files, and their compiler, by unit.
fn compile(
    mode: Mode,
    manifest: &Manifest,
    root: &Path,
    out: &Path,
) -> Result<HashMap<&'static str, (String, String)>, String> {
    let sources = Sources::read(root)?;
    let mut wanted: Vec<&Unit> = Vec::new();
    let mut reasons: HashMap<Language, Vec<String>> = HashMap::new();
    for unit in UNITS {
        let mut changes = manifest.changes(unit, &sources);
        if mode == Mode::Committed && !changes.is_empty() {
            return Err(format!(
                "SSM_PTX=committed, but {}: restore it, or build without this variable and refresh {COMMITTED} by \
                 `cargo xtask ptx`",
                changes.join(", ")
            ));
        }
        let asked = mode == Mode::Build || variable(unit.language.variable()).is_some();
        if mode != Mode::Committed && (asked || !changes.is_empty()) {
            wanted.push(unit);
            let reasons = reasons.entry(unit.language).or_default();
            changes.retain(|change| !reasons.contains(change));
            reasons.append(&mut changes);
        }
    }
    let mut compilers = HashMap::new();
    for (language, reasons) in reasons {
        if variable(language.variable()).is_none() {
            println!("cargo::rerun-if-env-changed=PATH");
        }
        let compiler = Compiler::find(language, &cache(out))?.ok_or_else(|| missing(language, &reasons))?;
        // cargo would look for a bare name in the package, and run the script every time.
        if compiler.program().is_absolute() {
            println!("cargo::rerun-if-changed={}", compiler.program().display());
        }
        compilers.insert(language, compiler);
    }
    let texts = compile_all(&wanted, &compilers, root, &out.join("raw"))?;
    let named = wanted.iter().zip(texts);
    Ok(named.map(|(unit, ptx)| (unit.name, (ptx, compilers[&unit.language].name().to_string()))).collect())
}

/// There is no compiler where one is needed.
fn missing(language: Language, reasons: &[String]) -> String {
    let why = match reasons {
        [] => "SSM_PTX=build asks for it".to_string(),
        reasons => reasons.join(", "),
    };
    let (kernels, what) = match language {
        Language::Cuda => ("CUDA C", "nvcc (looked for it in NVCC, CUDA_HOME, CUDA_PATH and PATH)"),
        Language::Rust => ("Rust", "rustc with the rust-src component (looked for it in PTX_RUSTC and RUSTC)"),
    };
    format!(
        "The {kernels} kernels must be compiled to PTX, because {why}; there is no {what}.\nGet one: {HELP}. Or restore \
         the sources that {COMMITTED} was compiled from."
    )
}

/// The text of `ptx.rs`.
fn table(modules: &[Module], compiled: bool, out: &Path) -> Result<String, String> {
    let folder = out.join("ptx");
    create_dir(&folder)?;
    let mut text = String::from("/// One for each unit of build/units.rs.\npub static MODULES: &[Module] = &[\n");
    let mut compilers: Vec<&str> = Vec::new();
    for module in modules {
        let path = folder.join(format!("{}.ptx", module.unit.name));
        write(&path, &module.ptx)?;
        let (unit, entries) = (module.unit.name, ptx_text::entries(&module.ptx));
        let path = path.to_str().ok_or_else(|| format!("{}: the path is not Unicode", path.display()))?;
        let _ = writeln!(text, "    Module {{ unit: {unit:?}, entries: &{entries:?}, ptx: include_str!({path:?}) }},");
        if !compilers.contains(&module.compiler.as_str()) {
            compilers.push(&module.compiler);
        }
    }
    let origin = if compiled { "compiled" } else { "committed" };
    let _ = write!(
        text,
        "];\n\n/// `committed`, or `compiled` if this build compiled any of them.\npub static ORIGIN: &str = {origin:?};\n\n\
         /// What compiled them.\npub static COMPILERS: &[&str] = &{compilers:?};\n"
    );
    Ok(text)
}
