//! `--backend cuda` on the emulated driver: the program as it is, with another libcuda.
#![cfg(all(feature = "bench", feature = "cuda", target_os = "linux"))]

mod common;
#[path = "../../tests/emulated_driver/library.rs"]
mod library;

use common::{File, fixture, folder};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// What a run of the program on these settings of the driver said: status, standard output, standard error.
fn ssm(settings: &[(&str, &str)], args: &[&str]) -> Option<(i32, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssm"));
    command.args(args).env("LD_LIBRARY_PATH", library::folder(root)?);
    for (name, value) in settings {
        command.env(format!("EMULATED_CUDA_{name}"), value);
    }
    let ran = command.output().unwrap();
    let [out, err] = [ran.stdout, ran.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    Some((ran.status.code().unwrap(), out, err))
}

#[test]
fn info_lists_devices() {
    let Some((status, out, err)) = ssm(&[("DEVICES", "2"), ("CAPABILITY", "8.0")], &["info"]) else { return };
    assert_eq!((status, err.as_str()), (0, ""));
    for gpu in ["gpu 0 ", "gpu 1 "] {
        let line = out.lines().find(|line| line.starts_with(gpu)).unwrap_or_else(|| panic!("{gpu}: {out}"));
        assert!(line.contains("Emulated CUDA device (sm_80), compute capability 8.0, 4 GiB"), "{line}");
    }
}

#[test]
fn run_computes_there() {
    let folder = folder("emulated_driver");
    let (input, output) = (folder.join("in.safetensors"), folder.join("out.safetensors"));
    let (from, to) = (input.to_str().unwrap(), output.to_str().unwrap());
    for (op, name) in [
        ("selective_scan", "state_all_groups2"),
        ("discretise", "zoh"),
        ("causal_conv1d", "varlen_state_width3"),
        ("causal_conv1d_update", "indices_padding"),
        ("state_update", "heads_tied_indices_bf16"),
    ] {
        fixture(op, name).write(&input);
        let args = ["run", "--backend", "cuda", "--device", "1", "--repeat", "1", from, to];
        let Some((status, out, err)) = ssm(&[("DEVICES", "2")], &args) else { return };
        assert_eq!((status, err.as_str()), (0, ""), "{op}: {out}");
        assert!(out.contains("backend cuda") && out.contains("on an emulated device, which has no time"), "{out}");
        assert!(!File::read(&output).tensors.is_empty());
    }
}

#[test]
fn check_judges_and_repeats() {
    let args = ["check", "--backend", "cuda", "--device", "1", "--cases", "12", "--seed", "7"];
    let Some((status, out, err)) = ssm(&[("DEVICES", "2")], &args) else { return };
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("cuda: device 1, Emulated CUDA device") && out.contains("12 cases, 0 failed"), "{out}");

    // The third kernel ends the context: what comes after fails too, and says how to repeat it.
    let settings = [("DEVICES", "2"), ("FAIL", "cuLaunchKernel:700@3")];
    let (status, out, _) = ssm(&settings, &args).unwrap();
    assert_eq!(status, 1, "{out}");
    assert!(out.contains("again: ssm check --backend cuda --device 1 --cases 1 --seed "), "{out}");
    assert!(out.contains("CUDA_ERROR_ILLEGAL_ADDRESS"), "{out}");
}

#[test]
fn bench_tells_no_time() {
    let folder = folder("emulated_driver_bench");
    let json = folder.join("bench.json");
    let args = ["bench", "--backend", "cuda", "--shape", "1x3x5", "--json", json.to_str().unwrap()];
    let Some((status, out, err)) = ssm(&[], &args) else { return };
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("this device is emulated: each call runs once, and nothing is timed"), "{out}");
    let rows: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    // Three operators in two directions and two in one, two layouts; two have no kernels.
    assert_eq!(rows.len(), 16);
    assert!(out.contains("squared_attention is not measured on cuda: it has no GPU kernels\n"), "{out}");
    for row in rows {
        assert!(row["backend"] == "cuda" && row["variant"] == "emulated" && row["reps"] == 1, "{row}");
        let timed = row.as_object().unwrap().iter().filter(|(key, _)| key.contains("_ns") || *key == "roofline_share");
        let timed: Vec<_> = timed.collect();
        assert!(timed.len() == 6 && timed.iter().all(|(_, value)| value.is_null()), "{row}");
    }
}

