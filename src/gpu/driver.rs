//! The CUDA driver, loaded at run time through cudarc's raw layer. Its absence is an error, not a crash.

use super::launcher::{Launch, Launcher};
use super::{Gpu, ptx::Module};
use crate::error::{Error, Result};
use crate::ops::Workspace;
use crate::plan::{Plan, WorkspaceBlock};
use crate::tensor::{Device, SliceMut};
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;
use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::{Mutex, PoisonError};

/// Drivers from CUDA 12.0 on load the embedded PTX.
const OLDEST_DRIVER: i32 = 12_000;
/// The PTX is for compute capability 8.0 and later.
const OLDEST_CAPABILITY: (i32, i32) = (8, 0);

/// The driver's version as 1000 * major + 10 * minor, once it is initialised.
fn start() -> Result<i32> {
    // SAFETY: opens the library if it is there, and closes it again.
    if !unsafe { sys::is_culib_present() } {
        return Err(Error::NoDriver);
    }
    let mut version = 0;
    // SAFETY: `version` is written before the call returns; it may be called before cuInit.
    let queried = unsafe { sys::cuDriverGetVersion(&mut version) };
    queried.result().map_err(|error| refused("cuDriverGetVersion", error))?;
    if version < OLDEST_DRIVER {
        return Err(Error::DriverTooOld { got: version });
    }
    match result::init() {
        Ok(()) => Ok(version),
        Err(DriverError(sys::CUresult::CUDA_ERROR_NO_DEVICE)) => Err(Error::NoDevice { ordinal: 0, count: 0 }),
        Err(error) => Err(refused("cuInit", error)),
    }
}

/// What the driver says of an error.
fn refused(call: &'static str, error: DriverError) -> Error {
    let text = |text: std::result::Result<&std::ffi::CStr, DriverError>| match text {
        Ok(text) => text.to_string_lossy().into_owned(),
        Err(_) => "an unknown code".into(),
    };
    Error::Driver { call, code: text(error.error_name()), text: text(error.error_string()) }
}

/// A device as `ssm info` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// Ordinal.
    pub ordinal: u32,
    /// The driver's name for it.
    pub name: String,
    /// Compute capability (major, minor).
    pub capability: (i32, i32),
    /// Memory in bytes.
    pub memory_bytes: usize,
    /// Version of the driver, 1000 * major + 10 * minor of its CUDA.
    pub driver_version: i32,
}

impl DeviceInfo {
    fn query(ordinal: u32, driver_version: i32) -> Result<Self> {
        use sys::CUdevice_attribute::{
            CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR,
            CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
        };
        let device = device(ordinal)?;
        // SAFETY: `device` is a handle that the driver gave.
        let attribute = |attribute| unsafe { result::device::get_attribute(device, attribute) };
        let attribute = |name| attribute(name).map_err(|error| refused("cuDeviceGetAttribute", error));
        // SAFETY: as above.
        let memory = unsafe { result::device::total_mem(device) };
        Ok(Self {
            ordinal,
            name: result::device::get_name(device).map_err(|error| refused("cuDeviceGetName", error))?,
            capability: (attribute(MAJOR)?, attribute(MINOR)?),
            memory_bytes: memory.map_err(|error| refused("cuDeviceTotalMem", error))?,
            driver_version,
        })
    }
}

fn count() -> Result<u32> {
    let count = result::device::get_count().map_err(|error| refused("cuDeviceGetCount", error))?;
    Ok(u32::try_from(count).unwrap_or(0))
}

fn device(ordinal: u32) -> Result<sys::CUdevice> {
    let count = count()?;
    if ordinal >= count {
        return Err(Error::NoDevice { ordinal, count });
    }
    result::device::get(ordinal as i32).map_err(|error| refused("cuDeviceGet", error))
}

/// All devices that the driver knows.
pub fn devices() -> Result<Vec<DeviceInfo>> {
    let version = start()?;
    (0..count()?).map(|ordinal| DeviceInfo::query(ordinal, version)).collect()
}

/// A stream of the driver: where calls enqueue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream(sys::CUstream);

// SAFETY: a stream handle may be used from any thread; the driver locks.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

impl Stream {
    /// The context's default stream.
    pub fn null() -> Self {
        Self(std::ptr::null_mut())
    }

    /// A `CUstream` from anywhere.
    ///
    /// # Safety
    /// `stream` is null or a stream of the context that it will be used with, and stays one for as long.
    pub unsafe fn from_raw(stream: *mut c_void) -> Self {
        Self(stream.cast())
    }
}

/// One device of the CUDA driver: its primary context, and the modules loaded there.
#[derive(Debug)]
pub struct Driver {
    info: DeviceInfo,
    device: sys::CUdevice,
    context: sys::CUcontext,
    modules: Mutex<HashMap<&'static str, Loaded>>,
}

/// Handles of a loaded module.
#[derive(Debug)]
struct Loaded {
    module: sys::CUmodule,
    functions: HashMap<&'static str, sys::CUfunction>,
}

// SAFETY: context, module and function handles may be used from any thread; the driver locks, and the map has a mutex.
unsafe impl Send for Driver {}
// SAFETY: as above.
unsafe impl Sync for Driver {}

