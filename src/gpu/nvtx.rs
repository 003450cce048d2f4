//! Ranges for profilers, named as the operators.

use std::ffi::CStr;

/// A range of the calling thread, from its making to its end.
#[must_use]
pub struct Range {
    #[cfg(feature = "nvtx")]
    library: Option<&'static library::Library>,
}

/// Begins a range. Without feature `nvtx`, or without NVIDIA's library on this machine, it is nothing.
#[cfg_attr(not(feature = "nvtx"), allow(unused_variables))]
pub fn range(name: &CStr) -> Range {
    Range {
        #[cfg(feature = "nvtx")]
        library: library::get().inspect(|library| library.push(name)),
    }
}

#[cfg(feature = "nvtx")]
impl Drop for Range {
    fn drop(&mut self) {
        if let Some(library) = self.library {
            library.pop();
        }
    }
}

/// libnvToolsExt of the CUDA toolkit and of PyPI's nvidia-nvtx, which passes ranges on to whatever profiler runs the program.
#[cfg(feature = "nvtx")]
mod library {
    use std::ffi::{CStr, c_char, c_int};
    use std::sync::OnceLock;

    #[cfg(windows)]
    const NAMES: [&str; 1] = ["nvToolsExt64_1.dll"];
    #[cfg(not(windows))]
    const NAMES: [&str; 2] = ["libnvToolsExt.so.1", "libnvToolsExt.so"];

    pub struct Library {
        push: unsafe extern "system" fn(*const c_char) -> c_int,
        pop: unsafe extern "system" fn() -> c_int,
        /// Keeps the functions valid.
        _library: libloading::Library,
    }

    impl Library {
        fn load() -> Option<Self> {
            // SAFETY: the library may be loaded at any time.
            let library = NAMES.into_iter().find_map(|name| unsafe { libloading::Library::new(name) }.ok())?;
            // SAFETY: the library's functions of these names have these types (nvToolsExt.h).
            let (push, pop) =
                unsafe { (*library.get(b"nvtxRangePushA\0").ok()?, *library.get(b"nvtxRangePop\0").ok()?) };
            Some(Self { push, pop, _library: library })
        }

        pub fn push(&self, name: &CStr) {
            // SAFETY: the name ends in NUL, and is copied.
            unsafe { (self.push)(name.as_ptr()) };
        }

        pub fn pop(&self) {
            // SAFETY: ends what this thread pushed last: ranges are dropped in order.
            unsafe { (self.pop)() };
        }
    }

    pub fn get() -> Option<&'static Library> {
        static LIBRARY: OnceLock<Option<Library>> = OnceLock::new();
        LIBRARY.get_or_init(Library::load).as_ref()
    }
}
