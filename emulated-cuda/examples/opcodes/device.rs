//! A device of the CUDA driver, which is opened when the program runs.

use super::coverage::Target;
use super::operands::BLOCK;
use cudarc::driver::{DriverError, result, sys};
use std::ffi::{CStr, CString, c_void};
use std::ptr;

/// A device with its primary context current. It is kept until the program ends.
pub struct Gpu {
    pub name: String,
    /// 1000 * major + 10 * minor of CUDA.
    pub driver: i32,
    pub target: Target,
}

/// The kernels of a module, in order.
pub struct Loaded {
    module: sys::CUmodule,
    kernels: Vec<sys::CUfunction>,
}

impl Gpu {
    /// Opens the driver and the device of this number.
    ///
    /// # Errors
    /// If there is no driver or no such device.
    pub fn open(ordinal: i32) -> Result<Self, String> {
        // SAFETY: looks for the library and closes it again.
        if !unsafe { sys::is_culib_present() } {
            return Err(
                "no libcuda.so.1: the driver of a GPU is not installed, or LD_LIBRARY_PATH does not name it".into()
            );
        }
        let said = |call: &'static str| move |error: DriverError| format!("{call}: {}", explained(error));
        result::init().map_err(said("cuInit"))?;
        let device = result::device::get(ordinal).map_err(said("cuDeviceGet"))?;
        let name = result::device::get_name(device).map_err(said("cuDeviceGetName"))?;
        // SAFETY: the device is one of the driver's.
        let attribute = |which| unsafe { result::device::get_attribute(device, which) };
        let capability = [
            sys::CUdevice_attribute_enum::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            sys::CUdevice_attribute_enum::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
        ]
        .map(attribute);
        let [major, minor] = capability.map(|number| number.map_err(said("cuDeviceGetAttribute")));
        let mut driver = 0;
        // SAFETY: writes one number.
        unsafe { sys::cuDriverGetVersion(&mut driver) }.result().map_err(said("cuDriverGetVersion"))?;
        // SAFETY: the device is one of the driver's, and its context stays.
        unsafe { result::primary_ctx::retain(device).and_then(|context| result::ctx::set_current(context)) }
            .map_err(said("cuDevicePrimaryCtxRetain"))?;
        let target = Target { capability: (10 * major? + minor?) as u32, ptx: newest_ptx(driver) };
        Ok(Self { name, driver, target })
    }

    /// Compiles a module with so many kernels.
    ///
    /// # Errors
    /// What the driver says of the PTX.
    pub fn load(&self, ptx: &str, kernels: usize) -> Result<Loaded, String> {
        let text = CString::new(ptx).map_err(|error| error.to_string())?;
        let mut log = vec![0u8; 4096];
        let mut options =
            [sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER, sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
        let mut values = [log.as_mut_ptr().cast::<c_void>(), ptr::without_provenance_mut(log.len())];
        let mut module = ptr::null_mut();
        // SAFETY: the text ends with a zero, and the options' values are a buffer and its size, which outlive the call.
        let loaded = unsafe {
            sys::cuModuleLoadDataEx(&mut module, text.as_ptr().cast(), 2, options.as_mut_ptr(), values.as_mut_ptr())
        };
        if let Err(error) = loaded.result() {
            let log = CStr::from_bytes_until_nul(&log).map(CStr::to_string_lossy).unwrap_or_default();
            return Err(format!("{}: {}", explained(error), log.trim()));
        }
        let find = |index: usize| {
            let name = CString::new(format!("k{index}")).expect("no zero in it");
            // SAFETY: the module is loaded.
            unsafe { result::module::get_function(module, name) }
        };
        match (0..kernels).map(find).collect() {
            Ok(kernels) => Ok(Loaded { module, kernels }),
            Err(error) => {
                // SAFETY: nothing of the module is in use.
                _ = unsafe { result::module::unload(module) };
                Err(explained(error))
            }
        }
    }

    /// Runs a kernel on these operands, and returns so many results.
    ///
    /// # Errors
    /// If the device fails.
    pub fn run(
        &self,
        loaded: &Loaded,
        kernel: usize,
        operands: &[u64],
        (cells, count): (usize, usize),
    ) -> Result<Vec<u64>, String> {
        let run = || -> Result<Vec<u64>, DriverError> {
            let mut results = vec![0u64; cells * count];
            let (grid, block) = ((count / BLOCK) as u32, BLOCK as u32);
            // SAFETY: the buffers have the sizes that the kernel is made for, each call waits for its end, and the
            // buffers are freed after the last.
            unsafe {
                let from = result::malloc_sync(8 * operands.len().max(1))?;
                let to = result::malloc_sync(8 * results.len())?;
                if !operands.is_empty() {
                    result::memcpy_htod_sync(from, operands)?;
                }
                result::memset_d8_sync(to, 0, 8 * results.len())?;
                let mut parameters =
                    [&raw const from, &raw const to].map(|address| address.cast_mut().cast::<c_void>());
                let function = loaded.kernels[kernel];
                result::launch_kernel(function, (grid, 1, 1), (block, 1, 1), 0, ptr::null_mut(), &mut parameters)?;
                result::ctx::synchronize()?;
                result::memcpy_dtoh_sync(&mut results, to)?;
                result::free_sync(from)?;
                result::free_sync(to)?;
            }
            Ok(results)
        };
        run().map_err(explained)
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // SAFETY: every run has waited for its kernel.
        _ = unsafe { result::module::unload(self.module) };
    }
}

fn explained(error: DriverError) -> String {
    let text = error.error_string().map(CStr::to_string_lossy).unwrap_or_default();
    format!("{:?} ({text})", error.0)
}

/// Ten times the newest version of PTX that the driver of a CUDA version takes.
pub fn newest_ptx(driver: i32) -> u32 {
    let (major, minor) = (driver / 1000, driver as u32 % 1000 / 10);
    match (major, minor) {
        (..=11, _) => 70 + minor,
        (12, ..=5) => 80 + minor,
        (12, _) => 79 + minor,
        _ => 90 + minor,
    }
}
