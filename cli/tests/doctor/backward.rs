//! `ssm doctor --backward`: what is wrong with the gradients.

use crate::common::{self, File, folder, run, scan_case, ssm};
use crate::nonfinite::{beyond, growing};
use crate::{Diagnosis, doctor, place, planted};
use safetensors::Dtype;
use serde_json::{Value, json};
use std::ffi::OsString;

pub fn backward(name: &str, file: &File) -> Diagnosis {
    doctor(&format!("backward_{name}"), &["--backward"], file)
}

/// One channel, one state, delta of 1: what comes from above is all that there is.
pub fn line(a: f64, b: f64, c: f64, x: f64, dout: &[f64]) -> File {
    let (seqlen, all) = (dout.len(), |value| vec![value; dout.len()]);
    growing(a, seqlen)
        .with("x", Dtype::F32, &[1, 1, seqlen], &all(x))
        .with("B", Dtype::F32, &[1, 1, 1, seqlen], &all(b))
        .with("C", Dtype::F32, &[1, 1, 1, seqlen], &all(c))
        .with("dout", Dtype::F32, &[1, 1, seqlen], dout)
}

/// Every option, several blocks of channels, the second with channels of both groups.
fn full(dim: usize) -> File {
    let (sequence, projection) = ([2, dim, 12], [2, 2, 3, 12]);
    ["x", "dt", "z", "dout"]
        .iter()
        .fold(File::default(), |file, name| file.with_pattern(name, Dtype::F32, &sequence, (-1.0, 1.0)))
        .with_pattern("A", Dtype::F32, &[dim, 3], (-2.0, -0.1))
        .with_pattern("B", Dtype::F32, &projection, (-1.0, 1.0))
        .with_pattern("C", Dtype::F32, &projection, (-1.0, 1.0))
        .with_pattern("D", Dtype::F32, &[dim], (-1.0, 1.0))
        .with_pattern("dt_bias", Dtype::F32, &[dim], (-1.0, 1.0))
        .with_pattern("initial_state", Dtype::F32, &[2, dim, 3], (-1.0, 1.0))
        .with_pattern("dfinal_state", Dtype::F32, &[2, dim, 3], (-1.0, 1.0))
        .meta("op", "selective_scan")
        .meta("dt_softplus", "true")
}

const GRADIENTS: [&str; 9] = ["dx", "ddt", "dA", "dB", "dC", "dD", "dz", "ddt_bias", "dinitial_state"];

#[test]
fn errors_are_those_of_a_run() {
    let folder = folder("doctor_backward_beside_run");
    let file = full(40);
    let [input, truth] = ["in.safetensors", "truth.safetensors"].map(|name| folder.join(name));
    file.write(&input);
    assert_eq!(run(&["--backend", "reference", "--backward"], &input, &truth).status, 0);
    file.clone().beside(&File::read(&truth)).write(&input);
    let ran = run(&["--backward"], &input, &truth);
    let got = backward("beside", &file);
    assert_eq!((got.status, &got.json["direction"]), (0, &"backward".into()), "{}", got.text);
    assert_eq!(got.json["errors"].as_array().unwrap().len(), 3 * GRADIENTS.len());
    for result in GRADIENTS {
        let error = got.error(result, "f32");
        let largest = format!("{:.3e}", error["largest"].as_f64().unwrap());
        let line = ran.out.lines().find(|line| line.split_whitespace().next() == Some(result)).unwrap();
        assert!(line.contains(&largest), "{largest}: {line}");
        let units = if ["dB", "dC"].contains(&result) { ("groups", 2) } else { ("channels", 40) };
        assert_eq!(error[units.0].as_array().unwrap().len(), units.1, "{result}");
        assert!(error["rule"]["holds"] == true && error["rule"]["channels_judged"] == 40, "{error}");
        let inputs = |dtype| got.error(result, dtype)["inputs"].as_f64().unwrap();
        assert!(inputs("f32") == 0.0 && inputs("bf16") > 2.0 * inputs("f16") && inputs("f16") > 0.0, "{result}");
    }
    for header in
        ["selective_scan, backward", "first that is not finite, counted from the end", "gradient by the state"]
    {
        assert!(got.text.lines().any(|line| line.starts_with(header)), "{header}: {}", got.text);
    }
}

