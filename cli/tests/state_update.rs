//! The options of the state update on files.

mod common;

use common::{File, assert_close, fixture, fixtures, folder, precision, results, run};
use safetensors::Dtype;

#[test]
fn fixtures_keep_the_rule_on_every_backend() {
    let folder = folder("update_fixtures");
    let backends: &[&str] =
        if cfg!(feature = "emulator") { &["cpu", "reference", "emulator"] } else { &["cpu", "reference"] };
    for path in fixtures("state_update") {
        for backend in backends {
            let output = folder.join("out.safetensors");
            let ran = run(&["--backend", backend], &path, &output);
            assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{}: {}", path.display(), ran.out);
            assert_eq!(ran.out.matches("  ok\n").count(), 2, "{}: {}", path.display(), ran.out);
            let (input, output) = (File::read(&path), File::read(&output));
            assert_eq!(output.shape("final_state"), input.shape("initial_state"));
            let stored = if *backend == "reference" { Dtype::F64 } else { input.dtype("initial_state") };
            assert_eq!(output.dtype("final_state"), stored);
        }
    }
}

/// A call of several tokens from the rows of a file, which have an axis of tokens behind the batch.
fn tokens(count: usize) -> File {
    let (io, state) = (Dtype::BF16, Dtype::F16);
    File::default()
        .with_pattern("x", io, &[2, count, 3, 4], (-1.0, 1.0))
        .with_pattern("dt", io, &[2, count, 3], (-2.0, 1.0))
        .with_pattern("A", Dtype::F32, &[3], (-2.0, -0.1))
        .with_pattern("B", io, &[2, count, 3, 8], (-1.0, 1.0))
        .with_pattern("C", io, &[2, count, 8], (-1.0, 1.0))
        .with_pattern("D", Dtype::F32, &[3, 4], (-1.0, 1.0))
        .with_pattern("initial_state", state, &[5, 3, 4, 8], (-1.0, 1.0))
        .with("state_indices", Dtype::I32, &[2], &[4.0, 1.0])
        .meta("op", "state_update")
        .meta("seqlen", &count.to_string())
        .meta("dt_softplus", "true")
        .meta("dt_limit", "[0.01, 0.8]")
}

#[test]
fn the_state_after_each_token() {
    let folder = folder("update_tokens");
    let got = results(&["--states-every", "1"], &tokens(3), &folder);
    assert_eq!((got.shape("token_states"), got.dtype("token_states")), (&[6, 3, 4, 8][..], Dtype::F16));
    assert_eq!(got.shape("out"), [2, 3, 3, 4]);
    let (kept, state) = (got.values("token_states"), got.values("final_state"));
    let width = 3 * 4 * 8;
    assert_eq!(kept[2 * width..3 * width], state[4 * width..5 * width]);
    assert_eq!(kept[5 * width..6 * width], state[width..2 * width]);
    let before = tokens(3).values("initial_state");
    assert_eq!((&state[..width], &state[2 * width..4 * width]), (&before[..width], &before[2 * width..4 * width]));
    let naive = results(&["--states-every", "1", "--backend", "reference"], &tokens(3), &folder);
    for (name, dtype) in [("out", Dtype::BF16), ("final_state", Dtype::F16), ("token_states", Dtype::F16)] {
        assert_close(&got.values(name), &naive.values(name), 2.0 * precision(dtype), name);
    }
}

/// With their truth in the file nobody has to ask for them.
#[test]
fn a_truth_of_states_after_tokens_is_judged() {
    let folder = folder("update_token_truth");
    let truth = results(&["--states-every", "1", "--backend", "reference"], &tokens(1), &folder);
    let (input, output) = (folder.join("with_truth.safetensors"), folder.join("out.safetensors"));
    tokens(1).beside(&truth).write(&input);
    let ran = run(&[], &input, &output);
    assert_eq!((ran.status, ran.out.matches("  ok\n").count()), (0, 3), "{}{}", ran.out, ran.err);
    let off = vec![0.5; truth.values("token_states").len()];
    let off = truth.clone().with("token_states", Dtype::F64, &[2, 3, 4, 8], &off);
    tokens(1).beside(&off).write(&input);
    assert_eq!(run(&[], &input, &output).status, 1);
}

#[test]
fn repeats_do_not_advance_the_result() {
    let folder = folder("update_repeat");
    let file = fixture("state_update", "channel_all").without_truth();
    let (input, output) = (folder.join("in.safetensors"), folder.join("out.safetensors"));
    file.write(&input);
    let once = results(&[], &file, &folder);
    let ran = common::ssm(
        ["run", "--repeat", "7"]
            .map(std::ffi::OsString::from)
            .into_iter()
            .chain([input.clone().into_os_string(), output.clone().into_os_string()]),
    );
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert_eq!(File::read(&output).tensors, once.tensors);
}

#[test]
fn refusals() {
    let folder = folder("update_refusals");
    let file = || fixture("state_update", "indices_padding").without_truth();
    let heads = || fixture("state_update", "heads_tied").without_truth();
    for (options, file, words) in [
        (vec!["--backward"], file(), "--backward does not apply"),
        (vec!["--layout", "channel-last"], file(), "--layout does not apply"),
        (vec!["--split", "2"], file(), "--split does not apply"),
        (vec!["--states-every", "2"], file(), "--states-every is 2, expected 1"),
        (vec![], file().meta("indices", "[1, 2]"), "expected the values of the tensor `state_indices`"),
        (
            vec![],
            file().without("state_indices").meta("slots", "null"),
            "expected none because `state_indices` is not in the file",
        ),
        (vec![], file().meta("slots", "7"), "expected 8 like the tensors"),
        (vec![], file().meta("state_dtype", "bf16"), "expected f32 like `initial_state`"),
        (
            vec![],
            file().meta("tied", "true"),
            "expected false because an `A` of one number per head is not in the file",
        ),
        (vec![], heads().meta("nheads", "0"), "expected 4 like the tensors"),
        (vec![], heads().meta("seqlen", "4"), "`dt` has shape [3, 4], expected 3 dimensions (batch, seqlen, dim)"),
        (vec![], heads().without("initial_state"), "`initial_state` is missing"),
        (
            vec![],
            file().with("state_indices", Dtype::I32, &[5], &[6.0, 0.0, 0.0, 3.0, -1.0]).meta("indices", "null"),
            "`state_indices` is 0 in rows 1 and 2",
        ),
        (
            vec![],
            file().with("state_indices", Dtype::I32, &[5], &[8.0, -1.0, 0.0, 3.0, -1.0]).meta("indices", "null"),
            "`state_indices` is 8 in row 0, expected below 8",
        ),
        (vec![], file().with_pattern("x", Dtype::F32, &[5], (0.0, 1.0)), "`x` has shape [5]"),
        (
            vec![],
            file().with_pattern("initial_state", Dtype::F32, &[8, 8], (0.0, 1.0)),
            "`initial_state` has shape [8, 8]",
        ),
    ] {
        let (input, output) = (folder.join("in.safetensors"), folder.join("out.safetensors"));
        file.write(&input);
        let ran = run(&options, &input, &output);
        assert_eq!((ran.status, ran.out.as_str()), (2, ""), "{words}");
        assert!(ran.err.contains(words), "{words:?} is not in {}", ran.err);
        assert!(!output.exists());
    }
}
