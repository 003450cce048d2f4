//! A program built on cust, which links the emulated driver and knows nothing of it. It is built here, outside of the
//! workspace: cust asks for a driver's library when it is built.

#![allow(missing_docs)]
#![cfg(target_os = "linux")]

mod common;

use std::path::Path;
use std::process::Command;

#[test]
#[ignore = "builds cust, which needs its sources from the registry"]
fn a_program_on_cust() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cust");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cust");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--locked", "--manifest-path"]).arg(here.join("Cargo.toml")).arg("--target-dir").arg(&target);
    let status = build.env("CUDA_LIBRARY_PATH", common::folder()).status().expect("cargo runs");
    assert!(status.success(), "cust builds against the emulated library");
    let output = common::run(&mut Command::new(target.join("debug/cust-program")), &[]);
    let (printed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{printed}\n{said}");
    let wanted = "Emulated CUDA device (sm_90) of 1\nbefore [0, 0, 0, 0, 0, 0, 0, 0]\n\
                  after [11, 12, 13, 14, 15, 16, 17, 18]\nbeyond Err(IllegalAddress)\n";
    assert_eq!(printed, wanted);
    assert!(said.contains("OutOfBounds in add"), "{said}");
}
