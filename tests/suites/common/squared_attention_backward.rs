//! The backward direction of squared attention: upstream gradients, gradients, and its naive loop.

use super::buffer::{Buffer, Order};
use super::random::Random;
use super::squared_attention::AttentionCase;
use ssm_kernels::Element;
use ssm_kernels::prelude::*;
use ssm_kernels::reference::accuracy::{Loop, Yardstick};
use ssm_kernels::reference::{Real, squared_attention as reference};

/// The names of all gradients, in the order of everything here.
pub const ATTENTION_GRADIENTS: [&str; 6] = ["dq", "dk", "dv", "dlog_decay", "dinitial_state", "dinitial_norm"];

/// What backward reads beside the inputs.
#[derive(Debug, Clone)]
pub struct AttentionUpstream<T> {
    pub dout: Option<Buffer<T>>,
    pub dfinal_state: Option<Buffer<f32>>,
    pub dfinal_norm: Option<Buffer<f32>>,
}

impl<T: Element> AttentionUpstream<T> {
    /// Random ones; at least one of the three.
    pub fn new(case: &AttentionCase<T>, [dout, state, norm]: [bool; 3], order: Order, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let wanted = dout || !(state || norm);
        let dims = case.state_dims();
        Self {
            dout: wanted.then(|| Buffer::filled(&case.value_dims(), order, || random.normal())),
            dfinal_state: state.then(|| Buffer::filled(&dims, order, || random.normal())),
            dfinal_norm: norm.then(|| Buffer::filled(&dims[..3], order, || random.normal())),
        }
    }

    pub fn views(&self) -> SquaredAttentionUpstream<'_, T> {
        let mut upstream = SquaredAttentionUpstream::new();
        if let Some(dout) = &self.dout {
            upstream = upstream.dout(dout.view());
        }
        if let Some(dfinal_state) = &self.dfinal_state {
            upstream = upstream.dfinal_state(dfinal_state.view());
        }
        if let Some(dfinal_norm) = &self.dfinal_norm {
            upstream = upstream.dfinal_norm(dfinal_norm.view());
        }
        upstream
    }

    /// The part that belongs to [`AttentionCase::part`], with these gradients by state and norm.
    pub fn part(&self, name: &str, range: std::ops::Range<usize>, finals: [Option<Buffer<f32>>; 2]) -> Self {
        let [dfinal_state, dfinal_norm] = finals;
        Self { dout: self.dout.as_ref().map(|dout| dout.slice(name, range)), dfinal_state, dfinal_norm }
    }

    /// The gradients by state and norm of one sequence.
    pub fn finals(&self, seq: usize) -> [Option<Buffer<f32>>; 2] {
        [&self.dfinal_state, &self.dfinal_norm].map(|by| by.as_ref().map(|by| by.slice("batch", seq..seq + 1)))
    }

    /// The same, heads in another order.
    pub fn reordered(&self, source: impl Fn(usize) -> usize + Copy) -> Self {
        let wide = |by: &Option<Buffer<f32>>| by.as_ref().map(|by| by.reordered("nheads", source));
        Self {
            dout: self.dout.as_ref().map(|dout| dout.reordered("nheads", source)),
            dfinal_state: wide(&self.dfinal_state),
            dfinal_norm: wide(&self.dfinal_norm),
        }
    }
}

/// Gradients that are asked for, NaN until a backend writes them.
#[derive(Debug, Clone)]
pub struct AttentionGradients<T> {
    /// dq, dk and dv.
    pub io: [Option<Buffer<T>>; 3],
    /// dlog_decay, dinitial_state and dinitial_norm.
    pub wide: [Option<Buffer<f32>>; 3],
}

impl<T: Element> AttentionGradients<T> {
    /// Those of `wanted`.
    pub fn new(case: &AttentionCase<T>, wanted: &[&str], order: Order) -> Self {
        let want = |i: usize| wanted.contains(&ATTENTION_GRADIENTS[i]);
        let state = case.state_dims();
        let (keys, values) = (case.q.dims(), case.value_dims());
        let io = [&keys[..], &keys, &values];
        let wide = [&keys[..3], &state, &state[..3]];
        Self {
            io: std::array::from_fn(|i| want(i).then(|| Buffer::poisoned(io[i], order))),
            wide: std::array::from_fn(|i| want(3 + i).then(|| Buffer::poisoned(wide[i], order))),
        }
    }

