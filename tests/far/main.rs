//! Tensors whose elements lie more than 2^31 and 2^32 elements apart: the bits are those of the same calls on small
//! memory, so that no address is worked out in 32 bits. On the host that takes addresses, not memory.

#![allow(non_snake_case)]

mod calls;
#[cfg(feature = "emulator")]
mod emulated;
mod host;
mod tensors;

use calls::{Extents, attention, carry, convolution, decode, discretisation, scan};
use half::{bf16, f16};
use host::HostMemory;
use ssm_kernels::prelude::*;
use ssm_kernels::{Host, Result};
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use tensors::{Layout, Memory, Tensors};

/// All axes far apart.
const SMALL: Extents = Extents { batch: 2, dim: 3, seqlen: 4, dstate: 2 };
/// One of them dense, and long enough for vectors.
const LONG: Extents = Extents { batch: 2, dim: 18, seqlen: 37, dstate: 2 };

/// Which axis is dense, and the extents.
const CASES: [(&str, Extents); 4] = [("", SMALL), ("seqlen", LONG), ("dim", LONG), ("dstate", SMALL)];

/// Prints past the capture of the test harness.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The results of `run` with elements `apart` from each other are those with elements side by side.
fn expect_same<M: Memory>(
    name: &str,
    (dense, n): (&'static str, Extents),
    apart: usize,
    memory: impl Fn() -> M,
    run: &dyn Fn(&Tensors<M>, Extents) -> Result<()>,
) {
    let results = [None, Some(apart)].map(|apart| {
        let tensors = Tensors::new(memory(), Layout { dense, apart });
        run(&tensors, n).unwrap_or_else(|error| panic!("{name}, {dense:?} dense, {apart:?} elements apart: {error}"));
        tensors.results()
    });
    let [near, far] = &results;
    assert!(near.iter().all(|(_, bits)| !bits.is_empty()) && near.len() == far.len());
    for ((name_of, near), (_, far)) in near.iter().zip(far) {
        let different = near.iter().zip(far).position(|(near, far)| near != far);
        assert_eq!(different, None, "{name}: {name_of}, {dense:?} dense, {apart} elements apart");
    }
}

/// On the host, for each case and distance.
fn on_the_host(name: &str, run: &dyn Fn(&Tensors<HostMemory>, Extents) -> Result<()>) {
    // A process has addresses for a few of them at a time.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(why) = HostMemory::reserve() {
        return say(&format!("far, {name}: skipped, {} TiB of addresses are refused: {why}", HostMemory::TEBIBYTES));
    }
    let reserved = || HostMemory::reserve().expect("a moment ago there was");
    for case in CASES {
        for apart in [(1 << 31) + 5, (1 << 32) + 5] {
            expect_same(name, case, apart, reserved, run);
        }
    }
}

#[test]
fn scans_on_the_cpu() {
    on_the_host("selective_scan f32", &|tensors, n| scan::<Host, f32, _, _>(&Cpu::new(), tensors, n, 1));
    on_the_host("selective_scan f16", &|tensors, n| scan::<Host, f16, _, _>(&Cpu::new(), tensors, n, 2));
}

#[test]
fn carries_on_the_cpu() {
    on_the_host("selective_scan_carry", &|tensors, n| carry::<Host, _, _>(&Cpu::new(), tensors, n));
}

#[test]
fn state_updates_on_the_cpu() {
    on_the_host("state_update f32", &|tensors, n| decode::<Host, f32, f32, _, _>(&Cpu::new(), tensors, n));
    on_the_host("state_update bf16", &|tensors, n| decode::<Host, bf16, f16, _, _>(&Cpu::new(), tensors, n));
}

#[test]
fn discretisations_on_the_cpu() {
    on_the_host("discretise f32", &|tensors, n| discretisation::<Host, f32, _, _>(&Cpu::new(), tensors, n));
    on_the_host("discretise bf16", &|tensors, n| discretisation::<Host, bf16, _, _>(&Cpu::new(), tensors, n));
}

#[test]
fn convolutions_on_the_cpu() {
    on_the_host("causal_conv1d f32", &|tensors, n| convolution::<Host, f32, f32, _, _>(&Cpu::new(), tensors, n));
    on_the_host("causal_conv1d bf16", &|tensors, n| convolution::<Host, bf16, f32, _, _>(&Cpu::new(), tensors, n));
}

#[test]
fn attentions_on_the_cpu() {
    on_the_host("squared_attention f32", &|tensors, n| attention::<f32>(tensors, n));
    on_the_host("squared_attention f16", &|tensors, n| attention::<f16>(tensors, n));
}
