//! Laws between calls of squared attention that hold whatever the numbers are.

use crate::common::backends::{self, CpuBackend, SquaredAttentionBackend as Backend};
use crate::common::buffer::{Buffer, Order};
use crate::common::compare::expect_accurate;
use crate::common::parts::{expect_same_bits, joined};
use crate::common::squared_attention::{AttentionBuffers, AttentionCase, AttentionSpec, NaiveAttention, spec};
use crate::common::squared_attention_backward::{
    ATTENTION_GRADIENTS, AttentionGradients, AttentionUpstream, NaiveAttentionBackward,
};
use crate::common::squared_attention_update::{
    AttentionUpdateBuffers, AttentionUpdateCase, AttentionUpdateSpec, update_spec,
};
use crate::common::{property, shared_property};
use half::bf16;
use proptest::prelude::*;
use ssm_kernels::prelude::*;
use ssm_kernels::{Dtype, Element, Instructions};

/// out, final_state and final_norm of one call.
fn run<B: Backend, T: Element>(backend: &B, case: &AttentionCase<T>) -> (Buffer<T>, Buffer<f32>, Buffer<f32>) {
    let mut outputs = AttentionBuffers::new(case, [true; 2], Order::Dense);
    backend.squared_attention_forward(case, &mut outputs).expect("a valid case runs");
    (outputs.out, outputs.final_state.expect("asked for"), outputs.final_norm.expect("asked for"))
}

/// All gradients of one call.
fn run_backward<B: Backend, T: Element>(
    backend: &B,
    case: &AttentionCase<T>,
    upstream: &AttentionUpstream<T>,
) -> AttentionGradients<T> {
    let mut gradients = AttentionGradients::new(case, &ATTENTION_GRADIENTS, Order::Dense);
    backend.squared_attention_backward(case, upstream, &mut gradients).expect("a valid case runs");
    gradients
}

fn upstream<T: Element>(case: &AttentionCase<T>, spec: &AttentionSpec) -> AttentionUpstream<T> {
    AttentionUpstream::new(case, [true; 3], Order::Dense, spec.seed ^ 1)
}

fn law<B: Backend, T: Element>(name: &str, cases: u32, test: impl Fn(&B, AttentionSpec)) {
    let Some(backend) = backends::open::<B>() else { return };
    let label = format!("squared attention: {name} {} {}", B::NAME, T::DTYPE);
    shared_property(file!(), &label, cases, backend.share(), spec(), |spec| test(&backend, spec));
}

/// Two calls that carry state and norm from one to the other are one call, and back again.
fn split_is_whole<B: Backend, T: Element>() {
    law::<B, T>("split is whole", 24, |backend, spec| {
        let case = AttentionCase::<T>::new(&AttentionSpec { packed: None, ..spec.clone() });
        let cut = spec.seed as usize % (spec.seqlen + 1);
        let first = case.part("seqlen", 0..cut, case.initial.clone());
        let (early, state, norm) = run(backend, &first);
        let second = case.part("seqlen", cut..spec.seqlen, Some((state, norm)));
        let (late, state, norm) = run(backend, &second);
        let expected = NaiveAttention(&case).yardsticks();
        expect_accurate("split: out", &joined(&[early, late], "seqlen", &case.v), &expected[0]);
        expect_accurate("split: final_state", &state, &expected[1]);
        expect_accurate("split: final_norm", &norm, &expected[2]);

        let whole = upstream(&case, &spec);
        let finals = [whole.dfinal_state.clone(), whole.dfinal_norm.clone()];
        let late = run_backward(backend, &second, &whole.part("seqlen", cut..spec.seqlen, finals));
        let [_, dstate, dnorm] = late.wide.clone();
        let early = run_backward(backend, &first, &whole.part("seqlen", 0..cut, [dstate, dnorm]));
        let mut got = early.clone();
        for (got, late) in got.io.iter_mut().flatten().zip(late.io.into_iter().flatten()) {
            let like = if late.row() == case.v.row() { &case.v } else { &case.k };
            *got = joined(&[got.clone(), late], "seqlen", like);
        }
        let decays = [early.wide[0].clone(), late.wide[0].clone()].map(|decays| decays.expect("asked for"));
        got.wide[0] = Some(joined(&decays, "seqlen", &case.log_decay));
        got.expect_accurate("split", &NaiveAttentionBackward(&case, &whole).yardsticks());
    });
}

