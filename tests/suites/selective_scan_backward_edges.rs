//! The selective scan backward where something overflows, grows, cancels, switches or takes turns: every backend against the
//! naive loops.

#![allow(non_snake_case)]

use crate::common::backends::{self, Backend};
use crate::common::backward_case::{ALL, How, check, check_case};
use crate::common::buffer::{Buffer, Order};
use crate::common::random::Random;
use crate::common::say;
use crate::common::scan::{ProjectionBuffer, ScanCase, ScanSpec};
use ssm_kernels::prelude::*;
use ssm_kernels::{Dtype, Element, Instructions};

/// An infinite step or input in the middle: what lies before and after it, and states that a lane has beyond dstate, stay
/// what they are; an absent dout is left out, not multiplied by 0.
fn infinities<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let mut count = 0;
    for dstate in [8, 16, 20] {
        for (dt, x, dout) in [(f32::INFINITY, 1.0, true), (0.5, f32::INFINITY, false), (0.5, f32::INFINITY, true)] {
            let spec = ScanSpec { z: true, D: true, ..ScanSpec::plain(1, 2, dstate, 9) };
            let mut case = ScanCase::<T>::new(&spec);
            let mut at = 0..;
            let mut once = |value: f32, usual: f32| if at.next() == Some(4) { value } else { usual };
            case.dt = Buffer::filled(&case.dt.dims(), Order::Dense, || once(dt, 0.25));
            let mut at = 0..;
            let mut once = |value: f32, usual: f32| if at.next() == Some(4) { value } else { usual };
            case.x = Buffer::filled(&case.x.dims(), Order::Dense, || once(x, 0.5));
            check_case(&backend, case, &spec, How { dout, ..ALL });
            count += 1;
        }
        // Lanes without a channel see them too.
        for of in 0..2 {
            let spec = ScanSpec { z: true, D: true, ..ScanSpec::plain(1, 3, dstate, 9) };
            let mut case = ScanCase::<T>::new(&spec);
            let projection = if of == 0 { &mut case.B } else { &mut case.C };
            let ProjectionBuffer::Variable(buffer) = projection else { panic!("variable as specified") };
            let mut at = 0..;
            let mut once = || if at.next() == Some(4) { f32::INFINITY } else { 0.5 };
            *buffer = Buffer::filled(&buffer.dims(), Order::Dense, &mut once);
            check_case(&backend, case, &spec, ALL);
            count += 1;
        }
    }
    say(format_args!("selective_scan backward infinities {} {}: {count} cases", B::NAME, T::DTYPE));
}

/// More sequences than blocks that a GPU gives them: they take turns in what a block keeps between tiles and slabs.
fn turns<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    if backend.slow() && T::DTYPE != Dtype::F32 {
        return;
    }
    let mut lengths = vec![3; 650];
    (lengths[1], lengths[600], lengths[649]) = (140, 37, 0);
    let packed = ScanSpec { packed: Some(lengths.clone()), ..ScanSpec::all(1, 2, 3, lengths.iter().sum()) };
    for spec in [ScanSpec::all(530, 1, 2, 17), ScanSpec::all(520, 1, 513, 3), packed] {
        check::<B, T>(&backend, &spec, ALL);
    }
    say(format_args!("selective_scan backward turns {} {}: 3 cases", B::NAME, T::DTYPE));
}

/// As many steps as make plans cut sequences of their own accord.
fn by_rule<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    if backend.slow() && T::DTYPE != Dtype::F32 {
        return;
    }
    check::<B, T>(&backend, &ScanSpec::all(2, 2, 2, 1500), ALL);
    if !backend.slow() {
        check::<B, T>(&backend, &ScanSpec::all(1, 3, 2, 8300), ALL);
    }
    say(format_args!(
        "selective_scan backward by rule {} {}: {} cases",
        B::NAME,
        T::DTYPE,
        2 - usize::from(backend.slow())
    ));
}

