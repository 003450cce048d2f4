//! The suites: every backend against the naive recurrence, laws, refusals, files of the original implementations.
//!
//! One program for all of them: each operator of each backend is then compiled once for each dtype.
//! `cargo test --test suites selective_scan::` runs one suite, `cpu::f32` one backend and dtype.

mod common;

mod causal_conv1d;
mod cpu_math;
mod discretise;
mod duality;
mod duality_attention;
mod duality_backward;
mod duality_conv;
mod duality_update;
#[cfg(feature = "emulator")]
mod emulator;
#[cfg(feature = "emulator")]
mod emulator_conv;
#[cfg(feature = "emulator")]
mod emulator_lanes;
#[cfg(feature = "emulator")]
mod emulator_update;
#[cfg(feature = "emulator")]
mod emulator_whole;
mod errors;
mod errors_backward;
mod errors_conv;
mod errors_discretise;
mod errors_squared_attention;
mod errors_squared_attention_views;
mod errors_update;
mod fixtures;
mod primitives;
mod raw_views;
mod selective_scan;
mod selective_scan_backward;
mod selective_scan_backward_edges;
mod squared_attention;
mod squared_attention_edges;
mod state_update;

/// A file that is not listed above would not be compiled.
#[test]
fn every_file_is_a_module() {
    let files =
        std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suites")).expect("the folder of this file");
    let listed = include_str!("main.rs");
    for file in files {
        let name = file.expect("a file").file_name().into_string().expect("a name");
        let Some(stem) = name.strip_suffix(".rs").filter(|stem| *stem != "main") else { continue };
        assert!(
            listed.contains(&format!("\nmod {stem};\n")),
            "{name} is not among the modules of tests/suites/main.rs"
        );
    }
}