/// Packed sequences do not see each other: the bits are those that each has alone.
fn packed_is_separate<B: Backend, T: Element>() {
    law::<B, T>("packed is separate", 32, |backend, spec| {
        let lengths = spec.packed.clone().unwrap_or(vec![3, 0, spec.seqlen]);
        let case = AttentionCase::<T>::new(&spec.clone().packed(&lengths));
        let whole = upstream(&case, &spec);
        let ((out, state, norm), gradients) = (run(backend, &case), run_backward(backend, &case, &whole));
        let mut start = 0;
        for (seq, &len) in lengths.iter().enumerate() {
            let range = start..start + len;
            let alone = case.part("seqlen", range.clone(), case.initial(seq));
            let (own_out, own_state, own_norm) = run(backend, &alone);
            expect_same_bits("packed: out", &out.slice("seqlen", range.clone()), &own_out);
            expect_same_bits("packed: final_state", &state.slice("batch", seq..seq + 1), &own_state);
            expect_same_bits("packed: final_norm", &norm.slice("batch", seq..seq + 1), &own_norm);
            let own = run_backward(backend, &alone, &whole.part("seqlen", range.clone(), whole.finals(seq)));
            let part = AttentionGradients {
                io: gradients.io.each_ref().map(|all| all.as_ref().map(|all| all.slice("seqlen", range.clone()))),
                wide: std::array::from_fn(|i| {
                    let (name, range) = if i == 0 { ("seqlen", range.clone()) } else { ("batch", seq..seq + 1) };
                    gradients.wide[i].as_ref().map(|all| all.slice(name, range))
                }),
            };
            part.expect_same_bits("packed", &own);
            start += len;
        }
    });
}

/// batch n is n times batch 1, and run is run: bit by bit.
fn batch_is_rows<B: Backend, T: Element>() {
    law::<B, T>("batch is rows", 32, |backend, spec| {
        let case = AttentionCase::<T>::new(&AttentionSpec { packed: None, ..spec.clone() });
        let whole = upstream(&case, &spec);
        let ((out, state, norm), gradients) = (run(backend, &case), run_backward(backend, &case, &whole));
        let again = run(backend, &case);
        expect_same_bits("again: out", &out, &again.0);
        expect_same_bits("again: final_state", &state, &again.1);
        gradients.expect_same_bits("again", &run_backward(backend, &case, &whole));
        for b in 0..case.q.dims()[0].1 {
            let row = case.part("batch", b..b + 1, case.initial(b));
            let (own_out, own_state, own_norm) = run(backend, &row);
            expect_same_bits("row: out", &out.slice("batch", b..b + 1), &own_out);
            expect_same_bits("row: final_state", &state.slice("batch", b..b + 1), &own_state);
            expect_same_bits("row: final_norm", &norm.slice("batch", b..b + 1), &own_norm);
            let own = run_backward(backend, &row, &whole.part("batch", b..b + 1, whole.finals(b)));
            gradients.slice("batch", b..b + 1).expect_same_bits("row", &own);
        }
    });
}

/// Heads in another order give the same bits in that order; heads that share keys, values and decays are views that stand
/// still, of the same bits as copies.
fn heads_are_independent<B: Backend, T: Element>() {
    law::<B, T>("heads are independent", 32, |backend, spec| {
        let case = AttentionCase::<T>::new(&spec);
        let (whole, nheads) = (upstream(&case, &spec), case.q.dims()[1].1);
        let rotate = |head: usize| (head + 1) % nheads;
        let permuted = case.reordered(rotate);
        let (one, two) = (run(backend, &case), run(backend, &permuted));
        expect_same_bits("permuted: out", &one.0.reordered("nheads", rotate), &two.0);
        expect_same_bits("permuted: final_state", &one.1.reordered("nheads", rotate), &two.1);
        expect_same_bits("permuted: final_norm", &one.2.reordered("nheads", rotate), &two.2);
        let one = run_backward(backend, &case, &whole);
        let two = run_backward(backend, &permuted, &whole.reordered(rotate));
        one.mapped(|by| by.reordered("nheads", rotate), |by| by.reordered("nheads", rotate))
            .expect_same_bits("permuted", &two);

        let copies = |buffer: &Buffer<T>| buffer.reordered("nheads", |_| 0);
        let (k, v, log_decay) = (copies(&case.k), copies(&case.v), case.log_decay.reordered("nheads", |_| 0));
        let apart = AttentionCase { k, v, log_decay, ..case.clone() };
        let (expected, expected_by) = (run(backend, &apart), run_backward(backend, &apart, &whole));
        let still = AttentionCase {
            k: stands_still(&case.k),
            v: stands_still(&case.v),
            log_decay: stands_still(&case.log_decay),
            ..case.clone()
        };
        let got = run(backend, &still);
        expect_same_bits("shared: out", &expected.0, &got.0);
        expect_same_bits("shared: final_state", &expected.1, &got.1);
        run_backward(backend, &still, &whole).expect_same_bits("shared", &expected_by);
    });
}

