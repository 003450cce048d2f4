//! An emulated device: kernels run on the CPU, instruction by instruction, and are checked while they run.
//!
//! Everything that a call on a GPU does happens here too (plan, workspace, parameters, the embedded PTX), but a launch
//! runs to its end before it returns, and a kernel that reads what nobody wrote, steps out of its memory, races or
//! hangs makes it an error. Slow: some million instructions of a warp a second. For tests and for bugs, not for work.
//!
//! ```
//! use ssm_kernels::gpu::Emulator;
//! use ssm_kernels::prelude::*;
//! # let (dim, dstate, seqlen) = (3, 4, 10);
//! # let (inputs, decay, matrix) = (vec![0.5f32; dim * seqlen], vec![-1.0f32; dim * dstate], vec![0.25f32; dstate * seqlen]);
//! let emulator = Emulator::new();
//! let (x, A, B) = (emulator.upload(&inputs)?, emulator.upload(&decay)?, emulator.upload(&matrix)?);
//! let mut out = emulator.alloc::<f32>(dim * seqlen)?;
//!
//! let x = x.view([("batch", 1), ("dim", dim), ("seqlen", seqlen)]);
//! let A = A.view([("dim", dim), ("dstate", dstate)]);
//! let B = B.view([("batch", 1), ("ngroups", 1), ("dstate", dstate), ("seqlen", seqlen)]);
//! let scan = SelectiveScan::new(x, x, A, B, B)?.dt_softplus(true);
//! let mut view = out.view_mut([("batch", 1), ("dim", dim), ("seqlen", seqlen)]);
//! emulator.gpu().forward(&scan, SelectiveScanOutputs::new(&mut view))?; // Error::Findings if the kernel misbehaves
//!
//! let report = emulator.take_reports().pop().expect("one launch");
//! println!("{} elements, {} instructions", out.download()?.len(), report.warp_instructions());
//! # Ok::<(), ssm_kernels::Error>(())
//! ```

use super::Gpu;
use super::launcher::{Launch, Launcher};
use super::on_host::{Board, BoardBuffer, OnHost};
use super::ptx::Module;
use crate::error::{Error, Result};
use crate::ops::Workspace;
use crate::plan::{Plan, WorkspaceBlock};
use crate::tensor::{Axes, Device, Slice, SliceMut, View, ViewMut};
use bytemuck::Pod;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use ptx_emulator::{Checks, Finding, FindingKind, Mode, Report};

/// Ordinals of emulated devices begin here, beyond those that a driver gives.
const FIRST_ORDINAL: u32 = 1 << 31;
/// Reports that are kept for [`Emulator::take_reports`].
const MOST_REPORTS: usize = 64;

/// One emulated device with memory of its own. Its ordinal is its own too: a call that mixes the memory of two emulators,
/// or of an emulator and a GPU, is refused.
#[derive(Debug)]
pub struct Emulator {
    device: ptx_emulator::Device,
    ordinal: u32,
    checks: Checks,
    counters: bool,
    mode: Mode,
    threads: Option<usize>,
    reports: Mutex<VecDeque<Report>>,
}

impl Default for Emulator {
    fn default() -> Self {
        Self::new()
    }
}

