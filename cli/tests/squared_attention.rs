//! Squared attention: options, dtypes, decoding and packed sequences against the whole, and what is refused.

mod common;

use common::{File, Stored, assert_close, folder, precision, results, run};
use safetensors::Dtype;

const STATE: [usize; 4] = [2, 3, 10, 5];

fn case(dtype: Dtype) -> File {
    let rows = |file: File, name: &str, inner| file.with_pattern(name, dtype, &[2, 3, 9, inner], (-1.0, 1.2));
    let file = rows(rows(rows(rows(File::default(), "q", 4), "k", 4), "v", 5), "dout", 5);
    file.with_pattern("log_decay", Dtype::F32, &[2, 3, 9], (-1.0, 0.0))
        .with_pattern("initial_state", Dtype::F32, &STATE, (-1.0, 1.0))
        .with_pattern("initial_norm", Dtype::F32, &STATE[..3], (2.0, 3.0))
        .with_pattern("dfinal_state", Dtype::F32, &STATE, (-1.0, 1.0))
        .with_pattern("dfinal_norm", Dtype::F32, &STATE[..3], (-1.0, 1.0))
        .meta("op", "squared_attention")
        .meta("scale", "0.7")
}

/// Without what only the backward direction reads.
fn forward_case(dtype: Dtype) -> File {
    ["dout", "dfinal_state", "dfinal_norm"].iter().fold(case(dtype), |file, name| file.without(name))
}

/// As tokens in a cache.
fn update_case(dtype: Dtype) -> File {
    forward_case(dtype).meta("op", "squared_attention_update")
}

#[test]
fn results_of_the_reference_are_a_truth_in_every_dtype() {
    let folder = folder("attention_truth");
    let (input, output) = (folder.join("with_truth.safetensors"), folder.join("out.safetensors"));
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        for direction in [&[][..], &["--backward"]] {
            let file = case(dtype);
            let truth = results(&[&["--backend", "reference"], direction].concat(), &file, &folder);
            file.beside(&truth).write(&input);
            for options in [&["--layout", "channel-last"][..], &["--chunk-size", "4"], &["--threads", "1"]] {
                let ran = run(&[options, direction].concat(), &input, &output);
                assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{}", ran.out);
                assert_eq!(ran.out.matches("  ok\n").count(), truth.tensors.len(), "{}", ran.out);
                let got = File::read(&output);
                for name in truth.tensors.keys() {
                    let rows = ["out", "dq", "dk", "dv"].contains(&name.as_str());
                    let expected = if rows { dtype } else { Dtype::F32 };
                    assert_eq!((got.dtype(name), truth.dtype(name)), (expected, Dtype::F64), "{name}");
                }
            }
        }
    }
}

#[test]
fn an_update_in_every_pair_of_dtypes() {
    let folder = folder("attention_update");
    let (input, output) = (folder.join("with_truth.safetensors"), folder.join("out.safetensors"));
    let dtypes = [Dtype::F32, Dtype::F16, Dtype::BF16];
    for (dtype, state) in dtypes.iter().flat_map(|&dtype| dtypes.map(|state| (dtype, state))) {
        // One token: between several a state of few digits is rounded, and either neighbour is right.
        let file = ["q", "k", "v"].iter().fold(update_case(dtype), |file, &name| {
            let inner = if name == "v" { 5 } else { 4 };
            file.with_pattern(name, dtype, &[2, 3, 1, inner], (-1.0, 1.2))
        });
        let file = file
            .with_pattern("log_decay", Dtype::F32, &[2, 3, 1], (-1.0, 0.0))
            .with_pattern("initial_state", state, &[4, 3, 10, 5], (-1.0, 1.0))
            .with_pattern("initial_norm", Dtype::F32, &[4, 3, 10], (2.0, 3.0))
            .with("state_indices", Dtype::I32, &[2], &[3.0, -1.0])
            .meta("indices", "[3, -1]");
        let truth = results(&["--backend", "reference"], &file, &folder);
        file.clone().beside(&truth).write(&input);
        let ran = run(&["--layout", "channel-last"], &input, &output);
        assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{}", ran.out);
        assert_eq!(ran.out.matches("  ok\n").count(), 3, "{}", ran.out);
        let got = File::read(&output);
        assert_eq!((got.dtype("out"), got.dtype("final_state")), (dtype, state));
        // Of the four slots the batch has the last one.
        assert_eq!(got.values("final_state")[..450], file.values("initial_state")[..450]);
        assert_ne!(got.values("final_state")[450..], file.values("initial_state")[450..]);
        assert!(got.values("out")[15..].iter().all(|&value| value == 0.0), "padding");
        assert_eq!(got.metadata["state_dtype"], file.clone().meta("state_dtype", name(state)).metadata["state_dtype"]);
    }
}

fn name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F32 => "f32",
        Dtype::F16 => "f16",
        _ => "bf16",
    }
}

