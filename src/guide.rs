//! The guide: what a model author needs beside the reference of the operators.
//!
//! | page | for |
//! |---|---|
//! | [`quick_start`] | training and decoding on the CPU, packed sequences, workspaces |
//! | [`gpu`] | devices, streams, graphs, memory; [`emulator`]: the same kernels without a GPU |
//! | [`raw_pointers`] | tensors of candle, burn or any other framework, on the host and on a device |
//! | [`cust`], [`c_and_python`] | memory and streams of cust; the C API |
//! | [`operators`] | operators, backends, dtypes, options, limits, determinism, features |
//! | [`precision`] | how results are judged, and how far off they are |
//! | [`doctor`] | why a call or its gradients are not finite, or not exact: `ssm doctor` on a file of it |
//! | [`performance`] | what has been measured, with machine and date |
//! | [`comparison`] | beside state-spaces/mamba, mamba-rs, candle and llama.cpp |
//! | [`kernels`] | rebuilding, inspecting and profiling the kernels |
//!
//! **No GPU has run the kernels yet.**
//!
//! These modules hold text alone; they exist in the documentation.

/// A page: its file in `docs`, in which the links to other pages are those of the module instead of those of the file. (The
/// first definition of a link counts.)
macro_rules! page {
    ($(#[$when:meta])* $name:ident, $file:literal) => {
        $(#[$when])*
        /// [GPU and emulator]: crate::guide::gpu
        /// [the emulator]: crate::guide::emulator
        /// [your tensors: candle, burn, raw pointers]: crate::guide::raw_pointers
        /// [raw pointers]: crate::guide::raw_pointers
        /// [cust]: crate::guide::cust
        /// [C and Python]: crate::guide::c_and_python
        /// [what is supported: operators, dtypes, limits]: crate::guide::operators
        ///
        #[doc = include_str!(concat!("../docs/", $file))]
        pub mod $name {}
    };
}

page!(quick_start, "guide/quick-start.md");
page!(
    #[cfg(any(not(doctest), feature = "cuda"))]
    gpu,
    "guide/gpu.md"
);
page!(
    #[cfg(any(not(doctest), feature = "emulator"))]
    emulator,
    "guide/emulator.md"
);
page!(
    #[cfg(any(not(doctest), feature = "cuda"))]
    raw_pointers,
    "guide/raw-pointers.md"
);
page!(
    #[cfg(any(not(doctest), feature = "cust"))]
    cust,
    "guide/cust.md"
);
page!(c_and_python, "guide/c-and-python.md");
page!(operators, "guide/operators.md");
page!(precision, "precision.md");
page!(doctor, "doctor.md");
page!(performance, "performance.md");
page!(comparison, "comparison.md");
page!(kernels, "guide/kernels.md");

/// Every program of README.md.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub mod readme {}
