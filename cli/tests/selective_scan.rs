//! The options of the selective scan, each against another way to the same result.

mod common;

use common::{File, assert_close, fixture, folder, precision, results, run, scan_case};
use safetensors::Dtype;

const F32: f64 = 2e-6;

/// Steps `range` of a scan.
fn steps(file: &File, range: std::ops::Range<usize>) -> File {
    let names = ["x", "dt", "B", "C", "z"]
        .into_iter()
        .filter(|name| file.tensors.get(*name).is_some_and(|tensor| tensor.shape.len() > 2));
    names.fold(file.clone(), |file, name| file.cut_last(name, range.clone())).meta("seqlen", &range.len().to_string())
}

#[test]
fn states_every_k_are_the_final_states_of_shorter_scans() {
    let folder = folder("scan_states");
    let file = scan_case(Dtype::F32);
    for (every, nchunks) in [(1, 12), (5, 2), (12, 1), (13, 0)] {
        for layout in ["channel-first", "channel-last"] {
            let all = results(&["--states-every", &every.to_string(), "--layout", layout], &file, &folder);
            assert_eq!(all.shape("chunk_states"), [2 * nchunks, 4, 3]);
            assert_eq!(all.values("chunk_offsets"), [0.0, nchunks as f64, 2.0 * nchunks as f64]);
            assert_eq!((all.dtype("chunk_states"), all.dtype("chunk_offsets")), (Dtype::F32, Dtype::I32));
            assert_eq!(all.metadata["states_every"], every.to_string());
            let states = all.values("chunk_states");
            for chunk in 0..nchunks {
                let short = results(&[], &steps(&file, 0..(chunk + 1) * every), &folder).values("final_state");
                for batch in 0..2 {
                    let state = &states[(batch * nchunks + chunk) * 12..][..12];
                    assert_close(state, &short[batch * 12..][..12], F32, "chunk state");
                }
            }
        }
    }
}

/// One batch row whose third part runs alone, and packed with two others.
fn packed(reverse: &str) -> (File, Vec<usize>) {
    let file = File::default()
        .with_pattern("x", Dtype::F32, &[1, 4, 15], (-1.0, 1.0))
        .with_pattern("dt", Dtype::F32, &[1, 4, 15], (-1.0, 1.0))
        .with_pattern("A", Dtype::F32, &[4, 3], (-2.0, -0.1))
        .with_pattern("B", Dtype::F32, &[1, 1, 3, 15], (-1.0, 1.0))
        .with_pattern("C", Dtype::F32, &[4, 3], (-1.0, 1.0))
        .with_pattern("z", Dtype::F32, &[1, 4, 15], (-1.0, 1.0))
        .with_pattern("D", Dtype::F32, &[4], (-1.0, 1.0))
        .meta("op", "selective_scan")
        .meta("dt_softplus", "true")
        .meta("reverse", reverse)
        .meta("const_C", "true");
    (file, vec![0, 4, 4, 15])
}

#[test]
fn packed_is_separate_in_both_directions() {
    let folder = folder("scan_packed");
    for reverse in ["false", "true"] {
        let (file, cu_seqlens) = packed(reverse);
        let boundaries: Vec<f64> = cu_seqlens.iter().map(|&c| c as f64).collect();
        let together = file
            .clone()
            .with("cu_seqlens", Dtype::I32, &[4], &boundaries)
            .with_pattern("initial_state", Dtype::F32, &[3, 4, 3], (-1.0, 1.0))
            .meta("cu_seqlens", "[0, 4, 4, 15]");
        let initial = together.values("initial_state");
        for options in [&["--states-every", "3"][..], &["--states-every", "3", "--layout", "channel-last"]] {
            let whole = results(options, &together, &folder);
            assert_eq!(whole.shape("final_state"), [3, 4, 3]);
            assert_eq!(whole.values("chunk_offsets"), [0.0, 1.0, 1.0, 4.0]);
            for seq in [0, 2] {
                let range = cu_seqlens[seq]..cu_seqlens[seq + 1];
                let alone = steps(&file, range.clone());
                let alone = alone.with("initial_state", Dtype::F32, &[1, 4, 3], &initial[seq * 12..][..12]);
                let alone = results(options, &alone, &folder);
                let part = whole.clone().cut_last("out", range);
                assert_close(&part.values("out"), &alone.values("out"), F32, "out");
                let last = &whole.values("final_state")[seq * 12..][..12];
                assert_close(last, &alone.values("final_state"), F32, "final_state");
            }
            assert_eq!(whole.values("final_state")[12..24], initial[12..24], "an empty sequence");
        }
    }
}

#[test]
fn reverse_is_not_forward() {
    let folder = folder("scan_reverse");
    let forward = results(&[], &scan_case(Dtype::F32), &folder);
    let reverse = results(&[], &scan_case(Dtype::F32).meta("reverse", "true"), &folder);
    assert_ne!(forward.tensors["out"], reverse.tensors["out"]);
    assert_eq!(reverse.metadata["reverse"], "true");
}