    /// Calls `run` with a view of each.
    pub fn with_views<R>(&mut self, run: impl FnOnce(SquaredAttentionGradients<'_, T>) -> R) -> R {
        let mut io = self.io.each_mut().map(|buffer| buffer.as_mut().map(Buffer::view_mut));
        let mut wide = self.wide.each_mut().map(|buffer| buffer.as_mut().map(Buffer::view_mut));
        let ([dq, dk, dv], [dlog_decay, state, norm]) = (&mut io, &mut wide);
        let mut wanted = SquaredAttentionGradients::new();
        wanted = dq.iter_mut().fold(wanted, SquaredAttentionGradients::dq);
        wanted = dk.iter_mut().fold(wanted, SquaredAttentionGradients::dk);
        wanted = dv.iter_mut().fold(wanted, SquaredAttentionGradients::dv);
        wanted = dlog_decay.iter_mut().fold(wanted, SquaredAttentionGradients::dlog_decay);
        wanted = state.iter_mut().fold(wanted, SquaredAttentionGradients::dinitial_state);
        wanted = norm.iter_mut().fold(wanted, SquaredAttentionGradients::dinitial_norm);
        run(wanted)
    }

    /// The bits of each that is there, in the order of [`ATTENTION_GRADIENTS`].
    pub fn bits(&self) -> [Option<Vec<u32>>; 6] {
        std::array::from_fn(|i| match i {
            0..3 => self.io[i].as_ref().map(Buffer::bits),
            _ => self.wide[i - 3].as_ref().map(Buffer::bits),
        })
    }

    /// The same bits in each that is there.
    pub fn expect_same_bits(&self, law: &str, other: &Self) {
        for ((name, own), other) in ATTENTION_GRADIENTS.into_iter().zip(self.bits()).zip(other.bits()) {
            assert!(own == other, "{law}: bits of {name} differ");
        }
    }

    /// Each as `map_io` and `map_wide` make it.
    pub fn mapped(
        &self,
        map_io: impl Fn(&Buffer<T>) -> Buffer<T>,
        map_wide: impl Fn(&Buffer<f32>) -> Buffer<f32>,
    ) -> Self {
        Self {
            io: self.io.each_ref().map(|buffer| buffer.as_ref().map(&map_io)),
            wide: self.wide.each_ref().map(|buffer| buffer.as_ref().map(&map_wide)),
        }
    }

    /// Those of some steps, without states and norms.
    pub fn steps(&self, range: std::ops::Range<usize>) -> Self {
        let [dlog_decay, ..] = &self.wide;
        Self {
            io: self.io.each_ref().map(|by| by.as_ref().map(|by| by.slice("seqlen", range.clone()))),
            wide: [dlog_decay.as_ref().map(|by| by.slice("seqlen", range)), None, None],
        }
    }

    /// Those of some heads or rows of a batch.
    pub fn slice(&self, name: &str, range: std::ops::Range<usize>) -> Self {
        self.mapped(|buffer| buffer.slice(name, range.clone()), |buffer| buffer.slice(name, range.clone()))
    }

    /// Each that is there under the accuracy rule.
    pub fn expect_accurate(&self, text: &str, expected: &[Yardstick]) {
        use super::compare::expect_accurate;
        let label = |i: usize| format!("{}, {text}", ATTENTION_GRADIENTS[i]);
        for (i, expected) in expected.iter().enumerate() {
            match i {
                0..3 => self.io[i].iter().for_each(|got| expect_accurate(&label(i), got, expected)),
                _ => self.wide[i - 3].iter().for_each(|got| expect_accurate(&label(i), got, expected)),
            }
        }
    }
}

/// The naive backward direction: all gradients, in the order of [`ATTENTION_GRADIENTS`].
pub struct NaiveAttentionBackward<'c, T>(pub &'c AttentionCase<T>, pub &'c AttentionUpstream<T>);

impl<T: Element> NaiveAttentionBackward<'_, T> {
    pub fn yardsticks(&self) -> Vec<Yardstick> {
        let [.., (_, features), (_, vdim)] = self.0.state_dims();
        let (dim, seqlen) = (self.0.k.row(), self.0.log_decay.row());
        Yardstick::measure(self, &[dim, dim, vdim, seqlen, vdim, features])
    }
}

impl<T: Element> Loop for NaiveAttentionBackward<'_, T> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let op = self.0.op().expect("a valid case");
        let run = reference::backward::<R, T>(&op, self.1.views()).expect("a valid case");
        let all = [run.dq, run.dk, run.dv, run.dlog_decay, run.dinitial_state, run.dinitial_norm];
        all.map(|tensor| tensor.into_iter().map(R::to_f64).collect()).into()
    }
}
