//! Whatever is wrong is said in one line that names it, with status 2, and leaves no file behind.

mod common;

use common::{File, broadcast_case, folder, run, scan_case, ssm};
use safetensors::Dtype;
use std::path::Path;

/// Runs `bytes` and expects a refusal that says all of `words`.
fn refused(folder: &Path, options: &[&str], bytes: &[u8], words: &[&str]) {
    let (input, output) = (folder.join("in.safetensors"), folder.join("out.safetensors"));
    std::fs::write(&input, bytes).unwrap();
    for existing in [None, Some(b"what was there".as_slice())] {
        existing.iter().for_each(|content| std::fs::write(&output, content).unwrap());
        let ran = run(options, &input, &output);
        assert_eq!(ran.status, 2, "{words:?}: {}{}", ran.out, ran.err);
        assert_eq!(ran.out, "");
        let errors: Vec<&str> = ran.err.lines().filter(|line| !line.starts_with("warning: ")).collect();
        assert_eq!(errors.len(), 1, "{}", ran.err);
        assert!(errors[0].starts_with("ssm: "), "{}", ran.err);
        words.iter().for_each(|word| assert!(errors[0].contains(word), "{word:?} is not in {}", ran.err));
        assert_eq!(std::fs::read(&output).ok().as_deref(), existing, "OUT is as it was");
        let _ = std::fs::remove_file(&output);
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1, "nothing but the input is left");
    }
}