/// States that grow by e^80 in all: whatever every step errs adds up.
fn growing<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let mut count = 0;
    for (seqlen, total, split) in [(20, 80.0, None), (400, 80.0, None), (400, 40.0, Some(2)), (400, 80.0, Some(2))] {
        for dstate in [3, 24] {
            let spec = ScanSpec { initial_state: true, seed: count, ..ScanSpec::plain(2, 3, dstate, seqlen) };
            let mut case = ScanCase::<T>::new(&spec);
            let mut random = Random::new(count);
            let step = total / seqlen as f32;
            case.dt = Buffer::filled(&case.dt.dims(), Order::Dense, || -step * random.uniform(0.9, 1.0));
            case.A = Buffer::filled(&case.A.dims(), Order::Dense, || -random.uniform(0.9, 1.0));
            check_case(&backend, case, &spec, How { split, ..ALL });
            count += 1;
        }
    }
    say(format_args!("selective_scan backward growing {} {}: {count} cases", B::NAME, T::DTYPE));
}

/// What decay leaves of states and of what comes back through them, over few strong steps or many mild ones: whatever the decay errs
/// shows in dinitial_state and dA, and what every step errs alike adds up.
fn decayed<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let decays =
        [(1.3, -64.0), (4.208_142_8, -16.0), (2.605_370_5, -32.0), (1.323_596, -64.0), (2.0, -40.0), (4.0, -16.0)];
    let mut random = Random::new(4);
    let mut count = 0;
    for (i, (step, a)) in decays.into_iter().enumerate() {
        for (seqlen, dstate, split, constant_B) in [
            (1, 1, None, false),
            (2, 1, None, true),
            (31, 1, None, false),
            (150, 1, Some(2), false),
            (3, 24, None, false),
            (9, 70, None, false),
            (140, 16, Some(2), false),
        ] {
            let spec = ScanSpec { initial_state: true, constant_B, ..ScanSpec::plain(1, 8, dstate, seqlen) };
            let spec = ScanSpec { dt_limit: true, reverse: i == 1, ..spec };
            let mut case = ScanCase::<T>::new(&spec);
            case.dt_limit = Some((0.0, f32::INFINITY));
            case.x = Buffer::filled(&case.x.dims(), Order::Dense, || 0.0);
            case.dt = Buffer::filled(&case.dt.dims(), Order::Dense, || step / seqlen as f32);
            // Equal states would have equal errors in plain loops alone.
            let apart = if dstate == 1 { 0.0 } else { 0.01 };
            case.A = Buffer::filled(&case.A.dims(), Order::Dense, || a * random.uniform(1.0 - apart, 1.0));
            check_case(&backend, case, &spec, How { dout: false, dfinal_state: true, split, ..ALL });
            count += 1;
        }
    }
    say(format_args!("selective_scan backward decayed {} {}: {count} cases", B::NAME, T::DTYPE));
}

/// Decays of e^-0 to e^-300, mild and strong ones side by side: what is next to nothing is added to what is not, and to nothing.
fn vanishing<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let mut count = 0;
    for (dim, dstate, seqlen, strongest) in
        [(17, 6, 40, 300.0), (3, 24, 40, 300.0), (18, 3, 33, 100.0), (2, 40, 9, 130.0)]
    {
        for (x, dout) in [(1.0, true), (0.0, false), (1e-30, true)] {
            let spec = ScanSpec { initial_state: true, z: true, ..ScanSpec::plain(1, dim, dstate, seqlen) };
            let mut case = ScanCase::<T>::new(&spec);
            let mut random = Random::new(count);
            let x = if T::DTYPE == Dtype::F16 && x > 0.0 { 1.0 } else { x };
            case.x = Buffer::filled(&case.x.dims(), Order::Dense, || x * random.normal());
            case.dt = Buffer::filled(&case.dt.dims(), Order::Dense, || random.uniform(0.0, 1.0));
            case.A = Buffer::filled(&case.A.dims(), Order::Dense, || -random.uniform(0.0, strongest));
            check_case(&backend, case, &spec, How { dout, dfinal_state: true, ..ALL });
            count += 1;
        }
    }
    say(format_args!("selective_scan backward vanishing {} {}: {count} cases", B::NAME, T::DTYPE));
}

