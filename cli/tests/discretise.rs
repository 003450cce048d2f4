//! The discretisation: broadcasting, and forward and backward on the CPU against the reference.

mod common;

use common::{File, assert_close, broadcast_case, folder, precision, results, run};
use safetensors::Dtype;

const RULES: [&str; 5] = ["euler", "exp_euler", "zoh", "bilinear", "exp_trapezoidal"];

/// Stretches a tensor of `shape` to (2, 3, 4).
fn stretch(shape: &[usize], values: &[f64]) -> Vec<f64> {
    let mut padded = vec![1; 3 - shape.len()];
    padded.extend(shape);
    let at = |index: [usize; 3]| {
        let offset = padded.iter().zip(index).fold(0, |offset, (&n, i)| offset * n + if n == 1 { 0 } else { i });
        values[offset]
    };
    (0..24).map(|i| at([i / 12, i / 4 % 3, i % 4])).collect()
}

fn stretched(file: &File) -> File {
    let names: Vec<String> = file.tensors.keys().cloned().collect();
    names.iter().fold(file.clone(), |wide, name| {
        let values = stretch(file.shape(name), &file.values(name));
        wide.with(name, file.dtype(name), &[2, 3, 4], &values)
    })
}

/// The CPU's results are those of the reference, used as the truth, and those of inputs stretched by hand.
fn agree(file: &File, options: &[&str], names: &[(&str, Dtype)], folder: &std::path::Path) -> File {
    let truth = results(&[options, &["--backend", "reference"]].concat(), file, folder);
    let (input, output) = (folder.join("with_truth.safetensors"), folder.join("out.safetensors"));
    file.clone().beside(&truth).write(&input);
    let ran = run(options, &input, &output);
    assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{}", ran.out);
    assert_eq!(ran.out.matches("  ok\n").count(), names.len(), "{}", ran.out);
    let got = File::read(&output);
    assert_eq!(got.tensors.len(), names.len());
    for (name, dtype) in names {
        assert_eq!((got.dtype(name), got.shape(name)), (*dtype, &[2, 3, 4][..]), "{name}");
        assert_eq!(truth.dtype(name), Dtype::F64);
        assert_close(&got.values(name), &truth.values(name), precision(*dtype), name);
    }
    assert_eq!(got.tensors, results(options, &stretched(file), folder).tensors, "stretched by hand");
    got
}

#[test]
fn forward_broadcasts() {
    let folder = folder("discretise_forward");
    for rule in RULES {
        for dtype in [Dtype::F32, Dtype::BF16] {
            let mut names = vec![("delta", Dtype::F32), ("A_bar", Dtype::F32), ("B_bar", Dtype::F32)];
            if rule == "exp_trapezoidal" {
                names.push(("B_prev_bar", Dtype::F32));
            }
            agree(&broadcast_case(rule, dtype), &[], &names, &folder);
        }
    }
}

#[test]
fn backward_broadcasts() {
    let folder = folder("discretise_backward");
    for rule in RULES {
        for (dtype, upstream) in [(Dtype::F32, Dtype::F32), (Dtype::F16, Dtype::F16), (Dtype::BF16, Dtype::F32)] {
            let mut file = broadcast_case(rule, dtype)
                .with_pattern("dA_bar", upstream, &[2, 3, 4], (-1.0, 1.0))
                .with_pattern("dB_bar", upstream, &[3, 4], (-1.0, 1.0))
                .with_pattern("ddelta", upstream, &[1], (0.5, 0.5));
            let mut names = vec![("ddt", dtype), ("dA", Dtype::F32), ("dB", dtype), ("ddt_bias", Dtype::F32)];
            if rule == "exp_trapezoidal" {
                file = file.with_pattern("dB_prev_bar", upstream, &[2, 1, 1], (-1.0, 1.0));
                names.push(("dlambda", dtype));
            }
            let got = agree(&file, &["--backward"], &names, &folder);
            assert_eq!(got.metadata["backward"], "true");
            assert!(got.values("ddt").iter().any(|&v| v != 0.0));
        }
    }
}

#[test]
fn delta_is_taken_as_it_is() {
    let folder = folder("discretise_delta");
    let file = File::default()
        .with_pattern("delta", Dtype::F32, &[2, 1, 4], (0.01, 1.0))
        .with_pattern("A", Dtype::F32, &[3, 1], (-4.0, 0.0))
        .with_pattern("B", Dtype::F32, &[2, 3, 1], (-1.0, 1.0))
        .with_pattern("dB_bar", Dtype::F32, &[2, 3, 4], (-1.0, 1.0))
        .meta("rule", "zoh");
    let options = ["--op", "discretise"];
    agree(&file, &options, &[("A_bar", Dtype::F32), ("B_bar", Dtype::F32)], &folder);
    let names = [("ddelta", Dtype::F32), ("dA", Dtype::F32), ("dB", Dtype::F32)];
    agree(&file, &["--op", "discretise", "--backward"], &names, &folder);
}

#[test]
fn any_rank_and_no_elements() {
    let folder = folder("discretise_shapes");
    for shape in [&[][..], &[1], &[0], &[2, 0, 3], &[2, 1, 3, 2]] {
        let file = File::default()
            .with_pattern("dt", Dtype::F32, shape, (0.1, 1.0))
            .with_pattern("A", Dtype::F32, &[], (-1.0, -1.0))
            .with_pattern("B", Dtype::F32, shape, (-1.0, 1.0))
            .with_pattern("dA_bar", Dtype::F32, shape, (-1.0, 1.0))
            .meta("op", "discretise")
            .meta("method", "zoh");
        for backend in ["cpu", "reference"] {
            assert_eq!(results(&["--backend", backend], &file, &folder).shape("A_bar"), shape);
            assert_eq!(results(&["--backend", backend, "--backward"], &file, &folder).shape("ddt"), shape);
        }
    }
}

#[test]
fn dt_limit_and_softplus_hold() {
    let folder = folder("discretise_limit");
    let file = broadcast_case("euler", Dtype::F32).meta("dt_limit", "(0.1, 0.5)");
    let delta = results(&[], &file, &folder).values("delta");
    assert!(delta.iter().all(|v| (0.09999..=0.5).contains(v)) && delta.contains(&0.5), "{delta:?}");
    let raw = results(&[], &broadcast_case("euler", Dtype::F32).meta("dt_softplus", "false"), &folder);
    assert!(raw.values("delta").iter().any(|&v| v < 0.0));
}
