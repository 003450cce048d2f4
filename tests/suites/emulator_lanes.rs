//! The selective scan on the emulator with all lanes that it has kernels for, and as plans cut long sequences.

#![allow(non_snake_case)]

use crate::common::backends::{self, Backend};
use crate::common::backward_case::{ALL, How, check_case};
use crate::common::buffer::{Buffer, Order};
use crate::common::compare::expect_accurate;
use crate::common::emulator::EmulatorBackend;
use crate::common::say;
use crate::common::scan::{NaiveScan, ScanBuffers, ScanCase, ScanSpec};
use ssm_kernels::{Dtype, Element};

/// One case forward under the accuracy rule.
pub fn check_forward<T: Element>(backend: &EmulatorBackend, spec: &ScanSpec, case: &ScanCase<T>) {
    let every = Some(128);
    let expected = NaiveScan { case, every }.yardsticks();
    backends::in_modes(backend, &(spec, case.lanes, case.split), |backend, text| {
        let mut outputs = ScanBuffers::new(case, true, every, spec.order);
        let done = backend.selective_scan_forward(case, &mut outputs);
        done.unwrap_or_else(|error| panic!("a valid case runs: {error}\n{text}"));
        expect_accurate(&format!("out, {text}"), outputs.out(), &expected[0]);
        expect_accurate(&format!("final_state, {text}"), outputs.final_state.as_ref().expect("asked"), &expected[1]);
        expect_accurate(&format!("chunk_states, {text}"), &outputs.chunk_states.expect("asked").1, &expected[2]);
    });
}

/// States that fill their lanes, a part of them, or fewer than there are; whole, and in parts.
fn every_lane<T: Element>() {
    let Ok(backend) = EmulatorBackend::open() else { return };
    let mut count = 0;
    for lanes in [1, 2, 4, 8, 32] {
        // More channels than a block has.
        let many = if lanes > 4 { 35 } else { 70 };
        for (dstate, dim) in [(16, many), (3, 5), (8, 9), (20, 7)] {
            let parts = if dim > 10 { 2 } else { 3 };
            for (seqlen, split) in [(37, None), (128 * parts - 121, Some(parts))] {
                count += 1;
                // The 16-bit types differ in loads and stores alone.
                if T::DTYPE != Dtype::F32 && count % 3 != 0 {
                    continue;
                }
                let order = [Order::Dense, Order::ChannelLast][count % 2];
                let reverse = count / 2 % 2 == 0;
                let spec = ScanSpec { order, reverse, ..ScanSpec::all(1, dim, dstate, seqlen) };
                let case = ScanCase { lanes: Some(lanes), split, ..ScanCase::<T>::new(&spec) };
                check_forward(&backend, &spec, &case);
                // There is no kernel of two lanes backward.
                if lanes != 2 {
                    check_case(&backend, case, &spec, How { split, checkpoints: reverse, ..ALL });
                }
            }
        }
    }
    say(format_args!("every lane {}: {count} cases", T::DTYPE));
}

#[test]
fn every_lane_f32() {
    every_lane::<f32>();
}

#[test]
fn every_lane_bf16() {
    every_lane::<half::bf16>();
}

/// First tiles that have a part of their groups of four steps, several lanes and slabs, and all ways through them: states that
/// grow in some lanes (without softplus), and constant B and C.
#[test]
fn a_part_of_a_tile() {
    let Ok(backend) = EmulatorBackend::open() else { return };
    for dstate in [130, 520] {
        for (seqlen, reverse) in [(12, true), (3, false), (19, true)] {
            for (dt_softplus, constant_C) in [(true, false), (false, false), (true, true)] {
                let spec = ScanSpec { reverse, dt_softplus, constant_C, ..ScanSpec::all(1, 2, dstate, seqlen) };
                check_forward(&backend, &spec, &ScanCase::<half::bf16>::new(&spec));
                check_forward(&backend, &spec, &ScanCase::<f32>::new(&spec));
            }
        }
        // The first slab has a state that grows, the second has none.
        let spec = ScanSpec { reverse: true, ..ScanSpec::all(1, 2, dstate, 19) };
        let mut case = ScanCase::<half::bf16>::new(&spec);
        let mut rates = std::iter::once(0.5).chain(std::iter::repeat(-1.0));
        case.A = Buffer::filled(&[("dim", 2), ("dstate", dstate)], Order::Dense, || rates.next().expect("one each"));
        check_forward(&backend, &spec, &case);
    }
}

/// Sequences that plans cut by themselves, the longest of a packing too.
#[test]
fn long_sequences() {
    let Ok(backend) = EmulatorBackend::open() else { return };
    for (batch, packed) in [(2, None), (1, Some(vec![8200, 3, 0, 1000]))] {
        let seqlen = packed.as_ref().map_or(8200, |lengths| lengths.iter().sum());
        let spec = ScanSpec { packed, ..ScanSpec::all(batch, 2, 3, seqlen) };
        check_forward(&backend, &spec, &ScanCase::<f32>::new(&spec));
    }
    // Backward whole batches are cut in `selective_scan_backward_edges`.
    let spec = ScanSpec { packed: Some(vec![5, 1400, 0, 700]), ..ScanSpec::all(1, 2, 3, 2105) };
    check_case(&backend, ScanCase::<f32>::new(&spec), &spec, ALL);
}
