//! Laws between calls that hold whatever the numbers are.

#![allow(non_snake_case)]

use crate::common::backends::{self, Backend};
use crate::common::buffer::{Buffer, Order};
use crate::common::compare::expect_accurate;
use crate::common::parts::{expect_same_bits, joined, part};
use crate::common::scan::{NaiveScan, ProjectionBuffer, ScanBuffers, ScanCase, ScanSpec, segments, spec};
use crate::common::{property, say, shared_property};
use ssm_kernels::Instructions;
use ssm_kernels::prelude::*;
use ssm_kernels::{Element, reference};

/// `out` and `final_state` of one call.
fn run<B: Backend, T: Element>(backend: &B, case: &ScanCase<T>) -> (Buffer<T>, Buffer<f32>) {
    let mut outputs = ScanBuffers::new(case, true, None, Order::Dense);
    backend.selective_scan_forward(case, &mut outputs).expect("a valid case runs");
    (outputs.out.expect("asked for"), outputs.final_state.expect("asked for"))
}

/// The outputs, however they came about, keep the accuracy rule against the naive loop on the whole case.
fn expect_whole<T: Element>(law: &str, case: &ScanCase<T>, out: &Buffer<T>, final_state: &Buffer<f32>) {
    let expected = NaiveScan { case, every: None }.yardsticks();
    expect_accurate(&format!("{law}: out"), out, &expected[0]);
    expect_accurate(&format!("{law}: final_state"), final_state, &expected[1]);
}

/// Two calls that carry the state from one to the other are one call.
fn split_is_whole<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let share = backend.share();
    shared_property(file!(), &format!("split is whole {} {}", B::NAME, T::DTYPE), 64, share, spec(), |spec| {
        let case = ScanCase::<T>::new(&ScanSpec { packed: None, ..spec.clone() });
        let len = spec.seqlen;
        let cut = spec.seed as usize % (len + 1);
        // In scan order the first part of a reversed scan is the end.
        let (first, second) = if spec.reverse { (cut..len, 0..cut) } else { (0..cut, cut..len) };
        let (out_first, carried) = run(&backend, &part(&case, "seqlen", first, case.initial_state.clone()));
        let (out_second, final_state) = run(&backend, &part(&case, "seqlen", second, Some(carried)));
        let parts = if spec.reverse { [out_second, out_first] } else { [out_first, out_second] };
        expect_whole("split", &case, &joined(&parts, "seqlen", &case.x), &final_state);
    });
}

/// The state after k full chunks is the final state of a scan of that many steps.
fn chunk_states_are_prefixes<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let share = backend.share();
    shared_property(
        file!(),
        &format!("chunk states are prefixes {} {}", B::NAME, T::DTYPE),
        64,
        share,
        spec(),
        |spec| {
            let case = ScanCase::<T>::new(&spec);
            let every = spec.every.unwrap_or(3);
            let mut outputs = ScanBuffers::new(&case, false, Some(every), Order::Dense);
            backend.selective_scan_forward(&case, &mut outputs).expect("a valid case runs");
            let (_, chunk_states) = outputs.chunk_states.expect("asked for");
            let (lengths, mut start, mut row) = (spec.packed.clone().unwrap_or(vec![spec.seqlen; spec.batch]), 0, 0);
            for (seq, len) in lengths.into_iter().enumerate() {
                let (own, offset) = match spec.packed {
                    Some(_) => (case.clone(), start),
                    None => (part(&case, "batch", seq..seq + 1, case.initial_state.clone()), 0),
                };
                let initial = case.initial_state.as_ref().map(|state| state.slice("batch", seq..seq + 1));
                for steps in (every..=len).step_by(every) {
                    let range = if spec.reverse { offset + len - steps..offset + len } else { offset..offset + steps };
                    let prefix = part(&own, "seqlen", range, initial.clone());
                    let state = chunk_states.slice("nchunks", row..row + 1).renamed("nchunks", "batch");
                    expect_accurate("prefix state", &state, &NaiveScan { case: &prefix, every: None }.yardsticks()[1]);
                    row += 1;
                }
                start += len;
            }
            assert_eq!(chunk_states.dims()[0].1, row, "one row for each full chunk");
        },
    );
}

/// Packed sequences do not see each other.
fn packed_is_separate<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let share = backend.share();
    shared_property(file!(), &format!("packed is separate {} {}", B::NAME, T::DTYPE), 64, share, spec(), |spec| {
        let lengths = spec.packed.clone().unwrap_or(vec![3, 0, spec.seqlen]);
        let (packed, seqlen) = (Some(lengths.clone()), lengths.iter().sum());
        let case = ScanCase::<T>::new(&ScanSpec { packed, batch: 1, seqlen, ..spec.clone() });
        let (mut outs, mut states, mut start) = (vec![], vec![], 0);
        for (seq, len) in lengths.into_iter().enumerate() {
            let initial = case.initial_state.as_ref().map(|state| state.slice("batch", seq..seq + 1));
            let (out, state) = run(&backend, &part(&case, "seqlen", start..start + len, initial));
            (start, _) = (start + len, outs.push(out));
            states.push(state);
        }
        let (_, packed_states) = run(&backend, &case);
        let states = joined(&states, "batch", &packed_states);
        expect_whole("separate", &case, &joined(&outs, "seqlen", &case.x), &states);
    });
}

