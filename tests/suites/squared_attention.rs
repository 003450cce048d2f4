//! Squared attention, forward, backward and decoding: every backend that has it against the naive loops.

use crate::common::backends::{self, SquaredAttentionBackend as Backend};
use crate::common::buffer::Order;
use crate::common::compare::expect_accurate;
use crate::common::differences::{Gradients, coarse, loss, mapped};
use crate::common::squared_attention::{AttentionBuffers, AttentionCase, AttentionSpec, Decay, NaiveAttention, spec};
use crate::common::squared_attention_backward::{
    ATTENTION_GRADIENTS, AttentionGradients, AttentionUpstream, NaiveAttentionBackward,
};
use crate::common::squared_attention_update::{
    AttentionUpdateBuffers, AttentionUpdateCase, AttentionUpdateSpec, update_spec,
};
use crate::common::{property, say, shared_property};
use proptest::prelude::*;
use ssm_kernels::{Dtype, Element};

/// Both directions of one case under the accuracy rule; `how`: dout, dfinal_state and dfinal_norm.
fn check<B: Backend, T: Element>(backend: &B, spec: &AttentionSpec, how: [bool; 3]) {
    let case = &AttentionCase::<T>::new(spec);
    let upstream = AttentionUpstream::new(case, how, spec.order, spec.seed ^ 1);
    let (forward, backward) = (NaiveAttention(case).yardsticks(), NaiveAttentionBackward(case, &upstream).yardsticks());
    backends::in_modes(backend, &(spec, how), |backend, text| {
        let mut outputs = AttentionBuffers::new(case, spec.finals, spec.order);
        let done = backend.squared_attention_forward(case, &mut outputs);
        done.unwrap_or_else(|error| panic!("a valid case runs: {error}\n{text}"));
        outputs.expect_accurate(text, &forward);
        let mut gradients = AttentionGradients::new(case, &ATTENTION_GRADIENTS, spec.order);
        let done = backend.squared_attention_backward(case, &upstream, &mut gradients);
        done.unwrap_or_else(|error| panic!("a valid case runs: {error}\n{text}"));
        gradients.expect_accurate(text, &backward);
    });
}

fn check_update<B: Backend, T: Element>(backend: &B, spec: &AttentionUpdateSpec) {
    fn check<B: Backend, T: Element, H: Element>(backend: &B, spec: &AttentionUpdateSpec) {
        let case = &AttentionUpdateCase::<T, H>::new(spec);
        let expected = case.yardsticks();
        backends::in_modes(backend, spec, |backend, text| {
            let mut outputs = AttentionUpdateBuffers::new(case);
            let done = backend.squared_attention_update(case, &mut outputs);
            done.unwrap_or_else(|error| panic!("a valid case runs: {error}\n{text}"));
            expect_accurate(&format!("out, {text}"), &outputs.out, &expected[0]);
            expect_accurate(&format!("state, {text}"), &outputs.state, &expected[1]);
            expect_accurate(&format!("norm, {text}"), &outputs.norm, &expected[2]);
        });
    }
    crate::with_dtype!(spec.state, H => check::<B, T, H>(backend, spec));
}

fn drawn<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let label = format!("squared_attention {} {}", B::NAME, T::DTYPE);
    shared_property(file!(), &label, 96, backend.share(), (spec(), any::<[bool; 3]>()), |(spec, how)| {
        check::<B, T>(&backend, &spec, how);
    });
}

/// (Several tokens with states of 16 bits are held by law, in tests/suites/duality_attention.rs: a state between two of them may
/// round either way, and the next token sees which.)
fn update_drawn<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let label = format!("squared_attention_update {} {}", B::NAME, T::DTYPE);
    shared_property(file!(), &label, 96, backend.share(), update_spec(1), |spec| check_update::<B, T>(&backend, &spec));
    let label = format!("squared_attention_update several tokens {} {}", B::NAME, T::DTYPE);
    shared_property(file!(), &label, 64, backend.share(), update_spec(6), |spec| {
        check_update::<B, T>(&backend, &AttentionUpdateSpec { state: Dtype::F32, ..spec });
    });
}

