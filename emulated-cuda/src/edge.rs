//! The edge: every exported function passes through [`call`], and every pointer of a caller through the types here.

use crate::codes::{Code, Result};
use crate::state::{self, lock};
use crate::{counters, report, settings};
use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Contexts, streams, events, modules, ...: numbers that name an entry of a table. No handle is ever used again.
pub type Handle = usize;

/// May be called before `cuInit`.
const EARLY: [&str; 6] =
    ["cuInit", "cuDriverGetVersion", "cuGetErrorName", "cuGetErrorString", "cuGetProcAddress", "cuGetProcAddress_v2"];

/// Where a caller wants a result: a pointer, valid or null as the caller of the exported function promises.
#[derive(Debug)]
#[repr(transparent)]
pub struct Out<T>(*mut T);

/// An array of a caller, in the same way.
#[derive(Debug)]
#[repr(transparent)]
pub struct In<T>(*const T);

impl<T> Clone for Out<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Out<T> {}
impl<T> Clone for In<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for In<T> {}

impl<T> From<&mut T> for Out<T> {
    fn from(place: &mut T) -> Self {
        Self(place)
    }
}

impl<T> From<*mut T> for Out<T> {
    fn from(place: *mut T) -> Self {
        Self(place)
    }
}

impl<T> From<*const T> for In<T> {
    fn from(place: *const T) -> Self {
        Self(place)
    }
}

impl<T: Copy> Out<T> {
    /// Writes it; nowhere to write is an error.
    pub fn put(self, value: T) -> Result<()> {
        if self.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        self.put_if_wanted(value);
        Ok(())
    }

    /// Writes it, if there is a place.
    pub fn put_if_wanted(self, value: T) {
        if !self.is_null() {
            // SAFETY: not null, so valid for a write, as the caller of the exported function promised; any alignment.
            unsafe { self.0.write_unaligned(value) };
        }
    }

    /// Writes the elements from this place on, which has room for them.
    pub fn put_all(self, values: &[T]) {
        for (at, &value) in values.iter().enumerate() {
            Self(self.0.wrapping_add(at)).put_if_wanted(value);
        }
    }

    /// A later place of an array.
    pub fn at(self, number: usize) -> Self {
        if self.is_null() { self } else { Self(self.0.wrapping_add(number)) }
    }

    /// No place.
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// What is there now.
    pub fn get(self) -> Result<T> {
        In(self.0.cast_const()).get(0)
    }
}

impl<T: Copy> In<T> {
    /// An element.
    pub fn get(self, at: usize) -> Result<T> {
        if self.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: not null, so an array with this element, as the caller of the exported function promised.
        Ok(unsafe { self.0.add(at).read_unaligned() })
    }

    /// So many elements.
    pub fn copy(self, count: usize) -> Result<Vec<T>> {
        (0..count).map(|at| self.get(at)).collect()
    }

    /// No array.
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }
}

impl In<u8> {
    /// The same bytes as a text.
    pub fn as_text(self) -> In<c_char> {
        In(self.0.cast())
    }

    /// The bytes from an address on.
    pub fn bytes(self, count: usize) -> Result<Vec<u8>> {
        if self.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: not null, so that many bytes, as the caller of the exported function promised.
        Ok(unsafe { std::slice::from_raw_parts(self.0, count) }.to_vec())
    }
}

impl Out<u8> {
    /// Writes bytes.
    pub fn fill(self, bytes: &[u8]) -> Result<()> {
        if self.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: not null, so that many bytes, as the caller of the exported function promised; `bytes` is our own.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0, bytes.len()) };
        Ok(())
    }
}

impl In<c_char> {
    /// The text, which ends in NUL.
    pub fn text(self) -> Result<String> {
        if self.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: not null, so a text that ends in NUL, as the caller of the exported function promised.
        Ok(unsafe { CStr::from_ptr(self.0) }.to_string_lossy().into_owned())
    }
}

impl Out<c_char> {
    /// Writes as much of a text as fits, and a NUL.
    pub fn put_text(self, text: &str, room: usize) -> Result<()> {
        if self.is_null() || room == 0 {
            return Err(Code::INVALID_VALUE);
        }
        let kept = text.as_bytes().iter().take(room - 1).chain(&[0]);
        self.put_all(&kept.map(|&byte| byte as c_char).collect::<Vec<_>>());
        Ok(())
    }
}

/// Runs an exported function: counts it, lets it fail if the settings say so, and keeps panics inside.
pub fn call(name: &'static str, body: impl FnOnce() -> Result<()>) -> i32 {
    let number = counters::lock().call(name);
    let run = || {
        if state::in_host_function() {
            return Err(Code::NOT_PERMITTED);
        }
        if !EARLY.contains(&name) && !state::is_initialised() {
            return Err(Code::NOT_INITIALIZED);
        }
        let faults = &settings::get().faults;
        let fault = faults.iter().find(|fault| fault.name == name && fault.call.is_none_or(|call| call == number));
        match fault {
            Some(fault) => {
                if fault.code.loses_context() {
                    lock().lose_current(fault.code);
                }
                Err(fault.code)
            }
            None => body(),
        }
    };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => 0,
        Ok(Err(Code(code))) => code,
        Err(panic) => {
            let what = panic.downcast_ref::<String>().map(String::as_str);
            let what = what.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            report::say(&format!("{name}: a defect of the emulation: {what}"));
            Code::UNKNOWN.0
        }
    }
}

/// Exports functions, each through [`call`], and lists them with their addresses.
macro_rules! exports {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Safety
            /// As the driver's documentation says: pointers are null, or valid for what the function reads and writes.
            // Names and arguments are the driver's.
            #[unsafe(no_mangle)]
            #[allow(non_snake_case, clippy::too_many_arguments)]
            pub unsafe extern "C" fn $name($($arg: $type),*) -> i32 {
                $crate::edge::call(stringify!($name), || $body)
            }
        )*

        /// Every function here, with its address.
        pub(crate) fn table() -> Vec<(&'static str, usize)> {
            vec![$((stringify!($name), $name as *const () as usize)),*]
        }
    };
}
pub(crate) use exports;
