//! Laws between backward calls that hold whatever the numbers are; the scan over chunks by the public calls.

#![allow(non_snake_case)]

use crate::common::backends::{self, Backend};
use crate::common::buffer::{Buffer, Order};
use crate::common::compare::expect_accurate;
use crate::common::parts::{gathered, joined, part, upstream_part};
use crate::common::scan::{NaiveScan, ProjectionBuffer, ScanBuffers, ScanCase, ScanSpec, segments};
use crate::common::scan_backward::{
    AnyBuffer, CarryCase, GRADIENTS, NaiveScanBackward, ScanGradients, ScanUpstream, spec,
};
use crate::common::{property, shared_property};
use ssm_kernels::prelude::*;
use ssm_kernels::{Element, Instructions};

fn upstream<T: Element>(case: &ScanCase<T>, spec: &ScanSpec) -> ScanUpstream<T> {
    ScanUpstream::new(case, !spec.seed.is_multiple_of(5), spec.final_state, Order::Dense, spec.seed ^ 2)
}

fn run<B: Backend, T: Element>(backend: &B, case: &ScanCase<T>, upstream: &ScanUpstream<T>) -> ScanGradients<T> {
    let mut gradients = ScanGradients::new(case, &GRADIENTS, Order::Dense);
    backend.selective_scan_backward(case, upstream, &mut gradients).expect("a valid case runs");
    gradients
}

/// The gradients, however they came about, keep the accuracy rule against the naive loop on the whole case. Those that
/// were added up from `parts` were rounded to f32 before: where parts cancel, that is more than the rule knows of.
fn expect_whole<T: Element>(
    law: &str,
    case: &ScanCase<T>,
    upstream: &ScanUpstream<T>,
    got: &ScanGradients<T>,
    parts: &[ScanGradients<T>],
) {
    let expected = NaiveScanBackward { case, upstream }.yardsticks();
    for (which, (name, expected)) in GRADIENTS.into_iter().zip(&expected).enumerate() {
        let Some(whole) = got.each()[which] else { continue };
        let AnyBuffer::F32(buffer) = whole else {
            whole.expect_accurate(&format!("{law}: {name}"), expected);
            continue;
        };
        let mut near = whole.dense();
        let each: Vec<Vec<f64>> = parts.iter().filter_map(|part| Some(part.each()[which]?.dense())).collect();
        for (i, (near, &truth)) in near.iter_mut().zip(expected.truth()).enumerate() {
            let rounded: f64 =
                each.iter().filter_map(|part| part.get(i)).map(|part| part.abs() * f64::powi(2.0, -24)).sum();
            let off = *near - truth;
            // Joined states are no sums: their parts are shorter than the whole.
            if each.iter().all(|part| part.len() == expected.truth().len()) && off.is_finite() {
                *near = truth + off.signum() * (off.abs() - rounded).max(0.0);
            }
        }
        let mut near = near.into_iter();
        let near = Buffer::<f32>::filled(&buffer.dims(), Order::Dense, || near.next().expect("as many") as f32);
        expect_accurate(&format!("{law}: {name}"), &near, expected);
    }
}

fn expect_bits<T: Element>(law: &str, a: &ScanGradients<T>, b: &ScanGradients<T>) {
    for ((name, a), b) in GRADIENTS.into_iter().zip(a.each()).zip(b.each()) {
        assert!(a.map(|a| a.bits()) == b.map(|b| b.bits()), "{law}: bits of {name} differ");
    }
}

/// Packed sequences do not see each other.
fn packed_is_separate<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let label = format!("backward packed is separate {} {}", B::NAME, T::DTYPE);
    shared_property(file!(), &label, 48, backend.share(), spec(), |spec| {
        let lengths = spec.packed.clone().unwrap_or(vec![3, 0, spec.seqlen]);
        let (packed, seqlen) = (Some(lengths.clone()), lengths.iter().sum());
        let case = ScanCase::<T>::new(&ScanSpec { packed, batch: 1, seqlen, ..spec.clone() });
        let upstream = upstream(&case, &spec);
        let (mut parts, mut start) = (vec![], 0);
        for (seq, len) in lengths.into_iter().enumerate() {
            let state = |states: &Option<Buffer<f32>>| states.as_ref().map(|s| s.slice("batch", seq..seq + 1));
            let range = start..start + len;
            let own = part(&case, "seqlen", range.clone(), state(&case.initial_state));
            let by = upstream_part(&upstream, "seqlen", range, state(&upstream.dfinal_state));
            parts.push(run(&backend, &own, &by));
            start += len;
        }
        let whole = run(&backend, &case, &upstream);
        expect_whole("separate", &case, &upstream, &gathered(&parts, "seqlen", "batch", &whole), &parts);
    });
}

