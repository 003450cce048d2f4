//! The emulator's memory: each element, or run of elements, is an allocation of its own, and these are 4 GiB apart.

use crate::calls::{carry, convolution, decode, discretisation, scan};
use crate::tensors::{Memory, Tensors};
use crate::{CASES, Extents, SMALL, expect_same};
use half::{bf16, f16};
use ssm_kernels::gpu::{EmulatedBuffer, Emulator, Gpu};
use ssm_kernels::{Axes, Device, Element, Result, Slice, SliceMut, View, ViewMut};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Bytes from one allocation to the next.
const APART: usize = 1 << 32;

struct Emulated<'e> {
    emulator: &'e Emulator,
    buffers: RefCell<BTreeMap<u64, EmulatedBuffer<'e, u8>>>,
}

impl<'e> Emulated<'e> {
    fn new(emulator: &'e Emulator) -> Self {
        Self { emulator, buffers: RefCell::default() }
    }

    /// Elements in an allocation's addresses.
    fn run<T>() -> usize {
        APART / size_of::<T>()
    }

    fn ordinal(&self) -> u32 {
        self.buffers.borrow().values().find_map(|buffer| buffer.slice().ordinal()).expect("some memory")
    }
}

impl Memory for Emulated<'_> {
    type S = Device;

    fn distance(&self, apart: usize, bytes: usize) -> usize {
        apart.next_multiple_of(APART / bytes)
    }

    fn lay<T: Element>(&self, offsets: &[usize], values: Option<&[T]>) -> u64 {
        let mut runs: BTreeMap<usize, Vec<T>> = BTreeMap::new();
        for (i, offset) in offsets.iter().enumerate() {
            let (run, at) = (offset / Self::run::<T>(), offset % Self::run::<T>());
            let run = runs.entry(run).or_default();
            run.resize(run.len().max(at + 1), T::from_f32(0.0));
            run[at] = values.map_or(run[at], |values| values[i]);
        }
        let (mut buffers, mut start) = (self.buffers.borrow_mut(), None);
        for number in 0..=*runs.last_key_value().expect("some elements").0 {
            let bytes: &[u8] = runs.get(&number).map_or(&[], |run| bytemuck::cast_slice(run));
            let buffer = match values {
                Some(_) => self.emulator.upload(bytes),
                None => self.emulator.alloc(bytes.len()),
            };
            let buffer = buffer.expect("memory");
            let address = buffer.raw().address();
            let expected = *start.get_or_insert(address) + (number * APART) as u64;
            assert_eq!(address, expected, "allocations are {APART} bytes apart");
            buffers.insert(address, buffer);
        }
        start.expect("some elements")
    }

    fn read<T: Element>(&self, start: u64, offsets: &[usize]) -> Vec<T> {
        let buffers = self.buffers.borrow();
        let mut last: Option<(u64, Vec<u8>)> = None;
        let element = |&offset: &usize| {
            let (run, at) = (offset / Self::run::<T>(), size_of::<T>() * (offset % Self::run::<T>()));
            let address = start + (run * APART) as u64;
            let bytes = match last.take() {
                Some((of, bytes)) if of == address => bytes,
                _ => buffers[&address].download().expect("memory"),
            };
            let value = bytemuck::pod_read_unaligned(&bytes[at..at + size_of::<T>()]);
            last = Some((address, bytes));
            value
        };
        offsets.iter().map(element).collect()
    }

    fn view<T: Element>(&self, start: u64, elements: usize, axes: Axes) -> View<'static, T, Device> {
        // SAFETY: the elements that the axes reach are allocated, and outlive the call; nothing writes them meanwhile.
        View::from_parts(unsafe { Slice::<T, Device>::from_raw_parts(start, elements, self.ordinal()) }, axes)
    }

    fn view_mut<T: Element>(&self, start: u64, elements: usize, axes: Axes) -> ViewMut<'static, T, Device> {
        // SAFETY: as above, and this is their one view.
        ViewMut::from_parts(unsafe { SliceMut::<T, Device>::from_raw_parts(start, elements, self.ordinal()) }, axes)
    }
}

/// An operator's calls on a device.
type Call<'c> = dyn Fn(&Gpu<&Emulator>, &Tensors<Emulated<'_>>, Extents) -> Result<()> + 'c;

/// Of the longer cases, fewer channels and steps than on the host.
fn on_the_emulator(name: &str, run: &Call<'_>) {
    for (dense, n) in CASES {
        let n = Extents { dim: n.dim.min(5), seqlen: n.seqlen.min(9), ..SMALL };
        for apart in [(1 << 31) + 1, (1 << 32) + 1] {
            let emulator = Emulator::new();
            let run = |tensors: &Tensors<_>, n| run(&emulator.gpu(), tensors, n);
            expect_same(name, (dense, n), apart, || Emulated::new(&emulator), &run);
        }
    }
}

#[test]
fn scans_on_the_emulator() {
    on_the_emulator("selective_scan f32", &|gpu, tensors, n| scan::<_, f32, _, _>(gpu, tensors, n, 1));
    on_the_emulator("selective_scan f16", &|gpu, tensors, n| scan::<_, f16, _, _>(gpu, tensors, n, 2));
}

#[test]
fn carries_on_the_emulator() {
    on_the_emulator("selective_scan_carry", &|gpu, tensors, n| carry(gpu, tensors, n));
}

#[test]
fn state_updates_on_the_emulator() {
    on_the_emulator("state_update f32", &|gpu, tensors, n| decode::<_, f32, f32, _, _>(gpu, tensors, n));
    on_the_emulator("state_update bf16", &|gpu, tensors, n| decode::<_, bf16, f16, _, _>(gpu, tensors, n));
}

#[test]
fn discretisations_on_the_emulator() {
    on_the_emulator("discretise f32", &|gpu, tensors, n| discretisation::<_, f32, _, _>(gpu, tensors, n));
    on_the_emulator("discretise bf16", &|gpu, tensors, n| discretisation::<_, bf16, _, _>(gpu, tensors, n));
}

#[test]
fn convolutions_on_the_emulator() {
    on_the_emulator("causal_conv1d f32", &|gpu, tensors, n| convolution::<_, f32, f32, _, _>(gpu, tensors, n));
    on_the_emulator("causal_conv1d bf16", &|gpu, tensors, n| convolution::<_, bf16, f32, _, _>(gpu, tensors, n));
}
