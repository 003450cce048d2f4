//! The driver path without a device: the same binary runs each scene once more, as a child whose libcuda is
//! `tests/driver/fake_cuda.c`.

#![cfg(all(feature = "cuda", target_os = "linux"))]
#![allow(non_snake_case)]

use ssm_kernels::gpu::{Driver, Stream, devices};
use ssm_kernels::prelude::*;
use ssm_kernels::{Axes, Device, Error, Slice, SliceMut};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A folder with the fake libcuda.so.1, or `None` (said aloud) without a C compiler.
fn fake() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let build = || {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fake_cuda");
        std::fs::create_dir_all(&folder).expect("a folder for temporary files");
        for (source, library) in [("fake_cuda.c", "libcuda.so.1"), ("fake_nvtx.c", "libnvToolsExt.so.1")] {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/driver").join(source);
            let flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"];
            let Ok(output) = Command::new("cc").args(flags).args([&folder.join(library), &source]).output() else {
                let _ = writeln!(std::io::stderr(), "SKIPPED: no C compiler `cc` for the fake driver");
                return None;
            };
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        Some(folder)
    };
    FOLDER.get_or_init(build).as_deref()
}

/// Runs `scene` in a child with this driver and returns what it printed.
fn act(scene: &str, settings: &str) -> Option<String> {
    let folder = fake()?;
    let child = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", scene, "--ignored", "--nocapture", "--test-threads=1"])
        .env("LD_LIBRARY_PATH", folder)
        .env("FAKE_CUDA", settings)
        .output()
        .expect("a child");
    let printed = String::from_utf8_lossy(&child.stdout).into_owned();
    let errors = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && printed.contains("1 passed"), "{scene} with {settings}:\n{printed}\n{errors}");
    Some(printed)
}

/// The lines of a kind, in order.
fn lines<'p>(printed: &'p str, kind: &str) -> Vec<&'p str> {
    printed.lines().filter(|line| line.starts_with(kind)).collect()
}

#[test]
fn what_can_be_missing() {
    for (settings, expected) in [
        ("version=11080", "the CUDA driver is too old: it is for CUDA 11.8, expected 12.0 or later"),
        ("fail=cuInit:100", "no CUDA device 0: the driver knows 0"),
        ("fail=cuInit:999", "CUDA driver: cuInit failed with CUDA_ERROR_FAKE (as the test asked)"),
        ("devices=0", "no CUDA device 0: the driver knows 0"),
        ("capability=75", "gpu: Fake 10 of compute capability 7.5 is not supported, expected 8.0 or later"),
        ("fail=cuDevicePrimaryCtxRetain:2", "cuDevicePrimaryCtxRetain: out of memory"),
        (
            "fail=cuDevicePrimaryCtxRetain:46",
            "CUDA driver: cuDevicePrimaryCtxRetain failed with CUDA_ERROR_FAKE (as the test asked)",
        ),
    ] {
        let Some(printed) = act("scene_open", settings) else { return };
        assert_eq!(lines(&printed, "open: "), [format!("open: {expected}")], "{settings}");
    }
}

/// Opens device 0 and says how it went.
#[test]
#[ignore = "a scene of the other tests"]
fn scene_open() {
    match Driver::open(0) {
        Ok(_) => println!("open: fine"),
        Err(why) => println!("\nopen: {why}"),
    }
}

#[test]
fn devices_are_described() {
    let Some(printed) = act("scene_devices", "devices=2 capability=103 version=13000") else { return };
    assert_eq!(
        lines(&printed, "device "),
        ["device 0 Fake 10 (10, 3) 7516192768 13000", "device 1 Fake 11 (10, 3) 7516192768 13000", "device 5 of 2"]
    );
}

#[test]
#[ignore = "a scene of the other tests"]
fn scene_devices() {
    println!();
    for device in devices().expect("devices") {
        let (name, capability) = (device.name, device.capability);
        println!("device {} {name} {capability:?} {} {}", device.ordinal, device.memory_bytes, device.driver_version);
    }
    let beyond = Driver::open(5).expect_err("two devices");
    assert_eq!(beyond, Error::NoDevice { ordinal: 5, count: 2 });
    println!("device 5 of 2");
}

#[test]
fn a_kernel_can_be_loaded_ahead() {
    let Some(printed) = act("scene_prepare", "") else { return };
    let calls: Vec<&str> = lines(&printed, "call ").into_iter().filter_map(|line| line.split(' ').nth(1)).collect();
    let wanted = ["cuDevicePrimaryCtxRetain", "cuModuleLoadData", "cuModuleGetFunction", "cuLaunchKernel"];
    assert_eq!(calls, wanted);
    assert!(printed.find("prepared") < printed.find("call cuLaunchKernel"), "{printed}");
}