fn scan(options: &[&str], change: impl FnOnce(File) -> File, words: &[&str]) {
    let name = format!("refusals_scan_{}", words.join("_").replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
    refused(&folder(&name), options, &change(scan_case(Dtype::F32)).bytes(), words);
}

fn discretise(options: &[&str], change: impl FnOnce(File) -> File, words: &[&str]) {
    let name = format!("refusals_discretise_{}", words.join("_").replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
    refused(&folder(&name), options, &change(broadcast_case("zoh", Dtype::F32)).bytes(), words);
}

#[test]
fn tensors_of_a_scan() {
    for name in ["x", "dt", "A", "B", "C"] {
        scan(&[], |file| file.without(name), &["selective_scan", &format!("`{name}` is missing"), "expected"]);
    }
    for name in ["x", "dt", "A", "B", "C"] {
        scan(
            &[],
            |file| file.with(name, Dtype::F32, &[1], &[0.0]),
            &[&format!("`{name}` has shape [1]"), "dimensions"],
        );
        scan(
            &[],
            |file| file.with(name, Dtype::I32, &[1], &[0.0]),
            &[&format!("`{name}` has dtype I32"), "expected F"],
        );
    }
    scan(&[], |file| file.with_pattern("dt", Dtype::F16, &[2, 4, 12], (0.0, 1.0)), &["`dt` has dtype F16", "F32"]);
    scan(
        &[],
        |file| file.with_pattern("dt", Dtype::F32, &[2, 4, 11], (0.0, 1.0)),
        &["`dt`", "[2, 4, 11]", "[2, 4, 12]"],
    );
    scan(&[], |file| file.with_pattern("A", Dtype::F32, &[5, 3], (0.0, 1.0)), &["`A`", "[5, 3]", "[4, 3]"]);
    scan(&[], |file| file.with_pattern("B", Dtype::F32, &[2, 3, 3, 12], (0.0, 1.0)), &["`B`", "3 groups"]);
    scan(&[], |file| file.with_pattern("D", Dtype::F32, &[3], (0.0, 1.0)), &["`D`", "[3]", "[4]"]);
    scan(&[], |file| file.with_pattern("D", Dtype::BF16, &[4], (0.0, 1.0)), &["`D`", "BF16", "F32"]);
    scan(&[], |file| file.with_pattern("z", Dtype::F32, &[2, 12, 4], (0.0, 1.0)), &["`z`", "[2, 12, 4]"]);
    scan(&[], |file| file.with_pattern("initial_state", Dtype::F32, &[1, 4, 3], (0.0, 1.0)), &["`initial_state`"]);
    scan(&[], |file| file.with("u", Dtype::F32, &[1], &[0.0]), &["`u` is not known"]);
    scan(&[], |file| file.with("u", Dtype::F64, &[1], &[0.0]), &["`u` is not known", "one of x"]);
    scan(&[], |file| file.with("a\nb", Dtype::F32, &[1], &[0.0]), &["`a\\nb` is not known"]);
    scan(&[], |file| file.with("z", Dtype::F64, &[1], &[0.0]), &["`z` has dtype F64"]);
    scan(&[], |file| file.with("dx", Dtype::F32, &[1], &[0.0]), &["`dx` has dtype F32", "F64"]);
    scan(&[], |file| file.with("out", Dtype::F64, &[1], &[0.0]), &["`out` has shape [1] as a truth", "[2, 4, 12]"]);
}

#[test]
fn packings_of_a_scan() {
    let pack = |file: File, values: &[f64]| file.with("cu_seqlens", Dtype::I32, &[values.len()], values);
    scan(&[], |file| pack(file, &[0.0, 12.0]), &["`x`", "batch 2", "batch 1"]);
    let one = |file: File| {
        ["x", "dt"].iter().fold(file, |file, name| file.with_pattern(name, Dtype::F32, &[1, 4, 12], (0.1, 1.0)))
    };
    let one = |file: File| {
        ["B", "C"].iter().fold(one(file), |file, name| file.with_pattern(name, Dtype::F32, &[4, 3], (0.1, 1.0)))
    };
    scan(&[], |file| pack(one(file), &[0.0, 11.0]), &["`cu_seqlens`", "ending at 11", "12"]);
    scan(&[], |file| pack(one(file), &[0.0, 7.0, 6.0, 12.0]), &["`cu_seqlens`", "falling from 7 to 6"]);
    scan(&[], |file| pack(one(file), &[-1.0, 12.0]), &["`cu_seqlens`", "starting at -1"]);
    scan(&[], |file| pack(one(file), &[]), &["`cu_seqlens`", "empty"]);
    scan(&[], |file| pack(one(file), &[0.0, 12.0]).meta("cu_seqlens", "[0, 5, 12]"), &["`cu_seqlens`", "[0, 5, 12]"]);
    scan(&[], |file| file.meta("cu_seqlens", "[0, 12]"), &["`cu_seqlens`", "none"]);
    scan(&[], |file| file.with("cu_seqlens", Dtype::F32, &[2], &[0.0, 12.0]), &["`cu_seqlens`", "F32", "I32"]);
}

#[test]
fn metadata_of_a_scan() {
    for (key, value) in [
        ("op", "ssd"),
        ("dtype", "bf16"),
        ("dt_softplus", "yes"),
        ("reverse", "True"),
        ("dfinal_state", "1"),
        ("backward", ""),
        ("dt_limit", "0.1, 0.2"),
        ("dt_limit", "[1.0, 0.5]"),
        ("dt_limit", "[NaN, 0.5]"),
        ("batch", "3"),
        ("dim", "four"),
        ("seqlen", "-12"),
        ("dstate", "3.0"),
        ("ngroups", "1"),
        ("has_D", "true"),
        ("has_z", "true"),
        ("has_dt_bias", "true"),
        ("initial_state", "true"),
        ("const_B", "true"),
        ("const_C", "true"),
        ("complex", "true"),
        ("complex", "maybe"),
    ] {
        scan(&[], |file| file.meta(key, value), &[&format!("`{key}` is"), "expected"]);
    }
    let has_no_skip = |file: File| file.with_pattern("D", Dtype::F32, &[4], (0.0, 1.0)).meta("has_D", "false");
    scan(&[], has_no_skip, &["`has_D`", "expected true"]);
    scan(&["--op", "discretise"], |file| file, &["`op`", "--op"]);
    scan(&[], |file| file.without("op"), &["`op` is missing", "--op"]);
    scan(&["--backward"], |file| file, &["`dout` is missing", "`dfinal_state`"]);
    scan(&["--backward", "--states-every", "2"], |file| file, &["--states-every", "--backward"]);
    let dout = |file: File| file.with_pattern("dout", Dtype::F32, &[2, 4, 11], (-1.0, 1.0));
    scan(&["--backward"], dout, &["`dout`", "[2, 4, 11]", "[2, 4, 12]"]);
    scan(&["--split", "65536"], |file| file, &["`split`", "65536", "1 to 65535 parts"]);
    scan(&["--backend", "reference", "--threads", "1"], |file| file, &["--threads"]);
}

#[test]
fn discretisations() {
    for name in ["dt", "A", "B"] {
        discretise(&[], |file| file.without(name), &["discretise", &format!("`{name}` is missing")]);
    }
    discretise(&[], |file| file.without("method"), &["`method` is missing", "exp_trapezoidal"]);
    discretise(&[], |file| file.meta("method", "tustin"), &["`method`", "tustin", "bilinear"]);
    discretise(&[], |file| file.meta("rule", "euler"), &["`rule`", "euler", "zoh"]);
    discretise(&[], |file| file.meta("has_dt_bias", "false"), &["`has_dt_bias`"]);
    discretise(&[], |file| file.meta("method", "exp_trapezoidal"), &["`lambda` is missing"]);
    discretise(&[], |file| file.with("lambda", Dtype::F32, &[1], &[0.5]), &["`lambda`", "zoh"]);
    discretise(&[], |file| file.with("delta", Dtype::F32, &[1], &[0.5]), &["`delta`", "none beside `dt`"]);
    let delta = |file: File| file.without("dt").with("delta", Dtype::F32, &[1], &[0.5]);
    discretise(&[], delta, &["`dt_bias`", "effective"]);
    discretise(&[], |file| delta(file).without("dt_bias"), &["`dt_softplus`", "effective"]);
    let raw = |file: File| delta(file).without("dt_bias").meta("dt_softplus", "false");
    discretise(&[], |file| raw(file).meta("dt_limit", "[0, 1]"), &["`dt_limit`", "effective"]);
    discretise(&["--backward"], |file| raw(file).with("ddelta", Dtype::F32, &[1], &[0.5]), &["`ddelta`"]);
    discretise(
        &[],
        |file| file.with_pattern("A", Dtype::F32, &[2, 1], (0.0, 1.0)),
        &["`B`", "broadcasts to [2, 2, 4]"],
    );
    discretise(&[], |file| file.with_pattern("A", Dtype::F32, &[1; 5], (0.0, 1.0)), &["`A`", "at most 4"]);
    discretise(&[], |file| file.with("A_bar", Dtype::F64, &[1], &[0.5]), &["`A_bar`", "[2, 3, 4]"]);
    discretise(&["--backward"], |file| file, &["`dA_bar` is missing"]);
    let upstream = |name, dtype, shape| move |file: File| file.with_pattern(name, dtype, shape, (0.0, 1.0));
    discretise(&["--backward"], upstream("dA_bar", Dtype::F16, &[1]), &["`dA_bar`", "F16", "F32"]);
    discretise(&["--backward"], upstream("dB_bar", Dtype::F32, &[3]), &["`dB_bar`", "[2, 3, 4]"]);
    discretise(&["--backward"], upstream("dB_prev_bar", Dtype::F32, &[1]), &["`dB_prev_bar`", "zoh"]);
    discretise(&["--layout", "channel-first"], |file| file, &["--layout"]);
    discretise(&["--states-every", "2"], |file| file, &["--states-every"]);
    discretise(&["--split", "2"], |file| file, &["--split"]);
    discretise(&[], |file| file.meta("complex", "true"), &["`complex`"]);
}

/// A file of this header and so many zero bytes.
fn headed(header: &str, data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; data]].concat()
}

