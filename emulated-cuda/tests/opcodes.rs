//! The comparison of the emulator with a device: here with the emulated one, which it must find equal, and with results
//! that were tampered with, which it must not.

#![allow(missing_docs)]
#![cfg(target_os = "linux")]

#[allow(dead_code)]
mod common;
#[path = "../examples/opcodes/main.rs"]
#[allow(dead_code)]
mod opcodes;

use opcodes::coverage::{Target, left_out, not_compared};
use opcodes::forms::{self, Form, Rule};
use opcodes::kernel::Batch;
use opcodes::report::Verdict;
use opcodes::types::Type;
use opcodes::{emulated, judge, kernel, operands};
use std::collections::HashSet;
use std::path::PathBuf;
use std::process::Command;

const TARGET: Target = Target { capability: 100, ptx: 90 };

fn form(label: &str) -> Form {
    forms::all().into_iter().find(|form| form.label == label).unwrap_or_else(|| panic!("no form {label}"))
}

/// Runs a scene on the emulated driver; its exit status and what it printed.
fn act(scene: &str, settings: &[(&str, &str)]) -> (Option<u8>, String) {
    let mut child = Command::new(std::env::current_exe().expect("this binary"));
    child.args(["--exact", scene, "--ignored", "--nocapture", "--test-threads=1"]);
    let output = common::run(&mut child, settings);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let status = printed.lines().find_map(|line| line.strip_prefix("status ")?.parse().ok());
    (status, printed)
}

/// A number of the summary, before these words.
fn summed(printed: &str, words: &str) -> usize {
    // The last ones: the table has some of them.
    let number = printed.rsplit_once(words).and_then(|(before, _)| before.rsplit([' ', '\n']).next()?.parse().ok());
    number.unwrap_or_else(|| panic!("no number before `{words}` in\n{printed}"))
}

fn markdown() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("opcodes.md")
}

#[test]
fn the_emulated_device_is_equal_in_every_form() {
    let (status, printed) = act("scene_all", &[("CAPABILITY", "10.0"), ("CHECKS", "bounds")]);
    assert_eq!(status, Some(0), "{printed}");
    assert!(printed.contains("Emulated CUDA device (sm_100), sm_100, driver for CUDA 13.0 (PTX 9.0)"), "{printed}");
    let counts = [" equal, ", " within the bound", " DIFFERENT;", " refused by"].map(|words| summed(&printed, words));
    let left = forms::all().iter().filter(|form| left_out(form, TARGET).is_some()).count();
    assert_eq!(counts, [forms::all().len() - left, 0, 0, 0], "{printed}");
    assert_eq!(summed(&printed, " left out"), left);
    let table = std::fs::read_to_string(markdown()).expect("a table");
    assert!(table.contains("| `add.sat.s32` | 1024 | all | - | equal |  |"), "{table}");
    assert_eq!(table.lines().filter(|line| line.starts_with("| `")).count(), forms::all().len());

    // A device whose approximations err as they may.
    let approximations = forms::all().iter().filter(|form| matches!(form.rule, Rule::Within(_))).count();
    let settings = [("CAPABILITY", "10.0"), ("CHECKS", "bounds"), ("MODE", "adversarial:7")];
    let (status, printed) = act("scene_all", &settings);
    let counts = [" within the bound", " DIFFERENT;"].map(|words| summed(&printed, words));
    assert_eq!((status, counts), (Some(0), [approximations, 0]), "{printed}");
}

#[test]
#[ignore = "a scene of the other tests"]
fn scene_all() {
    let arguments = ["--tuples".into(), "1024".into(), markdown().display().to_string()];
    println!("\nstatus {}", opcodes::run(arguments.into_iter()));
}

