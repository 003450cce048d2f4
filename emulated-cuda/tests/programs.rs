//! Programs built on cudarc, which know nothing of the emulation: this binary runs each scene once more, as a child whose
//! libcuda is the emulated one.

#![allow(missing_docs)]
#![cfg(target_os = "linux")]

#[path = "../examples/add_on_cudarc.rs"]
mod add_on_cudarc;
mod common;

use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaContext, CudaFunction, CudaSlice, CudaStream, DriverError, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

const PTX: &str = include_str!("kernels.ptx");

/// Runs `scene` in a child and returns what it printed, and what it said on stderr.
fn act(scene: &str, settings: &[(&str, &str)]) -> (String, String) {
    let mut child = Command::new(std::env::current_exe().expect("this binary"));
    child.args(["--exact", scene, "--ignored", "--nocapture", "--test-threads=1"]);
    let output = common::run(&mut child, settings);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && printed.contains("1 passed"), "{scene} with {settings:?}:\n{printed}\n{said}");
    (printed, said)
}

/// What a scene printed after this word.
fn after(printed: &str, word: &str) -> String {
    let found = printed.lines().find_map(|line| line.strip_prefix(word));
    found.unwrap_or_else(|| panic!("no `{word}` in\n{printed}")).trim().to_string()
}

fn temporary(name: &str) -> std::path::PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

/// A counter in a file of statistics.
fn counted(path: &Path, name: &str) -> u64 {
    let text = std::fs::read_to_string(path).expect("a file of statistics");
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    found.unwrap_or(0)
}

#[test]
fn the_example_of_the_readme() {
    let statistics = temporary("statistics");
    let (printed, said) = act("scene_vector_add", &[("STATISTICS", statistics.to_str().unwrap())]);
    assert_eq!(after(&printed, "Emulated CUDA device"), "(sm_90): 999 + 0.5 = 999.5");
    assert_eq!(said, "");
    assert_eq!(["launches", "cuLaunchKernel", "bytes_in_use"].map(|name| counted(&statistics, name)), [1, 1, 0]);
    assert_eq!(counted(&statistics, "bytes_allocated"), 3 * 4000);
    let readme = include_str!("../README.md");
    let source = include_str!("../examples/add_on_cudarc.rs");
    let code = source.split_once("pub fn main").expect("a function").1;
    assert!(readme.contains(code.trim()), "the README shows the example as it is");
}

#[test]
#[ignore = "a scene of the other tests"]
fn scene_vector_add() {
    println!();
    add_on_cudarc::main().expect("a sum");
}

/// `to = from + more` on eight words.
fn add(
    stream: &Arc<CudaStream>,
    kernel: &CudaFunction,
    to: &mut CudaSlice<u32>,
    from: &CudaSlice<u32>,
    more: u32,
) -> Result<(), DriverError> {
    let count = 8u32;
    let mut launch = stream.launch_builder(kernel);
    launch.arg(to).arg(from).arg(&more).arg(&count);
    // SAFETY: the kernel's parameters; a scene that gives it too short a vector wants to be told.
    unsafe { launch.launch(LaunchConfig::for_num_elems(count)) }.map(drop)
}

#[test]
fn streams_events_threads() {
    for settings in [&[][..], &[("DEFER", "0")], &[("MODE", "adversarial:3"), ("CHECKS", "bounds")]] {
        let (printed, said) = act("scene_streams", settings);
        assert_eq!((after(&printed, "sums"), said.as_str()), ("[111, 211, 311, 411]".into(), ""), "{settings:?}");
    }
}

#[test]
#[ignore = "a scene of the other tests"]
fn scene_streams() {
    let context = CudaContext::new(0).expect("a device");
    let kernel = context.load_module(Ptx::from_src(PTX)).and_then(|module| module.load_function("add")).expect("add");
    let one = |number: u32| -> Result<u32, DriverError> {
        let (first, second) = (context.new_stream()?, context.new_stream()?);
        let from = first.clone_htod(&[100 * number; 8])?;
        let mut middle = first.alloc_zeros::<u32>(8)?;
        add(&first, &kernel, &mut middle, &from, 10)?;
        // cudarc orders the streams by events of its own.
        let mut to = second.alloc_zeros::<u32>(8)?;
        add(&second, &kernel, &mut to, &middle, 1)?;
        Ok(second.clone_dtoh(&to)?[7])
    };
    let sums: Vec<u32> = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..5).map(|number| scope.spawn(move || one(number))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic").expect("a sum")).collect()
    });
    println!("\nsums {sums:?}");
}

