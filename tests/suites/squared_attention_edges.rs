//! Squared attention at its edges: nothing to divide by, nothing remembered, and elements that are no numbers.

use crate::common::backends::{self, SquaredAttentionBackend as Backend};
use crate::common::buffer::{Buffer, Order};
use crate::common::parts::expect_same_bits;
use crate::common::say;
use crate::common::squared_attention::{AttentionBuffers, AttentionCase, AttentionSpec, Decay, NaiveAttention};
use crate::common::squared_attention_backward::{
    ATTENTION_GRADIENTS, AttentionGradients, AttentionUpstream, NaiveAttentionBackward,
};
use crate::common::squared_attention_update::{AttentionUpdateBuffers, AttentionUpdateCase, AttentionUpdateSpec};
use ssm_kernels::{Dtype, Element};

fn run<B: Backend, T: Element>(backend: &B, case: &AttentionCase<T>) -> AttentionBuffers<T> {
    let mut outputs = AttentionBuffers::new(case, [true; 2], Order::Dense);
    backend.squared_attention_forward(case, &mut outputs).expect("a valid case runs");
    outputs
}

fn run_backward<B: Backend, T: Element>(
    backend: &B,
    case: &AttentionCase<T>,
    upstream: &AttentionUpstream<T>,
) -> AttentionGradients<T> {
    let mut gradients = AttentionGradients::new(case, &ATTENTION_GRADIENTS, Order::Dense);
    backend.squared_attention_backward(case, upstream, &mut gradients).expect("a valid case runs");
    gradients
}

/// Both directions under the accuracy rule.
fn check<B: Backend, T: Element>(backend: &B, case: &AttentionCase<T>, upstream: &AttentionUpstream<T>, text: &str) {
    run(backend, case).expect_accurate(text, &NaiveAttention(case).yardsticks());
    run_backward(backend, case, upstream).expect_accurate(text, &NaiveAttentionBackward(case, upstream).yardsticks());
}

/// The same values but those that `change` makes others of, by index in canonical order.
fn with<T: Element>(buffer: &Buffer<T>, change: impl Fn(usize, f32) -> f32) -> Buffer<T> {
    let mut values = buffer.dense().into_iter().enumerate();
    Buffer::filled(&buffer.dims(), Order::Dense, || {
        let (i, value) = values.next().expect("one each");
        change(i, value as f32)
    })
}

/// Sizes of a chunk that put steps into one tile, into several, and behind a state.
const CHUNKS: [Option<usize>; 3] = [None, Some(8), Some(40)];

/// Rows of q that are 0 have no weights: out is 0, and so are all gradients there, while the step's k and v count later.
fn zero_queries<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    for (chunk_size, initial_state) in CHUNKS.into_iter().flat_map(|chunk| [(chunk, false), (chunk, true)]) {
        let spec = AttentionSpec { chunk_size, initial_state, ..AttentionSpec::all(1, 2, 70, [3, 4]) };
        let mut case = AttentionCase::<T>::new(&spec);
        let silent = |t: usize| [0, 1, 33, 69].contains(&t);
        case.q = with(&case.q, |i, value| if silent(i / 3 % 70) { 0.0 } else { value });
        let upstream = AttentionUpstream::new(&case, [true; 3], Order::Dense, 5);
        let (outputs, gradients) = (run(&backend, &case), run_backward(&backend, &case, &upstream));
        let dq = gradients.io[0].as_ref().expect("asked for");
        for t in (0..70).filter(|&t| silent(t)) {
            let zero = |buffer: &Buffer<T>| buffer.slice("seqlen", t..t + 1).dense().iter().all(|&value| value == 0.0);
            assert!(zero(&outputs.out) && zero(dq), "step {t}, {spec:?}");
        }
        check(&backend, &case, &upstream, &format!("{spec:?}"));
        // Without queries nothing but the states has gradients.
        case.q = with(&case.q, |_, _| 0.0);
        let only_dout = AttentionUpstream { dfinal_state: None, dfinal_norm: None, ..upstream };
        assert!(run(&backend, &case).out.dense().iter().all(|&value| value == 0.0));
        for (name, bits) in ATTENTION_GRADIENTS.into_iter().zip(run_backward(&backend, &case, &only_dout).bits()) {
            let bits = bits.expect("asked for");
            assert!(bits.iter().all(|&bits| f32::from_bits(bits) == 0.0), "{name} without queries, {spec:?}");
        }
    }
}