/// Lengths around the borders of tiles, by pairs and in chunks around those borders too.
fn lengths<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let mut count = 0;
    let chunks = [None, Some(1), Some(7), Some(31), Some(32), Some(33), Some(64), Some(128), Some(usize::MAX)];
    let decays = [Decay::Slow, Decay::Mixed, Decay::Softplus, Decay::Growing];
    for (i, seqlen) in [1, 2, 31, 32, 33, 63, 64, 65, 96, 97, 127, 128, 129].into_iter().enumerate() {
        for (j, chunk_size) in chunks.into_iter().enumerate() {
            // Dtypes share what a length may break: each meets a part.
            if (i + j) % 3 != T::DTYPE as usize % 3 {
                continue;
            }
            let order = [Order::Dense, Order::ChannelLast, Order::Strided(seqlen as u64)][j % 3];
            let (decay, initial_state) = (decays[(i + j / 3) % 4], j % 2 == 0);
            let all = AttentionSpec::all(1, 2, seqlen, [5, 4]);
            let spec = AttentionSpec { chunk_size, decay, initial_state, order, seed: (i * 10 + j) as u64, ..all };
            check::<B, T>(&backend, &spec, [true, i % 2 == 0, j % 3 == 0]);
            count += 1;
        }
    }
    say(format_args!("squared_attention lengths {} {}: {count} cases", B::NAME, T::DTYPE));
}

/// Every width that a vector might trip over, 0 included, by pairs and in chunks; batches and heads likewise.
fn shapes<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let mut count = 0;
    let mut check = |spec: AttentionSpec| {
        check::<B, T>(&backend, &spec, [true; 3]);
        count += 1;
    };
    const WIDTHS: [usize; 9] = [0, 1, 2, 15, 16, 17, 31, 33, 64];
    for (i, dim) in WIDTHS.into_iter().enumerate() {
        for (j, vdim) in WIDTHS.into_iter().enumerate() {
            // Large ones take seconds: each meets small ones, and on one dtype a large one.
            let large = dim * dim * vdim > 17 * 17 * 17;
            if large && (T::DTYPE != Dtype::F32 || (i + j) % 4 != 0) {
                continue;
            }
            let (seqlen, order) = (if large { 6 } else { 9 }, [Order::Dense, Order::Strided((i * j) as u64)][j % 2]);
            let chunk_size = [None, Some(4)][(i + j) % 2];
            let initial_state = j % 3 != 0;
            check(AttentionSpec { chunk_size, order, initial_state, ..AttentionSpec::all(1, 1, seqlen, [dim, vdim]) });
        }
    }
    for [batch, nheads, seqlen] in [[0, 2, 5], [2, 0, 5], [2, 2, 0], [0, 0, 0], [3, 1, 1]] {
        for chunk_size in [None, Some(2)] {
            check(AttentionSpec { chunk_size, ..AttentionSpec::all(batch, nheads, seqlen, [3, 4]) });
            check(AttentionSpec { initial_state: false, ..AttentionSpec::all(batch, nheads, seqlen, [3, 4]) });
        }
    }
    say(format_args!("squared_attention shapes {} {}: {count} cases", B::NAME, T::DTYPE));
}

/// Packed sequences with empty, single and long ones.
fn packed<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let mut count = 0;
    for lengths in [vec![0], vec![0, 0, 3], vec![1, 1, 1], vec![17, 1, 0, 33, 7], vec![32, 65, 31], vec![70, 0, 2]] {
        for (i, chunk_size) in [None, Some(16), Some(33)].into_iter().enumerate() {
            let (order, initial_state) = ([Order::Dense, Order::ChannelLast, Order::Strided(5)][i], i != 1);
            let all = AttentionSpec::all(1, 2, 0, [4, 3]);
            let spec = AttentionSpec { chunk_size, order, initial_state, ..all }.packed(&lengths);
            check::<B, T>(&backend, &spec, [true, i != 2, i != 1]);
            count += 1;
        }
    }
    let many: Vec<usize> = (0..300).map(|seq| [1, 0, 3, 2][seq % 4]).collect();
    check::<B, T>(&backend, &AttentionSpec::all(1, 2, 4, [2, 3]).packed(&many), [true; 3]);
    say(format_args!("squared_attention packed {} {}: {} cases", B::NAME, T::DTYPE, count + 1));
}

