//! What the tests call of the driver by themselves: memory, a stream, a graph.

use libloading::Library;
use std::ffi::CString;

/// The library of the driver, with the primary context of a device current on this thread.
pub struct Cuda(Library);

macro_rules! call {
    ($cuda:expr, $name:literal($($arg:expr => $type:ty),*)) => {{
        type Function = unsafe extern "C" fn($($type),*) -> i32;
        // SAFETY: the driver's function of this name takes these; pointers live during the call.
        let code = unsafe { ($cuda.0.get::<Function>($name.as_bytes()).expect($name))($($arg),*) };
        assert_eq!(code, 0, $name);
    }};
}

impl Cuda {
    pub fn load(ordinal: u32) -> Self {
        // SAFETY: the driver's library may be loaded at any time.
        let cuda = Self(unsafe { Library::new("libcuda.so.1") }.expect("the driver, or the emulated one"));
        let mut context = 0;
        call!(cuda, "cuInit"(0 => u32));
        call!(cuda, "cuDevicePrimaryCtxRetain"(&mut context => &mut usize, ordinal as i32 => i32));
        call!(cuda, "cuCtxSetCurrent"(context => usize));
        cuda
    }

    pub fn alloc(&self, bytes: usize) -> u64 {
        let mut address = 0;
        call!(self, "cuMemAlloc_v2"(&mut address => &mut u64, bytes => usize));
        address
    }

    pub fn free(&self, address: u64) {
        call!(self, "cuMemFree_v2"(address => u64));
    }

    pub fn write(&self, address: u64, values: &[f32]) {
        call!(self, "cuMemcpyHtoD_v2"(address => u64, values.as_ptr() => *const f32, size_of_val(values) => usize));
    }

    pub fn read(&self, address: u64, count: usize) -> Vec<f32> {
        let mut values = vec![f32::NAN; count];
        call!(self, "cuMemcpyDtoH_v2"(values.as_mut_ptr() => *mut f32, address => u64, 4 * count => usize));
        values
    }

    /// A stream that does not wait for the default one.
    pub fn stream(&self) -> usize {
        let mut stream = 0;
        call!(self, "cuStreamCreate"(&mut stream => &mut usize, 1 => u32));
        stream
    }

    pub fn synchronise(&self, stream: usize) {
        call!(self, "cuStreamSynchronize"(stream => usize));
    }

    /// What is enqueued meanwhile, as a graph that can be launched, and the number of its nodes.
    pub fn capture(&self, stream: usize, enqueue: impl FnOnce()) -> (usize, usize) {
        let (mut graph, mut exec, mut nodes) = (0, 0, 0);
        call!(self, "cuStreamBeginCapture_v2"(stream => usize, 0 => u32));
        enqueue();
        call!(self, "cuStreamEndCapture"(stream => usize, &mut graph => &mut usize));
        call!(self, "cuGraphGetNodes"(graph => usize, 0 => usize, &mut nodes => &mut usize));
        call!(self, "cuGraphInstantiateWithFlags"(&mut exec => &mut usize, graph => usize, 0 => u64));
        (exec, nodes)
    }

    pub fn launch(&self, graph: usize, stream: usize) {
        call!(self, "cuGraphLaunch"(graph => usize, stream => usize));
    }

    /// A counter of the emulated driver; 0 of another one, which has none.
    pub fn counter(&self, name: &str) -> u64 {
        let name = CString::new(name).expect("a name");
        type Function = unsafe extern "C" fn(*const std::ffi::c_char) -> u64;
        // SAFETY: only the emulated library has a function of this name; the text lives during the call.
        unsafe { self.0.get::<Function>(b"emulatedCudaCounter").map_or(0, |counter| counter(name.as_ptr())) }
    }
}
