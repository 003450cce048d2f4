//! Cases of the causal convolution: what proptest draws, the tensors made from it, and its naive loops.

use super::buffer::{Buffer, Order};
use super::random::Random;
use super::scan::{order, segments};
use proptest::prelude::*;
use ssm_kernels::prelude::*;
use ssm_kernels::reference::accuracy::{Loop, Yardstick};
use ssm_kernels::reference::{Real, causal_conv1d as reference};
use ssm_kernels::{Dtype, Element, Result};

/// Shape and options of one case. Its Debug form reproduces the case.
#[derive(Debug, Clone)]
pub struct ConvSpec {
    pub batch: usize,
    pub dim: usize,
    pub width: usize,
    pub seqlen: usize,
    /// Lengths of packed sequences; `batch` and `seqlen` then follow from them.
    pub packed: Option<Vec<usize>>,
    pub weight: Dtype,
    pub bias: bool,
    pub silu: bool,
    pub initial_state: bool,
    pub final_state: bool,
    pub order: Order,
    pub seed: u64,
}

impl ConvSpec {
    /// Every option on, dense, weights in f32.
    pub fn all(batch: usize, dim: usize, width: usize, seqlen: usize) -> Self {
        let (bias, silu, initial_state, final_state) = (true, true, true, true);
        let (packed, weight, order, seed) = (None, Dtype::F32, Order::Dense, 1);
        Self { batch, dim, width, seqlen, packed, weight, bias, silu, initial_state, final_state, order, seed }
    }

    /// The same with these sequences.
    pub fn packed(self, lengths: &[usize]) -> Self {
        Self { batch: 1, seqlen: lengths.iter().sum(), packed: Some(lengths.to_vec()), ..self }
    }

    pub fn nseqs(&self) -> usize {
        self.packed.as_ref().map_or(self.batch, Vec::len)
    }
}

/// Runs `$body` with `$W` as the type that a spec names.
#[macro_export]
macro_rules! with_dtype {
    ($dtype:expr, $W:ident => $body:expr) => {
        match $dtype {
            ssm_kernels::Dtype::F16 => {
                type $W = half::f16;
                $body
            }
            ssm_kernels::Dtype::BF16 => {
                type $W = half::bf16;
                $body
            }
            _ => {
                type $W = f32;
                $body
            }
        }
    };
}

pub fn dtype() -> impl Strategy<Value = Dtype> {
    prop::sample::select(vec![Dtype::F32, Dtype::F16, Dtype::BF16])
}

pub fn width() -> impl Strategy<Value = usize> {
    prop_oneof![3 => 2usize..5, 2 => 1usize..17]
}

/// Any case that a plain loop runs in a moment.
pub fn spec() -> impl Strategy<Value = ConvSpec> {
    let length = prop_oneof![6 => 0usize..40, 1 => prop::sample::select(vec![63usize, 64, 65, 127, 129, 200])];
    let packed =
        prop::option::weighted(0.4, prop::collection::vec(prop_oneof![Just(0usize), Just(1), 0usize..25], 1..6));
    let dim = prop_oneof![6 => 1usize..20, 1 => prop::sample::select(vec![31usize, 32, 33, 64, 65, 130])];
    let shape = (1usize..4, dim, width(), length, packed);
    (shape, any::<[bool; 4]>(), dtype(), order(), any::<u64>()).prop_map(|(shape, flags, weight, order, seed)| {
        let (batch, dim, width, seqlen, packed) = shape;
        let [bias, silu, initial_state, final_state] = flags;
        let spec = ConvSpec {
            bias,
            silu,
            initial_state,
            final_state,
            weight,
            order,
            seed,
            ..ConvSpec::all(batch, dim, width, seqlen)
        };
        match packed {
            Some(lengths) => spec.packed(&lengths),
            None => spec,
        }
    })
}

/// The tensors of one case.
#[derive(Debug, Clone)]
pub struct ConvCase<T, W> {
    pub x: Buffer<T>,
    pub weight: Buffer<W>,
    pub bias: Option<Buffer<W>>,
    pub silu: bool,
    pub initial_state: Option<Buffer<T>>,
    pub segments: Option<Segments>,
}