#[test]
fn dt_limit_clamps() {
    let folder = folder("scan_limit");
    let file = scan_case(Dtype::F32);
    let clamped = results(&[], &file.clone().meta("dt_limit", "[0.25, 0.25]"), &folder);
    let constant = file.with("dt", Dtype::F32, &[2, 4, 12], &[0.25; 96]).meta("dt_softplus", "false");
    assert_eq!(clamped.tensors, results(&[], &constant, &folder).tensors);
    let open = results(&[], &constant.clone().meta("dt_limit", "(0.0, Infinity)"), &folder);
    assert_eq!(clamped.tensors, open.tensors);
}

#[test]
fn results_of_the_reference_are_a_truth() {
    let folder = folder("scan_truth");
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        for (file, every) in
            [(scan_case(dtype), "5"), (fixture("selective_scan", "reverse_varlen").without_truth(), "4")]
        {
            let truth = results(&["--backend", "reference", "--states-every", every], &file, &folder);
            assert_eq!(truth.dtype("out"), Dtype::F64);
            let (input, output) = (folder.join("with_truth.safetensors"), folder.join("out.safetensors"));
            file.beside(&truth).write(&input);
            let ran = run(&["--states-every", every, "--layout", "channel-last"], &input, &output);
            assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{}", ran.out);
            assert!(!ran.out.contains("no truth") && ran.out.matches("  ok\n").count() == 3, "{}", ran.out);
            let got = File::read(&output);
            for name in ["out", "final_state", "chunk_states"] {
                assert_close(&got.values(name), &truth.values(name), precision(got.dtype(name)), name);
            }
            let ran = run(&["--states-every", "3"], &input, &output);
            assert_eq!(ran.status, 2, "another K has other chunks: {}", ran.out);
        }
    }
}

/// The gradient by states that a file does not have is made where the file has its truth.
#[test]
fn a_truth_of_absent_states_is_judged() {
    let folder = folder("scan_absent_state");
    let file = fixture("selective_scan", "state_plain").without_truth();
    let shape = file.shape("initial_state").to_vec();
    let zeros = file.clone().with("initial_state", Dtype::F32, &shape, &vec![0.0; shape.iter().product()]);
    let truth = results(&["--backward", "--backend", "reference"], &zeros, &folder);
    let (input, output) = (folder.join("with_truth.safetensors"), folder.join("out.safetensors"));
    file.without("initial_state").beside(&truth).write(&input);
    let ran = run(&["--backward"], &input, &output);
    assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{}", ran.out);
    assert_eq!(ran.out.matches("  ok\n").count(), truth.tensors.len(), "{}", ran.out);
    assert!(truth.tensors.contains_key("dinitial_state"));
}

#[test]
fn threads_and_layouts_give_the_same_bits() {
    let folder = folder("scan_threads");
    let file = scan_case(Dtype::BF16);
    let one = results(&["--threads", "1"], &file, &folder);
    let threads: &[&str] = if cfg!(feature = "rayon") { &["--threads", "3"] } else { &[] };
    for options in [threads, &[], &["--layout", "channel-last"], &["--op", "selective_scan"]] {
        assert_eq!(results(options, &file, &folder).tensors, one.tensors, "{options:?}");
    }
}

#[test]
fn nothing_to_do_is_done() {
    let folder = folder("scan_empty");
    for (batch, dim, seqlen, dstate) in [(0, 4, 5, 3), (2, 0, 5, 3), (2, 4, 0, 3), (2, 4, 5, 0), (2, 4, 0, 0)] {
        let file = File::default()
            .with_pattern("x", Dtype::F32, &[batch, dim, seqlen], (-1.0, 1.0))
            .with_pattern("dt", Dtype::F32, &[batch, dim, seqlen], (-1.0, 1.0))
            .with_pattern("A", Dtype::F32, &[dim, dstate], (-2.0, -0.1))
            .with_pattern("B", Dtype::F32, &[batch, 1, dstate, seqlen], (-1.0, 1.0))
            .with_pattern("C", Dtype::F32, &[batch, 1, dstate, seqlen], (-1.0, 1.0));
        for backend in ["cpu", "reference"] {
            for layout in ["channel-first", "channel-last"] {
                let options =
                    ["--op", "selective_scan", "--backend", backend, "--layout", layout, "--states-every", "2"];
                let got = results(&options, &file, &folder);
                assert_eq!(got.shape("out"), [batch, dim, seqlen]);
                assert_eq!(got.values("final_state"), vec![0.0; batch * dim * dstate]);
            }
        }
    }
}

#[test]
fn nan_and_infinity_are_legal() {
    let folder = folder("scan_nan");
    let file = scan_case(Dtype::F32);
    let mut values = file.values("x");
    (values[3], values[20]) = (f64::NAN, f64::INFINITY);
    let got = results(&[], &file.with("x", Dtype::F32, &[2, 4, 12], &values), &folder);
    assert!(got.values("out")[3].is_nan() && got.values("out")[2].is_finite());
}
