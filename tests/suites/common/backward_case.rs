//! One case of the selective scan backward: how it is run, and what it is held to.

use super::backends::{self, Backend};
use super::buffer::{Buffer, Order};
use super::scan::{ScanBuffers, ScanCase, ScanSpec};
use super::scan_backward::{GRADIENTS, NaiveScanBackward, ScanGradients, ScanUpstream};
use proptest::prelude::*;
use ssm_kernels::Element;

/// How a case is run backward.
#[derive(Debug, Clone, Copy)]
pub struct How {
    pub dout: bool,
    pub dfinal_state: bool,
    pub checkpoints: bool,
    pub split: Option<usize>,
}

pub const ALL: How = How { dout: true, dfinal_state: true, checkpoints: false, split: None };

pub fn how() -> impl Strategy<Value = How> {
    (any::<[bool; 3]>(), prop::option::of(1usize..4)).prop_map(|([dout, dfinal_state, checkpoints], split)| How {
        dout,
        dfinal_state,
        checkpoints,
        split,
    })
}

pub fn check<B: Backend, T: Element>(backend: &B, spec: &ScanSpec, how: How) {
    check_case(backend, ScanCase::<T>::new(spec), spec, how);
}

/// One case under the accuracy rule, all its gradients.
pub fn check_case<B: Backend, T: Element>(backend: &B, mut case: ScanCase<T>, spec: &ScanSpec, how: How) {
    case.split = how.split;
    let upstream = ScanUpstream::new(&case, how.dout, how.dfinal_state, spec.order, spec.seed ^ 1);
    let expected = NaiveScanBackward { case: &case, upstream: &upstream }.yardsticks();
    backends::in_modes(backend, &(spec, how), |backend, text| {
        let mut upstream = upstream.clone();
        if how.checkpoints {
            upstream.checkpoints = Some(saved(backend, &case, spec.order, text));
        }
        let mut gradients = ScanGradients::new(&case, &GRADIENTS, spec.order);
        let done = backend.selective_scan_backward(&case, &upstream, &mut gradients);
        done.unwrap_or_else(|error| panic!("a valid case runs: {error}\n{text}"));
        for ((name, got), expected) in GRADIENTS.into_iter().zip(gradients.each()).zip(&expected) {
            got.iter().for_each(|got| got.expect_accurate(&format!("{name}, {text}"), expected));
        }
    });
}

/// The states that forward saves for backward, which keep the rule too.
pub fn saved<B: Backend, T: Element>(
    backend: &B,
    case: &ScanCase<T>,
    order: Order,
    text: &str,
) -> (usize, Buffer<f32>) {
    let every = case.scan().and_then(|scan| scan.checkpoint_every()).expect("a valid case");
    let mut outputs = ScanBuffers::new(case, false, Some(every), order);
    backend.selective_scan_forward(case, &mut outputs).unwrap_or_else(|error| panic!("forward: {error}\n{text}"));
    outputs.chunk_states.expect("asked for")
}
