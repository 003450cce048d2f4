//! What is said to be the reason is that of what is lost first, and of nothing else.

use crate::backward::{backward, line};
use crate::common::File;
use crate::nonfinite::growing;
use crate::{doctor, planted};
use safetensors::Dtype;

/// States and gradients by them of 1e19: each step's term of dA, ten times their product, leaves f32, and that of ddt does not.
fn steep(dout: &[f64]) -> File {
    line(-1e-3, 1.0, 1e-6, 1.0, dout)
        .with("dt", Dtype::F32, &[1, 1, dout.len()], &vec![10.0; dout.len()])
        .with("initial_state", Dtype::F32, &[1, 1, 1], &[1e19])
        .with("dfinal_state", Dtype::F32, &[1, 1, 1], &[1e19])
}

#[test]
fn a_sum_that_is_lost_at_a_later_step_is_no_cause() {
    let mut dout = [0.0; 8];
    dout[1] = f64::NAN;
    let got = backward("other_step", &steep(&dout));
    for dtype in ["f32", "bf16"] {
        let source = got.source(dtype);
        assert_eq!((&source["result"], &source["dA"]["count"]), (&"dx".into(), &1.into()), "{source}");
        let cause = &source["cause"];
        assert_eq!((&cause["kind"], &cause["tensor"], &cause["time"]), (&"input".into(), &"dout".into(), &1.into()));
    }
    // Of what has no times dA is named first; dC is lost in the same step, and the plain loop gets to it before.
    let dout = [0.0, 0.0, 1e25];
    let file = steep(&dout).without("dfinal_state").with("C", Dtype::F32, &[1, 1], &[1e-6]);
    let got = backward("other_sum", &file);
    let source = got.source("f32");
    assert_eq!((&source["result"], &source["dC"]["count"]), (&"dA".into(), &1.into()), "{source}");
    assert_eq!((&source["cause"]["kind"], &source["cause"]["step"]), (&"dA_term".into(), &2.into()), "{source}");
}

#[test]
fn a_step_whose_decay_was_not_taken_is_not_counted() {
    // 3e36 of the last step becomes 1.6e38 on its way through it, and out adds 3e38.
    let cause = |file| backward("entering", &file).source("f32")["cause"].clone();
    let got = cause(line(4.0, 1.0, 1.0, 0.0, &[3e38, 3e36]));
    assert_eq!((&got["kind"], &got["step"]), (&"dh".into(), &0.into()), "{got}");
    let text = got["text"].as_str().unwrap();
    assert!(text.contains("it grows by itself (exp(delta A) > 1, since A is 4e0 > 0), at the step after it"), "{text}");
    let text = cause(line(4.0, 1.0, 1.0, 0.0, &[3e38, 2e36, 1e33]))["text"].to_string();
    assert!(text.contains("at the 2 steps after it"), "{text}");
    // Of the last step none was.
    let last = line(4.0, 1.0, 1.0, 0.0, &[3e38]).with("dfinal_state", Dtype::F32, &[1, 1, 1], &[3e38]);
    let text = cause(last)["text"].to_string();
    assert!(text.contains("0 steps from the end, and does not grow by itself"), "{text}");
}

#[test]
fn what_ddt_is_made_of_is_named() {
    let file = line(-1.0, 1e10, 1.0, 1e20, &[0.0]).with("dfinal_state", Dtype::F32, &[1, 1, 1], &[1e10]);
    let got = backward("slope", &file.without("dout").meta("dt_softplus", "true"));
    let source = got.source("f32");
    assert_eq!((&source["result"], &source["cause"]["kind"]), (&"ddt".into(), &"ddt".into()), "{source}");
    let text = source["cause"]["text"].as_str().unwrap();
    assert!(
        text.contains("ddt = (1e20 * 1.000e20 + ") && text.contains("* 7.311e-1 (the slope of delta by dt)"),
        "{text}"
    );
}

#[test]
fn without_dout_growth_does_not_depend_on_c() {
    let file = line(-0.5, 1.0, f64::INFINITY, 0.0, &[0.0; 9]).without("dout");
    let got = backward("without_dout", &file.with("dfinal_state", Dtype::F32, &[1, 1, 1], &[3.0]));
    let rows = got.json["growth"].as_array().unwrap();
    assert_eq!(rows.len(), 5);
    for row in rows {
        let left = 3.0 * (-0.5 * row["steps_from_end"].as_f64().unwrap()).exp();
        assert!(row["nonfinite"] == 0 && (row["largest"].as_f64().unwrap() - left).abs() <= 1e-12 * left, "{row}");
    }
    assert_eq!(got.source("f32")["dx"]["count"], 0, "nor do the gradients");
}

#[test]
fn beyond_the_range_is_not_rounding() {
    // bf16 makes 1 of it: 0.3 % of each result, also of those that are beyond the range.
    let file = growing(4.0, 40).with("x", Dtype::F32, &[1, 1, 40], &[1.003; 40]);
    let got = doctor("beyond", &["--dtype", "bf16"], &file);
    assert_eq!(got.finding("rounding"), None, "{}", got.text);
    assert_eq!(got.finding("result_overflow"), Some(("warning", 17)), "{}", got.text);
    assert!(got.text.contains("out in bf16 is beyond 3.390e38, the largest bf16, in 17 elements"), "{}", got.text);
    let error = &got.error("out", "bf16")["channels"][0];
    let [inputs, truth] = ["inputs", "truth"].map(|key| error[key].as_f64().unwrap());
    assert!((1e-3..1e-2).contains(&(inputs / truth)), "{error}");
    // Without the rounding of dt, D x takes away all that the state gives.
    let file = growing(-80.0, 4).with("dt", Dtype::F32, &[1, 1, 4], &[1.003; 4]).with("D", Dtype::F32, &[1], &[-1.003]);
    let got = doctor("rounds", &["--dtype", "bf16"], &planted(&file, "x", 0, 0.5));
    assert_eq!((got.finding("rounding"), got.finding("result_overflow")), (Some(("warning", 1)), None), "{}", got.text);
}
