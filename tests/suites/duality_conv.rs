//! Laws between calls of the causal convolution that hold whatever the numbers are.
// A is the field's name.
#![allow(non_snake_case)]

use crate::common::backends::{self, Backend};
use crate::common::buffer::{Buffer, Order};
use crate::common::compare::expect_accurate;
use crate::common::conv::{
    CONV_GRADIENTS, ConvBuffers, ConvCase, ConvGradients, ConvSpec, ConvUpstream, NaiveConv, NaiveConvBackward, spec,
};
use crate::common::conv_update::{ConvUpdateCase, UpdateSpec, update_spec};
use crate::common::parts::{expect_same_bits, joined};
use crate::common::{property, shared_property};
use proptest::prelude::*;
use ssm_kernels::prelude::*;
use ssm_kernels::{Dtype, Element, Instructions};

/// `out` and `final_state` of one call.
fn run<B: Backend, T: Element, W: Element>(backend: &B, case: &ConvCase<T, W>) -> (Buffer<T>, Buffer<T>) {
    let mut outputs = ConvBuffers::new(case, true, Order::Dense);
    backend.causal_conv1d_forward(case, &mut outputs).expect("a valid case runs");
    (outputs.out, outputs.final_state.expect("asked for"))
}

/// All gradients of one call.
fn run_backward<B: Backend, T: Element, W: Element>(
    backend: &B,
    case: &ConvCase<T, W>,
    upstream: &ConvUpstream<T>,
) -> ConvGradients<T, W> {
    let mut gradients = ConvGradients::new(case, &CONV_GRADIENTS, Order::Dense);
    backend.causal_conv1d_backward(case, upstream, &mut gradients).expect("a valid case runs");
    gradients
}

fn law<B: Backend, T: Element>(name: &str, cases: u32, test: impl Fn(&B, ConvSpec)) {
    let Some(backend) = backends::open::<B>() else { return };
    let share = backend.share() * if backend.slow() { 3 } else { 1 };
    shared_property(file!(), &format!("conv: {name} {} {}", B::NAME, T::DTYPE), cases, share, spec(), |spec| {
        test(&backend, spec);
    });
}

/// Two calls that carry the state from one to the other are one call, bit by bit; and backward, they are it by the rule.
fn split_is_whole<B: Backend, T: Element>() {
    law::<B, T>("split is whole", 64, |backend, spec| {
        let case = ConvCase::<T, f32>::new(&ConvSpec { packed: None, ..spec.clone() });
        let cut = spec.seed as usize % (spec.seqlen + 1);
        let first = case.part("seqlen", 0..cut, case.initial_state.clone());
        let (first_out, carried) = run(backend, &first);
        let second = case.part("seqlen", cut..spec.seqlen, Some(carried));
        let (second_out, state) = run(backend, &second);
        let (out, final_state) = run(backend, &case);
        expect_same_bits("split: out", &out, &joined(&[first_out, second_out], "seqlen", &case.x));
        expect_same_bits("split: final_state", &final_state, &state);
        // What is carried back is rounded to the dtype of x: in f32 that is what the whole call has too.
        if T::DTYPE != Dtype::F32 {
            return;
        }
        let upstream = ConvUpstream::new(&case, [true, true], Order::Dense, spec.seed ^ 1);
        let last = upstream.part("seqlen", cut..spec.seqlen, upstream.dfinal_state.clone());
        let last = run_backward(backend, &second, &last);
        let early = upstream.part("seqlen", 0..cut, last.dinitial_state.clone());
        let early = run_backward(backend, &first, &early);
        let expected = NaiveConvBackward(&case, &upstream).yardsticks();
        let dx = [early.dx.expect("asked for"), last.dx.expect("asked for")];
        expect_accurate("split: dx", &joined(&dx, "seqlen", &case.x), &expected[0]);
        expect_accurate("split: dinitial_state", early.dinitial_state.as_ref().expect("asked for"), &expected[3]);
    });
}