/// Widths of an update, and padding.
fn update_shapes<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let mut count = 0;
    for (i, [dim, vdim]) in
        [[0, 3], [3, 0], [0, 0], [1, 1], [15, 16], [16, 15], [17, 33], [31, 64], [33, 1], [64, 31], [64, 64]]
            .into_iter()
            .enumerate()
    {
        for state in [Dtype::F32, Dtype::F16, Dtype::BF16] {
            let order = [Order::Dense, Order::Aligned, Order::ChannelLast, Order::Strided(i as u64)][i % 4];
            let tokens = AttentionSpec { order, ..AttentionSpec::all(3, 1, 1, [dim, vdim]) };
            let indices = (i % 2 == 0).then(|| (2, vec![false, true, false]));
            check_update::<B, T>(&backend, &AttentionUpdateSpec { tokens, state, indices });
            count += 1;
        }
    }
    for [batch, nheads, seqlen] in [[0, 2, 1], [2, 0, 1], [2, 2, 0]] {
        for indices in [None, Some((1, vec![false; 2]))] {
            let tokens = AttentionSpec::all(batch, nheads, seqlen, [3, 4]);
            check_update::<B, T>(&backend, &AttentionUpdateSpec { tokens, state: Dtype::F32, indices });
            count += 1;
        }
    }
    say(format_args!("squared_attention_update shapes {} {}: {count} cases", B::NAME, T::DTYPE));
}

crate::suites!(only cpu: drawn, lengths, shapes, packed, update_drawn, update_shapes);

/// The reference's gradients against central differences of its own forward direction, in f64, along one random direction
/// of each input at a time.
#[test]
fn reference_backward_is_the_derivative() {
    let label = "squared_attention reference against differences";
    property(file!(), label, 64, (spec(), any::<[bool; 3]>()), |(spec, how)| differences(&spec, how));
}

fn differences(spec: &AttentionSpec, how: [bool; 3]) {
    use crate::common::buffer::Buffer;
    use ssm_kernels::reference::accuracy::Loop;
    // What is forgotten has no derivative on one side.
    let decay = if spec.decay == Decay::Mixed { Decay::Softplus } else { spec.decay };
    let spec = AttentionSpec { order: Order::Dense, near: true, decay, ..spec.clone() };
    let mut case = AttentionCase::<f32>::new(&spec);
    let upstream = AttentionUpstream::new(&case, how, Order::Dense, spec.seed ^ 1);
    fn inputs(case: &mut AttentionCase<f32>) -> [Option<&mut Buffer<f32>>; 6] {
        let (state, norm) = case.initial.as_mut().map(|(state, norm)| (state, norm)).unzip();
        [Some(&mut case.q), Some(&mut case.k), Some(&mut case.v), Some(&mut case.log_decay), state, norm]
    }
    // Where a sum of weights nearly vanishes no polynomial is near: each step's own weight is to be far from 0.
    case.k = mapped(&case.k, |value| value.signum() * (0.75 + 0.5 * value.abs()));
    let mut keys = case.k.dense().into_iter();
    case.q = mapped(&case.q, |value| keys.next().expect("one each") as f32 * (1.0 + 0.25 * value.sin()));
    inputs(&mut case).into_iter().flatten().for_each(coarse);
    let values = NaiveAttentionBackward(&case, &upstream).run::<f64>();
    let weights = [upstream.dout, upstream.dfinal_state, upstream.dfinal_norm];
    let weights = weights.map(|by| by.as_ref().map_or(vec![], Buffer::dense));
    Gradients { names: ATTENTION_GRADIENTS, values, bound: |elements| 1e-6 * elements }.expect_derivatives(
        &case,
        inputs,
        spec.seed,
        |case| loss(&weights, &NaiveAttention(case).run::<f64>()),
    );
}
