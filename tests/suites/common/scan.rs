//! Cases of the selective scan: what proptest draws, the tensors made from it, and its naive loop.

use super::buffer::{Buffer, Order};
use super::random::Random;
use proptest::prelude::*;
use ssm_kernels::prelude::*;
use ssm_kernels::reference::accuracy::{Loop, Yardstick};
use ssm_kernels::reference::{Real, selective_scan as reference};
use ssm_kernels::{Element, Result};

/// Shape and options of one case. Its Debug form reproduces the case.
#[derive(Debug, Clone)]
pub struct ScanSpec {
    pub batch: usize,
    pub ngroups: usize,
    pub channels_per_group: usize,
    pub dstate: usize,
    pub seqlen: usize,
    /// Lengths of packed sequences; `batch` and `seqlen` then follow from them.
    pub packed: Option<Vec<usize>>,
    pub constant_B: bool,
    pub constant_C: bool,
    pub D: bool,
    pub z: bool,
    pub dt_bias: bool,
    pub dt_softplus: bool,
    pub dt_limit: bool,
    pub initial_state: bool,
    pub reverse: bool,
    pub final_state: bool,
    pub every: Option<usize>,
    pub order: Order,
    pub seed: u64,
}

impl ScanSpec {
    /// Every option on, one group, dense.
    pub fn all(batch: usize, dim: usize, dstate: usize, seqlen: usize) -> Self {
        Self {
            batch,
            ngroups: 1,
            channels_per_group: dim,
            dstate,
            seqlen,
            packed: None,
            constant_B: false,
            constant_C: false,
            D: true,
            z: true,
            dt_bias: true,
            dt_softplus: true,
            dt_limit: false,
            initial_state: true,
            reverse: false,
            final_state: true,
            every: Some(8),
            order: Order::Dense,
            seed: 1,
        }
    }

    /// No option on.
    pub fn plain(batch: usize, dim: usize, dstate: usize, seqlen: usize) -> Self {
        let (D, z, dt_bias, dt_softplus, initial_state) = (false, false, false, false, false);
        Self { D, z, dt_bias, dt_softplus, initial_state, every: None, ..Self::all(batch, dim, dstate, seqlen) }
    }

    pub fn dim(&self) -> usize {
        self.ngroups * self.channels_per_group
    }

    fn resolve(mut self) -> Self {
        if let Some(lengths) = &self.packed {
            self.batch = 1;
            self.seqlen = lengths.iter().sum();
        }
        // Of fewer outputs than this, sums that cancel leave the yardstick to luck about once in 10,000 draws.
        const OUTPUTS: usize = 8;
        let rows = self.batch * self.ngroups * self.seqlen;
        if rows > 0 {
            self.channels_per_group = self.channels_per_group.max(OUTPUTS.div_ceil(rows));
        }
        self
    }
}

pub fn order() -> impl Strategy<Value = Order> {
    prop_oneof![Just(Order::Dense), Just(Order::ChannelLast), any::<u64>().prop_map(Order::Strided)]
}

/// Any case that a plain loop runs in a moment.
pub fn spec() -> impl Strategy<Value = ScanSpec> {
    let length = prop_oneof![4 => 0usize..40, 1 => prop::sample::select(vec![63usize, 64, 65, 101, 127, 128, 129])];
    let packed =
        prop::option::weighted(0.4, prop::collection::vec(prop_oneof![Just(0usize), Just(1), 0usize..25], 1..6));
    let shape = (1usize..4, 1usize..4, 1usize..4, prop_oneof![8 => 1usize..20, 1 => 20usize..70], length, packed);
    let flags = (any::<[bool; 5]>(), any::<[bool; 5]>());
    let rest = (prop::option::of(1usize..17), order(), any::<u64>());
    (shape, flags, rest).prop_map(|(shape, flags, (every, order, seed))| {
        let (batch, ngroups, channels_per_group, dstate, seqlen, packed) = shape;
        let ([constant_B, constant_C, D, z, dt_bias], [dt_softplus, dt_limit, initial_state, reverse, final_state]) =
            flags;
        ScanSpec {
            batch,
            ngroups,
            channels_per_group,
            dstate,
            seqlen,
            packed,
            constant_B,
            constant_C,
            D,
            z,
            dt_bias,
            dt_softplus,
            dt_limit,
            initial_state,
            reverse,
            final_state,
            every,
            order,
            seed,
        }
        .resolve()
    })
}

