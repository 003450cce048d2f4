//! Every fixture of the library runs, and the results in the output file are the truth of the input file.

mod common;

use common::{File, assert_close, fixtures, folder, precision, run};
use safetensors::Dtype;

fn runs(op: &str, backends: &[&[&str]], layouts: &[&[&str]]) {
    runs_those(op, backends, layouts, |_| true);
}

/// Those that are of `interest`.
fn runs_those(op: &str, backends: &[&[&str]], layouts: &[&[&str]], interest: impl Fn(&File) -> bool) {
    let folder = folder(&format!("fixtures_{op}_{}", layouts.concat().concat()));
    let output = folder.join("out.safetensors");
    for path in fixtures(op) {
        let input = File::read(&path);
        if !interest(&input) {
            continue;
        }
        for options in backends {
            let backend = options[0];
            for layout in layouts {
                let ran = run(&[&["--backend"], *options, *layout].concat(), &path, &output);
                let what = format!("{} {options:?} {layout:?}", path.display());
                assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{what}: {}", ran.out);
                check(&input, &File::read(&output), backend, layout.contains(&"--backward"), &what);
                assert!(ran.out.contains("ok") && !ran.out.contains("FAIL"), "{what}: {}", ran.out);
            }
        }
    }
}

/// The gradients that have the dtype of x; B and C where they change with time.
const IO_GRADIENTS: [&str; 5] = ["dx", "ddt", "dz", "dB", "dC"];

fn check(input: &File, output: &File, backend: &str, backward: bool, what: &str) {
    let op = input.metadata["op"].as_str();
    let gradients: Vec<&str> = input
        .tensors
        .keys()
        .map(String::as_str)
        .filter(|name| name.starts_with('d') && input.dtype(name) == Dtype::F64)
        .collect();
    let results: &[&str] = match op {
        "selective_scan" | "causal_conv1d" | "squared_attention" if backward => &gradients,
        "selective_scan" | "causal_conv1d" | "causal_conv1d_update" => &["out", "final_state"],
        "squared_attention" | "squared_attention_update" => &["out", "final_state", "final_norm"],
        _ if input.metadata["method"] == "exp_trapezoidal" => &["A_bar", "B_bar", "B_prev_bar"],
        _ => &["A_bar", "B_bar"],
    };
    assert_eq!(output.tensors.keys().collect::<Vec<_>>().len(), results.len(), "{what}");
    for name in results {
        assert_eq!(output.shape(name), input.shape(name), "{what} {name}");
        let dtype = match backend {
            "reference" => Dtype::F64,
            _ if op.starts_with("squared_attention") => match *name {
                "out" | "dq" | "dk" | "dv" => input.dtype("q"),
                _ => Dtype::F32,
            },
            _ if *name == "out" => input.dtype("x"),
            _ if ["dweight", "dbias"].contains(name) => input.dtype("weight"),
            _ if op.starts_with("causal_conv1d") => input.dtype("x"),
            _ if IO_GRADIENTS.contains(name) && input.shape(name).len() > 2 => input.dtype("x"),
            _ => Dtype::F32,
        };
        assert_eq!(output.dtype(name), dtype, "{what} {name}");
        // Sums of the backward direction cancel; the run itself has judged them by the accuracy rule.
        let close = precision(dtype) * if backward { 1000.0 } else { 1.0 };
        assert_close(&output.values(name), &input.values(name), close, &format!("{what} {name}"));
    }
    let option = match op {
        "causal_conv1d" | "causal_conv1d_update" => "silu",
        "squared_attention" | "squared_attention_update" => "vdim",
        _ => "dt_softplus",
    };
    for key in ["op", "dtype", option] {
        assert_eq!(output.metadata[key], input.metadata[key], "{what}");
    }
    assert_eq!(output.metadata["backend"], backend);
}

/// Every backend, the emulator in both modes.
const BACKENDS: &[&[&str]] = &[
    &["cpu"],
    &["reference"],
    #[cfg(feature = "emulator")]
    &["emulator"],
    #[cfg(feature = "emulator")]
    &["emulator", "--adversarial", "5"],
];

#[test]
fn selective_scan() {
    runs("selective_scan", BACKENDS, &[&["--layout", "channel-first"], &["--layout", "channel-last"]]);
}

#[test]
fn selective_scan_split() {
    runs("selective_scan", BACKENDS, &[&["--split", "2"]]);
}

#[test]
fn selective_scan_backward() {
    let layouts: &[&[&str]] =
        &[&["--backward"], &["--backward", "--layout", "channel-last"], &["--backward", "--split", "3"]];
    runs("selective_scan", BACKENDS, layouts);
    runs("selective_scan", &[&["reference"]], layouts);
}

#[test]
fn discretise() {
    runs("discretise", BACKENDS, &[&[]]);
}

#[test]
fn causal_conv1d() {
    let layouts: &[&[&str]] = &[&["--layout", "channel-first"], &["--layout", "channel-last"]];
    runs("causal_conv1d", BACKENDS, layouts);
    runs("causal_conv1d_update", BACKENDS, layouts);
}

#[test]
fn causal_conv1d_backward() {
    runs("causal_conv1d", BACKENDS, &[&["--backward"], &["--backward", "--layout", "channel-last"]]);
}

/// The operator has no GPU kernels.
#[test]
fn squared_attention() {
    let options: &[&[&str]] = &[&[], &["--layout", "channel-last"]];
    runs("squared_attention_update", &BACKENDS[..2], options);
    runs("squared_attention", &BACKENDS[..2], options);
    runs("squared_attention", &BACKENDS[..1], &[&["--chunk-size", "8"], &["--threads", "1"]]);
}

#[test]
fn squared_attention_backward() {
    let options: &[&[&str]] = &[&["--backward"], &["--backward", "--layout", "channel-last"]];
    let has_dout = |file: &File| file.tensors.contains_key("dout");
    runs_those("squared_attention", &BACKENDS[..2], options, has_dout);
    runs_those("squared_attention", &BACKENDS[..1], &[&["--backward", "--chunk-size", "8"]], has_dout);
}

#[test]
fn a_wrong_truth_is_status_1_and_written() {
    let folder = folder("fixtures_wrong");
    let (input, output) = (folder.join("in.safetensors"), folder.join("out.safetensors"));
    let file = common::fixture("selective_scan", "len7");
    let mut values = file.values("final_state");
    values[5] *= 1.001;
    let shape = file.shape("final_state").to_vec();
    file.with("final_state", Dtype::F64, &shape, &values).write(&input);
    let ran = run(&[], &input, &output);
    assert_eq!((ran.status, ran.err.as_str()), (1, ""));
    assert!(ran.out.contains("FAIL") && ran.out.contains("element 5 "), "{}", ran.out);
    assert_eq!(File::read(&output).shape("final_state"), shape);
}
