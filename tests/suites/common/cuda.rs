//! The GPU backend on the first device of the CUDA driver, which may be the emulated one: every call copies its tensors
//! there and back.

use super::backends::Backend;
use super::buffer::Buffer;
use super::conv::{ConvBuffers, ConvCase, ConvGradients, ConvUpstream};
use super::conv_update::ConvUpdateCase;
use super::discretise::{DiscretiseBuffers, DiscretiseCase, GradientBuffers};
use super::scan::{ScanBuffers, ScanCase};
use super::scan_backward::{CarryCase, ScanGradients, ScanUpstream};
use super::state_update::{UpdateBuffers, UpdateCase};
use ssm_kernels::gpu::{Driver, Stream};
use ssm_kernels::prelude::*;
use ssm_kernels::{Element, Result};

/// The default stream of device 0.
pub struct CudaBackend {
    driver: Driver,
}

impl Backend for CudaBackend {
    const NAME: &'static str = "cuda";
    const PRIMITIVE_ULPS: f64 = 3.0;

    fn open() -> std::result::Result<Self, String> {
        Driver::open(0).map(|driver| Self { driver }).map_err(|why| why.to_string())
    }

    fn share(&self) -> u32 {
        if self.slow() { 8 } else { 1 }
    }

    fn slow(&self) -> bool {
        self.driver.info().is_emulated()
    }

    fn mode(&self) -> String {
        self.driver.info().name.clone()
    }

    crate::host_tensors!(self => self.driver.on(Stream::null()).on_host());
}
