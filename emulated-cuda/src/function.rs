//! Attributes of kernels, and how many blocks of one a multiprocessor holds.

use crate::codes::{Code, Result};
use crate::device::{MOST_THREADS, limits};
use crate::edge::{Handle, Out, exports};
use crate::module::Function;
use crate::settings;
use crate::state::{State, lock};

/// Shared memory that a device keeps of each block.
const RESERVED_SHARED: usize = 1024;
/// Registers of a thread, as they are told: the emulation has no assembler that would know.
const REGISTERS: i32 = 32;

impl State {
    /// A kernel whose context takes work.
    pub(crate) fn function(&self, function: Handle) -> Result<&Function> {
        let found = self.functions.get(&function).ok_or(Code::INVALID_HANDLE)?;
        self.context(found.module.context)?;
        Ok(found)
    }
}

impl Function {
    pub(crate) fn most_threads(&self) -> usize {
        let required = self.info.required_block.map(|block| block.iter().map(|&extent| u64::from(extent)).product());
        required.or(self.info.most_threads).unwrap_or(1024).min(1024) as usize
    }

    /// An attribute (`CUfunction_attribute`).
    fn attribute(&self, which: i32) -> Result<i32> {
        let (major, minor) = settings::get().capability;
        Ok(match which {
            0 => self.most_threads() as i32,
            1 => self.info.shared_bytes as i32,
            3 => self.info.local_bytes as i32,
            4 => REGISTERS,
            5 => self.module.ptx_version,
            6 => 10 * major + minor,
            8 => self.dynamic_shared as i32,
            9 => -1,
            2 | 7 | 10..=15 => 0,
            _ => return Err(Code::INVALID_VALUE),
        })
    }

    /// Blocks of so many threads that a multiprocessor holds at once; registers are not counted.
    pub(crate) fn blocks(&self, threads: usize, dynamic_shared: usize) -> usize {
        if threads == 0 || threads > self.most_threads() || dynamic_shared > self.dynamic_shared {
            return 0;
        }
        let limits = limits();
        let shared = self.info.shared_bytes as usize + dynamic_shared + RESERVED_SHARED;
        (MOST_THREADS / threads.next_multiple_of(32)).min(limits.blocks).min(limits.shared / shared)
    }

    /// Blocks that may be tried: whole warps, and the largest.
    fn sizes(&self, most: usize) -> Vec<usize> {
        let largest = self.most_threads().min(if most == 0 { usize::MAX } else { most });
        (1..=largest.div_ceil(32)).map(|warps| (32 * warps).min(largest)).collect()
    }
}

fn set_attribute(function: Handle, which: i32, value: i32) -> Result<()> {
    let mut state = lock();
    let fixed = state.function(function)?.info.shared_bytes as usize;
    let found = state.functions.get_mut(&function).ok_or(Code::INVALID_HANDLE)?;
    match (which, usize::try_from(value)) {
        (8, Ok(value)) if value + fixed <= limits().shared_optin => found.dynamic_shared = value,
        (9, _) if (-1..=100).contains(&value) => {}
        (14 | 15, Ok(_)) => {}
        _ => return Err(Code::INVALID_VALUE),
    }
    Ok(())
}

fn occupancy(blocks: Out<i32>, function: Handle, threads: i32, shared: usize) -> Result<()> {
    let threads = usize::try_from(threads).ok().filter(|&threads| threads > 0).ok_or(Code::INVALID_VALUE)?;
    let state = lock();
    blocks.put(state.function(function)?.blocks(threads, shared) as i32)
}

