//! Launches a kernel with cust, waits for it, and then makes it write beyond its memory.

use cust::error::CudaError;
use cust::event::{Event, EventFlags};
use cust::memory::{AsyncCopyDestination, LockedBuffer};
use cust::prelude::*;
use std::error::Error;

const PTX: &str = include_str!("../../kernels.ptx");

fn main() -> Result<(), Box<dyn Error>> {
    let context = cust::quick_init()?;
    let device = Device::get_device(0)?;
    println!("{} of {}", device.name()?, Device::num_devices()?);
    let module = Module::from_ptx(PTX, &[])?;
    let add = module.get_function("add")?;
    let (_, block) = add.suggested_launch_configuration(0, 0.into())?;
    let stream = Stream::new(StreamFlags::NON_BLOCKING, None)?;

    let from = DeviceBuffer::from_slice(&[1u32, 2, 3, 4, 5, 6, 7, 8])?;
    let to = DeviceBuffer::from_slice(&[0u32; 8])?;
    let done = Event::new(EventFlags::DEFAULT)?;
    // SAFETY: the kernel's parameters, and eight elements of each buffer.
    unsafe { launch!(add<<<1, block, 0, stream>>>(to.as_device_ptr(), from.as_device_ptr(), 10u32, 8u32))? };
    done.record(&stream)?;
    let mut words = LockedBuffer::new(&0u32, 8)?;
    // SAFETY: both outlive the wait.
    unsafe { to.async_copy_to(&mut words, &stream)? };
    println!("before {:?}", &words[..]);
    stream.synchronize()?;
    println!("after {:?}", &words[..]);
    done.synchronize()?;

    let short = DeviceBuffer::from_slice(&[0u32; 4])?;
    // SAFETY: none: the emulation is to tell.
    unsafe { launch!(add<<<1, 32, 0, stream>>>(short.as_device_ptr(), from.as_device_ptr(), 10u32, 8u32))? };
    println!("beyond {:?}", stream.synchronize());
    assert_eq!(stream.synchronize(), Err(CudaError::IllegalAddress));
    // Their destructors would be told of the lost context.
    std::mem::forget((from, to, short, words, done, stream, module));
    drop(context);
    Ok(())
}
