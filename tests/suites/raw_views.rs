//! Host tensors from raw parts, whose elements lie between those of other tensors of the call: read and written alone.

#![allow(non_snake_case)]

use ssm_kernels::prelude::*;
use ssm_kernels::{Axes, Axis};

/// Some tensors of the same extents, dense.
type Apart<const K: usize> = [Vec<f32>; K];

fn drawn<const K: usize>(len: usize) -> Apart<K> {
    let mut seed = 1u32;
    let mut draw = move || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    std::array::from_fn(|_| std::iter::repeat_with(&mut draw).take(len).collect())
}

/// Element i of number k at i * (K + 1) + k, and NaN behind the last.
fn woven<const K: usize>(apart: &Apart<K>) -> Vec<f32> {
    (0..apart[0].len())
        .flat_map(|i| (0..=K).map(move |k| (k, i)))
        .map(|(k, i)| apart.get(k).map_or(f32::NAN, |t| t[i]))
        .collect()
}

/// The axes of a tensor every `step` elements.
fn axes(dims: &[(&'static str, usize)], step: usize) -> Axes {
    let mut stride = step as i64;
    let mut list: Vec<Axis> = dims.iter().map(|&(name, extent)| Axis { name, extent, stride: 0 }).collect();
    for axis in list.iter_mut().rev() {
        axis.stride = stride;
        stride *= axis.extent as i64;
    }
    Axes::from_slice(&list).expect("few")
}

/// Number `k` of woven tensors.
fn view<'a, const K: usize>(memory: *mut f32, k: usize, dims: &[(&'static str, usize)]) -> View<'a, f32> {
    let len: usize = dims.iter().map(|dim| dim.1).product();
    // SAFETY: the tests keep the memory, and what is written are other tensors.
    unsafe { View::from_raw_parts(memory.wrapping_add(k), len * (K + 1) - k, axes(dims, K + 1)) }
}

fn view_mut<'a, const K: usize>(memory: *mut f32, k: usize, dims: &[(&'static str, usize)]) -> ViewMut<'a, f32> {
    let len: usize = dims.iter().map(|dim| dim.1).product();
    // SAFETY: as above; each tensor is written by one view.
    unsafe { ViewMut::from_raw_parts(memory.wrapping_add(k), len * (K + 1) - k, axes(dims, K + 1)) }
}

/// The woven tensors hold the bits of those apart, and between them there is what was there.
fn expect_same<const K: usize>(memory: &[f32], apart: &Apart<K>) {
    let expected = woven(apart);
    let same = memory.iter().zip(&expected).position(|(a, b)| a.to_bits() != b.to_bits());
    assert_eq!(same, None, "of {} places", expected.len());
}

const DOMAIN: [(&str, usize); 2] = [("dim", 5), ("seqlen", 19)];

#[test]
fn discretise_both_ways() {
    let mut apart: Apart<11> = drawn(95);
    let mut between = woven(&apart);
    let memory = between.as_mut_ptr();
    let run = |read: &dyn Fn(usize) -> View<'static, f32>, write: &dyn Fn(usize) -> ViewMut<'static, f32>| {
        let op = Discretise::new(Rule::Zoh, read(0), read(1), read(2)).expect("valid").dt_softplus(true);
        let (mut delta, mut A_bar, mut B_bar) = (write(3), write(4), write(5));
        let outputs = DiscretiseOutputs::new().delta(&mut delta).A_bar(&mut A_bar).B_bar(&mut B_bar);
        Cpu::new().forward(&op, outputs).expect("runs");
        let upstream = DiscretiseUpstream::new().dA_bar(read(6)).dB_bar(read(7));
        let (mut ddt, mut dA, mut dB) = (write(8), write(9), write(10));
        let gradients = DiscretiseGradients::new().ddt(&mut ddt).dA(&mut dA).dB(&mut dB);
        Cpu::new().backward(&op, upstream, gradients).expect("runs");
    };
    run(&|k| view::<11>(memory, k, &DOMAIN), &|k| view_mut::<11>(memory, k, &DOMAIN));
    let starts = apart.each_mut().map(|tensor| tensor.as_mut_ptr());
    run(&|k| view::<0>(starts[k], 0, &DOMAIN), &|k| view_mut::<0>(starts[k], 0, &DOMAIN));
    expect_same(&between, &apart);
}

const STATES: [(&str, usize); 4] = [("batch", 2), ("nchunks", 3), ("dim", 5), ("dstate", 4)];

#[test]
fn carry() {
    let mut apart: Apart<2> = drawn(120);
    let mut between = woven(&apart);
    let (A, sums) = (drawn::<1>(20), drawn::<1>(30));
    let run = |states, mut carried: ViewMut<'_, f32>| {
        let A = View::new(&A[0], [("dim", 5), ("dstate", 4)]);
        let sums = View::new(&sums[0], [("batch", 2), ("nchunks", 3), ("dim", 5)]);
        let op = SelectiveScanCarry::new(A, sums, states).expect("valid");
        Cpu::new().forward(&op, SelectiveScanCarryOutputs::new(&mut carried)).expect("runs");
    };
    let memory = between.as_mut_ptr();
    run(view::<2>(memory, 0, &STATES), view_mut::<2>(memory, 1, &STATES));
    let starts = apart.each_mut().map(|tensor| tensor.as_mut_ptr());
    run(view::<0>(starts[0], 0, &STATES), view_mut::<0>(starts[1], 0, &STATES));
    expect_same(&between, &apart);
}

/// Copied to a device and back, element by element.
#[test]
#[cfg(feature = "emulator")]
fn a_convolution_on_the_emulator() {
    let dims = [("batch", 1), ("dim", 5), ("seqlen", 19)];
    let mut apart: Apart<2> = drawn(95);
    let mut between = woven(&apart);
    let weight = drawn::<1>(20);
    let emulator = ssm_kernels::gpu::Emulator::new();
    let run = |x, mut out: ViewMut<'_, f32>| {
        let op = CausalConv1d::new(x, View::new(&weight[0], [("dim", 5), ("width", 4)])).expect("valid");
        emulator.on_host().forward(&op, CausalConv1dOutputs::new(&mut out)).expect("runs");
    };
    let memory = between.as_mut_ptr();
    run(view::<2>(memory, 0, &dims), view_mut::<2>(memory, 1, &dims));
    let starts = apart.each_mut().map(|tensor| tensor.as_mut_ptr());
    run(view::<0>(starts[0], 0, &dims), view_mut::<0>(starts[1], 0, &dims));
    expect_same(&between, &apart);
}

/// Memory that ends before the last element is refused as that of any view.
#[test]
fn memory_that_is_too_short() {
    let x = [0.0f32; 8];
    let dims = axes(&[("batch", 1), ("dim", 1), ("seqlen", 5)], 2);
    // SAFETY: what lies in these eight is readable, and nobody writes it.
    let x = unsafe { View::from_raw_parts(x.as_ptr(), 8, dims) };
    let mut out = [7.0f32; 5];
    let op = CausalConv1d::new(x, View::new(&[1.0f32], [("dim", 1), ("width", 1)]));
    let refused = op.and_then(|op| {
        let mut out = ViewMut::new(&mut out, [("batch", 1), ("dim", 1), ("seqlen", 5)]);
        Cpu::new().forward(&op, CausalConv1dOutputs::new(&mut out))
    });
    let message = refused.expect_err("too short").to_string();
    assert!(message.starts_with("causal_conv1d: `x` holds 8 elements of memory, expected at least 9"), "{message}");
    assert_eq!(out, [7.0; 5]);
}
