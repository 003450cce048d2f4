//! The selective scan backward, split and not, and the carry pass: every backend against the naive loops.
#![allow(non_snake_case)]

use crate::common::backends::{self, Backend};
use crate::common::backward_case::{ALL, How, check, check_case, how, saved};
use crate::common::buffer::{Buffer, Order};
use crate::common::compare::expect_accurate;
use crate::common::differences::{Gradients, coarse, loss};
use crate::common::random::Random;
use crate::common::scan::{NaiveScan, ProjectionBuffer, ScanBuffers, ScanCase, ScanSpec, order};
use crate::common::scan_backward::{CarryCase, GRADIENTS, NaiveScanBackward, ScanGradients, ScanUpstream, spec};
use crate::common::{property, say, shared_property};
use proptest::prelude::*;
use ssm_kernels::prelude::*;
use ssm_kernels::reference::accuracy::{Loop, Yardstick};
use ssm_kernels::{Dtype, Element};

fn drawn<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let label = format!("selective_scan backward {} {}", B::NAME, T::DTYPE);
    shared_property(file!(), &label, 192, backend.share(), (spec(), how()), |(spec, how)| {
        check::<B, T>(&backend, &spec, how);
    });
}

/// Lengths around the borders of windows and parts, in every memory order, either way.
fn lengths<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let mut count = 0;
    for seqlen in [0, 1, 2, 7, 31, 33, 64, 127, 128, 129, 255, 256, 257, 384, 509] {
        for (i, order) in [Order::Dense, Order::ChannelLast, Order::Strided(seqlen as u64)].into_iter().enumerate() {
            for (split, checkpoints) in [(None, false), (None, true), (Some(2), i == 0), (Some(3), i != 0)] {
                // On a slow backend the 16-bit types, which differ in loads and stores alone, take every fourth turn.
                if backend.slow() && T::DTYPE != Dtype::F32 && (seqlen + i + split.unwrap_or(0)) % 4 != 0 {
                    continue;
                }
                let spec = ScanSpec { order, reverse: i == 1, ..ScanSpec::all(2, 3, 4, seqlen) };
                check::<B, T>(&backend, &spec, How { checkpoints, split, ..ALL });
                let spec = ScanSpec { order, reverse: i == 1, ..ScanSpec::plain(1, 2, 3, seqlen) };
                check::<B, T>(&backend, &spec, How { dfinal_state: i == 2, checkpoints, split, ..ALL });
                count += 2;
            }
        }
    }
    say(format_args!("selective_scan backward lengths {} {}: {count} cases", B::NAME, T::DTYPE));
}

/// Every dstate, group and tile of channels that a window, a lane or a sum might trip over, 0 included.
fn shapes<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let mut count = 0;
    for dstate in [0, 1, 2, 15, 16, 17, 31, 33, 40, 64, 300, 513] {
        for dim in [1, 3] {
            let spec = ScanSpec::all(2, dim, dstate, 19);
            check::<B, T>(&backend, &spec, ALL);
            check::<B, T>(&backend, &ScanSpec { constant_B: true, order: Order::ChannelLast, ..spec.clone() }, ALL);
            check::<B, T>(&backend, &ScanSpec { constant_C: true, order: Order::Strided(5), ..spec }, ALL);
            count += 3;
        }
    }
    for (batch, ngroups, channels_per_group) in [
        (0, 1, 3),
        (2, 1, 0),
        (1, 0, 0),
        (1, 2, 1),
        (1, 5, 3),
        (3, 4, 2),
        (1, 1, 63),
        (1, 1, 64),
        (2, 1, 65),
        (1, 2, 130),
        (1, 33, 1),
    ] {
        for order in [Order::Dense, Order::ChannelLast] {
            let spec = ScanSpec { batch, ngroups, channels_per_group, order, ..ScanSpec::all(1, 1, 4, 11) };
            check::<B, T>(&backend, &spec, ALL);
            check::<B, T>(&backend, &ScanSpec { constant_B: true, ..spec.clone() }, ALL);
            check::<B, T>(&backend, &ScanSpec { constant_C: true, seqlen: 131, ..spec }, How { split: Some(2), ..ALL });
            count += 3;
        }
    }
    // Windows grow with dstate.
    for (dstate, seqlen) in [(17, 257), (40, 385), (16, 129)] {
        check::<B, T>(&backend, &ScanSpec::all(1, 2, dstate, seqlen), How { checkpoints: true, ..ALL });
        check::<B, T>(&backend, &ScanSpec::all(1, 2, dstate, seqlen), How { split: Some(2), ..ALL });
        count += 2;
    }
    // Several tiles of channels for a partial sum, and several partial sums.
    for (dstate, channels_per_group) in [(40, 100), (100, 150), (300, 70)] {
        let spec = ScanSpec { channels_per_group, ..ScanSpec::all(2, 1, dstate, 21) };
        check::<B, T>(&backend, &spec, ALL);
        check::<B, T>(&backend, &ScanSpec { constant_B: true, ngroups: 2, ..spec }, How { split: Some(2), ..ALL });
        count += 2;
    }
    say(format_args!("selective_scan backward shapes {} {}: {count} cases", B::NAME, T::DTYPE));
}

