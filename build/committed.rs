//! The committed PTX and its manifest: what it was compiled from, how, and what kernels it holds.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{COMMITTED, Language, UNITS, Unit, hash, nvcc, read, rust_ptx};

/// The manifest's name in the folder of the committed PTX.
pub const MANIFEST: &str = "manifest.txt";

/// The structs that both languages' kernels take; Rust's are made of this file.
const PARAMS: &str = "kernels-cu/params.h";

/// `kernels-ptx/manifest.txt`, line by line:
///
/// ```text
/// compiler <language> <name and version>
/// options <language> <hash>
/// source <hash> <path>
/// unit <name> <entries>
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    /// By language.
    pub compilers: BTreeMap<String, String>,
    /// By language: the hash of the options, which are as much of a source as the text.
    pub options: BTreeMap<String, String>,
    /// By path.
    pub sources: BTreeMap<String, String>,
    /// By unit.
    pub entries: BTreeMap<String, Vec<String>>,
}

impl Manifest {
    /// The committed one.
    pub fn committed(root: &Path) -> Result<Self, String> {
        let path = root.join(COMMITTED).join(MANIFEST);
        let text = read(&path)?;
        Self::parse(&text).map_err(|line| format!("{}: not a manifest's line: {line}", path.display()))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut manifest = Self::default();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let mut words = line.splitn(3, ' ').map(str::to_string);
            let (Some(kind), Some(first), Some(rest)) = (words.next(), words.next(), words.next()) else {
                return Err(line.to_string());
            };
            match kind.as_str() {
                "compiler" => manifest.compilers.insert(first, rest),
                "options" => manifest.options.insert(first, rest),
                "source" => manifest.sources.insert(rest, first),
                "unit" => {
                    manifest.entries.insert(first, rest.split(' ').map(str::to_string).collect());
                    None
                }
                _ => return Err(line.to_string()),
            };
        }
        Ok(manifest)
    }

    /// Why the unit must be compiled anew: what changed since its PTX was committed.
    pub fn changes(&self, unit: &Unit, now: &Sources) -> Vec<String> {
        let language = unit.language.name();
        let mut changes: Vec<String> = Vec::new();
        let unit_sources = now.of(unit);
        for path in &unit_sources {
            match self.sources.get(*path) {
                None => changes.push(format!("{path} is new")),
                Some(hash) if *hash != now.hashes[*path] => changes.push(format!("{path} changed")),
                Some(_) => {}
            }
        }
        let gone = self.sources.keys().filter(|path| !now.hashes.contains_key(*path) && concerns(unit, path));
        changes.extend(gone.map(|path| format!("{path} is gone")));
        if self.options.get(language) != Some(&options_hash(unit.language)) {
            changes.push(format!("the compiler options of build/ changed ({language})"));
        }
        if !self.entries.contains_key(unit.name) {
            changes.push(format!("{} is not in the manifest", unit.name));
        }
        changes
    }

    /// What compiled the language's committed PTX.
    pub fn compiler(&self, language: Language) -> Result<&String, String> {
        let name = language.name();
        self.compilers.get(name).ok_or_else(|| format!("{COMMITTED}/{MANIFEST} names no compiler of {name}"))
    }

    /// The unit's PTX, committed.
    pub fn ptx(&self, unit: &Unit, root: &Path) -> Result<String, String> {
        // A checkout may have turned line ends.
        Ok(read(&root.join(COMMITTED).join(format!("{}.ptx", unit.name)))?.replace('\r', ""))
    }
}

/// The kernel sources as they are now: hashes by path, from the root of the crate, with forward slashes.
pub struct Sources {
    pub hashes: BTreeMap<String, String>,
}

impl Sources {
    pub fn read(root: &Path) -> Result<Self, String> {
        let mut hashes = BTreeMap::new();
        for folder in ["kernels-cu", "kernels-rs"] {
            collect(root, folder, &mut hashes)?;
        }
        Ok(Self { hashes })
    }

    /// The files that the unit may depend on.
    fn of(&self, unit: &Unit) -> Vec<&str> {
        self.hashes.keys().map(String::as_str).filter(|path| concerns(unit, path)).collect()
    }
}

/// CUDA C: the unit's own file and all headers. Rust: all files, and what params.rs is made of.
fn concerns(unit: &Unit, path: &str) -> bool {
    match unit.language {
        Language::Cuda => path == unit.source || (path.starts_with("kernels-cu/") && !path.ends_with(".cu")),
        Language::Rust => path == PARAMS || path.starts_with("kernels-rs/"),
    }
}