impl Emulator {
    /// A device without memory in use, with all checks, in nominal mode.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(FIRST_ORDINAL);
        Self {
            device: ptx_emulator::Device::new(),
            ordinal: NEXT.fetch_add(1, Ordering::Relaxed) | FIRST_ORDINAL,
            checks: Checks::ALL,
            counters: true,
            mode: Mode::Nominal,
            threads: None,
            reports: Mutex::default(),
        }
    }

    /// What kernels are checked for; by default everything.
    pub fn checks(mut self, checks: Checks) -> Self {
        self.checks = checks;
        self
    }

    /// Whether reports count sectors and bank conflicts; by default yes.
    pub fn counters(mut self, counters: bool) -> Self {
        self.counters = counters;
        self
    }

    /// How arithmetic and order that PTX leaves open are chosen; by default nominal.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Threads that blocks are spread over; by default one for each processor. Results do not depend on it.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// The backend on this device.
    pub fn gpu(&self) -> Gpu<&Self> {
        Gpu::new(self)
    }

    /// A backend for host tensors: each call copies them to this device, runs there, and copies the results back.
    pub fn on_host(&self) -> OnHost<&Self> {
        OnHost(self)
    }

    /// Memory for `len` elements that nobody has written: a kernel that reads one before it is written is an error.
    pub fn alloc<T: Pod>(&self, len: usize) -> Result<EmulatedBuffer<'_, T>> {
        let memory = self.device.alloc(len).map_err(|why| refused::<T>(len, &why))?;
        Ok(EmulatedBuffer { emulator: self, memory })
    }

    /// Memory that holds a copy of `elements`.
    pub fn upload<T: Pod>(&self, elements: &[T]) -> Result<EmulatedBuffer<'_, T>> {
        let memory = self.device.upload(elements).map_err(|why| refused::<T>(elements.len(), &why))?;
        Ok(EmulatedBuffer { emulator: self, memory })
    }

    /// For messages: enough to repeat a run.
    fn mode_name(&self) -> String {
        match self.mode {
            Mode::Nominal => "nominal mode".into(),
            Mode::Shuffled { seed } => format!("shuffled mode, seed {seed}"),
            Mode::Adversarial { seed } => format!("adversarial mode, seed {seed}"),
            other => format!("{other:?}"),
        }
    }

    /// The reports of the launches since this was last called, the latest last; of many, the latest 64. Those of launches
    /// that ended in [`Error::Findings`] are among them.
    pub fn take_reports(&self) -> Vec<Report> {
        std::mem::take(&mut *lock(&self.reports)).into()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refused<T>(len: usize, why: &ptx_emulator::Error) -> Error {
    let what = format!("a buffer of {len} elements of {} bytes", size_of::<T>());
    Error::Emulator { what, text: why.to_string() }
}

/// The embedded module, parsed once in a process.
fn parsed(module: &'static Module) -> Result<Arc<ptx_emulator::Module>> {
    // By address: a module is static, so nothing else ever has it.
    static PARSED: Mutex<Option<HashMap<usize, Arc<ptx_emulator::Module>>>> = Mutex::new(None);
    let mut parsed = lock(&PARSED);
    let parsed = parsed.get_or_insert_default();
    let key = std::ptr::from_ref(module).addr();
    if let Some(here) = parsed.get(&key) {
        return Ok(here.clone());
    }
    let refused = |why: ptx_emulator::Error| Error::Emulator { what: module.unit.into(), text: why.to_string() };
    let here = Arc::new(ptx_emulator::Module::from_ptx(module.ptx).map_err(refused)?);
    parsed.insert(key, here.clone());
    Ok(here)
}

impl Launcher for &Emulator {
    fn ordinal(&self) -> u32 {
        self.ordinal
    }

    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<()> {
        let module = parsed(launch.module)?;
        let mut run = module
            .launch(launch.kernel)
            .grid(launch.grid)
            .block(launch.block)
            .shared_bytes(launch.shared_bytes)
            .bytes(launch.params)
            .checks(self.checks)
            .counters(self.counters)
            .mode(self.mode);
        if let Some(threads) = self.threads {
            run = run.threads(threads);
        }
        let refused = |why: ptx_emulator::Error| Error::Emulator { what: launch.kernel.into(), text: why.to_string() };
        let report = run.run(&self.device).map_err(refused)?;
        let findings = (!report.is_clean()).then(|| Error::Findings {
            kernel: launch.kernel,
            report: report.to_string(),
            mode: self.mode_name(),
        });
        let mut reports = lock(&self.reports);
        if reports.len() == MOST_REPORTS {
            reports.pop_front();
        }
        reports.push_back(report);
        findings.map_or(Ok(()), Err)
    }

    fn with_workspace(&self, plan: &Plan, run: &mut dyn FnMut(Workspace<'_, Device>) -> Result<()>) -> Result<()> {
        let mut workspace = self.alloc::<WorkspaceBlock>(plan.workspace_blocks())?;
        run(workspace.slice_mut())
    }
}

impl<'e> Board for &'e Emulator {
    type Buffer<T: Pod> = EmulatedBuffer<'e, T>;
    type Launcher = Self;

    fn room<T: Pod>(self, name: &str, len: usize) -> Result<EmulatedBuffer<'e, T>> {
        Ok(self.alloc(len)?.named(name))
    }

    fn copy<T: Pod>(self, name: &str, elements: &[T]) -> Result<EmulatedBuffer<'e, T>> {
        Ok(self.upload(elements)?.named(name))
    }

    fn gpu(self) -> Gpu<Self> {
        Gpu::new(self)
    }
}

