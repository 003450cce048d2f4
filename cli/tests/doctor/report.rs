//! What else the report says.

use crate::common::{File, fixture, folder, run, scan_case};
use crate::{Diagnosis, doctor, place, planted};
use safetensors::Dtype;
use serde_json::json;

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
