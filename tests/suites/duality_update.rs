//! Laws of the state update: beside the selective scan, and between its own calls.

#![allow(non_snake_case)]

use crate::common::backends::{self, Backend, CpuBackend};
use crate::common::buffer::{Buffer, Order};
use crate::common::compare::expect_accurate;
use crate::common::parts::{expect_same_bits, joined};
use crate::common::scan::{NaiveScan, ProjectionBuffer, ScanCase, ScanSpec, spec as scan_spec};
use crate::common::state_update::{UpdateBuffers, UpdateCase, UpdateSpec, spec};
use crate::common::{property, shared_property};
use half::{bf16, f16};
use ssm_kernels::prelude::*;
use ssm_kernels::{Dtype, Element, Instructions};

fn run<B: Backend, T: Element, H: Element>(backend: &B, case: &UpdateCase<T, H>) -> UpdateBuffers<T, H> {
    let mut outputs = UpdateBuffers::new(case, true, Order::Dense);
    backend.state_update(case, &mut outputs).expect("a valid case runs");
    outputs
}

/// Calls a check, generic over backend, dtype and dtype of the state, with that of the case.
macro_rules! by_state {
    ($check:ident::<$B:ty, $T:ty>($spec:expr, $backend:expr)) => {
        match $spec.state {
            Dtype::F16 => $check::<$B, $T, f16>($backend, $spec),
            Dtype::BF16 => $check::<$B, $T, bf16>($backend, $spec),
            _ => $check::<$B, $T, f32>($backend, $spec),
        }
    };
}

/// Constant B and C as an update has them: in the dtype of x.
fn round_constants<T: Element>(case: &mut ScanCase<T>) {
    for projection in [&mut case.B, &mut case.C] {
        if let ProjectionBuffer::Constant(buffer) = projection {
            *buffer = values_of::<T, f32>(&values_of::<f32, T>(buffer, &buffer.dims()), &buffer.dims());
        }
    }
}

