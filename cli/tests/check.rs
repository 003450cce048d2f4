//! `ssm check` on a few cases. That a backend which is wrong fails is tested beside the command.

mod common;

use common::ssm;

#[test]
fn the_cpu_passes() {
    let ran = ssm(["check", "--cases", "120", "--seed", "11"]);
    assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{}", ran.out);
    assert!(ran.out.starts_with("seed 11\n") && ran.out.contains("backend cpu: 120 cases, 0 failed"), "{}", ran.out);
    for word in [
        "selective_scan            forward",
        "selective_scan            backward",
        "discretise                forward",
        "state_update              forward",
        "causal_conv1d             forward",
        "causal_conv1d             backward",
        "causal_conv1d_update      forward",
        "squared_attention         forward",
        "squared_attention         backward",
        "squared_attention_update  forward",
        "dA",
        "bf16",
    ] {
        assert!(ran.out.contains(word), "{word}: {}", ran.out);
    }
    assert_eq!(ran.out, ssm(["check", "--cases", "120", "--seed", "11"]).out, "a seed repeats");
}

#[cfg(feature = "emulator")]
#[test]
fn the_emulator_passes() {
    let ran = ssm(["check", "--backend", "emulator", "--backend", "cpu", "--cases", "4", "--seed", "2"]);
    assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{}", ran.out);
    assert!(ran.out.contains("backend emulator: 4 cases, 0 failed"), "{}", ran.out);
    let (emulator, cpu) = ran.out.split_once("backend emulator").unwrap();
    assert!(emulator.contains("squared_attention has no GPU kernels: not checked"), "{}", ran.out);
    assert!(!cpu.contains("not checked"), "{}", ran.out);
}

#[test]
fn refusals() {
    for args in [["--cases", "0"], ["--cases", "many"], ["--seed", "-1"], ["--backend", "cuda"]] {
        let ran = ssm(["check"].into_iter().chain(args));
        assert_eq!((ran.status, ran.out.as_str()), (2, ""), "{args:?}");
        assert!(ran.err.contains(args[1]), "{}", ran.err);
    }
    #[cfg(feature = "cuda")]
    {
        let ran = ssm(["check", "--device", "1"]);
        let expected = "ssm: --device is for --backend cuda only\n";
        assert_eq!((ran.status, ran.out.as_str(), ran.err.as_str()), (2, "", expected));
    }
}