impl Driver {
    /// Opens device `ordinal` and retains its primary context, which cudarc, candle and the runtime API share.
    pub fn open(ordinal: u32) -> Result<Self> {
        let info = DeviceInfo::query(ordinal, start()?)?;
        let (major, minor) = info.capability;
        if info.capability < OLDEST_CAPABILITY {
            return Err(Error::Unsupported {
                op: "gpu",
                what: format!("{} of compute capability {major}.{minor}", info.name),
                expected: "8.0 or later".into(),
            });
        }
        let device = device(ordinal)?;
        // SAFETY: `device` is a handle that the driver gave; `drop` releases what is retained here.
        let context = unsafe { result::primary_ctx::retain(device) };
        let context = context.map_err(|error| refused("cuDevicePrimaryCtxRetain", error))?;
        Ok(Self { info, device, context, modules: Mutex::default() })
    }

    /// What is open.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// The backend on one stream of this device.
    pub fn on(&self, stream: Stream) -> Gpu<OnStream<'_>> {
        Gpu::new(OnStream { driver: self, stream })
    }

    /// The function of a launch, its module loaded on first use. The context is current.
    fn function(&self, module: &'static Module, kernel: &'static str) -> Result<sys::CUfunction> {
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        if !modules.contains_key(module.unit) {
            modules.insert(module.unit, Loaded { module: load(module)?, functions: HashMap::new() });
        }
        let missing = || Error::Unsupported {
            op: "gpu",
            what: format!("kernel {kernel}"),
            expected: format!("one of {}", module.unit),
        };
        let loaded = modules.get_mut(module.unit).ok_or_else(missing)?;
        if let Some(function) = loaded.functions.get(kernel) {
            return Ok(*function);
        }
        let name = CString::new(kernel).map_err(|_| missing())?;
        // SAFETY: the module was loaded into this context and is not unloaded before the driver is dropped.
        let function = unsafe { result::module::get_function(loaded.module, name) };
        let function = function.map_err(|error| refused("cuModuleGetFunction", error))?;
        loaded.functions.insert(kernel, function);
        Ok(function)
    }
}

fn load(module: &Module) -> Result<sys::CUmodule> {
    let text = CString::new(module.ptx).map_err(|_| Error::Unsupported {
        op: "gpu",
        what: format!("PTX of {} with a NUL byte", module.unit),
        expected: "text".into(),
    })?;
    // SAFETY: the image is a text that ends in NUL and lives during the call.
    let loaded = unsafe { result::module::load_data(text.as_ptr().cast()) };
    loaded.map_err(|error| refused("cuModuleLoadData", error))
}

impl Drop for Driver {
    fn drop(&mut self) {
        let modules = std::mem::take(self.modules.get_mut().unwrap_or_else(PoisonError::into_inner));
        if let Ok(_current) = Current::push(self.context) {
            for loaded in modules.into_values() {
                // SAFETY: loaded into this context, and no one else has the handle. An error has no one to hear it.
                let _ = unsafe { result::module::unload(loaded.module) };
            }
        }
        // SAFETY: retained by `open`. An error has no one to hear it.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}

/// Makes a context current on this thread, and the one before it again when dropped.
struct Current;

impl Current {
    fn push(context: sys::CUcontext) -> Result<Self> {
        // SAFETY: the context is retained by the driver that calls.
        let pushed = unsafe { sys::cuCtxPushCurrent_v2(context) };
        pushed.result().map_err(|error| refused("cuCtxPushCurrent", error))?;
        Ok(Self)
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        let mut popped = std::ptr::null_mut();
        // SAFETY: pops what `push` pushed. An error has no one to hear it.
        let _ = unsafe { sys::cuCtxPopCurrent_v2(&mut popped) };
    }
}

/// A stream of a driver.
#[derive(Debug, Clone, Copy)]
pub struct OnStream<'d> {
    driver: &'d Driver,
    stream: Stream,
}

impl Launcher for OnStream<'_> {
    fn ordinal(&self) -> u32 {
        self.driver.info.ordinal
    }

    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<()> {
        let _current = Current::push(self.driver.context)?;
        let function = self.driver.function(launch.module, launch.kernel)?;
        let ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]) = (launch.grid, launch.block);
        // The driver reads the parameter during the call, and does not write it.
        let mut params = [launch.params.as_ptr().cast_mut().cast::<c_void>()];
        // SAFETY: the function is of a loaded module; the parameter is what the caller of `launch` guarantees.
        let launched = unsafe {
            let (grid, block) = ((grid_x, grid_y, grid_z), (block_x, block_y, block_z));
            result::launch_kernel(function, grid, block, launch.shared_bytes, self.stream.0, &mut params)
        };
        launched.map_err(|error| refused("cuLaunchKernel", error))
    }

    fn with_workspace(&self, plan: &Plan, run: &mut dyn FnMut(Workspace<'_, Device>) -> Result<()>) -> Result<()> {
        let ordinal = self.ordinal();
        // SAFETY: of a workspace without elements nothing is read.
        let workspace = |address, blocks| unsafe { SliceMut::from_raw_parts(address, blocks, ordinal) };
        if plan.workspace_bytes == 0 {
            return run(workspace(0, 0));
        }
        let _current = Current::push(self.driver.context)?;
        // SAFETY: freed below, in stream order, after all that `run` enqueues.
        let allocated = unsafe { result::malloc_async(self.stream.0, plan.workspace_bytes) };
        let address = allocated.map_err(|error| match error.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                Error::OutOfMemory { kernel: format!("workspace of {}", plan.kernel), bytes: plan.workspace_bytes }
            }
            _ => refused("cuMemAllocAsync", error),
        })?;
        let done = run(workspace(address, plan.workspace_bytes / size_of::<WorkspaceBlock>()));
        // SAFETY: allocated above, and freed once.
        let freed = unsafe { result::free_async(address, self.stream.0) };
        done.and(freed.map_err(|error| refused("cuMemFreeAsync", error)))
    }
}