/// A scale of 0 makes all weights 0, but the state's that there is.
fn no_scale<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    for (chunk_size, initial_state) in CHUNKS.into_iter().flat_map(|chunk| [(chunk, false), (chunk, true)]) {
        let all = AttentionSpec::all(2, 1, 41, [3, 4]);
        let spec = AttentionSpec { scale: Some(0.0), chunk_size, initial_state, ..all };
        let case = AttentionCase::<T>::new(&spec);
        let upstream = AttentionUpstream::new(&case, [true; 3], Order::Dense, 5);
        check(&backend, &case, &upstream, &format!("{spec:?}"));
        let zero = run(&backend, &case).out.dense().iter().all(|&value| value == 0.0);
        assert_eq!(zero, !initial_state, "{spec:?}");
    }
}

/// Weights of any size that f32 holds are as good as those near 1.
fn small_and_large_scales<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    for (chunk_size, exponent) in CHUNKS.into_iter().flat_map(|chunk| [-55, -20, 20, 50].map(|e| (chunk, e))) {
        let (scale, initial_state) = (Some(2.0f32.powi(exponent)), false);
        let all = AttentionSpec::all(1, 2, 41, [5, 4]);
        let spec = AttentionSpec { scale, chunk_size, decay: Decay::Slow, initial_state, ..all };
        let case = AttentionCase::<T>::new(&spec);
        let upstream = AttentionUpstream::new(&case, [true, false, false], Order::Dense, 5);
        check(&backend, &case, &upstream, &format!("{spec:?}"));
    }
}

/// A decay of -inf forgets all that came before: out, states and gradients are those of a sequence that begins there, and
/// nothing before it has gradients by what follows.
fn resets_forget<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    for chunk_size in CHUNKS {
        for reset in [0, 1, 7, 8, 31, 32, 33, 40, 69] {
            let spec = AttentionSpec { chunk_size, decay: Decay::Slow, ..AttentionSpec::all(1, 2, 70, [3, 4]) };
            let mut case = AttentionCase::<T>::new(&spec);
            case.log_decay = with(&case.log_decay, |i, value| if i % 70 == reset { f32::NEG_INFINITY } else { value });
            let upstream = AttentionUpstream::new(&case, [true; 3], Order::Dense, 5);
            let text = format!("reset at {reset}, {spec:?}");
            check(&backend, &case, &upstream, &text);
            // What is before the reset may be anything else.
            let mut other = case.clone();
            other.k = with(&other.k, |i, value| if i / 3 % 70 < reset { 3.0 - value } else { value });
            other.initial = other.initial.map(|(state, norm)| (with(&state, |_, v| 2.0 * v), norm));
            let (one, two) = (run(&backend, &case), run(&backend, &other));
            let late = |buffer: &Buffer<T>| buffer.slice("seqlen", reset..70);
            expect_same_bits(&format!("out after a {text}"), &late(&one.out), &late(&two.out));
            for (one, two) in [(&one.final_state, &two.final_state), (&one.final_norm, &two.final_norm)] {
                let (one, two) = (one.as_ref().expect("asked for"), two.as_ref().expect("asked for"));
                expect_same_bits(&format!("states after a {text}"), one, two);
            }
            // What follows the reset is all that the gradients come from: none before it, and none by its decay.
            let dout =
                with(upstream.dout.as_ref().expect("asked for"), |i, v| if i / 4 % 70 < reset { 0.0 } else { v });
            let upstream = AttentionUpstream { dout: Some(dout), ..upstream };
            let gradients = run_backward(&backend, &case, &upstream);
            let none = |buffer: &Buffer<f32>| buffer.dense().iter().all(|&value| value == 0.0);
            let early = gradients.steps(0..reset);
            let keys = early.io.iter().flatten().all(|buffer| buffer.dense().iter().all(|&value| value == 0.0));
            assert!(keys, "queries, keys and values before a {text}");
            assert!(none(&gradients.wide[0].as_ref().expect("asked").slice("seqlen", 0..reset + 1)), "decays, {text}");
            assert!(gradients.wide[1..].iter().flatten().all(none), "initial states, {text}");
        }
    }
}

