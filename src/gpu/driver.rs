//! Devices of the CUDA driver. The driver's absence is an error, not a crash.

mod memory;
mod timing;

use super::launcher::{Launch, Launcher};
use super::sys::{self, Api, Code, Handle, api};
use super::{Gpu, causal_conv1d, ptx, selective_scan};
use crate::error::{Error, Result};
use crate::ops::Workspace;
use crate::plan::{Plan, WorkspaceBlock};
use crate::tensor::{Device, SliceMut};
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_int, c_void};
use std::sync::{Mutex, PoisonError};

pub use memory::DriverBuffer;

/// Drivers from CUDA 12.0 on load the embedded PTX.
const OLDEST_DRIVER: i32 = 12_000;
/// Dynamic shared memory that every function may have without asking.
const FREE_SHARED: u32 = 48 << 10;
/// The PTX is for compute capability 8.0 and later.
const OLDEST_CAPABILITY: (i32, i32) = (8, 0);

/// The driver, initialised, with its version as 1000 * major + 10 * minor and the number of devices.
fn start() -> Result<(&'static Api, i32, u32)> {
    let api = api()?;
    let (mut version, mut count) = (0, 0);
    // SAFETY: `version` is written; this may be called before cuInit.
    unsafe { api.cuDriverGetVersion(&mut version) }.map_err(|code| code.into_error(api))?;
    if version < OLDEST_DRIVER {
        return Err(Error::DriverTooOld { got: version });
    }
    // SAFETY: initialising twice is allowed.
    match unsafe { api.cuInit(0) } {
        Err(Code { code: sys::NO_DEVICE, .. }) => return Ok((api, version, 0)),
        other => other.map_err(|code| code.into_error(api))?,
    }
    // SAFETY: `count` is written.
    unsafe { api.cuDeviceGetCount(&mut count) }.map_err(|code| code.into_error(api))?;
    Ok((api, version, u32::try_from(count).unwrap_or(0)))
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
    /// Size of the L2 cache in bytes; 0 if the driver does not say.
    pub l2_bytes: usize,
    /// Version of the driver, 1000 * major + 10 * minor of its CUDA.
    pub driver_version: i32,
}

impl DeviceInfo {
    /// It is a device of the crate `emulated-cuda`, which says so in the name: it computes, and its time means nothing.
    pub fn is_emulated(&self) -> bool {
        self.name.starts_with("Emulated CUDA device")
    }

    fn query(api: &Api, ordinal: u32, driver_version: i32) -> Result<(Self, c_int)> {
        let (mut device, mut major, mut minor, mut l2_bytes, mut memory_bytes) = (0, 0, 0, 0, 0);
        let mut name = [0; 128];
        // SAFETY: each call writes what it is given, within its length; `device` is the handle that the first gave.
        let asked = unsafe {
            api.cuDeviceGet(&mut device, ordinal as c_int)
                .and_then(|()| api.cuDeviceGetAttribute(&mut major, sys::CAPABILITY_MAJOR, device))
                .and_then(|()| api.cuDeviceGetAttribute(&mut minor, sys::CAPABILITY_MINOR, device))
                .and_then(|()| api.cuDeviceGetAttribute(&mut l2_bytes, sys::L2_BYTES, device))
                .and_then(|()| api.cuDeviceTotalMem_v2(&mut memory_bytes, device))
                .and_then(|()| api.cuDeviceGetName(name.as_mut_ptr(), name.len() as c_int - 1, device))
        };
        asked.map_err(|code| code.into_error(api))?;
        // SAFETY: the last byte stayed 0.
        let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
        let l2_bytes = usize::try_from(l2_bytes).unwrap_or(0);
        Ok((Self { ordinal, name, capability: (major, minor), memory_bytes, l2_bytes, driver_version }, device))
    }
}

/// All devices that the driver knows.
///
/// ```
/// match ssm_kernels::gpu::devices() {
///     Ok(list) => list.iter().for_each(|device| println!("{}: {}", device.ordinal, device.name)),
///     Err(absent) => println!("{absent}"), // a value, not a crash
/// }
/// ```
pub fn devices() -> Result<Vec<DeviceInfo>> {
    let (api, version, count) = start()?;
    (0..count).map(|ordinal| Ok(DeviceInfo::query(api, ordinal, version)?.0)).collect()
}