/// Packed sequences do not see each other: the bits of out and dx are those that each has alone, and the weights' gradients
/// are the sums of theirs.
fn packed_is_separate<B: Backend, T: Element>() {
    law::<B, T>("packed is separate", 64, |backend, spec| {
        let lengths = spec.packed.clone().unwrap_or(vec![3, 0, spec.seqlen]);
        let case = ConvCase::<T, f32>::new(&spec.clone().packed(&lengths));
        let upstream = ConvUpstream::new(&case, [true, true], Order::Dense, spec.seed ^ 1);
        let (mut outs, mut states, mut dxs, mut dstates, mut start) = (vec![], vec![], vec![], vec![], 0);
        for (seq, &len) in lengths.iter().enumerate() {
            let alone = case.part("seqlen", start..start + len, case.initial(seq));
            let (out, state) = run(backend, &alone);
            let dfinal = upstream.dfinal_state.as_ref().map(|state| state.slice("batch", seq..seq + 1));
            let gradients = run_backward(backend, &alone, &upstream.part("seqlen", start..start + len, dfinal));
            outs.push(out);
            states.push(state);
            dxs.push(gradients.dx.expect("asked for"));
            dstates.push(gradients.dinitial_state.expect("asked for"));
            start += len;
        }
        let (out, final_state) = run(backend, &case);
        let gradients = run_backward(backend, &case, &upstream);
        expect_same_bits("packed: out", &out, &joined(&outs, "seqlen", &case.x));
        expect_same_bits("packed: final_state", &final_state, &joined(&states, "batch", &final_state));
        let (dx, dstate) = (gradients.dx.as_ref().expect("asked"), gradients.dinitial_state.as_ref().expect("asked"));
        expect_same_bits("packed: dx", dx, &joined(&dxs, "seqlen", dx));
        expect_accurate("packed: out", &out, &NaiveConv(&case).yardsticks()[0]);
        let expected = NaiveConvBackward(&case, &upstream).yardsticks();
        gradients.expect_accurate("packed", &expected);
        expect_accurate("separate: dinitial_state", &joined(&dstates, "batch", dstate), &expected[3]);
    });
}

/// batch n is n times batch 1, bit by bit, and the gradients of weights are the sums of its rows'.
fn batch_is_rows<B: Backend, T: Element>() {
    law::<B, T>("batch is rows", 64, |backend, spec| {
        let case = ConvCase::<T, f32>::new(&ConvSpec { packed: None, ..spec.clone() });
        let upstream = ConvUpstream::new(&case, [true, true], Order::Dense, spec.seed ^ 1);
        let ((out, final_state), all) = (run(backend, &case), run_backward(backend, &case, &upstream));
        let mut sums: [Option<Vec<f32>>; 2] = [None, None];
        for b in 0..spec.nseqs().min(spec.batch) {
            let row = case.part("batch", b..b + 1, case.initial(b)).laid(spec.order);
            let (own, state) = run(backend, &row);
            expect_same_bits("row: out", &out.slice("batch", b..b + 1), &own);
            expect_same_bits("row: final_state", &final_state.slice("batch", b..b + 1), &state);
            let dfinal = upstream.dfinal_state.as_ref().map(|state| state.slice("batch", b..b + 1));
            let own = run_backward(backend, &row, &upstream.part("batch", b..b + 1, dfinal));
            for (all, own) in [(&all.dx, &own.dx), (&all.dinitial_state, &own.dinitial_state)] {
                let (all, own) = (all.as_ref().expect("asked for"), own.as_ref().expect("asked for"));
                expect_same_bits("row: gradient", &all.slice("batch", b..b + 1), own);
            }
            for (sum, own) in sums.iter_mut().zip([&own.dweight, &own.dbias]) {
                let Some(own) = own else { continue };
                let own = own.dense().into_iter().map(|value| value as f32);
                *sum = Some(match sum.take() {
                    None => own.collect(),
                    Some(sum) => sum.into_iter().zip(own).map(|(sum, own)| sum + own).collect(),
                });
            }
        }
        for (all, sum) in [&all.dweight, &all.dbias].into_iter().zip(sums) {
            let bits = sum.map(|sum| sum.into_iter().map(f32::to_bits).collect::<Vec<_>>());
            assert_eq!(all.as_ref().map(Buffer::bits).filter(|_| bits.is_some()), bits, "sum of rows");
        }
    });
}

