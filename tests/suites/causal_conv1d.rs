//! The causal convolution, forward, backward and decoding: every backend against the naive loops.
#![allow(non_snake_case)]

use crate::common::backends::{self, Backend};
use crate::common::buffer::{Buffer, Order};
use crate::common::compare::{expect_accurate, expect_exact};
use crate::common::conv::{
    CONV_GRADIENTS, ConvBuffers, ConvCase, ConvGradients, ConvSpec, ConvUpstream, NaiveConv, NaiveConvBackward, spec,
};
use crate::common::conv_update::{ConvUpdateCase, UpdateSpec, update_spec};
use crate::common::differences::{Gradients, coarse, loss};
use crate::common::{property, say, shared_property};
use proptest::prelude::*;
use ssm_kernels::{Dtype, Element};

/// Both directions of one case under the accuracy rule; `how`: dout and dfinal_state.
fn check<B: Backend, T: Element>(backend: &B, spec: &ConvSpec, how: [bool; 2]) {
    crate::with_dtype!(spec.weight, W => check_case(backend, &ConvCase::<T, W>::new(spec), spec, how));
}

fn check_case<B: Backend, T: Element, W: Element>(backend: &B, case: &ConvCase<T, W>, spec: &ConvSpec, how: [bool; 2]) {
    let upstream = ConvUpstream::new(case, how, spec.order, spec.seed ^ 1);
    let (forward, backward) = (NaiveConv(case).yardsticks(), NaiveConvBackward(case, &upstream).yardsticks());
    backends::in_modes(backend, &(spec, how), |backend, text| {
        let mut outputs = ConvBuffers::new(case, spec.final_state, spec.order);
        let done = backend.causal_conv1d_forward(case, &mut outputs);
        done.unwrap_or_else(|error| panic!("a valid case runs: {error}\n{text}"));
        expect_accurate(&format!("out, {text}"), &outputs.out, &forward[0]);
        if let Some(final_state) = &outputs.final_state {
            expect_exact(&format!("final_state, {text}"), final_state, &forward[1]);
        }
        let mut gradients = ConvGradients::new(case, &CONV_GRADIENTS, spec.order);
        let done = backend.causal_conv1d_backward(case, &upstream, &mut gradients);
        done.unwrap_or_else(|error| panic!("a valid case runs: {error}\n{text}"));
        gradients.expect_accurate(text, &backward);
    });
}

fn check_update<B: Backend, T: Element, W: Element>(backend: &B, case: &ConvUpdateCase<T, W>, spec: &UpdateSpec) {
    let expected = case.yardsticks();
    backends::in_modes(backend, spec, |backend, text| {
        let (mut out, mut state) = (Buffer::poisoned(&case.x.dims(), spec.order), case.state.clone());
        let done = backend.causal_conv1d_update(case, &mut out, &mut state);
        done.unwrap_or_else(|error| panic!("a valid case runs: {error}\n{text}"));
        expect_accurate(&format!("out, {text}"), &out, &expected[0]);
        expect_exact(&format!("conv_state, {text}"), &state, &expected[1]);
    });
}

fn drawn<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let label = format!("causal_conv1d {} {}", B::NAME, T::DTYPE);
    let share = backend.share() * if backend.slow() { 3 } else { 1 };
    shared_property(file!(), &label, 256, share, (spec(), any::<[bool; 2]>()), |(spec, how)| {
        check::<B, T>(&backend, &spec, how);
    });
}

fn update_drawn<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let label = format!("causal_conv1d_update {} {}", B::NAME, T::DTYPE);
    shared_property(file!(), &label, 256, backend.share(), update_spec(), |spec| {
        crate::with_dtype!(spec.weight, W => check_update(&backend, &ConvUpdateCase::<T, W>::new(&spec), &spec));
    });
}

/// Every width against lengths shorter than it, around it, and around the borders of vectors, chunks and tiles.
fn lengths<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let mut count = 0;
    for width in 1..=16 {
        for seqlen in [0, 1, 2, 3, 7, 15, 16, 17, 31, 32, 33, 64, 127, 128, 129, 256, 257, 511, 513, 1024, 1025] {
            for (i, order) in [Order::Dense, Order::ChannelLast, Order::Strided(seqlen as u64)].into_iter().enumerate()
            {
                // Widths share what a length may break: each length meets a few, and on a slow backend fewer.
                let turn = width + seqlen / 2 + i;
                if turn % (if backend.slow() { 8 } else { 2 }) != 0
                    || (backend.slow() && T::DTYPE != Dtype::F32 && turn % 16 != 0)
                {
                    continue;
                }
                let spec = ConvSpec { order, ..ConvSpec::all(2, 3, width, seqlen) };
                let plain = ConvSpec { silu: i == 1, bias: false, initial_state: false, ..spec.clone() };
                check::<B, T>(&backend, &spec, [true, true]);
                check::<B, T>(&backend, &plain, [true, i == 2]);
                count += 2;
            }
        }
    }
    say(format_args!("causal_conv1d lengths {} {}: {count} cases", B::NAME, T::DTYPE));
}