#[test]
#[ignore = "a scene of the other tests"]
fn scene_prepare() {
    scene_with(16, 1, true);
}

/// Of a launch.
fn shared_bytes(line: &str) -> usize {
    let mut words = line.split(' ').skip_while(|&word| word != "shared");
    words.nth(1).and_then(|bytes| bytes.parse().ok()).unwrap_or_else(|| panic!("no shared memory in {line:?}"))
}

#[test]
fn launches_reach_the_driver() {
    let Some(printed) = act("scene_launch", "") else { return };
    // Two calls, one module, one function, no allocation; the context is current for each call and not after.
    assert_eq!(lines(&printed, "function "), ["function selective_scan_fwd_f32_lanes1 of 0x30"]);
    let [head, tail] = ["launch 0x40 grid 2 2 1 block 128 1 1", "stream 0x50 extra (nil) first 10000000000 second 800"];
    let launches = lines(&printed, "launch ");
    let shared: Vec<usize> = launches.iter().map(|line| shared_bytes(line)).collect();
    // No more than a block may have without asking.
    assert!(shared.len() == 2 && shared[0] == shared[1] && (1..48 << 10).contains(&shared[0]), "{printed}");
    assert_eq!(
        launches,
        [format!("{head} shared {} {tail}", shared[0]), format!("{head} shared {} {tail}", shared[0])]
    );
    assert_eq!(
        lines(&printed, "call "),
        [
            "call cuDevicePrimaryCtxRetain 0 depth 0",
            "call cuModuleLoadData 0 depth 1",
            "call cuModuleGetFunction 0 depth 1",
            "call cuLaunchKernel 0 depth 1",
            "call cuLaunchKernel 0 depth 1",
        ]
    );
    assert_eq!(lines(&printed, "result "), ["result fine", "result fine"]);
}

/// A profiler sees operators; without the feature the library is not asked.
#[test]
fn ranges_are_named_as_operators() {
    let Some(printed) = act("scene_launch", "") else { return };
    let both = ["range selective_scan forward", "range ends"];
    let expected = if cfg!(feature = "nvtx") { [both, both].concat() } else { vec![] };
    assert_eq!(lines(&printed, "range "), expected);
    let order = ["range selective_scan forward", "call cuLaunchKernel", "range ends"].map(|text| printed.find(text));
    assert!(expected.is_empty() || order.is_sorted(), "{printed}");
}

#[test]
fn the_backward_direction_asks_for_shared_memory() {
    let Some(printed) = act("scene_backward", "") else { return };
    let launch = lines(&printed, "launch ")[0];
    let shared = shared_bytes(launch);
    assert!(shared > 48 << 10, "{printed}");
    assert_eq!(lines(&printed, "attribute "), [format!("attribute 8 of 0x40 is {shared}")]);
    assert!(launch.contains(&format!("grid 6 2 1 block 128 1 1 shared {shared} stream 0x50")), "{printed}");
    let all = "result CUDA driver: cuFuncSetAttribute failed with CUDA_ERROR_FAKE (as the test asked)";
    let Some(printed) = act("scene_backward", "fail=cuFuncSetAttribute:1") else { return };
    assert_eq!(lines(&printed, "result "), [all]);
    assert_eq!(lines(&printed, "launch "), [""; 0]);
    assert_eq!(lines(&printed, "free ").len(), 1);
}

#[test]
#[ignore = "a scene of the other tests"]
fn scene_backward() {
    println!();
    let driver = Driver::open(0).expect("a device");
    // SAFETY: the fake driver does nothing with it.
    let stream = unsafe { Stream::from_raw(std::ptr::without_provenance_mut(0x50)) };
    let sequence = [("batch", 2), ("dim", 700), ("seqlen", 4)];
    let io = view::<3>(1, sequence);
    let P = view(4, [("batch", 2), ("ngroups", 1), ("dstate", 16), ("seqlen", 4)]);
    let scan = SelectiveScan::new(io, io, view(3, [("dim", 700), ("dstate", 16)]), P, P).expect("valid");
    let plan = driver.on(stream).backward_plan(&scan).expect("valid");
    driver.prepare(&plan).expect("loaded");
    // SAFETY: the fake driver does nothing with it.
    let dx = unsafe { SliceMut::<f32, Device>::from_raw_parts(5 << 40, 5600, 0) };
    let mut dx = ViewMut::from_parts(dx, Axes::dense(sequence));
    let (upstream, gradients) = (SelectiveScanUpstream::new().dout(io), SelectiveScanGradients::new().dx(&mut dx));
    match driver.on(stream).backward(&scan, upstream, gradients) {
        Ok(()) => println!("result fine"),
        Err(why) => println!("result {why}"),
    }
}

