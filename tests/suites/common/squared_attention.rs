//! Cases of squared attention: what proptest draws, the tensors made from it, and its naive loops.

use super::buffer::{Buffer, Order};
use super::random::Random;
use super::scan::{order, segments};
use proptest::prelude::*;
use ssm_kernels::prelude::*;
use ssm_kernels::reference::accuracy::{Loop, Yardstick};
use ssm_kernels::reference::{Real, squared_attention as reference};
use ssm_kernels::{Element, Result};

/// What the logarithms of decays are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decay {
    /// Nothing is forgotten.
    None,
    /// -softplus of a normal one, as 2Mamba has them: about -0.7.
    Softplus,
    /// About -0.01.
    Slow,
    /// Down to -40.
    Strong,
    /// Little of either sign.
    Growing,
    /// Any of these from step to step, and now and then -inf, which forgets all.
    Mixed,
}

impl Decay {
    fn draw(self, random: &mut Random) -> f32 {
        match self {
            Self::None => 0.0,
            Self::Softplus => -random.normal().exp().ln_1p(),
            Self::Slow => -random.log_uniform(3e-3, 3e-2),
            Self::Strong => random.uniform(-40.0, 0.0),
            Self::Growing => random.uniform(-0.1, 0.1),
            Self::Mixed => match random.below(7) {
                0 => f32::NEG_INFINITY,
                1 => Self::Strong.draw(random),
                2 => Self::Softplus.draw(random),
                3 => Self::None.draw(random),
                4 => Self::Growing.draw(random),
                _ => Self::Slow.draw(random),
            },
        }
    }
}

/// Shape and options of one case. Its Debug form reproduces the case.
#[derive(Debug, Clone)]
pub struct AttentionSpec {
    pub batch: usize,
    pub nheads: usize,
    pub seqlen: usize,
    pub dim: usize,
    pub vdim: usize,
    /// Lengths of packed sequences; `batch` and `seqlen` then follow from them.
    pub packed: Option<Vec<usize>>,
    pub decay: Decay,
    /// Queries lie near the keys of their steps, so that each step has a weight: sums of weights are then far from 0, and
    /// the yardstick is small.
    pub near: bool,
    pub scale: Option<f32>,
    pub initial_state: bool,
    /// final_state and final_norm are asked for.
    pub finals: [bool; 2],
    pub chunk_size: Option<usize>,
    pub order: Order,
    pub seed: u64,
}

impl AttentionSpec {
    /// Every option on but a chunk size, dense.
    pub fn all(batch: usize, nheads: usize, seqlen: usize, [dim, vdim]: [usize; 2]) -> Self {
        Self {
            batch,
            nheads,
            seqlen,
            dim,
            vdim,
            packed: None,
            decay: Decay::Softplus,
            near: true,
            scale: Some(0.5),
            initial_state: true,
            finals: [true; 2],
            chunk_size: None,
            order: Order::Dense,
            seed: 1,
        }
    }

    /// The same with these sequences.
    pub fn packed(self, lengths: &[usize]) -> Self {
        Self { batch: 1, seqlen: lengths.iter().sum(), packed: Some(lengths.to_vec()), ..self }
    }

    pub fn nseqs(&self) -> usize {
        self.packed.as_ref().map_or(self.batch, Vec::len)
    }

    /// What the naive loops touch in a run: elements of the states, once for each step.
    fn work(&self) -> usize {
        self.batch * self.nheads * self.seqlen * (self.dim * (self.dim + 1) / 2) * (self.vdim + 1)
    }

