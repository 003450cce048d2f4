//! What is not finite first, and why.

use crate::common::{File, scan_case};
use crate::{doctor, place, planted};
use safetensors::Dtype;
use serde_json::{Value, json};

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
pub fn growing(a: f64, seqlen: usize) -> File {
    let ones = vec![1.0; seqlen];
    let file =
        ["x", "dt"].iter().fold(File::default(), |file, name| file.with(name, Dtype::F32, &[1, 1, seqlen], &ones));
    let file = ["B", "C"].iter().fold(file, |file, name| file.with(name, Dtype::F32, &[1, 1, 1, seqlen], &ones));
    file.with("A", Dtype::F32, &[1, 1], &[a]).meta("op", "selective_scan")
}

/// The first step at which a state that grows by e^A is beyond `limit`.
pub fn beyond(a: f64, limit: f64) -> usize {
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
