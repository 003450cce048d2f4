//! The committed PTX: refreshed, or shown to be current and the same from any folder.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::build::committed::{MANIFEST, Manifest, Sources, options_hash};
use crate::build::{self, COMMITTED, Compiler, HELP, Language, UNITS, Unit};
use crate::{root, target};

/// Compiles everything anew into `kernels-ptx`.
pub fn refresh() -> Result<(), String> {
    let root = root();
    let compilers = compilers()?;
    let texts = compile(&compilers, &root)?;
    let folder = root.join(COMMITTED);
    build::create_dir(&folder)?;
    for entry in fs::read_dir(&folder).map_err(|e| e.to_string())? {
        let path = entry.map_err(|e| e.to_string())?.path();
        if path.extension().is_some_and(|extension| extension == "ptx") {
            fs::remove_file(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        }
    }
    for (unit, ptx) in UNITS.iter().zip(&texts) {
        build::write(&folder.join(format!("{}.ptx", unit.name)), ptx)?;
    }
    let manifest = manifest(&compilers, &Sources::read(&root)?, &texts);
    build::write(&folder.join(MANIFEST), &render(&manifest))?;
    println!("{} units, {} bytes", texts.len(), texts.iter().map(String::len).sum::<usize>());
    Ok(())
}

/// Compiles two copies of the sources in different folders: both must give the committed bytes.
pub fn check() -> Result<(), String> {
    let root = root();
    let committed = Manifest::committed(&root)?;
    let compilers = compilers()?;
    let folder = target().join("ptx-check");
    let copies = ["a", "another folder, with a longer name/b"].map(|name| folder.join(name));
    // Of one moment: an edit while this runs is no difference between folders.
    for part in ["kernels-cu", "kernels-rs"] {
        let _ = fs::remove_dir_all(copies[0].join(part));
        let _ = fs::remove_dir_all(copies[1].join(part));
        copy_tree(&root.join(part), &copies[0].join(part))?;
        copy_tree(&copies[0].join(part), &copies[1].join(part))?;
    }
    let fresh = [compile(&compilers, &copies[0])?, compile(&compilers, &copies[1])?];
    let mut wrong = Vec::new();
    for (i, unit) in UNITS.iter().enumerate() {
        if fresh[0][i] != fresh[1][i] {
            wrong.push(difference(unit, "differs from folder to folder", &fresh[0][i], &fresh[1][i]));
        }
    }
    let sources = Sources::read(&copies[0])?;
    for unit in UNITS {
        let changes = committed.changes(unit, &sources);
        wrong.extend((!changes.is_empty()).then(|| format!("{} is out of date: {}", unit.name, changes.join(", "))));
    }
    let mut now = manifest(&compilers, &sources, &fresh[0]);
    for language in Language::ALL {
        let (made, own) = (committed.compiler(language)?, compilers[&language].name());
        if made != own {
            println!(
                "ATTENTION: the committed PTX was made by {made}, here is {own}: {} is not compared",
                language.name()
            );
            now.compilers.insert(language.name().into(), made.clone());
            continue;
        }
        for (unit, ptx) in UNITS.iter().zip(&fresh[0]).filter(|(unit, _)| unit.language == language) {
            let old = committed.ptx(unit, &root)?;
            if old != *ptx {
                wrong.push(difference(unit, "is not what the sources compile to", &old, ptx));
            }
        }
    }
    if wrong.is_empty() && now != committed {
        wrong.push(format!("{COMMITTED}/{MANIFEST} is not current; it would be\n{}", render(&now)));
    }
    match wrong.as_slice() {
        [] => {
            println!("{} units: the same bytes from two folders, and current", UNITS.len());
            Ok(())
        }
        wrong => Err(format!("{}\n`cargo xtask ptx` refreshes {COMMITTED}", wrong.join("\n"))),
    }
}

/// Both, or an error that says how to get them.
fn compilers() -> Result<HashMap<Language, Compiler>, String> {
    let cache = build::cache(&target());
    let mut compilers = HashMap::new();
    for language in Language::ALL {
        let compiler = Compiler::find(language, &cache)?;
        let compiler = compiler.ok_or_else(|| format!("no compiler of {} kernels: {HELP}", language.name()))?;
        println!("{}: {}", compiler.name(), compiler.program().display());
        compilers.insert(language, compiler);
    }
    Ok(compilers)
}

fn compile(compilers: &HashMap<Language, Compiler>, root: &Path) -> Result<Vec<String>, String> {
    build::compile_all(&UNITS.iter().collect::<Vec<_>>(), compilers, root, &target().join("ptx-raw"))
}

fn manifest(compilers: &HashMap<Language, Compiler>, sources: &Sources, texts: &[String]) -> Manifest {
    let languages = Language::ALL.map(|language| (language, language.name().to_string()));
    let compiler = |(language, name): (Language, String)| (name, compilers[&language].name().to_string());
    let entries = |ptx: &String| build::ptx_text::entries(ptx).into_iter().map(str::to_string).collect();
    Manifest {
        compilers: languages.clone().map(compiler).into(),
        options: languages.map(|(language, name)| (name, options_hash(language))).into(),
        sources: sources.hashes.clone(),
        entries: UNITS.iter().zip(texts).map(|(unit, ptx)| (unit.name.to_string(), entries(ptx))).collect(),
    }
}

fn render(manifest: &Manifest) -> String {
    let mut text = String::from("# Written by `cargo xtask ptx`: what the PTX files beside it were compiled from.\n");
    for (language, compiler) in &manifest.compilers {
        let _ = writeln!(text, "compiler {language} {compiler}");
    }
    for (language, hash) in &manifest.options {
        let _ = writeln!(text, "options {language} {hash}");
    }
    for (path, hash) in &manifest.sources {
        let _ = writeln!(text, "source {hash} {path}");
    }
    for (unit, entries) in &manifest.entries {
        let _ = writeln!(text, "unit {unit} {}", entries.join(" "));
    }
    text
}

fn difference(unit: &Unit, what: &str, left: &str, right: &str) -> String {
    let pairs = left.lines().zip(right.lines()).enumerate();
    let first = pairs.into_iter().find(|(_, (left, right))| left != right);
    let place = match first {
        Some((i, (left, right))) => format!("line {}:\n  {left}\n  {right}", i + 1),
        None => format!("{} and {} lines", left.lines().count(), right.lines().count()),
    };
    format!("{} {what}; {place}", unit.name)
}

fn copy_tree(from: &Path, to: &Path) -> Result<(), String> {
    build::create_dir(to)?;
    for entry in fs::read_dir(from).map_err(|e| format!("{}: {e}", from.display()))? {
        let entry = entry.map_err(|e| e.to_string())?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        match path.is_dir() {
            true => copy_tree(&path, &target)?,
            false => fs::copy(&path, &target).map(|_| ()).map_err(|e| format!("{}: {e}", path.display()))?,
        }
    }
    Ok(())
}
