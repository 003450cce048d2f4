//! The repository's kernels, against counts and texts taken from their lines alone.

use super::*;
use std::path::{Path, PathBuf};

fn kernels() -> Vec<(PathBuf, String)> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Cargo puts this file into packages, which have no kernels beside them.
    if own.join(".cargo_vcs_info.json").exists() {
        return vec![];
    }
    let paths = std::fs::read_dir(own.join("../kernels-ptx")).unwrap().map(|entry| entry.unwrap().path());
    let texts = paths.filter(|path| path.extension().is_some_and(|extension| extension == "ptx"));
    let found: Vec<_> = texts.map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect();
    assert!(!found.is_empty());
    found
}

/// All statements of a block and of those inside, in order.
fn flat<'m>(block: &'m Block, found: &mut Vec<&'m Statement>) {
    for statement in &block.statements {
        match statement {
            Statement::Block(inner) => flat(inner, found),
            _ => found.push(statement),
        }
    }
}

fn statements(module: &Module) -> Vec<&Statement> {
    let mut found = Vec::new();
    for body in module.functions.iter().filter_map(|function| function.body.as_ref()) {
        flat(body, &mut found);
    }
    found
}

/// The lines without comments; scopes of one line, which inline assembly has, are split at their semicolons.
fn codes(text: &str) -> impl Iterator<Item = (u32, &str)> {
    text.lines().enumerate().flat_map(|(index, line)| {
        let code = line.split("//").next().unwrap_or_default().trim();
        let scope = code.strip_prefix("{ ").and_then(|rest| rest.strip_suffix(" }"));
        let parts: Vec<_> = scope.map_or_else(|| vec![code], |inner| inner.split_inclusive(';').collect());
        parts.into_iter().map(move |part| (index as u32 + 1, part.trim()))
    })
}

fn is_instruction(code: &str) -> bool {
    code.ends_with(';') && code.starts_with(|first: char| first.is_ascii_lowercase() || first == '@')
}

#[test]
fn counts_are_those_of_the_lines() {
    for (path, text) in kernels() {
        let module = parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let lines = |wanted: &dyn Fn(&str) -> bool| codes(&text).filter(|(_, line)| wanted(line)).count();
        let all = statements(&module);
        let count = |wanted: &dyn Fn(&Statement) -> bool| all.iter().filter(|statement| wanted(statement)).count();
        assert!(all.len() > 100, "{}", path.display());

        assert_eq!(module.functions.len(), lines(&|line| line.contains(".entry")));
        assert_eq!(module.files.len(), lines(&|line| line.starts_with(".file")));
        assert_eq!(count(&|statement| matches!(statement, Statement::Instruction(_))), lines(&is_instruction));
        assert_eq!(count(&|statement| matches!(statement, Statement::Label(_))), lines(&|line| line.ends_with(':')));
        assert_eq!(
            count(&|statement| matches!(statement, Statement::Registers { .. })),
            lines(&|line| line.starts_with(".reg"))
        );
        assert_eq!(
            count(&|statement| matches!(statement, Statement::Variable(_))),
            lines(&|line| line.starts_with(".shared") || line.starts_with(".local"))
        );
        let guarded =
            |statement: &Statement| matches!(statement, Statement::Instruction(found) if found.guard.is_some());
        assert_eq!(count(&guarded), lines(&|line| line.starts_with('@')));
        let params: usize = module.functions.iter().map(|function| function.params.len()).sum();
        assert_eq!(params, lines(&|line| line.starts_with(".param")));
    }
}

/// Register counts of a file, from its `<...>`.
#[test]
fn register_counts_are_those_of_the_lines() {
    for (_, text) in kernels() {
        let module = parse(&text).unwrap();
        let mut total = 0_u64;
        for statement in statements(&module) {
            if let Statement::Registers { names, .. } = statement {
                total += names.iter().map(|&(_, count)| u64::from(count.unwrap_or(1))).sum::<u64>();
            }
        }
        let declared = |line: &str| -> u64 {
            let count = line.split(['<', '>']).nth(1);
            count.map_or_else(|| line.matches(',').count() as u64 + 1, |digits| digits.parse().unwrap())
        };
        let expected: u64 =
            codes(&text).map(|(_, line)| line).filter(|line| line.starts_with(".reg")).map(declared).sum();
        assert_eq!(total, expected);
    }
}