/// The first head for all of them, at a stride of 0.
fn stands_still<E: Element>(buffer: &Buffer<E>) -> Buffer<E> {
    let (mut dims, values) = (buffer.dims(), buffer.slice("nheads", 0..1.min(buffer.dims()[1].1)).dense());
    let (nheads, mut values) = (dims.remove(1), values.into_iter());
    let one = Buffer::filled(&dims, Order::Dense, || values.next().expect("one each") as f32);
    one.still_along(&[nheads])
}

/// Every size of a chunk keeps the rule, those beyond the sequence's length have the bits of that length, and a size is no
/// matter of how much of it a sequence has.
fn chunk_sizes_do_not_matter<B: Backend, T: Element>() {
    law::<B, T>("chunk sizes do not matter", 12, |backend, spec| {
        let case = AttentionCase::<T>::new(&AttentionSpec { chunk_size: None, ..spec.clone() });
        let whole = upstream(&case, &spec);
        let (forward, backward) =
            (NaiveAttention(&case).yardsticks(), NaiveAttentionBackward(&case, &whole).yardsticks());
        let sized = |chunk_size: usize| {
            let case = AttentionCase { chunk_size: Some(chunk_size), ..case.clone() };
            (run(backend, &case), run_backward(backend, &case, &whole))
        };
        for chunk_size in [1, 2, 31, 32, 33, 64, 100] {
            let ((out, state, norm), gradients) = sized(chunk_size);
            expect_accurate(&format!("chunks of {chunk_size}: out"), &out, &forward[0]);
            expect_accurate(&format!("chunks of {chunk_size}: final_state"), &state, &forward[1]);
            expect_accurate(&format!("chunks of {chunk_size}: final_norm"), &norm, &forward[2]);
            gradients.expect_accurate(&format!("chunks of {chunk_size}"), &backward);
        }
        let longest = spec.packed.as_ref().map_or(spec.seqlen, |lengths| lengths.iter().copied().max().unwrap_or(0));
        let ((out, ..), gradients) = sized(longest.max(1));
        for chunk_size in [longest + 1, usize::MAX] {
            let ((other, ..), other_gradients) = sized(chunk_size);
            expect_same_bits("one chunk: out", &out, &other);
            gradients.expect_same_bits("one chunk", &other_gradients);
        }
    });
}

/// The values of a buffer times a factor for each index in canonical order, a power of two: exactly.
fn times<E: Element>(buffer: &Buffer<E>, factor: impl Fn(usize) -> f32) -> Buffer<E> {
    let mut values = buffer.dense().into_iter().enumerate();
    Buffer::filled(&buffer.dims(), Order::Dense, || {
        let (i, value) = values.next().expect("one each");
        factor(i) * value as f32
    })
}

/// q may be larger at any step, and k and scale at all of them: out has the same bits, and what is not out is larger as its
/// formula says.
fn out_knows_no_scale<B: Backend, T: Element>() {
    law::<B, T>("out knows no scale", 32, |backend, spec| {
        let case = AttentionCase::<T>::new(&AttentionSpec { initial_state: false, ..spec.clone() });
        let whole = AttentionUpstream::new(&case, [true, false, false], Order::Dense, spec.seed ^ 1);
        let ((out, state, norm), gradients) = (run(backend, &case), run_backward(backend, &case, &whole));
        let by = |gradients: &AttentionGradients<T>, i: usize| gradients.io[i].clone().expect("asked for");

        let step = |i: usize| [0.5, 1.0, 2.0, 4.0][i / spec.dim.max(1) % 4];
        let larger = AttentionCase { q: times(&case.q, step), ..case.clone() };
        expect_same_bits("larger q: out", &out, &run(backend, &larger).0);
        let other = run_backward(backend, &larger, &whole);
        expect_same_bits("larger q: dv", &by(&gradients, 2), &by(&other, 2));
        // In 16 bits small gradients are rounded elsewhere.
        if T::DTYPE == Dtype::F32 {
            expect_same_bits("larger q: dq", &times(&by(&gradients, 0), |i| 1.0 / step(i)), &by(&other, 0));
            expect_same_bits("larger q: dk", &by(&gradients, 1), &by(&other, 1));
        }

        let larger = AttentionCase { k: times(&case.k, |_| 4.0), ..case.clone() };
        let (larger_out, larger_state, larger_norm) = run(backend, &larger);
        expect_same_bits("larger k: out", &out, &larger_out);
        expect_same_bits("larger k: final_state", &times(&state, |_| 16.0), &larger_state);
        expect_same_bits("larger k: final_norm", &times(&norm, |_| 16.0), &larger_norm);

        let scale = case.scale.unwrap_or(1.0);
        let [one, two] = [scale, 2.0 * scale].map(|scale| {
            let case = AttentionCase { scale: Some(scale), ..case.clone() };
            (run(backend, &case), run_backward(backend, &case, &whole))
        });
        expect_same_bits("larger scale: out", &one.0.0, &two.0.0);
        expect_same_bits("larger scale: final_state", &times(&one.0.1, |_| 4.0), &two.0.1);
        for i in 0..3 {
            expect_same_bits("larger scale: gradient", &by(&one.1, i), &by(&two.1, i));
        }
    });
}

