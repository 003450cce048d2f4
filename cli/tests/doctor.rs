//! `ssm doctor` on calls that something was done to: it says what, where, and since when.

mod common;

use common::{File, fixture, folder, run, scan_case, ssm};
use safetensors::Dtype;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::Path;

const DTYPES: [Dtype; 3] = [Dtype::F32, Dtype::BF16, Dtype::F16];

/// What came of a file.
struct Diagnosis {
    status: u8,
    text: String,
    json: Value,
}

fn doctor(name: &str, options: &[&str], file: &File) -> Diagnosis {
    let folder = folder(&format!("doctor_{name}"));
    let (input, output) = (folder.join("in.safetensors"), folder.join("out.json"));
    file.write(&input);
    let options = ["doctor"].iter().chain(options).map(OsString::from);
    let ran = ssm(options.chain(["--json".into(), output.clone().into(), input.into()]));
    assert!(ran.status < 2 && ran.err.is_empty(), "{name}: {}{}", ran.out, ran.err);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2, "no temporary is left");
    let json: Value = serde_json::from_str(&std::fs::read_to_string(output).unwrap()).unwrap();
    assert_eq!(json["healthy"], ran.status == 0);
    ran.out.lines().for_each(|line| assert!(line.chars().count() < 100, "{line}"));
    Diagnosis { status: ran.status, text: ran.out, json }
}

impl Diagnosis {
    /// What is not finite in f64, f32, bf16 or f16.
    fn source(&self, dtype: &str) -> &Value {
        self.json["nonfinite"].as_array().unwrap().iter().find(|one| one["dtype"] == dtype).unwrap()
    }

    fn error(&self, result: &str, dtype: &str) -> &Value {
        let mut all = self.json["errors"].as_array().unwrap().iter();
        all.find(|one| one["result"] == result && one["dtype"] == dtype).unwrap()
    }

    /// Severity and count of a kind of finding, the first of them.
    fn finding(&self, kind: &str) -> Option<(&str, u64)> {
        let one = self.json["findings"].as_array().unwrap().iter().find(|one| one["kind"] == kind)?;
        Some((one["severity"].as_str().unwrap(), one["count"].as_u64().unwrap()))
    }
}

fn place(batch: usize, channel: usize, time: usize, sequence: usize, step: usize) -> Value {
    json!({"batch": batch, "channel": channel, "time": time, "sequence": sequence, "step": step})
}

/// The file with another value at one element.
fn planted(file: &File, name: &str, index: usize, value: f64) -> File {
    let (dtype, shape, mut values) = (file.dtype(name), file.shape(name).to_vec(), file.values(name));
    values[index] = value;
    file.clone().with(name, dtype, &shape, &values)
}

#[test]
fn a_clean_fixture_is_healthy_in_every_dtype() {
    for (name, dtype) in [("state_all_groups2", "f32"), ("bf16_varlen", "bf16"), ("const_B1_C0", "f32")] {
        let file = fixture("selective_scan", name).without_truth();
        let Diagnosis { status, text, json } = &doctor(name, &[], &file);
        assert_eq!((*status, &json["dtype"]), (0, &dtype.into()), "{text}");
        let dim = file.shape("x")[1];
        assert_eq!(json["errors"].as_array().unwrap().len(), 6);
        for error in json["errors"].as_array().unwrap() {
            assert_eq!(error["channels"].as_array().unwrap().len(), dim);
            assert!(error["rule"]["holds"] == true && error["rule"]["channels_judged"] == dim, "{error}");
            // What the two parts are, of which the errors are made.
            for channel in error["channels"].as_array().unwrap() {
                let [error, inputs, kernel] = ["error", "inputs", "kernel"].map(|key| channel[key].as_f64().unwrap());
                assert!(error <= (inputs + kernel) * (1.0 + 1e-9), "{channel}");
                assert!(kernel > 0.0, "f32 is not f64");
            }
        }
        assert!(json["nonfinite"].as_array().unwrap().iter().all(|one| one["cause"].is_null()));
        for header in
            ["findings", "inputs", "first that is not finite", "errors of", "worst channels", "delta", "plans"]
        {
            assert!(text.lines().any(|line| line.starts_with(header)), "{header}: {text}");
        }
    }
}