/// The block that fills a multiprocessor best, the largest of several.
fn potential(grid: Out<i32>, block: Out<i32>, function: Handle, shared: (usize, usize), most: i32) -> Result<()> {
    let (callback, fixed) = shared;
    let most = usize::try_from(most).map_err(|_| Code::INVALID_VALUE)?;
    let sizes = lock().function(function)?.sizes(most);
    // The caller's function runs without the lock.
    let dynamic = |threads: usize| if callback == 0 { fixed } else { dynamic_shared(callback, threads) };
    let tried: Vec<(usize, usize)> = sizes.into_iter().map(|threads| (threads, dynamic(threads))).collect();
    let state = lock();
    let found = state.function(function)?;
    let all = tried.into_iter().map(|(threads, shared)| (threads, found.blocks(threads, shared)));
    // The last of several.
    let best = all.max_by_key(|(threads, blocks)| threads * blocks).filter(|best| best.1 > 0);
    let (threads, blocks) = best.ok_or(Code::INVALID_VALUE)?;
    grid.put((blocks * limits().multiprocessors) as i32)?;
    block.put(threads as i32)
}

/// The dynamic shared memory of a block, as the caller's function says.
fn dynamic_shared(callback: usize, threads: usize) -> usize {
    let function = std::ptr::with_exposed_provenance::<()>(callback);
    // SAFETY: the caller of cuOccupancyMaxPotentialBlockSize gave a function of this type; null was told apart before.
    let function = unsafe { std::mem::transmute::<*const (), extern "C" fn(i32) -> usize>(function) };
    function(threads as i32)
}

exports! {
    /// An attribute of a kernel.
    fn cuFuncGetAttribute(value: Out<i32>, which: i32, function: Handle) {
        let state = lock();
        value.put(state.function(function)?.attribute(which)?)
    }

    /// An attribute of a kernel: what dynamic shared memory it may have. Preferences have no effect.
    fn cuFuncSetAttribute(function: Handle, which: i32, value: i32) { set_attribute(function, which, value) }

    /// A preference without effect.
    fn cuFuncSetCacheConfig(function: Handle, _config: u32) { lock().function(function).map(drop) }

    /// A preference without effect.
    fn cuFuncSetSharedMemConfig(function: Handle, _config: u32) { lock().function(function).map(drop) }

    /// The module of a kernel.
    fn cuFuncGetModule(module: Out<Handle>, function: Handle) {
        let state = lock();
        module.put(state.function(function)?.module_handle)
    }

    /// Place and size of a parameter.
    fn cuFuncGetParamInfo(function: Handle, number: usize, offset: Out<usize>, bytes: Out<usize>) {
        let state = lock();
        let found = state.function(function)?.info.parameters.get(number).ok_or(Code::INVALID_VALUE)?;
        bytes.put_if_wanted(found.bytes as usize);
        offset.put(found.offset as usize)
    }

    /// Blocks of a kernel that a multiprocessor holds.
    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(blocks: Out<i32>, function: Handle, threads: i32, shared: usize) {
        occupancy(blocks, function, threads, shared)
    }

    /// The same.
    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        blocks: Out<i32>, function: Handle, threads: i32, shared: usize, _flags: u32
    ) {
        occupancy(blocks, function, threads, shared)
    }

    /// The block that fills a multiprocessor best, and the grid that fills a device.
    fn cuOccupancyMaxPotentialBlockSize(
        grid: Out<i32>, block: Out<i32>, function: Handle, callback: usize, shared: usize, most: i32
    ) {
        potential(grid, block, function, (callback, shared), most)
    }

    /// The same.
    fn cuOccupancyMaxPotentialBlockSizeWithFlags(
        grid: Out<i32>, block: Out<i32>, function: Handle, callback: usize, shared: usize, most: i32, _flags: u32
    ) {
        potential(grid, block, function, (callback, shared), most)
    }

    /// Dynamic shared memory of a block, if so many are to be held at once.
    fn cuOccupancyAvailableDynamicSMemPerBlock(bytes: Out<usize>, function: Handle, blocks: i32, threads: i32) {
        let state = lock();
        let found = state.function(function)?;
        if blocks < 1 || threads < 1 || found.blocks(threads as usize, 0) < blocks as usize {
            return Err(Code::INVALID_VALUE);
        }
        let each = limits().shared / blocks as usize - RESERVED_SHARED;
        let each = each.min(limits().shared_optin).saturating_sub(found.info.shared_bytes as usize);
        bytes.put(each)
    }
}