impl<T: Element, W: Element> ConvCase<T, W> {
    pub fn new(spec: &ConvSpec) -> Self {
        let ConvSpec { batch, dim, width, seqlen, order, .. } = *spec;
        let mut random = Random::new(spec.seed);
        let state = [("batch", spec.nseqs()), ("dim", dim), ("state_len", width - 1)];
        Self {
            x: Buffer::filled(&[("batch", batch), ("dim", dim), ("seqlen", seqlen)], order, || random.normal()),
            weight: Buffer::filled(&[("dim", dim), ("width", width)], order, || random.normal()),
            bias: spec.bias.then(|| Buffer::filled(&[("dim", dim)], order, || random.normal())),
            silu: spec.silu,
            initial_state: spec.initial_state.then(|| Buffer::filled(&state, order, || random.normal())),
            segments: spec.packed.as_ref().map(|lengths| segments(lengths)),
        }
    }

    pub fn op(&self) -> Result<CausalConv1d<'_, T, W>> {
        let mut conv = CausalConv1d::new(self.x.view(), self.weight.view())?.silu(self.silu);
        if let Some(bias) = &self.bias {
            conv = conv.bias(bias.view());
        }
        if let Some(initial_state) = &self.initial_state {
            conv = conv.initial_state(initial_state.view());
        }
        if let Some(segments) = &self.segments {
            conv = conv.segments(segments);
        }
        Ok(conv)
    }

    /// The dimensions of the states.
    pub fn state_dims(&self) -> [(&'static str, usize); 3] {
        let dims = self.op().and_then(|op| op.dims()).expect("a valid case");
        [("batch", dims.nseqs), ("dim", dims.dim), ("state_len", dims.width - 1)]
    }

    /// The part in `range` of `name` ("batch" or "seqlen"), from state `initial` on.
    pub fn part(&self, name: &str, range: std::ops::Range<usize>, initial: Option<Buffer<T>>) -> Self {
        Self { x: self.x.slice(name, range), initial_state: initial, segments: None, ..self.clone() }
    }

    /// The same values with x and the states in another order of memory.
    pub fn laid(self, order: Order) -> Self {
        Self { x: self.x.laid(order), initial_state: self.initial_state.map(|state| state.laid(order)), ..self }
    }

    /// The initial state of one sequence.
    pub fn initial(&self, seq: usize) -> Option<Buffer<T>> {
        self.initial_state.as_ref().map(|state| state.slice("batch", seq..seq + 1))
    }
}

/// The outputs of one case, NaN until a backend writes them.
#[derive(Debug, Clone)]
pub struct ConvBuffers<T> {
    pub out: Buffer<T>,
    pub final_state: Option<Buffer<T>>,
}

impl<T: Element> ConvBuffers<T> {
    pub fn new<W: Element>(case: &ConvCase<T, W>, final_state: bool, order: Order) -> Self {
        Self {
            out: Buffer::poisoned(&case.x.dims(), order),
            final_state: final_state.then(|| Buffer::poisoned(&case.state_dims(), order)),
        }
    }
}

/// The naive convolution: out and final_state.
pub struct NaiveConv<'c, T, W>(pub &'c ConvCase<T, W>);

impl<T: Element, W: Element> NaiveConv<'_, T, W> {
    pub fn yardsticks(&self) -> Vec<Yardstick> {
        Yardstick::measure(self, &[self.0.x.row(), self.0.weight.row() - 1])
    }
}

impl<T: Element, W: Element> Loop for NaiveConv<'_, T, W> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let run = reference::forward::<R, T, W>(&self.0.op().expect("a valid case")).expect("a valid case");
        [run.out, run.final_state].map(|tensor| tensor.into_iter().map(R::to_f64).collect()).into()
    }
}

/// The names of all gradients, in the order of everything here.
pub const CONV_GRADIENTS: [&str; 4] = ["dx", "dweight", "dbias", "dinitial_state"];

/// What backward reads beside the inputs.
#[derive(Debug, Clone)]
pub struct ConvUpstream<T> {
    pub dout: Option<Buffer<T>>,
    pub dfinal_state: Option<Buffer<T>>,
}

impl<T: Element> ConvUpstream<T> {
    /// Random ones; at least one of the two.
    pub fn new<W: Element>(case: &ConvCase<T, W>, [dout, dfinal_state]: [bool; 2], order: Order, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let wanted = dout || !dfinal_state;
        Self {
            dout: wanted.then(|| Buffer::filled(&case.x.dims(), order, || random.normal())),
            dfinal_state: dfinal_state.then(|| Buffer::filled(&case.state_dims(), order, || random.normal())),
        }
    }