#[test]
fn a_graph_has_no_waiting_in_it() {
    let statistics = temporary("graph");
    let (printed, said) = act("scene_graph", &[("STATISTICS", statistics.to_str().unwrap())]);
    assert_eq!((after(&printed, "replayed"), said.as_str()), ("[4, 4, 4, 4, 4, 4, 4, 4]".into(), ""));
    assert_eq!(["launches", "cuLaunchKernel", "cuGraphLaunch"].map(|name| counted(&statistics, name)), [3, 1, 3]);
}

#[test]
#[ignore = "a scene of the other tests"]
fn scene_graph() {
    let context = CudaContext::new(0).expect("a device");
    // SAFETY: one stream alone is used.
    unsafe { context.disable_event_tracking() };
    let stream = context.new_stream().expect("a stream");
    let kernel = context.load_module(Ptx::from_src(PTX)).and_then(|module| module.load_function("add")).expect("add");
    let mut words = stream.clone_htod(&[1u32; 8]).expect("words");
    let from = words.clone();
    stream.synchronize().expect("copied");
    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).expect("a capture");
    let count = 8u32;
    let mut launch = stream.launch_builder(&kernel);
    launch.arg(&words).arg(&words).arg(&1u32).arg(&count);
    // SAFETY: the kernel's parameters.
    unsafe { launch.launch(LaunchConfig::for_num_elems(count)) }.expect("captured");
    let flags = CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
    let graph = stream.end_capture(flags).expect("a graph").expect("with a node");
    for _ in 0..3 {
        graph.launch().expect("launched");
    }
    println!("\nreplayed {:?}", stream.clone_dtoh(&words).expect("words"));
    stream.memcpy_dtod(&from, &mut words).expect("copied");
}

#[test]
fn errors_of_kernels() {
    let report = temporary("report");
    let (printed, said) = act("scene_beyond", &[("REPORT", report.to_str().unwrap())]);
    assert_eq!(after(&printed, "launched"), "true");
    assert_eq!(after(&printed, "waited"), "CUDA_ERROR_ILLEGAL_ADDRESS");
    assert_eq!(after(&printed, "afterwards"), "CUDA_ERROR_ILLEGAL_ADDRESS");
    assert_eq!(said, "", "the report has a file");
    let report = std::fs::read_to_string(report).expect("a report");
    assert!(report.starts_with("emulated CUDA: OutOfBounds in add, PTX line 27 (st.global.u32)"), "{report}");
    assert!(report.contains("thread (4, 0, 0)") && report.contains("beyond the end of the 16 bytes"), "{report}");
    let (_, said) = act("scene_beyond", &[]);
    assert!(said.contains("OutOfBounds in add"), "{said}");
}

/// What kind of error it is.
fn kind<T>(result: Result<T, DriverError>) -> String {
    result.map_or_else(|error| format!("{:?}", error.0), |_| "fine".into())
}

#[test]
#[ignore = "a scene of the other tests"]
fn scene_beyond() {
    let context = CudaContext::new(0).expect("a device");
    let stream = context.new_stream().expect("a stream");
    let kernel = context.load_module(Ptx::from_src(PTX)).and_then(|module| module.load_function("add")).expect("add");
    let from = stream.clone_htod(&[1u32; 8]).expect("words");
    let mut short = stream.alloc_zeros::<u32>(4).expect("words");
    println!("\nlaunched {}", add(&stream, &kernel, &mut short, &from, 1).is_ok());
    println!("waited {}", kind(stream.synchronize()));
    println!("afterwards {}", kind(stream.alloc_zeros::<u32>(4)));
    // The destructors would report the error again.
    std::mem::forget((from, short, kernel, stream, context));
}

#[test]
fn several_devices() {
    let (printed, said) = act("scene_devices", &[("DEVICES", "2"), ("CAPABILITY", "8.0")]);
    assert_eq!(after(&printed, "count"), "2");
    assert_eq!(after(&printed, "capability"), "(8, 0)");
    assert_eq!(after(&printed, "own"), "[6, 6, 6, 6, 6, 6, 6, 6]");
    assert_eq!(after(&printed, "peer"), "[6, 6, 6, 6, 6, 6, 6, 6]");
    assert_eq!(after(&printed, "foreign"), "CUDA_ERROR_ILLEGAL_ADDRESS", "memory of the other device");
    assert_eq!(after(&printed, "other"), "fine", "the other device goes on");
    assert!(said.contains("OutOfBounds"), "{said}");
}