#[test]
fn hostile_files() {
    let folder = folder("refusals_hostile");
    let refuse = |options: &[&str], bytes: &[u8], words: &[&str]| refused(&folder, options, bytes, words);
    let whole = scan_case(Dtype::F32).bytes();
    for length in [0, 7, 8, 100, whole.len() - 1] {
        refuse(&[], &whole[..length], &["not a safetensors file"]);
    }
    refuse(&[], &[whole.as_slice(), b"x"].concat(), &["not a safetensors file"]);
    refuse(&[], &u64::MAX.to_le_bytes(), &["not a safetensors file"]);
    refuse(&[], &headed("{}", 0), &["`op` is missing"]);
    refuse(&[], &headed(&"[".repeat(100_000), 0), &["not a safetensors file"]);
    let huge = r#"{"x":{"dtype":"F32","shape":[1,4611686018427387904,0],"data_offsets":[0,0]}}"#;
    refuse(&["--op", "selective_scan"], &headed(huge, 0), &["`x`", "2^40"]);
    // Nine tensors whose ends sum to just below 2^64.
    let (big, mut start, mut parts) = ((1u64 << 61) - 8, 0, vec![]);
    for i in 0..8 {
        let offsets = format!("[{start},{}]", start + big);
        parts.push(format!(r#""t{i}":{{"dtype":"F64","shape":[{}],"data_offsets":{offsets}}}"#, big / 8));
        start += big;
    }
    parts.push(format!(r#""u":{{"dtype":"U8","shape":[56],"data_offsets":[{start},{}]}}"#, start + 56));
    refuse(&[], &headed(&format!("{{{}}}", parts.join(",")), 0), &["not a safetensors file", "beyond the file"]);
}

/// A scan with its upstream gradient, of sequences without steps.
fn no_steps(batch: usize, channels: usize) -> File {
    ["x", "dt", "dout"]
        .iter()
        .fold(File::default(), |file, name| file.with(name, Dtype::F32, &[batch, channels, 0], &[]))
        .with("A", Dtype::F32, &[channels, 0], &[])
        .with("B", Dtype::F32, &[batch, 1, 0, 0], &[])
        .with("C", Dtype::F32, &[batch, 1, 0, 0], &[])
        .meta("op", "selective_scan")
}

/// Nothing is to be done, and nobody counts to it.
#[test]
fn sequences_beyond_counting() {
    let folder = folder("refusals_counting");
    let (input, output) = (folder.join("in.safetensors"), folder.join("out.safetensors"));
    no_steps(1 << 40, 1).write(&input);
    let ran = run(&["--backward", "--backend", "reference", "--max-memory", "64"], &input, &output);
    assert_eq!(ran.status, 0, "{}", ran.err);
}

#[test]
fn too_much_memory() {
    let wide = File::default()
        .with_pattern("dt", Dtype::F32, &[1_000_000, 1], (0.1, 1.0))
        .with_pattern("A", Dtype::F32, &[1, 1_000_000], (-1.0, 1.0))
        .with_pattern("B", Dtype::F32, &[], (1.0, 1.0))
        .meta("op", "discretise")
        .meta("method", "zoh");
    let folder = folder("refusals_memory");
    for options in [&[][..], &["--backend", "reference"], &["--max-memory", "1073741824"]] {
        refused(&folder, options, &wide.bytes(), &["memory"]);
    }
    refused(&folder, &["--max-memory", "1"], &wide.bytes(), &["MiB of memory, expected at most 1"]);
    // Nothing but channels, of which the naive loops have sums.
    let wide = no_steps(1, 1 << 31);
    for backend in ["cpu", "reference"] {
        let options = ["--backward", "--backend", backend, "--max-memory", "64"];
        refused(&folder, &options, &wide.bytes(), &["MiB of memory, expected at most 64"]);
    }
    // No elements, but a state for each of 2^39 sequences.
    let empty = |shape: &str| format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":[4,4]}}"#);
    let scan = |batch: u64, dim: u64| {
        let (sequence, projection) = (empty(&format!("[{batch},{dim},0]")), empty(&format!("[{batch},1,1,0]")));
        let a = if dim == 1 { r#"{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}"#.into() } else { empty("[0,1]") };
        let pad = if dim == 1 { "" } else { r#","D":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"# };
        headed(&format!(r#"{{"x":{sequence},"dt":{sequence},"A":{a},"B":{projection},"C":{projection}{pad}}}"#), 4)
    };
    for backend in ["cpu", "reference"] {
        let options = ["--op", "selective_scan", "--backend", backend];
        refused(&folder, &options, &scan(1 << 39, 1), &["memory"]);
        refused(&folder, &options, &scan(1 << 39, 0), &["`D`"]);
        refused(&folder, &options, &scan(1 << 41, 1), &["`", "2^40"]);
    }
}

#[test]
fn paths() {
    let folder = folder("refusals_paths");
    let input = folder.join("in.safetensors");
    scan_case(Dtype::F32).write(&input);
    let refuse = |input: &Path, output: &Path, name: &Path, words: &str| {
        let ran = run(&[], input, output);
        assert_eq!((ran.status, ran.out.as_str()), (2, ""));
        let start = format!("ssm: {}: ", name.display());
        assert!(ran.err.starts_with(&start) && ran.err.contains(words) && ran.err.lines().count() == 1, "{}", ran.err);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    };
    let (absent, output) = (folder.join("absent.safetensors"), folder.join("out.safetensors"));
    refuse(&absent, &output, &absent, "cannot be read");
    refuse(&folder, &output, &folder, "not a regular file");
    refuse(&input, &input, &input, "it is the input");
    let detour = folder.join("../refusals_paths/in.safetensors");
    refuse(&input, &detour, &detour, "it is the input");
    refuse(&input, &folder, &folder, "not a regular file");
    let nowhere = folder.join("no/where");
    refuse(&input, &nowhere, &nowhere, "cannot be written");
    let long = folder.join("n".repeat(300));
    refuse(&input, &long, &long, "cannot be written");
}

#[test]
fn usage_errors() {
    for args in [
        &["run"][..],
        &["run", "--op", "ssd", "in"],
        &["run", "--states-every", "0", "in"],
        &["run", "--split", "0", "in"],
        &["fly"],
    ] {
        let ran = ssm(args);
        assert_eq!((ran.status, ran.out.as_str()), (2, ""), "{args:?}");
        assert!(ran.err.contains("Usage") || ran.err.contains("--help"), "{}", ran.err);
    }
}

#[test]
fn an_unknown_key_is_a_warning() {
    let folder = folder("refusals_warning");
    let (input, output) = (folder.join("in.safetensors"), folder.join("out.safetensors"));
    scan_case(Dtype::F32).meta("dt_sofplus", "true").meta("seed", "7").write(&input);
    let ran = run(&[], &input, &output);
    assert_eq!(ran.status, 0);
    assert_eq!(ran.err, "warning: metadata key `dt_sofplus` is not known to selective_scan; ignored\n");
}