/// The values of a buffer in another dtype, along `dims`.
fn values_of<F: Element, E: Element>(buffer: &Buffer<F>, dims: &[(&'static str, usize)]) -> Buffer<E> {
    let mut values = buffer.dense().into_iter();
    Buffer::filled(dims, Order::Dense, || values.next().expect("one each") as f32)
}

/// A scan's steps as an update's tokens: the same views. Constant B and C are views in groups of one channel that stand
/// still along batch and time: no tensor is spread out.
fn update_of<T: Element>(case: &ScanCase<T>, spec: &ScanSpec) -> UpdateCase<T, f32> {
    let row = |projection: &ProjectionBuffer<T>| match projection {
        ProjectionBuffer::Variable(buffer) => buffer.clone(),
        ProjectionBuffer::Constant(buffer) => values_of(buffer, &[("ngroups", spec.dim()), ("dstate", spec.dstate)])
            .still_along(&[("batch", spec.batch), ("seqlen", spec.seqlen)]),
    };
    let dims = [("batch", spec.batch), ("dim", spec.dim()), ("dstate", spec.dstate)];
    let zero = || Buffer::filled(&dims, spec.order, || 0.0);
    UpdateCase {
        x: case.x.clone(),
        dt: case.dt.clone(),
        A: case.A.clone(),
        B: row(&case.B),
        C: row(&case.C),
        D: case.D.clone(),
        z: case.z.clone(),
        dt_bias: case.dt_bias.clone(),
        dt_softplus: case.dt_softplus,
        dt_limit: case.dt_limit,
        state: case.initial_state.clone().unwrap_or_else(zero),
        state_indices: None,
    }
}

/// N updates of one token, and one update of N, are one scan of N steps, B and C being constant or not.
fn updates_are_a_scan<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let label = format!("updates are a scan {} {}", B::NAME, T::DTYPE);
    shared_property(file!(), &label, 64, backend.share(), scan_spec(), |spec| {
        let seqlen = if backend.slow() { spec.seqlen.min(12) } else { spec.seqlen };
        let spec = ScanSpec { reverse: false, packed: None, seqlen, ..spec };
        let mut scan = ScanCase::<T>::new(&spec);
        round_constants(&mut scan);
        let expected = NaiveScan { case: &scan, every: None }.yardsticks();
        let case = update_of(&scan, &spec);
        let whole = run(&backend, &case);
        let (mut state, mut outs) = (case.state.clone(), vec![]);
        for t in 0..spec.seqlen {
            let step = run(&backend, &case.token(t, state));
            state = step.state;
            outs.push(step.out);
        }
        expect_accurate("whole: out", &whole.out, &expected[0]);
        expect_accurate("whole: state", &whole.state, &expected[1]);
        expect_accurate("steps: state", &state, &expected[1]);
        if !outs.is_empty() {
            expect_accurate("steps: out", &joined(&outs, "seqlen", &case.x), &expected[0]);
        }
    });
}

/// Several tokens in one call are one call for each, bit by bit, whatever the state is stored in; and what is kept after
/// each token is the state there.
fn tokens_are_calls<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    fn check<B: Backend, T: Element, H: Element>(backend: &B, spec: &UpdateSpec) {
        let case = UpdateCase::<T, H>::new(spec);
        let (whole, tokens) = (run(backend, &case), spec.tokens.expect("asked for"));
        let (mut state, mut outs) = (case.state.clone(), vec![]);
        for t in 0..tokens {
            let step = run(backend, &case.token(t, state));
            for b in 0..spec.batch {
                let kept = |buffers: &UpdateBuffers<T, H>, row: usize| {
                    buffers.token_states.as_ref().expect("asked for").slice("tokens", row..row + 1)
                };
                expect_same_bits("kept", &kept(&whole, b * tokens + t), &kept(&step, b));
                let slot = case.state_indices.as_ref().map_or(b as i32, |indices| indices[b]);
                if let Ok(slot) = usize::try_from(slot) {
                    let name = if spec.indices { "slots" } else { "batch" };
                    let own = step.state.slice(name, slot..slot + 1).renamed(name, "tokens");
                    expect_same_bits("the state there", &own, &kept(&step, b));
                }
            }
            state = step.state;
            outs.push(step.out);
        }
        expect_same_bits("state", &whole.state, &state);
        expect_same_bits("out", &whole.out, &joined(&outs, "seqlen", &case.x));
    }
    let label = format!("tokens are calls {} {}", B::NAME, T::DTYPE);
    shared_property(file!(), &label, 128, backend.share(), spec(true), |spec| {
        let tokens = spec.tokens.or(Some(3));
        by_state!(check::<B, T>(&UpdateSpec { tokens, ..spec }, &backend));
    });
}

/// Batch n is n times batch 1, and run is run.
fn batch_is_rows<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    fn check<B: Backend, T: Element, H: Element>(backend: &B, spec: &UpdateSpec) {
        let case = UpdateCase::<T, H>::new(spec);
        let (whole, again) = (run(backend, &case), run(backend, &case));
        expect_same_bits("again: out", &whole.out, &again.out);
        expect_same_bits("again: state", &whole.state, &again.state);
        // With a cache, row after row of the batch in the same cache.
        let mut cache = case.state.clone();
        for b in 0..spec.batch {
            let row = case.batch_row(b);
            let row = if spec.indices { UpdateCase { state: cache.clone(), ..row } } else { row };
            let own = run(backend, &row);
            expect_same_bits("row: out", &whole.out.slice("batch", b..b + 1), &own.out);
            if spec.indices {
                cache = own.state;
            } else {
                expect_same_bits("row: state", &whole.state.slice("batch", b..b + 1), &own.state);
            }
        }
        if spec.indices {
            expect_same_bits("cache", &whole.state, &cache);
        }
    }
    let label = format!("batch is rows of updates {} {}", B::NAME, T::DTYPE);
    shared_property(file!(), &label, 96, backend.share(), spec(true), |spec| by_state!(check::<B, T>(&spec, &backend)));
}

