//! `--backend cuda` without a driver.
#![cfg(all(feature = "bench", feature = "cuda"))]

mod common;

use common::ssm;
use ssm_kernels::{Error, gpu::devices};

#[test]
fn no_driver_is_refused() {
    if devices() != Err(Error::NoDriver) {
        eprintln!("SKIPPED: there is a CUDA driver");
        return;
    }
    for args in [["check", "--cases", "1"], ["bench", "--shape", "1x2x3"]] {
        let ran = ssm(args.into_iter().chain(["--backend", "cuda"]));
        assert_eq!((ran.status, ran.out.as_str()), (2, ""));
        assert!(ran.err.contains("no CUDA driver"), "{}", ran.err);
    }
    let ran = ssm(["bench", "--device", "1"]);
    assert!(ran.status == 2 && ran.err.contains("--device is for --backend cuda only"), "{}", ran.err);
}
