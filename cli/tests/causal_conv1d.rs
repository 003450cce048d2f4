//! The causal convolution: options, dtypes, decoding against the whole, and what is refused.

mod common;

use common::{File, assert_close, folder, precision, results, run};
use safetensors::Dtype;

fn case(dtype: Dtype, weight: Dtype) -> File {
    File::default()
        .with_pattern("x", dtype, &[2, 5, 12], (-2.0, 2.0))
        .with_pattern("weight", weight, &[5, 4], (-1.0, 1.0))
        .with_pattern("bias", weight, &[5], (-1.0, 1.0))
        .with_pattern("initial_state", dtype, &[2, 5, 3], (-2.0, 2.0))
        .with_pattern("dout", dtype, &[2, 5, 12], (-1.0, 1.0))
        .with_pattern("dfinal_state", dtype, &[2, 5, 3], (-1.0, 1.0))
        .meta("op", "causal_conv1d")
        .meta("silu", "true")
}

#[test]
fn results_of_the_reference_are_a_truth_in_every_pair_of_dtypes() {
    let folder = folder("conv_truth");
    let (input, output) = (folder.join("with_truth.safetensors"), folder.join("out.safetensors"));
    let dtypes = [Dtype::F32, Dtype::F16, Dtype::BF16];
    for (dtype, weight) in dtypes.iter().flat_map(|&dtype| dtypes.map(|weight| (dtype, weight))) {
        for direction in [&[][..], &["--backward"]] {
            let file = case(dtype, weight);
            let truth = results(&[&["--backend", "reference"], direction].concat(), &file, &folder);
            file.beside(&truth).write(&input);
            let ran = run(&[&["--layout", "channel-last"], direction].concat(), &input, &output);
            assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{}", ran.out);
            assert_eq!(ran.out.matches("  ok\n").count(), truth.tensors.len(), "{}", ran.out);
            let got = File::read(&output);
            for name in truth.tensors.keys() {
                let expected = if ["dweight", "dbias"].contains(&name.as_str()) { weight } else { dtype };
                assert_eq!((got.dtype(name), truth.dtype(name)), (expected, Dtype::F64), "{name}");
            }
        }
    }
}

/// A gradient by inputs that a file does not have, those before the first, is made where the file has its truth: a truth
/// that nobody looks at would be no truth.
#[test]
fn a_truth_of_absent_states_is_judged() {
    let folder = folder("conv_absent_state");
    let file = case(Dtype::F32, Dtype::F32);
    let zeros = file.clone().with("initial_state", Dtype::F32, &[2, 5, 3], &[0.0; 30]);
    let truth = results(&["--backward", "--backend", "reference"], &zeros, &folder);
    let (input, output) = (folder.join("with_truth.safetensors"), folder.join("out.safetensors"));
    let file = file.without("initial_state");
    file.clone().beside(&truth).write(&input);
    let ran = run(&["--backward"], &input, &output);
    assert_eq!((ran.status, ran.out.matches("  ok\n").count()), (0, 4), "{}{}", ran.out, ran.err);
    let off = truth.clone().with("dinitial_state", Dtype::F64, &[2, 5, 3], &[0.5; 30]);
    file.beside(&off).write(&input);
    assert_eq!(run(&["--backward"], &input, &output).status, 1);
}

#[test]
fn decoding_is_the_whole() {
    let folder = folder("conv_decode");
    let file = case(Dtype::F32, Dtype::BF16).without("dout").without("dfinal_state");
    let whole = results(&[], &file, &folder);
    let mut state = file.clone();
    for t in 0..12 {
        let token = file.clone().cut_last("x", t..t + 1).meta("op", "causal_conv1d_update");
        let token = token.with("initial_state", Dtype::F32, &[2, 5, 3], &state.values("initial_state"));
        let step = results(&[], &token, &folder);
        let expected = whole.clone().cut_last("out", t..t + 1);
        assert_close(&step.values("out"), &expected.values("out"), precision(Dtype::F32), "out");
        state = state.with("initial_state", Dtype::F32, &[2, 5, 3], &step.values("final_state"));
    }
    assert_eq!(state.values("initial_state"), whole.values("final_state"));
}

#[test]
fn silu_off_is_linear() {
    let folder = folder("conv_linear");
    let file = case(Dtype::F32, Dtype::F32);
    let curved = results(&[], &file, &folder);
    let linear = results(&[], &file.meta("silu", "false"), &folder);
    for (curved, pre) in curved.values("out").into_iter().zip(linear.values("out")) {
        assert!((curved - pre / (1.0 + (-pre).exp())).abs() < 1e-6);
    }
}

/// Status 2, words in the message, and no output.
fn refused(file: &File, options: &[&str], words: &[&str]) {
    let folder = folder(&format!("conv_refused_{}", words.concat().replace(|c: char| !c.is_ascii_alphanumeric(), "_")));
    let (input, output) = (folder.join("in.safetensors"), folder.join("out.safetensors"));
    file.write(&input);
    let ran = run(options, &input, &output);
    assert_eq!(ran.status, 2, "{options:?} {words:?}: {}", ran.out);
    assert!(words.iter().all(|word| ran.err.contains(word)), "{words:?}: {}", ran.err);
    assert!(!output.exists());
}

#[test]
fn refusals() {
    let file = case(Dtype::F32, Dtype::F32);
    refused(&file, &["--split", "2"], &["causal_conv1d", "--split does not apply"]);
    refused(&file, &["--states-every", "2"], &["--states-every does not apply"]);
    refused(&file.clone().without("weight"), &[], &["causal_conv1d: `weight` is missing"]);
    refused(&file.clone().meta("width", "3"), &[], &["`width`", "4 like the tensors"]);
    refused(&file.clone().meta("dt_softplus", "true"), &[], &["`dt_softplus`", "no dt"]);
    refused(&file.clone().meta("weight_dtype", "bf16"), &[], &["`weight_dtype`", "f32 like the tensors"]);
    refused(&file.clone().with_pattern("weight", Dtype::F32, &[5, 17], (0.0, 1.0)), &[], &["of width 17", "1 to 16"]);
    refused(&file.clone().with_pattern("bias", Dtype::F16, &[5], (0.0, 1.0)), &[], &["`bias` has dtype F16"]);
    let no_gradient = file.clone().without("dout").without("dfinal_state");
    refused(&no_gradient, &["--backward"], &["`dout` is missing", "`dfinal_state`"]);
    let update = no_gradient.meta("op", "causal_conv1d_update");
    refused(&update, &["--backward"], &["causal_conv1d_update", "--backward does not apply"]);
    let indices = |values: &[f64]| update.clone().with("state_indices", Dtype::I32, &[2], values);
    refused(&indices(&[0.0, 2.0]), &[], &["`state_indices` is 2 at index 1", "less than 2 slots"]);
    refused(&indices(&[1.0, 1.0]), &[], &["`state_indices` is 1 at the indices 0 and 1", "each slot once"]);
    refused(&indices(&[1.0, 0.0]).meta("indices", "[0, 1]"), &[], &["`indices`", "the values of the tensor"]);
    let ring = update.clone().with("cache_seqlens", Dtype::I32, &[2], &[3.0, -1.0]);
    refused(&ring, &[], &["`cache_seqlens` is -1 at index 1", "0 or more"]);
    let short = update.with_pattern("initial_state", Dtype::F32, &[2, 5, 2], (0.0, 1.0));
    refused(&short, &[], &["`conv_state` is of state_len 2", "3 or more"]);
}
