//! `ssm bench` on shapes that take no time.
#![cfg(feature = "bench")]

mod common;

use common::{folder, ssm};
use serde_json::Value;

const FIELDS: [&str; 20] = [
    "op",
    "direction",
    "backend",
    "variant",
    "dtype",
    "layout",
    "batch",
    "nheads",
    "dim",
    "dstate",
    "width",
    "seqlen",
    "threads",
    "reps",
    "cpu_ns_per_state_step",
    "wall_ns_per_state_step",
    "device_ns_per_state_step",
    "baseline_o3_ns",
    "baseline_fastmath_ns",
    "roofline_share",
];

#[test]
fn json_and_picture() {
    let folder = folder("bench");
    let (json, svg) = (folder.join("bench.json"), folder.join("bench.svg"));
    let args = ["bench", "--shape", "2x3x5", "--shape", "1x2x1x4", "--reps", "2"].map(std::ffi::OsString::from);
    let files = ["--json".into(), json.clone().into_os_string(), "--svg".into(), svg.clone().into_os_string()];
    let ran = ssm(args.into_iter().chain(files));
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2, "no temporary is left");

    let rows: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    // Four operators in two directions and three in one, two shapes, two layouts.
    assert_eq!(rows.len(), 44);
    for row in &rows {
        let row = row.as_object().unwrap();
        assert!(row.len() == FIELDS.len() && FIELDS.iter().all(|field| row.contains_key(*field)), "{row:?}");
        assert!(row["cpu_ns_per_state_step"].as_f64().unwrap() >= 0.0 && row["reps"] == 2 && row["threads"] == 1);
        let taps = row["op"].as_str().unwrap().starts_with("causal_conv1d");
        let heads = row["op"].as_str().unwrap().starts_with("squared_attention");
        assert!(row["width"].is_u64() == taps && row["nheads"].is_u64() == heads, "{row:?}");
        assert_eq!(row["dstate"].is_null(), taps || heads, "{row:?}");
        let without = row["op"] == "discretise" || row["op"] == "squared_attention";
        let loops = ssm_baseline::loops().len() > 1 && (!without || row["direction"] == "forward");
        assert_eq!(row["baseline_fastmath_ns"].is_f64(), loops, "{row:?}");
    }
    let usual = |op: &str| rows.iter().find(|row| row["op"] == op && row["batch"] == 2).unwrap();
    assert_eq!((&usual("causal_conv1d")["width"], &usual("state_update")["dstate"]), (&4.into(), &16.into()));
    let attention = usual("squared_attention");
    assert_eq!((&attention["nheads"], &attention["dim"], &attention["seqlen"]), (&3.into(), &64.into(), &5.into()));
    let ops = ["selective_scan", "discretise", "state_update", "causal_conv1d", "squared_attention"];
    let lines = ran.out.lines().filter(|line| ops.iter().any(|op| line.starts_with(op)));
    assert_eq!(lines.count(), 44, "{}", ran.out);

    let svg = std::fs::read_to_string(svg).unwrap();
    let (opened, closed) = (svg.matches('<').count(), svg.matches('>').count());
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>") && opened == closed, "{svg}");
    assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    assert!(svg.contains("discretise backward, cpu f32, channel-last, 1x2x1x4"), "{svg}");
}

#[test]
fn dtypes_and_threads() {
    for dtype in ["bf16", "f16"] {
        let shape = ["--shape", "1x4x3", "--reps", "1", "--layout", "dense"];
        let ran = ssm(["bench", "--dtype", dtype, "--op", "selective_scan"].iter().chain(&shape).copied());
        assert_eq!(ran.status, 0, "{}", ran.err);
        assert_eq!(ran.out.matches(dtype).count(), 2, "{}", ran.out);
    }
    let ran = ssm(["bench", "--no-loops", "--op", "selective_scan", "--shape", "1x4x3", "--reps", "1"]);
    let mut lines = ran.out.lines().filter(|line| line.starts_with("selective_scan")).peekable();
    assert!(ran.status == 0 && lines.peek().is_some(), "{}{}", ran.out, ran.err);
    assert!(lines.all(|line| line.ends_with("-")), "{}", ran.out);
    let ran = ssm(["bench", "--threads", "2", "--direction", "forward", "--shape", "1x4x3", "--reps", "1"]);
    match cfg!(feature = "rayon") {
        true => assert!(ran.status == 0 && ran.out.starts_with("2 threads: "), "{}{}", ran.out, ran.err),
        false => assert!(ran.status == 2 && ran.err.contains("--threads 2"), "{}", ran.err),
    }
}

#[test]
fn refusals() {
    let folder = folder("bench_refusals");
    let (absent, file) = (folder.join("absent/x.json"), folder.join("x"));
    let (absent, file) = (absent.to_str().unwrap(), file.to_str().unwrap());
    for (args, words) in [
        (vec!["--shape", "1x2"], vec!["1x2", "three or four extents"]),
        (vec!["--shape", "0x2x3"], vec!["at least 1"]),
        (vec!["--shape", "1x2x3x4x5"], vec!["three or four extents"]),
        (vec!["--shape", "1x2x-3"], vec!["three or four extents"]),
        (vec!["--shape", "99999999x99999999x1"], vec!["--shape 99999999x99999999x1x16", "2^40"]),
        (vec!["--shape", "1x4096x65536"], vec!["MiB", "--max-memory"]),
        (vec!["--shape", "1x1x1", "--reps", "0"], vec!["--reps"]),
        (vec!["--shape", "1x1x1", "--threads", "0"], vec!["--threads"]),
        (vec!["--backend", "tpu"], vec!["tpu", "possible values: cpu"]),
        (vec!["--dtype", "f64"], vec!["f64"]),
        (vec!["--op", "state_update", "--direction", "backward"], vec!["state_update has none"]),
        (vec!["--op", "causal_conv1d_update", "--direction", "backward"], vec!["causal_conv1d_update has none"]),
        (vec!["--op", "causal_conv1d", "--shape", "1x2x3x17"], vec!["--shape 1x2x3x17", "of width 17", "from 1 to 16"]),
        (
            vec!["--op", "squared_attention_update", "--direction", "backward"],
            vec!["squared_attention_update has none"],
        ),
        (vec!["--op", "squared_attention", "--shape", "1x1x1x99999999"], vec!["--shape 1x1x1x99999999", "2^40"]),
        (vec!["--op", "squared_attention_update", "--shape", "64x64x1x64"], vec!["MiB", "--max-memory"]),
        (vec!["--json", absent], vec!["x.json", "no folder"]),
        (vec!["--svg", folder.to_str().unwrap()], vec!["not a regular file"]),
        (vec!["--json", file, "--svg", file], vec!["same file"]),
    ] {
        let ran = ssm(["bench"].iter().chain(&args).copied());
        assert_eq!((ran.status, ran.out.as_str()), (2, ""), "{args:?}");
        words.iter().for_each(|word| assert!(ran.err.contains(word), "{word:?} is not in {}", ran.err));
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "nothing is written");
}

#[cfg(feature = "cuda")]
#[test]
fn attention_on_a_gpu_is_refused() {
    for op in ["squared_attention", "squared_attention_update"] {
        let ran = ssm(["bench", "--backend", "cpu", "--backend", "cuda", "--op", op, "--shape", "1x1x1"]);
        let expected = format!("ssm: --backend cuda: {op} has no GPU kernels, expected cpu\n");
        assert_eq!((ran.status, ran.out.as_str(), ran.err), (2, "", expected));
    }
}
