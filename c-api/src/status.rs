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
        Ok(Err(error)) => (code(&error), error.to_string()),
        Err(_) => (SSM_BUG, "a bug of ssm-kernels: it panicked (the message is on stderr)".into()),
    };
    let message = CString::new(message.replace('\0', " ")).unwrap_or_default();
    MESSAGE.set(message);
    code
}

fn code(error: &Error) -> c_int {
    match error {
        Error::OutOfMemory { .. } | Error::Workspace { .. } => SSM_OUT_OF_MEMORY,
        Error::NoDriver | Error::NoDevice { .. } | Error::DriverTooOld { .. } | Error::Driver { .. } => SSM_DEVICE,
        _ => SSM_INVALID,
    }
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