/// The device that has `len` elements at this address; without elements, the first one.
#[cfg(feature = "cust")]
pub(super) fn ordinal(address: u64, len: usize) -> Result<u32> {
    if len == 0 {
        return Ok(0);
    }
    let (api, mut ordinal) = (api()?, 0i32);
    // SAFETY: the attribute is an int, which is written.
    let asked = unsafe { api.cuPointerGetAttribute((&raw mut ordinal).cast(), sys::POINTER_DEVICE, address) };
    asked.map_err(|code| code.into_error(api))?;
    // There are no devices below 0.
    Ok(u32::try_from(ordinal).unwrap_or(u32::MAX))
}

/// A stream of the driver: where calls enqueue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream(Handle);

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
    /// `stream` is null or a stream of the device's primary context, and stays one for as long as it is used.
    pub unsafe fn from_raw(stream: *mut c_void) -> Self {
        Self(stream)
    }
}

/// One device of the CUDA driver: its primary context (which the runtime API and most crates share) and the modules
/// loaded there. Opening a device again gives the same one: contexts and modules stay until the process ends, so that
/// no enqueued work can outlive them.
#[derive(Debug, Clone, Copy)]
pub struct Driver(&'static Opened);

struct Opened {
    api: &'static Api,
    info: DeviceInfo,
    context: Handle,
    modules: Mutex<Loaded>,
}

/// Modules by unit, functions by kernel.
#[derive(Default)]
struct Loaded {
    modules: HashMap<&'static str, Handle>,
    functions: HashMap<&'static str, Handle>,
    /// Dynamic shared memory that a function may have, where it asked.
    shared: HashMap<&'static str, u32>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.info.fmt(f)
    }
}

// SAFETY: context, module and function handles may be used from any thread; the driver locks, and the maps have a mutex.
unsafe impl Send for Opened {}
// SAFETY: as above.
unsafe impl Sync for Opened {}

impl Driver {
    /// Opens device `ordinal`.
    pub fn open(ordinal: u32) -> Result<Self> {
        static OPENED: Mutex<Vec<&'static Opened>> = Mutex::new(Vec::new());
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(here) = opened.iter().find(|here| here.info.ordinal == ordinal) {
            return Ok(Self(here));
        }
        let (api, version, count) = start()?;
        if ordinal >= count {
            return Err(Error::NoDevice { ordinal, count });
        }
        let (info, device) = DeviceInfo::query(api, ordinal, version)?;
        let (major, minor) = info.capability;
        if info.capability < OLDEST_CAPABILITY {
            return Err(Error::Unsupported {
                op: "gpu",
                what: format!("{} of compute capability {major}.{minor}", info.name),
                expected: "8.0 or later".into(),
            });
        }
        let mut context = std::ptr::null_mut();
        // SAFETY: `device` is a handle that the driver gave; the context stays retained.
        unsafe { api.cuDevicePrimaryCtxRetain(&mut context, device) }.map_err(|code| code.into_error(api))?;
        let here = Box::leak(Box::new(Opened { api, info, context, modules: Mutex::default() }));
        opened.push(here);
        Ok(Self(here))
    }

    /// What is open.
    pub fn info(&self) -> &DeviceInfo {
        &self.0.info
    }

    /// The backend on one stream of this device.
    pub fn on(&self, stream: Stream) -> Gpu<OnStream> {
        Gpu::new(OnStream { driver: *self, stream })
    }

    /// Loads the kernels of a plan now, which a first call would do otherwise: before a graph capture, say.
    pub fn prepare(&self, plan: &Plan) -> Result<()> {
        let _current = Current::push(self.0)?;
        let others = selective_scan::other_kernels(plan).into_iter().chain(causal_conv1d::other_kernels(plan));
        for kernel in std::iter::once(plan.kernel.clone()).chain(others) {
            let (module, kernel) = ptx::find("gpu", &kernel)?;
            self.function(module, kernel)?;
        }
        Ok(())
    }

    /// The function of a kernel, its module loaded on first use. The context is current.
    fn function(&self, module: &'static ptx::Module, kernel: &'static str) -> Result<Handle> {
        let mut loaded = self.0.modules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = loaded.functions.get(kernel) {
            return Ok(*function);
        }
        let text = |text: &str| {
            CString::new(text).map_err(|_| Error::Unsupported {
                op: "gpu",
                what: format!("a NUL byte in the PTX of {}", module.unit),
                expected: "text".into(),
            })
        };
        let refused = |code: Code| code.into_error(self.0.api);
        let mut handle = match loaded.modules.get(module.unit) {
            Some(handle) => *handle,
            None => std::ptr::null_mut(),
        };
        if handle.is_null() {
            let image = text(module.ptx)?;
            // SAFETY: the image is a text that ends in NUL and lives during the call.
            unsafe { self.0.api.cuModuleLoadData(&mut handle, image.as_ptr().cast()) }.map_err(refused)?;
            loaded.modules.insert(module.unit, handle);
        }
        let (name, mut function) = (text(kernel)?, std::ptr::null_mut());
        // SAFETY: the module is loaded in this context and never unloaded; the name ends in NUL.
        unsafe { self.0.api.cuModuleGetFunction(&mut function, handle, name.as_ptr()) }.map_err(refused)?;
        loaded.functions.insert(kernel, function);
        Ok(function)
    }
}