/// No number at one step leaves the steps before it as they are, bit by bit, in the same tile too; in q it is of that step
/// alone, and in one element of v of that column alone.
fn causality<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    let mut count = 0;
    for (chunk_size, at) in CHUNKS.into_iter().flat_map(|chunk| [1, 5, 31, 32, 50].map(|at| (chunk, at))) {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            // (Decays stay so large that none of them is 0 in one arithmetic and in another not.)
            let spec = AttentionSpec { chunk_size, decay: Decay::Slow, ..AttentionSpec::all(1, 1, 67, [3, 4]) };
            let case = AttentionCase::<T>::new(&spec);
            let clean = run(&backend, &case);
            let text = |what: &str| format!("{what} {value} at step {at}, {spec:?}");
            let poisoned = |what: &str| {
                let mut case = case.clone();
                match what {
                    "q" => case.q = with(&case.q, |i, old| if i == at * 3 + 1 { value } else { old }),
                    "k" => case.k = with(&case.k, |i, old| if i == at * 3 + 1 { value } else { old }),
                    "v" => case.v = with(&case.v, |i, old| if i == at * 4 + 2 { value } else { old }),
                    _ => case.log_decay = with(&case.log_decay, |i, old| if i == at { f32::NAN } else { old }),
                }
                case
            };
            for what in ["q", "k", "v", "log_decay"] {
                let case = poisoned(what);
                let got = run(&backend, &case);
                let early = |outputs: &AttentionBuffers<T>| outputs.out.slice("seqlen", 0..at);
                expect_same_bits(&text(what), &early(&clean), &early(&got));
                got.expect_accurate(&text(what), &NaiveAttention(&case).yardsticks());
                let late = |outputs: &AttentionBuffers<T>| outputs.out.slice("seqlen", at + 1..67);
                let states = |outputs: &AttentionBuffers<T>| outputs.final_state.clone().expect("asked for");
                match what {
                    "q" => {
                        expect_same_bits(&text(what), &late(&clean), &late(&got));
                        expect_same_bits(&text(what), &states(&clean), &states(&got));
                    }
                    "v" => {
                        for p in [0, 1, 3] {
                            let column = |buffer: &Buffer<T>| buffer.slice("vdim", p..p + 1);
                            expect_same_bits(&text(what), &column(&clean.out), &column(&got.out));
                            let column = |buffer: Buffer<f32>| buffer.slice("vdim", p..p + 1);
                            expect_same_bits(&text(what), &column(states(&clean)), &column(states(&got)));
                        }
                        let reached = got.out.slice("vdim", 2..3).slice("seqlen", at..67).dense();
                        assert!(reached.iter().all(|value| !value.is_finite()), "{}", text("reach of v"));
                    }
                    _ => assert!(late(&got).dense().iter().all(|value| !value.is_finite()), "{}", text("reach")),
                }
                count += 1;
            }
        }
    }
    say(format_args!("squared_attention causality {} {}: {count} cases", B::NAME, T::DTYPE));
}

/// And on the way back: a dout that is no number reaches no later key, value or decay, and no other query.
fn causality_backward<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    for (chunk_size, at) in CHUNKS.into_iter().flat_map(|chunk| [1, 5, 31, 32, 50].map(|at| (chunk, at))) {
        for value in [f32::NAN, f32::INFINITY] {
            let spec = AttentionSpec { chunk_size, decay: Decay::Slow, ..AttentionSpec::all(1, 1, 67, [3, 4]) };
            let case = AttentionCase::<T>::new(&spec);
            let upstream = AttentionUpstream::new(&case, [true; 3], Order::Dense, 5);
            let mut other = upstream.clone();
            other.dout = other.dout.map(|dout| with(&dout, |i, old| if i == at * 4 + 2 { value } else { old }));
            let (clean, got) = (run_backward(&backend, &case, &upstream), run_backward(&backend, &case, &other));
            let text = format!("dout {value} at step {at}, {spec:?}");
            clean.steps(at + 1..67).expect_same_bits(&text, &got.steps(at + 1..67));
            let dq = |gradients: &AttentionGradients<T>, range| {
                gradients.io[0].as_ref().expect("asked for").slice("seqlen", range)
            };
            expect_same_bits(&format!("dq, {text}"), &dq(&clean, 0..at), &dq(&got, 0..at));
            got.expect_accurate(&text, &NaiveAttentionBackward(&case, &other).yardsticks());
        }
    }
}