/// `reverse` is a flip before and a flip after, inside each packed sequence.
fn reverse_is_flip<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let label = format!("backward reverse is flip {} {}", B::NAME, T::DTYPE);
    shared_property(file!(), &label, 48, backend.share(), spec(), |spec| {
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
        let upstream = upstream(&case, &spec);
        let by = ScanUpstream { dout: upstream.dout.as_ref().map(flipped), ..upstream.clone() };
        let got = run(&backend, &forward, &by);
        let got = ScanGradients {
            dx: got.dx.as_ref().map(flipped),
            ddt: got.ddt.as_ref().map(flipped),
            dz: got.dz.as_ref().map(flipped),
            dB: got.dB.as_ref().map(projection),
            dC: got.dC.as_ref().map(projection),
            ..got
        };
        expect_whole("flip", &case, &upstream, &got, &[]);
    });
}

/// batch n is n times batch 1, bit by bit; sums over the batch are sums of the rows' gradients, in order.
fn batch_is_rows<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let label = format!("backward batch is rows {} {}", B::NAME, T::DTYPE);
    let check = |spec: ScanSpec| {
        let mut case = ScanCase::<T>::new(&ScanSpec { packed: None, ..spec.clone() });
        case.split = [None, Some(2)][spec.seed as usize % 2];
        let upstream = upstream(&case, &spec);
        let rows = (0..spec.batch).map(|b| {
            let state = |states: &Option<Buffer<f32>>| states.as_ref().map(|s| s.slice("batch", b..b + 1));
            let own = part(&case, "batch", b..b + 1, state(&case.initial_state));
            run(&backend, &own, &upstream_part(&upstream, "batch", b..b + 1, state(&upstream.dfinal_state)))
        });
        let rows: Vec<_> = rows.collect();
        let whole = run(&backend, &case, &upstream);
        expect_bits("batch rows", &whole, &gathered(&rows, "batch", "batch", &whole));
        expect_bits("again", &whole, &run(&backend, &case, &upstream));
    };
    // Parts of several sequences, which drawn cases are too short for.
    let all = ScanSpec { constant_B: true, dt_limit: true, ..ScanSpec::all(3, 2, 3, 300) };
    (0..2).for_each(|seed| check(ScanSpec { seed, ..all.clone() }));
    shared_property(file!(), &label, 48, backend.share(), spec(), check);
}

/// One state for each chunk of each row.
fn stacked(chunks: &[Buffer<f32>]) -> Buffer<f32> {
    let mut dims = chunks[0].dims();
    let (batch, rest): (usize, usize) = (dims[0].1, dims[1..].iter().map(|dim| dim.1).product());
    dims.insert(1, ("nchunks", chunks.len()));
    let dense: Vec<Vec<f64>> = chunks.iter().map(Buffer::dense).collect();
    let rows = (0..batch).flat_map(|b| dense.iter().flat_map(move |chunk| chunk[b * rest..][..rest].to_vec()));
    let mut values: std::vec::IntoIter<f64> = rows.collect::<Vec<_>>().into_iter();
    Buffer::filled(&dims, Order::Dense, || values.next().expect("one each") as f32)
}

/// The state of one chunk of each row.
fn unstacked(carried: &Buffer<f32>, chunk: usize) -> Buffer<f32> {
    let mut dims = carried.dims();
    dims.remove(1);
    let mut values = carried.slice("nchunks", chunk..chunk + 1).dense().into_iter();
    Buffer::filled(&dims, Order::Dense, || values.next().expect("one each") as f32)
}

/// The carry pass over these chunks.
fn carry<B: Backend>(
    backend: &B,
    A: &Buffer<f32>,
    delta_sum: &Buffer<f32>,
    states: &[Buffer<f32>],
    initial: &Option<Buffer<f32>>,
    reverse: bool,
) -> Buffer<f32> {
    let (A, delta_sum, states) = (A.clone(), delta_sum.clone(), stacked(states));
    let pass = CarryCase { A, delta_sum, states, initial: initial.clone(), reverse };
    let mut carried = Buffer::poisoned(&pass.states.dims(), Order::Dense);
    backend.selective_scan_carry(&pass, &mut carried).expect("a valid case runs");
    carried
}

