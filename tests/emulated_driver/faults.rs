//! Each call of the driver whose error can come out of an operator fails once: it does, what can be freed is, nothing is half
//! written, and the next call is as if it had not been.

use crate::cuda::Cuda;
use crate::tensors::{OnDevice, OnHost};
use crate::wide::{BACKWARD, WIDE, backward, forward};
use crate::{act, stream};
use ssm_kernels::Result;
use ssm_kernels::gpu::Driver;
use ssm_kernels::prelude::*;

/// What a call may make of the driver once the device is open.
const CALLS: [&str; 11] = [
    "cuCtxPushCurrent_v2",
    "cuModuleLoadData",
    "cuModuleGetFunction",
    "cuFuncSetAttribute",
    "cuMemAllocAsync",
    "cuMemFreeAsync",
    "cuMemcpyHtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyDtoDAsync_v2",
    "cuStreamSynchronize",
    "cuLaunchKernel",
];

/// Lets each call of `scene` fail, one in each child. Returns how many there were.
fn each_call_fails(scene: &str) -> Option<usize> {
    let printed = act(scene, &[])?;
    assert!(printed.contains("\nfirst: done\n") && printed.contains("\nlost 0\n"), "{printed}");
    let mut tried = 0;
    for line in printed.lines().filter_map(|line| line.strip_prefix("calls ")) {
        let [name, before, after] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let [before, after] = [before, after].map(|count| count.parse::<u64>().expect("a count"));
        for call in before + 1..=after {
            // CUDA_ERROR_UNKNOWN: of this call alone, the context stays.
            let fault = format!("{name}:999@{call}");
            let printed = act(scene, &[("FAIL", &fault)])?;
            let refused = format!("first: CUDA driver: {name} failed with CUDA_ERROR_UNKNOWN ");
            // A buffer that is dropped has nobody to tell.
            let dropped = name == "cuCtxPushCurrent_v2" && printed.contains("\nfirst: done\n");
            assert!(dropped || printed.lines().any(|line| line.starts_with(&refused)), "{fault}: {printed}");
            // What cannot be freed is lost.
            let freed = name != "cuMemFreeAsync" && !dropped;
            assert!(!freed || printed.contains("\nlost 0\n"), "{fault}: {printed}");
            tried += 1;
        }
    }
    Some(tried)
}

/// Runs once, tells what that called, said and lost, and runs again, when nothing fails. If the first failed, results must be
/// `untouched`.
fn twice((cuda, stream): (&Cuda, usize), run: impl Fn() -> Result<()>, untouched: impl Fn() -> bool) {
    let (before, held) = (CALLS.map(|name| cuda.counter(name)), cuda.counter("bytes_in_use"));
    let first = run();
    for ((name, before), after) in CALLS.iter().zip(before).zip(CALLS.map(|name| cuda.counter(name))) {
        println!("\ncalls {name} {before} {after}");
    }
    assert!(first.is_ok() || untouched(), "half written");
    match first {
        Ok(()) => println!("\nfirst: done"),
        Err(why) => println!("\nfirst: {why}"),
    }
    cuda.synchronise(stream);
    println!("\nlost {}", cuda.counter("bytes_in_use") - held);
    run().expect("the fault is over");
}

#[test]
fn calls_on_device_tensors() {
    let Some(forward) = each_call_fails("faults::scene_forward") else { return };
    let Some(backward) = each_call_fails("faults::scene_backward") else { return };
    println!("{forward} and {backward} calls");
    assert!(forward >= 5 && backward >= 5, "{forward} {backward}");
}

#[test]
fn calls_on_host_tensors() {
    let Some(tried) = each_call_fails("faults::scene_on_host") else { return };
    println!("{tried} calls");
    // Six tensors there, two back.
    assert!(tried >= 20, "{tried}");
}

#[test]
#[ignore = "a scene of the other tests"]
fn scene_forward() {
    let (cuda, driver) = (Cuda::load(0), Driver::open(0).expect("a device"));
    let (raw, stream) = stream(&cuda);
    let tensors = OnDevice::new(&cuda, 0, WIDE, 0.0);
    twice((&cuda, raw), || forward(&driver.on(stream), &|i| tensors.at(i), &|i| tensors.at_mut(i)), || true);
    cuda.synchronise(raw);
    let expected = OnHost::new(WIDE, 0.0);
    forward(&Cpu::new(), &|i| expected.at(i), &|i| expected.at_mut(i)).expect("computed");
    tensors.check(&expected);
}

#[test]
#[ignore = "a scene of the other tests"]
fn scene_backward() {
    let (cuda, driver) = (Cuda::load(0), Driver::open(0).expect("a device"));
    let (raw, stream) = stream(&cuda);
    let tensors = OnDevice::new(&cuda, 0, BACKWARD, 0.0);
    twice((&cuda, raw), || backward(&driver.on(stream), &|i| tensors.at(i), &|i| tensors.at_mut(i)), || true);
    cuda.synchronise(raw);
    let expected = OnHost::new(BACKWARD, 0.0);
    backward(&Cpu::new(), &|i| expected.at(i), &|i| expected.at_mut(i)).expect("computed");
    tensors.check(&expected);
}

#[test]
#[ignore = "a scene of the other tests"]
fn scene_on_host() {
    let (cuda, driver) = (Cuda::load(0), Driver::open(0).expect("a device"));
    let (raw, stream) = stream(&cuda);
    let backend = driver.on(stream).on_host();
    let [tensors, expected, before] = [(); 3].map(|()| OnHost::new(BACKWARD, 0.0));
    let results = BACKWARD.computed..BACKWARD.tensors.len();
    let untouched = || results.clone().all(|i| tensors.values(i) == before.values(i));
    twice((&cuda, raw), || backward(&backend, &|i| tensors.at(i), &|i| tensors.at_mut(i)), untouched);
    backward(&Cpu::new(), &|i| expected.at(i), &|i| expected.at_mut(i)).expect("computed");
    tensors.check(&expected);
}
