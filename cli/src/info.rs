//! `ssm info`.

use crate::args::{Backend, Op};
use clap::ValueEnum;
use std::env::consts::{ARCH, OS};

/// Version, processor, and what this build can run.
pub fn text() -> String {
    let cores = std::thread::available_parallelism().map_or("unknown".into(), |cores| cores.to_string());
    let features: Vec<String> =
        features().into_iter().map(|(name, has)| format!("{name} {}", if has { "yes" } else { "no" })).collect();
    let features = if features.is_empty() { "none known for this architecture".into() } else { features.join(", ") };
    let rayon = if cfg!(feature = "rayon") { "on" } else { "off (the cpu backend runs on one thread)" };
    let mut text = format!(
        "ssm {}\ntarget        {ARCH} {OS}\ncpu features  {features}\ncores         {cores}\nrayon         {rayon}\n\n",
        env!("CARGO_PKG_VERSION"),
    );
    let backends = Backend::value_variants().iter().map(Backend::to_string).collect::<Vec<_>>().join(", ");
    text += &format!("backends      {backends}\ndtypes        f32, f16, bf16\n\noperator\n");
    for op in Op::value_variants() {
        let directions = if op.has_backward() { "forward, backward" } else { "forward" };
        let without = if op.has_gpu_kernels() { "" } else { " (no GPU kernels)" };
        text += &format!("{:<26}{directions}{without}\n", op.to_string());
    }
    text + "\n" + &gpu()
}

/// Devices or what is missing for them, and the embedded kernels.
#[cfg(any(feature = "cuda", feature = "emulator"))]
fn gpu() -> String {
    use ssm_kernels::gpu::{COMPILERS, MODULES, ORIGIN};
    let mut text = devices();
    let bytes: usize = MODULES.iter().map(|module| module.ptx.len()).sum();
    text += &format!("kernels       {} PTX files, {} KiB, {ORIGIN}\n", MODULES.len(), bytes >> 10);
    for compiler in COMPILERS {
        text += &format!("              by {compiler}\n");
    }
    text += "              executed on the emulator, on no GPU yet\n";
    for module in MODULES {
        text += &format!("              {} ({} entries)\n", module.unit, module.entries.len());
    }
    text
}

/// What the driver knows.
#[cfg(feature = "cuda")]
fn devices() -> String {
    match ssm_kernels::gpu::devices() {
        Err(why) => format!("gpu           none usable: {why}\n"),
        Ok(list) if list.is_empty() => "gpu           none: the driver knows no device\n".into(),
        Ok(list) => list.iter().fold(String::new(), |text, device| {
            let (major, minor) = device.capability;
            let driver = device.driver_version;
            let memory = device.memory_bytes >> 30;
            text + &format!(
                "gpu {:<10}{}, compute capability {major}.{minor}, {memory} GiB, driver for CUDA {}.{}\n",
                device.ordinal,
                device.name,
                driver / 1000,
                driver % 1000 / 10
            )
        }),
    }
}

/// This build asks no driver.
#[cfg(all(feature = "emulator", not(feature = "cuda")))]
fn devices() -> String {
    "gpu           the emulator alone (feature cuda is off)\n".into()
}

/// Nothing of it is in this build.
#[cfg(not(any(feature = "cuda", feature = "emulator")))]
fn gpu() -> String {
    "gpu           not in this build (features cuda and emulator are off)\n".into()
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn features() -> Vec<(&'static str, bool)> {
    vec![
        ("avx2", std::is_x86_feature_detected!("avx2")),
        ("fma", std::is_x86_feature_detected!("fma")),
        ("avx512f", std::is_x86_feature_detected!("avx512f")),
    ]
}

#[cfg(target_arch = "aarch64")]
fn features() -> Vec<(&'static str, bool)> {
    vec![("neon", std::arch::is_aarch64_feature_detected!("neon"))]
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
fn features() -> Vec<(&'static str, bool)> {
    vec![]
}