/// What a driver refuses is tried again in smaller modules; a device that fails ends the run.
#[test]
fn drivers_that_refuse_and_devices_that_fail() {
    let (status, printed) = act("scene_approximations", &[("FAIL", "cuModuleLoadDataEx:218@1")]);
    assert_eq!((status, summed(&printed, " refused by")), (Some(0), 0), "{printed}");
    let (status, printed) = act("scene_approximations", &[("FAIL", "cuModuleLoadDataEx:218")]);
    assert_eq!((status, summed(&printed, " forms compared")), (Some(1), 0), "{printed}");
    assert!(printed.contains("refused  CUDA_ERROR_INVALID_PTX"), "{printed}");
    for setting in [("DEVICES", "0"), ("FAIL", "cuInit:100"), ("FAIL", "cuLaunchKernel:700")] {
        let (status, printed) = act("scene_approximations", &[setting]);
        assert_eq!(status, Some(2), "{setting:?}: {printed}");
    }
}

#[test]
#[ignore = "a scene of the other tests"]
fn scene_approximations() {
    let arguments = ["--tuples", "1024", "--only", "ex2.approx"].map(String::from);
    println!("\nstatus {}", opcodes::run(arguments.into_iter()));
}

#[test]
fn without_a_driver() {
    let mut child = Command::new(std::env::current_exe().expect("this binary"));
    child.args(["--exact", "scene_approximations", "--ignored", "--nocapture"]);
    let output = child.env("LD_LIBRARY_PATH", "/nowhere").output().expect("a child");
    let said = String::from_utf8_lossy(&output.stderr);
    // On a machine with a GPU there is a driver.
    if !said.contains("no libcuda.so.1") {
        eprintln!("SKIPPED: this machine has a CUDA driver");
        return;
    }
    assert!(String::from_utf8_lossy(&output.stdout).contains("status 2"), "{said}");
}

/// A new instruction of the emulator is compared, or `coverage.rs` says why not.
#[test]
fn every_form_of_the_emulator_is_compared_or_has_a_reason() {
    let missing: Vec<_> = not_compared().into_iter().filter(|(_, reason)| reason.is_empty()).collect();
    assert_eq!(missing, []);
    let unused = |start: &str| !not_compared().iter().any(|(name, _)| name.starts_with(start));
    let stale: Vec<_> = opcodes::coverage::NOT_COMPARED.iter().filter(|(start, _)| unused(start)).collect();
    assert!(stale.is_empty(), "{stale:?}");
    let forms = forms::all();
    let labels: HashSet<&str> = forms.iter().map(|form| form.label.as_str()).collect();
    assert_eq!(labels.len(), forms.len(), "a label names one form");
    let listed: HashSet<String> = ptx_emulator::instruction_forms().flat_map(ptx_emulator::expand).collect();
    let unknown: Vec<&String> =
        forms.iter().map(|form| &form.instruction).filter(|name| !listed.contains(*name)).collect();
    assert_eq!(unknown, [""; 0]);
}

#[test]
fn operands_hold_what_is_special() {
    let named = Type::named;
    let all: HashSet<u64> = operands::operands(&[named("f16")], 4096, 1).into_iter().collect();
    assert_eq!(all.len(), 1 << 16, "every value of 16 bits");
    let pairs = operands::operands(&[named("f32"), named("f32")], 4096, 1);
    let (first, second) = pairs.split_at(4096);
    // Zeros, the least and greatest subnormal and normal numbers, infinity, quiet and signalling NaNs.
    let special = [0u64, 1, 0x7F_FFFF, 0x80_0000, 0x7F7F_FFFF, 0x7F80_0000, 0x7FC0_0000, 0x7F80_0001];
    let found: HashSet<(u64, u64)> = first.iter().copied().zip(second.iter().copied()).collect();
    for a in special {
        for b in special.map(|b: u64| b | 1 << 31) {
            assert!(found.contains(&(a, b)), "{a:x} {b:x}");
        }
    }
    assert_eq!(operands::operands(&[named("s64")], 512, 1), operands::operands(&[named("s64")], 512, 1));
    assert_ne!(operands::operands(&[named("s64")], 512, 1), operands::operands(&[named("s64")], 512, 2));
}