/// Channels in another order give the same bits in that order; run equals run.
fn channels_are_independent<B: Backend, T: Element>() {
    law::<B, T>("permuted channels", 64, |backend, spec| {
        let case = ConvCase::<T, T>::new(&spec);
        let rotate = |d: usize| (d + 1) % spec.dim;
        let io = |buffer: &Buffer<T>| buffer.reordered("dim", rotate);
        let permuted = ConvCase {
            x: io(&case.x),
            weight: io(&case.weight),
            bias: case.bias.as_ref().map(io),
            initial_state: case.initial_state.as_ref().map(io),
            ..case.clone()
        };
        // Other ways through memory may sum in another order.
        let permuted = permuted.laid(spec.order);
        let upstream = ConvUpstream::new(&case, [true, true], Order::Dense, spec.seed ^ 1);
        let permuted_upstream =
            ConvUpstream { dout: upstream.dout.as_ref().map(io), dfinal_state: upstream.dfinal_state.as_ref().map(io) };
        let (first, second, again) = (run(backend, &case), run(backend, &permuted), run(backend, &case));
        expect_same_bits("permuted: out", &io(&first.0), &second.0);
        expect_same_bits("permuted: final_state", &io(&first.1), &second.1);
        expect_same_bits("again: out", &first.0, &again.0);
        let [first, again] = [0; 2].map(|_| run_backward(backend, &case, &upstream));
        let second = run_backward(backend, &permuted, &permuted_upstream);
        assert!(first.bits() == again.bits(), "again: bits of gradients differ");
        for (first, second) in [(&first.dx, &second.dx), (&first.dweight, &second.dweight)] {
            let (first, second) = (first.as_ref().expect("asked for"), second.as_ref().expect("asked for"));
            expect_same_bits("permuted: gradient", &io(first), second);
        }
    });
}

/// The state of [`ConvUpdateCase`] from that of [`ConvCase`], `spare` older inputs before it.
fn with_spare<T: Element>(state: &Buffer<T>, spare: usize) -> Buffer<T> {
    let mut dims = state.dims();
    let (values, own) = (state.dense(), dims[2].1);
    (dims[0].0, dims[2].1) = ("slots", own + spare);
    let mut i = 0;
    Buffer::filled(&dims, Order::Dense, || {
        let (row, k) = (i / (own + spare), i % (own + spare));
        i += 1;
        if k < spare { 7.0 } else { values[row * own + k - spare] as f32 }
    })
}

/// Tokens one by one, or a few at a time, from a shifting state or a ring, are one forward call: out and the state, bit by
/// bit.
fn updates_are_forward<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let label = format!("conv: updates are forward {} {}", B::NAME, T::DTYPE);
    let strategy = (spec(), 0usize..5, 1usize..6, any::<bool>());
    let share = backend.share() * if backend.slow() { 8 } else { 1 };
    shared_property(file!(), &label, 64, share, strategy, |(spec, spare, most, circular)| {
        let spec = ConvSpec { packed: None, initial_state: true, seqlen: spec.seqlen.min(24), ..spec };
        let case = ConvCase::<T, f32>::new(&spec);
        let (out, final_state) = run(&backend, &case);
        let state_len = spec.width - 1 + spare;
        let initial = case.initial_state.as_ref().expect("asked for");
        let mut state = with_spare(initial, spare);
        let (mut outs, mut t, mut tokens) = (vec![], 0, most);
        while t < spec.seqlen {
            tokens = (tokens % most + 1).min(spec.seqlen - t);
            // A ring whose oldest element lies at 0 now.
            let seen = (t + 3 * state_len) as i32;
            let update = ConvUpdateCase {
                x: case.x.slice("seqlen", t..t + tokens),
                weight: case.weight.clone(),
                bias: case.bias.clone(),
                silu: case.silu,
                cache_seqlens: circular.then(|| vec![seen; spec.batch]),
                state_indices: Some((0..spec.batch as i32).collect()),
                state: state.clone(),
            };
            let mut own = Buffer::poisoned(&update.x.dims(), Order::Dense);
            backend.causal_conv1d_update(&update, &mut own, &mut state).expect("a valid case runs");
            outs.push(own);
            t += tokens;
        }
        expect_same_bits("updates: out", &out, &joined(&outs, "seqlen", &case.x));
        let turn = if circular && state_len > 0 { spec.seqlen % state_len } else { 0 };
        let state = state.reordered("state_len", |i| (i + turn) % state_len.max(1));
        let last = state.slice("state_len", spare..state_len).renamed("slots", "batch");
        expect_same_bits("updates: state", &final_state, &last);
    });
}