#[test]
fn dtypes_differ_by_their_rounding() {
    let stored = |dtype| doctor("rounding", &[], &scan_case(dtype));
    let inputs = |got: &Diagnosis, dtype| got.error("out", dtype)["inputs"].as_f64().unwrap();
    let (f32, bf16) = (stored(Dtype::F32), stored(Dtype::BF16));
    assert_eq!(inputs(&f32, "f32"), 0.0);
    assert!(inputs(&f32, "bf16") > 4.0 * inputs(&f32, "f16") && inputs(&f32, "f16") > 1e-5);
    // bf16 has fewer bits than the others, and numbers of this size are in the range of all.
    assert_eq!([inputs(&bf16, "f32"), inputs(&bf16, "bf16"), inputs(&bf16, "f16")], [0.0; 3]);
    let kernel = |dtype| f32.error("out", dtype)["kernel"].as_f64().unwrap();
    assert!(kernel("bf16") > 4.0 * kernel("f16") && kernel("f16") > 100.0 * kernel("f32"), "out is rounded");
}

#[test]
fn the_largest_error_is_that_of_a_run() {
    let folder = folder("doctor_beside_run");
    let file = scan_case(Dtype::F32);
    let [input, truth] = ["in.safetensors", "truth.safetensors"].map(|name| folder.join(name));
    file.write(&input);
    assert_eq!(run(&["--backend", "reference"], &input, &truth).status, 0);
    file.clone().beside(&File::read(&truth)).write(&input);
    let ran = run(&[], &input, &truth);
    let got = doctor("beside", &["--dtype", "f32"], &file);
    for result in ["out", "final_state"] {
        let largest = format!("{:.3e}", got.error(result, "f32")["largest"].as_f64().unwrap());
        let line = ran.out.lines().find(|line| line.starts_with(result)).unwrap();
        assert!(line.contains(&largest), "{largest}: {line}");
    }
}

#[test]
fn a_nan_in_an_input_is_named() {
    let file = planted(&scan_case(Dtype::F32), "x", (4 + 2) * 12 + 5, f64::NAN);
    let got = doctor("nan", &[], &file);
    assert_eq!(got.status, 1);
    for dtype in ["f64", "f32", "bf16", "f16"] {
        let source = got.source(dtype);
        assert_eq!(source["out"], json!({"count": 7, "first": place(1, 2, 5, 1, 5)}), "{dtype}");
        assert_eq!((&source["channels"], &source["final_state"]["count"]), (&1.into(), &3.into()));
        let cause = &source["cause"];
        assert_eq!((&cause["kind"], &cause["tensor"], &cause["time"]), (&"input".into(), &"x".into(), &5.into()));
        assert!(cause["text"].as_str().unwrap().contains("x (batch 1, channel 2, time 5) is NaN in the file"));
    }
    assert_eq!(got.finding("nonfinite_input"), Some(("error", 1)));
    assert!(got.text.contains("  f64, f32, bf16, f16: out at (batch 1, channel 2, time 5)\n"), "{}", got.text);
    assert_eq!(got.text.lines().filter(|line| line.starts_with("  error")).count(), 2, "{}", got.text);
}

#[test]
fn packed_and_reverse_places_are_counted_from_the_sequence() {
    let shape = [1, 4, 15];
    let file = File::default()
        .with_pattern("x", Dtype::F32, &shape, (-1.0, 1.0))
        .with_pattern("dt", Dtype::F32, &shape, (-1.0, 1.0))
        .with_pattern("A", Dtype::F32, &[4, 3], (-2.0, -0.1))
        .with_pattern("B", Dtype::F32, &[1, 2, 3, 15], (-1.0, 1.0))
        .with_pattern("C", Dtype::F32, &[4, 3], (-1.0, 1.0))
        .with_pattern("initial_state", Dtype::F32, &[3, 4, 3], (-1.0, 1.0))
        .with("cu_seqlens", Dtype::I32, &[4], &[0.0, 4.0, 4.0, 15.0])
        .meta("op", "selective_scan")
        .meta("dt_softplus", "true");
    for (reverse, step, count, times) in [("false", 5, 6, "time 9"), ("true", 5, 6, "time 9")] {
        let got = doctor("packed", &[], &planted(&file, "dt", 3 * 15 + 9, f64::NAN).meta("reverse", reverse));
        let source = got.source("f32");
        assert_eq!(source["out"], json!({"count": count, "first": place(0, 3, 9, 2, step)}), "{reverse}");
        assert_eq!(source["final_state"]["first"], json!({"sequence": 2, "channel": 3, "state": 0}));
        assert!(got.text.contains(&format!("channel 3, {times}), sequence 2, step 5")), "{}", got.text);
    }
    // In the first sequence, backwards, time 1 is step 2; time 12 of the third is step 2 as well, and later by sequence.
    let two = planted(&planted(&file, "dt", 1, f64::NAN), "dt", 12, f64::NAN).meta("reverse", "true");
    let got = doctor("packed", &[], &two);
    assert_eq!(got.source("f64")["out"], json!({"count": 2 + 9, "first": place(0, 0, 1, 0, 2)}));
    // B of the second group reaches its channels alone; a state before the first step, every step.
    let got = doctor("packed", &[], &planted(&file, "B", (3 + 1) * 15 + 2, f64::INFINITY));
    assert_eq!(got.source("bf16")["out"]["first"], place(0, 2, 2, 0, 2));
    let cause = &got.source("bf16")["cause"];
    assert_eq!((&cause["tensor"], &cause["state"]), (&"B".into(), &1.into()));
    assert!(cause["text"].as_str().unwrap().contains("B (batch 0, group 1, state 1, time 2) is inf"), "{cause}");
    let got = doctor("packed", &[], &planted(&file, "initial_state", 12 + 4, f64::NAN));
    let source = got.source("f64");
    assert_eq!((&source["out"]["count"], &source["final_state"]["count"]), (&0.into(), &1.into()), "empty sequence");
    assert_eq!((&source["cause"]["tensor"], &source["cause"]["step"]), (&"initial_state".into(), &Value::Null));
}