fn written(operand: &Operand) -> String {
    let list = |parts: &[Operand]| parts.iter().map(written).collect::<Vec<_>>().join(",");
    match operand {
        Operand::Name(name) => name.clone(),
        Operand::Not(name) => format!("!{name}"),
        Operand::Sink => "_".into(),
        Operand::Integer(bits) => (*bits as i64).to_string(),
        Operand::Float32(bits) => format!("0f{bits:08X}"),
        Operand::Float64(bits) => format!("0d{bits:016X}"),
        Operand::Vector(parts) => format!("{{{}}}", list(parts)),
        Operand::Address { base, offset: 0 } => format!("[{}]", base.as_ref().unwrap()),
        Operand::Address { base, offset } => format!("[{}+{offset}]", base.as_ref().unwrap()),
        Operand::Offset(name, offset) => format!("{name}+{offset}"),
        Operand::Pair(first, second) => format!("{}|{}", written(first), written(second)),
        Operand::List(parts) => format!("({})", list(parts)),
    }
}

/// Every instruction, written anew, is its line of the text; its location is that of the last `.loc` line before.
#[test]
fn instructions_written_anew_are_their_lines() {
    for (path, text) in kernels() {
        let module = parse(&text).unwrap();
        let (mut location, mut depth) = (None, 0);
        let mut expected = Vec::new();
        for (number, line) in codes(&text) {
            if line.starts_with('{') {
                depth += 1;
            } else if line.starts_with('}') {
                depth -= 1;
                // A scope inside of a function does not end it.
                location = location.filter(|_| depth > 0);
            } else if let Some(place) = line.strip_prefix(".loc") {
                let (place, caller) = place.split_once("inlined_at").unwrap_or((place, ""));
                let pair = |text: &str| {
                    let mut numbers =
                        text.split_whitespace().map(|number| number.trim_end_matches(',').parse().unwrap());
                    Some((numbers.next()?, numbers.next()?))
                };
                let (file, line) = pair(place).unwrap();
                location = Some(Location { file, line, inlined_at: pair(caller) });
            } else if is_instruction(line) {
                let dense: String = line.split_whitespace().collect();
                expected.push((number, dense, location));
            }
        }
        let mut found = Vec::new();
        for statement in statements(&module) {
            let Statement::Instruction(instruction) = statement else { continue };
            let sign = |negated: &bool| if *negated { "!" } else { "" };
            let guard = instruction.guard.as_ref().map(|(name, negated)| format!("@{}{name}", sign(negated)));
            let modifiers: String = instruction.modifiers.iter().map(|modifier| format!(".{modifier}")).collect();
            let operands: Vec<_> = instruction.operands.iter().map(written).collect();
            let opcode = &instruction.opcode;
            let line = format!("{}{opcode}{modifiers}{};", guard.unwrap_or_default(), operands.join(","));
            found.push((instruction.line, line, instruction.location));
        }
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.into_iter().zip(expected) {
            assert_eq!(found, expected, "{}", path.display());
        }
    }
}

/// Files of other compilers and options, where the environment names a folder of them; prints how long each takes.
#[test]
#[ignore = "needs a folder of PTX files in PTX_FOLDER"]
fn a_folder_of_files_parses() {
    let folder = std::env::var("PTX_FOLDER").unwrap();
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.extension().is_some_and(|extension| extension == "ptx") {
            let text = std::fs::read_to_string(&path).unwrap();
            let begun = std::time::Instant::now();
            let parsed = parse(&text);
            println!("{}: {} bytes in {:?}: {:?}", path.display(), text.len(), begun.elapsed(), parsed.as_ref().err());
        }
    }
}
