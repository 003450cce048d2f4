//! The units: one PTX file each.

/// A kernel source's language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Language {
    Cuda,
    Rust,
}

impl Language {
    pub const ALL: [Self; 2] = [Self::Cuda, Self::Rust];

    /// As the manifest names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cuda => "cuda",
            Self::Rust => "rust",
        }
    }

    /// The variable that names the compiler, and forces it to be used.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Cuda => "NVCC",
            Self::Rust => "PTX_RUSTC",
        }
    }
}

/// One operator, direction and dtype.
#[derive(Debug)]
pub struct Unit {
    pub name: &'static str,
    pub language: Language,
    /// The file that the compiler is given, from the root of the crate.
    pub source: &'static str,
    /// What selects the unit in its source, as the compiler's arguments.
    pub select: &'static [&'static str],
}

const fn cuda(name: &'static str, source: &'static str, select: &'static [&'static str]) -> Unit {
    Unit { name, language: Language::Cuda, source, select }
}

const fn rust(name: &'static str, select: &'static [&'static str]) -> Unit {
    Unit { name, language: Language::Rust, source: "kernels-rs/lib.rs", select }
}

macro_rules! by_rustc {
    ($kernel:literal, $dtype:literal) => {
        rust(
            concat!($kernel, "_", $dtype),
            &["--cfg", concat!("ssm_unit=\"", $kernel, "\""), "--cfg", concat!("ssm_dtype=\"", $dtype, "\"")],
        )
    };
}

pub const UNITS: &[Unit] = &[
    cuda("selective_scan_fwd_f32", "kernels-cu/selective_scan_fwd.cu", &["-DSSM_F32"]),
    cuda("selective_scan_fwd_f16", "kernels-cu/selective_scan_fwd.cu", &["-DSSM_F16"]),
    cuda("selective_scan_fwd_bf16", "kernels-cu/selective_scan_fwd.cu", &["-DSSM_BF16"]),
    cuda("selective_scan_bwd_f32", "kernels-cu/selective_scan_bwd.cu", &["-DSSM_F32"]),
    cuda("selective_scan_bwd_f16", "kernels-cu/selective_scan_bwd.cu", &["-DSSM_F16"]),
    cuda("selective_scan_bwd_bf16", "kernels-cu/selective_scan_bwd.cu", &["-DSSM_BF16"]),
    by_rustc!("selective_scan_carry", "f32"),
    by_rustc!("selective_scan_sum", "f32"),
    by_rustc!("selective_scan_sum", "f16"),
    by_rustc!("selective_scan_sum", "bf16"),
    by_rustc!("discretise_fwd", "f32"),
    by_rustc!("discretise_fwd", "f16"),
    by_rustc!("discretise_fwd", "bf16"),
    by_rustc!("discretise_bwd", "f32"),
    by_rustc!("discretise_bwd", "f16"),
    by_rustc!("discretise_bwd", "bf16"),
    by_rustc!("causal_conv1d_fwd", "f32"),
    by_rustc!("causal_conv1d_fwd", "f16"),
    by_rustc!("causal_conv1d_fwd", "bf16"),
    by_rustc!("causal_conv1d_bwd", "f32"),
    by_rustc!("causal_conv1d_bwd", "f16"),
    by_rustc!("causal_conv1d_bwd", "bf16"),
    by_rustc!("causal_conv1d_sum", "f32"),
    by_rustc!("causal_conv1d_update", "f32"),
    by_rustc!("causal_conv1d_update", "f16"),
    by_rustc!("causal_conv1d_update", "bf16"),
    by_rustc!("state_update_fwd", "f32"),
    by_rustc!("state_update_fwd", "f16"),
    by_rustc!("state_update_fwd", "bf16"),
];