impl Driver {
    /// Dynamic shared memory beyond what is free is asked for once, and never lowered: other threads launch the function, too.
    fn allow_shared(&self, function: Handle, launch: &Launch<'_>) -> Result<()> {
        let mut loaded = self.0.modules.lock().unwrap_or_else(PoisonError::into_inner);
        let allowed = loaded.shared.get(launch.kernel).copied().unwrap_or(FREE_SHARED);
        if launch.shared_bytes <= allowed {
            return Ok(());
        }
        let bytes = launch.shared_bytes as c_int;
        // SAFETY: the function is of a loaded module, and its context is current.
        let asked = unsafe { self.0.api.cuFuncSetAttribute(function, sys::MAX_DYNAMIC_SHARED, bytes) };
        asked.map_err(|code| code.into_error(self.0.api))?;
        loaded.shared.insert(launch.kernel, launch.shared_bytes);
        Ok(())
    }
}

/// Makes a context current on this thread, and the one before it again when dropped.
pub(super) struct Current(&'static Api);

impl Current {
    fn push(opened: &'static Opened) -> Result<Self> {
        // SAFETY: the context stays retained.
        unsafe { opened.api.cuCtxPushCurrent_v2(opened.context) }.map_err(|code| code.into_error(opened.api))?;
        Ok(Self(opened.api))
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        let mut popped = std::ptr::null_mut();
        // SAFETY: pops what `push` pushed. An error has no one to hear it.
        let _ = unsafe { self.0.cuCtxPopCurrent_v2(&mut popped) };
    }
}

/// A stream of a device.
#[derive(Debug, Clone, Copy)]
pub struct OnStream {
    driver: Driver,
    stream: Stream,
}

#[cfg(feature = "cust")]
impl OnStream {
    pub(super) fn new(driver: Driver, stream: Stream) -> Self {
        Self { driver, stream }
    }

    /// Makes the device's primary context current.
    pub(super) fn push(&self) -> Result<Current> {
        Current::push(self.driver.0)
    }
}

impl Launcher for OnStream {
    fn ordinal(&self) -> u32 {
        self.driver.0.info.ordinal
    }

    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<()> {
        let opened = self.driver.0;
        let _current = Current::push(opened)?;
        let function = self.driver.function(launch.module, launch.kernel)?;
        self.driver.allow_shared(function, launch)?;
        let ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]) = (launch.grid, launch.block);
        // The driver copies the parameter during the call, and does not write it.
        let mut params = [launch.params.as_ptr().cast_mut().cast::<c_void>()];
        let (shared, stream, extra) = (launch.shared_bytes, self.stream.0, std::ptr::null_mut());
        // SAFETY: the function is of a loaded module; the parameter is what the caller of `launch` guarantees.
        let launched = unsafe {
            let params = params.as_mut_ptr();
            opened.api.cuLaunchKernel(
                function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared, stream, params, extra,
            )
        };
        launched.map_err(|code| code.into_error(opened.api))
    }

    fn with_workspace(&self, plan: &Plan, run: &mut dyn FnMut(Workspace<'_, Device>) -> Result<()>) -> Result<()> {
        let opened = self.driver.0;
        // SAFETY: the memory is allocated below for so many blocks, or there are none.
        let workspace = |address, blocks| unsafe { SliceMut::from_raw_parts(address, blocks, self.ordinal()) };
        if plan.workspace_bytes == 0 {
            return run(workspace(0, 0));
        }
        let _current = Current::push(opened)?;
        // Freed below, in stream order, after all that `run` enqueues.
        let address = self.allocate(|| format!("workspace of {}", plan.kernel), plan.workspace_bytes)?;
        let done = run(workspace(address, plan.workspace_bytes / size_of::<WorkspaceBlock>()));
        // SAFETY: allocated above, and freed once.
        let freed = unsafe { opened.api.cuMemFreeAsync(address, self.stream.0) };
        done.and(freed.map_err(|code| code.into_error(opened.api)))
    }
}