/// Chunks that see of each other only what the carry pass hands on are one scan, forward and backward.
fn chunks_are_whole<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let label = format!("chunks are whole {} {}", B::NAME, T::DTYPE);
    shared_property(file!(), &label, 48, backend.share(), spec(), |spec| {
        let case = ScanCase::<T>::new(&ScanSpec { packed: None, ..spec.clone() });
        let upstream = upstream(&case, &spec);
        let cut = [spec.seed as usize % (spec.seqlen + 1), (spec.seed >> 32) as usize % (spec.seqlen + 1)];
        let ranges = [0..cut[0].min(cut[1]), cut[0].min(cut[1])..cut[0].max(cut[1]), cut[0].max(cut[1])..spec.seqlen];
        let chunk = |i: usize, initial| part(&case, "seqlen", ranges[i].clone(), initial);
        let by = |i: usize, last| upstream_part(&upstream, "seqlen", ranges[i].clone(), last);

        // Forward: from nothing, carry, in full.
        let (mut sums, mut states) = (vec![], vec![]);
        for i in 0..3 {
            let own = chunk(i, None);
            let mut outputs = ScanBuffers::states_only(&own, Order::Dense);
            backend.selective_scan_forward(&own, &mut outputs).expect("a valid case runs");
            sums.push(outputs.delta_sum.expect("asked for"));
            states.push(outputs.final_state.expect("asked for"));
        }
        let sums = stacked(&sums);
        let carried = carry(&backend, &case.A, &sums, &states, &case.initial_state, case.reverse);
        let outs = (0..3).map(|i| {
            let own = chunk(i, Some(unstacked(&carried, i)));
            let mut outputs = ScanBuffers::new(&own, true, None, Order::Dense);
            backend.selective_scan_forward(&own, &mut outputs).expect("a valid case runs");
            outputs.out.expect("asked for")
        });
        let out = joined(&outs.collect::<Vec<_>>(), "seqlen", &case.x);
        expect_accurate("chunks: out", &out, &NaiveScan { case: &case, every: None }.yardsticks()[0]);

        // Backward: from nothing, carry the other way, in full.
        let firsts = (0..3).map(|i| {
            let own = chunk(i, None);
            let mut first = ScanGradients::new(&own, &["dinitial_state"], Order::Dense);
            let no_later = by(i, None);
            match no_later.dout {
                // Nothing comes from a chunk without a gradient of its own.
                None => Buffer::filled(&first.dinitial_state.expect("asked for").dims(), Order::Dense, || 0.0),
                Some(_) => {
                    backend.selective_scan_backward(&own, &no_later, &mut first).expect("a valid case runs");
                    first.dinitial_state.expect("asked for")
                }
            }
        });
        let firsts: Vec<_> = firsts.collect();
        let last = carry(&backend, &case.A, &sums, &firsts, &upstream.dfinal_state, !case.reverse);
        let parts: Vec<_> = (0..3)
            .map(|i| run(&backend, &chunk(i, Some(unstacked(&carried, i))), &by(i, Some(unstacked(&last, i)))))
            .collect();
        let mut got = gathered(&parts, "seqlen", "none", &ScanGradients::new(&case, &GRADIENTS, Order::Dense));
        got.dinitial_state = parts[if case.reverse { 2 } else { 0 }].dinitial_state.clone();
        expect_whole("chunks", &case, &upstream, &got, &parts);
    });
}

crate::suites!(packed_is_separate, reverse_is_flip, batch_is_rows, chunks_are_whole);

/// The kernels' bits do not depend on the order of warps and blocks.
#[cfg(feature = "emulator")]
#[test]
fn schedules_do_not_change_bits() {
    use crate::common::emulator::EmulatorBackend;
    use ssm_kernels::gpu::Mode;
    property(file!(), "backward schedules do not change bits", 12, spec(), |spec| {
        let mut case = ScanCase::<f32>::new(&spec);
        case.split = [None, Some(3)][spec.seed as usize % 2];
        let upstream = upstream(&case, &spec);
        let nominal = run(&EmulatorBackend(Mode::Nominal), &case, &upstream);
        for seed in [spec.seed, spec.seed ^ 0x5eed] {
            expect_bits("schedules", &nominal, &run(&EmulatorBackend(Mode::Shuffled { seed }), &case, &upstream));
        }
    });
}

/// The CPU backend's bits do not depend on the number of threads.
#[test]
fn threads_do_not_change_bits() {
    property(file!(), "backward threads do not change bits", 24, spec(), |spec| {
        let mut case = ScanCase::<f32>::new(&spec);
        case.split = [None, Some(3)][spec.seed as usize % 2];
        let upstream = upstream(&case, &spec);
        let whole = run(&backends::CpuBackend, &case, &upstream);
        for threads in [1, 2, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            let other = pool.install(|| run(&backends::CpuBackend, &case, &upstream));
            expect_bits("threads", &whole, &other);
        }
    });
}

/// Nor on the instruction set.
#[test]
fn instructions_do_not_change_bits() {
    property(file!(), "backward instructions do not change bits", 64, spec(), |spec| {
        let mut case = ScanCase::<f32>::new(&spec);
        case.split = [None, Some(3)][spec.seed as usize % 2];
        let upstream = upstream(&case, &spec);
        let best = run(&backends::CpuBackend, &case, &upstream);
        let scan = case.scan().expect("a valid case");
        for instructions in [Instructions::Avx2, Instructions::Scalar] {
            let mut other = ScanGradients::new(&case, &GRADIENTS, Order::Dense);
            let cpu = Cpu::new().instructions(instructions);
            other.with_views(|wanted| cpu.backward(&scan, upstream.views(), wanted)).expect("a valid case runs");
            expect_bits("instructions", &best, &other);
        }
    });
}
