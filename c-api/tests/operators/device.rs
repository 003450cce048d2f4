//! Tensors on a device: without a driver, and with one that only answers (`tests/driver/fake_cuda.c` of the library).

use crate::refusals::Call;
use crate::tensor::*;
use ssm_kernels_c::status::*;
use ssm_kernels_c::tensor::SsmDevice;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr::null;

/// Without a driver the device is the reason.
#[test]
fn tensors_on_a_device() {
    let mut call = Call::new();
    call.x.c.device = SsmDevice { device_type: 2, device_id: 77 };
    // No kernel runs: there is no device 77.
    let (status, text) = call.made(null(), &call.scan);
    assert_eq!(status, if cfg!(feature = "cuda") { SSM_DEVICE } else { SSM_UNSUPPORTED }, "{text}");
    let host = SsmDevice { device_type: 1, device_id: 0 };
    call.x.c.device = host;
    for which in 0..4 {
        let place = |call: &mut Call, device| {
            [&mut call.dt, &mut call.A, &mut call.B, &mut call.out][which].c.device = device;
        };
        place(&mut call, SsmDevice { device_type: 2, device_id: 0 });
        let (status, text) = call.made(null(), &call.scan);
        assert_eq!(status, SSM_INVALID);
        assert!(text.ends_with("is on a CUDA device, expected host memory, as x"), "{text}");
        place(&mut call, host);
    }
}

/// A folder with the fake libcuda.so.1, or `None` (said aloud) where it cannot be made.
fn fake() -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/driver/fake_cuda.c");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fake_cuda_of_c");
    std::fs::create_dir_all(&folder).expect("a folder for temporary files");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-o"]).args([&folder.join("libcuda.so.1"), &source]);
    if !source.exists() || cc.output().is_err() {
        let _ = writeln!(std::io::stderr(), "SKIPPED: no C compiler `cc`, or no {}", source.display());
        return None;
    }
    assert!(cc.status().is_ok_and(|status| status.success()), "the fake driver builds");
    Some(folder)
}

/// Runs a test that is ignored otherwise, with the fake driver.
fn act(scene: &str, settings: &str) {
    let Some(folder) = fake().filter(|_| cfg!(all(feature = "cuda", target_os = "linux"))) else { return };
    let child = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", scene, "--ignored", "--nocapture"])
        .env("LD_LIBRARY_PATH", folder)
        .env("FAKE_CUDA", settings)
        .output()
        .expect("a child");
    let [out, errors] = [child.stdout, child.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(child.status.success() && out.contains("1 passed"), "{scene} with {settings}:\n{out}\n{errors}");
}

#[test]
fn the_fake_driver() {
    act("device::packed_sequences", "devices=2");
    act("device::an_old_device", "capability=75");
}

/// A call whose tensors all lie on device 0, where no kernel of the fake driver looks at them.
fn on_device(batch: i64) -> Call {
    let mut call = Call::new();
    for tensor in [&mut call.x, &mut call.dt, &mut call.out, &mut call.B] {
        tensor.shape[0] = batch;
    }
    for tensor in [&mut call.x, &mut call.dt, &mut call.A, &mut call.B, &mut call.out] {
        tensor.c.device = SsmDevice { device_type: 2, device_id: 0 };
    }
    call
}

/// Their table on the device, by the name it has in the header.
#[test]
#[ignore = "acted by the_fake_driver"]
fn packed_sequences() {
    let mut call = on_device(1);
    let mut starts = [0, 10, SEQLEN as i32].into_iter();
    let cu_seqlens = tensor::<i32>(&[("elements", 3)], &[0], || starts.next().expect("three"));
    let mut table = cu_seqlens.twin();
    table.c.device.device_type = 2;
    call.scan.cu_seqlens = cu_seqlens.c();
    let refused = |call: &Call, expected: &str| {
        assert_eq!(call.made(null(), &call.scan), (SSM_INVALID, format!("selective_scan: {expected}")));
    };
    refused(&call, "`cu_seqlens_on_device` is null, expected a copy of cu_seqlens on the device");
    call.scan.cu_seqlens_on_device = table.c();
    assert_eq!(call.made(null(), &call.scan).0, SSM_OK);
    table.shape[0] = 2;
    refused(&call, "`cu_seqlens_on_device` is of 2 i32, expected 3 i32 for 2 sequences");
    table.shape[0] = 3;
    table.c.device.device_id = 1;
    refused(&call, "`cu_seqlens_on_device` lies on device 1, expected device 0 like `x`");
    table.c.device.device_id = 0;
    table.c.data = call.out.c.data;
    refused(&call, "output `out` overlaps `cu_seqlens_on_device`, expected memory of its own");
}

#[test]
#[ignore = "acted by the_fake_driver"]
fn an_old_device() {
    let call = on_device(BATCH as i64);
    let (status, text) = call.made(null(), &call.scan);
    assert_eq!(text, "gpu: Fake 10 of compute capability 7.5 is not supported, expected 8.0 or later");
    assert_eq!(status, SSM_UNSUPPORTED);
}