/// A truth that nobody looks at would be no truth.
#[test]
fn a_truth_of_absent_states_is_judged() {
    let folder = folder("attention_absent_state");
    let zeros = case(Dtype::F32).with("initial_state", Dtype::F32, &STATE, &[0.0; 300]);
    let zeros = zeros.with("initial_norm", Dtype::F32, &STATE[..3], &[0.0; 60]);
    let truth = results(&["--backward", "--backend", "reference"], &zeros, &folder);
    let (input, output) = (folder.join("with_truth.safetensors"), folder.join("out.safetensors"));
    let file = case(Dtype::F32).without("initial_state").without("initial_norm");
    file.clone().beside(&truth).write(&input);
    let ran = run(&["--backward"], &input, &output);
    assert_eq!((ran.status, ran.out.matches("  ok\n").count()), (0, 6), "{}{}", ran.out, ran.err);
    let off = truth.clone().with("dinitial_norm", Dtype::F64, &STATE[..3], &[0.5; 60]);
    file.beside(&off).write(&input);
    assert_eq!(run(&["--backward"], &input, &output).status, 1);
}

/// The steps in `range` of a tensor of (batch, nheads, 9, ..).
fn steps(file: &File, name: &str, range: std::ops::Range<usize>) -> Stored {
    let Stored { dtype, mut shape, bytes } = file.tensors[name].clone();
    let step = shape[3..].iter().product::<usize>() * dtype.bitsize() / 8;
    let cut = bytes.chunks(9 * step).flat_map(|rows| rows[range.start * step..range.end * step].to_vec()).collect();
    shape[2] = range.len();
    Stored { dtype, shape, bytes: cut }
}

#[test]
fn decoding_is_the_whole() {
    let folder = folder("attention_decode");
    let whole = results(&[], &forward_case(Dtype::F32), &folder);
    let mut state = update_case(Dtype::F32);
    for t in 0..9 {
        let mut token = state.clone();
        for name in ["q", "k", "v", "log_decay"] {
            token.tensors.insert(name.into(), steps(&state, name, t..t + 1));
        }
        let step = results(&[], &token, &folder);
        let mut expected = File::default();
        expected.tensors.insert("out".into(), steps(&whole, "out", t..t + 1));
        assert_close(&step.values("out"), &expected.values("out"), precision(Dtype::F32), "out");
        for (from, to) in [("final_state", "initial_state"), ("final_norm", "initial_norm")] {
            state.tensors.insert(to.into(), step.tensors[from].clone());
        }
    }
    for (last, name) in [("initial_state", "final_state"), ("initial_norm", "final_norm")] {
        assert_close(&state.values(last), &whole.values(name), precision(Dtype::F32), name);
    }
}

#[test]
fn packed_sequences_begin_anew() {
    let folder = folder("attention_packed");
    let one = |file: File, name: &str, inner| file.with_pattern(name, Dtype::F32, &[1, 3, 9, inner], (-1.0, 1.2));
    let plain = one(one(one(File::default(), "q", 4), "k", 4), "v", 5).meta("op", "squared_attention");
    let plain = plain.with_pattern("log_decay", Dtype::F32, &[1, 3, 9], (-1.0, 0.0));
    let packed = plain.clone().with("cu_seqlens", Dtype::I32, &[3], &[0.0, 4.0, 9.0]).meta("cu_seqlens", "[0, 4, 9]");
    let packed = results(&[], &packed, &folder);
    let mut second = plain.clone();
    for name in ["q", "k", "v", "log_decay"] {
        second.tensors.insert(name.into(), steps(&plain, name, 4..9));
    }
    let second = results(&[], &second, &folder);
    let mut expected = File::default();
    expected.tensors.insert("out".into(), steps(&packed, "out", 4..9));
    assert_close(&second.values("out"), &expected.values("out"), precision(Dtype::F32), "out");
    assert_eq!(packed.shape("final_norm"), [2, 3, 10]);
    assert_close(&packed.values("final_norm")[30..], &second.values("final_norm"), precision(Dtype::F32), "norm");
}

/// It cancels in out, and stands in the states.
#[test]
fn scale_is_in_the_states() {
    let folder = folder("attention_scale");
    let file = forward_case(Dtype::F32).without("initial_state").without("initial_norm");
    let usual = results(&[], &file.clone().without("scale"), &folder);
    let scaled = results(&[], &file.meta("scale", "1.5"), &folder);
    assert_close(&scaled.values("out"), &usual.values("out"), precision(Dtype::F32), "out");
    // Usually 1 / sqrt(4).
    let expected: Vec<f64> = usual.values("final_norm").iter().map(|norm| norm * 9.0).collect();
    assert_close(&scaled.values("final_norm"), &expected, precision(Dtype::F32), "final_norm");
    assert_eq!(scaled.metadata["scale"], "1.5");
}

/// Status 2, words in the message, and no output.
fn refused(file: &File, options: &[&str], words: &[&str]) {
    let name = words.concat().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let folder = folder(&format!("attention_refused_{name}"));
    let (input, output) = (folder.join("in.safetensors"), folder.join("out.safetensors"));
    file.write(&input);
    let ran = run(options, &input, &output);
    assert_eq!(ran.status, 2, "{options:?} {words:?}: {}", ran.out);
    assert!(words.iter().all(|word| ran.err.contains(word)), "{words:?}: {}", ran.err);
    assert!(!output.exists());
}

