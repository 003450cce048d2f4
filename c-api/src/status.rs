//! What calls return.

use ssm_kernels::Error;
use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The call was carried out, or enqueued.
pub const SSM_OK: c_int = 0;
/// An argument is wrong: the message names operator, argument, what was expected and what was got.
pub const SSM_INVALID: c_int = 1;
/// Memory could not be allocated, or the workspace given is too small.
pub const SSM_OUT_OF_MEMORY: c_int = 2;
/// There is no such device, no driver, or the driver refused.
pub const SSM_DEVICE: c_int = 3;
/// A bug of the library. Outputs may have been written in part.
pub const SSM_BUG: c_int = 4;
/// Nothing is wrong with the arguments, but the device, the kernels or this build cannot do it: the message says what would do.
pub const SSM_UNSUPPORTED: c_int = 5;

thread_local! {
    static MESSAGE: RefCell<CString> = RefCell::default();
}

/// Why the last call of this thread that failed did so: a text that ends in NUL, and lives until the next call of this
/// thread that fails.
#[unsafe(no_mangle)]
pub extern "C" fn ssm_error_message() -> *const c_char {
    MESSAGE.with_borrow(|message| message.as_ptr())
}

/// The status of a call, and its message kept. No panic leaves the library.
pub(crate) fn status(call: impl FnOnce() -> Result<(), Error>) -> c_int {
    let (code, message) = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(())) => return SSM_OK,
        Ok(Err(error)) => (code(&error), renamed(error, "segments_table", "cu_seqlens_on_device").to_string()),
        Err(_) => (SSM_BUG, "a bug of ssm-kernels: it panicked (the message is on stderr)".into()),
    };
    let message = CString::new(message.replace('\0', " ")).unwrap_or_default();
    MESSAGE.set(message);
    code
}

fn code(error: &Error) -> c_int {
    match error {
        Error::OutOfMemory { .. } | Error::Workspace { .. } => SSM_OUT_OF_MEMORY,
        Error::Unsupported { .. } => SSM_UNSUPPORTED,
        Error::NoDriver | Error::NoDevice { .. } | Error::DriverTooOld { .. } | Error::Driver { .. } => SSM_DEVICE,
        _ => SSM_INVALID,
    }
}

/// The error with an argument's name as the header has it, where that of the Rust crate is another.
pub(crate) fn renamed(mut error: Error, rust: &str, c: &'static str) -> Error {
    let rename = |name: &mut &'static str| {
        if *name == rust {
            *name = c;
        }
    };
    match &mut error {
        Error::Overlap { arg, other, .. } => [arg, other].into_iter().for_each(rename),
        Error::Dimensions { arg, .. }
        | Error::Shape { arg, .. }
        | Error::Length { arg, .. }
        | Error::Stride { arg, .. }
        | Error::WrongDevice { arg, .. }
        | Error::Value { arg, .. }
        | Error::Missing { arg, .. } => rename(arg),
        _ => {}
    }
    error
}

/// An argument that is not what it must be.
pub(crate) fn refuse<T>(
    op: &'static str,
    arg: &'static str,
    got: impl Into<String>,
    expected: &str,
) -> Result<T, Error> {
    Err(Error::Value { op, arg, got: got.into(), expected: expected.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    fn told(error: Error) -> (c_int, String) {
        let code = status(|| Err(error));
        // SAFETY: the text lives until the next failure of this thread.
        (code, unsafe { CStr::from_ptr(ssm_error_message()) }.to_string_lossy().into_owned())
    }

    #[test]
    fn arguments_have_the_names_of_the_header() {
        let (op, expected) = ("selective_scan", "4 i32 for 3 sequences".into());
        let table = Error::Value { op, arg: "segments_table", got: "of 3 i32".into(), expected };
        let text = "selective_scan: `cu_seqlens_on_device` is of 3 i32, expected 4 i32 for 3 sequences";
        assert_eq!(told(table), (SSM_INVALID, text.into()));
        let overlap = Error::Overlap { op, arg: "out", other: "segments_table" };
        let text = "selective_scan: output `out` overlaps `cu_seqlens_on_device`, expected memory of its own";
        assert_eq!(told(overlap), (SSM_INVALID, text.into()));
        let elsewhere = Error::WrongDevice {
            op,
            arg: "segments_table",
            got: "device 1".into(),
            expected: "device 0 like `x`".into(),
        };
        let text = "selective_scan: `cu_seqlens_on_device` lies on device 1, expected device 0 like `x`";
        assert_eq!(told(elsewhere), (SSM_INVALID, text.into()));
    }

    #[test]
    fn what_cannot_be_done_is_told_from_what_is_wrong() {
        let (op, expected) = ("selective_scan", "at most 2147483647 on a GPU".into());
        let long = Error::Unsupported { op, what: "seqlen 3000000000".into(), expected };
        let text = "selective_scan: seqlen 3000000000 is not supported, expected at most 2147483647 on a GPU";
        assert_eq!(told(long), (SSM_UNSUPPORTED, text.into()));
        assert_eq!(told(Error::NoDriver).0, SSM_DEVICE);
    }
}