/// Rows in another order, with padding between them and slots anywhere, are the same rows.
fn slots_are_rows<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let label = format!("conv: slots are rows {} {}", B::NAME, T::DTYPE);
    let share = backend.share() * if backend.slow() { 4 } else { 1 };
    shared_property(file!(), &label, 64, share, update_spec(), |spec| {
        let spec = UpdateSpec { indices: spec.indices.or(Some((2, vec![true, false, true, false, false]))), ..spec };
        let case = ConvUpdateCase::<T, T>::new(&spec);
        let (mut out, mut state) = (Buffer::poisoned(&case.x.dims(), Order::Dense), case.state.clone());
        backend.causal_conv1d_update(&case, &mut out, &mut state).expect("a valid case runs");
        let indices = case.state_indices.clone().expect("asked for");
        for (b, &slot) in indices.iter().enumerate() {
            let own = out.slice("batch", b..b + 1);
            let Ok(slot) = usize::try_from(slot) else {
                assert!(own.dense().iter().all(|&value| value == 0.0), "padding: {:?}", own.dense());
                continue;
            };
            let row = ConvUpdateCase {
                x: case.x.slice("batch", b..b + 1),
                cache_seqlens: case.cache_seqlens.as_ref().map(|seen| vec![seen[b]]),
                state_indices: None,
                state: case.state.slice("slots", slot..slot + 1),
                ..case.clone()
            };
            let (mut alone, mut after) = (Buffer::poisoned(&row.x.dims(), Order::Dense), row.state.clone());
            backend.causal_conv1d_update(&row, &mut alone, &mut after).expect("a valid case runs");
            expect_same_bits("slots: out", &own, &alone);
            expect_same_bits("slots: state", &state.slice("slots", slot..slot + 1), &after);
        }
        for slot in (0..case.state.dims()[0].1).filter(|&slot| !indices.contains(&(slot as i32))) {
            let [before, after] = [&case.state, &state].map(|state| state.slice("slots", slot..slot + 1));
            expect_same_bits("slots: one that no row has", &before, &after);
        }
    });
}

crate::suites!(
    split_is_whole,
    packed_is_separate,
    batch_is_rows,
    channels_are_independent,
    updates_are_forward,
    slots_are_rows
);

