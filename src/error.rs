//! The one error type. Every message names operator, argument, what was expected and what was got.

/// What the library returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a call was refused. Nothing has been written when one of these is returned, [`Error::Findings`] aside.
///
/// ```
/// use ssm_kernels::Error;
/// use ssm_kernels::prelude::*;
/// let (x, weight) = ([0.0f32; 6], [0.0f32; 6]);
/// let x = View::new(&x, [("batch", 1), ("dim", 2), ("seqlen", 3)]);
/// let error = CausalConv1d::new(x, View::new(&weight, [("dim", 3), ("width", 2)])).unwrap_err();
/// assert!(matches!(error, Error::Shape { arg: "weight", .. }));
/// assert_eq!(error.to_string(), "causal_conv1d: `weight` has shape [3, 2], expected [2, 2] (dim, width)");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The names of a tensor's dimensions are not those of the contract.
    #[error("{op}: `{arg}` has dimensions ({got}), expected ({expected}) in any memory order")]
    Dimensions {
        /// Operator.
        op: &'static str,
        /// Argument.
        arg: &'static str,
        /// Names given, in memory order.
        got: String,
        /// Names of the contract, in canonical order.
        expected: String,
    },
    /// An extent differs from what the other arguments imply.
    #[error("{op}: `{arg}` has shape {got:?}, expected {expected:?} ({names})")]
    Shape {
        /// Operator.
        op: &'static str,
        /// Argument.
        arg: &'static str,
        /// Extents given, in canonical order.
        got: Vec<usize>,
        /// Extents expected, in canonical order.
        expected: Vec<usize>,
        /// Names of the dimensions, in canonical order.
        names: String,
    },
    /// The memory behind a view is shorter (or, if dense, longer) than its shape says.
    #[error("{op}: `{arg}` holds {got} elements of memory, expected {expected} for shape {shape}")]
    Length {
        /// Operator.
        op: &'static str,
        /// Argument.
        arg: &'static str,
        /// Elements of memory behind the view.
        got: usize,
        /// "exactly n" for dense views, "at least n" for strided ones.
        expected: String,
        /// Names, extents and strides of the view.
        shape: String,
    },
    /// A stride that the contract does not allow.
    #[error("{op}: `{arg}` has stride {got} along {dimension}, expected {expected}")]
    Stride {
        /// Operator.
        op: &'static str,
        /// Argument.
        arg: &'static str,
        /// Name of the dimension.
        dimension: &'static str,
        /// Stride given, in elements.
        got: i64,
        /// What is allowed.
        expected: &'static str,
    },
    /// An output shares memory with another argument.
    #[error("{op}: output `{arg}` overlaps `{other}`, expected memory of its own")]
    Overlap {
        /// Operator.
        op: &'static str,
        /// The output.
        arg: &'static str,
        /// The argument it overlaps.
        other: &'static str,
    },
    /// Tensors of one call lie on different devices.
    #[error("{op}: `{arg}` lies on {got}, expected {expected}")]
    WrongDevice {
        /// Operator.
        op: &'static str,
        /// Argument.
        arg: &'static str,
        /// Where it lies.
        got: String,
        /// Where it should.
        expected: String,
    },
    /// A value outside what the contract allows.
    #[error("{op}: `{arg}` is {got}, expected {expected}")]
    Value {
        /// Operator.
        op: &'static str,
        /// Argument.
        arg: &'static str,
        /// What was given.
        got: String,
        /// What is allowed.
        expected: String,
    },
    /// An argument that this combination of options needs is absent.
    #[error("{op}: `{arg}` is missing, expected because {reason}")]
    Missing {
        /// Operator.
        op: &'static str,
        /// Argument.
        arg: &'static str,
        /// Why it is needed.
        reason: &'static str,
    },
    /// The workspace is smaller than the plan says.
    #[error("{op}: workspace has {got} bytes, expected at least {needed}")]
    Workspace {
        /// Operator.
        op: &'static str,
        /// Bytes the plan asks for.
        needed: usize,
        /// Bytes given.
        got: usize,
    },
    /// Memory that a convenience asked for is not to be had.
    #[error("{what}: out of memory{}", bytes.map_or_else(String::new, |bytes| format!(", {bytes} bytes asked for")))]
    OutOfMemory {
        /// What needed it.
        what: String,
        /// Bytes asked for, where that is known.
        bytes: Option<usize>,
    },
    /// No GPU driver is installed.
    #[error("no CUDA driver: the library libcuda (nvcuda on Windows) is not to be found; expected one from CUDA 12 on")]
    NoDriver,
    /// The installed driver does not know what the kernels need.
    #[error("the CUDA driver is too old: it is for CUDA {}, expected 12.0 or later", cuda_version(*.got))]
    DriverTooOld {
        /// What it says of itself: 1000 * major + 10 * minor.
        got: i32,
    },
    /// There is no device of this ordinal.
    #[error("no CUDA device {ordinal}: the driver knows {count}")]
    NoDevice {
        /// Ordinal asked for.
        ordinal: u32,
        /// Devices that the driver knows.
        count: u32,
    },
    /// The device or the kernels cannot do what is asked.
    #[error("{op}: {what} is not supported, expected {expected}")]
    Unsupported {
        /// Operator, or what was to be opened.
        op: &'static str,
        /// What is asked.
        what: String,
        /// What would do.
        expected: String,
    },
    /// The driver refused a call.
    #[error("CUDA driver: {call} failed with {code} ({text})")]
    Driver {
        /// Driver function.
        call: &'static str,
        /// Name of the error code.
        code: String,
        /// The driver's description of it.
        text: String,
    },
    /// A kernel ran on the emulator, and did what it must not. Its outputs have been written, with whatever it computed.
    #[error("kernel {kernel} on the emulator ({mode}): expected no findings, got {report}")]
    Findings {
        /// Name of the entry.
        kernel: &'static str,
        /// The emulator's mode, with its seed.
        mode: String,
        /// The findings, with semicolons between them.
        report: String,
    },
    /// The emulator refused memory, a module or a launch.
    #[error("emulator: {what}: {text}")]
    Emulator {
        /// Buffer, module or kernel.
        what: String,
        /// What was expected and got, in the emulator's words.
        text: String,
    },
    /// The plan was made for another call.
    #[error("{op}: `plan` was made for {got}, expected {expected}")]
    Plan {
        /// Operator.
        op: &'static str,
        /// What the plan was made for.
        got: String,
        /// What the call is.
        expected: String,
    },
}

/// 12030 as 12.3.
fn cuda_version(version: i32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}