/// Steps on both sides of the switch of softplus, which drawn cases hardly reach.
fn switch<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let spec = ScanSpec { dt_softplus: true, ..ScanSpec::plain(2, 5, 9, 40) };
    let mut case = ScanCase::<T>::new(&spec);
    let mut random = Random::new(7);
    case.dt = Buffer::filled(&case.dt.dims(), Order::Dense, || random.uniform(15.0, 25.0));
    case.A = Buffer::filled(&case.A.dims(), Order::Dense, || -random.log_uniform(1e-3, 1e-1));
    check_case(&backend, case, &spec, ALL);
    say(format_args!("selective_scan backward switch {} {}: 1 case", B::NAME, T::DTYPE));
}

/// Sums that few plain loops err in as much as a backend may: one channel whose dD the loop has right to the last bit by
/// luck, at 1/30 of its terms; and ten products of up to 4.2 that leave -0.34, which fused multiply-adds in the plain order
/// miss by four times as much as products rounded by themselves.
fn lucky<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    for seed in [17_307_455_935_641_468_802, 1, 2, 3] {
        let spec = ScanSpec { D: true, seed, ..ScanSpec::plain(3, 1, 1, 14) };
        check::<B, T>(&backend, &spec, How { dfinal_state: false, ..ALL });
    }
    let (ngroups, packed, seed) = (2, Some(vec![1, 1]), 2_144_407_639_765_389_404);
    let spec = ScanSpec { ngroups, channels_per_group: 3, packed, seed, ..ScanSpec::plain(1, 6, 10, 2) };
    let spec = ScanSpec { constant_B: true, final_state: false, ..spec };
    check::<B, T>(&backend, &spec, How { dfinal_state: false, split: Some(1), ..ALL });
    say(format_args!("selective_scan backward lucky {} {}: 5 cases", B::NAME, T::DTYPE));
}

crate::suites!(infinities, turns, by_rule, growing, decayed, vanishing, switch, lucky);

/// Lanes of a vector without a channel add nothing to sums over channels, not even where B or C is infinite, nor in the windows
/// after that.
#[test]
fn infinite_sums_are_infinite() {
    const STEPS: usize = 40;
    let (ones, A) = ([1.0f32; 3 * STEPS], [-1.0f32; 3]);
    let mut infinite = [1.0f32; STEPS];
    infinite[5] = f32::INFINITY;
    let sequence = [("batch", 1), ("seqlen", STEPS), ("dim", 3)];
    let projection = [("batch", 1), ("ngroups", 1), ("dstate", 1), ("seqlen", STEPS)];
    let channels = View::new(&ones, sequence);
    let A = View::new(&A, [("dim", 3), ("dstate", 1)]);
    let (of_ones, of_infinite) = (View::new(&ones[..STEPS], projection), View::new(&infinite, projection));
    for instructions in [Instructions::Best, Instructions::Avx2, Instructions::Scalar] {
        let cpu = Cpu::new().instructions(instructions);
        let upstream = || SelectiveScanUpstream::new().dout(channels);
        let [mut dB, mut dC] = [[0.0f32; STEPS]; 2];
        let scan = SelectiveScan::new(channels, channels, A, of_ones, of_infinite).expect("valid");
        let mut view = ViewMut::new(&mut dB, projection);
        let gradients = SelectiveScanGradients::new().dB(&mut view);
        cpu.backward(&scan, upstream(), gradients).expect("a valid case runs");
        assert!(dB[..6].iter().all(|&dB| dB == f32::INFINITY), "{instructions:?}: {dB:?}");
        assert!(dB[6..].iter().all(|dB| dB.is_finite()), "{instructions:?}: {dB:?}");
        let scan = SelectiveScan::new(channels, channels, A, of_infinite, of_ones).expect("valid");
        let mut view = ViewMut::new(&mut dC, projection);
        let gradients = SelectiveScanGradients::new().dC(&mut view);
        cpu.backward(&scan, upstream(), gradients).expect("a valid case runs");
        assert!(dC[..5].iter().all(|dC| dC.is_finite()), "{instructions:?}: {dC:?}");
        assert!(dC[5..].iter().all(|&dC| dC == f32::INFINITY), "{instructions:?}: {dC:?}");
    }
}