/// Without an initial state there is one weight at the first step of a sequence, whatever it is, and out is v.
fn first_is_v<B: Backend, T: Element>() {
    law::<B, T>("the first step is v", 48, |backend, spec| {
        let spec = AttentionSpec { initial_state: false, near: true, dim: spec.dim.max(1), ..spec };
        let case = AttentionCase::<T>::new(&spec);
        let (out, v) = (run(backend, &case).0, &case.v);
        let lengths = spec.packed.clone().unwrap_or(vec![spec.seqlen]);
        let mut start = 0;
        for len in lengths {
            let first = start..start + len.min(1);
            let [out, v] = [&out, v].map(|buffer| buffer.slice("seqlen", first.clone()).dense());
            for (out, v) in out.iter().zip(v) {
                // A product and a quotient.
                let allowed = if T::DTYPE == Dtype::F32 { 2.0 * f64::from(f32::EPSILON) * v.abs() } else { 0.0 };
                assert!((out - v).abs() <= allowed, "{out} for {v}");
            }
            start += len;
        }
    });
}

/// What else is asked for changes no bit: outputs and gradients alone are those of all.
fn alone_is_among_all<B: Backend, T: Element>() {
    law::<B, T>("alone is among all", 32, |backend, spec| {
        let case = AttentionCase::<T>::new(&spec);
        let (out, state, norm) = run(backend, &case);
        for asked in [[false, false], [true, false], [false, true]] {
            let mut outputs = AttentionBuffers::new(&case, asked, Order::Dense);
            backend.squared_attention_forward(&case, &mut outputs).expect("a valid case runs");
            expect_same_bits("out alone", &out, &outputs.out);
            outputs.final_state.iter().for_each(|own| expect_same_bits("final_state alone", &state, own));
            outputs.final_norm.iter().for_each(|own| expect_same_bits("final_norm alone", &norm, own));
        }
        for how in [[true, true, true], [true, false, false], [false, true, false]] {
            let upstream = AttentionUpstream::new(&case, how, Order::Dense, spec.seed ^ 1);
            let all = run_backward(backend, &case, &upstream);
            for (i, name) in ATTENTION_GRADIENTS.into_iter().enumerate() {
                let mut one = AttentionGradients::new(&case, &[name], Order::Dense);
                backend.squared_attention_backward(&case, &upstream, &mut one).expect("a valid case runs");
                assert!(one.bits()[i] == all.bits()[i], "{name} alone has other bits");
            }
        }
    });
}

fn update<B: Backend, T: Element, H: Element>(
    backend: &B,
    case: &AttentionUpdateCase<T, H>,
) -> AttentionUpdateBuffers<T, H> {
    let mut outputs = AttentionUpdateBuffers::new(case);
    backend.squared_attention_update(case, &mut outputs).expect("a valid case runs");
    outputs
}

