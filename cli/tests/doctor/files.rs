//! Files that can be examined, and those that cannot.

use crate::common::{self, File, folder, scan_case, ssm};
use crate::doctor;
use safetensors::Dtype;
use serde_json::Value;
use std::ffi::OsString;
use std::path::Path;

const DTYPES: [Dtype; 3] = [Dtype::F32, Dtype::BF16, Dtype::F16];

#[test]
fn every_file_that_runs_can_be_examined() {
    for path in common::fixtures("selective_scan") {
        let file = File::read(&path);
        let got = doctor("fixtures", &["--threads", "1"], &file.without_truth());
        let broken: Vec<&Value> =
            got.json["errors"].as_array().unwrap().iter().filter(|one| one["rule"]["holds"] != true).collect();
        assert!(broken.is_empty(), "{}: {broken:?}", path.display());
    }
    for dtype in DTYPES {
        let nothing = File::default()
            .with("x", dtype, &[2, 3, 0], &[])
            .with("dt", dtype, &[2, 3, 0], &[])
            .with("A", Dtype::F32, &[3, 2], &[-1.0; 6])
            .with("B", dtype, &[2, 1, 2, 0], &[])
            .with("C", dtype, &[2, 1, 2, 0], &[])
            .meta("op", "selective_scan");
        assert_eq!(doctor("empty", &[], &nothing).status, 0);
    }
    // Of no channels any number of groups is a divisor.
    assert_eq!(doctor("no_channels", &["--max-memory", "64"], &long(0, 1 << 32, 1, 0)).status, 0);
}

#[test]
fn refusals() {
    let folder = folder("doctor_refusals");
    let (input, json) = (folder.join("in.safetensors"), folder.join("out.json"));
    let refused = |file: &[u8], options: &[&str], words: &[&str]| {
        std::fs::write(&input, file).unwrap();
        let args = ["doctor"].iter().chain(options).map(OsString::from).chain([input.clone().into()]);
        let ran = ssm(args);
        assert_eq!((ran.status, ran.out.as_str()), (2, ""), "{words:?}");
        words.iter().for_each(|word| assert!(ran.err.contains(word), "{word:?} is not in {}", ran.err));
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing but the input is left");
    };
    let scan = scan_case(Dtype::F32);
    let (good, json) = (scan.bytes(), json.to_str().unwrap());
    let discretise = common::broadcast_case("zoh", Dtype::F32).bytes();
    refused(
        &discretise,
        &["--json", json],
        &["in.safetensors", "discretise cannot be examined", "expected selective_scan"],
    );
    refused(&scan.clone().without("B").bytes(), &["--json", json], &["selective_scan: `B` is missing"]);
    refused(
        &scan.clone().with_pattern("A", Dtype::F32, &[5, 3], (0.0, 1.0)).bytes(),
        &[],
        &["`A`", "[5, 3]", "[4, 3]"],
    );
    refused(&scan.clone().meta("dt_limit", "[2, 1]").bytes(), &["--json", json], &["dt_limit", "min <= max"]);
    refused(&scan.clone().meta("reverse", "yes").bytes(), &[], &["`reverse`", "true or false"]);
    refused(&long(4, 1, 1, 1 << 16).bytes(), &["--max-memory", "1"], &["MiB", "--max-memory"]);
    refused(&good, &["--dtype", "f64"], &["f64"]);
    refused(&good, &["--threads", "0"], &["--threads"]);
    refused(&good, &["--op", "discretise"], &["metadata key `op`", "discretise"]);
    refused(&good, &["--json", input.to_str().unwrap()], &["it is the input"]);
    refused(&good, &["--json", folder.join("absent/x.json").to_str().unwrap()], &["no folder"]);
    refused(&good[..100], &["--json", json], &["not a safetensors file"]);
    let mut unnamed = scan;
    unnamed.metadata.remove("op");
    refused(&unnamed.bytes(), &[], &["metadata key `op` is missing"]);
    let ran = ssm(["doctor".as_ref(), Path::new("/nonexistent/x").as_os_str()]);
    assert!(ran.status == 2 && ran.err.contains("cannot be read"), "{}", ran.err);
}

/// The least --max-memory, in MiB, with which it runs backward in f32 on so many threads.
fn needed(file: &File, threads: &str) -> u64 {
    let input = folder("doctor_memory").join("in.safetensors");
    file.write(&input);
    let mut limit = 1;
    loop {
        let options = ["doctor", "--backward", "--dtype", "f32", "--threads", threads, "--max-memory"];
        let ran = ssm(options.iter().map(OsString::from).chain([limit.to_string().into(), input.clone().into()]));
        if ran.status < 2 {
            return limit;
        }
        let (_, words) = ran.err.split_once("the run needs ").unwrap_or_else(|| panic!("{}", ran.err));
        limit = words.split(' ').next().unwrap().parse().unwrap();
    }
}

/// One state step of each channel each time.
fn long(dim: usize, ngroups: usize, dstate: usize, seqlen: usize) -> File {
    let projection = [1, ngroups, dstate, seqlen];
    let file = ["x", "dt"]
        .iter()
        .fold(File::default(), |file, name| file.with_pattern(name, Dtype::F32, &[1, dim, seqlen], (0.1, 1.0)));
    ["B", "C"]
        .iter()
        .fold(file, |file, name| file.with_pattern(name, Dtype::F32, &projection, (0.1, 1.0)))
        .with_pattern("A", Dtype::F32, &[dim, dstate], (-1.0, -0.5))
        .with_pattern("dfinal_state", Dtype::F32, &[1, dim, dstate], (0.1, 1.0))
        .meta("op", "selective_scan")
}

#[test]
fn memory_is_planned_for_all_that_is_copied() {
    let (dim, seqlen) = (4, 1 << 16);
    let file = long(dim, 1, 1, seqlen);
    let dout = file.clone().with_pattern("dout", Dtype::F32, &[1, dim, seqlen], (0.1, 1.0));
    // 1 MiB in the file, 1 widened, 1 rounded, and 2 of workspace.
    let [without, with] = [&file, &dout].map(|file| needed(file, "1"));
    assert!(with >= without + 5, "{without} {with}");
    // The second of the blocks of sixteen channels has channels of two groups, and then of each its B and C, and rounded ones
    // (256 KiB of f32), and its dB and dC four times in f64; in one group one channel's are all.
    let [one, two] = [1, 2].map(|ngroups| needed(&long(40, ngroups, 4, 1 << 12), "1"));
    assert!(two >= one + 15, "{one} {two}");
    // Threads do not have more than the file does: four channels are one part.
    let small = needed(&long(4, 1, 1, 16), "64");
    assert!(small < 64, "{small}");
    assert_eq!(needed(&file, "64"), without);
}
