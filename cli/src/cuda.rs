//! Devices of the CUDA driver.

use crate::error::CliError;
use ssm_kernels::Result;
use ssm_kernels::gpu::{Driver, Gpu, OnStream, Stream};

/// Device `ordinal`, or the first.
pub fn open(ordinal: Option<u32>) -> Result<Driver> {
    Driver::open(ordinal.unwrap_or(0))
}

/// Its default stream.
pub fn on_stream(ordinal: Option<u32>) -> Result<Gpu<OnStream>> {
    Ok(open(ordinal)?.on(Stream::null()))
}

/// --device is refused where no backend has devices.
pub fn check_device(ordinal: Option<u32>, asked: bool) -> crate::error::Result<()> {
    match ordinal {
        Some(_) if !asked => Err(CliError::new("--device is for --backend cuda only")),
        _ => Ok(()),
    }
}