    pub fn views(&self) -> CausalConv1dUpstream<'_, T> {
        let mut upstream = CausalConv1dUpstream::new();
        if let Some(dout) = &self.dout {
            upstream = upstream.dout(dout.view());
        }
        if let Some(dfinal_state) = &self.dfinal_state {
            upstream = upstream.dfinal_state(dfinal_state.view());
        }
        upstream
    }

    /// The part that belongs to [`ConvCase::part`].
    pub fn part(&self, name: &str, range: std::ops::Range<usize>, dfinal_state: Option<Buffer<T>>) -> Self {
        Self { dout: self.dout.as_ref().map(|dout| dout.slice(name, range)), dfinal_state }
    }
}

/// Gradients that are asked for, NaN until a backend writes them.
#[derive(Debug, Clone)]
pub struct ConvGradients<T, W> {
    pub dx: Option<Buffer<T>>,
    pub dweight: Option<Buffer<W>>,
    pub dbias: Option<Buffer<W>>,
    pub dinitial_state: Option<Buffer<T>>,
}

impl<T: Element, W: Element> ConvGradients<T, W> {
    /// Those of `wanted` that the case has.
    pub fn new(case: &ConvCase<T, W>, wanted: &[&str], order: Order) -> Self {
        let want = |name: &str| wanted.contains(&name);
        let dbias = case.bias.as_ref().filter(|_| want("dbias"));
        Self {
            dx: want("dx").then(|| Buffer::poisoned(&case.x.dims(), order)),
            dweight: want("dweight").then(|| Buffer::poisoned(&case.weight.dims(), order)),
            dbias: dbias.map(|bias| Buffer::poisoned(&bias.dims(), order)),
            dinitial_state: want("dinitial_state").then(|| Buffer::poisoned(&case.state_dims(), order)),
        }
    }

    /// Calls `run` with a view of each.
    pub fn with_views<R>(&mut self, run: impl FnOnce(CausalConv1dGradients<'_, T, W>) -> R) -> R {
        let (mut dx, mut dweight) =
            (self.dx.as_mut().map(Buffer::view_mut), self.dweight.as_mut().map(Buffer::view_mut));
        let (mut dbias, mut state) =
            (self.dbias.as_mut().map(Buffer::view_mut), self.dinitial_state.as_mut().map(Buffer::view_mut));
        let mut wanted = CausalConv1dGradients::new();
        wanted = dx.iter_mut().fold(wanted, CausalConv1dGradients::dx);
        wanted = dweight.iter_mut().fold(wanted, CausalConv1dGradients::dweight);
        wanted = dbias.iter_mut().fold(wanted, CausalConv1dGradients::dbias);
        wanted = state.iter_mut().fold(wanted, CausalConv1dGradients::dinitial_state);
        run(wanted)
    }

    /// The bits of each that is there, in the order of [`CONV_GRADIENTS`].
    pub fn bits(&self) -> [Option<Vec<u32>>; 4] {
        [
            self.dx.as_ref().map(Buffer::bits),
            self.dweight.as_ref().map(Buffer::bits),
            self.dbias.as_ref().map(Buffer::bits),
            self.dinitial_state.as_ref().map(Buffer::bits),
        ]
    }

    /// Each that is there under the accuracy rule.
    pub fn expect_accurate(&self, text: &str, expected: &[Yardstick]) {
        use super::compare::expect_accurate;
        let label = |i: usize| format!("{}, {text}", CONV_GRADIENTS[i]);
        self.dx.iter().for_each(|dx| expect_accurate(&label(0), dx, &expected[0]));
        self.dweight.iter().for_each(|dweight| expect_accurate(&label(1), dweight, &expected[1]));
        self.dbias.iter().for_each(|dbias| expect_accurate(&label(2), dbias, &expected[2]));
        self.dinitial_state.iter().for_each(|state| expect_accurate(&label(3), state, &expected[3]));
    }
}

/// The naive backward direction: all gradients, in the order of [`CONV_GRADIENTS`].
pub struct NaiveConvBackward<'c, T, W>(pub &'c ConvCase<T, W>, pub &'c ConvUpstream<T>);

impl<T: Element, W: Element> NaiveConvBackward<'_, T, W> {
    pub fn yardsticks(&self) -> Vec<Yardstick> {
        let (width, dim) = (self.0.weight.row(), self.0.weight.dims()[0].1);
        Yardstick::measure(self, &[self.0.x.row(), width, dim, width - 1])
    }
}

impl<T: Element, W: Element> Loop for NaiveConvBackward<'_, T, W> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let op = self.0.op().expect("a valid case");
        let run = reference::backward::<R, T, W>(&op, self.1.views()).expect("a valid case");
        let all = [run.dx, run.dweight, run.dbias, run.dinitial_state];
        all.map(|tensor| tensor.into_iter().map(R::to_f64).collect()).into()
    }
}