/// The tensors of one case.
#[derive(Debug, Clone)]
pub struct ScanCase<T> {
    pub x: Buffer<T>,
    pub dt: Buffer<T>,
    pub A: Buffer<f32>,
    pub B: ProjectionBuffer<T>,
    pub C: ProjectionBuffer<T>,
    pub D: Option<Buffer<f32>>,
    pub z: Option<Buffer<T>>,
    pub dt_bias: Option<Buffer<f32>>,
    pub dt_softplus: bool,
    pub dt_limit: Option<(f32, f32)>,
    pub initial_state: Option<Buffer<f32>>,
    pub segments: Option<Segments>,
    pub reverse: bool,
    pub split: Option<usize>,
    /// Of a channel on a GPU, if not as a plan would have it.
    #[cfg_attr(not(feature = "emulator"), expect(dead_code, reason = "only the emulator's suites choose lanes"))]
    pub lanes: Option<usize>,
}

/// B or C of a case.
#[derive(Debug, Clone)]
pub enum ProjectionBuffer<T> {
    Variable(Buffer<T>),
    Constant(Buffer<f32>),
}

impl<T: Element> ProjectionBuffer<T> {
    pub fn projection(&self) -> Projection<'_, T> {
        match self {
            Self::Variable(buffer) => Projection::Variable(buffer.view()),
            Self::Constant(buffer) => Projection::Constant(buffer.view()),
        }
    }

    /// The part of a variable one that belongs to `range` of dimension `name`; a constant one has no such dimension.
    pub fn slice(&self, name: &str, range: std::ops::Range<usize>) -> Self {
        match self {
            Self::Variable(buffer) => Self::Variable(buffer.slice(name, range)),
            Self::Constant(buffer) => Self::Constant(buffer.clone()),
        }
    }
}

impl<T: Element> ScanCase<T> {
    pub fn new(spec: &ScanSpec) -> Self {
        let ScanSpec { batch, ngroups, dstate, seqlen, order, .. } = *spec;
        let (dim, nseqs) = (spec.dim(), spec.packed.as_ref().map_or(batch, Vec::len));
        let mut random = Random::new(spec.seed);
        let sequence = [("batch", batch), ("dim", dim), ("seqlen", seqlen)];
        let state = [("batch", nseqs), ("dim", dim), ("dstate", dstate)];
        let constant = [("dim", dim), ("dstate", dstate)];
        let variable = [("batch", batch), ("ngroups", ngroups), ("dstate", dstate), ("seqlen", seqlen)];
        let x = Buffer::filled(&sequence, order, || random.normal());
        let softplus = spec.dt_softplus;
        let dt = Buffer::filled(&sequence, order, || match softplus {
            true => 2.0 * random.normal() - 2.0,
            false => random.log_uniform(1e-3, 1.0),
        });
        let A = Buffer::filled(&constant, order, || -random.log_uniform(1e-2, 20.0));
        let mut projection = |fixed: bool| match fixed {
            true => ProjectionBuffer::Constant(Buffer::filled(&constant, order, || random.normal())),
            false => ProjectionBuffer::Variable(Buffer::filled(&variable, order, || random.normal())),
        };
        let (B, C) = (projection(spec.constant_B), projection(spec.constant_C));
        let mut channel = |wanted: bool, scale: f32| {
            wanted.then(|| Buffer::filled(&[("dim", dim)], order, || scale * random.normal()))
        };
        let (D, dt_bias) = (channel(spec.D, 1.0), channel(spec.dt_bias, 0.5));
        let z = spec.z.then(|| Buffer::filled(&sequence, order, || 2.0 * random.normal()));
        let initial_state = spec.initial_state.then(|| Buffer::filled(&state, order, || random.normal()));
        let segments = spec.packed.as_ref().map(|lengths| segments(lengths));
        let dt_limit = spec.dt_limit.then_some((0.01, 0.3));
        let (reverse, split, lanes, dt_softplus) = (spec.reverse, None, None, softplus);
        Self { x, dt, A, B, C, D, z, dt_bias, dt_softplus, dt_limit, initial_state, segments, reverse, split, lanes }
    }