#[test]
fn a_workspace_lives_in_stream_order() {
    let Some(printed) = act("scene_workspace", "") else { return };
    // A and the states of 2 slabs of 512, for 25 blocks of 8 channels, for 2 sequences, of 4 bytes.
    assert_eq!(lines(&printed, "bytes "), ["bytes 3276800 stream 0x50"]);
    assert_eq!(lines(&printed, "free "), ["free 7700000000 stream 0x50"]);
    let calls: Vec<&str> = lines(&printed, "call ").into_iter().filter_map(|line| line.split(' ').nth(1)).collect();
    let middle = [
        "cuMemAllocAsync",
        "cuModuleLoadData",
        "cuModuleGetFunction",
        "cuFuncSetAttribute",
        "cuLaunchKernel",
        "cuMemFreeAsync",
    ];
    assert_eq!(calls[1..7], middle);
}

#[test]
fn refusals_of_the_driver() {
    let too_much = "result workspace of selective_scan_fwd_f32_lanes32: out of memory, 3276800 bytes asked for";
    for (settings, expected, freed) in [
        ("fail=cuMemAllocAsync:2", too_much, 0),
        (
            "fail=cuLaunchKernel:700",
            "result CUDA driver: cuLaunchKernel failed with CUDA_ERROR_ILLEGAL_ADDRESS (as the test asked)",
            1,
        ),
        (
            "fail=cuModuleLoadData:222",
            "result CUDA driver: cuModuleLoadData failed with CUDA_ERROR_UNSUPPORTED_PTX_VERSION (as the test asked)",
            1,
        ),
    ] {
        let Some(printed) = act("scene_workspace", settings) else { return };
        assert_eq!(lines(&printed, "result "), [expected], "{settings}");
        assert_eq!(lines(&printed, "free ").len(), freed, "{settings}: what was allocated is freed");
        // The context that was current before is current again.
        assert!(printed.contains("depth at the end 0"), "{settings}");
    }
}

#[test]
#[ignore = "a scene of the other tests"]
fn scene_launch() {
    scene(16, 2);
}

#[test]
#[ignore = "a scene of the other tests"]
fn scene_workspace() {
    scene(600, 1);
}

fn scene(dstate: usize, times: usize) {
    scene_with(dstate, times, false);
}

/// A scan of 200 channels on stream 0x50, so many times, its kernel loaded ahead or at first use.
fn scene_with(dstate: usize, times: usize, ahead: bool) {
    println!();
    let driver = Driver::open(0).expect("a device");
    assert_eq!(Driver::open(0).expect("the same device").info(), driver.info());
    // SAFETY: the fake driver does nothing with it.
    let stream = unsafe { Stream::from_raw(std::ptr::without_provenance_mut(0x50)) };
    let sequence = [("batch", 2), ("dim", 200), ("seqlen", 4)];
    let io = view::<3>(1, sequence);
    let P = view(4, [("batch", 2), ("ngroups", 1), ("dstate", dstate), ("seqlen", 4)]);
    let scan = SelectiveScan::new(io, io, view(3, [("dim", 200), ("dstate", dstate)]), P, P).expect("valid");
    // SAFETY: the fake driver does nothing with it.
    let out = unsafe { SliceMut::<f32, Device>::from_raw_parts(5 << 40, 1600, 0) };
    let mut out = ViewMut::from_parts(out, Axes::dense(sequence));
    if ahead {
        let plan = driver.on(stream).forward_plan(&scan).expect("valid");
        driver.prepare(&plan).expect("loaded");
        println!("prepared");
    }
    for _ in 0..times {
        match driver.on(stream).forward(&scan, SelectiveScanOutputs::new(&mut out)) {
            Ok(()) => println!("result fine"),
            Err(why) => println!("result {why}"),
        }
    }
}

fn view<const N: usize>(place: u64, dims: [(&'static str, usize); N]) -> View<'static, f32, Device> {
    let elements = dims.iter().map(|dim| dim.1).product();
    // SAFETY: the fake driver does nothing with it.
    View::from_parts(unsafe { Slice::<f32, Device>::from_raw_parts(place << 40, elements, 0) }, Axes::dense(dims))
}