#[test]
fn a_gradient_that_grows_overflows_where_its_dtype_ends() {
    let got = backward("growing", &line(4.0, 1.0, 1.0, 0.0, &[1.0; 40]));
    assert_eq!(got.status, 1);
    let none = json!({"count": 0, "first": null});
    assert!(GRADIENTS[..5].iter().all(|result| got.source("f64")[*result] == none), "f64 has room for it");
    // That many steps from the end dh is beyond f32; ddt takes it one step earlier, on its way to the state before.
    let distance = beyond(4.0, f32::MAX.into());
    let step = 39 - (distance - 1);
    let source = got.source("f32");
    assert_eq!(source["ddt"], json!({"count": step + 1, "first": place(0, 0, step, 0, step)}), "{source}");
    assert_eq!(source["dx"], json!({"count": step, "first": place(0, 0, step - 1, 0, step - 1)}));
    let cause = &source["cause"];
    assert_eq!([&cause["kind"], &cause["step"], &cause["state"]], [&json!("dh"), &json!(step), &json!(0)], "{cause}");
    let text = format!("it is {} steps from the end, and it grows by itself", distance - 1);
    assert!(cause["text"].as_str().unwrap().contains(&text), "{cause}");
    assert!(cause["text"].as_str().unwrap().contains("A is 4e0 > 0"), "{cause}");
    let trail = cause["trail"].as_array().unwrap();
    let steps: Vec<u64> = trail.iter().map(|at| at["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [16, 8, 4, 2, 1].map(|later| step as u64 + later));
    let growth = trail[4]["dh"].as_f64().unwrap() / trail[3]["dh"].as_f64().unwrap();
    assert!((growth / 4f64.exp() - 1.0).abs() < 1e-3, "{trail:?}");
    // Stored as f16 it ends long before.
    let step = 39 - beyond(4.0, 65519.0);
    let source = got.source("f16");
    assert_eq!((&source["cause"]["kind"], &source["dx"]["first"]), (&"write".into(), &place(0, 0, step, 0, step)));
    assert_eq!(got.finding("gradient_grows"), Some(("warning", 1)));
}

#[test]
fn growth_is_that_of_a_power() {
    let got = backward("power", &line(-0.5, 1.0, 1.0, 0.0, &[&[0.0; 39][..], &[3.0]].concat()));
    let rows = got.json["growth"].as_array().unwrap();
    let distances: Vec<u64> = rows.iter().map(|row| row["steps_from_end"].as_u64().unwrap()).collect();
    assert_eq!(distances, [0, 1, 2, 4, 8, 16, 32]);
    for (row, distance) in rows.iter().zip(distances) {
        let left = (-0.5 * distance as f64).exp();
        let is = |key: &str, value: f64| assert!((row[key].as_f64().unwrap() - value).abs() <= 1e-12 * value, "{row}");
        is("largest", 3.0 * left);
        is("mean", 3.0 * left);
        is("carried", if distance == 0 { 0.0 } else { 3.0 * left });
        is("arriving_largest", left);
        assert_eq!((&row["count"], &row["nonfinite"]), (&1.into(), &0.into()));
    }
    // e^-17.3 is 2^-25; at the 64th step from the end there is none.
    assert_eq!(got.finding("gradient_vanishes"), None);
    let got = backward("power", &line(-1.0, 1.0, 1.0, 0.0, &[1.0; 40]));
    assert_eq!(got.finding("gradient_vanishes"), Some(("note", 1)));
    assert!(got.text.contains("32 steps before the end of a sequence at most 1.3e-14"), "{}", got.text);
}

#[test]
fn what_f16_loses_is_counted() {
    // dx is dout C B: 1e-9 becomes 0, 1e-6 is subnormal, 1e-3 is neither; no step reaches the one before it.
    let dout = [1e-3, 1.0, 1e3, 1e-3, 1e3, 1.0, 1e-3, 0.0, 1e3, 1e3];
    let got = backward("underflow", &line(-60.0, 1e-3, 1e-3, 1.0, &dout));
    let range = |dtype| &got.error("dx", dtype)["range"];
    let counts = |dtype| ["elements", "zero", "subnormal", "beyond"].map(|key| range(dtype)[key].as_u64().unwrap());
    // Without dout the step before the last but one has what is left of a later one, in f64 alone.
    assert_eq!(counts("f16"), [10, 4, 2, 0]);
    assert_eq!(counts("f32"), [10, 0, 0, 0]);
    assert_eq!(range("f16")["room_log2"], 25, "65504 / 1e-3");
    let finding = got.json["findings"].as_array().unwrap();
    let finding = finding.iter().find(|one| one["text"].as_str().unwrap().starts_with("dx in f16 is 0 in 4")).unwrap();
    assert_eq!([&finding["severity"], &finding["count"]], [&json!("warning"), &json!(6)]);
    // The largest gradient of any tensor is dB, of 1, but dout is 1e3, and f16 too.
    let text = "upstream gradients of 2^6 times these, neither they nor any gradient would be beyond the range";
    assert!(finding["text"].as_str().unwrap().contains(text), "{finding}");
    assert_eq!(got.status, 0, "{}", got.text);
    // Nothing comes of a dfinal_state that B does not take, but it is f32.
    let file = line(-60.0, 0.0, 1.0, 0.0, &[1.0; 4]).with("D", Dtype::F32, &[1], &[1e-9]);
    let got = backward("underflow", &file.clone());
    assert!(got.text.replace(char::is_whitespace, "").contains("of2^15timesthese"), "{}", got.text);
    let got = backward("underflow", &file.with("dfinal_state", Dtype::F32, &[1, 1, 1], &[1e37]));
    assert!(got.text.replace(char::is_whitespace, "").contains("of2^5timesthese"), "{}", got.text);
    // dB of 1e6 is beyond f16, dx of 1e-8 is lost: a smaller scale would lose more.
    let got = backward("no room", &line(-60.0, 1e-11, 1.0, 1e3, &[1e3; 4]));
    assert!(
        got.text.replace(char::is_whitespace, "").contains("arebeyondtherangealready:nolossscalehelps"),
        "{}",
        got.text
    );
}

#[test]
fn a_sum_over_channels_may_be_beyond_its_dtype() {
    let shape = [1, 4, 3];
    let file = File::default()
        .with("x", Dtype::F32, &shape, &[3e4; 12])
        .with("dt", Dtype::F32, &shape, &[1.0; 12])
        .with("dout", Dtype::F32, &shape, &[1.0; 12])
        .with("D", Dtype::F32, &[4], &[2.0; 4])
        .with("A", Dtype::F32, &[4, 1], &[-80.0; 4])
        .with("B", Dtype::F32, &[1, 1, 1, 3], &[1e-3; 3])
        .with("C", Dtype::F32, &[1, 1, 1, 3], &[1.0; 3])
        .meta("op", "selective_scan");
    // That dx of the first step is beyond f16 too comes later, and is no reason.
    let got = backward("sum", &planted(&file, "dout", 0, 6e4));
    assert_eq!(got.status, 1);
    assert_eq!(got.source("bf16")["dB"]["count"], 0);
    let source = got.source("f16");
    let first = json!({"batch": 0, "group": 0, "state": 0, "time": 2});
    assert_eq!((&source["result"], &source["dB"]), (&"dB".into(), &json!({"count": 3, "first": first})));
    assert_eq!((&source["dx"]["count"], &source["channels"]), (&1.into(), &1.into()));
    assert_eq!(source["cause"]["kind"], "write", "{source}");
    assert!(source["cause"]["text"].as_str().unwrap().contains("dB = 1.200e5"), "{source}");
    assert_eq!(got.error("dB", "f16")["range"]["beyond"], 3);
}

#[test]
fn places_are_counted_from_the_end() {
    let file = full(4).without("initial_state").without("dfinal_state");
    let got = backward("places", &planted(&file, "dout", (4 + 2) * 12 + 5, f64::NAN));
    let source = got.source("bf16");
    assert_eq!(source["dx"], json!({"count": 6, "first": place(1, 2, 5, 1, 5)}));
    assert_eq!((&source["dz"]["count"], &source["channels"]), (&1.into(), &1.into()));
    assert_eq!((&source["dB"]["count"], &source["dC"]["count"]), (&18.into(), &3.into()));
    assert!(source["cause"]["text"].as_str().unwrap().contains("dout (batch 1, channel 2, time 5) is NaN"));
    // Of a scan that runs the other way, the end is where the time is 0; the sequence from 4 to 12 has eight steps.
    let shape = [1, 4, 12];
    let packed = ["x", "dt", "dout"]
        .iter()
        .fold(File::default(), |file, name| file.with_pattern(name, Dtype::F32, &shape, (-1.0, 1.0)));
    let packed = packed
        .with_pattern("A", Dtype::F32, &[4, 3], (-2.0, -0.1))
        .with_pattern("B", Dtype::F32, &[1, 1, 3, 12], (-1.0, 1.0))
        .with_pattern("C", Dtype::F32, &[4, 3], (-1.0, 1.0))
        .with("cu_seqlens", Dtype::I32, &[4], &[0.0, 4.0, 4.0, 12.0])
        .meta("op", "selective_scan")
        .meta("dt_softplus", "true");
    for (reverse, count, step) in [("false", 6, 5), ("true", 3, 2)] {
        let got = backward("places", &planted(&packed, "dout", 2 * 12 + 9, f64::NAN).meta("reverse", reverse));
        assert_eq!(got.source("f32")["dx"], json!({"count": count, "first": place(0, 2, 9, 2, step)}), "{reverse}");
    }
    // Two steps from the end of the first sequence, and one from that of the last, which is reached first.
    let two = planted(&planted(&packed, "dout", 1, f64::NAN), "dout", 12 + 10, f64::NAN);
    assert_eq!(backward("places", &two).source("f64")["dx"]["first"], place(0, 1, 10, 2, 6));
}

#[test]
fn a_state_that_is_lost_is_followed_to_where_it_was() {
    let file = planted(&full(4), "A", 4, 60.0).meta("dt_limit", "[0.5, 0.5]");
    let file = file.with("initial_state", Dtype::F32, &[2, 4, 3], &[1.0; 24]);
    let got = backward("state", &file.with("dout", Dtype::F32, &[2, 4, 12], &[1e-30; 96]));
    let source = got.source("f32");
    let cause = &source["cause"];
    assert_eq!((&cause["kind"], &cause["step"]), (&"state".into(), &11.into()), "{source}");
    assert!(
        cause["text"].as_str().unwrap().contains("of the forward direction is not finite, since time 2, step 2"),
        "{cause}"
    );
}

#[test]
fn the_cause_is_at_the_first_place() {
    let file = full(4);
    let harmful = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 3e38, -3e38, 1e30];
    let names = ["x", "dt", "A", "B", "C", "D", "z", "dt_bias", "initial_state", "dout", "dfinal_state"];
    let mut named = 0;
    for (i, name) in names.into_iter().enumerate() {
        for (k, value) in harmful.into_iter().enumerate() {
            let index = (i * 31 + k * 17) % file.values(name).len();
            let reverse = if k % 2 == 0 { "false" } else { "true" };
            let got = backward("first", &planted(&file, name, index, value).meta("reverse", reverse));
            for dtype in ["f64", "f32", "bf16", "f16"] {
                let (source, what) = (got.source(dtype), format!("{name} {value} {dtype}"));
                let (result, cause) = (&source["result"], &source["cause"]);
                if result.is_null() {
                    assert!(cause.is_null(), "{what}: {source}");
                    continue;
                }
                assert_ne!(cause["kind"], "backend", "{what}: {source}");
                let first = &source[result.as_str().unwrap()]["first"];
                if !first["time"].is_null() {
                    assert_eq!(cause["time"], first["time"], "{what}: {source}");
                }
                let blamed = ["input", "conversion"].iter().any(|kind| cause["kind"] == *kind);
                assert!(if blamed { cause["tensor"] == name } else { value.is_finite() }, "{what}: {cause}");
                named += usize::from(blamed);
            }
        }
    }
    assert!(named > 100, "{named}");
}

#[test]
fn every_file_that_runs_can_be_examined() {
    let mut examined = 0;
    for path in common::fixtures("selective_scan") {
        let file = File::read(&path).without_truth();
        if !["dout", "dfinal_state"].iter().any(|name| file.tensors.contains_key(*name)) {
            continue;
        }
        let got = doctor("backward_fixtures", &["--backward", "--threads", "1"], &file);
        let all = got.json["errors"].as_array().unwrap();
        let broken: Vec<&Value> = all.iter().filter(|one| one["rule"]["holds"] != true).collect();
        assert!(broken.is_empty(), "{}: {broken:?}", path.display());
        examined += 1;
    }
    assert!(examined > 3, "{examined}");
    let nothing = line(-1.0, 1.0, 1.0, 1.0, &[]);
    assert_eq!(backward("empty", &nothing).status, 0);
}

#[test]
fn refusals() {
    let folder = folder("doctor_backward_refusals");
    let input = folder.join("in.safetensors");
    let refused = |file: &File, words: &[&str]| {
        file.write(&input);
        let ran = ssm(["doctor".into(), "--backward".into(), OsString::from(&input)]);
        assert_eq!((ran.status, ran.out.as_str()), (2, ""), "{words:?}");
        words.iter().for_each(|word| assert!(ran.err.contains(word), "{word:?} is not in {}", ran.err));
    };
    let scan = scan_case(Dtype::F32);
    refused(&scan, &["in.safetensors", "selective_scan: `dout` is missing", "it or `dfinal_state` with --backward"]);
    let with = |shape: &[usize]| scan.clone().with_pattern("dout", Dtype::F32, shape, (-1.0, 1.0));
    refused(&with(&[2, 4, 11]), &["`dout`", "[2, 4, 11]", "[2, 4, 12]"]);
    let file = with(&[2, 4, 12]).with_pattern("dfinal_state", Dtype::F32, &[1, 4, 3], (-1.0, 1.0));
    refused(&file, &["`dfinal_state`", "[1, 4, 3]", "[2, 4, 3]"]);
    refused(&with(&[2, 4, 12]).meta("dfinal_state", "true"), &["`dfinal_state`", "true"]);
}
