//! GPU kernels in Rust, compiled to PTX by the build script: one unit at a time (`ssm_unit`, `ssm_dtype`), each a file
//! in `kernels-ptx`. There is no Cargo.toml here; a package of its own would be left out of the published one.

#![no_std]
#![feature(abi_ptx, asm_experimental_arch, link_llvm_intrinsics, stdarch_nvptx)]
// A, B, C and D are the field's names.
#![allow(non_snake_case)]
// One unit at a time is compiled: what the others need is unused.
#![allow(dead_code, unused_features, unused_imports)]
#![allow(internal_features, reason = "shuffles have no other name")]

mod load_store;
mod math;
#[allow(non_camel_case_types)]
mod params;
mod step;
mod wide;

#[cfg(any(ssm_unit = "discretise_fwd", ssm_unit = "discretise_bwd"))]
mod discretise;
#[cfg(any(ssm_unit = "selective_scan_carry", ssm_unit = "selective_scan_sum"))]
mod selective_scan;

#[cfg(any(
    ssm_unit = "causal_conv1d_fwd",
    ssm_unit = "causal_conv1d_bwd",
    ssm_unit = "causal_conv1d_sum",
    ssm_unit = "causal_conv1d_update"
))]
mod causal_conv1d;
#[cfg(ssm_unit = "state_update_fwd")]
mod state_update;