    pub fn scan(&self) -> Result<SelectiveScan<'_, T>> {
        let (B, C) = (self.B.projection(), self.C.projection());
        let mut scan = SelectiveScan::new(self.x.view(), self.dt.view(), self.A.view(), B, C)?
            .dt_softplus(self.dt_softplus)
            .reverse(self.reverse);
        if let Some(D) = &self.D {
            scan = scan.D(D.view());
        }
        if let Some(z) = &self.z {
            scan = scan.z(z.view());
        }
        if let Some(dt_bias) = &self.dt_bias {
            scan = scan.dt_bias(dt_bias.view());
        }
        if let Some(dt_limit) = self.dt_limit {
            scan = scan.dt_limit(dt_limit);
        }
        if let Some(initial_state) = &self.initial_state {
            scan = scan.initial_state(initial_state.view());
        }
        if let Some(segments) = &self.segments {
            scan = scan.segments(segments);
        }
        if let Some(split) = self.split {
            scan = scan.split(split);
        }
        Ok(scan)
    }
}

pub fn segments(lengths: &[usize]) -> Segments {
    let mut ends = vec![0i32];
    ends.extend(lengths.iter().scan(0, |end, &len| {
        *end += len as i32;
        Some(*end)
    }));
    Segments::new(&ends).expect("lengths make boundaries")
}

/// The outputs of one case, NaN until a backend writes them.
#[derive(Debug, Clone)]
pub struct ScanBuffers<T> {
    pub out: Option<Buffer<T>>,
    pub final_state: Option<Buffer<f32>>,
    pub chunk_states: Option<(usize, Buffer<f32>)>,
    pub delta_sum: Option<Buffer<f32>>,
}

impl<T: Element> ScanBuffers<T> {
    pub fn new(case: &ScanCase<T>, final_state: bool, every: Option<usize>, order: Order) -> Self {
        let scan = case.scan().expect("a valid case");
        let dims = scan.dims().expect("a valid case");
        let state = [("batch", dims.nseqs), ("dim", dims.dim), ("dstate", dims.dstate)];
        let chunks = |every| {
            let nchunks = *scan.chunk_offsets(every).expect("a valid case").last().expect("an end");
            let dims = [("nchunks", nchunks), ("dim", dims.dim), ("dstate", dims.dstate)];
            (every, Buffer::poisoned(&dims, order))
        };
        Self {
            out: Some(Buffer::poisoned(&case.x.dims(), order)),
            final_state: final_state.then(|| Buffer::poisoned(&state, order)),
            chunk_states: every.map(chunks),
            delta_sum: None,
        }
    }

    /// final_state and delta_sum, and no out.
    pub fn states_only(case: &ScanCase<T>, order: Order) -> Self {
        let dims = case.scan().and_then(|scan| scan.dims()).expect("a valid case");
        let delta_sum = Some(Buffer::poisoned(&[("batch", dims.nseqs), ("dim", dims.dim)], order));
        Self { out: None, delta_sum, ..Self::new(case, true, None, order) }
    }

    pub fn out(&self) -> &Buffer<T> {
        self.out.as_ref().expect("asked for")
    }
}

/// The naive scan: out, final_state, chunk_states if a state every so many steps is asked for, and delta_sum.
pub struct NaiveScan<'c, T> {
    pub case: &'c ScanCase<T>,
    pub every: Option<usize>,
}

impl<T: Element> NaiveScan<'_, T> {
    /// What the tensors are judged by, in that order.
    pub fn yardsticks(&self) -> Vec<Yardstick> {
        let dims = self.case.scan().and_then(|scan| scan.dims()).expect("a valid case");
        let chunk_states = self.every.map(|_| dims.dstate);
        let rows: Vec<usize> = [dims.seqlen, dims.dstate].into_iter().chain(chunk_states).chain([dims.dim]).collect();
        Yardstick::measure(self, &rows)
    }
}

impl<T: Element> Loop for NaiveScan<'_, T> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let scan = self.case.scan().expect("a valid case");
        let run = reference::forward::<R, T>(&scan, self.every).expect("a valid case");
        let tensors = [Some(run.out), Some(run.final_state), run.chunk_states, Some(run.delta_sum)];
        tensors.into_iter().flatten().map(|tensor| tensor.into_iter().map(R::to_f64).collect()).collect()
    }
}