impl<T: Pod> BoardBuffer<T> for EmulatedBuffer<'_, T> {
    fn slice(&self) -> Slice<'_, T, Device> {
        self.slice()
    }

    fn slice_mut(&mut self) -> SliceMut<'_, T, Device> {
        self.slice_mut()
    }

    fn download(&self) -> Result<Vec<T>> {
        self.download()
    }
}

/// Elements in the memory of an [`Emulator`], freed when dropped.
#[derive(Debug)]
pub struct EmulatedBuffer<'e, T: Pod> {
    emulator: &'e Emulator,
    memory: ptx_emulator::Buffer<T>,
}

impl<T: Pod> Drop for EmulatedBuffer<'_, T> {
    fn drop(&mut self) {
        // It is allocated: nobody else frees it.
        let _ = self.emulator.device.free(self.memory);
    }
}

impl<T: Pod> EmulatedBuffer<'_, T> {
    /// As reports know it: `report.bytes_loaded(buffer.raw())`.
    pub fn raw(&self) -> ptx_emulator::Buffer<T> {
        self.memory
    }

    /// The elements; those that nobody has written are all ones, which is a NaN.
    pub fn download(&self) -> Result<Vec<T>> {
        self.emulator.device.read(self.memory).map_err(|why| refused::<T>(self.memory.len(), &why))
    }

    /// Names the buffer in findings.
    pub fn named(self, name: &str) -> Self {
        // It is allocated, which is all that is asked for.
        let _ = self.emulator.device.name(self.memory, name);
        self
    }

    /// Forbids kernels these elements (gaps between rows, guard bands), or allows them again: to touch one is an error.
    pub fn forbid(&self, elements: Range<usize>, forbidden: bool) -> Result<()> {
        let part = self.part(elements)?;
        self.emulator.device.forbid(part, forbidden).map_err(|why| refused::<T>(part.len(), &why))
    }

    /// The elements as a device slice.
    pub fn slice(&self) -> Slice<'_, T, Device> {
        // SAFETY: the memory stays allocated as long as this buffer, which the slice borrows; launches have finished
        // when they return, and who writes has borrowed the buffer exclusively.
        unsafe { Slice::<T, Device>::from_raw_parts(self.memory.address(), self.memory.len(), self.emulator.ordinal) }
    }

    /// The elements as a device slice that is written.
    pub fn slice_mut(&mut self) -> SliceMut<'_, T, Device> {
        // SAFETY: as in `slice`; this borrows the buffer exclusively.
        unsafe {
            SliceMut::<T, Device>::from_raw_parts(self.memory.address(), self.memory.len(), self.emulator.ordinal)
        }
    }

    /// Some of the elements.
    fn part(&self, elements: Range<usize>) -> Result<ptx_emulator::Buffer<T>> {
        let len = elements.end.saturating_sub(elements.start);
        self.memory.slice(elements.start, len).map_err(|why| refused::<T>(self.memory.len(), &why))
    }

    /// A dense tensor over all elements, last dimension fastest.
    pub fn view<const N: usize>(&self, dims: [(&'static str, usize); N]) -> View<'_, T, Device> {
        View::from_parts(self.slice(), Axes::dense(dims))
    }

    /// A dense tensor over all elements, last dimension fastest, that is written.
    pub fn view_mut<const N: usize>(&mut self, dims: [(&'static str, usize); N]) -> ViewMut<'_, T, Device> {
        ViewMut::from_parts(self.slice_mut(), Axes::dense(dims))
    }

    /// A tensor of any strides over some of the elements.
    pub fn view_of(&self, elements: Range<usize>, axes: Axes) -> Result<View<'_, T, Device>> {
        let part = self.part(elements)?;
        // SAFETY: as in `slice`: a part of the memory.
        let slice = unsafe { Slice::<T, Device>::from_raw_parts(part.address(), part.len(), self.emulator.ordinal) };
        Ok(View::from_parts(slice, axes))
    }

    /// A tensor of any strides over some of the elements, that is written.
    pub fn view_mut_of(&mut self, elements: Range<usize>, axes: Axes) -> Result<ViewMut<'_, T, Device>> {
        let part = self.part(elements)?;
        // SAFETY: as in `slice_mut`: a part of the memory.
        let slice = unsafe { SliceMut::<T, Device>::from_raw_parts(part.address(), part.len(), self.emulator.ordinal) };
        Ok(ViewMut::from_parts(slice, axes))
    }
}