/// One number per head is that number for all channels of the head: the same bits.
fn one_per_head_is_all_alike<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    fn spread<E: Element>(buffer: &Buffer<E>, dims: &[(&'static str, usize)]) -> Buffer<E> {
        let (values, more) = (buffer.dense(), dims[buffer.dims().len()..].iter().map(|dim| dim.1).product::<usize>());
        let mut values = values.into_iter().flat_map(|value| std::iter::repeat_n(value as f32, more));
        Buffer::filled(dims, Order::Dense, || values.next().expect("one each"))
    }
    fn check<B: Backend, T: Element, H: Element>(backend: &B, spec: &UpdateSpec) {
        let case = UpdateCase::<T, H>::new(spec);
        let heads = [("nheads", spec.nheads.expect("asked for")), ("headdim", spec.channels)];
        let matrix = [heads[0], heads[1], ("dstate", spec.dstate)];
        let vector = |buffer: &Option<Buffer<f32>>| buffer.as_ref().map(|buffer| spread(buffer, &heads));
        let (dt, A) = (spread(&case.dt, &case.x.dims()), spread(&case.A, &matrix));
        let (D, dt_bias) = (vector(&case.D), vector(&case.dt_bias));
        let wide = run(backend, &UpdateCase { dt, A, D, dt_bias, ..case.clone() });
        let own = run(backend, &case);
        expect_same_bits("one per head: out", &own.out, &wide.out);
        expect_same_bits("one per head: state", &own.state, &wide.state);
    }
    let label = format!("one per head {} {}", B::NAME, T::DTYPE);
    shared_property(file!(), &label, 64, backend.share(), spec(true), |spec| {
        // ngroups divides nheads: with one group it does.
        let (nheads, ngroups) = (spec.nheads.or(Some(2)), [None; 2]);
        let spec = UpdateSpec { nheads, ngroups, one_per_head: [true; 4], ..spec };
        by_state!(check::<B, T>(&spec, &backend));
    });
}

crate::suites!(updates_are_a_scan, tokens_are_calls, batch_is_rows, one_per_head_is_all_alike);

/// The CPU backend's bits depend neither on the number of threads nor on the instructions. Some cases are large enough for
/// several tasks.
#[test]
fn threads_and_instructions_do_not_change_bits() {
    fn check<B: Backend, T: Element, H: Element>(backend: &B, spec: &UpdateSpec) {
        let case = UpdateCase::<T, H>::new(spec);
        let expected = run(backend, &case);
        let same = |what: &str, other: &UpdateBuffers<T, H>| {
            expect_same_bits(&format!("{what}: out"), &expected.out, &other.out);
            expect_same_bits(&format!("{what}: state"), &expected.state, &other.state);
        };
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            same("threads", &pool.install(|| run(&CpuBackend, &case)));
        }
        let op = case.op().expect("a valid case");
        for cpu in
            [Cpu::new().instructions(Instructions::Avx2), Cpu::single_thread().instructions(Instructions::Scalar)]
        {
            let mut other = UpdateBuffers::new(&case, false, Order::Dense);
            let (mut state, mut out) = (other.state.view_mut(), other.out.view_mut());
            cpu.forward(&op, StateUpdateOutputs::new(&mut state, &mut out)).expect("a valid case runs");
            same("instructions", &other);
        }
    }
    property(file!(), "threads and instructions of updates", 96, spec(true), |spec| {
        by_state!(check::<CpuBackend, f32>(&spec, &CpuBackend));
    });
    for state in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        let spec = UpdateSpec { state, indices: true, ..UpdateSpec::channels(7, 800, 16) };
        by_state!(check::<CpuBackend, f32>(&spec, &CpuBackend));
        let spec = UpdateSpec { state, tokens: Some(2), ..UpdateSpec::heads(9, 8, 65, 20) };
        by_state!(check::<CpuBackend, bf16>(&spec, &CpuBackend));
    }
}