/// `reverse` is a flip before and a flip after, inside each packed sequence.
fn reverse_is_flip<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let share = backend.share();
    shared_property(file!(), &format!("reverse is flip {} {}", B::NAME, T::DTYPE), 64, share, spec(), |spec| {
        let case = ScanCase::<T>::new(&ScanSpec { reverse: true, ..spec.clone() });
        let whole = segments(&[spec.seqlen]);
        let bounds = case.segments.as_ref().unwrap_or(&whole);
        let flip = |t: usize| {
            let mut spans = (0..bounds.nseqs()).map(|seq| bounds.bounds(seq));
            let (start, len) = spans.find(|(start, len)| (*start..start + len).contains(&t)).expect("inside");
            2 * start + len - 1 - t
        };
        let flipped = |buffer: &Buffer<T>| buffer.reordered("seqlen", flip);
        let projection = |projection: &ProjectionBuffer<T>| match projection {
            ProjectionBuffer::Variable(buffer) => ProjectionBuffer::Variable(flipped(buffer)),
            constant => constant.clone(),
        };
        let forward = ScanCase {
            x: flipped(&case.x),
            dt: flipped(&case.dt),
            B: projection(&case.B),
            C: projection(&case.C),
            z: case.z.as_ref().map(flipped),
            reverse: false,
            ..case.clone()
        };
        let (out, final_state) = run(&backend, &forward);
        expect_whole("flip", &case, &flipped(&out), &final_state);
    });
}

/// batch n is n times batch 1, bit by bit.
fn batch_is_rows<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let share = backend.share();
    shared_property(file!(), &format!("batch is rows {} {}", B::NAME, T::DTYPE), 64, share, spec(), |spec| {
        let case = ScanCase::<T>::new(&ScanSpec { packed: None, ..spec.clone() });
        let (out, final_state) = run(&backend, &case);
        for b in 0..spec.batch {
            let initial = case.initial_state.as_ref().map(|state| state.slice("batch", b..b + 1));
            let (row, state) = run(&backend, &part(&case, "batch", b..b + 1, initial));
            expect_same_bits("batch row: out", &out.slice("batch", b..b + 1), &row);
            expect_same_bits("batch row: final_state", &final_state.slice("batch", b..b + 1), &state);
        }
    });
}

/// Channels of one group in another order give the same bits in that order; run equals run.
fn channels_are_independent<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let share = backend.share();
    shared_property(file!(), &format!("permuted channels {} {}", B::NAME, T::DTYPE), 64, share, spec(), |spec| {
        let case = ScanCase::<T>::new(&spec);
        let per_group = spec.channels_per_group;
        let rotate = |d: usize| d / per_group * per_group + (d % per_group + 1) % per_group;
        let io = |buffer: &Buffer<T>| buffer.reordered("dim", rotate);
        let f32s = |buffer: &Buffer<f32>| buffer.reordered("dim", rotate);
        let projection = |projection: &ProjectionBuffer<T>| match projection {
            ProjectionBuffer::Constant(buffer) => ProjectionBuffer::Constant(f32s(buffer)),
            variable => variable.clone(),
        };
        let permuted = ScanCase {
            x: io(&case.x),
            dt: io(&case.dt),
            A: f32s(&case.A),
            B: projection(&case.B),
            C: projection(&case.C),
            D: case.D.as_ref().map(f32s),
            z: case.z.as_ref().map(io),
            dt_bias: case.dt_bias.as_ref().map(f32s),
            initial_state: case.initial_state.as_ref().map(f32s),
            ..case.clone()
        };
        let (out, final_state) = run(&backend, &case);
        let (permuted_out, permuted_state) = run(&backend, &permuted);
        expect_same_bits("permuted: out", &io(&out), &permuted_out);
        expect_same_bits("permuted: final_state", &f32s(&final_state), &permuted_state);
        let again = run(&backend, &case);
        expect_same_bits("again: out", &out, &again.0);
        expect_same_bits("again: final_state", &final_state, &again.1);
    });
}

