//! The GPU backend on memory and a stream of the crate cust, on the first device, which may be the emulated one.

use super::backends::Backend;
use super::buffer::Buffer;
use super::conv::{ConvBuffers, ConvCase, ConvGradients, ConvUpstream};
use super::conv_update::ConvUpdateCase;
use super::discretise::{DiscretiseBuffers, DiscretiseCase, GradientBuffers};
use super::scan::{ScanBuffers, ScanCase};
use super::scan_backward::{CarryCase, ScanGradients, ScanUpstream};
use super::state_update::{UpdateBuffers, UpdateCase};
use cust::stream::{Stream, StreamFlags};
use ssm_kernels::gpu::{Driver, Gpu, OnCust};
use ssm_kernels::prelude::*;
use ssm_kernels::{Element, Result};

/// A stream of its own, in the primary context of device 0.
pub struct CustBackend {
    driver: Driver,
    stream: Stream,
    _context: cust::context::Context,
}

impl CustBackend {
    fn gpu(&self) -> Gpu<OnCust<'_>> {
        // SAFETY: the stream is one of the context that `quick_init` makes, the primary one.
        unsafe { self.driver.on_cust(&self.stream) }
    }
}

impl Backend for CustBackend {
    const NAME: &'static str = "cust";
    const PRIMITIVE_ULPS: f64 = 3.0;

    fn open() -> std::result::Result<Self, String> {
        let driver = Driver::open(0).map_err(|why| why.to_string())?;
        let context = cust::quick_init().map_err(|why| why.to_string())?;
        let stream = Stream::new(StreamFlags::NON_BLOCKING, None).map_err(|why| why.to_string())?;
        Ok(Self { driver, stream, _context: context })
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

    crate::host_tensors!(self => self.gpu().on_host());
}