/// What a device of its own name is measured by: the figures are the emulation's, what was run for them is what a GPU would.
#[test]
fn bench_measures_a_device() {
    let folder = folder("emulated_driver_measured");
    let [json, counters] = ["bench.json", "counters"].map(|name| folder.join(name));
    let shape = ["--shape", "1x8x128", "--layout", "dense", "--op", "selective_scan", "--direction", "forward"];
    let rest = ["bench", "--backend", "cuda", "--reps", "2", "--json", json.to_str().unwrap()];
    let settings = [("NAME", "Some GPU"), ("L2", "1M"), ("MEMORY", "64M"), ("STATISTICS", counters.to_str().unwrap())];
    let Some((status, out, err)) = ssm(&settings, &[&rest[..], &shape].concat()) else { return };
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    let said = out.lines().find(|line| line.starts_with("cuda device 0, Some GPU: copy ")).expect(&out);
    assert!(said.ends_with(" GB/s, L2 1 MiB"), "{said}");

    let rows: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    let [row] = &rows[..] else { panic!("{rows:?}") };
    assert!(row["variant"] == "driver" && row["reps"] == 2 && row["cpu_ns_per_state_step"].is_null(), "{row}");
    let number = |key: &str| row[key].as_f64().unwrap_or_else(|| panic!("{key}: {row}"));
    let [device, wall] = ["device_ns_per_state_step", "wall_ns_per_state_step"].map(number);
    assert!(0.0 < device && device <= wall && (0.0..1.0).contains(&number("roofline_share")), "{row}");
    assert!(ssm_baseline::loops().len() < 2 || number("baseline_fastmath_ns") > 0.0, "{row}");

    let counters = std::fs::read_to_string(counters).unwrap();
    let count = |name: &str| -> usize {
        let line = counters.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        line.unwrap_or_else(|| panic!("{name}: {counters}"))
    };
    // x, dt, z, out; B, C; A; D, dt_bias.
    let bytes = 4 * (4 * 8 * 128 + 2 * 16 * 128 + 8 * 16 + 2 * 8);
    let sets = 2 * (1 << 20) / bytes + 1;
    // Each set has its inputs, outputs and workspace.
    assert!(count("cuMemAllocAsync") >= sets * 9, "{sets} sets: {counters}");
    // One call to warm up at least, ten to estimate, two measured; and eight copies in each of ten trials.
    assert!(count("launches") >= 13 && count("cuMemcpyDtoDAsync_v2") >= 80, "{counters}");
    // Two events around each of them: warm-up, estimate and measurements of calls, trials of copies.
    assert!(count("cuEventRecord") >= 2 * (1 + 1 + 2 + 10), "{counters}");
}

/// What was measured before a device fails stays.
#[test]
fn bench_keeps_what_it_has() {
    let json = folder("emulated_driver_kept").join("bench.json");
    let args = ["bench", "--backend", "cuda", "--shape", "1x3x5", "--op", "selective_scan", "--json"];
    let args = [&args[..], &[json.to_str().unwrap()]].concat();
    // Forward is one launch in either layout.
    let settings = [("FAIL", "cuLaunchKernel:700@3")];
    let Some((status, out, err)) = ssm(&settings, &args) else { return };
    assert!(status == 2 && out.is_empty() && err.contains("CUDA_ERROR_ILLEGAL_ADDRESS"), "{status} {out} {err}");
    let rows: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    let layouts: Vec<&Value> = rows.iter().map(|row| &row["layout"]).collect();
    assert_eq!(layouts, ["dense", "channel-last"]);
}

#[test]
fn refusals() {
    let bench = ["bench", "--shape", "1x2x3", "--backend", "cuda"];
    for (settings, args, words) in [
        (("DEVICES", "2"), [&bench[..], &["--device", "3"]].concat(), "no CUDA device 3: the driver knows 2"),
        (("DEVICES", "0"), bench.to_vec(), "no CUDA device 0: the driver knows 0"),
        (("DRIVER_VERSION", "11080"), bench.to_vec(), "the CUDA driver is too old: it is for CUDA 11.8"),
        (("FAIL", "cuMemAllocAsync:2@3"), bench.to_vec(), "out of memory"),
        (("FAIL", "cuModuleLoadData:218"), bench.to_vec(), "CUDA_ERROR_INVALID_PTX"),
        // Nothing is checked on the cpu where the other backend is absent.
        (("DEVICES", "1"), vec!["check", "--backend", "cpu", "--backend", "cuda", "--device", "1"], "no CUDA device 1"),
        (("DEVICES", "1"), vec!["check", "--backend", "cpu", "--device", "0"], "--device is for --backend cuda only"),
    ] {
        let Some((status, out, err)) = ssm(&[settings], &args) else { return };
        assert_eq!((status, out.as_str()), (2, ""), "{args:?}: {err}");
        assert!(err.contains(words), "{settings:?} {args:?}: {words:?} is not in {err}");
    }
}