/// Gradients are no numbers exactly where the recurrence's are, whichever input has one that is none. (An infinite q or
/// k makes features that are infinities of either sign: a sum of them is none, where the square of their product is infinite.)
fn not_numbers_backward<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    for (chunk_size, at) in CHUNKS.into_iter().flat_map(|chunk| [1, 31, 50].map(|at| (chunk, at))) {
        for value in [f32::NAN, f32::INFINITY] {
            let spec = AttentionSpec { chunk_size, decay: Decay::Slow, ..AttentionSpec::all(1, 1, 67, [3, 4]) };
            for what in ["q", "k", "v"].into_iter().filter(|&what| what == "v" || value.is_nan()) {
                let mut case = AttentionCase::<T>::new(&spec);
                match what {
                    "q" => case.q = with(&case.q, |i, old| if i == at * 3 + 1 { value } else { old }),
                    "k" => case.k = with(&case.k, |i, old| if i == at * 3 + 1 { value } else { old }),
                    _ => case.v = with(&case.v, |i, old| if i == at * 4 + 2 { value } else { old }),
                }
                for how in [[true, false, false], [false, true, false], [true; 3]] {
                    let upstream = AttentionUpstream::new(&case, how, Order::Dense, 5);
                    let text = format!("{what} {value} at step {at}, {how:?}, {spec:?}");
                    let expected = NaiveAttentionBackward(&case, &upstream).yardsticks();
                    run_backward(&backend, &case, &upstream).expect_accurate(&text, &expected);
                }
            }
        }
    }
}

/// Rows of padding are 0 in out, and slots that no row has keep their bits, whatever the tokens of padding are.
fn padding<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    fn check<B: Backend, T: Element, H: Element>(backend: &B, spec: &AttentionUpdateSpec) {
        let mut case = AttentionUpdateCase::<T, H>::new(spec);
        let indices = case.state_indices.clone().expect("asked for");
        let row = case.v.dense().len() / indices.len();
        case.v = with(&case.v, |i, value| if indices[i / row] < 0 { f32::NAN } else { value });
        let mut outputs = AttentionUpdateBuffers::new(&case);
        backend.squared_attention_update(&case, &mut outputs).expect("a valid case runs");
        for (b, _) in indices.iter().enumerate().filter(|(_, index)| **index < 0) {
            let own = outputs.out.slice("batch", b..b + 1);
            assert!(own.bits().iter().all(|&bits| bits == 0), "out of padding {b}: {:?}", own.dense());
        }
        for slot in (0..case.state.dims()[0].1).filter(|&slot| !indices.contains(&(slot as i32))) {
            let own = slot..slot + 1;
            let [before, after] = [&case.state, &outputs.state].map(|state| state.slice("slots", own.clone()));
            expect_same_bits("state of a slot that no row has", &before, &after);
            let [before, after] = [&case.norm, &outputs.norm].map(|norm| norm.slice("slots", own.clone()));
            expect_same_bits("norm of a slot that no row has", &before, &after);
        }
        outputs.state.expect_untouched_surroundings("state");
        outputs.norm.expect_untouched_surroundings("norm");
    }
    for (i, order) in [Order::Dense, Order::ChannelLast, Order::Strided(4)].into_iter().enumerate() {
        for state in [Dtype::F32, Dtype::F16, Dtype::BF16] {
            let tokens = AttentionSpec { order, ..AttentionSpec::all(4, 2, 1 + i, [5, 3]) };
            let indices = Some((2, vec![true, false, true, false]));
            let spec = AttentionUpdateSpec { tokens, state, indices };
            crate::with_dtype!(state, H => check::<B, T, H>(&backend, &spec));
        }
    }
}

/// Decays that together are beyond the range, of keys that are nothing: nothing stays nothing.
fn growth_of_nothing<B: Backend, T: Element>() {
    let Some(backend) = backends::open::<B>() else { return };
    for chunk_size in CHUNKS {
        let spec = AttentionSpec { chunk_size, initial_state: false, ..AttentionSpec::all(1, 2, 110, [3, 4]) };
        let mut case = AttentionCase::<T>::new(&spec);
        case.k = with(&case.k, |i, value| if i / 3 % 110 < 100 { 0.0 } else { value });
        case.log_decay = with(&case.log_decay, |i, value| if i % 110 < 100 { 1.0 } else { value });
        let outputs = run(&backend, &case);
        assert!(outputs.out.dense().iter().all(|value| value.is_finite()), "{spec:?}");
        outputs.expect_accurate(&format!("{spec:?}"), &NaiveAttention(&case).yardsticks());
    }
}

crate::suites!(only cpu:
    zero_queries,
    no_scale,
    small_and_large_scales,
    resets_forget,
    causality,
    causality_backward,
    not_numbers_backward,
    padding,
    growth_of_nothing
);