/// Tokens one by one are one call of all of them, bit by bit, whatever the state is stored in; rows alone are those of the
/// batch, in whatever slots.
fn tokens_are_calls<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    fn check<B: Backend, T: Element, H: Element>(backend: &B, spec: &AttentionUpdateSpec) {
        let case = AttentionUpdateCase::<T, H>::new(spec);
        let (whole, again) = (update(backend, &case), update(backend, &case));
        expect_same_bits("again: state", &whole.state, &again.state);
        let (mut outs, mut cache) = (vec![], (case.state.clone(), case.norm.clone()));
        for t in 0..spec.tokens.seqlen {
            let one = update(backend, &case.part("seqlen", t..t + 1, cache));
            outs.push(one.out);
            cache = (one.state, one.norm);
        }
        expect_same_bits("tokens: out", &whole.out, &joined(&outs, "seqlen", &case.v));
        expect_same_bits("tokens: state", &whole.state, &cache.0);
        expect_same_bits("tokens: norm", &whole.norm, &cache.1);
        for b in 0..spec.tokens.batch {
            let slot = case.state_indices.as_ref().map_or(b as i32, |indices| indices[b]);
            let Ok(slot) = usize::try_from(slot) else { continue };
            let own = (case.state.slice("slots", slot..slot + 1), case.norm.slice("slots", slot..slot + 1));
            let row = AttentionUpdateCase { state_indices: None, ..case.part("batch", b..b + 1, own) };
            let own = update(backend, &row);
            expect_same_bits("row: out", &whole.out.slice("batch", b..b + 1), &own.out);
            expect_same_bits("row: state", &whole.state.slice("slots", slot..slot + 1), &own.state);
            expect_same_bits("row: norm", &whole.norm.slice("slots", slot..slot + 1), &own.norm);
        }
    }
    let label = format!("squared attention: tokens are calls {} {}", B::NAME, T::DTYPE);
    shared_property(file!(), &label, 64, backend.share(), update_spec(6), |spec| {
        crate::with_dtype!(spec.state, H => check::<B, T, H>(&backend, &spec));
    });
}

/// Tokens from a state in f32 are the steps of one forward call.
fn updates_are_forward<B: Backend, T: Element>() {
    law::<B, T>("updates are forward", 24, |backend, spec| {
        let case = AttentionCase::<T>::new(&AttentionSpec { packed: None, initial_state: true, ..spec });
        let (state, norm) = case.initial.clone().expect("asked for");
        let cache = (state.renamed("batch", "slots"), norm.renamed("batch", "slots"));
        let tokens = update(backend, &AttentionUpdateCase::<T, f32>::of(case.clone(), None, cache));
        let expected = NaiveAttention(&case).yardsticks();
        expect_accurate("updates: out", &tokens.out, &expected[0]);
        expect_accurate("updates: state", &tokens.state, &expected[1]);
        expect_accurate("updates: norm", &tokens.norm, &expected[2]);
    });
}

crate::suites!(only cpu:
    split_is_whole,
    packed_is_separate,
    batch_is_rows,
    heads_are_independent,
    chunk_sizes_do_not_matter,
    out_knows_no_scale,
    first_is_v,
    alone_is_among_all,
    tokens_are_calls,
    updates_are_forward
);

/// The CPU backend's bits depend neither on the number of threads nor on the instructions.
#[test]
fn threads_and_instructions_do_not_change_bits() {
    let label = "squared attention: threads and instructions do not change bits";
    property(file!(), label, 48, (spec(), update_spec(4), any::<[bool; 3]>()), |(spec, update, how)| {
        let case = AttentionCase::<f32>::new(&spec);
        let upstream = AttentionUpstream::new(&case, how, Order::Dense, spec.seed ^ 1);
        let update = AttentionUpdateCase::<f32, bf16>::new(&update);
        let bits = |cpu: Cpu| {
            let mut outputs = AttentionBuffers::new(&case, [true; 2], spec.order);
            let mut gradients = AttentionGradients::new(&case, &ATTENTION_GRADIENTS, spec.order);
            let mut updated = AttentionUpdateBuffers::new(&update);
            let (op, token) = (case.op().expect("a valid case"), update.op().expect("a valid case"));
            outputs.with_views(|views| cpu.forward(&op, views)).expect("a valid case runs");
            gradients.with_views(|views| cpu.backward(&op, upstream.views(), views)).expect("a valid case runs");
            updated.with_views(|views| cpu.forward(&token, views)).expect("a valid case runs");
            let states = [&outputs.final_state, &outputs.final_norm].map(|state| state.as_ref().map(Buffer::bits));
            let cache = [updated.out.bits(), updated.state.bits(), updated.norm.bits()];
            (outputs.out.bits(), states, gradients.bits(), cache)
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
        // In a workspace of the planned size, whatever is in it.
        let planned = (run(&CpuBackend, &case), run_backward(&CpuBackend, &case, &upstream));
        assert!(planned.0.0.bits() == expected.0 && planned.1.bits() == expected.2, "planned workspace");
    });
}