/// Every number of channels that a vector, a warp or a tile might trip over, and batches, 0 included.
fn shapes<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let mut count = 0;
    for dim in [0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 300, 513] {
        for (order, seqlen) in [(Order::Dense, 9), (Order::ChannelLast, 11), (Order::Dense, 1), (Order::Strided(9), 4)]
        {
            if backend.slow() && T::DTYPE != Dtype::F32 && (dim + seqlen) % 4 != 0 {
                continue;
            }
            check::<B, T>(&backend, &ConvSpec { order, ..ConvSpec::all(2, dim, 4, seqlen) }, [true, true]);
            count += 1;
        }
    }
    for (batch, dim, width, seqlen) in [(0, 3, 4, 5), (0, 0, 2, 0), (5, 2, 1, 0), (3, 2, 4, 0), (1, 2, 16, 3)] {
        check::<B, T>(&backend, &ConvSpec::all(batch, dim, width, seqlen), [true, true]);
        count += 1;
    }
    say(format_args!("causal_conv1d shapes {} {}: {count} cases", B::NAME, T::DTYPE));
}

/// Packed sequences with empty, single and long ones: no tap reaches over a boundary.
fn packed<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let mut count = 0;
    for lengths in [
        vec![0],
        vec![0, 0, 3],
        vec![1, 1, 1],
        vec![17, 1, 0, 33, 7],
        vec![64, 65, 63],
        vec![128, 0, 129, 2],
        vec![513, 1, 1100],
    ] {
        for (i, order) in [Order::Dense, Order::ChannelLast, Order::Strided(5)].into_iter().enumerate() {
            for (width, initial_state) in [(2, true), (4, false), (4, true), (3, true), (9, true)] {
                if backend.slow() && (width + i + lengths.len()) % 2 != 0 {
                    continue;
                }
                let spec = ConvSpec { order, initial_state, ..ConvSpec::all(1, 5, width, 0) }.packed(&lengths);
                check::<B, T>(&backend, &spec, [true, i != 1]);
                count += 1;
            }
        }
    }
    // More sequences than there are steps in a tile.
    let many: Vec<usize> = (0..700).map(|seq| [1, 0, 3, 2][seq % 4]).collect();
    check::<B, T>(&backend, &ConvSpec::all(1, 2, 4, 0).packed(&many), [true, true]);
    say(format_args!("causal_conv1d packed {} {}: {} cases", B::NAME, T::DTYPE, count + 1));
}

/// A gradient has the same bits whichever others are asked for.
fn alone<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let label = format!("causal_conv1d gradients alone {} {}", B::NAME, T::DTYPE);
    let share = backend.share() * if backend.slow() { 4 } else { 1 };
    shared_property(file!(), &label, 48, share, (spec(), any::<[bool; 2]>()), |(spec, how)| {
        crate::with_dtype!(spec.weight, W => {
            let case = ConvCase::<T, W>::new(&spec);
            let upstream = ConvUpstream::new(&case, how, spec.order, spec.seed);
            let mut all = ConvGradients::new(&case, &CONV_GRADIENTS, spec.order);
            backend.causal_conv1d_backward(&case, &upstream, &mut all).expect("a valid case runs");
            for (i, name) in CONV_GRADIENTS.into_iter().enumerate() {
                let mut one = ConvGradients::new(&case, &[name], spec.order);
                if one.bits().iter().all(Option::is_none) {
                    continue;
                }
                backend.causal_conv1d_backward(&case, &upstream, &mut one).expect("a valid case runs");
                assert!(all.bits()[i] == one.bits()[i], "{name} alone has other bits");
            }
        });
    });
}

/// Every width and state_len with as many tokens as fit and more, shifting and around the ring's end.
fn update_wraps<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let mut count = 0;
    for width in 1..=16 {
        for (spare, tokens) in [(0, 1), (0, 2), (1, 1), (3, 5), (2, width), (0, 40), (17, 1)] {
            for circular in [false, true] {
                if backend.slow() && T::DTYPE != Dtype::F32 && (width + spare + tokens) % 4 != 0 {
                    continue;
                }
                let (weight, order) = (Dtype::F32, Order::Dense);
                let spec = UpdateSpec {
                    batch: 3,
                    dim: 3,
                    width,
                    tokens,
                    spare,
                    weight,
                    bias: true,
                    silu: width % 2 == 0,
                    circular,
                    indices: Some((2, vec![false, true, false])),
                    order,
                    seed: (width * 100 + tokens) as u64,
                };
                let mut case = ConvUpdateCase::<T, f32>::new(&spec);
                let ends = [0, (width + spare) as i32 - 2, i32::MAX];
                case.cache_seqlens = circular.then(|| ends.map(|end| end.max(0)).to_vec());
                check_update(&backend, &case, &spec);
                count += 1;
            }
        }
    }
    say(format_args!("causal_conv1d_update wraps {} {}: {count} cases", B::NAME, T::DTYPE));
}