#[test]
#[ignore = "a scene of the other tests"]
fn scene_devices() {
    println!("\ncount {}", CudaContext::device_count().expect("a count"));
    let contexts = [0, 1].map(|ordinal| CudaContext::new(ordinal).expect("a device"));
    println!("capability {:?}", contexts[1].compute_capability().expect("a capability"));
    let load = |context: &Arc<CudaContext>| {
        context.load_module(Ptx::from_src(PTX)).and_then(|module| module.load_function("add")).expect("add")
    };
    let kernels = [load(&contexts[0]), load(&contexts[1])];
    // Not the default streams: for those cudarc copies on that of the context whose event it dropped last.
    let streams = [0, 1].map(|at: usize| contexts[at].new_stream().expect("a stream"));
    let mut words = [0, 1].map(|at: usize| streams[at].clone_htod(&[at as u32; 8]).expect("words"));
    let [first, second] = &mut words;
    add(&streams[1], &kernels[1], second, &streams[1].clone_htod(&[1u32; 8]).expect("words"), 5).expect("added");
    println!("own {:?}", streams[1].clone_dtoh(second).expect("words"));
    streams[0].memcpy_dtod(second, first).expect("copied between devices");
    println!("peer {:?}", streams[0].clone_dtoh(first).expect("words"));
    // A kernel of device 0 with a pointer of device 1.
    let (address, count) = (cudarc::driver::DevicePtr::device_ptr(second, &streams[1]).0, 8u32);
    let mut launch = streams[0].launch_builder(&kernels[0]);
    launch.arg(first).arg(&address).arg(&1u32).arg(&count);
    // SAFETY: none: the emulation is to tell.
    unsafe { launch.launch(LaunchConfig::for_num_elems(count)) }.expect("launched");
    println!("foreign {}", kind(streams[0].synchronize()));
    println!("other {}", kind(streams[1].synchronize()));
    std::mem::forget((words, kernels, streams, contexts));
}

#[test]
fn what_can_be_missing() {
    let open = |settings: &[(&str, &str)]| after(&act("scene_open", settings).0, "open");
    assert_eq!(open(&[]), "fine");
    for (setting, expected) in [
        (("DEVICES", "0"), "CUDA_ERROR_NO_DEVICE"),
        (("FAIL", "cuInit:999"), "CUDA_ERROR_UNKNOWN"),
        (("FAIL", "cuDevicePrimaryCtxRetain:46"), "CUDA_ERROR_DEVICE_UNAVAILABLE"),
        (("DRIVER_VERSION", "11000"), "CUDA_ERROR_UNSUPPORTED_PTX_VERSION"),
        (("FAIL", "cuModuleLoadData:218"), "CUDA_ERROR_INVALID_PTX"),
        (("CAPABILITY", "7.5"), "CUDA_ERROR_INVALID_PTX"),
        (("MEMORY", "16K"), "CUDA_ERROR_OUT_OF_MEMORY"),
        (("FAIL", "cuMemAllocAsync:2@2"), "CUDA_ERROR_OUT_OF_MEMORY"),
        (("FAIL", "cuMemAllocAsync:2@9"), "fine"),
        (("FAIL", "cuLaunchKernel:700"), "CUDA_ERROR_ILLEGAL_ADDRESS"),
    ] {
        assert_eq!(open(&[setting]), expected, "{setting:?}");
    }
    // A context that is lost by an injected error stays lost.
    let (printed, _) = act("scene_open", &[("FAIL", "cuLaunchKernel:700@1")]);
    assert_eq!(after(&printed, "afterwards"), "CUDA_ERROR_ILLEGAL_ADDRESS");
    let (_, said) = act("scene_open", &[("DEVICES", "many")]);
    assert!(said.contains("EMULATED_CUDA_DEVICES=many is not understood"), "{said}");
}

/// Everything up to a result.
fn whole() -> Result<(), DriverError> {
    let context = CudaContext::new(0)?;
    // PTX 7.1 is newer than the driver of CUDA 11.0.
    let kernel = context.load_module(Ptx::from_src(PTX.replace("7.0", "7.1")))?.load_function("add")?;
    let stream = context.default_stream();
    let from = stream.clone_htod(&[1u32; 8])?;
    let mut to = stream.alloc_zeros::<u32>(8)?;
    let _more = stream.alloc_zeros::<u32>(4096)?;
    add(&stream, &kernel, &mut to, &from, 1)?;
    stream.synchronize()
}

#[test]
#[ignore = "a scene of the other tests"]
fn scene_open() {
    // Kept, so that the primary context outlives the first try.
    let context = CudaContext::new(0);
    println!("\nopen {}", kind(whole()));
    println!("afterwards {}", kind(context.and_then(|context| context.synchronize())));
}