/// The CPU backend's bits depend neither on the number of threads nor on the instructions.
#[test]
fn threads_and_instructions_do_not_change_bits() {
    let label = "conv: threads and instructions do not change bits";
    property(file!(), label, 48, (spec(), update_spec()), |(spec, update)| {
        let case = ConvCase::<f32, f32>::new(&spec);
        let upstream = ConvUpstream::new(&case, [true, true], Order::Dense, spec.seed ^ 1);
        let update = ConvUpdateCase::<f32, f32>::new(&update);
        let bits = |cpu: Cpu| {
            let (mut outputs, mut gradients) =
                (ConvBuffers::new(&case, false, spec.order), ConvGradients::new(&case, &CONV_GRADIENTS, spec.order));
            let op = case.op().expect("a valid case");
            cpu.forward(&op, CausalConv1dOutputs::new(&mut outputs.out.view_mut())).expect("a valid case runs");
            gradients.with_views(|views| cpu.backward(&op, upstream.views(), views)).expect("a valid case runs");
            let (mut out, mut state) = (Buffer::poisoned(&update.x.dims(), Order::Dense), update.state.clone());
            let (mut view, mut state_view) = (out.view_mut(), state.view_mut());
            let wanted = CausalConv1dUpdateOutputs::new(&mut view, &mut state_view);
            cpu.forward(&update.op().expect("a valid case"), wanted).expect("a valid case runs");
            (outputs.out.bits(), gradients.bits(), out.bits(), state.bits())
        };
        let expected = bits(Cpu::new());
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            assert!(pool.install(|| bits(Cpu::new())) == expected, "{threads} threads");
        }
        assert!(bits(Cpu::single_thread()) == expected, "no pool");
        for instructions in [Instructions::Avx2, Instructions::Scalar] {
            assert!(bits(Cpu::new().instructions(instructions)) == expected, "{instructions:?}");
        }
    });
}

/// Of a guess of several tokens only the first is accepted: the next call counts it alone, and all is as without the guess.
#[test]
fn a_ring_goes_back_behind_a_guess() {
    let (x, weight): (Vec<f32>, _) = ((1..15).map(|t| (t * t % 11) as f32).collect(), [0.5f32, -1.0, 2.0, 0.25]);
    let sequence = |count| [("batch", 1), ("dim", 1), ("seqlen", count)];
    let weight = View::new(&weight, [("dim", 1), ("width", 4)]);
    let mut expected = [f32::NAN; 14];
    let conv = CausalConv1d::new(View::new(&x, sequence(14)), weight).expect("valid");
    let mut view = ViewMut::new(&mut expected, sequence(14));
    Cpu::new().forward(&conv, CausalConv1dOutputs::new(&mut view)).expect("valid");
    for accepted in 0..3 {
        // Three inputs that taps reach, and three tokens of a guess.
        let mut ring = [0.0f32; 3 + 3];
        let mut run = |x: &[f32], seen: usize| {
            let (mut out, seen) = (vec![f32::NAN; x.len()], [seen as i32]);
            let update = CausalConv1dUpdate::new(View::new(x, sequence(x.len())), weight).expect("valid");
            let mut state = ViewMut::new(&mut ring, [("slots", 1), ("dim", 1), ("state_len", 6)]);
            let mut view = ViewMut::new(&mut out, sequence(x.len()));
            let outputs = CausalConv1dUpdateOutputs::new(&mut view, &mut state);
            Cpu::new().forward(&update.cache_seqlens(&seen), outputs).expect("valid");
            out
        };
        let mut out = run(&x[..8], 0);
        let guess: Vec<f32> = (0..3).map(|i| if i < accepted { x[8 + i] } else { 77.0 }).collect();
        out.extend(&run(&guess, 8)[..accepted]);
        out.extend(run(&x[8 + accepted..], 8 + accepted));
        assert_eq!(out, expected, "{accepted} accepted");
    }
}

/// One tap of 1 is the identity, and a tap of 1 in front of k others of 0 a delay by k steps, which need no oracle.
#[test]
fn single_taps_are_delays() {
    let x: Vec<f32> = (0..50).map(|t| (t % 7) as f32 - 3.0).collect();
    let sequence = [("batch", 1), ("dim", 1), ("seqlen", 50)];
    for width in 1..=16 {
        let mut weight = vec![0.0f32; width];
        weight[0] = 1.0;
        let conv = CausalConv1d::new(View::new(&x, sequence), View::new(&weight, [("dim", 1), ("width", width)]));
        let mut out = [f32::NAN; 50];
        let mut view = ViewMut::new(&mut out, sequence);
        Cpu::new().forward(&conv.expect("valid"), CausalConv1dOutputs::new(&mut view)).expect("valid");
        assert_eq!(out[width - 1..], x[..50 - (width - 1)]);
        assert_eq!(out[..width - 1], vec![0.0; width - 1]);
    }
}
