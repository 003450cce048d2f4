//! Blocks of the selective scan that have all their channels: whole tiles and stretches have kernel code of their own.

#![allow(non_snake_case)]

use crate::common::backends::Backend;
use crate::common::backward_case::{ALL, How, check_case};
use crate::common::buffer::{Buffer, Order};
use crate::common::emulator::EmulatorBackend;
use crate::common::say;
use crate::common::scan::{ProjectionBuffer, ScanBuffers, ScanCase, ScanSpec};
use crate::common::scan_backward::{GRADIENTS, ScanGradients, ScanUpstream};
use crate::emulator_lanes::check_forward;
use ssm_kernels::{Dtype, Element};

/// Lanes of a channel, and channels of a block.
const BLOCKS: [(usize, usize); 5] = [(1, 128), (2, 128), (4, 64), (8, 32), (32, 8)];
const ORDERS: [Order; 5] =
    [Order::Dense, Order::Aligned, Order::ChannelLast, Order::AlignedChannelLast, Order::Strided(3)];

/// Blocks that have all their channels, and one that has not, in calls as models make them: whole tiles have code of their own. Rows
/// that are aligned and rows that are not.
fn whole_blocks<T: Element>() {
    let Ok(backend) = EmulatorBackend::open() else { return };
    let mut count = 0;
    for (lanes, channels) in BLOCKS {
        // With more lanes than two the 16-bit types differ in loads and stores alone.
        if T::DTYPE != Dtype::F32 && lanes > 2 {
            continue;
        }
        for order in ORDERS {
            for seqlen in [48, 43] {
                count += 1;
                let (z, dt_bias) = (count % 2 == 0, count % 3 != 0);
                let spec = ScanSpec { order, z, dt_bias, ..ScanSpec::all(1, channels + 8, 16, seqlen) };
                let case = ScanCase { lanes: Some(lanes), ..ScanCase::<T>::new(&spec) };
                check_forward(&backend, &spec, &case);
                // There is no kernel of two lanes backward.
                if lanes != 2 {
                    check_case(&backend, case, &spec, How { checkpoints: z, ..ALL });
                }
            }
        }
    }
    say(format_args!("whole blocks {}: {count} cases", T::DTYPE));
}

#[test]
fn whole_blocks_f32() {
    whole_blocks::<f32>();
}

#[test]
fn whole_blocks_f16() {
    whole_blocks::<half::f16>();
}

#[test]
fn whole_blocks_bf16() {
    whole_blocks::<half::bf16>();
}

/// The same case with its channels in two groups, which have equal B and C: no block has all its channels then.
fn halved<T: Element>(case: &ScanCase<T>, order: Order) -> ScanCase<T> {
    let twice = |of: &ProjectionBuffer<T>| {
        let ProjectionBuffer::Variable(of) = of else { return of.clone() };
        let dims: Vec<_> =
            of.dims().iter().map(|&(name, n)| (name, if name == "ngroups" { 2 * n } else { n })).collect();
        let a_batch = dims[1..].iter().map(|(_, n)| n).product::<usize>() / 2;
        let mut values =
            of.dense().chunks(a_batch.max(1)).flat_map(|batch| [batch, batch].concat()).collect::<Vec<_>>().into_iter();
        ProjectionBuffer::Variable(Buffer::filled(&dims, order, || values.next().expect("as many again") as f32))
    };
    ScanCase { B: twice(&case.B), C: twice(&case.C), ..case.clone() }
}

/// Bits of what does not sum over channels.
fn bits<T: Element>(backend: &EmulatorBackend, case: &ScanCase<T>, order: Order) -> Vec<(&'static str, Vec<u32>)> {
    let mut outputs = ScanBuffers::new(case, true, Some(16), order);
    backend.selective_scan_forward(case, &mut outputs).expect("a valid case runs");
    let mut all = vec![
        ("out", outputs.out().bits()),
        ("final_state", outputs.final_state.expect("asked").bits()),
        ("chunk_states", outputs.chunk_states.expect("asked").1.bits()),
    ];
    // There is no kernel of two lanes backward.
    if case.lanes != Some(2) {
        let upstream = ScanUpstream::new(case, true, true, order, 7);
        let mut gradients = ScanGradients::new(case, &GRADIENTS, order);
        backend.selective_scan_backward(case, &upstream, &mut gradients).expect("a valid case runs");
        let sums = |of: &ProjectionBuffer<T>| matches!(of, ProjectionBuffer::Variable(_));
        let over_channels = |name| name == "dB" && sums(&case.B) || name == "dC" && sums(&case.C);
        let each = GRADIENTS.into_iter().zip(gradients.each()).filter(|(name, _)| !over_channels(*name));
        all.extend(each.filter_map(|(name, got)| Some((name, got?.bits()))));
    }
    all
}

/// Calls with and without what the code of whole tiles and stretches does not ask for at each step.
fn variants(channels: usize) -> Vec<(ScanSpec, Option<usize>)> {
    let all = ScanSpec::all(1, channels, 16, 48);
    vec![
        (all.clone(), None),
        (ScanSpec { seqlen: 43, z: false, dt_bias: false, ..all.clone() }, None),
        (ScanSpec { batch: 2, D: false, ..all.clone() }, None),
        (ScanSpec { packed: Some(vec![16, 5, 0, 27]), ..all.clone() }, None),
        (ScanSpec { seqlen: 147, ..all.clone() }, Some(2)),
        (ScanSpec { dstate: 5, initial_state: false, ..all.clone() }, None),
        (ScanSpec { dstate: 37, ..all.clone() }, None),
        (ScanSpec { dt_limit: true, ..all.clone() }, None),
        (ScanSpec { dt_softplus: false, ..all.clone() }, None),
        (ScanSpec { reverse: true, ..all.clone() }, None),
        (ScanSpec { constant_B: true, ..all.clone() }, None),
        (ScanSpec { constant_C: true, ..all }, None),
    ]
}

/// What a block's channels give does not depend on how many there are beside them, to the bit.
fn whole_or_not<T: Element>() {
    let Ok(backend) = EmulatorBackend::open() else { return };
    let mut count = 0;
    for (lanes, channels) in BLOCKS {
        for (i, (spec, split)) in variants(channels).into_iter().enumerate() {
            for (j, order) in ORDERS.into_iter().enumerate() {
                // Every variant in some orders; every order with what is usual.
                if i > 1 && (i + j + lanes) % 3 != 0 {
                    continue;
                }
                count += 1;
                let spec = ScanSpec { order, ..spec.clone() };
                let case = ScanCase { lanes: Some(lanes), split, ..ScanCase::<T>::new(&spec) };
                let (whole, halves) = (bits(&backend, &case, order), bits(&backend, &halved(&case, order), order));
                for ((name, whole), (_, halves)) in whole.into_iter().zip(halves) {
                    assert!(whole == halves, "{name} of {lanes} lanes, split {split:?}, {spec:?}");
                }
            }
        }
    }
    say(format_args!("whole or not {}: {count} cases", T::DTYPE));
}

#[test]
fn whole_or_not_f32() {
    whole_or_not::<f32>();
}

#[test]
fn whole_or_not_f16() {
    whole_or_not::<half::f16>();
}

#[test]
fn whole_or_not_bf16() {
    whole_or_not::<half::bf16>();
}