/// One channel, one state, delta and x and B and C of 1.
fn growing(a: f64, seqlen: usize) -> File {
    let ones = vec![1.0; seqlen];
    let file =
        ["x", "dt"].iter().fold(File::default(), |file, name| file.with(name, Dtype::F32, &[1, 1, seqlen], &ones));
    let file = ["B", "C"].iter().fold(file, |file, name| file.with(name, Dtype::F32, &[1, 1, 1, seqlen], &ones));
    file.with("A", Dtype::F32, &[1, 1], &[a]).meta("op", "selective_scan")
}

/// The first step at which a state that grows by e^A is beyond `limit`.
fn beyond(a: f64, limit: f64) -> usize {
    let mut state = 0.0;
    (0..)
        .find(|_| {
            state = state * a.exp() + 1.0;
            state > limit
        })
        .unwrap()
}

#[test]
fn a_state_that_grows_overflows_where_its_dtype_ends() {
    let got = doctor("growing", &[], &growing(4.0, 40));
    assert_eq!(got.status, 1);
    assert_eq!(got.source("f64")["out"], json!({"count": 0, "first": null}), "f64 has room for it");
    let step = beyond(4.0, f32::MAX.into());
    let cause = &got.source("f32")["cause"];
    assert_eq!(
        (&cause["kind"], &cause["step"], &cause["state"]),
        (&"state".into(), &step.into(), &0.into()),
        "{cause}"
    );
    assert_eq!(got.source("f32")["out"], json!({"count": 40 - step, "first": place(0, 0, step, 0, step)}));
    assert!(cause["text"].as_str().unwrap().contains(&format!("A is 4e0 > 0), at this step and the {step} before")));
    let trail: Vec<(u64, f64)> = cause["trail"]
        .as_array()
        .unwrap()
        .iter()
        .map(|at| (at["step"].as_u64().unwrap(), at["state"].as_f64().unwrap()))
        .collect();
    assert_eq!(trail.iter().map(|(at, _)| *at as usize).collect::<Vec<_>>(), [16, 8, 4, 2, 1].map(|back| step - back));
    let growth = trail[4].1 / trail[3].1;
    assert!((growth / 4f64.exp() - 1.0).abs() < 1e-3, "{trail:?}");
    // Stored as f16 it ends long before.
    let step = beyond(4.0, 65519.0);
    let source = got.source("f16");
    assert_eq!((&source["cause"]["kind"], &source["out"]["first"]), (&"write".into(), &place(0, 0, step, 0, step)));
    assert_eq!(got.finding("A_positive"), Some(("warning", 1)));
    assert!(got.text.contains("growing (delta A > 0): 40\n"), "{}", got.text);
    let found = &got.json["horizon"];
    let pairs = ["pairs", "pairs_growing", "pairs_below_a_step", "pairs_beyond_sequence"].map(|key| &found[key]);
    assert_eq!(pairs, [&json!(1), &json!(1), &json!(0), &json!(0)]);
    let share = got.error("out", "f32")["share"]["largest"].as_f64().unwrap();
    assert!((1e-8..1e-4).contains(&share), "of what f32 can hold: {share}");

    let negative = growing(-4.0, 40).with("dt", Dtype::F32, &[1, 1, 40], &[-1.0; 40]);
    let got = doctor("growing", &["--dtype", "f32"], &negative);
    assert_eq!(got.finding("delta_negative"), Some(("warning", 40)));
    let cause = &got.source("f32")["cause"];
    assert!(cause["text"].as_str().unwrap().contains("delta is -1.000e0 < 0"), "{cause}");
    let got = doctor("growing", &["--dtype", "f32"], &growing(100.0, 3));
    let cause = &got.source("f32")["cause"];
    assert_eq!((&cause["kind"], &cause["step"]), (&"decay".into(), &0.into()), "exp(100)");
    assert!(cause["text"].as_str().unwrap().contains("the backend's first is step 1"), "{cause}");
}

