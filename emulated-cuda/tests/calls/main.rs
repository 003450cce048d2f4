//! The functions of the driver, called in this process, one test at a time: they share what a process has.

#![allow(missing_docs)]

mod capture;
mod context;
mod copies;
mod edge;
mod errors;
mod launch;
mod memory;
mod module;
mod orders;
mod stream;

use emulated_cuda::context::{cuCtxCreate_v2, cuCtxDestroy_v2};
use emulated_cuda::copy::{cuMemcpyDtoH_v2, cuMemcpyHtoD_v2};
use emulated_cuda::edge::{Handle, In};
use emulated_cuda::init::{cuInit, emulatedCudaCounter};
use emulated_cuda::launch::cuLaunchKernel;
use emulated_cuda::memory::cuMemAlloc_v2;
use emulated_cuda::module::{cuModuleGetFunction, cuModuleLoadData};
use std::ffi::CString;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub const PTX: &str = include_str!("../kernels.ptx");

/// Calls a function of the driver and expects success.
macro_rules! ok {
    ($function:ident($($arg:expr),* $(,)?)) => {
        assert_eq!(crate::code!($function($($arg),*)), 0, stringify!($function))
    };
}
/// Calls a function of the driver and gives its code.
macro_rules! code {
    ($function:ident($($arg:expr),* $(,)?)) => {
        // SAFETY: pointers are null, or to what lives during the call; what runs late gets pinned memory that outlives it.
        unsafe { $function($($arg),*) }
    };
}
pub(crate) use {code, ok};

/// A context of one's own while no other test runs.
pub struct Alone {
    pub context: Handle,
    in_use: u64,
    _alone: MutexGuard<'static, ()>,
}

impl Alone {
    pub fn enter() -> Self {
        static ONE: Mutex<()> = Mutex::new(());
        let alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        ok!(cuInit(0));
        let mut context = 0;
        ok!(cuCtxCreate_v2((&mut context).into(), 0, 0));
        // A test that failed may have left something.
        Self { context, in_use: counter("bytes_in_use"), _alone: alone }
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let _ = code!(cuCtxDestroy_v2(self.context));
        if !std::thread::panicking() {
            assert_eq!(counter("bytes_in_use"), self.in_use, "a destroyed context leaves nothing");
        }
    }
}

pub fn counter(name: &str) -> u64 {
    let name = CString::new(name).unwrap();
    // SAFETY: a text that ends in NUL.
    unsafe { emulatedCudaCounter(In::from(name.as_ptr())) }
}

pub fn alloc(bytes: usize) -> u64 {
    let mut address = 0;
    ok!(cuMemAlloc_v2((&mut address).into(), bytes));
    address
}

pub fn upload(words: &[u32]) -> u64 {
    let address = alloc(4 * words.len());
    ok!(cuMemcpyHtoD_v2(address, words.as_ptr().expose_provenance(), 4 * words.len()));
    address
}

pub fn download(address: u64, count: usize) -> Vec<u32> {
    let mut words = vec![0u32; count];
    ok!(cuMemcpyDtoH_v2(words.as_mut_ptr().expose_provenance(), address, 4 * count));
    words
}

pub fn load(ptx: &str) -> Handle {
    let (text, mut module) = (CString::new(ptx).unwrap(), 0);
    ok!(cuModuleLoadData((&mut module).into(), In::from(text.as_ptr().cast::<u8>())));
    module
}

pub fn function(module: Handle, name: &str) -> Handle {
    let (name, mut function) = (CString::new(name).unwrap(), 0);
    ok!(cuModuleGetFunction((&mut function).into(), module, In::from(name.as_ptr())));
    function
}

pub fn kernel(name: &str) -> Handle {
    function(load(PTX), name)
}

/// Launches one block, with arguments as their bytes.
pub fn launch(function: Handle, threads: u32, shared: u32, stream: Handle, arguments: &[&[u8]]) -> i32 {
    let places: Vec<usize> = arguments.iter().map(|bytes| bytes.as_ptr().expose_provenance()).collect();
    let (each, none) = (In::from(places.as_ptr()), In::from(std::ptr::null()));
    code!(cuLaunchKernel(function, 1, 1, 1, threads, 1, 1, shared, stream, each, none))
}

/// `to[i] = from[i] + more` for eight words.
pub fn add(function: Handle, to: u64, from: u64, more: u32, stream: Handle) {
    let count = 8u32;
    let arguments: [&[u8]; 4] = [&to.to_ne_bytes(), &from.to_ne_bytes(), &more.to_ne_bytes(), &count.to_ne_bytes()];
    assert_eq!(launch(function, 32, 0, stream, &arguments), 0);
}
