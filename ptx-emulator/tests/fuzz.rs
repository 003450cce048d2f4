//! Compiled programs with a few changes, run: no panic whatever they do, an end in bounded time, and the same report on
//! any number of host threads.

use proptest::prelude::*;
use proptest::sample::Index;
use ptx_emulator::{Checks, Device, Error, FindingKind, LaunchBuilder, Mode, Module, Report};
use std::path::Path;
use std::time::{Duration, Instant};

macro_rules! programs {
    ($($name:literal)*) => {
        &[$(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ptx/", $name, ".ptx"))),*]
    };
}

/// Every kind of instruction is in one of them.
const PROGRAMS: &[&str] = programs!["vector_add" "saxpy" "dot" "softmax_sm100" "transpose" "histogram" "look_back" "spin_lock" "cp_async"
    "pipeline" "switch" "votes" "shuffle" "calls" "calls_O0" "barriers" "producer_consumer" "dynamic_shared" "constants"
    "local_array" "doubles" "bfloat16" "compact" "grid_3d" "rust_machine" "rust_block_sum" "atomics" "cooperative"
    "planted_registers" "planted_barriers" "planted_races" "stencil" "float_ops"];

/// Most of them run for far less; a machine under load, for longer.
const BOUND: Duration = Duration::from_secs(60);

/// What structs are filled with where nothing else is asked for.
const SMALL: &[Option<u64>] = &[Some(40)];

/// Bytes of each buffer.
const BUFFER: usize = 2048;

/// What a word of PTX is: a word is replaced by another of its kind, so that most texts still parse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Register,
    Number,
    Modifier,
    Word,
    Mark,
}

fn kind(piece: &str) -> Kind {
    match piece.as_bytes()[0] {
        b'%' => Kind::Register,
        b'0'..=b'9' => Kind::Number,
        b'.' => Kind::Modifier,
        byte if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') => Kind::Word,
        _ => Kind::Mark,
    }
}

/// Words with their dots before them, and single marks.
fn pieces(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for character in text.chars() {
        let belongs = character.is_ascii_alphanumeric() || matches!(character, '_' | '$' | ':');
        match found.last_mut() {
            Some(last) if belongs && kind(last) != Kind::Mark => last.push(character),
            _ => found.push(character.into()),
        }
    }
    found
}

const NUMBERS: [&str; 16] = [
    "0",
    "1",
    "2",
    "3",
    "4",
    "8",
    "16",
    "31",
    "32",
    "33",
    "64",
    "-1",
    "255",
    "65536",
    "0x7fffffff",
    "0xffffffffffffffff",
];

#[derive(Clone, Debug)]
enum Change {
    Number(Index, Index),
    Replace(Index, Index),
    Swap(Index, Index),
    DeleteLine(Index),
    DoubleLine(Index),
    SwapLines(Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    let two = || (any::<Index>(), any::<Index>());
    prop_oneof![
        2 => two().prop_map(|(a, b)| Change::Number(a, b)),
        3 => two().prop_map(|(a, b)| Change::Replace(a, b)),
        2 => two().prop_map(|(a, b)| Change::Swap(a, b)),
        1 => any::<Index>().prop_map(Change::DeleteLine),
        1 => any::<Index>().prop_map(Change::DoubleLine),
        1 => two().prop_map(|(a, b)| Change::SwapLines(a, b)),
    ]
}

/// Changes what lies between the first `{` and the last `}`, so that kernels keep their parameters.
fn changed(text: &str, changes: &[Change]) -> String {
    let (start, end) = (text.find('{').unwrap(), text.rfind('}').unwrap());
    let mut body = text[start..end].to_string();
    for change in changes {
        body = apply(&body, change);
    }
    format!("{}{body}{}", &text[..start], &text[end..])
}

fn apply(body: &str, change: &Change) -> String {
    let mut lines: Vec<&str> = body.lines().collect();
    let mut pieces = pieces(body);
    let places: Vec<usize> = (0..pieces.len()).filter(|&at| kind(&pieces[at]) != Kind::Mark).collect();
    let alike = |pieces: &[String], at: usize| -> Vec<usize> {
        places.iter().copied().filter(|&other| kind(&pieces[other]) == kind(&pieces[at])).collect()
    };
    match change {
        Change::Number(place, value) => {
            let numbers: Vec<usize> = places.iter().copied().filter(|&at| kind(&pieces[at]) == Kind::Number).collect();
            if !numbers.is_empty() {
                pieces[*place.get(&numbers)] = NUMBERS[value.index(NUMBERS.len())].to_string();
            }
        }
        Change::Replace(place, other) => {
            let at = *place.get(&places);
            pieces[at] = pieces[*other.get(&alike(&pieces, at))].clone();
        }
        Change::Swap(place, other) => {
            let at = *place.get(&places);
            let other = *other.get(&alike(&pieces, at));
            pieces.swap(at, other);
        }
        Change::DeleteLine(place) => {
            lines.remove(place.index(lines.len()));
            return lines.join("\n");
        }
        Change::DoubleLine(place) => {
            let at = place.index(lines.len());
            lines.insert(at, lines[at]);
            return lines.join("\n");
        }
        Change::SwapLines(place, other) => {
            let (at, other) = (place.index(lines.len()), other.index(lines.len()));
            lines.swap(at, other);
            return lines.join("\n");
        }
    }
    pieces.concat()
}

/// Numbers in an error that says how many arguments there are, or how many bytes one has.
fn numbers(text: &str) -> Vec<usize> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// The launch with as many arguments, of the sizes, as it asks for: buffers, and structs of `words`, taken in turn, where
/// none is the address of a buffer.
fn run<'m>(device: &Device, words: &[Option<u64>], launch: &dyn Fn() -> LaunchBuilder<'m>) -> Result<Report, Error> {
    let mut sizes: Vec<usize> = Vec::new();
    for _ in 0..64 {
        let mut launch = launch();
        for &size in &sizes {
            let buffer = || device.upload(&[1u8; BUFFER]).unwrap().address();
            let word = |i: usize| words[i % words.len()].unwrap_or_else(buffer);
            let bytes: Vec<u8> = (0..size.div_ceil(8)).flat_map(|i| word(i).to_le_bytes()).take(size).collect();
            launch = match size {
                8 => launch.arg(device.upload(&[1u8; BUFFER]).unwrap()),
                _ => launch.bytes(&bytes),
            };
        }
        match launch.run(device) {
            Err(Error::Arguments { what, .. }) => {
                let found = numbers(what.split('`').next_back().unwrap());
                match what.starts_with("argument ") {
                    false => sizes = vec![8; *found.last().unwrap()],
                    true => sizes[numbers(&what)[0]] = *found.last().unwrap(),
                }
                if sizes.iter().sum::<usize>() > 1 << 16 {
                    return Err(Error::Memory { what: "too large for a test".into() });
                }
            }
            result => return result,
        }
    }
    panic!("no end of errors about arguments")
}

fn settings() -> impl Strategy<Value = (Mode, Checks)> {
    let mode = prop_oneof![Just(Mode::Nominal), any::<u64>().prop_map(|seed| Mode::Adversarial { seed })];
    (mode, prop_oneof![3 => Just(Checks::ALL), 1 => Just(Checks::BOUNDS)])
}

/// Runs every kernel of the text with structs of `words`; whether any ran.
fn try_all(text: &str, words: &[Option<u64>], (mode, checks): (Mode, Checks)) -> Result<bool, TestCaseError> {
    let begun = Instant::now();
    let Ok(module) = Module::from_ptx(text) else { return Ok(false) };
    let mut ran = false;
    for kernel in module.kernels() {
        let once = |threads: usize| {
            run(&Device::new(), words, &|| {
                let launch = module.launch(kernel).grid([2, 1, 1]).block([64, 1, 1]).shared_bytes(512);
                launch.mode(mode).checks(checks).budget(10_000).threads(threads)
            })
        };
        let first = once(1);
        ran |= first.is_ok();
        if let Ok(report) = &first {
            prop_assert!(!report.to_string().is_empty());
            // Racing blocks may read one value or the other; without the check nobody knows whether they do.
            let racing = report.has(FindingKind::GlobalRace) || report.has(FindingKind::NonCoherentRead);
            if checks == Checks::ALL && !racing {
                match once(3) {
                    Ok(other) => prop_assert!(other == *report, "{kernel}: one thread:\n{report}\nthree:\n{other}"),
                    Err(error) => return Err(TestCaseError::fail(format!("{kernel}: {error} on three threads"))),
                }
            }
        }
    }
    prop_assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
    Ok(ran)
}

#[test]
fn unchanged_programs_run() {
    for (i, text) in PROGRAMS.iter().enumerate() {
        let ran = try_all(text, SMALL, (Mode::Nominal, Checks::ALL)).unwrap();
        assert!(ran, "program {i}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_programs_run(
        program in any::<Index>(),
        changes in prop::collection::vec(change(), 1..4),
        settings in settings(),
    ) {
        let before = PROGRAMS[program.index(PROGRAMS.len())];
        let text = changed(before, &changes);
        // The lines that changed tell a failure's cause.
        let told = || text.lines().filter(|line| !before.contains(line)).collect::<Vec<_>>().join("\n");
        try_all(&text, SMALL, settings)
            .map_err(|error| TestCaseError::fail(format!("{error}\n{settings:?}\n{}", told())))?;
    }

    #[test]
    fn any_launch(
        program in any::<Index>(),
        grid in prop::array::uniform3(extent()),
        block in prop::array::uniform3(extent()),
        shared in prop::sample::select(vec![0, 1, 7, 4096, 1 << 17, 1 << 20, u32::MAX]),
        arguments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..6),
        fitting in any::<bool>(),
        budget in prop::sample::select(vec![0u64, 1, 100, 10_000]),
    ) {
        // More blocks would take their time, as they should.
        prop_assume!(grid.iter().map(|&extent| u64::from(extent)).try_fold(1, u64::checked_mul).is_none_or(|n| !(100..=1 << 32).contains(&n)));
        let module = Module::from_ptx(PROGRAMS[program.index(PROGRAMS.len())]).unwrap();
        let device = Device::new();
        for kernel in module.kernels() {
            let launch = || module.launch(kernel).grid(grid).block(block).shared_bytes(shared).budget(budget);
            if fitting {
                let _ = run(&device, SMALL, &launch);
            } else {
                let launch = arguments.iter().fold(launch(), |launch, bytes| launch.bytes(bytes));
                let _ = launch.run(&device);
            }
        }
    }
}

/// The kernels of the repository, where they are beside this crate: larger than the programs, on a struct of pointers,
/// strides and extents.
fn kernels() -> Vec<String> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Cargo puts this file into packages, which have no kernels beside them.
    if own.join(".cargo_vcs_info.json").exists() {
        return Vec::new();
    }
    let files = std::fs::read_dir(own.join("../kernels-ptx")).unwrap().map(|entry| entry.unwrap().path());
    let texts = files.filter(|path| path.extension().is_some_and(|extension| extension == "ptx"));
    let found: Vec<String> = texts.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    assert!(!found.is_empty());
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_kernels_run(
        kernel in any::<Index>(),
        changes in prop::collection::vec(change(), 0..4),
        words in prop::collection::vec(
            prop_oneof![2 => Just(None), 2 => (0u64..5).prop_map(Some), 1 => any::<u64>().prop_map(Some)],
            1..12,
        ),
        end in prop::option::weighted(0.2, any::<Index>()),
        settings in settings(),
    ) {
        let kernels = kernels();
        prop_assume!(!kernels.is_empty());
        let before = kernel.get(&kernels);
        let mut text = changed(before, &changes);
        text.truncate(end.map_or(text.len(), |end| end.index(text.len())));
        let told = || format!("{settings:?}\n{words:?}\n{changes:?}\n{}", &before[..before.find('(').unwrap()]);
        try_all(&text, &words, settings).map_err(|error| TestCaseError::fail(format!("{error}\n{}", told())))?;
    }
}

fn extent() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => 1u32..5,
        2 => prop::sample::select(vec![0u32, 31, 32, 33, 64, 1024]),
        1 => prop::sample::select(vec![1025u32, 65_535, 65_536, i32::MAX as u32, u32::MAX]),
    ]
}
