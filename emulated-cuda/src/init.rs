//! Initialisation, versions, names of errors, addresses of functions.

use crate::codes::Code;
use crate::edge::{In, Out, exports};
use crate::{counters, settings, state};
use std::ffi::{CStr, c_char};

/// Functions whose newest form is another one for programs of an older CUDA: name, first version that has the newest,
/// what older ones mean.
const RENAMED: [(&str, i32, &str, &str); 3] = [
    ("cuCtxCreate", 13_000, "cuCtxCreate_v4", "cuCtxCreate_v2"),
    ("cuGraphInstantiate", 12_000, "cuGraphInstantiateWithFlags", "cuGraphInstantiate_v2"),
    ("cuStreamGetCaptureInfo", 13_000, "cuStreamGetCaptureInfo_v3", "cuStreamGetCaptureInfo_v2"),
];

/// The address of a function by its name with or without the number of its form.
pub(crate) fn find(symbol: &str, version: i32) -> Option<usize> {
    // One that works before one that says that it does not.
    let (works, refuses) = (crate::table(), crate::stubs::table());
    let among = |table: &[(&str, usize)], name: &str| table.iter().find(|entry| entry.0 == name).map(|entry| entry.1);
    let exact = |name: &str| among(&works, name).or_else(|| among(&refuses, name));
    if let Some((_, first, newest, older)) = RENAMED.iter().find(|entry| entry.0 == symbol) {
        return exact(if version >= *first { newest } else { older });
    }
    let newest =
        |table: &[(&str, usize)]| ["_v3", "_v2", ""].iter().find_map(|form| among(table, &format!("{symbol}{form}")));
    newest(&works).or_else(|| newest(&refuses))
}

fn described(
    code: i32,
    text: Out<*const c_char>,
    which: fn((&'static CStr, &'static CStr)) -> &'static CStr,
) -> crate::Result<()> {
    match crate::codes::described(code) {
        Some(both) => text.put(which(both).as_ptr()),
        None => {
            text.put(std::ptr::null())?;
            Err(Code::INVALID_VALUE)
        }
    }
}

exports! {
    /// Initialises the emulated driver.
    fn cuInit(flags: u32) {
        if flags != 0 {
            return Err(Code::INVALID_VALUE);
        }
        if settings::get().devices == 0 {
            return Err(Code::NO_DEVICE);
        }
        if state::initialise() {
            counters::write_at_exit();
        }
        Ok(())
    }

    /// The version that the settings name.
    fn cuDriverGetVersion(version: Out<i32>) {
        version.put(settings::get().driver_version)
    }

    /// The name of a code.
    fn cuGetErrorName(code: i32, name: Out<*const c_char>) {
        described(code, name, |both| both.0)
    }

    /// The text of a code.
    fn cuGetErrorString(code: i32, text: Out<*const c_char>) {
        described(code, text, |both| both.1)
    }

    /// The address of a function.
    fn cuGetProcAddress(symbol: In<c_char>, function: Out<usize>, version: i32, _flags: u64) {
        let found = find(&symbol.text()?, version);
        function.put(found.unwrap_or(0))?;
        found.map(drop).ok_or(Code::NOT_FOUND)
    }

    /// The address of a function, and whether there is one.
    fn cuGetProcAddress_v2(symbol: In<c_char>, function: Out<usize>, version: i32, _flags: u64, status: Out<i32>) {
        let found = find(&symbol.text()?, version);
        function.put(found.unwrap_or(0))?;
        status.put_if_wanted(i32::from(found.is_none()));
        if found.is_none() && status.is_null() { Err(Code::NOT_FOUND) } else { Ok(()) }
    }

    /// Profilers see nothing of an emulated device; a program that starts one goes on.
    fn cuProfilerStart() {
        Ok(())
    }

    /// As `cuProfilerStart`.
    fn cuProfilerStop() {
        Ok(())
    }
}

/// A counter of the emulation by its name (`calls`, `synchronisations`, `launches`, `bytes_allocated`, `bytes_in_use`,
/// `bytes_peak`), or the calls of the function of this name. No function of the driver.
///
/// # Safety
/// `name` is null or a text that ends in NUL.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub unsafe extern "C" fn emulatedCudaCounter(name: In<c_char>) -> u64 {
    name.text().map_or(0, |name| counters::lock().get(&name))
}