#[test]
fn refusals() {
    let file = case(Dtype::F32);
    refused(&file, &["--split", "2"], &["squared_attention", "--split does not apply"]);
    refused(&file, &["--states-every", "2"], &["squared_attention", "--states-every does not apply"]);
    for name in ["q", "k", "v", "log_decay"] {
        refused(&file.clone().without(name), &[], &["squared_attention", &format!("`{name}` is missing")]);
    }
    refused(&file.clone().without("initial_norm"), &[], &["`initial_norm` is missing", "beside `initial_state`"]);
    refused(&file.clone().without("initial_state"), &[], &["`initial_state` is missing", "beside `initial_norm`"]);
    refused(&file.clone().meta("vdim", "4"), &[], &["`vdim`", "5 like the tensors"]);
    refused(&file.clone().meta("dt_softplus", "true"), &[], &["`dt_softplus`", "no dt"]);
    refused(&file.clone().meta("scale", "one"), &[], &["`scale`", "one", "a number"]);
    refused(&file.clone().meta("scale", "1e30"), &[], &["`scale`", "a number whose square is finite"]);
    refused(&file.clone().with_pattern("k", Dtype::F16, &[2, 3, 9, 4], (0.0, 1.0)), &[], &["`k` has dtype F16"]);
    refused(&file.clone().with_pattern("k", Dtype::F32, &[2, 3, 9, 5], (0.0, 1.0)), &[], &["`k`", "[2, 3, 9, 4]"]);
    let decay = file.clone().with_pattern("log_decay", Dtype::F32, &[2, 3, 9, 1], (0.0, 1.0));
    refused(&decay, &[], &["`log_decay` has shape [2, 3, 9, 1]", "3 dimensions"]);
    refused(&file.clone().with("cu_seqlens", Dtype::I32, &[2], &[0.0, 9.0]), &[], &["`q`", "batch 2", "batch 1"]);
    let states = file.clone().with_pattern("initial_state", Dtype::F32, &[2, 3, 9, 5], (0.0, 1.0));
    refused(&states, &[], &["`initial_state`", "[2, 3, 10, 5]"]);
    let forward = forward_case(Dtype::F32);
    refused(&forward, &["--backward"], &["`dout` is missing", "`dfinal_state` or `dfinal_norm`"]);
    refused(&forward, &["--chunk-size", "0"], &["--chunk-size"]);
    let update = update_case(Dtype::F32);
    refused(&update, &["--backward"], &["squared_attention_update", "--backward does not apply"]);
    refused(&update, &["--chunk-size", "2"], &["squared_attention_update", "--chunk-size does not apply"]);
    refused(&update.clone().without("initial_norm"), &[], &["squared_attention_update", "`initial_norm` is missing"]);
    refused(&update.clone().meta("state_dtype", "f16"), &[], &["`state_dtype`", "f32 like `initial_state`"]);
    let indices = |values: &[f64]| update.clone().with("state_indices", Dtype::I32, &[2], values);
    refused(&indices(&[0.0, 2.0]), &[], &["`state_indices` is 2 at index 1", "less than 2 slots"]);
    refused(&indices(&[1.0, 1.0]), &[], &["`state_indices` is 1 at the indices 0 and 1", "each slot once"]);
    refused(&indices(&[1.0, 0.0]).meta("indices", "[0, 1]"), &[], &["`indices`", "the values of the tensor"]);
    refused(&common::scan_case(Dtype::F32), &["--chunk-size", "2"], &["selective_scan: --chunk-size does not apply"]);
}

/// The operator has no GPU kernels, whether there is a GPU or not.
#[test]
#[cfg(any(feature = "cuda", feature = "emulator"))]
fn a_gpu_is_refused() {
    let backends: &[&str] = &[
        #[cfg(feature = "cuda")]
        "cuda",
        #[cfg(feature = "emulator")]
        "emulator",
    ];
    for backend in backends {
        for (file, direction) in
            [(case(Dtype::F32), &[][..]), (case(Dtype::BF16), &["--backward"]), (update_case(Dtype::F32), &[])]
        {
            let words =
                [file.metadata["op"].as_str(), backend, "no kernels of this operator", "expected cpu or reference"];
            refused(&file, &[&["--backend", backend], direction].concat(), &words);
        }
    }
}

/// The loops keep the state after every step: what they would need is refused before it is asked for.
#[test]
fn too_much_memory() {
    let rows = |file: File, name: &str| file.with_pattern(name, Dtype::F32, &[1, 1, 64, 64], (-1.0, 1.0));
    let file = ["q", "k", "v", "dout"].iter().fold(File::default(), |file, name| rows(file, name));
    let file = file.with_pattern("log_decay", Dtype::F32, &[1, 1, 64], (-1.0, 0.0)).meta("op", "squared_attention");
    refused(&file, &["--backward", "--backend", "reference", "--max-memory", "64"], &["MiB of memory", "--max-memory"]);
    let folder = folder("attention_memory");
    let ran = results(&["--backward", "--max-memory", "64"], &file, &folder);
    assert_eq!(ran.shape("dq"), [1, 1, 64, 64]);
}