/// Infinite and undefined inputs reach the steps that their taps reach, and no other; x of padding reaches nothing.
fn infinities<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let mut count = 0;
    for (width, silu, order) in [
        (4, true, Order::Dense),
        (4, false, Order::ChannelLast),
        (7, true, Order::ChannelLast),
        (3, true, Order::Dense),
        (3, false, Order::ChannelLast),
        (2, false, Order::Dense),
        (2, true, Order::ChannelLast),
    ] {
        for value in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            let spec = ConvSpec { silu, order, seed: count, ..ConvSpec::all(2, 3, width, 40) };
            let mut case = ConvCase::<T, f32>::new(&spec);
            let (values, mut at) = (case.x.dense(), 0..);
            let dims = case.x.dims();
            case.x = Buffer::filled(&dims, order, || match at.next().expect("endless") {
                17 | 79 => value,
                i => values[i] as f32,
            });
            check_case(&backend, &case, &spec, [true, true]);
            check_case(&backend, &case, &spec, [false, true]);
            count += 2;
        }
    }
    say(format_args!("causal_conv1d infinities {} {}: {count} cases", B::NAME, T::DTYPE));
}

/// A weight that is infinite or NaN meets the gradients that there are, and no others: not those of steps that a sequence
/// does not have, nor a dout that is not there.
fn absent<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let (mut count, value) = (0, [f32::INFINITY, f32::NAN]);
    for (i, lengths) in [vec![40], vec![2], vec![130], vec![0, 5, 1, 33]].into_iter().enumerate() {
        for (width, order) in
            [2, 3, 4, 7].into_iter().flat_map(|width| [(width, Order::Dense), (width, Order::ChannelLast)])
        {
            for how in [[true, false], [false, true], [true, true]] {
                let spec = ConvSpec { silu: i == 3, order, seed: count, ..ConvSpec::all(2, 3, width, lengths[0]) };
                let spec = if lengths.len() > 1 { spec.packed(&lengths) } else { spec };
                let mut case = ConvCase::<T, f32>::new(&spec);
                let (values, mut at) = (case.weight.dense(), 0..);
                // The first tap of the first channel, the last of the second, one between of the third.
                let places = [0, 2 * width - 1, 2 * width + width / 2];
                case.weight = Buffer::filled(&case.weight.dims(), order, || match at.next().expect("endless") {
                    i if places.contains(&i) => value[count as usize % 2],
                    i => values[i] as f32,
                });
                check_case(&backend, &case, &spec, how);
                count += 1;
            }
        }
    }
    say(format_args!("causal_conv1d absent {} {}: {count} cases", B::NAME, T::DTYPE));
}

crate::suites!(drawn, lengths, shapes, packed, alone, infinities, absent, update_drawn, update_wraps);

/// The reference's gradients against central differences of its own forward direction, in f64, along one random direction
/// of each input at a time.
#[test]
fn reference_backward_is_the_derivative() {
    let label = "causal_conv1d reference against differences";
    property(file!(), label, 100, (spec(), any::<[bool; 2]>()), |(spec, how)| differences(&spec, how));
}

fn differences(spec: &ConvSpec, how: [bool; 2]) {
    use ssm_kernels::reference::accuracy::Loop;
    let mut case = ConvCase::<f32, f32>::new(&ConvSpec { order: Order::Dense, ..spec.clone() });
    let upstream = ConvUpstream::new(&case, how, Order::Dense, spec.seed ^ 1);
    fn inputs(case: &mut ConvCase<f32, f32>) -> [Option<&mut Buffer<f32>>; 4] {
        [Some(&mut case.x), Some(&mut case.weight), case.bias.as_mut(), case.initial_state.as_mut()]
    }
    inputs(&mut case).into_iter().flatten().for_each(coarse);
    let values = NaiveConvBackward(&case, &upstream).run::<f64>();
    let weights = [&upstream.dout, &upstream.dfinal_state].map(|by| by.as_ref().map_or(vec![], Buffer::dense));
    Gradients { names: CONV_GRADIENTS, values, bound: |elements| 1e-6 * elements }.expect_derivatives(
        &case,
        inputs,
        spec.seed,
        |case| loss(&weights, &NaiveConv(case).run::<f64>()),
    );
}