#[test]
fn what_f16_cannot_hold_is_a_conversion() {
    let file = planted(&scan_case(Dtype::F32), "x", 2 * 12 + 7, 1e5);
    let got = doctor("conversion", &[], &file);
    assert_eq!(got.status, 1);
    for dtype in ["f64", "f32", "bf16"] {
        assert_eq!(got.source(dtype)["out"]["count"], 0, "{dtype}");
    }
    let source = got.source("f16");
    assert_eq!(source["out"], json!({"count": 5, "first": place(0, 2, 7, 0, 7)}));
    assert_eq!((&source["cause"]["kind"], &source["cause"]["tensor"]), (&"conversion".into(), &"x".into()));
    assert_eq!(got.finding("overflow"), Some(("warning", 1)));
    assert_eq!(
        (got.error("out", "f16")["lost"].as_u64(), got.error("out", "bf16")["lost"].as_u64()),
        (Some(5), Some(0))
    );
    assert_eq!(doctor("conversion", &["--dtype", "f32", "--dtype", "bf16"], &file).status, 0, "f16 is not asked for");
}

/// Numbers that hurt, anywhere.
const HARMFUL: [f64; 6] = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 3e38, -3e38, 1e30];

#[test]
fn the_cause_is_at_the_first_place() {
    let shape = [2, 4, 12];
    let file = scan_case(Dtype::F32)
        .with_pattern("z", Dtype::F32, &shape, (-2.0, 2.0))
        .with_pattern("D", Dtype::F32, &[4], (-1.0, 1.0))
        .with_pattern("dt_bias", Dtype::F32, &[4], (-1.0, 1.0))
        .with_pattern("initial_state", Dtype::F32, &[2, 4, 3], (-1.0, 1.0));
    let mut named = 0;
    for (i, name) in ["x", "dt", "A", "B", "C", "D", "z", "dt_bias", "initial_state"].into_iter().enumerate() {
        for (k, value) in HARMFUL.into_iter().enumerate() {
            let index = (i * 31 + k * 17) % file.values(name).len();
            let reverse = if k % 2 == 0 { "false" } else { "true" };
            let got = doctor("first", &[], &planted(&file, name, index, value).meta("reverse", reverse));
            for dtype in ["f64", "f32", "bf16", "f16"] {
                let source = got.source(dtype);
                let first = &source["out"]["first"];
                if first.is_null() {
                    assert!(source["cause"].is_null(), "{name} {value} {dtype}: {source}");
                    continue;
                }
                let cause = &source["cause"];
                assert_eq!(
                    [&cause["step"], &cause["time"]],
                    [&first["step"], &first["time"]],
                    "{name} {value} {dtype}: {cause}"
                );
                let blamed = ["input", "conversion"].iter().any(|kind| cause["kind"] == *kind);
                assert!(
                    if blamed { cause["tensor"] == name } else { value.is_finite() },
                    "{name} {value} {dtype}: {cause}"
                );
                assert_ne!(cause["kind"], "backend", "{name} {value} {dtype}: {cause}");
                named += usize::from(blamed);
            }
        }
    }
    assert!(named > 80, "{named}");
}

