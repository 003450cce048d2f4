//! The selective scan: every backend against the naive recurrence.
// A is the field's name.
#![allow(non_snake_case)]

use crate::common::backends::{self, Backend};
use crate::common::buffer::{Buffer, Order};
use crate::common::compare::expect_accurate;
use crate::common::random::Random;
use crate::common::scan::{NaiveScan, ScanBuffers, ScanCase, ScanSpec, spec};
use crate::common::{say, shared_property};
use ssm_kernels::{Dtype, Element};

fn check<B: Backend, T: Element>(backend: &B, spec: &ScanSpec) {
    check_case::<B, T>(backend, &ScanCase::new(spec), &(spec.clone(), 0.0));
}

/// One case under the accuracy rule, all its outputs. `what`: the outputs, and all else that makes the case.
fn check_case<B: Backend, T: Element>(backend: &B, case: &ScanCase<T>, what: &(ScanSpec, f32)) {
    let spec = &what.0;
    let expected = NaiveScan { case, every: spec.every }.yardsticks();
    backends::in_modes(backend, what, |backend, text| {
        let mut outputs = ScanBuffers::new(case, spec.final_state, spec.every, spec.order);
        let done = backend.selective_scan_forward(case, &mut outputs);
        done.unwrap_or_else(|error| panic!("a valid case runs: {error}\n{text}"));
        let label = |tensor: &str| format!("{tensor}, {text}");
        expect_accurate(&label("out"), outputs.out(), &expected[0]);
        if let Some(final_state) = &outputs.final_state {
            expect_accurate(&label("final_state"), final_state, &expected[1]);
        }
        if let Some((_, chunk_states)) = &outputs.chunk_states {
            expect_accurate(&label("chunk_states"), chunk_states, &expected[2]);
        }
    });
}

/// Nothing but what decay leaves of states, over few strong steps or many mild ones: whatever the decay errs shows, and
/// what every step errs alike adds up.
fn decayed<B: Backend, T: Element>() {
    powers::<B, T>("decayed", 1.0);
}

/// The same of states that grow, with steps below 0.
fn grown<B: Backend, T: Element>() {
    powers::<B, T>("grown", -1.0);
}

fn powers<B: Backend, T: Element>(name: &str, sign: f32) {
    let Some(backend) = backends::open::<B>() else { return };
    let decays =
        [(1.3, -64.0), (4.208_142_8, -16.0), (2.605_370_5, -32.0), (1.323_596, -64.0), (2.0, -40.0), (4.0, -16.0)];
    let mut random = Random::new(3);
    let mut count = 0;
    for (step, a) in decays {
        for (seqlen, dstate, constant_B) in [
            (1, 1, false),
            (2, 1, false),
            (2, 17, true),
            (5, 40, false),
            (31, 3, true),
            (31, 16, false),
            (90, 8, false),
        ] {
            let spec = ScanSpec {
                dt_limit: sign > 0.0,
                initial_state: true,
                constant_B,
                ..ScanSpec::plain(1, 8, dstate, seqlen)
            };
            let mut case = ScanCase::<T>::new(&spec);
            let vary = if seqlen == 90 { 0.5 } else { 0.0 };
            case.dt_limit = (sign > 0.0).then_some((0.0, f32::INFINITY));
            case.x = Buffer::filled(&case.x.dims(), Order::Dense, || 0.0);
            let step_of = |random: &mut Random| sign * step / seqlen as f32 * random.uniform(1.0 - vary, 1.0);
            case.dt = Buffer::filled(&case.dt.dims(), Order::Dense, || step_of(&mut random));
            // Equal states would have equal errors in plain loops alone.
            let apart = if dstate == 1 { 0.0 } else { 0.01 };
            case.A = Buffer::filled(&case.A.dims(), Order::Dense, || a * random.uniform(1.0 - apart, 1.0));
            case.initial_state = Some(Buffer::filled(&case.initial_state.expect("asked").dims(), Order::Dense, || 1.0));
            check_case::<B, T>(&backend, &case, &(spec, sign * step));
            count += 1;
        }
    }
    say(format_args!("selective_scan {name} {} {}: {count} cases", B::NAME, T::DTYPE));
}

/// So few channels and so many steps that the CPU cuts sequences of its own accord.
fn by_rule<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    if backend.slow() {
        return;
    }
    check::<B, T>(&backend, &ScanSpec::all(1, 3, 2, 8300));
    let lengths = vec![8300, 0, 5];
    let spec = ScanSpec { packed: Some(lengths.clone()), ..ScanSpec::all(1, 2, 3, lengths.iter().sum()) };
    check::<B, T>(&backend, &ScanSpec { order: Order::ChannelLast, reverse: true, ..spec });
    say(format_args!("selective_scan by rule {} {}: 2 cases", B::NAME, T::DTYPE));
}

fn drawn<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let label = format!("selective_scan forward {} {}", B::NAME, T::DTYPE);
    shared_property(file!(), &label, 256, backend.share(), spec(), |spec| check::<B, T>(&backend, &spec));
}

/// Lengths and chunk ends around every power of two, and a prime, in every memory order, forward and reverse.
fn lengths<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let mut count = 0;
    for seqlen in [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 257, 509] {
        for order in [Order::Dense, Order::ChannelLast, Order::Strided(seqlen as u64)] {
            for every in [1, 16, 64] {
                let reverse = every == 16;
                let all = ScanSpec { order, reverse, every: Some(every), ..ScanSpec::all(2, 3, 4, seqlen) };
                check::<B, T>(&backend, &all);
                check::<B, T>(&backend, &ScanSpec { order, reverse, ..ScanSpec::plain(1, 2, 3, seqlen) });
                count += 2;
            }
        }
    }
    say(format_args!("selective_scan lengths {} {}: {count} cases", B::NAME, T::DTYPE));
}

