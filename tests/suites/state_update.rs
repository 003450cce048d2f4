//! State update: every backend against the recurrence, in every form, and what padding, indices and roundings are.

#![allow(non_snake_case)]

use crate::common::backends::{self, Backend};
use crate::common::buffer::{Buffer, Order};
use crate::common::compare::expect_accurate;
use crate::common::state_update::{NaiveUpdate, UpdateBuffers, UpdateCase, UpdateSpec, spec};
use crate::common::{say, shared_property};
use half::{bf16, f16};
use ssm_kernels::prelude::*;
use ssm_kernels::{Dtype, Element, Instructions};

/// One case under the accuracy rule, all outputs. What belongs to padding, and rows that no index names, stay as they were.
fn check<B: Backend, T: Element, H: Element>(backend: &B, spec: &UpdateSpec) {
    let case = UpdateCase::<T, H>::new(spec);
    let expected = NaiveUpdate(&case).yardsticks();
    backends::in_modes(backend, spec, |backend, text| {
        let label = |tensor: &str| format!("{tensor}, {text}");
        let mut outputs = UpdateBuffers::new(&case, spec.token_states, spec.order);
        let done = backend.state_update(&case, &mut outputs);
        done.unwrap_or_else(|error| panic!("a valid case runs: {error}\n{text}"));
        expect_accurate(&label("out"), &outputs.out, &expected[0]);
        expect_accurate(&label("state"), &outputs.state, &expected[1]);
        outputs.token_states.iter().for_each(|got| expect_accurate(&label("token_states"), got, &expected[2]));
        expect_idle_rows(&case, &outputs, text);
    });
}

/// Rows of the cache that no index names have the bits that they had; padding has zeros in out.
fn expect_idle_rows<T: Element, H: Element>(case: &UpdateCase<T, H>, outputs: &UpdateBuffers<T, H>, text: &str) {
    let Some(indices) = &case.state_indices else { return };
    let rows = |buffer: &Buffer<H>| buffer.bits();
    let (before, after) = (rows(&case.state), rows(&outputs.state));
    let width = before.len() / case.state.dims()[0].1.max(1);
    for slot in (0..case.state.dims()[0].1).filter(|&slot| !indices.contains(&(slot as i32))) {
        let own = slot * width..(slot + 1) * width;
        assert_eq!(before[own.clone()], after[own], "row {slot} of the cache, {text}");
    }
    let out = outputs.out.bits();
    let width = out.len() / indices.len().max(1);
    for (b, _) in indices.iter().enumerate().filter(|(_, index)| **index < 0) {
        assert!(out[b * width..(b + 1) * width].iter().all(|&bits| bits == 0), "out of padding {b}, {text}");
    }
}

fn check_any<B: Backend, T: Element>(backend: &B, spec: &UpdateSpec) {
    match spec.state {
        Dtype::F16 => check::<B, T, f16>(backend, spec),
        Dtype::BF16 => check::<B, T, bf16>(backend, spec),
        _ => check::<B, T, f32>(backend, spec),
    }
}

/// (Several tokens with states of 16 bits are held by law, in tests/suites/duality_update.rs: a state between two of them may round
/// either way, and the next token sees which.)
fn drawn<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let label = format!("state_update {} {}", B::NAME, T::DTYPE);
    shared_property(file!(), &label, 400, backend.share(), spec(false), |spec| check_any::<B, T>(&backend, &spec));
    let label = format!("state_update several tokens {} {}", B::NAME, T::DTYPE);
    shared_property(file!(), &label, 200, backend.share(), spec(true), |spec| {
        check_any::<B, T>(&backend, &UpdateSpec { state: Dtype::F32, ..spec });
    });
}

/// Shapes of models, and those at the edges of blocks, vectors and slabs.
fn shapes<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let mut count = 0;
    let mut check = |spec: UpdateSpec| {
        check_any::<B, T>(&backend, &spec);
        count += 1;
    };
    for state in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        for dstate in [0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 64, 127, 128, 129, 256, 257, 600] {
            check(UpdateSpec { state, ..UpdateSpec::channels(2, 5, dstate) });
            check(UpdateSpec { state, order: Order::Aligned, ..UpdateSpec::channels(1, 5, dstate) });
            check(UpdateSpec { state, ..UpdateSpec::heads(1, 2, 3, dstate) });
        }
        // A has no element, and each channel would have one decay.
        check(UpdateSpec { state, ..UpdateSpec::channels(1, 1, 0) });
        check(UpdateSpec { state, ngroups: [Some(5), Some(5)], ..UpdateSpec::channels(2, 5, 0) });
        for dim in [0, 1, 31, 32, 33, 63, 65, 128, 200] {
            check(UpdateSpec { state, ..UpdateSpec::channels(1, dim, 16) });
            check(UpdateSpec { state, order: Order::Strided(7), indices: true, ..UpdateSpec::heads(2, 2, dim, 16) });
        }
        check(UpdateSpec { state, tokens: Some(0), token_states: true, ..UpdateSpec::channels(2, 5, 16) });
        check(UpdateSpec { state, ngroups: [Some(6), Some(4)], ..UpdateSpec::channels(2, 24, 16) });
    }
    check(UpdateSpec { tokens: Some(3), token_states: true, order: Order::Aligned, ..UpdateSpec::heads(2, 3, 5, 128) });
    let several = UpdateSpec { tokens: Some(3), token_states: true, ..UpdateSpec::channels(2, 9, 300) };
    check(several.clone());
    check(UpdateSpec { dstate: 600, ..several });
    say(format_args!("state_update shapes {} {}: {count}", B::NAME, T::DTYPE));
}