/// Both results of a form and its operands.
fn results(form: &Form) -> (Batch<'_>, Vec<u64>, Vec<u64>) {
    let batch = kernel::batches(&[form], 512).remove(0);
    let operands = operands::operands(batch.sources(), batch.count, 3);
    let emulated = emulated::run(TARGET, &batch, &operands).expect("runs");
    (batch, operands, emulated)
}

#[test]
fn one_flipped_bit_is_found() {
    for label in [
        "add.sat.s32",
        "fma.rn.f16x2",
        "setp.lt.s32, p|q",
        "vote.sync.ballot.b32 d0, a0, -1",
        "atom.add.u32",
        "addc.cc.u64",
        "cvt.rn.tf32.f32",
    ] {
        let form = form(label);
        let (batch, operands, emulated) = results(&form);
        for cell in 0..batch.cells() {
            let mut device = emulated.clone();
            device[cell * batch.count + 300] ^= 1;
            let verdicts = opcodes::judged(&batch, &operands, &emulated, &device);
            let Verdict::Compared(outcome) = &verdicts[0].1 else { panic!("{verdicts:?}") };
            assert_eq!((outcome.different, outcome.equal), (1, batch.count - 1), "{label}, cell {cell}");
            let example = outcome.example.as_ref().expect("an example");
            assert_eq!(example.operands[0], operands[300], "{label}");
            assert_eq!(example.device[cell], example.emulated[cell] ^ 1, "{label}");
            assert!(!opcodes::report::Summary::of(&[verdicts[0].1.clone()]).is_good());
        }
    }
}

#[test]
fn what_the_emulator_does_not_run_is_no_agreement() {
    let form = form("add.sat.s32");
    let (batch, operands, emulated) = results(&form);
    let equal = opcodes::judged(&batch, &operands, &emulated, &emulated)[0].1.clone();
    let good = |verdicts: &[Verdict]| opcodes::report::Summary::of(verdicts).is_good();
    assert!(good(std::slice::from_ref(&equal)));
    assert!(!good(&[equal, Verdict::NotEmulated("an instruction that it lacks".into())]));
}

/// A form, operands and two results of a single tuple.
fn judged(label: &str, operands: &[u64], ours: u64, theirs: u64) -> judge::Outcome {
    judge::compare(&form(label), 1, operands, &[ours], &[theirs])
}

#[test]
fn approximations_are_held_to_their_bounds() {
    let (operand, right) = (u64::from(1.5f32.to_bits()), u64::from(1.5f32.exp2().to_bits()));
    let counts = |outcome: judge::Outcome| (outcome.equal, outcome.within, outcome.different, outcome.worst);
    let of = |theirs: u64| counts(judged("ex2.approx.f32", &[operand], right, theirs));
    assert_eq!(of(right), (1, 0, 0, 0));
    assert_eq!(of(right + 2), (0, 1, 0, 2));
    assert_eq!(of(right - 3), (0, 0, 1, 3));
    // A whole operand has an exact power.
    assert_eq!(counts(judged("ex2.approx.f32", &[0x4000_0000], 0x4080_0000, 0x4080_0001)), (0, 0, 1, 1));
    // The upper half is beyond its bound.
    let halves = judged("tanh.approx.f16x2", &[0x3C00_3C00], 0x3A18_3A18, 0x3A20_3A19);
    assert_eq!(counts(halves), (0, 0, 1, 8));
}

#[test]
fn payloads_of_nan_are_open_where_the_isa_leaves_them_so() {
    let (one, nan, other) = (0x3F80_0000, 0x7FFF_FFFF, 0x7FC0_0001);
    let sum = judged("add.f32", &[nan, one], nan, other);
    assert_eq!((sum.payloads, sum.different), (1, 0));
    for label in ["min.NaN.f32", "mov.f32", "copysign.f32"] {
        let two = &[nan, one][..form(label).sources.len()];
        assert_eq!(judged(label, two, nan, other).different, 1, "{label}");
    }
    assert_eq!(judged("add.f32", &[nan, one], nan, one).different, 1, "no NaN");
    assert_eq!(judged("div.s32", &[7, 0], u64::from(u32::MAX), 0).open, 1);
}