    /// As many rows and steps as the naive loops run in a moment, and as few as do not leave the yardstick to luck.
    pub fn resolve(mut self) -> Self {
        const MOST: usize = 50_000;
        // Fewer elements of a gradient leave the yardstick to luck; a few rows do where these are long.
        const ELEMENTS: usize = 64;
        const ROWS: usize = 8;
        if let Some(lengths) = self.packed.take() {
            self = self.packed(&lengths);
        }
        let steps = self.batch * self.seqlen;
        if steps > 0 {
            let shortest = self.dim.min(self.vdim).max(1);
            self.nheads = self.nheads.max(ROWS.max(ELEMENTS.div_ceil(shortest)).div_ceil(steps));
        }
        while self.work() > MOST {
            let fewer = (self.nheads - 1) * self.batch * self.seqlen;
            match &mut self.packed {
                _ if fewer >= ROWS => self.nheads -= 1,
                Some(lengths) if self.seqlen > ROWS => {
                    lengths.iter_mut().for_each(|len| *len -= len.div_ceil(4));
                    self.seqlen = lengths.iter().sum();
                }
                None if self.batch > 1 => self.batch -= 1,
                None if self.seqlen > ROWS => self.seqlen -= self.seqlen.div_ceil(4),
                _ => self.vdim /= 2,
            }
        }
        self
    }
}

/// Extents of keys and of values.
pub fn widths() -> impl Strategy<Value = [usize; 2]> {
    let large = prop::sample::select(vec![31usize, 32, 33, 64]);
    let dim = prop_oneof![1 => Just(0usize), 20 => 1usize..20, 2 => large.clone()];
    let vdim = prop_oneof![12 => 0usize..20, 1 => large];
    (dim, vdim).prop_map(<[usize; 2]>::from)
}

pub fn decay() -> impl Strategy<Value = Decay> {
    let all = [Decay::None, Decay::Softplus, Decay::Slow, Decay::Strong, Decay::Growing, Decay::Mixed];
    prop::sample::select(all.to_vec())
}

pub fn scale() -> impl Strategy<Value = Option<f32>> {
    prop::option::of(prop::sample::select(vec![0.05f32, 0.3, 1.0, -0.7, 2.5]))
}

/// Any case that a plain loop runs in a moment.
pub fn spec() -> impl Strategy<Value = AttentionSpec> {
    let around = vec![63usize, 64, 65, 95, 96, 97, 127, 128, 129, 130];
    let length = prop_oneof![5 => 0usize..40, 1 => prop::sample::select(around)];
    let part = prop_oneof![Just(0usize), Just(1), 0usize..25, 31usize..34];
    let packed = prop::option::weighted(0.3, prop::collection::vec(part, 1..6));
    let chunk_size = prop::option::of(prop_oneof![1usize..70, prop::sample::select(vec![1usize, 31, 32, 33, 64])]);
    let shape = (1usize..4, 1usize..4, length, widths(), packed);
    let options = (decay(), prop::bool::weighted(0.7), scale(), any::<bool>(), any::<[bool; 2]>());
    (shape, options, chunk_size, order(), any::<u64>()).prop_map(|(shape, options, chunk_size, order, seed)| {
        let (batch, nheads, seqlen, [dim, vdim], packed) = shape;
        let (decay, near, scale, initial_state, finals) = options;
        let all = AttentionSpec::all(batch, nheads, seqlen, [dim, vdim]);
        AttentionSpec { packed, decay, near, scale, initial_state, finals, chunk_size, order, seed, ..all }.resolve()
    })
}

