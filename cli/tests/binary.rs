//! The program itself: exit status, streams, help.

mod common;

use common::{File, folder, scan_case};
use safetensors::Dtype;
use std::process::{Command, Output, Stdio};

fn ssm(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ssm")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn help_and_info() {
    let help = ssm(&[]);
    assert!(help.status.success() && text(&help.stdout).contains("Usage: ssm"));
    assert!(ssm(&["run", "--help"]).status.success() && ssm(&["--version"]).status.success());
    let info = ssm(&["info"]);
    assert!(info.status.success());
    for word in [env!("CARGO_PKG_VERSION"), std::env::consts::ARCH, "cores", "rayon", "gpu"] {
        assert!(text(&info.stdout).contains(word), "{word}");
    }
    for line in ["causal_conv1d_update      forward", "selective_scan            forward, backward"] {
        assert!(text(&info.stdout).lines().any(|told| told == line), "{line}");
    }
}

#[test]
fn status_and_streams() {
    let folder = folder("binary");
    let (input, output) = (folder.join("in.safetensors"), folder.join("out.safetensors"));
    let (input, output) = (input.to_str().unwrap(), output.to_str().unwrap());
    let file = scan_case(Dtype::BF16);
    file.write(input.as_ref());

    let ran = ssm(&["run", input, output]);
    assert_eq!((ran.status.code(), text(&ran.stderr)), (Some(0), ""));
    for word in ["selective_scan forward", "cpu", "bf16", "no truth in the file", "median", "ns per state step"] {
        assert!(text(&ran.stdout).contains(word), "{word}: {}", text(&ran.stdout));
    }
    assert_eq!(File::read(output.as_ref()).dtype("out"), Dtype::BF16);
    assert_eq!(ssm(&["run", input]).status.code(), Some(0), "without OUT");

    file.clone().with("final_state", Dtype::F64, &[2, 4, 3], &[7.0; 24]).write(input.as_ref());
    let ran = ssm(&["run", input, output]);
    assert_eq!(ran.status.code(), Some(1));
    assert!(text(&ran.stdout).contains("FAIL"));

    std::fs::remove_file(output).unwrap();
    std::fs::write(input, &file.bytes()[..200]).unwrap();
    let ran = ssm(&["run", input, output]);
    assert_eq!((ran.status.code(), text(&ran.stdout)), (Some(2), ""));
    assert!(text(&ran.stderr).starts_with(&format!("ssm: {input}: not a safetensors file")), "{}", text(&ran.stderr));
    assert!(!text(&ran.stderr).contains("panicked"));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
}

#[test]
fn a_reader_that_leaves_is_no_panic() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ssm"))
        .arg("info")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ran = child.wait_with_output().unwrap();
    assert_eq!((ran.status.code(), text(&ran.stderr)), (Some(0), ""));
}