/// B and C in different numbers of groups.
fn groups<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let mut count = 0;
    for (of_B, of_C) in [(1, 6), (6, 1), (2, 3), (3, 2), (1, 2)] {
        let of = |ngroups: usize| {
            let spec = ScanSpec { ngroups, channels_per_group: 6 / ngroups, ..ScanSpec::all(2, 6, 4, 21) };
            ScanCase::<T>::new(&spec)
        };
        let case = ScanCase { C: of(of_C).C, ..of(of_B) };
        let spec = ScanSpec { ngroups: of_B, channels_per_group: of_C, ..ScanSpec::all(2, 6, 4, 21) };
        check_case(&backend, case, &spec, ALL);
        count += 1;
    }
    say(format_args!("selective_scan backward groups {} {}: {count} cases", B::NAME, T::DTYPE));
}

/// Packed sequences with empty, single and long ones, either way, with their own states.
fn packed<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let mut count = 0;
    for lengths in
        [vec![0], vec![0, 0, 3], vec![1, 1, 1], vec![17, 1, 0, 133, 7], vec![128, 129, 127], vec![256, 0, 300]]
    {
        for (order, split) in [(Order::Dense, None), (Order::ChannelLast, Some(2)), (Order::Strided(3), Some(3))] {
            for (reverse, initial_state) in [(false, false), (false, true), (true, true)] {
                let (packed, seqlen) = (Some(lengths.clone()), lengths.iter().sum());
                let spec = ScanSpec { packed, reverse, initial_state, order, ..ScanSpec::all(1, 4, 5, seqlen) };
                let spec = ScanSpec { ngroups: 2, channels_per_group: 2, ..spec };
                check::<B, T>(&backend, &spec, How { split, checkpoints: reverse, ..ALL });
                count += 1;
            }
        }
    }
    say(format_args!("selective_scan backward packed {} {}: {count} cases", B::NAME, T::DTYPE));
}

/// A gradient has the same bits whichever others are asked for.
fn alone<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let label = format!("selective_scan gradients alone {} {}", B::NAME, T::DTYPE);
    shared_property(file!(), &label, 48, backend.share(), (spec(), how()), |(spec, how)| {
        let mut case = ScanCase::<T>::new(&spec);
        case.split = how.split;
        let mut upstream = ScanUpstream::new(&case, how.dout, how.dfinal_state, spec.order, spec.seed);
        if how.checkpoints {
            upstream.checkpoints = Some(saved(&backend, &case, spec.order, "alone"));
        }
        let mut all = ScanGradients::new(&case, &GRADIENTS, spec.order);
        backend.selective_scan_backward(&case, &upstream, &mut all).expect("a valid case runs");
        for (i, name) in GRADIENTS.into_iter().enumerate() {
            let mut one = ScanGradients::new(&case, &[name], spec.order);
            if one.is_empty() {
                continue;
            }
            backend.selective_scan_backward(&case, &upstream, &mut one).expect("a valid case runs");
            let bits = [&all, &one].map(|gradients| gradients.each()[i].expect("asked for").bits());
            assert!(bits[0] == bits[1], "{name} alone has other bits");
        }
    });
}