/// Constant B and C are variable ones that do not vary, one group per channel. (In f32, where both are stored alike.)
fn constant_is_unvarying<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let share = backend.share();
    shared_property(file!(), &format!("constant is unvarying {} {}", B::NAME, T::DTYPE), 64, share, spec(), |spec| {
        let spec = ScanSpec { constant_B: true, constant_C: true, ..spec };
        let mut case = ScanCase::<T>::new(&spec);
        let dims = [("batch", spec.batch), ("ngroups", spec.dim()), ("dstate", spec.dstate), ("seqlen", spec.seqlen)];
        let constants = [&mut case.B, &mut case.C].map(|projection| {
            let ProjectionBuffer::Constant(buffer) = projection else { unreachable!("asked for constant ones") };
            let values = buffer.dense();
            let rounded = values.iter().map(|&value| T::from_f32(value as f32).to_f32());
            let rounded: Vec<f32> = rounded.collect();
            let mut next = rounded.iter();
            *buffer = Buffer::filled(&buffer.dims(), Order::Dense, || *next.next().expect("one each"));
            rounded
        });
        let (out, final_state) = run(&backend, &case);
        let mut spread = constants.into_iter().map(|values| {
            let mut i = 0;
            ProjectionBuffer::Variable(Buffer::filled(&dims, Order::Dense, || {
                i += 1;
                values[(i - 1) / spec.seqlen % values.len()]
            }))
        });
        let (Some(B), Some(C)) = (spread.next(), spread.next()) else { unreachable!("two projections") };
        let (spread_out, spread_state) = run(&backend, &ScanCase { B, C, ..case.clone() });
        expect_whole("constant", &case, &out, &final_state);
        expect_whole("unvarying", &case, &spread_out, &spread_state);
    });
}

crate::suites!(
    split_is_whole,
    chunk_states_are_prefixes,
    packed_is_separate,
    reverse_is_flip,
    batch_is_rows,
    channels_are_independent,
    constant_is_unvarying
);

/// The CPU backend's bits do not depend on the number of threads.
#[test]
fn threads_do_not_change_bits() {
    property(file!(), "threads do not change bits", 24, spec(), |spec| {
        // Enough state steps for several tasks.
        let spec = ScanSpec { channels_per_group: 40 * spec.channels_per_group, ..spec };
        let case = ScanCase::<f32>::new(&spec);
        let (out, final_state) = run(&backends::CpuBackend, &case);
        for threads in [1, 2, 3, 8] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            let (other, state) = pool.install(|| run(&backends::CpuBackend, &case));
            expect_same_bits("threads: out", &out, &other);
            expect_same_bits("threads: final_state", &final_state, &state);
        }
        let mut alone = Buffer::<f32>::poisoned(&case.x.dims(), Order::Dense);
        let scan = case.scan().expect("a valid case");
        let mut view = alone.view_mut();
        Cpu::single_thread().forward(&scan, SelectiveScanOutputs::new(&mut view)).expect("a valid case runs");
        expect_same_bits("single_thread: out", &out, &alone);
    });
}

/// Nor on the instruction set.
#[test]
fn instructions_do_not_change_bits() {
    property(file!(), "instructions do not change bits", 128, spec(), |spec| {
        let case = ScanCase::<f32>::new(&spec);
        let (out, final_state) = run(&backends::CpuBackend, &case);
        let scan = case.scan().expect("a valid case");
        for instructions in [Instructions::Avx2, Instructions::Scalar] {
            let mut other = Buffer::<f32>::poisoned(&out.dims(), Order::Dense);
            let mut state = Buffer::<f32>::poisoned(&final_state.dims(), Order::Dense);
            let (mut other_view, mut state_view) = (other.view_mut(), state.view_mut());
            let outputs = SelectiveScanOutputs::new(&mut other_view).final_state(&mut state_view);
            Cpu::new().instructions(instructions).forward(&scan, outputs).expect("a valid case runs");
            expect_same_bits("instructions: out", &out, &other);
            expect_same_bits("instructions: final_state", &final_state, &state);
        }
    });
}

/// With A = 0 and B, C, delta = 1 the scan is a running sum, which needs no oracle.
#[test]
fn no_decay_is_a_running_sum() {
    let seqlen = 100;
    let (ones, zero) = (vec![1.0f32; seqlen], [0.0f32]);
    let x: Vec<f32> = (0..seqlen).map(|t| (t % 7) as f32 - 3.0).collect();
    let sequence = [("batch", 1), ("dim", 1), ("seqlen", seqlen)];
    let projection = View::new(&ones, [("batch", 1), ("ngroups", 1), ("dstate", 1), ("seqlen", seqlen)]);
    let A = View::new(&zero, [("dim", 1), ("dstate", 1)]);
    let scan = SelectiveScan::new(View::new(&x, sequence), View::new(&ones, sequence), A, projection, projection)
        .expect("a valid scan");
    let sums = x.iter().scan(0.0, |sum, x| {
        *sum += x;
        Some(*sum)
    });
    let sums: Vec<f32> = sums.collect();
    let mut out = vec![f32::NAN; seqlen];
    Cpu::new()
        .forward(&scan, SelectiveScanOutputs::new(&mut ViewMut::new(&mut out, sequence)))
        .expect("a valid scan runs");
    assert_eq!(out, sums);
    assert_eq!(reference::selective_scan::forward::<f32, f32>(&scan, None).expect("a valid scan").out, sums);
    say(format_args!("running sum: {seqlen} steps"));
}