/// State and norm that a few tokens leave, for so many rows of so many heads. (Numbers without tokens behind them would
/// give sums of weights that are no sums of squares.)
pub fn states<H: Element>(
    random: &mut Random,
    (row, rows): (&'static str, usize),
    nheads: usize,
    [dim, vdim]: [usize; 2],
    order: Order,
) -> (Buffer<H>, Buffer<f32>) {
    const TOKENS: usize = 3;
    let features = dim * (dim + 1) / 2;
    let (mut state, mut norm) = (vec![0.0f64; rows * nheads * features * vdim], vec![0.0; rows * nheads * features]);
    for head in 0..rows * nheads {
        for _ in 0..TOKENS {
            let k: Vec<f64> = (0..dim).map(|_| f64::from(random.normal()) / (dim as f64).sqrt()).collect();
            let v: Vec<f64> = (0..vdim).map(|_| f64::from(random.normal())).collect();
            let pairs = (0..dim).flat_map(|i| (i..dim).map(move |j| (i, j)));
            for (f, (i, j)) in pairs.enumerate().map(|(f, pair)| (head * features + f, pair)) {
                let phi = if i == j { k[i] * k[i] } else { std::f64::consts::SQRT_2 * k[i] * k[j] };
                norm[f] += phi;
                state[f * vdim..][..vdim].iter_mut().zip(&v).for_each(|(state, v)| *state += phi * v);
            }
        }
    }
    let dims = [(row, rows), ("nheads", nheads), ("features", features), ("vdim", vdim)];
    let (mut state, mut norm) = (state.into_iter(), norm.into_iter());
    (
        Buffer::filled(&dims, order, || state.next().expect("one each") as f32),
        Buffer::filled(&dims[..3], order, || norm.next().expect("one each") as f32),
    )
}

/// The tensors of one case.
#[derive(Debug, Clone)]
pub struct AttentionCase<T> {
    pub q: Buffer<T>,
    pub k: Buffer<T>,
    pub v: Buffer<T>,
    pub log_decay: Buffer<f32>,
    pub scale: Option<f32>,
    /// State and norm.
    pub initial: Option<(Buffer<f32>, Buffer<f32>)>,
    pub segments: Option<Segments>,
    pub chunk_size: Option<usize>,
}

impl<T: Element> AttentionCase<T> {
    pub fn new(spec: &AttentionSpec) -> Self {
        let AttentionSpec { batch, nheads, seqlen, dim, vdim, scale, chunk_size, order, .. } = *spec;
        let mut random = Random::new(spec.seed);
        let [key, value] = [("dim", dim), ("vdim", vdim)]
            .map(|width| [("batch", batch), ("nheads", nheads), ("seqlen", seqlen), width]);
        let k = Buffer::<T>::filled(&key, order, || random.normal());
        let mut keys = k.dense().into_iter();
        let q = Buffer::filled(&key, order, || {
            let key = keys.next().expect("one each") as f32;
            if spec.near { key + 0.3 * random.normal() } else { random.normal() }
        });
        let v = Buffer::filled(&value, order, || random.normal());
        let log_decay = Buffer::filled(&key[..3], order, || spec.decay.draw(&mut random));
        let rows = ("batch", spec.nseqs());
        let initial = spec.initial_state.then(|| states(&mut random, rows, nheads, [dim, vdim], order));
        let segments = spec.packed.as_ref().map(|lengths| segments(lengths));
        Self { q, k, v, log_decay, scale, initial, segments, chunk_size }
    }

    pub fn op(&self) -> Result<SquaredAttention<'_, T>> {
        let mut op = SquaredAttention::new(self.q.view(), self.k.view(), self.v.view(), self.log_decay.view())?;
        if let Some(scale) = self.scale {
            op = op.scale(scale);
        }
        if let Some((state, norm)) = &self.initial {
            op = op.initial_state(state.view(), norm.view());
        }
        if let Some(segments) = &self.segments {
            op = op.segments(segments);
        }
        if let Some(chunk_size) = self.chunk_size {
            op = op.chunk_size(chunk_size);
        }
        Ok(op)
    }

    /// The dimensions of out.
    pub fn value_dims(&self) -> [(&'static str, usize); 4] {
        let dims = self.op().and_then(|op| op.dims()).expect("a valid case");
        [("batch", dims.batch), ("nheads", dims.nheads), ("seqlen", dims.seqlen), ("vdim", dims.vdim)]
    }

    /// The dimensions of the states; all but the last are those of the norms.
    pub fn state_dims(&self) -> [(&'static str, usize); 4] {
        let dims = self.op().and_then(|op| op.dims()).expect("a valid case");
        [("batch", dims.nseqs), ("nheads", dims.nheads), ("features", dims.features()), ("vdim", dims.vdim)]
    }

    /// The part in `range` of `name` ("batch" or "seqlen"), from `initial` on.
    pub fn part(&self, name: &str, range: std::ops::Range<usize>, initial: Option<(Buffer<f32>, Buffer<f32>)>) -> Self {
        let io = |buffer: &Buffer<T>| buffer.slice(name, range.clone());
        let (q, k, v) = (io(&self.q), io(&self.k), io(&self.v));
        Self { q, k, v, log_decay: self.log_decay.slice(name, range), initial, segments: None, ..self.clone() }
    }

    /// State and norm of one sequence.
    pub fn initial(&self, seq: usize) -> Option<(Buffer<f32>, Buffer<f32>)> {
        let own = |buffer: &Buffer<f32>| buffer.slice("batch", seq..seq + 1);
        self.initial.as_ref().map(|(state, norm)| (own(state), own(norm)))
    }

    /// The same tensors, heads in another order.
    pub fn reordered(&self, source: impl Fn(usize) -> usize + Copy) -> Self {
        let io = |buffer: &Buffer<T>| buffer.reordered("nheads", source);
        let wide = |buffer: &Buffer<f32>| buffer.reordered("nheads", source);
        let (q, k, v, log_decay) = (io(&self.q), io(&self.k), io(&self.v), wide(&self.log_decay));
        let initial = self.initial.as_ref().map(|(state, norm)| (wide(state), wide(norm)));
        Self { q, k, v, log_decay, initial, ..self.clone() }
    }
}

/// The outputs of one case, NaN until a backend writes them.
#[derive(Debug, Clone)]
pub struct AttentionBuffers<T> {
    pub out: Buffer<T>,
    pub final_state: Option<Buffer<f32>>,
    pub final_norm: Option<Buffer<f32>>,
}

impl<T: Element> AttentionBuffers<T> {
    pub fn new(case: &AttentionCase<T>, [state, norm]: [bool; 2], order: Order) -> Self {
        let dims = case.state_dims();
        Self {
            out: Buffer::poisoned(&case.value_dims(), order),
            final_state: state.then(|| Buffer::poisoned(&dims, order)),
            final_norm: norm.then(|| Buffer::poisoned(&dims[..3], order)),
        }
    }

    /// Calls `run` with a view of each.
    pub fn with_views<R>(&mut self, run: impl FnOnce(SquaredAttentionOutputs<'_, T>) -> R) -> R {
        let mut out = self.out.view_mut();
        let (mut state, mut norm) =
            (self.final_state.as_mut().map(Buffer::view_mut), self.final_norm.as_mut().map(Buffer::view_mut));
        let wanted =
            state.iter_mut().fold(SquaredAttentionOutputs::new(&mut out), SquaredAttentionOutputs::final_state);
        run(norm.iter_mut().fold(wanted, SquaredAttentionOutputs::final_norm))
    }

    /// Each that is there under the accuracy rule.
    pub fn expect_accurate(&self, text: &str, expected: &[Yardstick]) {
        use super::compare::expect_accurate;
        expect_accurate(&format!("out, {text}"), &self.out, &expected[0]);
        let each = [("final_state", &self.final_state), ("final_norm", &self.final_norm)];
        for ((name, got), expected) in each.into_iter().zip(&expected[1..]) {
            got.iter().for_each(|got| expect_accurate(&format!("{name}, {text}"), got, expected));
        }
    }
}

/// The naive recurrence: out, final_state and final_norm.
pub struct NaiveAttention<'c, T>(pub &'c AttentionCase<T>);

impl<T: Element> NaiveAttention<'_, T> {
    pub fn yardsticks(&self) -> Vec<Yardstick> {
        let [.., (_, features), (_, vdim)] = self.0.state_dims();
        Yardstick::measure(self, &[vdim, vdim, features])
    }
}

impl<T: Element> Loop for NaiveAttention<'_, T> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let run = reference::forward::<R, T>(&self.0.op().expect("a valid case")).expect("a valid case");
        [run.out, run.final_state, run.final_norm].map(|tensor| tensor.into_iter().map(R::to_f64).collect()).into()
    }
}