/// Forward in parts, and what it gives without out: states and the sums of delta.
fn forward_split<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let label = format!("selective_scan forward split {} {}", B::NAME, T::DTYPE);
    let lengths = prop::sample::select(vec![0usize, 1, 127, 128, 129, 256, 257, 300]);
    shared_property(file!(), &label, 64, backend.share(), (spec(), lengths, 1usize..4), |(spec, seqlen, split)| {
        let spec = ScanSpec { seqlen: if spec.packed.is_some() { spec.seqlen } else { seqlen }, ..spec };
        let mut case = ScanCase::<T>::new(&spec);
        case.split = Some(split);
        let every = spec.every.unwrap_or(100);
        let expected = NaiveScan { case: &case, every: Some(every) }.yardsticks();
        backends::in_modes(&backend, &(&spec, split), |backend, text| {
            let mut outputs = ScanBuffers::new(&case, true, Some(every), spec.order);
            backend.selective_scan_forward(&case, &mut outputs).expect("a valid case runs");
            expect_accurate(&format!("out, {text}"), outputs.out(), &expected[0]);
            expect_accurate(
                &format!("final_state, {text}"),
                outputs.final_state.as_ref().expect("asked"),
                &expected[1],
            );
            expect_accurate(&format!("chunk_states, {text}"), &outputs.chunk_states.expect("asked").1, &expected[2]);
            let mut states = ScanBuffers::states_only(&case, spec.order);
            backend.selective_scan_forward(&case, &mut states).expect("a valid case runs");
            expect_accurate(&format!("state alone, {text}"), states.final_state.as_ref().expect("asked"), &expected[1]);
            expect_accurate(&format!("delta_sum, {text}"), states.delta_sum.as_ref().expect("asked"), &expected[3]);
        });
    });
}

fn carry_case(extents: [usize; 4], initial: bool, reverse: bool, order: Order, seed: u64) -> CarryCase {
    let [batch, nchunks, dim, dstate] = extents;
    let mut random = Random::new(seed);
    let initial_dims = [("batch", batch), ("dim", dim), ("dstate", dstate)];
    let states = [("batch", batch), ("nchunks", nchunks), ("dim", dim), ("dstate", dstate)];
    CarryCase {
        A: Buffer::filled(&initial_dims[1..], order, || -random.log_uniform(1e-2, 20.0)),
        delta_sum: Buffer::filled(&states[..3], order, || random.log_uniform(1e-2, 10.0)),
        states: Buffer::filled(&states, order, || random.normal()),
        initial: initial.then(|| Buffer::filled(&initial_dims, order, || random.normal())),
        reverse,
    }
}

/// The carry pass by itself.
fn carry<B: Backend>() {
    let Some(backend) = backends::open::<B>() else { return };
    let strategy = ([0usize..4, 0..6, 0..5, 0..20], any::<[bool; 2]>(), order(), any::<u64>());
    let label = format!("selective_scan_carry {}", B::NAME);
    shared_property(file!(), &label, 128, backend.share(), strategy, |(extents, [initial, reverse], order, seed)| {
        let case = carry_case(extents, initial, reverse, order, seed);
        let expected = Yardstick::measure(&case, &[extents[3]]).remove(0);
        backends::in_modes(&backend, &(extents, initial, reverse, order, seed), |backend, text| {
            let mut carried = Buffer::poisoned(&case.states.dims(), order);
            backend.selective_scan_carry(&case, &mut carried).expect("a valid case runs");
            expect_accurate(&format!("carried, {text}"), &carried, &expected);
        });
    });
    // A decay beyond the range carries nothing where there is nothing.
    let mut case = carry_case([1, 3, 1, 2], false, false, Order::Dense, 1);
    case.A = Buffer::filled(&case.A.dims(), Order::Dense, || 100.0);
    case.states = Buffer::filled(&case.states.dims(), Order::Dense, || 0.0);
    let mut carried = Buffer::poisoned(&case.states.dims(), Order::Dense);
    backend.selective_scan_carry(&case, &mut carried).expect("a valid case runs");
    assert_eq!(carried.dense(), [0.0; 6]);
}