fn collect(root: &Path, folder: &str, hashes: &mut BTreeMap<String, String>) -> Result<(), String> {
    let error = |e: std::io::Error| format!("{}: {e}", root.join(folder).display());
    for entry in fs::read_dir(root.join(folder)).map_err(error)? {
        let entry = entry.map_err(error)?;
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        let extension = entry.path().extension().unwrap_or_default().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            collect(root, &path, hashes)?;
        } else if ["cu", "cuh", "h", "rs"].contains(&extension.as_str()) {
            hashes.insert(path, hash(&read(&entry.path())?.replace("\r\n", "\n")));
        }
    }
    Ok(())
}

/// Everything of the command lines that no path is in.
pub fn options_hash(language: Language) -> String {
    let units = UNITS.iter().filter(|unit| unit.language == language).map(|unit| (unit.name, unit.select));
    let options = match language {
        Language::Cuda => nvcc::OPTIONS.to_vec(),
        Language::Rust => [rust_ptx::OPTIONS, rust_ptx::KERNEL_OPTIONS, &[rust_ptx::NO_JUMP_THREADING]].concat(),
    };
    hash(&format!("{options:?}{:?}", units.collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str) -> &'static Unit {
        UNITS.iter().find(|unit| unit.name == name).expect("a unit")
    }

    fn sources(changed: &str) -> Sources {
        let paths = ["kernels-cu/selective_scan_fwd.cu", "kernels-cu/other.cu", "kernels-cu/math.cuh", PARAMS];
        let paths = paths.into_iter().chain(["kernels-rs/lib.rs", "kernels-rs/deep/math.rs"]);
        let value = |path: &str| hash(if path == changed { "new" } else { "old" });
        Sources { hashes: paths.map(|path| (path.to_string(), value(path))).collect() }
    }

    fn manifest() -> Manifest {
        let options = Language::ALL.map(|language| (language.name().to_string(), options_hash(language)));
        let entries = UNITS.iter().map(|unit| (unit.name.to_string(), vec![unit.name.to_string()]));
        Manifest {
            options: options.into(),
            sources: sources("").hashes,
            entries: entries.collect(),
            ..Manifest::default()
        }
    }

    #[test]
    fn a_change_concerns_the_units_that_depend_on_it() {
        let (cuda, rust) = (unit("selective_scan_fwd_f16"), unit("discretise_bwd_f32"));
        let cases = [
            ("", false, false),
            ("kernels-cu/selective_scan_fwd.cu", true, false),
            ("kernels-cu/other.cu", false, false),
            ("kernels-cu/math.cuh", true, false),
            ("kernels-rs/deep/math.rs", false, true),
            (PARAMS, true, true),
        ];
        for (path, first, second) in cases {
            let changes = |unit| manifest().changes(unit, &sources(path));
            let expected = |is| if is { vec![format!("{path} changed")] } else { vec![] };
            assert_eq!((changes(cuda), changes(rust)), (expected(first), expected(second)), "{path}");
        }
    }

    #[test]
    fn new_and_removed_files_and_other_options_are_changes() {
        let rust = unit("discretise_fwd_f32");
        let mut less = manifest();
        less.sources.remove("kernels-rs/lib.rs");
        assert_eq!(less.changes(rust, &sources("")), ["kernels-rs/lib.rs is new"]);
        let mut more = manifest();
        more.sources.insert("kernels-rs/gone.rs".into(), hash(""));
        assert_eq!(more.changes(rust, &sources("")), ["kernels-rs/gone.rs is gone"]);
        let mut other = manifest();
        other.options.insert("rust".into(), hash("-O2"));
        assert_eq!(other.changes(rust, &sources("")).len(), 1);
        assert!(other.changes(unit("selective_scan_fwd_f32"), &sources("")).is_empty());
    }

    #[test]
    fn the_manifest_is_read() {
        let text = "# why\ncompiler cuda nvcc 13.0.88\noptions cuda 01\nsource 02 kernels-cu/a b.cu\nunit u_f32 a b\n";
        let manifest = Manifest::parse(text).unwrap();
        assert_eq!(manifest.compilers["cuda"], "nvcc 13.0.88");
        assert_eq!(manifest.options["cuda"], "01");
        assert_eq!(manifest.sources["kernels-cu/a b.cu"], "02");
        assert_eq!(manifest.entries["u_f32"], ["a", "b"]);
        assert_eq!(Manifest::parse("unit u_f32").unwrap_err(), "unit u_f32");
        assert_eq!(Manifest::parse("<<<<<<< a b").unwrap_err(), "<<<<<<< a b");
    }
}