/// out is C.state of the state before it is rounded. Worked by hand: no decay, no input but for B x delta = 2^-12, which a
/// state of 1 in 16 bits does not hold.
fn output_of_the_unrounded_state<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    fn case<T: Element, H: Element>() -> UpdateCase<T, H> {
        let one = |dims: &[(&'static str, usize)], value: f32| Buffer::filled(dims, Order::Dense, || value);
        let (channel, row) = ([("batch", 1), ("dim", 1)], [("batch", 1), ("dstate", 1)]);
        UpdateCase {
            x: Buffer::filled(&channel, Order::Dense, || 1.0),
            dt: Buffer::filled(&channel, Order::Dense, || 2.0f32.powi(-12)),
            A: one(&[("dim", 1), ("dstate", 1)], 0.0),
            B: Buffer::filled(&row, Order::Dense, || 1.0),
            C: Buffer::filled(&row, Order::Dense, || 1.0),
            // 2^-12 alone is left.
            D: Some(one(&[("dim", 1)], -1.0)),
            z: None,
            dt_bias: None,
            dt_softplus: false,
            dt_limit: None,
            state: Buffer::filled(&[("batch", 1), ("dim", 1), ("dstate", 1)], Order::Dense, || 1.0),
            state_indices: None,
        }
    }
    fn check<B: Backend, T: Element, H: Element>(backend: &B) {
        let case = case::<T, H>();
        let mut outputs = UpdateBuffers::new(&case, true, Order::Dense);
        backend.state_update(&case, &mut outputs).expect("a valid case runs");
        assert_eq!(outputs.out.dense(), [2.0f64.powi(-12)], "{}", H::DTYPE);
        let stored = if H::DTYPE == Dtype::F32 { 1.0 + 2.0f64.powi(-12) } else { 1.0 };
        assert_eq!(outputs.state.dense(), [stored], "{}", H::DTYPE);
        assert_eq!(outputs.token_states.expect("asked for").dense(), [stored], "{}", H::DTYPE);
    }
    check::<B, T, f32>(&backend);
    check::<B, T, f16>(&backend);
    check::<B, T, bf16>(&backend);
}

crate::suites!(drawn, shapes, output_of_the_unrounded_state);

/// Lanes of a vector beyond the last state add nothing, not even where x is so large that delta x is infinite.
#[test]
fn infinite_sums_are_infinite() {
    let (x, dt, ones, A) = ([3e38f32], [2.0f32], [1.0f32; 17], [-1.0f32; 17]);
    let channels = [("batch", 1), ("dim", 1)];
    let rows = View::new(&ones, [("batch", 1), ("dstate", 17)]);
    let A = View::new(&A, [("dim", 1), ("dstate", 17)]);
    let update = StateUpdate::new(View::new(&x, channels), View::new(&dt, channels), A, rows, rows).expect("valid");
    for instructions in [Instructions::Best, Instructions::Avx2, Instructions::Scalar] {
        let (mut state, mut out) = ([0.0f32; 17], [0.0f32]);
        let mut state = ViewMut::new(&mut state, [("batch", 1), ("dim", 1), ("dstate", 17)]);
        let mut view = ViewMut::new(&mut out, channels);
        let outputs = StateUpdateOutputs::new(&mut state, &mut view);
        Cpu::new().instructions(instructions).forward(&update, outputs).expect("a valid case runs");
        assert_eq!(out, [f32::INFINITY], "{instructions:?}");
    }
}

/// Indices may be a column of a table: what lies between them is none.
#[test]
fn indices_lie_apart() {
    fn check(backend: &impl for<'a> Forward<StateUpdate<'a, f32>>) {
        let (x, one, table) = ([1.0f32, 2.0, 3.0], [1.0f32], [2, 1, 0, 1, -1, 1]);
        let channels = [("batch", 3), ("dim", 1)];
        let row = View::strided(&one, [("batch", 3, 0), ("dstate", 1, 1)]);
        let (dt, A) = (View::strided(&one, [("batch", 3, 0), ("dim", 1, 1)]), [0.0f32]);
        let A = View::new(&A, [("dim", 1), ("dstate", 1)]);
        let update = StateUpdate::new(View::new(&x, channels), dt, A, row, row).expect("valid");
        let update = update.state_indices(View::strided(&table, [("batch", 3, 2)]));
        let (mut cache, mut out) = ([10.0f32, 20.0, 30.0], [f32::NAN; 3]);
        let mut state = ViewMut::new(&mut cache, [("slots", 3), ("dim", 1), ("dstate", 1)]);
        let mut view = ViewMut::new(&mut out, channels);
        backend.forward(&update, StateUpdateOutputs::new(&mut state, &mut view)).expect("a valid case runs");
        assert_eq!((cache, out), ([12.0, 20.0, 31.0], [31.0, 12.0, 0.0]));
    }
    check(&Cpu::new());
    #[cfg(feature = "emulator")]
    check(&ssm_kernels::gpu::Emulator::new().on_host());
}