crate::suites!(drawn, lengths, shapes, groups, packed, alone, forward_split);

// The carry pass has no I/O dtype.
#[test]
fn carry_on_cpu() {
    carry::<backends::CpuBackend>();
}

#[cfg(feature = "emulator")]
#[test]
fn carry_on_emulator() {
    carry::<crate::common::emulator::EmulatorBackend>();
}

/// What forward saves, and the transient workspace of backward, per element of (batch, dim, seqlen).
#[test]
fn bytes_per_element() {
    for (batch, dim, seqlen, dstate) in
        [(8, 2048, 2048, 16), (8, 2048, 512, 16), (1, 64, 512, 16), (2, 1536, 4096, 16), (1, 1024, 8192, 64)]
    {
        let x = [0.0f32];
        let wide = View::strided(&x, [("batch", batch, 0), ("dim", dim, 0), ("seqlen", seqlen, 0)]);
        let variable =
            View::strided(&x, [("batch", batch, 0), ("ngroups", 1, 0), ("dstate", dstate, 0), ("seqlen", seqlen, 0)]);
        let A = View::strided(&x, [("dim", dim, 0), ("dstate", dstate, 0)]);
        let scan = SelectiveScan::new(wide, wide, A, variable, variable).expect("valid");
        let plan = Cpu::new().backward_plan(&scan).expect("valid");
        let elements = (batch * dim * seqlen) as f64;
        let rows = *scan.chunk_offsets(plan.checkpoint_every).expect("valid").last().expect("an end");
        let (saved, workspace) = ((rows * dim * dstate * 4) as f64 / elements, plan.workspace_bytes as f64 / elements);
        say(format_args!(
            "cpu backward, batch {batch}, dim {dim}, seqlen {seqlen}, dstate {dstate}: {saved:.3} bytes per element \
             saved, {workspace:.3} of workspace"
        ));
        assert!(saved <= 0.5);
        assert!(dstate != 16 || workspace <= 4.0);
        assert_eq!(Cpu::new().forward_plan(&scan).expect("valid").checkpoint_every, plan.checkpoint_every);
    }
}

/// The reference's gradients against central differences of its own forward direction, in f64, along one random
/// direction of each input at a time.
#[test]
fn reference_backward_is_the_derivative() {
    property(file!(), "selective_scan reference against differences", 100, (spec(), how()), |(spec, how)| {
        // Inside the clamp and at its limits there is no derivative to compare with.
        differences(&ScanSpec { dt_limit: false, dt_bias: spec.dt_bias && spec.dt_softplus, ..spec }, how);
    });
}

fn differences(spec: &ScanSpec, how: How) {
    let mut case = ScanCase::<f32>::new(&ScanSpec { order: Order::Dense, ..spec.clone() });
    let upstream = ScanUpstream::new(&case, how.dout, how.dfinal_state, Order::Dense, spec.seed ^ 1);
    inputs(&mut case).into_iter().flatten().for_each(coarse);
    let weights = [&upstream.dout, &upstream.dfinal_state].map(|by| by.as_ref().map_or(vec![], Buffer::dense));
    let values = NaiveScanBackward { case: &case, upstream: &upstream }.run::<f64>();
    Gradients { names: GRADIENTS, values, bound: |elements| 1e-4 * elements.sqrt() }.expect_derivatives(
        &case,
        inputs,
        spec.seed,
        |case| loss(&weights, &NaiveScan { case, every: None }.run::<f64>()),
    );
}

/// The inputs in the order of [`GRADIENTS`].
fn inputs(case: &mut ScanCase<f32>) -> [Option<&mut Buffer<f32>>; 9] {
    fn projection(projection: &mut ProjectionBuffer<f32>) -> &mut Buffer<f32> {
        match projection {
            ProjectionBuffer::Variable(buffer) | ProjectionBuffer::Constant(buffer) => buffer,
        }
    }
    [
        Some(&mut case.x),
        Some(&mut case.dt),
        case.z.as_mut(),
        Some(&mut case.A),
        Some(projection(&mut case.B)),
        Some(projection(&mut case.C)),
        case.D.as_mut(),
        case.dt_bias.as_mut(),
        case.initial_state.as_mut(),
    ]
}