/// Every dstate and dim that a tile or a lane might trip over, 0 included.
fn shapes<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let mut count = 0;
    for dstate in [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 65, 128, 256, 300, 512, 513, 1030] {
        for dim in [1, 3] {
            let spec = ScanSpec::all(2, dim, dstate, 19);
            check::<B, T>(&backend, &spec);
            check::<B, T>(&backend, &ScanSpec { constant_B: true, order: Order::ChannelLast, ..spec.clone() });
            check::<B, T>(&backend, &ScanSpec { constant_C: true, order: Order::Strided(5), ..spec });
            count += 3;
        }
    }
    for (batch, ngroups, channels_per_group) in
        [(0, 1, 3), (2, 1, 0), (1, 0, 0), (1, 2, 1), (1, 5, 3), (3, 4, 2), (1, 1, 130), (1, 16, 8), (1, 33, 1)]
    {
        for order in [Order::Dense, Order::ChannelLast, Order::AlignedChannelLast] {
            let spec = ScanSpec { batch, ngroups, channels_per_group, order, ..ScanSpec::all(1, 1, 4, 11) };
            check::<B, T>(&backend, &spec);
            count += 1;
        }
    }
    // More sequences than blocks that a GPU gives them.
    if !backend.slow() || T::DTYPE == Dtype::F32 {
        check::<B, T>(&backend, &ScanSpec::all(520, 1, 513, 3));
        count += 1;
    }
    say(format_args!("selective_scan shapes {} {}: {count} cases", B::NAME, T::DTYPE));
}

/// Packed sequences with empty, single and long ones, forward and reverse, with chunk states.
fn packed<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let mut count = 0;
    for lengths in [vec![0], vec![0, 0, 3], vec![1, 1, 1], vec![17, 1, 0, 33, 7], vec![64, 65, 63], vec![8, 16, 24, 0]]
    {
        for order in [Order::Dense, Order::ChannelLast] {
            for (reverse, initial_state) in [(false, false), (false, true), (true, false), (true, true)] {
                let (packed, seqlen) = (Some(lengths.clone()), lengths.iter().sum());
                let spec = ScanSpec { packed, reverse, initial_state, order, ..ScanSpec::all(1, 4, 5, seqlen) };
                check::<B, T>(&backend, &ScanSpec { ngroups: 2, channels_per_group: 2, ..spec });
                count += 1;
            }
        }
    }
    say(format_args!("selective_scan packed {} {}: {count} cases", B::NAME, T::DTYPE));
}

/// Negative steps make states grow by e^80 in all: an error that every step repeats (a decay rounded once and for all,
/// say) adds up, and nothing forgets it.
fn growing<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let mut count = 0;
    for (seqlen, total) in [(1, 80.0), (20, 80.0), (100, 80.0), (400, 80.0), (400, 40.0)] {
        for dstate in [3, 24] {
            let spec = ScanSpec { every: Some(16), ..ScanSpec::plain(2, 3, dstate, seqlen) };
            let spec = ScanSpec { initial_state: true, final_state: true, ..spec };
            let mut case = ScanCase::<T>::new(&spec);
            let mut random = Random::new(count);
            let step = total / seqlen as f32;
            case.dt = Buffer::filled(&case.dt.dims(), Order::Dense, || -step * random.uniform(0.9, 1.0));
            case.A = Buffer::filled(&case.A.dims(), Order::Dense, || -random.uniform(0.9, 1.0));
            check_case(&backend, &case, &(spec.clone(), total));
            // The same by limits, under softplus.
            case.dt_softplus = true;
            case.dt_limit = Some((-2.0 * step, -step));
            check_case(&backend, &case, &(spec, -total));
            count += 2;
        }
    }
    say(format_args!("selective_scan growing {} {}: {count} cases", B::NAME, T::DTYPE));
}

/// Few outputs, whose terms over the states cancel: plain loops in one order alone may be right by luck.
fn cancelling<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let spec = ScanSpec {
        ngroups: 2,
        channels_per_group: 3,
        packed: Some(vec![1]),
        constant_B: true,
        constant_C: true,
        dt_softplus: true,
        every: Some(1),
        seed: 11232469795579919819,
        ..ScanSpec::plain(1, 6, 17, 1)
    };
    check::<B, T>(&backend, &spec);
}

/// The largest negative A, which log2(e) makes infinite, beside steps that are 0.
fn largest_decay<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let spec = ScanSpec { dt_softplus: true, initial_state: true, final_state: true, ..ScanSpec::plain(1, 2, 3, 6) };
    let mut case = ScanCase::<T>::new(&spec);
    let mut steps = [-200.0f32, 1.0].into_iter().cycle();
    case.dt = Buffer::filled(&case.dt.dims(), Order::Dense, || steps.next().expect("endless"));
    case.A = Buffer::filled(&case.A.dims(), Order::Dense, || -3e38);
    check_case(&backend, &case, &(spec, 0.0));
}

crate::suites!(drawn, lengths, shapes, packed, growing, cancelling, largest_decay, decayed, grown, by_rule);