#[test]
fn delta_and_horizons_are_counted() {
    let shape = [2, 4, 12];
    let file = scan_case(Dtype::F32).with("A", Dtype::F32, &[4, 3], &[-1.0; 12]);
    let dt = file.values("dt");
    let softplus = |v: f64| v.exp().ln_1p();
    let (low, high) = (0.4, 0.9);
    let got = doctor("delta", &[], &file.clone().meta("dt_limit", "[0.4, 0.9]"));
    let count = |is: &dyn Fn(f64) -> bool| dt.iter().filter(|dt| is(softplus(**dt))).count() as u64;
    let (below, above) = (count(&|delta| delta < low), count(&|delta| delta > high));
    assert!(below > 5 && above > 5 && below + above < 90, "{below} {above}");
    assert_eq!(got.finding("delta_at_min"), Some(("note", below)));
    assert_eq!(got.finding("delta_at_max"), Some(("note", above)));
    let first = (0..96).filter(|&i| softplus(dt[i]) < low).map(|i| (i % 12, i / 48, i / 12 % 4)).min().unwrap();
    let (time, batch, channel) = first;
    assert_eq!(got.json["delta"]["at_min"]["first"], place(batch, channel, time, batch, time));
    let histogram = &got.json["delta"]["positive"];
    let total: u64 = histogram["bins"].as_array().unwrap().iter().map(|bin| bin["count"].as_u64().unwrap()).sum();
    assert_eq!((total, &got.json["delta"]["steps"]), (96, &96.into()));
    assert!((histogram["smallest"].as_f64().unwrap() - low).abs() < 1e-7);
    assert!((histogram["largest"].as_f64().unwrap() - high).abs() < 1e-7);
    let horizon = &got.json["horizon"];
    assert!((horizon["decaying"]["largest"].as_f64().unwrap() - 1.0 / low).abs() < 1e-6);
    assert_eq!(horizon["decaying"]["count"], 96 * 3);

    for (delta, beyond, below, horizon) in [(0.01, 12, 0, 100.0), (3.0, 0, 12, 1.0 / 3.0), (0.5, 0, 0, 2.0)] {
        let constant = file.clone().with("dt", Dtype::F32, &shape, &[delta; 96]).meta("dt_softplus", "false");
        let got = doctor("horizon", &["--dtype", "f32"], &constant);
        let found = &got.json["horizon"];
        assert_eq!((&found["pairs_beyond_sequence"], &found["pairs_below_a_step"]), (&beyond.into(), &below.into()));
        assert_eq!(got.finding("never_forgets").map(|(_, count)| count), (beyond > 0).then_some(12));
        assert_eq!(got.finding("dead").map(|(_, count)| count), (below > 0).then_some(12));
        let median = found["decaying"]["quantiles"]["0.5"].as_f64().unwrap();
        assert!((median / horizon - 1.0).abs() < 1e-6, "{median}");
    }
}

#[test]
fn parameters_that_are_unusual_are_noted() {
    let shape = [2, 4, 12];
    let softplus = planted(&scan_case(Dtype::F32), "dt", 5, 21.0);
    let got = doctor("linear", &["--dtype", "f32"], &softplus);
    assert_eq!((got.status, got.finding("delta_linear")), (0, Some(("note", 1))));
    assert_eq!(got.json["delta"]["linear"]["first"], place(0, 0, 5, 0, 5));
    let tiny = scan_case(Dtype::F32).with("dt", Dtype::F32, &shape, &[1e-9; 96]).meta("dt_softplus", "false");
    let tiny = tiny.with("A", Dtype::F32, &[4, 3], &[-1.0; 12]);
    let got = doctor("tiny", &["--dtype", "f16"], &tiny);
    assert_eq!(got.finding("decay_one_f32"), Some(("warning", 96 * 3)));
    assert_eq!(got.finding("underflow"), Some(("note", 96)));
    let forgets = planted(&tiny.with("dt", Dtype::F32, &shape, &[1e-3; 96]), "A", 0, 0.0);
    let got = doctor("tiny", &["--dtype", "f32"], &forgets);
    assert_eq!((got.finding("decay_one_f32"), got.finding("decay_one_bf16")), (None, Some(("note", 24 * 11))));
    assert_eq!(got.finding("staying"), Some(("note", 24)));
    let bias = scan_case(Dtype::F32).with("dt_bias", Dtype::F32, &[4], &[-5.0, -12.0, 3.0, 4.0]);
    assert_eq!(doctor("bias", &["--dtype", "f32"], &bias).finding("dt_bias"), Some(("note", 3)));
}

#[test]
fn plans_are_those_of_the_library() {
    let got = doctor("plans", &["--dtype", "bf16"], &scan_case(Dtype::F32));
    let plans = got.json["plans"].as_array().unwrap();
    let gpu = cfg!(any(feature = "cuda", feature = "emulator"));
    assert_eq!(plans.len(), if gpu { 4 } else { 2 });
    assert!(plans.iter().all(|plan| plan["dtype"] == "bf16" && plan["checkpoint_every"] == 128), "{plans:?}");
    assert_eq!(plans[0]["kernel"], "selective_scan_fwd_bf16");
    if gpu {
        let launch = &plans[2]["launches"][0];
        assert_eq!(
            (&launch["kernel"], &launch["blocks"]),
            (&"selective_scan_fwd_bf16_lanes1".into(), &json!([2, 2, 1]))
        );
        assert!(launch["shared_bytes"].as_u64().unwrap() > 0 && launch["threads"] == 128);
    }
}

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
    refused(&good, &["--max-memory", "1"], &["MiB", "--max-memory"]);
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
