//! The functions of the CUDA driver that this crate calls, loaded at run time.
//!
//! Declared here instead of taken from a binding crate: a binding crate's version features are unified over the whole
//! build, so that two crates that ask for different ones cannot be linked together, and result codes that its enum does
//! not know are undefined behaviour. Here a code is a number.

use crate::error::{Error, Result};
use libloading::Library;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

/// Handles of the driver: contexts, modules, functions, streams, events.
pub type Handle = *mut c_void;

/// Result codes that are told apart.
pub const NO_DEVICE: c_int = 100;
const OUT_OF_MEMORY: c_int = 2;

/// Device attributes (`CUdevice_attribute`).
pub const L2_BYTES: c_int = 38;
pub const CAPABILITY_MAJOR: c_int = 75;
pub const CAPABILITY_MINOR: c_int = 76;

/// Attribute of an address (`CUpointer_attribute`): the device.
#[cfg(feature = "cust")]
pub const POINTER_DEVICE: c_int = 9;

/// Function attribute (`CUfunction_attribute`): dynamic shared memory that launches may ask for.
pub const MAX_DYNAMIC_SHARED: c_int = 8;

#[cfg(windows)]
const NAMES: [&str; 1] = ["nvcuda.dll"];
#[cfg(not(windows))]
const NAMES: [&str; 2] = ["libcuda.so.1", "libcuda.so"];

/// Declares the functions: a struct of pointers, its loading, and a method each that turns the code into an error.
macro_rules! driver {
    ($($(#[$when:meta])* $name:ident($($arg:ident: $type:ty),*);)*) => {
        /// The loaded driver.
        #[allow(non_snake_case)]
        pub struct Api {
            $($(#[$when])* $name: unsafe extern "system" fn($($type),*) -> c_int,)*
            /// Keeps the functions valid.
            _library: Library,
        }

        impl Api {
            fn load(library: Library) -> Result<Self> {
                Ok(Self {
                    $($(#[$when])* $name: {
                        let symbol = concat!(stringify!($name), "\0");
                        // SAFETY: the driver's functions of these names have these types (cuda.h of CUDA 12 and 13).
                        let found = unsafe { library.get(symbol.as_bytes()) };
                        *found.map_err(|_| missing(stringify!($name)))?
                    },)*
                    _library: library,
                })
            }

            $(
                /// The driver's function of this name.
                ///
                /// # Safety
                /// As the driver's documentation says.
                $(#[$when])*
                // The names and the number of arguments are the driver's.
                #[allow(non_snake_case, clippy::too_many_arguments)]
                pub unsafe fn $name(&self, $($arg: $type),*) -> std::result::Result<(), Code> {
                    // SAFETY: the caller's.
                    match unsafe { (self.$name)($($arg),*) } {
                        0 => Ok(()),
                        code => Err(Code { call: stringify!($name), code }),
                    }
                }
            )*
        }
    };
}

driver! {
    cuDriverGetVersion(version: *mut c_int);
    cuInit(flags: c_uint);
    cuGetErrorName(code: c_int, name: *mut *const c_char);
    cuGetErrorString(code: c_int, text: *mut *const c_char);
    cuDeviceGetCount(count: *mut c_int);
    cuDeviceGet(device: *mut c_int, ordinal: c_int);
    cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, device: c_int);
    cuDeviceGetName(name: *mut c_char, length: c_int, device: c_int);
    cuDeviceTotalMem_v2(bytes: *mut usize, device: c_int);
    cuDevicePrimaryCtxRetain(context: *mut Handle, device: c_int);
    cuCtxPushCurrent_v2(context: Handle);
    cuCtxPopCurrent_v2(context: *mut Handle);
    cuModuleLoadData(module: *mut Handle, image: *const c_void);
    cuModuleGetFunction(function: *mut Handle, module: Handle, name: *const c_char);
    cuFuncSetAttribute(function: Handle, attribute: c_int, value: c_int);
    cuMemAllocAsync(address: *mut u64, bytes: usize, stream: Handle);
    cuMemFreeAsync(address: u64, stream: Handle);
    cuMemFree_v2(address: u64);
    cuCtxSynchronize();
    cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, bytes: usize, stream: Handle);
    cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, bytes: usize, stream: Handle);
    cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: Handle);
    cuStreamSynchronize(stream: Handle);
    #[cfg(feature = "cust")]
    cuPointerGetAttribute(data: *mut c_void, attribute: c_int, address: u64);
    cuEventCreate(event: *mut Handle, flags: c_uint);
    cuEventDestroy_v2(event: Handle);
    cuEventRecord(event: Handle, stream: Handle);
    cuEventSynchronize(event: Handle);
    cuEventElapsedTime(milliseconds: *mut f32, start: Handle, end: Handle);
    cuLaunchKernel(
        function: Handle, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint, block_x: c_uint, block_y: c_uint,
        block_z: c_uint, shared_bytes: c_uint, stream: Handle, params: *mut *mut c_void, extra: *mut *mut c_void
    );
}

/// A call that failed.
#[derive(Debug, Clone, Copy)]
pub struct Code {
    pub call: &'static str,
    pub code: c_int,
}

impl Code {
    /// As the crate's error, with what the driver says of it.
    pub fn into_error(self, api: &Api) -> Error {
        if self.code == OUT_OF_MEMORY {
            return Error::OutOfMemory { what: self.call.into(), bytes: None };
        }
        let describe = |ask: unsafe fn(&Api, c_int, *mut *const c_char) -> std::result::Result<(), Code>| {
            let mut text = std::ptr::null();
            // SAFETY: `text` is written.
            if unsafe { ask(api, self.code, &mut text) }.is_err() || text.is_null() {
                return format!("code {}", self.code);
            }
            // SAFETY: a constant string of the driver, which ends in NUL.
            unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
        };
        Error::Driver { call: self.call, code: describe(Api::cuGetErrorName), text: describe(Api::cuGetErrorString) }
    }
}

fn missing(function: &'static str) -> Error {
    let text = "not a driver from CUDA 12 on".into();
    Error::Driver { call: function, code: "no such function".into(), text }
}

/// The driver, loaded at first use and kept.
pub fn api() -> Result<&'static Api> {
    static API: OnceLock<Result<Api>> = OnceLock::new();
    let load = || {
        // SAFETY: the driver's library may be loaded at any time.
        let library = NAMES.into_iter().find_map(|name| unsafe { Library::new(name) }.ok());
        Api::load(library.ok_or(Error::NoDriver)?)
    };
    API.get_or_init(load).as_ref().map_err(Clone::clone)
}
