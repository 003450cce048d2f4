//! The tensors of a case, on the host and on a device.

use crate::cuda::Cuda;
use ssm_kernels::{Device, Host, Slice, SliceMut};

/// Tensors by number: name, elements. Those from `computed` on are results.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub tensors: &'static [(&'static str, usize)],
    pub computed: usize,
}

impl Case {
    /// Values of a tensor; A is negative.
    pub fn values(self, tensor: usize, seed: f32) -> Vec<f32> {
        let (name, count) = self.tensors[tensor];
        let wave = |i: usize| (i as f32 * 0.37 + tensor as f32 + seed).sin();
        (0..count).map(|i| if name == "A" { -1.5 - wave(i) } else { wave(i) }).collect()
    }
}

/// On the host, for ever.
pub struct OnHost {
    case: Case,
    all: Vec<*mut f32>,
}

impl OnHost {
    pub fn new(case: Case, seed: f32) -> Self {
        let all = (0..case.tensors.len()).map(|tensor| case.values(tensor, seed).leak().as_mut_ptr()).collect();
        Self { case, all }
    }

    pub fn at(&self, tensor: usize) -> Slice<'static, f32, Host> {
        self.values(tensor).into()
    }

    pub fn at_mut(&self, tensor: usize) -> SliceMut<'static, f32, Host> {
        // SAFETY: leaked, so valid for ever; a call never gets one tensor both as input and as output.
        unsafe { std::slice::from_raw_parts_mut(self.all[tensor], self.case.tensors[tensor].1) }.into()
    }

    /// Fails unless what was computed is what another has.
    pub fn check(&self, expected: &Self) {
        for tensor in self.case.computed..self.case.tensors.len() {
            compare(self.case.tensors[tensor].0, self.values(tensor), expected.values(tensor));
        }
    }

    /// What is there now.
    pub fn values(&self, tensor: usize) -> &'static [f32] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts(self.all[tensor].cast_const(), self.case.tensors[tensor].1) }
    }
}

/// Fails unless a tensor is what is expected of it.
pub fn compare(name: &str, got: &[f32], expected: &[f32]) {
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let near = (got - expected).abs() <= 2e-5 * (1.0 + expected.abs());
        assert!(near, "{name}[{i}] is {got}, expected {expected}");
    }
}

/// On a device; results are what nobody has written.
pub struct OnDevice<'c> {
    cuda: &'c Cuda,
    ordinal: u32,
    case: Case,
    addresses: Vec<u64>,
}

impl<'c> OnDevice<'c> {
    /// On this device, whose context is current.
    pub fn new(cuda: &'c Cuda, ordinal: u32, case: Case, seed: f32) -> Self {
        let addresses = case.tensors.iter().map(|(_, count)| cuda.alloc(4 * count)).collect();
        let tensors = Self { cuda, ordinal, case, addresses };
        tensors.refill(seed);
        tensors
    }

    /// Writes all that is not computed.
    pub fn refill(&self, seed: f32) {
        for tensor in 0..self.case.computed {
            self.cuda.write(self.addresses[tensor], &self.case.values(tensor, seed));
        }
        // Copies are made on the default stream, for which other streams need not wait.
        self.cuda.synchronise(0);
    }

    pub fn at(&self, tensor: usize) -> Slice<'static, f32, Device> {
        let count = self.case.tensors[tensor].1;
        // SAFETY: allocated for so many elements, on this device; freed after the last wait.
        unsafe { Slice::from_raw_parts(self.addresses[tensor], count, self.ordinal) }
    }

    pub fn at_mut(&self, tensor: usize) -> SliceMut<'static, f32, Device> {
        let count = self.case.tensors[tensor].1;
        // SAFETY: as above; a call never gets one tensor both as input and as output.
        unsafe { SliceMut::from_raw_parts(self.addresses[tensor], count, self.ordinal) }
    }

    /// Fails unless what was computed is what the host has.
    pub fn check(&self, expected: &OnHost) {
        for tensor in self.case.computed..self.case.tensors.len() {
            let (name, count) = self.case.tensors[tensor];
            compare(name, &self.cuda.read(self.addresses[tensor], count), expected.values(tensor));
        }
    }
}

impl Drop for OnDevice<'_> {
    fn drop(&mut self) {
        self.addresses.iter().for_each(|&address| self.cuda.free(address));
    }
}
