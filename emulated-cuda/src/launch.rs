//! Launches.

use crate::codes::{Code, Result};
use crate::device::limits;
use crate::edge::{Handle, In, exports};
use crate::module::Function;
use crate::queue::submit;
use crate::report;
use crate::state::{lock, memories};
use crate::work::{Kernel, Work, host_in};
use std::sync::Arc;

/// The emulator has so many blocks under way at once.
const RESIDENT: usize = 64;

/// `CUlaunchConfig`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Config {
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    stream: Handle,
    attributes: usize,
    count: u32,
}

/// `CUlaunchAttribute`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Attribute {
    id: u32,
    value: [u32; 17],
}

/// Where the arguments are: an address each, or all in one buffer.
#[derive(Clone, Copy, Debug)]
struct Arguments {
    each: In<usize>,
    extra: In<usize>,
}

impl Arguments {
    /// The bytes of each parameter, copied now.
    fn read(self, function: &Function) -> Result<Vec<Vec<u8>>> {
        let parameters = &function.info.parameters;
        match (self.each.is_null(), self.extra.is_null()) {
            (false, false) => Err(Code::INVALID_VALUE),
            (_, false) => self.buffer(function),
            (true, true) if parameters.is_empty() => Ok(Vec::new()),
            _ => {
                let read = |(at, bytes)| host_in(self.each.get(at)?).bytes(bytes);
                parameters.iter().map(|one| one.bytes as usize).enumerate().map(read).collect()
            }
        }
    }

    /// Pairs of a name and a value: 1 the buffer, 2 where its size is, 0 the end.
    fn buffer(self, function: &Function) -> Result<Vec<Vec<u8>>> {
        let (mut start, mut size) = (0, 0);
        for at in (0..8).step_by(2) {
            match self.extra.get(at)? {
                0 => break,
                1 => start = self.extra.get(at + 1)?,
                2 => size = In::from(std::ptr::with_exposed_provenance::<usize>(self.extra.get(at + 1)?)).get(0)?,
                _ => return Err(Code::INVALID_VALUE),
            }
        }
        let all = if size == 0 { Vec::new() } else { host_in(start).bytes(size)? };
        let cut = |offset: usize, bytes: usize| all.get(offset..offset + bytes).map(<[u8]>::to_vec);
        let parameters = function.info.parameters.iter();
        let cut = parameters.map(|one| cut(one.offset as usize, one.bytes as usize).ok_or(Code::INVALID_VALUE));
        cut.collect()
    }
}

/// Checks a launch as the driver does, and enqueues it.
fn launch(function: Handle, config: &Config, arguments: Arguments, cooperative: bool) -> Result<()> {
    let mut state = lock();
    let stream = state.stream_of(config.stream)?;
    let context = state.streams.get(&stream).map(|stream| stream.context);
    let found = state.function(function)?;
    if context != Some(found.module.context) {
        return Err(Code::INVALID_HANDLE);
    }
    let (threads, shared) =
        (config.block.iter().map(|&extent| extent as usize).product(), config.shared_bytes as usize);
    if shared > found.dynamic_shared {
        report::say(&format!(
            "{}: {shared} bytes of dynamic shared memory, of which it may have {} (cuFuncSetAttribute)",
            found.name, found.dynamic_shared
        ));
        return Err(Code::INVALID_VALUE);
    }
    let kernel = Kernel {
        module: found.module.clone(),
        name: found.name.clone(),
        grid: config.grid,
        block: config.block,
        shared_bytes: config.shared_bytes,
        arguments: arguments.read(found)?,
    };
    kernel.builder().check(&memories()[found.module.device]).map_err(|error| {
        report::say(&error.to_string());
        Code::INVALID_VALUE
    })?;
    let blocks: usize = config.grid.iter().map(|&extent| extent as usize).product();
    let room = found.blocks(threads, shared) * limits().multiprocessors;
    if cooperative && blocks > room.min(RESIDENT) {
        return Err(Code::COOPERATIVE_LAUNCH_TOO_LARGE);
    }
    submit(state, stream, Work::Kernel(Arc::new(kernel)))
}

/// What the attributes of a launch ask for: whether it is cooperative. Clusters are not emulated; hints are ignored.
fn cooperative(config: &Config) -> Result<bool> {
    let attributes = In::from(std::ptr::with_exposed_provenance::<Attribute>(config.attributes));
    let mut cooperative = false;
    for Attribute { id, value } in attributes_of(attributes, config.count)? {
        // The value begins at the second word after the number.
        let value = &value[1..];
        match id {
            2 => cooperative = value[0] != 0,
            4 if value[..3].iter().any(|&extent| extent > 1) => return Err(Code::NOT_SUPPORTED),
            0 | 1 | 3..=6 | 8..=10 | 14 => {}
            _ => return Err(Code::NOT_SUPPORTED),
        }
    }
    Ok(cooperative)
}

fn attributes_of(attributes: In<Attribute>, count: u32) -> Result<Vec<Attribute>> {
    if count == 0 { Ok(Vec::new()) } else { attributes.copy(count as usize) }
}

exports! {
    /// Enqueues a kernel.
    fn cuLaunchKernel(
        function: Handle, grid_x: u32, grid_y: u32, grid_z: u32, block_x: u32, block_y: u32, block_z: u32,
        shared_bytes: u32, stream: Handle, each: In<usize>, extra: In<usize>
    ) {
        let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        let config = Config { grid, block, shared_bytes, stream, attributes: 0, count: 0 };
        launch(function, &config, Arguments { each, extra }, false)
    }

    /// Enqueues a kernel whose blocks wait for each other.
    fn cuLaunchCooperativeKernel(
        function: Handle, grid_x: u32, grid_y: u32, grid_z: u32, block_x: u32, block_y: u32, block_z: u32,
        shared_bytes: u32, stream: Handle, each: In<usize>
    ) {
        let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        let config = Config { grid, block, shared_bytes, stream, attributes: 0, count: 0 };
        launch(function, &config, Arguments { each, extra: In::from(std::ptr::null()) }, true)
    }

    /// Enqueues a kernel with attributes.
    fn cuLaunchKernelEx(config: In<Config>, function: Handle, each: In<usize>, extra: In<usize>) {
        let config = config.get(0)?;
        launch(function, &config, Arguments { each, extra }, cooperative(&config)?)
    }

    /// Enqueues a function of the host. It may not call the driver.
    fn cuLaunchHostFunc(stream: Handle, function: usize, data: usize) {
        if function == 0 {
            return Err(Code::INVALID_VALUE);
        }
        let mut state = lock();
        let stream = state.stream_of(stream)?;
        submit(state, stream, Work::Host { function, data })
    }
}
