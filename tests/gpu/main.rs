//! The launch glue: which kernel, which blocks, which parameters. A launcher that only writes down stands for the device.

#![cfg(feature = "cuda")]
#![allow(non_snake_case)]

mod causal_conv1d;
mod discretise;
#[allow(dead_code, non_camel_case_types, unused_imports)]
#[rustfmt::skip]
#[path = "../../kernels-rs/params.rs"]
mod params;
mod selective_scan;
mod selective_scan_backward;
mod state_update;

use ssm_kernels::gpu::{Driver, Gpu, Launch, Launcher, MODULES, devices};
use ssm_kernels::ops::Workspace;
use ssm_kernels::prelude::*;
use ssm_kernels::{Axes, Device, Error, Result, Slice, SliceMut};
use std::cell::RefCell;

/// What was launched: kernel, grid, block, parameters.
type Call = (String, [u32; 3], [u32; 3], Vec<u8>);

/// Writes launches down. Device 3.
#[derive(Default)]
struct Recorder(RefCell<Vec<Call>>);

impl Launcher for &Recorder {
    fn ordinal(&self) -> u32 {
        3
    }
    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<()> {
        assert!(launch.module.entries.contains(&launch.kernel), "{} in {}", launch.kernel, launch.module.unit);
        assert!(launch.shared_bytes <= 99 << 10, "{} of {}", launch.shared_bytes, launch.kernel);
        self.0.borrow_mut().push((launch.kernel.into(), launch.grid, launch.block, launch.params.to_vec()));
        Ok(())
    }
    fn with_workspace(&self, plan: &Plan, run: &mut dyn FnMut(Workspace<'_, Device>) -> Result<()>) -> Result<()> {
        // SAFETY: nothing is read or written.
        run(unsafe { SliceMut::from_raw_parts(WORKSPACE, plan.workspace_blocks(), 3) })
    }
}

/// Addresses that are far apart.
const fn at(n: u64) -> u64 {
    n << 40
}

const WORKSPACE: u64 = at(7);

impl Recorder {
    fn gpu(&self) -> Gpu<&Self> {
        Gpu::new(self)
    }

    /// The only launch, its parameters as `P`.
    fn only<P: Copy>(&self) -> (String, [u32; 3], [u32; 3], P) {
        assert_eq!(self.0.borrow().len(), 1);
        self.first()
    }

    /// The first launch that has not been looked at, its parameters as `P`.
    fn first<P: Copy>(&self) -> (String, [u32; 3], [u32; 3], P) {
        let (kernel, grid, block, bytes) = self.0.borrow_mut().remove(0);
        assert_eq!(bytes.len(), size_of::<P>());
        // SAFETY: the bytes are those of a `P`, a plain struct.
        (kernel, grid, block, unsafe { bytes.as_ptr().cast::<P>().read_unaligned() })
    }
}

fn view_on<T, const N: usize>(device: u32, address: u64, dims: [(&'static str, usize); N]) -> View<'static, T, Device> {
    let elements = dims.iter().map(|dim| dim.1).product();
    // SAFETY: nothing is read or written.
    View::from_parts(unsafe { Slice::<T, Device>::from_raw_parts(address, elements, device) }, Axes::dense(dims))
}

fn view<T, const N: usize>(address: u64, dims: [(&'static str, usize); N]) -> View<'static, T, Device> {
    view_on(3, address, dims)
}

fn view_mut<T, const N: usize>(address: u64, dims: [(&'static str, usize); N]) -> ViewMut<'static, T, Device> {
    let elements = dims.iter().map(|dim| dim.1).product();
    // SAFETY: nothing is read or written.
    ViewMut::from_parts(unsafe { SliceMut::<T, Device>::from_raw_parts(address, elements, 3) }, Axes::dense(dims))
}
#[test]
fn every_entry_is_named_after_its_unit() {
    assert_eq!(MODULES.len(), 29);
    for module in MODULES {
        assert!(!module.entries.is_empty(), "{}", module.unit);
        for entry in module.entries {
            assert!(entry.starts_with(module.unit), "{entry} in {}", module.unit);
            assert!(module.ptx.contains(&format!(".entry {entry}(")), "{entry} in {}", module.unit);
        }
    }
}

/// On any machine: devices, or an error that says what is missing; never a panic.
#[test]
fn the_driver_or_its_absence() {
    match devices() {
        Ok(list) => {
            let count = list.len() as u32;
            let beyond = Driver::open(count).expect_err("no such device");
            assert_eq!(beyond, Error::NoDevice { ordinal: count, count });
        }
        Err(why) => {
            assert_eq!(Driver::open(0).expect_err("no driver"), why);
            println!("no GPU here: {why}");
        }
    }
}
